"""The data type a model's weights are loaded in."""

from transformers import TrainingArguments
from trl import ModelConfig


def default_dtype(model_args: ModelConfig, args: TrainingArguments) -> str:
    """Return the data type of the weights where the user names none.

    Weights that are trained stay in float32: with a learning rate of 1e-6 most updates are smaller than bfloat16 can
    represent, and mixed precision computes in bfloat16 anyway. Frozen weights (LoRA, QLoRA) need no more precision than
    the computation has, so they take half the memory.

    Returns:
        One of `ModelConfig.dtype`'s names.
    """
    computed_in = "bfloat16" if args.bf16 else "float16" if args.fp16 else None
    if model_args.load_in_4bit or model_args.load_in_8bit:
        return computed_in or "bfloat16"
    if model_args.use_peft:
        return computed_in or "float32"
    return "float32"
