"""What is read in a model's reply."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_sharevl.prep.wordings.replies import (
    CUT_OFF,
    EMPTY,
    MAX_REPLY_CHARACTERS,
    MAX_WORDINGS,
    NO_WORDINGS,
    REFUSED,
    REPLY_FAULTS,
    Reply,
    verdict_in,
    wordings_in,
)

PROBLEM = "How long is AB?"
WORDS = ["What is the length of AB?", "Give the length of AB."]
QUOTED = json.dumps(WORDS)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"wordings": WORDS}),
        f"  {QUOTED}\n",
        json.dumps({"rewordings": WORDS}),
        json.dumps({"count": 2, "items": WORDS}),
        json.dumps({"1": WORDS[0], "2": WORDS[1]}),
        json.dumps({"wordings": {"1": WORDS[0], "2": WORDS[1]}}),
        json.dumps({"wordings": [{"id": 1, "wording": WORDS[0]}, {"id": 2, "wording": WORDS[1]}]}),
        json.dumps({"wordings": [None, WORDS[0], 3, ["x"], {"a": "b", "c": "d"}, WORDS[1], True]}),
        f'Here you are!\n```json\n{{"wordings": {QUOTED}}}\n```\nAnything else?',
        f"```\n{QUOTED}\n```",
        f'Sure: {{"wordings": {QUOTED}}} I hope it helps.',
        f'Points {{A, B}} and [0, 5] first: {{"wordings": {QUOTED}}}',
        f'{{"wordings": {QUOTED}',
        f'{{"wordings": {QUOTED[:-1]}, "and one that is cut o',
        f'{{"wordings": {QUOTED[:-1]},, ]}}',
        f'<think>Should I say ["no"]? {{"wordings": ["no"]}}</think>{QUOTED}',
        f'no opening tag </think>{{"wordings": {QUOTED}}}',
        f"1. {WORDS[0]}\n2. {WORDS[1]}",
        f"Here:\n\n1) {WORDS[0]}\n\n2) {WORDS[1]}\n\nThese all mean the same.",
        f"**1.** {WORDS[0]}\n**2.** {WORDS[1]}",
        json.dumps([f"1. {WORDS[0]}", f"2) {WORDS[1]}"]),
        json.dumps([f"Variant 1: {WORDS[0]}", f"**Wording 2:** {WORDS[1]}"]),
        json.dumps([f'"{WORDS[0]}"', f"“{WORDS[1]}”"]),
        json.dumps([f"改写1:{WORDS[0]}", f" {WORDS[1]} "]),
    ],
)
def test_forms_that_are_read(text):
    assert wordings_in(Reply(text), PROBLEM) == (WORDS, None)


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (Reply(""), EMPTY),
        (Reply(" \n"), EMPTY),
        (Reply("<think>long thoughts</think> "), EMPTY),
        (Reply(json.dumps(WORDS), "length"), CUT_OFF),
        (Reply("<think>and so on"), CUT_OFF),
        (Reply(json.dumps(WORDS), "content_filter"), REFUSED),
        (Reply("I'm sorry, but I can't help with that."), REFUSED),
        (Reply("抱歉,我无法回答。"), REFUSED),
        (Reply("How about: what is AB?"), NO_WORDINGS),
        (Reply('{"wordings": []}'), NO_WORDINGS),
        (Reply('{"wordings": [1, 2]}'), NO_WORDINGS),
        (Reply("[" * MAX_REPLY_CHARACTERS), NO_WORDINGS),
        (Reply('{"a":' * 10_000), NO_WORDINGS),
        (Reply('"' * MAX_REPLY_CHARACTERS), NO_WORDINGS),
        (Reply('{"wordings": ["' + "\\" * MAX_REPLY_CHARACTERS), NO_WORDINGS),
        (Reply("1. only one item is no list"), NO_WORDINGS),
        (Reply("7"), NO_WORDINGS),
    ],
)
def test_replies_without_wordings(reply, fault):
    assert wordings_in(reply, PROBLEM) == ([], fault)


def test_what_the_question_has_itself_is_not_taken_off():
    assert wordings_in(Reply(json.dumps(["1. Find x."])), "2. What is x?") == (["1. Find x."], None)
    assert wordings_in(Reply(json.dumps(['"a" or "b"?'])), "Which?") == (['"a" or "b"?'], None)
    assert wordings_in(Reply(json.dumps(['"ab"'])), '"ab"?') == (['"ab"'], None)
    assert wordings_in(Reply(json.dumps(["3.5 cm is what?"])), "What?") == (["3.5 cm is what?"], None)


def test_options_on_their_own_lines_stay():
    text = "1. Which is red?\nA. one\nB. two\n2. Which one is red?\nA. one\nB. two"
    assert wordings_in(Reply(text), "Which is red?\nA. one\nB. two")[0] == [
        "Which is red?\nA. one\nB. two",
        "Which one is red?\nA. one\nB. two",
    ]


def test_a_number_out_of_turn_is_part_of_the_text():
    text = "1. Which day is it?\n12. May or 13. May?\n2. What day is it?\n12. May or 13. May?"
    assert wordings_in(Reply(text), "Which?")[0] == [
        "Which day is it?\n12. May or 13. May?",
        "What day is it?\n12. May or 13. May?",
    ]


def test_the_number_of_wordings_is_bounded():
    assert len(wordings_in(Reply(json.dumps(["x?"] * 500)), PROBLEM)[0]) == MAX_WORDINGS


LATEX = r"If $\frac{1}{2}\beta \neq \theta$, $\triangle ABC$, $\angle A$, $\underline{x}$ and $\rho$: find $\text{r}$"


def test_latex_that_was_not_escaped_is_put_right():
    problem = f"{LATEX}.\nA. 1\nB. 2"
    wording = f"Given {LATEX}.\nA. 1\nB. 2"
    escaped_only_lines = wording.replace("\n", "\\n")
    assert wordings_in(Reply(f'{{"wordings": ["{escaped_only_lines}"]}}'), problem)[0] == [wording]
    assert wordings_in(Reply(json.dumps([wording])), problem)[0] == [wording]
    assert wordings_in(Reply(json.dumps([wording.replace("\\", "\\\\")])), problem)[0] == [wording]
    assert wordings_in(Reply(f'["{wording}"]'), problem)[0] == [wording], "line breaks as they are"


def test_line_breaks_that_are_meant_stay():
    wording = "Which is not equal?\nequal\ttext\nA. x"
    assert wordings_in(Reply(json.dumps([wording])), "$\\ne$ or $\\nequals$?")[0] == [wording]
    table = r"$\begin{matrix} 1 \\quad 2 \end{matrix}$ \quad"
    assert wordings_in(Reply(json.dumps([table])), table)[0] == [table]


@given(
    st.text(max_size=300)
    | st.lists(st.sampled_from(['{"wordings": [', '"', "\\", "[", "]", "}", "1. ", "\n", "a", "```"]), max_size=40).map(
        "".join
    )
)
def test_any_reply_is_read(text):
    wordings, fault = wordings_in(Reply(text), PROBLEM)
    assert (fault is None) == bool(wordings)
    assert fault is None or fault in REPLY_FAULTS
    assert all(wording and wording == wording.strip() for wording in wordings)
    assert verdict_in(Reply(text)) in (True, False, None)


_TEXTS = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters="\"“”「」`'*\\(0123456789"), min_size=1
)


@given(st.lists(_TEXTS.map(lambda text: f"x{text}"), min_size=1, max_size=5))
def test_wordings_come_back_as_they_were_sent(wordings):
    assert wordings_in(Reply(json.dumps({"wordings": wordings})), PROBLEM) == (wordings, None)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{"same": true}', True),
        ('{"same": false}', False),
        ('{"same": "no"}', False),
        ('{"verdict": "Yes"}', True),
        ('```json\n{"same": true}\n```', True),
        ('They differ: {"same": false} because yes', False),
        ("Yes.", True),
        ("**No**, they ask for different lengths.", False),
        ("<think>yes? no?</think>no", False),
        ('{"same": true, "reason": "no difference"}', True),
        ("Yes and no", None),
        ("perhaps", None),
        ("", None),
        ("yesterday", None),
        ('{"same": null}', None),
        ('{"a": "yes", "b": "no"}', None),
        ("[true]", True),
        ('{"same": [[[[', None),
    ],
)
def test_verdicts(text, verdict):
    assert verdict_in(Reply(text)) is verdict


def test_a_verdict_that_was_cut_off_is_none():
    assert verdict_in(Reply("yes", "length")) is None
