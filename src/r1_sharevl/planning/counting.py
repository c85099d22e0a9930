"""What a model holds in memory for its parameters, counted on the real module tree without any weights."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model
from torch import nn
from transformers import AutoConfig, PreTrainedConfig
from transformers.quantizers import AutoHfQuantizer
from trl import ModelConfig

from ..errors import UserError
from ..models.adapters import adapter_config
from ..models.checkpoints import check_checkpoint, first_line
from ..models.known_models import known_config
from ..models.quantization import quantization_config
from ..models.skeleton import build_skeleton
from ..models.vision import freeze_vision

# bitsandbytes' defaults (bitsandbytes/functional.py, `quantize_4bit`): one float32 scale per 64 weights; with double
# quantisation one byte per 64 weights, and one float32 scale per 256 of those.
_BLOCK, _NESTED_BLOCK = 64, 256


@dataclass(frozen=True)
class Parameter:
    """One parameter as it lies on the GPU.

    Attributes:
        elements: Numbers in it.
        bytes: With what quantisation keeps beside it.
        dtype: Of the stored numbers; `torch.uint8` for packed 4-bit weights.
        trainable: Whether it has a gradient and optimizer state.
        part: "language", "vision", "embeddings" (input and output) or "other".
        layer: Name of the layer that holds it, or None outside the layers. A layer is what FSDP gathers at once.
        adapter: Whether it belongs to an adapter.
        quantised: Whether it is stored in 4 or 8 bits.
    """

    elements: int
    bytes: int
    dtype: torch.dtype
    trainable: bool
    part: str
    layer: str | None
    adapter: bool
    quantised: bool


@dataclass(frozen=True)
class ParameterCount:
    """The parameters of a model, each once (tied ones are shared)."""

    parameters: tuple[Parameter, ...]

    @property
    def total(self) -> int:
        """Parameters, adapters included."""
        return sum(one.elements for one in self.parameters)

    @property
    def trainable(self) -> int:
        """Parameters that are trained."""
        return sum(one.elements for one in self.parameters if one.trainable)

    def bytes_of(self, *, adapter: bool) -> int:
        """Bytes of the adapters, or of everything else."""
        return sum(one.bytes for one in self.parameters if one.adapter is adapter)

    def largest_layer(self, bytes_per_element: int) -> int:
        """Bytes of the largest layer when it is held in a dtype of so many bytes."""
        layers: dict[str, int] = {}
        for one in self.parameters:
            if one.layer is not None:
                layers[one.layer] = layers.get(one.layer, 0) + one.elements * bytes_per_element
        return max(layers.values(), default=0)

    def outside_layers(self, bytes_per_element: int) -> int:
        """Bytes of what is in no layer (embeddings, projector) in a dtype of so many bytes."""
        return sum(one.elements for one in self.parameters if one.layer is None) * bytes_per_element


def load_config(name: str, revision: str | None = None, *, trust_remote_code: bool = False) -> tuple[Any, str]:
    """Return a model's config and where it comes from: "checkpoint" or "built-in table".

    Raises:
        UserError: It is neither a readable checkpoint nor a well-known model.
    """
    check_checkpoint(name)
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
        return config, "checkpoint"
    except (OSError, ValueError, KeyError) as error:
        known = known_config(name)
        if known is not None:
            return known, "built-in table"
        raise UserError(f"{name}: its config cannot be loaded: {first_line(error)}") from error


def build_on_meta(
    config: PreTrainedConfig,
    model_args: ModelConfig,
    *,
    train_vision: bool | None = None,
    trust_remote_code: bool = False,
) -> nn.Module:
    """Build a model as the trainer does, with its 4-bit layers and adapters, but without memory for its weights.

    Args:
        config: The model's config.
        model_args: The model's settings.
        train_vision: Whether the vision tower is trained; None trains it in full fine-tuning only.
        trust_remote_code: Whether code from the Hub may run.
    """
    dtype: Any = getattr(config, "dtype", None) if model_args.dtype == "auto" else model_args.dtype
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype or torch.float32
    model: Any = build_skeleton(config, trust_remote_code=trust_remote_code).to(dtype)
    quantization = quantization_config(model_args, model)
    lora = adapter_config(model_args, model, train_vision=train_vision)
    with torch.device("meta"):
        if quantization is not None:
            quantizer: Any = AutoHfQuantizer.from_config(quantization, pre_quantized=False)
            quantizer.preprocess_model(model=model, device_map=None)
            quantizer._process_model_after_weight_loading(model)  # marks it for peft
            for parameter in model.parameters():  # the biases of the new layers, which loading casts
                if type(parameter).__name__ == "Parameter":
                    parameter.data = parameter.data.to(dtype)
        if lora is not None:
            model = get_peft_model(model, lora, low_cpu_mem_usage=True)
    if lora is None and train_vision is False:
        freeze_vision(model)
    built: nn.Module = model
    return built


def count_parameters(model: nn.Module, *, double_quantised: bool = False) -> ParameterCount:
    """Count the parameters of a model, on any device, "meta" included.

    Args:
        model: With or without adapters and 4-bit layers.
        double_quantised: Whether 4-bit scales are quantised, too; only asked where the weights are not there.
    """
    return ParameterCount(tuple(_parameters(model, double_quantised)))


def _parameters(model: nn.Module, double_quantised: bool) -> Iterable[Parameter]:
    embeddings = {
        id(parameter)
        for module in (_embedding(model, "get_input_embeddings"), _embedding(model, "get_output_embeddings"))
        if module is not None
        for parameter in module.parameters()
    }
    linears: list[Any] = [module for module in model.modules() if type(module).__name__ == "Linear8bitLt"]
    eight_bit = {id(linear.weight): linear.weight.shape[0] for linear in linears}
    for name, parameter in model.named_parameters():
        kind = type(parameter).__name__
        elements, size, dtype = parameter.numel(), parameter.numel() * parameter.element_size(), parameter.dtype
        quantised = kind == "Params4bit" or id(parameter) in eight_bit
        if kind == "Params4bit":
            state = getattr(parameter, "quant_state", None)
            nested = double_quantised
            if state is not None:  # a real weight, packed
                elements, nested = math.prod(state.shape), state.nested
            size, dtype = _four_bit_bytes(elements, nested=nested), torch.uint8
        elif quantised:  # one byte per weight and one float32 scale per output row
            size, dtype = elements + 4 * eight_bit[id(parameter)], torch.int8
        layer = re.search(r"^(.*?\.(?:layers|blocks|layer|h|deepstack_merger_list)\.\d+)\.", name)
        yield Parameter(
            elements=elements,
            bytes=size,
            dtype=dtype,
            trainable=parameter.requires_grad,
            part="embeddings" if id(parameter) in embeddings else _part(name),
            layer=layer[1] if layer else None,
            adapter="lora_" in name,
            quantised=quantised,
        )


def _embedding(model: nn.Module, method: str) -> nn.Module | None:
    try:
        module: nn.Module | None = getattr(model, method)()
    except (AttributeError, NotImplementedError):
        return None
    return module


def _part(name: str) -> str:
    if re.search(r"\b(visual|vision_tower|vision_model|vision_encoder)\b", name):
        return "vision"
    return "language" if re.search(r"\b(language_model|layers)\b", name) else "other"


def _four_bit_bytes(elements: int, *, nested: bool) -> int:
    scales = -(-elements // _BLOCK)
    packed = -(-elements // 2)
    return packed + (scales + 4 * -(-scales // _NESTED_BLOCK) if nested else 4 * scales)
