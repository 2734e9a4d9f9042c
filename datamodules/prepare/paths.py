"""What a media tree holds: which files are voices and faces, and whose they are."""

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
# From the end of the path; the first that fits. MAV-Celeb v1-v3, v4; VoxCeleb1 cropped faces, voices, frontal faces.
_KNOWN = (
    r"(?:.*/)?(?P<identity>id\d+)/(?P<language>[^/]+)/(?P<video>[^/]+)/[^/]+",
    r"(?:.*/)?(?P<identity>[^/]+)/1\.6/(?P<video>[^/]+)/[^/]+",
    r"(?:.*/)?(?P<language>English|Urdu|Hindi|German|Bangla|Bengali)/(?P<identity>id\d+)/[^/]+",
    r"(?:.*/)?(?P<identity>id\d+)/(?P<video>[^/]+)/[^/]+",
    r"(?:.*/)?(?P<identity>[^/]+)/[^/]+",
)


@dataclass(frozen=True)
class MediaFile:
    """One file of a tree.

    Attributes:
        path: relative to the root, with slashes.
        modality: what it is.
        identity: whose.
        language: of the clip, "" where the path does not say.
        video: of the clip, "" where the path does not say.
    """

    path: str
    modality: Modality
    identity: str
    language: str
    video: str


def list_files(root: Path) -> Iterator[tuple[str, Modality]]:
    """Paths of all voices and faces below a folder, sorted within each folder; hidden ones are passed over.

    Raises:
        DataError: it is no folder, or one below it cannot be read.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of media")

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error

    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            if not name.startswith(".") and (suffix in VOICES or suffix in COMPRESSED or suffix in FACES):
                modality: Modality = "face" if suffix in FACES else "voice"
                yield (name if below == "." else f"{below}/{name}"), modality


def compile_patterns(patterns: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    """Patterns such as ``{identity}/{language}/{video}/{file}``, matched with the end of a path; none = known layouts.

    Raises:
        DataError: an unknown field, or no ``{identity}``.
    """
    if not patterns:
        return tuple(re.compile(pattern) for pattern in _KNOWN)
    compiled = []
    for pattern in patterns:
        parts = re.split(r"\{(\w*)\}", pattern)
        unknown = [name for name in parts[1::2] if name not in _FIELDS]
        if unknown or "identity" not in parts[1::2] or len(set(parts[1::2]) - {"any"}) < len([
            name for name in parts[1::2] if name != "any"
        ]):  # fmt: skip
            raise DataError(
                f"--pattern {pattern}: give {{identity}}, and {{language}}, {{video}}, {{file}}, {{any}} once"
            )
        text = "".join(_FIELDS[part] if i % 2 else re.escape(part) for i, part in enumerate(parts))
        compiled.append(re.compile(f"(?:.*/)?{text}"))
    return tuple(compiled)


def describe(path: str, modality: Modality, patterns: Sequence[re.Pattern[str]], people: People | None) -> MediaFile:
    """Whose file it is, by the first pattern that fits.

    Args:
        path: relative to the root.
        modality: what it is.
        patterns: of :func:`compile_patterns`.
        people: names and ids that stand for each other (VoxCeleb1); None = the folder's name is the identity.

    Raises:
        DataError: no pattern fits, or nobody has this name.
    """
    for pattern in patterns:
        if found := pattern.fullmatch(path):
            fields = found.groupdict()
            identity = fields["identity"]
            if people is not None and not (identity := people.id_of(identity)):
                raise DataError(f"{path}: {fields['identity']} is nobody in {people.source}")
            return MediaFile(path, modality, identity, fields.get("language") or "", fields.get("video") or "")
    raise DataError(f"{path}: is in no known layout; describe yours with --pattern '{{identity}}/{{video}}/{{file}}'")
