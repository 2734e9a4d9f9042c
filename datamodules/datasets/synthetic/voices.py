"""Synthetic voices: source-filter synthesis in two invented languages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

RATE = 16_000
_HOP, _WINDOW = 80, 320  # samples: the filter moves every 5 ms
_NEUTRAL = np.array([500.0, 1500.0, 2500.0, 3500.0, 4500.0])  # resonances of a 17 cm tube, Hz
_BANDWIDTHS = np.array([70.0, 90.0, 130.0, 200.0, 280.0])


@dataclass(frozen=True, eq=False)
class Language:
    """The properties of speech that all speakers of a language share.

    Attributes:
        vowels: (v, 2) first two formants in Hz of a 17 cm vocal tract.
        frication: (c, 2) consonants: centre of their noise in Hz, and 1 if voiced, else 0.
        syllables: per second.
        melody: octaves from the beginning to the end of an utterance.
        swing: octaves up and down with each syllable.
    """

    vowels: NDArray[np.float64]
    frication: NDArray[np.float64]
    syllables: float
    melody: float
    swing: float


LANGUAGES = (
    Language(
        vowels=np.array([[290, 2250], [430, 2000], [730, 1250], [480, 850], [320, 750]], dtype=np.float64),
        frication=np.array([[5500, 0], [3000, 0], [1800, 1], [4500, 1]], dtype=np.float64),
        syllables=4.0,
        melody=-0.25,
        swing=0.05,
    ),
    Language(
        vowels=np.array([[290, 2250], [280, 1850], [400, 1550], [730, 1250], [560, 1100]], dtype=np.float64),
        frication=np.array([[5500, 0], [1200, 0], [2400, 0], [1800, 1]], dtype=np.float64),
        syllables=5.0,
        melody=0.15,
        swing=0.1,
    ),
)


@dataclass(frozen=True)
class Speaker:
    """The properties of speech that differ between speakers.

    Attributes:
        pitch: mean fundamental frequency in Hz.
        tract: resonances relative to those of a 17 cm vocal tract; shorter tracts have higher ones.
        breath: 0..1, part of noise in the source; a larger one also makes its spectrum steeper.
        openness: distance of the vowels from those of a neutral tube; 1 = as in the language's table.
    """

    pitch: float
    tract: float
    breath: float
    openness: float


def speak(speaker: Speaker, language: Language, seconds: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """An utterance (n,) of random syllables at 16 kHz: pulses and noise, each through a time-varying filter."""
    samples = int(seconds * RATE)
    frames = -(-samples // _HOP) + 1
    formants, noise_centre, voicing, loudness, syllable = _syllables(speaker, language, frames, rng)
    time = np.linspace(0, 1, frames)
    octaves = language.melody * (time - 0.5) + language.swing * np.sin(2 * np.pi * syllable)
    octaves += gaussian_filter1d(rng.normal(size=frames), 6) * 0.08  # jitter
    pitch = speaker.pitch * 2**octaves
    at = np.arange(frames * _HOP + _WINDOW) / _HOP
    cycles = np.cumsum(np.interp(at, np.arange(frames), pitch)) / RATE
    pulses = np.diff(np.floor(cycles), prepend=0.0) * np.sqrt(RATE / speaker.pitch)
    noise = rng.normal(size=len(pulses))

    hertz = np.fft.rfftfreq(_WINDOW, 1 / RATE)
    tilt = (1 + hertz / 300.0) ** -(1.0 + 0.8 * speaker.breath)
    squares = formants[:, None, :] ** 2
    tract = np.prod(
        squares / np.hypot(squares - hertz[:, None] ** 2, _BANDWIDTHS * speaker.tract * hertz[:, None]), axis=2
    )
    hiss = np.exp(-0.5 * ((hertz - noise_centre[:, None]) / (0.25 * noise_centre[:, None] + 300)) ** 2)
    voiced = (loudness * voicing)[:, None] * tract * tilt
    breathy = 0.25 * speaker.breath * voiced + 0.25 * (loudness * (1 - voicing))[:, None] * hiss
    wave = _filtered(pulses, voiced) + _filtered(noise, breathy)
    wave = wave[:samples]
    utterance: NDArray[np.float32] = (wave / np.abs(wave).max()).astype(np.float32)
    return utterance


def _syllables(
    speaker: Speaker, language: Language, frames: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], ...]:
    """By frame: formants (f, 5), centre of the noise, voicing 0..1, loudness 0..1, and position in syllables."""
    rate = language.syllables * rng.uniform(0.85, 1.15)
    progress = np.cumsum(np.full(frames, rate * _HOP / RATE)) + rng.uniform()
    number = progress.astype(np.int64)
    within = progress - number
    vowel = language.vowels[rng.integers(len(language.vowels), size=number[-1] + 1)][number]
    consonant = language.frication[rng.integers(len(language.frication), size=number[-1] + 1)][number]
    pause = rng.random(number[-1] + 1)[number] < 0.08
    formants = np.broadcast_to(_NEUTRAL, (frames, len(_NEUTRAL))).copy()
    formants[:, :2] += speaker.openness * (vowel - _NEUTRAL[:2])
    in_consonant = within < 0.3
    voicing = np.where(in_consonant, consonant[:, 1], 1.0)
    loudness = np.where(pause, 0.01, np.where(in_consonant, 0.4, 1.0))
    smooth = [gaussian_filter1d(track, 3, axis=0) for track in (formants, consonant[:, 0], voicing, loudness)]
    return smooth[0] * speaker.tract, *smooth[1:], progress


def _filtered(source: NDArray[np.float64], gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filters a signal by magnitudes (frames, bins), by overlap-add."""
    frames = np.lib.stride_tricks.sliding_window_view(source, _WINDOW)[::_HOP][: len(gains)]
    window = np.hanning(_WINDOW + 1)[:-1]
    parts = np.fft.irfft(np.fft.rfft(frames * window) * gains, _WINDOW)
    out = np.zeros((len(gains) + _WINDOW // _HOP - 1, _HOP))
    for i, piece in enumerate(np.split(parts, _WINDOW // _HOP, axis=1)):
        out[i : i + len(gains)] += piece
    return out.ravel()
