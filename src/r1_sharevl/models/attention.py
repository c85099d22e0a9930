"""Which attention implementation a run uses: what the user asks for, else the fastest that is installed and fits."""

import importlib.metadata
import inspect
import logging
import re
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import (
    is_flash_attn_2_available,
    is_flash_attn_3_available,
    is_flash_attn_4_available,
    is_kernels_available,
)

from ..errors import UserError

logger = logging.getLogger(__name__)

# Package, and how transformers tells that it can be used here (package and GPU).
_FLASH: dict[str, tuple[str, Any]] = {
    "flash_attention_2": ("flash-attn", is_flash_attn_2_available),
    "flash_attention_3": ("flash-attn-3", is_flash_attn_3_available),
    "flash_attention_4": ("flash-attn-4", is_flash_attn_4_available),
}
_HOPPER, _AMPERE = (9, 0), (8, 0)


def attention_implementation(
    asked: str | None, model: PreTrainedModel, *, device: torch.device, dtype: str | None, autocast: bool
) -> str:
    """Choose the attention implementation and log the choice in one line.

    FlashAttention 3 on Hopper, else FlashAttention 2, where the package is installed, the computation is in half
    precision, and the model can use it. Otherwise PyTorch's scaled dot product attention, or "eager" where a model has
    nothing else. Kernels of the Hub are loaded only when the user names them.

    Args:
        asked: The user's `attn_implementation`; it is taken as it is, or refused.
        model: The model or its skeleton.
        device: What the run computes on.
        dtype: Name of the weights' data type.
        autocast: Whether the run computes in half precision whatever the weights' data type (`bf16` or `fp16`).

    Raises:
        UserError: What the user asks for is not installed, or cannot work on this device or in this precision.
    """
    half = autocast or dtype in ("bfloat16", "float16")
    if asked is not None:
        _check(asked, device=device, half=half)
        logger.info(f"Attention: {asked}, as asked for")
        return asked
    chosen, reason = _choose(model, device=device, half=half)
    logger.info(f"Attention: {chosen} ({reason})")
    return chosen


def _choose(model: PreTrainedModel, *, device: torch.device, half: bool) -> tuple[str, str]:
    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    otherwise = "sdpa" if all(part._supports_sdpa for part in parts) else "eager"
    if device.type != "cuda":
        return otherwise, f"FlashAttention needs a CUDA device, this is {device.type}"
    capability = torch.cuda.get_device_capability(device)
    installed = [name for name in ("flash_attention_3", "flash_attention_2") if _FLASH[name][1]()]
    if capability[0] != _HOPPER[0]:
        installed = [name for name in installed if name != "flash_attention_3"]
    if not installed or capability < _AMPERE:
        return otherwise, "no FlashAttention package for this GPU is installed"
    if not half:
        return otherwise, "FlashAttention needs bf16 or fp16"
    if not all(part._supports_flash_attn for part in parts):
        return otherwise, "this model does not support FlashAttention"
    if "token_type_ids" in inspect.signature(model.forward).parameters:
        return otherwise, "this model's image tokens see each other in both directions, which FlashAttention cannot do"
    return installed[0], f"{_FLASH[installed[0]][0]} {_version(_FLASH[installed[0]][0])} is installed"


def _check(asked: str, *, device: torch.device, half: bool) -> None:
    flash = asked in _FLASH or "flash-attn" in asked
    if asked in _FLASH and not _FLASH[asked][1]() and not is_kernels_available():
        package = _FLASH[asked][0]
        found = (
            f"{package} {_version(package)} is installed, but there is no CUDA" if _version(package) else "not found"
        )
        raise UserError(
            f"attn_implementation {asked} needs the package {package} and a CUDA GPU ({found}): install it, or leave "
            "attn_implementation out to use sdpa"
        )
    if re.fullmatch(r"[^/\s]+/[^/\s]+", asked) and not is_kernels_available():
        raise UserError(
            f"attn_implementation {asked} is a kernel of the Hub and needs the package kernels: pip install kernels, "
            "or leave attn_implementation out to use sdpa"
        )
    if flash and device.type != "cuda":
        raise UserError(
            f"attn_implementation {asked} needs a CUDA GPU, this run is on {device.type}: leave attn_implementation out"
        )
    if flash and not half:
        raise UserError(
            f"attn_implementation {asked} computes in bf16 or fp16 only: give --bf16 true, or leave "
            "attn_implementation out to use sdpa"
        )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
