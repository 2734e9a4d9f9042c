"""FOP: learning, distances, weights of another number of people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.schema import DataError
from lightning_modules.fop import FOP
from lightning_modules.networks.weights import WeightsError
from tests.lightning_modules.tiny import DIMS, fit_and_test
from tests.ranks import TwoRanks


def fop(**options: Any) -> FOP:
    torch.manual_seed(0)
    return FOP(DIMS, 12, **{"embedding_dim": 16, **options})


def run_on_rank(folder: Path) -> dict[str, Any]:
    return fit_and_test(fop, folder, devices=2, strategy="ddp")


@pytest.mark.parametrize("fusion", ["gated", "linear"])
def test_learns_who_belongs_together(fusion: str, tmp_path: Path) -> None:
    """Tied by the labels alone: neither fusion sees a wrong pair in training."""
    assert fit_and_test(lambda: fop(fusion=fusion), tmp_path, max_epochs=20)["val/eer"] < 0.4


def test_ranks_agree(two_ranks: TwoRanks, tmp_path: Path) -> None:
    one, other = two_ranks.run(run_on_rank, tmp_path)
    assert np.array_equal(one["scores"]["heard"], other["scores"]["heard"])
    assert one["val/eer"] == other["val/eer"]


def test_trains_in_bf16(tmp_path: Path) -> None:
    result = fit_and_test(fop, tmp_path, precision="bf16-mixed")
    assert result["embeddings"]["voice"].dtype == np.float32
    assert np.isfinite(result["scores"]["heard"]).all()


def test_loss_is_cross_entropy_plus_alpha_opl() -> None:
    model = fop(alpha=0.3)
    batch = {"voice": torch.randn(6, 12), "face": torch.randn(6, 20), "identity": torch.tensor([0, 1, 2, 0, 1, 2])}
    terms = model.loss(batch)
    assert terms["loss"].item() == pytest.approx(terms["cross_entropy"].item() + 0.3 * terms["opl"].item(), rel=1e-6)


@pytest.mark.parametrize(("fusion", "side"), [("gated", torch.tanh), ("linear", lambda x: x)])
def test_distance_is_l2_of_what_is_fused(fusion: str, side: Callable[[Tensor], Tensor]) -> None:
    model = fop(fusion=fusion).eval()
    voice, face = torch.randn(4, 12), torch.randn(4, 20)
    v, f = side(model.voice_branch(voice)), side(model.face_branch(face))
    got = model.distance(model.embed_voice(voice), model.embed_face(face))
    torch.testing.assert_close(got, ((v - f) ** 2).sum(1).sqrt())


def test_weights_of_another_number_of_people_leave_the_classifier_out(tmp_path: Path) -> None:
    torch.save({"state_dict": fop().state_dict()}, tmp_path / "w.pt")
    with pytest.warns(UserWarning, match="12 identities, the data have 9"):
        model = FOP(DIMS, 9, embedding_dim=16, weights=str(tmp_path / "w.pt"))
    assert torch.equal(model.voice_branch.fc1[0].weight, fop().voice_branch.fc1[0].weight)
    assert model.logits_layer.out_features == 9


def test_weights_of_another_fusion_are_refused(tmp_path: Path) -> None:
    torch.save(fop().state_dict(), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"1 missing: fusion_layer\.weight; 9 unexpected"):
        fop(fusion="linear", weights=str(tmp_path / "w.pt"))


@pytest.mark.parametrize("people", [None, 1])
def test_classes_are_required(people: int | None) -> None:
    with pytest.raises(DataError, match="num_identities"):
        FOP(DIMS, people)


def test_unknown_fusion_names_the_known() -> None:
    with pytest.raises(DataError, match="gated, linear"):
        fop(fusion="product")
