"""``prepare``: layouts that are recognised, described or refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from datamodules.prepare.listing import list_files
from datamodules.prepare.paths import compile_patterns, describe
from datamodules.schema import DataError
from experiments.run import main
from tests.datamodules.media_tree import make_training, patch, tone, voice_and_face


def test_a_layout_of_ones_own() -> None:
    patterns = compile_patterns(["{language}/{identity}-{video}/{any}.wav", "{identity}.jpg"])
    found = describe("deep/fr/anna-7/x/1.wav", "voice", patterns, None)
    assert (found.identity, found.language, found.video) == ("anna", "fr", "7")
    assert describe("faces/anna.jpg", "face", patterns, None).identity == "anna"
    with pytest.raises(DataError, match="does not match --pattern"):
        describe("anna.png", "face", patterns, None)
    with pytest.raises(DataError, match=r"--pattern \{person\}"):
        compile_patterns(["{person}/{file}"])


FOLDERS = {
    "by person and language": ("voices/Ann Lee/fr/v1/1.wav", "faces/Ann Lee/fr/v1/1.jpg", "Ann Lee", "fr", "v1"),
    "ids without folders of sides": ("id07/fr/v1/1.wav", "id07/fr/v1/1.jpg", "id07", "fr", "v1"),
    "no language": ("audio/ann/v1/1.WAV", "images/ann/v1/1.JPG", "ann", "", "v1"),
    "splits of one data set": ("train/wav/ann/fr/v1/1.wav", "test/jpg/ann/fr/v1/1.jpg", "ann", "fr", "v1"),
    "splits below the sides": ("voices/train/ann/v1/1.wav", "faces/test/ann/v1/1.jpg", "ann", "", "v1"),
    "languages first": ("voices/Hindi/ann/v1/1.wav", "faces/Hindi/ann/v1/1.jpg", "ann", "Hindi", "v1"),
    "codes of languages": ("voices/ann/pt-BR/v1/1.wav", "faces/ann/pt-BR/v1/1.jpg", "ann", "pt-BR", "v1"),
    "languages by their own names": (
        "voices/ann/Deutsch/v1/1.wav",
        "faces/ann/Deutsch/v1/1.jpg",
        "ann",
        "Deutsch",
        "v1",
    ),
    "MAV-Celeb v4": ("voices/Bangla/id007/1.wav", "faces/Bangla/id007/1.jpg", "id007", "Bangla", ""),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_layout_is_recognised_by_all_of_its_paths(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice, face, identity, language, video = FOLDERS[name]
    voice_and_face(tmp_path, voice, face)
    assert main(["prepare", str(tmp_path), "--show"]) == 0
    shown = capsys.readouterr().out
    example = f"identity {identity}, language {language or '(none)'}, video {video or '(none)'}"
    assert f"  {voice}: {example}" in shown
    assert f"  {face}: {example}" in shown
    assert not list(tmp_path.glob("*manifest*"))  # --show writes nothing
    assert main(["prepare", str(tmp_path), "--workers", "1"]) == 0
    table = pd.read_csv(tmp_path / "manifest.csv", keep_default_na=False)
    assert table[["voice", "face", "identity", "language", "video"]].to_numpy().tolist() == [[*FOLDERS[name]]]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["Ann/v1/audio.wav", "Ann/v1/frame1.jpg", "Bob/v1/audio.wav", "Bob/v1/frame1.jpg"], "in no known layout"),
        (["Ann/en/v1/00000.wav", "Ann/en/v1/00000.jpg"], "in no known layout"),
        (["voices/session1/Ann/v1/1.wav", "faces/session1/Ann/v1/1.jpg"], "in no known layout"),
        (["id0001/s1/v1/1.wav", "id0001/s1/v1/1.jpg"], "in no known layout"),
        (["voices/English/1.wav", "faces/English/1.jpg"], "in no known layout"),
        (["voices/train/ann/1.wav", "faces/train/ann/1.jpg"], "in no known layout"),
        (["English/voices/ann/v/1.wav", "English/faces/ann/v/1.jpg"], "a language stands above"),
        (["v1/audio.wav", "v1/face.jpg"], "in no known layout"),
        (["ann.wav", "ann.jpg"], "in no known layout"),
        (
            ["voices/id1/en/v/1.wav", "faces/id1/en/v/1.jpg", "voices/English/1.wav"],
            "fits all but 1 of 3",
        ),
        (
            ["v1/voices/id1/en/v/1.wav", "v1/faces/id1/en/v/1.jpg", "v2/voices/id1/en/v/1.wav"],
            "2 data sets side by side",
        ),
        (["voices/Ann/en/v/1.wav", "faces/ann/en/v/1.jpg"], "identity 'Ann' and 'ann' differ only in case"),
        (["voices/Ann/en/v/1.wav", "faces/Ann\u200b/en/v/1.jpg"], r"identity 'Ann' and 'Ann\u200b' differ only"),
        (["voices/ann/English/1.wav", "faces/ann/Hindi/1.jpg"], "languages stand where"),
        (["voices/id1/en/v/1.wav", "faces/id1/en/v/1.jpg", "b/voices/id1/en/v/1.wav"], "side by side (., b)"),
    ],
)
def test_other_trees_are_refused(
    files: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, file in enumerate(files):
        (tone if file.endswith("wav") else patch)(tmp_path / file, number, 0)
    assert main(["prepare", str(tmp_path), "--workers", "1"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert "--pattern" in error or "differ" in error or "side by side" in error
    assert not list(tmp_path.glob("*manifest*"))


def empty(root: Path, *files: str) -> list[str]:
    """Files without content, of which only the names matter; voices and faces below each folder."""
    made = [f"{name}.{ending}" for name in files for ending in ("wav", "jpg")]
    for name in made:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return made


@pytest.mark.parametrize(
    ("files", "patterns", "refused"),
    [
        (["v1/x/id1/a/1", "v2/x/id1/a/1"], ["{any}/{identity}/{video}/{file}"], True),
        (["v1/x/id1/a/1", "v2/x/id1/a/1"], ["{identity}/{video}/{file}"], True),
        (["v1/id1_1", "v2/id1_2"], ["{any}/{identity}_{any}"], True),
        (["v1/id1/a/1", "v2/id1/a/1"], ["v1/{identity}/{video}/{file}", "v2/{identity}/{video}/{file}"], False),
        (["v1/id1/a/1", "v2/id2/a/1"], ["{any}/{identity}/{video}/{file}"], False),
        (["train/id1/a/1", "test/id1/b/1"], ["{any}/{identity}/{video}/{file}"], False),
        (["day1/ann/1", "day2/ann/1"], ["{video}/{identity}/{file}"], False),
        (["ann/day1/x/1", "ann/day2/x/1"], ["{identity}/{any}/x/{file}"], False),
    ],
)
def test_patterns_keep_data_sets_side_by_side_apart(
    files: list[str], patterns: list[str], refused: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty(tmp_path, *files)
    status = main(["prepare", str(tmp_path), "--show", *(f"--pattern={pattern}" for pattern in patterns)])
    said = capsys.readouterr()
    assert status == (2 if refused else 0), said
    assert ("for one identity, in folders that may be two data sets; write {video}" in said.err) is refused


def test_a_folder_of_two_names_is_read_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    empty(root, "voices/bob/v/1", "faces/bob/v/1")
    empty(elsewhere, "v/1")
    (root / "voices" / "ann").symlink_to(elsewhere)  # out of the root: another place for its files
    (root / "voices" / "anna").symlink_to(elsewhere)
    (root / "faces" / "b").symlink_to("bob")  # sorted before it
    (root / "faces" / "bob" / "up").symlink_to(root)
    (elsewhere / "v" / "back").symlink_to(root / "voices" / "bob" / "v")
    unread: dict[str, str] = {}
    paths = [path for path, _ in list_files(root, unread)]
    people = ("voices/ann", "voices/bob", "faces/bob")
    assert sorted(paths) == sorted(f"{who}/v/1.{ending}" for who in people for ending in ("wav", "jpg"))
    assert unread == {
        "voices/ann/v/back": "is the same folder as voices/bob/v",
        "voices/anna": "is the same folder as voices/ann",
        "faces/b": "is the same folder as faces/bob",
    }


def test_show_counts_splits_and_identities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty(tmp_path, *(f"id{i}/v/{j}" for i in range(20) for j in range(i + 1)))
    assert main(["prepare", str(tmp_path), "--show"]) == 0
    said = capsys.readouterr().out
    assert "20 identities, the smallest and largest:\n  id0: 1 voice, 1 face\n" in said
    assert "  id19: 20 voices, 20 faces\n" in said
    assert "id7" not in said
    assert "split" not in said
    empty(tmp_path / "test", "id20/v/1")
    assert main(["prepare", str(tmp_path), "--show"]) == 0
    said = capsys.readouterr().out
    assert "split (none): 20 identities, 210 voices, 210 faces\nsplit test: 1 identity, 1 voice, 1 face" in said


def test_mavceleb_with_its_lists_has_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_training(tmp_path, "v1", ("English",), people=2, clips=1)  # type: ignore[arg-type]
    deep = tmp_path / "of" / "other" / "folders"
    deep.mkdir(parents=True)
    (tmp_path / "v1").rename(deep / "v1")
    for root in (tmp_path, deep, deep / "v1"):
        assert main(["prepare", str(root)]) == 2
        assert "train with --config v1_eng.yaml and MAVCELEB_ROOT" in capsys.readouterr().err
    pattern = "--pattern={identity}/{language}/{video}/{file}"
    assert main(["prepare", str(tmp_path), "--show", pattern]) == 0
    assert "English_train.txt: is a list of MAV-Celeb, which is not followed" in capsys.readouterr().out
