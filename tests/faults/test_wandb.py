"""Training never dies for logging."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.faults.processes import TINY, run

pytestmark = pytest.mark.processes

FIT = ["fit", "--config", str(TINY), "--logger=logger/wandb.yaml", "--trainer.enable_model_summary=false"]


def test_a_key_but_no_network_logs_offline_and_says_so_once(tmp_path: Path) -> None:
    closed = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "a" * 40, "WANDB_MODE": "online"}
    status, output = run(*FIT, f"--run_dir={tmp_path}", **closed)
    assert status == 0, output
    assert output.count("logging offline") == 1, output
    assert "http://127.0.0.1:9 does not answer" in output
    assert (tmp_path / "results.json").exists()
    assert list((tmp_path / "wandb").glob("offline-run-*"))


def test_a_full_disk_for_wandb_leaves_the_run_unlogged_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "wandb"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no right to mount a tmpfs: {mounted.stderr.strip()}")
    try:
        (folder / "filler").write_bytes(bytes(3_000_000))
        status, output = run(*FIT, f"--run_dir={tmp_path}", WANDB_MODE="offline")
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    assert status == 0, output
    assert output.count("this run is not logged") == 1, output
    assert (tmp_path / "results.json").exists()
