"""Builds the files of a challenge submission from the scores of runs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from datamodules.schema import DataError
from experiments.submission.check import judge
from experiments.submission.format import is_relative, render, shown
from experiments.submission.parts import GROUPS, Part, Slot, check_slots, slot_text


def build(parts: Sequence[Part], style: str, pattern: str, version: str | None) -> tuple[dict[str, str], list[str]]:
    """Text of each file by name, and a line about each for the terminal.

    Args:
        parts: trials and distances of the files.
        style: ``fame`` or ``flag``.
        pattern: pattern of the file names.
        version: value of ``{version}`` in the pattern.

    Raises:
        DataError: a file is missing or given twice, or scores are similarities.
    """
    slots = [part.slot for part in parts]
    twice = [slot for i, slot in enumerate(slots) if slot in slots[:i]]
    if twice:
        raise DataError(f"two runs or test conditions give {slot_text(twice[0])}; give one run per train language")
    check_slots(set(slots), style, "the runs")
    files, report = {}, []
    for part in sorted(parts, key=lambda part: part.slot):
        name = _file_name(pattern, part.slot, version)
        if name in files:
            raise DataError(f"--pattern {pattern}: gives {name} twice; use {{language}} and {{condition}}")
        files[name] = render(part.keys, part.distances, name)
        report.append(f"{name}: {len(part.keys)} trials, {judge(name, part.distances, part.labels, part.raw)}")
    return files, report


def _file_name(pattern: str, slot: Slot, version: str | None) -> str:
    if "{version}" in pattern and version is None:
        raise DataError(f"--pattern {pattern}: needs --version")
    given = {"language": slot[1], "version": version or ""}
    if parts := [f"{key} {shown(value)}" for key, value in given.items() if re.search(r"[/\\]", value)]:
        raise DataError(f"{parts[0]}: is no part of a file name; give it without a slash")
    try:
        name = pattern.format(track=slot[0], language=slot[1], condition=slot[2], version=version)
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(
            f"--pattern {pattern}: {error}; it can contain {', '.join(f'{{{g}}}' for g in GROUPS)}"
        ) from error
    if not is_relative(name):
        raise DataError(
            f"the file name {shown(name)} is not a plain relative path; check --pattern and the languages of the runs"
        )
    return name
