"""Heads that start from CCA: its distances before the first step, on any number of ranks; not where a run resumes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.schema import DataError
from datamodules.training_set import TrainingSet
from lightning_modules.networks.cavmae import CAVMAE
from lightning_modules.networks.heads import HeadPair
from lightning_modules.scc import SCC
from tests.lightning_modules.test_cca import cca
from tests.lightning_modules.tiny import DIMS, TinyData, fit_and_test, trainer
from tests.ranks import TwoRanks


def scc(lr: float = 1e-3, **options: Any) -> SCC:
    network = partial(HeadPair, **{"embedding_dim": 4, **options.pop("network", {})})
    optimizer = partial(torch.optim.SGD, lr=lr)
    return SCC(DIMS, network=network, optimizer=optimizer, direction="joint", **{"cca_start": 100.0, **options})


def run_on_rank(folder: Path) -> dict[str, Any]:
    torch.manual_seed(folder.name == "two")
    return fit_and_test(scc, folder, devices=2, strategy="ddp")


def test_untrained_heads_give_the_distances_of_cca(tmp_path: Path) -> None:
    started = fit_and_test(partial(scc, lr=0.0), tmp_path / "heads")
    expected = fit_and_test(cca, tmp_path / "cca")
    np.testing.assert_allclose(started["scores"]["heard"], expected["scores"]["heard"], atol=1e-5)


def test_people_have_length_one_and_training_goes_on_from_there(tmp_path: Path) -> None:
    data, model = TinyData(), scc()
    trainer(tmp_path, max_epochs=5).fit(model, data)
    assert float(model.trainer.callback_metrics["train/loss"]) < np.log(8 * 7) - 1  # that of chance is log(8 * 7)
    start = scc(lr=0.0)
    trainer(tmp_path / "start").fit(start, data)
    for branch, x in zip((start.network.voice_branch, start.network.face_branch), data.train, strict=True):
        means = np.stack([x[data.identity == person].mean(axis=0) for person in range(data.num_identities)])
        with torch.no_grad():
            assert branch(torch.from_numpy(means)).norm(dim=1).mean() == pytest.approx(1, abs=1e-5)


def test_two_ranks_give_the_result_of_one(two_ranks: TwoRanks, tmp_path: Path) -> None:
    expected = fit_and_test(scc, tmp_path / "one")
    for result in two_ranks.run(run_on_rank, tmp_path / "two"):
        np.testing.assert_allclose(result["scores"]["heard"], expected["scores"]["heard"], atol=1e-4)


def test_a_resumed_run_does_not_start_anew(tmp_path: Path) -> None:
    first = trainer(tmp_path, max_epochs=2)
    first.fit(scc(lr=0.3), TinyData())
    first.save_checkpoint(tmp_path / "two.ckpt")
    whole, resumed = scc(lr=0.3), scc(lr=0.3)
    trainer(tmp_path, max_epochs=3).fit(whole, TinyData())
    trainer(tmp_path, max_epochs=3).fit(resumed, TinyData(), ckpt_path=tmp_path / "two.ckpt", weights_only=True)
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight)


class LongData(TinyData):
    """Features of length 2."""

    def training_set(self) -> TrainingSet:
        train = super().training_set()
        train.voices.x *= 2  # type: ignore[attr-defined]
        return train


@pytest.mark.parametrize(
    ("options", "data", "word"),
    [
        ({"network": {"hidden": [8]}}, TinyData, "without hidden layers"),
        ({"network": {"embedding_dim": 13}}, TinyData, "has 12 directions, not the 13"),
        ({}, LongData, "normalise true"),
    ],
)
def test_what_cannot_start_says_so(tmp_path: Path, options: dict[str, Any], data: type[TinyData], word: str) -> None:
    with pytest.raises(DataError, match=word):
        trainer(tmp_path).fit(scc(**options), data())


def test_one_start_only(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(scc(), TinyData())
    run.save_checkpoint(tmp_path / "whole.ckpt")
    with pytest.raises(DataError, match="only one of them"):
        scc(weights=str(tmp_path / "whole.ckpt"))


def test_a_transformer_cannot_start_from_it(tmp_path: Path) -> None:
    network = partial(CAVMAE, width=24, depth=1, heads=2, frames=32, image_size=32)
    with pytest.raises(DataError, match="is for linear heads"):
        trainer(tmp_path).fit(SCC((128, 3), network=network, cca_start=1.0), TinyData())
