"""Frozen pre-trained encoders of one modality: the shared part. Each family is one file beside this one."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any, ClassVar

from torch import Tensor, nn

from datamodules.schema import DataError, Modality

SAMPLE_RATE = 16_000


class FrozenEncoder(nn.Module, ABC):
    """Recordings or images -> embeddings, by weights that nobody trains here.

    The work is cut in two so that loader processes share it: :meth:`prepare` runs in them, an item at a time, on the
    CPU; :meth:`forward` runs where the model is, a batch at a time.

    Attributes:
        modality: what it encodes.
        dim: width d of its embeddings.
    """

    modality: ClassVar[Modality]
    dim: int

    @abstractmethod
    def prepare(self, media: Any) -> Tensor:
        """A voice (S,) float32 at 16 kHz, or a face as a PIL RGB image -> the network's input, of any shape.

        Raises:
            DataError: media this encoder can make nothing of; the caller names the file.
        """

    @abstractmethod
    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Prepared inputs of B items -> (B, dim) float32."""

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Stays in evaluation mode."""
        return super().train(False)


def optional(module: str) -> Any:
    """Imports a module of the extra ``pretrained``, without the warning that ``pkg_resources`` will go some day.

    Raises:
        DataError: it, or what it needs, is not installed.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
        warnings.filterwarnings("ignore", "Please import `binary_dilation`", DeprecationWarning)
        try:
            return import_module(module)
        except ImportError as error:
            missing = error.name or module
            raise DataError(f"{missing} is not installed: pip install 'voiceface[pretrained]'") from error
