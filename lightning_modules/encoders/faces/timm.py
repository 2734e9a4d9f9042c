"""Any image model of timm as a face encoder, with weights from a file."""

from __future__ import annotations

import difflib
from pathlib import Path

import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor

from datamodules.schema import DataError
from lightning_modules.encoders.base import FrozenEncoder
from lightning_modules.networks.weights import WeightsError, read_state_dict


class TimmFace(FrozenEncoder):
    """Pooled features of a timm model without its classifier. Images are prepared by the model's own configuration.

    Args:
        name: timm's name of the model, such as ``vit_base_patch16_224``.
        weights: file of its weights (safetensors, or a pickle of tensors only); nothing is downloaded.

    Raises:
        DataError: an unknown model; weights that are missing, unsafe or of another model.
    """

    modality = "face"

    def __init__(self, name: str, weights: str) -> None:
        super().__init__()
        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=1)
            raise DataError(f"face.name: timm has no model {name}" + (f"; did you mean {near[0]}?" if near else ""))
        path = Path(weights).expanduser()
        read_state_dict(path)  # refuses unsafe files with a message of one line
        try:
            self.network = timm.create_model(
                name, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": str(path)}
            )
        except RuntimeError as error:
            raise WeightsError(f"{path} does not fit {name}: {' '.join(str(error).split())[:300]}") from error
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
