"""Speaker encoders of SpeechBrain (ECAPA-TDNN, x-vectors, ResNet), from folders in its own format."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from datamodules.io.text import read_text
from datamodules.schema import DataError, one_line
from lightning_modules.encoders.base import SAMPLE_RATE, FrozenEncoder, checked_width, optional
from lightning_modules.encoders.folders import model_folder
from lightning_modules.networks.weights import WeightsError, misfits, read_file, read_state_dict

PARAMETERS, NETWORK, STATISTICS = "hyperparams.yaml", "embedding_model.ckpt", "mean_var_norm.ckpt"
CLASSES = {
    "compute_features": ["speechbrain.lobes.features.Fbank"],
    "mean_var_norm": ["speechbrain.processing.features.InputNormalization"],
    "embedding_model": [
        "speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN",
        "speechbrain.lobes.models.Xvector.Xvector",
        "speechbrain.lobes.models.ResNet.ResNet",
    ],
}
"""Classes that a file of hyperparameters may name, by key. All else in it is left out."""
ACTIVATIONS = ("ReLU", "LeakyReLU", "GELU", "PReLU", "SiLU", "Identity")


class SpeechBrainVoice(FrozenEncoder):
    """The embeddings of ``EncoderClassifier.encode_batch``.

    SpeechBrain's ``hyperparams.yaml`` can run any code. Here it is read as plain YAML: the front end, its
    normalisation and the network are made of the classes above with plain values, and nothing else in it is used.

    Args:
        weights: folder with ``hyperparams.yaml`` and ``embedding_model.ckpt``, or its name on the Hugging Face hub.

    Raises:
        DataError: the extra ``speechbrain`` is not installed; a folder that lacks a file, or whose files do not fit.
    """

    modality = "voice"

    def __init__(self, weights: str) -> None:
        super().__init__()
        folder = model_folder(weights, [PARAMETERS, NETWORK])
        values = _Values(folder / PARAMETERS)
        self.front_end, self.norm, self.network = (values.make(key) for key in CLASSES)
        if values.sample_rate != SAMPLE_RATE:
            raise DataError(f"{folder / PARAMETERS}: takes {values.sample_rate} Hz; 16000 Hz is supported")
        state = read_state_dict(folder / NETWORK)
        if problems := misfits(self.network.state_dict(), state):
            raise WeightsError(f"{folder / NETWORK} does not fit {type(self.network).__name__}: {problems}")
        self.network.load_state_dict(state)
        if self.norm.norm_type == "global":
            folder = model_folder(weights, [PARAMETERS, NETWORK, STATISTICS])
            self.norm._load_statistics_dict(read_file(folder / STATISTICS))
        self.requires_grad_(False).eval()
        with torch.inference_mode():
            self.dim = checked_width(self([torch.zeros(SAMPLE_RATE)]), 1, str(folder), None)

    def prepare(self, media: NDArray[np.float32]) -> Tensor:
        """Voice (S,) -> (S,)."""
        return torch.from_numpy(media)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Embeds one voice at a time, so that none is padded."""
        return torch.cat([self._encode(x) for x in inputs]).float()

    def _encode(self, x: Tensor) -> Tensor:
        whole = torch.ones(1, device=x.device)
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
            torch.manual_seed(0)  # the pooling of x-vectors adds a little noise
            output: Tensor = self.network(self.norm(self.front_end(x[None]), whole), whole)
        return output.reshape(1, -1)


class _Values:
    """The hyperparameters of a file, as plain values.

    Args:
        path: of ``hyperparams.yaml``.

    Raises:
        DataError: no mapping in YAML.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.values = yaml.load(read_text(path, "hyperparameters"), Loader=_Loader)
        except yaml.YAMLError as error:
            raise DataError(f"{path}: not readable as YAML ({one_line(error, 200)})") from error
        if not isinstance(self.values, Mapping):
            raise DataError(f"{path}: holds no hyperparameters; get the folder again")
        self.sample_rate = self._plain(self.values.get("sample_rate", SAMPLE_RATE), "sample_rate")

    def make(self, key: str) -> Any:
        """The object of a key, of an allowed class.

        Raises:
            DataError: no such key, another class, or arguments that are no plain values.
        """
        value = self.values.get(key)
        if not isinstance(value, _Tagged) or value.tag.removeprefix("!new:") not in CLASSES[key]:
            said = value.tag if isinstance(value, _Tagged) else type(value).__name__
            allowed = " or ".join(name.rpartition(".")[2] for name in CLASSES[key])
            raise DataError(f"{self.path}: {key} is {said}; only {allowed} of SpeechBrain is made of it")
        if not isinstance(value.content, Mapping):
            raise DataError(f"{self.path}: {key} has no named arguments")
        module, _, name = value.tag.removeprefix("!new:").rpartition(".")
        arguments = {name: self._plain(one, f"{key}.{name}") for name, one in value.content.items()}
        try:
            kind = getattr(optional(module, "speechbrain"), name)
            _forget_lazy_modules()
            return kind(**arguments)
        except (TypeError, ValueError, RuntimeError, AssertionError, LookupError) as error:
            raise DataError(f"{self.path}: {key} cannot be made ({one_line(error, 200)})") from error

    def _plain(self, value: Any, key: str, depth: int = 0) -> Any:
        """A value without tags: a reference to another key is replaced by its value, an activation by its class."""
        if isinstance(value, _Tagged) and depth < 9:
            reference = re.fullmatch(r"<(\w+)>", str(value.content))
            if value.tag == "!ref" and reference and reference[1] in self.values:
                return self._plain(self.values[reference[1]], key, depth + 1)
            name = value.tag.removeprefix("!name:torch.nn.")
            if value.tag.startswith("!name:torch.nn.") and name.rpartition(".")[2] in ACTIVATIONS:
                return getattr(torch.nn, name.rpartition(".")[2])
        if isinstance(value, list):
            return [self._plain(one, key, depth) for one in value]
        if value is None or isinstance(value, bool | int | float | str):
            return value
        said = f"{value.tag} {value.content}" if isinstance(value, _Tagged) else type(value).__name__
        raise DataError(f"{self.path}: {key} is {one_line(said, 80)}; only plain values are read, nothing is run")


def _forget_lazy_modules() -> None:
    """Takes SpeechBrain's lazy modules out of Python's table: what looks through it would import what is missing."""
    for name, module in list(sys.modules.items()):
        if name.startswith("speechbrain.") and type(module).__module__ == "speechbrain.utils.importutils":
            del sys.modules[name]


class _Tagged:
    """What stands behind a tag of HyperPyYAML; nothing is made of it."""

    def __init__(self, tag: str, content: Any) -> None:
        self.tag, self.content = tag, content


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Plain YAML, with tags kept."""


def _tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> _Tagged:
    if isinstance(node, yaml.MappingNode):
        return _Tagged(node.tag, loader.construct_mapping(node, deep=True))
    if isinstance(node, yaml.SequenceNode):
        return _Tagged(node.tag, loader.construct_sequence(node, deep=True))
    return _Tagged(node.tag, loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None)


_Loader.add_multi_constructor("!", _tagged)
