"""Any image model of timm as a face encoder, with weights from a file."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import cast

import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor

from datamodules.schema import DataError
from lightning_modules.encoders.base import FrozenEncoder
from lightning_modules.encoders.folders import model_folder
from lightning_modules.networks.weights import WeightsError, read_state_dict

FILES: list[str | tuple[str, ...]] = ["config.json", ("model.safetensors", "pytorch_model.bin")]


class TimmFace(FrozenEncoder):
    """Pooled features of a timm model without its classifier. Images are prepared by the model's own configuration.

    Args:
        name: timm's name of the model, such as ``vit_base_patch16_224``; None = ``weights`` says it.
        weights: file of its weights (safetensors, or a pickle of tensors only); without ``name``, a folder of timm with
            ``config.json``, or its name on the Hugging Face hub.

    Raises:
        DataError: an unknown model; weights that are missing, unsafe or of another model.
    """

    modality = "face"

    def __init__(self, name: str | None, weights: str) -> None:
        super().__init__()
        if name is None:
            folder = model_folder(weights, FILES)
            files = (folder / file for file in cast("tuple[str, ...]", FILES[-1]))
            path, model = next(file for file in files if file.is_file()), f"local-dir:{folder}"
            overlay = {}
        else:
            path, model = Path(weights).expanduser(), name
            overlay = {"file": str(path)}
        if name is not None and not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=1)
            raise DataError(f"face.name: timm has no model {name}" + (f"; did you mean {near[0]}?" if near else ""))
        read_state_dict(path)  # refuses unsafe files with a message of one line
        try:
            self.network = timm.create_model(model, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay)
        except (RuntimeError, ValueError, LookupError) as error:
            of = name or "its config.json"
            raise WeightsError(f"{path} does not fit {of}: {' '.join(str(error).split())[:300]}") from error
        self.dim = int(self.network.num_features)  # type: ignore[arg-type]
        self.transform = create_transform(**resolve_data_config({}, model=self.network))
        self.requires_grad_(False).eval()

    def prepare(self, media: Image.Image) -> Tensor:
        """PIL RGB image -> (3, size, size) float32."""
        image: Tensor = self.transform(media)
        return image

    def forward(self, inputs: list[Tensor]) -> Tensor:
        features: Tensor = self.network(torch.stack(inputs))
        return features.float()
