"""The names under which a model's weights are saved."""

from typing import Any


def keep_used_conversions(model: Any) -> None:
    """Let a model be saved under the names of the checkpoint it was loaded from, also with DeepSpeed ZeRO-3.

    transformers 5 renames weights as it loads them, remembers how, and undoes that when it saves. With ZeRO-3 it also
    remembers renamings that matched nothing (transformers 5.23, `_load_state_dict_into_zero3_model`), and undoing those
    saves Qwen2.5-VL's `model.layers.0` as `model.model.layers.0`, which only transformers can read.

    Args:
        model: A model that `from_pretrained` made.
    """
    conversions = getattr(model, "_weight_conversions", None)
    if conversions is not None:
        model._weight_conversions = [conversion for conversion in conversions if conversion.was_used()]
