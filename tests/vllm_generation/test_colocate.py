"""Colocate mode with a real vLLM on the CPU: it answers the very prompts that are trained, with the very weights."""

import copy
import gc
from importlib.util import find_spec

import pytest
import torch
from peft import LoraConfig
from rollouts import RecordingTrainer, hash_reward, make_config

from r1_sharevl import UserError
from r1_sharevl.errors import RunError
from r1_sharevl.models.checkpoints import vision_token_ids

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here: see `make test-vllm`"),
]

GAP = "sampling/sampling_logp_difference"
ENGINE = {"dtype": "float32", "enforce_eager": True}


@pytest.fixture(autouse=True)
def plain_cpu_linear(monkeypatch):
    """On CPUs vLLM packs linear weights in a layout that TRL cannot load new weights into; on GPUs it does not."""
    from vllm.model_executor.layers import utils

    def keep(layer, remove_weight):
        layer.cpu_linear = torch.nn.functional.linear

    monkeypatch.setattr(utils, "dispatch_cpu_unquantized_gemm", keep)


@pytest.fixture
def make_vllm_trainer(tmp_path, checkpoint, processor, mixed_rows):
    trainers = []

    def make(model=None, peft_config=None, eval_dataset=None, reader=processor, **settings):
        defaults = {
            "use_vllm": True,
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": 0.1,
            "vllm_max_model_length": 512,
            "model_init_kwargs": {"dtype": "float32"},
            "per_device_train_batch_size": 16,
            "transform_probability": 0.5,
        }
        settings = defaults | settings
        settings["vllm_engine_kwargs"] = ENGINE | settings.get("vllm_engine_kwargs", {})
        trainer = RecordingTrainer(
            str(model or checkpoint),
            hash_reward,
            make_config(tmp_path / "run", **settings),
            mixed_rows,
            eval_dataset,
            processing_class=reader,
            peft_config=peft_config,
        )
        trainer.asked_vllm = []
        generate = trainer.vllm_generation.llm._engine.generate

        def record(prompts, sampling_params, **kwargs):
            times = [params.n for params in sampling_params]
            trainer.asked_vllm.append(list(zip(prompts, times, strict=True)))
            return generate(prompts, sampling_params=sampling_params, **kwargs)

        trainer.vllm_generation.llm._engine.generate = record
        trainers.append(trainer)
        return trainer

    yield make
    for trainer in trainers:
        del trainer.vllm_generation.llm
    gc.collect()


def weights_of(engine):
    return dict(engine.llm_engine.model_executor.driver_worker.model_runner.model.named_parameters())


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_log_probabilities_are_equal_while_the_weights_change(make_vllm_trainer, lora, processor):
    peft_config = LoraConfig(r=4, target_modules=["q_proj", "o_proj", "down_proj"]) if lora else None
    trainer = make_vllm_trainer(peft_config=peft_config, max_steps=4, learning_rate=1e-2, top_p=0.9)
    before = {name: value.clone() for name, value in weights_of(trainer.vllm_generation.llm).items()}
    trainer.train()

    history = [entry for entry in trainer.state.log_history if f"{GAP}/max" in entry]
    assert len(history) == 4
    assert max(entry[f"{GAP}/max"] for entry in history) < 1e-3
    assert max(entry[f"{GAP}/mean"] for entry in history) < 1e-4

    # Every kind of row came by, each distinct prompt was asked once, and vLLM read what the trainer trains on.
    counts = set()
    for asked, sampled in zip(trainer.asked_vllm, trainer.sampled, strict=True):
        distinct = list(dict.fromkeys(tuple(prompt) for prompt, _ in sampled))
        assert [n for _, n in asked] == [trainer.layout.responses_per_prompt] * len(distinct)
        for prompt, _ in asked:
            images = prompt.get("multi_modal_data", {}).get("image", [])
            images = images if isinstance(images, list) else [images]
            counts.add(len(images))
            assert prompt["prompt_token_ids"].count(processor.image_token_id) == len(images)
    assert counts == {0, 1, 2}

    # The weights in vLLM are the trainer's after a last sync, and not those it began with.
    trainer.vllm_generation.sync_weights()
    model, theirs = trainer.model, weights_of(trainer.vllm_generation.llm)
    if lora:
        model = copy.deepcopy(model).merge_and_unload()
    compared = 0
    for name, value in model.state_dict().items():
        match = name.replace("model.language_model.", "language_model.model.").replace("model.visual", "visual")
        if match in theirs:
            found = theirs[match][: len(value)]  # vLLM pads the vocabulary
            torch.testing.assert_close(found, value, rtol=0, atol=1e-6 if lora else 0)
            compared += not torch.equal(before[match][: len(value)], found)
    assert compared >= 6


def test_shared_pairs_have_a_ratio_of_one_in_every_mode(make_vllm_trainer):
    trainer = make_vllm_trainer(temperature=0.7)
    rows = [row for row in trainer.train_dataset for _ in range(trainer.layout.rows_per_question)]
    for mode in ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"):
        trainer.vllm_importance_sampling_mode = mode
        trainer.model.train()
        output = trainer._generate_and_score_completions(rows)
        assert torch.equal(output["is_shared"], torch.isnan(output["sampling_per_token_logps"]).all(dim=-1))
        ratio = output["importance_sampling_ratio"]
        assert (ratio[output["is_shared"]] == 1.0).all(), mode
        assert ratio[~output["is_shared"]].sub(1.0).abs().max() < 0.1  # the bias shows in processed log-probabilities
        assert not torch.equal(ratio[~output["is_shared"]], torch.ones_like(ratio[~output["is_shared"]]))


def test_one_prompt_per_question_and_evaluation(make_vllm_trainer, mixed_rows):
    trainer = make_vllm_trainer(
        num_variants=1,
        eval_dataset=mixed_rows,
        max_steps=2,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=4,
        num_generations_eval=2,
    )
    trainer.train()
    metrics = trainer.evaluate()
    values = [entry[f"{GAP}/max"] for entry in trainer.state.log_history if f"{GAP}/max" in entry]
    assert len(values) == 2
    assert max(*values, metrics[f"eval_{GAP}/max"]) < 1e-3


@pytest.fixture(scope="module")
def seeing_things(checkpoint, processor, tmp_path_factory):
    """A checkpoint that would say image tokens all the time."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(checkpoint)
    model.lm_head.weight.data[vision_token_ids(processor, model.config)] *= 8
    folder = tmp_path_factory.mktemp("seeing")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("num_variants", [1, 2])
def test_vision_tokens_are_never_sampled(make_vllm_trainer, seeing_things, processor, num_variants):
    trainer = make_vllm_trainer(
        model=seeing_things, num_variants=num_variants, per_device_train_batch_size=8, generation_kwargs={"seed": 1}
    )
    trainer.train()
    assert trainer.vllm_generation.generation_kwargs["seed"] == 1
    vision = set(vision_token_ids(processor, trainer.model.config))
    assert not any(vision & set(response) for _, response in trainer.sampled[0])
    assert trainer.state.log_history[0][f"{GAP}/max"] < 1e-3

    trainer.vllm_generation.generation_kwargs = {}
    prompts = [list(prompt) for prompt, _ in trainer.sampled[0] if processor.image_token_id not in prompt]
    found = trainer.vllm_generation.generate(prompts, None, 1)[1]
    assert any(vision & set(response) for response in found), "the control: without the bias they are sampled"


@pytest.mark.parametrize("correction", [True, False])
def test_prompts_as_trl_hands_them_over_stop_the_run(make_vllm_trainer, monkeypatch, correction):
    trainer = make_vllm_trainer(vllm_importance_sampling_correction=correction)
    monkeypatch.setattr(type(trainer.vllm_generation), "render", lambda *args, **kwargs: None)
    with pytest.raises(RunError, match=r"differ by 0\.[1-9]\d* on average .*docs/vllm.md") as stopped:
        trainer.train()
    assert "\n" not in str(stopped.value)
    assert trainer.state.global_step == 0


def test_the_engine_gets_the_pixel_bounds_of_the_run(make_vllm_trainer, processor):
    reader = copy.deepcopy(processor)
    reader.image_processor.size = {"shortest_edge": 84 * 84, "longest_edge": 140 * 140}
    trainer = make_vllm_trainer(reader=reader)
    trainer.train()
    assert trainer.state.log_history[0][f"{GAP}/max"] < 1e-3


def test_other_pixel_bounds_stop_the_run(make_vllm_trainer):
    smaller = {"mm_processor_kwargs": {"min_pixels": 28 * 28, "max_pixels": 56 * 56}}
    trainer = make_vllm_trainer(vllm_engine_kwargs=smaller)
    with pytest.raises(UserError, match=r"image tokens: \d+ and \d+\).*pixel bounds"):
        trainer.train()


def test_an_engine_that_does_not_start_is_one_line(make_vllm_trainer):
    with pytest.raises(UserError, match=r"vLLM .colocate mode. does not start: .*no_such_setting") as stopped:
        make_vllm_trainer(vllm_engine_kwargs={"no_such_setting": 1})
    assert "\n" not in str(stopped.value)
