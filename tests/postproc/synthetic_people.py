"""Synthetic identities: voices and faces share a weak common space, and each modality has a strong input space."""

from __future__ import annotations

import numpy as np

from datamodules.schema import ScoredCell
from postproc.reference import Reference

INPUT, SHARED = 24, 6


class World:
    """Draws identities and their clips; the seed fixes the maps from traits to voices and faces."""

    def __init__(self, seed: int = 0, noise: float = 1.2, gender: float = 1.0, blur: float = 0.3) -> None:
        self.rng = np.random.default_rng(seed)
        self.noise, self.gender, self.blur = noise, gender, blur
        self.input_maps = self.rng.normal(size=(2, SHARED + 1, INPUT))

    def people(self, genders: str) -> tuple[np.ndarray, np.ndarray]:
        """Traits (people, SHARED + 1), the last one gender; and the letters."""
        letters = np.array(list(genders))
        traits = self.rng.normal(size=(len(letters), SHARED + 1))
        traits[:, -1] = self.gender * np.where(letters == "M", 1, -1)
        return traits, letters

    def clips(self, traits: np.ndarray, counts: np.ndarray, modality: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Person (n,), model embeddings (n, SHARED + 1), input embeddings (n, INPUT) of some clips."""
        person = self.rng.permutation(np.repeat(np.arange(len(traits)), counts))
        model = traits[person] + self.noise * self.rng.normal(size=(len(person), SHARED + 1))
        inputs = traits[person] @ self.input_maps[modality] + self.blur * self.rng.normal(size=(len(person), INPUT))
        return person, model / np.linalg.norm(model, axis=1, keepdims=True), inputs

    def cell(
        self, genders: str = "MMMFFF", other_faces: bool = False, trials: int = 3000
    ) -> tuple[ScoredCell, np.ndarray]:
        """A test condition and its labels; with ``other_faces`` the faces are of other identities and no label is 1."""
        traits, _ = self.people(genders)
        others = self.people(genders)[0] if other_faces else traits
        counts = self.rng.integers(12, 30, size=(2, len(traits)))
        pv, mv, iv = self.clips(traits, counts[0], 0)
        pf, mf, jf = self.clips(others, counts[1], 1)
        voice, face = self.rng.integers(len(pv), size=trials), self.rng.integers(len(pf), size=trials)
        distances = 1 - np.einsum("td,td->t", mv[voice], mf[face])
        labels = ((pv[voice] == pf[face]) & (not other_faces)).astype(np.int8)
        return ScoredCell(distances, voice, face, {"model": mv, "input": iv}, {"model": mf, "input": jf}), labels

    def reference(self, genders: str = "M" * 12 + "F" * 12, clips: int = 10) -> Reference:
        """Clips of identities that are in no test condition."""
        traits, letters = self.people(genders)
        person = np.repeat(np.arange(len(traits)), clips)
        spaces = []
        for modality in (0, 1):
            model = traits[person] + self.noise * self.rng.normal(size=(len(person), SHARED + 1))
            inputs = traits[person] @ self.input_maps[modality] + self.blur * self.rng.normal(size=(len(person), INPUT))
            spaces.append({"model": model / np.linalg.norm(model, axis=1, keepdims=True), "input": inputs})
        names, seen = np.array([f"id{p:02d}" for p in person]), np.ones(len(person), dtype=bool)
        return Reference(spaces[0], spaces[1], names, np.full(len(person), "English"), letters[person], seen)
