"""Self-supervised speech models of torchaudio as voice encoders, with weights from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchaudio import pipelines

from datamodules.schema import DataError
from lightning_modules.encoders.base import FrozenEncoder
from lightning_modules.networks.weights import WeightsError, read_state_dict


class TorchaudioVoice(FrozenEncoder):
    """Mean over time of one transformer layer of a wav2vec 2.0, HuBERT or WavLM bundle.

    Args:
        bundle: its name in ``torchaudio.pipelines``, such as ``WAVLM_BASE_PLUS``.
        weights: the bundle's file, as torchaudio downloads it; nothing is downloaded here.
        layer: number of the layer, 1 = the first; lower layers tell speakers apart best.

    Raises:
        DataError: an unknown bundle or layer; weights that are missing, unsafe or of another model.
    """

    modality = "voice"

    def __init__(self, bundle: str, weights: str, layer: int = 4) -> None:
        super().__init__()
        known = [name for name in dir(pipelines) if isinstance(getattr(pipelines, name), pipelines.Wav2Vec2Bundle)]
        if bundle not in known:
            raise DataError(f"voice.bundle: torchaudio has no bundle {bundle}; choose from {', '.join(known)}")
        path = Path(weights).expanduser().resolve()
        read_state_dict(path)  # refuses unsafe files with a message of one line
        local = {"model_dir": str(path.parent), "file_name": path.name, "weights_only": True}
        try:
            self.network = getattr(pipelines, bundle).get_model(dl_kwargs=local)
        except RuntimeError as error:
            raise WeightsError(f"{path} does not fit {bundle}: {' '.join(str(error).split())[:300]}") from error
        self.layer = layer
        with torch.inference_mode():
            layers = self.network.extract_features(torch.zeros(1, 16_000))[0]
        if not 1 <= layer <= len(layers):
            raise DataError(f"voice.layer is {layer}, but {bundle} has layers 1 to {len(layers)}")
        self.dim = layers[0].shape[-1]
        self.requires_grad_(False).eval()

    def prepare(self, media: NDArray[np.float32]) -> Tensor:
        """Voice (S,) -> (S,)."""
        return torch.from_numpy(media)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Embeds one voice at a time: these models were trained without masks, so padding would change embeddings."""
        means = [self.network.extract_features(x[None], num_layers=self.layer)[0][-1].mean(dim=1) for x in inputs]
        return torch.cat(means).float()
