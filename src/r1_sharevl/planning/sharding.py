"""How a run is spread over GPUs: from an accelerate config file, or from the process that runs already."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..yaml_mapping import read_mapping

KINDS = ("single", "ddp", "fsdp2", "zero2", "zero3")


@dataclass(frozen=True)
class Sharding:
    """How parameters, gradients and optimizer state are spread.

    Attributes:
        kind: "single", "ddp", "fsdp2", "zero2" or "zero3".
        gpus: Processes, one per GPU.
        offload_optimizer: Whether the optimizer state lies in host memory (DeepSpeed, FSDP).
        offload_parameters: Whether the parameters do.
    """

    kind: str = "single"
    gpus: int = 1
    offload_optimizer: bool = False
    offload_parameters: bool = False


def sharding_from_file(path: Path, gpus: int | None = None) -> Sharding:
    """Read an accelerate config file (`accelerate config`, `configs/accelerate/*.yaml`).

    Args:
        path: The file.
        gpus: Replaces its number of processes.

    Raises:
        UserError: The file is missing, no YAML mapping, or names a way of spreading that is not known here.
    """
    config = read_mapping(path)
    count = gpus or config.get("num_processes") or 1
    if not isinstance(count, int) or count < 1:
        raise UserError(f"{path}: num_processes is {count!r}: give a whole number above 0")
    kind = str(config.get("distributed_type", "NO")).upper()
    if kind == "FSDP":
        settings = _mapping(config, "fsdp_config", path)
        offload = str(settings.get("fsdp_offload_params", False)).lower() == "true"
        return Sharding("fsdp2", count, offload_optimizer=offload, offload_parameters=offload)
    if kind == "DEEPSPEED":
        settings = _mapping(config, "deepspeed_config", path)
        stage = settings.get("zero_stage", 2)
        if stage not in (2, 3):
            raise UserError(f"{path}: zero_stage is {stage!r}: memory is only estimated for stages 2 and 3")
        return Sharding(
            f"zero{stage}",
            count,
            offload_optimizer=settings.get("offload_optimizer_device", "none") != "none",
            offload_parameters=settings.get("offload_param_device", "none") != "none",
        )
    if kind in ("MULTI_GPU", "NO", "MULTI_CPU"):
        return Sharding("ddp" if count > 1 else "single", count)
    raise UserError(f"{path}: distributed_type is {kind}: memory is only estimated for FSDP, DEEPSPEED and MULTI_GPU")


def sharding_of_this_run(args: Any) -> Sharding:
    """Return how the processes that run right now share the model.

    Args:
        args: The training arguments.
    """
    gpus = args.world_size
    # accelerate's launcher tells the processes it starts by these variables (accelerate/utils/launch.py).
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        offload = os.environ.get("FSDP_OFFLOAD_PARAMS", "false").lower() == "true"
        return Sharding("fsdp2", gpus, offload_optimizer=offload, offload_parameters=offload)
    plugin = getattr(args, "deepspeed_plugin", None)
    if plugin is not None:
        zero = plugin.deepspeed_config.get("zero_optimization", {})

        def offloaded(what: str) -> bool:
            return (zero.get(what) or {}).get("device", "none") != "none"

        kind = "zero3" if plugin.zero_stage == 3 else "zero2"
        return Sharding(kind, gpus, offloaded("offload_optimizer"), offloaded("offload_param"))
    return Sharding("ddp" if gpus > 1 else "single", gpus)


def _mapping(config: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    value = config.get(name, {})
    if not isinstance(value, dict):
        raise UserError(f"{path}: {name} is {value!r}: give a mapping of settings")
    return value
