"""CAV-MAE's file, pre-training on VoxCeleb1, MAV-Celeb from its weights: by the command line, tiny, synthetic media."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from experiments.config.files import packaged
from experiments.run import main
from lightning_modules.networks.weights import learnt_of
from tests.datamodules.media_tree import make_test, make_training, mavceleb, patch, tone
from tests.lightning_modules.cavmae_restated import cavmae_state

NETWORK = """
model:
  class_path: lightning_modules.SCC
  init_args:
    network:
      class_path: lightning_modules.CAVMAE
      init_args: {width: 24, depth: 11, heads: 3, frames: 48, image_size: 32}
    tau: 0.1
trainer: {accelerator: cpu, devices: 1, max_epochs: 1, num_sanity_val_steps: 0, enable_progress_bar: false}
postproc: {steps: []}
pictures: false
"""
SMALL = "media: {frames: 48, image_size: 32}, batch_size: 4, val_identities: 2, val_trials: 20, steps_per_epoch: 3"


def write_voxceleb(root: Path) -> None:
    """A tree in VoxCeleb1's layout: voices by id, cropped faces by name."""
    meta = ["VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet"]
    for k in range(8):
        meta.append(f"id1{k:04d}\tPerson_{k}\t{'mf'[k % 2]}\t{'Pakistan' if k == 7 else 'Peru'}\tdev")
        for video in ("aaaaaaaaaaa", "bbbbbbbbbbb"):
            tone(root / f"wav/id1{k:04d}/{video}/00001.wav", k, 0)
            patch(root / f"faces/Person_{k}/1.6/{video}/0000025.jpg", k, 0)
    (root / "vox1_meta.csv").write_text("\n".join(meta) + "\n")


@pytest.fixture(scope="module")
def cavmae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-trained file as CAV-MAE leaves it: 647 keys under ``module.``, 1024 frames; narrow."""
    state = cavmae_state(24, 11, 1024, 32, decoder=True)
    assert len(state) == 647
    path = tmp_path_factory.mktemp("cavmae") / "audio_model.pth"
    torch.save({f"module.{key}": value for key, value in state.items()}, path)
    return path


@pytest.fixture(scope="module")
def stage_one(cavmae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of pre-training, which starts from CAV-MAE."""
    root = tmp_path_factory.mktemp("vox")
    write_voxceleb(root)
    assert main(["prepare", str(root), "--people", str(root / "vox1_meta.csv"), "--workers", "1"]) == 0
    config = root / "pretrain.yaml"
    data = f"manifest: {root}/manifest.csv, lists: {root}, split: null, exclude_nationalities: [Pakistan], {SMALL}"
    config.write_text(f"{NETWORK}\ndata:\n  class_path: datamodules.VoxCelebDataModule\n  init_args: {{{data}}}\n")
    run = [f"--run_dir={root}/run", f"--model.weights={cavmae}", "--no-test"]
    assert main(["fit", "--config", str(config), *run]) == 0
    return root / "run" / "checkpoints" / "last.ckpt"


def second(folder: Path, language: str, weights: Path) -> int:
    """Fits MAV-Celeb v1 from weights."""
    if not (folder / "v1").exists():
        mavceleb(folder)
    config = folder / f"{language}.yaml"
    data = f"version: v1, train_language: {language}, root: {folder}, {SMALL}"
    config.write_text(f"{NETWORK}\ndata:\n  class_path: datamodules.MAVCelebDataModule\n  init_args: {{{data}}}\n")
    run = [f"--run_dir={folder}/{language}", f"--model.weights={weights}", "--no-test"]
    return main(["fit", "--config", str(config), *run])


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> float:
    """Relative change of a matrix of the shared block; other random weights would be about 1.4 away."""
    old, new = (state["blocks_u.0.mlp.fc1.weight"] for state in (before, after))
    return float((new - old).norm() / old.norm())


def network(path: Path) -> dict[str, torch.Tensor]:
    """The network of a file."""
    state = torch.load(path, weights_only=True)
    state = state.get("state_dict", state)
    return {key.removeprefix("module.").removeprefix("network."): value for key, value in state.items()}


def test_each_stage_starts_where_the_one_before_ended(cavmae: Path, stage_one: Path, tmp_path: Path) -> None:
    assert 0 < moved(network(cavmae), network(stage_one)) < 0.5
    assert torch.load(stage_one, weights_only=True)["languages"] == ["English"]
    assert second(tmp_path, "English", stage_one) == 0
    last = tmp_path / "English" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["languages"] == ["English"]
    assert 0 < moved(network(stage_one), network(last)) < 0.5


def test_the_second_stage_takes_cavmaes_file_itself(cavmae: Path, tmp_path: Path) -> None:
    """It was trained on no language of the data: either may be called unheard."""
    assert second(tmp_path, "Urdu", cavmae) == 0
    assert 0 < moved(network(cavmae), network(tmp_path / "Urdu" / "checkpoints" / "last.ckpt")) < 0.5


def test_weights_that_have_heard_the_unheard_language_are_refused(
    stage_one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert second(tmp_path, "Urdu", stage_one) == 2
    said = capsys.readouterr().err
    assert "the weights were trained on English, but data.test.unheard is a test of unheard English" in said
    assert not (tmp_path / "Urdu" / "checkpoints" / "last.ckpt").exists()


def test_what_cavmae_has_learnt_from_is_for_the_user_to_say(
    cavmae: Path, stage_one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its file has no record, and the second stage is told so of the first."""
    assert learnt_of(stage_one).unrecorded == {cavmae.name}
    mavceleb(tmp_path)
    labels = "{English: v1/English_labels.txt, Urdu: v1/Urdu_labels.txt}"
    data = f"version: v1, train_language: English, root: {tmp_path}, labels: {labels}, {SMALL}"
    config = tmp_path / "labelled.yaml"
    config.write_text(f"{NETWORK}\ndata:\n  class_path: datamodules.MAVCelebDataModule\n  init_args: {{{data}}}\n")
    for option in (f"--model.weights={stage_one}", f"--model.network.init_args.checkpoint={cavmae}"):
        command = ["fit", "--config", str(config), f"--run_dir={tmp_path / 'run'}", option]
        assert main(command) == 2
        assert f"{cavmae.name}: nothing says whom these weights have learnt from" in capsys.readouterr().err
    assert main([*command, f"--trust_weights=[{cavmae}]", f"--run_dir={tmp_path / 'trusted'}"]) == 0
    assert json.loads((tmp_path / "trusted" / "results.json").read_text())["trusted_weights"] == [cavmae.name]


def test_a_second_stage_on_several_data_sets(stage_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sets of ``v1_eng_joint.yaml``: MAV-Celeb v1 English, v2 English and v2 Hindi."""
    for version, language in (("v1", "Urdu"), ("v2", "Hindi")):
        make_training(tmp_path, version, ("English", language), people=6, clips=3)
    for language in ("English", "Urdu"):
        make_test(tmp_path / "v1", language, f"voices/{language}", f"faces/{language}", people=4, clips=2)
    monkeypatch.setenv("MAVCELEB_ROOT", str(tmp_path))
    config = tmp_path / "joint.yaml"
    config.write_text(f"{NETWORK}\ndata: {packaged() / 'data' / 'v1_eng_joint_media.yaml'}\n")
    small = {"batch_size": 4, "steps_per_epoch": 3, "num_workers": 0, "sets.v1.init_args.val_identities": 2}
    small |= {
        f"sets.{name}.init_args.media.{key}": size
        for name in ("v1", "v2_english", "v2_hindi")
        for key, size in (("frames", 48), ("image_size", 32))
    }
    run = tmp_path / "run"
    options = [f"--run_dir={run}", f"--model.weights={stage_one}", "--trust_weights=[audio_model.pth]"]
    assert main(["fit", "--config", str(config), *options, *(f"--data.{k}={v}" for k, v in small.items())]) == 0
    last = run / "checkpoints" / "last.ckpt"
    assert 0 < moved(network(stage_one), network(last)) < 0.5
    learnt = learnt_of(last)
    assert {corpus: len(names) for corpus, names in learnt.training.items()} == {
        "MAV-Celeb v1": 4,
        "MAV-Celeb v2": 6,
        "VoxCeleb1": 5,
    }
    assert set(pd.read_parquet(run / "scores.parquet")["cell"]) == {"heard", "unheard"}
