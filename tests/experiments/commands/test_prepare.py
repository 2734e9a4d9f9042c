"""``prepare``: broken files, resuming, m4a, and manifests that the data modules read."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from datamodules.endings import READ
from datamodules.media.manifest import ManifestDataModule
from datamodules.media.module import MediaOptions
from datamodules.prepare import manifest as prepare
from datamodules.schema import MODALITIES
from experiments.run import main
from tests.datamodules.media_tree import make_training, patch, tone, voice_and_face


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make_training(tmp_path, "v1", ("English",), people=6, clips=4)  # type: ignore[arg-type]
    (tmp_path / "v1" / "English_train.txt").unlink()
    return tmp_path / "v1"


def test_mavceleb_tree_becomes_a_manifest_that_trains(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = tree.rename(tree.with_name("my v1"))
    assert main(["prepare", str(tree), "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "24 clips of 6 identities, 24 voices" in said
    assert f"next: python -m experiments.run embed --manifest '{tree}/manifest.csv' --out my_data --voice" in said
    table = pd.read_csv(tree / "manifest.csv")
    assert (table["voice_seconds"] == 0.5).all()
    assert (table["voice_rate"] == 16_000).all()
    assert (table["face_width"] == 48).all()
    assert set(table["language"]) == {"English"}
    assert not (tree / ".manifest.csv.parts").exists()
    data = ManifestDataModule(
        str(tree / "manifest.csv"), ["English"], val_identities=2, val_trials=20,
        media=MediaOptions(frames=32, image_size=32), batch_size=4,
    )  # fmt: skip
    data.setup("fit")
    assert data.num_identities == 4
    assert next(iter(data.train_dataloader()))["face"].shape == (4, 3, 32, 32)


def test_broken_files_are_named_and_fail(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voices, faces = (
        sorted((tree / kind).rglob("*.*g" if kind == "faces" else "*.wav")) for kind in ("voices", "faces")
    )
    voices[0].write_bytes(b"")
    voices[1].write_bytes(b"no wav")
    voices[2].write_bytes(voices[3].read_bytes()[:-400])
    faces[0].write_bytes(faces[1].read_bytes()[:-40])
    assert main(["prepare", str(tree), "--workers", "1"]) == 1
    said = (tree / "manifest.broken.txt").read_text().splitlines()
    assert len(said) == 4
    for path, why in (
        (voices[0], "empty"),
        (voices[1], "not readable as audio"),
        (voices[2], "truncated"),
        (faces[0], ""),
    ):
        assert any(line.startswith(f"{path.relative_to(tree)}: ") and why in line for line in said)
    assert "4 broken files" in capsys.readouterr().err
    table = pd.read_csv(tree / "manifest.csv")
    assert len(table) >= 21
    assert str(voices[0].relative_to(tree)) not in set(table["voice"])
    assert main(["prepare", str(tree), "--workers", "1", "--allow-broken"]) == 0


def test_silence_is_found_where_files_are_decoded(tree: Path) -> None:
    import soundfile

    path = next((tree / "voices").rglob("*.wav"))
    soundfile.write(path, np.zeros(8000), 16_000)
    assert main(["prepare", str(tree), "--workers", "1"]) == 0
    assert main(["prepare", str(tree), "--workers", "1", "--decode"]) == 1
    assert "silent audio" in (tree / "manifest.broken.txt").read_text()


def test_a_killed_run_goes_on(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [(str(path.relative_to(tree)), "voice") for path in sorted((tree / "voices").rglob("*.wav"))]
    parts = tree / "parts"
    monkeypatch.setattr(prepare, "_BATCH", 5)
    monkeypatch.setattr(prepare, "_PART", 5)

    def stop(count: int) -> None:
        told.append(count)
        if sum(told) >= 15:
            raise KeyboardInterrupt

    told: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        prepare.check_files(tree, files, parts, 1, report=stop)  # type: ignore[arg-type]
    (tree / files[0][0]).write_bytes(b"changed since")
    told = []
    found = prepare.check_files(tree, files, parts, 1, report=told.append)  # type: ignore[arg-type]
    assert told[0] == 9  # two saved parts, less the file that has changed
    assert found["path"].tolist() == [path for path, _ in files]
    assert found["problem"].tolist() == ["not readable as audio (Error opening it: Format not recognised.)", *[""] * 23]


def test_voxceleb_voices_by_id_and_faces_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = "id10001\tAnn_O.\tf\tPeru\tdev\nid10002\tBo\tm\tChad\tdev\n"
    (tmp_path / "meta.tsv").write_text(f"VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n{people}")
    for clip in range(2):
        tone(tmp_path / f"wav/id10001/aaaaaaaaaaa/{clip:05d}.wav", 1, clip)
        tone(tmp_path / f"wav/id10002/bbbbbbbbbbb/{clip:05d}.wav", 2, clip)
    patch(tmp_path / "faces/Ann_O./1.6/aaaaaaaaaaa/0000025.jpg", 1, 0)
    patch(tmp_path / "frontal/Bo/00000550.jpg", 2, 0)
    assert main(["prepare", str(tmp_path), "--workers", "1"]) == 2
    assert "--people vox1_meta.csv" in capsys.readouterr().err
    assert main(["prepare", str(tmp_path), "--workers", "1", "--people", str(tmp_path / "meta.tsv")]) == 0
    table = pd.read_csv(tmp_path / "manifest.csv", keep_default_na=False)
    assert table[["identity", "video", "gender"]].to_numpy().tolist() == [
        *[["id10001", "aaaaaaaaaaa", "F"]] * 2,
        *[["id10002", "", "M"]] * 2,
    ]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_m4a_is_converted_once(tree: Path) -> None:
    wav = next((tree / "voices").rglob("*.wav"))
    m4a = wav.with_suffix(".m4a")
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(wav), str(m4a)], check=True)
    wav.unlink()
    assert main(["prepare", str(tree), "--workers", "1"]) == 0
    assert str(wav.relative_to(tree)) in set(pd.read_csv(tree / "manifest.csv")["voice"])
    made = wav.stat().st_mtime_ns
    assert main(["prepare", str(tree), "--workers", "1"]) == 0
    assert wav.stat().st_mtime_ns == made
    m4a.with_name("bad.m4a").write_bytes(b"nothing")
    assert main(["prepare", str(tree), "--workers", "1"]) == 1
    assert "ffmpeg cannot convert it" in (tree / "manifest.broken.txt").read_text()


def test_no_ffmpeg_is_one_line(tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    next((tree / "voices").rglob("*.wav")).with_name("x.m4a").write_bytes(b"m4a")
    monkeypatch.setenv("PATH", str(tree))
    assert main(["prepare", str(tree), "--workers", "1"]) == 2
    assert "x.m4a must be made wav, and ffmpeg is not on the PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "said"), [(lambda p: p / "none", "there is no such folder"), (lambda p: p, "holds no voice and no face")]
)
def test_nothing_to_prepare(tmp_path: Path, make: object, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", str(make(tmp_path))]) == 2  # type: ignore[operator]
    assert said in capsys.readouterr().err


def test_every_format_that_is_read_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A voice of each format and a face of each; the tables that train read them."""
    import soundfile

    formats = {"aif": "AIFF", "aiff": "AIFF", "opus": "OGG"}
    voices, faces = (sorted(READ[side]) for side in MODALITIES)
    assert {".aiff", ".au", ".caf"} < {*voices}
    assert {".tif", ".tiff"} < {*faces}
    for i in range(max(len(voices), len(faces))):
        voice, face = voices[i % len(voices)], faces[i % len(faces)]
        folder = tmp_path / "clips" / f"p{i % 3}" / f"v{i}"
        folder.mkdir(parents=True)
        form = formats.get(voice[1:], voice[1:].upper())
        sound = 0.1 * np.random.default_rng(i).normal(size=8000).astype(np.float32)
        soundfile.write(folder / f"a{voice}", sound, 16_000, format=form, subtype="OPUS" if voice == ".opus" else None)
        Image.fromarray(np.full((40, 30, 3), 20 * i, np.uint8)).save(folder / f"a{face}")
    pattern = "{identity}/{video}/{file}"
    assert main(["prepare", str(tmp_path / "clips"), "--pattern", pattern, "--workers", "1"]) == 0
    table = pd.read_csv(tmp_path / "clips" / "manifest.csv")
    assert {Path(path).suffix for path in table["voice"]} == {*voices}
    assert {Path(path).suffix for path in table["face"]} == {*faces}
    assert (table["voice_rate"] == 16_000).sum() >= len(voices) - 1  # opus says 48 kHz of whatever it holds
    assert (table["face_height"] == 40).all()
    data = ManifestDataModule(
        str(tmp_path / "clips" / "manifest.csv"), [""], val_identities=0,
        media=MediaOptions(frames=32, image_size=32), batch_size=3,
    )  # fmt: skip
    data.setup("fit")
    assert {b["voice"].shape[0] for b in data.train_dataloader()} == {3}


def test_files_of_other_kinds_and_patterns_without_a_match_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice_and_face(tmp_path, "voices/ann/fr/v/1.wav", "faces/ann/fr/v/1.jpg")
    (tmp_path / "voices/ann/fr/v/2.wma").write_bytes(b"wma")
    assert main(["prepare", str(tmp_path), "--workers", "1"]) == 0
    assert "unread: voices/ann/fr/v/2.wma: its kind is not read; convert it" in capsys.readouterr().err
    assert main(["prepare", str(tmp_path), "--show", "--pattern", "{identity}-{any}.wav"]) == 2
    assert "--pattern {identity}-{any}.wav: matches none of 2 files" in capsys.readouterr().err


def test_composed_and_decomposed_folders_are_one_identity(tmp_path: Path) -> None:
    voice_and_face(tmp_path, "voices/Zo\u00eb/fr/v/1.wav", "faces/Zoe\u0308/fr/v/1.jpg")
    assert main(["prepare", str(tmp_path), "--workers", "1"]) == 0
    assert pd.read_csv(tmp_path / "manifest.csv")["identity"].tolist() == ["Zo\u00eb"]


def test_composed_and_decomposed_videos_are_one(tmp_path: Path) -> None:
    voice_and_face(tmp_path, "voices/ann/fr/caf\u00e9/1.wav", "faces/ann/fr/cafe\u0301/1.jpg")
    assert main(["prepare", str(tmp_path), "--workers", "1"]) == 0
    assert pd.read_csv(tmp_path / "manifest.csv")["video"].tolist() == ["caf\u00e9"]


@pytest.mark.parametrize(
    ("name", "shown"), [(b"J\xe9", r"J\udce9"), (b"Ann\nLee", r"Ann\nLee"), (b"Ann\xc2\xa0Lee", r"Ann\xa0Lee")]
)
def test_a_name_that_is_not_printed_is_named_and_left_out(
    name: bytes, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest with it would be refused."""
    voice_and_face(tmp_path, "voices/bob/fr/v/1.wav", "faces/bob/fr/v/1.jpg")
    for side in ("voices", "faces"):
        shutil.copytree(tmp_path / side / "bob", os.fsdecode(os.fsencode(tmp_path / side) + b"/" + name))
    why = f"voices/{shown}/fr/v/1.wav: contains an unprintable character; rename it"
    assert main(["prepare", str(tmp_path), "--show"]) == 0
    assert f"left out: {why}" in capsys.readouterr().out
    assert main(["prepare", str(tmp_path), "--workers", "1"]) == 1
    assert f"broken: {why}" in capsys.readouterr().err
    assert (tmp_path / "manifest.broken.txt").read_text().count("\n") == 2
    assert pd.read_csv(tmp_path / "manifest.csv")["identity"].tolist() == ["bob"]


def test_one_language_for_all_and_its_contradiction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voice_and_face(tmp_path / "a", "voices/ann/v/1.wav", "faces/ann/v/1.jpg")
    voice_and_face(tmp_path / "b", "voices/ann/fr/v/1.wav", "faces/ann/fr/v/1.jpg")
    assert main(["prepare", str(tmp_path / "a"), "--workers", "1", "--language", "English "]) == 0
    assert pd.read_csv(tmp_path / "a" / "manifest.csv")["language"].tolist() == ["English"]
    assert main(["prepare", str(tmp_path / "b"), "--language", "English"]) == 2
    assert "the folders name languages" in capsys.readouterr().err


def test_files_without_a_counterpart_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voice_and_face(tmp_path, "voices/ann/fr/v/1.wav", "faces/ann/fr/v/1.jpg")
    tone(tmp_path / "voices/bob/fr/v/1.wav", 1, 0)
    assert main(["prepare", str(tmp_path), "--workers", "1"]) == 0
    assert "unpaired: voices/bob/fr/v/1.wav: no face of bob in fr" in capsys.readouterr().err
    assert (tmp_path / "manifest.unpaired.txt").read_text() == "voices/bob/fr/v/1.wav: no face of bob in fr\n"


@pytest.mark.parametrize(("name", "ok"), [("m.csv", True), ("m.parquet", True), ("m.xlsx", False), ("m", False)])
def test_the_ending_says_the_format(name: str, ok: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voice_and_face(tmp_path, "voices/ann/fr/v/1.wav", "faces/ann/fr/v/1.jpg")
    out = tmp_path / "out" / name
    assert main(["prepare", str(tmp_path), "--workers", "1", "--out", str(out)]) == (0 if ok else 2)
    if ok:
        assert len(pd.read_csv(out) if name.endswith("csv") else pd.read_parquet(out)) == 1
    else:
        assert "is written as .csv or .parquet" in capsys.readouterr().err
