import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_sharevl.data.image_marks import arrange_images
from r1_sharevl.data.row_error import RowError


def arrange(problem, count, wordings=()):
    return arrange_images(problem, list(wordings), list(range(1, count + 1)), "here")


@pytest.mark.parametrize(
    ("problem", "count", "arranged", "order"),
    [
        ("no mark", 2, "no mark", [0, 1]),
        ("<image>a", 1, "<image>a", [0]),
        ("<IMAGE>a", 1, "<image>a", [0]),
        ("a <image 1> b", 1, "a <image> b", [0]),
        ("<image1>", 1, "<image>", [0]),
        ("<image_1><|image_2|>", 2, "<image><image>", [0, 1]),
        ("<|vision_start|><|image_pad|><|image_pad|><|vision_end|>a", 1, "<image>a", [0]),
        ("<|image_pad|>a <|image|>b", 2, "<image>a <image>b", [0, 1]),
        ("<img>a <image_placeholder> <ImageHere>", 3, "<image>a <image> <image>", [0, 1, 2]),
        ("<image 2> then <image 1>", 2, "<image> then <image>", [1, 0]),
        ("<image 1>, <image 2>, <image 1> again", 2, "<image>, <image>, <image> again", [0, 1, 0]),
        ("see <image 2>", 3, "<image><image>\nsee <image>", [0, 2, 1]),
        ("<image 0> and <image 1>", 2, "<image> and <image>", [0, 1]),
        ("<image> and one more", 2, "<image> and one more", [0, 1]),  # left for `check_text` to refuse
        ("a < b, image 1, <imagination>", 1, "a < b, image 1, <imagination>", [0]),
        ("", 0, "", []),
    ],
)
def test_marks(problem, count, arranged, order):
    assert arrange(problem, count) == (arranged, [], order)


def test_images_are_named_by_their_columns():
    """Of `image_1` and `image_3` the second is not image 2."""
    assert arrange_images("<image 3> <image 1>", [], [1, 3], "here")[2] == [1, 0]
    with pytest.raises(RowError):
        arrange_images("<image 2>", [], [1, 3], "here")


@pytest.mark.parametrize(
    ("problem", "count"), [("<image 2>", 1), ("<image 1>", 0), ("<image> <image 1>", 1), ("<image 0> <image 2>", 2)]
)
def test_marks_that_name_nothing(problem, count):
    with pytest.raises(RowError, match=r"^here: ") as caught:
        arrange(problem, count)
    assert caught.value.reason == "image marks do not match images"


def test_too_many_marks():
    with pytest.raises(RowError) as caught:
        arrange("<image 1>" * 65, 1)
    assert caught.value.reason == "too many images"


@pytest.mark.parametrize(
    ("problem", "wording", "arranged"),
    [
        # The same order: written the same way.
        ("<image 1> and <image 2>", "from <image1> to <image2>", "from <image> to <image>"),
        ("<image 2> and <image 1>", "from <image2> to <image1>", "from <image> to <image>"),
        ("see <image 2>", "look at <image 2>", "<image>\nlook at <image>"),
        ("no mark", "<image 1> and <image 2>", "<image> and <image>"),
        ("<image 1> and <image 2>", "no mark", "no mark"),
        # Another order: numbered marks stay or come in, which the checks of wordings refuse.
        ("<image 2> and <image 1>", "<image 1> and <image 2>", "<image 1> and <image 2>"),
        ("<image 1> and <image 2>", "<image 2> and <image 1>", "<image 2> and <image 1>"),
        ("<image 1> and <image 2>", "<image 3>", "<image 3>"),
        ("<image 1> and <image 2>", "<image> and <image 2>", "<image> and <image 2>"),
        ("<image 2> and <image 1>", "from <image> to <image>", "from <image 1> to <image 2>"),
        ("<image 2> and <image 1>", "no mark", "<image 1><image 2>no mark"),
    ],
)
def test_marks_of_other_wordings(problem, wording, arranged):
    assert arrange(problem, 2, [wording])[1] == [arranged]


@given(st.permutations(range(1, 6)), st.integers(1, 5))
def test_each_mark_gets_the_image_that_it_names(numbers, mentioned):
    problem = " ".join(f"<image {number}>" for number in numbers[:mentioned])
    arranged, _, order = arrange(problem, 5)
    assert arranged.count("<image>") == len(order) == 5
    assert [place + 1 for place in order[5 - mentioned :]] == list(numbers[:mentioned])
    assert sorted(order) == list(range(5))
