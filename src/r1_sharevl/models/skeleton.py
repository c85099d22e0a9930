"""A model without weights: its modules, to learn what is in it before anything is loaded."""

from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from transformers.modeling_utils import set_zero3_state

from ..errors import UserError
from .checkpoints import first_line


def load_skeleton(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedModel:
    """Build the modules of a checkpoint on the meta device: nothing but its config is read.

    Args:
        name: Folder or Hub id.
        revision: Branch, tag or commit on the Hub.
        trust_remote_code: Whether code from the Hub may run.

    Raises:
        UserError: The config cannot be loaded, or belongs to no model that answers questions about images.
    """
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
        return build_skeleton(config, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{name}: cannot be loaded: {first_line(error)}") from error


def build_skeleton(config: PreTrainedConfig, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """Build the modules of a config on the meta device, of the class that TRL would load.

    Raises:
        ValueError: The config belongs to no vision-language model, and names no architecture.
    """
    architecture: Any = getattr(transformers, (config.architectures or [""])[0], None)
    # Under DeepSpeed ZeRO-3 transformers cuts up every model as it is made, which a tensor without data cannot bear; so
    # it is told that this has been done.
    with set_zero3_state(), torch.device("meta"):
        if architecture is not None:
            return architecture._from_config(config)
        return AutoModelForImageTextToText.from_config(config, trust_remote_code=trust_remote_code)
