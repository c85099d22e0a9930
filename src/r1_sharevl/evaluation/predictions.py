"""The growing file of predictions: appended batch by batch, so that a killed evaluation continues where it was."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from .questions import Question
from .scoring import Prediction

SETTINGS_FILE = "settings.json"
QUESTIONS_FILE = "questions.jsonl"
PREDICTIONS_FILE = "predictions.jsonl"
SCORES_FILE = "scores.json"
REPORT_FILE = "report.md"
PICTURE_FOLDERS = ("plots", "samples")
_KIND = "r1sharevl-eval"
_NAMES = {
    "data_fingerprint": "the data",
    "model_fingerprint": "the model's weights",
    "instruction": "the instruction",
}


class PredictionFile:
    """`predictions.jsonl` of one evaluation, open for appending; use it as a context manager.

    Attributes:
        kept: The predictions that were there already, in order.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], info: dict[str, Any], overwrite: bool = False) -> None:
        """Open the file and check that what it holds was made with the same settings.

        Args:
            folder: The eval folder; made if missing.
            settings: What determines the predictions (JSON values); must be equal to that of the predictions there.
            info: What else is worth noting (versions, paths); may differ.
            overwrite: Throw away what is there.

        Raises:
            UserError: The folder holds something else, or predictions made with other settings, or another process is
                writing to it.
        """
        _check_folder(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / PREDICTIONS_FILE).open("a+b")
        except OSError as error:
            raise UserError(f"{folder}: cannot be written to ({error.strerror}): give another --out") from error
        try:
            _lock(self._file, folder)
            if overwrite:
                _clear(folder)
                self._file.truncate(0)
            elif (folder / SETTINGS_FILE).exists():
                _check_settings(folder, settings)
            if not (folder / SETTINGS_FILE).exists():
                write_json(folder / SETTINGS_FILE, {"kind": _KIND, "settings": settings, "info": info})
            self.kept = self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "PredictionFile":
        """Return the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def append(self, predictions: Iterable[Prediction]) -> None:
        """Write predictions and make sure that they are on the disk."""
        self._file.write(b"".join(_line(prediction.to_dict()) for prediction in predictions))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> list[Prediction]:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            # The last line was being written when the process died.
            self._file.truncate(whole)
        return parse_predictions(content[:whole], Path(self._file.name))


def parse_predictions(content: bytes, path: Path) -> list[Prediction]:
    """Parse the whole lines of a predictions file.

    Args:
        content: The lines.
        path: Where they are from, for messages.

    Returns:
        One prediction per line.

    Raises:
        UserError: A line is not a prediction.
    """
    predictions = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            predictions.append(Prediction(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path}, line {number}: not a prediction ({error}): start anew with --overwrite"
            ) from error
    return predictions


def write_questions(folder: Path, questions: Sequence[Question]) -> None:
    """Write the questions' texts and answers next to their predictions, so that the folder explains itself."""
    lines = (
        _line({"id": item.id, "problem": item.problem, "answer": item.answer, "groups": item.groups})
        for item in questions
    )
    _replace(folder / QUESTIONS_FILE, b"".join(lines))


def read_eval_folder(folder: Path) -> tuple[dict[str, Any], list[Question], list[Prediction]]:
    """Read a finished evaluation.

    Args:
        folder: The eval folder.

    Returns:
        The content of `settings.json`, the questions, and the predictions.

    Raises:
        UserError: It is not an eval folder, or the evaluation is not finished.
    """
    for name in (SETTINGS_FILE, QUESTIONS_FILE, PREDICTIONS_FILE):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: not a finished evaluation, {name} is missing: run r1sharevl eval first")
    noted = _read_settings(folder)
    lines = (folder / QUESTIONS_FILE).read_text(encoding="utf-8").splitlines()
    questions = [Question(**json.loads(line)) for line in lines]
    path = folder / PREDICTIONS_FILE
    predictions = parse_predictions(path.read_bytes(), path)
    wanted = len(questions) * noted["settings"]["samples"]
    if len(predictions) != wanted:
        raise UserError(f"{path}: has {len(predictions)} of {wanted} predictions: run the same r1sharevl eval again")
    return noted, questions, predictions


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is never seen half-written."""
    _replace(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_bytes(content)
    temporary.replace(path)


def _line(value: dict[str, Any]) -> bytes:
    # ASCII: `splitlines` and other tools then never find a line end inside a response.
    return json.dumps(value, ensure_ascii=True).encode() + b"\n"


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS_FILE
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}): give another --out") from error
    if not isinstance(noted, dict) or noted.get("kind") != _KIND:
        raise UserError(f"{path}: was not written by r1sharevl eval: give another --out")
    return noted


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file: give another --out")
    if (folder / SETTINGS_FILE).exists():
        _read_settings(folder)
        return
    for name in (PREDICTIONS_FILE, SCORES_FILE, REPORT_FILE):
        path = folder / name
        # A predictions file without a line is what a kill right after the start leaves.
        if path.exists() and not (name == PREDICTIONS_FILE and path.stat().st_size == 0):
            raise UserError(f"{folder}: has a {name} but no {SETTINGS_FILE}: give another --out")


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    before = _read_settings(folder)["settings"]
    for key in [*settings, *(key for key in before if key not in settings)]:
        if before.get(key) != settings.get(key):
            name = _NAMES.get(key)
            found = (
                f"{name} differ" if name else f"{key} was {before.get(key)!r} there and is {settings.get(key)!r} now"
            )
            raise UserError(
                f"{folder}: holds an evaluation with other settings ({found}): give another --out, or --overwrite it"
            )


def _clear(folder: Path) -> None:
    for name in (QUESTIONS_FILE, SCORES_FILE, REPORT_FILE, SETTINGS_FILE):
        (folder / name).unlink(missing_ok=True)
    for name in PICTURE_FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)


def _lock(file: Any, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise UserError(f"{folder}: another evaluation is writing to it: wait for it or give another --out") from error
