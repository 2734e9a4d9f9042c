"""Any face encoder that was exported to ONNX: InsightFace, SFace, FaceNet and the like."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightning_modules.encoders.faces.network import Colour, FaceNetwork
from lightning_modules.encoders.sessions import OnnxNetwork


class OnnxFace(FaceNetwork):
    """A face encoder from an ONNX file.

    Args:
        weights: the file; nothing is downloaded.
        size: see :class:`FaceNetwork`.
        colours: see :class:`FaceNetwork`.
        mean: see :class:`FaceNetwork`.
        std: see :class:`FaceNetwork`.
        channels_last: see :class:`FaceNetwork`.
        output: name of the file's output; None = the first.
        dim: width of the embeddings that is expected; None = any.

    Raises:
        DataError: the extra ``onnx`` is not installed; a file that cannot be read or does not take such images.
    """

    def __init__(
        self,
        weights: str,
        size: int | tuple[int, int] = 112,
        colours: Literal["RGB", "BGR"] = "RGB",
        mean: Colour = 127.5,
        std: Colour = 127.5,
        channels_last: bool = False,
        output: str | None = None,
        dim: int | None = None,
    ) -> None:
        super().__init__(size, colours, mean, std, channels_last)
        self.network = OnnxNetwork(weights, output)
        self.dim = self.find_width(weights, dim)

    def run(self, x: Tensor) -> Tensor:
        """Runs the file, on a GPU where onnxruntime has one."""
        return torch.cat([self.network(image) for image in x.split(1)]) if self.network.alone else self.network(x)
