"""From the pixels of a face to what the network takes, with and without augmentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode, v2

Normalisation = Literal["imagenet", "clip"]


# Mean and standard deviation of the channels: ImageNet's as in CAV-MAE, CLIP's as in the [SCC] authors' later wrapper.
STATISTICS: dict[Normalisation, tuple[list[float], list[float]]] = {
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
}


_KINDS = ("brightness", "contrast", "saturation", "hue")  # as torchvision numbers them; there is no change of hue
_GREY = (0.2989, 0.587, 0.114)  # weights of red, green and blue, as torchvision's
PlainTransform = Callable[[Image.Image], Tensor]
TrainingTransform = Callable[[Tensor], Tensor]


def plain_transform(size: int = 224, normalisation: Normalisation = "imagenet") -> PlainTransform:
    """Scales the shorter side to ``size`` (bicubic), crops the centre and normalises.

    Returns:
        PIL RGB -> (3, size, size) float32.
    """
    mean, std = _statistics(normalisation)
    resize = v2.Resize(size, interpolation=InterpolationMode.BICUBIC, antialias=True)
    number = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    transform: PlainTransform = v2.Compose([resize, v2.CenterCrop(size), *number])
    return transform


def augmenting_transform(
    size: int = 224,
    normalisation: Normalisation = "imagenet",
    smallest_crop: float = 0.7,
    colour: float = 0.2,
    flip: float = 0.5,
) -> TrainingTransform:
    """Random crop, mirror image and colours, drawn from torch's global generator (not from the papers).

    Args:
        size: side of the output.
        normalisation: normalisation of the channels.
        smallest_crop: smallest part of the image's area that a crop keeps, 0..1.
        colour: largest relative change of brightness, contrast and saturation.
        flip: probability of a mirror image.

    Returns:
        (3, H, W) uint8 -> (3, size, size) float32.
    """
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in _statistics(normalisation))
    crop = v2.RandomResizedCrop(size, (smallest_crop, 1.0))
    jitter = v2.ColorJitter(brightness=colour, contrast=colour, saturation=colour)

    def transform(image: Tensor) -> Tensor:
        at = crop.make_params([image])
        part = image[None, :, at["top"] : at["top"] + at["height"], at["left"] : at["left"] + at["width"]]
        scaled = interpolate(part, (size, size), mode="bicubic", antialias=True)[0]
        levels = torch.div(scaled.flip(2) if torch.rand(()) < flip else scaled, 255)
        recolour(levels, jitter)
        return torch.addcmul(-mean / std, levels, 1 / std, out=levels)

    return transform


def recolour(image: Tensor, jitter: v2.ColorJitter) -> None:
    """Applies ``jitter`` in place: its own functions make several copies of an image.

    Args:
        image: (3, H, W) in 0..1, changed.
        jitter: of brightness, contrast and saturation.
    """
    drawn = jitter.make_params([])
    for index in drawn["fn_idx"].tolist():
        factor = drawn[f"{_KINDS[index]}_factor"]
        if factor is None:
            continue
        if _KINDS[index] == "brightness":
            image.mul_(factor)
        elif _KINDS[index] == "contrast":
            mean = image.mean((1, 2)).dot(torch.tensor(_GREY))
            torch.lerp(mean, image, factor, out=image)
        else:
            grey = torch.mul(image[0], _GREY[0]).add_(image[1], alpha=_GREY[1]).add_(image[2], alpha=_GREY[2])
            torch.lerp(grey, image, factor, out=image)
        image.clamp_(0, 1)


def _statistics(normalisation: Normalisation) -> tuple[list[float], list[float]]:
    if normalisation not in STATISTICS:
        raise ValueError(f"image_normalisation is {normalisation!r}; choose from {', '.join(get_args(Normalisation))}")
    return STATISTICS[normalisation]
