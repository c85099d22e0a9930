"""The page of a comparison: `report.md` with its pictures."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..markdown import block, cell, code, picture, table
from ..plots import Interval, plot_bars, plot_lengths
from .markdown import IMAGE_WIDTH, percent, percent_interval, points_interval
from .predictions import REPORT_FILE
from .questions import Question, pick_examples, plain_problem
from .report import EXAMPLES, example_pictures, interval, sampling_in_words
from .scoring import Prediction
from .statistics import Estimate
from .summary import QuestionScore, Scores

COMPARISON_FILE = "comparison.json"
_LISTED = 20
_MODEL_SETTINGS = ("model_fingerprint",)


@dataclass(frozen=True)
class Difference:
    """One score of both models.

    Attributes:
        name: The score's name.
        a: The first model's.
        b: The second model's.
        difference: Mean over the questions of (second − first), paired.
    """

    name: str
    a: Estimate
    b: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Comparison:
    """Two models on the same questions.

    Attributes:
        names: The models' names.
        scores: Their scores.
        differences: The scores that both have, with the paired difference (second − first).
        gained: Ids of the questions whose majority answer only the second model has right.
        lost: Ids of those that only the first model has right.
        p_value: Exact McNemar test on `gained` and `lost`.
        out: The folder written.
        report: The page in it.
    """

    names: tuple[str, str]
    scores: tuple[Scores, Scores]
    differences: list[Difference]
    gained: list[str]
    lost: list[str]
    p_value: float
    out: Path
    report: Path


@dataclass(frozen=True)
class Evaluation:
    """An eval folder, read.

    Attributes:
        name: What to call its model.
        folder: The folder.
        noted: The content of its `settings.json`.
        predictions: Per question id its predictions, in the order of sampling.
        scores: The scores.
        per_question: One score per question.
    """

    name: str
    folder: Path
    noted: dict[str, Any]
    predictions: dict[str, list[Prediction]]
    scores: Scores
    per_question: list[QuestionScore]


def write_comparison_page(
    result: Comparison,
    a: Evaluation,
    b: Evaluation,
    questions: Sequence[Question],
    changed: tuple[list[Question], list[Question]],
    curves: Sequence[Path],
) -> None:
    """Write `report.md` and `plots/*.png` of a comparison.

    Args:
        result: The comparison; its `out` is the folder written to.
        a: The first evaluation.
        b: The second evaluation.
        questions: The questions of both.
        changed: The questions gained and the questions lost.
        curves: Pictures of the training run, inside the folder.
    """
    folder = result.out
    info = a.noted["info"]
    bars: dict[str, dict[str, Interval]] = {
        a.name: {row.name: interval(row.a) for row in result.differences},
        b.name: {row.name: interval(row.b) for row in result.differences},
    }
    plot_bars(bars, folder / "plots" / "scores.png", title=f"{a.name} and {b.name}, {len(questions)} questions")
    parts = [
        f"# {b.name} against {a.name} on {Path(info['data']).name} ({info['split']})",
        _lead(result, questions),
        picture("plots/scores.png", "Scores of both models with 95 % intervals"),
        table(
            ["score", a.name, b.name, "difference"],
            comparison_rows(result),
        ),
        f"{sampling_in_words(a.scores, a.noted['settings'])}. In brackets: 95 % intervals; differences of shares are "
        "in percentage points. The interval of a difference is taken over the questions in pairs (bootstrap), so it is "
        "narrower than the two models' own intervals suggest.",
    ]
    parts += _settings_note(a, b)
    parts += _group_parts(folder, a, b)
    if curves:
        parts.append("## Training")
        parts += [picture(os.path.relpath(path, folder), path.stem.replace("_", " ")) for path in curves]
    plot_lengths(
        {side.name: [item.tokens for own in side.predictions.values() for item in own] for side in (a, b)},
        max(side.noted["settings"].get("max_new_tokens", 0) for side in (a, b)),
        folder / "plots" / "lengths.png",
    )
    parts += ["## Length of responses", picture("plots/lengths.png", "Histogram of the responses' lengths")]
    parts += _sample_parts(folder, a, b, questions)
    for title, listed in (("Gained", changed[0]), ("Lost", changed[1])):
        parts += _changed_parts(title, listed, a, b)
    links = [f"[{side.name}]({os.path.relpath(side.folder / REPORT_FILE, folder)})" for side in (a, b)]
    numbers = f"[{COMPARISON_FILE}]({COMPARISON_FILE})"
    parts.append(f"The pages of the single evaluations: {' and '.join(links)}. All numbers: {numbers}.")
    result.report.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def comparison_rows(result: Comparison) -> list[tuple[str, str, str, str]]:
    """The lines of a table of both models' scores, for terminals and pages.

    Args:
        result: The comparison.

    Returns:
        One (name, first model's, second model's, difference in percentage points) per line.
    """
    rows = [
        (row.name, percent_interval(row.a), percent_interval(row.b), points_interval(row.difference))
        for row in result.differences
    ]
    a, b = result.scores
    for name, one, two in (
        ("answer found", a.answer_found, b.answer_found),
        ("cut off", a.cut_off, b.cut_off),
    ):
        rows.append((name, percent(one), percent(two), f"{100 * (two - one):+.1f}"))
    length = f"{b.mean_tokens - a.mean_tokens:+.1f}"
    return [*rows, ("mean tokens", f"{a.mean_tokens:.1f}", f"{b.mean_tokens:.1f}", length)]


def _lead(result: Comparison, questions: Sequence[Question]) -> str:
    main = result.differences[0]
    sure = main.difference.low > 0 or main.difference.high < 0
    finding = (
        f"**{main.name}: {percent(main.a.value)} → {percent(main.b.value)}, a difference of "
        f"{points_interval(main.difference)} points**"
        + ("." if sure else ", which may be chance: the interval includes 0.")
    )
    return (
        f"{finding}\n\nOf {len(questions):,} questions, {result.names[1]} gained {len(result.gained)} and lost "
        f"{len(result.lost)} by their most frequent answer (exact McNemar test: p = {result.p_value:.2g})."
    )


def _settings_note(a: Evaluation, b: Evaluation) -> list[str]:
    one, two = a.noted["settings"], b.noted["settings"]
    keys = [key for key in one | two if key not in _MODEL_SETTINGS and one.get(key) != two.get(key)]
    if not keys:
        return []
    rows = [(key, cell(str(one.get(key))), cell(str(two.get(key)))) for key in keys]
    return [
        "**The evaluations were made with different settings**, so the difference is not the models' alone:",
        table(["setting", a.name, b.name], rows, numbers=False),
    ]


def _group_parts(folder: Path, a: Evaluation, b: Evaluation) -> list[str]:
    parts = []
    for number, (column, groups) in enumerate(a.scores.groups.items()):
        others = b.scores.groups[column]
        if len(groups) < 2:
            continue
        name = f"plots/group_{number}.png"
        bars = {
            side.name: {value: interval(group.average) for value, group in side.scores.groups[column].items()}
            for side in (a, b)
        }
        plot_bars(bars, folder / name, title=f"Mean share of right responses by {column}")
        rows = [
            (
                cell(value),
                str(group.questions),
                percent_interval(group.average),
                percent_interval(others[value].average),
                f"{100 * (others[value].average.value - group.average.value):+.1f}",
            )
            for value, group in groups.items()
        ]
        head = [cell(column), "questions", a.name, b.name, "difference (points)"]
        parts += [f"## By {cell(column)}", picture(name, f"Scores by {column}"), table(head, rows)]
    return parts


def _sample_parts(folder: Path, a: Evaluation, b: Evaluation, questions: Sequence[Question]) -> list[str]:
    parts = ["## Sample rows", "Chosen by the question alone; the first response of each model."]
    for position in pick_examples(questions, EXAMPLES):
        question = questions[position]
        parts.append(f"### {cell(question.id)}")
        paths = example_pictures(a.folder, question)
        if paths:
            parts.append(
                " ".join(picture(os.path.relpath(path, folder), "image of the question", IMAGE_WIDTH) for path in paths)
            )
        parts += [block(plain_problem(question.problem)), f"Right answer: {code(question.answer)}"]
        for side in (a, b):
            own = side.predictions[question.id]
            right = sum(bool(prediction.correct) for prediction in own)
            others = f" ({right} of {len(own)} responses right)" if len(own) > 1 else ""
            parts += [f"{side.name}: **{own[0].why}**{others}", block(own[0].response)]
    return parts


def _changed_parts(title: str, listed: Sequence[Question], a: Evaluation, b: Evaluation) -> list[str]:
    meaning = {"Gained": f"Only {b.name} has these right", "Lost": f"Only {a.name} had these right"}[title]
    if not listed:
        return [f"## {title} (0)", "None."]
    shown = listed[:_LISTED]
    rest = f"; the first {len(shown)} of {len(listed)}, all in {COMPARISON_FILE}" if len(listed) > len(shown) else ""
    rows = [
        (
            cell(question.id),
            cell(plain_problem(question.problem)),
            cell(question.answer, 40),
            _found(a.predictions[question.id]),
            _found(b.predictions[question.id]),
        )
        for question in shown
    ]
    head = ["question", "problem", "right answer", f"{a.name}: right, answers", f"{b.name}: right, answers"]
    return [
        f"## {title} ({len(listed)})",
        f"{meaning}, by the most frequent answer{rest}.",
        table(head, rows, numbers=False),
    ]


def _found(predictions: Sequence[Prediction]) -> str:
    right = sum(bool(prediction.correct) for prediction in predictions)
    answers = ", ".join(prediction.extracted or "–" for prediction in predictions)
    return f"{right}/{len(predictions)}: {cell(answers, 60)}"
