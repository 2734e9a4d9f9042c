"""What happens to an image between the file and the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

Normalisation = Literal["imagenet", "clip"]

# Mean and standard deviation of the channels. ImageNet's are CAV-MAE's, CLIP's the [SCC] authors' later wrapper's.
STATISTICS: dict[Normalisation, tuple[list[float], list[float]]] = {
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
}

ImageTransform = Callable[[Image.Image], Tensor]


def plain_transform(size: int = 224, normalisation: Normalisation = "imagenet") -> ImageTransform:
    """Shorter side to ``size`` (bicubic), centre crop, normalise: PIL RGB -> (3, size, size) float32."""
    resize = v2.Resize(size, interpolation=InterpolationMode.BICUBIC, antialias=True)
    return v2.Compose([resize, v2.CenterCrop(size), *_to_tensor(normalisation)])


def augmenting_transform(
    size: int = 224,
    normalisation: Normalisation = "imagenet",
    smallest_crop: float = 0.7,
    colour: float = 0.2,
    flip: float = 0.5,
) -> ImageTransform:
    """Random crop, mirror and colour, drawn from torch's global generator (not from the paper).

    Args:
        size: side of the output.
        normalisation: of the channels.
        smallest_crop: share of the image's area a crop keeps at least.
        colour: largest relative change of brightness, contrast and saturation.
        flip: probability of a mirror image.

    Returns:
        PIL RGB -> (3, size, size) float32.
    """
    crop = v2.RandomResizedCrop(size, (smallest_crop, 1.0), interpolation=InterpolationMode.BICUBIC, antialias=True)
    jitter = v2.ColorJitter(brightness=colour, contrast=colour, saturation=colour)
    # on tensors, colours as floats: less than half the time of the same on a PIL image
    image, number, normalise = _to_tensor(normalisation)
    return v2.Compose([image, crop, v2.RandomHorizontalFlip(flip), number, jitter, normalise])


def _to_tensor(normalisation: Normalisation) -> list[torch.nn.Module]:
    if normalisation not in STATISTICS:
        raise ValueError(f"image_normalisation is {normalisation!r}; choose from {', '.join(get_args(Normalisation))}")
    mean, std = STATISTICS[normalisation]
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
