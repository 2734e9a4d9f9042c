"""FOP: the official checkpoint restated by hand, learning, weights of another number of people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

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


def test_distance_is_l2_of_tanh() -> None:
    model = fop().eval()
    voice, face = torch.randn(4, 12), torch.randn(4, 20)
    v, f = torch.tanh(model.voice_branch(voice)), torch.tanh(model.face_branch(face))
    got = model.distance(model.embed_voice(voice), model.embed_face(face))
    torch.testing.assert_close(got, ((v - f) ** 2).sum(1).sqrt())


def restated(state: dict[str, Tensor], voice: Tensor, face: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The baseline in evaluation mode, written out from its checkpoint: tanh(v), tanh(f), logits."""

    def linear(x: Tensor, key: str) -> Tensor:
        return x @ state[f"{key}.weight"].T + state[f"{key}.bias"]

    def normed(x: Tensor, key: str) -> Tensor:
        x = (x - state[f"{key}.running_mean"]) / (state[f"{key}.running_var"] + 1e-5).sqrt()
        return (x * state[f"{key}.weight"] + state[f"{key}.bias"]).relu()

    v, f = (
        F.normalize(normed(linear(x, f"{m}_branch.fc1.0"), f"{m}_branch.fc1.1"), dim=1)
        for m, x in (("voice", voice), ("face", face))
    )
    hidden = normed(
        linear(torch.cat([f, v], 1), "fusion_layer.attention.0.block.0"), "fusion_layer.attention.0.block.1"
    )
    gate = linear(hidden, "fusion_layer.attention.1").sigmoid()
    fused = gate * f.tanh() + (1 - gate) * v.tanh()
    return v.tanh(), f.tanh(), linear(fused, "logits_layer")


def test_official_checkpoint_loads_key_by_key_and_gives_what_it_says(shared_data: Path) -> None:
    path = shared_data / "fop" / "official_v1_english.pth.tar"
    model = FOP((512, 4096), 64, weights=str(path)).eval()
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    own = model.state_dict()
    assert set(own) == set(state)
    assert len(own) == 25
    assert all(torch.equal(own[key], state[key]) for key in state)
    voice, face = torch.randn(5, 512), torch.rand(5, 4096)
    v, f, logits = restated(state, voice, face)
    with torch.no_grad():
        torch.testing.assert_close(model.embed_voice(voice), v, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(model.embed_face(face), f, rtol=1e-4, atol=1e-6)
        fused = model.fusion_layer(model.face_branch(face), model.voice_branch(voice))
        torch.testing.assert_close(model.logits_layer(fused), logits, rtol=1e-4, atol=1e-4)


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
