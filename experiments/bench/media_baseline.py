"""The straightforward way of training on raw media, for ``bench``: the same numbers, written as one would at first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import soundfile
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchaudio.compliance import kaldi
from torchvision.transforms import InterpolationMode, v2

from datamodules.media.transforms import STATISTICS

PATCH = 16
MEAN, STD = -5.081, 4.4849


def embedding(weights: Mapping[str, Tensor], x: Tensor, branch: str, heads: int) -> Tensor:
    """CAV-MAE in eager mode, attention written out ([SCC] 3.1, [CAV-MAE]), over the weights of :class:`CAVMAE`.

    Args:
        weights: parameters and buffers by name.
        x: filter banks (B, T, n_mels) for branch ``a``, images (B, 3, H, W) for ``v``.
        branch: ``a`` or ``v``.
        heads: of the attention.

    Returns:
        (B, d), L2-normalised.
    """

    def linear(name: str, h: Tensor) -> Tensor:
        return F.linear(h, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, h: Tensor) -> Tensor:
        return F.layer_norm(h, h.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    def attention(name: str, h: Tensor) -> Tensor:
        batch, tokens, width = h.shape
        qkv = linear(f"{name}.qkv", h).reshape(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        scores = qkv[0] @ qkv[1].transpose(-2, -1) / math.sqrt(width // heads)
        mixed = (scores.softmax(dim=-1) @ qkv[2]).transpose(1, 2).reshape(batch, tokens, width)
        return linear(f"{name}.proj", mixed)

    def block(name: str, suffix: str, h: Tensor) -> Tensor:
        h = h + attention(f"{name}.attn", norm(f"{name}.norm1{suffix}", h))
        return h + linear(f"{name}.mlp.fc2", F.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2{suffix}", h))))

    image = x.transpose(1, 2)[:, None] if branch == "a" else x
    projection = f"patch_embed_{branch}.proj"
    h = F.conv2d(image, weights[f"{projection}.weight"], weights[f"{projection}.bias"], stride=PATCH)
    h = h.flatten(2).transpose(1, 2) + weights[f"pos_embed_{branch}"] + weights[f"modality_{branch}"]
    for i in range(sum(name.startswith(f"blocks_{branch}.") and name.endswith(".attn.qkv.bias") for name in weights)):
        h = block(f"blocks_{branch}.{i}", "", h)
    h = norm(f"norm_{branch}", block("blocks_u.0", f"_{branch}", h)).mean(dim=1)
    return F.normalize(h, dim=-1)


def loss(voice: Tensor, face: Tensor, tau: float = 0.05) -> Tensor:
    """Eq. 1 of [SCC] with the whole matrix of logits."""
    return F.cross_entropy(voice @ face.T / tau, torch.arange(len(voice), device=voice.device))


def augmentation(size: int) -> v2.Compose:
    """What ``augmenting_transform`` does, all of it on the PIL image."""
    crop = v2.RandomResizedCrop(size, (0.7, 1.0), interpolation=InterpolationMode.BICUBIC)
    jitter = v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)
    number = v2.ToDtype(torch.float32, scale=True)
    steps = [crop, v2.RandomHorizontalFlip(), jitter, v2.ToImage(), number, v2.Normalize(*STATISTICS["imagenet"])]
    return v2.Compose(steps)


class NaiveClips(Dataset[tuple[Tensor, Tensor]]):
    """One clip at a time: the whole recording is decoded, then cropped and turned into a filter bank by itself.

    Args:
        pairs: recordings and images.
        samples: length of a crop at 16 kHz.
        size: side of a face in pixels.
    """

    def __init__(self, pairs: Sequence[tuple[Path, Path]], samples: int, size: int) -> None:
        self.pairs, self.samples, self.transform = pairs, samples, augmentation(size)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        audio, image = self.pairs[i]
        wave = torch.from_numpy(soundfile.read(audio, dtype="float32")[0])
        start = int(torch.randint(max(1, len(wave) - self.samples), ()))
        wave = wave[start : start + self.samples]
        bank = kaldi.fbank(
            (wave - wave.mean())[None], htk_compat=True, sample_frequency=16_000, use_energy=False,
            window_type="hanning", num_mel_bins=128, dither=0.0, frame_shift=10,
        )  # fmt: skip
        with Image.open(image) as picture:
            return (bank - MEAN) / STD, self.transform(picture.convert("RGB"))
