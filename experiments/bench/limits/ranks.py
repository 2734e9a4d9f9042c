"""Ranks: start of the process group, the gather of embeddings with its gradient, a training step, a checkpoint."""

from __future__ import annotations

import json
import os
import tempfile
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel

from experiments.bench.limits.setting import Case, Measured, Setting, seconds_of
from experiments.bench.limits.step import batch_of, step_flops
from lightning_modules.losses.contrastive import ContrastiveLoss
from lightning_modules.losses.gather import gather_rows
from lightning_modules.networks.cavmae import CAVMAE
from lightning_modules.training.optim import LayerwiseAdamW

PARTS = ("init", "gather", "step", "checkpoint")


def cases(setting: Setting) -> dict[str, Case]:
    """Each part with one rank, and with one on every GPU where there are several."""
    several = torch.cuda.device_count() if setting.device != "cpu" else min(2, os.cpu_count() or 1)
    worlds = [1] if several < 2 else [1, several]
    backend = "gloo" if setting.device == "cpu" else "NCCL"
    return {
        f"{part}, {backend}, {world} rank{'s' if world > 1 else ''}": partial(_measure, setting, part, world)
        for world in worlds
        for part in PARTS
        if part != "checkpoint" or world == 1
    }


def _measure(setting: Setting, part: str, world: int) -> Measured:
    found = _all_parts(setting, world)[part]
    if part == "step" and world > 1:  # ranks on a CPU share its cores
        alone = _all_parts(setting, 1)[part]["seconds"]
        found = {**found, "best": alone if setting.device == "cpu" else alone / world}
    return Measured(**found)


@lru_cache(maxsize=2)
def _all_parts(setting: Setting, world: int) -> dict[str, Any]:
    """Every part on rank 0, measured together, since a process group starts once."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (world, folder, setting)
        if world == 1:
            measure_rank(0, *arguments)
        else:
            start_processes(measure_rank, arguments, world, start_method="spawn")
        found: dict[str, Any] = json.loads((Path(folder) / "parts.json").read_text())
    return found


def measure_rank(rank: int, world: int, folder: str, setting: Setting) -> None:
    """What one rank does; the first one writes ``parts.json``."""
    start = time.perf_counter()
    if setting.device != "cpu":
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // world))
    backend = "gloo" if setting.device == "cpu" else "nccl"
    dist.init_process_group(backend, f"file://{folder}/store", rank=rank, world_size=world)
    try:
        dist.all_reduce(torch.ones(1, device=setting.device))  # NCCL starts at its first use
        parts: dict[str, Any] = {"init": {"seconds": time.perf_counter() - start, "amount": 1, "unit": "starts"}}
        parts["gather"] = _gather(rank, world, setting)
        parts["step"] = _step(rank, world, setting)
        if world == 1:
            parts["checkpoint"] = _checkpoint(Path(folder), setting)
        if rank == 0:
            (Path(folder) / "parts.json").write_text(json.dumps(parts))
    finally:
        dist.destroy_process_group()


def _gather(rank: int, world: int, setting: Setting) -> dict[str, Any]:
    rows = torch.randn(setting.gathered, setting.width, device=setting.device, requires_grad=True)

    def both_ways() -> None:
        gather_rows(rows).sum().backward()

    # every rank must run as often as the others
    fixed = Setting(**{**vars(setting), "spend": 0.0})
    seconds = seconds_of(both_ways, fixed)
    rows.grad = None
    both_ways()
    assert rows.grad is not None
    wrong = float((rows.grad.double() - world).norm() / (world * rows.numel() ** 0.5))
    moved = 4.0 * rows.numel() * world
    return {
        "seconds": seconds, "amount": moved, "unit": "B", "error": wrong,
        "work": {"copy": 4 * moved} if world > 1 else {},
        "note": "one rank gathers nothing" if world == 1 else "",
    }  # fmt: skip


class _Loss(nn.Module):
    """Network and loss in one, as DDP sees a training step; keeps what the loss alone took."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        torch.manual_seed(0)
        with torch.device(setting.device):
            self.network = CAVMAE(128, 3, **setting.network).train()
        self.setting, self.contrastive = setting, ContrastiveLoss()

    def forward(self, waveforms: Tensor, images: Tensor, identity: Tensor) -> Tensor:
        with self.setting.autocast():
            voice, face = self.network.voice(waveforms), self.network.face(images)
            loss: Tensor = self.contrastive(voice, face, identity)
        return loss


def _step(rank: int, world: int, setting: Setting) -> dict[str, Any]:
    """A step on the same batch, however many ranks share it, and how much of it the loss takes, both ways."""
    size = max(1, setting.batches[0] // world)
    model = _Loss(setting)
    wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = LayerwiseAdamW(model.parameters(), lr=1e-6)
    batch = *batch_of(setting, size), torch.arange(size, device=setting.device) + rank * size

    def step() -> None:
        optimizer.zero_grad()
        wrapped(*batch).backward()
        optimizer.step()

    width = model.network.embedding_dim
    pairs = [torch.randn(size, width, device=setting.device, requires_grad=True) for _ in range(2)]

    def loss() -> None:
        model.contrastive(*pairs, batch[2]).backward()

    fixed = Setting(**{**vars(setting), "spend": 0.0})  # every rank must run as often as the others
    seconds, alone = seconds_of(step, fixed), seconds_of(loss, fixed)
    return {
        "seconds": seconds, "amount": size * world, "unit": "images",
        "work": {setting.precision: size * world * step_flops(model.network)} if world == 1 else {},
        "note": f"{size * world} pairs over all ranks, the loss takes {100 * alone / seconds:.1f} %",
    }  # fmt: skip


def _checkpoint(folder: Path, setting: Setting) -> dict[str, Any]:
    """The weights and the state of the optimiser, against writing as many bytes."""
    with torch.device(setting.device):
        network = CAVMAE(128, 3, **setting.network)
    optimizer = LayerwiseAdamW(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    path = folder / "last.ckpt"
    once = Setting(**{**vars(setting), "warm": 0, "least": 1, "spend": 0.0})

    def save() -> None:
        torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, path)
        _flush(path)

    def raw() -> None:
        (folder / "raw").write_bytes(content)
        _flush(folder / "raw")

    seconds = seconds_of(save, once)
    content = bytes(path.stat().st_size)
    return {"seconds": seconds, "amount": len(content), "unit": "B", "best": seconds_of(raw, once)}


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
