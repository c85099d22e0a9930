"""What stands where in a packed sequence, for any shapes of rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_passes import TEXT_CONFIGS, batch_of, build, by_rows, difference, outcome, packed

from r1_sharevl.shared_prefix.packing import IGNORED, pack, prompt_numbers


@st.composite
def batches(draw, *, images=2, longest=6):
    """Rows of several prompts in any order, with completions of any length."""
    prompts = draw(st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=longest), min_size=1, max_size=4))
    indices = [draw(st.lists(st.integers(0, 1), max_size=images)) for _ in prompts]
    rows = [
        (number, length)
        for number in range(len(prompts))
        for length in draw(st.lists(st.integers(0, longest), min_size=1, max_size=4))
    ]
    return batch_of(
        list(zip(prompts, indices, strict=True)),
        draw(st.permutations(rows)),
        seed=draw(st.integers(0, 9)),
        padding=draw(st.integers(0, 3)),
        completion_length=longest + draw(st.integers(0, 2)),
    )


def packing_of(batch):
    """Positions on two axes, so that it shows where they go on: from the largest of both."""

    def positions_of(prompt, indices):
        return torch.stack([torch.arange(len(prompt)), torch.arange(len(prompt)) * 2])

    return pack(batch.input_ids, batch.attention_mask, batch.completion_length, batch.image_index, positions_of)


@given(batches())
def test_every_token_of_a_completion_is_scored_once(batch):
    packing = packing_of(batch)
    completions = batch.input_ids[:, batch.width :]
    scored = torch.zeros_like(completions).index_put(
        (packing.rows, packing.columns), torch.ones_like(packing.rows), accumulate=True
    )
    assert torch.equal(scored, batch.completion_mask.long())
    assert torch.equal(packing.scatter(packing.labels), completions * batch.completion_mask)
    assert torch.equal((packing.labels != IGNORED).nonzero()[:, 0], packing.scored)


@given(batches())
def test_a_response_stands_behind_its_prompt(batch):
    packing = packing_of(batch)
    rows = list(zip(*(values.tolist() for values in (packing.rows, packing.columns, packing.scored)), strict=True))
    starts = {row: place for row, column, place in reversed(rows)}  # of each response's segment
    spans = {place: span for span in packing.spans for place in range(span.start, span.stop)}
    for row, start in starts.items():
        prompt = batch.input_ids[row, : batch.width][batch.attention_mask[row, : batch.width].bool()]
        response = batch.input_ids[row, batch.width :][batch.completion_mask[row]]
        span = spans[start]
        prefix = slice(span.start, span.start + span.prefix)
        own = slice(start, start + len(response))
        seen = torch.cat([packing.tokens[prefix], packing.tokens[own]])
        assert torch.equal(seen, torch.cat([prompt, response[:-1]]))
        size, largest = len(prompt), 2 * (len(prompt) - 1)
        after = largest + torch.arange(1, len(response))
        assert torch.equal(packing.positions[0][prefix], torch.arange(size - 1))
        assert torch.equal(packing.positions[0][own], torch.cat([torch.tensor([size - 1]), after]))
        assert torch.equal(packing.positions[1][own], torch.cat([torch.tensor([largest]), after]))


@given(batches())
def test_the_sequence_has_no_gaps_and_no_prompt_twice(batch):
    packing = packing_of(batch)
    numbers = prompt_numbers(
        batch.input_ids[:, : batch.width], batch.attention_mask[:, : batch.width], batch.image_index
    )
    assert len(packing.spans) == len(set(numbers)) == len(packing.first_rows)
    assert [numbers[row] for row in packing.first_rows] == list(range(len(packing.spans)))
    assert [span.start for span in packing.spans] == [0, *(span.stop for span in packing.spans)][:-1]
    assert packing.spans[-1].stop == len(packing.tokens) == len(packing.labels) == packing.positions.shape[1] > 0
    lengths = [
        [int(batch.completion_mask[row].sum()) for row, own in enumerate(numbers) if own == number]
        for number in range(len(packing.spans))
    ]
    assert [list(span.responses) for span in packing.spans] == [[length for length in own if length] for own in lengths]


@pytest.fixture(scope="module")
def decoder():
    return build(TEXT_CONFIGS["qwen2"])


@given(batches(images=0, longest=9))
@settings(max_examples=25)
def test_any_shape_equals_its_rows(decoder, batch):
    found, expected = outcome(decoder, packed, batch), outcome(decoder, by_rows, batch)
    if batch.completion_mask.any():
        assert difference(found, expected).is_noise, difference(found, expected)
    else:
        assert not found[0].any()


@given(batches(), st.randoms())
def test_the_order_of_the_rows_is_their_own_affair(batch, random):
    order = list(range(len(batch)))
    random.shuffle(order)
    straight, shuffled = packing_of(batch), packing_of(batch.rows(order))
    assert len(straight.tokens) == len(shuffled.tokens)
    assert torch.equal(straight.scatter(straight.labels)[order], shuffled.scatter(shuffled.labels))


def test_no_rows():
    packing = packing_of(batch_of([], []))
    assert packing.tokens.shape == packing.labels.shape == packing.scored.shape == (0,)
    assert packing.spans == packing.first_rows == ()
    assert packing.scatter(torch.zeros(0)).shape == (0, 1)


def test_padding_is_no_token():
    """A prompt that begins with the padding's id is another prompt than the one without it."""
    longer, shorter = [0, 5, 6], [5, 6]
    batch = batch_of([(longer, []), (shorter, [])], [(0, 1), (1, 1)])
    assert batch.input_ids[:, :3].tolist() == [longer, longer]
    assert packing_of(batch).first_rows == (0, 1)


def test_scatter_keeps_gradients_and_types():
    packing = packing_of(batch_of([([1, 2], [])], [(0, 2), (0, 0), (0, 3)]))
    values = torch.arange(len(packing.tokens), dtype=torch.bfloat16, requires_grad=True)
    spread = packing.scatter(values)
    assert spread.tolist() == [[1, 2, 0], [0, 0, 0], [3, 4, 5]]
    assert spread.dtype == torch.bfloat16
    spread.sum().backward()
    assert values.grad.tolist() == [0, 1, 1, 1, 1, 1]
