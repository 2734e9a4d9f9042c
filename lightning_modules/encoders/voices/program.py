"""Any speaker encoder as a program of torch: TorchScript, or torch.export."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.encoders.programs import read_program
from lightning_modules.encoders.voices.filter_bank import FilterBank
from lightning_modules.encoders.voices.network import VoiceNetwork


class ProgramVoice(VoiceNetwork):
    """A voice encoder from a program of torch, which takes 16 kHz waveforms or filter banks.

    Args:
        program: file of ``torch.export.save`` or ``torch.jit.save``. Reading it runs it.
        features: see :class:`VoiceNetwork`.
        standardise: see :class:`VoiceNetwork`.
        length: see :class:`VoiceNetwork`.
        stride: see :class:`VoiceNetwork`.
        dim: width of the embeddings that is expected; None = any.

    Raises:
        DataError: a file that cannot be read or does not take such inputs.
    """

    def __init__(
        self,
        program: str,
        features: FilterBank | None = None,
        standardise: bool = False,
        length: int | None = None,
        stride: int | None = None,
        dim: int | None = None,
    ) -> None:
        super().__init__(features, standardise, length, stride)
        self.network = read_program(program)
        self.dim = self.find_width(program, dim)

    def run(self, x: Tensor) -> Tensor:
        """Runs the program."""
        embeddings: Tensor = self.network(x)
        return embeddings
