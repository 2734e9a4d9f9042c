"""How a run uses its tracker; Weights & Biases: offline without a key, one id for the life of a run folder."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only, rank_zero_warn

from datamodules.io.text import plain_file
from datamodules.io.writing import write_text
from datamodules.schema import DataError, one_line
from experiments.runs.credentials import has_key

NEEDED = {"TensorBoardLogger": "tensorboard", "MLFlowLogger": "mlflow"}


def check_installed(class_path: str) -> None:
    """Refuses a tracker whose package is missing, before a run folder is made.

    Raises:
        DataError: names the command that installs it.
    """
    name = class_path.rpartition(".")[2]
    if name in NEEDED and find_spec(NEEDED[name]) is None:
        raise DataError(f"logger {name}: {NEEDED[name]} is not installed: pip install 'voiceface[trackers]'")


def has_room(run_dir: Path) -> bool:
    """Whether the W&B folder has room for another megabyte; if not, one warning, and the run is not logged."""
    folder = run_dir / "wandb"
    probe = folder / f".room{rank_zero_only.rank}"  # type: ignore[attr-defined]
    try:
        folder.mkdir(exist_ok=True)
        probe.write_bytes(bytes(1 << 20))
    except OSError as error:
        rank_zero_warn(f"W&B: {folder}: {error.strerror}; this run is not logged")
        return False
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return True


def _unreachable() -> str | None:
    """What keeps W&B from being reached; None if it answers."""
    import wandb

    address = wandb.setup().settings.base_url
    try:
        urllib.request.urlopen(address, timeout=10).close()
    except urllib.error.HTTPError:
        return None  # an answer
    except OSError as error:
        return f"{address} does not answer ({getattr(error, 'reason', error)})"
    return None


def _go_offline() -> None:
    """Over what WANDB_MODE says, which wandb reads once."""
    import wandb

    os.environ["WANDB_MODE"] = wandb.setup().settings.mode = "offline"


def forget_logged(options: Any, saved: Sequence[Mapping[str, Any]]) -> None:
    """Takes W&B's id of another run out, which comes with the config.yaml of that run.

    Earlier versions wrote what the run had chosen for itself: name and offline go, too.

    Args:
        options: init args of the logger, changed in place.
        saved: the configs of runs that they come from.
    """
    for before in ((content.get("logger") or {}).get("init_args") or {} for content in saved):
        if before.get("id") is not None and before["id"] == options.get("id"):
            options.id = None
            if Path(before.get("save_dir") or ".").is_absolute():
                options.name, options.offline = None, False


def prepare_wandb(settings: Any, run_dir: Path, name: str) -> None:
    """Fills in what a run decides for itself; what the config sets stays.

    Args:
        settings: init args of WandbLogger, changed in place.
        run_dir: the run folder; the run's id is kept there, so that a resumed run continues the same W&B run.
        name: display name.
    """
    id_file = run_dir / "wandb_id"
    if not id_file.exists() and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        write_text(id_file, settings.id or uuid.uuid4().hex[:8])
    settings.id = settings.id or (plain_file(id_file).read_text(encoding="utf-8") if id_file.exists() else None)
    settings.name = settings.name or f"{name}-{run_dir.name}"
    if not settings.offline and "WANDB_MODE" not in os.environ and not has_key():
        settings.offline = True
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            print("W&B: no key found, logging offline; `wandb login` or WANDB_API_KEY logs online")
    elif not settings.offline and os.environ.get("WANDB_MODE", "online") == "online" and (why := _unreachable()):
        _go_offline()
        settings.offline = True
        rank_zero_warn(f"W&B: {why}, logging offline")
    # its own summary would repeat the table of results; online it still says where the run is
    offline = settings.offline or os.environ.get("WANDB_MODE") in ("offline", "dryrun")
    os.environ.setdefault("WANDB_SILENT" if offline else "WANDB_QUIET", "true")
    _leave_out_launch()


def _leave_out_launch() -> None:
    """Spares a run the import of W&B Launch, a fifth of a short run's time, where nobody has given it job inputs."""
    from wandb.sdk.wandb_run import Run

    if "wandb.sdk.launch" not in sys.modules and hasattr(Run, "_detect_and_apply_job_inputs"):
        Run._detect_and_apply_job_inputs = lambda self: None  # type: ignore[method-assign]


def finish_wandb(failed: bool) -> None:
    """Ends the W&B run of this process, if there is one, and says how an offline run is sent."""
    wandb = sys.modules.get("wandb")  # a run without W&B doesn't wait for its import
    if wandb is not None and wandb.run is not None:
        run = wandb.run
        try:
            run.finish(exit_code=int(failed))
        except (OSError, wandb.errors.Error) as error:  # the disk is full, or the network went
            rank_zero_warn(f"W&B: {one_line(error)}; the log of this run may lack its end")
        if run.offline:
            print(f"W&B: offline run kept, `wandb sync {shlex.quote(str(Path(run.dir).parent))}` sends it", flush=True)
