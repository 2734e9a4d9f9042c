"""Partitions are remembered: the same embeddings are clustered once, and nothing is mistaken for them."""

from __future__ import annotations

import numpy as np
import pytest

from datamodules.schema import ScoredCell
from postproc.clustering import partitions
from postproc.clustering.partitions import Clustering


def cell_of(seed: int, items: int = 60) -> ScoredCell:
    rng = np.random.default_rng(seed)
    voices, faces = ({"input": rng.normal(size=(items, 8)), "model": rng.normal(size=(items, 4))} for _ in range(2))
    return ScoredCell(np.zeros(2), np.array([0, 1]), np.array([0, 1]), voices, faces)


def labels_of(cell: ScoredCell, **options: object) -> list[np.ndarray]:
    found, _ = Clustering(ks=(3, 5), repeats=2, **options)(cell)  # type: ignore[arg-type]
    return [labels[modality] for labels in found for modality in ("voice", "face")]


def test_the_same_embeddings_are_clustered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = cell_of(0)
    first = labels_of(cell)
    partitions._remembered.clear()
    anew = labels_of(cell)
    with monkeypatch.context() as patch:
        patch.setattr(partitions, "kmeans", lambda *args, **kwargs: pytest.fail("clustered again"))
        again = labels_of(cell_of(0))
    for a, b, c in zip(first, anew, again, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_other_embeddings_seeds_and_spaces_are_not_mistaken_for_them() -> None:
    cell = cell_of(0)
    variants = [labels_of(cell), labels_of(cell_of(1)), labels_of(cell, seed=5), labels_of(cell, space="model")]
    partitions._remembered.clear()
    assert [np.concatenate(v).tolist() for v in variants] == [
        np.concatenate(v).tolist()
        for v in (labels_of(cell), labels_of(cell_of(1)), labels_of(cell, seed=5), labels_of(cell, space="model"))
    ]
    assert len({str(np.concatenate(v)) for v in variants}) == 4


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "_SETS", 4)
    monkeypatch.setattr(partitions, "_ITEMS", 60)
    partitions._remembered.clear()
    for seed in range(5):
        labels_of(cell_of(seed))
    assert len(partitions._remembered) == 4
    labels_of(cell_of(9, items=61))
    assert len(partitions._remembered) == 4
    assert all(len(labels[0]) == 60 for labels in partitions._remembered.values())
