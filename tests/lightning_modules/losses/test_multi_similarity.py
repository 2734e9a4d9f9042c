"""The multi-similarity loss against pytorch-metric-learning, analytic values, and itself on two ranks."""

from __future__ import annotations

import pytest
import torch
from pytorch_metric_learning.losses import MultiSimilarityLoss as Oracle
from torch import Tensor

from datamodules.schema import DataError
from lightning_modules.losses.multi_similarity import MultiSimilarityLoss
from tests.ranks import TwoRanks


def batch(rows: int = 12, people: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    voice, face = torch.randn(2, rows, 6, generator=generator)
    return voice.requires_grad_(), face, torch.arange(rows) % people


@pytest.mark.parametrize(("alpha", "beta", "base"), [(2.0, 50.0, 1.0), (1.0, 2.0, 0.0), (2.0, 10.0, 0.5)])
def test_value_and_gradient_are_those_of_the_library(alpha: float, beta: float, base: float) -> None:
    voice, face, label = batch()
    loss = MultiSimilarityLoss(alpha, beta, base)(voice, face, label)
    oracle = Oracle(alpha, beta, base)
    expected = (oracle(voice, label, ref_emb=face, ref_labels=label.clone()) + oracle(
        face, label, ref_emb=voice, ref_labels=label.clone()
    )) / 2  # fmt: skip
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(x, voice)[0] for x in (loss, expected)), atol=1e-6, rtol=1e-4)


def test_a_joint_batch_counts_pairs_within_a_modality_too() -> None:
    voice, face, label = batch()
    loss = MultiSimilarityLoss(2.0, 10.0, 0.5, joint=True)(voice, face, label)
    expected = Oracle(2.0, 10.0, 0.5)(torch.cat([voice, face]), torch.cat([label, label]))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(x, voice)[0] for x in (loss, expected)), atol=1e-6, rtol=1e-4)


def test_one_pair_at_the_base_costs_log_two() -> None:
    x = torch.tensor([[3.0, 4.0]])
    loss = MultiSimilarityLoss(alpha=2.0)(x, 2 * x, torch.tensor([0]))
    assert float(loss) == pytest.approx(torch.tensor(2.0).log().item() / 2)


def test_large_sharpness_does_not_overflow_and_half_precision_is_computed_in_full() -> None:
    voice, face, label = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = MultiSimilarityLoss(beta=1e4, base=-1.0)(voice, face, label)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


def on_rank(share: int, joint: bool) -> tuple[float, Tensor]:
    rank = torch.distributed.get_rank()
    voice, face, label = batch()
    rows = slice(rank * share, (rank + 1) * share)
    loss = MultiSimilarityLoss(joint=joint)(voice[rows], face[rows], label[rows])
    return float(loss), torch.autograd.grad(loss, voice)[0]


@pytest.mark.parametrize("joint", [False, True])
def test_mean_over_two_ranks_is_the_loss_of_the_whole_batch(joint: bool, two_ranks: TwoRanks) -> None:
    voice, face, label = batch()
    whole = MultiSimilarityLoss(joint=joint)(voice, face, label)
    (first, first_gradient), (second, second_gradient) = two_ranks.run(on_rank, 6, joint)
    assert (first + second) / 2 == pytest.approx(float(whole), rel=1e-5)
    torch.testing.assert_close((first_gradient + second_gradient) / 2, torch.autograd.grad(whole, voice)[0])


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"beta": -1.0}])
def test_sharpness_must_be_positive(options: dict[str, float]) -> None:
    with pytest.raises(DataError, match="both must be positive"):
        MultiSimilarityLoss(**options)
