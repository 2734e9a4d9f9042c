"""Checks a submission archive or a score file against its trial lists (``submit --check``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from zipfile import is_zipfile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.io.text import existing
from datamodules.io.trials import read_trials
from datamodules.schema import DataError, Trials
from experiments.submission.format import (
    Direction,
    check_keys,
    direction_by_labels,
    direction_by_raw,
    parse_scores,
    shown,
    unpack,
)
from experiments.submission.parts import GROUPS, PATTERNS, Part, Slot, check_slots


def check(
    path: Path, lists: Sequence[str], style: str | None, pattern: str | None, parts: Sequence[Part] | None
) -> list[str]:
    """Checks an archive or one score file; returns a line about each file.

    Args:
        path: archive or score file.
        lists: trial lists, ``PATH`` or ``LANGUAGE=PATH`` or ``TRACK/LANGUAGE=PATH``.
        style: ``fame`` or ``flag``; None = flag if the archive has folders, else fame.
        pattern: pattern of the file names; None = the pattern of the format.
        parts: test conditions of runs; their raw distances show the direction if a list has no labels.

    Raises:
        DataError: the submission is wrong; the message is about the first mistake.
    """
    trials = {source: read_trials(_split(source)[1]) for source in lists}
    data = existing(path, "submission").read_bytes()
    if path.suffix != ".zip" and not is_zipfile(path):
        if len(trials) != 1:
            raise DataError(f"{path}: one score file needs one --trials, got {len(trials)}")
        return [check_file(str(path), data, next(iter(trials.values())), _of_slot(parts, None))]
    files = unpack(data, str(path))
    style = style or ("flag" if any(re.match("(no_)?gender/", name) for name in files) else "fame")
    pattern = pattern or PATTERNS[style]
    slots = {name: _parse_name(pattern, name, str(path)) for name in files}
    check_slots(set(slots.values()), style, str(path))
    report = []
    for name, slot in sorted(slots.items(), key=lambda item: item[1]):
        report.append(check_file(f"{path}: {name}", files[name], _list_of(name, slot, trials), _of_slot(parts, slot)))
    return report


def check_file(where: str, data: bytes, trials: Trials, parts: Sequence[Part] | None) -> str:
    """Checks one score file against its trial list; returns a line with the result.

    Raises:
        DataError: the file is wrong; the message is about the first mistake.
    """
    keys, distances = parse_scores(data, where)
    check_keys(keys, trials.keys, where, trials.source)
    raw = None
    if trials.labels is None and parts is not None:
        raw = _raw_scores(where, trials, parts)
    return f"{where}: {len(keys)} trials, {judge(where, distances, trials.labels, raw)}"


def judge(
    where: str, distances: NDArray[np.float64], labels: NDArray[np.int8] | None, raw: NDArray[np.float64] | None
) -> str:
    """Checks that the scores of a file are distances; returns the result in words.

    Args:
        where: name of the file, for messages.
        distances: (t,) submitted scores.
        labels: (t,) 1 = same person, or None.
        raw: (t,) raw cosine distances of the same trials, used if there are no labels; or None.

    Raises:
        DataError: similarities, or constant scores.
    """
    if np.ptp(distances) == 0:
        raise DataError(f"{where}: all {len(distances)} distances are {distances[0]}; they cannot separate any trials")
    direction: Direction
    if labels is not None and 0 < np.count_nonzero(labels) < len(labels):
        direction = direction_by_labels(distances, labels)
    elif raw is not None:
        direction = direction_by_raw(distances, raw)
    else:
        return "direction not checked: give --scores-of RUN or a list with labels"
    if direction.verdict == "wrong":
        raise DataError(
            f"{where}: the scores point the wrong way ({direction.evidence}); submit distances, lower = same person"
        )
    return f"direction {direction.verdict}: {direction.evidence}"


def _of_slot(parts: Sequence[Part] | None, slot: Slot | None) -> list[Part] | None:
    """Parts that can contain the trials of a file; all parts if the file is a single score file."""
    if parts is None or slot is None:
        return None if parts is None else list(parts)
    return [part for part in parts if part.slot[1:] == slot[1:] and slot[0] in ("", part.slot[0])]


def _raw_scores(where: str, trials: Trials, parts: Sequence[Part]) -> NDArray[np.float64]:
    for part in parts:
        raw = pd.Series(part.raw, index=part.keys)
        if len(raw) == len(trials) and raw.index.is_unique and set(part.keys) == set(trials.keys):
            return np.asarray(raw.loc[trials.keys], dtype=np.float64)
    raise DataError(f"{where}: no run of --scores-of was tested on {trials.source}; name the run that was")


def _parse_name(pattern: str, name: str, where: str) -> Slot:
    expression = re.escape(pattern)
    for group, form in GROUPS.items():
        expression = expression.replace(re.escape(f"{{{group}}}"), f"(?P<{group}>{form})", 1)
    match = re.fullmatch(expression, name)
    if match is None:
        raise DataError(f"{where}: file {shown(name)} is not named {pattern}; rename it, or set --format or --pattern")
    groups = match.groupdict()
    return groups.get("track", ""), groups.get("language", ""), groups.get("condition", "")


def _split(source: str) -> tuple[str, str]:
    """``English=PATH`` as (English, PATH); a bare path has no name."""
    match = re.fullmatch(r"((?:(?:no_)?gender/)?[^/=]+)=(.+)", source)
    return (match[1], match[2]) if match and not Path(source).exists() else ("", source)


def _list_of(name: str, slot: Slot, trials: dict[str, Trials]) -> Trials:
    """Trial list of a file: given as ``LANGUAGE=PATH`` or ``TRACK/LANGUAGE=PATH``, or a path that has these names."""
    track, language, _ = (text.casefold() for text in slot)
    for name_of_list in filter(None, (f"{track}/{language}" if track else "", language)):
        for source, listed in trials.items():
            if _split(source)[0].casefold() == name_of_list:
                return listed
    named = [
        s for s in trials if "=" not in s and language in re.split(r"[^a-z0-9]+", PurePosixPath(s).stem.casefold())
    ]
    named = [s for s in named if not track or track in PurePosixPath(s.casefold()).parts] or named
    if len(named) == 1:
        return trials[named[0]]
    key = f"{slot[0]}/{slot[1]}" if slot[0] else slot[1]
    what = "several trial lists fit" if named else "no trial list has its language in the name"
    raise DataError(f"{name}: {what}; name it with --trials {key}=PATH")
