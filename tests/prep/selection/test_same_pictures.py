import io
import pickle

import numpy as np
import PIL.Image
import pytest
from figures import Resampling, chart, geometry, jpeg, photo, png, scaled

from r1_sharevl.data.images import open_image
from r1_sharevl.data.synthetic import synthetic_rows
from r1_sharevl.prep.selection.pictures import BANDS, picture_key, pixel_digest, same_picture

SAMPLES = {
    "geometry": [geometry(seed) for seed in range(12)],
    "chart": [chart(seed) for seed in range(8)],
    "photo": [photo(seed) for seed in range(4)],
    "built-in": [row["images"][0] for row in synthetic_rows("train", 12)],
}
KEYS = {name: [picture_key(image) for image in images] for name, images in SAMPLES.items()}

REENCODED = {
    "jpeg 30": lambda image: open_image(jpeg(image, 30), ""),
    "jpeg 75": lambda image: open_image(jpeg(image, 75), ""),
    "half": lambda image: scaled(image, 0.5),
    "three quarters": lambda image: scaled(image, 0.75),
    "one and a half": lambda image: scaled(image, 1.5, Resampling.BILINEAR),
    "double": lambda image: scaled(image, 2),
    "half, jpeg 50": lambda image: open_image(jpeg(scaled(image, 0.5, Resampling.LANCZOS), 50), ""),
}


def found(first, second):
    """As the index finds pictures: they share a band and are the same."""
    return any(a == b for a, b in zip(first.bands(), second.bands(), strict=True)) and same_picture(first, second)


def test_pixels_decide_the_digest_and_nothing_else():
    image = geometry(0)
    digest = pixel_digest(image)
    assert len(digest) == 16
    compressed = io.BytesIO()
    image.save(compressed, "PNG", compress_level=0)
    assert compressed.getvalue() != png(image)
    assert pixel_digest(open_image(compressed.getvalue(), "")) == digest
    other = image.copy()
    other.putpixel((0, 0), (255, 255, 254))
    assert pixel_digest(other) != digest
    # The same bytes in another shape.
    plain = PIL.Image.new("RGB", (20, 30), "white")
    assert pixel_digest(plain) != pixel_digest(plain.resize((30, 20)))


def test_a_key_is_small_and_travels():
    for name, keys in KEYS.items():
        key = keys[0]
        assert len(key.bits) == 32
        assert len(key.bands()) == BANDS
        assert all(0 <= band < 1 << 16 for band in key.bands())
        assert pickle.loads(pickle.dumps(key)) == key  # noqa: S301 - our own
        assert len(pickle.dumps(key)) < (6000 if name == "photo" else 1600)


@pytest.mark.parametrize("change", REENCODED)
def test_a_picture_is_found_again(change):
    """Nine of ten, and all photos: a few figures with fine lines look different after being scaled or compressed."""
    hits = {
        name: [found(key, picture_key(REENCODED[change](image))) for key, image in zip(KEYS[name], images, strict=True)]
        for name, images in SAMPLES.items()
    }
    assert all(hits["photo"])
    everything = [hit for each in hits.values() for hit in each]
    assert sum(everything) >= 0.85 * len(everything), {name: sum(each) / len(each) for name, each in hits.items()}


def test_distinct_pictures_are_distinct():
    everything = [key for keys in KEYS.values() for key in keys]
    for number, first in enumerate(everything):
        assert same_picture(first, first)
        assert not any(same_picture(first, second) or same_picture(second, first) for second in everything[:number])


@pytest.mark.parametrize("change", ["side missing", "side moved", "letter added", "digit"])
@pytest.mark.parametrize("encode", [png, lambda image: jpeg(image, 75)], ids=["png", "jpeg"])
def test_a_figure_with_one_stroke_changed_is_another_figure(change, encode):
    wrong = [
        seed
        for seed in range(25)
        if same_picture(*(picture_key(open_image(encode(geometry(seed, what)), "")) for what in (None, change)))
    ]
    assert wrong == []


def test_look_alikes_encoded_otherwise_are_mostly_told_apart():
    """Where scaling changes all that is drawn as much as the other digit changes one spot, they cannot be."""
    wrong = [
        seed
        for seed in range(60)
        if same_picture(picture_key(geometry(seed)), picture_key(scaled(geometry(seed, "digit"), 0.75)))
    ]
    assert len(wrong) < 10


def test_a_pale_bar_one_pixel_higher_is_another_figure():
    """Two figures of the built-in set, yellow on white, that differ in 43 pixels."""
    bars = {row["id"]: row["images"][0] for row in synthetic_rows("train", 1766)}
    assert not same_picture(picture_key(bars["train-0-001765"]), picture_key(bars["train-0-000463"]))


def test_a_bar_a_little_higher_or_of_another_colour_is_another_chart():
    for seed in range(20):
        assert not same_picture(picture_key(chart(seed)), picture_key(chart(seed, "higher")))
        # Equally light: no grey level tells them apart.
        assert not same_picture(picture_key(chart(seed, "colour")), picture_key(chart(seed, "other colour")))


def test_cropped_turned_and_mirrored_pictures_are_others():
    for image in (geometry(3), photo(3)):
        key = picture_key(image)
        for other in (
            image.crop((8, 8, *image.size)),
            image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT),
            image.transpose(PIL.Image.Transpose.ROTATE_180),
            image.resize((image.width, round(image.height * 0.9))),
        ):
            assert not same_picture(key, picture_key(other))


def test_blank_and_tiny_pictures():
    white, black = (PIL.Image.new("RGB", (300, 200), colour) for colour in ("white", "black"))
    assert found(picture_key(white), picture_key(scaled(white, 0.5)))
    assert not same_picture(picture_key(white), picture_key(black))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 3), dtype=np.uint8)
    tiny = PIL.Image.fromarray(pixels)
    assert same_picture(picture_key(tiny), picture_key(tiny.copy()))
    assert not same_picture(picture_key(tiny), picture_key(PIL.Image.fromarray(255 - pixels)))
