"""A few responses of each generation batch, kept with their images so that people can read along."""

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SAMPLES_FOLDER = "samples"
MAX_BATCHES = 400
"""A folder of samples is thinned to about half when it holds more generation batches than this."""
_THUMBNAIL_PIXELS = 320
_MAX_CHARACTERS = 20_000
_MAX_FILE_BYTES = 64 * 2**20
_FILE = re.compile(r"step_([0-9]{8})_([0-9]{10})\.parquet")

# As `datasets` stores images, so that `load_dataset` on the folder shows them.
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("question", pa.string()),
        ("prompt", pa.string()),
        ("wording", pa.int64()),
        ("transform", pa.string()),
        ("images", pa.list_(_IMAGE)),
        ("response", pa.string()),
        ("answer", pa.string()),
        ("rewards", pa.list_(pa.struct([("name", pa.string()), ("value", pa.float64())]))),
        ("reward", pa.float64()),
        ("advantage", pa.float64()),
        ("tokens", pa.int64()),
        ("cut_off", pa.bool_()),
    ],
    metadata={
        "huggingface": '{"info": {"features": {"images": {"feature": {"_type": "Image"}, "_type": "List"}}}}',
    },
)


@dataclass(frozen=True)
class Sample:
    """A response and what it was worth.

    Attributes:
        step: Optimizer steps done when it was generated.
        question: The row's `id`.
        prompt: The question in the wording asked, with `<image>` marks, without the instruction.
        wording: 0 for the row's `problem`, i for its `variants[i - 1]`.
        transform: Name of the image transform, or None.
        images: The prompt's images as the model got them, as small JPEG or PNG files.
        response: What the model wrote.
        answer: The right answer, if the row has one.
        rewards: By reward function; NaN where it could not score.
        reward: Their weighted sum.
        advantage: Under the prompt it was sampled from.
        tokens: Length of the response.
        cut_off: Whether it ended at the length limit.
    """

    step: int
    question: str
    prompt: str
    wording: int
    transform: str | None
    images: tuple[bytes, ...]
    response: str
    answer: str | None
    rewards: dict[str, float]
    reward: float
    advantage: float
    tokens: int
    cut_off: bool


def thumbnail(image: Image.Image) -> bytes:
    """Encode an image scaled down to at most 320 pixels a side, as PNG or JPEG, whichever is smaller."""
    small = image.copy() if image.mode in ("RGB", "L") else image.convert("RGB")
    small.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
    files = []
    for kind, options in (("PNG", {"optimize": True}), ("JPEG", {"quality": 85})):
        buffer = io.BytesIO()
        small.save(buffer, kind, **options)
        files.append(buffer.getvalue())
    return min(files, key=len)


class SampleFolder:
    """The samples of a run: one small parquet file per generation batch, named by its step and micro-step.

    An optimizer step may have several generation batches. A file appears whole or not at all, and a batch that is
    generated again after a resume replaces its file. So a run that was killed and resumed holds each batch once.

    Args:
        folder: Made with the first batch.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._wrote = False

    def write(self, samples: Sequence[Sample], *, micro_step: int) -> None:
        """Store the samples of one generation batch.

        The first batch that a process writes removes those of the same and later steps: an earlier process generated
        them after the checkpoint from which this one goes on.

        Args:
            samples: All of the same step.
            micro_step: Micro-batches done in the run when they were generated, which tells batches of one step apart.

        Raises:
            OSError: The folder cannot be written.
        """
        if not samples:
            return
        step = samples[0].step
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._wrote:
            for path in self.files():
                if _place(path)[0] >= step:
                    path.unlink()
            self._wrote = True
        table = pa.Table.from_pylist([_to_row(sample) for sample in samples], schema=_SCHEMA)
        path = self.folder / f"step_{step:08d}_{micro_step:010d}.parquet"
        unfinished = path.with_suffix(".tmp")
        pq.write_table(table, unfinished, compression="zstd")
        os.replace(unfinished, path)
        files = self.files()
        if len(files) > MAX_BATCHES:
            for thinned in files[1:-1:2]:
                thinned.unlink()

    def files(self) -> list[Path]:
        """The files of the generation batches that are stored, in the order in which these were generated."""
        return sorted((path for path in self.folder.glob("step_*.parquet") if _FILE.fullmatch(path.name)), key=_place)

    def read(self, path: Path) -> list[Sample]:
        """Read the samples of one generation batch.

        Args:
            path: One of `files`.

        Raises:
            ValueError: The file is damaged or does not hold samples.
            OSError: The file cannot be read.
        """
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ValueError(f"{path} has more than {_MAX_FILE_BYTES:,} bytes")
        try:
            rows = pq.read_table(path, schema=_SCHEMA).to_pylist()
            return [_from_row(row) for row in rows]
        except (pa.ArrowException, KeyError, TypeError) as error:
            raise ValueError(f"{path} holds no samples: {error}") from error


def _place(path: Path) -> tuple[int, int]:
    _, step, micro_step = path.stem.split("_")
    return int(step), int(micro_step)


def _to_row(sample: Sample) -> dict[str, Any]:
    return {
        **vars(sample),
        "prompt": sample.prompt[:_MAX_CHARACTERS],
        "response": sample.response[:_MAX_CHARACTERS],
        "images": [{"bytes": data, "path": None} for data in sample.images],
        "rewards": [{"name": name, "value": value} for name, value in sample.rewards.items()],
    }


def _from_row(row: dict[str, Any]) -> Sample:
    nan = float("nan")

    def number(value: float | None) -> float:
        return nan if value is None else value

    return Sample(
        step=row["step"] or 0,
        question=row["question"] or "",
        prompt=row["prompt"] or "",
        wording=row["wording"] or 0,
        transform=row["transform"],
        images=tuple((image or {}).get("bytes") or b"" for image in row["images"] or ()),
        response=row["response"] or "",
        answer=row["answer"],
        rewards={str(entry["name"]): number(entry["value"]) for entry in row["rewards"] or () if entry},
        reward=number(row["reward"]),
        advantage=number(row["advantage"]),
        tokens=row["tokens"] or 0,
        cut_off=bool(row["cut_off"]),
    )
