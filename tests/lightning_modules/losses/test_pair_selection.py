"""Pairs for the matching head: who may be drawn, how often, and the loss over them by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.losses.matching import MatchingLoss, draw, negatives

LABEL = torch.tensor([0, 0, 0, 1, 1, 2])


def test_negatives_are_of_other_labels_in_proportion_to_their_similarity() -> None:
    similarity = torch.tensor([[1.0, 0.9, 0.8, 0.5, -0.5, -1.0]])
    hard = negatives(similarity, LABEL[:1], LABEL, hard=True)[0]
    assert hard.tolist() == [0, 0, 0, 1.5, 0.5, 0]
    assert negatives(similarity, LABEL[:1], LABEL, hard=False)[0].tolist() == [0, 0, 0, 1, 1, 1]


@given(
    st.lists(st.sampled_from([0.0, 1e-12, 0.3, 1.0, 50.0]), min_size=1, max_size=8),
    st.floats(0, 1, exclude_max=True),
)
def test_what_has_no_chance_is_never_drawn(chances: list[float], uniform: float) -> None:
    row = torch.tensor([chances], dtype=torch.float64)
    drawn = int(draw(row, torch.tensor([uniform], dtype=torch.float64)))
    assert chances[drawn] > 0 or (drawn == 0 and not any(chances))


def test_draws_come_as_often_as_their_chances_say() -> None:
    chances = torch.tensor([[1.0, 0.0, 3.0, 4.0]], dtype=torch.float64)
    uniform = (torch.arange(800, dtype=torch.float64) + 0.5) / 800
    assert torch.bincount(draw(chances.expand(800, -1), uniform), minlength=4).tolist() == [100, 0, 300, 400]


def head(voice: Tensor, face: Tensor) -> Tensor:
    return 3 * (voice * face).sum(dim=1)


@pytest.mark.parametrize("hard", [True, False])
def test_the_loss_is_the_cross_entropy_of_the_chosen_pairs(hard: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    voice, face = F.normalize(torch.randn(2, 6, 5, generator=generator), dim=2)
    uniform = torch.rand(2, 6, dtype=torch.float64, generator=generator)
    found = float(MatchingLoss(hard)(head, voice, face, LABEL, uniform))
    total = 0.0
    for i in range(6):
        others = [j for j in range(6) if LABEL[j] != LABEL[i]]
        total += float(F.softplus(-3 * voice[i] @ face[i]))
        for turn, own, other in ((0, voice, face), (1, face, voice)):
            weights = np.array([1 + float(own[i] @ other[k]) if hard else 1.0 for k in others])
            at = (1 - float(uniform[turn, i])) * weights.sum()
            k = others[int((np.cumsum(weights) < at).sum())]
            total += float(F.softplus(3 * own[i] @ other[k]))
    assert found == pytest.approx(total / 18, rel=1e-5)


def test_a_batch_of_one_person_has_no_negatives() -> None:
    voice, face = F.normalize(torch.randn(2, 6, 5), dim=2)
    same, uniform = torch.zeros(6, dtype=torch.int64), torch.rand(2, 6, dtype=torch.float64)
    loss = MatchingLoss()(head, voice, face, same, uniform)
    assert float(loss) == pytest.approx(float(F.softplus(-head(voice, face)).sum() / 18))
