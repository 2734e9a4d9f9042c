"""A trained model for use in Python: ``from experiments import load``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from datamodules.schema import DataError, Modality
from experiments.config.files import find_config, read_config
from experiments.inference.hub import local_folder
from experiments.inference.scoring import embed_files
from experiments.inference.trained import Trained, encoder_of, read_trained
from experiments.runs.results import Results, read_results
from lightning_modules.evaluation.scorer import SCORING_CHUNK

Files = Sequence[str | Path]
Array = NDArray[np.float32]


class LoadedModel:
    """A trained model that embeds voices and faces and compares them.

    Args:
        trained: as :func:`experiments.inference.trained.read_trained` reads it.
        device: where it computes.

    Attributes:
        results: the content of results.json; None for an export, and for a run that was not tested on labels.
    """

    def __init__(self, trained: Trained, device: torch.device) -> None:
        self.trained, self.device = trained, device
        self.trained.model.to(device)
        path = trained.run / "results.json" if trained.run is not None else None
        self.results: Results | None = read_results(path) if path is not None and path.is_file() else None

    def embed_voices(self, voices: Files | Array, encoder: str | Path | None = None, batch_size: int = 64) -> Array:
        """Embeds recordings.

        Args:
            voices: audio files, or (n, d) embeddings of the frozen encoder that the model was trained on.
            encoder: ``encoder/NAME.yaml`` of the frozen encoder, where the model does not know it.
            batch_size: files at once.

        Returns:
            (n, d) float32 embeddings in the space that voices and faces share.

        Raises:
            DataError: a file that cannot be read, or a model whose encoder is unknown.
        """
        return self._embed("voice", voices, encoder, batch_size)

    def embed_faces(self, faces: Files | Array, encoder: str | Path | None = None, batch_size: int = 64) -> Array:
        """Embeds pictures; as :meth:`embed_voices`."""
        return self._embed("face", faces, encoder, batch_size)

    @torch.inference_mode()
    def distance(self, voices: Array, faces: Array) -> Array:
        """Distances between embedded voices and faces; lower = more likely the same person.

        Args:
            voices: (..., d) embeddings of :meth:`embed_voices`.
            faces: (..., d) embeddings of :meth:`embed_faces`.

        Returns:
            (...) float32 distances of aligned rows: two arrays (n, d) give (n,). Other shapes broadcast as in NumPy:
            ``distance(v[:, None], f[None])`` compares all n voices with all m faces and gives (n, m).
        """
        pair = np.broadcast_arrays(voices, faces)
        width = pair[0].shape[-1]
        rows = [torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32).reshape(-1, width)) for x in pair]
        parts = [
            self.trained.model.distance(*(x[start : start + SCORING_CHUNK].to(self.device) for x in rows)).float().cpu()
            for start in range(0, len(rows[0]), SCORING_CHUNK)
        ]
        flat = torch.cat(parts).numpy() if parts else np.empty(0, dtype=np.float32)
        return np.asarray(flat, dtype=np.float32).reshape(pair[0].shape[:-1])

    def _embed(self, modality: Modality, inputs: Files | Array, encoder: str | Path | None, batch_size: int) -> Array:
        if isinstance(inputs, np.ndarray) and inputs.dtype.kind == "f":
            return self._embed_features(modality, inputs)
        below = None if encoder is None else encoder_of(read_config(find_config(str(encoder))), trust=True)
        files = self.trained.encoder(modality, below).to(self.device).eval()
        paths = np.array([str(path) for path in inputs], dtype=np.str_)
        if not len(paths):
            raise DataError(f"no {modality} files to embed")
        return np.asarray(embed_files(files, paths, self.device, batch_size, 0).numpy(), dtype=np.float32)

    @torch.inference_mode()
    def _embed_features(self, modality: Modality, features: Array) -> Array:
        """Encoder embeddings through the model, scaled to unit length where it was trained on scaled ones."""
        inputs, width = self.trained.spec["inputs"], self.trained.model.dims[0 if modality == "voice" else 1]
        if "media" in inputs:
            raise DataError(f"{self.trained.source}: takes {modality} files, not embeddings")
        if features.ndim != 2 or features.shape[1] != width:
            raise DataError(f"{modality} embeddings of shape {features.shape}: the model takes (n, {width})")
        x = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32)).to(self.device)
        if inputs["normalise"]:
            x = F.normalize(x, dim=1)
        return np.asarray(self.trained.model.embed(modality, x).float().cpu().numpy(), dtype=np.float32)


def load(path: str | Path, device: str | None = None, trust: bool = False) -> LoadedModel:
    """Reads a trained model.

    Args:
        path: a run folder (its best checkpoint), a checkpoint in one, an export, or ``hf://USER/NAME[@REVISION]``.
        device: e.g. ``cpu`` or ``cuda:1``; None takes a GPU where there is one.
        trust: whether the folder may name any class, whose code then runs, and files of this machine.

    Raises:
        DataError: none of these, or damaged.
    """
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return LoadedModel(read_trained(local_folder(path), trust), torch.device(chosen))
