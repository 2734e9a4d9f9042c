"""``protocol``: fits several methods on folds x train languages x seeds, refines them, and prints one table.

The same command continues an interrupted protocol: finished fits and refinements are not run again. Further arguments
go to every fit, e.g. ``--data.voices='[other.npz]'``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from datamodules.schema import DataError
from experiments.commands.sweep import check_fit, run_fit
from experiments.config.files import find_config
from experiments.console.arguments import CommandParser, command_line


def main(command: str, argv: list[str]) -> int:
    """``protocol --config protocols/v1_dev.yaml [--out DIR] [--jobs N] [--methods a,b] [--data.voices=...]...``."""
    parser = CommandParser(command, __doc__)
    parser.add_argument("--config", required=True, help="protocol file, e.g. protocols/v1_dev.yaml")
    parser.add_argument("--out", help="folder of all its runs, default runs/NAME; the same folder continues them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="number of processes, default: all cores")
    parser.add_argument("--methods", help="run only these methods and their fusions, separated by commas")
    options, more = parser.parse_known_args(argv)
    return _run(options, more)


def _run(options: argparse.Namespace, more: list[str]) -> int:
    path = find_config(options.config)
    # pandas and scipy take seconds to import; --help and a wrong name do not need them
    from datamodules.io.writing import together, write_csv, write_json
    from experiments.console.tables import defused, table_console
    from experiments.protocol.file import Protocol
    from experiments.protocol.numbers import per_identity, summarise_protocol
    from experiments.protocol.run import run_protocol
    from experiments.protocol.tables import protocol_csv, protocol_tables

    for argument in more:
        if not (argument.startswith("--") and "." in argument.partition("=")[0] and "=" in argument):
            raise DataError(
                f"{argument}: neither an option of protocol nor an argument of all fits such as --data.batch_size=64"
            )
    out = Path(options.out or Path("runs") / path.stem).resolve()
    only = options.methods.split(",") if options.methods else None
    outcomes = run_protocol(Protocol.read(path), run_fit, out, options.jobs, only, more, check_fit)
    records, people = summarise_protocol(outcomes), per_identity(outcomes)
    with together(out):
        write_csv(out / "protocol.csv", protocol_csv(records).map(defused).rename(columns=defused))
        write_csv(out / "per_identity.csv", people.map(defused))
        write_json(out / "protocol.json", records)
    console = table_console()
    for table in protocol_tables(records, people):
        console.print(table)
    print(f"written: {out}: protocol.json, protocol.csv, per_identity.csv")
    print("next:", command_line("report", out))
    return 0
