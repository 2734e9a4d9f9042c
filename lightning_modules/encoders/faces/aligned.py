"""Finds a face and turns it upright before any other face encoder."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from datamodules.schema import DataError
from lightning_modules.encoders.base import FrozenEncoder
from lightning_modules.encoders.faces.alignment import Aligned, found_in, inputs_of
from lightning_modules.encoders.faces.detectors.base import FaceDetector, Frame
from lightning_modules.encoders.faces.detectors.dlib import DlibDetector


class AlignedFace(FrozenEncoder):
    """Gives an encoder the largest face of an image, turned upright by five landmarks.

    Args:
        encoder: of faces.
        size: side of the square that the encoder is given, in pixels; it scales it further as it needs.
        padding: border around the frame, relative to its size; take what the encoder was trained on.
        upsample: of :class:`DlibDetector`.
        detector: None = :class:`DlibDetector`.
        frame: ``arcface`` (with padding 0) for networks that were trained like ArcFace's; dlib cannot fill it.

    Raises:
        DataError: an extra is not installed; an encoder of voices; a frame that the detector cannot fill.
    """

    modality = "face"

    def __init__(
        self,
        encoder: FrozenEncoder,
        size: int = 224,
        padding: float = 0.25,
        upsample: int = 1,
        detector: FaceDetector | None = None,
        frame: Frame = "dlib",
    ) -> None:
        super().__init__()
        if encoder.modality != "face":
            raise DataError(f"face.encoder: {type(encoder).__name__} encodes {encoder.modality}s")
        if size < 1 or padding < 0:
            raise DataError(f"face.size: {size} must be 1 or more, and face.padding: {padding} not negative")
        self.encoder, self.dim = encoder, encoder.dim
        self.size, self.padding, self.frame = size, padding, frame
        self.detector = detector or DlibDetector(upsample)
        self.detector.align(Image.new("RGB", (64, 64)), [size], padding, frame)  # says now if it cannot fill the frame

    def prepare(self, media: Image.Image) -> Aligned:
        """PIL RGB image -> the encoder's input."""
        (chip,), found = self.detector.align(media, [self.size], self.padding, self.frame)
        return Aligned(self.encoder.prepare(Image.fromarray(chip)), found)

    def forward(self, inputs: list[Aligned]) -> Tensor:
        embeddings: Tensor = self.encoder(inputs_of(inputs))
        return embeddings

    def notes(self, inputs: list[Aligned]) -> dict[str, list[float]]:
        return {**self.encoder.notes(inputs_of(inputs)), **found_in(inputs)}
