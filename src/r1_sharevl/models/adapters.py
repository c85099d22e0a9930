"""LoRA adapters: from the user's settings to peft's."""

import dataclasses
import logging
import re
from typing import Any

from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from transformers import PreTrainedModel
from trl import ModelConfig, get_peft_config

from ..errors import UserError
from .vision import vision_parts

logger = logging.getLogger(__name__)


def adapter_config(
    model_args: ModelConfig, model: PreTrainedModel, *, train_vision: bool | None = False
) -> LoraConfig | None:
    """Return peft's settings for LoRA, or None for full fine-tuning.

    Without `lora_target_modules` every linear layer of the language model gets an adapter, and with `train_vision`
    those of the vision tower and the projector, too. The output head gets none.

    Args:
        model_args: The user's settings. `lora_target_modules` is taken as given, outside the vision tower.
        model: The model or its skeleton, to tell the language model from what sees the images.
        train_vision: Whether the vision tower and the projector get adapters.

    Raises:
        UserError: No layer has a name of `lora_target_modules`.
    """
    config: Any = get_peft_config(model_args)
    if config is None:
        return None
    if model_args.lora_target_modules is None:
        config.target_modules = "all-linear"
    elif isinstance(config.target_modules, str) and config.target_modules.isidentifier():
        # TRL makes a string of a list of one, which peft takes for a pattern of whole paths: it would match nothing.
        config.target_modules = {config.target_modules}
    parts = vision_parts(model)
    if parts and not train_vision:
        config.exclude_modules = rf"({'|'.join(re.escape(part) for part in parts)})(\..+)?"
    if config.target_modules != "all-linear" and not config.target_parameters:
        _check_targets(config, model)
    experts = fused_experts(model)
    if experts and not model_args.lora_target_parameters:
        logger.warning(
            f"The experts of this model are fused parameters ({', '.join(experts)}), not linear layers, and get no "
            "adapters: name them in lora_target_parameters, with lora_dropout 0, to adapt them."
        )
    return config


def _check_targets(config: LoraConfig, model: PreTrainedModel) -> None:
    names = [name for name, _ in model.named_modules()]
    if any(check_target_module_exists(config, name) for name in names):
        return
    asked = config.target_modules if isinstance(config.target_modules, str) else ", ".join(config.target_modules or ())
    everywhere = dataclasses.replace(config, exclude_modules=None)
    if any(check_target_module_exists(everywhere, name) for name in names):
        raise UserError(
            f"lora_target_modules {asked} names layers of the vision tower only, which is frozen: add --train_vision"
        )
    raise UserError(
        f"lora_target_modules {asked}: the model has no such layer; leave it out to adapt every linear layer"
    )


def fused_experts(model: PreTrainedModel) -> list[str]:
    """Name the parameters that hold all experts of a layer in one tensor, as `lora_target_parameters` takes them."""
    names = (name for name, parameter in model.get_decoder().named_parameters() if parameter.ndim == 3)
    return sorted({re.sub(r"^.*?\.\d+\.", "", name) for name in names if "expert" in name})
