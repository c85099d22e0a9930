"""Processors and adapters for training: from the user's settings to peft's and transformers' objects."""

from pathlib import Path
from typing import Any

from peft import LoraConfig
from transformers import AutoProcessor, ProcessorMixin
from trl import ModelConfig, get_peft_config

from ..errors import UserError

VISION_MODULES = r".*\b(visual|vision_tower|vision_model|multi_modal_projector|connector|mlp1)\b.*"
"""Names of vision towers and projectors in the families of transformers (Qwen-VL, LLaVA, Gemma 3, InternVL, ...)."""


def load_processor(
    name: str,
    *,
    revision: str | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    trust_remote_code: bool = False,
) -> ProcessorMixin:
    """Load the processor of a checkpoint, with the pixel bounds of training and evaluation.

    Args:
        name: Folder or Hub id.
        revision: Branch, tag or commit on the Hub.
        min_pixels: Images with fewer pixels are enlarged to it.
        max_pixels: Images with more pixels are shrunk to it.
        trust_remote_code: Whether code from the Hub may run.

    Raises:
        UserError: There is no such checkpoint, or its processor takes no pixel bounds.
    """
    check_checkpoint(name)
    try:
        processor = AutoProcessor.from_pretrained(
            name,
            revision=revision,
            trust_remote_code=trust_remote_code,
            # TRL pads and truncates prompts on the left.
            padding_side="left",
            truncation_side="left",
        )
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load the processor of {name}: {str(error).splitlines()[0]}") from error
    if min_pixels is None and max_pixels is None:
        return processor
    image_processor: Any = getattr(processor, "image_processor", None)
    size = getattr(image_processor, "size", None)
    if size is None or "shortest_edge" not in size or "longest_edge" not in size:
        raise UserError(f"the processor of {name} takes no pixel bounds: leave min_pixels and max_pixels out")
    # Qwen-VL's image processors keep the bounds, in pixels, under these names.
    image_processor.size = {
        "shortest_edge": min_pixels or size["shortest_edge"],
        "longest_edge": max_pixels or size["longest_edge"],
    }
    return processor


def check_checkpoint(name: str) -> None:
    """Refuse a path that cannot be a checkpoint, before a library takes it for a Hub id.

    Raises:
        UserError: `name` looks like a path and is no folder with a config.json.
    """
    path = Path(name)
    if path.is_dir():
        if not any((path / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise UserError(f"{name} is no model checkpoint: it has no config.json")
    elif path.is_absolute() or name.startswith(".") or name.count("/") > 1 or path.exists():
        raise UserError(f"model folder {name} does not exist")


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
