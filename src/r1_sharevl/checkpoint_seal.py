"""Whether a checkpoint is whole: it is sealed when every process has written its files, and checked before a resume.

A `Trainer` writes a checkpoint file by file into its final folder, and each process writes some of them. A process that
is killed meanwhile leaves a folder that looks like a checkpoint. Ours has one more file, `checkpoint.json`: from the
first moment it says that the rest is not complete, and at the end it lists every file with its size.
"""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

SEAL_NAME = "checkpoint.json"
STATE_FILE = "trainer_state.json"
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pytorch_model_fsdp*",
    "global_step*",
)
"""Where a checkpoint may hold weights: whole, in shards, adapters, FSDP's folder, DeepSpeed's folder."""
_OPTIMIZER = ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*")


def checkpoints_of(output_dir: Path) -> list[Path]:
    """The checkpoints of a run, whole or not, the one with the highest step first."""
    found = [(named_step(path), path) for path in output_dir.glob("checkpoint-*") if path.is_dir()]
    return [path for _, path in sorted(((step, path) for step, path in found if step is not None), reverse=True)]


def named_step(folder: Path) -> int | None:
    """The step in a checkpoint's name, or None if it has not the name of a checkpoint."""
    name, _, number = folder.name.partition("-")
    return int(number) if name == "checkpoint" and number.isascii() and number.isdigit() else None


def open_checkpoint(folder: Path) -> None:
    """Make `folder` an empty checkpoint that is being written. To be called once, before any process writes to it."""
    shutil.rmtree(folder, ignore_errors=True)  # files of an earlier attempt would be sealed as this one's
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SEAL_NAME).write_text(json.dumps({"complete": False}) + "\n")


def seal_checkpoint(folder: Path, *, num_processes: int) -> None:
    """Mark `folder` as complete. To be called once, after every process has written its files.

    Args:
        folder: The checkpoint.
        num_processes: How many processes wrote it.
    """
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != SEAL_NAME
    }
    seal = {"complete": True, "num_processes": num_processes, "files": files}
    staged = folder / f"{SEAL_NAME}.new"
    staged.write_text(json.dumps(seal, indent=1) + "\n")
    staged.replace(folder / SEAL_NAME)


def num_processes_of(folder: Path) -> int | None:
    """How many processes wrote the checkpoint, or None if its seal does not say."""
    count = (_read_json(folder / SEAL_NAME) or {}).get("num_processes")
    return count if isinstance(count, int) else None


def step_of(folder: Path) -> int:
    """How many optimizer steps a whole checkpoint has behind it."""
    return int((_read_json(folder / STATE_FILE) or {})["global_step"])


def why_not_whole(folder: Path) -> str | None:
    """Say why a run cannot be resumed from `folder`, or None if it can.

    A sealed checkpoint must have all its files in their sizes. One without a seal, written by TRL's or transformers'
    own trainer, must have readable files of every kind. No tensor is read, so this costs little for any model.
    """
    if not folder.is_dir():
        return "no such folder"
    state = _read_json(folder / STATE_FILE)
    if (folder / SEAL_NAME).exists():
        reason = _why_seal_is_broken(folder)
    elif (folder / "checkpoint-is-incomplete.txt").exists():  # transformers' mark
        reason = "it was not written to its end"
    else:
        reason = _why_file_is_broken(folder)
    if reason is not None:
        return reason
    if state is None or not isinstance(state.get("global_step"), int):
        return f"{STATE_FILE} is missing or damaged"
    if not _has_any(folder, _WEIGHTS):
        return "it has no weights"
    if not _has_any(folder, _OPTIMIZER):
        return "it has no optimizer state (save_only_model?)"
    return None


def _why_seal_is_broken(folder: Path) -> str | None:
    seal = _read_json(folder / SEAL_NAME)
    files = (seal or {}).get("files")
    if seal is None or seal.get("complete") is not True or not isinstance(files, dict):
        return "it was not written to its end"
    for name, size in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
    return None


def _why_file_is_broken(folder: Path) -> str | None:
    for index in folder.glob("*.index.json"):
        weight_map = (_read_json(index) or {}).get("weight_map")
        if not isinstance(weight_map, dict):
            return f"{index.name} is damaged"
        for name in sorted({str(shard) for shard in weight_map.values()}):
            if not (folder / name).is_file():
                return f"{name} is missing"
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".safetensors" and not _is_whole_safetensors(path):
            return f"{path.name} is truncated or damaged"
        # torch.save writes zip files, whose directory stands at the end
        if path.suffix in (".pt", ".pth", ".bin") and not zipfile.is_zipfile(path):
            return f"{path.name} is truncated or damaged"
    if not any(folder.glob("rng_state*.pth")):
        return "it has no state of the random generators"
    return None


def _is_whole_safetensors(path: Path) -> bool:
    """Compare the file's size with what its header announces."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size - 8:
                return False
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return size == 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False


def _has_any(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(any(folder.glob(pattern)) for pattern in patterns)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
