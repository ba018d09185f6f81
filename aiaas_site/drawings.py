"""Pictures that the project draws itself, the same at every run: cats, and things that are no cats.

    python -m aiaas_site.drawings pictures.zip cat.jpg

writes a data set and one picture of a cat that is not in it.
"""

import hashlib
import io
import math
import random
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CLASSES = ("cat", "not_cat")
SIZE = 200
OVERSAMPLING = 2
QUALITY = 88
TRAIN = 640
VALIDATION = 160
# A seed that no picture of the data set has.
HELD_BACK_SEED = 1_000_000

Colour = tuple[int, int, int]
Point = tuple[float, float]

FURS: tuple[Colour, ...] = (
    (226, 134, 54), (240, 170, 96), (92, 92, 100), (140, 140, 146), (44, 42, 46), (236, 226, 208), (150, 104, 66),
)  # fmt: skip
COATS: tuple[Colour, ...] = (*FURS, (120, 72, 40), (196, 160, 116), (250, 246, 240), (88, 60, 44))
PAINTS: tuple[Colour, ...] = (
    (206, 48, 48), (46, 104, 190), (40, 150, 92), (238, 196, 46), (150, 72, 168), (240, 240, 240), (34, 160, 176),
    (236, 122, 160), (110, 110, 116),
)  # fmt: skip
GROUNDS: tuple[Colour, ...] = (
    (120, 168, 92), (176, 200, 226), (206, 190, 160), (150, 120, 96), (228, 224, 214), (104, 128, 140), (196, 160, 170),
    (86, 104, 74),
)  # fmt: skip
INK: Colour = (30, 26, 28)
SMILE = ((-0.2, 0.42), (-0.1, 0.49), (0.0, 0.4), (0.1, 0.49), (0.2, 0.42))
PINK: Colour = (232, 150, 156)


@dataclass(frozen=True, slots=True)
class Picture:
    """One file of the data set."""

    name: str
    data: bytes


def draw(kind: str, *, seed: int) -> bytes:
    """A JPEG of 200 x 200 pixels of a thing of this class; the same class and seed give the same picture."""
    if kind not in CLASSES:
        raise ValueError(f"There is no class {kind!r} to draw; expected one of {', '.join(CLASSES)}.")
    rng = random.Random(f"{kind}/{seed}")
    picture = _background(rng)
    pen = Pen(ImageDraw.Draw(picture), rng)
    subject = _cat if kind == "cat" else rng.choice(OTHERS)
    subject(pen)
    _occlude(picture, rng)
    return _photograph(picture, rng)


def drawings(*, train: int = TRAIN, validation: int = VALIDATION) -> Iterator[Picture]:
    """The data set, half of each split cats; no picture of one split is in the other."""
    seed = 0
    for split, count in (("train", train), ("validation", validation)):
        for _ in range(count // len(CLASSES)):
            for kind in CLASSES:
                yield Picture(name=f"{split}/{kind}/{seed:04}.jpg", data=draw(kind, seed=seed))
            seed += 1


def archive(path: Path, items: Iterator[Picture]) -> str:
    """Writes the files as a zip, the same bytes for the same files; gives its sha256."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for item in items:
            target.writestr(zipfile.ZipInfo(item.name, date_time=(2026, 1, 1, 0, 0, 0)), item.data)
    with path.open("rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()


class Pen:
    """Draws in the subject's own coordinates, about -1 to 1, turned, sized and placed on the canvas."""

    def __init__(self, canvas: ImageDraw.ImageDraw, rng: random.Random) -> None:
        self.canvas, self.rng = canvas, rng
        side = SIZE * OVERSAMPLING
        self.size = side * rng.uniform(0.28, 0.36)
        self.x, self.y = side * rng.uniform(0.46, 0.54), side * rng.uniform(0.47, 0.55)
        self.mirror = rng.choice((-1, 1))
        angle = math.radians(rng.gauss(0, 6))
        self.cos, self.sin = math.cos(angle) * self.size, math.sin(angle) * self.size

    def at(self, x: float, y: float) -> Point:
        x *= self.mirror
        return self.x + x * self.cos - y * self.sin, self.y + x * self.sin + y * self.cos

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self.canvas.polygon([self.at(x, y) for x, y in points], fill=colour)

    def oval(self, x: float, y: float, width: float, height: float, colour: Colour, turn: float = 0.0) -> None:
        """An ellipse about (x, y) with these half axes, turned by `turn` radians."""
        cos, sin = math.cos(turn), math.sin(turn)
        self.polygon(
            [(x + c * width * cos - s * height * sin, y + c * width * sin + s * height * cos) for c, s in UNIT_CIRCLE],
            colour,
        )

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        self.canvas.line(
            [self.at(x, y) for x, y in points], fill=colour, width=max(1, round(width * self.size)), joint="curve"
        )

    def near(self, value: float, spread: float = 0.06) -> float:
        """The value, a little off: no two subjects are alike."""
        return value + self.rng.uniform(-spread, spread)


UNIT_CIRCLE = [(math.cos(2 * math.pi * k / 28), math.sin(2 * math.pi * k / 28)) for k in range(28)]


def _cat(pen: Pen) -> None:
    fur = _varied(pen.rng, pen.rng.choice(FURS))
    dark = _shade(fur, 0.7)
    if pen.rng.random() < 0.6:
        _sitting_body(pen, fur, dark)
        x, y, r = pen.near(0), pen.near(-0.38), pen.near(0.46, 0.05)
    else:
        x, y, r = pen.near(0), pen.near(0.05), pen.near(0.78, 0.08)
    _cat_head(pen, x, y, r, fur, dark)


def _sitting_body(pen: Pen, fur: Colour, dark: Colour) -> None:
    swing = pen.near(0.95, 0.15)
    for k in range(25):
        bend = math.pi * k / 24
        pen.oval(0.4 + (swing - 0.4) * math.sin(0.8 * bend), 0.85 - 0.8 * k / 24, 0.09, 0.09, dark)
    pen.oval(0, 0.5, pen.near(0.52), 0.58, fur)
    for k in range(pen.rng.choice((0, 3, 4))):
        pen.line([(0.2, 0.2 + 0.17 * k), (0.47, 0.16 + 0.17 * k)], dark, 0.06)
    for x in (-0.22, 0.2):
        pen.oval(x, 0.98, 0.2, 0.12, _shade(fur, 1.15))


def _cat_head(pen: Pen, x: float, y: float, r: float, fur: Colour, dark: Colour) -> None:
    ear = pen.near(1.25, 0.12)
    for side in (-1, 1):
        outer = [
            (x + side * r * 0.92, y - r * 0.25),
            (x + side * r * 0.8, y - r * ear),
            (x + side * r * 0.15, y - r * 0.85),
        ]
        inner = [
            (x + side * r * 0.78, y - r * 0.5),
            (x + side * r * 0.72, y - r * (ear - 0.2)),
            (x + side * r * 0.35, y - r * 0.8),
        ]
        pen.polygon(outer, fur)
        pen.polygon(inner, PINK)
    pen.oval(x, y, r, r * pen.near(0.86, 0.05), fur)
    for k in range(-1, pen.rng.choice((-1, 2))):
        pen.line([(x + 0.2 * r * k, y - 0.8 * r), (x + 0.14 * r * k, y - 0.5 * r)], dark, 0.08 * r)
    iris = pen.rng.choice(((126, 188, 74), (222, 180, 52), (96, 160, 206)))
    look = pen.near(0, 0.05) * r
    for side in (-1, 1):
        pen.oval(x + side * 0.4 * r, y - 0.12 * r, 0.22 * r, 0.17 * r, iris)
        pen.oval(x + side * 0.4 * r + look, y - 0.12 * r, 0.07 * r, 0.16 * r, INK)
    pen.oval(x, y + 0.38 * r, 0.36 * r, 0.25 * r, _shade(fur, 1.25))
    pen.polygon([(x - 0.12 * r, y + 0.16 * r), (x + 0.12 * r, y + 0.16 * r), (x, y + 0.3 * r)], PINK)
    pen.line([(x + dx * r, y + dy * r) for dx, dy in SMILE], INK, 0.04 * r)
    whisker = _shade(fur, 0.35) if sum(fur) > 330 else (225, 225, 225)
    for side in (-1, 1):
        for rise in (-0.1, 0.03, 0.16):
            pen.line(
                [(x + side * 0.3 * r, y + 0.35 * r), (x + side * 1.25 * r, y + (0.35 + rise) * r)], whisker, 0.025 * r
            )


def _dog(pen: Pen) -> None:
    coat = _varied(pen.rng, pen.rng.choice(COATS))
    dark = _shade(coat, 0.6)
    r = pen.near(0.68, 0.08)
    if pen.rng.random() < 0.5:
        pen.oval(0, 0.75, 0.5, 0.4, coat)
    pen.oval(0, 0, r * 0.9, r, coat)
    for side in (-1, 1):
        pen.oval(side * r * 0.95, pen.near(0.05), r * 0.26, r * 0.62, dark, turn=-side * 0.18)
        pen.oval(side * r * 0.34, -r * 0.22, r * 0.1, r * 0.11, INK)
    pen.oval(0, r * 0.42, r * 0.46, r * 0.42, _shade(coat, 1.3))
    pen.oval(0, r * 0.22, r * 0.2, r * 0.14, INK)
    pen.line([(0, r * 0.35), (0, r * 0.6), (r * 0.2, r * 0.68)], INK, 0.05 * r)
    if pen.rng.random() < 0.5:
        pen.oval(r * 0.08, r * 0.82, r * 0.13, r * 0.2, (226, 96, 110))


def _rabbit(pen: Pen) -> None:
    coat = _varied(pen.rng, pen.rng.choice(COATS))
    for side in (-1, 1):
        lean = side * pen.near(0.15, 0.1)
        pen.oval(side * 0.24, -0.72, 0.15, 0.56, coat, turn=lean)
        pen.oval(side * 0.24, -0.72, 0.07, 0.44, PINK, turn=lean)
    pen.oval(0, 0.8, 0.5, 0.4, _shade(coat, 0.93))
    pen.oval(0, 0.1, 0.52, 0.48, coat)
    for side in (-1, 1):
        pen.oval(side * 0.24, 0.02, 0.07, 0.09, INK)
        pen.oval(side * 0.14, 0.32, 0.17, 0.13, _shade(coat, 1.25))
    pen.oval(0, 0.22, 0.06, 0.05, PINK)
    pen.polygon([(-0.07, 0.42), (0.07, 0.42), (0.06, 0.54), (-0.06, 0.54)], (250, 250, 245))


def _bird(pen: Pen) -> None:
    feathers = _varied(pen.rng, pen.rng.choice(PAINTS))
    pen.polygon([(-0.5, 0.1), (-1.15, -0.05), (-1.05, 0.3)], _shade(feathers, 0.7))
    pen.oval(0, 0.15, 0.68, 0.45, feathers)
    pen.oval(0.5, -0.35, 0.32, 0.3, feathers)
    pen.polygon([(0.76, -0.42), (1.12, -0.28), (0.76, -0.2)], (240, 166, 40))
    pen.oval(0.58, -0.4, 0.06, 0.06, INK)
    pen.oval(-0.1, pen.near(0.12), 0.42, 0.24, _shade(feathers, 0.75), turn=pen.near(-0.3, 0.3))
    for x in (-0.05, 0.18):
        pen.line([(x, 0.55), (x, 0.95), (x + 0.14, 0.95)], (150, 96, 40), 0.05)


def _fish(pen: Pen) -> None:
    scales = _varied(pen.rng, pen.rng.choice(PAINTS))
    pen.polygon([(-0.6, 0), (-1.15, -0.42), (-1.0, 0), (-1.15, 0.42)], _shade(scales, 0.75))
    pen.polygon([(-0.3, -0.35), (0.1, -0.75), (0.35, -0.35)], _shade(scales, 0.8))
    pen.oval(0, 0, 0.85, pen.near(0.46, 0.08), scales)
    for x in (-0.3, 0.0, 0.3)[: pen.rng.choice((0, 3))]:
        pen.line([(x, -0.36), (x + 0.08, 0), (x, 0.36)], _shade(scales, 1.4), 0.08)
    pen.oval(0.55, -0.1, 0.11, 0.11, (250, 250, 250))
    pen.oval(0.58, -0.1, 0.05, 0.05, INK)


def _car(pen: Pen) -> None:
    paint = _varied(pen.rng, pen.rng.choice(PAINTS))
    pen.polygon([(-0.6, 0.05), (-0.38, -0.42), (0.34, -0.42), (0.66, 0.05)], paint)
    glass = (190, 214, 226)
    pen.polygon([(-0.46, 0.02), (-0.3, -0.33), (-0.03, -0.33), (-0.03, 0.02)], glass)
    pen.polygon([(0.04, 0.02), (0.04, -0.33), (0.29, -0.33), (0.5, 0.02)], glass)
    pen.polygon([(-1.05, 0.05), (1.0, 0.05), (1.1, 0.42), (-1.08, 0.42)], paint)
    for x in (-0.58, 0.6):
        pen.oval(x, 0.45, 0.25, 0.25, INK)
        pen.oval(x, 0.45, 0.11, 0.11, (190, 190, 190))
    pen.oval(1.0, 0.18, 0.08, 0.08, (252, 236, 150))


def _house(pen: Pen) -> None:
    wall, roof = _varied(pen.rng, pen.rng.choice(PAINTS)), _varied(pen.rng, (160, 70, 50))
    pen.polygon([(-0.72, -0.1), (0.72, -0.1), (0.72, 0.9), (-0.72, 0.9)], wall)
    pen.polygon([(-0.92, -0.08), (0, pen.near(-0.85, 0.15)), (0.92, -0.08)], roof)
    pen.polygon([(-0.16, 0.35), (0.16, 0.35), (0.16, 0.9), (-0.16, 0.9)], _shade(roof, 0.6))
    for x in (-0.46, 0.46):
        pen.polygon([(x - 0.15, 0.1), (x + 0.15, 0.1), (x + 0.15, 0.4), (x - 0.15, 0.4)], (200, 222, 234))
        pen.line([(x, 0.1), (x, 0.4)], (250, 250, 250), 0.03)


def _tree(pen: Pen) -> None:
    leaves = _varied(pen.rng, pen.rng.choice(((54, 128, 60), (96, 150, 52), (196, 120, 40), (34, 96, 66))))
    pen.polygon([(-0.13, 0.1), (0.13, 0.1), (0.18, 1.0), (-0.18, 1.0)], (108, 76, 48))
    if pen.rng.random() < 0.5:
        for y in (-0.95, -0.55, -0.15):
            pen.polygon([(0, y - 0.1), (0.4 + 0.3 * (y + 0.95), y + 0.6), (-0.4 - 0.3 * (y + 0.95), y + 0.6)], leaves)
        return
    for _ in range(9):
        pen.oval(pen.near(0, 0.45), pen.near(-0.35, 0.4), 0.36, 0.32, _varied(pen.rng, leaves))


def _flower(pen: Pen) -> None:
    petals = _varied(pen.rng, pen.rng.choice(PAINTS))
    pen.line([(0, 0), (pen.near(0.05), 1.05)], (60, 130, 60), 0.1)
    pen.oval(0.28, 0.72, 0.26, 0.1, (60, 140, 66), turn=-0.5)
    count = pen.rng.choice((5, 6, 8))
    for k in range(count):
        angle = 2 * math.pi * k / count
        pen.oval(0.42 * math.cos(angle), -0.3 + 0.42 * math.sin(angle), 0.3, 0.19, petals, turn=angle)
    pen.oval(0, -0.3, 0.24, 0.24, (244, 204, 70) if sum(petals) < 560 else (120, 76, 40))


def _mug(pen: Pen) -> None:
    glaze = _varied(pen.rng, pen.rng.choice(PAINTS))
    pen.oval(0.62, 0.05, 0.38, 0.36, _shade(glaze, 0.8))
    pen.oval(0.62, 0.05, 0.22, 0.2, (206, 200, 190))
    pen.polygon([(-0.62, -0.6), (0.58, -0.6), (0.52, 0.78), (-0.56, 0.78)], glaze)
    pen.oval(-0.02, 0.78, 0.54, 0.13, glaze)
    pen.oval(-0.02, -0.6, 0.6, 0.16, _shade(glaze, 1.2))
    pen.oval(-0.02, -0.58, 0.5, 0.11, (84, 54, 36))
    if pen.rng.random() < 0.5:
        pen.polygon(
            [(-0.59, -0.1), (0.55, -0.1), (0.54, 0.15), (-0.58, 0.15)], _varied(pen.rng, pen.rng.choice(PAINTS))
        )


OTHERS: tuple[Callable[[Pen], None], ...] = (_dog, _rabbit, _bird, _fish, _car, _house, _tree, _flower, _mug)


def _background(rng: random.Random) -> Image.Image:
    side = SIZE * OVERSAMPLING
    noise = np.random.default_rng(rng.getrandbits(32))
    coarse = noise.normal(0, rng.uniform(3, 16), (rng.choice((4, 7, 12, 30)),) * 2 + (1,))
    top, bottom = _varied(rng, rng.choice(GROUNDS)), _varied(rng, rng.choice(GROUNDS))
    fall = np.linspace(0, 1, coarse.shape[0])[:, None, None]
    colours = np.array(top) * (1 - fall) + np.array(bottom) * fall + coarse
    picture = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(picture)
    pattern = rng.random()
    if pattern < 0.25:
        _stripes(canvas, rng, side)
    elif pattern < 0.5:
        _clutter(canvas, rng, side)
    elif pattern < 0.75:
        horizon = round(side * rng.uniform(0.55, 0.85))
        canvas.rectangle((0, horizon, side, side), fill=_varied(rng, rng.choice(GROUNDS)))
    return picture


def _stripes(canvas: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    colour, width, slant = _varied(rng, rng.choice(GROUNDS)), rng.randint(8, 26), rng.randint(-80, 80)
    for x in range(-100, side + 100, width * rng.choice((2, 3, 4))):
        canvas.line((x, 0, x + slant, side), fill=colour, width=width)


def _clutter(canvas: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    for _ in range(rng.randint(3, 9)):
        x, y, r = rng.randint(0, side), rng.randint(0, side), rng.randint(8, 40)
        shape = canvas.ellipse if rng.random() < 0.5 else canvas.rectangle
        shape((x - r, y - r, x + r, y + r), fill=_varied(rng, rng.choice(GROUNDS + PAINTS)))


def _occlude(picture: Image.Image, rng: random.Random) -> None:
    """In every third picture something stands before the subject's edge."""
    if rng.random() > 0.33:
        return
    side, canvas = SIZE * OVERSAMPLING, ImageDraw.Draw(picture)
    colour = _varied(rng, rng.choice(GROUNDS + PAINTS))
    match rng.choice(("post", "leaves", "table")):
        case "post":
            x = rng.choice((rng.uniform(0.1, 0.3), rng.uniform(0.7, 0.9))) * side
            canvas.rectangle((x, 0, x + rng.uniform(0.04, 0.1) * side, side), fill=colour)
        case "leaves":
            for _ in range(12):
                x, y = rng.uniform(-0.1, 0.9) * side, rng.uniform(0.78, 1.0) * side
                canvas.ellipse((x, y - 20, x + 70, y + 14), fill=_varied(rng, (70, 130, 60)))
        case "table":
            canvas.rectangle((0, side * rng.uniform(0.8, 0.9), side, side), fill=colour)


def _photograph(picture: Image.Image, rng: random.Random) -> bytes:
    """Light from one side, a little blur, the sensor's noise, JPEG."""
    small = picture.reduce(OVERSAMPLING)
    if rng.random() < 0.3:
        small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.1)))
    pixels = np.asarray(small, dtype=np.float32)
    along = np.linspace(-1, 1, SIZE, dtype=np.float32) * rng.uniform(-0.18, 0.18)
    light = rng.uniform(0.85, 1.1) + (along[:, None] if rng.random() < 0.5 else along[None, :])
    noise = np.random.default_rng(rng.getrandbits(32)).standard_normal((SIZE, SIZE, 1), dtype=np.float32)
    pixels = pixels * light[..., None] + noise * np.float32(rng.uniform(1, 9))
    written = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(written, "JPEG", quality=QUALITY)
    return written.getvalue()


def _varied(rng: random.Random, colour: Colour) -> Colour:
    return _limited(part + rng.gauss(0, 9) for part in colour)


def _shade(colour: Colour, factor: float) -> Colour:
    return _limited(part * factor for part in colour)


def _limited(parts: Iterator[float]) -> Colour:
    red, green, blue = (max(0, min(255, round(part))) for part in parts)
    return red, green, blue


if __name__ == "__main__":
    archive(Path(sys.argv[1]), drawings())
    Path(sys.argv[2]).write_bytes(draw("cat", seed=HELD_BACK_SEED))
