"""The bank gives the same embeddings on any number of ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_modules.evaluation.bank import EmbeddingBank
from tests.ranks import Ranks

ITEMS = torch.arange(14, dtype=torch.float64).reshape(7, 2).sin()


def fill(rank: int, world: int, size: int, batches: dict[int, list[list[int]]]) -> np.ndarray:
    bank = EmbeddingBank(size)
    for rows in batches.get(rank, []):
        bank.update(ITEMS[rows], torch.tensor(rows))
    gathered = bank.compute()
    again = bank.compute()
    assert torch.equal(gathered, again)
    return gathered.numpy()


@pytest.mark.parametrize(
    ("world", "size", "batches"),
    [
        (1, 7, {0: [[3, 1], [0], [6, 5, 4, 2]]}),
        (2, 7, {0: [[0, 2], [4, 6]], 1: [[1, 3], [5]]}),
        (2, 7, {0: [[6, 5, 4, 3, 2, 1, 0]]}),  # rank 1 has nothing
        (3, 7, {1: [[0, 1, 2]], 2: [[3], [4, 5, 6]]}),  # rank 0 has nothing
        (3, 2, {0: [[0]], 1: [[1]], 2: [[0]]}),  # more ranks than items, one repeats
        (3, 2, {0: [[1]], 1: [[0]]}),
        (4, 7, {0: [[0, 4]], 1: [[1], [5]], 2: [[6, 2]], 3: [[3, 0], [1, 2]]}),
    ],
)
def test_ranks_gather_the_same_bank(ranks: Ranks, world: int, size: int, batches: dict[int, list[list[int]]]) -> None:
    for gathered in ranks.run(world, fill, size, batches):
        np.testing.assert_array_equal(gathered, ITEMS[:size].float().numpy())


def test_missing_items_are_an_error_on_every_rank(ranks: Ranks) -> None:
    with pytest.raises(RuntimeError, match=r"3 of 7 items were never embedded, first rows \[1, 3, 5\]"):
        ranks.run(2, fill, 7, {0: [[0, 2]], 1: [[4, 6]]})


def test_the_first_of_repeated_items_is_kept_as_float32_without_gradient() -> None:
    bank = EmbeddingBank(2)
    bank.update(torch.tensor([[1.0], [2.0]], dtype=torch.bfloat16, requires_grad=True), torch.tensor([1, 0]))
    bank.update(torch.tensor([[9.0]]), torch.tensor([1]))
    stored = bank.compute()
    assert stored.tolist() == [[2.0], [1.0]]
    assert stored.dtype == torch.float32
    assert not stored.requires_grad


def bits(rank: int, world: int) -> np.ndarray:
    bank = EmbeddingBank(4)
    odd = torch.tensor([[-0.0, 1e-40], [float("inf"), float("nan")], [3e38, -3e38], [0.1, 1 / 3]])
    for i in range(rank, 4, world):
        bank.update(odd[i : i + 1], torch.tensor([i]))
    return bank.compute().numpy().view(np.int32) ^ odd.numpy().view(np.int32)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_every_bit_of_every_number_is_gathered(ranks: Ranks, world: int) -> None:
    for changed in ranks.run(world, bits):
        assert not changed.any()


def widths(rank: int, world: int) -> None:
    bank = EmbeddingBank(2)
    bank.update(torch.ones(1, 3 + rank), torch.tensor([rank]))
    bank.compute()


def test_widths_that_differ_are_an_error(ranks: Ranks) -> None:
    with pytest.raises(RuntimeError, match=r"differs between ranks: \[3, 4\]"):
        ranks.run(2, widths)
    bank = EmbeddingBank(2)
    bank.update(torch.ones(1, 3), torch.tensor([0]))
    with pytest.raises(ValueError, match="differs between batches: 3 and 4"):
        bank.update(torch.ones(1, 4), torch.tensor([1]))


@pytest.mark.parametrize(
    ("shape", "index", "message"),
    [
        ((2, 3), [0], "must be"),
        ((2,), [0, 1], "must be"),
        ((1, 3), [4], "item 4 does not exist"),
        ((1, 3), [-1], "item -1"),
    ],
)
def test_bad_batches_are_errors(shape: tuple[int, ...], index: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddingBank(4).update(torch.zeros(shape), torch.tensor(index))


def test_empty_banks_say_so() -> None:
    with pytest.raises(RuntimeError, match="3 of 3 items were never embedded"):
        EmbeddingBank(3).compute()
    with pytest.raises(ValueError, match="at least one item"):
        EmbeddingBank(0)
