"""Which checkpoints a run keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class RunCheckpoint(ModelCheckpoint):
    """Keeps ``checkpoints/best.ckpt`` (lowest validation EER) and ``checkpoints/last.ckpt`` of the run folder.

    Args:
        monitor: the validation metric that picks the best checkpoint. Validation identities are held out of training,
            and test data takes no part. None, or no validation identities: the last checkpoint is the best.
        mode: ``min`` or ``max``.
        every_n_epochs: how often validation results are considered.
    """

    def __init__(self, monitor: str | None = "val/eer", mode: str = "min", every_n_epochs: int = 1) -> None:
        super().__init__(
            filename="best",
            monitor=monitor,
            mode=mode,
            save_top_k=1,
            save_last=True,
            every_n_epochs=every_n_epochs,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and not trainer.datamodule.val_dataloader():  # type: ignore[attr-defined]
            # no validation identities (closed form, or a final fit on all): the last checkpoint is the best
            self.monitor = None

        self._trainer = trainer

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Also where the run folder has been moved: its best checkpoint has moved along."""
        folder, resumed = Path(str(self.dirpath)), Path(str(self._trainer.ckpt_path)).resolve()
        if folder in (resumed.parent, resumed.parent / "checkpoints"):  # SLURM's are beside the folder
            paths = {key: state_dict[key] for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
            state_dict = state_dict | {key: path and str(folder / Path(path).name) for key, path in paths.items()}
            best = {str(folder / Path(path).name): score for path, score in state_dict["best_k_models"].items()}
            state_dict |= {"dirpath": self.dirpath, "best_k_models": best}
        super().load_state_dict(state_dict)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not self._should_save_on_train_epoch_end(trainer):
            self._write_last_too(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if self._should_save_on_train_epoch_end(trainer):
            self._write_last_too(trainer)

    def _write_last_too(self, trainer: Trainer) -> None:
        """Lightning writes ``last.ckpt`` only with a best one; a killed run would lose all the epochs since."""
        if not self._should_skip_saving_checkpoint(trainer):
            self.write_last(trainer)

    def holds(self, step: int) -> bool:
        """Whether ``last.ckpt`` is of this training step, written by this process."""
        return step > 0 and step == self._last_global_step_saved

    def write_last(self, trainer: Trainer) -> Path:
        """Writes ``last.ckpt`` now, and no other of this step; on all ranks."""
        self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
        return Path(self.last_model_path)
