"""LoRA and QLoRA adapters: from the user's settings to peft's."""

from typing import Any

from peft import LoraConfig
from trl import ModelConfig, get_peft_config

VISION_MODULES = r".*\b(visual|vision_tower|vision_model|multi_modal_projector|connector|mlp1)\b.*"
"""Names of vision towers and projectors in the families of transformers (Qwen-VL, LLaVA, Gemma 3, InternVL, ...)."""


def adapter_config(model_args: ModelConfig, *, train_vision: bool = False) -> LoraConfig | None:
    """Return peft's settings for LoRA, or None for full fine-tuning.

    Without `lora_target_modules` every linear layer of the language model gets an adapter, and with `train_vision`
    those of the vision tower and the projector, too.
    """
    config: Any = get_peft_config(model_args)
    if config is not None and model_args.lora_target_modules is None:
        config.target_modules = "all-linear"
        if not train_vision:
            config.exclude_modules = VISION_MODULES
    return config
