"""Heads: unit length, linear without hidden layers, dropout in training only."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from datamodules.schema import DataError
from lightning_modules.networks.heads import HeadPair


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("hidden", [(), (7,), (9, 7)])
def test_embeddings_have_unit_length_and_both_branches_meet(hidden: tuple[int, ...], norm: str) -> None:
    heads = HeadPair(6, 10, embedding_dim=4, hidden=hidden, dropout=0.3, norm=norm)
    voice, face = heads(torch.randn(5, 6), torch.randn(5, 10))
    for x in (voice, face):
        assert x.shape == (5, 4)
        torch.testing.assert_close(x.norm(dim=1), torch.ones(5))


def test_without_hidden_layers_a_branch_is_linear() -> None:
    heads = HeadPair(6, 10, embedding_dim=4, dropout=0.5).eval()
    x = torch.randn(5, 6)
    linear = next(m for m in heads.voice_branch if isinstance(m, nn.Linear))
    torch.testing.assert_close(heads.voice(x), F.normalize(x @ linear.weight.T + linear.bias, dim=1))


def test_dropout_acts_on_the_input_in_training_only() -> None:
    heads = HeadPair(6, 10, dropout=0.5)
    x = torch.randn(5, 6)
    assert not torch.equal(heads.voice(x), heads.voice(x))
    heads.eval()
    assert torch.equal(heads.voice(x), heads.voice(x))


def test_embeddings_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert HeadPair(6, 10).voice(torch.randn(5, 6)).dtype == torch.float32


def test_unknown_norm_names_the_known() -> None:
    with pytest.raises(DataError, match="none, batch, layer"):
        HeadPair(6, 10, norm="instance")  # type: ignore[arg-type]
