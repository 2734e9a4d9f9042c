"""Where a run leaves its files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from datamodules.schema import DataError

ENV_RUN_DIR = "VOICEFACE_RUN_DIR"
"""Carries the run folder to the other ranks of the same job, which start later and would name another."""


HOLDS_A_RUN = ("config.yaml", "checkpoints", "history.csv", "scores.parquet", "results.json")
"""Any of these in a folder is work that another run must not overwrite."""


def choose_run_dir(given: str | None, name: str) -> Path:
    """The run folder: as given, the one rank 0 chose, ``runs/NAME/slurm-<job>-<arguments>`` or ``runs/NAME/<time>``.

    A SLURM job that is requeued finds its folder again; several fits of one job have one each, by their arguments.
    """
    path = given or os.environ.get(ENV_RUN_DIR)
    if path is None:
        job = os.environ.get("SLURM_JOB_ID")
        if job:  # all ranks start with the same arguments
            arguments = hashlib.sha256("\0".join(sys.argv[1:]).encode("utf-8", "surrogateescape")).hexdigest()[:6]
            path = str(Path("runs") / name / f"slurm-{job}-{arguments}")
        else:
            path = _unused(str(Path("runs") / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")))
    return Path(path).resolve()


def make_run_dir(folder: Path) -> None:
    """Makes the run folder.

    Raises:
        DataError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise DataError(f"run folder {folder}: {error.strerror}; choose another with --run_dir") from error


def refuse_used(folder: Path) -> None:
    """Refuses a folder that holds a run, which a new training run would overwrite.

    Raises:
        DataError: it does.
    """
    if held := [file for file in HOLDS_A_RUN if (folder / file).exists()]:
        raise DataError(
            f"run folder {folder}: holds a run already ({', '.join(held)}); continue it with --resume auto, "
            "or choose another --run_dir"
        )


OTHER = {
    "model.safetensors": "an export",
    "index.json": "a sweep",
    "protocol.json": "a protocol",
    "embed.yaml": "feature files",
}
"""What a folder holds in which no run belongs, by a file of it."""


def refuse_others(folder: Path, command: str, ckpt_path: str | None, near: Path) -> None:
    """Refuses a folder that holds other work than the run that a command is about.

    Args:
        folder: the run folder.
        command: fit, validate, test or predict.
        ckpt_path: the checkpoint; None for none.
        near: where ``best`` and ``last`` are.

    Raises:
        DataError: it does.
    """
    remedy = "choose another --run_dir"
    for file, what in OTHER.items():
        if (folder / file).exists():
            raise DataError(f"run folder {folder}: holds {what} ({file}); {remedy}")
    if command == "fit":
        return
    theirs = not ckpt_path or not Path(find_checkpoint(ckpt_path, near)).resolve().is_relative_to(folder)
    if theirs and any((folder / "checkpoints").glob("*.ckpt")):
        raise DataError(f"run folder {folder}: holds another run than the checkpoint's; {remedy}")
    replaces = command == "predict" or (command == "test" and not (folder / "checkpoints").exists())
    if replaces and (folder / "results.json").exists():
        what = "prediction" if command == "predict" else command
        raise DataError(f"run folder {folder}: holds the results of a test, which a {what} replaces; {remedy}")


def refuse_run(out: Path) -> None:
    """Refuses a run folder or an export as the place of something else.

    Raises:
        DataError: it is one.
    """
    if held := [file for file in ("config.yaml", "checkpoints", "history.csv") if (out / file).exists()]:
        raise DataError(f"--out {out}: holds a run or an export ({', '.join(held)}); choose another folder")


def missing_of(folder: Path) -> list[Path]:
    """A folder and those above it that are yet to be made."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def remove_if_empty(folder: Path, made: Sequence[Path]) -> None:
    """Removes the folder of a run that did not start.

    Args:
        folder: of the run.
        made: the folders above that were made for it; they go where nothing else is in them.
    """
    left = {path.name for path in folder.glob("*")} if folder.is_dir() else set()
    logged = (folder / "wandb").is_dir() and any((folder / "wandb").iterdir())
    if not logged and left <= NOT_A_RUN:
        shutil.rmtree(folder, ignore_errors=True)
        for above in made:
            with contextlib.suppress(OSError):  # holds other runs
                above.rmdir()


def forget_failed_start(made: Sequence[Path], kind: type[BaseException] | None, *_: object) -> None:
    """Where a command ends with an error, removes the folders that it has made, where they are empty.

    Args:
        made: as :func:`missing_of` found them; none where the folder was there.
        kind: of the error; None for none.
    """
    if kind is not None and made:
        remove_if_empty(made[0], made[1:])


NOT_A_RUN = {".lock", ".run.lock", "run.lock", "wandb_id", "wandb", "config.yaml", "environment.json"}
"""What a run writes before it has trained or tested."""


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
