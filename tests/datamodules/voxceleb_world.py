"""Synthetic embeddings with the names of the public VoxCeleb1 lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from datamodules.datasets.voxceleb.lists import public_tests, read_ranking, read_verification
from datamodules.datasets.voxceleb.people import People, Split, read_people, read_split

DIM = 16


def listed_items(lists: Path, split: Split, people: People) -> tuple[set[str], set[str]]:
    """Ids of all voices and faces in the public lists of a split."""
    voices: set[str] = set()
    faces: set[str] = set()
    for spec in public_tests(split, read_split(lists, split, people)["test"]).values():
        if spec.trials is None:
            continue
        if spec.task == "verification":
            trials = read_verification(lists / spec.trials, people)
            voices.update(trials.voices)
            faces.update(trials.faces)
        else:
            ranking = read_ranking(lists / spec.trials, spec, people)
            own, other = (voices, faces) if spec.probe == "voice" else (faces, voices)
            own.update(ranking.probes)
            other.update(ranking.candidates.ravel())
    return voices, faces


def write_feature_files(lists: Path, split: Split, folder: Path, noise: float = 1.0, portraits: bool = True) -> None:
    """``voices.npy`` + ``voices.csv`` and the same for faces: the listed items and two training videos per identity.

    A person's voices and faces share a random vector, so that a model can learn it and every test is above chance.
    The faces of Wen's lists are portraits; without ``portraits``, those to learn from are of videos all the same.
    """
    people = read_people(lists / "vox1_meta.csv")
    roles = read_split(lists, split, people)
    voices, faces = listed_items(lists, split, people)
    frontal = split == "wen" and portraits
    for person in roles["train"] + roles["val"]:
        for video in (f"{person}_a", f"{person}_b"):
            voices.add(f"{person}/{video}/00001")
            faces.add(f"{person}/{video[-1]}" if frontal else f"{person}/{video}/0000001")
    rng = np.random.default_rng(0)
    place = {person: i for i, person in enumerate(people.names)}
    traits = rng.normal(size=(len(place), DIM))
    for name, items in (("voices", sorted(voices)), ("faces", sorted(faces))):
        rows = np.array([place[item.partition("/")[0]] for item in items])
        x = traits[rows] @ rng.normal(size=(DIM, DIM)) / DIM**0.5 + noise * rng.normal(size=(len(rows), DIM))
        np.save(folder / f"{name}.npy", x.astype(np.float32))
        written = items if name == "voices" else [_as_on_disk(item, people) for item in items]
        pd.DataFrame({"item": written}).to_csv(folder / f"{name}.csv", index=False)


def _as_on_disk(item: str, people: People) -> str:
    person, _, rest = item.partition("/")
    return f"{people.names[person]}/{'1.6/' if '/' in rest else ''}{rest}.jpg"
