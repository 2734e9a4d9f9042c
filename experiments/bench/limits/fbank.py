"""The filter bank of a batch of clips, against torchaudio's clip by clip."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torchaudio.compliance import kaldi

from experiments.bench.limits.setting import Case, Measured, Setting, peak_gb, relative_error, reset_peak, seconds_of
from lightning_modules.networks.frontend import FFT_SIZE, fbank, samples_of

MELS, CHECKED = 128, 4


def cases(setting: Setting) -> dict[str, Case]:
    """Ours and torchaudio's."""
    return {
        f"{way}, {setting.clips} clips": partial(_measure, setting, way)
        for way in ("whole batch", "torchaudio, clip by clip", "its FFT alone")
    }


def _measure(setting: Setting, way: str) -> Measured:
    frames = setting.network["frames"]
    torch.manual_seed(0)
    clips = 0.1 * torch.randn(setting.clips, samples_of(frames), device=setting.device)
    lengths = torch.full((len(clips),), clips.shape[1], device=setting.device)
    windows = torch.randn(len(clips), frames, FFT_SIZE, device=setting.device)

    def transform() -> Tensor:
        spectrum: Tensor = torch.fft.rfft(windows)
        return spectrum

    if way == "its FFT alone":
        moved = 4.0 * windows.numel() + 8.0 * len(clips) * frames * (FFT_SIZE // 2 + 1)
        return Measured(seconds_of(transform, setting), len(clips), "clips", {"copy": moved})
    ours = way == "whole batch"
    work = partial(fbank, clips, lengths, MELS) if ours else partial(_one_by_one, clips)
    reset_peak(setting.device)
    seconds = seconds_of(work, setting)
    moved = 4.0 * clips.numel() + 4.0 * len(clips) * frames * MELS  # a kernel of one pass reads clips, writes banks
    peak, few = peak_gb(setting.device), clips[:CHECKED]
    found = fbank(few, lengths[:CHECKED], MELS)[0] if ours else _one_by_one(few)
    return Measured(
        seconds,
        len(clips),
        "clips",
        {"copy": moved},
        best=seconds_of(transform, setting) if setting.device == "cpu" else 0.0,  # a CPU has no rate for an FFT
        peak_gb=peak,
        error=relative_error([found], [_one_by_one(few.double())]),
    )


def _one_by_one(clips: Tensor) -> Tensor:
    banks = [
        kaldi.fbank(
            clip[None], htk_compat=True, sample_frequency=16_000, use_energy=False, window_type="hanning",
            num_mel_bins=MELS, dither=0.0, frame_shift=10,
        )
        for clip in clips
    ]  # fmt: skip
    return torch.stack(banks)
