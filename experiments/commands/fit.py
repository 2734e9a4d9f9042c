"""Trains and tests a config; the other three commands validate, test, or predict by its checkpoint.

A config is a YAML file: --config NAME. --KEY.OPTION VALUE sets one of its values, such as --trainer.max_epochs 5 or
--model.tau 0.1, and --vars.NAME VALUE one of its ${vars.NAME}. Where a fit has made RUN, test RUN tests it once more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.schema import DataError
from experiments.config.missing import check_files
from experiments.console.arguments import CommandParser, options_of_fit
from experiments.console.early import importing

GROUPS = {
    "trainer": "options of Lightning's Trainer",
    "model": "method",
    "data": "data module",
    "postproc": "refinement",
    "checkpoint": "which checkpoints are kept",
    "logger": "experiment tracker; null for none",
}
MORE = """All names for --config, --model, --data, --postproc and --logger: python -m experiments.run list
Options of a class: --model.help CLASS, --data.help CLASS. The whole config with all defaults: --print_config."""


def main(command: str, argv: list[str]) -> int:
    """Checks what can be known before the slow imports, and runs ``fit``, ``validate``, ``test`` or ``predict``."""
    parser = _parser(command)
    if {"-h", "--help"} & set(argv) or not argv:
        parser.parse_args(argv or ["--help"])
    parser.offer(argv)
    argv = _of_run(command, argv)
    settings = _check(command, argv)
    if not any(argument.startswith("--print_config") for argument in argv):
        check_files(settings)
    with importing():
        from experiments.commands import cli  # torch and Lightning take long; a wrong argument need not wait for them

    return cli.main(command, argv)


def check_arguments(command: str, argv: list[str]) -> Any:
    """What a command would run with; nothing is made or written.

    Raises:
        DataError: a wrong file, key, class or value.
    """
    _check(command, argv)
    from experiments.commands import cli  # as above

    return cli.check_arguments(command, argv)


def _of_run(command: str, argv: list[str]) -> list[str]:
    """``test RUN ...`` in full: the config of the run, and its best checkpoint or the last one."""
    if command == "fit" or argv[0].startswith("-"):
        return argv
    run = Path(argv[0])
    if not (run / "config.yaml").is_file():
        if argv[0].endswith((".yaml", ".yml")):
            return argv  # a config without --config, which is refused for all commands alike
        raise DataError(f"run {run}: no such run folder, or no config.yaml in it")
    best = "best" if (run / "checkpoints" / "best.ckpt").is_file() else "last"
    return [f"--config={run / 'config.yaml'}", f"--ckpt_path={best}", *argv[1:]]


def _check(command: str, argv: list[str]) -> dict[str, Any]:
    # these import the parser, which --help need not wait for
    from experiments.config.early import check_early
    from experiments.config.overrides import expand_arguments

    return check_early(*expand_arguments(argv), [*options_of_fit(command)])


def _parser(command: str) -> CommandParser:
    """What ``--help`` and shell completion say; the options are read by Lightning's parser."""
    parser = CommandParser(command, __doc__, epilog=MORE)
    if command != "fit":
        text = "run folder: its config and its best checkpoint, in place of --config and --ckpt_path"
        parser.add_argument("run", nargs="?", metavar="RUN", help=text)
    parser.add_argument("--config", metavar="FILE", action="append", help="NAME.yaml; a later one overrides")
    for group, text in GROUPS.items():
        parser.add_argument(f"--{group}", metavar="FILE", help=f"{text}: {group}/NAME.yaml, or a class")
    parser.add_argument("--seed_everything", type=int, default=0, metavar="N", help="seed of all draws")
    for name, (default, text) in options_of_fit(command).items():
        if name == "vars":
            continue  # is set by name: --vars.fold 1
        if name == "test":
            parser.add_argument("--no-test", action="store_true", help="do not test the best checkpoint at the end")
        else:
            parser.add_argument(f"--{name}", default=default, metavar="VALUE", help=text)
    parser.add_argument("--print_config", action="store_true", help="print the whole config and stop")
    return parser
