"""Prepared sets of a few rows for the tests of this folder."""

import io
import json

import numpy as np
import PIL.Image

from r1_sharevl.data.schema import prepared_features
from r1_sharevl.data.writing import SplitWriter


def png(seed=0, size=(40, 30)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def row(number, **changes):
    return {
        "id": f"row-{number}",
        "problem": f"<image>What is {number} + 1?",
        "images": [{"bytes": png(number), "path": None}],
        "answer": str(number + 1),
        "variants": [f"<image>Add one to {number}.", f"<image>Which number follows {number}?"],
        "source": "sums",
        **changes,
    }


def write_set(folder, train, validation=(), *, meta=None, features=None, manifest=None, shard_bytes=10**9):
    (folder / "data").mkdir(parents=True)
    for split, rows in (("train", train), ("validation", validation)):
        chosen = features(split) if features else prepared_features(meta)
        with SplitWriter(folder / "data", split, chosen, shard_bytes) as writer:
            for item in rows:
                writer.add(item)
            writer.finish()
    if manifest is not None:
        (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
