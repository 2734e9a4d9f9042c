"""Resemblyzer: a speaker verification LSTM ([GE2E]), 256-d, with weights from its package."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from datamodules.schema import DataError
from lightning_modules.encoders.base import SAMPLE_RATE, FrozenEncoder, optional

RATE, COVERAGE = 1.3, 0.75  # defaults of Resemblyzer: windows per second, least filled share of the last window


class ResemblyzerVoice(FrozenEncoder):
    """Raises the volume, removes pauses with Resemblyzer's voice detector, and averages over windows of 1.6 s.

    Args:
        loop_seconds: shorter recordings are first repeated up to this length, so that they give as many windows as
            longer ones; 0 = no repetition. (Not from Resemblyzer; the voices of the s2f set were embedded this way.)

    Raises:
        DataError: the extra ``pretrained`` is not installed.
    """

    modality = "voice"
    dim = 256

    def __init__(self, loop_seconds: float = 6.0) -> None:
        super().__init__()
        self.loop_seconds = loop_seconds
        self.network = optional("resemblyzer").VoiceEncoder("cpu", verbose=False)
        self.requires_grad_(False).eval()

    def prepare(self, media: NDArray[np.float32]) -> Tensor:
        """Voice (S,) -> mel windows (w, 160, 40)."""
        resemblyzer: Any = optional("resemblyzer")
        shortest = int(self.loop_seconds * SAMPLE_RATE)
        if len(media) < shortest:
            media = np.tile(media, -(-shortest // len(media)))[:shortest]
        speech = resemblyzer.preprocess_wav(media)
        if not len(speech):
            raise DataError("Resemblyzer's voice detector finds no speech in it; remove it from the list")
        waves, mels = resemblyzer.VoiceEncoder.compute_partial_slices(len(speech), RATE, COVERAGE)
        speech = np.pad(speech, (0, max(0, waves[-1].stop - len(speech))))
        mel = resemblyzer.wav_to_mel_spectrogram(speech)
        return torch.from_numpy(np.stack([mel[part] for part in mels]))

    def forward(self, inputs: list[Tensor]) -> Tensor:
        windows = self.network(torch.cat(inputs)).split([len(x) for x in inputs])
        return F.normalize(torch.stack([part.mean(dim=0) for part in windows]), dim=1)
