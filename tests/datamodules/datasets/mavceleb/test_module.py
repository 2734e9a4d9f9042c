"""MAV-Celeb in the layouts and lists of v1 to v4, with their pitfalls, on synthetic media."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.datasets.mavceleb.module import MAVCelebDataModule
from datamodules.evaluation.conditions import CellSpec
from datamodules.media.module import MediaOptions
from datamodules.schema import DataError, EvaluationSet
from tests.datamodules.media_tree import make_test, make_training, mavceleb

SMALL = MediaOptions(frames=32, image_size=32)


def module(root: Path, version: Any = "v1", language: str = "English", **options: Any) -> MAVCelebDataModule:
    options = {"val_identities": 2, "val_trials": 40, "media": SMALL, "batch_size": 4, **options}
    return MAVCelebDataModule(version, language, str(root), **options)


def pairs(data: MAVCelebDataModule) -> set[tuple[str, str, str]]:
    """(voice, face, identity) of the training clips."""
    train, (voices, faces) = data.training_set(), data.tables
    return {
        (str(voices.items.ids[v]), str(faces.items.ids[f]), str(train.identities[i]))
        for v, f, i in zip(train.voice_rows, train.face_rows, train.identity, strict=True)
    }


def unique_items(evaluation: EvaluationSet) -> None:
    for items in (evaluation.voices, evaluation.faces):
        assert len(set(items.ids.tolist())) == len(items)


def test_v1_end_to_end(tmp_path: Path) -> None:
    root = mavceleb(tmp_path)
    labels = {language: f"v1/{language}_labels.txt" for language in ("English", "Urdu")}
    data = module(root, labels=labels)
    data.setup("fit")
    train, validation, test = data.training_set(), data.evaluation_set("validate"), data.evaluation_set("test")
    assert data.dims == (128, 3)
    assert data.num_identities == 6
    assert len(train.identity) == 6 * 4
    assert set(train.language) == {"English"}
    assert set(validation.cells) == {"heard"}
    assert set(validation.voices.identity).isdisjoint(train.identities)
    assert {name: cell.language for name, cell in test.cells.items()} == {"heard": "English", "unheard": "Urdu"}
    assert (len(test.voices), len(test.faces)) == (16, 16)  # each list numbers its items from zero
    unique_items(validation)
    unique_items(test)
    for cell in test.cells.values():
        assert cell.trials.labels is not None
        assert cell.trials.labels.tolist() == [i % 2 for i in range(8)]
        assert [str(test.voices.ids[i]).split("/")[-1] for i in cell.voice_index] == [f"{i:05d}" for i in range(8)]
        assert set(test.voices.language[cell.voice_index]) == {cell.language}


def test_batches_of_media(tmp_path: Path) -> None:
    data = module(mavceleb(tmp_path), num_workers=1)
    batch = next(iter(data.train_dataloader()))
    assert batch["voice"].shape == (4, 400 + 31 * 160)
    assert batch["face"].shape == (4, 3, 32, 32)
    assert len(set(batch["identity"].tolist())) == 4
    voices, faces = data.test_dataloader()
    (items,) = list(voices)
    assert items["x"].shape == (16, 400 + 31 * 160)
    assert sorted(items["index"].tolist()) == list(range(16))
    assert next(iter(faces))["x"].shape == (16, 3, 32, 32)


def test_evaluation_reads_the_file_of_each_item(tmp_path: Path) -> None:
    data = module(mavceleb(tmp_path))
    evaluation = data.evaluation_set("test")
    path = dict(zip(data.tables[0].items.ids.tolist(), data.tables[0].paths.tolist(), strict=True))
    source = data.evaluation_source("test", "voice")
    assert source.paths.tolist() == [path[item] for item in evaluation.voices.ids.tolist()]
    assert torch.equal(source.read([3]), data.evaluation_source("test", "voice").read([3]))


def test_v1_voice_and_face_ids_need_not_match(tmp_path: Path) -> None:
    """In v1 face ids skip the test identities, voice ids do not. The face gives the label, and a line is a pair."""
    data = module(mavceleb(tmp_path, gap=3), val_identities=0)
    for voice, face, identity in pairs(data):
        voice_person, face_person = int(voice[2:6]), int(face[2:6])
        assert face_person == voice_person + (voice_person > 3)
        assert identity == f"id{face_person:04d}"
    train = data.training_set()
    assert len(train.identities) == 8
    assert train.identities.tolist() == [f"id{i:04d}" for i in (1, 2, 3, 5, 6, 7, 8, 9)]
    # and validation pairs the right identities: the line gives the voice's identity, not its name
    held_out = module(tmp_path, val_identities=["id0007", "id0009"])
    validation = held_out.evaluation_set("validate")
    assert {str(item)[:6] for item in validation.voices.ids} == {"id0006", "id0008"}
    assert {str(item)[:6] for item in validation.faces.ids} == {"id0007", "id0009"}
    cell = validation.cells["heard"]
    assert cell.trials.labels is not None
    same = validation.voices.identity[cell.voice_index] == validation.faces.identity[cell.face_index]
    assert np.array_equal(same, cell.trials.labels == 1)


def test_one_voice_of_two_identities_is_refused(tmp_path: Path) -> None:
    root = mavceleb(tmp_path)
    path = root / "v1" / "English_train.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, f"{lines[0].split()[0]} {lines[-1].split()[1]}"]))
    with pytest.raises(DataError, match=r"id0001/English/vid0/00000 is id0001 in one row and id0008 in another"):
        module(root).training_set()


def test_v3_keeps_test_files_in_separate_folders(tmp_path: Path) -> None:
    make_training(tmp_path, "v3", ("English", "German"))
    for language in ("English", "German"):
        make_test(tmp_path / "v3", language, f"{language}_test/voice", f"{language}_test/face")
    test = module(tmp_path, "v3", "German").evaluation_set("test")
    assert {name: cell.language for name, cell in test.cells.items()} == {"heard": "German", "unheard": "English"}
    assert (len(test.voices), len(test.faces)) == (16, 16)


def test_v4_nested_folders_and_tracks(tmp_path: Path) -> None:
    train = tmp_path / "v4" / "train_set" / "train_set"
    make_training(tmp_path / "draft", "v4", ("English", "Bangla"))
    lines = []
    for person in sorted((tmp_path / "draft" / "v4" / "voices").iterdir()):
        for i, wav in enumerate(sorted(person.glob("English/*/*.wav"))):
            jpg = sorted((tmp_path / "draft" / "v4" / "faces" / person.name).glob("English/*/*.jpg"))[i]
            for kind, file in (("voices", wav), ("faces", jpg)):
                target = train / kind / "English" / person.name / f"{i:05d}{file.suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
            lines.append(f"English/{person.name}/{i:05d}.wav English/{person.name}/{i:05d}.jpg")
    (tmp_path / "v4" / "train_set" / "English_train.txt").write_text("\n".join(lines))
    for track, people in (("no_gender", 4), ("gender", 3)):
        for language in ("English", "Bangla"):
            base = tmp_path / "v4" / "dev_set" / track
            make_test(base, language, f"{language}_test/voices", f"{language}_test/faces", people)
            text = (base / f"{language}_test.txt").read_text()  # numbered alike in both languages
            numbered = text.replace(f"voices/{language}/", "voices/").replace(f"faces/{language}/", "faces/")
            (base / f"{language}_test.txt").write_text(numbered)
    for track, trials in (("no_gender", 8), ("gender", 6)):
        data = module(tmp_path, "v4", track=track)
        assert data.num_identities == 6
        test = data.evaluation_set("test")
        assert {name: len(cell.trials) for name, cell in test.cells.items()} == {"heard": trials, "unheard": trials}
        assert {name: cell.language for name, cell in test.cells.items()} == {"heard": "English", "unheard": "Bangla"}
        assert len(test.voices) == 2 * trials  # not merged, though the lists number them alike
        unique_items(test)
        paths = data.evaluation_source("test", "voice").paths
        for name, language in (("heard", "English"), ("unheard", "Bangla")):
            cell = test.cells[name]
            assert all(f"/{track}/{language}_test/" in str(path) for path in paths[cell.voice_index])


def test_lists_next_to_the_version(tmp_path: Path) -> None:
    root = mavceleb(tmp_path)
    (root / "v1_lists").mkdir()
    for path in (root / "v1").glob("*.txt"):
        path.rename(root / "v1_lists" / path.name)
    assert len(module(root).evaluation_set("test").voices) == 16


def test_own_lists_of_held_out_identities(tmp_path: Path) -> None:
    root = mavceleb(tmp_path)
    rows = ["key,voice,face,label"]
    for i, (voice, face) in enumerate([(1, 1), (1, 2), (2, 2), (2, 1)]):
        rows.append(f"t{i},id{voice:04d}/Urdu/vid0/00000.wav,id{face:04d}/Urdu/vid1/0000000.jpg,{int(voice == face)}")
    (root / "dev.csv").write_text("\n".join(rows))
    own = {
        "unheard": CellSpec(trials="dev.csv"),
        "heard": CellSpec(identities=["id0001", "id0002"], language="English"),
    }
    data = module(root, test=own, exclude_identities=["id0001", "id0002"])
    test = data.evaluation_set("test")
    assert set(test.cells) == {"unheard", "heard"}
    assert test.cells["unheard"].language == "Urdu"
    assert set(data.training_set().identities).isdisjoint({"id0001", "id0002"})
    with pytest.raises(DataError, match=r"2 test identities are also in (training|validation): id0001, id0002"):
        module(root, test=own, val_identities=["id0007", "id0008"]).evaluation_set("test")


def test_a_file_of_the_other_language_in_training_is_refused(tmp_path: Path) -> None:
    root = mavceleb(tmp_path)
    english, urdu = (root / "v1" / f"{language}_train.txt" for language in ("English", "Urdu"))
    english.write_text(english.read_text() + "\n".join(urdu.read_text().splitlines()[:7]))
    with pytest.raises(DataError) as error:
        module(root).setup("fit")
    assert "14 files are not English" in str(error.value)
    assert str(error.value).count("line ") == 5
    assert "id0001/Urdu/" in str(error.value)


def test_a_missing_folder_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAVCELEB_ROOT", raising=False)
    with pytest.raises(DataError) as error:
        module(tmp_path / "nowhere", "v2", "Hindi").setup("fit")
    text = str(error.value)
    for said in (
        "MAVCELEB_ROOT is not set",
        str(tmp_path / "nowhere" / "v2"),
        "{voices,faces}/idNNNN/{English,Hindi}/",
    ):
        assert said in text
    for said in ("Hindi_train.txt", "English_test.txt", "Hindi_test.txt", "set MAVCELEB_ROOT to the folder"):
        assert said in text
    assert "\n" not in text
    monkeypatch.setenv("MAVCELEB_ROOT", "/data/mav")
    with pytest.raises(DataError, match=r"MAVCELEB_ROOT is /data/mav.*train_set/train_set/"):
        module(tmp_path, "v4").setup("fit")


def test_missing_files_and_lists_are_named(tmp_path: Path) -> None:
    root = mavceleb(tmp_path)
    (root / "v1" / "voices" / "id0003" / "English" / "vid0" / "00002.wav").unlink()
    with pytest.raises(
        DataError, match=r"English_train\.txt: 1 of 32 voice files are missing under .*v1: id0003/English"
    ):
        module(root).training_set()
    (root / "v1" / "Urdu_test.txt").rename(root / "v1" / "Urdu_tests.txt")
    with pytest.raises(DataError, match=r"Urdu_test\.txt: no such file; did you mean Urdu_tests\.txt"):
        module(root).evaluation_set("test")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("id0001/English/a/0.wav", "line 33: 1 columns; expected '<wav> <jpg>'"),
        ("../../etc/passwd id0001/English/a/0.jpg", "line 33: ../../etc/passwd leaves the data folder"),
        ("voices/0.wav faces/0.jpg", "line 33: voices/0.wav names no identity"),
    ],
)
def test_bad_lines_of_the_training_list(tmp_path: Path, line: str, said: str) -> None:
    root = mavceleb(tmp_path)
    path = root / "v1" / "English_train.txt"
    path.write_text(path.read_text() + line)
    with pytest.raises(DataError) as error:
        module(root).training_set()
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"version": "v5"}, "data.version: 'v5' is unknown"),
        ({"language": "Hindi"}, "data.train_language: Hindi is unknown"),
        ({"labels": {"Urdo": "x"}}, "data.labels: Urdo is unknown; did you mean Urdu"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        module(tmp_path, **options)


def test_bad_samples_are_skipped_in_training_but_never_in_test(tmp_path: Path) -> None:
    root = mavceleb(tmp_path)
    broken = root / "v1" / "voices" / "id0002" / "English" / "vid0" / "00000.wav"
    broken.write_bytes(b"")
    (root / "v1" / "voices" / "Urdu" / "00003.wav").write_bytes(b"")
    skipping = MediaOptions(frames=32, image_size=32, on_bad_sample="skip")
    data = module(root, media=skipping, val_identities=["id0007", "id0008"], steps_per_epoch=20, batch_size=6)
    with pytest.warns(UserWarning, match="skipped in training: .*id0002"):
        assert len(list(data.train_dataloader())) == 20
    reference = data.reference_set()  # training clips for a refinement: the same file is skipped there
    assert len(reference.voices.read(reference.voice_rows)) == len(reference.identity)
    with pytest.raises(DataError, match=r"Urdu/00003\.wav"):
        list(data.test_dataloader()[0])
    with pytest.raises(DataError, match="id0002"):
        list(module(root, val_identities=["id0007", "id0008"], steps_per_epoch=20, batch_size=6).train_dataloader())


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_a_tree_without_lists_says_where_they_go_and_what_works_without(tmp_path: Path, version: str) -> None:
    (tmp_path / version / "voices" / "id0001" / "English").mkdir(parents=True)
    (tmp_path / version / "readme.txt").write_text("x")
    with pytest.raises(
        DataError, match=r"nor any other list; put English_train\.txt, .*_lists; .* prepare .*own_media"
    ) as e:
        module(tmp_path, version).setup("fit")
    assert "\n" not in str(e.value)
