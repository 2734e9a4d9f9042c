"""Recordings and pictures of noise, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

RNG = np.random.default_rng(0)


def noise(samples: int = 16000) -> np.ndarray:
    return (RNG.standard_normal(samples) * 0.1).astype(np.float32)


def write(path: Path, audio: np.ndarray, rate: int = 16000, **options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, **options)
    return path


def jpg(path: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size[::-1] if mode == "L" else (*size[::-1], 3)
    Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8), mode).save(path)
    return path
