"""Pictures as they come: decoded without trust, turned upright, made RGB, and encoded for a prepared set."""

import io
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps

from .row_error import RowError, shown

# Formats of still pictures. Not every format Pillow knows: EPS, for one, starts Ghostscript on the file.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MAX_PIXELS = 8192 * 8192
# Qwen2-VL's and Qwen2.5-VL's image processors refuse anything narrower, in the middle of a training run.
MAX_ASPECT_RATIO = 200
# A progressive JPEG is decoded once per scan, each time all of it; encoders write about ten.
MAX_JPEG_SCANS = 100

CANNOT_READ = "image cannot be read"
TOO_LARGE = "image too large"
TOO_NARROW = "image too narrow"
ANIMATED = "animated image"


class CleanImage(NamedTuple):
    """A picture of a prepared set.

    Attributes:
        data: The file's bytes.
        pixels: What they decode to, mode RGB: work is saved where both are needed.
    """

    data: bytes
    pixels: PIL.Image.Image


def open_image(value: bytes | PIL.Image.Image, where: str) -> PIL.Image.Image:
    """Decode a picture that nobody vouches for.

    Args:
        value: A picture file's bytes, in one of `FORMATS`, or a decoded picture.
        where: The row and field, for error messages.

    Returns:
        The decoded picture: upright (EXIF orientation applied), mode RGB, transparent parts on white.

    Raises:
        RowError: The bytes are no picture, are damaged or cut short, or the picture is animated, larger than
            `MAX_PIXELS` or narrower than `MAX_ASPECT_RATIO`.
    """
    return _to_rgb(value if isinstance(value, PIL.Image.Image) else _decode(value, where), where)


def clean_image(
    value: bytes | PIL.Image.Image, where: str, *, min_pixels: int | None = None, max_pixels: int | None = None
) -> CleanImage:
    """Check a picture and encode it for a prepared set.

    Args:
        value: A picture file's bytes, or a decoded picture.
        where: The row and field, for error messages.
        min_pixels: A picture of fewer pixels (width times height) is enlarged; None leaves it.
        max_pixels: A picture of more pixels is scaled down, and never above this; None leaves it. The R1-ShareVL
            release trains within 262,144 to 1,048,576 pixels.

    Returns:
        The pixels of `open_image` and bytes that decode to exactly them: those given where they already are an upright
        RGB PNG or JPEG (a photo re-encoded as PNG takes several times the room), a PNG otherwise. A picture that had to
        be scaled, aspect ratio kept, is a JPEG of quality 95 where it was a JPEG, else a PNG.

    Raises:
        RowError: As for `open_image`.
    """
    image = _decode(value, where) if isinstance(value, bytes) else value
    fits = _size_within(image.size, min_pixels, max_pixels) == image.size
    if fits and isinstance(value, bytes) and _is_plain(image):
        return CleanImage(value, image)
    upright = _to_rgb(image, where)
    if fits:
        return CleanImage(_encode(upright, "PNG"), upright)
    scaled = upright.resize(_size_within(upright.size, min_pixels, max_pixels), PIL.Image.Resampling.BICUBIC)
    if image.format not in ("JPEG", "MPO"):
        return CleanImage(_encode(scaled, "PNG"), scaled)
    data = _encode(scaled, "JPEG")
    return CleanImage(data, open_image(data, where))


def encoded_bytes(value: Any, where: str) -> bytes | PIL.Image.Image:
    """Take a picture out of the forms it has in a row: PIL, bytes, or `datasets`' `{"bytes": …, "path": …}`."""
    if isinstance(value, PIL.Image.Image):
        return value
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes | bytearray):
        raise RowError(CANNOT_READ, f"{where}: expected a picture or its bytes, found {shown(value)}")
    return bytes(data)


def check_size(image: PIL.Image.Image, where: str) -> None:
    """Refuse a picture whose size would fail later; needs the header only, so it comes before decoding.

    Raises:
        RowError: No pixels, more than `MAX_PIXELS`, or narrower than `MAX_ASPECT_RATIO`.
    """
    width, height = image.size
    if min(width, height) < 1:
        raise RowError(CANNOT_READ, f"{where}: the image has no pixels ({width}×{height})")
    if width * height > MAX_PIXELS:
        raise RowError(
            TOO_LARGE, f"{where}: the image has {width}×{height} pixels, more than {MAX_PIXELS:,}: scale it down"
        )
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise RowError(
            TOO_NARROW,
            f"{where}: the image is {width}×{height}; vision models take up to {MAX_ASPECT_RATIO}:1: crop or pad it",
        )


def _decode(data: bytes, where: str) -> PIL.Image.Image:
    """Decode `data`, checksums included, and leave orientation and mode as stored."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of pictures that are large and of odd metadata; size is judged by `check_size`.
            warnings.simplefilter("ignore")
            image = PIL.Image.open(io.BytesIO(data), formats=FORMATS)
            check_size(image, where)
            # Phone cameras write MPO: a JPEG with a second, hidden picture. Frames are not counted: a file can hold
            # millions of them.
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise RowError(ANIMATED, f"{where}: the image has more than one frame: store the one that is meant")
            # Inside compressed data these two bytes cannot follow each other.
            if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MAX_JPEG_SCANS:
                raise RowError(CANNOT_READ, f"{where}: the JPEG has more than {MAX_JPEG_SCANS} scans: save it again")
            image.verify()
            # verify() leaves the object unusable.
            image = PIL.Image.open(io.BytesIO(data), formats=FORMATS)
            image.load()
            return image
    except RowError:
        raise
    except PIL.Image.DecompressionBombError as error:
        raise RowError(TOO_LARGE, f"{where}: the image is far too large: scale it down") from error
    except Exception as error:
        # Pillow's decoders raise many types on damaged files: OSError, SyntaxError, struct.error, ValueError, …
        raise _unreadable(error, where) from error


def _to_rgb(image: PIL.Image.Image, where: str) -> PIL.Image.Image:
    check_size(image, where)
    try:
        # A lazily opened file of the caller's may still fail here.
        image.load()
        image = PIL.ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            # Pillow would cut every value above 255 to white.
            image = PIL.Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise RowError(
                CANNOT_READ, f"{where}: 32-bit {image.mode} pixels have no known white: save it as 8-bit RGB or grey"
            )
        if image.has_transparency_data:
            # Dropping alpha would show what lies under it, mostly black: black lines on black in many figures.
            image = image.convert("RGBA")
            white = PIL.Image.new("RGBA", image.size, "white")
            image = PIL.Image.alpha_composite(white, image)
        return image.convert("RGB")
    except RowError:
        raise
    except Exception as error:
        raise _unreadable(error, where) from error


def _unreadable(error: Exception, where: str) -> RowError:
    if isinstance(error, PIL.UnidentifiedImageError):
        what = f"not a picture in a known format ({', '.join(FORMATS)})"
    else:
        what = " ".join(str(error).split()) or type(error).__name__
    return RowError(CANNOT_READ, f"{where}: the image cannot be read: {what}")


def _is_plain(image: PIL.Image.Image) -> bool:
    return (
        image.format in ("PNG", "JPEG")
        and image.mode == "RGB"
        and not image.has_transparency_data
        and image.getexif().get(PIL.ExifTags.Base.Orientation, 1) == 1
    )


def _size_within(size: tuple[int, int], min_pixels: int | None, max_pixels: int | None) -> tuple[int, int]:
    """Scale a size into the bounds; the upper one counts more where rounding cannot meet both."""
    pixels = size[0] * size[1]
    rounded: Callable[[float], int]
    if max_pixels is not None and pixels > max_pixels:
        scale, rounded = math.sqrt(max_pixels / pixels), math.floor
    elif min_pixels is not None and 0 < pixels < min_pixels:
        scale, rounded = math.sqrt(min_pixels / pixels), math.ceil
    else:
        return size
    short, long = (max(1, rounded(side * scale)) for side in sorted(size))
    # Rounding the short side down can make a narrow picture too narrow.
    long = min(long, MAX_ASPECT_RATIO * short)
    if max_pixels is not None:
        long = max(1, min(long, max_pixels // short))
    return (short, long) if size[0] <= size[1] else (long, short)


def _encode(image: PIL.Image.Image, file_format: str) -> bytes:
    buffer = io.BytesIO()
    # A fresh image holds pixels only: save() would carry over the source's colour profile and comments.
    plain = PIL.Image.new("RGB", image.size)
    plain.paste(image)
    plain.save(buffer, format=file_format, **({"quality": 95} if file_format == "JPEG" else {}))
    return buffer.getvalue()
