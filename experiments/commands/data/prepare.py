"""Scans a media tree into a manifest: whose each file is, how long, how large, and which cannot be read."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from datamodules.schema import DataError, Modality
from experiments.console.arguments import CommandParser, command_line
from experiments.console.progress import progress

SHOWN = 5


def main(command: str, argv: list[str]) -> int:
    """``prepare ROOT [--out FILE] ...``; status 1 when files are broken, 2 after a one-line error."""
    parser = CommandParser(command, __doc__)
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of voices and faces")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the manifest, .csv or .parquet; default ROOT/manifest.csv"
    )
    text = (
        "how paths end, e.g. '{identity}/{language}/{video}/{file}' or '{any}/{identity}_{any}'; may be given again, "
        "the first that fits counts; default: voices/IDENTITY/[LANGUAGE/]VIDEO/FILE with faces/..., VoxCeleb1, or "
        "MAV-Celeb v4"
    )
    parser.add_argument("--pattern", action="append", default=[], metavar="PATTERN", help=text)
    text = "vox1_meta.csv: VoxCeleb1 calls voices by id and faces by name"
    parser.add_argument("--people", type=Path, metavar="FILE", help=text)
    parser.add_argument(
        "--language", default="", metavar="NAME", help="language of all voices, where no folder names it"
    )
    parser.add_argument("--show", action="store_true", help="say how the paths are read, and write nothing")
    parser.add_argument("--decode", action="store_true", help="read files whole: finds silence, NaN, damage inside")
    parser.add_argument("--allow-broken", action="store_true", help="status 0 although files are broken")
    text = (
        "also copy the files into tar files beside the manifest, NAME.shards, which it is then read from: for disks "
        "that are slow with many small files"
    )
    parser.add_argument("--shards", action="store_true", help=text)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    options = parser.parse_args(argv)
    return _prepare(options)


TABLE = "; VoxCeleb1 needs --people vox1_meta.csv, for its voices go by id and its faces by name"


def _out(options: argparse.Namespace) -> Path:
    """The manifest to write.

    Raises:
        DataError: a wrong ending or number of workers.
        CannotWrite: a file of another kind is there.
    """
    # these import pandas, which --help and a wrong option need not wait for
    from datamodules.io.shards import refuse_stale, shards_of
    from datamodules.io.writing import refuse_other

    out: Path = options.out or options.root / "manifest.csv"
    if out.suffix.lower() not in (".csv", ".parquet"):
        raise DataError(f"--out {out}: is written as .csv or .parquet; choose one of these endings")
    if options.workers < 1:
        raise DataError(f"--workers {options.workers}: give 1 or more")
    if not options.show:
        refuse_other(out, "PAR1" if out.suffix.lower() == ".parquet" else "voice,")
        refuse_stale(shards_of(out), options.shards)
    return out


def _prepare(options: argparse.Namespace) -> int:
    # these import pandas and pyarrow, which --help and a wrong option need not wait for
    from datamodules.datasets.voxceleb.people import read_people
    from datamodules.endings import COMPRESSED
    from datamodules.io.parts import Parts
    from datamodules.io.text import plain_name
    from datamodules.prepare.listing import list_files
    from datamodules.prepare.manifest import check_files, counted_in, manifest_of
    from datamodules.prepare.paths import describe_all, layout_lines, layout_of, summary, why_unpaired

    root: Path = options.root
    out = _out(options)
    people = read_people(options.people) if options.people else None
    unread: dict[str, str] = {}
    listing = list(list_files(root, unread))
    if not listing:
        raise DataError(f"{root}: holds no voice and no face; wav, flac, ogg, m4a and jpg, png are looked for")
    layout = layout_of(root, listing, options.pattern, people is not None, unread)
    problems: dict[str, str] = {}
    language = plain_name(options.language.strip())
    files = describe_all(listing, layout, people, language, problems)
    print("\n".join(layout_lines(layout, files)))
    if options.show:
        problems |= unread
        print("\n".join([*summary(files, problems), "nothing was written; leave out --show to make the manifest"]))
        return 0
    compressed = [path for path, _ in listing if Path(path).suffix.lower() in COMPRESSED]
    problems |= dict(_convert(root, compressed, options))
    if compressed:
        listing = [file for file in list_files(root, {}) if Path(file[0]).suffix.lower() not in COMPRESSED]
        files = describe_all(listing, layout, people, language, problems)
    parts = out.with_name(f".{out.name}.parts")
    listed: list[tuple[str, Modality]] = [(file.path, file.modality) for file in files]
    with progress("looking at files", len(files)) as report:
        probes = check_files(root, listed, parts, options.workers, options.decode, report)
    sound = (probes["problem"] == "").to_numpy()
    problems |= dict(probes.loc[~sound, ["path", "problem"]].to_numpy().tolist())
    kept = [file for file, fine in zip(files, sound, strict=True) if fine]
    for modality in ("voice", "face"):
        if not any(file.modality == modality for file in kept):
            raise DataError(f"{root}: no readable {modality} among {len(listing)} files{_first(problems)}")
    table = manifest_of(kept, probes[sound], people.genders if people else {})
    if table.empty:
        raise DataError(f"{root}: no voice and face are of the same identity and language{'' if people else TABLE}")
    _write(table, root, out, options.shards)
    _list_beside(out, "broken", problems)
    _list_beside(out, "unread", unread)
    used = {*table["voice"], *table["face"]}
    _list_beside(out, "unpaired", {f.path: why_unpaired(f) for f in kept if f.path not in used})
    print(f"{out}: {counted_in(table)}")
    Parts(parts).remove()
    encoders = ("--voice", "encoder/resemblyzer.yaml", "--face", "encoder/dlib.yaml")
    print("next:", command_line("embed", "--manifest", out, "--out", "my_data", *encoders))
    return 1 if problems and not options.allow_broken else 0


def _write(table: Any, root: Path, out: Path, sharded: bool) -> None:
    """Writes the manifest, with its shards or alone."""
    # these import pandas and pyarrow, which --help and a wrong option need not wait for
    from datamodules.io.shards import shards_of, write_shards
    from datamodules.io.writing import together
    from datamodules.prepare.manifest import write_manifest

    if not sharded:
        write_manifest(table, out)
        return
    items = list(dict.fromkeys(item for pair in zip(table["voice"], table["face"], strict=True) for item in pair))
    with together(out.parent), progress("writing shards", len(items)) as report:
        count = write_shards(root, items, shards_of(out), report=report)
        write_manifest(table, out)
    print(f"{shards_of(out)}: {len(items)} files in {count} shard{'s' * (count > 1)}")


def _convert(root: Path, paths: Sequence[str], options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Makes a wav of each m4a; yields those that could not be, and why."""
    from datamodules.prepare.probe import convert

    if not paths:
        return
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise DataError(
            f"{root}: {len(paths)} files such as {paths[0]} must be made wav, and ffmpeg is not on the PATH"
        )
    with progress("converting", len(paths)) as report, ThreadPoolExecutor(options.workers) as pool:
        for path, problem in zip(paths, pool.map(lambda p: convert(root / p, ffmpeg), paths), strict=True):
            report(1)
            if problem:
                yield path, problem


def _list_beside(out: Path, kind: str, files: dict[str, str]) -> None:
    """Names files that are not in the manifest: the first in the terminal, all in a list beside the manifest."""
    from datamodules.io.text import counted, printable
    from datamodules.io.writing import remove_file, write_text

    listed = out.with_suffix(f".{kind}.txt")
    if not files:
        remove_file(listed)  # of an earlier run
    else:
        lines = [f"{printable(path)}: {why}" for path, why in sorted(files.items())]
        write_text(listed, "".join(f"{line}\n" for line in lines))
        for line in lines[:SHOWN]:
            print(f"{kind}: {line}", file=sys.stderr)
        said = counted(len(files), f"{kind} file is", f"{kind} files are")
        print(f"{said} left out, all listed in {listed}", file=sys.stderr)


def _first(problems: dict[str, str]) -> str:
    from datamodules.io.text import printable

    path = min(problems, default=None)
    return f"; first: {printable(path)}: {problems[path]}" if path is not None else ""
