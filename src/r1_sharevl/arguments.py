"""The settings of a training run: from a YAML file and command-line flags to TRL's argument dataclasses."""

import dataclasses
import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

from transformers import TrainingArguments
from trl import GRPOConfig, ModelConfig, TrlParser

from .config import ShareGRPOConfig
from .errors import UserError
from .models.precision import default_dtype
from .models.quantization import check_quantization
from .yaml_mapping import read_mapping

RELEASE_REWARDS = ("accuracy_reward", "format_reward")
RELEASE_REWARD_WEIGHTS = (0.9, 0.1)
_GENERATION_SIZES = frozenset({"generation_batch_size", "steps_per_generation"})
"""Two names of one size; TRL refuses to be given both."""
_SWITCHES = ("shared_prefix",)
"""Settings that may be `on` or `off`, which YAML reads as true and false: ShareGRPOConfig takes both, and checks."""


@dataclass
class RunArguments:
    """What a run needs beside the trainer's and the model's settings.

    Parameters:
        dataset (`str`): Folder of a prepared set (`r1sharevl prep`).
        train_split (`str`): Split to train on.
        eval_split (`str`): Split to evaluate on during training, used when `eval_strategy` is not "no".
        reward_funcs (`list[str]`): Rewards: a built-in name, `package.module.function` or `path/to/file.py:function`.
            With the default two, `reward_weights` defaults to the release's 0.9 and 0.1.
        min_pixels (`int`, *optional*): Images with fewer pixels are enlarged to it (release: 262,144).
        max_pixels (`int`, *optional*): Images with more pixels are shrunk to it (release: 1,048,576).
        train_vision (`bool`, *optional*): Whether the vision tower and the projector are trained. If not given, full
            fine-tuning trains them (as the release) and LoRA leaves them frozen.
        sample_responses (`int`): Responses of each generation batch that are kept with their images in
            `output_dir/samples`, for `r1sharevl report`.
        resume (`bool`): Whether to continue from the newest whole checkpoint in `output_dir`.
        collapse_patience (`int`): The run ends when all of so many logged steps in a row show that it has collapsed:
            every reward is 0, or the entropy is below `collapse_entropy`, or (in at most 10) the loss or the gradient
            norm is not finite. 0 switches the checks off.
        collapse_entropy (`float`): Mean entropy per response token in nats below which the policy has collapsed; 0
            switches this check off.
    """

    dataset: str = field(metadata={"help": "Folder of a prepared set (made by `r1sharevl prep`)."})
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_split: str = field(
        default="validation", metadata={"help": "Split to evaluate on during training, if eval_strategy is not 'no'."}
    )
    reward_funcs: list[str] = field(
        default_factory=lambda: list(RELEASE_REWARDS),
        metadata={"help": "Rewards: built-in names, `package.module.function` or `path/to/file.py:function`."},
    )
    min_pixels: int | None = field(
        default=None, metadata={"help": "Images with fewer pixels are enlarged to it (release: 262144)."}
    )
    max_pixels: int | None = field(
        default=None, metadata={"help": "Images with more pixels are shrunk to it (release: 1048576)."}
    )
    train_vision: bool | None = field(
        default=None,
        metadata={"help": "Whether the vision tower and projector are trained. Default: not with LoRA, else yes."},
    )
    sample_responses: int = field(
        default=4,
        metadata={"help": "Responses per generation batch kept with their images for `r1sharevl report`; 0 for none."},
    )
    resume: bool = field(
        default=False, metadata={"help": "Whether to continue from the newest whole checkpoint in output_dir."}
    )
    collapse_patience: int = field(
        default=100,
        metadata={
            "help": "End the run when so many logged steps in a row have only rewards of 0, an entropy below "
            "collapse_entropy, or (at most 10) a loss or gradient norm that is not finite. 0: never."
        },
    )
    collapse_entropy: float = field(
        default=0.001,
        metadata={"help": "Entropy per response token (nats) below which the policy has collapsed. 0: not checked."},
    )

    def __post_init__(self) -> None:
        for name in ("sample_responses", "collapse_patience", "collapse_entropy"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}: give 0 (off) or more")


@dataclass
class ModelArguments(ModelConfig):
    """TRL's ModelConfig, with QLoRA's defaults as in its paper and a data type that suits what is trained.

    Parameters:
        dtype (`str`, *optional*): Data type of the weights; see [`default_dtype`] for what None becomes.
        use_bnb_nested_quant (`bool`): Whether the scales of a 4-bit base are quantised, too (double quantisation).
    """

    dtype: str | None = field(
        default=None,
        metadata={
            "help": "Data type of the weights. Default: float32 where they are trained; that of the computation (bf16) "
            "where they are frozen, with LoRA and QLoRA.",
            "choices": ["auto", "bfloat16", "float16", "float32"],
        },
    )
    use_bnb_nested_quant: bool = field(
        default=True,
        metadata={"help": "Whether the scales of a 4-bit base are quantised, too (double quantisation)."},
    )


class _Parser(TrlParser):
    """TRL's parser; a mistake becomes one line instead of the usage of four hundred options."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def build_parser(training: type[ShareGRPOConfig] = ShareGRPOConfig) -> _Parser:
    """Make the parser of every setting a training run has; `training` is the class of the trainer's."""
    parser = _Parser((RunArguments, training, ModelArguments), prog="r1sharevl train", allow_abbrev=False)
    for action in parser._actions:
        if action.dest == "train_vision":  # `bool | None` would need a value, and a bare --train_vision says enough
            action.nargs, action.const = "?", True
    parser.set_defaults(report_to="tensorboard")  # transformers' is none: nothing could be looked at
    return parser


def describe_settings() -> dict[str, list[tuple[str, Any, str]]]:
    """List every setting as (name, default, help), under the name of what it belongs to, ours first."""
    own = {entry.name for entry in dataclasses.fields(ShareGRPOConfig)}
    grpo = {entry.name for entry in dataclasses.fields(GRPOConfig)}
    base = {entry.name for entry in dataclasses.fields(TrainingArguments)}
    groups: dict[str, set[str]] = {
        "Share-GRPO": own - grpo,
        "The run": {entry.name for entry in dataclasses.fields(RunArguments)},
        "The model (TRL's ModelConfig)": {entry.name for entry in dataclasses.fields(ModelConfig)},
        "GRPO (TRL's GRPOConfig)": grpo - base,
        "Training (transformers' TrainingArguments)": base,
    }
    actions = {action.dest: action for action in reversed(build_parser()._actions)}
    return {
        title: [
            (name, actions[name].default, (actions[name].help or "").replace("%%", "%"))
            for name in sorted(names & actions.keys())
        ]
        for title, names in groups.items()
    }


def parse_run(
    flags: Sequence[str],
    config: str | os.PathLike[str] | None = None,
    training_class: type[ShareGRPOConfig] = ShareGRPOConfig,
) -> tuple[RunArguments, ShareGRPOConfig, ModelConfig]:
    """Read the settings of a run: flags win over the YAML file, which wins over the defaults.

    Args:
        flags: Command-line words such as `["--num_variants", "4"]`; hyphens do as well as underscores.
            `--generation_batch_size` wins over the file's `steps_per_generation`, too, and the other way round.
        config: YAML file with a mapping of the same names.
        training_class: Class of the training settings: `planned_config`'s for a run that is only planned.

    Raises:
        UserError: An unknown setting (the nearest name is suggested), a wrong type, or values that do not go together.
    """
    parser = build_parser(training_class)
    given = {flag.split("=")[0] for flag in flags if flag.startswith("--")}
    if config is not None:
        settings = _read_config(Path(config), parser)
        named = {flag[2:].replace("-", "_") for flag in given}
        if len(_GENERATION_SIZES & named) == 1:
            settings = {name: value for name, value in settings.items() if name not in _GENERATION_SIZES}
        parser.set_defaults_with_config(**settings)
    known = {option for action in parser._actions for option in action.option_strings}
    for flag in sorted(given - known):
        raise UserError(f"unknown option {flag}{_did_you_mean(flag, known)}")
    try:
        run, training, model, rest = parser.parse_args_into_dataclasses(list(flags), return_remaining_strings=True)
    except UserError:
        raise
    except (ValueError, TypeError) as error:  # the checks of TRL's and transformers' dataclasses
        raise UserError(str(error)) from error
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}: settings are written as --name value")
    if tuple(run.reward_funcs) == RELEASE_REWARDS and training.reward_weights is None:
        training.reward_weights = list(RELEASE_REWARD_WEIGHTS)
    if training.reward_weights is not None and len(training.reward_weights) != len(run.reward_funcs):
        raise UserError(
            f"reward_weights has {len(training.reward_weights)} values for {len(run.reward_funcs)} reward_funcs: give "
            "one weight per reward"
        )
    if model.model_name_or_path is None:
        raise UserError("no model is named: set model_name_or_path to a folder or a Hub id")
    check_quantization(model)
    if model.dtype is None:
        model.dtype = default_dtype(model, training)
    return run, training, model


def settings_of(*groups: Any) -> dict[str, Any]:
    """Return the settings of argument dataclasses that differ from their defaults, as a YAML file would hold them.

    A file with this mapping, given as `--config`, describes the same run.
    """
    settings: dict[str, Any] = {}
    for group in groups:
        for entry in dataclasses.fields(group):
            if not entry.init or entry.name.startswith("_"):
                continue
            value = getattr(group, entry.name)
            value = value.value if isinstance(value, Enum) else value
            factory = entry.default_factory
            default = entry.default if isinstance(factory, dataclasses._MISSING_TYPE) else factory()
            if value != default and isinstance(value, (str, int, float, bool, list, dict, type(None))):
                settings[entry.name] = value
    if settings.get("report_to") == []:
        settings["report_to"] = "none"  # what an empty list was made from, and the only way to ask for it again
    # Of the two sizes TRL derives one from the other and refuses to be given both.
    if "generation_batch_size" in settings:
        settings.pop("steps_per_generation", None)
    return settings


def _read_config(path: Path, parser: TrlParser) -> dict[str, Any]:
    config = read_mapping(path)
    types = {name: kind for group in parser.dataclass_types for name, kind in get_type_hints(group).items()}
    types = {action.dest: types[action.dest] for action in parser._actions if action.dest in types}
    for key, value in config.items():
        if key not in types:
            raise UserError(f"{path}: unknown setting {key!r}{_did_you_mean(str(key), types)}")
        wanted = _wanted(types[key], value)
        if wanted and key not in _SWITCHES:
            raise UserError(f"{path}: {key} is {value!r}: give {wanted}")
    return config


def _wanted(kind: Any, value: Any) -> str | None:
    """Say what a YAML value should have been, or None if it will do; argparse converts and checks strings only."""
    kinds = [get_origin(one) or one for one in (get_args(kind) if get_origin(kind) in (Union, UnionType) else [kind])]
    if list not in kinds and isinstance(value, str):
        return None
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        list: "a list, such as [a, b]",
        str: "text",
    }
    if value is None or not all(one in names or one is type(None) for one in kinds):
        return None
    fits = {
        int: isinstance(value, int) and not isinstance(value, bool),
        float: isinstance(value, (int, float)) and not isinstance(value, bool),
        bool: isinstance(value, bool),
        list: isinstance(value, list),
        str: isinstance(value, str),
    }
    kinds = [one for one in kinds if one in names]
    return None if any(fits[one] for one in kinds) else " or ".join(names[one] for one in kinds)


def _did_you_mean(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, [str(option) for option in known], n=1, cutoff=0.75)
    return f": did you mean {near[0]}?" if near else ": `r1sharevl train --list-options` shows all"
