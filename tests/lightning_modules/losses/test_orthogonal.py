"""OPL against a loop, analytic values and one big batch under DDP."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from datamodules.schema import DataError
from lightning_modules.losses.orthogonal import OrthogonalProjectionLoss
from tests.ranks import TwoRanks


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(10, 4, generator=generator), torch.tensor([0, 0, 1, 2, 1, 3, 3, 3, 4, 0])


def test_equals_a_hand_written_loop() -> None:
    x, label = batch()
    same, different = [], []
    for i in range(10):
        for j in range(10):
            if i != j:
                cosine = float(F.cosine_similarity(x[i], x[j], dim=0))
                (same if label[i] == label[j] else different).append(cosine)
    expected = 1 - sum(same) / len(same) + 0.7 * sum(abs(c) for c in different) / len(different)
    assert OrthogonalProjectionLoss()(x, label).item() == pytest.approx(expected, rel=1e-5)


def test_is_zero_where_identities_are_orthogonal_and_tight() -> None:
    assert OrthogonalProjectionLoss()(
        torch.eye(3).repeat(2, 1) * 5, torch.tensor([0, 1, 2] * 2)
    ).item() == pytest.approx(0)


def test_opposite_different_identities_are_as_bad_as_equal_ones() -> None:
    x = torch.tensor([[1.0, 0], [-1, 0]])
    assert OrthogonalProjectionLoss()(x, torch.tensor([0, 1])).item() == pytest.approx(0.7)
    assert OrthogonalProjectionLoss()(x.abs(), torch.tensor([0, 1])).item() == pytest.approx(0.7)


def test_one_identity_or_none_twice_drops_a_term() -> None:
    x, _ = batch()
    assert OrthogonalProjectionLoss()(x, torch.arange(10)) < 0.7  # no positives: only 0.7 * mean |cosine|
    assert OrthogonalProjectionLoss(weight=100.0)(x, torch.zeros(10, dtype=torch.int64)) <= 2  # no negatives
    assert OrthogonalProjectionLoss()(x[:1], torch.tensor([0])).item() == 0


def test_float32_under_autocast() -> None:
    x, label = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = OrthogonalProjectionLoss()(x, label)
    assert torch.equal(got, OrthogonalProjectionLoss()(x, label))


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="weight"):
        OrthogonalProjectionLoss(-1.0)
    with pytest.raises(ValueError, match="label"):
        OrthogonalProjectionLoss()(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))


def loss_and_gradient(ranks: int) -> tuple[float, Tensor]:
    torch.manual_seed(1)
    net = nn.Linear(4, 3)
    model: nn.Module = DistributedDataParallel(net) if ranks > 1 else net
    x, label = batch()
    rows = slice(torch.distributed.get_rank() * 5, torch.distributed.get_rank() * 5 + 5) if ranks > 1 else slice(None)
    loss = OrthogonalProjectionLoss()(model(x[rows]), label[rows])
    loss.backward()
    return loss.item(), net.weight.grad.clone()


def test_two_ranks_equal_one_big_batch(two_ranks: TwoRanks) -> None:
    expected, gradient = loss_and_gradient(1)
    for loss, got in two_ranks.run(loss_and_gradient, 2):
        assert loss == pytest.approx(expected, abs=1e-6)
        torch.testing.assert_close(got, gradient, rtol=0, atol=1e-6)
