"""Evaluation with a real vLLM on the CPU: the answers of transformers, with all slots in use."""

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import peft
import psutil
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, GenerationConfig

from r1_sharevl import UserError
from r1_sharevl.evaluation.backends import engine_guard
from r1_sharevl.evaluation.backends.backend import Batch, Sampling
from r1_sharevl.evaluation.backends.transformers_backend import TransformersBackend
from r1_sharevl.evaluation.backends.vllm_backend import VllmBackend
from r1_sharevl.prompts import to_messages, with_images

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here: see `make test-vllm`"),
]

GREEDY = Sampling(max_new_tokens=24, temperature=0)
SLOTS = 2
ROOM = SLOTS + 4
LENGTH = 384
ENGINE = {"enforce_eager": True}


@pytest.fixture(scope="module", autouse=True)
def in_this_process():
    """An engine in this process starts in 2 seconds, one in its own in 20; the last test has that one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        yield


@pytest.fixture(scope="module")
def prompts():
    """None, one and two images of different sizes, marks in the middle, two images of the same sizes."""
    red, green = Image.new("RGB", (112, 112), "red"), Image.new("RGB", (56, 84), "green")
    blue, dim = Image.new("RGB", (300, 100), "blue"), Image.new("L", (112, 112), 90)
    rows = [
        ("How many dots are in the picture?", [red]),
        ("What is 1 + 1?", []),
        ("Compare <image> with <image> and name the odd one. " + "Look closely. " * 12, [green, blue]),
        ("<image> Where is the circle?", [blue]),
        ("How many dots are in the picture?", [dim]),
        ("<image><image>Which has more dots?", [red, green]),
        ("Which hour does the hand of the clock point to? " * 4, [green]),
    ]
    return [with_images(to_messages(text, len(images)), images) for text, images in rows]


@pytest.fixture(scope="module")
def stopping(checkpoint, prompts, tmp_path_factory):
    """A model that would say vision tokens; its generation config ends some responses early and has odd settings."""
    folder = tmp_path_factory.mktemp("stopping") / "model"
    shutil.copytree(checkpoint, folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    probe = TransformersBackend(checkpoint, sampling=GREEDY)
    model.lm_head.weight.data[probe.suppressed_ids] *= 8  # it would say them all the time
    model.save_pretrained(folder)
    probe = TransformersBackend(folder, sampling=GREEDY)
    tokenizer = probe.processor.tokenizer
    inputs = probe.processor.apply_chat_template(
        prompts[1:2], add_generation_prompt=True, tokenize=True, return_dict=True,
        processor_kwargs={"return_tensors": "pt"},
    )  # fmt: skip
    early = probe.model.generate(**inputs)[0, inputs["input_ids"].shape[1] + 4].item()
    own = GenerationConfig.from_pretrained(folder)
    own.update(eos_token_id=[tokenizer.eos_token_id, early], do_sample=True, temperature=0.1, top_k=1, top_p=0.1)
    own.update(repetition_penalty=5.0, max_new_tokens=3)
    own.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def backend(stopping):
    with VllmBackend(
        stopping, sampling=GREEDY, max_num_seqs=SLOTS, max_model_len=LENGTH, engine_kwargs=ENGINE
    ) as running:
        yield running


def _answers(backend, prompts, seed=0):
    batches = [Batch(number, lambda p=prompt: [p], seed + number) for number, prompt in enumerate(prompts)]
    answered = dict(backend.answer(batches))
    return [response for number in range(len(prompts)) for response in answered[number]]


def test_greedy_answers_are_those_of_transformers(backend, stopping, prompts):
    expected = TransformersBackend(stopping, sampling=GREEDY).generate(prompts, seed=0)
    assert {response.cut_off for response in expected} == {True, False}
    assert len({response.text for response in expected}) > 2
    assert _answers(backend, prompts) == expected
    assert backend.generate(prompts, seed=0) == expected
    assert backend.generate([], seed=0) == []


def test_prompts_are_made_when_there_is_room(backend, prompts):
    made, finished = [], []

    def make(number):
        made.append(number)
        assert len(made) - len(finished) <= ROOM
        return [prompts[number % len(prompts)]]

    for number, _ in backend.answer(Batch(number, lambda n=number: make(n), 0) for number in range(30)):
        # One more batch than this may be known, but its images are not.
        assert len(made) < 30 or len(finished) >= 30 - ROOM - SLOTS
        finished.append(number)
    assert made == list(range(30))
    assert sorted(finished) == made
    assert finished != made, "short ones overtake"


def test_who_stops_listening_leaves_the_slots_free(backend, prompts):
    answers = backend.answer(Batch(number, lambda: prompts, 0) for number in range(9))
    next(answers)
    answers.close()
    assert not backend._engine._engine.has_unfinished_requests()
    assert len(_answers(backend, prompts)) == len(prompts)


@pytest.fixture
def sampling_as(backend):
    def set_to(**values):
        backend.sampling = Sampling(**values)

    yield set_to
    backend.sampling = GREEDY


def test_sampling_depends_on_the_seed_alone(backend, prompts, sampling_as):
    sampling_as(max_new_tokens=12)
    first = _answers(backend, prompts, seed=5)
    assert _answers(backend, prompts, seed=5) == first
    assert backend.generate(prompts[2:3], seed=7) == first[2:3]
    assert _answers(backend, prompts, seed=50) != first
    one, other = backend.generate(prompts[:1] * 2, seed=5)
    assert one != other


def test_the_checkpoints_own_sampling_settings_are_not_used(backend, checkpoint, prompts, sampling_as):
    sampling_as(max_new_tokens=1, temperature=2.0)
    assert len({response.text for response in backend.generate(prompts[1:2] * 100, seed=0)}) > 20
    sampling_as(max_new_tokens=24, top_p=1e-9)
    assert _answers(backend, prompts) == TransformersBackend(backend.name, sampling=GREEDY).generate(prompts, seed=0)


def test_vision_tokens_are_never_generated(backend, prompts, processor, sampling_as):
    vision = {"<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"}
    vision_ids = set(processor.tokenizer.convert_tokens_to_ids(sorted(vision)))
    sampling_as(max_new_tokens=12, temperature=2.0)
    seen, step = set(), backend._engine.step

    def watching():
        outputs = step()
        seen.update(token for output in outputs for token in output.outputs[0].token_ids)
        return outputs

    backend._engine.step, suppressed = watching, backend.suppressed_ids
    try:
        backend.generate(prompts * 3, seed=0)
        assert not vision_ids & seen
        backend.suppressed_ids = []
        backend.generate(prompts[1:2], seed=0)
        assert vision_ids & seen, "the control: they would be"
    finally:
        backend.suppressed_ids = suppressed
        del backend._engine.step


def test_a_prompt_without_room_for_its_response_is_refused_before_it_is_asked(backend, prompts, sampling_as):
    tokens = backend._prompt(prompts[2]).tokens
    asked = []
    sampling_as(max_new_tokens=LENGTH - tokens + 1, temperature=0)
    batches = (
        Batch(number, lambda n=number: asked.append(n) or [prompts[n]], 0, (f"q{number}",)) for number in range(5)
    )
    with pytest.raises(UserError) as refused:
        list(backend.answer(batches))
    assert str(refused.value) == (
        f"question 'q2': its prompt has {tokens} tokens, and max_new_tokens is {LENGTH - tokens + 1}, but vLLM has "
        f"room for {LENGTH} tokens of prompt and response: give a --max-model-len of {LENGTH + 1} or more, or a "
        "smaller --max-new-tokens"
    )
    assert asked == [0, 1, 2]
    sampling_as(max_new_tokens=LENGTH - tokens, temperature=0)
    assert backend.generate(prompts[2:3], seed=0) == TransformersBackend(
        backend.name, sampling=backend.sampling
    ).generate(prompts[2:3], seed=0)


def test_other_prompts_than_the_processors_are_refused(backend, prompts, monkeypatch):
    image_processor = backend.processor.image_processor
    monkeypatch.setattr(image_processor, "size", {"shortest_edge": 28 * 28, "longest_edge": 56 * 56})
    monkeypatch.setattr(backend, "_image_growth", {})
    with pytest.raises(UserError, match=r"^question 'first': vLLM made a prompt of \d+ tokens where .* makes \d+"):
        list(backend.answer([Batch(0, lambda: prompts[:1], 0, ("first",))]))
    assert len(backend.generate(prompts[1:2], seed=0)) == 1


def test_what_describes_the_responses(backend, stopping):
    transformers = TransformersBackend(stopping, sampling=GREEDY).describe()
    assert backend.describe() == transformers | {"backend": "vllm", "engine_kwargs": ENGINE}
    assert json.dumps(backend.describe())
    noted = backend.notes()
    assert (noted["max_num_seqs"], noted["max_model_len"], noted["tensor_parallel_size"]) == (SLOTS, LENGTH, 1)


@pytest.mark.parametrize("vision", [False, True], ids=["language", "language-and-vision"])
def test_an_adapter_answers_as_with_transformers(checkpoint, prompts, tmp_path, monkeypatch, vision):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    targets = ["q_proj", "o_proj", *(["qkv", "proj"] if vision else [])]
    model = peft.get_peft_model(
        AutoModelForImageTextToText.from_pretrained(checkpoint),
        peft.LoraConfig(r=4, target_modules=targets, use_dora=vision),
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                weight.normal_(0, 0.3, generator=generator)
    assert any("visual" in name for name, _ in model.named_parameters() if "lora_A" in name) == vision
    model.save_pretrained(tmp_path / "adapter")
    expected = TransformersBackend(tmp_path / "adapter", sampling=GREEDY).generate(prompts, seed=0)
    assert expected != TransformersBackend(checkpoint, sampling=GREEDY).generate(prompts, seed=0)
    with VllmBackend(tmp_path / "adapter", sampling=GREEDY, max_model_len=LENGTH, engine_kwargs=ENGINE) as backend:
        (merged,) = tmp_path.glob("r1sharevl-merged-*")
        assert not list(merged.glob("*.safetensors"))
        assert _answers(backend, prompts) == expected
        assert backend.describe()["model_fingerprint"] == TransformersBackend(tmp_path / "adapter")._fingerprint
    assert not merged.exists()


def test_pixel_bounds_reach_vllm(checkpoint, prompts):
    bounds = {"min_pixels": 28 * 28, "max_pixels": 56 * 56}
    expected = TransformersBackend(checkpoint, sampling=GREEDY, **bounds).generate(prompts, seed=0)
    assert expected != TransformersBackend(checkpoint, sampling=GREEDY).generate(prompts, seed=0)
    with VllmBackend(checkpoint, sampling=GREEDY, max_model_len=LENGTH, engine_kwargs=ENGINE, **bounds) as backend:
        assert _answers(backend, prompts) == expected


def _unknown_architecture(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["NoSuchForConditionalGeneration"]}))


def _cut_weights(folder):
    with (folder / "model.safetensors").open("r+b") as weights:
        weights.truncate(500)


@pytest.mark.parametrize(
    ("spoil", "settings", "message"),
    [
        (_unknown_architecture, {}, r"vLLM [\d.]+ does not start: .*not supported.*; generate with --backend transf"),
        (_cut_weights, {}, "does not start: .*header"),
        (None, {"engine_kwargs": {"no_such": 1}}, "does not start: .*no_such"),
        (None, {"max_model_len": 24}, "max_new_tokens is 24, but vLLM has room for 24 tokens .*max-model-len of 25 or"),
        (None, {"max_num_seqs": 0}, "max_num_seqs is 0: give at least 1"),
        (None, {"gpu_memory_utilization": 1.5}, "gpu_memory_utilization is 1.5"),
        (None, {"sampling": Sampling(24, 2.5)}, "temperature is 2.5: vLLM takes at most 2.0"),
        (None, {"dtype": "fp8"}, "dtype 'fp8': unknown"),
        (shutil.rmtree, {}, "no such folder"),
    ],
)
def test_what_does_not_start_is_said_in_one_line(checkpoint, tmp_path, spoil, settings, message):
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    if spoil is not None:
        spoil(folder)
    with pytest.raises(UserError, match=message) as refused:
        VllmBackend(folder, **{"sampling": GREEDY, "engine_kwargs": ENGINE, **settings})
    assert "\n" not in str(refused.value)


def test_too_little_memory_comes_with_advice(checkpoint, monkeypatch):
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE")
    engine = {**ENGINE, "kv_cache_memory_bytes": 200_000}
    with pytest.raises(UserError, match=r"not start: .*; more room: a larger --gpu-memory-utilization, a smaller"):
        VllmBackend(checkpoint, sampling=GREEDY, max_model_len=2048, engine_kwargs=engine)


IN_ITS_OWN_PROCESS = """
import json, sys
from r1_sharevl.errors import RunError
from r1_sharevl.evaluation.backends.backend import Batch, Sampling
from r1_sharevl.evaluation.backends.vllm_backend import VllmBackend
from r1_sharevl.prompts import to_messages

if __name__ == "__main__":
    engine = {"enforce_eager": True}
    with VllmBackend(sys.argv[1], sampling=Sampling(16, 0), max_model_len=384, engine_kwargs=engine) as backend:
        (response,) = backend.generate([to_messages("What is 1 + 1?", 0)], 0)
        print(json.dumps(response.text), flush=True)
        try:
            for n, _ in backend.answer(Batch(n, lambda: [to_messages("Count.", 0)], 0) for n in range(10**9)):
                if n == 0:
                    print("under way", flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        try:
            backend.generate([to_messages("Again?", 0)], 0)
        except RunError as error:
            print(error, flush=True)
    print("closed", flush=True)
"""


@pytest.mark.slow
def test_an_engine_in_its_own_process(checkpoint, tmp_path):
    """Quiet, the same answers, and Ctrl-C leaves no process behind."""
    (tmp_path / "main.py").write_text(IN_ITS_OWN_PROCESS)
    environment = {name: value for name, value in os.environ.items() if name != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    environment.pop("VLLM_LOGGING_LEVEL", None)
    environment["PYTHONPATH"] = str(Path(engine_guard.__file__).parents[3])
    command = [sys.executable, "-W", "ignore", str(tmp_path / "main.py"), str(checkpoint)]
    with (tmp_path / "errors").open("w+") as errors:
        running = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        try:
            answer = json.loads(running.stdout.readline())
            started = psutil.Process(running.pid).children(recursive=True)
            engines = [process for process in started if engine_guard.MARK in process.environ()]
            assert len(engines) >= 2, "the engine and its worker can be found by what they are marked with"
            assert running.stdout.readline() == "under way\n"
            os.killpg(running.pid, signal.SIGINT)
            assert running.stdout.readline() == "interrupted\n"
            assert running.stdout.readline().startswith("vLLM's engine failed: ")
            assert running.stdout.readline() == "closed\n"
            assert running.wait() == 0
            _, alive = psutil.wait_procs(started, timeout=30)
            assert not alive
        finally:
            running.kill()
        errors.seek(0)
        assert errors.read() == ""
    prompt = to_messages("What is 1 + 1?", 0)
    (expected,) = TransformersBackend(checkpoint, sampling=Sampling(16, 0)).generate([prompt], 0)
    assert answer == expected.text
