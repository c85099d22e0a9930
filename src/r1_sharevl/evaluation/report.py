"""The page of one evaluation: `report.md` with its pictures."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..markdown import block, cell, code, picture, table
from ..plots import Interval, plot_bars, plot_lengths
from .markdown import IMAGE_WIDTH, percent, percent_interval
from .predictions import PREDICTIONS_FILE, REPORT_FILE, SCORES_FILE
from .questions import Question, QuestionSet, pick_examples, plain_problem
from .scoring import Prediction
from .statistics import Estimate
from .summary import Scores, score_questions

EXAMPLES = 6
MISTAKES = 4
_SAVED_PIXELS = 640


def write_report(
    folder: Path,
    info: dict[str, Any],
    settings: dict[str, Any],
    scores: Scores,
    questions: QuestionSet,
    predictions: Sequence[Prediction],
) -> Path:
    """Write `report.md`, `plots/*.png` and `samples/*.png` into an eval folder.

    Args:
        folder: The eval folder.
        info: Model, data, split and versions, as in `settings.json`.
        settings: What determined the predictions, as in `settings.json`.
        scores: The scores.
        questions: The questions with their images.
        predictions: All predictions.

    Returns:
        The page's path.
    """
    title = f"{Path(info['model']).name} on {Path(info['data']).name} ({info['split']})"
    parts = [f"# {title}", _lead(info, settings, scores), table(["score", "value [95 % interval]"], score_rows(scores))]
    parts += _group_parts(folder, scores)
    parts += [
        "## Responses",
        table(["verdict", "responses", "share"], _why_rows(scores)),
        picture(_lengths(folder, settings, predictions), "Histogram of the responses' lengths"),
    ]
    parts += _sample_parts(folder, scores, questions, predictions)
    parts += ["## Settings", table(["setting", "value"], _setting_rows(info, settings), numbers=False), _files_note()]
    page = folder / REPORT_FILE
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page


def score_rows(scores: Scores) -> list[tuple[str, str]]:
    """The lines of a table of scores: name and value, for terminals and pages.

    Args:
        scores: The scores.

    Returns:
        One (name, value) per line.
    """
    k = scores.samples
    rows = [(f"avg@{k}" if k > 1 else "accuracy", percent_interval(scores.average))]
    if k > 1:
        rows += [
            (f"pass@{k}", percent_interval(scores.pass_at_k[k])),
            (f"majority@{k}", percent_interval(scores.majority)),
        ]
    rows += [
        ("answer found", percent(scores.answer_found)),
        ("cut off", percent(scores.cut_off)),
        ("mean tokens", f"{scores.mean_tokens:.1f}"),
    ]
    if scores.unscored:
        rows.append(("could not be scored", percent(scores.unscored)))
    return rows


def group_rows(scores: Scores, column: str) -> list[tuple[str, str, str]]:
    """The lines of a table of one column's groups, for terminals and pages.

    Args:
        scores: The scores.
        column: One of `scores.groups`.

    Returns:
        One (value, number of questions, share of right responses) per line.
    """
    groups = scores.groups[column]
    return [(value, f"{group.questions:,}", percent_interval(group.average)) for value, group in groups.items()]


def sampling_in_words(scores: Scores, settings: dict[str, Any]) -> str:
    """Say in a few words what was asked how often, and how responses were drawn."""
    each = "1 response" if scores.samples == 1 else f"{scores.samples} responses"
    words = [f"{scores.questions:,} questions", f"{each} each"]
    if "temperature" in settings:
        words.append("greedy" if settings["temperature"] == 0 else f"temperature {settings['temperature']}")
    if "max_new_tokens" in settings:
        words.append(f"at most {settings['max_new_tokens']:,} tokens")
    return ", ".join(words)


def interval(estimate: Estimate) -> Interval:
    """An estimate in the form that figures take."""
    return (estimate.value, estimate.low, estimate.high)


def example_pictures(folder: Path, question: Question) -> list[Path]:
    """The pictures of a question that an eval folder's page shows.

    Args:
        folder: The eval folder.
        question: The question.

    Returns:
        Their paths, empty where the page does not show the question.
    """
    return sorted((folder / "samples").glob(f"{_file_stem(question)}-*.png"))


def _lead(info: dict[str, Any], settings: dict[str, Any], scores: Scores) -> str:
    k = scores.samples
    lead = f"Model `{info['model']}`, data `{info['data']}` ({info['split']}): {sampling_in_words(scores, settings)}."
    if k == 1:
        return lead
    return (
        f"{lead} avg@{k} is the mean share of right responses, pass@{k} the share of questions with at least one right "
        f"response, majority@{k} the share of questions whose most frequent answer is right."
    )


def _group_parts(folder: Path, scores: Scores) -> list[str]:
    parts = []
    for number, (column, groups) in enumerate(scores.groups.items()):
        if len(groups) < 2:
            continue
        label = f"avg@{scores.samples}" if scores.samples > 1 else "accuracy"
        everything = {"all questions": interval(scores.average)}
        bars = everything | {value: interval(group.average) for value, group in groups.items()}
        name = f"plots/group_{number}.png"
        plot_bars({label: bars}, folder / name, title=f"{label} by {column}")
        rows = [(cell(value), str(group.questions), percent_interval(group.average)) for value, group in groups.items()]
        parts += [
            f"## By {cell(column)}",
            picture(name, f"{label} by {column}"),
            table([cell(column), "questions", f"{label} [95 % interval]"], rows),
        ]
    return parts


def _why_rows(scores: Scores) -> list[tuple[str, str, str]]:
    total = sum(scores.why.values())
    return [(reason, f"{count:,}", percent(count / total)) for reason, count in scores.why.items() if count]


def _lengths(folder: Path, settings: dict[str, Any], predictions: Sequence[Prediction]) -> str:
    name = "plots/lengths.png"
    lengths = [prediction.tokens for prediction in predictions]
    plot_lengths({"responses": lengths}, settings.get("max_new_tokens", max(lengths)), folder / name)
    return name


def _sample_parts(folder: Path, scores: Scores, questions: QuestionSet, predictions: Sequence[Prediction]) -> list[str]:
    by_id: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        by_id.setdefault(prediction.id, []).append(prediction)
    examples = pick_examples(questions.questions, EXAMPLES)
    parts = [
        "## Sample rows",
        "Chosen by the question alone, so that the pages of several models on the same data show the same ones.",
    ]
    parts += [_sample(folder, questions, row, by_id, only_wrong=False) for row in examples]
    rights = [score.right for score in score_questions(questions.questions, predictions)]
    worst = sorted((row for row in range(len(rights)) if row not in examples), key=lambda row: (rights[row], row))
    worst = [row for row in worst if rights[row] < scores.samples][:MISTAKES]
    if worst:
        parts += ["## Mistakes", "Questions with the fewest right responses, each with a wrong one."]
        parts += [_sample(folder, questions, row, by_id, only_wrong=True) for row in worst]
    return parts


def _sample(
    folder: Path, questions: QuestionSet, row: int, by_id: dict[str, list[Prediction]], only_wrong: bool
) -> str:
    question = questions.questions[row]
    own = sorted(by_id[question.id], key=lambda prediction: prediction.sample)
    shown = next((prediction for prediction in own if not (only_wrong and prediction.correct)), own[0])
    names = _save(folder, questions, row)
    pictures = [picture(f"samples/{name}", "image of the question", IMAGE_WIDTH) for name in names]
    right = sum(bool(prediction.correct) for prediction in own)
    found = "nothing" if shown.extracted is None else code(shown.extracted)
    verdict = f"**{shown.why}**: found {found}, right is {code(question.answer)}"
    others = f" ({right} of {len(own)} responses right)" if len(own) > 1 else ""
    pieces = [f"### {cell(question.id)}", " ".join(pictures), block(plain_problem(question.problem))]
    return "\n\n".join(piece for piece in [*pieces, f"{verdict}{others}", block(shown.response)] if piece)


def _save(folder: Path, questions: QuestionSet, row: int) -> list[str]:
    (folder / "samples").mkdir(exist_ok=True)
    names = []
    for number, image in enumerate(questions.images(row)):
        name = f"{_file_stem(questions.questions[row])}-{number}.png"
        image.thumbnail((_SAVED_PIXELS, _SAVED_PIXELS))
        image.save(folder / "samples" / name)
        names.append(name)
    return names


def _file_stem(question: Question) -> str:
    # An id may hold anything, slashes included.
    return hashlib.sha256(question.id.encode()).hexdigest()[:12]


def _setting_rows(info: dict[str, Any], settings: dict[str, Any]) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {number}" for name, number in info["versions"].items())
    return [(key, cell(str(value), 400)) for key, value in {**settings, "versions": versions}.items()]


def _files_note() -> str:
    return (
        f"Every response is in [{PREDICTIONS_FILE}]({PREDICTIONS_FILE}), the scores in [{SCORES_FILE}]({SCORES_FILE})."
    )
