"""Waveforms -> normalised Kaldi filter banks, one batch at a time."""

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
MEL_BLOCK = 16  # mel bins that are computed together
CPU_CHUNK = 2  # clips at once on a CPU, so that they stay in its cache; an accelerator takes the whole batch


def lengths_of(waveforms: Tensor) -> Tensor:
    """Samples of each clip (B,) int64 in a batch (B, S) of clips that are padded with NaN.

    NaN can only be padding, because the readers of the data modules refuse audio with NaN.
    """
    return (~waveforms.isnan()).sum(dim=-1)


def _none_padded(waveforms: Tensor) -> bool:
    """Whether no clip of a batch on a CPU is padded; an accelerator would be waited for."""
    return waveforms.device.type == "cpu" and not waveforms[:, -1:].isnan().any()


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # tensors are cached and also used in training
def _window_and_mel(n_mels: int, device: torch.device) -> tuple[Tensor, list[tuple[slice, Tensor, slice]]]:
    """Hann window (399,) without its leading zero, and the mel weights by MEL_BLOCK bins: (FFT parts, weights, bins).

    They are not buffers of the module, so that ``.half()`` and true half precision do not round them.
    """
    window = torch.hann_window(FRAME_LENGTH, periodic=False, dtype=torch.float32)[1:]
    bank, _ = get_mel_banks(n_mels, FFT_SIZE, SAMPLE_RATE, LOW_FREQUENCY, 0.0, 100.0, -500.0, 1.0)
    blocks = []
    for first, rows in zip(range(0, n_mels, MEL_BLOCK), bank.split(MEL_BLOCK), strict=True):
        # a mel bin covers a few neighbouring FFT bins: most of the matrix is zero
        used = rows.any(dim=0).nonzero().flatten().tolist()
        low, high = (used[0], used[-1] + 1) if used else (0, 1)
        weights = rows[:, low:high].T.repeat_interleave(2, dim=0)  # the same for real and imaginary part
        blocks.append((slice(2 * low, 2 * high), weights.to(device), slice(first, first + len(rows))))
    return window.to(device), blocks


def fbank(waveforms: Tensor, lengths: Tensor, n_mels: int = 128) -> tuple[Tensor, Tensor]:
    """Log mel energies of a batch, as Kaldi's compute-fbank-feats and [CAV-MAE] compute them.

    Equals ``torchaudio.compliance.kaldi.fbank(clip, htk_compat=True, use_energy=False, window_type='hanning',
    num_mel_bins=n_mels, frame_shift=10, dither=0)`` of each clip but for rounding: it is done less often, so results
    are nearer to those in double precision. In the faintest bins either may be off by some 1e-3.

    Args:
        waveforms: (B, S) 16 kHz mono; samples past a clip's length are ignored.
        lengths: (B,) samples of each clip, <= S.
        n_mels: number of mel bins.

    Returns:
        Log energies (B, F, n_mels) float32, with F the number of frames of S samples, and a mask (B, F) that is True
        for frames inside their clip. Other frames are 0.
    """
    if (short := FRAME_LENGTH - waveforms.shape[1]) > 0:
        waveforms = F.pad(waveforms, (0, short))
    energies = _log_energies(waveforms.float(), n_mels)
    mask = torch.arange(energies.shape[1], device=energies.device) < frames_of(lengths)[:, None]
    if energies.device.type != "cpu" or not mask.all():  # an accelerator would be waited for
        energies.masked_fill_(~mask[..., None], 0.0)
    return energies, mask


def _log_energies(waveforms: Tensor, n_mels: int) -> Tensor:
    """Waveforms (B, S) -> log energies (B, F, n_mels) of all frames."""
    window, mel = _window_and_mel(n_mels, waveforms.device)
    frames = waveforms.unfold(1, FRAME_LENGTH, FRAME_SHIFT)
    energies = waveforms.new_empty(*frames.shape[:2], n_mels)
    clips, count = frames.shape[:2]
    clips = min(clips, CPU_CHUNK) if waveforms.device.type == "cpu" else clips
    with torch.inference_mode():  # each operation starts sooner; a network can learn from ``energies`` all the same
        # one set of buffers for all chunks: the system gives out new memory slower than a chunk is computed
        emphasised = waveforms.new_empty(clips, waveforms.shape[1] - 1)
        windowed = waveforms.new_zeros(clips, count, FFT_SIZE)
        for chunk, part, found in zip(*(x.split(clips) for x in (waveforms, frames, energies)), strict=True):
            now, inner = emphasised[: len(part)], windowed[: len(part), :, 1:FRAME_LENGTH]  # the window begins with 0
            torch.add(chunk[:, 1:], chunk[:, :-1], alpha=-PRE_EMPHASIS, out=now)
            # x - mean - PRE_EMPHASIS * (x before - mean): the mean of a frame, which is removed, is left in part
            mean = part.mean(dim=-1, keepdim=True).mul_(1 - PRE_EMPHASIS)
            torch.sub(now.unfold(1, FRAME_LENGTH - 1, FRAME_SHIFT)[:, :count], mean, out=inner).mul_(window)
            spectrum = torch.fft.rfft(windowed[: len(part)])  # its ``out`` would be a copy
            squares = torch.view_as_real(spectrum).square_().flatten(0, 1).flatten(1)  # real, imaginary, real, ...
            for band, weights, bins in mel:
                torch.mm(squares[:, band], weights, out=found.flatten(0, 1)[:, bins])
            found.clamp_min_(EPSILON).log_()
    return energies


class FrontEnd(nn.Module):
    """Waveforms -> normalised filter banks, in float32 under any precision of the run.

    In training, waveforms get a random gain and noise, and filter banks get masks ([SpecAugment]). They are drawn per
    clip on the device of the batch from torch's global generator. In evaluation, nothing is random.

    Args:
        n_mels: number of mel bins.
        mean: subtracted from log energies; -5.081 is that of [CAV-MAE] (AudioSet), -6.364 that of later code by the
            [SCC] authors.
        std: divides log energies; 4.4849 is that of [CAV-MAE], 3.693 that of later code by the [SCC] authors.
        frequency_mask: largest width of the masked band in mel bins; 0 = no mask.
        time_mask: largest length of the masked gap in frames; 0 = no mask.
        gain_db: largest random gain or attenuation in decibels; 0 = none. Not from the papers.
        noise_snr_db: (low, high) range of the signal-to-noise ratio of added white noise in decibels; None = no noise.
            Not from the papers.

    Raises:
        ValueError: an option out of range.
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
            raise ValueError(f"frontend.std is {std}; it must be above 0 (4.4849 in CAV-MAE)")
        if frequency_mask >= n_mels:
            raise ValueError(
                f"frontend.frequency_mask is {frequency_mask} and hides all {n_mels} mel bins; choose fewer"
            )
        if noise_snr_db is not None and noise_snr_db[0] > noise_snr_db[1]:
            raise ValueError(f"frontend.noise_snr_db is {noise_snr_db}; it must be (low, high)")
        self.n_mels, self.mean, self.std = n_mels, mean, std
        self.frequency_mask, self.time_mask = frequency_mask, time_mask
        self.gain_db, self.noise_snr_db = gain_db, noise_snr_db

    def forward(self, waveforms: Tensor, frames: int | None = None, lengths: Tensor | None = None) -> Tensor:
        """Filter banks of a batch.

        Args:
            waveforms: (B, S) 16 kHz mono.
            frames: T, number of frames to return. Shorter clips are padded with zero energies before normalisation, as
                in [CAV-MAE]. None = the frames of S samples.
            lengths: (B,) samples of each clip; None = from the NaN padding (:func:`lengths_of`).

        Returns:
            (B, T, n_mels) float32.

        Raises:
            DataError: the batch has more than ``frames`` frames.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            if lengths is None and _none_padded(waveforms):
                lengths = torch.full((len(waveforms),), waveforms.shape[1], device=waveforms.device)
                waveforms = waveforms.float()
            else:
                lengths = lengths_of(waveforms) if lengths is None else lengths
                inside = torch.arange(waveforms.shape[1], device=waveforms.device) < lengths[:, None]
                waveforms = torch.where(inside, waveforms.float(), 0.0)
            if self.training:
                waveforms = self._disturb(waveforms, lengths)
            features, _ = fbank(waveforms, lengths, self.n_mels)
            have = features.shape[1]
            if frames is not None and have > frames:
                raise DataError(
                    f"voices have {have} frames, the network takes {frames}; crop them to {samples_of(frames)} samples "
                    "(data.media.frames and model.network.frames must agree)"
                )
            if frames is not None and have < frames:
                features = F.pad(features, (0, 0, 0, frames - have))
            if self.training:
                features = self._mask(features)
            return features.sub_(self.mean).div_(self.std)

    def _disturb(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Adds noise at a random signal-to-noise ratio, then a random gain, to each clip."""
        draw = waveforms.new_empty(len(waveforms), 1)
        if self.noise_snr_db is not None:
            count = lengths[:, None].clamp_min(1)
            mean = waveforms.sum(1, keepdim=True) / count
            power = (waveforms.square().sum(1, keepdim=True) / count - mean.square()).clamp_min(0)
            snr = 10 ** (draw.uniform_(*self.noise_snr_db) / 10)
            waveforms = waveforms + torch.randn_like(waveforms) * (power / snr).sqrt()
        if self.gain_db:
            waveforms = waveforms * 10 ** (draw.uniform_(-self.gain_db, self.gain_db) / 20)
        return waveforms

    def _mask(self, features: Tensor) -> Tensor:
        """[SpecAugment] of each clip; masked energies are 0 before normalisation, like the padding in [CAV-MAE]."""
        if self.frequency_mask:
            features = mask_along_axis_iid(features[:, None], self.frequency_mask, 0.0, axis=3)[:, 0]
        if self.time_mask:
            gap = min(self.time_mask, features.shape[1])
            features = mask_along_axis_iid(features[:, None], gap, 0.0, axis=2)[:, 0]
        return features


def samples_of(frames: int) -> int:
    """The smallest number of samples of a clip with this many frames."""
    return FRAME_LENGTH + (frames - 1) * FRAME_SHIFT


def frames_of(samples: Tensor) -> Tensor:
    """The number of complete frames in clips with these numbers of samples."""
    return (samples - FRAME_LENGTH).div(FRAME_SHIFT, rounding_mode="floor") + 1
