"""Voices and faces that never were, as real files in the layout of MAV-Celeb: the demo of raw media.

A person has a gender and four traits that show in voice and face alike: size (long vocal tract, broad jaw), pitch
(low voice, thick brows), age (breathy voice, grey hair) and mouth (clear vowels, wide mouth). Skin, hair colour,
glasses, microphone, background and light say nothing about the voice.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import lfilter

from datamodules.datasets.mavceleb.layout import LANGUAGES, Version
from datamodules.datasets.mavceleb.module import MAVCelebDataModule
from datamodules.datasets.synthetic.faces import Looks, Scene, draw
from datamodules.datasets.synthetic.voices import LANGUAGES as SPOKEN
from datamodules.datasets.synthetic.voices import RATE, Language, Speaker, speak
from datamodules.io.cache import cache_key, cached_folder
from datamodules.io.people import check_known
from datamodules.sampling.trials import make_trials
from datamodules.schema import DataError, Items

VERSION: Version = "v2"  # its layout; the languages are made up, whatever their names
SECONDS = 1.5
TRAITS, VIDEO_CLIPS, TEST_PEOPLE, TEST_CLIPS, TRIALS = 4, 2, 12, 8, 1000
_FORMAT = 4  # of the folder; raise it when what is written changes


class SyntheticMediaDataModule(MAVCelebDataModule):
    """Synthetic wav and jpg under the protocol of MAV-Celeb: train one language, test both on people never met.

    Args:
        identities: to train and validate on, half of each gender; 12 more are tested.
        clips: of each person to learn from; those who are tested have 8 in each language.
        shared: 0..1, part of the variance of the traits that voice and face have in common. 0 leaves only gender.
        world: seed of the corpus.
        train_language: of v2: English or Hindi. Both are made up.
        val_identities: see :class:`SplitDataModule`.
        **options: those of :class:`MAVCelebDataModule`.

    Raises:
        DataError: a world too small to test in, or ``shared`` out of range.
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
        if not 0 <= shared <= 1:
            raise DataError(f"data.shared: {shared} is not a share; give 0 to 1")
        if identities < 4 or clips < 2 or world < 0:
            raise DataError(
                f"data: identities {identities}, clips {clips}, world {world}; at least 4, 2 and 0 make a world to test in"
            )
        self.identities, self.clips, self.shared, self.world = identities, clips, shared, world
        self.heard = train_language
        super().__init__(
            version=VERSION,
            train_language=train_language,
            root=str(self._made()),
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

    def _made(self) -> Path:
        """The folder of this world in the cache, or a temporary one where the cache cannot be written."""
        key = cache_key(_FORMAT, self.identities, self.clips, self.shared, self.world, self.heard)
        folder = cached_folder("synthetic_media", key, self._make)
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="voiceface-")  # kept as long as the data module
            folder = Path(self._temporary.name)
            self._make(folder)
        return folder

    def _make(self, folder: Path) -> None:
        size = self.identities + TEST_PEOPLE
        names = np.array([f"id{i + 1:04d}" for i in range(size)], dtype=np.str_)
        genders = np.array(["M", "F"])[np.arange(size) % 2]
        with (folder / "genders.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("identity", "gender"), *zip(names, genders, strict=True)])
        common, *own = np.random.default_rng(self.world).normal(size=(3, size, TRAITS))
        heard, seen = (np.sqrt(self.shared) * common + np.sqrt(1 - self.shared) * rest for rest in own)
        base = folder / VERSION
        for i, (name, gender) in enumerate(zip(names, genders, strict=True)):
            tested = i >= self.identities
            speaker, looks = _speaker(gender, heard[i]), _looks(gender, seen[i], np.random.default_rng((self.world, i)))
            for number, language in enumerate(LANGUAGES[VERSION]):
                count = TEST_CLIPS if tested else self.clips if language == self.heard else 0
                for video in range(-(-count // VIDEO_CLIPS)):
                    clips = [c for c in range(count) if c // VIDEO_CLIPS == video]
                    rng = np.random.default_rng((self.world, i, number, video))
                    ids = [_id(name, language, clip) for clip in clips]
                    _record([base / "voices" / f"{clip}.wav" for clip in ids], speaker, SPOKEN[number], rng)
                    _photograph([base / "faces" / f"{clip}.jpg" for clip in ids], looks, rng)
        learnt = [_id(name, self.heard, clip) for name in names[: self.identities] for clip in range(self.clips)]
        _write(base / f"{self.heard}_train.txt", [f"{clip}.wav {clip}.jpg" for clip in learnt])
        for language in LANGUAGES[VERSION]:
            _write_test(base, language, names[self.identities :], self.world)


def _id(person: str, language: str, clip: int) -> str:
    """As on YouTube, a video's name is of one video, whoever is in it."""
    return f"{person}/{language}/{person}v{clip // VIDEO_CLIPS:02d}/{clip:05d}"


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
    """The clips of one video: the same microphone and noise in all."""
    microphone, noise = [1.0, rng.uniform(-0.3, 0.3)], 10 ** rng.uniform(-3, -2)
    for path in paths:
        wave = lfilter(microphone, 1.0, speak(speaker, language, SECONDS, rng))
        wave = 0.3 * wave / np.abs(wave).max() * rng.uniform(0.5, 1) + noise * 0.3 * rng.normal(size=len(wave))
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, wave, RATE)


def _photograph(paths: list[Path], looks: Looks, rng: np.random.Generator) -> None:
    """The pictures of one video: the same background and light in all."""
    background = tuple(rng.integers(40, 220, 3).tolist())
    scene = Scene(background, rng.uniform(0.8, 1.15))
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(looks, scene, rng).save(path, quality=90)


def _write_test(base: Path, language: str, people: NDArray[np.str_], world: int) -> None:
    """Trials ``<key> <wav> <jpg>``, and their labels in a file beside."""
    who = np.repeat(people, TEST_CLIPS)
    ids = np.array([_id(name, language, clip) for name in people for clip in range(TEST_CLIPS)], dtype=np.str_)
    items = Items(ids, who, *(np.full(len(who), text) for text in (language, "", "")))
    trials = make_trials(items, items, TRIALS, world, "scrambled")
    columns = zip(trials.keys, trials.voices, trials.faces, strict=True)
    _write(base / f"{language}_test.txt", [f"{key} {voice}.wav {face}.jpg" for key, voice, face in columns])
    assert trials.labels is not None
    labels = zip(trials.keys, trials.labels, strict=True)
    _write(base / f"{language}_labels.txt", [f"{key} {label}" for key, label in labels])


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
