"""Line figures, charts and photos drawn for these tests, look-alikes of them, and files that hold the same picture."""

import io
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Resampling = Image.Resampling


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def scaled(image, factor, resampling=Resampling.BICUBIC):
    return image.resize((round(image.width * factor), round(image.height * factor)), resampling)


def geometry(seed, change=None):
    """A polygon with lettered corners, some lengths, perhaps a circle; `change` alters one detail."""
    rng = random.Random(seed)
    width = rng.randint(250, 900)
    size = width, int(width * rng.uniform(0.6, 1.2))
    line = rng.choice([1, 2, 2, 3])
    font = ImageFont.load_default(rng.randint(14, 20))
    corners = [(rng.uniform(0.1, 0.85) * size[0], rng.uniform(0.1, 0.85) * size[1]) for _ in range(rng.randint(3, 6))]
    sides = [(corners[place - 1], corner) for place, corner in enumerate(corners)]
    labels = [(corner, letter) for corner, letter in zip(corners, "ABCDEF", strict=False)]
    labels += [(((a[0] + b[0]) / 2 + 4, (a[1] + b[1]) / 2 + 4), str(rng.randint(2, 99))) for a, b in sides[:2]]
    radius = rng.uniform(0.2, 0.4) * min(size) if rng.random() < 0.4 else 0
    match change:
        case "side missing":
            sides.pop()
        case "side moved":
            (x, y), end = sides[0]
            sides[0] = (x + 6, y - 6), end
        case "letter added":
            labels.append(((size[0] / 2, size[1] / 2), "x"))
        case "digit":
            place, text = labels[-1]
            labels[-1] = place, text[:-1] + str((int(text[-1]) + 5) % 10)
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    for a, b in sides:
        pen.line((*a, *b), fill="black", width=line)
    if radius:
        middle = size[0] / 2, size[1] / 2
        pen.ellipse((*(at - radius for at in middle), *(at + radius for at in middle)), outline="black", width=line)
    for place, text in labels:
        pen.text(place, text, fill="black", font=font)
    return image


def chart(seed, change=None):
    """Coloured bars; `change` makes one a little higher or swaps two colours of equal lightness."""
    rng = random.Random(seed)
    width, height = rng.randint(300, 800), rng.randint(250, 600)
    bars = [(tuple(rng.randrange(30, 230) for _ in range(3)), rng.uniform(0.1, 0.8)) for _ in range(rng.randint(3, 8))]
    if change == "higher":
        bars[0] = bars[0][0], bars[0][1] + 0.015
    if change == "colour":
        bars[0] = (200, 60, 60), bars[0][1]
    if change == "other colour":
        bars[0] = (20, 152, 60), bars[0][1]
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    step = (width - 50) / len(bars)
    for place, (colour, share) in enumerate(bars):
        left = 30 + place * step
        pen.rectangle((left, height - 30 - share * (height - 40), left + step * 0.7, height - 30), fill=colour)
    pen.line((25, 5, 25, height - 30, width - 10, height - 30), fill="black", width=2)
    return image


def photo(seed):
    """Noise with the spectrum of natural pictures."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(250, 700, 2)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    channels = []
    for _ in range(3):
        noise = rng.normal(size=(height, width // 2 + 1)) + 1j * rng.normal(size=(height, width // 2 + 1))
        plane = np.fft.irfft2(noise / frequency**1.2, s=(height, width))
        channels.append((plane - plane.mean()) / plane.std() * 50 + 128)
    return Image.fromarray(np.stack(channels, -1).clip(0, 255).astype(np.uint8))
