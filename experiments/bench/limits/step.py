"""A training step of SCC: waveforms and images to updated weights, in bfloat16 where the processor computes it."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, cast

import torch
from timm.layers.attention import Attention
from torch import Tensor

from experiments.bench.limits.setting import Case, Measured, Setting, peak_gb, relative_error, reset_peak, seconds_of
from lightning_modules.losses.contrastive import ContrastiveLoss
from lightning_modules.networks.cavmae import CAVMAE
from lightning_modules.networks.frontend import samples_of
from lightning_modules.training.chunks import embed_in_chunks
from lightning_modules.training.optim import LayerwiseAdamW

PLAIN, SDPA, LAST, COMPILED, CHECKPOINTS = (
    "attention written out",
    "SDPA",
    "SDPA, channels_last",
    "SDPA, torch.compile",
    "SDPA, gradient checkpointing",
)
Batch = tuple[Tensor, Tensor]


def cases(setting: Setting) -> dict[str, Case]:
    """Every way at the first batch size, the usual and the smallest in memory at the others, then chunks."""
    first, *others = setting.batches
    made: dict[str, Case] = {}
    for way in (SDPA, PLAIN, LAST, CHECKPOINTS, COMPILED):
        made[f"{way}, {first} pairs"] = partial(_measure, setting, way, first)
    for size in others:
        for way in (SDPA, CHECKPOINTS):
            made[f"{way}, {size} pairs"] = partial(_measure, setting, way, size)
    made[f"SDPA, {setting.chunked} pairs in chunks of {first}"] = partial(_measure, setting, SDPA, setting.chunked)
    return made


def _measure(setting: Setting, way: str, size: int) -> Measured:
    network = _network(setting, way)
    optimizer = LayerwiseAdamW(network.parameters(), lr=1e-6)
    batch = batch_of(setting, size)
    chunk = setting.batches[0] if size == setting.chunked else size

    def step() -> None:
        optimizer.zero_grad()
        with setting.autocast():
            voice, face = _embed(network, batch, chunk)
            loss = ContrastiveLoss()(voice, face, torch.arange(size, device=setting.device))
        loss.backward()
        optimizer.step()

    error = None if way == COMPILED else _error(setting, network)
    reset_peak(setting.device)
    seconds = seconds_of(step, setting)
    peak = peak_gb(setting.device)
    if way == COMPILED:  # another batch size compiles once more: first the one that is timed
        error = _error(setting, _fresh_weights(setting, network))
    return Measured(seconds, size, "images", {setting.precision: size * step_flops(network)}, peak_gb=peak, error=error)


def _network(setting: Setting, way: str) -> CAVMAE:
    torch.manual_seed(0)
    options: dict[str, Any] = {"grad_checkpointing": way == CHECKPOINTS, "compile": way == COMPILED}
    with torch.device(setting.device):
        network = CAVMAE(128, 3, **setting.network, **options).train()
    for module in network.modules():
        if isinstance(module, Attention):
            cast(Any, module).fused_attn = way != PLAIN
    return network.to(memory_format=torch.channels_last) if way == LAST else network


def _fresh_weights(setting: Setting, network: CAVMAE) -> CAVMAE:
    network.load_state_dict(_network(setting, SDPA).state_dict())
    return network


def batch_of(setting: Setting, size: int) -> Batch:
    """Waveforms (size, samples) and images (size, 3, side, side) of noise, the same at each call."""
    generator = torch.Generator(setting.device).manual_seed(1)
    draw = partial(torch.randn, generator=generator, device=setting.device)
    side = setting.network["image_size"]
    return 0.1 * draw(size, samples_of(setting.network["frames"])), draw(size, 3, side, side)


def _embed(network: CAVMAE, batch: Batch, chunk: int) -> tuple[Tensor, Tensor]:
    waveforms, images = batch
    if network.patch_embed_v.proj.weight.is_contiguous(memory_format=torch.channels_last):
        images = images.contiguous(memory_format=torch.channels_last)
    return embed_in_chunks(network.voice, waveforms, chunk), embed_in_chunks(network.face, images, chunk)


def _gradients(setting: Setting, network: CAVMAE, embeddings: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Of the products of embeddings with fixed vectors: at random weights, those of the contrastive loss cancel."""
    generator = torch.Generator(setting.device).manual_seed(2)
    network.zero_grad()
    total = torch.zeros((), device=setting.device)
    for x in embeddings:
        total = total + (x * torch.randn(x.shape, generator=generator, device=setting.device)).sum()
    total.backward()
    return [p.grad for p in network.parameters() if p.grad is not None]


def _error(setting: Setting, network: CAVMAE) -> float:
    """Of the gradients of all weights on a few pairs, in two chunks."""
    batch = batch_of(setting, setting.checked)
    with setting.autocast():
        embeddings = _embed(network, batch, max(1, setting.checked // 2))
    return relative_error(_gradients(setting, network, embeddings), _exact(setting))


@lru_cache(maxsize=1)
def _exact(setting: Setting) -> list[Tensor]:
    """The gradients in float64, from filter banks in float32."""
    network = _network(setting, PLAIN)
    waveforms, images = batch_of(setting, setting.checked)
    banks = network.frontend(waveforms, network.frames)
    network.double()
    embeddings = network.encode_voice(banks.double()), network.face(images.double())
    # kept on the host: the peak memory is that of the step alone
    return [gradient.cpu() for gradient in _gradients(setting, network, embeddings)]


def step_flops(network: CAVMAE) -> float:
    """Operations of the forward and the backward pass of one pair; what is computed twice counts once."""
    width, depth = network.pos_embed_a.shape[2], len(network.blocks_a) + len(network.blocks_u)
    total = 0.0
    for positions, embed in (
        (network.pos_embed_a, network.patch_embed_a),
        (network.pos_embed_v, network.patch_embed_v),
    ):
        tokens = positions.shape[1]
        blocks = depth * (24 * tokens * width**2 + 4 * tokens**2 * width)
        total += 3 * blocks + 2 * 2 * tokens * embed.proj.weight.numel()  # patches need no gradient
    return total
