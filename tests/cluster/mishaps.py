"""What befalls the fits of a sweep on a cluster: once each, so that the same sweep called again can end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

CRASHED, KILLED, PREEMPTED, CANCELLED, OUT_OF_MEMORY = (3, 40), (11,), (20,), (31,), (50,)
"""Seeds by what happens to their fits: at their start; in the third step."""


class Mishaps(Callback):
    """Notes every start of a fit, and brings its mishap upon the first one.

    Args:
        folder: a file for each seed, with a line for each start.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self.seed = int(os.environ["PL_GLOBAL_SEED"])
        file = self.folder / str(self.seed)
        self.first = not file.exists()
        with file.open("a") as starts:
            starts.write(f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}\n")
        if self.first and self.seed in CRASHED:
            raise RuntimeError("a mishap at the start")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        if not self.first or trainer.global_step != 2:
            return
        job = (self.folder / str(self.seed)).read_text().strip()
        if self.seed in KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.seed in OUT_OF_MEMORY:
            os._exit(128 + signal.SIGKILL)  # as a container says it
        elif self.seed in PREEMPTED:
            signalled("--signal=USR1", job)
        elif self.seed in CANCELLED:
            signalled(job)


def signalled(*arguments: str) -> None:
    """Lets ``scancel`` signal this job, which comes at once; it would then wait for the job, which waits for it."""
    with subprocess.Popen(["scancel", *arguments]) as process:
        time.sleep(2)
        process.kill()
