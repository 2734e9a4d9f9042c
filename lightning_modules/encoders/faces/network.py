"""What encoders of faces that come as a file of a whole network have in common: how an image becomes its input."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.schema import DataError
from lightning_modules.encoders.base import FrozenEncoder, checked_width

Colour = float | list[float]


class FaceNetwork(FrozenEncoder):
    """Scales an image to the network's size (bilinear), and its colours by (x - mean) / std with x from 0 to 255.

    Args:
        size: side of the input in pixels, or (height, width).
        colours: order of the channels.
        mean: subtracted; one number, or one for each channel in the network's order.
        std: divides.
        channels_last: whether the network takes (height, width, 3) instead of (3, height, width).

    Raises:
        DataError: an option out of range.
    """

    modality = "face"

    def __init__(
        self,
        size: int | tuple[int, int],
        colours: Literal["RGB", "BGR"],
        mean: Colour,
        std: Colour,
        channels_last: bool,
    ) -> None:
        super().__init__()
        self.size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        self.mean, self.std = np.array(mean, dtype=np.float32), np.array(std, dtype=np.float32)
        for name, value in (("mean", self.mean), ("std", self.std)):
            if value.shape not in ((), (3,)) or (name == "std" and not (value > 0).all()):
                raise DataError(f"face.{name}: {value.tolist()} must be one number or three, and std above 0")
        if min(self.size) < 1:
            raise DataError(f"face.size: {self.size} must be 1 or more")
        self.reverse, self.channels_last = colours == "BGR", channels_last

    @abstractmethod
    def run(self, x: Tensor) -> Tensor:
        """Images (b, 3, height, width) or (b, height, width, 3) -> (b, d) on the same device."""

    def prepare(self, media: Image.Image) -> Tensor:
        """PIL RGB image -> (3, height, width) or (height, width, 3) float32."""
        height, width = self.size
        pixels = np.asarray(media.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
        pixels = (pixels[..., ::-1] if self.reverse else pixels) - self.mean
        x = torch.from_numpy(np.ascontiguousarray(pixels / self.std))
        return x if self.channels_last else x.permute(2, 0, 1).contiguous()

    def forward(self, inputs: list[Tensor]) -> Tensor:
        return self.run(torch.stack(inputs)).float()

    def find_width(self, where: str, dim: int | None) -> int:
        """Runs the network on two grey images and returns the width of its output.

        Args:
            where: name of the file, for errors.
            dim: the width that is expected; None = any.

        Raises:
            DataError: the network does not take such an input, or gives another shape.
        """
        image = Image.new("RGB", (64, 64), (127, 120, 110))
        with torch.inference_mode():
            return checked_width(self.run(torch.stack(2 * [self.prepare(image)])), 2, where, dim)
