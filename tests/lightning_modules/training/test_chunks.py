"""A batch embedded in chunks gives the gradients of the whole batch, whatever is drawn at random on the way."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from datamodules.schema import DataError, PairBatch
from lightning_modules.networks.cavmae import CAVMAE
from lightning_modules.networks.frontend import FrontEnd
from lightning_modules.networks.heads import HeadPair
from lightning_modules.scc import SCC
from tests.lightning_modules.tiny import DIMS, fit_and_test
from tests.ranks import TwoRanks

TINY: dict[str, Any] = {"width": 24, "depth": 2, "heads": 3, "frames": 64, "image_size": 32}
AUGMENTED = FrontEnd(frequency_mask=32, time_mask=16, gain_db=6.0, noise_snr_db=(5.0, 20.0))


def scc(chunk_size: int | None = None, **network: Any) -> SCC:
    torch.manual_seed(0)
    options = {**TINY, **network}
    return SCC((128, 3), partial(CAVMAE, **options), 0.1, True, "both", chunk_size=chunk_size).train()


def batch(rows: slice = slice(None)) -> PairBatch:
    rng = torch.Generator().manual_seed(3)
    voice, face = torch.randn(8, 8000, generator=rng) * 0.1, torch.randn(8, 3, 32, 32, generator=rng)
    number = torch.arange(8)[rows]
    return PairBatch(voice=voice[rows], face=face[rows], identity=number, clip=number)


def gradients(loss: Tensor, module: nn.Module) -> tuple[float, list[Tensor]]:
    loss.backward()
    return loss.item(), [cast(Tensor, p.grad) for p in module.parameters()]


def assert_same(got: tuple[float, list[Tensor]], expected: tuple[float, list[Tensor]]) -> None:
    assert got[0] == pytest.approx(expected[0], abs=1e-6)
    for one, other in zip(got[1], expected[1], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 3, 4, 8, 100])
def test_gradients_are_those_of_one_batch(chunk: int) -> None:
    whole, chunked = scc(), scc(chunk)
    assert_same(gradients(chunked.loss(batch())["loss"], chunked), gradients(whole.loss(batch())["loss"], whole))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_masks_and_noise_are_drawn_again_alike(checkpointing: bool) -> None:
    plain = scc(patch_dropout=0.5, frontend=AUGMENTED)
    torch.manual_seed(5)
    b = batch()
    voice, face = (
        torch.cat([embed(part) for part in cast(Tensor, x).split(3)])
        for embed, x in ((plain.embed_voice, b["voice"]), (plain.embed_face, b["face"]))
    )
    expected = gradients(plain.contrastive(voice, face, b["identity"]), plain)
    chunked = scc(3, patch_dropout=0.5, frontend=AUGMENTED, grad_checkpointing=checkpointing)
    torch.manual_seed(5)
    loss = chunked.loss(b)["loss"]
    after = torch.get_rng_state()
    assert_same(gradients(loss, chunked), expected)
    assert torch.equal(torch.get_rng_state(), after)  # the backward pass takes no numbers from the next batch


class Training(nn.Module):
    """A model and its loss in one, as DDP sees them."""

    def __init__(self, model: SCC) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: slice) -> Tensor:
        return self.model.loss(batch(rows))["loss"]


def on_rank() -> tuple[float, list[Tensor]]:
    rank = torch.distributed.get_rank()
    model = scc(chunk_size=2)
    ddp = DistributedDataParallel(Training(model))
    loss, found = gradients(ddp(slice(4 * rank, 4 * rank + 4)), model)
    return loss, [gradient.clone() for gradient in found]


def test_two_ranks_in_chunks_equal_one_big_batch(two_ranks: TwoRanks) -> None:
    whole = scc()
    loss, expected = gradients(whole.loss(batch())["loss"], whole)
    results = two_ranks.run(on_rank)
    assert sum(result[0] for result in results) / 2 == pytest.approx(loss, abs=1e-6)
    for _, found in results:
        assert_same((loss, found), (loss, expected))


def heads(chunk_size: int | None) -> SCC:
    torch.manual_seed(0)
    optimizer = partial(torch.optim.AdamW, lr=1e-2)
    return SCC(DIMS, partial(HeadPair, embedding_dim=8, hidden=[16]), 0.2, chunk_size=chunk_size, optimizer=optimizer)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_clipped_fit_in_chunks_is_the_same_fit(tmp_path: Path, precision: str) -> None:
    options: dict[str, Any] = {"precision": precision, "gradient_clip_val": 0.05}
    whole = fit_and_test(partial(heads, None), tmp_path / "whole", **options)
    chunked = fit_and_test(partial(heads, 3), tmp_path / "chunks", **options)
    for name, value in whole["weights"].items():
        np.testing.assert_allclose(chunked["weights"][name], value, atol=1e-5 if precision == "32-true" else 2e-2)


def test_what_chunks_would_change_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.chunk_size .* batch normalisation \(network\.voice_branch\.2\)"):
        SCC(DIMS, partial(HeadPair, hidden=[16], norm="batch"), chunk_size=4)
    with pytest.raises(DataError, match=r"model\.chunk_size is 0"):
        SCC(DIMS, chunk_size=0)


class Drawing(SCC):
    """Remembers a random number of each step."""

    def loss(self, batch: PairBatch) -> dict[str, Tensor]:
        self.drawn = [*getattr(self, "drawn", []), torch.rand(()).item()]
        return super().loss(batch)


def draw_on_rank(folder: Path) -> list[float]:
    made: list[Drawing] = []

    def make() -> Drawing:
        made.append(Drawing(DIMS))
        return made[-1]

    fit_and_test(make, folder, devices=2, strategy="ddp", max_epochs=1)
    return made[0].drawn


def test_ranks_draw_different_masks(two_ranks: TwoRanks, tmp_path: Path) -> None:
    first, second = two_ranks.run(draw_on_rank, tmp_path)
    assert len(first) == len(second) > 5
    assert not set(first) & set(second)
