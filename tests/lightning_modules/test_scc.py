"""SCC on heads: learns, overfits, keeps its numbers under DDP and bf16, starts from weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.networks.heads import HeadPair
from lightning_modules.networks.weights import WeightsError
from lightning_modules.scc import SCC
from tests.lightning_modules.tiny import DIMS, TinyData, fit_and_test, trainer
from tests.ranks import TwoRanks


def scc(**options: Any) -> SCC:
    torch.manual_seed(0)
    network = partial(HeadPair, embedding_dim=8, hidden=[16])
    optimizer = partial(torch.optim.AdamW, lr=1e-2)
    return SCC(DIMS, network=network, optimizer=optimizer, **{"tau": 0.2, "direction": "both", **options})


def run_on_rank(folder: Path) -> dict[str, Any]:
    return fit_and_test(scc, folder, devices=2, strategy="ddp")


def test_learns_who_belongs_together(tmp_path: Path) -> None:
    untrained = trainer(tmp_path / "untrained").validate(scc(), TinyData(), verbose=False)[0]["val/eer"]
    result = fit_and_test(scc, tmp_path, max_epochs=20)
    assert result["val/eer"] < 0.25 < 0.4 < untrained


def test_two_ranks_give_the_result_of_one(two_ranks: TwoRanks, tmp_path: Path) -> None:
    """The batch, its negatives and so every step are global: training itself does not depend on the number of ranks."""
    expected = fit_and_test(scc, tmp_path / "one")
    results = two_ranks.run(run_on_rank, tmp_path / "two")
    assert np.array_equal(results[0]["scores"]["heard"], results[1]["scores"]["heard"])
    for result in results:
        assert result["steps"] == expected["steps"] == 22
        np.testing.assert_allclose(result["scores"]["heard"], expected["scores"]["heard"], atol=1e-4)
        assert result["val/eer"] == pytest.approx(expected["val/eer"], abs=1e-6)


def test_bf16_trains_and_banks_float32(tmp_path: Path) -> None:
    result = fit_and_test(scc, tmp_path, precision="bf16-mixed", max_epochs=20)
    assert result["embeddings"]["voice"].dtype == np.float32
    assert np.linalg.norm(result["embeddings"]["face"], axis=1) == pytest.approx(1, abs=1e-5)
    assert result["val/eer"] < 0.3


def test_starts_from_its_own_checkpoint(tmp_path: Path) -> None:
    model, run = scc(), trainer(tmp_path)
    run.fit(model, TinyData())
    run.save_checkpoint(tmp_path / "whole.ckpt")
    started = scc(weights=str(tmp_path / "whole.ckpt"))
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in started.state_dict().items())
    with pytest.raises(WeightsError, match=r"missing: contrastive\.log_tau"):
        scc(weights=str(tmp_path / "whole.ckpt"), learnable_tau=True)


def test_a_learnt_tau_is_trained_and_logged(tmp_path: Path) -> None:
    model, run = scc(learnable_tau=True), trainer(tmp_path)
    run.fit(model, TinyData())
    assert float(run.callback_metrics["train/tau"]) != pytest.approx(0.2, abs=1e-4)


def test_overfits_a_handful_of_people(tmp_path: Path) -> None:
    data, model = TinyData(people=6), scc(same_identity="masked")
    trainer(tmp_path, max_epochs=60).fit(model.train(), data)
    model.eval()
    voice, face, identity = (torch.from_numpy(x) for x in (*data.train, data.identity))
    with torch.no_grad():
        nearest: Tensor = (model.embed_voice(voice) @ model.embed_face(face).T).argmax(dim=1)
    assert (identity[nearest] == identity).float().mean() > 0.95
