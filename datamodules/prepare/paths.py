"""Finds the voices and faces in a folder of media, and reads identity, language and video from their paths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.datasets.voxceleb.people import People
from datamodules.schema import DataError, Modality

VOICES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})
COMPRESSED = frozenset({".m4a", ".aac", ".mp4"})  # libsndfile does not read them
FACES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
_FIELDS = {"identity": r"(?P<identity>[^/]+)", "language": r"(?P<language>[^/]+)", "video": r"(?P<video>[^/]+)",
           "file": r"[^/]+", "any": r".*"}  # fmt: skip
# Matched with the whole path; the first match is used. MAV-Celeb v1-v3, VoxCeleb1 cropped faces, MAV-Celeb v4,
# VoxCeleb1 voices and frontal faces.
_KNOWN = (
    r"(?:.*/)?(?P<identity>id\d+)/(?P<language>[^/]+)/(?P<video>[^/]+)/[^/]+",
    r"(?:.*/)?(?P<identity>[^/]+)/1\.6/(?P<video>[^/]+)/[^/]+",
    r"(?:.*/)?(?P<language>English|Urdu|Hindi|German|Bangla|Bengali)/(?P<identity>id\d+)/[^/]+",
    r"(?:.*/)?(?P<identity>id\d+)/(?P<video>[^/]+)/[^/]+",
    r"(?:.*/)?(?P<identity>[^/]+)/[^/]+",
)


@dataclass(frozen=True)
class MediaFile:
    """A voice or face file.

    Attributes:
        path: relative to the root, with slashes.
        modality: voice or face.
        identity: identity that the path names.
        language: language that the path names, or "".
        video: video that the path names, or "".
    """

    path: str
    modality: Modality
    identity: str
    language: str
    video: str


def list_files(root: str | Path) -> Iterator[tuple[str, Modality]]:
    """Relative paths of all voices and faces below a folder, sorted within each folder, without hidden files.

    Raises:
        DataError: it is not a folder, or a folder in it cannot be read.
    """
    if not Path(root).is_dir():
        raise DataError(f"{root}: there is no such folder")

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error

    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in sorted(files):
            suffix = Path(name).suffix.lower()
            if not name.startswith(".") and (suffix in VOICES or suffix in COMPRESSED or suffix in FACES):
                modality: Modality = "face" if suffix in FACES else "voice"
                yield (name if below == "." else f"{below}/{name}"), modality


def compile_patterns(patterns: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    """Regular expressions of patterns such as ``{identity}/{language}/{video}/{file}``.

    A pattern is matched with the end of a path. Without patterns, those of the known layouts are returned.

    Raises:
        DataError: an unknown or repeated field, or no ``{identity}``.
    """
    if not patterns:
        return tuple(re.compile(pattern) for pattern in _KNOWN)
    compiled = []
    for pattern in patterns:
        parts = re.split(r"\{(\w*)\}", pattern)
        fields = [name for name in parts[1::2] if name != "any"]
        if not set(fields) <= set(_FIELDS) or "identity" not in fields or len(set(fields)) < len(fields):
            raise DataError(
                f"--pattern {pattern}: use {{identity}} once, {{language}}, {{video}} and {{file}} at most once, "
                "{any} any number of times, and no other field"
            )
        text = "".join(_FIELDS[part] if i % 2 else re.escape(part) for i, part in enumerate(parts))
        compiled.append(re.compile(f"(?:.*/)?{text}"))
    return tuple(compiled)


def describe(path: str, modality: Modality, patterns: Sequence[re.Pattern[str]], people: People | None) -> MediaFile:
    """Reads identity, language and video from a path by the first pattern that matches.

    Args:
        path: relative to the root.
        modality: voice or face.
        patterns: from :func:`compile_patterns`.
        people: ids of the names in paths (VoxCeleb1); None = the name in the path is the identity.

    Raises:
        DataError: no pattern matches, or the name is unknown.
    """
    for pattern in patterns:
        if match := pattern.fullmatch(path):
            fields = match.groupdict()
            identity = fields["identity"]
            if people is not None and not (identity := people.id_of(identity)):
                raise DataError(f"{path}: speaker {fields['identity']} is not listed in {people.source}")
            return MediaFile(path, modality, identity, fields.get("language") or "", fields.get("video") or "")
    raise DataError(f"{path}: matches no known layout; describe yours with --pattern '{{identity}}/{{video}}/{{file}}'")
