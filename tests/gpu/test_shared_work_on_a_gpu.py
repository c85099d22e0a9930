"""Prompts that are computed once for their rows. The bodies run on the CPU, too; no GPU has run them yet."""

import pytest
import torch
from devices import ON_EITHER, gpu, weights
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import ProfilerActivity, profile

from r1_sharevl.shared_prefix.attention import SharedPrefix, dense_mask, two_part_attention
from r1_sharevl.shared_prefix.packing import PromptSpan

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 64
EVEN = (PromptSpan(0, 96, (32,) * 6),)
UNEVEN = (PromptSpan(0, 96, (40, 7, 1, 33)), PromptSpan(177, 50, (5, 64)), PromptSpan(296, 0, (9,)))
SPANS = pytest.mark.parametrize("spans", [EVEN, UNEVEN], ids=["even", "uneven"])


def states(spans, device, dtype):
    """Random queries, keys and values of packed rows, and a gradient of the result."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, heads, spans[-1].stop, HEAD_DIM) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    made = [torch.randn(shape, generator=generator).to(device, dtype).requires_grad_() for shape in shapes]
    return made, torch.randn(1, spans[-1].stop, HEADS, HEAD_DIM, generator=generator).to(device, dtype)


def attend(spans, inputs, device):
    module = torch.nn.Module()
    module.num_key_value_groups = HEADS // KV_HEADS
    module.is_causal = True
    return two_part_attention(
        module, *inputs, torch.zeros(1, 1, 0, 0, dtype=torch.bool, device=device),
        scaling=HEAD_DIM**-0.5, shared_prefix=SharedPrefix(spans, torch.device(device)),
    )[0]  # fmt: skip


@ON_EITHER
@SPANS
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 3e-2)], ids=["float32", "bfloat16"]
)
def test_attention_over_packed_rows_is_that_of_the_dense_mask(device, spans, dtype, tolerance):
    inputs, gradient = states(spans, device, dtype)
    result = attend(spans, inputs, device)
    result.backward(gradient)
    exact = [one.detach().double().requires_grad_() for one in inputs]
    repeated = [exact[0], *(one.repeat_interleave(HEADS // KV_HEADS, dim=1) for one in exact[1:])]
    expected = scaled_dot_product_attention(*repeated, attn_mask=dense_mask(spans, torch.device(device)))
    expected.transpose(1, 2).backward(gradient.double())
    torch.testing.assert_close(result.double(), expected.transpose(1, 2), atol=tolerance, rtol=tolerance)
    for one, reference in zip(inputs, exact, strict=True):
        scale = reference.grad.abs().max()
        assert (one.grad.double() - reference.grad).abs().max() <= tolerance * scale


@ON_EITHER
@SPANS
def test_float32_queries_and_keys_meet_bfloat16_values_under_autocast(device, spans):
    inputs, gradient = states(spans, device, torch.bfloat16)
    query, key, value = inputs
    with torch.autocast(device, torch.bfloat16):
        result = attend(spans, [query.float(), key.float(), value], device)
    result.backward(gradient)
    same, _ = states(spans, device, torch.bfloat16)
    expected = attend(spans, same, device)
    expected.backward(gradient)
    torch.testing.assert_close(result, expected)
    for one, reference in zip(inputs, same, strict=True):
        assert (one.grad - reference.grad).abs().max() <= 3e-2 * reference.grad.abs().max()


@pytest.mark.parametrize("device", [gpu])
@SPANS
def test_bfloat16_reaches_the_flash_kernels(device, spans):
    inputs, gradient = states(spans, device, torch.bfloat16)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        attend(spans, inputs, device).backward(gradient)
    called = {event.key for event in profiled.key_averages()}
    assert not any("attention_math" in name for name in called), sorted(called)
    assert any("flash_attention" in name and "backward" not in name for name in called), sorted(called)
    if spans is EVEN:  # one prompt per pass, which is what a micro-batch of a divisor of its pairs is
        assert not any("efficient_attention" in name for name in called), sorted(called)


@ON_EITHER
@pytest.mark.parametrize("checkpointing", ["True", "False"], ids=["checkpointing", "plain"])
def test_a_step_in_float32_ends_where_it_does_without_sharing(
    device, checkpointing, train, tiny_checkpoint, monkeypatch
):
    if device == "cpu" and checkpointing == "False":
        pytest.skip("the CPU shows that the body runs: once is enough")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # of the images' patches; on as torch comes
    # One response per prompt is the likeliest one, so that both draw the same; one micro-batch, so that its order does
    # not matter; plain gradient descent, which does not blow up rounding.
    flags = ["--bf16", "False", "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1"]
    flags += ["--top_k", "1", "--optim", "sgd", "--learning_rate", "0.1", "--max_grad_norm", "1.0"]
    flags += ["--gradient_checkpointing", checkpointing, "--beta", "0.01"]
    shared, rows = (train(device, *flags, "--shared_prefix", wish, out=wish) for wish in ("on", "off"))
    before, shared, rows = weights(tiny_checkpoint), weights(shared.output_dir), weights(rows.output_dir)
    moved = max((rows[name] - before[name]).abs().max() for name in rows.keys() & before.keys())
    apart = max((shared[name] - rows[name]).abs().max() for name in rows)
    assert moved > 1e-3
    assert apart < 1e-5 + 1e-3 * moved


@ON_EITHER
def test_qlora_with_checkpointing_moves_the_adapters_in_the_same_direction(device, train, handed):
    # In bfloat16 even the likeliest tokens differ between the two, where several are equally likely.
    flags = ["--use_peft", "--lora_r", "4", "--lora_dropout", "0", "--load_in_4bit", "--use_bnb_nested_quant"]
    flags += ["--gradient_checkpointing", "True", "--max_steps", "1", "--optim", "sgd"]
    flags += ["--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1", "--learning_rate", "0.1"]
    shared, rows = (
        weights(train(device, *flags, "--shared_prefix", wish, out=wish).output_dir) for wish in ("on", "off")
    )
    assert len(handed) == 2
    assert handed[0] == handed[1]
    moved = [name for name in rows if "lora_B" in name]  # starts at zero, so this is the step
    one, other = (torch.cat([found[name].float().flatten() for name in moved]) for found in (shared, rows))
    assert one.abs().max() > 0
    assert torch.cosine_similarity(one, other, dim=0) > 0.99


@pytest.mark.parametrize("device", [gpu])
def test_an_update_that_shares_prompts_takes_less_memory(device, tmp_path, memory_benchmark):
    shared, rows = (
        memory_benchmark.measure("middle", "lora", device, tmp_path, length=128, side=768, shared_prefix=wish)
        for wish in ("auto", "off")
    )
    assert shared["measured"]["update"] < rows["measured"]["update"]
    assert shared["measured"]["generate"] <= rows["measured"]["generate"]
