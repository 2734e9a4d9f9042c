"""Encoders of files as the network of a method that is trained on media."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.media.transforms import STATISTICS, Normalisation
from datamodules.schema import MODALITIES, DataError, Modality
from lightning_modules.encoders.base import FrozenEncoder
from lightning_modules.networks.heads import HeadPair, Norm


class EncoderPair(nn.Module):
    """Encoders of voices and faces below two heads, for ``model.network`` of SCC and FOP on wav and jpg.

    The encoders get the crops of the data module, augmented in training, and prepare them in the process of the model.
    A face is scaled to ``data.media.image_size`` first. Without ``trainable``, feature files (``embed``) train the same
    heads many times faster, without augmentation. Not from the papers.

    Args:
        voice_dim: not used; the encoders say their widths.
        face_dim: not used.
        voice_encoder: of voices.
        face_encoder: of faces.
        trainable: modalities whose encoder is trained too. Its batch normalisation and dropout stay as in evaluation.
        embedding_dim: see :class:`HeadPair`.
        hidden: see :class:`HeadPair`.
        dropout: see :class:`HeadPair`.
        norm: see :class:`HeadPair`.
        image_normalisation: as ``data.media.image_normalisation``.

    Raises:
        DataError: encoders of another modality, or an encoder that cannot be trained.
    """

    def __init__(
        self,
        voice_dim: int,
        face_dim: int,
        voice_encoder: FrozenEncoder,
        face_encoder: FrozenEncoder,
        trainable: Sequence[Modality] = (),
        embedding_dim: int = 128,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        norm: Norm = "none",
        image_normalisation: Normalisation = "imagenet",
    ) -> None:
        super().__init__()
        for modality, encoder in zip(MODALITIES, (voice_encoder, face_encoder), strict=True):
            if encoder.modality != modality:
                raise DataError(f"network.{modality}_encoder: {type(encoder).__name__} encodes {encoder.modality}s")
            parameters = list(encoder.parameters())
            if modality in trainable and not parameters:
                raise DataError(f"network.trainable: {type(encoder).__name__} has no weights that can be trained")
            for parameter in parameters:
                parameter.requires_grad_(modality in trainable)
        if wrong := sorted(set(trainable) - set(MODALITIES)):
            raise DataError(f"network.trainable names {wrong[0]}; choose from {', '.join(MODALITIES)}")
        self.encoders = nn.ModuleDict({"voice": voice_encoder, "face": face_encoder})
        self.heads = HeadPair(voice_encoder.dim, face_encoder.dim, embedding_dim, hidden, dropout, norm)
        self.embedding_dim, self.trainable = embedding_dim, tuple(trainable)
        self.image_normalisation: Normalisation = image_normalisation

    def voice(self, waveforms: Tensor) -> Tensor:
        """Waveforms (B, S), or (B, K, S) with K crops of each voice, padded with NaN -> unit embeddings (B, d).

        The embedding of several crops is the normalised mean of their embeddings.
        """
        crops = waveforms.flatten(0, -2).float().cpu()
        media = [crop[~crop.isnan()].numpy() for crop in crops]
        embedding = self.heads.voice(self._encode("voice", media, waveforms.device))
        if waveforms.ndim == 3:
            embedding = F.normalize(embedding.unflatten(0, waveforms.shape[:2]).mean(dim=1), dim=-1)
        return embedding

    def face(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, size, size) -> unit embeddings (B, d)."""
        mean, std = (torch.tensor(value)[:, None, None] for value in STATISTICS[self.image_normalisation])
        colours = ((images.float().cpu() * std + mean) * 255).round().clamp(0, 255)
        pixels = colours.permute(0, 2, 3, 1).numpy().astype(np.uint8)
        return self.heads.face(self._encode("face", [Image.fromarray(image) for image in pixels], images.device))

    def _encode(self, modality: Modality, media: Sequence[object], device: torch.device) -> Tensor:
        """Recordings or images -> embeddings (n, d) of their encoder."""
        encoder = cast(FrozenEncoder, self.encoders[modality])
        inputs = move_data_to_device([encoder.prepare(one) for one in media], device)
        with torch.set_grad_enabled(modality in self.trainable and torch.is_grad_enabled()):
            embeddings: Tensor = encoder(inputs)
        return embeddings
