"""The network of [SCC] and [CAV-MAE] stated again, plainly: what the tests of the network compare with."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

State = dict[str, Tensor]


def stated_positions(rows: int, columns: int, width: int) -> Tensor:
    """One token at a time: first half of the width time, second half frequency, each sines then cosines."""
    out = np.zeros((1, rows * columns, width))
    quarter = width // 4
    for f in range(rows):
        for t in range(columns):
            for k in range(quarter):
                rate = 1 / 10000 ** (k / quarter)
                for half, place in enumerate((t, f)):
                    out[0, f * columns + t, half * 2 * quarter + k] = math.sin(place * rate)
                    out[0, f * columns + t, half * 2 * quarter + quarter + k] = math.cos(place * rate)
    return torch.from_numpy(out).float()


def cavmae_state(
    width: int = 24, depth: int = 11, frames: int = 1024, image_size: int = 224, seed: int = 0, decoder: bool = False
) -> State:
    """Random weights under the names and shapes of a CAV-MAE file; 474 encoder keys at depth 11."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 0.2) -> Tensor:
        return torch.randn(*shape, generator=rng) * scale

    state: State = {}

    def norm(name: str) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + draw(width), draw(width)

    def linear(name: str, outputs: int, inputs: int) -> None:
        state[f"{name}.weight"] = draw(outputs, inputs, scale=inputs**-0.5)
        state[f"{name}.bias"] = draw(outputs)

    def block(name: str) -> None:
        for kind in ("norm1", "norm1_a", "norm1_v", "norm2", "norm2_a", "norm2_v"):
            norm(f"{name}.{kind}")
        linear(f"{name}.attn.qkv", 3 * width, width)
        linear(f"{name}.attn.proj", width, width)
        linear(f"{name}.mlp.fc1", 4 * width, width)
        linear(f"{name}.mlp.fc2", width, 4 * width)

    side = image_size // 16
    state["pos_embed_a"] = stated_positions(8, frames // 16, width)
    state["pos_embed_v"] = stated_positions(side, side, width)
    for m, channels in (("a", 1), ("v", 3)):
        state[f"modality_{m}"] = draw(1, 1, width)
        state[f"patch_embed_{m}.proj.weight"] = draw(width, channels, 16, 16, scale=0.06)
        state[f"patch_embed_{m}.proj.bias"] = draw(width)
        norm(f"norm_{m}")
        for i in range(depth):
            block(f"blocks_{m}.{i}")
    block("blocks_u.0")
    norm("norm")
    if decoder:
        for key in (
            "mask_token",
            "decoder_modality_a",
            "decoder_modality_v",
            "decoder_pos_embed_a",
            "decoder_pos_embed_v",
        ):
            state[key] = draw(1, 1, width)
        for name in ("decoder_embed", "decoder_pred_a", "decoder_pred_v"):
            linear(name, width, width)
        norm("decoder_norm")
        for i in range(8):
            block(f"decoder_blocks.{i}")
    return state


def stated_embedding(state: State, x: Tensor, branch: str, heads: int, depth: int) -> Tensor:
    """Section 2, line by line. x: filter banks (B, T, 128) for branch a, images (B, 3, H, W) for v."""
    weight, bias = state[f"patch_embed_{branch}.proj.weight"], state[f"patch_embed_{branch}.proj.bias"]
    width = len(bias)
    image = x.transpose(1, 2)[:, None] if branch == "a" else x
    tokens = []
    for row in range(image.shape[2] // 16):
        for column in range(image.shape[3] // 16):
            patch = image[:, :, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
            tokens.append(patch.flatten(1) @ weight.flatten(1).T + bias)
    h = torch.stack(tokens, dim=1) + state[f"pos_embed_{branch}"] + state[f"modality_{branch}"]

    def norm(name: str, h: Tensor) -> Tensor:
        mean, variance = h.mean(-1, keepdim=True), h.var(-1, unbiased=False, keepdim=True)
        return (h - mean) / (variance + 1e-5).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def attention(name: str, h: Tensor) -> Tensor:
        q, k, v = linear(f"{name}.qkv", h).split(width, dim=-1)
        size, mixed = width // heads, []
        for head in range(heads):
            part = slice(head * size, head * size + size)
            scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(size)
            mixed.append(scores.softmax(-1) @ v[..., part])
        return linear(f"{name}.proj", torch.cat(mixed, dim=-1))

    def block(name: str, suffix: str, h: Tensor) -> Tensor:
        h = h + attention(f"{name}.attn", norm(f"{name}.norm1{suffix}", h))
        wide = linear(f"{name}.mlp.fc1", norm(f"{name}.norm2{suffix}", h))
        return h + linear(f"{name}.mlp.fc2", wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2))))

    for i in range(depth):
        h = block(f"blocks_{branch}.{i}", "", h)
    h = norm(f"norm_{branch}", block("blocks_u.0", f"_{branch}", h)).mean(dim=1)
    return h / h.norm(dim=-1, keepdim=True)
