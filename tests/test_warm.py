"""Commands that tests start by a fork behave as ``python -m experiments.run``."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests import TINY, warm

pytestmark = pytest.mark.processes


def test_status_output_and_environment_are_those_of_the_command(tmp_path: Path) -> None:
    done = warm.run("fit", "--config=demo_.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: config demo_.yaml")
    assert done.stdout == ""
    assert warm.run("--help").stdout.startswith("usage: python -m experiments.run")
    environment = {**os.environ, "VOICEFACE_CACHE": str(tmp_path / "cache")}
    done = warm.run("fit", f"--config={TINY}", f"--run_dir={tmp_path / 'run'}", environment=environment)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "cache").iterdir())


def test_a_command_can_be_ended_by_a_signal() -> None:
    process = warm.start("fit", f"--config={TINY}", "--trainer.max_epochs=10000")
    process.send_signal(signal.SIGKILL)
    assert process.wait(20) == -signal.SIGKILL
    assert not Path(f"/proc/{process.pid}").exists()
