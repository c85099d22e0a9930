"""`compare`: two evaluations of the same questions, question by question."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..plots import plot_training
from .comparison_report import COMPARISON_FILE, Comparison, Difference, Evaluation, write_comparison_page
from .predictions import REPORT_FILE, read_eval_folder, write_json
from .questions import Question
from .scoring import Prediction
from .statistics import mcnemar_exact, paired_difference, pass_at_k
from .summary import score_questions, summarise

SCHEMA = 1


def compare(
    out_a: str | Path,
    out_b: str | Path,
    out: str | Path,
    *,
    names: tuple[str, str] | None = None,
    run: str | Path | None = None,
) -> Comparison:
    """Compare two finished evaluations of the same questions.

    Args:
        out_a: First eval folder (before).
        out_b: Second eval folder (after); may have been sampled with other settings, which the page then lists.
        out: Folder for `report.md`, `comparison.json` and `plots/`; made if missing.
        names: What to call the models; by default the folders' names.
        run: A training run's folder, whose curves are put on the page.

    Returns:
        The comparison.

    Raises:
        UserError: A folder is no finished evaluation, the questions differ, or `run` has no curves.
    """
    folder = Path(out)
    folder_a, folder_b = Path(out_a), Path(out_b)
    name_a, name_b = names or (folder_a.resolve().name, folder_b.resolve().name)
    noted_a, questions, predictions_a = read_eval_folder(folder_a)
    noted_b, questions_b, predictions_b = read_eval_folder(folder_b)
    if folder.resolve() in (folder_a.resolve(), folder_b.resolve()):
        raise UserError(f"{folder}: holds one of the evaluations to compare: give another folder for the comparison")
    if (folder / REPORT_FILE).exists() and not (folder / COMPARISON_FILE).exists():
        raise UserError(f"{folder}: has a {REPORT_FILE} that is no comparison's: give another folder")
    if noted_a["settings"]["data_fingerprint"] != noted_b["settings"]["data_fingerprint"]:
        raise UserError(
            f"{folder_a} and {folder_b}: were made on different questions ({len(questions)} and {len(questions_b)}): "
            "evaluate both models on the same data, split and limit"
        )
    seed = noted_a["settings"]["seed"]
    a = _evaluation(name_a, folder_a, noted_a, questions, predictions_a, seed)
    b = _evaluation(name_b, folder_b, noted_b, questions, predictions_b, seed)
    pairs = list(zip(questions, a.per_question, b.per_question, strict=True))
    gained = [question for question, one, two in pairs if two.majority and not one.majority]
    lost = [question for question, one, two in pairs if one.majority and not two.majority]
    result = Comparison(
        names=(name_a, name_b),
        scores=(a.scores, b.scores),
        differences=_differences(a, b, seed),
        gained=[question.id for question in gained],
        lost=[question.id for question in lost],
        p_value=mcnemar_exact(len(gained), len(lost)),
        out=folder,
        report=folder / REPORT_FILE,
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / COMPARISON_FILE, _to_dict(result, a, b))
    curves = _training_curves(Path(run), folder) if run is not None else []
    write_comparison_page(result, a, b, questions, (gained, lost), curves)
    return result


def _evaluation(
    name: str,
    folder: Path,
    noted: dict[str, Any],
    questions: Sequence[Question],
    predictions: Sequence[Prediction],
    seed: int,
) -> Evaluation:
    by_id: dict[str, list[Prediction]] = {}
    for prediction in sorted(predictions, key=lambda prediction: prediction.sample):
        by_id.setdefault(prediction.id, []).append(prediction)
    return Evaluation(
        name, folder, noted, by_id, summarise(questions, predictions, seed), score_questions(questions, predictions)
    )


def _differences(a: Evaluation, b: Evaluation, seed: int) -> list[Difference]:
    ks = (a.scores.samples, b.scores.samples)
    name = "accuracy" if ks == (1, 1) else f"avg@{ks[0]}" if ks[0] == ks[1] else f"avg@{ks[0]} and avg@{ks[1]}"
    averages = [[score.average for score in side.per_question] for side in (a, b)]
    rows = [Difference(name, a.scores.average, b.scores.average, paired_difference(averages[0], averages[1], seed))]
    k = min(ks)
    if k > 1 and k in a.scores.pass_at_k and k in b.scores.pass_at_k:
        passes = [[pass_at_k(s.right, s.samples, k) for s in side.per_question] for side in (a, b)]
        rows.append(
            Difference(
                f"pass@{k}",
                a.scores.pass_at_k[k],
                b.scores.pass_at_k[k],
                paired_difference(passes[0], passes[1], seed),
            )
        )
    if k > 1 and ks[0] == ks[1]:
        verdicts = [[float(score.majority) for score in side.per_question] for side in (a, b)]
        rows.append(
            Difference(
                f"majority@{k}",
                a.scores.majority,
                b.scores.majority,
                paired_difference(verdicts[0], verdicts[1], seed),
            )
        )
    return rows


def _to_dict(result: Comparison, a: Evaluation, b: Evaluation) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "models": [
            {"name": side.name, "model": side.noted["info"]["model"], "scores": side.scores.to_dict()}
            for side in (a, b)
        ],
        "differences": [asdict(difference) for difference in result.differences],
        "gained": result.gained,
        "lost": result.lost,
        "mcnemar_p": result.p_value,
    }


def _training_curves(run: Path, folder: Path) -> list[Path]:
    """Copy a run's curves, or draw them from its log where it has none."""
    if not run.is_dir():
        raise UserError(f"{run}: no such run folder")
    target = folder / "plots" / "training"
    shutil.rmtree(target, ignore_errors=True)
    pictures = sorted((run / "plots").glob("*.png"))
    if pictures:
        target.mkdir(parents=True)
        return [Path(shutil.copy(path, target / path.name)) for path in pictures]
    states = [run / "trainer_state.json", *run.glob("checkpoint-*/trainer_state.json")]
    states = sorted((path for path in states if path.is_file()), key=lambda path: path.stat().st_mtime)
    if not states:
        raise UserError(f"{run}: not a training run, it has neither plots/*.png nor trainer_state.json")
    try:
        history = json.loads(states[-1].read_text(encoding="utf-8"))["log_history"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{states[-1]}: not a trainer's state ({error})") from error
    return plot_training(history, target)
