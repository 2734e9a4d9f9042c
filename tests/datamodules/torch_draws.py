"""Torch's global generator in place of numpy's: what is drawn by it is what torchvision draws after the same seed."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray


class TorchDraws:
    """The methods of a numpy generator that :func:`augmenting_transform` calls."""

    def random(self) -> float:
        return torch.rand(1).item()

    def uniform(self, low: float, high: float) -> float:
        return torch.empty(1).uniform_(low, high).item()

    def integers(self, count: int) -> int:
        return int(torch.randint(count, (1,)))

    def permutation(self, count: int) -> NDArray[np.int64]:
        order = torch.randperm(4).numpy()  # torchvision also places the change of hue
        return order[order < count]


def torch_draws(seed: int) -> Generator:
    """As a generator, after ``torch.manual_seed``."""
    torch.manual_seed(seed)
    return cast(Generator, TorchDraws())
