"""The network of SCC: the CAV-MAE encoder, two branches of transformer blocks and a shared block ([SCC] 3.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.layers.patch_dropout import PatchDropout
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recompute

from datamodules.schema import DataError
from lightning_modules.networks.frontend import FrontEnd, frames_of, lengths_of, samples_of
from lightning_modules.networks.weights import load_weights

PATCH = 16

# Keys of a weights file that are not read: CAV-MAE's decoder and classifier, norms of its blocks that the two branches
# never use (they are not built here, since unused parameters stop DDP), and the temperature in our checkpoints.
NOT_BUILT = re.compile(
    r"contrastive\.|decoder|mask_token$|mlp_head\.|norm\.(weight|bias)$|blocks_[av]\.\d+\.norm[12]_[av]\.|blocks_u\.\d+\.norm[12]\."
)


class SharedBlock(nn.Module):
    """A transformer block with shared attention and MLP, and separate norms for each modality ([CAV-MAE] 2.3).

    Args:
        width: of the tokens.
        heads: number of attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads, qkv_bias=True)
        self.mlp = Mlp(width, 4 * width)
        self.norm1_a, self.norm1_v = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm2_a, self.norm2_v = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, branch: str) -> Tensor:
        """Tokens (B, N, width) of branch ``a`` (voice) or ``v`` (face)."""
        norm1, norm2 = (self.norm1_a, self.norm2_a) if branch == "a" else (self.norm1_v, self.norm2_v)
        x = x + self.attn(norm1(x))
        return cast(Tensor, x + self.mlp(norm2(x)))


class CAVMAE(nn.Module):
    """Voice and face encoders of [SCC] 3.1, with the parameter names of CAV-MAE's weights files.

    Args:
        n_mels: mel bins of a voice; the first size of the data module.
        channels: colour channels of an image; the second size of the data module.
        width: of the tokens.
        depth: number of blocks in each branch; 11 as in the paper.
        shared_depth: number of blocks with shared weights on top of both branches; 1 as in the paper.
        heads: number of attention heads.
        frames: T, filter-bank frames of a voice, a multiple of 16: 512 = 5.12 s (1024 in [CAV-MAE]).
        image_size: side of a face in pixels, a multiple of 16.
        projection: width of a linear layer on the pooled tokens of each branch (not from the paper); None = no layer.
        frontend: waveform -> filter bank; None = CAV-MAE's normalisation, no augmentation.
        checkpoint: weights to start from: a CAV-MAE file (pre-trained or fine-tuned) or a checkpoint of this project.
        freeze: patterns of names of parameters that are not trained, e.g. ``[patch_embed_*, "blocks_[av].[0-5].*"]``.
        patch_dropout: share of tokens dropped in training (not from the paper).
        grad_checkpointing: recompute each block in the backward pass: less memory, more time, the same gradients.
        compile: compile every block with ``torch.compile``.

    Raises:
        ValueError: sizes that do not fit; a ``freeze`` pattern that matches nothing.
        WeightsError: a checkpoint that does not fit; lists missing and unexpected keys.
    """

    def __init__(
        self,
        n_mels: int,
        channels: int,
        width: int = 768,
        depth: int = 11,
        shared_depth: int = 1,
        heads: int = 12,
        frames: int = 512,
        image_size: int = 224,
        projection: int | None = None,
        frontend: FrontEnd | None = None,
        checkpoint: str | None = None,
        freeze: Sequence[str] = (),
        patch_dropout: float = 0.0,
        grad_checkpointing: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("data mel bins", n_mels), ("frames", frames), ("image_size", image_size)):
            if value <= 0 or value % PATCH:
                raise ValueError(f"network.{name} is {value}; it must be a multiple of the patch size {PATCH}")
        if width % heads or width % 4:
            raise ValueError(f"network.width is {width}; it must be a multiple of 4 and of network.heads, {heads}")
        self.frames, self.image_size, self.grad_checkpointing = frames, image_size, grad_checkpointing
        self.embedding_dim = width if projection is None else projection
        self.frontend = FrontEnd(n_mels) if frontend is None else frontend
        if self.frontend.n_mels != n_mels:
            raise ValueError(f"network.frontend.n_mels is {self.frontend.n_mels}, but the data have {n_mels} mel bins")

        self.patch_embed_a = PatchEmbed((n_mels, frames), PATCH, 1, width, strict_img_size=False)
        self.patch_embed_v = PatchEmbed(image_size, PATCH, channels, width)
        self.pos_embed_a: Tensor
        self.pos_embed_v: Tensor
        self.voice_rows, side = n_mels // PATCH, image_size // PATCH
        self.register_buffer("pos_embed_a", sincos_positions(self.voice_rows, frames // PATCH, width))
        self.register_buffer("pos_embed_v", sincos_positions(side, side, width))
        self.modality_a = nn.Parameter(torch.zeros(1, 1, width))
        self.modality_v = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_dropout = PatchDropout(patch_dropout, num_prefix_tokens=0)
        self.blocks_a = nn.ModuleList(Block(width, heads, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(depth))
        self.blocks_v = nn.ModuleList(Block(width, heads, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(depth))
        self.blocks_u = nn.ModuleList(SharedBlock(width, heads) for _ in range(shared_depth))
        self.norm_a, self.norm_v = nn.LayerNorm(width), nn.LayerNorm(width)
        self.projection_a = nn.Identity() if projection is None else nn.Linear(width, projection, bias=False)
        self.projection_v = nn.Identity() if projection is None else nn.Linear(width, projection, bias=False)

        self._initialise()
        self._number_layers(depth, shared_depth)
        if checkpoint is not None:
            self.load(checkpoint)
        _freeze(self, freeze)
        if compile:
            for block in (*self.blocks_a, *self.blocks_v, *self.blocks_u):
                block.compile()

    def load(self, path: str | Path) -> None:
        """Loads the encoder of a CAV-MAE file or the network of a checkpoint of this project, without running its code.

        Voice positions of another length are cut or continued (:func:`resize_time`). The decoder and the classifier of
        CAV-MAE are ignored.

        Raises:
            WeightsError: keys are missing, unexpected, of another shape or not finite; lists them.
        """

        def convert(key: str, value: Tensor) -> Tensor:
            if key == "pos_embed_a" and value.ndim == 3 and value.shape[1] % self.voice_rows == 0:
                return resize_time(value, self.voice_rows, self.frames // PATCH)
            return value

        load_weights(
            self,
            path,
            rename=lambda key: None if NOT_BUILT.match(key) else key.removeprefix("network."),
            optional=[key for key in self.state_dict() if key.startswith("projection_")],
            convert=convert,
        )

    def voice(self, waveforms: Tensor) -> Tensor:
        """Waveforms (B, S), or (B, K, S) with K crops of each voice, padded with NaN -> (B, d), L2-normalised.

        The embedding of several crops is the normalised mean of their embeddings. A crop may also be a whole recording
        longer than ``frames``; it is embedded at its full length.
        """
        crops = waveforms.flatten(0, -2)
        if waveforms.ndim == 2 or crops.shape[1] <= samples_of(self.frames):
            embedding = self.encode_voice(self.frontend(crops, self.frames))
        else:
            embedding = self._encode_uneven(crops)
        if waveforms.ndim == 3:
            embedding = F.normalize(embedding.unflatten(0, waveforms.shape[:2]).mean(dim=1), dim=-1)
        return embedding

    def _encode_uneven(self, crops: Tensor) -> Tensor:
        """Embeds clips (n, S), padded with NaN, each at its own length, but at least ``frames`` -> (n, d).

        An embedding therefore does not depend on the lengths of the other clips in the batch.
        """
        lengths = lengths_of(crops)
        frames = -(-frames_of(lengths).clamp(min=self.frames) // PATCH) * PATCH
        parts, order = [], []
        for count in frames.unique().tolist():
            rows = (frames == count).nonzero().flatten()
            order.append(rows)
            parts.append(self.encode_voice(self.frontend(crops[rows, : int(lengths[rows].max())], count)))
        return torch.cat(parts)[torch.cat(order).argsort()]

    def face(self, images: Tensor) -> Tensor:
        """Normalised images (B, channels, size, size) -> (B, d), L2-normalised.

        Raises:
            DataError: images of another size.
        """
        if images.shape[2:] != (self.image_size, self.image_size):
            raise DataError(
                f"faces have {tuple(images.shape[2:])} pixels, the network takes {self.image_size}; "
                "data.media.image_size and model.network.image_size must agree"
            )
        x = self.patch_embed_v(images) + self.pos_embed_v + self.modality_v
        return self._encode(x, "v")

    def encode_voice(self, features: Tensor) -> Tensor:
        """Normalised filter banks (B, T, n_mels), T any multiple of 16 -> (B, d), L2-normalised."""
        columns = features.shape[1] // PATCH
        x = self.patch_embed_a(features.transpose(1, 2)[:, None])  # frequency-major: index f * (T / 16) + t
        x = x + resize_time(self.pos_embed_a, self.voice_rows, columns) + self.modality_a
        return self._encode(x, "a")

    def _encode(self, x: Tensor, branch: str) -> Tensor:
        voice = branch == "a"
        x = self.patch_dropout(x)
        for block in self.blocks_a if voice else self.blocks_v:
            x = self._run(block, x)
        for block in self.blocks_u:
            x = self._run(block, x, branch)
        x = (self.norm_a if voice else self.norm_v)(x).mean(dim=1)
        x = (self.projection_a if voice else self.projection_v)(x)
        return F.normalize(x.float(), dim=-1)

    def _run(self, block: nn.Module, *args: Tensor | str) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return cast(Tensor, recompute(block, *args, use_reentrant=False))
        return cast(Tensor, block(*args))

    def _initialise(self) -> None:
        """Random weights as CAV-MAE draws them."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for embed in (self.patch_embed_a, self.patch_embed_v):
            nn.init.xavier_uniform_(embed.proj.weight.view(embed.proj.weight.shape[0], -1))
        for token in (self.modality_a, self.modality_v):
            nn.init.normal_(token, std=0.02)

    def _number_layers(self, depth: int, shared_depth: int) -> None:
        """Sets ``layers_above`` of each parameter, for the layer-wise learning rate of :class:`LayerwiseAdamW`."""
        top = depth + shared_depth + 1
        for name, parameter in self.named_parameters():
            block = re.match(r"blocks_([avu])\.(\d+)\.", name)
            if block:
                layer = int(block[2]) + 1 + (depth if block[1] == "u" else 0)
            else:
                layer = top if name.startswith(("norm_", "projection_")) else 0
            parameter.layers_above = top - layer  # type: ignore[attr-defined]


def sincos_positions(rows: int, columns: int, width: int) -> Tensor:
    """Fixed 2-D positions (1, rows * columns, width) of [CAV-MAE], taken from [MAE].

    The first half of the width encodes the column (for voices: time), the second half the row (for voices: frequency),
    each as sines, then cosines.
    """
    rates = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))

    def encode(count: int) -> Tensor:
        angles = torch.arange(count, dtype=torch.float64)[:, None] * rates
        return torch.cat((angles.sin(), angles.cos()), dim=1)

    column = encode(columns).expand(rows, -1, -1)
    row = encode(rows)[:, None].expand(-1, columns, -1)
    return torch.cat((column, row), dim=-1).reshape(1, rows * columns, width).float()


def resize_time(positions: Tensor, rows: int, columns: int) -> Tensor:
    """Positions (1, rows * c, width) of a voice for another number of columns.

    Fewer columns are the first ones. More columns continue the table of :func:`sincos_positions`, if the stored
    positions are one, as CAV-MAE's are; positions that were learnt are interpolated.
    """
    stored = positions.shape[1] // rows
    if columns == stored:
        return positions
    grid: Tensor = positions.unflatten(1, (rows, stored))
    if columns < stored:
        return grid[:, :, :columns].flatten(1, 2)
    if positions.shape[2] % 4 == 0:
        table = sincos_positions(rows, columns, positions.shape[2]).to(positions)
        if torch.allclose(table.unflatten(1, (rows, columns))[:, :, :stored], grid, rtol=0, atol=1e-6):
            return table
    stretched = F.interpolate(grid[0].transpose(1, 2), size=columns, mode="linear")
    return stretched.transpose(1, 2).reshape(1, rows * columns, -1)


def _freeze(network: nn.Module, patterns: Sequence[str]) -> None:
    """Turns off the gradients of parameters whose name matches a pattern."""
    names = dict(network.named_parameters())
    for pattern in patterns:
        frozen = [name for name in names if fnmatchcase(name, pattern)]
        if not frozen:
            near = get_close_matches(pattern, names, n=1, cutoff=0.0)[0]
            raise ValueError(f"network.freeze: {pattern!r} matches no parameter; did you mean {near!r} or '*'?")
        for name in frozen:
            names[name].requires_grad_(False)
