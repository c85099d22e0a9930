"""What training and evaluation both need of a checkpoint: is it one, its processor, and its vision tokens."""

from pathlib import Path
from typing import Any

from transformers import AutoProcessor, ProcessorMixin

from ..errors import UserError

ADAPTER_CONFIG = "adapter_config.json"
_VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<image>")
_VISION_TOKEN_FIELDS = (
    "image_token_id",
    "image_token_index",
    "video_token_id",
    "video_token_index",
    "vision_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
)


def check_checkpoint(name: str, whose: str = "") -> None:
    """Refuse a path that cannot be a model, before a library takes it for a Hub id.

    Args:
        name: Folder or Hub id.
        whose: Put in front of the message, to say who named it.

    Raises:
        UserError: `name` looks like a path and is no folder with a config.json.
    """
    folder = Path(name)
    if not folder.exists():
        # A Hub id is `name` or `organisation/name`; anything else was meant to be a folder.
        if name.count("/") > 1 or name.startswith((".", "/", "~")):
            raise UserError(f"{whose}{name}: no such folder")
        return
    if folder.is_file():
        raise UserError(f"{whose}{name}: is a file, give the folder that holds the model")
    if not (folder / "config.json").is_file():
        checkpoints = sorted(
            (path for path in folder.glob("checkpoint-*") if path.name.rsplit("-", 1)[1].isdigit()),
            key=lambda path: int(path.name.rsplit("-", 1)[1]),
        )
        hint = f"did you mean {checkpoints[-1]}?" if checkpoints else "give the folder that save_pretrained wrote"
        raise UserError(f"{whose}{name}: not a model, it has neither config.json nor {ADAPTER_CONFIG}; {hint}")


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
        min_pixels: Images with fewer pixels are enlarged to it; None takes what is saved with the checkpoint.
        max_pixels: Images with more pixels are shrunk to it; None takes what is saved with the checkpoint.
        trust_remote_code: Whether code from the Hub may run.

    Raises:
        UserError: It cannot be loaded, or takes no pixel bounds.
    """
    try:
        processor = AutoProcessor.from_pretrained(
            name,
            revision=revision,
            trust_remote_code=trust_remote_code,
            # TRL pads and truncates prompts on the left, and so does batched generation.
            padding_side="left",
            truncation_side="left",
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{name}: its processor cannot be loaded: {first_line(error)}") from error
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


def vision_token_ids(processor: Any, config: Any) -> list[int]:
    """Ids of the tokens that stand for pictures: a model that samples one asks for an image that is not there.

    Args:
        processor: The model's processor.
        config: The model's config.

    Returns:
        The ids of those that this model has, sorted.
    """
    vocabulary = processor.tokenizer.get_vocab()
    found = {vocabulary[token] for token in _VISION_TOKENS if token in vocabulary}
    found.update(getattr(config, field, None) for field in _VISION_TOKEN_FIELDS)
    return sorted(token_id for token_id in found if token_id is not None)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
