"""The nine image transforms of the question space, each in one object with the hint that tells it truthfully.

What the R1-ShareVL release (`verl/utils/dataset.py`) calls them:

| here | release | what the release does differently |
|---|---|---|
| `rotate_90_clockwise` | `rotate_90cw` | its hint says "counterclockwise" |
| `rotate_90_counterclockwise` | `rotate_90ccw` | its hint says "clockwise" and runs into the question |
| `rotate_180` | `rotate_180cw` | |
| `gaussian_noise_10` | `gaussian_noise_mean0_std10` | cuts decimals off, which darkens by half a grey level |
| `gaussian_noise_25` | `gaussian_noise_mean0_std25` | the same |
| `gaussian_noise_50` | `gaussian_noise_mean0_std50` | the same |
| `flip_vertical` | `vertically_flipped` | |
| `flip_horizontal` | `horizontally_flipped` | |
| `flip_both` | `horizontally_vertically_flipped` | |

The hints are in our words. `flip_both` and `rotate_180` give the same pixels; the release has both, and so have we:
their hints differ and are both true.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from PIL import Image

Operation = Callable[[Image.Image, np.random.Generator], Image.Image]


@dataclass(frozen=True)
class ImageTransform:
    """One way to change an image, and the sentence that tells the model.

    Attributes:
        name: The name users write in `image_transforms`.
        hint: What was done to the question's one image, and which image the answer is for.
        hint_for_several: The same where the question has several images, all changed alike.
        operation: Makes the changed image from an RGB image; only the noise draws from the generator.
    """

    name: str
    hint: str
    hint_for_several: str
    operation: Operation

    def apply(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return the transformed image, always a new one in mode RGB; `image` is left as it is."""
        return self.operation(to_rgb(image), rng)

    def hint_for(self, num_images: int) -> str:
        """Return the hint that fits the number of images."""
        return self.hint if num_images == 1 else self.hint_for_several


def to_rgb(image: Image.Image) -> Image.Image:
    """Return `image` in mode RGB, transparent parts on white, as transformers' image processors show it to a model."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _transposed(method: Image.Transpose) -> Operation:
    return lambda image, rng: image.transpose(method)


def _with_noise(sigma: float) -> Operation:
    def operation(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        pixels = np.asarray(image, dtype=np.float32)
        noisy = pixels + np.float32(sigma) * rng.standard_normal(pixels.shape, dtype=np.float32)
        return Image.fromarray(np.rint(noisy).clip(0, 255).astype(np.uint8))

    return operation


def _geometric(name: str, change: str, undo: str, method: Image.Transpose) -> ImageTransform:
    return ImageTransform(
        name,
        f"The image has been {change}: {undo} it back in your mind and answer the question for the corrected image.",
        f"Each image has been {change}: {undo} it back in your mind and answer the question for the corrected images.",
        _transposed(method),
    )


def _noise(sigma: int) -> ImageTransform:
    change = f"Gaussian noise with a standard deviation of {sigma} grey levels (of 255) has been added to"
    return ImageTransform(
        f"gaussian_noise_{sigma}",
        f"{change} the image: look past it and answer the question for the original, clean image.",
        f"{change} each image: look past it and answer the question for the original, clean images.",
        _with_noise(sigma),
    )


_TABLE = (
    # PIL's angles are counterclockwise.
    _geometric("rotate_90_clockwise", "rotated 90 degrees clockwise", "turn", Image.Transpose.ROTATE_270),
    _geometric("rotate_90_counterclockwise", "rotated 90 degrees counterclockwise", "turn", Image.Transpose.ROTATE_90),
    _geometric("rotate_180", "rotated 180 degrees", "turn", Image.Transpose.ROTATE_180),
    _noise(10),
    _noise(25),
    _noise(50),
    _geometric(
        "flip_vertical",
        "flipped vertically, so that top and bottom are swapped",
        "flip",
        Image.Transpose.FLIP_TOP_BOTTOM,
    ),
    _geometric(
        "flip_horizontal",
        "flipped horizontally, so that left and right are swapped",
        "flip",
        Image.Transpose.FLIP_LEFT_RIGHT,
    ),
    _geometric(
        "flip_both",
        "flipped both vertically and horizontally, so that top and bottom and also left and right are swapped",
        "flip",
        Image.Transpose.ROTATE_180,
    ),
)

TRANSFORMS: Mapping[str, ImageTransform] = MappingProxyType({transform.name: transform for transform in _TABLE})
"""All image transforms by name, in the order of the table above."""
