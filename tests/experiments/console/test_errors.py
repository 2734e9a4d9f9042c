"""What ends a command is one line and a status; a bug keeps its traceback."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from datamodules.schema import DataError
from experiments.console.arguments import CommandParser
from experiments.console.errors import exit_status
from tests import REPOSITORY


def ends(error: BaseException) -> int:
    def command() -> int:
        raise error

    return exit_status(command, resumable=True)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DataError("a\n  b"), "error: a b"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.csv"), "error: a.csv: No such file"),
        (OSError(errno.ENOSPC, "No space left on device", b"x"), "error: x: No space left on device; free space there"),
        (OSError("no answer"), "error: no answer"),
        (
            DataError("Caught DataError in DataLoader worker process 1.\nTraceback\nx.DataError: a.wav: bad\n"),
            "error: a.wav: bad",
        ),
        (KeyboardInterrupt(), "stopped; the same command continues from here"),
    ],
)
def test_an_error_is_one_line(error: BaseException, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(error) == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert capsys.readouterr().err == f"{said}\n"


def test_a_bug_keeps_its_traceback_and_an_exit_its_status() -> None:
    with pytest.raises(ZeroDivisionError):
        ends(ZeroDivisionError())
    assert [ends(SystemExit(code)) for code in (None, 3, "text")] == [0, 3, 1]


def test_lightnings_exit_on_ctrl_c_is_ctrl_c() -> None:
    def command() -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    assert exit_status(command) == 130


def test_a_wrong_option_names_the_nearest() -> None:
    parser = CommandParser("score", "")
    parser.add_argument("--voices", required=True)
    with pytest.raises(DataError, match=r"^score: unrecognized arguments: --vioces=a; did you mean --voices\?$"):
        parser.parse_args(["--voices=a", "--vioces=a"])
    with pytest.raises(DataError, match=r"^score: the following arguments are required: --voices; --help lists"):
        parser.parse_args([])
    with pytest.raises(DataError, match=r"^score: --voices needs a file; --help lists"):
        parser.error("--voices needs a file")


def test_a_reader_that_leaves_ends_a_command_without_a_traceback() -> None:
    code = "from experiments.console.errors import exit_status; import sys\n"
    code += "sys.exit(exit_status(lambda: print('line\\n' * 100_000)))"
    command = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY
    )
    command.stdout.readline()
    command.stdout.close()
    assert command.stderr.read() == b""
    assert command.wait() == 141
