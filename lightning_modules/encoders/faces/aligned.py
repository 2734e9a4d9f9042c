"""Finds a face and turns it upright before any other face encoder."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from datamodules.schema import DataError
from lightning_modules.encoders.base import FrozenEncoder
from lightning_modules.encoders.faces.alignment import Aligned, align, found_in, inputs_of


class AlignedFace(FrozenEncoder):
    """Gives an encoder the largest face of an image, turned upright by five landmarks (:func:`align`).

    Args:
        encoder: of faces.
        size: side of the square that the encoder is given, in pixels; it scales it further as it needs.
        padding: border around the face, relative to its size; take what the encoder was trained on.
        upsample: how many times the image is doubled in size before detection; 1 finds faces of 40 pixels and more.

    Raises:
        DataError: the extra ``pretrained`` is not installed; an encoder of voices.
    """

    modality = "face"

    def __init__(self, encoder: FrozenEncoder, size: int = 224, padding: float = 0.25, upsample: int = 1) -> None:
        super().__init__()
        if encoder.modality != "face":
            raise DataError(f"face.encoder: {type(encoder).__name__} encodes {encoder.modality}s")
        if size < 1 or padding < 0:
            raise DataError(f"face.size: {size} must be 1 or more, and face.padding: {padding} not negative")
        self.encoder, self.dim = encoder, encoder.dim
        self.size, self.padding, self.upsample = size, padding, upsample
        align(Image.new("RGB", (64, 64)), [size], padding, 0)  # says now if the extra is missing

    def prepare(self, media: Image.Image) -> Aligned:
        """PIL RGB image -> the encoder's input."""
        (chip,), found = align(media, [self.size], self.padding, self.upsample)
        return Aligned(self.encoder.prepare(Image.fromarray(chip)), found)

    def forward(self, inputs: list[Aligned]) -> Tensor:
        embeddings: Tensor = self.encoder(inputs_of(inputs))
        return embeddings

    def notes(self, inputs: list[Aligned]) -> dict[str, list[float]]:
        return {**self.encoder.notes(inputs_of(inputs)), **found_in(inputs)}
