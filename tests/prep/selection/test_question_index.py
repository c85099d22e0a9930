import pickle
import random
import resource
import subprocess
import sys

import PIL.Image
import pytest
from figures import chart, geometry, jpeg, photo, png, scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_sharevl.data.row_error import RowError
from r1_sharevl.data.synthetic import synthetic_rows
from r1_sharevl.errors import UserError
from r1_sharevl.prep.selection.index import (
    CONTAMINATION,
    CONTRADICTION,
    DUPLICATE,
    MAX_CANDIDATES,
    NEAR_DUPLICATE,
    Match,
    QuestionIndex,
)
from r1_sharevl.prep.selection.keys import QuestionKeys, question_keys

FIGURE, OTHER, PHOTO = png(geometry(1)), png(geometry(2)), png(photo(1))
FIGURE_AGAIN = jpeg(geometry(1), 80)
FIGURE_SMALL = png(scaled(geometry(1), 0.5))
LOOK_ALIKE = png(geometry(1, "digit"))


@pytest.fixture
def index(tmp_path):
    with QuestionIndex(tmp_path / "index") as opened:
        yield opened


def keys(problem, images=(), answer="3", wordings=()):
    return question_keys(problem, wordings, images, answer)


def kind(match):
    return None if match is None else match.kind


def test_an_exact_duplicate_is_named(index):
    assert index.find(keys("Find x.", [FIGURE])) is None
    index.add(keys("Find x.", [FIGURE]), "a.jsonl, line 1", "train")
    assert index.find(keys("find   x", [FIGURE])) == Match(DUPLICATE, "a.jsonl, line 1", "train")
    for question in (keys("Find y.", [FIGURE]), keys("Find x.", [OTHER]), keys("Find x.", [])):
        assert index.find(question) is None


def test_the_first_of_several_is_named(index):
    for line in (1, 2, 3):
        index.add(keys("Find x."), f"line {line}")
    assert index.find(keys("Find x.")) == Match(DUPLICATE, "line 1", None)


def test_wordings_count_on_either_side(index):
    index.add(keys("Find x.", [FIGURE], wordings=["Give the value of x.", "x is how large?"]), "first")
    assert kind(index.find(keys("Give the value of x", [FIGURE]), near=False)) == DUPLICATE
    assert kind(index.find(keys("Solve for y", [FIGURE], wordings=["x is how large"]), near=False)) == DUPLICATE
    assert kind(index.find(keys("Solve for y", [FIGURE], wordings=["Find x"]), near=False)) == DUPLICATE
    assert index.find(keys("Give the value of x", [OTHER])) is None


def test_a_wording_with_the_picture_encoded_again(index):
    index.add(keys("Find x.", [FIGURE], wordings=["Give the value of x."]), "first")
    assert kind(index.find(keys("Give the value of x", [FIGURE_AGAIN]))) == NEAR_DUPLICATE
    assert kind(index.find(keys("Solve for y", [FIGURE_AGAIN], wordings=["Find x"]))) == NEAR_DUPLICATE
    assert index.find(keys("Give the value of x", [FIGURE_AGAIN]), near=False) is None


def test_the_same_question_with_another_answer(index):
    index.add(keys("Find x.", [FIGURE], "3"), "first")
    assert index.find(keys("Find x.", [FIGURE], "4")) == Match(CONTRADICTION, "first", None)
    assert index.find(keys("Find x.", [FIGURE], "4"), near=False) == Match(CONTRADICTION, "first", None)
    # It may be another figure after all, so nothing is said.
    assert index.find(keys("Find x.", [FIGURE_AGAIN], "4")) is None


def test_an_agreeing_row_goes_before_a_contradicting_one(index):
    index.add(keys("Find x.", [FIGURE], "3"), "first")
    index.add(keys("Solve for x.", [FIGURE], "4"), "second")
    assert index.find(keys("Find x.", [FIGURE], "4", ["Solve for x."])) == Match(DUPLICATE, "second", None)


@pytest.mark.parametrize(
    ("first", "second"),
    [("0.5", r"\frac{1}{2}"), ("3 cm", "3"), ("$3$", "3"), (r"2\sqrt{2}", r"\sqrt{8}"), ("B", "blue"), ("(B)", "b")],
)
def test_answers_are_compared_as_the_reward_does(index, first, second):
    problem = "Which one?\nA. red\nB. blue"
    index.add(keys(problem, [FIGURE], first), "first")
    assert kind(index.find(keys(problem, [FIGURE], second))) == DUPLICATE
    assert kind(index.find(keys(problem, [FIGURE], "A"))) == CONTRADICTION


@pytest.mark.parametrize("again", [FIGURE_AGAIN, FIGURE_SMALL], ids=["jpeg", "scaled"])
def test_a_near_duplicate(index, again):
    index.add(keys("As shown in the figure, AB = 3. Find x.", [FIGURE]), "first", "train")
    match = index.find(keys("In the diagram AB = 3. What is x?", [again]))
    assert match == Match(NEAR_DUPLICATE, "first", "train")
    for text in ("In the diagram AB = 4. What is x?", "In the diagram AC = 3. What is x?", "Find y."):
        assert index.find(keys(text, [again])) is None
    assert index.find(keys("In the diagram AB = 3. What is x?", [LOOK_ALIKE])) is None
    assert index.find(keys("In the diagram AB = 3. What is x?", [again], "5")) is None
    assert index.find(keys("In the diagram AB = 3. What is x?", [])) is None


def test_a_near_duplicate_without_pictures(index):
    index.add(keys("A train goes 60 km in 2 hours. Find its speed."), "first")
    assert kind(index.find(keys("A train goes 60 km in 2 hours. What is the speed?"))) == NEAR_DUPLICATE
    assert index.find(keys("A train goes 60 km in 3 hours. What is the speed?")) is None
    assert index.find(keys("A train goes 60 km in 2 hours. What is the speed?", answer="30")) is None
    assert index.find(keys("A train goes 60 km in 2 hours. What is the speed?", [FIGURE])) is None


def test_several_pictures_must_be_the_same_in_the_same_order(index):
    index.add(keys("Compare them.", [FIGURE, PHOTO]), "first")
    assert kind(index.find(keys("compare them", [FIGURE, PHOTO]))) == DUPLICATE
    assert kind(index.find(keys("compare them", [FIGURE_AGAIN, PHOTO]))) == NEAR_DUPLICATE
    for images in ([PHOTO, FIGURE], [FIGURE], [FIGURE, PHOTO, PHOTO], [FIGURE, OTHER], [FIGURE_AGAIN, OTHER]):
        assert index.find(keys("compare them", images)) is None


def test_contamination(index):
    """Answers are not needed, and a picture among several is found."""
    index.add(keys("As shown in the figure, find x.", [FIGURE], ""), "test set, row 7", "testmini")
    found = Match(CONTAMINATION, "test set, row 7", "testmini")
    for images in ([FIGURE], [FIGURE_AGAIN], [FIGURE_SMALL], [PHOTO, FIGURE_AGAIN], [FIGURE, OTHER]):
        assert index.find_contamination(keys("In this diagram, what is x?", images, "8")) == found
    wordings = ["In this diagram, what is x?"]
    assert index.find_contamination(keys("The unknown?", [FIGURE_AGAIN], "8", wordings)) == found
    for text, image in (("Find y.", FIGURE), ("Find 2x.", FIGURE), ("Find x.", LOOK_ALIKE), ("Find x.", PHOTO)):
        assert index.find_contamination(keys(text, [image], "8")) is None
    assert index.find_contamination(keys("Find x.", [], "8")) is None


def test_contamination_by_a_question_with_several_pictures_needs_all_of_them(index):
    index.add(keys("Compare them.", [FIGURE, PHOTO]), "test")
    assert kind(index.find_contamination(keys("Compare them.", [PHOTO, OTHER, FIGURE_AGAIN]))) == CONTAMINATION
    assert index.find_contamination(keys("Compare them.", [PHOTO, OTHER])) is None


def test_contamination_without_pictures(index):
    index.add(keys("A train goes 60 km in 2 hours. Find its speed.", [], ""), "test")
    assert kind(index.find_contamination(keys("A train goes 60 km in 2 hours. What is the speed?"))) == CONTAMINATION
    assert index.find_contamination(keys("A train goes 61 km in 2 hours. What is the speed?")) is None
    assert index.find_contamination(keys("A train goes 60 km in 2 hours. Find its speed.", [FIGURE])) is None


def test_the_built_in_set_loses_nothing(index, tmp_path):
    """Few texts, many figures that differ by a pixel or two: the hardest case for look-alikes."""
    with QuestionIndex(tmp_path / "evaluation") as evaluation:
        for row in synthetic_rows("validation", 120):
            evaluation.add(keys(row["problem"], [png(row["images"][0])], "", row["variants"]), row["id"])
        for row in synthetic_rows("train", 900):
            question = keys(row["problem"], [png(row["images"][0])], row["answer"], row["variants"])
            assert index.find(question) is None
            assert evaluation.find_contamination(question) is None
            index.add(question, row["id"])


def test_charts_with_the_same_question_are_kept_apart(index):
    for seed in range(20):
        for change in (None, "higher"):
            question = keys("Which bar is the tallest?", [png(chart(seed, change))], "A")
            assert index.find(question) is None
            index.add(question, f"{seed} {change}")


def test_thousands_of_look_alikes_are_not_all_looked_at(index):
    """Exact duplicates are found all the same."""
    picture = keys("Find x.", [png(PIL.Image.new("RGB", (64, 64), "white"))]).pictures
    looked = []
    index._connection.set_trace_callback(lambda query: looked.append(query) if "FROM pictures" in query else None)
    for number in range(3 * MAX_CANDIDATES):
        question = QuestionKeys((bytes([number]) * 16,), (1,), picture, str(number))
        looked.clear()
        assert index.find(question) is None
        assert len(looked) == min(number, MAX_CANDIDATES)
        index.add(question, f"row {number}")
    last = QuestionKeys((bytes([3 * MAX_CANDIDATES - 1]) * 16,), (1,), picture, str(3 * MAX_CANDIDATES - 1))
    assert index.find(last) == Match(DUPLICATE, f"row {3 * MAX_CANDIDATES - 1}", None)
    other = keys("Find x.", [FIGURE])
    index.add(QuestionKeys(other.exact, (1,), other.pictures, "3"), "an evaluation's")
    for number in range(MAX_CANDIDATES):
        index.add(QuestionKeys((bytes([number]) * 16,), (1,), keys("", [LOOK_ALIKE]).pictures, "3"), "look-alike")
    assert index.find_contamination(keys("Find x.", [FIGURE])).name == "an evaluation's"


words = st.lists(st.sampled_from(["find", "x", "y", "area", "3", "4", "the"]), min_size=1, max_size=4).map(" ".join)
questions = st.tuples(words, st.lists(words, max_size=2), st.sampled_from(["1", "2"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(questions, max_size=12))
def test_it_agrees_with_comparing_all_pairs(tmp_path_factory, rows):
    from r1_sharevl.prep.selection.texts import exact_form, text_tokens

    seen = []
    with QuestionIndex(tmp_path_factory.mktemp("i") / "index") as index:
        for number, (problem, wordings, answer) in enumerate(rows):
            forms = {exact_form(text_tokens(text, 0)) for text in (problem, *wordings)}
            alike = [(name, theirs) for name, others, theirs in seen if forms & others]
            match = index.find(keys(problem, (), answer, wordings), near=False)
            agreeing = [name for name, theirs in alike if theirs == answer]
            if agreeing:
                assert match.kind == DUPLICATE
            else:
                assert kind(match) == (CONTRADICTION if alike else None)
            if match is None:
                index.add(keys(problem, (), answer, wordings), str(number))
                seen.append((str(number), forms, answer))


def test_keys_are_small_and_travel():
    question = keys("Find x.", [FIGURE], "3", ["Give the value of x.", "find  x"])
    assert pickle.loads(pickle.dumps(question)) == question  # noqa: S301 - our own
    assert len(pickle.dumps(question)) < 1500
    assert len(question.exact) == 2


def test_a_damaged_picture_is_a_fault_of_the_row():
    with pytest.raises(RowError, match="image 2: the image cannot be read"):
        keys("Find x.", [FIGURE, b"not a picture"])


def test_the_file_is_scratch(tmp_path):
    (tmp_path / "thesis").write_text("mine")
    with pytest.raises(UserError, match=r"thesis: cannot be made: File exists: remove it"):
        QuestionIndex(tmp_path / "thesis")
    assert (tmp_path / "thesis").read_text() == "mine"
    with pytest.raises(UserError, match=r"nowhere/index: cannot be made: No such file or directory"):
        QuestionIndex(tmp_path / "nowhere" / "index")
    with QuestionIndex(tmp_path / "index") as index:
        index.add(keys("Find x."), "first")
        assert (tmp_path / "index").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_a_full_disk_is_told(tmp_path):
    """A file size limit stands in for the disk: SQLite is told of both in the same way."""
    code = (
        "import pathlib, random, resource, signal, sys\n"
        "from r1_sharevl.errors import UserError\n"
        "from r1_sharevl.prep.selection.index import QuestionIndex\n"
        "from r1_sharevl.prep.selection.keys import QuestionKeys\n"
        "from r1_sharevl.prep.selection.pictures import PictureKey\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "rng = random.Random(0)\n"
        "index = QuestionIndex(pathlib.Path(sys.argv[1]))\n"
        "try:\n"
        "    for number in range(20_000):\n"
        "        picture = PictureKey(9, 9, rng.randbytes(32), rng.randbytes(20_000))\n"
        "        index.add(QuestionKeys((rng.randbytes(16),), (number,), (picture,), '1'), 'row')\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "index")], capture_output=True, text=True, check=True
    )
    assert "index: the index of questions cannot be used: " in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path):
    from r1_sharevl.prep.selection.pictures import PictureKey

    rng = random.Random(0)

    def add(count):
        for _ in range(count):
            picture = PictureKey(300, 300, rng.randbytes(32), rng.randbytes(1500))
            index.add(QuestionKeys((rng.randbytes(16),), (rng.getrandbits(63),), (picture,), "1"), "row")

    with QuestionIndex(tmp_path / "index") as index:
        add(45_000)  # fills SQLite's cache
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        add(45_000)
        # 90 MB more of pictures alone.
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_nothing_heavy_is_imported():
    code = (
        "import sys, r1_sharevl.prep.selection.index, r1_sharevl.prep.selection.mixing\n"
        "import r1_sharevl.prep.selection.pass_rate, r1_sharevl.prep.selection.prompt_length\n"
        "print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
