"""`evaluate`: ask a model the questions of a prepared set, several times each, and score the answers."""

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets

from ..errors import UserError
from ..prompts import DEFAULT_INSTRUCTION, to_messages, with_images
from .predictions import SCORES_FILE, PredictionFile, write_json, write_questions
from .questions import QuestionSet, read_questions
from .report import write_report
from .scoring import Prediction, score
from .summary import SCHEMA, Scores, summarise

if TYPE_CHECKING:
    from .generation import Backend, Response

DEFAULT_BATCH_SIZE = 32
DEFAULT_MAX_NEW_TOKENS = 2048


@dataclass(frozen=True)
class EvalResult:
    """What `evaluate` found.

    Attributes:
        scores: The scores.
        predictions: Every scored response.
        out: The eval folder, None if nothing was written.
        report: The page for people in it, None if nothing was written.
    """

    scores: Scores
    predictions: list[Prediction]
    out: Path | None
    report: Path | None


def evaluate(
    model: "str | Path | Backend",
    data: str | Path | datasets.Dataset,
    *,
    split: str = "validation",
    out: str | Path | None = None,
    samples: int = 8,
    limit: int | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    instruction: str = DEFAULT_INSTRUCTION,
    group_by: Sequence[str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    trust_remote_code: bool = False,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvalResult:
    """Measure a model on a prepared set.

    With `out`, predictions are appended batch by batch: an evaluation that was killed continues where it was when
    it is started again with the same arguments, and ends with the same file. The batches and their seeds depend only
    on the arguments, so the same command gives the same responses on the same machine.

    Args:
        model: Folder of a model or of a PEFT adapter, a Hub id, or a backend that generates (then what it was made
            with holds, in place of the sampling, device, dtype and pixel arguments here).
        data: Folder of a prepared set, or rows in its schema.
        split: Which split of the folder.
        out: The eval folder; gets `predictions.jsonl`, `settings.json`, `questions.jsonl`, `scores.json`, `report.md`,
            `plots/` and `samples/`. None writes nothing.
        samples: Responses per question. Greedy decoding always gives the same one, so there only one is made.
        limit: Only the first `limit` questions.
        batch_size: Responses generated at once.
        max_new_tokens: Token limit of a response.
        temperature: Softmax temperature; 0 decodes greedily.
        top_p: Probability mass of the tokens that may be drawn.
        seed: Seed of the sampling and of the bootstrap.
        instruction: Text appended to every question; the default is the one used in training.
        group_by: Columns with sub-scores; by default every text column with 2 to 20 different values.
        device: `auto` or a torch device.
        dtype: `auto` (bfloat16 on CUDA, else float32), `bfloat16`, `float16` or `float32`.
        min_pixels: Images with fewer pixels are enlarged to it; None takes what is saved with the checkpoint, which for
            one that we trained are the bounds of its training.
        max_pixels: Images with more pixels are shrunk to it.
        trust_remote_code: Run model code that comes with the checkpoint.
        overwrite: Throw away what `out` holds.
        on_progress: Called with (responses done, responses in all), once before the first batch and after each one.

    Returns:
        The scores and predictions.

    Raises:
        UserError: An argument, the model, the data, or what `out` already holds does not fit.
    """
    if samples < 1:
        raise UserError(f"samples is {samples}: give at least 1")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}: give at least 1")
    questions = read_questions(data, split, limit, group_by)
    # Before the model is loaded: a row that cannot become a prompt should not cost minutes to find.
    messages = [_messages(questions, row, instruction) for row in range(len(questions.questions))]
    if isinstance(model, (str, Path)):
        from .generation import Sampling, TransformersBackend

        sampling = Sampling(max_new_tokens, temperature, top_p)
        backend: Backend = TransformersBackend(
            model,
            sampling=sampling,
            device=device,
            dtype=dtype,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
            trust_remote_code=trust_remote_code,
        )
        name = str(model)
    else:
        backend, name = model, type(model).__name__
    described = backend.describe()
    if described.get("temperature") == 0:
        samples = 1
    settings = {
        "data_fingerprint": questions.fingerprint,
        "questions": len(questions.questions),
        "samples": samples,
        "seed": seed,
        "batch_size": batch_size,
        "instruction": instruction,
        **described,
    }
    info = {
        "model": name,
        "data": str(data) if isinstance(data, (str, Path)) else "a dataset in memory",
        "split": split,
        "versions": _versions(),
    }

    def answer(batch: list[tuple[int, int]]) -> list[Prediction]:
        prompts = [with_images(messages[row], questions.images(row)) for row, _ in batch]
        responses = backend.generate(prompts, _batch_seed(seed, questions, batch))
        return [_judge(questions, *place, response) for place, response in zip(batch, responses, strict=True)]

    batches = list(questions.batches(samples, batch_size))
    report_progress = on_progress or (lambda done, total: None)
    if out is None:
        predictions = _collect(batches, [], answer, lambda _: None, report_progress)
        return EvalResult(summarise(questions.questions, predictions, seed), predictions, None, None)
    folder = Path(out)
    with PredictionFile(folder, settings, info, overwrite) as file:
        _check_kept(folder, questions, batches, file.kept)
        write_questions(folder, questions.questions)
        predictions = _collect(batches, file.kept, answer, file.append, report_progress)
    scores = summarise(questions.questions, predictions, seed)
    head = {"schema": SCHEMA, "model": info["model"], "data": info["data"], "split": split}
    write_json(folder / SCORES_FILE, head | scores.to_dict())
    report = write_report(folder, info, settings, scores, questions, predictions)
    return EvalResult(scores, predictions, folder, report)


def _collect(
    batches: list[list[tuple[int, int]]],
    kept: list[Prediction],
    answer: Callable[[list[tuple[int, int]]], list[Prediction]],
    keep: Callable[[list[Prediction]], None],
    on_progress: Callable[[int, int], None],
) -> list[Prediction]:
    """Answer the batches that are not kept yet; a batch of which a part is kept is generated again as a whole."""
    predictions = list(kept)
    total = sum(len(batch) for batch in batches)
    on_progress(len(predictions), total)
    start = 0
    for batch in batches:
        end = start + len(batch)
        if end > len(predictions):
            new = answer(batch)[len(predictions) - start :]
            keep(new)
            predictions.extend(new)
            on_progress(len(predictions), total)
        start = end
    return predictions


def _messages(questions: QuestionSet, row: int, instruction: str) -> list[dict[str, Any]]:
    question = questions.questions[row]
    try:
        return to_messages(question.problem, questions.image_counts[row], instruction)
    except UserError as error:
        raise UserError(f"row {question.id!r}, problem: {error}") from error


def _batch_seed(seed: int, questions: QuestionSet, batch: list[tuple[int, int]]) -> int:
    named = [[questions.questions[row].id, sample] for row, sample in batch]
    return int.from_bytes(hashlib.sha256(json.dumps([seed, named]).encode()).digest()[:7], "big")


def _judge(questions: QuestionSet, row: int, sample: int, response: "Response") -> Prediction:
    question = questions.questions[row]
    return score(
        question.id, sample, response.text, response.tokens, response.cut_off, question.answer, question.problem
    )


def _check_kept(
    folder: Path, questions: QuestionSet, batches: list[list[tuple[int, int]]], kept: list[Prediction]
) -> None:
    wanted = [(questions.questions[row].id, sample) for batch in batches for row, sample in batch]
    found = [(prediction.id, prediction.sample) for prediction in kept]
    if found != wanted[: len(found)]:
        line = next(number for number, pair in enumerate(found) if number >= len(wanted) or pair != wanted[number]) + 1
        raise UserError(
            f"{folder / 'predictions.jsonl'}, line {line}: is not what comes there with these settings: start anew "
            "with --overwrite"
        )


def _versions() -> dict[str, str]:
    packages = ("r1-sharevl", "torch", "transformers", "math-verify")
    return {"python": platform.python_version()} | {package: version(package) for package in packages}
