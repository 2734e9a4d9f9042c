"""The synthetic embeddings: reproducible, cached, and with the intended geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from datamodules import SyntheticDataModule
from datamodules.datasets.synthetic.embeddings import embed
from datamodules.io.cache import cache_folder
from datamodules.schema import DataError, EvaluationSet


def auc(distances: NDArray[np.float64], labels: NDArray[np.int8]) -> float:
    """Probability that a same-person pair has a smaller distance than a different-person pair."""
    same, other = distances[labels == 1], distances[labels == 0]
    return float((same[:, None] < other[None]).mean() + (same[:, None] == other[None]).mean() / 2)


def closed_form(data: SyntheticDataModule) -> dict[str, tuple[NDArray, NDArray, NDArray]]:
    """Distances, labels and same-gender mask of each test condition, from the cross-covariance of identity means."""
    train, test = data.training_set(), data.evaluation_set("test")
    voices, faces = data.tables[0].array(train.voice_rows), data.tables[1].array(train.face_rows)
    people = range(data.num_identities)
    means = [np.stack([x[train.identity == person].mean(axis=0) for person in people]) for x in (voices, faces)]
    centre = [mean.mean(axis=0) for mean in means]
    u, s, vt = np.linalg.svd((means[0] - centre[0]).T @ (means[1] - centre[1]), full_matrices=False)
    assert test.voices.features is not None
    assert test.faces.features is not None
    v = (test.voices.features - centre[0]) @ (u[:, :8] * np.sqrt(s[:8]))
    f = (test.faces.features - centre[1]) @ (vt[:8].T * np.sqrt(s[:8]))
    v, f = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (v, f))
    found = {}
    for name, cell in test.cells.items():
        assert cell.trials.labels is not None
        same_gender = test.voices.gender[cell.voice_index] == test.faces.gender[cell.face_index]
        found[name] = (1 - (v[cell.voice_index] * f[cell.face_index]).sum(axis=1), cell.trials.labels, same_gender)
    return found


def test_sizes_are_those_of_v1() -> None:
    data = SyntheticDataModule()
    data.setup("fit")
    test = data.evaluation_set("test")
    assert data.dims == (192, 512)
    assert data.num_identities == 58
    assert len(data.training_set().identity) == 58 * 20
    assert {name: (len(cell.trials), cell.language) for name, cell in test.cells.items()} == {
        "heard": (1000, "Alpha"),
        "unheard": (1000, "Beta"),
    }
    people = np.unique(test.voices.identity, return_index=True)[1]
    assert sorted(test.voices.gender[people]) == ["F"] * 3 + ["M"] * 3


def test_a_world_is_made_once_and_is_the_same_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = SyntheticDataModule(identities=8, clips=4, val_identities=2)
    with monkeypatch.context() as patch:
        patch.setattr(SyntheticDataModule, "_make", lambda *_: pytest.fail("made again"))
        SyntheticDataModule(identities=8, clips=4, val_identities=0, batch_size=4)
    monkeypatch.setenv("VOICEFACE_CACHE", str(tmp_path))
    again = SyntheticDataModule(identities=8, clips=4, val_identities=2)
    other = SyntheticDataModule(identities=8, clips=4, val_identities=2, world=1)
    rows = np.arange(20)
    np.testing.assert_array_equal(first.tables[0].array(rows), again.tables[0].array(rows))
    assert not np.allclose(first.tables[0].array(rows), other.tables[0].array(rows))
    assert len(list((cache_folder() / "synthetic").iterdir())) == 2


def test_without_a_cache_it_is_made_for_this_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VOICEFACE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="cannot be written"):
        data = SyntheticDataModule(identities=8, clips=4, val_identities=2)
    data.setup("fit")
    assert data.num_identities == 6


def test_training_finds_more_than_gender_in_both_languages() -> None:
    for distances, labels, same_gender in closed_form(SyntheticDataModule()).values():
        assert 0.75 < auc(distances, labels) < 0.95
        assert auc(distances[same_gender], labels[same_gender]) > 0.6


def test_with_nothing_shared_only_gender_is_left() -> None:
    within = []
    for world in range(4):
        for distances, labels, same_gender in closed_form(SyntheticDataModule(shared=0, world=world)).values():
            assert auc(distances, labels) > 0.65
            within.append(auc(distances[same_gender], labels[same_gender]))
    assert abs(np.mean(within) - 0.5) < 0.06


@pytest.mark.parametrize("modality", ["voice", "face"])
def test_two_clusters_are_the_genders(modality: Any) -> None:
    items = SyntheticDataModule().evaluation_set("test").items(modality)
    assert items.features is not None
    cluster = KMeans(2, n_init=5, random_state=0).fit_predict(items.features)
    agree = (cluster == (items.gender == "M")).mean()
    assert max(agree, 1 - agree) > 0.95


def test_modalities_cannot_be_compared_before_training() -> None:
    found = embed(*(np.repeat(np.arange(40), 5), *[np.zeros(200, int)] * 2), 1.0, 0.0, np.random.default_rng(0))
    voice, face = found["voice"], found["face"][:, :192]
    cosine = (voice * face).sum(axis=1) / np.linalg.norm(voice, axis=1) / np.linalg.norm(face, axis=1)
    assert abs(cosine.mean()) < 0.1


def test_mislabelled_clips_are_near_another_identity() -> None:
    person = np.repeat(np.arange(40), 10)
    clean, mixed = (
        embed(person, np.zeros(400, int), np.zeros(400, int), 1.0, share, np.random.default_rng(0))
        for share in (0.0, 0.5)
    )
    moved = np.mean([np.linalg.norm(x - x.reshape(40, 10, -1).mean(axis=1)[person]) for x in mixed.values()])
    stayed = np.mean([np.linalg.norm(x - x.reshape(40, 10, -1).mean(axis=1)[person]) for x in clean.values()])
    assert moved > 1.1 * stayed


def test_the_lists_are_scrambled() -> None:
    data = SyntheticDataModule()
    test: EvaluationSet = data.evaluation_set("test")
    voices, faces = (
        [np.sum(items.identity == p) for p in np.unique(items.identity)] for items in (test.voices, test.faces)
    )
    assert voices != faces


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shared": 1.5}, r"data\.shared: 1\.5"),
        ({"identities": 2}, "identities 2"),
        ({"mislabelled": -0.1}, "mislabelled: -0.1"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        SyntheticDataModule(**options)
