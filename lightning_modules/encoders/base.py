"""The base class of frozen pre-trained encoders of one modality."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any, ClassVar

from torch import Tensor, nn

from datamodules.schema import DataError, Modality

SAMPLE_RATE = 16_000


class FrozenEncoder(nn.Module, ABC):
    """Recordings or images -> embeddings, with weights that are not trained.

    :meth:`prepare` runs in loader processes on the CPU, one item at a time. :meth:`forward` runs on the device of the
    model, one batch at a time.

    Attributes:
        modality: ``voice`` or ``face``.
        dim: width d of the embeddings.
    """

    modality: ClassVar[Modality]
    dim: int

    @abstractmethod
    def prepare(self, media: Any) -> Tensor:
        """A voice (S,) float32 at 16 kHz, or a face as a PIL RGB image -> the network's input, of any shape.

        Raises:
            DataError: the encoder cannot use this item; the caller adds the name of the file.
        """

    @abstractmethod
    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Prepared inputs of B items -> (B, dim) float32."""

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Does nothing but stay in evaluation mode."""
        return super().train(False)


def optional(module: str) -> Any:
    """Imports a module of the extra ``pretrained``, without its deprecation warnings.

    Raises:
        DataError: the module, or one that it needs, is not installed.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
        warnings.filterwarnings("ignore", "Please import `binary_dilation`", DeprecationWarning)
        try:
            return import_module(module)
        except ImportError as error:
            missing = error.name or module
            raise DataError(f"{missing} is not installed: pip install 'voiceface[pretrained]'") from error
