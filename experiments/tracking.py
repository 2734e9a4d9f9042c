"""Weights & Biases settings of a run: offline without a key, one id for the life of a run folder."""

from __future__ import annotations

import netrc
import os
import uuid
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch.utilities.rank_zero import rank_zero_only


def has_key() -> bool:
    """Whether W&B can log in: WANDB_API_KEY, or a netrc entry written by ``wandb login``."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False


def prepare_wandb(settings: Namespace, run_dir: Path, name: str) -> None:
    """Fills in what a run decides for itself; what the config sets stays.

    Args:
        settings: init args of WandbLogger, changed in place.
        run_dir: the run folder; the run's id is kept there, so a resumed run goes on as the same W&B run.
        name: display name.
    """
    id_file = run_dir / "wandb_id"
    if not id_file.exists() and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        id_file.write_text(uuid.uuid4().hex[:8], encoding="utf-8")
    settings.id = settings.id or (id_file.read_text(encoding="utf-8") if id_file.exists() else None)
    settings.name = settings.name or f"{name}-{run_dir.name}"
    if not settings.offline and "WANDB_MODE" not in os.environ and not has_key():
        settings.offline = True
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            print("W&B: no key found, logging offline; `wandb login` or WANDB_API_KEY logs online")
