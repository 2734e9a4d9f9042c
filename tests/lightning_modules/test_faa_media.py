"""On synthetic wav and jpg, to scored trials: FAA, and FOP's fusion on the SCC network ([SCC] Table 3)."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import pytest
import torch

from datamodules.media.manifest import ManifestDataModule
from datamodules.media.module import MediaOptions
from datamodules.schema import DataError
from lightning_modules.base import AssociationModule
from lightning_modules.faa import FAA
from lightning_modules.fop import FOP
from lightning_modules.networks.cavmae import CAVMAE
from lightning_modules.networks.matching import MatchingEncoder
from lightning_modules.networks.weights import read_state_dict
from tests.datamodules.media_tree import patch, tone
from tests.lightning_modules.tiny import trainer

NETWORK = partial(CAVMAE, width=24, depth=1, heads=3, frames=48, image_size=32)
PEOPLE, CLIPS = 10, 4


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of each person, two clips of each video; nothing but the tests reads the identities."""
    root = tmp_path_factory.mktemp("videos")
    with (root / "clips.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["voice", "face", "identity", "language", "video"])
        for person in range(PEOPLE):
            for clip in range(CLIPS):
                name = f"p{person}v{clip // 2}c{clip}"
                tone(root / f"{name}.wav", person, clip)
                patch(root / f"{name}.jpg", person, clip)
                writer.writerow([f"{name}.wav", f"{name}.jpg", f"p{person}", "en", f"p{person}v{clip // 2}"])
    return root / "clips.csv"


def data(manifest: Path) -> ManifestDataModule:
    options = MediaOptions(frames=48, image_size=32, colour=0.0)
    return ManifestDataModule(
        str(manifest), ["en"], val_identities=4, val_trials=40, media=options, batch_size=12, eval_batch_size=16
    )


def faa() -> FAA:
    matching = partial(MatchingEncoder, width=16, depth=1, heads=2)
    return FAA((128, 3), network=NETWORK, matching=matching, clusters=[6], learnt_from=0, scoring="matching")


def fop() -> FOP:
    return FOP((128, 3), 6, network=NETWORK, embedding_dim=16, fusion="linear")


@pytest.mark.parametrize("make", [faa, fop])
def test_trains_from_files(make: type[AssociationModule], manifest: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, run = make(), trainer(tmp_path, max_epochs=2)
    before = {name: value.clone() for name, value in model.named_parameters()}
    run.fit(model, data(manifest))
    assert 0 <= float(run.callback_metrics["val/eer"]) <= 1
    # every part learns: branches of both modalities, the shared block, and what stands on the network
    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters() if value.ndim > 1)


def test_fop_keeps_the_officials_keys_unless_it_stands_on_a_network(tmp_path: Path) -> None:
    own = set(fop().state_dict())
    assert {"fusion_layer.weight", "logits_layer.weight", "network.norm_a.weight"} <= own
    torch.save(fop().state_dict(), tmp_path / "w.pt")
    again = FOP((128, 3), 6, network=NETWORK, embedding_dim=16, fusion="linear", weights=str(tmp_path / "w.pt"))
    saved = read_state_dict(tmp_path / "w.pt")
    assert all(torch.equal(value, saved[name]) for name, value in again.state_dict().items())
    assert not any(name.startswith("network.") for name in FOP((8, 9), 6).state_dict())


def test_files_have_no_embeddings_of_encoders_to_cluster(manifest: Path, tmp_path: Path) -> None:
    model = FAA((128, 3), network=NETWORK, matching=None)
    with pytest.raises(DataError, match=r"set model\.learnt_from to 0"):
        trainer(tmp_path, max_epochs=1, limit_val_batches=0).fit(model, data(manifest))
