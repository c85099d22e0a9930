"""The pieces of generation by vLLM that need no vLLM: places of images, the log-probability check, and refusals."""

import math
import warnings

import pytest
import torch
from PIL import Image
from rollouts import make_trainer

from r1_sharevl import UserError
from r1_sharevl.errors import RunError
from r1_sharevl.vllm import support
from r1_sharevl.vllm.agreement import check_gap, gap_sums
from r1_sharevl.vllm.prompts import check_expansion, pixel_bounds, place_images, runs_of, unexpanded_ids

I = 7  # noqa: E741 (an image token)


@pytest.mark.parametrize(
    ("ids", "lengths", "offsets"),
    [
        ([1, I, I, 2], [2], [1]),
        ([1, I, I, I, 2], [2, 1], [1, 3]),  # side by side with nothing in between
        ([I, I, 3, I], [2, 1], [0, 3]),
        ([1, 2], [], []),
        ([1, I, I, 2], [3], None),
        ([1, I, I, 2], [1], None),
        ([1, I, I, 2], [2, 2], None),
        ([1, I, 2, I], [2], None),
        ([1, I, 2, I], [1], None),
    ],
)
def test_images_are_placed_by_the_servers_lengths_or_not_at_all(ids, lengths, offsets):
    places = place_images(ids, lengths, I)
    if offsets is None:
        assert places is None
    else:
        assert places == [{"offset": at, "length": length} for at, length in zip(offsets, lengths, strict=True)]


def test_runs_are_counted():
    assert runs_of([I, I, 1, I], I) == [2, 1]
    assert runs_of([1, 2], I) == []


def test_unexpanded_ids_have_one_mark_per_image_and_are_otherwise_the_processors(processor):
    pictures = [Image.new("RGB", (112, 112)), Image.new("RGB", (56, 84))]
    texts = ["What?", "And?"]
    prompts = [
        [{"role": "user", "content": [{"type": "image", "image": pictures[0]}, {"type": "text", "text": texts[0]}]}],
        [
            {
                "role": "user",
                "content": [*({"type": "image", "image": p} for p in pictures), {"type": "text", "text": ""}],
            }
        ],
        [{"role": "user", "content": texts[1]}],
    ]
    token = processor.image_token_id
    found = unexpanded_ids(processor, prompts)
    assert [ids.count(token) for ids in found] == [1, 2, 0]
    for prompt, ids in zip(prompts, found, strict=True):
        whole = processor.apply_chat_template([prompt], tokenize=True, return_dict=True, add_generation_prompt=True)
        (expanded,) = whole["input_ids"]
        assert [i for i in expanded if i != token] == [i for i in ids if i != token]
        kept = [i for at, i in enumerate(expanded) if i != token or expanded[at - 1] != token]
        assert kept == ids


def test_a_template_that_writes_the_first_token_does_not_get_it_twice(processor):
    class Writing:
        tokenizer = processor.tokenizer

        def apply_chat_template(self, prompts, **kwargs):
            return [self.tokenizer.bos_token + "hello"]

    start = processor.tokenizer.bos_token
    try:
        processor.tokenizer.bos_token = "<|im_start|>"  # noqa: S105
        ((first, *rest),) = unexpanded_ids(Writing(), [[{"role": "user", "content": "x"}]])
    finally:
        processor.tokenizer.bos_token = start
    assert first == processor.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert first not in rest


def test_pixel_bounds_are_those_of_the_processor(processor):
    assert pixel_bounds(processor) == {"min_pixels": 56 * 56, "max_pixels": 112 * 112}
    assert pixel_bounds(processor.tokenizer) == {}


def test_an_expansion_that_differs_is_said_in_one_line():
    assert check_expansion([[1, I, I], [2]], [(1, I, I), [2]], I) is None
    found = check_expansion([[1, I, I], [2]], [[1, I, I], [2, I]], I)
    assert "a prompt of 2 tokens where training has 1 (image tokens: 1 and 0)" in found


def test_the_gap_counts_what_vllm_sampled():
    trainer = torch.tensor([[-1.0, -2.0, -9.0], [-1.0, -1.0, -1.0]], requires_grad=True)
    sampling = torch.tensor([[-1.5, -1.0, 0.0], [math.nan] * 3])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert gap_sums(trainer, sampling, mask).tolist() == [1.5, 2.0]


def test_a_gap_above_the_limit_or_no_number_stops():
    check_gap(0.1, 0.1)
    check_gap(0.2, 0.1, top_p=0.9)  # nucleus sampling may explain 0.105 of it
    for gap in (0.11, math.nan, math.inf):
        with pytest.raises(RunError, match=r"docs/vllm\.md"):
            check_gap(gap, 0.1)


def test_top_p_excuses_a_gap_only_where_vllm_reports_after_it(tmp_path, tiny_model, processor):
    trainer = make_trainer(tmp_path, tiny_model, processor, top_p=0.85, max_vllm_logprob_gap=0.1)
    trainer.use_vllm = True
    rows = {"completion_mask": torch.ones(1, 2), "sampling_per_token_logps": torch.tensor([[-1.0, -2.0]])}
    logps = rows["sampling_per_token_logps"] - 0.15
    trainer.temperature = 0.7
    trainer._check_vllm(rows, logps)
    trainer.temperature = 1.0
    with pytest.raises(RunError, match=r"differ by 0\.150 .*allows 0\.100"):
        trainer._check_vllm(rows, logps)


def test_what_cannot_work_is_refused_before_a_model_is_loaded(monkeypatch):
    settings = {"quantized": False, "tools": False, "mode": "colocate"}
    monkeypatch.setattr(support, "is_vllm_available", lambda: False)
    with pytest.raises(UserError, match="vLLM is not installed"):
        support.check_vllm_support("model", **settings)

    def too_new():
        warnings.warn(
            "TRL currently supports vLLM versions from 0.22.0 to 0.31.0. You have version 0.99.0 installed. "
            "We recommend installing a supported version to avoid compatibility issues.",
            stacklevel=2,
        )
        return True

    monkeypatch.setattr(support, "is_vllm_available", too_new)
    with pytest.raises(UserError, match=r"from 0.22.0 to 0.31.0. You have version 0.99.0 installed. Install"):
        support.check_vllm_support("model", **settings)
    monkeypatch.setattr(support, "is_vllm_available", lambda: True)
    support.check_vllm_support("model", **settings)
    with pytest.raises(UserError, match="4 or 8 bits"):
        support.check_vllm_support("model", **{**settings, "quantized": True})
    with pytest.raises(UserError, match=r"tools.*Use vllm_mode 'server'"):
        support.check_vllm_support("model", **{**settings, "tools": True})
    support.check_vllm_support("model", **{**settings, "tools": True, "mode": "server"})


def test_a_model_that_was_loaded_in_4_bits_is_refused(monkeypatch, tmp_path, tiny_model, processor):
    monkeypatch.setattr(support, "is_vllm_available", lambda: True)
    tiny_model.is_loaded_in_4bit = True
    with pytest.raises(UserError, match="4 or 8 bits"):
        make_trainer(tmp_path, tiny_model, processor, use_vllm=True, vllm_mode="colocate")


def test_text_only_rows_alone_in_a_micro_batch_train_beside_image_rows(tmp_path, checkpoint, processor, mixed_rows):
    trainer = make_trainer(
        tmp_path,
        str(checkpoint),
        processor,
        dataset=mixed_rows,
        num_variants=1,
        num_generations=2,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=8,
        beta=0.1,
    )
    trainer.train()
    assert trainer.state.global_step == 1
    assert 0 in trainer.trained[0]["num_images"]
