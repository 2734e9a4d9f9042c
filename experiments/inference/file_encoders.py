"""Files in, embeddings out: frozen encoders, trained networks, and trained heads on frozen encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from datamodules.io.media import SAMPLE_RATE, read_audio, read_image, samples_of
from datamodules.media.module import MediaOptions
from datamodules.media.sources import FaceSource, MediaSource, VoiceSource
from datamodules.media.transforms import plain_transform
from datamodules.schema import DataError, Modality
from lightning_modules.base import AssociationModule
from lightning_modules.encoders.base import FrozenEncoder

LONGEST = 60 * SAMPLE_RATE  # of a longer recording the middle is encoded


class FileEncoder(nn.Module, ABC):
    """Encodes files of one modality: :meth:`read` in loader processes, :meth:`forward` where the model is."""

    @abstractmethod
    def read(self, path: str) -> Any:
        """One file as the network's input.

        Raises:
            DataError: unreadable; names the file.
        """

    @abstractmethod
    def forward(self, inputs: list[Any]) -> Tensor:
        """What :meth:`read` gave for B files -> (B, d) float32."""

    def notes(self, inputs: list[Any]) -> dict[str, list[float]]:
        """What else is known of B files, by name: columns of the feature file's index. By default nothing."""
        return {}


class FrozenFiles(FileEncoder):
    """Files by a frozen encoder.

    Args:
        encoder: of voices or faces.
    """

    def __init__(self, encoder: FrozenEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def read(self, path: str) -> Any:
        voice = self.encoder.modality == "voice"
        media: Any = read_audio(path, LONGEST, [0.5])[0] if voice else read_image(path)
        try:
            return self.encoder.prepare(media)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def forward(self, inputs: list[Any]) -> Tensor:
        return self.encoder(inputs)

    def notes(self, inputs: list[Any]) -> dict[str, list[float]]:
        return self.encoder.notes(inputs)


class TrainedFiles(FileEncoder):
    """Files by a network trained on media, read as its tests read them.

    Args:
        model: the trained model.
        modality: which of its branches.
        media: how files become inputs.
    """

    def __init__(self, model: AssociationModule, modality: Modality, media: MediaOptions) -> None:
        super().__init__()
        self.model, self.modality, self.media = model, modality, media
        self.transform = plain_transform(media.image_size, media.image_normalisation)

    def read(self, path: str) -> Tensor:
        return self._source(path).load(0, None)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        return self.model.embed(
            self.modality, self._source().stack(lambda row, out: inputs[row], range(len(inputs)))
        ).float()

    def _source(self, *paths: str) -> MediaSource:
        if self.modality == "face":
            return FaceSource(np.array(paths), self.transform)
        longest = round(self.media.whole_voice * SAMPLE_RATE)
        return VoiceSource(np.array(paths), samples_of(self.media.frames), self.media.voice_crops, longest)


class HeadFiles(FileEncoder):
    """Files by frozen encoders and a head that was trained on their embeddings.

    Args:
        model: the trained model.
        modality: which of its branches.
        encoders: in the order of the feature files it was trained on; several are joined in the same way.
        normalise: whether embeddings are scaled to unit length, as ``data.normalise``.
    """

    def __init__(
        self, model: AssociationModule, modality: Modality, encoders: Sequence[FileEncoder], normalise: bool
    ) -> None:
        super().__init__()
        self.model, self.modality, self.normalise = model, modality, normalise
        self.encoders = nn.ModuleList(encoders)

    def read(self, path: str) -> list[Any]:
        return [cast(FileEncoder, encoder).read(path) for encoder in self.encoders]

    def forward(self, inputs: list[Any]) -> Tensor:
        parts = [encoder(list(part)) for encoder, part in zip(self.encoders, zip(*inputs, strict=True), strict=True)]
        if self.normalise:
            parts = [F.normalize(part, dim=1) / len(parts) ** 0.5 for part in parts]
        x, width = torch.cat(parts, dim=1), self.model.dims[0 if self.modality == "voice" else 1]
        if x.shape[1] != width:
            raise DataError(f"the {self.modality} encoders give {x.shape[1]} numbers, the model was trained on {width}")
        return self.model.embed(self.modality, x).float()


class Files(Dataset[dict[str, Any]]):
    """Files by position, read a batch at a time: ``{"index": (B,), "x": [...]}``.

    Args:
        encoder: reads them.
        paths: all files.
        rows: positions of those that are handed out; None = all.
    """

    def __init__(self, encoder: FileEncoder, paths: NDArray[np.str_], rows: NDArray[np.int64] | None = None) -> None:
        self.encoder, self.paths = encoder, paths
        self.rows = np.arange(len(paths)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, positions: list[int]) -> dict[str, Any]:
        rows = self.rows[positions]
        return {"index": torch.from_numpy(rows), "x": [self.encoder.read(str(path)) for path in self.paths[rows]]}


def checked(embeddings: Tensor, paths: NDArray[np.str_]) -> Tensor:
    """Embeddings (B, d) on the CPU, all finite.

    Raises:
        DataError: one is not; names its file.
    """
    embeddings = embeddings.float().cpu()
    bad = (~torch.isfinite(embeddings).all(dim=1)).nonzero().flatten()
    if len(bad):
        raise DataError(f"{paths[int(bad[0])]}: the embedding contains NaN or inf; check the file")
    return embeddings
