"""Synthetic faces: drawings whose proportions and hair show the traits of an identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SIZE, _SCALE = 96, 2  # pixels of a picture; drawn larger, for smooth edges


@dataclass(frozen=True)
class Looks:
    """The appearance of an identity in all its pictures. The first four traits have mean 0 and mostly lie in -2..2.

    Attributes:
        heaviness: broad jaw and long nose.
        brow: thick eyebrows and small eyes.
        age: grey hair that recedes.
        mouth: wide mouth.
        long_hair: down to the chin.
        beard: dark lower half of the face.
        tone: 0..1, darkness of the skin.
        hue: 0..1, colour of the hair.
        glasses: whether it wears glasses.
    """

    heaviness: float
    brow: float
    age: float
    mouth: float
    long_hair: bool
    beard: bool
    tone: float
    hue: float
    glasses: bool


@dataclass(frozen=True)
class Scene:
    """What all pictures of one video have in common.

    Attributes:
        background: colour of the background, RGB.
        light: factor for all colours.
    """

    background: tuple[int, int, int]
    light: float


def draw(looks: Looks, scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Draws a picture (96, 96); position, size, tilt and noise differ between pictures."""
    side = SIZE * _SCALE
    image = Image.new("RGB", (side, side), scene.background)
    pen = ImageDraw.Draw(image)
    unit = side * 0.36 * rng.uniform(0.92, 1.08)
    x0, y0 = side / 2 + rng.normal(0, 0.02 * side), side * 0.52 + rng.normal(0, 0.02 * side)

    def oval(x: float, y: float, width: float, height: float, fill: tuple[int, ...]) -> None:
        pen.ellipse((x0 + (x - width) * unit, y0 + (y - height) * unit,
                     x0 + (x + width) * unit, y0 + (y + height) * unit), fill=fill)  # fmt: skip

    def bar(x: float, y: float, width: float, height: float, fill: tuple[int, ...]) -> None:
        pen.rectangle((x0 + (x - width) * unit, y0 + (y - height) * unit,
                       x0 + (x + width) * unit, y0 + (y + height) * unit), fill=fill)  # fmt: skip

    skin = _mix((245, 215, 190), (120, 80, 55), looks.tone)
    grey = float(np.clip(0.5 + 0.35 * looks.age, 0, 1))
    hair = _mix(_mix((35, 25, 20), (150, 95, 45), looks.hue), (215, 215, 215), grey)
    dark = _mix(skin, (30, 10, 10), 0.55)
    if looks.long_hair:
        oval(0, 0.0, 1.02, 1.15, hair)
        bar(0, 0.55, 1.0, 0.5, hair)
    oval(0, -0.2, 0.92, 1.05, hair)
    oval(0, 0.05 + 0.06 * looks.age, 0.8, 1.0, skin)  # the face below the hairline
    jaw = 0.62 + 0.12 * looks.heaviness
    oval(0, 0.5, jaw, 0.5, _mix(skin, hair, 0.6) if looks.beard else skin)
    thick, eye = 0.08 + 0.035 * looks.brow, 0.14 - 0.025 * looks.brow
    for sign in (-1, 1):
        oval(0.36 * sign, -0.05, 0.17, max(0.03, eye), (250, 250, 250))
        oval(0.36 * sign, -0.05, max(0.03, eye * 0.6), max(0.03, eye * 0.6), (40, 30, 30))
        bar(0.36 * sign, -0.3, 0.2, max(0.015, thick), _mix(hair, (20, 20, 20), 0.5))
        if looks.glasses:
            x = x0 + 0.36 * sign * unit
            frame = (x - 0.27 * unit, y0 - 0.27 * unit, x + 0.27 * unit, y0 + 0.2 * unit)
            pen.rectangle(frame, outline=(30, 30, 40), width=_SCALE * 2)
    oval(0, 0.25, 0.09, 0.16 + 0.04 * looks.heaviness, dark)
    oval(0, 0.62, max(0.1, 0.3 + 0.1 * looks.mouth), 0.06 + 0.05 * rng.random(), (170, 50, 60))
    for line in range(max(0, round(1.5 + 1.5 * looks.age))):  # wrinkles
        bar(0, -0.5 - 0.08 * line, 0.35, 0.012, dark)
    image = image.rotate(rng.normal(0, 4), Image.Resampling.BILINEAR, fillcolor=scene.background)
    pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32)
    return Image.fromarray(np.clip(pixels * scene.light + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8))


def _mix(one: tuple[int, ...], other: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
