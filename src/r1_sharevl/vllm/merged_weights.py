"""The weights of a model with its adapters merged in, as vLLM takes them, while the model stays as it is."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from ..errors import UserError


def merged_parameters(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Iterate over a PEFT model's parameters, those of adapted layers with the active adapters merged in.

    TRL merges into the model and takes the adapters out again. In bfloat16 that does not give back what was there: each
    time some weights of the frozen base end one rounding step away, and what is trained is no longer an adapter of the
    base that is on disk. Here each adapted layer is copied, merged in float32 and rounded once to its own dtype.

    Args:
        model: Not sharded. It may be on any device; one layer at a time has a copy there.

    Yields:
        Each parameter's name in `model` and its values, in the order of `named_parameters`, adapters included.
    """
    adapted: dict[int, BaseTunerLayer] = {}
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            # Adapters of several parameters of one module are wrapped around each other: the outermost comes first.
            adapted.setdefault(id(layer.get_base_layer()), layer)
    owner, merged = "", dict[str, torch.Tensor]()
    for path, parameter in model.named_parameters():
        place, _, name = path.rpartition(".")
        if place != owner:
            found = adapted.get(id(model.get_submodule(place)))
            owner, merged = place, {} if found is None else _merge_copy(found)
        yield path, merged.get(name, parameter.data)


def check_mergeable(model: Any, *, sharded: bool) -> None:
    """Refuse adapters whose merged weights vLLM cannot be given.

    Args:
        model: A PEFT model.
        sharded: Whether FSDP or DeepSpeed ZeRO-3 will spread its weights over the processes.

    Raises:
        UserError: The weights will be sharded, or an adapter changes one of two layers that share their weight.
    """
    if sharded:
        raise UserError(
            "use_vllm with LoRA does not go with FSDP or DeepSpeed ZeRO-3: merging the adapter into sharded weights at "
            "every step would change the frozen base. Use --accelerate ddp or zero2, leave use_vllm out, or train all "
            "weights"
        )
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for shared in names.values():
        wrapped = [name for name in shared if ".base_layer." in name or ".original_module." in name]
        if len(shared) > 1 and wrapped:
            raise UserError(
                f"use_vllm: {wrapped[0].removeprefix('base_model.model.')} has an adapter and is also the weight of "
                "another layer (tied embeddings), which vLLM cannot tell apart: take it out of lora_target_modules or "
                "lora_modules_to_save, or leave use_vllm out"
            )


@torch.no_grad()
def _merge_copy(layer: BaseTunerLayer) -> dict[str, torch.Tensor]:
    """Values of an adapted layer's own parameters after merging, by name."""
    dtypes = {name: parameter.dtype for name, parameter in layer.get_base_layer().named_parameters(recurse=False)}
    merging = copy.deepcopy(layer).float()
    for part in merging.modules():
        if isinstance(part, BaseTunerLayer):
            part.merge()
    base = merging.get_base_layer()
    return {name: base.get_parameter(name).data.to(dtype) for name, dtype in dtypes.items()}
