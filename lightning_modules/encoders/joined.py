"""Several encoders of one modality as one."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.io.text import shown
from datamodules.schema import DataError
from lightning_modules.encoders.base import FrozenEncoder


class JoinedEncoders(FrozenEncoder):
    """The embeddings of several encoders side by side, each scaled to the same length, all together to length 1.

    It is what a data module makes of several feature files with ``normalise``.

    Args:
        encoders: two or more, all of voices or all of faces.

    Raises:
        DataError: none, or of both modalities.
    """

    def __init__(self, encoders: list[FrozenEncoder]) -> None:
        super().__init__()
        kinds = sorted({encoder.modality for encoder in encoders})
        if len(kinds) != 1:
            raise DataError(f"encoders: name some of voices or some of faces, not of {shown(kinds) or 'nothing'}")
        self.modality = kinds[0]
        self.encoders = nn.ModuleList(encoders)
        self.dim = sum(encoder.dim for encoder in encoders)

    def prepare(self, media: Any) -> list[Any]:
        """The inputs of all encoders."""
        return [cast(FrozenEncoder, encoder).prepare(media) for encoder in self.encoders]

    def forward(self, inputs: list[Any]) -> Tensor:
        parts = [encoder(part) for encoder, part in self._parts(inputs)]
        joined = torch.cat([F.normalize(part, dim=1) for part in parts], dim=1)
        return joined / math.sqrt(len(parts))

    def notes(self, inputs: list[Any]) -> dict[str, list[float]]:
        notes: dict[str, list[float]] = {}
        for encoder, part in self._parts(inputs):
            notes |= encoder.notes(part)
        return notes

    def _parts(self, inputs: list[Any]) -> list[tuple[FrozenEncoder, list[Any]]]:
        """Each encoder with its inputs."""
        encoders = cast("list[FrozenEncoder]", list(self.encoders))
        return [(encoder, list(part)) for encoder, part in zip(encoders, zip(*inputs, strict=True), strict=True)]
