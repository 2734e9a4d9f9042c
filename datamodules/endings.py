"""Endings of recordings, pictures and arrays: which are read, and which are taken off an item id."""

from __future__ import annotations

from datamodules.schema import Modality


def _dotted(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


def pattern(names: str) -> str:
    """A regular expression of the end of a path, in whatever case."""
    return rf"(?i)\.({names.replace(' ', '|')})$"


_RECORDINGS = "wav flac ogg opus mp3 aif aiff au caf"
_PICTURES = "jpg jpeg png bmp webp tif tiff"
_COMPRESSED = "aac m4a mp4"
_UNREAD_RECORDINGS = "aifc amr oga pcm raw rf64 snd sph w64 wave wma"
_UNREAD_PICTURES = "avif gif heic heif jfif jp2 jpe pbm pgm pnm ppm tga"
_VIDEOS = "avi m4v mkv mov mpeg mpg webm"
_ARRAYS = "h5 npy npz pt pth"

READ: dict[Modality, frozenset[str]] = {"voice": _dotted(_RECORDINGS), "face": _dotted(_PICTURES)}
"""Files that are looked for in a folder."""
COMPRESSED = _dotted(_COMPRESSED)
"""Recordings that libsndfile does not read; ``prepare`` converts them."""
UNREAD = _dotted("amr avi avif gif heic heif jp2 mkv mov webm wma")
"""Recordings, pictures and videos that ``prepare`` names as left out."""
RECORDING = pattern("aac flac m4a mp3 oga ogg opus sph wav wave wma")
"""Of a path that can be no picture, in a trial list."""
PICTURE = pattern("avif bmp gif heic jpe jpeg jpg png tif tiff webp")
"""Of a path that can be no recording, in a trial list."""
MEDIA = pattern(" ".join([_RECORDINGS, _COMPRESSED, _UNREAD_RECORDINGS, _VIDEOS, _PICTURES, _UNREAD_PICTURES, _ARRAYS]))
"""What is taken off a path to make an item id."""
