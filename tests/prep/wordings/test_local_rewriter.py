"""The rewriter for models on this machine: real tiny models, one taught by heart what to reply."""

import io
import json
import sqlite3

import pytest
import torch
from PIL import Image
from transformers import Qwen2Config, Qwen2ForCausalLM

from r1_sharevl.errors import UserError
from r1_sharevl.models.tiny import END, build_tiny_model
from r1_sharevl.prep.wordings.local_rewriter import LocalRewriter
from r1_sharevl.prep.wordings.opening import open_rewriter
from r1_sharevl.prep.wordings.rewriter import Question
from r1_sharevl.prep.wordings.settings import LocalSettings

PROBLEM = "How many dots are in the picture?"
WORDINGS = ("Count the dots in the picture.", "What is the number of dots in the picture?")


def picture(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (56, 56), colour).save(buffer, format="PNG")
    return buffer.getvalue()


def question(number=0, problem=PROBLEM, **more):
    return Question(f"q{number}", problem, "3", (picture((number, 0, 0)),), **more)


@pytest.fixture(scope="module")
def prompt_file(tmp_path_factory):
    """Short, so that a tiny model can learn the reply to it."""
    file = tmp_path_factory.mktemp("prompt") / "prompt.md"
    file.write_text("Reword: {problem}")
    return file


@pytest.fixture(scope="module")
def taught_checkpoint(processor, tmp_path_factory):
    """A vision-language model that has learned by heart how to reword one question."""
    model, tokenizer = build_tiny_model(processor), processor.tokenizer
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": f"Reword: {PROBLEM}"}], add_generation_prompt=True, tokenize=False
    )
    ids = tokenizer(prompt + json.dumps({"wordings": WORDINGS}) + END, return_tensors="pt")["input_ids"]
    labels = ids.clone()
    labels[:, : len(tokenizer(prompt)["input_ids"])] = -100
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=3e-3)
    for _ in range(40):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("taught")
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text_checkpoint(processor, tmp_path_factory):
    """An untrained language model that sees no images."""
    config = Qwen2Config(
        vocab_size=len(processor.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,  # so that it does not say the same to everything
        eos_token_id=processor.tokenizer.eos_token_id,
        pad_token_id=processor.tokenizer.pad_token_id,
    )
    folder = tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer = processor.tokenizer
    tokenizer.chat_template = processor.chat_template
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.chat_template = None
    return folder


def settings_for(checkpoint, prompt_file, **more):
    return LocalSettings(
        **{
            "model": str(checkpoint),
            "max_tokens": 12,
            "prompt_file": prompt_file,
            "batch_size": 3,
            "attempts": 2,
            **more,
        }
    )


def reword(settings, cache, questions, wanted=2):
    rewriter = open_rewriter(settings, cache)
    try:
        return list(rewriter.reword(iter(questions), wanted)), rewriter.usage
    finally:
        rewriter.close()


def kept(cache):
    return sqlite3.connect(cache).execute("SELECT count(*) FROM answers").fetchone()[0]


def test_a_model_that_can_gives_wordings(tmp_path, taught_checkpoint, prompt_file):
    asked = [question(0), question(1, wordings=WORDINGS), question(2, wordings=WORDINGS[:1]), question(3)]
    settings = settings_for(taught_checkpoint, prompt_file, temperature=0.0, max_tokens=60)
    rewordings, usage = reword(settings, tmp_path / "cache", asked)
    assert [rewording.wordings for rewording in rewordings] == [WORDINGS, (), WORDINGS[1:], WORDINGS]
    assert rewordings[2].dropped[0].reason == "same text again"
    assert usage.requests == 3
    assert usage.completion_tokens > 60
    rewordings, _ = reword(settings, tmp_path / "cache", asked[:1], wanted=1)
    assert rewordings[0].wordings == WORDINGS[:1]


def test_the_same_seed_gives_the_same_replies_and_another_others(tmp_path, tiny_checkpoint, prompt_file):
    asked = [question(number, f"Question {number}?") for number in range(4)]
    first, usage = reword(settings_for(tiny_checkpoint, prompt_file), tmp_path / "a", asked)
    assert all(rewording.wordings == () and len(rewording.dropped) >= 2 for rewording in first)
    assert usage.requests == 8
    assert reword(settings_for(tiny_checkpoint, prompt_file), tmp_path / "b", asked)[0] == first
    other, _ = reword(settings_for(tiny_checkpoint, prompt_file, seed=1), tmp_path / "a", asked)
    assert replies(tmp_path / "a") > replies(tmp_path / "b")
    assert len(replies(tmp_path / "a")) == 2 * len(replies(tmp_path / "b"))
    assert len(other) == 4


def replies(cache):
    return {value for (value,) in sqlite3.connect(cache).execute("SELECT value FROM answers")}


def test_attempts_draw_anew(tmp_path, tiny_checkpoint, prompt_file):
    reword(settings_for(tiny_checkpoint, prompt_file, attempts=3), tmp_path / "cache", [question()])
    assert len(replies(tmp_path / "cache")) == 3


def test_a_second_run_generates_nothing(tmp_path, tiny_checkpoint, prompt_file):
    asked = [question(number) for number in range(4)]
    first, usage = reword(settings_for(tiny_checkpoint, prompt_file), tmp_path / "cache", asked)
    again, resumed = reword(settings_for(tiny_checkpoint, prompt_file), tmp_path / "cache", asked)
    assert again == first
    assert (resumed.requests, resumed.cached) == (0, usage.requests)


def test_an_interrupted_run_ends_with_the_same(tmp_path, tiny_checkpoint, prompt_file):
    asked = [question(number, f"Question {number}?") for number in range(7)]
    settings = settings_for(tiny_checkpoint, prompt_file)
    reword(settings, tmp_path / "whole", asked)
    rewriter = open_rewriter(settings, tmp_path / "cut")
    running = rewriter.reword(iter(asked), 2)
    next(running)
    running.close()
    rewriter.close()
    assert 0 < kept(tmp_path / "cut") < kept(tmp_path / "whole")
    _, resumed = reword(settings, tmp_path / "cut", asked)
    assert resumed.cached == 6
    assert replies(tmp_path / "cut") == replies(tmp_path / "whole")


def test_questions_are_taken_a_batch_ahead(tmp_path, tiny_checkpoint, prompt_file):
    taken = []

    def questions():
        for number in range(100):
            taken.append(number)
            yield question(number)

    rewriter = open_rewriter(settings_for(tiny_checkpoint, prompt_file, attempts=1), tmp_path / "cache")
    rewordings = rewriter.reword(questions(), 1)
    for number in range(4):
        next(rewordings)
        assert len(taken) == (3 if number < 3 else 6)
    rewordings.close()
    rewriter.close()


def test_the_model_sees_the_pictures_on_request(tmp_path, tiny_checkpoint, prompt_file):
    seen = []
    rewriter = LocalRewriter(settings_for(tiny_checkpoint, prompt_file, send_images=True, attempts=1), tmp_path / "c")
    generate = rewriter._backend.model.generate

    def recording(**inputs):
        seen.append(inputs["image_grid_thw"].shape[0])
        return generate(**inputs)

    rewriter._backend.model.generate = recording
    list(rewriter.reword([question(0), question(1)], 2))
    list(rewriter.reword([question(0), question(2)], 2))
    rewriter.close()
    assert seen == [2, 2], "another picture is another question"


def test_a_language_model_without_eyes(tmp_path, text_checkpoint, prompt_file):
    settings = settings_for(text_checkpoint, prompt_file)
    rewriter = open_rewriter(settings, tmp_path / "a")
    described = rewriter.describe()
    first = list(rewriter.reword([question(0), question(1, "A longer question, with more words?")], 2))
    rewriter.close()
    assert described["backend"] == "transformers (text only)"
    assert len(described["model_fingerprint"]) == 16
    assert json.loads(json.dumps(described)) == described
    assert all(rewording.dropped for rewording in first)
    assert len(replies(tmp_path / "a")) == 2, "a second attempt draws anew"
    torch.manual_seed(17)
    again, _ = reword(settings, tmp_path / "b", [question(0), question(1, "A longer question, with more words?")])
    assert again == first
    with pytest.raises(UserError, match=r"--send-images: .* is no vision-language model"):
        open_rewriter(settings_for(text_checkpoint, prompt_file, send_images=True), tmp_path / "c")


def test_greedy_replies_of_a_language_model_do_not_depend_on_the_batch(tmp_path, text_checkpoint, prompt_file):
    asked = [question(number, "Is this a " + "very " * number + "long question?") for number in range(4)]
    for size in (1, 4):
        settings = settings_for(text_checkpoint, prompt_file, temperature=0.0, batch_size=size, attempts=1)
        reword(settings, tmp_path / str(size), asked)
    alone = {json.loads(value)[0][0] for value in replies(tmp_path / "1")}
    (together,) = (json.loads(value) for value in replies(tmp_path / "4"))
    assert {text for text, _ in together} == alone
    assert len(alone) > 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none", "--model: .*none: no such folder"),
        (lambda folder: folder, "--model: .*: not a model"),
    ],
)
def test_models_that_are_refused(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        open_rewriter(LocalSettings(str(make(tmp_path))), tmp_path / "cache")


def test_a_model_without_a_chat_template_is_refused(tmp_path, text_checkpoint):
    for file in text_checkpoint.iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="has no chat template: take the model's instruct or chat version"):
        open_rewriter(LocalSettings(str(tmp_path)), tmp_path / "cache")
