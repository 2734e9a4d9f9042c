"""Waveform -> normalised Kaldi filter bank, a whole batch at a time.

Beside torchaudio_voice.py the only file that imports torchaudio.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.compliance.kaldi import get_mel_banks
from torchaudio.functional import mask_along_axis_iid

from datamodules.schema import DataError

SAMPLE_RATE = 16_000
FRAME_LENGTH, FRAME_SHIFT = 400, 160  # 25 ms and 10 ms
FFT_SIZE = 512
PRE_EMPHASIS = 0.97
LOW_FREQUENCY = 20.0
EPSILON = torch.finfo(torch.float32).eps  # Kaldi's floor under the logarithm
MEL_BLOCK = 16  # mel bins multiplied at once
CPU_CHUNK = 2  # clips at once on a CPU: what stays in its cache; an accelerator takes the whole batch


def lengths_of(waveforms: Tensor) -> Tensor:
    """Samples of each clip (B,) int64 in a batch (B, S) whose clips are followed by NaN padding.

    The readers of the data modules refuse NaN in audio, so NaN can mean only "past the end", and a batch of clips of
    different lengths stays one tensor.
    """
    return (~waveforms.isnan()).sum(dim=-1)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # made once, used in training too
def _window_and_mel(n_mels: int, device: torch.device) -> tuple[Tensor, list[tuple[slice, Tensor]]]:
    """Hann window (399,) without its leading zero, and the mel weights, in (FFT parts, weights) of MEL_BLOCK bins.

    Kept out of the module so that ``.half()`` and Lightning's true-half precision cannot round them.
    """
    window = torch.hann_window(FRAME_LENGTH, periodic=False, dtype=torch.float32)[1:]
    bank, _ = get_mel_banks(n_mels, FFT_SIZE, SAMPLE_RATE, LOW_FREQUENCY, 0.0, 100.0, -500.0, 1.0)
    blocks = []
    for rows in bank.split(MEL_BLOCK):  # a mel bin hears a few neighbouring FFT bins: most of the matrix is zero
        heard = rows.any(dim=0).nonzero().flatten().tolist()
        low, high = (heard[0], heard[-1] + 1) if heard else (0, 1)
        weights = rows[:, low:high].T.repeat_interleave(2, dim=0)  # the same for real and imaginary part
        blocks.append((slice(2 * low, 2 * high), weights.to(device)))
    return window.to(device), blocks


def fbank(waveforms: Tensor, lengths: Tensor, n_mels: int = 128) -> tuple[Tensor, Tensor]:
    """Log mel energies as Kaldi's compute-fbank-feats gives them, for a batch ([CAV-MAE]; method.md section 2).

    Equals ``torchaudio.compliance.kaldi.fbank(clip, htk_compat=True, use_energy=False, window_type='hanning',
    num_mel_bins=n_mels, frame_shift=10, dither=0)`` of each clip, operation by operation: in the faintest bins one
    rounding more shows as 1e-3.

    Args:
        waveforms: (B, S) 16 kHz mono; what lies past a clip's length is ignored.
        lengths: (B,) samples of each clip, <= S.
        n_mels: number of mel bins.

    Returns:
        Log energies (B, F, n_mels) float32 with F the frames of S samples, and the mask (B, F), True for frames that
        lie wholly inside their clip. Frames outside are 0.
    """
    waveforms = F.pad(waveforms.float(), (0, max(0, FRAME_LENGTH - waveforms.shape[1])))
    chunk = CPU_CHUNK if waveforms.device.type == "cpu" else len(waveforms)
    energies = torch.cat([_log_energies(part, n_mels) for part in waveforms.split(chunk)])
    mask = torch.arange(energies.shape[1], device=energies.device) < frames_of(lengths)[:, None]
    return energies.masked_fill_(~mask[..., None], 0.0), mask


def _log_energies(waveforms: Tensor, n_mels: int) -> Tensor:
    """(b, S) -> (b, F, n_mels), every frame."""
    window, mel = _window_and_mel(n_mels, waveforms.device)
    frames = waveforms.unfold(1, FRAME_LENGTH, FRAME_SHIFT)
    frames = frames - frames.mean(dim=-1, keepdim=True)
    windowed = frames.new_zeros(*frames.shape[:2], FFT_SIZE)
    inner = windowed[..., 1:FRAME_LENGTH]  # the window's first weight is 0
    torch.mul(frames[..., :-1], -PRE_EMPHASIS, out=inner)
    inner.add_(frames[..., 1:]).mul_(window)
    squares = torch.view_as_real(torch.fft.rfft(windowed)).square_().flatten(2)  # real, imaginary, real, ...
    return torch.cat([squares[..., band] @ weights for band, weights in mel], dim=-1).clamp_min_(EPSILON).log_()


class FrontEnd(nn.Module):
    """Waveforms in, normalised filter banks out, in float32 whatever the precision of the run.

    In training the waveforms get gain and noise and the filter banks SpecAugment masks, all drawn per clip on the
    batch's device from torch's global generator; in evaluation the output depends on the waveform only.

    Args:
        n_mels: mel bins.
        mean: subtracted from log energies; -5.081 is CAV-MAE's (AudioSet), the [SCC] authors' later wrapper has -6.364.
        std: divides log energies; 4.4849 is CAV-MAE's, the wrapper has 3.693.
        frequency_mask: widest SpecAugment band in mel bins, 0 = none.
        time_mask: widest SpecAugment gap in frames, 0 = none.
        gain_db: training gain drawn from +-gain_db decibels.
        noise_snr_db: training adds white noise at a signal-to-noise ratio drawn from (low, high) decibels; None = none.
            Gain and noise are not from the paper.
    """

    def __init__(
        self,
        n_mels: int = 128,
        mean: float = -5.081,
        std: float = 4.4849,
        frequency_mask: int = 0,
        time_mask: int = 0,
        gain_db: float = 0.0,
        noise_snr_db: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        if std <= 0:
            raise ValueError(f"frontend.std: {std} must be above 0; CAV-MAE's is 4.4849")
        if frequency_mask >= n_mels:
            raise ValueError(f"frontend.frequency_mask: {frequency_mask} hides all {n_mels} mel bins; choose fewer")
        if noise_snr_db is not None and noise_snr_db[0] > noise_snr_db[1]:
            raise ValueError(f"frontend.noise_snr_db: {noise_snr_db} must be (low, high)")
        self.n_mels, self.mean, self.std = n_mels, mean, std
        self.frequency_mask, self.time_mask = frequency_mask, time_mask
        self.gain_db, self.noise_snr_db = gain_db, noise_snr_db

    def forward(self, waveforms: Tensor, frames: int | None = None, lengths: Tensor | None = None) -> Tensor:
        """Filter banks of a batch.

        Args:
            waveforms: (B, S) 16 kHz mono.
            frames: T, the frames to return: shorter clips are padded with zero energies before normalisation, as
                CAV-MAE does. None = as many as S samples have.
            lengths: (B,) samples of each clip; None reads them off the NaN padding (:func:`lengths_of`).

        Returns:
            (B, T, n_mels) float32.

        Raises:
            DataError: if the batch has more than ``frames`` frames.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            lengths = lengths_of(waveforms) if lengths is None else lengths
            inside = torch.arange(waveforms.shape[1], device=waveforms.device) < lengths[:, None]
            waveforms = torch.where(inside, waveforms.float(), 0.0)
            waveforms = waveforms - waveforms.sum(dim=1, keepdim=True) / lengths[:, None].clamp_min(1)
            if self.training:
                waveforms = self._disturb(waveforms, lengths)
            features, _ = fbank(waveforms, lengths, self.n_mels)
            have = features.shape[1]
            if frames is not None and have > frames:
                raise DataError(
                    f"voices of {have} frames for a network of {frames}: crop them to {samples_of(frames)} samples "
                    "(data.media.frames and model.network.frames must agree)"
                )
            features = F.pad(features, (0, 0, 0, (frames or have) - have))
            if self.training:
                features = self._mask(features)
            return (features - self.mean) / self.std

    def _disturb(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Noise at a random SNR, then a random gain, per clip."""
        draw = waveforms.new_empty(len(waveforms), 1)
        if self.noise_snr_db is not None:
            power = waveforms.square().sum(1, keepdim=True) / lengths[:, None].clamp_min(1)
            snr = 10 ** (draw.uniform_(*self.noise_snr_db) / 10)
            waveforms = waveforms + torch.randn_like(waveforms) * (power / snr).sqrt()
        if self.gain_db:
            waveforms = waveforms * 10 ** (draw.uniform_(-self.gain_db, self.gain_db) / 20)
        return waveforms

    def _mask(self, features: Tensor) -> Tensor:
        """SpecAugment of each clip; masked energies are 0 before normalisation, like CAV-MAE's padding."""
        if self.frequency_mask:
            features = mask_along_axis_iid(features[:, None], self.frequency_mask, 0.0, axis=3)[:, 0]
        if self.time_mask:
            gap = min(self.time_mask, features.shape[1])
            features = mask_along_axis_iid(features[:, None], gap, 0.0, axis=2)[:, 0]
        return features


def samples_of(frames: int) -> int:
    """Samples of a clip that has exactly this many frames."""
    return FRAME_LENGTH + (frames - 1) * FRAME_SHIFT


def frames_of(samples: Tensor) -> Tensor:
    """Frames that lie wholly inside clips of so many samples."""
    return (samples - FRAME_LENGTH).div(FRAME_SHIFT, rounding_mode="floor") + 1
