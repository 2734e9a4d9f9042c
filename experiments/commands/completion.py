"""Prints what makes a shell complete ``voiceface``, its commands, their options and the names of configs.

bash: voiceface completion bash > ~/.local/share/bash-completion/completions/voiceface
zsh:  voiceface completion zsh > a file _voiceface in a folder of $fpath
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any

from experiments.commands.table import COMMANDS
from experiments.config.files import packaged
from experiments.console.arguments import OFFER, CommandParser, Offered

SHELLS = ("bash", "zsh")
NAMES = "_voiceface_files"


def main(command: str, argv: list[str]) -> int:
    """``completion bash`` or ``completion zsh``."""
    parser = CommandParser(command, __doc__)
    parser.add_argument("shell", choices=SHELLS, help="whose completion")
    shell = parser.parse_args(argv).shell
    import shtab  # --help need not wait for it

    preamble: Any = _preamble()  # shtab takes texts by shell, too, but its annotation does not say so
    print(shtab.complete(_whole(), shell, preamble=preamble))
    return 0


def _whole() -> argparse.ArgumentParser:
    """One parser of all commands."""
    whole = argparse.ArgumentParser("voiceface")
    parts = whole.add_subparsers(metavar="COMMAND")
    for name, (_, text) in COMMANDS.items():
        parser = parser_of(name)
        for action in parser._actions:
            if action.choices is None and action.nargs != 0:  # flags take no value
                action.complete = dict.fromkeys(SHELLS, NAMES)  # type: ignore[attr-defined]
        parts.add_parser(name, parents=[parser], add_help=False, help=text)
    return whole


def parser_of(name: str) -> CommandParser:
    """The parser of a command, which does not run."""
    try:
        import_module(COMMANDS[name][0]).main(name, [OFFER])
    except Offered as offered:
        return offered.parser
    raise AssertionError(f"{name} makes no CommandParser")


def _preamble() -> dict[str, str]:
    """Functions of the shells that offer packaged configs and files."""
    names = " ".join(sorted(path.relative_to(packaged()).as_posix() for path in packaged().rglob("*.yaml")))
    return {
        "bash": f'{NAMES}() {{ compgen -W \'{names}\' -- "$1"; compgen -f -- "$1"; }}',
        "zsh": f"{NAMES}() {{ _alternative 'configs:config:({names})' 'files:file:_files'; }}",
    }
