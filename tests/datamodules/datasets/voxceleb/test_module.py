"""VoxCeleb1 protocols on synthetic embeddings with the names of the public lists, and on synthetic media."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datamodules.datasets.voxceleb.module import VoxCelebDataModule, VoxCelebFeatureDataModule
from datamodules.datasets.voxceleb.people import read_people, read_split
from datamodules.evaluation.conditions import CellSpec
from datamodules.io.feature_files import FeatureFile
from datamodules.media.module import MediaOptions
from datamodules.schema import DataError
from tests.datamodules.media_tree import patch, tone
from tests.datamodules.voxceleb_world import write_feature_files


@pytest.fixture(scope="module")
def lists(shared_data: Path) -> Path:
    return shared_data / "voxceleb"


@pytest.fixture(scope="module")
def worlds(lists: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for split in ("pins", "wen"):
        found[split] = tmp_path_factory.mktemp(split)
        write_feature_files(lists, split, found[split])
    return found


def packed(world: Path, lists: Path, split: Any, **options: Any) -> VoxCelebFeatureDataModule:
    voices, faces = (FeatureFile(f"{name}.npy", index=f"{name}.csv") for name in ("voices", "faces"))
    return VoxCelebFeatureDataModule(
        voices=[voices], faces=[faces], lists=str(lists), split=split, root=str(world), **options
    )


def test_pins(worlds: dict[str, Path], lists: Path) -> None:
    data = packed(worlds["pins"], lists, "pins")
    data.setup("fit")
    roles = read_split(lists, "pins", read_people(lists / "vox1_meta.csv"))
    train, test = data.training_set(), data.evaluation_set("test")
    assert train.identities.tolist() == roles["train"]
    assert set(data.evaluation_set("validate").voices.identity) <= set(roles["val"])
    assert set(test.cells) == {f"pins/{known}/{s}" for known in ("unseen", "seen") for s in ("U", "G", "N", "A", "GNA")}
    assert len(test.cells["pins/unseen/N"].voice_index) == 28_193
    assert {name.split("/")[1] for name in test.rankings} == {"matching", "retrieval", "made"}
    assert test.rankings["pins/retrieval/f2v"].task == "retrieval"
    assert test.rankings["pins/matching/v2f/GN"].candidate_index.shape == (9_120, 2)
    assert test.rankings["pins/made/f2v/1of10_G"].candidate_index.shape == (10_000, 10)
    # training uses other videos of the identities that a test has seen
    cell = test.cells["pins/seen/U"]
    tested = set(test.voices.identity[cell.voice_index])
    assert tested == set(roles["train"])
    for side, rows, index in ((0, train.voice_rows, cell.voice_index), (1, train.face_rows, cell.face_index)):
        items = data.tables[side].items
        used = set(zip(items.identity[rows].tolist(), items.video[rows].tolist(), strict=True))
        items = (test.voices, test.faces)[side]
        assert used.isdisjoint(zip(items.identity[index].tolist(), items.video[index].tolist(), strict=True))


def test_wen_with_frontal_faces(worlds: dict[str, Path], lists: Path) -> None:
    data = packed(worlds["wen"], lists, "wen")
    data.setup("fit")
    train, test = data.training_set(), data.evaluation_set("test")
    assert len(train.identities) == 924
    assert len(set(test.voices.identity)) == 189
    assert set(test.faces.video) == {""}
    (voices, faces) = data.tables
    assert (voices.items.identity[train.voice_rows] == faces.items.identity[train.face_rows]).all()
    labels = test.cells["wen/unseen/v2f"].trials.labels
    assert labels is not None
    assert int(labels.sum()) == 32_967
    assert len(test.rankings["wen/retrieval/f2v_swapped"].candidate_index) == 21_850


def test_nationalities_can_be_left_out_of_training(worlds: dict[str, Path], lists: Path) -> None:
    people = read_people(lists / "vox1_meta.csv")
    data = packed(worlds["pins"], lists, "pins", exclude_nationalities=["India", "Pakistan"], test={})
    nations = {people.nations[person] for person in data.training_set().identities.tolist()}
    assert "USA" in nations
    assert nations.isdisjoint({"India", "Pakistan"})
    with pytest.raises(DataError, match=r"exclude_nationalities: Indai is unknown; did you mean India\?"):
        packed(worlds["pins"], lists, "pins", exclude_nationalities=["Indai"])


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (CellSpec(trials="cmpc/veriflist/veriflist_test_random_seenheard.txt"), "901 test identities are also"),
        (CellSpec(identities=["id10003", "id10005"], task="retrieval"), "also in validation: id10005"),
        (CellSpec(identities=["id10001", "id10003"], seen=True), "videos are also in training: id10001/"),
        (CellSpec(trials="cmpc/matching/matching_f2v_U.csv", task="matching"), "column probe: unknown item"),
        (CellSpec(trials="veri.txt"), "no such file"),
    ],
)  # fmt: skip
def test_it_refuses_to_start(worlds: dict[str, Path], lists: Path, test: CellSpec, said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        packed(worlds["pins"], lists, "pins", test={"x": test}).setup("fit")
    assert "\n" not in str(error.value)


def media(folder: Path, **options: Any) -> VoxCelebDataModule:
    """Eight people with two videos each, as wav and jpg with a manifest that names no language."""
    names = {f"id1{i:04d}": f"Person_{i}" for i in range(8)}
    meta = "".join(f"{i}\t{n}\t{'mf'[k % 2]}\tPeru\tdev\n" for k, (i, n) in enumerate(names.items()))
    (folder / "vox1_meta.csv").write_text(f"VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n{meta}")
    rows = []
    for k, (person, name) in enumerate(names.items()):
        for clip, video in enumerate((f"aaaaaaaaa0{k}", f"bbbbbbbbb0{k}")):
            voice, face = f"wav/{person}/{video}/00001.wav", f"faces/{name}/1.6/{video}/0000025.jpg"
            tone(folder / voice, k, clip)
            patch(folder / face, k, clip)
            rows.append({"voice": voice, "face": face, "identity": person, "language": ""})
    pd.DataFrame(rows).to_parquet(folder / "manifest.parquet")
    data = VoxCelebDataModule(
        str(folder / "manifest.parquet"), lists=str(folder), split=None, val_identities=["id10006", "id10007"],
        val_trials=8, media=MediaOptions(frames=32, image_size=32), batch_size=4, **options,
    )  # fmt: skip
    data.setup("fit")
    return data


def trained_on(data: VoxCelebDataModule) -> set[str]:
    return set(data.tables[0].items.ids[data.training_set().voice_rows].tolist())


@pytest.mark.parametrize("column", ["video", "item"])
def test_a_list_says_which_language_a_clip_is_in(column: str, tmp_path: Path) -> None:
    """Urdu and unlisted clips are not used; without a list all are, and nothing is known of their language."""
    videos = {f"id1{k:04d}": (f"aaaaaaaaa0{k}", f"bbbbbbbbb0{k}") for k in range(8)}
    rows = [(p, video, ("English", "Urdu")[i]) for p, pair in videos.items() for i, video in enumerate(pair)]
    listed = [row for row in rows if row[1] != "aaaaaaaaa00"]
    names = {"video": "{1}", "item": "{0}/{1}/00001.wav"}[column]
    lines = [f"{names.format(*row)},{row[2]}" for row in listed]
    (tmp_path / "languages.csv").write_text("\n".join([f"{column},language", *lines]) + "\n")
    data = media(tmp_path, languages=str(tmp_path / "languages.csv"))
    assert trained_on(data) == {f"{p}/{videos[p][0]}/00001" for p in list(videos)[1:6]}
    assert data.learnt().languages == {"English"}
    assert not data.learnt().unlabelled
    both = media(tmp_path, languages=str(tmp_path / "languages.csv"), train_languages=["English", "Urdu"])
    assert len(trained_on(both)) == 11
    assert both.learnt().languages == {"English", "Urdu"}
    guessed = media(tmp_path)
    assert len(trained_on(guessed)) == 12
    assert guessed.learnt().unlabelled == {"VoxCeleb1": frozenset({"English"})}


def test_media_from_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "seen.txt").write_text(
        "id10000/aaaaaaaaa00/00001.wav Person_0/aaaaaaaaa00/0000025.jpg\n"
        "id10001/aaaaaaaaa01/00001.wav Person_0/1.6/aaaaaaaaa00/0000025.jpg\n"
    )
    data = media(tmp_path, test={"seen": CellSpec(trials="seen.txt", seen=True)})
    training = trained_on(data)
    assert "id10000/bbbbbbbbb00/00001" in training
    assert "id10000/aaaaaaaaa00/00001" not in training
    assert data.evaluation_set("test").cells["seen"].trials.labels.tolist() == [1, 0]  # type: ignore[union-attr]
    assert data.identity_genders()["id10001"] == "F"
    batch = next(iter(data.train_dataloader()))
    assert batch["face"].shape == (4, 3, 32, 32)
    assert np.isfinite(batch["face"].numpy()).all()
