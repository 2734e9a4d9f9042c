"""Pre-training on VoxCeleb1, then MAV-Celeb from its weights, by the command line, tiny, on synthetic media."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments.run import main
from tests.datamodules.media_tree import mavceleb, patch, tone

NETWORK = """
model:
  class_path: lightning_modules.SCC
  init_args:
    network:
      class_path: lightning_modules.CAVMAE
      init_args: {width: 24, depth: 1, heads: 3, frames: 48, image_size: 32}
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
def stage_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of pre-training."""
    root = tmp_path_factory.mktemp("vox")
    write_voxceleb(root)
    assert main(["prepare", str(root), "--people", str(root / "vox1_meta.csv"), "--workers", "1"]) == 0
    config = root / "pretrain.yaml"
    data = f"manifest: {root}/manifest.parquet, lists: {root}, split: null, exclude_nationalities: [Pakistan], {SMALL}"
    config.write_text(f"{NETWORK}\ndata:\n  class_path: datamodules.VoxCelebDataModule\n  init_args: {{{data}}}\n")
    assert main(["fit", "--config", str(config), "--no-test", f"--run_dir={root}/run"]) == 0
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


def test_the_second_stage_starts_where_the_first_ended(stage_one: Path, tmp_path: Path) -> None:
    saved = torch.load(stage_one, weights_only=True)
    assert saved["languages"] == ["English"]
    assert second(tmp_path, "English", stage_one) == 0
    after = torch.load(tmp_path / "English" / "checkpoints" / "last.ckpt", weights_only=True)
    assert after["languages"] == ["English"]
    name = "network.blocks_u.0.mlp.fc1.weight"
    moved = (after["state_dict"][name] - saved["state_dict"][name]).norm() / saved["state_dict"][name].norm()
    assert 0 < moved < 0.5  # other random weights would be about 1.4 away


def test_weights_that_have_heard_the_unheard_language_are_refused(
    stage_one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert second(tmp_path, "Urdu", stage_one) == 2
    said = capsys.readouterr().err
    assert "model.weights: were trained on English, but data.test.unheard calls English unheard" in said
    assert not (tmp_path / "Urdu" / "checkpoints" / "last.ckpt").exists()
