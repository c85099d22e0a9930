"""ShareGRPOConfig: the paper's defaults, and errors that name the sizes that work."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_sharevl import ShareGRPOConfig, UserError
from r1_sharevl.layout import GroupLayout


def config(**values):
    defaults = {"per_device_train_batch_size": 16, "bf16": False, "use_cpu": True, "report_to": "none"}
    return ShareGRPOConfig("unused", **(defaults | values))


def test_defaults_are_those_of_the_paper():
    default = config()
    assert default.num_variants == 2
    assert default.share_trajectories is True
    assert default.advantage_levels == ["global", "local"]
    assert default.transform_probability == 0.3
    assert default.image_transforms is None
    assert "\\boxed{}" in default.instruction
    assert "<think>" in default.instruction


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_variants": 0}, "num_variants is 0"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"num_generations": 7}, "set num_generations to 6 or 8"),
        ({"num_generations": 2, "num_variants": 3}, "set num_generations to 3$"),
        ({"transform_probability": 1.5}, "between 0 and 1"),
        ({"advantage_levels": ["globe"]}, "give 'global', 'local' or both"),
        ({"advantage_levels": []}, "give 'global', 'local' or both"),
        ({"shared_prefix": "yes"}, "shared_prefix is 'yes': choose from auto, on, off$"),
        ({"shared_prefix": None}, "shared_prefix is None: choose from auto, on, off$"),
        ({"per_device_train_batch_size": 20}, "not a multiple of the 16 rows .* set generation_batch_size to 80"),
        ({"per_device_train_batch_size": 8}, "set generation_batch_size to 16"),
        ({"generation_batch_size": 100}, r"not a multiple of per_device_train_batch_size.* to 96 or 112"),
        ({"share_trajectories": False, "per_device_train_batch_size": 12}, "multiple of the 8 rows of a question"),
    ],
)
def test_values_that_do_not_go_together_are_one_line_with_a_way_out(values, message):
    with pytest.raises(UserError, match=message) as caught:
        config(**values)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(batch=st.integers(1, 24), steps=st.integers(1, 6), m=st.integers(1, 4), n=st.integers(1, 6), share=st.booleans())
def test_a_named_size_works(batch, steps, m, n, share):
    values = {
        "per_device_train_batch_size": batch,
        "num_variants": m,
        "num_generations": max(m * n, 2 * m),
        "share_trajectories": share,
    }
    try:
        made = config(**values, steps_per_generation=steps)
        assert made.generation_batch_size % made.rows_per_question == 0
    except UserError as error:
        named = re.search(r"generation_batch_size to (\d+)(?: or (\d+))?", str(error))
        for size in filter(None, named.groups()):
            assert config(**values, generation_batch_size=int(size)).generation_batch_size == int(size)


def test_rows_of_a_response_stay_on_one_process(monkeypatch):
    monkeypatch.setattr(ShareGRPOConfig, "world_size", 4)
    with pytest.raises(UserError, match="split across processes: set generation_batch_size to 72"):
        config(per_device_train_batch_size=9, num_variants=2, num_generations=6)


@given(m=st.integers(1, 5), n=st.integers(1, 5), share=st.booleans())
def test_layout_holds_every_pair_once(m, n, share):
    layout = GroupLayout(m, n, share)
    rows = range(layout.rows_per_question)
    responses = [(layout.own_prompt(row), row // layout.copies) for row in rows]
    pairs = [(response, layout.prompt(row)) for row, response in zip(rows, responses, strict=True)]
    assert len(set(pairs)) == len(pairs) == m * n * (m if share else 1)
    for row in rows[:: layout.copies]:
        assert layout.prompt(row) == layout.own_prompt(row), "a response's first row is its own prompt"
        assert len({responses[other] for other in range(row, row + layout.copies)}) == 1
    own = [layout.own_prompt(row) for row in rows[:: layout.copies]]
    assert own == sorted(own), "equal prompts follow each other"
    assert math.prod([m, n]) == len(own)


def test_the_default_evaluation_batch_holds_whole_questions():
    sizes = {"num_generations": 12, "per_device_train_batch_size": 24}
    assert config(**sizes, eval_strategy="steps").per_device_eval_batch_size == 12
    assert config(**sizes, eval_strategy="steps", num_generations_eval=2).per_device_eval_batch_size == 8
    assert config(**sizes).per_device_eval_batch_size == 8, "not evaluated: left alone"
    with pytest.raises(ValueError, match="eval batch size"):
        config(**sizes, eval_strategy="steps", per_device_eval_batch_size=10)
