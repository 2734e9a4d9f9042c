"""Where a run leaves its files."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from lightning_utilities.core.rank_zero import rank_zero_only

from datamodules.schema import DataError

ENV_RUN_DIR = "VOICEFACE_RUN_DIR"
"""Carries the run folder to the other ranks of the same job, which start later and would name another."""


def choose_run_dir(given: str | None, name: str) -> Path:
    """The run folder, created: as given, the one rank 0 chose, the SLURM job's, or ``runs/NAME/<time>``.

    Raises:
        DataError: the folder can't be written.
    """
    path = given or os.environ.get(ENV_RUN_DIR)
    if path is None:
        job = os.environ.get("SLURM_JOB_ID")
        stamp = f"slurm-{job}" if job else datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        path = str(Path("runs") / name / stamp)
        if not job:
            path = _unused(path)
    folder = Path(path).resolve()
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".writable").touch()
            (folder / ".writable").unlink()
        except OSError as error:
            raise DataError(f"run folder {folder}: {error.strerror}; choose another with --run_dir") from error
    return folder


def _unused(path: str) -> str:
    """Two runs started in the same second get two folders."""
    candidate, count = path, 2
    while Path(candidate).exists():
        candidate, count = f"{path}_{count}", count + 1
    return candidate


NO_CHECKPOINT = (
    "--ckpt_path is required: best, last or a path "
    "(best and last are looked up beside the config.yaml of a finished run); or name the weights: --model.weights FILE"
)


def find_checkpoint(ckpt_path: str, run_dir: Path) -> str:
    """Path of the checkpoint to test: ``best`` and ``last`` are those of the run folder.

    Raises:
        DataError: no such file.
    """
    path = run_dir / "checkpoints" / f"{ckpt_path}.ckpt" if ckpt_path in ("best", "last") else Path(ckpt_path)
    if not path.is_file():
        raise DataError(f"ckpt_path {ckpt_path}: no file {path}; give a path, or the config.yaml of a finished run")
    return str(path)


OWN = "own"


REFINED = "refined"
