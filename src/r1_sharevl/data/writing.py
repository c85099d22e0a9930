"""Writing a prepared set's files: parquet shards, the list of rejected rows, and the dataset card."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

# Rows are held until either is reached, then written as one row group: bounds memory and the cost of reading one row.
_GROUP_ROWS = 100
_GROUP_BYTES = 32 * 1024 * 1024
SHARD_BYTES = 500 * 1024 * 1024
"""A shard is closed once it holds this many bytes of pictures and text; 500 MB is what `datasets` uses."""


class SplitWriter:
    """Writes the rows of one split as parquet shards.

    Shards get their `.parquet` names in `finish` only: a set cut short has no file that looks like a part of one.
    """

    def __init__(self, folder: Path, split: str, features: datasets.Features, shard_bytes: int = SHARD_BYTES) -> None:
        self.num_rows = 0
        self._folder = folder
        self._split = split
        self._schema = features.arrow_schema
        self._shard_bytes = shard_bytes
        self._rows: list[dict[str, Any]] = []
        self._pending_bytes = 0
        self._written_bytes = 0
        self._shards: list[Path] = []
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_shard()

    def add(self, row: dict[str, Any]) -> None:
        """Take a row whose images are `{"bytes": …, "path": None}`."""
        self._rows.append(row)
        self.num_rows += 1
        self._pending_bytes += sum(len(image["bytes"]) for image in row["images"])
        self._pending_bytes += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(self._rows) >= _GROUP_ROWS or self._pending_bytes >= _GROUP_BYTES:
            self._flush()

    def finish(self) -> list[Path]:
        """Write what is left and give the shards their names, `{split}-{number}-of-{count}.parquet`.

        Returns:
            The shards; none where no row was added.
        """
        self._flush()
        self._close_shard()
        count = len(self._shards)
        return [
            shard.rename(self._folder / f"{self._split}-{number:05d}-of-{count:05d}.parquet")
            for number, shard in enumerate(self._shards)
        ]

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            self._shards.append(self._folder / f"{self._split}-{len(self._shards):05d}.unfinished")
            plain = [name for name in self._schema.names if name not in ("images", "variants")]
            # Pictures are compressed already, and a dictionary of them only costs memory.
            self._writer = pq.ParquetWriter(
                self._shards[-1],
                self._schema,
                use_dictionary=plain,
                compression=dict.fromkeys([*plain, "variants.list.element"], "snappy"),
                write_page_index=True,
            )
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []
        self._written_bytes += self._pending_bytes
        self._pending_bytes = 0
        if self._written_bytes >= self._shard_bytes:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._written_bytes = 0


class JsonLinesWriter:
    """Writes a file of one JSON object per line, such as `rejected.jsonl`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, content: Mapping[str, Any]) -> None:
        """Write one line."""
        self._file.write(json.dumps(content) + "\n")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_card(path: Path, manifest: Mapping[str, Any], meta: Iterable[str]) -> None:
    """Write the dataset card: front matter that `datasets` and the Hub read, and what a reader wants to know.

    Args:
        path: The card's file, `README.md`.
        manifest: The set's manifest.
        meta: Names of the meta columns.
    """
    kept: Mapping[str, int] = manifest["kept"]
    easyr1 = manifest["format"] == "easyr1"
    front = {
        "pretty_name": "Share-GRPO training set",
        "task_categories": ["visual-question-answering"],
        "tags": ["share-grpo", "r1-sharevl", "reasoning"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in kept],
            }
        ],
    }
    columns = [
        ("id", "the row's name, unique in the set"),
        ("problem", "the question; `<image>` marks where an image goes" + ", no mark means in front" * (not easyr1)),
        ("images", "the pictures, RGB and upright"),
        ("answer", "the gold answer; the accuracy reward accepts it"),
        ("new_questions", "other wordings of the same question, as the `repr` of a list")
        if easyr1
        else ("variants", "other wordings of the same question"),
        ("source", "where the row comes from"),
        *((name, "free column of the input") for name in meta),
    ]
    reader = (
        "It has the columns that the R1-ShareVL release reads."
        if easyr1
        else "Open it with `datasets.load_dataset(folder)` or `r1_sharevl.load_prepared(folder)`."
    )
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip(),
        "---",
        "",
        "# Share-GRPO training set",
        "",
        f"Made by `r1sharevl prep` {manifest['versions']['r1_sharevl']} with seed {manifest['seed']}. {reader}",
        "",
        "| split | rows |",
        "|---|---:|",
        *(f"| {split} | {count:,} |" for split, count in kept.items()),
        "",
        "| input | rows | kept | SHA-256 |",
        "|---|---:|---:|---|",
        *(
            f"| {_cell(entry['label'])} | {entry['rows']:,} | {entry['kept']:,} | {(entry['sha256'] or '')[:16]} |"
            for entry in manifest["inputs"]
        ),
        "",
        *_counts("Rejected rows", manifest["rejected"], "rejected.jsonl"),
        *_counts("Dropped wordings", manifest["dropped_wordings"], "rejected_wordings.jsonl"),
        "| column | what it holds |",
        "|---|---|",
        *(f"| `{_cell(name)}` | {text} |" for name, text in columns),
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def _counts(what: str, by_reason: Mapping[str, int], file: str) -> list[str]:
    total = sum(by_reason.values())
    if not total:
        return []
    lines = [f"- {_cell(reason)}: {count:,}" for reason, count in by_reason.items()]
    return [f"{what}: {total:,} (each one is listed in `{file}`).", "", *lines, ""]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
