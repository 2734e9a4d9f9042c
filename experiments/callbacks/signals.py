"""SIGTERM, Ctrl-C and SLURM's warning end a ``fit`` at a step, with that step in ``last.ckpt``, and a test at once."""

from __future__ import annotations

import math
import os
import signal
import subprocess
from types import FrameType
from typing import Any, NoReturn

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from experiments.callbacks.checkpoint import RunCheckpoint


class Stopped(SystemExit):
    """A signal ended training in good order. The status is 128 + its number: 143 for SIGTERM, 130 for Ctrl-C."""

    def __init__(self, number: int, where: str) -> None:
        super().__init__(128 + number)
        self.number = number
        self.reason = f"stopped by {signal.Signals(number).name} {where}"


class StopOnSignal(Callback):
    """Ends training after the running step when SIGTERM, SIGINT or SIGUSR1 has come, on all ranks at the same step.

    ``last.ckpt`` is written where a resumed run can continue as if it had not been interrupted: after an optimiser
    step, but not between the last batch before a validation and that validation. A second Ctrl-C ends the run at once.

    SIGUSR1 is what SLURM sends before it preempts a job or its time is up: the job is put back into the queue too.
    """

    def __init__(self) -> None:
        self.received = 0
        self._stopping = 0
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step
        # In the place of Lightning's, which call collectives from wherever the process is, within a step too: one rank
        # waits for the other's gradients, which waits for it to save. Lightning puts back what was there before when
        # training has ended.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._note)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if _checkpoint(trainer).holds(trainer.global_step) and (number := self._agreed(trainer)):
            raise self._stopped(number, trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stepped, self._step = trainer.global_step != self._step, trainer.global_step
        validates = trainer.is_last_batch or (batch_idx + 1) % (trainer.val_check_batch or math.inf) == 0
        if not stepped or validates:
            return
        self._stopping = self._agreed(trainer)
        # also when trainer.max_time is up: what Lightning saves then counts the epoch as done
        if self._stopping or trainer.should_stop:
            _checkpoint(trainer).write_last(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._stopping:  # only now: the metrics of the step before were logged after its end
            raise self._stopped(self._stopping, trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _leave_on_sigterm(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _leave_on_sigterm(trainer)

    def leave(self, trainer: Trainer) -> None:
        """Ends the command if a signal came in the last epoch, which has been finished.

        Raises:
            Stopped: one has come.
        """
        if number := self._agreed(trainer):
            raise Stopped(number, "after training, before the test")

    def _agreed(self, trainer: Trainer) -> int:
        """The signal that has come to any rank, 0 for none; the same on all."""
        received = torch.tensor(self.received, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(received, reduce_op="max"))

    def _stopped(self, number: int, trainer: Trainer) -> Stopped:
        return Stopped(number, f"at step {trainer.global_step}, kept in {_checkpoint(trainer).last_model_path}")

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received != signal.SIGUSR1:  # SIGTERM may follow a warning and does not take it back
            self.received = number


def _checkpoint(trainer: Trainer) -> RunCheckpoint:
    return next(c for c in trainer.checkpoint_callbacks if isinstance(c, RunCheckpoint))


def leave_on_warning() -> None:
    """SLURM's warning ends the command where nothing is to be saved too: while it starts, and in the test."""
    if "SLURM_JOB_ID" in os.environ:
        signal.signal(signal.SIGUSR1, _leave)


def requeue() -> None:
    """Puts this process's SLURM job back into the queue: it starts again with the same id, hence the same run folder.

    Only rank 0 does; in a sweep submitit does.
    """
    if os.environ.get("SLURM_PROCID") == "0" and "SUBMITIT_EXECUTOR" not in os.environ:
        status = subprocess.call(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]])
        print("requeued" if status == 0 else f"warning: not requeued (scontrol: {status}); submit it again", flush=True)


def _leave_on_sigterm(trainer: Trainer) -> None:
    """There is nothing to save in a test; Lightning's handler would let it compute its results first."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        if trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(signal.Signals(number))  # the other ranks, as Lightning's does
        _leave(number, frame)

    signal.signal(signal.SIGTERM, leave)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(number, "outside of training")
