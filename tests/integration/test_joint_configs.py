"""``v1_*_joint.yaml`` by command, on small trees in MAV-Celeb's layout and embeddings, from VoxCeleb1's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from datamodules.io.trials import write_trials
from datamodules.sampling.trials import make_trials
from datamodules.schema import Items
from experiments.config.files import packaged
from experiments.run import main
from lightning_modules.networks.weights import learnt_of
from tests.datamodules.media_tree import make_test, make_training
from tests.faults.worlds import refusal

QUICK = ["--logger=null", "--pictures=false", "--trainer.enable_progress_bar=false", "--trainer.max_epochs=1"]
QUICK += ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.precision=32", "--data.steps_per_epoch=3"]
PEOPLE = 16


def embeddings(folder: Path, name: str, languages: tuple[str, ...], seed: int) -> None:
    """``NAME_voices_ecapa192.npz`` and ``NAME_faces_facenet512.npz`` of a few people in some languages."""
    rng, rows = np.random.default_rng(seed), []
    for person in range(1, PEOPLE + 1):
        rows += [(f"id{person:04d}", language, f"v{clip}", f"{clip}") for language in languages for clip in range(4)]
    columns = dict(zip(("identity", "language", "video", "item"), np.array(rows).T, strict=True))
    for file, width in (("voices_ecapa192", 192), ("faces_facenet512", 512)):
        x = rng.normal(size=(len(rows), width)).astype(np.float32)
        np.savez(folder / f"{name}_{file}.npz", x=x, **columns)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of v1, v2 and VoxCeleb1 with clashing ids, and the lists of the V1 dev protocol."""
    root = tmp_path_factory.mktemp("data")
    (folder := root / "mavceleb" / "trials").mkdir(parents=True)
    embeddings(root / "mavceleb", "v1", ("English", "Urdu"), 1)
    embeddings(root / "mavceleb", "v2", ("English", "Hindi"), 2)
    tested = [f"id{person:04d}" for person in range(1, 5)]
    (folder / "folds.json").write_text(json.dumps({"0": tested}))
    rows = "".join(f"id{person:04d},{'mf'[person % 2]}\n" for person in range(1, PEOPLE + 1))
    (root / "mavceleb" / "v1_gender.csv").write_text(f"identity,gender\n{rows}")
    for language in ("English", "Urdu"):
        names = np.repeat(tested, 4)
        ids = np.array([f"{name}/{language}/v{clip}/{clip}" for name in tested for clip in range(4)])
        items = Items(ids, names, *(np.full(len(names), "") for _ in range(3)))
        for suffix in ("", "_scrambled", "_natural"):
            write_trials(make_trials(items, items, 40, 0), folder / f"v1_fold0_{language}{suffix}.csv")
    (root / "voxceleb").mkdir()
    meta = ["VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet"]
    meta += [
        f"id1{k:04d}\tPerson_{k}\t{'mf'[k % 2]}\t{('Peru', 'Pakistan', 'India')[max(0, k - 47)]}\tdev"
        for k in range(50)
    ]
    (root / "voxceleb" / "vox1_meta.csv").write_text("\n".join(meta) + "\n")
    (root / "vox").mkdir()
    items = [f"id1{k:04d}/aaaaaaaaaa{video}/00001" for k in range(50) for video in "AB"]
    for name, width in (("voices", 192), ("faces", 512)):
        x = np.random.default_rng(width).normal(size=(len(items), width)).astype(np.float32)
        np.save(root / "vox" / f"{name}.npy", x)
        pd.DataFrame({"item": items}).to_csv(root / "vox" / f"{name}.csv", index=False)
    return root


@pytest.fixture(autouse=True)
def _places(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEFACE_DATA", str(data))
    monkeypatch.setenv("VOXCELEB_FEATURES", str(data / "vox"))


@pytest.fixture(scope="module")
def first_stage(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("vox1") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOICEFACE_DATA", str(data))
        patch.setenv("VOXCELEB_FEATURES", str(data / "vox"))
        assert main(["fit", "--config", "pretrain_vox1_features.yaml", *QUICK, f"--run_dir={run}"]) == 0
    return run / "checkpoints" / "best.ckpt"


def test_english_from_voxceleb(first_stage: Path, tmp_path: Path) -> None:
    learnt = learnt_of(first_stage)
    assert learnt.unlabelled == {"VoxCeleb1": frozenset({"English"})}
    assert not learnt.languages
    run = tmp_path / "run"
    fit = ["fit", "--config", "v1_eng_joint_features.yaml", *QUICK, "--data.sets.v1.init_args.val_identities=2"]
    assert main([*fit, f"--model.weights={first_stage}", f"--run_dir={run}"]) == 0
    results = json.loads((run / "results.json").read_text())
    assert list(results)[:2] == ["heard", "unheard"]
    assert results["languages_unknown"] == ["VoxCeleb1"]  # stated, though none of its clips is taken for Urdu
    learnt = learnt_of(run / "checkpoints" / "best.ckpt")
    assert learnt.languages == {"English", "Hindi"}
    assert {corpus: len(names) for corpus, names in learnt.training.items()} == {
        "MAV-Celeb v1": PEOPLE - 4 - 2,
        "MAV-Celeb v2": PEOPLE,
        "VoxCeleb1": 48 - 40,
    }


@pytest.mark.slow
def test_urdu_from_voxceleb_needs_a_word(first_stage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["fit", "--config", "v1_urdu_joint_features.yaml", *QUICK, "--data.sets.v1.init_args.val_identities=2"]
    fit += [f"--model.weights={first_stage}"]
    line = refusal([*fit, f"--run_dir={tmp_path / 'refused'}"], capsys)
    assert (
        "the weights were trained on English, but data.test.unheard is a test of unheard English; nothing says" in line
    )
    assert "clips of VoxCeleb1 are in: list it, or say data.languages_unknown: allow" in line
    run = tmp_path / "run"
    assert main([*fit, "--data.languages_unknown=allow", f"--run_dir={run}"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Nothing says in which language some training clips are" in printed
    assert json.loads((run / "results.json").read_text())["languages_unknown"] == ["VoxCeleb1"]
    best = run / "checkpoints" / "best.ckpt"
    assert learnt_of(best).languages == {"Urdu", "Hindi"}
    again = ["test", "--config", str(run / "config.yaml"), f"--ckpt_path={best}", f"--run_dir={tmp_path / 'again'}"]
    assert main(again) == 0
    assert "languages_unknown: allow" in refusal([*again, "--data.languages_unknown=refuse"], capsys)
    for folder in (run, tmp_path / "again"):  # the report reads the set that is tested
        assert main(["report", str(folder), "--out", str(tmp_path / f"{folder.name}.html")]) == 0
    page = (tmp_path / "run.html").read_text()
    assert "Nothing says in which language some training clips are" in page
    assert "MAV-Celeb V1" in page
    assert main(["export", str(run), "--out", str(tmp_path / "export")]) == 0
    assert "Nothing says in which language some of the clips are, of VoxCeleb1" in " ".join(
        (tmp_path / "export" / "README.md").read_text().split()
    )


def test_a_language_that_is_not_allowed_in_another_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["fit", "--config", "v1_urdu_joint_features.yaml", *QUICK, f"--run_dir={tmp_path / 'run'}"]
    line = refusal([*fit, "--data.sets.v2.init_args.train_languages=[English,Hindi]"], capsys)
    assert "data.test.unheard: contains English voices, training uses Urdu, English, Hindi" in line


@pytest.mark.slow
@pytest.mark.parametrize("config", ["v1_eng_joint", "v1_urdu_joint"])
def test_media(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_training(tmp_path, "v1", ("English", "Urdu"), people=10, clips=3)
    make_training(tmp_path, "v2", ("English", "Hindi"), people=10, clips=3)
    for language in ("English", "Urdu"):
        make_test(tmp_path / "v1", language, f"voices/{language}", f"faces/{language}", people=6, clips=2)
    monkeypatch.setenv("MAVCELEB_ROOT", str(tmp_path))
    tiny = ["--model.network.width=24", "--model.network.depth=1", "--model.network.heads=3"]
    tiny += [
        "--model.network.frames=48",
        "--model.network.image_size=32",
        "--data.batch_size=8",
        "--data.num_workers=0",
    ]
    sets: dict[str, Any] = yaml.safe_load((packaged() / "data" / f"{config}_media.yaml").read_text())["init_args"][
        "sets"
    ]
    for name in sets:
        tiny += [
            f"--data.sets.{name}.init_args.media.{key}={size}" for key, size in (("frames", 48), ("image_size", 32))
        ]
    tiny += ["--data.sets.v1.init_args.val_identities=4", "--data.sets.v1.init_args.val_trials=20"]
    run = tmp_path / "run"
    assert main(["fit", "--config", f"{config}.yaml", *QUICK, *tiny, f"--run_dir={run}"]) == 0
    scores = pd.read_parquet(run / "scores.parquet")
    assert set(scores["cell"]) == {"heard", "unheard"}
    learnt = learnt_of(run / "checkpoints" / "best.ckpt")
    assert {corpus: len(names) for corpus, names in learnt.training.items()} == {"MAV-Celeb v1": 6, "MAV-Celeb v2": 10}
    assert learnt.languages == ({"English", "Hindi"} if "eng" in config else {"Urdu", "Hindi"})
    assert main(["export", str(run), "--out", str(tmp_path / "export")]) == 0
