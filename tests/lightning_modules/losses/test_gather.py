"""Gathering rows: order, gradient, uneven ranks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_modules.losses.gather import gather_rows, rank
from tests.ranks import TwoRanks


def test_one_process_gets_its_own_tensor_back() -> None:
    x = torch.randn(3, 2)
    assert gather_rows(x) is x


def gather() -> tuple[Tensor, Tensor]:
    x = (torch.arange(4.0).view(2, 2) + 10 * rank()).requires_grad_()
    gathered = gather_rows(x)
    weight = torch.arange(4.0).view(4, 1) * (rank() + 1)  # every rank says something else about every row
    (gathered * weight).sum().backward()
    return gathered.detach(), x.grad


def test_rows_come_in_rank_order_and_gradients_add_up(two_ranks: TwoRanks) -> None:
    expected = torch.tensor([[0.0, 1], [2, 3], [10, 11], [12, 13]])
    for r, (gathered, gradient) in enumerate(two_ranks.run(gather)):
        assert torch.equal(gathered, expected)
        # row i is weighed i by rank 0 and 2 i by rank 1
        assert torch.equal(gradient, torch.tensor([[2.0 * r * 3] * 2, [(2.0 * r + 1) * 3] * 2]))


def gather_labels() -> Tensor:
    return gather_rows(torch.tensor([rank(), 7]))


def test_integers_are_gathered(two_ranks: TwoRanks) -> None:
    assert [x.tolist() for x in two_ranks.run(gather_labels)] == [[0, 7, 1, 7]] * 2


def gather_uneven() -> str:
    with pytest.raises(ValueError, match=r"\[2, 3\]") as error:
        gather_rows(torch.zeros(2 + rank(), 4))
    return str(error.value)


def test_uneven_ranks_are_refused_on_all(two_ranks: TwoRanks) -> None:
    messages = two_ranks.run(gather_uneven)
    assert messages[0] == messages[1]
    assert "batch_size" in messages[0]
