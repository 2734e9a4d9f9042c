"""Reads audio and images from disk. A damaged file raises an error of one line that names it."""

from datamodules.io.media.audio import CHECKED, SAMPLE_RATE, open_audio, read_audio, samples_of
from datamodules.io.media.images import read_image

__all__ = ["CHECKED", "SAMPLE_RATE", "open_audio", "read_audio", "read_image", "samples_of"]
