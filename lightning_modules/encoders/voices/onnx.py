"""Any speaker encoder that was exported to ONNX: WeSpeaker, 3D-Speaker, NeMo and the like."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.encoders.sessions import OnnxNetwork
from lightning_modules.encoders.voices.filter_bank import FilterBank
from lightning_modules.encoders.voices.network import VoiceNetwork


class OnnxVoice(VoiceNetwork):
    """A voice encoder from an ONNX file, which takes 16 kHz waveforms or filter banks.

    Args:
        weights: the file; nothing is downloaded.
        features: see :class:`VoiceNetwork`.
        standardise: see :class:`VoiceNetwork`.
        length: see :class:`VoiceNetwork`.
        stride: see :class:`VoiceNetwork`.
        output: name of the file's output; None = the first.
        dim: width of the embeddings that is expected; None = any.

    Raises:
        DataError: the extra ``onnx`` is not installed; a file that cannot be read or does not take such inputs.
    """

    def __init__(
        self,
        weights: str,
        features: FilterBank | None = None,
        standardise: bool = False,
        length: int | None = None,
        stride: int | None = None,
        output: str | None = None,
        dim: int | None = None,
    ) -> None:
        super().__init__(features, standardise, length, stride)
        self.network = OnnxNetwork(weights, output)
        self.dim = self.find_width(weights, dim)

    def run(self, x: Tensor) -> Tensor:
        """Runs the file, on a GPU where onnxruntime has one; an axis for channels is added where the file has it."""
        return self.network(x[:, None] if len(self.network.shape) == x.ndim + 1 else x)
