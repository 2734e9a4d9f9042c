"""Log mel energies of one recording, in the variants that published speaker encoders were trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchaudio.compliance import kaldi
from torchaudio.functional import melscale_fbanks

from datamodules.schema import DataError
from lightning_modules.encoders.base import SAMPLE_RATE

FRAME_LENGTH, FRAME_SHIFT, FFT_SIZE = 400, 160, 512  # samples: 25 ms, 10 ms
FLOOR = 1e-10  # of the energies of the librosa kind


@dataclass
class FilterBank:
    """Log mel energies of windows of 25 ms, every 10 ms.

    Attributes:
        kind: ``kaldi`` as Kaldi and torchaudio compute them (WeSpeaker, 3D-Speaker, NeMo's exports do not), natural
            logarithm; ``librosa`` = power spectrum without pre-emphasis, mel scale and norm of Slaney, log10.
        mels: number of mel bins.
        window: of the frames; WeSpeaker takes hamming, 3D-Speaker povey (Kaldi's own).
        scale: samples (-1..1) are multiplied by it; WeSpeaker takes 32768.
        normalise: over the frames of a recording: ``none``; ``mean`` is subtracted from each bin; ``mean_std`` also
            divides by its standard deviation.
        mean: subtracted from all energies, as measured on the network's training data.
        std: divides all energies.
        mels_first: whether the network takes (mels, frames) instead of (frames, mels).
    """

    kind: Literal["kaldi", "librosa"] = "kaldi"
    mels: int = 80
    window: Literal["povey", "hamming", "hanning"] = "povey"
    scale: float = 1.0
    normalise: Literal["none", "mean", "mean_std"] = "mean"
    mean: float = 0.0
    std: float = 1.0
    mels_first: bool = False

    def __post_init__(self) -> None:
        if self.mels < 1 or self.std <= 0 or self.scale <= 0:
            raise DataError(f"features: mels {self.mels}, std {self.std} and scale {self.scale} must be above 0")

    def of(self, media: NDArray[np.float32]) -> Tensor:
        """Voice (S,) float32 at 16 kHz -> (frames, mels) float32, whatever ``mels_first`` is.

        A recording shorter than a window is padded with zeros.
        """
        wave = torch.from_numpy(np.pad(media, (0, max(0, FRAME_LENGTH - len(media))))) * self.scale
        x = self._kaldi(wave) if self.kind == "kaldi" else self._librosa(wave)
        if self.normalise != "none":
            x = x - x.mean(dim=0)
        if self.normalise == "mean_std":
            x = x / x.std(dim=0, unbiased=False).clamp_min(1e-5)
        return (x - self.mean) / self.std

    def _kaldi(self, wave: Tensor) -> Tensor:
        energies: Tensor = kaldi.fbank(
            wave[None], num_mel_bins=self.mels, window_type=self.window, dither=0.0, sample_frequency=SAMPLE_RATE
        )
        return energies

    def _librosa(self, wave: Tensor) -> Tensor:
        shapes = {"hamming": torch.hamming_window, "hanning": torch.hann_window}
        shape = torch.hann_window(FRAME_LENGTH) ** 0.85 if self.window == "povey" else shapes[self.window](FRAME_LENGTH)
        side = (FFT_SIZE - FRAME_LENGTH) // 2
        window = torch.nn.functional.pad(shape, (side, side))
        wave = torch.nn.functional.pad(wave, (0, max(0, FFT_SIZE - len(wave))))
        power = torch.fft.rfft(wave.unfold(0, FFT_SIZE, FRAME_SHIFT) * window).abs().square()
        bank = melscale_fbanks(
            FFT_SIZE // 2 + 1, 0.0, SAMPLE_RATE / 2, self.mels, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        energies: Tensor = power @ bank + FLOOR
        return energies.log10()
