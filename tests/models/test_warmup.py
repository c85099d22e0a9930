"""The supervised warm-up: what it teaches, that it trains, and that its cache and folder are whole or absent."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import islice

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForImageTextToText, AutoProcessor

from r1_sharevl.cache_folder import CACHE_VARIABLE
from r1_sharevl.data.schema import prepared_features
from r1_sharevl.data.synthetic import QUESTION_TYPES, synthetic_rows
from r1_sharevl.errors import UserError
from r1_sharevl.models import warmup
from r1_sharevl.models.tiny import build_tiny_model
from r1_sharevl.models.warmup import WarmUp, response_loss, response_text, train, warm_up
from r1_sharevl.prompts import DEFAULT_INSTRUCTION
from r1_sharevl.question_space import Prompt
from r1_sharevl.rewards import format_reward, is_correct

SHORT = WarmUp(steps=2, batch_size=4)


def built_in(count, seed=0):
    return Dataset.from_list(
        list(synthetic_rows("train", count, seed)), features=prepared_features({"question_type": "string"})
    )


@pytest.fixture(scope="module")
def dataset():
    return built_in(60)


@pytest.fixture
def count_trainings(monkeypatch):
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        return train(*arguments, **options)

    monkeypatch.setattr(warmup, "train", counted)
    return calls


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_taught_responses_earn_both_rewards():
    for name, kind in QUESTION_TYPES.items():
        options = "".join(f"\n{letter}. {text}" for letter, text in zip("ABCD", kind.options, strict=False))
        for answer in kind.answers:
            response = response_text(name, answer)
            assert format_reward([response]) == [1.0]
            for other in kind.answers:
                assert is_correct(response, other, kind.wordings[0] + options) is (other == answer)


def test_prompts_and_mistakes_are_drawn_as_set(dataset):
    settings = WarmUp(steps=200, batch_size=10, transform_probability=0.25, sure_share=0.5, mistake_rate=0.6)
    examples = list(islice(warmup._examples(dataset, settings), settings.steps * settings.batch_size))
    sure, unsure = examples[: len(examples) // 2], examples[len(examples) // 2 :]
    by_image = {row["images"][0].tobytes(): row for row in dataset}

    def right(example):
        prompt, response = example
        row = by_image.get(prompt.images[0].tobytes())
        return None if row is None else response == response_text(row["question_type"], row["answer"])

    untouched = [right(example) for example in sure]
    assert False not in untouched, "the teacher was wrong before it may be"
    assert untouched.count(None) / len(sure) == pytest.approx(0.25, abs=0.05)
    verdicts = [verdict for verdict in map(right, unsure) if verdict is not None]
    chance = sum(1 / len(kind.answers) for kind in QUESTION_TYPES.values()) / len(QUESTION_TYPES)
    assert verdicts.count(False) / len(verdicts) == pytest.approx(0.6 * (1 - chance), abs=0.05)
    assert {prompt.wording for prompt, _ in examples} == {0, 1, 2, 3, 4}
    taught = {response_text(name, answer) for name, kind in QUESTION_TYPES.items() for answer in kind.answers}
    assert {response for _, response in examples} == taught


def test_examples_are_reproducible_and_differ_between_passes(dataset):
    def texts(seed):
        settings = WarmUp(seed=seed, mistake_rate=0.5, sure_share=0.0)
        return [(prompt.text, response) for prompt, response in islice(warmup._examples(dataset, settings), 120)]

    assert texts(0) == texts(0)
    assert texts(0) != texts(1)
    assert texts(0)[:60] != texts(0)[60:]
    assert sorted(text for text, _ in texts(0)[:60]) != sorted(text for text, _ in texts(0)[60:])


def test_loss_is_the_mean_over_response_tokens(processor, tiny_model, dataset):
    rows = [dataset[index] for index in range(4)]
    prompts = [Prompt(row["problem"], tuple(row["images"]), 0, None, None) for row in rows]
    responses = [response_text(row["question_type"], row["answer"]) for row in rows]
    with torch.no_grad():
        loss = response_loss(tiny_model, processor, prompts, responses).item()
        negative_log_likelihoods = []
        for row, response in zip(rows, responses, strict=True):
            prompt = row["problem"].replace("<image>", "").strip()
            text = f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{prompt}\n{DEFAULT_INSTRUCTION}"
            text += f"<|im_end|>\n<|im_start|>assistant\n{response}<|im_end|>"
            inputs = processor(text=[text], images=[row["images"]], return_tensors="pt")
            ids = inputs["input_ids"][0]
            start = (ids == processor.tokenizer.convert_tokens_to_ids("<|im_start|>")).nonzero()[-1].item() + 3
            log_probabilities = tiny_model(**inputs).logits[0].log_softmax(dim=-1)
            for place in range(start, len(ids)):
                negative_log_likelihoods.append(-log_probabilities[place - 1, ids[place]].item())
            assert processor.tokenizer.decode(ids[start:]) == response + "<|im_end|>"
    assert loss == pytest.approx(sum(negative_log_likelihoods) / len(negative_log_likelihoods), rel=1e-4)


def test_a_few_steps_lower_the_loss_and_move_every_parameter(processor, tiny_model, dataset):
    before = {name: parameter.detach().clone() for name, parameter in tiny_model.named_parameters()}
    losses = train(tiny_model, processor, dataset, WarmUp(steps=30, batch_size=8), progress=False)
    assert len(losses) == 30
    assert sum(losses[-3:]) < 0.6 * sum(losses[:3])
    still = [name for name, parameter in tiny_model.named_parameters() if torch.equal(parameter, before[name])]
    assert not still
    assert not tiny_model.training


def test_same_seed_same_model(processor, dataset):
    models = [build_tiny_model(processor) for _ in range(2)]
    losses = [train(model, processor, dataset, SHORT, progress=False) for model in models]
    assert losses[0] == losses[1]


def test_checkpoint_opens_and_tells_how_it_was_made(dataset, tmp_path):
    out = warm_up(dataset, tmp_path / "out", SHORT, cache_dir=tmp_path / "cache", progress=False)
    assert out == tmp_path / "out"
    model = AutoModelForImageTextToText.from_pretrained(out)
    assert AutoProcessor.from_pretrained(out).tokenizer.vocab_size <= model.config.text_config.vocab_size
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["settings"]["steps"] == len(manifest["losses"]) == 2


def test_cache_spares_the_training(dataset, tmp_path, count_trainings):
    first = warm_up(dataset, tmp_path / "a", SHORT, cache_dir=tmp_path / "cache", progress=False)
    again = warm_up(dataset, tmp_path / "a", SHORT, cache_dir=tmp_path / "cache", progress=False)
    elsewhere = warm_up(dataset, tmp_path / "b", SHORT, cache_dir=tmp_path / "cache", progress=False)
    assert len(count_trainings) == 1
    assert first == again
    assert files(first) == files(elsewhere)


def test_other_settings_or_data_train_anew_and_replace_the_folder(dataset, tmp_path, count_trainings):
    def fingerprint(data, settings):
        out = warm_up(data, tmp_path / "out", settings, cache_dir=tmp_path / "cache", progress=False)
        return json.loads((out / "manifest.json").read_text())["fingerprint"]

    found = [
        fingerprint(dataset, SHORT),
        fingerprint(dataset, WarmUp(steps=2, batch_size=4, seed=1)),
        fingerprint(dataset, WarmUp(steps=3, batch_size=4)),
        fingerprint(built_in(60, seed=1), SHORT),
    ]
    assert len(set(found)) == len(count_trainings) == 4
    assert fingerprint(dataset, SHORT) == found[0]
    assert len(count_trainings) == 4


def test_cache_folder_from_the_environment(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "elsewhere"))
    out = warm_up(dataset, tmp_path / "out", SHORT, progress=False)
    (cached,) = (tmp_path / "elsewhere" / "warmup").iterdir()
    assert files(cached) == files(out)


def test_failure_leaves_nothing(dataset, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(warmup, "train", fail)
    with pytest.raises(KeyboardInterrupt):
        warm_up(dataset, tmp_path / "out", SHORT, cache_dir=tmp_path / "cache", progress=False)
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.slow
def test_killed_half_way_leaves_nothing_that_looks_whole(dataset, tmp_path):
    dataset.to_parquet(tmp_path / "rows.parquet")
    program = (
        "import sys\nfrom datasets import Dataset\nfrom r1_sharevl.data.schema import prepared_features\n"
        "from r1_sharevl.models.warmup import WarmUp, warm_up\n"
        "rows = Dataset.from_parquet('rows.parquet', features=prepared_features({'question_type': 'string'}))\n"
        "warm_up(rows, 'out', WarmUp(steps=int(sys.argv[1]), batch_size=2), cache_dir='cache', progress=False)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, "1000000"], cwd=tmp_path)
    try:
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob("cache/.*.partial")) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(1)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "out").exists()
    assert not [path for path in (tmp_path / "cache").iterdir() if not path.name.endswith(".partial")]
    subprocess.run([sys.executable, "-c", program, "1"], cwd=tmp_path, check=True)
    assert AutoModelForImageTextToText.from_pretrained(tmp_path / "out").num_parameters() > 0


def test_refuses_other_datasets(dataset, tmp_path):
    with pytest.raises(UserError, match=r"'question_type' is missing here: make it with `r1sharevl prep synthetic`"):
        warm_up(dataset.remove_columns("question_type"), tmp_path / "out")
    with pytest.raises(UserError, match="dataset is empty"):
        warm_up(dataset.select([]), tmp_path / "out")
    strange = dataset.remove_columns("question_type").add_column("question_type", ["riddle"] * len(dataset))
    with pytest.raises(UserError, match="knows no question type 'riddle'"):
        warm_up(strange, tmp_path / "out")


def test_does_not_replace_folders_of_others(dataset, tmp_path, count_trainings):
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    (prepared / "manifest.json").write_text('{"rows": 3}')
    with pytest.raises(UserError, match="is no warm-up, so it is not replaced: choose another folder"):
        warm_up(dataset, prepared, SHORT, cache_dir=tmp_path / "cache", progress=False)
    assert files(prepared) == {(prepared / "manifest.json").relative_to(prepared): b'{"rows": 3}'}
    assert not count_trainings
