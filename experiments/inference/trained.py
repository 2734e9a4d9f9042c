"""Reads a trained model back, from a run folder, a checkpoint in one, or an export, with what makes files its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from datamodules.base import VoiceFaceDataModule
from datamodules.evaluation.learnt import ENCODERS
from datamodules.features.module import FeatureDataModule
from datamodules.io.documents import damaged
from datamodules.io.feature_files import FeatureFile
from datamodules.joint.module import JointDataModule
from datamodules.media.module import MediaDataModule, MediaOptions
from datamodules.schema import MODALITIES, DataError, Modality
from experiments.config.build import build
from experiments.config.errors import options_of
from experiments.config.files import read_config
from experiments.config.foreign import check
from experiments.inference.file_encoders import FileEncoder, FrozenFiles, HeadFiles, TrainedFiles
from experiments.inference.given import run_of
from experiments.inference.hub import CONFIG, WEIGHTS
from experiments.runs.checkpoints import read_checkpoint
from experiments.runs.folder import find_checkpoint
from lightning_modules.base import AssociationModule
from lightning_modules.encoders.base import FrozenEncoder
from lightning_modules.networks.weights import load_weights
from lightning_modules.training.hyper_parameters import TRAINING_ONLY, without_start
from postproc.metrics.calibration import CALIBRATION, Calibration, read_calibration

DEEPEST = 4  # encoders of encoders
SIZES, INPUTS = ("dims", "num_identities"), ("media", "normalise", "voices", "faces", "root")
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
        trust: whether its encoders may be of any class.
        above: models whose encoders this is, one below the other.
        calibration: what its distances mean; None where it had no validation identities, or is of an earlier version.
    """

    model: AssociationModule
    spec: Spec
    source: Path
    run: Path | None
    trust: bool = False
    above: tuple[Path, ...] = ()
    calibration: Calibration | None = None

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
            with damaged(str(self.source), "get the folder again"):
                options = MediaOptions(**inputs["media"])
            return TrainedFiles(self.model, modality, options)
        above = (*self.above, self.source)
        below = [given] if given is not None else [encoder_of(x, self.trust, above) for x in inputs[modality] or []]
        if not below:
            width = self.model.dims[MODALITIES.index(modality)]
            raise DataError(
                f"{self.source}: was trained on {modality} embeddings that were not made by embed; "
                f"name their encoder: --{modality} encoder/NAME.yaml, one that gives {width} numbers; "
                "`list encoder` shows what there is"
            )
        return HeadFiles(self.model, modality, below, inputs["normalise"])


def read_trained(path: Path, trust: bool = False, above: tuple[Path, ...] = ()) -> Trained:
    """Reads an export, a run folder (its best checkpoint), or a checkpoint in a run folder.

    The folder is data: only classes of this project are made of its config, and of files that it names only the
    weights of frozen encoders and the ``embed.yaml`` beside feature files are read.

    Args:
        path: of the export, folder or checkpoint.
        trust: whether the folder may name any class, whose code then runs, and files of this machine.
        above: models whose encoder it is, one below the other.

    Raises:
        DataError: none of these, or damaged; weights that do not fit; a class or file that needs ``trust``; encoders
            in a circle, or too many below each other.
    """
    if path.resolve() in {one.resolve() for one in above} or len(above) >= DEEPEST:
        chain = " > ".join(str(one) for one in (*above[:DEEPEST], path))
        raise DataError(f"{path}: encoders of encoders without end: {chain}; get the folder again")
    with damaged(str(path), "get the folder again"):
        run = run_of(path)
        if run is None:
            spec, weights = read_config(path / CONFIG), path / WEIGHTS
            _check_spec(spec, path / CONFIG)
        else:
            if path.is_dir() and "inputs" in read_config(run / CONFIG):  # which a run's has not
                raise DataError(f"{path}: is an export without {WEIGHTS}; export again")
            weights = Path(find_checkpoint("best", run)) if path.is_dir() else path
            spec = describe(run, weights, trust)
        spec["model"]["init_args"] = _untrained(spec["model"].get("init_args") or {})
        if not trust:
            check(spec["model"], f"{path}: model")
            _check_size(spec["model"], weights)
        model: AssociationModule = build(spec["model"], AssociationModule, str(path))
        load_weights(model, weights)
        calibration = read_calibration(spec.get(CALIBRATION), str(path))
    if spec["inputs"].get("normalise", False) is None:
        spec["inputs"]["normalise"] = model.learnt.unit_length is not False
    return Trained(model.eval().requires_grad_(False), spec, path, run, trust, above, calibration)


def describe(run: Path, weights: Path, trust: bool = False) -> Spec:
    """What an export says of a run's model, see :class:`Trained`.

    The sizes are in the checkpoint; of one that has none, the data are opened.

    Args:
        run: the run folder.
        weights: its checkpoint.
        trust: as for :func:`read_trained`.
    """
    config = read_config(run / CONFIG)
    for key in ("model", "data"):
        if not isinstance(config.get(key), dict) or not isinstance(config[key].get("init_args") or {}, dict):
            raise DataError(f"{run / CONFIG}: {key} is missing or no class_path with init_args; get the folder again")
        if not trust:
            check({"class_path": config[key].get("class_path")}, f"{run / CONFIG}: {key}")
    class_path, options = config["model"]["class_path"], _untrained(config["model"].get("init_args") or {})
    checkpoint = read_checkpoint(weights)
    stored = checkpoint.get("hyper_parameters")
    sizes = {key: stored[key] for key in SIZES if key in stored} if isinstance(stored, Mapping) else {}
    kind, of_data = _class_of(config["data"]), config["data"].get("init_args") or {}
    if kind is JointDataModule:  # all sets take inputs of one form
        first = next(iter(of_data["sets"].values()))
        if not trust:
            check({"class_path": first["class_path"]}, f"{run / CONFIG}: data.sets")
        kind, of_data = _class_of(first), first.get("init_args") or {}
    if "dims" in sizes and not trust and (kind is FeatureDataModule or issubclass(kind, MediaDataModule)):
        inputs = _inputs(kind, of_data)
    else:
        if not trust:  # with the sizes at hand, the module is made and opens nothing
            check(config["data"], f"{run / CONFIG}: data", files="dims" in sizes)
        data: VoiceFaceDataModule = build(config["data"], VoiceFaceDataModule, f"{run / CONFIG}: data")
        one = next(iter(data.sets.values())) if isinstance(data, JointDataModule) else data
        inputs = _inputs(kind, {name: getattr(one, name, None) for name in INPUTS})
        if "dims" not in sizes:
            sizes["dims"] = list(data.dims)
            if "num_identities" in options_of(class_path):
                sizes["num_identities"] = data.num_identities
    spec = {"model": {"class_path": class_path, "init_args": options | sizes}, "inputs": inputs}
    return spec | ({CALIBRATION: checkpoint[CALIBRATION]} if checkpoint.get(CALIBRATION) else {})


def _class_of(spec: Mapping[str, Any]) -> type:
    module, _, name = str(spec["class_path"]).rpartition(".")
    found: type = getattr(import_module(module), name)
    return found


def encoder_of(spec: Mapping[str, Any], trust: bool = False, above: tuple[Path, ...] = ()) -> FileEncoder:
    """The encoder that ``embed.yaml`` or an export names: a frozen one, or a branch of a trained model.

    Args:
        spec: its ``class_path`` and ``init_args``, or ``trained`` and ``modality``.
        trust: whether it may be of any class; for one that the user names.
        above: models whose encoder it is.

    Raises:
        DataError: it cannot be made, or needs ``trust``.
    """
    if not trust:
        check(spec, "its encoder", weights=True)
    if "trained" in spec:
        return read_trained(Path(spec["trained"]), trust, above).encoder(spec["modality"])
    return FrozenFiles(build(spec, FrozenEncoder, str(spec.get("class_path"))))


def _check_size(spec: Spec, weights: Path) -> None:
    """Refuses a model larger than its file of weights, before it takes memory."""
    with torch.device("meta"):
        model: AssociationModule = build(spec, AssociationModule, str(weights))
    numbers = sum(value.numel() for value in model.state_dict().values())
    if numbers > weights.stat().st_size:  # a number takes two bytes or more
        raise DataError(f"{weights}: has too few bytes for the {numbers:,} numbers of its model; get the folder again")


def _check_spec(spec: Spec, path: Path) -> None:
    """Refuses an export's config that lacks what is read of it."""
    model, inputs = spec.get("model"), spec.get("inputs")
    whole = isinstance(model, dict) and isinstance(model.get("class_path"), str)
    if (
        not whole
        or not isinstance(inputs, dict)
        or not ("media" in inputs or {"normalise", *MODALITIES} <= set(inputs))
    ):
        raise DataError(f"{path}: is no config of an export, which has model and inputs; export again")


def _untrained(options: Mapping[str, Any]) -> Spec:
    """Options of a model without those of its training, and without the files that its weights started from."""
    return {key: value for key, value in without_start(options).items() if key not in TRAINING_ONLY}


def _inputs(kind: type, data: Mapping[str, Any]) -> Spec:
    """What makes files a model's input.

    Args:
        kind: class of the data module.
        data: its options.
    """
    if issubclass(kind, MediaDataModule):
        media = data.get("media") or MediaOptions()
        options = media if isinstance(media, dict) else asdict(media)
        return {"media": {key: value for key, value in options.items() if key in MEDIA}}
    if issubclass(kind, FeatureDataModule):
        return {"normalise": data.get("normalise"), "voice": _encoders(data, "voice"), "face": _encoders(data, "face")}
    return {"normalise": False, "voice": None, "face": None}


def _encoders(data: Mapping[str, Any], modality: Modality) -> list[Spec] | None:
    """The encoders of the feature files a model was trained on, None where a file was not made by ``embed``."""
    specs = []
    for file in data[f"{modality}s"]:
        named = file["path"] if isinstance(file, dict) else file.path if isinstance(file, FeatureFile) else file
        path = Path(data.get("root") or "") / named
        if path.name != f"{modality}s.npy" or not (path.parent / ENCODERS).is_file():
            return None
        specs.append(read_config(path.parent / ENCODERS)[modality])
    return specs
