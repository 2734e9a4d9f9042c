"""Image towers of CLIP models as open_clip trains and stores them."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from datamodules.schema import DataError, one_line
from lightning_modules.encoders.base import FrozenEncoder, checked_width, optional, weights_file
from lightning_modules.encoders.folders import model_folder
from lightning_modules.networks.weights import WeightsError, read_state_dict

FILES: list[str | tuple[str, ...]] = [
    "open_clip_config.json",
    ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
]


class OpenClipFace(FrozenEncoder):
    """Image embeddings of a CLIP model, before they are scaled to unit length.

    Args:
        weights: a folder with ``open_clip_config.json`` and its weights, or its name on the Hugging Face hub; with
            ``name``, a file of weights.
        name: open_clip's name of the network, such as ``ViT-B-32``, where ``weights`` is a file.

    Raises:
        DataError: the extra ``open_clip`` is not installed; an unknown name; files that are missing or do not fit.
    """

    modality = "face"

    def __init__(self, weights: str, name: str | None = None) -> None:
        super().__init__()
        library = optional("open_clip", "open_clip")
        if name is None:
            model = f"local-dir:{model_folder(weights, FILES)}"
            file = None
        else:
            if name not in library.list_models():
                raise DataError(f"face.name: open_clip has no model {name}; `open_clip.list_models()` names them")
            model, file = name, str(weights_file(weights, "file of weights"))
            read_state_dict(file)  # refuses unsafe files with a message of one line
        try:
            whole, _, self.transform = library.create_model_and_transforms(
                model, pretrained=file, pretrained_text=False, weights_only=True
            )
        except Exception as error:  # of any of its readers
            raise WeightsError(f"{weights}: not readable by open_clip ({one_line(error, 200)})") from error
        self.network = whole.visual
        self.requires_grad_(False).eval()
        with torch.inference_mode():
            image = self.prepare(Image.new("RGB", (64, 64)))
            self.dim = checked_width(self([image]), 1, weights, None)

    def prepare(self, media: Image.Image) -> Tensor:
        """PIL RGB image -> (3, size, size) float32, as the model's own configuration says."""
        image: Tensor = self.transform(media)
        return image

    def forward(self, inputs: list[Tensor]) -> Tensor:
        features: Tensor = self.network(torch.stack(inputs))
        return features.float()
