"""Two-part attention against attention with a dense mask and against every row by itself, on random numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from r1_sharevl.shared_prefix.attention import SharedPrefix, dense_mask, two_part_attention
from r1_sharevl.shared_prefix.cost import sharing_pays
from r1_sharevl.shared_prefix.packing import PromptSpan

CPU = torch.device("cpu")


def spans_of(shapes):
    spans, start = [], 0
    for prefix, responses in shapes:
        spans.append(PromptSpan(start, prefix, tuple(responses)))
        start = spans[-1].stop
    return spans


def states_of(spans, heads=4, key_value_heads=2, head_dim=8, dtype=torch.float64):
    length = spans[-1].stop
    generator = torch.Generator().manual_seed(length)
    # As projections give them: heads and tokens are swapped in memory.
    return [
        torch.randn(1, length, count, head_dim, generator=generator, dtype=dtype).transpose(1, 2).requires_grad_()
        for count in (heads, key_value_heads, key_value_heads)
    ]


def two_part(states, spans, **settings):
    out, weights = two_part_attention(
        torch.nn.Module(), *states, None, shared_prefix=SharedPrefix(spans, CPU), **settings
    )
    assert weights is None
    return out.transpose(1, 2)


def dense(states, spans, **settings):
    return scaled_dot_product_attention(*states, attn_mask=dense_mask(spans, CPU), enable_gqa=True, **settings)


def row_by_row(states, spans):
    """Attend in each row of [prefix, response] by itself, without any mask but causality."""
    out = []
    for span in spans:
        prefix = torch.arange(span.start, span.start + span.prefix)
        rows, start = [], span.start + span.prefix
        for length in span.responses:
            rows.append(torch.cat([prefix, torch.arange(start, start + length)]))
            start += length
        found = [
            scaled_dot_product_attention(*(part[:, :, row] for part in states), is_causal=True, enable_gqa=True)
            for row in rows or [prefix]
        ]
        out += [found[0][:, :, : span.prefix], *(row[:, :, span.prefix :] for row in found[: len(span.responses)])]
    return torch.cat(out, dim=2)


def with_gradients(attend, states, spans):
    out = attend(states, spans)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    return out, *torch.autograd.grad((out * weights).sum(), states)


def assert_all_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize("key_value_heads", [4, 2, 1])
@pytest.mark.parametrize(
    "shapes",
    [
        pytest.param([(9, [4, 4, 4])], id="equal lengths"),
        pytest.param([(9, [5, 1, 3])], id="uneven lengths"),
        pytest.param([(0, [3, 2])], id="a prompt of one token"),
        pytest.param([(6, [])], id="no responses"),
        pytest.param([(5, [4])], id="one response"),
        pytest.param([(7, [3, 3]), (2, []), (0, [2]), (4, [1, 6, 2])], id="several prompts"),
    ],
)
def test_it_equals_the_dense_mask_and_every_row_by_itself(shapes, key_value_heads):
    spans = spans_of(shapes)
    states = states_of(spans, key_value_heads=key_value_heads)
    found = with_gradients(two_part, states, spans)
    assert_all_close(found, with_gradients(dense, states, spans))
    assert_all_close(found, with_gradients(row_by_row, states, spans))


_prompts = st.tuples(st.integers(0, 12), st.lists(st.integers(1, 9), max_size=5)).filter(lambda p: p[0] or p[1])


@settings(max_examples=40)
@given(st.lists(_prompts, min_size=1, max_size=4), st.sampled_from([1, 2]))
def test_any_spans(shapes, key_value_heads):
    spans = spans_of(shapes)
    states = states_of(spans, heads=2, key_value_heads=key_value_heads)
    assert_all_close(with_gradients(two_part, states, spans), with_gradients(dense, states, spans))


def test_the_scale_of_the_scores_is_the_models():
    spans = spans_of([(5, [3, 2])])
    states = states_of(spans)
    torch.testing.assert_close(two_part(states, spans, scaling=0.7), dense(states, spans, scale=0.7))
    assert not torch.allclose(two_part(states, spans, scaling=0.7), two_part(states, spans))


def test_weights_are_dropped_where_the_layer_says_so():
    spans = spans_of([(5, [3, 2])])
    states = states_of(spans)
    out, *gradients = with_gradients(lambda *given: two_part(*given, dropout=0.5), states, spans)
    assert not torch.allclose(out, two_part(states, spans))
    assert all(gradient.isfinite().all() for gradient in [out, *gradients])


@pytest.mark.parametrize("key_value_heads", [4, 2])
def test_the_fast_kernel_runs_both_parts(key_value_heads):
    spans = spans_of([(9, [4, 2])])
    states = states_of(spans, key_value_heads=key_value_heads)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # anything else would raise
        with_gradients(two_part, states, spans)


def test_keys_are_not_copied_for_every_query_head():
    spans = spans_of([(9, [4, 4])])
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda part: kept.append(part.shape) or part, lambda part: part):
        two_part(states_of(spans, heads=4, key_value_heads=1), spans)
    assert kept.count((2, 1, 9 + 4, 8)) == 2  # keys and values of [prefix, own]


def test_under_autocast_float32_queries_meet_values_of_its_type():
    spans = spans_of([(9, [4, 2])])
    query, key, value = states_of(spans, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = two_part([query, key, value.bfloat16()], spans)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), dense([query, key, value], spans), atol=0.02, rtol=0)


def test_layers_on_another_device_get_what_they_need():
    spans = spans_of([(9, [4, 2])])
    (responses,) = SharedPrefix(spans, CPU).responses
    with FakeTensorMode(allow_non_fake_inputs=True):  # shapes and devices without a GPU
        states = torch.empty(1, 4, spans[-1].stop, 8, device="cuda")
        rectangle = responses.rectangle(states)
        line = responses.line(rectangle)
    assert (rectangle.shape, rectangle.device.type) == ((2, 4, 4, 8), "cuda")
    assert (line.shape, line.device.type) == ((1, 4, 6, 8), "cuda")


def test_no_mask_is_written_down_twice():
    prefix = SharedPrefix(spans_of([(9, [4, 2])]), CPU)
    (responses,) = prefix.responses
    assert responses.mask(CPU) is responses.mask(CPU)


def test_without_a_description_it_is_sdpa():
    spans = spans_of([(6, [])])
    states = states_of(spans, key_value_heads=4)
    mask = torch.ones(6, 6, dtype=torch.bool).tril().logical_or(torch.eye(6).flip(0).bool())[None, None]
    out, _ = two_part_attention(torch.nn.Module(), *states, mask)
    torch.testing.assert_close(out.transpose(1, 2), scaled_dot_product_attention(*states, attn_mask=mask))


def pays(prompt, responses, *, padded=False, hidden_size=2048, width=None):
    spans = spans_of([(prompt - 1, responses)])
    width = width or prompt + max(responses)
    return sharing_pays(spans, len(responses), width, padded=padded, hidden_size=hidden_size)


@pytest.mark.parametrize("hidden_size", [384, 2048, 3584])
@pytest.mark.parametrize("response", [64, 256])
@pytest.mark.parametrize("prompt", [128, 512, 1024])
def test_sharing_pays_for_the_responses_of_share_grpo(prompt, response, hidden_size):
    assert pays(prompt, [response] * 12, hidden_size=hidden_size)


def test_sharing_does_not_pay():
    assert not pays(1000, [100])  # nothing to share
    assert not pays(16, [1000] * 12)  # nearly all of the tokens are the responses' own
    assert not pays(8, [8] * 2)  # a kernel call per prompt costs as much as its tokens


def test_rows_that_are_padded_cost_more():
    assert pays(200, [1000] * 12, width=1600, padded=True)
    # Without padding a small model's rows save half of their attention, which packed ones do not.
    assert not pays(128, [1024] * 12, hidden_size=384)
    assert pays(128, [1024] * 12, hidden_size=384, padded=True)


def test_short_prompts_pay_less_than_one_long_one():
    one = spans_of([(639, [16] * 4)])
    many = spans_of([(9, [16])] * 64)
    assert sharing_pays(one, 4, 656, padded=False, hidden_size=2048)
    assert not sharing_pays(many, 64, 26, padded=False, hidden_size=2048)
