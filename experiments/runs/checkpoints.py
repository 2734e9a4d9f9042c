"""Writes checkpoints so that a kill or a full disk never costs the previous one; reads them without running code."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from datamodules.io.text import plain_file
from datamodules.io.writing import draft_of, make_folder
from datamodules.schema import DataError
from lightning_modules.networks.weights import DAMAGED, load_pickle, reason

UNFINISHED = ".*.ckpt.tmp"
"""Checkpoints that were being written, next to the finished ones; a killed run leaves one."""


class CheckpointError(DataError):
    """A checkpoint that can't be read. One line: the file, what is wrong, the way out."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside, syncs to disk and renames, so that a whole checkpoint is there at any time.

    Lightning writes into the temporary folder of the system and moves the file. Between two file systems that is a
    copy, and a kill in the middle of it leaves half a checkpoint in the place of the previous one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        make_folder(path.parent)
        # torch.save turns some errors of the disk into a RuntimeError
        with draft_of(path, (RuntimeError,), sync=True) as draft, draft.open("wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """As :func:`read_checkpoint`: nothing in the file is run, whatever ``weights_only`` says."""
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a Lightning checkpoint, tensors on the CPU.

    Raises:
        CheckpointError: missing, damaged, no Lightning checkpoint, or holding objects whose loading would run code.
    """
    try:
        content = load_pickle(plain_file(path))
    except DataError as error:
        raise CheckpointError(str(error)) from error
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: not a checkpoint of tensors and plain values, nothing in it was run ({reason(error)})"
        ) from error
    except DAMAGED as error:
        raise CheckpointError(f"{path}: damaged or not a checkpoint ({reason(error)})") from error
    needed = ("state_dict", "global_step", "pytorch-lightning_version")
    missing = [key for key in needed if not isinstance(content, Mapping) or key not in content]
    if missing or not isinstance(content["state_dict"], Mapping):
        raise CheckpointError(f"{path}: no Lightning checkpoint, it lacks {', '.join(missing) or 'a state_dict'}")
    return dict(content)


def newest_checkpoint(run_dir: Path) -> tuple[Path | None, list[str]]:
    """The loadable checkpoint of a run that is furthest in training: last, best, or SLURM's ``hpc_ckpt_N``.

    Returns:
        Its path, None where there is none, and a line for each checkpoint that could not be read.
    """
    loadable: list[tuple[int, int, Path]] = []
    problems = []
    for path in _checkpoints(run_dir):
        try:
            content = read_checkpoint(path)
            loadable.append((int(content["global_step"]), path.stat().st_mtime_ns, path))
        except CheckpointError as error:
            problems.append(str(error))
    return (max(loadable)[2] if loadable else None), problems


def remove_unfinished(run_dir: Path) -> None:
    """Removes what killed runs left of the checkpoints they were writing; only for who holds the run's lock."""
    for folder in (run_dir, run_dir / "checkpoints"):
        for path in folder.glob(UNFINISHED):
            path.unlink(missing_ok=True)


def _checkpoints(run_dir: Path) -> Iterator[Path]:
    yield from (path for path in sorted((run_dir / "checkpoints").glob("*.ckpt")) if path.is_file())
    yield from sorted(run_dir.glob("hpc_ckpt_*.ckpt"))
