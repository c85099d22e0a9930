import contextlib
import importlib
import io
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from r1_sharevl.data import images
from r1_sharevl.data.images import MAX_JPEG_SCANS, MAX_PIXELS, open_image
from r1_sharevl.data.row_error import RowError


def clean_image(*args, **bounds):
    """Clean a picture; its bytes must decode to the pixels that come with them."""
    clean = images.clean_image(*args, **bounds)
    assert clean.pixels.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(clean.pixels), np.asarray(open_image(clean.data, "row")))
    return clean.data


def noise(width=20, height=10, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return PIL.Image.fromarray(rng.integers(0, 256, (height, width, channels), dtype=np.uint8))


def encoded(image, fmt="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=fmt, **options)
    return buffer.getvalue()


def decoded(data):
    return np.asarray(PIL.Image.open(io.BytesIO(data)))


def png_of_size(width, height):
    """A PNG whose header claims a size that its few bytes of content do not have."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("fmt", ["PNG", "JPEG"])
def test_plain_rgb_files_are_kept_byte_for_byte(fmt):
    data = encoded(noise(), fmt)
    assert clean_image(data, "row") == data


@pytest.mark.parametrize("fmt", ["BMP", "TIFF", "WEBP", "PPM", "GIF"])
def test_other_formats_become_png_with_the_same_pixels(fmt):
    data = encoded(noise(), fmt, **({"lossless": True} if fmt == "WEBP" else {}))
    clean = clean_image(data, "row")
    assert clean.startswith(b"\x89PNG")
    expected = np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decoded(clean), expected)


def test_clean_bytes_decode_to_the_pixels_of_open_image():
    for image, fmt in [(noise(), "PNG"), (noise(), "JPEG"), (noise(channels=4), "PNG"), (noise().convert("L"), "JPEG")]:
        data = encoded(image, fmt)
        np.testing.assert_array_equal(decoded(clean_image(data, "row")), np.asarray(open_image(data, "row")))


def test_exif_orientation_is_applied_once():
    stored = noise(20, 10)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # shown turned 90 degrees clockwise
    data = encoded(stored, "PNG", exif=exif)
    upright = np.rot90(np.asarray(stored), k=-1)
    np.testing.assert_array_equal(np.asarray(open_image(data, "row")), upright)
    clean = clean_image(data, "row")
    np.testing.assert_array_equal(decoded(clean), upright)
    assert 0x0112 not in PIL.Image.open(io.BytesIO(clean)).getexif()


def test_transparent_parts_are_white():
    image = PIL.Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((1, 1), (255, 0, 0, 255))
    shown = open_image(encoded(image), "row")
    assert shown.getpixel((0, 0)) == (255, 255, 255)
    assert shown.getpixel((1, 1)) == (255, 0, 0)


def test_palette_transparency_is_white():
    image = PIL.Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 0, 0, 255])
    image.putpixel((2, 2), 1)
    shown = open_image(encoded(image, transparency=0), "row")
    assert shown.getpixel((0, 0)) == (255, 255, 255)
    assert shown.getpixel((2, 2)) == (0, 0, 255)


def test_16_bit_grey_keeps_its_shades():
    shades = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    shown = np.asarray(open_image(encoded(PIL.Image.fromarray(shades)), "row"))
    np.testing.assert_array_equal(shown[..., 0], shades >> 8)


def test_grey_and_cmyk_become_rgb():
    assert open_image(encoded(noise().convert("L")), "row").mode == "RGB"
    assert open_image(encoded(noise().convert("CMYK"), "JPEG"), "row").mode == "RGB"


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "BMP", "GIF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_truncated_files_are_refused(fmt, part):
    data = encoded(noise(64, 64), fmt)
    with pytest.raises(RowError, match="row: the image cannot be read") as caught:
        clean_image(data[: int(len(data) * part)], "row")
    assert caught.value.reason == "image cannot be read"


def test_flipped_bits_are_refused():
    data = bytearray(encoded(noise(64, 64)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(RowError, match="cannot be read"):
        clean_image(bytes(data), "row")


def test_checksums_are_checked():
    data = bytearray(encoded(noise()))
    data[-13] ^= 0xFF  # the last byte before the end chunk: of the pixels' checksum
    PIL.Image.open(io.BytesIO(data)).load()
    with pytest.raises(RowError, match="cannot be read"):
        clean_image(bytes(data), "row")


@pytest.mark.parametrize("size", [(9000, 9000), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_decompression_bombs_are_refused_without_decoding(size):
    assert size[0] * size[1] > MAX_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RowError, match="scale it down") as caught:
            open_image(png_of_size(*size), "row")
    assert caught.value.reason == "image too large"


def test_compressed_text_bomb_is_refused():
    content = b"Comment\0\0" + zlib.compress(b"a" * 100_000_000, 9)
    chunk = struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))
    data = encoded(noise())
    after_header = 8 + 25
    with pytest.raises(RowError, match="cannot be read"):
        open_image(data[:after_header] + chunk + data[after_header:], "row")


def test_animated_images_are_refused():
    frames = [noise(seed=seed) for seed in range(3)]
    for fmt in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encoded(frames[0], fmt, save_all=True, append_images=frames[1:])
        with pytest.raises(RowError, match="more than one frame") as caught:
            open_image(data, "row")
        assert caught.value.reason == "animated image"


def test_phone_pictures_with_a_hidden_preview_are_taken():
    data = encoded(noise(seed=1), "MPO", save_all=True, append_images=[noise(seed=2)])
    image = PIL.Image.open(io.BytesIO(data))
    assert (image.format, image.n_frames) == ("MPO", 2)
    np.testing.assert_array_equal(np.asarray(open_image(data, "row")), np.asarray(image.convert("RGB")))


def test_very_narrow_images_are_refused():
    open_image(encoded(PIL.Image.new("RGB", (200, 1))), "row")
    with pytest.raises(RowError, match="201×1"):
        open_image(encoded(PIL.Image.new("RGB", (201, 1))), "row")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'></svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    ],
    ids=["empty", "text", "svg", "eps"],
)
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(RowError, match="not a picture in a known format"):
        open_image(data, "row")


def test_pil_images_without_pixels_are_refused():
    with pytest.raises(RowError, match="no pixels"):
        clean_image(PIL.Image.new("RGB", (0, 5)), "row")


def test_32_bit_pixels_are_refused():
    with pytest.raises(RowError, match="8-bit"):
        clean_image(PIL.Image.new("F", (5, 5)), "row")


# Pixel bounds.


@pytest.mark.parametrize(("fmt", "kept"), [("JPEG", "JPEG"), ("PNG", "PNG"), ("BMP", "PNG"), ("MPO", "JPEG")])
def test_large_pictures_are_scaled_down_and_photos_stay_jpeg(fmt, kept):
    data = encoded(noise(400, 300), fmt)
    small = PIL.Image.open(io.BytesIO(clean_image(data, "row", max_pixels=10_000)))
    assert small.format == kept
    assert small.size == (115, 86)
    if kept == "JPEG":
        assert small.quantization == PIL.Image.open(io.BytesIO(encoded(noise(), "JPEG", quality=95))).quantization


def test_scaling_shows_the_same_picture():
    picture = PIL.Image.new("RGB", (400, 200), "white")
    picture.paste((255, 0, 0), (0, 0, 100, 200))
    small = decoded(clean_image(encoded(picture), "row", max_pixels=5000))
    np.testing.assert_array_equal(small[25, [5, 95]], [[255, 0, 0], [255, 255, 255]])


def test_small_pictures_are_enlarged_when_asked():
    data = encoded(noise(20, 10))
    assert decoded(clean_image(data, "row", min_pixels=5000)).shape[:2] == (50, 100)
    assert clean_image(data, "row", min_pixels=200, max_pixels=200) == data


def test_scaling_comes_after_turning():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    data = encoded(noise(40, 20), "JPEG", exif=exif)
    small = PIL.Image.open(io.BytesIO(clean_image(data, "row", max_pixels=200)))
    assert small.size == (10, 20)
    assert 0x0112 not in small.getexif()


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 40_000), st.integers(0, 20_000))
@example(200, 1, 150, 0)
@example(199, 1, 60, 30)
def test_bounds_and_shape_hold_for_every_size(width, height, most, below):
    least = max(1, most - below)
    image = PIL.Image.new("RGB", (width, height))
    scaled = PIL.Image.open(io.BytesIO(clean_image(image, "row", min_pixels=least, max_pixels=most)))
    pixels = scaled.width * scaled.height
    assert pixels <= most
    if width * height >= least:
        assert scaled.width <= width
        assert scaled.height <= height
    # One row or column more or less is what rounding may cost.
    assert (scaled.width + 1) * (scaled.height + 1) >= min(least, width * height)
    open_image(scaled, "row")  # not too narrow after rounding
    assert abs(scaled.width * height - scaled.height * width) <= width + height + max(width, height)


def test_rounding_makes_no_picture_too_narrow():
    scaled = PIL.Image.open(io.BytesIO(clean_image(PIL.Image.new("RGB", (599, 3)), "row", max_pixels=600)))
    assert scaled.size == (200, 1)


# Work that a hostile file can ask for.


def test_jpegs_of_countless_scans_are_refused():
    """Each scan of a progressive JPEG is a pass over the whole picture, and costs a hostile file a few bytes."""
    data = encoded(noise(64, 64), "JPEG", progressive=True)
    open_image(data, "row")
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    hostile = data[:-2] + last_scan * MAX_JPEG_SCANS + data[-2:]
    with pytest.raises(RowError, match="scans") as caught:
        open_image(hostile, "row")
    assert caught.value.reason == "image cannot be read"


@pytest.mark.parametrize("plugin", ["Gif", "Tiff"])
def test_frames_are_not_counted(monkeypatch, plugin):
    """A file can hold millions of frames of a few bytes each."""

    def count(_):
        raise AssertionError("every frame is gone through")

    image_file = getattr(importlib.import_module(f"PIL.{plugin}ImagePlugin"), f"{plugin}ImageFile")
    data = encoded(noise(), plugin, save_all=True, append_images=[noise(seed=1)])
    monkeypatch.setattr(image_file, "n_frames", property(count))
    with pytest.raises(RowError, match="more than one frame"):
        open_image(data, "row")


def test_tiff_directories_in_a_circle_come_to_an_end():
    data = bytearray(encoded(noise(), "TIFF"))
    (start,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * entries, start)
    with contextlib.suppress(RowError):
        open_image(bytes(data), "row")


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt"])
def test_bombs_in_png_side_chunks_do_little(kind):
    packed = zlib.compress(b"a" * 100_000_000, 9)
    content = {b"iCCP": b"n\0\0", b"zTXt": b"n\0\0", b"iTXt": b"n\0\1\0\0\0"}[kind] + packed
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    data = encoded(noise())
    tracemalloc.start()
    try:
        with contextlib.suppress(RowError):
            open_image(data[:33] + chunk * 20 + data[33:], "row")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * 2**20


def test_a_picture_of_two_rows_is_refused():
    with pytest.raises(RowError, match="30000×2") as caught:
        clean_image(encoded(PIL.Image.new("RGB", (30_000, 2))), "row", max_pixels=1000)
    assert caught.value.reason == "image too narrow"
