"""The front end is Kaldi's filter bank, only in batches."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from torchaudio.compliance import kaldi

from datamodules.schema import DataError
from lightning_modules.networks.frontend import FrontEnd, fbank, lengths_of, samples_of

NAN = float("nan")


def reference(clip: Tensor, n_mels: int = 128) -> Tensor:
    """One clip through torchaudio, options as in CAV-MAE."""
    return kaldi.fbank(
        clip[None],
        htk_compat=True,
        sample_frequency=16000,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=n_mels,
        dither=0.0,
        frame_shift=10,
    )


def padded(clips: list[Tensor], samples: int) -> Tensor:
    batch = torch.full((len(clips), samples), NAN)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    return batch


def tones_and_noise() -> list[Tensor]:
    """Clips of several lengths, loudnesses and offsets."""
    rng = torch.Generator().manual_seed(0)
    clips = [
        torch.randn(n, generator=rng) * scale for n, scale in ((16000, 0.1), (400, 0.5), (23456, 1e-4), (401, 1.0))
    ]
    clips.append(torch.sin(torch.arange(20000) * 0.05) * 0.3 + 0.2)
    return clips


def errors(clips: list[Tensor], n_mels: int = 128) -> tuple[Tensor, Tensor]:
    """Of ours and of torchaudio's, against torchaudio in double precision."""
    samples = max(map(len, clips))
    batch = padded(clips, samples)
    features, mask = fbank(batch, lengths_of(batch), n_mels)
    ours, theirs = [], []
    for clip, row, inside in zip(clips, features, mask, strict=True):
        exact, expected = reference(clip.double(), n_mels), reference(clip, n_mels)
        assert int(inside.sum()) == len(expected)
        assert torch.all(row[len(expected) :] == 0)
        ours.append((row[: len(expected)] - exact).abs().flatten())
        theirs.append((expected - exact).abs().flatten())
    return torch.cat(ours), torch.cat(theirs)


@pytest.mark.parametrize("n_mels", [128, 80, 32])
def test_is_torchaudios_clip_by_clip_with_less_rounding(n_mels: int) -> None:
    ours, theirs = errors(tones_and_noise(), n_mels)
    assert ours.max() < min(1e-3, theirs.max())
    assert ours.mean() < theirs.mean()


def test_is_torchaudios_on_real_voices(shared_data: Path) -> None:
    files = sorted((shared_data / "s2f" / "audio").glob("*.ogg"))[:16]
    ours, theirs = errors([torch.from_numpy(soundfile.read(f, dtype="float32")[0]) for f in files])
    assert ours.max() < max(1e-3, theirs.max())
    assert ours.mean() < theirs.mean()


def test_module_is_the_normalised_fbank_of_the_mean_removed_clip() -> None:
    clips = tones_and_noise()
    out = FrontEnd().eval()(padded(clips, samples_of(160)), frames=160)
    assert out.shape == (len(clips), 160, 128)
    for clip, row in zip(clips, out, strict=True):
        expected = (reference(clip - clip.mean()) + 5.081) / 4.4849
        assert torch.allclose(row[: len(expected)], expected, atol=1e-3)
        assert torch.allclose(row[len(expected) :], torch.tensor(5.081 / 4.4849))  # zero-padded before normalisation


@pytest.mark.perf
def test_twice_as_fast_as_clip_by_clip() -> None:
    clips = list(torch.randn(16, samples_of(512), generator=torch.Generator().manual_seed(0)) * 0.1)
    batch = torch.stack(clips)
    lengths = lengths_of(batch)

    def one_by_one() -> None:
        for clip in clips:
            reference(clip)

    best = {"batch": float("inf"), "clips": float("inf")}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for attempt in range(60):  # interleaved: a busy machine slows both; the best of each is what the code can do
            for name, run in (("clips", one_by_one), ("batch", lambda: fbank(batch, lengths))):
                start = time.perf_counter()
                run()
                best[name] = min(best[name], time.perf_counter() - start)
            if attempt >= 5 and best["clips"] >= 2 * best["batch"]:
                break
    finally:
        torch.set_num_threads(threads)
    assert best["clips"] >= 2 * best["batch"], f"{best['clips'] / best['batch']:.2f} times"


def test_float32_under_autocast_and_after_bfloat16() -> None:
    waveforms = torch.randn(2, samples_of(64)) * 0.1
    frontend = FrontEnd().eval()
    expected = frontend(waveforms)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(frontend(waveforms), expected)
    assert torch.equal(frontend.bfloat16()(waveforms), expected)


def test_a_batch_longer_than_the_network_says_what_to_set() -> None:
    with pytest.raises(DataError, match=r"voices have 65 frames, the network takes 64.*data\.media\.frames"):
        FrontEnd().eval()(torch.zeros(1, samples_of(65)), frames=64)


def test_evaluation_ignores_augmentation() -> None:
    waveforms = torch.randn(2, samples_of(64)) * 0.1
    plain, augmented = FrontEnd().eval(), FrontEnd(128, -5.081, 4.4849, 48, 32, 6.0, (5.0, 20.0)).eval()
    assert torch.equal(plain(waveforms), augmented(waveforms))


def test_specaugment_masks_each_clip_by_itself() -> None:
    torch.manual_seed(0)
    frontend = FrontEnd(frequency_mask=48, time_mask=40)
    hidden = frontend(torch.randn(8, samples_of(128))) == torch.tensor(5.081) / 4.4849
    whole_bins, whole_frames = hidden.all(dim=1), hidden.all(dim=2)
    assert torch.equal(hidden, whole_bins[:, None, :] | whole_frames[:, :, None])
    assert whole_bins.sum(1).max() < 48
    assert whole_frames.sum(1).max() < 40
    assert len(set(whole_bins.sum(1).tolist())) > 2
    assert len(set(whole_frames.sum(1).tolist())) > 2


def test_gain_shifts_log_energies_and_noise_has_the_asked_ratio() -> None:
    torch.manual_seed(0)
    clip = torch.randn(4, samples_of(64)) * 0.1
    loud, plain = FrontEnd(std=1.0, gain_db=6.0)(clip), FrontEnd(std=1.0).eval()(clip)
    shift = (loud - plain).flatten(1)
    middle = shift.median(dim=1, keepdim=True).values
    assert (shift - middle).abs().quantile(0.99) < 1e-3  # rounding shows in the faintest bins
    assert middle.abs().max() <= 6 * np.log(10) / 10
    assert middle.std() > 0
    lengths = torch.full((4,), clip.shape[1])
    noise = FrontEnd(noise_snr_db=(10.0, 10.0))._disturb(clip, lengths) - clip
    ratio = 10 * torch.log10(clip.square().mean(1) / noise.square().mean(1))
    assert torch.allclose(ratio, torch.tensor(10.0), atol=0.3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"std": 0.0}, "std"),
        ({"frequency_mask": 128}, "frequency_mask"),
        ({"noise_snr_db": (20.0, 5.0)}, "noise_snr_db"),
    ],
)
def test_bad_options_are_named(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FrontEnd(**options)
