"""A packed pass leaves nothing behind: neither in its model nor in another one of the same class."""

import pytest
import torch
from packed_passes import attention_for_packed_rows, by_rows, family, mixed_batch, packed, packed_pass
from transformers import GenerationConfig

from r1_sharevl.shared_prefix.attention import TWO_PART


@pytest.fixture
def qwen():
    model, processor = family("qwen2_5_vl")
    return model, mixed_batch(processor)


def hooks_of(model):
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs")
    return [(name, len(getattr(module, name))) for module in model.modules() for name in names]


def attention_of(model):
    parts = [model.config, model.config.text_config, model.config.vision_config, model.get_decoder().config]
    return [part._attn_implementation for part in parts]


def tokens_of(model, batch):
    """What the model generates for an image, greedily."""
    row = batch.rows([0])
    length = int(row.attention_mask[0, : row.width].sum())
    prompt = row.input_ids[:, row.width - length : row.width]
    fields = row.images.fields([index for index in row.image_index[0].tolist() if index >= 0], torch.device("cpu"))
    settings = GenerationConfig(max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)
    kinds = (prompt == model.config.image_token_id).int()
    return model.generate(prompt, generation_config=settings, mm_token_type_ids=kinds, **fields)


@torch.no_grad()
def behaviour(model, batch):
    log_probs, entropies = by_rows(model, batch)
    return [log_probs, entropies, tokens_of(model, batch)]


def same(first, second):
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_pass(qwen):
    model, batch = qwen
    other = family("qwen2_5_vl")[0]
    hooks, attention = hooks_of(model), attention_of(model)
    before, before_of_other = behaviour(model, batch), behaviour(other, batch)
    log_probs, _ = packed(model, batch)
    log_probs.sum().backward()
    assert (hooks_of(model), attention_of(model)) == (hooks, attention)
    assert same(behaviour(model, batch), before)
    assert same(behaviour(other, batch), before_of_other)
    with attention_for_packed_rows(model):
        packed_pass(model, batch)
        assert attention_of(other) == attention
        assert same(behaviour(other, batch), before_of_other), "also while the first one attends in two parts"


@pytest.mark.parametrize("where", ["vision tower", "decoder"])
def test_a_pass_that_fails(qwen, where):
    model, batch = qwen
    hooks, attention, before = hooks_of(model), attention_of(model), behaviour(model, batch)

    def fail(*_):
        raise RuntimeError("out of memory")

    part = model.model.visual.blocks[-1] if where == "vision tower" else model.model.language_model.layers[-1]
    hook = part.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        packed(model, batch)
    hook.remove()
    assert (hooks_of(model), attention_of(model)) == (hooks, attention)
    assert same(behaviour(model, batch), before)


def test_ordinary_rows_keep_their_mask_under_the_new_name(qwen):
    """A reference pass may meet a decoder that still names two-part attention: rows must come out as ever."""
    model, batch = qwen
    before = behaviour(model, batch)
    with attention_for_packed_rows(model):
        assert attention_of(model)[-1] == TWO_PART
        assert same(behaviour(model, batch), before)


def test_a_saved_model_does_not_name_our_attention(qwen, tmp_path):
    model, _ = qwen
    with attention_for_packed_rows(model):
        model.save_pretrained(tmp_path)
    found = "".join(path.read_text() for path in tmp_path.glob("*.json"))
    assert "architectures" in found
    assert "r1_sharevl" not in found
