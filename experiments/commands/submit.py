"""``submit``: makes a challenge archive from tested runs; ``submit --check`` checks an archive or a score file."""

from __future__ import annotations

from pathlib import Path

from datamodules.io.writing import draft_of, refuse_other
from experiments.console.arguments import CommandParser


def _parser(command: str) -> CommandParser:
    parser = CommandParser(command, __doc__)
    parser.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN", help="run folders; for FAME one per train language"
    )
    parser.add_argument("--format", choices=("fame", "flag"), help="fame: four files; flag: two folders of two files")
    parser.add_argument("--version", help="value of {version} in the pattern: v1, v2 ...")
    parser.add_argument("--scores", choices=("refined", "raw"), default="refined", help="default: refined")
    parser.add_argument("--lists", default="", help="set of trial lists, for runs tested on several, e.g. balanced")
    parser.add_argument("--pattern", help="pattern of the file names in the archive; default: that of the format")
    parser.add_argument("--out", type=Path, default=Path("submission.zip"), help="default: submission.zip")
    parser.add_argument("--check", type=Path, metavar="FILE", help="check this archive or score file instead")
    parser.add_argument(
        "--trials", action="extend", nargs="+", metavar="LIST", help="with --check: trial lists, PATH or LANGUAGE=PATH"
    )
    text = "with --check: runs whose raw scores show the direction of the scores if a list has no labels"
    parser.add_argument("--scores-of", action="extend", nargs="+", type=Path, metavar="RUN", help=text)
    return parser


def main(command: str, argv: list[str]) -> int:
    """``submit RUN... --format fame|flag``, or ``submit --check FILE --trials LIST...``."""
    parser = _parser(command)
    options = parser.parse_args(argv)
    # pandas and scipy take a second to import; --help does not need them
    from experiments.submission.build import build
    from experiments.submission.check import check
    from experiments.submission.format import pack
    from experiments.submission.parts import PATTERNS, choose, read_cells

    if options.check is not None:
        if options.runs or not options.trials:
            parser.error("--check needs one archive or score file and --trials LIST...; give runs with --scores-of")
        parts = read_cells(options.scores_of, "raw") if options.scores_of else None
        report = check(options.check, options.trials, options.format, options.pattern, parts)
    else:
        if not options.runs or options.format is None:
            parser.error("give run folders and --format fame or flag, or --check FILE --trials LIST...")
        refuse_other(options.out, "PK\x03\x04")
        parts = choose(read_cells(options.runs, options.scores), options.format, options.lists)
        files, report = build(parts, options.format, options.pattern or PATTERNS[options.format], options.version)
        with draft_of(options.out) as draft:
            draft.write_bytes(pack(files))
        report.append(f"written: {options.out}")
    print("\n".join(report))
    return 0
