"""The base class of all methods: two embeddings and a loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Literal, TypeVar, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from datamodules.base import VoiceFaceDataModule
from datamodules.contracts import check_batch, check_terms
from datamodules.evaluation.learnt import Learnt, has_labels
from datamodules.io.text import shown
from datamodules.schema import DataError, PairBatch, Stage
from lightning_modules.evaluation.reference import embed_reference, small_reference
from lightning_modules.evaluation.scorer import TrialScorer
from lightning_modules.networks.weights import LEARNT, learnt_by, learnt_in, learnt_of, set_learnt
from lightning_modules.training.hyper_parameters import TRAINING_ONLY, describe, restore
from lightning_modules.training.input_scale import warn_of_other_scale
from lightning_modules.training.optim import note_shapes
from lightning_modules.training.precision import warn_of_imitated_bf16
from lightning_modules.training.safety import require_finite, require_fitting, shards_weights
from postproc.metrics.calibration import CALIBRATION, read_calibration
from postproc.reference import Reference

NetworkFactory = Callable[[int, int], nn.Module]
Method = TypeVar("Method", bound="AssociationModule")


class AssociationModule(TrialScorer):
    """A voice-face association model.

    Every checkpoint says whom and which languages its weights have learnt from, also through the files they started
    from. Before a fit, and before anything is tested, validated or predicted, the data are checked against that.

    A subclass implements :meth:`embed_voice`, :meth:`embed_face` and :meth:`loss` (or, without gradients,
    ``training_step``); it may override :meth:`distance`. :class:`TrialScorer` describes the evaluation.

    Args:
        dims: input sizes (voice, face); commands take them from the data module.
        optimizer: ``params -> Optimizer``.
        scheduler: ``optimizer -> scheduler``, stepped after every optimiser step, ``ReduceLROnPlateau``
            after every epoch; None = constant learning rate.

    Attributes:
        trust_weights: whether a labelled test takes weights without such a record, which may have learnt from the
            tested identities: True, or the names of the files it takes. ``--trust_weights`` of the commands.
        test_follows_fit: whether weights that a labelled test refuses are refused before the fit already.

    Raises:
        ValueError: ``dims`` is missing.
    """

    sampling: ClassVar[str] = "identity"
    """How training pairs are drawn where ``data.sampling`` is not set; see :class:`VoiceFaceDataModule`."""

    def __init__(
        self,
        dims: tuple[int, int] | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        if dims is None:
            raise ValueError(
                "model.dims: the input sizes (voice, face) are missing; pass dims=(192, 512), or use the fit command"
            )
        self.dims = (int(dims[0]), int(dims[1]))
        self._save_hyper_parameters()
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.trust_weights: bool | Sequence[str] = False
        self.test_follows_fit = True
        self._inputs_compared = False
        self._loss_since_step: Tensor | None = None
        self._last_batch: PairBatch | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> AssociationModule:
        """A copy with separate weights, for weight averaging; trainer and factories cannot be copied and are shared."""
        shared = ("_trainer", "make_optimizer", "make_scheduler")
        twin = memo[id(self)] = type(self).__new__(type(self))
        twin.__dict__.update({k: v if k in shared else deepcopy(v, memo) for k, v in self.__dict__.items()})
        return twin

    def _save_hyper_parameters(self) -> None:
        """Keeps the class and its arguments in plain values, which Lightning writes into checkpoints."""
        frame = cast(FrameType, inspect.currentframe()).f_back  # that of __init__, whose arguments are saved
        self.save_hyperparameters(ignore=TRAINING_ONLY, frame=frame, logger=False)
        described = describe(self, {**self.hparams, "dims": list(self.dims)})
        self.hparams.clear()
        self.hparams.update(described)
        self._hparams_initial = deepcopy(self.hparams)

    @classmethod
    def load_from_checkpoint(
        cls: type[Method],
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Method:
        """The trained model of a checkpoint, in evaluation mode: ``SCC.load_from_checkpoint("best.ckpt")``.

        Sizes and options are in the checkpoint. The file is read as tensors and plain values; classes that it names are
        looked up in ``lightning_modules`` only, so no foreign code runs. Optimiser and scheduler are the defaults of
        the class unless they are passed: to resume training, use the ``fit`` command with ``--ckpt_path``.

        Args:
            checkpoint_path: the file.
            map_location: device of the model; None = CPU.
            hparams_file: not supported.
            strict: True or None; all tensors must fit.
            weights_only: True or None.
            **kwargs: arguments of ``__init__`` in place of those in the checkpoint. A checkpoint of an older version
                needs ``dims`` and, where it is not the default, ``network``.

        Raises:
            DataError: an unreadable file, a model of another class, tensors that do not fit, missing arguments.
            ValueError: ``hparams_file`` is given, or ``strict`` or ``weights_only`` is false.
        """
        if hparams_file is not None or strict is False or weights_only is False:
            raise ValueError("load_from_checkpoint takes no hparams_file; strict and weights_only are always true")
        path = Path(checkpoint_path)
        model = restore(cls, path, kwargs)
        set_learnt(model, learnt_of(path))
        return model if map_location is None else model.to(map_location)

    def loss(self, batch: PairBatch) -> dict[str, Tensor]:
        """Loss terms of a training batch: ``loss`` is minimised, all terms are logged as ``train/<name>``."""
        # not abstract: a closed-form method overrides training_step and has no loss
        raise NotImplementedError(f"{type(self).__name__} has no loss; implement it, or training_step")

    @property
    def learnt(self) -> Learnt:
        """What the weights have learnt from until now."""
        return learnt_by(self)

    def refuse_learnt(self, stage: Stage | Literal["fit"]) -> None:
        """Refuses a stage of the trainer's data whose identities or unheard language the weights have learnt from.

        Raises:
            DataError: they have, see :func:`check_learnt`; or the test has labels, and there is no record of what some
                of the weights have learnt from, and they are not trusted.
        """
        data: VoiceFaceDataModule = cast(Any, self.trainer).datamodule
        learnt = self.learnt | data.inherited()
        data.refuse_learnt(learnt, stage)
        unrecorded = sorted(learnt.unrecorded)
        if not unrecorded or self.trust_weights is True:
            return
        trusted = {text for name in self.trust_weights or () for text in (name, Path(name).name)}
        unknown = [name for name in unrecorded if name not in trusted]
        what = f"{shown(unknown)}: nothing says whom these weights have learnt from"
        tested = "test" in data.measured(stage) and (stage != "fit" or self.test_follows_fit)
        if unknown and tested and has_labels(data.evaluation_set("test")):
            raise DataError(
                f"{what}, so the tested identities may be among them; if you know that they are not, say "
                "--trust_weights true"
            )
        if unknown:
            rank_zero_warn(f"{what}; the identities here may be among them")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[LEARNT] = self.learnt.plain()
        checkpoint["languages"] = sorted(self.learnt.heard)  # where earlier versions look for them
        if self.calibration is not None:
            checkpoint[CALIBRATION] = self.calibration.plain()

    def on_test_start(self) -> None:
        self.refuse_learnt("test")
        self._compare_inputs("test")

    def on_predict_start(self) -> None:
        self.refuse_learnt("predict")
        self._compare_inputs("predict")

    def on_validation_start(self) -> None:
        if self.trainer.state.fn == TrainerFn.VALIDATING:  # the validation of a fit is checked at its start
            self.refuse_learnt("validate")
            self._compare_inputs("validate")

    def setup(self, stage: str) -> None:
        if stage != "fit" and shards_weights(self.trainer):
            strategy, command = type(self.trainer.strategy).__name__, TrainerFn(stage).value
            raise DataError(f"{strategy} only trains; {command} with --trainer.strategy ddp")
        note_shapes(self.parameters())

    def on_fit_start(self) -> None:
        self.refuse_learnt("fit")
        self._compare_inputs("fit")
        warn_of_imitated_bf16(self.trainer)
        set_learnt(self, self.learnt | cast(Any, self.trainer).datamodule.learnt())
        if self.trainer.world_size > 1:  # seeds are equal on all ranks; dropout, masks and noise must differ
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def _compare_inputs(self, stage: Stage | Literal["fit"]) -> None:
        """Warns once if given weights expect inputs of another scale; not of weights that this object has trained."""
        if not self._inputs_compared:
            warn_of_other_scale(self, cast(Any, self.trainer).datamodule, stage)
        self._inputs_compared = True

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        check_batch(self.trainer.train_dataloader, ("voice", "face", "identity"), batch)
        terms = self.loss(batch)
        check_terms(self, terms)
        size = len(cast(Tensor, batch["identity"]))
        values = {f"train/{k}": v.detach() for k, v in terms.items()}
        self.log_dict(values, batch_size=size, prog_bar=True, sync_dist=True)
        loss = terms["loss"].detach()
        self._loss_since_step = loss if self._loss_since_step is None else self._loss_since_step + loss
        self._last_batch = batch
        return terms["loss"]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self._loss_since_step is not None:
            require_finite(self, self._loss_since_step, self._last_batch)
        self._loss_since_step = self._last_batch = None

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        sharded = getattr(self.trainer.strategy.model, "clip_grad_norm_", None)
        if sharded is not None and gradient_clip_val and gradient_clip_algorithm in (None, "norm"):
            sharded(gradient_clip_val)  # FSDP's: the norm is over all ranks, which Lightning does not compute
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        path = str(self.trainer.ckpt_path)
        if not shards_weights(self.trainer):  # they have read and compared the weights already
            require_fitting(self, checkpoint, path, resuming=self.trainer.training)
        set_learnt(self, learnt_in(checkpoint, path))  # all weights come from it: those of model.weights are gone
        self.calibration = read_calibration(checkpoint.get(CALIBRATION), path)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer([p for p in self.parameters() if p.requires_grad])
        if self.make_scheduler is None:
            return optimizer
        scheduler = self.make_scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])  # as other schedulers do
            how = {"interval": "epoch", "monitor": getattr(scheduler, "monitor", "val/eer")}
        else:
            how = {"interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **how}}

    @torch.no_grad()
    def reference(self) -> Reference:
        """Embedded clips of training and validation identities, for refinements that learn from them."""
        return embed_reference(self)

    def small_reference(self) -> bool:
        """Whether :meth:`reference` costs next to nothing: few clips, of feature files."""
        return small_reference(self)
