"""Micro-batches keep the rows of a prompt together, in an order that changes from one generation to the next."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from r1_sharevl.rollouts.micro_batches import micro_batches


def generation_batch(prompts):
    """A batch of rows as the trainer has it; `prompts` names each row's prompt and image."""
    count = len(prompts)
    lengths = torch.tensor([2 + token % 3 for token, _ in prompts])
    return {
        "prompt_ids": torch.tensor([[token] * 4 for token, _ in prompts]),
        "prompt_mask": (torch.arange(4) >= 4 - lengths[:, None]).long(),
        "completion_ids": torch.arange(2 * count).view(count, 2),
        "advantages": torch.arange(count) / 10,
        "num_items_in_batch": torch.tensor(2 * count),
        "old_per_token_logps": None,
        "image_index": torch.tensor([[image] for _, image in prompts]),
        "distinct_images": {"pixel_values": [torch.zeros(4, 2)] * 3, "grids": torch.ones(3, 3)},
    }


@st.composite
def batches(draw):
    """Prompts of rows, as many as make whole micro-batches; a process may hold any part of a question."""
    size, count = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    prompts = draw(
        st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 2)), min_size=size * count, max_size=size * count)
    )
    return prompts, size, count


@given(batches(), st.integers(0, 5))
def test_every_row_is_trained_once_beside_the_rows_of_its_prompt(batch, seed):
    prompts, size, count = batch
    rows = generation_batch(prompts)
    torch.manual_seed(seed)
    cut = micro_batches(rows, count)
    assert [len(inputs["advantages"]) for inputs in cut] == [size] * count
    order = [round(value * 10) for inputs in cut for value in inputs["advantages"].tolist()]
    assert sorted(order) == list(range(size * count))
    for name in ("prompt_ids", "prompt_mask", "completion_ids", "image_index"):
        assert torch.equal(torch.cat([inputs[name] for inputs in cut]), rows[name][order])
    for inputs in cut:
        assert inputs["distinct_images"] is rows["distinct_images"]
        assert inputs["num_items_in_batch"] is rows["num_items_in_batch"]
        assert inputs["old_per_token_logps"] is None
    changes = sum(prompts[one] != prompts[other] for one, other in pairwise(order))
    assert changes == len(set(prompts)) - 1, "a prompt's rows follow each other"


def test_the_order_is_the_generators():
    rows = generation_batch([(token, 0) for token in range(6) for _ in range(4)])

    def order():
        return [value for inputs in micro_batches(rows, 3) for value in inputs["advantages"].tolist()]

    torch.manual_seed(0)
    state = torch.get_rng_state()
    orders = [order() for _ in range(40)]
    assert len({tuple(found) for found in orders}) == 40
    assert {round(found[0] * 10) // 4 for found in orders} == set(range(6)), "any prompt comes first"
    torch.set_rng_state(state)
    assert order() == orders[0]
