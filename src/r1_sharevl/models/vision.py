"""What sees the images in a model: the vision tower and the projector, and how they are left out of training."""

from types import MethodType
from typing import Any

import torch
from transformers import PreTrainedModel


def vision_parts(model: PreTrainedModel) -> tuple[str, ...]:
    """Name the parts of a model that are neither its language model nor its output head.

    In a vision-language model these are the vision tower and the projector: `("model.visual",)` for Qwen-VL,
    `("model.vision_tower", "model.multi_modal_projector")` for LLaVA, Gemma 3 and InternVL. They are found by
    transformers' `get_decoder`, not by name: what stands beside the decoder, on the way down to it.

    Returns:
        Module names as in `model.named_modules()`; empty for a text model.
    """
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    path = next(name for name, module in model.named_modules() if module is decoder)
    parts: list[str] = []
    parent: torch.nn.Module = model
    above = ""
    for step in path.split(".") if path else []:
        for name, child in parent.named_children():
            if name != step and child is not head and any(True for _ in child.parameters()):
                parts.append(above + name)
        parent = parent.get_submodule(step)
        above += f"{step}."
    return tuple(parts)


def freeze_vision(model: PreTrainedModel) -> None:
    """Freeze the vision tower and the projector, for full fine-tuning of the language model alone."""
    for part in vision_parts(model):
        model.get_submodule(part).requires_grad_(False)


def stop_gradients_at_vision(model: Any) -> None:
    """Let the backward pass end before a frozen vision tower when there is gradient checkpointing.

    Gradient checkpointing wants an input with a gradient. transformers' `enable_input_require_grads` gives one to the
    embeddings of the vision tower, too, and TRL calls it again after every generation: a frozen tower would be
    recomputed and differentiated in every step for nothing. Only the text embeddings need it.

    Args:
        model: A model of transformers, or peft's wrapper around one.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.enable_input_require_grads = MethodType(_enable_text_gradients, base)
    base.enable_input_require_grads()


def _enable_text_gradients(model: Any) -> None:
    model.disable_input_require_grads()
    hook = model.get_input_embeddings().register_forward_hook(_require_grad)
    model._require_grads_hooks, model._require_grads_hook = [hook], hook  # where transformers looks to remove it


def _require_grad(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
    output.requires_grad_(True)
