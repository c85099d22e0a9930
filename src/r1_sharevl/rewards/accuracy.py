"""The accuracy reward: is the boxed answer right?"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .comparison import MAX_CHARACTERS, TIME_LIMIT_S, can_be_scored, same, same_plain
from .completions import Completion, completion_text
from .extraction import extract_answer
from .options import parse_options, same_choice
from .sandbox import MAX_WORKERS


class _NeedsMathematicsError(Exception):
    """The plain comparison cannot decide."""


def accuracy_reward(
    completions: Sequence[Completion],
    answer: Sequence[Any],
    problem: Sequence[str] | None = None,
    **kwargs: Any,
) -> list[float | None]:
    r"""Reward responses whose boxed answer is right.

    Args:
        completions: Responses, as strings or as TRL's lists of messages. Length `B`.
        answer: The right answers: text, or anything whose `str` is the answer. Length `B`.
        problem: The questions, for the options written in them. Length `B`.
        **kwargs: The other columns and callbacks that TRL passes; not used.

    Returns:
        For each response 1.0 if its answer is right, 0.0 if it is wrong or missing (no complete `\boxed{...}` after
        the think block), `None` if the gold answer cannot be scored; see `is_correct`. Length `B`.
    """
    problems = [None] * len(completions) if problem is None else problem
    texts = [completion_text(completion) for completion in completions]
    cases = [(text, _gold_text(gold), question) for text, gold, question in zip(texts, answer, problems, strict=True)]
    verdicts: list[bool | None] = []
    difficult: list[int] = []
    for position, case in enumerate(cases):
        try:
            verdicts.append(_judge(*case, time_limit=None))
        except _NeedsMathematicsError:
            verdicts.append(None)
            difficult.append(position)
    if difficult:
        # The threads only wait: for helper processes that work side by side.
        with ThreadPoolExecutor(MAX_WORKERS) as executor:
            found = executor.map(lambda position: _judge(*cases[position], time_limit=TIME_LIMIT_S), difficult)
            for position, verdict in zip(difficult, found, strict=True):
                verdicts[position] = verdict
    return [None if verdict is None else float(verdict) for verdict in verdicts]


def is_correct(
    response: str, answer: str, problem: str | None = None, *, time_limit: float = TIME_LIMIT_S
) -> bool | None:
    r"""Judge one response by its last `\boxed{...}` after the think block.

    Plain answers (text, numbers with or without units, lists of them, options of a multiple choice question) are
    compared as `same_plain` and `same_choice` say; everything else by math-verify, which runs in a helper process that
    is killed at the time limit. So it never hangs and never raises, whatever the response is, in any thread.

    Args:
        response: The whole response.
        answer: The right answer: a text, a number, a LaTeX expression, an option's letter or text.
        problem: The question; options written in it let a letter stand for its text and the other way round.
        time_limit: Seconds for math-verify.

    Returns:
        `True` or `False`; a missing, overlong (1,000 characters) or too expensive answer is `False`. `None` if the
        gold answer itself cannot be scored: it is empty, overlong, has unbalanced braces, or math-verify cannot read
        it in time.

    Raises:
        RuntimeError: math-verify cannot be started: a broken installation.
    """
    return _judge(response, answer, problem, time_limit=time_limit)


def _judge(response: str, gold: str, problem: str | None, *, time_limit: float | None) -> bool | None:
    """Judge a response; without a time limit, raise `_NeedsMathematicsError` where math-verify is needed."""
    if not can_be_scored(gold):
        return None
    answer = extract_answer(response)
    if answer is None or len(answer) > MAX_CHARACTERS:
        return False

    def equal(gold: str, answer: str) -> bool | None:
        if time_limit is not None:
            return same(gold, answer, time_limit)
        verdict = same_plain(gold, answer)
        if verdict is None:
            raise _NeedsMathematicsError
        return verdict

    return same_choice(gold, answer, parse_options(problem) if problem else {}, equal)


def _gold_text(answer: Any) -> str:
    return "" if answer is None else str(answer)
