"""Parsers of commands; the options of ``fit`` and ``embed`` are also those of classes."""

from __future__ import annotations

import argparse
import difflib
import shlex
import textwrap
from typing import Any, NoReturn

from datamodules.schema import MODALITIES, DataError

OFFER = "--offer-parser"
"""Argument by which shell completion asks a command for its parser."""


class Offered(Exception):
    """Carries the parser of a command to shell completion.

    Args:
        parser: the parser.
    """

    def __init__(self, parser: CommandParser) -> None:
        super().__init__(parser.prog)
        self.parser = parser


class CommandHelp(argparse.RawDescriptionHelpFormatter):
    """Help that names the default of every option that has one, and keeps the lines of texts."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        if not action.option_strings or default in (None, False, argparse.SUPPRESS, [], {}) or "default" in text:
            return text
        value = " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
        return f"{text} (default: {value})".replace("%", "%%") if "%(" not in text else f"{text} (default: {value})"

    def _split_lines(self, text: str, width: int) -> list[str]:
        return [line for part in text.splitlines() for line in textwrap.wrap(part, width) or [""]]


class CommandParser(argparse.ArgumentParser):
    """Options of one command; a wrong one is a :class:`DataError` instead of a usage text.

    Args:
        command: its name.
        description: what it does.
        **options: of ``argparse.ArgumentParser``.
    """

    def __init__(self, command: str, description: str | None, **options: Any) -> None:
        options = {"formatter_class": CommandHelp, **options}
        super().__init__(prog=f"experiments.run {command}", description=description, allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses arguments, or offers the parser to shell completion."""
        self.offer(args or [])
        return super().parse_known_args(args, namespace)

    def offer(self, args: list[str]) -> None:
        """Hands this parser over instead of a run of its command.

        Raises:
            Offered: the arguments ask for the parser.
        """
        if args == [OFFER]:
            raise Offered(self)

    def error(self, message: str) -> NoReturn:
        """Raises what is wrong, with the nearest option."""
        unknown = message.removeprefix("unrecognized arguments: ")
        wrong = unknown.split()[0].partition("=")[0] if unknown != message else ""
        near = difflib.get_close_matches(wrong, self._option_string_actions, n=1) if wrong.startswith("--") else []
        hint = f"did you mean {near[0]}?" if near else "--help lists the options"
        raise DataError(f"{self.prog.rpartition(' ')[2]}: {message}; {hint}")


def command_line(*words: object) -> str:
    """A command of ours as it is typed in a shell: words with blanks, quotes and the like are quoted."""
    return shlex.join(["python", "-m", "experiments.run", *map(str, words)])


def add_model(parser: CommandParser) -> None:
    """Adds a trained model, the encoders below a head that does not know its own, and ``--trust``."""
    text = "run folder, checkpoint in one, export, or hf://USER/NAME[@REVISION] of a hub"
    parser.add_argument("model", metavar="MODEL", help=text)
    for modality in MODALITIES:
        text = f"encoder/NAME.yaml: encodes {modality} files for a model that was trained on embeddings"
        parser.add_argument(f"--{modality}", metavar="FILE", help=text)
    parser.add_argument("--trust", action="store_true", help="the model may be of any class and name files")


def options_of_fit(command: str) -> dict[str, tuple[Any, str]]:
    """Default and help of the options of ``fit`` and its like that Lightning does not have."""
    trust = (
        "whether labelled tests take weights that do not say whom they have learnt from (of other projects, of "
        "earlier versions): true, or the names of such files; results.json then names them"
    )
    options: dict[str, tuple[Any, str]] = {
        "vars": ({}, "values for ${vars.NAME} in the config"),
        "run_dir": (None, "run folder; default runs/CONFIG/<time>"),
        "ckpt_path": (None, "checkpoint to resume from (fit) or to test: best, last or a path"),
        "trust_weights": (False, trust),
        "pictures": (True, "draw pictures of the test into the run folder"),
    }
    if command == "fit":
        options["test"] = True, "test the best checkpoint when training has ended"
        text = "auto: continue from the newest loadable checkpoint of --run_dir, if there is one"
        options["resume"] = None, text
    return options
