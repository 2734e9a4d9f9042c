"""``embed``: every file once, whole rows only, the same pack from any number of processes, and on after a kill."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datamodules import FeatureDataModule, FeatureFile, JointDataModule, ManifestDataModule
from datamodules.split import SplitDataModule
from experiments.inference.feature_writer import EmbeddingParts, item_key, merge
from experiments.run import main
from tests import warm
from tests.datamodules.media_tree import make_training, patch
from tests.experiments.clips import CLIPS, FACE, PEOPLE, VOICE, make_clips


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def packs(manifest: Path) -> Path:
    """Both packs, made in one process."""
    out = manifest.parent / "packs"
    assert main(["embed", f"--manifest={manifest}", VOICE, FACE, f"--out={out}", "--batch_size=5"]) == 0
    return out


def started(*arguments: str) -> warm.Started:
    return warm.start("embed", *arguments)


def test_packs_hold_each_file_once_and_train_heads(packs: Path, manifest: Path, tmp_path: Path) -> None:
    index = pd.read_csv(packs / "faces.csv")
    assert len(index) == len(np.load(packs / "faces.npy")) == PEOPLE * 2  # of 36 rows
    assert not (packs / "parts").exists()
    voices: list[str | FeatureFile] = [FeatureFile("voices.npy", index="voices.csv")]
    faces: list[str | FeatureFile] = [FeatureFile("faces.npy", index="faces.csv")]
    test_people = f"{manifest}#split=test"
    data = FeatureDataModule(
        voices, faces, ["English"], root=str(packs), exclude_identities=test_people, val_identities=2
    )
    train = data.training_set()
    assert len(train.identities) == PEOPLE - 4 - 2
    assert len(train.identity) == 6 * CLIPS
    assert data.dims == (24, 27)


def test_a_face_of_clips_in_two_languages_pairs_with_both(manifest: Path, tmp_path: Path) -> None:
    """Packs make the pairs that the manifest names, and each file is embedded once."""
    rows = pd.read_csv(manifest)
    rows["language"] = ["English", "Urdu", "Urdu"] * PEOPLE  # the first face of a person serves both
    rows["video"] = [f"{video}{language}" for video, language in zip(rows["video"], rows["language"], strict=True)]
    rows.drop(columns="split").to_csv(tmp_path / "two.csv", index=False)
    log, out = tmp_path / "log", tmp_path / "packs"
    slow = f"--voice.init_args.log={log}"
    root = f"--root={manifest.parent}"
    assert main(["embed", f"--manifest={tmp_path / 'two.csv'}", root, VOICE, slow, FACE, f"--out={out}"]) == 0
    assert len(log.read_text().splitlines()) == PEOPLE * CLIPS
    index = pd.read_csv(out / "faces.csv")
    assert len(index) == len(np.load(out / "faces.npy")) == PEOPLE * CLIPS  # 24 files
    for languages in (["English"], ["English", "Urdu"]):
        options: dict[str, Any] = {"val_identities": 0, "train_languages": languages}
        made = FeatureDataModule(
            [FeatureFile("voices.npy", index="voices.csv")],
            [FeatureFile("faces.npy", index="faces.csv")],
            root=str(out),
            **options,
        )
        named = ManifestDataModule(str(tmp_path / "two.csv"), root=str(manifest.parent), **options)
        pairs = []
        for data in (made, named):
            (voices, faces), train = data.tables, data.training_set()
            pairs.append(set(zip(voices.items.ids[train.voice_rows], faces.items.ids[train.face_rows], strict=True)))
        assert pairs[0] == pairs[1]
        assert len(pairs[0]) == PEOPLE * (1 if languages == ["English"] else 3)


def test_faces_that_are_not_found_are_listed(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tiny faces are patches of colour: no detector finds one."""
    out = tmp_path / "features"
    options = ["--face=encoder/aligned.yaml", f"--face.encoder={FACE.partition('=')[2]}", "--face.upsample=0"]
    assert main(["embed", f"--manifest={manifest}", *options, f"--out={out}"]) == 0
    faces = pd.read_csv(out / "faces.csv")
    assert faces["face_found"].eq(0).all()
    assert (out / "faces_not_found.txt").read_text().splitlines() == faces["item"].tolist()
    said = f"none was found in {len(faces)} of {len(faces)} images, whose middle was taken; see {out}"
    assert said in capsys.readouterr().out
    files: list[str | FeatureFile] = [FeatureFile("faces.npy", index="faces.csv")]
    assert len(FeatureDataModule(files, files, ["English"], root=str(out), val_identities=2).tables[1].items.ids)


def test_a_file_that_was_written_again_is_not_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, out = make_clips(tmp_path / "clips"), tmp_path / "out"
    command = ["embed", f"--manifest={manifest}", FACE, f"--out={out}"]
    assert main(command) == 0
    before = np.load(out / "faces.npy")
    assert main(command) == 0
    again = manifest.parent / "faces/p3/1.png"
    patch(again, 8, 1)
    os.utime(again, ns=(0, time.time_ns() + 10**9))
    assert main(command) == 2
    said = capsys.readouterr().err
    assert f"1 of its files were written again after it, the first is {again}; remove {out / 'faces.npy'}" in said
    (out / "faces.npy").unlink()
    assert main(command) == 0
    row = pd.read_csv(out / "faces.csv")["item"].tolist().index("faces/p3/1.png")
    assert np.flatnonzero((np.load(out / "faces.npy") != before).any(axis=1)).tolist() == [row]


def test_a_file_that_was_written_again_is_embedded_again_when_a_run_goes_on(tmp_path: Path) -> None:
    manifest, out = make_clips(tmp_path / "clips"), tmp_path / "out"
    command = ["embed", f"--manifest={manifest}", FACE, f"--out={out}"]
    assert main(command) == 0
    (out / "faces.npy").unlink()  # as if it had been stopped with all files in its parts
    table = ManifestDataModule(str(manifest), ["any"], root=str(manifest.parent)).tables[1]
    parts = EmbeddingParts(out / "parts" / "face")
    parts.append(table.items.ids.tolist(), np.zeros((len(table.items), 27), dtype=np.float32))
    parts.save()
    os.utime(table.paths[5], ns=(0, time.time_ns() + 10**9))
    assert main(command) == 0
    assert np.flatnonzero(np.load(out / "faces.npy").any(axis=1)).tolist() == [5]


@pytest.mark.processes
def test_two_ranks_make_the_pack_of_one(packs: Path, manifest: Path, tmp_path: Path) -> None:
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
    run = started(f"--manifest={manifest}", VOICE, FACE, f"--out={tmp_path}", "--batch_size=5", *two)
    output, _ = run.communicate(timeout=240)
    assert run.returncode == 0, output[-2000:]
    for name in ("voices", "faces"):
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), np.load(packs / f"{name}.npy"))
        assert (tmp_path / f"{name}.csv").read_bytes() == (packs / f"{name}.csv").read_bytes()


@pytest.mark.processes
def test_a_killed_run_goes_on_and_computes_nothing_twice(packs: Path, manifest: Path, tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    slow = f"--voice.init_args.log={log}", "--voice.init_args.seconds=0.3"
    arguments = [f"--manifest={manifest}", VOICE, *slow, f"--out={out}", "--batch_size=3"]
    run = started(*arguments)
    deadline = time.monotonic() + 200
    while not sum(len(keys) for keys, _ in EmbeddingParts(out / "parts" / "voice").read()) >= 6:
        assert time.monotonic() < deadline
        assert run.poll() is None
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    done = sum(len(keys) for keys, _ in EmbeddingParts(out / "parts" / "voice").read())
    assert 6 <= done < PEOPLE * CLIPS
    log.unlink()
    assert main(["embed", *arguments]) == 0
    assert len(log.read_text().splitlines()) == PEOPLE * CLIPS - done
    np.testing.assert_array_equal(np.load(out / "voices.npy"), np.load(packs / "voices.npy"))
    log.unlink()
    assert main(["embed", *arguments]) == 0  # complete
    assert not log.exists()


def test_what_a_crash_cut_short_or_spoilt_is_not_read(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(5, 400)).astype(np.float32)
    parts = EmbeddingParts(tmp_path)
    for item, row in zip("abc", x, strict=False):
        parts.append([item], row[None])
        parts.save()
    _, spoilt, cut = sorted(tmp_path.glob("*.parquet"))
    content = bytearray(spoilt.read_bytes())
    content[len(content) // 3] ^= 255
    spoilt.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-3])
    ((keys, kept),) = parts.read()
    assert keys.tolist() == [item_key("a")]
    np.testing.assert_array_equal(kept, x[:1])
    parts.append(list("bcd"), x[1:4])
    parts.save()
    (tmp_path / "empty.parquet").touch()
    merge(parts, list("dabc"), tmp_path / "all.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "all.npy"), x[[3, 0, 1, 2]])


def test_errors_are_one_line_and_name_the_file(
    packs: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> str:
        assert main(["embed", *arguments]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ")
        return error

    assert "--voice, --face or both" in said(f"--manifest={manifest}", f"--out={tmp_path}")
    assert "SpectrumVoice encodes voices" in said(
        f"--manifest={manifest}", VOICE.replace("--voice", "--face"), f"--out={tmp_path}"
    )
    assert "did you mean encoder/dlib.yaml" in said(
        f"--manifest={manifest}", "--face=encoder/dlb.yaml", f"--out={tmp_path}"
    )
    assert said(
        f"--manifest={manifest}", "--face=encoder/dlib.yaml", "--face.detector=CentreFaceDetector", f"--out={tmp_path}"
    ) == ("error: face.detector: no class 'CentreFaceDetector'; did you mean lightning_modules.CenterFaceDetector?")
    assert "embedded by another encoder" in said(
        f"--manifest={manifest}", VOICE, "--voice.init_args.seconds=0.01", f"--out={packs}"
    )

    broken = make_clips(tmp_path / "broken")
    assert "holds other files" in said(f"--manifest={broken}", "--columns={face: voice}", FACE, f"--out={packs}")
    (broken.parent / "faces/p3/0.png").write_bytes(b"junk")
    for workers in (0, 1):
        error = said(f"--manifest={broken}", FACE, f"--out={tmp_path / 'o'}", f"--num_workers={workers}")
        assert "faces/p3/0.png: not readable as an image" in error
        assert "Traceback" not in error


def test_two_corpora_with_the_same_names_stay_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has its manifest and its folder; joined, their identities are 2 x 6, in one folder they are refused."""
    sets: dict[str, SplitDataModule] = {}
    for name, voice in (("v1", "English"), ("v2", "Hindi")):
        make_training(tmp_path, name, (voice,), people=6, clips=2)  # type: ignore[arg-type]
        (tmp_path / name / f"{voice}_train.txt").unlink()
        manifest, out = tmp_path / name / "manifest.csv", tmp_path / f"{name}_embedded"
        assert main(["prepare", str(tmp_path / name), "--workers", "1"]) == 0
        assert main(["embed", f"--manifest={manifest}", VOICE, FACE, f"--out={out}"]) == 0
        voices, faces = ([FeatureFile(f"{side}.npy", index=f"{side}.csv")] for side in ("voices", "faces"))
        sets[name] = FeatureDataModule(voices, faces, [voice], root=str(out), val_identities=0, corpus=f"corpus {name}")
    capsys.readouterr()
    other = ["embed", f"--manifest={tmp_path / 'v2' / 'manifest.csv'}", VOICE, FACE]
    assert main([*other, f"--out={tmp_path / 'v1_embedded'}"]) == 2
    assert "v1_embedded" in capsys.readouterr().err
    joint = JointDataModule(sets, test={}, batch_size=4)
    joint.setup("fit")
    train = joint.training_set()
    assert sorted(train.identities.tolist()) == [f"{name}/id000{k}" for name in ("v1", "v2") for k in range(1, 7)]
    assert len(np.unique(joint.tables[0].items.ids)) == 24
    for name in sets:
        assert len(pd.read_csv(tmp_path / f"{name}_embedded" / "voices.csv")) == 12
