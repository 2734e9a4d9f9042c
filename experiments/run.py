"""``python -m experiments.run COMMAND ...``: finds the command and hands over. Imports nothing heavy itself."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module
from pathlib import Path

from experiments.commands.table import COMMANDS
from experiments.console.early import importing, turn_into_exceptions
from experiments.console.errors import exit_status

RESUMABLE = ("embed", "prepare", "protocol", "sweep")

USAGE = "usage: python -m experiments.run COMMAND --config NAME.yaml [--key value ...]"


def help_text() -> str:
    """The top-level help: every command in a line."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            USAGE,
            "",
            "Face-voice association: train, test on heard and unheard languages, refine by chaining-cluster.",
            "",
            "commands:",
            *lines,
            "",
            "Each command has its own --help. Start with: python -m experiments.run fit --config demo.yaml",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments; None takes ``sys.argv[1:]``.

    Returns:
        The exit status: 0; 2 after a one-line error; 130 after Ctrl-C; what the command says of itself.
    """
    argv = sys.argv[1:] if argv is None else argv
    return exit_status(lambda: _run(argv), bool(argv) and argv[0] in RESUMABLE)


def _run(argv: list[str]) -> int:
    turn_into_exceptions()
    if not argv or argv[0] in ("-h", "--help"):
        print(help_text())
        return 0 if argv else 2
    command, *rest = argv
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the commands are {', '.join(COMMANDS)}"
        print(f"error: unknown command {command!r}: {hint}", file=sys.stderr)
        return 2
    with importing():
        module = import_module(COMMANDS[command][0])
    return int(module.main(command, rest))


def script() -> int:
    """The console script ``voiceface``: finds classes in the current folder as ``python -m`` does, but after others."""
    sys.path.append(str(Path.cwd()))
    return main()


if __name__ == "__main__":
    sys.exit(main())
