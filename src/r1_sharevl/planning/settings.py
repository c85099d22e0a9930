"""Settings of a run that is only planned: for any number of processes, on any machine."""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trl import ModelConfig

from ..arguments import ModelArguments, RunArguments
from ..config import ShareGRPOConfig
from ..errors import UserError
from ..models.precision import default_dtype


@functools.cache
def planned_config(processes: int) -> type[ShareGRPOConfig]:
    """Return a `ShareGRPOConfig` that checks its batch sizes for so many processes, none of which runs.

    bfloat16 is taken as asked for: the machine that plans need not have it.
    """

    @dataclass
    class PlannedConfig(ShareGRPOConfig):
        def __post_init__(self) -> None:
            wanted: bool | None = getattr(self, "bf16", None)
            wanted = not self.fp16 if wanted is None else wanted
            self.bf16 = False
            super().__post_init__()
            self.bf16 = wanted

        @property
        def world_size(self) -> int:
            return processes

    return PlannedConfig


def read_settings(settings: Mapping[str, Any], processes: int) -> tuple[RunArguments, ShareGRPOConfig, ModelConfig]:
    """Read the settings of a run from a mapping, such as `settings_of` makes.

    Raises:
        UserError: They do not go together.
    """
    groups = (RunArguments, planned_config(processes), ModelArguments)
    known: list[dict[str, Any]] = []
    for group in groups:
        names = {entry.name for entry in dataclasses.fields(group) if entry.init}
        known.append({name: value for name, value in settings.items() if name in names})
    try:
        run, args, model_args = RunArguments(**known[0]), groups[1](**known[1]), ModelArguments(**known[2])
    except UserError:
        raise
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error
    if model_args.dtype is None:
        model_args.dtype = default_dtype(model_args, args)
    return run, args, model_args
