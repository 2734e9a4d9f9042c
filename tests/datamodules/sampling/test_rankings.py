"""Matching and retrieval lists: read, drawn and resolved; identities never come from the order of a list."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datamodules.evaluation.conditions import CellSpec, RankingCondition
from datamodules.features.module import FeatureDataModule
from datamodules.io.feature_files import FeatureFile
from datamodules.io.rankings import read_matching, read_retrieval
from datamodules.sampling.rankings import make_matching, make_retrieval
from datamodules.sampling.trials import all_pairs
from datamodules.schema import DataError, Items, RankingList


def items(prefix: str, people: int = 6, each: int = 4) -> Items:
    rows = [(f"{prefix}/p{p}/{i}", f"p{p}", "", "MF"[p % 2], f"v{i % 2}") for p in range(people) for i in range(each)]
    return Items(*np.array(rows).T)


VOICES, FACES = items("v"), items("f")


@pytest.mark.parametrize("probe", ["voice", "face"])
@pytest.mark.parametrize("options", [{}, {"same_gender": True, "candidates": 3}, {"cross_video": True}])
def test_made_matching(probe: Any, options: dict[str, Any]) -> None:
    made = make_matching(VOICES, FACES, probe, probes=600, seed=3, **options)
    again = make_matching(VOICES, FACES, probe, probes=600, seed=3, **options)
    assert (made.candidates == again.candidates).all()
    assert (made.candidates != make_matching(VOICES, FACES, probe, probes=600, seed=4, **options).candidates).any()
    own, other = (VOICES, FACES) if probe == "voice" else (FACES, VOICES)
    where: dict[str, tuple[str, str, str]] = {}
    for x in (own, other):
        fields = zip(x.identity.tolist(), x.gender.tolist(), x.video.tolist(), strict=True)
        where |= dict(zip(x.ids.tolist(), fields, strict=True))
    counts: dict[str, int] = {}
    for name, candidates in zip(made.probes, made.candidates, strict=True):
        person, gender, video = where[name]
        right, *wrong = (where[c] for c in candidates)
        assert right[0] == person
        assert person not in {w[0] for w in wrong}
        assert len({w[0] for w in wrong}) == len(wrong)
        assert not options.get("same_gender") or {w[1] for w in wrong} == {gender}
        assert not options.get("cross_video") or right[2] != video
        counts[person] = counts.get(person, 0) + 1
    assert set(counts.values()) == {100}  # people take turns


def test_made_retrieval_leaves_out_identities_with_one_modality() -> None:
    made = make_retrieval(VOICES, items("f", people=4), "voice")
    assert (len(made.probes), len(made.candidates)) == (16, 16)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"candidates": 7}, "1:7 matching needs 6 other identities; p0 has 5"),
        ({"candidates": 4, "same_gender": True}, "needs 3 other identities of the same gender; p0 has 2"),
        ({"candidates": 1}, "needs at least 2 candidates"),
    ],
)
def test_impossible_matching(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        make_matching(VOICES, FACES, "voice", probes=10, **options)


def resolved(ranking: RankingList) -> RankingCondition:
    tables: list[Any] = [SimpleNamespace(items=VOICES), SimpleNamespace(items=FACES)]
    return RankingCondition("x", *tables, ranking=ranking)


def test_read_lists_are_resolved_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("v/p0/1.wav f/p0/2.jpg f/p1/0.jpg\nv/p1/0.wav f/p1/3.jpg f/p0/0.jpg\n")
    ranking = resolved(read_matching(path, "voice")).resolved(np.array([1, 4]), np.array([2, 4, 7, 0]))
    assert ranking.candidate_index.tolist() == [[2, 4], [7, 0]]
    path.write_text("v/p0/1.wav f/p1/2.jpg f/p0/0.jpg\n")
    with pytest.raises(DataError, match="the first candidate, and no other, must have the identity of the probe"):
        resolved(read_matching(path, "voice"))
    path.write_text("v/p0/1.wav f/p0/2.jpg\n")
    with pytest.raises(DataError, match="line 1: 2 columns, expected '<probe> <matching candidate>"):
        read_matching(path, "voice")
    path.write_text("v/p0/1.wav v/p1/1.wav\nf/p0/0.jpg\n")
    with pytest.raises(DataError, match="1 identities of queries are not in the gallery, first p1"):
        resolved(read_retrieval(path, "voice"))
    path.write_text("v/../1.wav\nf/p0/0.jpg\n")
    with pytest.raises(DataError, match="leaves the data folder"):
        read_retrieval(path, "voice")


def test_restricted_pairs() -> None:
    people = ["p0", "p1", "p2"]
    free = all_pairs("x", VOICES, FACES, people)
    same = all_pairs("x", VOICES, FACES, people, same_gender=True)
    cross = all_pairs("x", VOICES, FACES, people, cross_video=True)
    assert free.labels is not None
    assert same.labels is not None
    assert cross.labels is not None
    assert (len(free), free.labels.sum()) == (144, 48)
    assert (len(same), same.labels.sum()) == (48 + 2 * 16, 48)
    assert (len(cross), cross.labels.sum()) == (96 + 24, 24)
    with pytest.raises(DataError, match="leave no same-person or no different-person trial"):
        all_pairs("x", VOICES, FACES, ["p0", "p1"], same_gender=True)


def test_s2f_identities(shared_data: Path) -> None:
    columns = {"language": "lang_weak", "video": "youtube_id", "item": "clip_id"}
    file = {"index": "manifest.csv", "columns": columns}
    who = "manifest.csv#source=voxceleb1"
    tests: dict[str, Any] = {
        "all": CellSpec(identities=who),
        "cross": CellSpec(identities=who, cross_video=True),
        "same_gender": CellSpec(identities=who, same_gender=True),
        "match": CellSpec(identities=who, task="matching", candidates=10, same_gender=True, probes=500),
        "find": CellSpec(identities=who, task="retrieval", probe="face"),
    }
    data = FeatureDataModule(
        [FeatureFile("embeddings.npz#voice_resemblyzer256", **file)],  # type: ignore[arg-type]
        [FeatureFile("embeddings.npz#face_dlib128", **file)],  # type: ignore[arg-type]
        ["en", "non-en", "unk"], test=tests, root=str(shared_data / "s2f"), exclude_identities=who, val_identities=100,
    )  # fmt: skip
    found = data.evaluation_set("test")
    assert len(set(found.voices.identity)) == 66
    clips = len(found.voices)
    assert len(found.cells["all"].voice_index) == clips * len(found.faces)
    assert len(found.rankings["find"].candidate_index) == clips
    ranking = found.rankings["match"]
    gender = found.faces.gender[ranking.candidate_index]
    assert (gender == found.voices.gender[ranking.probe_index][:, None]).all()
