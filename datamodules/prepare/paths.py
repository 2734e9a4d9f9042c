"""Reads identity, language and video of voices and faces from their paths."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datamodules.datasets.voxceleb.people import People
from datamodules.io.identities import check_spelling
from datamodules.io.item_ids import unsafe
from datamodules.io.languages import LANGUAGE_FOLDER as _LANGUAGE
from datamodules.io.text import counted, plain_name, printable, shown
from datamodules.prepare.listing import LIST
from datamodules.schema import DataError, Modality

_SHOWN = 5
_FIELDS = {"identity": r"(?P<identity>[^/]+)", "language": r"(?P<language>[^/]+)", "video": r"(?P<video>[^/]+)",
           "file": r"[^/]+", "any": r".*"}  # fmt: skip
_SPLIT = "(?:(?i:train|dev|test|val|valid|validation)/)"
_ABOVE = r"(?P<above>(?:[^/]+/)*?)"
_SIDES = {
    "voice": "voices?|audios?|wavs?|speech|aac|m4a|mp4",
    "face": "faces?|images?|imgs?|jpgs?|pictures|photos|frames",
}
_NOT_CORPORA = {"train", "dev", "test", "val", "valid", "validation"}  # parts of one data set


@dataclass(frozen=True)
class Layout:
    """How the paths of a data set are made.

    Attributes:
        name: what is printed.
        voices: regular expressions, one of which matches the whole path of each voice.
        faces: the same for faces.
        by_name: whether faces go by the names of people, which need a table of their ids.
    """

    name: str
    voices: tuple[re.Pattern[str], ...]
    faces: tuple[re.Pattern[str], ...]
    by_name: bool = False

    def patterns(self, modality: Modality) -> tuple[re.Pattern[str], ...]:
        """Those of one modality."""
        return self.voices if modality == "voice" else self.faces


def _below_sides(name: str, below: str) -> Layout:
    """``voices/BELOW`` and ``faces/BELOW``; without these folders if the identities are ``id`` and a number."""
    no_name = f"(?!{_SPLIT}|{_LANGUAGE}/)"
    voices, faces = (
        (re.compile(f"{_ABOVE}(?:(?i:{folder})/{_SPLIT}?(?P<identity>{no_name}[^/]+)|(?P<id>id\\d+))/{below}[^/]+"),)
        for folder in _SIDES.values()
    )
    return Layout(name, voices, faces)


def _by_language(name: str, below: str) -> Layout:
    """``voices/LANGUAGE/IDENTITY/BELOW`` and ``faces/...``."""
    voices, faces = (
        (re.compile(f"{_ABOVE}(?i:{folder})/{_SPLIT}?(?P<language>{_LANGUAGE})/(?P<identity>[^/]+)/{below}[^/]+"),)
        for folder in _SIDES.values()
    )
    return Layout(name, voices, faces)


_BY_LANGUAGE = re.compile(f"{_ABOVE}(?P<language>{_LANGUAGE})/(?P<identity>id\\d+)/[^/]+")
_VIDEO = r"(?P<video>[A-Za-z0-9_-]{11})"
LAYOUTS = (
    _below_sides("{voices,faces}/IDENTITY/LANGUAGE/VIDEO/FILE", f"(?P<language>{_LANGUAGE})/(?P<video>[^/]+)/"),
    _by_language("{voices,faces}/LANGUAGE/IDENTITY/VIDEO/FILE", "(?P<video>[^/]+)/"),
    Layout(
        "VoxCeleb1: wav/idNNNNN/VIDEO/FILE and NAME/1.6/VIDEO/FILE or NAME/FILE",
        (re.compile(f"{_ABOVE}(?P<identity>id\\d+)/{_VIDEO}/[^/]+"),),
        (
            re.compile(f"{_ABOVE}(?P<identity>[^/]+)/1\\.6/{_VIDEO}/[^/]+"),
            re.compile(f"{_ABOVE}(?P<identity>[^/]+)/[^/]+"),
        ),
        by_name=True,
    ),
    Layout(
        "MAV-Celeb v4: LANGUAGE/idNNN/FILE",
        (_BY_LANGUAGE,),
        (_BY_LANGUAGE,),
    ),
    _below_sides("{voices,faces}/IDENTITY/VIDEO/FILE", "(?P<video>[^/]+)/"),
)
"""The layouts that are recognised, each by all paths of the data set."""


@dataclass(frozen=True, slots=True)
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


def layout_of(
    root: Path, listing: Sequence[tuple[str, Modality]], patterns: Sequence[str], people: bool, unread: Iterable[str]
) -> Layout:
    """The layout that all files have: of ``patterns`` if there are any, else one of :data:`LAYOUTS`.

    Args:
        root: folder of the media, for messages.
        listing: paths below it and their modalities.
        patterns: the user's.
        people: whether names have a table of ids.
        unread: of :func:`datamodules.prepare.listing.list_files`.

    Raises:
        DataError: a wrong pattern; files in no known layout; MAV-Celeb with its lists; several data sets side by side;
            languages in the place of videos.
    """
    if patterns:
        compiled = compile_patterns(patterns)
        described = Layout(", ".join(patterns), compiled, compiled)
        if len(misfits := _misfits(described, listing)) == len(listing):
            raise DataError(
                f"--pattern {described.name}: matches none of {len(listing)} files, such as {shown(misfits)}"
            )
        _check_apart(root, described, listing)
        return described
    if lists := [path for path in unread if LIST.fullmatch(path.rpartition("/")[2])]:
        raise DataError(
            f"{root}: is MAV-Celeb with its lists ({lists[0]}), which say what belongs together: train with "
            "--config v1_eng.yaml and MAVCELEB_ROOT, or describe another tree with --pattern"
        )
    layouts = [layout for layout in LAYOUTS if people or not layout.by_name]
    layout = next((layout for layout in layouts if all(_match(layout, *file) for file in listing)), None)
    if layout is None:
        fits = {layout: _misfits(layout, listing) for layout in layouts}
        nearest, misfits = min(fits.items(), key=lambda item: len(item[1]))
        part = f"; {nearest.name} fits all but {len(misfits)} of {len(listing)}" if len(misfits) < len(listing) else ""
        raise DataError(
            f"{root}: in no known layout{part}, such as {shown(misfits)}; describe yours with --pattern, e.g. "
            "--pattern '{identity}/{video}/{file}' or --pattern '{any}/{language}/{identity}/{file}'"
            + ("" if people else "; VoxCeleb1's faces by name need --people vox1_meta.csv")
        )
    _check_places(root, layout, listing)
    return layout


def _check_places(root: Path, layout: Layout, listing: Sequence[tuple[str, Modality]]) -> None:
    """Refuses languages above the identities or in the place of videos, and data sets side by side."""
    known, videos, first = re.compile(_LANGUAGE), set[str](), dict[str, str]()
    for path, modality in listing:
        if match := _match(layout, path, modality):
            fields = match.groupdict()
            videos.add(fields.get("video") or "")
            first.setdefault("" if layout.by_name else fields.get("above") or "", path)
    corpora = {path: _named(above) for above, path in first.items()}
    if spoken := next((path for path, corpus in corpora.items() if any(map(known.fullmatch, corpus.split("/")))), None):
        raise DataError(
            f"{root}: a language stands above the voices and faces, in {spoken}; describe this layout with --pattern "
            "'{language}/{any}/{identity}/{video}/{file}'"
        )
    if all(map(known.fullmatch, videos)):
        raise DataError(
            f"{root}: languages stand where {layout.name} has videos: {shown(sorted(videos))}; describe this layout "
            "with --pattern '{identity}/{language}/{file}', or as it is with --pattern '{identity}/{video}/{file}'"
        )
    if len(names := sorted({corpus or "." for corpus in corpora.values()})) > 1:
        raise DataError(
            f"{root}: holds {len(names)} data sets side by side ({shown(names)}), in which one name may be two "
            "people; prepare each folder by itself"
        )


def _match(layout: Layout, path: str, modality: Modality) -> re.Match[str] | None:
    """A path by the first pattern that fits it."""
    for pattern in layout.patterns(modality):
        if match := pattern.fullmatch(path):
            return match
    return None


def _misfits(layout: Layout, listing: Sequence[tuple[str, Modality]]) -> list[str]:
    return [path for path, modality in listing if not _match(layout, path, modality)]


def _check_apart(root: Path, layout: Layout, listing: Sequence[tuple[str, Modality]]) -> None:
    """Refuses patterns that take one name in two data sets for one identity."""
    found: dict[tuple[str, Modality], dict[str, str]] = {}
    for path, modality in listing:
        if match := _match(layout, path, modality):
            above = "/".join(match[name] or "" for name in match.re.groupindex if name.startswith("above"))
            folders = found.setdefault((match["identity"], modality), {})
            folders.setdefault(_named(above), path)
            if len(folders) > 1:
                raise DataError(
                    f"{root}: --pattern {layout.name} takes {' and '.join(folders.values())} for one identity, in "
                    "folders that may be two data sets; write {video} or {language} for that folder if it is one, give "
                    "a --pattern with the name of each folder, or prepare each folder by itself"
                )


def _named(folders: str) -> str:
    """Folders that may name a data set: not those of a split, or of voices and faces."""
    sides = "|".join(_SIDES.values())
    named = [f for f in folders.split("/") if f.lower() not in _NOT_CORPORA]
    return "/".join(f for f in named if f and not re.fullmatch(sides, f, re.IGNORECASE))


def compile_patterns(patterns: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    """Regular expressions of patterns such as ``{identity}/{language}/{video}/{file}``.

    A pattern is matched with the end of a path.

    Raises:
        DataError: an unknown or repeated field, or no ``{identity}``.
    """
    compiled = []
    for pattern in patterns:
        parts = re.split(r"\{(\w*)\}", pattern)
        fields = [name for name in parts[1::2] if name != "any"]
        if not set(fields) <= set(_FIELDS) or "identity" not in fields or len(set(fields)) < len(fields):
            raise DataError(
                f"--pattern {pattern}: use {{identity}} once, {{language}}, {{video}} and {{file}} at most once, "
                "{any} any number of times, and no other field"
            )
        text, above = "", True  # an {any} before the identity may stand for data sets side by side
        for i, part in enumerate(parts):
            above = above and not (i % 2 and part == "identity")
            named = f"(?P<above{i}>.*)" if above and part == "any" else _FIELDS.get(part, "")
            text += named if i % 2 else re.escape(part)
        compiled.append(re.compile(f"(?P<above>(?:.*/)?){text}"))
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
            identity = plain_name(fields.get("identity") or fields["id"])
            if people is not None and not (identity := people.id_of(identity)):
                raise DataError(f"{path}: identity {fields.get('identity')} is not listed in {people.source}")
            return MediaFile(
                path, modality, identity, *(plain_name(fields.get(key) or "") for key in ("language", "video"))
            )
    raise DataError(f"{path}: does not match --pattern")


def describe_all(
    listing: Sequence[tuple[str, Modality]],
    layout: Layout,
    people: People | None,
    language: str,
    problems: dict[str, str],
) -> list[MediaFile]:
    """Describes all files.

    Args:
        listing: paths below the root and their modalities.
        layout: from :func:`layout_of`.
        people: as for :func:`describe`.
        language: of all files, where the layout names none.
        problems: gets the files that cannot be described, and why.

    Raises:
        DataError: ``language`` beside languages of folders, or names that :func:`check_spelling` refuses.
    """
    files = []
    for path, modality in listing:
        try:
            file = describe(path, modality, layout.patterns(modality), people)
        except DataError as error:
            problems[path] = str(error).removeprefix(f"{path}: ")
            continue
        if language and file.language:
            raise DataError(f"--language {language}: the folders name languages, {path} {file.language}; leave it out")
        files.append(replace(file, language=language) if language else file)
    check_spelling([file.identity for file in files], "identity")
    check_spelling([file.language for file in files], "language")
    problems |= {file.path: f"{why}; rename it" for file in files if (why := unsafe(file.path))}
    return [file for file in files if file.path not in problems]


def layout_lines(layout: Layout, files: Sequence[MediaFile]) -> list[str]:
    """The layout with an example of each modality, as lines."""
    lines = [f"layout: {layout.name}"]
    for modality in ("voice", "face"):
        if file := next((file for file in files if file.modality == modality), None):
            fields = {"identity": file.identity, "language": file.language, "video": file.video}
            lines.append(f"  {file.path}: " + ", ".join(f"{key} {value or '(none)'}" for key, value in fields.items()))
    return lines


def summary(files: Sequence[MediaFile], problems: dict[str, str]) -> list[str]:
    """What a manifest of the files would hold, by language, and what it would leave out, as lines."""
    lines = []
    for language in sorted({file.language for file in files}):
        voices, faces = ([f.identity for f in files if (f.modality, f.language) == (m, language)]
                         for m in ("voice", "face"))  # fmt: skip
        both = counted(len(set(voices) & set(faces)), "identity has", "identities have")
        name = language or "no language"
        lines.append(f"{name}: {counted(len(voices), 'voice')}, {counted(len(faces), 'face')}; {both} both")
    lines += [*_by_split(files), *_by_identity(files)]
    left_out = [f"left out: {printable(path)}: {why}" for path, why in sorted(problems.items())]
    more = [f"left out: {len(left_out) - _SHOWN} more"] if len(left_out) > _SHOWN else []
    return [*lines, *left_out[:_SHOWN], *more]


def _by_split(files: Sequence[MediaFile]) -> list[str]:
    """Counts of each folder ``train``, ``dev``, ``test`` ...; none without such folders."""
    splits: dict[str, list[MediaFile]] = {}
    for file in files:
        name = next((part for part in file.path.split("/")[:-1] if part.lower() in _NOT_CORPORA), "")
        splits.setdefault(name, []).append(file)
    return [
        f"split {name or '(none)'}: {_identities({f.identity for f in part})}, {_counts(part)}"
        for name, part in sorted(splits.items())
        if set(splits) != {""}
    ]


def _by_identity(files: Sequence[MediaFile]) -> list[str]:
    """How many identities there are, and the counts of those with the fewest and the most files."""
    groups: dict[str, list[MediaFile]] = {}
    for file in files:
        groups.setdefault(file.identity, []).append(file)
    ordered = sorted(groups, key=lambda name: (len(groups[name]), name))
    few = [name for name in ordered if len(ordered) <= 2 * _SHOWN or name in ordered[:_SHOWN] + ordered[-_SHOWN:]]
    lines = [f"  {name}: {_counts(groups[name])}" for name in few]
    return [_identities(groups) + ", the smallest and largest:" * (len(few) < len(groups)), *lines]


def _counts(files: Sequence[MediaFile]) -> str:
    voices = sum(file.modality == "voice" for file in files)
    return f"{counted(voices, 'voice')}, {counted(len(files) - voices, 'face')}"


def _identities(names: Collection[str]) -> str:
    return counted(len(names), "identity", "identities")


def why_unpaired(file: MediaFile) -> str:
    """Why a file is in no clip."""
    other = "face" if file.modality == "voice" else "voice"
    return f"no {other} of {file.identity}{f' in {file.language}' if file.language else ''}"
