"""The draws of the question space: distinct, reproducible, and with the stated chances."""

import hashlib
import os
import random
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from r1_sharevl.errors import UserError
from r1_sharevl.prompts import IMAGE_MARK, to_messages
from r1_sharevl.question_space import TRANSFORMS, QuestionSpace

# 99.9 % quantiles of the chi-square distribution by degrees of freedom.
CHI_SQUARE = {3: 16.27, 5: 20.52, 8: 26.12}


def picture(seed=0, size=(4, 3)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def make_row(num_variants=3, num_images=1, row_id="row-1"):
    marks = " ".join([IMAGE_MARK] * num_images)
    return {
        "id": row_id,
        "problem": f"{marks} What is asked?".strip(),
        "variants": [f"{marks} Wording {index}?".strip() for index in range(1, num_variants + 1)],
        "images": [picture(index) for index in range(num_images)],
        "answer": "4",
        "source": "test",
    }


def wording_of(row, index):
    return [row["problem"], *row["variants"]][index]


def digest(prompts):
    """A digest of everything that a draw decides, pixels included."""
    state = hashlib.sha256()
    for prompt in prompts:
        state.update(repr((prompt.text, prompt.wording, prompt.transform, prompt.hint)).encode())
        for image in prompt.images:
            state.update(repr((image.mode, image.size)).encode() + image.tobytes())
    return state.hexdigest()


def chi_square(counts, outcomes):
    """The chi-square statistic of counts against equal chances for all outcomes."""
    expected = sum(counts.values()) / len(outcomes)
    return sum((counts[outcome] - expected) ** 2 / expected for outcome in outcomes)


# What one draw gives


@pytest.mark.parametrize("num_images", [0, 1, 3])
def test_prompt_is_the_hint_then_the_wording_with_all_images_changed_alike(num_images):
    space = QuestionSpace(2, image_transforms=["rotate_180", "flip_vertical"], transform_probability=0.5)
    row = make_row(num_images=num_images)
    seen = set()
    for step in range(40):
        for prompt in space.draw(row, step):
            seen.add(prompt.transform)
            wording = wording_of(row, prompt.wording)
            if prompt.transform is None:
                assert (prompt.text, prompt.hint) == (wording, None)
                assert all(mine is given for mine, given in zip(prompt.images, row["images"], strict=True))
            else:
                assert prompt.hint == TRANSFORMS[prompt.transform].hint_for(num_images)
                assert prompt.text == f"{prompt.hint}\n{wording}"
                for mine, given in zip(prompt.images, row["images"], strict=True):
                    pixels = np.asarray(given)[::-1]
                    expected = pixels[:, ::-1] if prompt.transform == "rotate_180" else pixels
                    assert np.array_equal(np.asarray(mine), expected)
    assert seen == ({None} if num_images == 0 else {None, "rotate_180", "flip_vertical"})


def test_the_images_of_one_prompt_get_noise_of_their_own():
    row = make_row(num_images=2)
    row["images"] = [Image.new("RGB", (8, 8), "grey")] * 2
    (prompt,) = QuestionSpace(1, ["gaussian_noise_25"], transform_probability=1).draw(row, 0)
    assert not np.array_equal(np.asarray(prompt.images[0]), np.asarray(prompt.images[1]))


def test_prompts_with_the_same_transform_share_the_transformed_images():
    prompts = QuestionSpace(4, ["gaussian_noise_10"], transform_probability=1).draw(make_row(num_images=2), 0)
    assert len({prompt.wording for prompt in prompts}) == 4
    assert len({id(prompt.images[0]) for prompt in prompts}) == 1
    assert len({id(prompt.images[1]) for prompt in prompts}) == 1


def test_the_row_is_left_alone():
    row = make_row(num_images=2)
    before = {**row, "variants": list(row["variants"]), "images": [image.tobytes() for image in row["images"]]}
    QuestionSpace(4, transform_probability=1).draw(row, 0)
    assert {**row, "images": [image.tobytes() for image in row["images"]]} == before


@settings(max_examples=150, deadline=None)
@given(
    num_variants=st.integers(1, 8),
    num_wordings=st.integers(1, 8),
    num_images=st.integers(0, 3),
    transforms=st.lists(st.sampled_from(sorted(TRANSFORMS)), unique=True),
    probability=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    step=st.integers(0, 10**9),
)
def test_always_distinct_or_refused(num_variants, num_wordings, num_images, transforms, probability, step):
    space = QuestionSpace(num_variants, transforms, probability, seed=3)
    row = make_row(num_wordings - 1, num_images)
    versions = 1
    if num_images and transforms and probability:
        versions = len(transforms) + (probability < 1)
    assert space.capacity(row) == num_wordings * versions
    assert (space.why_not(row) is None) == (num_variants <= num_wordings * versions)
    if space.why_not(row) is not None:
        with pytest.raises(UserError, match="row 'row-1'"):
            space.draw(row, step)
        return
    prompts = space.draw(row, step)
    assert len(prompts) == num_variants
    assert len({(prompt.wording, prompt.transform) for prompt in prompts}) == num_variants
    assert len({prompt.text for prompt in prompts}) == num_variants
    uses = Counter(prompt.wording for prompt in prompts)
    assert len(uses) == min(num_variants, num_wordings)
    assert max(uses.values()) - min(uses[wording] for wording in range(num_wordings)) <= 1
    for prompt in prompts:
        assert prompt.text.count(IMAGE_MARK) == num_images
        assert len(prompt.images) == num_images
        parts = to_messages(prompt.text, num_images)[0]["content"]
        assert [part["type"] for part in parts].count("image") == num_images
        if prompt.transform is not None:
            assert prompt.transform in transforms
            assert prompt.text.startswith(prompt.hint)
            assert prompt.text.count(prompt.hint) == 1
        if probability == 1 and versions > 1:
            assert prompt.transform is not None


# Reproducible draws

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from test_space import digest, make_row
from r1_sharevl.question_space import QuestionSpace
space = QuestionSpace(3, transform_probability=0.5, seed=11)
for step in range(20):
    print(digest(space.draw(make_row(num_images=2, row_id=f"row-{step % 4}"), step)))
"""


def test_draws_are_equal_in_other_processes_and_in_any_order():
    space = QuestionSpace(3, transform_probability=0.5, seed=11)
    here = {}
    for step in reversed(range(20)):  # a resumed run starts in the middle
        space.draw(make_row(row_id="other"), step)
        here[step] = digest(space.draw(make_row(num_images=2, row_id=f"row-{step % 4}"), step))
    here = [here[step] for step in range(20)]
    assert len(set(here)) > 15  # draws of the same row without a transform may meet by chance
    folder = str(__file__).rsplit("/", 1)[0]
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", SCRIPT, folder],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.split() == here


def test_draws_neither_read_nor_move_the_global_random_states():
    space, row = QuestionSpace(4, transform_probability=0.5), make_row(num_images=1)
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    first = [digest(space.draw(row, step)) for step in range(20)]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    random.seed(2)
    np.random.seed(2)
    assert [digest(space.draw(row, step)) for step in range(20)] == first


def test_seed_id_and_step_each_change_the_draws():
    def draws(seed=0, row_id="a", first_step=0):
        space = QuestionSpace(4, transform_probability=0.5, seed=seed)
        row = make_row(row_id=row_id)
        return [digest(space.draw(row, step)) for step in range(first_step, first_step + 10)]

    everything = [*draws(), *draws(seed=1), *draws(row_id="b"), *draws(first_step=10)]
    assert len(set(everything)) > 35  # of 40; few of the 4! orders × transforms meet by chance
    # Joined without care, ("1", 12) and ("11", 2) would be one key.
    assert draws(row_id="1", first_step=10)[2:] != draws(row_id="11")[2:10]


def test_choices_do_not_depend_on_the_size_of_the_images():
    space = QuestionSpace(4, transform_probability=0.7)
    small, large = make_row(), make_row()
    large["images"] = [picture(size=(40, 30))]
    for step in range(50):
        choices = [[(prompt.wording, prompt.transform) for prompt in space.draw(row, step)] for row in (small, large)]
        assert choices[0] == choices[1]


# The chances


@pytest.fixture(scope="module")
def ten_thousand_draws():
    space = QuestionSpace(2, seed=5)
    rows = [make_row(num_variants=5, row_id=f"row-{index}") for index in range(100)]
    return [
        [(prompt.wording, prompt.transform) for prompt in space.draw(row, step)] for row in rows for step in range(100)
    ]


def test_three_in_ten_prompts_are_transformed_in_each_slot(ten_thousand_draws):
    bound = 5 * np.sqrt(0.3 * 0.7 * len(ten_thousand_draws))
    for slot in (0, 1):
        transformed = sum(draw[slot][1] is not None for draw in ten_thousand_draws)
        assert abs(transformed - 0.3 * len(ten_thousand_draws)) < bound
    both = sum(draw[0][1] is not None and draw[1][1] is not None for draw in ten_thousand_draws)
    assert abs(both - 0.09 * len(ten_thousand_draws)) < 5 * np.sqrt(0.09 * 0.91 * len(ten_thousand_draws))


def test_wordings_are_uniform_in_each_slot_and_transforms_over_all(ten_thousand_draws):
    for slot in (0, 1):
        assert chi_square(Counter(draw[slot][0] for draw in ten_thousand_draws), range(6)) < CHI_SQUARE[5]
    transforms = Counter(name for draw in ten_thousand_draws for _, name in draw if name is not None)
    assert set(transforms) == set(TRANSFORMS)
    assert chi_square(transforms, TRANSFORMS) < CHI_SQUARE[8]


def test_consecutive_steps_of_a_row_are_independent(ten_thousand_draws):
    # 100 draws of each row lie in a row; the first slot's wording says nothing about the next step's.
    first = [draw[0][0] for draw in ten_thousand_draws]
    repeats = sum(a == b for a, b in zip(first[::2], first[1::2], strict=True))
    assert abs(repeats - len(first) / 12) < 5 * np.sqrt(len(first) / 2 * (1 / 6) * (5 / 6))


def test_forced_transforms_are_spread_over_slots_and_names():
    # One wording, two prompts: the second to be drawn is forced away from what the first one took.
    space = QuestionSpace(2, ["flip_both", "rotate_180", "flip_vertical", "flip_horizontal"], seed=5)
    row = make_row(num_variants=0)
    draws = [[prompt.transform for prompt in space.draw(row, step)] for step in range(4000)]
    assert all(draw[0] != draw[1] for draw in draws)
    # By chance neither is None: both want a transform, 0.3 · 0.3; else exactly one is None.
    neither = sum(None not in draw for draw in draws)
    assert abs(neither - 0.09 * 4000) < 5 * np.sqrt(0.09 * 0.91 * 4000)
    plain_first = sum(draw[0] is None for draw in draws if None in draw)
    assert abs(plain_first - (4000 - neither) / 2) < 5 * np.sqrt((4000 - neither) / 4)
    forced = Counter(name for draw in draws if None in draw for name in draw if name is not None)
    assert chi_square(forced, space.image_transforms) < CHI_SQUARE[3]


# Rows with too few wordings


def test_one_wording_and_certain_transforms_use_every_transform_once():
    prompts = QuestionSpace(9, transform_probability=1).draw(make_row(num_variants=0), 0)
    assert sorted(prompt.transform for prompt in prompts) == sorted(TRANSFORMS)


def test_one_wording_and_likely_transforms_use_the_plain_image_too():
    prompts = QuestionSpace(10, transform_probability=0.999).draw(make_row(num_variants=0), 0)
    assert {prompt.transform for prompt in prompts} == {None, *TRANSFORMS}


@pytest.mark.parametrize(
    ("num_images", "options", "versions"),
    [
        (0, {"transform_probability": 1}, 1),
        (1, {"transform_probability": 0}, 1),
        (1, {"image_transforms": []}, 1),
        (1, {"image_transforms": ["rotate_180"], "transform_probability": 1}, 1),
        (1, {"image_transforms": ["rotate_180"]}, 2),
    ],
)
def test_a_row_that_is_too_poor_is_refused_with_the_reason(num_images, options, versions):
    row = make_row(num_variants=1, num_images=num_images)
    enough, too_many = QuestionSpace(2 * versions, **options), QuestionSpace(2 * versions + 1, **options)
    assert enough.why_not(row) is None
    assert len(enough.draw(row, 0)) == 2 * versions
    reason = (
        f"{2 * versions + 1} distinct prompts are needed, but 2 wording(s) times {versions} image version(s) make "
        f"{2 * versions}: add variants, allow more image transforms or lower num_variants"
    )
    assert too_many.why_not(row) == reason
    with pytest.raises(UserError) as caught:
        too_many.draw(row, 0)
    assert str(caught.value) == f"row 'row-1': {reason}"


def test_capacity_needs_no_decoded_images():
    space = QuestionSpace(2)
    encoded = {**make_row(num_variants=0), "images": [{"bytes": b"not an image", "path": None}]}
    assert space.capacity(encoded) == 10
    texts_only = {"problem": "What?", "variants": None}
    assert space.capacity(texts_only) == 1
    assert space.capacity(texts_only, num_images=2) == 10
    assert space.why_not(texts_only, num_images=2) is None
    assert space.why_not(texts_only, num_images=0).startswith("2 distinct prompts are needed, but 1 wording(s)")


def test_wordings_that_differ_only_in_white_space_count_once_and_empty_ones_never():
    row = make_row(num_variants=0, num_images=0)
    row["variants"] = ["What  is\nasked? ", "", "  \n", "How about this?", "How about this?"]
    space = QuestionSpace(2)
    assert space.capacity(row) == 2
    seen = {(prompt.wording, prompt.text) for step in range(20) for prompt in space.draw(row, step)}
    assert seen == {(0, "What is asked?"), (4, "How about this?")}
    assert space.capacity({"problem": " ", "variants": [], "images": []}) == 0
    assert "0 wording(s)" in space.why_not({"problem": " ", "variants": [], "images": []})


# Bad settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_variants": 0}, "num_variants is 0: a question needs at least 1 prompt"),
        ({"transform_probability": 1.5}, "transform_probability is 1.5: choose a number from 0 to 1"),
        ({"transform_probability": float("nan")}, "transform_probability is nan"),
        ({"image_transforms": ["flip_vertikal"]}, "no 'flip_vertikal': did you mean 'flip_vertical'. choose from rot"),
        ({"image_transforms": ["rotate90_clockwise"]}, "did you mean 'rotate_90_clockwise'."),
        ({"image_transforms": ["zzz"]}, r"no 'zzz': choose from rotate_90_clockwise, .*, flip_both$"),
        ({"image_transforms": "rotate_180"}, "is the text 'rotate_180': give a list of names"),
        ({"image_transforms": ["flip_both", "flip_both"]}, "names one transform twice: flip_both, flip_both"),
    ],
)
def test_bad_settings_are_named_in_one_line(options, message):
    with pytest.raises(UserError, match=message) as caught:
        QuestionSpace(**{"num_variants": 2, **options})
    assert "\n" not in str(caught.value)


def test_defaults_are_those_of_the_release():
    space = QuestionSpace(2)
    assert space.transform_probability == 0.3
    assert space.image_transforms == tuple(TRANSFORMS)
    assert space.seed == 0
