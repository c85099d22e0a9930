"""The prep pipeline: read, check, split and write a prepared set, in one pass and with bounded memory."""

import hashlib
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..data.images import clean_image, encoded_bytes
from ..data.meta import MetaTypes, meta_value
from ..data.readers import Rejected, Source
from ..data.row_error import RowError, shown
from ..data.schema import check_text, prepared_features
from ..data.sources import SYNTHETIC, open_sources
from ..data.staging import MANIFEST, staged_folder
from ..data.writing import RejectedWriter, SplitWriter, write_card, write_json
from ..errors import UserError
from ..rewards import is_correct

DEFAULT_TRAIN_ROWS = 4000
DEFAULT_VALIDATION_ROWS = 240
DEFAULT_VALIDATION_SHARE = 0.05

SPLITS = ("train", "validation")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PreparedSummary:
    """What `prepare` did.

    Attributes:
        out: The prepared set.
        kept: Rows in each split that has any.
        rejected: Rejected rows by reason, most frequent first.
        question_types: Kept rows by their meta column `question_type`; empty where there is none.
        wordings: How many kept rows have 1, 2, 3, … different wordings.
        text_only: Kept rows without an image.
    """

    out: Path
    kept: dict[str, int]
    rejected: dict[str, int]
    question_types: dict[str, int]
    wordings: dict[int, int]
    text_only: int


@dataclass
class _Tally:
    """Counts of a run, for the manifest and the summary."""

    kept: Counter[str] = field(default_factory=Counter)
    kept_by_source: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    question_types: Counter[str] = field(default_factory=Counter)
    wordings: Counter[int] = field(default_factory=Counter)
    text_only: int = 0
    first_rejected: dict[str, str] = field(default_factory=dict)

    def add_kept(self, row: dict[str, Any], split: str) -> None:
        self.kept[split] += 1
        self.kept_by_source[row["source"]] += 1
        self.wordings[len({row["problem"], *row["variants"]})] += 1
        self.text_only += not row["images"]
        if isinstance(row.get("question_type"), str):
            self.question_types[row["question_type"]] += 1

    def add_rejected(self, rejected: Rejected) -> None:
        self.rejected[rejected.reason] += 1
        self.first_rejected.setdefault(rejected.reason, rejected.detail)


def prepare(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    train_rows: int | None = None,
    validation_rows: int | None = None,
    validation_share: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PreparedSummary:
    """Make a prepared set.

    Every row is checked: its fields, its pictures, its `<image>` marks, and that the accuracy reward accepts its own
    gold answer. Rows that fail are listed in `rejected.jsonl`; the others are divided by question, so that the same
    question with the same pictures is never in both splits.

    Args:
        inputs: `"synthetic"` for the built-in set, or paths of `.jsonl`, `.json` or `.parquet` files and of folders
            with `data/*.parquet`; one or several.
        out: The folder to make.
        train_rows: Train rows of the built-in set (4,000 where not given).
        validation_rows: Validation rows of the built-in set (240 where not given).
        validation_share: Share of the questions, 0 up to 1, set aside for validation where an input has no validation
            part of its own (0.05 where not given).
        seed: Decides the built-in set and which questions are set aside.
        overwrite: Replace `out` where it is a prepared set. The old one stays until the new one is whole.
        progress: Called after each row with the rows done and the rows in total.

    Returns:
        What was kept and what was rejected.

    Raises:
        UserError: An input or a setting cannot be used, `out` exists, or no row is left.
    """
    inputs = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    out = Path(out)
    _check_settings(inputs, train_rows, validation_rows, validation_share)
    _check_not_inside(inputs, out)
    share = DEFAULT_VALIDATION_SHARE if validation_share is None else validation_share
    sources = open_sources(
        inputs,
        train_rows=DEFAULT_TRAIN_ROWS if train_rows is None else train_rows,
        validation_rows=DEFAULT_VALIDATION_ROWS if validation_rows is None else validation_rows,
        seed=seed,
    )
    with staged_folder(out, overwrite=overwrite) as staging:
        meta = MetaTypes()
        meta.update(source.meta_types for source in sources)
        tally, entries = _write_rows(sources, staging, meta.as_dict(), share, seed, progress)
        kept = {split: tally.kept[split] for split in SPLITS if tally.kept[split]}
        rejected = dict(tally.rejected.most_common())
        manifest = {
            "versions": _versions(),
            "seed": seed,
            "validation_share": share if any(source.split is None for source in sources) else None,
            "inputs": entries,
            "kept": kept,
            "kept_by_source": dict(sorted(tally.kept_by_source.items())),
            "rejected": rejected,
        }
        write_card(staging / "README.md", manifest, meta.as_dict())
        write_json(staging / MANIFEST, manifest)
    return PreparedSummary(
        out=out,
        kept=kept,
        rejected=rejected,
        question_types=dict(sorted(tally.question_types.items())),
        wordings=dict(sorted(tally.wordings.items())),
        text_only=tally.text_only,
    )


def _write_rows(
    sources: Sequence[Source],
    staging: Path,
    meta: dict[str, str],
    share: float,
    seed: int,
    progress: Progress | None,
) -> tuple[_Tally, list[dict[str, Any]]]:
    """Write `data/` and `rejected.jsonl`; gives the counts and the manifest's entry of each input."""
    tally = _Tally()
    entries = []
    total = sum(source.num_rows for source in sources)
    features = prepared_features(meta)
    data = staging / "data"
    data.mkdir()
    seen_ids: set[str] = set()
    with (
        RejectedWriter(staging / "rejected.jsonl") as rejected_rows,
        SplitWriter(data, "train", features) as train,
        SplitWriter(data, "validation", features) as validation,
    ):
        writers = {"train": train, "validation": validation}

        def advance() -> None:
            if progress is not None:
                progress(tally.kept.total() + tally.rejected.total(), total)

        def reject(rejected: Rejected) -> None:
            tally.add_rejected(rejected)
            rejected_rows.add(rejected)
            advance()

        for source in sources:
            kept, rejected = tally.kept.total(), tally.rejected.total()
            for where, raw in source.rows(reject):
                try:
                    row = _checked(raw, where, meta)
                    if row["id"] in seen_ids:
                        raise RowError(
                            "duplicate id",
                            f"{where}: id {shown(row['id'])} was used before: give each row its own, or leave ids out",
                        )
                except RowError as error:
                    row_id = raw["id"] if isinstance(raw["id"], str) else None
                    reject(Rejected(row_id, where, error.reason, str(error)))
                    continue
                seen_ids.add(row["id"])
                split = source.split or _split_of(row, share, seed)
                writers[split].add(row)
                tally.add_kept(row, split)
                advance()
            entries.append(
                {
                    "label": source.label,
                    "path": None if source.path is None else str(source.path),
                    "sha256": source.sha256(),
                    "rows": source.num_rows,
                    "kept": tally.kept.total() - kept,
                    "rejected": tally.rejected.total() - rejected,
                }
            )
        _check_rows_left(tally, total)
        for writer in writers.values():
            writer.finish()
    return tally, entries


def _checked(raw: dict[str, Any], where: str, meta: dict[str, str]) -> dict[str, Any]:
    """Check a row and give it as it is stored: images as clean bytes, meta columns in their types."""
    check_text(raw, where)
    row = {name: raw[name] for name in ("id", "problem", "images", "answer", "variants", "source")}
    row["images"] = []
    for number, value in enumerate(raw["images"], start=1):
        field_name = f"{where}: image {number}"
        row["images"].append({"bytes": clean_image(encoded_bytes(value, field_name), field_name), "path": None})
    for name, dtype in meta.items():
        row[name] = meta_value(raw.get(name), dtype, name, where)
    # The reward must accept the gold answer, or no response could ever be right.
    if not is_correct(f"<think></think> \\boxed{{{row['answer']}}}", row["answer"], row["problem"]):
        raise RowError(
            "gold answer not accepted",
            f"{where}: the accuracy reward does not accept the gold answer {shown(row['answer'])} itself: write it "
            "as a number, a LaTeX expression, an option letter or a short text",
        )
    return row


def _split_of(row: dict[str, Any], share: float, seed: int) -> str:
    """Decide a row's split from its question and pictures alone, so that no other row matters."""
    question = hashlib.sha256(f"{seed}\n{' '.join(row['problem'].casefold().split())}".encode())
    for image in row["images"]:
        question.update(hashlib.sha256(image["bytes"]).digest())
    return "validation" if int.from_bytes(question.digest()[:8], "big") < share * 2**64 else "train"


def _check_settings(
    inputs: Sequence[str | Path], train_rows: int | None, validation_rows: int | None, share: float | None
) -> None:
    for name, count, least in (("--train-rows", train_rows, 1), ("--validation-rows", validation_rows, 0)):
        if count is None:
            continue
        if SYNTHETIC not in inputs:
            raise UserError(f"{name}: only for the built-in set '{SYNTHETIC}': leave it out, files are read whole")
        if count < least:
            raise UserError(f"{name}: found {count}, expected {least} or more")
    if share is not None:
        if not 0 <= share < 1:
            raise UserError(f"--validation-share: found {share}, expected a share from 0 up to but not including 1")
        if all(item == SYNTHETIC for item in inputs):
            raise UserError(f"--validation-share: not for '{SYNTHETIC}', whose splits are drawn: use --validation-rows")


def _check_not_inside(inputs: Iterable[str | Path], out: Path) -> None:
    """Refuse to replace a folder that holds the raw data."""
    for item in inputs:
        if item != SYNTHETIC and out.resolve() in Path(item).resolve().parents:
            raise UserError(f"{item}: lies inside {out}, the folder to write: choose another --out")


def _check_rows_left(tally: _Tally, total: int) -> None:
    if not tally.kept:
        reason, count = tally.rejected.most_common(1)[0]
        first = tally.first_rejected[reason]
        raise UserError(f"no row is left: {count:,} of {total:,} rows have the fault '{reason}', first {first}")
    if not tally.kept["train"]:
        raise UserError(
            f"no row is left for training, all {tally.kept.total():,} are for validation: lower --validation-share or "
            "add rows"
        )


def _versions() -> dict[str, str]:
    packages = ("datasets", "pyarrow", "pillow", "numpy", "math-verify")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"r1_sharevl": __version__, "python": platform.python_version(), **versions}
