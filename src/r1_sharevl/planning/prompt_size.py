"""How long prompts are and how large their images: from a prepared set, or from the pixel bounds."""

import io
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from ..data.schema import load_prepared
from ..errors import UserError
from ..models.known_models import PIXEL_BOUNDS
from ..prompts import to_messages
from .shapes import vision_shape

ASSUMED_TEXT_TOKENS = 256
"""Tokens of a question with its instruction and chat marks, where no data says it."""

_ASSUMED_SIDE = 1024
_CHARACTERS_PER_TOKEN = 3  # a low guess, so that lengths come out high; used only without a tokenizer
_SAMPLE = 256


@dataclass(frozen=True)
class ImageSize:
    """What one image costs.

    Attributes:
        tokens: Places it takes in the prompt.
        patches: Rows that go through the vision tower.
        pixel_bytes: Bytes of its `pixel_values` (float32).
    """

    tokens: int
    patches: int
    pixel_bytes: int


@dataclass(frozen=True)
class PromptSize:
    """A prompt as the batch is padded to.

    Attributes:
        text_tokens: Without the images' tokens.
        images: Images per prompt.
        image: The size of each.
        source: Where the numbers come from, for people.
        questions: Rows of the data set, None if it was not read.
        typical_tokens: Of a typical prompt, images included.
    """

    text_tokens: int
    images: int
    image: ImageSize
    source: str
    questions: int | None = None
    typical_tokens: int | None = None

    @property
    def tokens(self) -> int:
        """Tokens of the prompt, images included."""
        return self.text_tokens + self.images * self.image.tokens

    @property
    def patches(self) -> int:
        """Rows that go through the vision tower."""
        return self.images * self.image.patches

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the prompt's `pixel_values`."""
        return self.images * self.image.pixel_bytes


def image_size(
    config: Any, processor: Any, height: int, width: int, min_pixels: int | None = None, max_pixels: int | None = None
) -> ImageSize:
    """Say what an image costs after the model's image processor.

    Args:
        config: The model's config.
        processor: The model's processor with its pixel bounds set; None takes the arithmetic and bounds of the
            published Qwen-VL processors.
        height, width: Of the image, in pixels.
        min_pixels, max_pixels: The run's bounds, used where there is no processor.

    Raises:
        UserError: There is no processor, and the model is not of the Qwen-VL families.
    """
    vision = vision_shape(config)
    if vision is None:
        return ImageSize(0, 0, 0)
    if config.model_type in PIXEL_BOUNDS:
        lowest, highest = _bounds(config, processor, min_pixels, max_pixels)
        # Qwen-VL: both sides are multiples of patch x merge; merge x merge patches become one token.
        tall, wide = smart_resize(height, width, vision.patch * vision.merge, lowest, highest)
        patches = (tall // vision.patch) * (wide // vision.patch)
        return ImageSize(patches // vision.merge**2, patches, patches * vision.numbers_per_patch * 4)
    if processor is None:
        raise UserError(
            f"the number of image tokens of a {config.model_type} cannot be known without its processor: give the "
            "folder of a downloaded checkpoint"
        )
    counted = processor._get_num_multimodal_tokens(image_sizes=[(height, width)])
    pixels = processor.image_processor(images=[Image.new("RGB", (width, height))], return_tensors="pt")["pixel_values"]
    return ImageSize(
        int(counted["num_image_tokens"][0]), pixels.numel() // vision.numbers_per_patch, pixels.numel() * 4
    )


def assumed_prompt(config: Any, processor: Any, min_pixels: int | None, max_pixels: int | None) -> PromptSize:
    """Assume one image as large as the bounds allow (at most 1024 x 1024 is called typical) and a usual question."""
    if vision_shape(config) is None:
        return PromptSize(ASSUMED_TEXT_TOKENS, 0, ImageSize(0, 0, 0), "assumed: a question without images")
    typical = image_size(config, processor, _ASSUMED_SIDE, _ASSUMED_SIDE, min_pixels, max_pixels)
    worst, what = typical, f"an image of {_ASSUMED_SIDE} x {_ASSUMED_SIDE}"
    if config.model_type in PIXEL_BOUNDS and (max_pixels is not None or processor is not None):
        vision = vision_shape(config)
        assert vision is not None  # noqa: S101
        _, highest = _bounds(config, processor, min_pixels, max_pixels)
        tokens = max(1, highest // (vision.patch * vision.merge) ** 2)
        patches = tokens * vision.merge**2
        worst = ImageSize(tokens, patches, patches * vision.numbers_per_patch * 4)
        what = f"an image of {highest:,} pixels"
        if worst.tokens < typical.tokens:
            typical = worst
    return PromptSize(
        ASSUMED_TEXT_TOKENS,
        1,
        worst,
        f"assumed: {what} and {ASSUMED_TEXT_TOKENS} tokens of text; a prepared set gives the real lengths",
        typical_tokens=ASSUMED_TEXT_TOKENS + typical.tokens,
    )


def measured_prompt(
    folder: Path,
    split: str,
    config: Any,
    processor: Any,
    instruction: str,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> PromptSize:
    """Measure the longest prompt among a sample of a prepared set's rows; images are not decoded.

    Raises:
        UserError: The folder is no prepared set.
    """
    dataset = load_prepared(folder, split)
    stride = max(1, len(dataset) // _SAMPLE)
    rows = dataset.select(range(0, len(dataset), stride)).select_columns(["problem", "variants", "images"])
    longest: PromptSize | None = None
    lengths: list[int] = []
    source = f"the longest of {len(rows)} prompts of {folder}"
    for row in rows.with_format("arrow").iter(batch_size=1):
        row = {name: column[0].as_py() for name, column in zip(row.column_names, row.columns, strict=True)}
        costs = [_cost(image, config, processor, min_pixels, max_pixels) for image in row["images"] or []]
        largest = max(costs, key=lambda cost: cost.tokens, default=ImageSize(0, 0, 0))
        wordings = [row["problem"], *(row["variants"] or [])]
        text = max(_text_tokens(wording, len(costs), processor, instruction) for wording in wordings)
        size = PromptSize(text, len(costs), largest, source, len(dataset))
        lengths.append(size.tokens)
        if longest is None or size.tokens > longest.tokens:
            longest = size
    assert longest is not None  # noqa: S101 (a prepared set has rows)
    return PromptSize(
        longest.text_tokens, longest.images, longest.image, source, len(dataset), int(statistics.median(lengths))
    )


def _bounds(config: Any, processor: Any, min_pixels: int | None, max_pixels: int | None) -> tuple[int, int]:
    size = getattr(getattr(processor, "image_processor", None), "size", None)
    lowest, highest = PIXEL_BOUNDS[config.model_type]
    if size is not None and "shortest_edge" in size:
        lowest, highest = size["shortest_edge"], size["longest_edge"]
    return min_pixels or lowest, max_pixels or highest


def _cost(image: dict[str, Any], config: Any, processor: Any, low: int | None, high: int | None) -> ImageSize:
    with Image.open(io.BytesIO(image["bytes"]) if image.get("bytes") else image["path"]) as picture:
        width, height = picture.size
    return image_size(config, processor, height, width, low, high)


def _text_tokens(text: str, images: int, processor: Any, instruction: str) -> int:
    messages = to_messages(text, images, instruction)
    if processor is None:
        characters = sum(len(part.get("text", "")) for part in messages[0]["content"])
        return -(-characters // _CHARACTERS_PER_TOKEN) + 16 + 2 * images  # chat marks; an image's start and end
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return len(processor.tokenizer(prompt)["input_ids"])
