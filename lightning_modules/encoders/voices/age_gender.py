"""Age and gender of voices, by a wav2vec 2.0 with two heads as audeering trains them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datamodules.schema import DataError
from lightning_modules.encoders.base import FrozenEncoder
from lightning_modules.encoders.folders import model_folder
from lightning_modules.encoders.voices.transformers import FILES, TransformersVoice
from lightning_modules.networks.weights import WeightsError, read_state_dict

HEADS = {"age": 1, "gender": 3}  # numbers that they give; of gender: woman, man, child
OLDEST = 100  # years, for which the age head says 1


class AgeGenderVoice(FrozenEncoder):
    """Estimates age and gender of a voice, for columns ``age`` and ``female`` of the index.

    Args:
        weights: folder of the model, such as ``audeering/wav2vec2-large-robust-24-ft-age-gender``, or its name on the
            Hugging Face hub; files as for :class:`TransformersVoice`.
        encoder: of voices, whose embeddings are written; None = age, and the probabilities of woman, man and child.

    Raises:
        DataError: the extra ``transformers`` is not installed; an encoder of faces; files that are missing or do
            not fit.
    """

    modality = "voice"

    def __init__(self, weights: str, encoder: FrozenEncoder | None = None) -> None:
        super().__init__()
        if encoder is not None and encoder.modality != "voice":
            raise DataError(f"voice.encoder: {type(encoder).__name__} encodes {encoder.modality}s")
        self.network = TransformersVoice(weights)
        folder, width = model_folder(weights, FILES), self.network.dim
        path = next(path for path in (folder / name for name in cast("tuple[str, ...]", FILES[-1])) if path.is_file())
        state = read_state_dict(path)
        self.heads = nn.ModuleDict()
        for name, numbers in HEADS.items():
            head = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, numbers))
            named = {"0": f"{name}.dense", "2": f"{name}.out_proj"}
            own = {f"{i}.{x}": state.get(f"{key}.{x}") for i, key in named.items() for x in ("weight", "bias")}
            try:
                head.load_state_dict(own)
            except (RuntimeError, AttributeError) as error:
                raise WeightsError(f"{path}: has no head for {name} as audeering's models have it") from error
            self.heads[name] = head
        self.encoder, self.dim = encoder, sum(HEADS.values()) if encoder is None else encoder.dim
        self.requires_grad_(False).eval()

    def prepare(self, media: NDArray[np.float32]) -> tuple[Any, ...]:
        """Voice (S,) -> the inputs of the model and of the encoder."""
        own = self.network.prepare(media)
        return (own,) if self.encoder is None else (own, self.encoder.prepare(media))

    def forward(self, inputs: list[tuple[Any, ...]]) -> Tensor:
        if self.encoder is None:
            return self._estimate(inputs)
        embeddings: Tensor = self.encoder([both[1] for both in inputs])
        return embeddings

    def notes(self, inputs: list[tuple[Any, ...]]) -> dict[str, list[float]]:
        age, woman, man, _ = self._estimate(inputs).unbind(dim=1)
        of_encoder = {} if self.encoder is None else self.encoder.notes([both[1] for both in inputs])
        return {**of_encoder, "age": (OLDEST * age).tolist(), "female": (woman / (woman + man)).tolist()}

    def _estimate(self, inputs: list[tuple[Any, ...]]) -> Tensor:
        """Age, and probabilities of woman, man and child (B, 4)."""
        x = self.network([both[0] for both in inputs])
        return torch.cat([self.heads["age"](x), self.heads["gender"](x).softmax(dim=1)], dim=1)
