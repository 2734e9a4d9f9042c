"""Five runs of the soak; `python -m tests.faults.soak --runs 200` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.soak import soak

pytestmark = pytest.mark.processes


@pytest.mark.timeout(1800)
def test_killed_runs_end_as_one_that_was_left_alone(tmp_path: Path) -> None:
    figures = soak(runs=5, seed=1, parallel=2, work=tmp_path, minutes=20)
    assert figures["failed"] == []
    assert figures["runs"] == 5
    assert figures["sigterm"] + figures["sigkill"] >= 5  # type: ignore[operator]
    assert figures["unreadable_checkpoints"] == figures["leaked_processes"] == 0
    assert figures["disk_kb_largest"] < 1.2 * figures["disk_kb_uninterrupted"]  # type: ignore[operator]
