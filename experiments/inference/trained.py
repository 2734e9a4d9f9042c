"""Reads a trained model back, from a run folder, a checkpoint in one, or an export, with what makes files its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datamodules.base import VoiceFaceDataModule
from datamodules.features.module import FeatureDataModule
from datamodules.io.feature_files import FeatureFile
from datamodules.media.module import MediaDataModule, MediaOptions
from datamodules.schema import DataError, Modality
from experiments.config.build import build
from experiments.config.errors import options_of
from experiments.config.files import read_config
from experiments.inference.file_encoders import FileEncoder, FrozenFiles, HeadFiles, TrainedFiles
from experiments.runs.folder import find_checkpoint
from lightning_modules.base import AssociationModule
from lightning_modules.encoders.base import FrozenEncoder
from lightning_modules.networks.weights import load_weights
from lightning_modules.training.hyper_parameters import TRAINING_ONLY, without_start

WEIGHTS, CONFIG, ENCODERS = "model.safetensors", "config.yaml", "embed.yaml"
MEDIA = ("frames", "voice_crops", "whole_voice", "image_size", "image_normalisation")
Spec = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model.

    Attributes:
        model: in evaluation mode.
        spec: ``model`` (class_path, init_args with the sizes) and ``inputs``: ``media``, how files are read, or
            ``normalise``, ``voice`` and ``face``, the encoders whose embeddings it takes, None where unknown.
        source: where it was read, for messages.
        run: the run folder it comes from; None for an export.
    """

    model: AssociationModule
    spec: Spec
    source: Path
    run: Path | None

    def encoder(self, modality: Modality, given: FileEncoder | None = None) -> FileEncoder:
        """Encodes files of a modality into the shared space.

        Args:
            modality: which.
            given: the encoder below a head that does not know its own.

        Raises:
            DataError: the model takes embeddings, and their encoder is unknown.
        """
        inputs = self.spec["inputs"]
        if "media" in inputs:
            return TrainedFiles(self.model, modality, MediaOptions(**inputs["media"]))
        below = [given] if given is not None else [encoder_of(spec) for spec in inputs[modality] or []]
        if not below:
            raise DataError(
                f"{self.source}: was trained on {modality} embeddings that were not made by embed; "
                f"name their encoder: --{modality} encoder/NAME.yaml"
            )
        return HeadFiles(self.model, modality, below, inputs["normalise"])


def read_trained(path: Path) -> Trained:
    """Reads an export, a run folder (its best checkpoint), or a checkpoint in a run folder.

    Raises:
        DataError: none of these, or damaged; weights that do not fit.
    """
    if (path / WEIGHTS).is_file():
        spec, weights, run = read_config(path / CONFIG), path / WEIGHTS, None
    else:
        run = path if path.is_dir() else path.resolve().parent.parent
        if not (run / CONFIG).is_file():
            raise DataError(f"{path}: no export, run folder or checkpoint in one ({WEIGHTS} or {CONFIG} is missing)")
        weights = Path(find_checkpoint("best", run)) if path.is_dir() else path
        spec = describe(run)
    model: AssociationModule = build(spec["model"], AssociationModule, str(path))
    load_weights(model, weights)
    if spec["inputs"].get("normalise", False) is None:
        spec["inputs"]["normalise"] = model.learnt.unit_length is not False
    return Trained(model.eval().requires_grad_(False), spec, path, run)


def describe(run: Path) -> Spec:
    """What an export says of a run's model, see :class:`Trained`. Opens the run's data for its sizes."""
    config = read_config(run / CONFIG)
    data: VoiceFaceDataModule = build(config["data"], VoiceFaceDataModule, f"{run / CONFIG}: data")
    class_path, options = config["model"]["class_path"], dict(config["model"].get("init_args") or {})
    options = {key: value for key, value in without_start(options).items() if key not in TRAINING_ONLY}
    options["dims"] = list(data.dims)
    if "num_identities" in options_of(class_path):
        options["num_identities"] = data.num_identities
    return {"model": {"class_path": class_path, "init_args": options}, "inputs": _inputs(data)}


def encoder_of(spec: Mapping[str, Any]) -> FileEncoder:
    """The encoder that ``embed.yaml`` or an export names: a frozen one, or a branch of a trained model."""
    if "trained" in spec:
        return read_trained(Path(spec["trained"])).encoder(spec["modality"])
    return FrozenFiles(build(spec, FrozenEncoder, str(spec.get("class_path"))))


def _inputs(data: VoiceFaceDataModule) -> Spec:
    if isinstance(data, MediaDataModule):
        return {"media": {key: value for key, value in asdict(data.media).items() if key in MEDIA}}
    if isinstance(data, FeatureDataModule):
        return {"normalise": data.normalise, "voice": _encoders(data, "voice"), "face": _encoders(data, "face")}
    return {"normalise": False, "voice": None, "face": None}


def _encoders(data: FeatureDataModule, modality: Modality) -> list[Spec] | None:
    """The encoders of the feature files a model was trained on, None where a file was not made by ``embed``."""
    specs = []
    for file in data.voices if modality == "voice" else data.faces:
        path = Path(data.root) / (file.path if isinstance(file, FeatureFile) else file)
        if path.name != f"{modality}s.npy" or not (path.parent / ENCODERS).is_file():
            return None
        specs.append(read_config(path.parent / ENCODERS)[modality])
    return specs
