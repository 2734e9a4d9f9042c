"""What ends a command is one line and a status; a bug keeps its traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

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
        (KeyboardInterrupt(), "stopped; the same command goes on with what is saved"),
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


@pytest.mark.parametrize("closed", ["reader", "stdout", "both"])
def test_a_command_goes_on_where_nobody_reads_its_output(closed: str, tmp_path: Path) -> None:
    code = (
        "from experiments.console.errors import exit_status; import sys, pathlib\n"
        "def command():\n"
        "    print('line\\n' * 100_000, flush=True); print('\u0915', file=sys.stderr); print('more')\n"
        f"    return pathlib.Path({str(tmp_path / 'done')!r}).write_text('done') - 1\n"
        "sys.exit(exit_status(command))"
    )
    shell = {"reader": "| head -1", "stdout": ">&-", "both": ">&- 2>&-"}[closed]
    script = f"set -o pipefail; LC_ALL=C PYTHONIOENCODING=latin-1 '{sys.executable}' -c \"$1\" {shell}"
    done = subprocess.run(["bash", "-c", script, "bash", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 3
    assert (tmp_path / "done").read_text() == "done"
    assert "Traceback" not in done.stderr
