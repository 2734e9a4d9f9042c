"""The same embeddings are clustered once per run, and nothing is mistaken for them."""

from __future__ import annotations

import numpy as np
import pytest

from datamodules.schema import ScoredCell
from postproc.clustering import partitions
from postproc.clustering.partitions import Clustering
from postproc.memory import Memory


def cell_of(seed: int, items: int = 60) -> ScoredCell:
    rng = np.random.default_rng(seed)
    voices, faces = ({"input": rng.normal(size=(items, 8)), "model": rng.normal(size=(items, 4))} for _ in range(2))
    return ScoredCell(np.zeros(2), np.array([0, 1]), np.array([0, 1]), voices, faces)


def labels_of(cell: ScoredCell, memory: Memory | None = None, **options: object) -> list[np.ndarray]:
    found, _ = Clustering(ks=(3, 5), repeats=2, **options)(cell, memory)  # type: ignore[arg-type]
    return [labels[modality] for labels in found for modality in ("voice", "face")]


def test_the_same_embeddings_are_clustered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    first, without_memory = labels_of(cell_of(0), memory), labels_of(cell_of(0))
    monkeypatch.setattr(partitions, "kmeans", lambda *args, **kwargs: pytest.fail("clustered again"))
    again = labels_of(cell_of(0), memory)
    for a, b, c in zip(first, without_memory, again, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_other_embeddings_seeds_and_spaces_are_not_mistaken_for_them() -> None:
    memory = Memory()
    variants = [({}, 0), ({}, 1), ({"seed": 5}, 0), ({"space": "model"}, 0)]
    shared, fresh = (
        [np.concatenate(labels_of(cell_of(seed), use, **options)).tolist() for options, seed in variants]
        for use in (memory, None)
    )
    assert shared == fresh
    assert len({str(labels) for labels in shared}) == 4
