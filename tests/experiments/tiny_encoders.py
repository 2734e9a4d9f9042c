"""Encoders that need no weights: a voice's spectrum and a face's mean colours. Also: how an encoder is added."""

from __future__ import annotations

import os
import time

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lightning_modules import FrozenEncoder


class SpectrumVoice(FrozenEncoder):
    """Energies of 24 bands.

    Args:
        log: file that gets a line for every voice.
        seconds: every voice takes.
    """

    modality = "voice"
    dim = 24

    def __init__(self, log: str | None = None, seconds: float = 0.0) -> None:
        super().__init__()
        self.log, self.seconds = log, seconds

    def prepare(self, media: NDArray[np.float32]) -> Tensor:
        time.sleep(self.seconds)
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()}\n")
        spectrum = np.log(np.abs(np.fft.rfft(media[:8000], 8000)) ** 2 + 1e-3)
        return torch.from_numpy(spectrum[: 24 * 160].reshape(24, 160).mean(axis=1).astype(np.float32))

    def forward(self, inputs: list[Tensor]) -> Tensor:
        return torch.stack(inputs)


class ColourFace(FrozenEncoder):
    """Mean colours of a 3 x 3 grid."""

    modality = "face"
    dim = 27

    def prepare(self, media: Image.Image) -> Tensor:
        return torch.from_numpy(np.asarray(media.resize((3, 3), Image.Resampling.BOX), dtype=np.float32).ravel() / 255)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        return torch.stack(inputs)
