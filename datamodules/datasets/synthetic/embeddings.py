"""A world of voices and faces that never were: for the demo and for tests, made on first use in a second.

The geometry follows what real embeddings show (method.md section 4). A person has a gender, the dominant direction of
both modalities, and an identity of which only a part shows in both voice and face; each modality sees them through a
random map of its own, so that nothing can be compared before something is learnt. Language and recording add shifts,
clips add noise, and some clips carry another person's name.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.evaluation.conditions import CellSpec
from datamodules.features.module import FeatureDataModule
from datamodules.io.cache import cache_key, cached_folder
from datamodules.io.feature_files import FeatureFile
from datamodules.io.trials import write_trials
from datamodules.sampling.trials import make_trials
from datamodules.schema import DataError, Items, Modality

LANGUAGES = ("Alpha", "Beta")
WIDTHS: dict[Modality, int] = {"voice": 192, "face": 512}
TEST_PEOPLE = 6  # 3 of each gender, as in MAV-Celeb V1
TRIALS = 1000
_FORMAT = 2  # of the folder; raise it when what is written changes

# Expected lengths of the parts of an embedding: gender dominates, and so clusters of two are genders. Linear SCC heads
# (tau .05, best of 30 epochs on validation people), mean of 8 worlds x 2 cells: EER 25 % raw, 24 % after chaining-
# cluster, better in 12 of 16 (world 0: 24 -> 23, 21 -> 20); trained for too long 29 and 26; regularised CCA 25 %.
GENDER, IDENTITY, LANGUAGE, RECORDING, NOISE, OFFSET = 1.0, 0.4, 0.3, 0.6, 1.0, 1.0
# How strongly gender shows varies by person and again by clip (standard deviation, least). It blurs single scores but
# not clusters: this is where the hard decisions of chaining-cluster gain.
GENDER_SPREAD, GENDER_LEAST = 0.3, 0.5
IDENTITY_DIM = 6
MOOD = 1.0  # how far a clip strays from its person along the directions of identity, relative to people's spread
VIDEO_CLIPS = 5
_GEOMETRY = (GENDER, IDENTITY, LANGUAGE, RECORDING, NOISE, OFFSET, GENDER_SPREAD, GENDER_LEAST, IDENTITY_DIM, MOOD)


class SyntheticDataModule(FeatureDataModule):
    """Synthetic embeddings with the sizes and the protocol of MAV-Celeb V1: train one language, test both.

    Args:
        identities: to train and validate on, half of each gender; 6 more are tested.
        clips: of each person in each language.
        shared: 0..1, part of the variance of the identity that voice and face have in common. 0 leaves only gender.
        mislabelled: 0..1, share of clips under another person's name.
        world: seed of the data.
        **options: those of :class:`FeatureDataModule`.
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
        for name, share in (("shared", shared), ("mislabelled", mislabelled)):
            if not 0 <= share <= 1:
                raise DataError(f"data.{name}: {share} is not a share; give 0 to 1")
        if identities < 4 or clips < 2 or world < 0:
            raise DataError(
                f"data: identities {identities}, clips {clips}, world {world}; at least 4, 2 and 0 make a world to test in"
            )
        self.identities, self.clips, self.shared = identities, clips, shared
        self.mislabelled, self.world = mislabelled, world
        root = self._made()
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
            **options,
        )

    def _made(self) -> Path:
        """The folder of this world in the cache, or a temporary one where the cache cannot be written."""
        parameters = (self.identities, self.clips, self.shared, self.mislabelled, self.world)
        folder = cached_folder("synthetic", cache_key(_FORMAT, _GEOMETRY, *parameters), self._make)
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="voiceface-")  # kept as long as the data module
            folder = Path(self._temporary.name)
            self._make(folder)
        return folder

    def _make(self, folder: Path) -> None:
        rng = np.random.default_rng(self.world)
        size = self.identities + TEST_PEOPLE
        person = np.repeat(np.arange(size), len(LANGUAGES) * self.clips)
        language = np.tile(np.repeat(np.arange(len(LANGUAGES)), self.clips), size)
        video = np.tile(np.arange(self.clips) // VIDEO_CLIPS, size * len(LANGUAGES))
        features = embed(person, language, video, self.shared, self.mislabelled, rng)

        names = np.array([f"p{i:04d}" for i in range(size)], dtype=np.str_)
        tested = names[-TEST_PEOPLE:]
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
        for name, spoken in zip(("heard", "unheard"), LANGUAGES, strict=True):
            kept = np.isin(columns["identity"], tested) & (columns["language"] == spoken)
            items = Items(ids[kept], *(columns[c][kept] for c in ("identity", "language", "gender", "video")))
            write_trials(make_trials(items, items, TRIALS, self.world, "scrambled"), folder / f"{name}.csv")


def embed(
    person: NDArray[np.int64],
    language: NDArray[np.int64],
    video: NDArray[np.int64],
    shared: float,
    mislabelled: float,
    rng: np.random.Generator,
) -> dict[Modality, NDArray[np.float32]]:
    """Voices (n, 192) and faces (n, 512) of clips, not normalised; people of even number are male.

    Each row is OFFSET * o + GENDER * (+-s) * g + IDENTITY * A (z + MOOD * m) + LANGUAGE * l + RECORDING * r
    + NOISE * e, with unit directions o and g, a strength s, an isometry A of the identity space, and m, l, r, e of
    expected length 1, drawn by clip, language, video and clip. A person's z in a modality is
    ``sqrt(shared) * common + sqrt(1 - shared) * own``.

    Args:
        person: (n,) number of the person.
        language: (n,) number of the language.
        video: (n,) number of the video, counted per person and language.
        shared: 0..1, see above.
        mislabelled: 0..1, share of clips that look and sound like another person.
        rng: where everything comes from.
    """
    people, clips = int(person.max()) + 1, len(person)
    wrong = rng.random(clips) < mislabelled
    shown = np.where(wrong, rng.integers(people, size=clips), person)
    male = np.where(shown % 2 == 0, 1, -1)[:, None]
    _, scene = np.unique(np.stack([person, language, video]), axis=1, return_inverse=True)
    scene = scene.ravel()  # numpy 2.0 keeps an axis here

    def drawn(rows: int, width: int) -> NDArray[np.float64]:
        return rng.normal(size=(rows, width)) / np.sqrt(width)

    common = drawn(people, IDENTITY_DIM)
    found: dict[Modality, NDArray[np.float32]] = {}
    for modality, width in WIDTHS.items():
        axes = np.linalg.qr(rng.normal(size=(width, IDENTITY_DIM + 2)))[0].T
        offset, gender, identity = axes[0], axes[1], axes[2:]
        z = np.sqrt(shared) * common + np.sqrt(1 - shared) * drawn(people, IDENTITY_DIM)
        strength = (1 + GENDER_SPREAD * drawn(people, 1))[shown] + GENDER_SPREAD * drawn(clips, 1)
        x = OFFSET * offset + GENDER * male * np.maximum(strength, GENDER_LEAST) * gender
        x += IDENTITY * (z[shown] + MOOD * drawn(clips, IDENTITY_DIM)) @ identity
        x += LANGUAGE * drawn(int(language.max()) + 1, width)[language]
        x += RECORDING * drawn(int(scene.max()) + 1, width)[scene] + NOISE * drawn(clips, width)
        found[modality] = x.astype(np.float32)
    return found
