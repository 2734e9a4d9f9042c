"""Any face encoder as a program of torch: TorchScript, or torch.export."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from datamodules.schema import DataError, one_line
from lightning_modules.encoders.faces.network import Colour, FaceNetwork
from lightning_modules.encoders.programs import read_program, tensor_of


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
        self.program, self.network = program, read_program(program)
        self.dim = self.find_width(program, dim)

    def run(self, x: Tensor) -> Tensor:
        """Runs the program."""
        try:
            return tensor_of(self.network(x))
        except (RuntimeError, AssertionError, TypeError) as error:
            raise DataError(f"{self.program}: cannot run on {tuple(x.shape)}: {one_line(error, 200)}") from error
