"""Synthetic cells and a pool of gloo ranks."""

from __future__ import annotations

import numpy as np

from datamodules.schema import Cell, Items, ScoredCell, Trials


def make_cell(
    gender_strength: float = 1.0,
    face_gender_strength: float | None = None,
    people: int = 3,
    per_person: int = 15,
    nuisance: float = 0.0,
    seed: int = 0,
) -> tuple[ScoredCell, np.ndarray, np.ndarray]:
    """A cell of 2 * people identities whose voices and faces share a gender axis and identity axes.

    ``face_gender_strength`` weakens gender in the faces, ``nuisance`` adds an axis of faces that splits every person in
    two (glasses, say). Returns the cell of all voice-face pairs, their labels, and whether genders differ.
    """
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(2 * people), per_person)
    sign = np.where(person < people, 1.0, -1.0)
    axes = rng.normal(size=(2 * people, 16)) / 4
    strength = {
        "voice": gender_strength,
        "face": gender_strength if face_gender_strength is None else face_gender_strength,
    }
    embeddings = {}
    for modality in ("voice", "face"):
        x = np.zeros((len(person), 20))
        x[:, 0] = strength[modality] * sign
        x[:, 4:] = axes[person] + rng.normal(size=(len(person), 16)) * 0.45
        x[:, 1 if modality == "voice" else 2] = 0.1
        if modality == "face":
            x[:, 3] = nuisance * rng.choice([-1.0, 1.0], len(person))
        embeddings[modality] = x / np.linalg.norm(x, axis=1, keepdims=True)
    voice, face = (index.ravel() for index in np.mgrid[: len(person), : len(person)])
    distances = 1 - (embeddings["voice"] @ embeddings["face"].T).ravel()
    cell = ScoredCell(distances, voice, face, {"model": embeddings["voice"]}, {"model": embeddings["face"]})
    return cell, (person[voice] == person[face]).astype(np.int8), sign[voice] != sign[face]


def make_items(identity: list[str], gender: list[str]) -> Items:
    """Items with the given identities and genders, everything else blank."""
    n = len(identity)
    blank = np.full(n, "")
    return Items(np.arange(n).astype(str), np.array(identity), blank, np.array(gender), blank)


def make_labelled_cell(voice: list[int], face: list[int], labels: list[int] | None, name: str = "heard") -> Cell:
    """A cell over rows of items."""
    keys = np.arange(len(voice)).astype(str)
    marks = None if labels is None else np.array(labels, dtype=np.int8)
    return Cell(name, "English", Trials(keys, keys, keys, marks, "list.csv"), np.array(voice), np.array(face))
