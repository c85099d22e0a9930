"""When two pictures are the same picture, however they were scaled and encoded."""

import hashlib
import zlib
from dataclasses import dataclass

import numpy as np
import PIL.Image

_GRID = 64
_COLOUR_GRID = 16
_HASH_SIDE = 16
BANDS = 16
"""Bands of 16 bits: of two hashes that differ in at most 15 of the 256 bits, one band at least is equal."""

_MAX_HAMMING = 32
_MAX_ASPECT_ERROR = 0.02
# In grey levels times the side of a cell in pixels: what resampling and JPEG move across the border of a cell grows
# with its circumference, and the mean of the cell thins it out over its area. Measured on figures, charts and photos:
# re-encoding up to 100, a line moved by six pixels 220 and more.
_MAX_LEVEL = 100.0
_MAX_COLOUR = 120.0
# Re-encoding changes everything that is drawn by about as much; a changed digit stands out from the rest.
_MAX_ABOVE_90TH = 3.0
_MAX_ABOVE_75TH = 6.0
_DRAWN_CONTRAST = 12


@dataclass(frozen=True)
class PictureKey:
    """What two pictures are compared by.

    Attributes:
        width: Pixels.
        height: Pixels.
        bits: Perceptual hash, 256 bits: signs of the low frequencies of the cosine transform against their median.
        thumbnail: Compressed: 64 × 64 grey levels, then 16 × 16 of each colour difference.
    """

    width: int
    height: int
    bits: bytes
    thumbnail: bytes

    def bands(self) -> tuple[int, ...]:
        """Cut the hash into `BANDS` numbers."""
        return tuple(int.from_bytes(self.bits[2 * band : 2 * band + 2]) for band in range(BANDS))


def picture_key(image: PIL.Image.Image) -> PictureKey:
    """Make the key of a decoded RGB picture."""
    luma, *chroma = image.convert("YCbCr").split()
    grid = np.asarray(luma.resize((_GRID, _GRID), PIL.Image.Resampling.BICUBIC))
    colours = [
        np.asarray(channel.resize((_COLOUR_GRID, _COLOUR_GRID), PIL.Image.Resampling.BICUBIC)) for channel in chroma
    ]
    content = b"".join(plane.tobytes() for plane in (grid, *colours))
    return PictureKey(image.width, image.height, _perceptual_hash(grid), zlib.compress(content, 9))


def pixel_digest(image: PIL.Image.Image) -> bytes:
    """Hash a decoded RGB picture: equal for equal size and pixels, whatever the file was."""
    size = f"{image.width}x{image.height}".encode()
    return hashlib.blake2b(image.tobytes(), digest_size=16, salt=size[:16]).digest()


def same_picture(first: PictureKey, second: PictureKey) -> bool:
    """Tell whether two pictures differ by no more than scaling by a factor of about two and lossy encoding do.

    Both are compared as 64 × 64 mean grey levels and 16 × 16 mean colours. The same picture encoded twice differs a
    little in everything that is drawn; another picture with the same layout (a digit changed, a line moved) differs
    much in a few places. Cropped, rotated, mirrored and recoloured pictures are other pictures.
    """
    ratio = first.width * second.height / (first.height * second.width)
    if not 1 - _MAX_ASPECT_ERROR < ratio < 1 + _MAX_ASPECT_ERROR:
        # One pixel more or less is a lot for a small picture.
        scale = second.height / first.height
        if abs(second.width - first.width * scale) > 1 + scale:
            return False
    differing = int.from_bytes(first.bits) ^ int.from_bytes(second.bits)
    if differing.bit_count() > _MAX_HAMMING:
        return False
    if first.thumbnail == second.thumbnail:
        return True
    planes, others = _planes(first), _planes(second)
    level, *colours = (np.abs(plane - other) for plane, other in zip(planes, others, strict=True))
    side = min(first.width * first.height, second.width * second.height) ** 0.5
    if level.max() > max(1.0, _MAX_LEVEL * _GRID / side):
        return False
    if max(colour.max() for colour in colours) > max(2.0, _MAX_COLOUR * _COLOUR_GRID / side):
        return False
    drawn = np.maximum(_contrast(planes[0]), _contrast(others[0])) > _DRAWN_CONTRAST
    usual, common = _percentile(level[drawn], 90), _percentile(level[drawn], 75)
    return bool(level.max() <= max(1.0, min(_MAX_ABOVE_90TH * usual + 1.5, _MAX_ABOVE_75TH * (common + 1))))


def _percentile(values: np.ndarray, share: int) -> float:
    return float(np.percentile(values, share)) if values.size else 0.0


def _planes(key: PictureKey) -> tuple[np.ndarray, ...]:
    values = np.frombuffer(zlib.decompress(key.thumbnail), dtype=np.uint8).astype(np.int16)
    grid = values[: _GRID**2].reshape(_GRID, _GRID)
    return (grid, *values[_GRID**2 :].reshape(2, _COLOUR_GRID, _COLOUR_GRID))


def _contrast(grid: np.ndarray) -> np.ndarray:
    """Largest difference within the 3 × 3 cells around each cell."""
    highest = lowest = np.pad(grid, 1, mode="edge")
    for _ in range(2):
        highest = np.maximum(np.maximum(highest[:-2], highest[1:-1]), highest[2:]).T
        lowest = np.minimum(np.minimum(lowest[:-2], lowest[1:-1]), lowest[2:]).T
    return highest - lowest


def _perceptual_hash(grid: np.ndarray) -> bytes:
    coefficients = _COSINES @ (grid.astype(np.float64) - grid.mean()) @ _COSINES.T
    return np.packbits(coefficients > np.median(coefficients)).tobytes()


def _cosines() -> np.ndarray:
    frequency = np.arange(_HASH_SIDE)[:, None]
    return np.cos(np.pi * frequency * (2 * np.arange(_GRID) + 1) / (2 * _GRID))


_COSINES = _cosines()
