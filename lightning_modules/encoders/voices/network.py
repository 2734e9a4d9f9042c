"""What encoders of voices that come as a file of a whole network have in common: its input and its windows."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from datamodules.schema import DataError
from lightning_modules.encoders.base import SAMPLE_RATE, FrozenEncoder, checked_width
from lightning_modules.encoders.voices.filter_bank import FilterBank


class VoiceNetwork(FrozenEncoder):
    """Makes the network's input, whole or in windows, and joins the embeddings of the windows.

    The embedding of a recording without windows is the network's output; with windows it is the mean of their
    embeddings at unit length, again at unit length. The windows of one recording are one batch.

    Args:
        features: filter banks that the network takes; None = it takes the waveform.
        standardise: subtract the mean of the waveform and divide by its standard deviation.
        length: samples (with ``features``: frames) of a window, for networks that take inputs of one length; a
            shorter recording is padded with zeros. None = the whole recording.
        stride: samples or frames between windows; None = half of ``length``.

    Raises:
        DataError: an option out of range.
    """

    modality = "voice"

    def __init__(self, features: FilterBank | None, standardise: bool, length: int | None, stride: int | None) -> None:
        super().__init__()
        for name, value in (("length", length), ("stride", stride)):
            if value is not None and value < 1:
                raise DataError(f"voice.{name}: {value} must be 1 or more")
        if stride is not None and length is None:
            raise DataError("voice.stride: windows need their length; set voice.length too")
        self.features, self.standardise = features, standardise
        self.length, self.stride = length, stride or max(1, (length or 2) // 2)

    @abstractmethod
    def run(self, x: Tensor) -> Tensor:
        """Inputs (w, samples), (w, frames, mels) or (w, mels, frames) -> (w, d) on the same device."""

    def prepare(self, media: NDArray[np.float32]) -> Tensor:
        """Voice (S,) -> windows (w, samples), (w, frames, mels) or (w, mels, frames)."""
        if self.standardise:
            media = (media - media.mean()) / (media.std() + 1e-7)
        x = torch.from_numpy(media) if self.features is None else self.features.of(media)
        if self.length is None:
            x = x[None]
        else:
            lacking = max(0, self.length - len(x))
            x = F.pad(x, (0, lacking) if self.features is None else (0, 0, 0, lacking)).unfold(
                0, self.length, self.stride
            )
            x = x if self.features is None else x.transpose(1, 2)
        if self.features is not None and self.features.mels_first:
            x = x.transpose(1, 2)
        return x.contiguous()

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """One recording at a time: padding would change embeddings."""
        outputs = [self.run(windows).float() for windows in inputs]
        if self.length is not None:
            outputs = [F.normalize(F.normalize(x, dim=1).mean(dim=0, keepdim=True), dim=1) for x in outputs]
        return torch.cat(outputs)

    def find_width(self, where: str, dim: int | None) -> int:
        """Runs the network on two seconds of noise and returns the width of its output.

        Args:
            where: name of the file, for errors.
            dim: the width that is expected; None = any.

        Raises:
            DataError: the network does not take such an input, or gives another shape.
        """
        noise = np.random.default_rng(0).normal(scale=0.05, size=2 * SAMPLE_RATE).astype(np.float32)
        with torch.inference_mode():
            x = self.prepare(noise)
            return checked_width(self.run(x), len(x), where, dim)
