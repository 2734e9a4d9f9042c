"""Both branches of a model as ONNX files with a free batch size, checked with onnxruntime.

Their metadata say, as ``learnt``, whom and which languages the model has learnt from. No command reads ONNX files.

A head takes embeddings (B, d). A network on media takes what its front end makes: normalised filter banks (B, T, bins),
and normalised images (B, 3, size, size). The front end stays outside: ONNX's Fourier operators are slow and rarely
supported, and where a network is deployed there is a Kaldi filter bank already.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datamodules.io.writing import draft_of
from datamodules.schema import MODALITIES, DataError, Modality
from experiments.inference.trained import Trained
from lightning_modules.base import AssociationModule
from lightning_modules.networks.cavmae import CAVMAE
from lightning_modules.networks.weights import LEARNT

TOLERANCE = 1e-4
CHECKED = (1, 3)  # batch sizes


class Branch(nn.Module):
    """One branch of a model as a module: inputs (B, ...) -> embeddings (B, d).

    Args:
        model: the model.
        modality: which branch.
    """

    def __init__(self, model: AssociationModule, modality: Modality) -> None:
        super().__init__()
        network = getattr(model, "network", None)
        self.model = model
        if modality == "face":
            self.embed: Any = model.embed_face
        else:
            self.embed = network.encode_voice if isinstance(network, CAVMAE) else model.embed_voice

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.embed(x)
        return embedding


def example(model: AssociationModule, modality: Modality, batch: int) -> Tensor:
    """A random input of a branch."""
    network = getattr(model, "network", None)
    generator = torch.Generator().manual_seed(batch)
    shape: tuple[int, ...] = (model.dims[MODALITIES.index(modality)],)
    if isinstance(network, CAVMAE):
        side = network.image_size
        shape = (network.frames, model.dims[0]) if modality == "voice" else (model.dims[1], side, side)
    return torch.randn(batch, *shape, generator=generator)


def export_onnx(trained: Trained, out: Path) -> dict[Path, float]:
    """Writes ``voice.onnx`` and ``face.onnx``.

    Returns:
        The files, and the largest difference between onnxruntime and torch (fp32) on random inputs.

    Raises:
        DataError: the extra ``onnx`` is not installed, or the difference is above 1e-4.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  the exporter needs it and says so late
    except ImportError as error:
        raise DataError(f"{error.name} is not installed: pip install 'voiceface[onnx]'") from error
    largest = {}
    for modality in MODALITIES:
        path, branch = out / f"{modality}.onnx", Branch(trained.model, modality).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter about its own deprecations
            program = torch.onnx.export(
                branch,
                (example(trained.model, modality, 2),),
                input_names=["x"],
                output_names=["embedding"],
                dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1)}},
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        program.model.metadata_props[LEARNT] = json.dumps(trained.model.learnt.plain())
        content = program.model_proto.SerializeToString()
        with draft_of(path) as draft:
            draft.write_bytes(content)
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        differences = []
        for size in CHECKED:
            x = example(trained.model, modality, size)
            with torch.inference_mode():
                want = branch(x).numpy()
            differences.append(float(np.abs(session.run(None, {"x": x.numpy()})[0] - want).max()))
        largest[path] = max(differences)
        if not largest[path] <= TOLERANCE:
            raise DataError(f"{path}: onnxruntime and torch differ by {largest[path]:.1e}, more than {TOLERANCE:.0e}")
    return largest
