"""One finished run of tests/conf/tiny.yaml, made through the command line and shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.run import main
from tests import TINY


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a finished `fit`."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["fit", "--config", str(TINY), f"--run_dir={run}"]) == 0
    return run


def lines(capsys: pytest.CaptureFixture[str]) -> str:
    """The error line of a command."""
    return capsys.readouterr().err.strip().splitlines()[-1]
