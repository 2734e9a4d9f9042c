"""Synthetic wav and jpg files in the layout of MAV-Celeb, for the demo of raw media.

An identity has a gender and four traits that show in voice and face: size (long vocal tract, broad jaw), pitch (low
voice, thick brows), age (breathy voice, grey hair) and mouth (clear vowels, wide mouth). Skin, hair colour, glasses,
microphone, background and light are unrelated to the voice.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import lfilter

from datamodules.datasets.mavceleb.layout import LANGUAGES, Version
from datamodules.datasets.mavceleb.module import MAVCelebDataModule
from datamodules.datasets.synthetic.embeddings import check_fractions, check_sizes
from datamodules.datasets.synthetic.faces import Looks, Scene, draw
from datamodules.datasets.synthetic.voices import LANGUAGES as SPOKEN
from datamodules.datasets.synthetic.voices import RATE, Language, Speaker, speak
from datamodules.io.cache import cache_key, cached_or_temporary
from datamodules.io.identities import check_known
from datamodules.sampling.trials import make_trials
from datamodules.schema import Items

VERSION: Version = "v2"  # the layout; the two languages have its names but are invented
SECONDS = 1.5
TRAITS, VIDEO_CLIPS, TEST_IDENTITIES, TEST_CLIPS, TRIALS = 4, 2, 12, 8, 1000
_FORMAT = 4  # version of the cached files; raise it when their content changes


class SyntheticMediaDataModule(MAVCelebDataModule):
    """Synthetic wav and jpg with the protocol of MAV-Celeb: train on one language, test on both with unseen identities.

    Args:
        identities: number of identities to train and validate on, half of each gender; 12 more are tested.
        clips: clips of each training identity; test identities have 8 in each language.
        shared: 0..1, part of the traits' variance that voice and face have in common; 0 = they share only gender.
        world: seed of the data.
        train_language: English or Hindi, as in v2. Both are invented languages.
        val_identities: see :class:`SplitDataModule`.
        **options: options of :class:`MAVCelebDataModule`.

    Raises:
        DataError: a set too small to train and test on, or ``shared`` out of range.
    """

    def __init__(
        self,
        identities: int = 400,
        clips: int = 3,
        shared: float = 0.9,
        world: int = 0,
        train_language: str = "English",
        val_identities: int = 12,
        **options: Any,
    ) -> None:
        check_known([train_language], np.array(LANGUAGES[VERSION]), "train_language")
        check_fractions(shared=shared)
        check_sizes(identities, clips, world)
        self.identities, self.clips, self.shared, self.world = identities, clips, shared, world
        self.heard = train_language
        key = cache_key(_FORMAT, identities, clips, shared, world, train_language)
        root, self._temporary = cached_or_temporary("synthetic_media", key, self._make)
        super().__init__(
            version=VERSION,
            train_language=train_language,
            root=str(root),
            track="no_gender",
            train_list=None,
            test=None,
            labels={language: f"{VERSION}/{language}_labels.txt" for language in LANGUAGES[VERSION]},
            genders="genders.csv",
            train_identities=None,
            exclude_identities=None,
            val_identities=val_identities,
            **options,
        )
        self.corpus = f"synthetic media {world}"

    def _make(self, folder: Path) -> None:
        size = self.identities + TEST_IDENTITIES
        names = np.array([f"id{i + 1:04d}" for i in range(size)], dtype=np.str_)
        genders = np.array(["M", "F"])[np.arange(size) % 2]
        with (folder / "genders.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("identity", "gender"), *zip(names, genders, strict=True)])
        common, *specific = np.random.default_rng(self.world).normal(size=(3, size, TRAITS))
        of_voice, of_face = (np.sqrt(self.shared) * common + np.sqrt(1 - self.shared) * rest for rest in specific)
        base = folder / VERSION
        for i, (name, gender) in enumerate(zip(names, genders, strict=True)):
            tested = i >= self.identities
            looks_rng = np.random.default_rng((self.world, i))
            speaker, looks = _speaker(gender, of_voice[i]), _looks(gender, of_face[i], looks_rng)
            for number, language in enumerate(LANGUAGES[VERSION]):
                count = TEST_CLIPS if tested else self.clips if language == self.heard else 0
                for video in range(-(-count // VIDEO_CLIPS)):
                    clips = [c for c in range(count) if c // VIDEO_CLIPS == video]
                    rng = np.random.default_rng((self.world, i, number, video))
                    ids = [_id(name, language, clip) for clip in clips]
                    _record([base / "voices" / f"{clip}.wav" for clip in ids], speaker, SPOKEN[number], rng)
                    _photograph([base / "faces" / f"{clip}.jpg" for clip in ids], looks, rng)
        training = [_id(name, self.heard, clip) for name in names[: self.identities] for clip in range(self.clips)]
        _write(base / f"{self.heard}_train.txt", [f"{clip}.wav {clip}.jpg" for clip in training])
        for language in LANGUAGES[VERSION]:
            _write_test(base, language, names[self.identities :], self.world)


def _id(identity: str, language: str, clip: int) -> str:
    """The path of a clip without extension; the name of a video is unique over all identities."""
    return f"{identity}/{language}/{identity}v{clip // VIDEO_CLIPS:02d}/{clip:05d}"


def _speaker(gender: str, traits: NDArray[np.float64]) -> Speaker:
    size, pitch, age, mouth = traits
    return Speaker(
        pitch=(118 if gender == "M" else 205) * 2 ** (-0.2 * pitch),
        tract=(1.0 if gender == "M" else 1.16) * float(np.exp(-0.06 * size)),
        breath=float(np.clip(0.4 + 0.25 * age, 0, 1)),
        openness=float(np.clip(0.8 + 0.25 * mouth, 0.2, 1.4)),
    )


def _looks(gender: str, traits: NDArray[np.float64], rng: np.random.Generator) -> Looks:
    long_hair, beard = (rng.random() < share for share in ((0.1, 0.7) if gender == "M" else (0.85, 0.0)))
    size, pitch, age, mouth = traits
    return Looks(size, pitch, age, mouth, long_hair, beard, rng.random(), rng.random(), rng.random() < 0.2)


def _record(paths: list[Path], speaker: Speaker, language: Language, rng: np.random.Generator) -> None:
    """Writes the voices of one video, with the same microphone and noise in all."""
    microphone, noise = [1.0, rng.uniform(-0.3, 0.3)], 10 ** rng.uniform(-3, -2)
    for path in paths:
        wave = lfilter(microphone, 1.0, speak(speaker, language, SECONDS, rng))
        wave = 0.3 * wave / np.abs(wave).max() * rng.uniform(0.5, 1) + noise * 0.3 * rng.normal(size=len(wave))
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            soundfile.write(path, wave, RATE)
        except soundfile.LibsndfileError as error:  # of a full disk
            raise OSError(None, str(error), str(path)) from error


def _photograph(paths: list[Path], looks: Looks, rng: np.random.Generator) -> None:
    """Writes the faces of one video, with the same background and light in all."""
    background = tuple(rng.integers(40, 220, 3).tolist())
    scene = Scene(background, rng.uniform(0.8, 1.15))
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(looks, scene, rng).save(path, quality=90)


def _write_test(base: Path, language: str, identities: NDArray[np.str_], world: int) -> None:
    """Writes trials ``<key> <wav> <jpg>``, and their labels to a separate file."""
    identity = np.repeat(identities, TEST_CLIPS)
    ids = np.array([_id(name, language, clip) for name in identities for clip in range(TEST_CLIPS)], dtype=np.str_)
    items = Items(ids, identity, *(np.full(len(identity), text) for text in (language, "", "")))
    trials = make_trials(items, items, TRIALS, world, "scrambled")
    columns = zip(trials.keys, trials.voices, trials.faces, strict=True)
    _write(base / f"{language}_test.txt", [f"{key} {voice}.wav {face}.jpg" for key, voice, face in columns])
    assert trials.labels is not None
    labels = zip(trials.keys, trials.labels, strict=True)
    _write(base / f"{language}_labels.txt", [f"{key} {label}" for key, label in labels])


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
