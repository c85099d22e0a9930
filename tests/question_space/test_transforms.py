"""Each image transform does what its hint says: the test undoes it from the hint's words alone."""

import re

import numpy as np
import pytest
from PIL import Image

from r1_sharevl.question_space import TRANSFORMS, to_rgb

GEOMETRIC = [name for name in TRANSFORMS if "noise" not in name]
NOISE = [name for name in TRANSFORMS if "noise" in name]


def marker():
    """A 4 × 3 image no two of whose pixels are alike: no rotation or mirror image of it equals it."""
    return Image.fromarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3))


def rng():
    return np.random.default_rng(0)


def undo(hint, pixels):
    """Correct an image (rows, columns, 3) by what the hint says was done to it."""
    turned = re.search(r"rotated (90|180) degrees(?: (clockwise|counterclockwise))?", hint)
    if turned and turned[1] == "180":
        return pixels[::-1, ::-1]
    if turned:
        # A clockwise quarter turn made the left column the top row: column c of the original is row c, bottom first.
        return np.rot90(pixels, k=1 if turned[2] == "clockwise" else -1)
    if re.search(r"top and bottom .*swapped", hint):
        pixels = pixels[::-1]
    if re.search(r"left and right .*swapped", hint):
        pixels = pixels[:, ::-1]
    return pixels


def test_there_are_nine_under_their_own_names():
    assert len(TRANSFORMS) == 9
    assert all(name == transform.name for name, transform in TRANSFORMS.items())


@pytest.mark.parametrize("num_images", [1, 2])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_undoing_what_the_hint_says_gives_the_original_back(name, num_images):
    original = np.asarray(marker())
    changed = np.asarray(TRANSFORMS[name].apply(marker(), rng()))
    restored = undo(TRANSFORMS[name].hint_for(num_images), changed)
    assert not np.array_equal(changed, original)
    assert np.array_equal(restored, original)


@pytest.mark.parametrize(
    ("name", "corner"),
    [
        ("rotate_90_clockwise", (0, -1)),
        ("rotate_90_counterclockwise", (-1, 0)),
        ("rotate_180", (-1, -1)),
        ("flip_vertical", (-1, 0)),
        ("flip_horizontal", (0, -1)),
        ("flip_both", (-1, -1)),
    ],
)
def test_where_the_top_left_corner_goes(name, corner):
    image = Image.new("RGB", (5, 3))
    image.putpixel((0, 0), (255, 0, 0))
    changed = np.asarray(TRANSFORMS[name].apply(image, rng()))
    assert tuple(changed[corner]) == (255, 0, 0)
    assert changed.sum() == 255
    assert changed.shape == ((5, 3, 3) if "90" in name else (3, 5, 3))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_hints_are_one_sentence_that_asks_for_the_original(name):
    one, several = TRANSFORMS[name].hint_for(1), TRANSFORMS[name].hint_for(2)
    for hint in (one, several):
        assert hint.count(".") == 1
        assert hint.endswith(".")
        assert "<" not in hint
        assert "\n" not in hint
        assert re.search(r"answer the question for the (corrected|original, clean) image", hint)
    assert "images" not in one
    assert "each image" in several.lower()
    assert several.endswith("images.")
    assert len({transform.hint for transform in TRANSFORMS.values()}) == 9


@pytest.mark.parametrize("name", NOISE)
def test_noise_has_the_spread_its_hint_states(name):
    sigma = int(re.search(r"standard deviation of (\d+) grey levels", TRANSFORMS[name].hint)[1])
    assert name == f"gaussian_noise_{sigma}"
    size = 200
    grey = Image.new("RGB", (size, size), (128, 128, 128))
    noise = np.asarray(TRANSFORMS[name].apply(grey, rng())).astype(float) - 128
    # Five standard errors of the mean and of the std of 3 · 200² draws; σ 50 loses 1 % of its spread to clipping.
    assert abs(noise.mean()) < 5 * sigma / np.sqrt(noise.size)
    clipping = 0.015 * sigma if sigma == 50 else 0
    assert abs(noise.std() - sigma) < 5 * sigma / np.sqrt(2 * noise.size) + clipping
    # Each channel has its own noise, pixels do not repeat each other's.
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 5 / size
    assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 5 / size


def test_noise_is_clipped_not_wrapped_around():
    black = np.asarray(TRANSFORMS["gaussian_noise_50"].apply(Image.new("RGB", (50, 50), "black"), rng()))
    white = np.asarray(TRANSFORMS["gaussian_noise_50"].apply(Image.new("RGB", (50, 50), "white"), rng()))
    # Half of the noise is cut off at the border; a wrapped value would be near the other one. 250 is five σ.
    assert (black == 0).mean() == pytest.approx(0.5, abs=0.05)
    assert (white == 255).mean() == pytest.approx(0.5, abs=0.05)
    assert black.max() < 250
    assert white.min() > 5


def test_noise_comes_from_the_generator_alone():
    transform = TRANSFORMS["gaussian_noise_25"]
    same = [np.asarray(transform.apply(marker(), np.random.default_rng(7))) for _ in range(2)]
    other = np.asarray(transform.apply(marker(), np.random.default_rng(8)))
    assert np.array_equal(*same)
    assert not np.array_equal(same[0], other)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_mode_becomes_rgb_and_the_original_stays(name, mode):
    image = Image.new(mode, (4, 3))
    before = image.tobytes()
    changed = TRANSFORMS[name].apply(image, rng())
    assert changed.mode == "RGB"
    assert changed is not image
    assert (image.mode, image.tobytes()) == (mode, before)


def test_transparent_parts_become_white_not_the_colour_behind_them():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 255, 255))
    assert np.asarray(to_rgb(image)).tolist() == [[[255, 255, 255], [0, 0, 255]]]

    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    palette.info["transparency"] = 0
    assert np.asarray(to_rgb(palette)).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_rgb_without_transparency_is_not_copied():
    image = marker()
    assert to_rgb(image) is image
