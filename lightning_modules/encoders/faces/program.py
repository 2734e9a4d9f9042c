"""Any face encoder as a program of torch: TorchScript, or torch.export."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from lightning_modules.encoders.faces.network import Colour, FaceNetwork
from lightning_modules.encoders.programs import read_program


class ProgramFace(FaceNetwork):
    """A face encoder from a program of torch, such as FaceNet's InceptionResnetV1.

    Args:
        program: file of ``torch.export.save`` or ``torch.jit.save``. Reading it runs it.
        size: see :class:`FaceNetwork`.
        colours: see :class:`FaceNetwork`.
        mean: see :class:`FaceNetwork`.
        std: see :class:`FaceNetwork`.
        channels_last: see :class:`FaceNetwork`.
        dim: width of the embeddings that is expected; None = any.

    Raises:
        DataError: a file that cannot be read or does not take such images.
    """

    def __init__(
        self,
        program: str,
        size: int | tuple[int, int] = 160,
        colours: Literal["RGB", "BGR"] = "RGB",
        mean: Colour = 127.5,
        std: Colour = 128.0,
        channels_last: bool = False,
        dim: int | None = None,
    ) -> None:
        super().__init__(size, colours, mean, std, channels_last)
        self.network = read_program(program)
        self.dim = self.find_width(program, dim)

    def run(self, x: Tensor) -> Tensor:
        """Runs the program."""
        embeddings: Tensor = self.network(x)
        return embeddings
