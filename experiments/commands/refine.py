"""``refine``: refines the saved scores and embeddings of a tested run again; no model, no data config."""

from __future__ import annotations

from pathlib import Path

from datamodules.schema import DataError
from experiments.config.files import find_config
from experiments.console.arguments import CommandParser
from experiments.console.early import importing


def main(command: str, argv: list[str]) -> int:
    """``refine RUN [--postproc postproc/NAME.yaml]... [--out DIR]``."""
    parser = CommandParser(command, __doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder of a test")
    text = (
        "strategy, e.g. postproc/chaining.yaml, or a run's config.yaml; may be given several times; "
        "default: that of the run"
    )
    parser.add_argument("--postproc", action="append", metavar="FILE", help=text)
    text = (
        "folder for results.json and scores.parquet, with a folder for each of several strategies; default RUN/refined"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help=text)
    text = "the steps in the config.yaml of the run may be of any class and name files"
    parser.add_argument("--trust", action="store_true", help=text)
    options = parser.parse_args(argv)
    if not options.run.is_dir():
        raise DataError(f"run {options.run}: no such run folder")
    files = [find_config(name) for name in options.postproc or [str(options.run / "config.yaml")]]
    names = ["own" if path.name == "config.yaml" else path.stem for path in files]
    if len(set(names)) < len(names):
        raise DataError(f"--postproc: {', '.join(names)}; names of strategies must differ")
    # these import torch and pandas, which --help and a wrong option need not wait for
    with importing():
        from experiments.config.build import read_steps
        from experiments.runs.folder import refuse_run
        from experiments.runs.refine import write_refined
        from experiments.runs.results import print_results
        from experiments.runs.saved import read_run
        from postproc.memory import Memory

    if options.out is not None:
        refuse_run(options.out)
    strategies = {name: read_steps(path, options.trust) for name, path in zip(names, files, strict=True)}
    run, memory = read_run(options.run), Memory()
    out = options.out or options.run / "refined"
    for name, steps in strategies.items():
        folder = out / name if options.out is None or len(strategies) > 1 else out
        results = write_refined(folder, run, steps, memory)
        print(f"{name}:")
        if results:
            print_results(results, run.notes)
        print(f"written: {folder}")
    return 0
