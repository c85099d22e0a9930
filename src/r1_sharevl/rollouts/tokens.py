"""Runs images and prompts through a model's processor, each distinct one once."""

from collections.abc import Sequence
from typing import Any

import torch

from ..errors import UserError
from ..shared_prefix.images import PreparedImages, no_images
from .conversations import Messages


def prepare_images(processor: Any, pictures: Sequence[Any]) -> PreparedImages:
    """Run distinct images through the image processor, each once.

    Args:
        processor: Of a Qwen vision-language model.
        pictures: PIL images, or whatever else the processor takes.

    Raises:
        UserError: The processor refuses one of them, such as a strip 200 times as long as it is wide.
    """
    if not pictures:
        return no_images()
    try:
        prepared = processor.image_processor(images=list(pictures), return_tensors="pt")
    except ValueError as error:
        raise UserError(f"an image cannot be prepared for the model: {error}") from error
    grids = prepared["image_grid_thw"]
    return PreparedImages(list(prepared["pixel_values"].split(grids.prod(-1).tolist())), grids)


def prompt_ids(
    processor: Any, prompts: Sequence[Messages], numbers: Sequence[Sequence[int]], grids: torch.Tensor, **template: Any
) -> list[list[int]]:
    """Tokenise conversations as the processor does, from the sizes of images that were prepared before.

    Args:
        processor: Of a Qwen vision-language model.
        prompts: Conversations, their contents as lists of parts.
        numbers: The images of each, as rows of `grids`.
        grids: Patches of each distinct image (time, height, width), shape `(D, 3)`.
        template: Further arguments of the chat template, `chat_template` among them.

    Returns:
        One list of ids per prompt.

    Raises:
        UserError: A prompt has more or fewer places for images than images, or a place for a video.
    """
    texts = processor.apply_chat_template(list(prompts), add_generation_prompt=True, tokenize=False, **template)
    for text, own in zip(texts, numbers, strict=True):
        _check_places(processor, text, len(own))
    shown = {"image_grid_thw": grids[[number for own in numbers for number in own]]}
    marks = [processor.replace_image_token(shown, image_idx=index) for index in range(len(shown["image_grid_thw"]))]
    expanded, _ = processor.get_text_with_replacements(list(texts), marks)
    bos = processor.tokenizer.bos_token
    # As the processor does it: a template that writes the first token itself must not get it twice.
    settings = {"add_special_tokens": False} if bos is not None and expanded[0].startswith(bos) else {}
    ids: list[list[int]] = processor.tokenizer(expanded, **settings)["input_ids"]
    return ids


def _check_places(processor: Any, text: str, num_images: int) -> None:
    """The processor counts them over a whole batch; a text that spells a mark out would get another row's image."""
    found = text.count(processor.image_token)
    if found != num_images:
        raise UserError(
            f"a prompt has {found} places {processor.image_token} for {num_images} images: take marks out of its text, "
            f"and look for a chat template that leaves images out; it begins with {text[:200]!r}"
        )
    if processor.video_token in text:
        raise UserError(
            f"a prompt has a place for a video ({processor.video_token}), and only images can be trained on: take it "
            f"out; it begins with {text[:200]!r}"
        )
