"""The start of a command, against the import of Lightning, which a training cannot do without."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

from experiments.bench.limits.setting import Case, Measured, Setting, seconds_of

COMMANDS = {
    "fit --print_config": ["fit", "--config", "demo.yaml", "--print_config"],
    "--help": ["--help"],
}
LIGHTNING = ["-c", "import lightning.pytorch"]


def cases(setting: Setting) -> dict[str, Case]:
    """The usual command, and the quickest."""
    return {name: partial(_measure, setting, arguments) for name, arguments in COMMANDS.items()}


def _measure(setting: Setting, arguments: list[str]) -> Measured:
    lightning = seconds_of(partial(_python, LIGHTNING), setting)
    seconds = seconds_of(partial(_python, ["-m", "experiments.run", *arguments]), setting)
    return Measured(seconds, 1, "starts", best=lightning, note=f"import lightning.pytorch: {lightning:.2f} s")


def _python(arguments: list[str]) -> None:
    command = [sys.executable, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[3])
