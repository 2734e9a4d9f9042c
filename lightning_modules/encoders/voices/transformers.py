"""Audio models of the library transformers: WavLM, wav2vec 2.0, HuBERT and the like."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.schema import DataError, one_line
from lightning_modules.encoders.base import SAMPLE_RATE, FrozenEncoder, checked_width, optional
from lightning_modules.encoders.folders import model_folder

Pooling = Literal["mean", "mean_std", "xvector"]
FILES: list[str | tuple[str, ...]] = [
    "config.json",
    "preprocessor_config.json",
    ("model.safetensors", "pytorch_model.bin"),
]


class TransformersVoice(FrozenEncoder):
    """Mean over time of one layer of an audio model, or the output of its head for speaker verification.

    Weights are read as safetensors, or as a pickle of tensors only; code that a folder brings is not run.

    Args:
        weights: folder with ``config.json``, ``preprocessor_config.json`` and ``model.safetensors`` or
            ``pytorch_model.bin``, or its name on the Hugging Face hub.
        layer: whose output is taken: 0 = the input of the first, 1 = the first, and so on; None = the last. Lower
            layers tell speakers apart best.
        pooling: over time: ``mean``; ``mean_std``, with the standard deviation behind it; ``xvector`` = the embedding
            of a model trained for speaker verification (``WavLMForXVector``).

    Raises:
        DataError: the extra ``transformers`` is not installed; an unknown layer; files that are missing or do not fit.
    """

    modality = "voice"

    def __init__(self, weights: str, layer: int | None = None, pooling: Pooling = "mean") -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            raise DataError(f"voice.pooling is {pooling!r}; choose from {', '.join(get_args(Pooling))}")
        library = optional("transformers", "transformers")
        folder = model_folder(weights, FILES)
        library.utils.logging.disable_progress_bar()
        kind = library.AutoModelForAudioXVector if pooling == "xvector" else library.AutoModel
        try:
            self.extractor = library.AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
            self.network, report = kind.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
        except Exception as error:  # of any of its readers
            raise DataError(f"{folder}: not readable by transformers ({one_line(error, 200)})") from error
        if missing := sorted(report["missing_keys"]):
            raise DataError(
                f"{folder}: its weights lack {len(missing)} tensors of {type(self.network).__name__}: {missing[0]}"
            )
        if self.network.config.is_encoder_decoder:
            raise DataError(f"{folder}: {type(self.network).__name__} also decodes; only encoders are supported")
        if self.extractor.sampling_rate != SAMPLE_RATE:
            raise DataError(f"{folder}: takes {self.extractor.sampling_rate} Hz; 16000 Hz is supported")
        self.pooling, self.layer = pooling, layer
        self.requires_grad_(False).eval()
        with torch.inference_mode():
            trial = self.prepare(np.random.default_rng(0).normal(size=SAMPLE_RATE).astype(np.float32))
            last = len(self._run(trial).hidden_states) - 1
            if layer is not None and (pooling == "xvector" or not 0 <= layer <= last):
                why = "pooling xvector takes none" if pooling == "xvector" else f"{folder} has layers 0 to {last}"
                raise DataError(f"voice.layer is {layer}, but {why}")
            self.dim = checked_width(self([trial]), 1, str(folder), None)

    def prepare(self, media: NDArray[np.float32]) -> Tensor:
        """Voice (S,) -> what the model's own feature extractor makes of it, without a batch axis."""
        made = self.extractor(media, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        x: Tensor = made[self.extractor.model_input_names[0]][0]
        return x.float()

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Embeds one voice at a time: not all of these models were trained with masks, so padding would change them."""
        return torch.cat([self._encode(x) for x in inputs]).float()

    def _run(self, x: Tensor) -> Any:
        return self.network(x[None], output_hidden_states=True)

    def _encode(self, x: Tensor) -> Tensor:
        output = self._run(x)
        if self.pooling == "xvector":
            embedding: Tensor = output.embeddings
            return embedding
        states: Tensor = output.hidden_states[-1 if self.layer is None else self.layer]
        mean = states.mean(dim=1)
        if self.pooling == "mean":
            return mean
        return torch.cat([mean, states.std(dim=1, unbiased=False)], dim=1)
