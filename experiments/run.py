"""``python -m experiments.run COMMAND ...``: finds the command and hands over. Imports nothing heavy itself."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module
from pathlib import Path

from experiments.console.errors import exit_status

COMMANDS = {
    "list": ("experiments.commands.list", "configs, models, data modules, encoders and refinements, with a line each"),
    "fit": (
        "experiments.commands.fit",
        "train a model, pick the best checkpoint on validation identities, test and refine it",
    ),
    "validate": ("experiments.commands.fit", "validate a checkpoint on the validation identities"),
    "test": ("experiments.commands.fit", "test a checkpoint on the heard and the unheard language, refine the scores"),
    "predict": ("experiments.commands.fit", "score trials without labels"),
    "embed": (
        "experiments.commands.data.embed",
        "turn the files of a manifest into feature files, by frozen encoders or a model",
    ),
    "score": ("experiments.commands.score", "distances between any voices and faces, by a run or an export"),
    "app": ("experiments.commands.app", "a page in the browser that ranks faces for a voice, on this machine alone"),
    "export": ("experiments.commands.export", "safetensors, config and model card of a run; --onnx both branches"),
    "submit": ("experiments.commands.submit", "make a challenge archive from tested runs; --check validates one"),
    "refine": ("experiments.commands.refine", "refine the saved scores of a run, without its model or data"),
    "prepare": (
        "experiments.commands.data.prepare",
        "scan a tree of voices and faces into a manifest, naming broken files",
    ),
    "split": (
        "experiments.commands.data.split",
        "test identities, folds, trial lists and configs for data of your own",
    ),
    "bench": (
        "experiments.commands.bench",
        "time and memory against plain implementations",
    ),
    "protocol": ("experiments.commands.protocol", "folds x train languages x seeds of several methods, in one table"),
    "sweep": (
        "experiments.commands.sweep",
        "many fits of one YAML file in W&B's sweep format, on a SLURM cluster or here",
    ),
    "report": (
        "experiments.commands.report",
        "runs as one self-contained page, beside the papers and controls; md, csv, latex",
    ),
    "dashboard": ("experiments.commands.dashboard", "a W&B workspace as code: heard against unheard, DET, elbow"),
}

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
    if not argv or argv[0] in ("-h", "--help"):
        print(help_text())
        return 0 if argv else 2
    command, *rest = argv
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the commands are {', '.join(COMMANDS)}"
        print(f"error: unknown command {command!r}: {hint}", file=sys.stderr)
        return 2
    return int(import_module(COMMANDS[command][0]).main(command, rest))


def script() -> int:
    """The console script ``voiceface``: finds classes in the current folder as ``python -m`` does, but after others."""
    sys.path.append(str(Path.cwd()))
    return main()


if __name__ == "__main__":
    sys.exit(main())
