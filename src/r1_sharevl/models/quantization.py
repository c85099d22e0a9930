"""QLoRA: a frozen base in 4 bits, from the user's settings to transformers' and bitsandbytes'."""

from typing import Any

from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.utils import is_bitsandbytes_available
from trl import ModelConfig, get_quantization_config

from ..errors import UserError
from .vision import vision_parts


def check_quantization(model_args: ModelConfig) -> None:
    """Refuse what cannot be trained, before anything is loaded.

    Raises:
        UserError: The base is to be quantised without adapters to train, or bitsandbytes is missing.
    """
    name = "load_in_4bit" if model_args.load_in_4bit else "load_in_8bit" if model_args.load_in_8bit else None
    if name is None:
        return
    if not model_args.use_peft:
        raise UserError(f"{name} without use_peft: quantised weights cannot be trained, add --use_peft for QLoRA")
    if not is_bitsandbytes_available():
        raise UserError(f'{name} needs bitsandbytes, which is not installed: pip install "r1-sharevl[quantization]"')


def check_sharded_quantization(model_args: ModelConfig, kind: str) -> None:
    """Refuse to cut up weights that bitsandbytes packs.

    Args:
        model_args: The user's settings.
        kind: How the run is spread over GPUs; "fsdp2" and "zero3" cut up the weights.

    Raises:
        UserError: They do, and the weights are to be quantised.
    """
    sharding = {"fsdp2": "FSDP", "zero3": "DeepSpeed ZeRO-3"}.get(kind)
    if sharding is not None and (model_args.load_in_4bit or model_args.load_in_8bit):
        name = "load_in_4bit" if model_args.load_in_4bit else "load_in_8bit"
        raise UserError(
            f"{name} does not go with {sharding}, which cuts up the weights that bitsandbytes packs: launch with "
            "--accelerate ddp (a copy on every GPU), or leave the quantisation out"
        )


def quantization_config(model_args: ModelConfig, model: PreTrainedModel) -> BitsAndBytesConfig | None:
    """Return transformers' settings for a quantised base, or None.

    The linear layers of the language model are quantised. The output head, as everywhere, and the vision tower with its
    projector keep their data type: they are a small share of the weights, and their errors reach every image token.

    Args:
        model_args: The user's settings.
        model: The model or its skeleton, to name the parts that are left alone.

    Raises:
        UserError: The checkpoint is quantised already and there are no adapters to train.
    """
    saved: Any = model.config
    if getattr(saved, "quantization_config", None) is not None and not model_args.use_peft:
        raise UserError(
            f"{model_args.model_name_or_path}: its weights are quantised and cannot be trained, add --use_peft for "
            "QLoRA or take the checkpoint that was not quantised"
        )
    config = get_quantization_config(model_args)
    if config is None:
        return None
    head = model.get_output_embeddings()
    left_alone = [*vision_parts(model), *(name for name, module in model.named_modules() if module is head)]
    config.llm_int8_skip_modules = left_alone  # of 4-bit layers, too, whatever its name says
    return config
