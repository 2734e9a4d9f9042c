"""From the pixels of a face to what the network takes, with and without augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal, get_args

import numpy as np
import torch
from numpy.random import Generator
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


COLOURS = ("brightness", "contrast", "saturation")
_STRETCH = math.log(4 / 3)  # of a crop, at most
WHITE = 255  # of the levels that are recoloured
_GREY = (0.2989, 0.587, 0.114)  # weights of red, green and blue, as torchvision's
_GREY_TENSOR = torch.tensor(_GREY)
PlainTransform = Callable[[Image.Image], Tensor]
TrainingTransform = Callable[..., Tensor]


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
    """Random crop, mirror image and colours, as torchvision draws and makes them (not from the papers).

    Args:
        size: side of the output.
        normalisation: normalisation of the channels.
        smallest_crop: smallest part of the image's area that a crop keeps, 0..1.
        colour: largest relative change of brightness, contrast and saturation.
        flip: probability of a mirror image.

    Returns:
        (3, H, W) uint8, generator and ``out`` -> (3, size, size) float32, in the memory of ``out`` if it is not None.
    """
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in _statistics(normalisation))
    scale, offset = 1 / (WHITE * std), -mean / std

    def transform(image: Tensor, rng: Generator, out: Tensor | None = None) -> Tensor:
        top, left, height, width = random_box(image.shape[1], image.shape[2], smallest_crop, rng)
        part = image[None, :, top : top + height, left : left + width]
        # torch scales images whose colours are side by side in half the time, and calculates best on one after another
        part = part.contiguous(memory_format=torch.channels_last)
        scaled = interpolate(part, (size, size), mode="bicubic", antialias=True)[0]
        levels = torch.empty(scaled.shape)
        np.copyto(levels.numpy(), scaled.numpy()[:, :, :: -1 if rng.random() < flip else 1])
        if colour:
            order, limits = rng.permutation(len(COLOURS)), (max(0.0, 1 - colour), 1 + colour)
            factors = [rng.uniform(*limits) for _ in COLOURS]
            recolour(levels, [(COLOURS[i], factors[i]) for i in order])
        return torch.mul(levels, scale, out=out).add_(offset)

    return transform


def random_box(height: int, width: int, smallest: float, rng: Generator) -> tuple[int, int, int, int]:
    """Part of an image that a crop keeps, drawn as by ``RandomResizedCrop`` of torchvision in a fifth of its time.

    Args:
        height: of the image.
        width: of the image.
        smallest: smallest part of the area.
        rng: draws area, shape and place.

    Returns:
        Top, left, height and width.
    """
    for _ in range(10):
        area = height * width * rng.uniform(smallest, 1)
        ratio = math.exp(rng.uniform(-_STRETCH, _STRETCH))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    h, w = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))  # the centre of a long image
    return (height - h) // 2, (width - w) // 2, h, w


def recolour(image: Tensor, changes: Iterable[tuple[str, float]]) -> None:
    """Changes colours in place as ``ColorJitter`` of torchvision, which makes several copies of an image.

    Args:
        image: (3, H, W) in 0..:data:`WHITE`, changed.
        changes: one of :data:`COLOURS` and its factor, in this order.
    """
    for kind, factor in changes:
        if kind == "brightness":
            image.mul_(factor)
        elif kind == "contrast":
            mean = image.mean((1, 2)).dot(_GREY_TENSOR)
            torch.lerp(mean, image, factor, out=image)
        else:
            grey = torch.mul(image[0], _GREY[0]).add_(image[1], alpha=_GREY[1]).add_(image[2], alpha=_GREY[2])
            torch.lerp(grey, image, factor, out=image)
        if factor > 1:  # else levels come nearer to black or grey
            image.clamp_(0, WHITE)


def _statistics(normalisation: Normalisation) -> tuple[list[float], list[float]]:
    if normalisation not in STATISTICS:
        raise ValueError(f"image_normalisation is {normalisation!r}; choose from {', '.join(get_args(Normalisation))}")
    return STATISTICS[normalisation]
