"""Synthetic embeddings of voices and faces for the demo and for tests, made on first use.

The geometry imitates real embeddings. Gender is the dominant direction of both modalities. Of an identity only a part
shows in both voice and face. Each modality has its own random map, so voices and faces cannot be compared before
training. Language and recording add shifts, clips add noise, and some clips are labelled with another identity.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.evaluation.conditions import CellSpec
from datamodules.features.module import FeatureDataModule
from datamodules.io.cache import cache_key, cached_or_temporary
from datamodules.io.feature_files import FeatureFile
from datamodules.io.trials import write_trials
from datamodules.sampling.trials import make_trials
from datamodules.schema import DataError, Items, Modality

LANGUAGES = ("Alpha", "Beta")
WIDTHS: dict[Modality, int] = {"voice": 192, "face": 512}
TEST_IDENTITIES = 6  # 3 of each gender, as in MAV-Celeb V1
TRIALS = 1000
_FORMAT = 2  # version of the cached files; raise it when their content changes

# Expected lengths of the parts of an embedding. Gender dominates, so two clusters are the genders.
GENDER, IDENTITY, LANGUAGE, RECORDING, NOISE, OFFSET = 1.0, 0.4, 0.3, 0.6, 1.0, 1.0
# The strength of gender varies by identity and by clip (standard deviation, least value). That blurs single scores but
# not clusters, so the hard decisions of chaining-cluster can help.
GENDER_SPREAD, GENDER_LEAST = 0.3, 0.5
IDENTITY_DIM = 6
MOOD = 1.0  # spread of the clips of an identity along the directions of identity, relative to that of identities
VIDEO_CLIPS = 5
_GEOMETRY = (GENDER, IDENTITY, LANGUAGE, RECORDING, NOISE, OFFSET, GENDER_SPREAD, GENDER_LEAST, IDENTITY_DIM, MOOD)


class SyntheticDataModule(FeatureDataModule):
    """Synthetic embeddings with the sizes and the protocol of MAV-Celeb V1: train on one language, test on both.

    Args:
        identities: number of identities to train and validate on, half of each gender; 6 more are tested.
        clips: clips of each identity in each language.
        shared: 0..1, part of an identity's variance that voice and face have in common; 0 = they share only gender.
        mislabelled: 0..1, part of the clips that are labelled with another identity.
        world: seed of the data.
        **options: options of :class:`FeatureDataModule`.
    """

    def __init__(
        self,
        identities: int = 64,
        clips: int = 20,
        shared: float = 0.8,
        mislabelled: float = 0.02,
        world: int = 0,
        **options: Any,
    ) -> None:
        check_fractions(shared=shared, mislabelled=mislabelled)
        check_sizes(identities, clips, world)
        self.identities, self.clips, self.shared = identities, clips, shared
        self.mislabelled, self.world = mislabelled, world
        parameters = (identities, clips, shared, mislabelled, world)
        root, self._temporary = cached_or_temporary("synthetic", cache_key(_FORMAT, _GEOMETRY, *parameters), self._make)
        super().__init__(
            voices=[FeatureFile("voice.npy", index="clips.csv")],
            faces=[FeatureFile("face.npy", index="clips.csv")],
            train_languages=[LANGUAGES[0]],
            test={"heard": CellSpec("heard.csv"), "unheard": CellSpec("unheard.csv")},
            root=str(root),
            genders=None,
            train_identities=None,
            exclude_identities="test_people.txt",
            val_languages=None,
            corpus=f"synthetic {world}",
            **options,
        )

    def _make(self, folder: Path) -> None:
        rng = np.random.default_rng(self.world)
        size = self.identities + TEST_IDENTITIES
        person = np.repeat(np.arange(size), len(LANGUAGES) * self.clips)
        language = np.tile(np.repeat(np.arange(len(LANGUAGES)), self.clips), size)
        video = np.tile(np.arange(self.clips) // VIDEO_CLIPS, size * len(LANGUAGES))
        features = embed(person, language, video, self.shared, self.mislabelled, rng)

        names = np.array([f"p{i:04d}" for i in range(size)], dtype=np.str_)
        tested = names[-TEST_IDENTITIES:]
        (folder / "test_people.txt").write_text("\n".join(tested) + "\n", encoding="utf-8")
        clip = np.tile(np.arange(self.clips), size * len(LANGUAGES))
        columns: dict[str, NDArray[np.str_]] = {
            "identity": names[person],
            "language": np.array(LANGUAGES)[language],
            "gender": np.array(["M", "F"])[person % 2],
        }
        of_person = np.array([f"v{i:02d}" for i in video], dtype=np.str_)
        ids = np.array(
            [f"{p}/{lang}/{v}/{c:05d}" for p, lang, v, c in
             zip(columns["identity"], columns["language"], of_person, clip, strict=True)], dtype=np.str_
        )  # fmt: skip
        columns["video"] = np.array([i.rpartition("/")[0].replace("/", "-") for i in ids.tolist()], dtype=np.str_)
        with (folder / "clips.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["item", *columns])
            writer.writerows(zip(ids, *columns.values(), strict=True))
        for modality, x in features.items():
            np.save(folder / f"{modality}.npy", x)
        for name, heard in zip(("heard", "unheard"), LANGUAGES, strict=True):
            kept = np.isin(columns["identity"], tested) & (columns["language"] == heard)
            items = Items(ids[kept], *(columns[c][kept] for c in ("identity", "language", "gender", "video")))
            write_trials(make_trials(items, items, TRIALS, self.world, "scrambled"), folder / f"{name}.csv")


def check_fractions(**options: float) -> None:
    """Refuses options that are not between 0 and 1.

    Raises:
        DataError: names the first of them.
    """
    for name, value in options.items():
        if not 0 <= value <= 1:
            raise DataError(f"data.{name}: {value} is not between 0 and 1")


def check_sizes(identities: int, clips: int, world: int) -> None:
    """Refuses a set that is too small to train and test on.

    Raises:
        DataError: names the least numbers.
    """
    if identities < 4 or clips < 2 or world < 0:
        raise DataError(f"data: identities {identities}, clips {clips}, world {world}; give at least 4, 2 and 0")


def embed(
    person: NDArray[np.int64],
    language: NDArray[np.int64],
    video: NDArray[np.int64],
    shared: float,
    mislabelled: float,
    rng: np.random.Generator,
) -> dict[Modality, NDArray[np.float32]]:
    """Voices (n, 192) and faces (n, 512) of clips, not normalised; identities with an even number are male.

    Each row is OFFSET * o + GENDER * (+-s) * g + IDENTITY * A (z + MOOD * m) + LANGUAGE * l + RECORDING * r
    + NOISE * e, with unit directions o and g, a strength s, an isometry A of the identity space, and m, l, r, e of
    expected length 1, drawn by clip, language, video and clip. An identity's z in a modality is
    ``sqrt(shared) * common + sqrt(1 - shared) * specific``.

    Args:
        person: (n,) number of the identity.
        language: (n,) number of the language.
        video: (n,) number of the video, counted per identity and language.
        shared: 0..1, see above.
        mislabelled: 0..1, part of the clips whose embeddings are those of another identity.
        rng: source of all draws.
    """
    people, clips = int(person.max()) + 1, len(person)
    wrong = rng.random(clips) < mislabelled
    shown = np.where(wrong, rng.integers(people, size=clips), person)
    male = np.where(shown % 2 == 0, 1, -1)[:, None]
    _, scene = np.unique(np.stack([person, language, video]), axis=1, return_inverse=True)
    scene = scene.ravel()  # numpy 2.0 keeps an axis here

    def drawn(rows: int, width: int) -> NDArray[np.float64]:
        values: NDArray[np.float64] = rng.normal(size=(rows, width)) / np.sqrt(width)
        return values

    common = drawn(people, IDENTITY_DIM)
    features: dict[Modality, NDArray[np.float32]] = {}
    for modality, width in WIDTHS.items():
        axes = np.linalg.qr(rng.normal(size=(width, IDENTITY_DIM + 2)))[0].T
        offset, gender, identity = axes[0], axes[1], axes[2:]
        z = np.sqrt(shared) * common + np.sqrt(1 - shared) * drawn(people, IDENTITY_DIM)
        strength = (1 + GENDER_SPREAD * drawn(people, 1))[shown] + GENDER_SPREAD * drawn(clips, 1)
        x = OFFSET * offset + GENDER * male * np.maximum(strength, GENDER_LEAST) * gender
        x += IDENTITY * (z[shown] + MOOD * drawn(clips, IDENTITY_DIM)) @ identity
        x += LANGUAGE * drawn(int(language.max()) + 1, width)[language]
        x += RECORDING * drawn(int(scene.max()) + 1, width)[scene] + NOISE * drawn(clips, width)
        features[modality] = x.astype(np.float32)
    return features
