"""The checks of a wording: the corpus of `wording_cases.py`, and what must hold for any text."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wording_cases import BAD, CASES, GOOD, GOOD_MARKS, NO_GIVEAWAYS

from r1_sharevl.data.synthetic import synthetic_rows
from r1_sharevl.prep.wordings import checks
from r1_sharevl.prep.wordings.checks import FAULTS, fault_of, sift
from r1_sharevl.prep.wordings.rewriter import DroppedWording
from r1_sharevl.prompts import IMAGE_MARK, to_messages

ALL_GOOD = GOOD + GOOD_MARKS + NO_GIVEAWAYS
# Numbers that stand for themselves in the tests below must not be taken for the answer.
NO_ANSWER = "zebra"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.fault} | {case.why[:40]} | {case.wording[:40]!a}")
def test_the_verdict_on_a_wording(case):
    assert fault_of(case.problem, case.wording, case.answer) == case.fault, case.why


def test_every_fault_is_in_the_corpus():
    assert Counter(case.fault for case in BAD).keys() == set(FAULTS)
    assert len(CASES) >= 200


def test_the_built_in_set_passes():
    dropped = []
    for row in synthetic_rows("train", 500, 0):
        # This wording states two numbers that the other wordings of its question lack.
        wordings = [text for text in (row["problem"], *row["variants"]) if "from 1 to 12" not in text]
        dropped += sift(wordings[0], wordings[1:], row["answer"])[1]
    assert dropped == []


def test_good_wordings_stay_in_order_and_the_others_get_their_reasons():
    problem = "What is the area of the circle?"
    good, dropped = sift(
        problem,
        [
            "Find the circle's area.",
            "Sure! Find its area.",
            "find the circle's area",
            "How large is the circle's area?",
        ],
        "3",
    )
    assert good == ["Find the circle's area.", "How large is the circle's area?"]
    assert dropped == [
        DroppedWording("Sure! Find its area.", checks.CHATTER),
        DroppedWording("find the circle's area", checks.SAME_TEXT),
    ]


def test_a_wording_accepted_earlier_is_not_accepted_again():
    problem = "What is the area of the circle?"
    _, dropped = sift(problem, ["Find the circle's area!"], "3", accepted=["Find the circle's area."])
    assert [wording.reason for wording in dropped] == [checks.SAME_TEXT]
    assert fault_of(problem, "Find the circle's area!", "3") is None


@pytest.mark.parametrize("case", ALL_GOOD, ids=lambda case: repr(case.wording[:50]))
def test_a_good_pair_is_good_the_other_way_round(case):
    """What is compared between the two texts does not depend on which of them is the problem."""
    if case.problem.count(IMAGE_MARK) == case.wording.count(IMAGE_MARK):
        assert fault_of(case.wording, case.problem, NO_ANSWER) is None


SYMMETRIC = {
    checks.SAME_TEXT,
    checks.OTHER_LANGUAGE,
    checks.OTHER_OPTIONS,
    checks.OTHER_NUMBERS,
    checks.OTHER_UNITS,
    checks.OTHER_NAMES,
    checks.OTHER_FORMULAS,
    checks.OTHER_QUESTION,
}


@pytest.mark.parametrize(
    "case", [case for case in BAD if case.fault in SYMMETRIC], ids=lambda case: repr(case.wording[:50])
)
def test_a_difference_is_one_the_other_way_round(case):
    assert fault_of(case.wording, case.problem, NO_ANSWER) is not None


@given(st.data())
@settings(deadline=None)
def test_a_wording_with_one_digit_changed_is_never_accepted(data):
    case = data.draw(st.sampled_from([case for case in ALL_GOOD if re.search(r"\d", case.wording)]))
    place = data.draw(st.sampled_from([match.start() for match in re.finditer(r"\d", case.wording)]))
    digit = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != case.wording[place]]))
    changed = case.wording[:place] + digit + case.wording[place + 1 :]
    assert fault_of(case.problem, changed, case.answer) is not None, changed


@given(st.data())
@settings(deadline=None)
def test_a_wording_with_one_number_more_is_never_accepted(data):
    case = data.draw(st.sampled_from(ALL_GOOD))
    number = data.draw(st.integers(min_value=10**4, max_value=10**9))
    assert fault_of(case.problem, f"For {number} points: {case.wording}", NO_ANSWER) is not None


@given(st.data())
@settings(deadline=None)
def test_spaces_and_line_breaks_make_no_new_wording(data):
    case = data.draw(st.sampled_from([case for case in CASES if "\n" not in case.problem]))
    noise = data.draw(st.lists(st.sampled_from([" ", "  ", " \n", "\t"]), min_size=1, max_size=20))
    words = case.problem.split(" ")
    noisy = words[0]
    for number, word in enumerate(words[1:]):
        noisy += noise[number % len(noise)] + word
    before, after = data.draw(st.sampled_from(["", "\n", "  "])), data.draw(st.sampled_from(["", " \n"]))
    assert fault_of(case.problem, before + noisy + after, case.answer) == checks.SAME_TEXT
    assert fault_of(noisy, case.problem, case.answer) == checks.SAME_TEXT


WORDS = st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=9)


@given(st.lists(WORDS, min_size=3, max_size=6, unique=True), st.data())
@settings(deadline=None)
def test_options_must_all_be_there_in_their_order(texts, data):
    def listed(options):
        return "".join(f"\n{letter}. {option}" for letter, option in zip("ABCDEF", options, strict=False))

    problem, stem = f"Which word is on the sign?{listed(texts)}", "What does the sign say?"
    assert fault_of(problem, stem + listed(texts), NO_ANSWER) is None
    dropped = data.draw(st.integers(0, len(texts) - 1))
    shorter = texts[:dropped] + texts[dropped + 1 :]
    assert fault_of(problem, stem + listed(shorter), NO_ANSWER) is not None
    reordered = data.draw(st.permutations(texts))
    fault = fault_of(problem, stem + listed(reordered), NO_ANSWER)
    assert fault == (None if reordered == texts else checks.OTHER_OPTIONS)


# Pieces that the checks look for, to reach their corners.
SIGNS = "$\\{}()[]^_-+*/=<>|:;,.?!'\"#`°%½²√∠△①"
WORDS_AND_MARKUP = (
    "3|1,000|x|a|ABC|twenty|half of|is| to |the ratio of|cm|per|二分之|三|厘米"
    "|\n| |A.|(B)|C:|<image>|\\frac|\\sqrt|{1}|\\boxed{"
)
PIECES = st.sampled_from([*SIGNS, *WORDS_AND_MARKUP.split("|")])


@given(
    st.one_of(st.text(), st.lists(PIECES).map("".join)), st.one_of(st.text(), st.lists(PIECES).map("".join)), st.text()
)
@settings(deadline=None, max_examples=500)
def test_no_text_makes_the_checks_fail(problem, wording, answer):
    assert fault_of(problem, wording, answer) in (None, *FAULTS)
    assert fault_of(problem, problem, answer) is not None


@given(st.lists(PIECES, max_size=12).map("".join), st.lists(PIECES, max_size=12).map("".join))
@settings(deadline=None, max_examples=300)
def test_an_accepted_wording_finds_a_place_for_every_image(problem, wording):
    num_images = problem.count(IMAGE_MARK)
    if num_images and fault_of(problem, wording, NO_ANSWER) is None:
        messages = to_messages(wording, num_images)
        assert sum(part["type"] == "image" for part in messages[0]["content"]) == num_images


HOSTILE = r"""
( ((1, $ $~x { \frac{ \frac \sqrt ^{ A.~ 1,000 1 1~ 1/ ~1/2 a~ -~ x= x+ x_ x_( 中 三 ' " \ ~ <|a ![ cm/ 5~m~ 9~A sin~
twenty~ half~of~ ratio~of~ three~hundred~and~ AB~is~ find~the~ i~have~ which~not~ answer:~ square~ 二分之
"""


@pytest.mark.parametrize("piece", [*(piece.replace("~", " ") for piece in HOSTILE.split()), "\n", "A.\n"])
def test_hostile_texts_take_no_time_worth_mentioning(piece):
    """A regular expression that backtracks without bound never ends here, and pytest's time limit says so."""
    long = (piece * 100_000)[:100_000]
    assert fault_of("What is x?", f"What {long}", "3") in (checks.TOO_LONG, checks.EMPTY)
    assert fault_of(long, "What is x?", "3") == checks.TOO_LONG
    longest = f"Find x in {piece * checks.MAX_CHARACTERS}"[: checks.MAX_CHARACTERS]
    assert fault_of(longest, f"Find y {longest[:-9]}", "3") is not None
