"""``submit``: challenge archives from tested runs, and ``submit --check``, the validator of an archive or file."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from datamodules.schema import DataError
from experiments.submission.check import check, judge
from experiments.submission.format import pack, render, shown
from experiments.submission.parts import GROUPS, PATTERNS, Part, Slot, check_slots, choose, read_cells, slot_text


def build(parts: Sequence[Part], style: str, pattern: str, version: str | None) -> tuple[dict[str, str], list[str]]:
    """The texts of the files by name, and a line about each.

    Raises:
        DataError: files missing or twice, or scores that point the wrong way.
    """
    slots = [part.slot for part in parts]
    twice = [slot for i, slot in enumerate(slots) if slot in slots[:i]]
    if twice:
        raise DataError(f"two runs or cells give {slot_text(twice[0])}; give one run per train language")
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
    try:
        name = pattern.format(track=slot[0], language=slot[1], condition=slot[2], version=version)
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(f"--pattern {pattern}: {error}; it may hold {', '.join(f'{{{g}}}' for g in GROUPS)}") from error
    if not name.isprintable() or re.search(r"\\|^/|(^|/)\.\.(/|$)", name):
        raise DataError(
            f"the file name {shown(name)} is no relative path; look at --pattern and the languages of the cells"
        )
    return name


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"experiments.run {command}", description=__doc__, allow_abbrev=False)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders; FAME: one per train language")
    parser.add_argument("--format", choices=PATTERNS, help="fame: four files; flag: two folders of two files")
    parser.add_argument("--version", help="v1, v2 ...: where the pattern has {version}")
    parser.add_argument("--scores", choices=("refined", "raw"), default="refined")
    parser.add_argument("--lists", default="", help="which set of lists, of a run tested on several: balanced")
    parser.add_argument("--pattern", help="file names in the archive; default: the format's")
    parser.add_argument("--out", type=Path, default=Path("submission.zip"), help="default: submission.zip")
    parser.add_argument("--check", type=Path, metavar="FILE", help="validate this archive or score file instead")
    parser.add_argument(
        "--trials", action="extend", nargs="+", metavar="LIST", help="with --check: trial lists, PATH or LANGUAGE=PATH"
    )
    text = "with --check: runs whose raw scores show the direction where a list has no labels"
    parser.add_argument("--scores-of", action="extend", nargs="+", type=Path, metavar="RUN", help=text)
    return parser


def main(command: str, argv: list[str]) -> int:
    """``submit RUN... --format fame|flag``, or ``submit --check FILE --trials LIST...``."""
    parser = _parser(command)
    options = parser.parse_args(argv)
    try:
        if options.check is not None:
            if options.runs or not options.trials:
                parser.error("--check takes one archive or score file and --trials LIST...; runs go with --scores-of")
            parts = read_cells(options.scores_of, "raw") if options.scores_of else None
            report = check(options.check, options.trials, options.format, options.pattern, parts)
        else:
            if not options.runs or options.format is None:
                parser.error("give run folders and --format fame or flag, or --check FILE --trials LIST...")
            parts = choose(read_cells(options.runs, options.scores), options.format, options.lists)
            files, report = build(parts, options.format, options.pattern or PATTERNS[options.format], options.version)
            beside = options.out.with_name(f".{options.out.name}.{os.getpid()}")
            beside.write_bytes(pack(files))
            os.replace(beside, options.out)
            report.append(f"written: {options.out}")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    print("\n".join(report))
    return 0
