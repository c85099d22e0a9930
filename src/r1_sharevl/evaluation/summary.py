"""From predictions to scores: what `scores.json` holds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .questions import Question
from .scoring import UNSCORED, WHY, Prediction
from .statistics import Estimate, majority_verdict, mean_interval, pass_at_k

SCHEMA = 1


@dataclass(frozen=True)
class QuestionScore:
    """One question's responses, counted.

    Attributes:
        right: How many of its responses are right.
        samples: How many responses it has.
        majority: Whether the answer most of them agree on is right.
    """

    right: int
    samples: int
    majority: bool

    @property
    def average(self) -> float:
        """Share of right responses."""
        return self.right / self.samples


@dataclass(frozen=True)
class GroupScore:
    """The score of a group of questions.

    Attributes:
        questions: How many questions the group has.
        average: Their share of right responses.
    """

    questions: int
    average: Estimate


@dataclass(frozen=True)
class Scores:
    """The scores of one evaluation; every share is between 0 and 1, every interval covers 95 %.

    Attributes:
        questions: How many questions were asked.
        samples: How many responses each got (the `k` of avg@k).
        average: avg@k, the mean over the questions of their share of right responses.
        pass_at_k: For 1, 2, 4 … and `samples`: the chance that at least one of so many responses is right.
        majority: Share of questions whose most frequent answer is right.
        answer_found: Share of responses that have an answer.
        cut_off: Share of responses that reached the token limit.
        unscored: Share of responses whose answer could not be judged; they count as wrong.
        mean_tokens: Mean length of a response, in tokens.
        why: How many responses are right, wrong, without answer, …
        groups: Per grouping column and value, that group's score.
    """

    questions: int
    samples: int
    average: Estimate
    pass_at_k: dict[int, Estimate]
    majority: Estimate
    answer_found: float
    cut_off: float
    unscored: float
    mean_tokens: float
    why: dict[str, int]
    groups: dict[str, dict[str, GroupScore]]

    def to_dict(self) -> dict[str, Any]:
        """The scores as a JSON object (the keys of `pass_at_k` become strings)."""
        return asdict(self) | {"pass_at_k": {str(k): asdict(value) for k, value in self.pass_at_k.items()}}


def score_questions(questions: Sequence[Question], predictions: Sequence[Prediction]) -> list[QuestionScore]:
    """Count each question's responses.

    Args:
        questions: The questions.
        predictions: All their predictions, in any order.

    Returns:
        One score per question, in the order of `questions`.

    Raises:
        ValueError: A question has no prediction.
    """
    by_id: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        by_id.setdefault(prediction.id, []).append(prediction)
    scored = []
    for question in questions:
        if question.id not in by_id:
            raise ValueError(f"question {question.id!r} has no prediction")
        own = sorted(by_id[question.id], key=lambda prediction: prediction.sample)
        correct = [bool(prediction.correct) for prediction in own]
        majority = majority_verdict([prediction.extracted for prediction in own], correct)
        scored.append(QuestionScore(sum(correct), len(own), majority))
    return scored


def summarise(questions: Sequence[Question], predictions: Sequence[Prediction], seed: int = 0) -> Scores:
    """Compute the scores of an evaluation.

    Args:
        questions: The questions.
        predictions: All their predictions, equally many per question, in any order.
        seed: Seed of the bootstrap intervals.

    Returns:
        The scores.
    """
    scored = score_questions(questions, predictions)
    samples = scored[0].samples
    averages = [score.average for score in scored]
    why = Counter(prediction.why for prediction in predictions)
    total = len(predictions)
    return Scores(
        questions=len(questions),
        samples=samples,
        average=mean_interval(averages, seed),
        pass_at_k={
            k: mean_interval([pass_at_k(score.right, samples, k) for score in scored], seed) for k in _tries(samples)
        },
        majority=mean_interval([float(score.majority) for score in scored], seed),
        answer_found=sum(prediction.extracted is not None for prediction in predictions) / total,
        cut_off=sum(prediction.cut_off for prediction in predictions) / total,
        unscored=why[UNSCORED] / total,
        mean_tokens=sum(prediction.tokens for prediction in predictions) / total,
        why={reason: why[reason] for reason in WHY},
        groups={column: _groups(column, questions, averages, seed) for column in questions[0].groups},
    )


def _tries(samples: int) -> list[int]:
    powers = [2**exponent for exponent in range(samples.bit_length()) if 2**exponent < samples]
    return [*powers, samples]


def _groups(column: str, questions: Sequence[Question], averages: Sequence[float], seed: int) -> dict[str, GroupScore]:
    members: dict[str, list[float]] = {}
    for question, average in zip(questions, averages, strict=True):
        members.setdefault(question.groups[column], []).append(average)
    return {value: GroupScore(len(members[value]), mean_interval(members[value], seed)) for value in sorted(members)}
