"""Regularised canonical correlation analysis as a method: fitted in one pass, then tested and saved like the others."""

from __future__ import annotations

import math
from typing import Any, ClassVar, cast

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.contracts import check_batch
from datamodules.schema import DataError, EvaluationSet, PairBatch, Stage
from lightning_modules.base import AssociationModule
from lightning_modules.training.closed_form import PairMoments, add_clips, fit_cca, no_moments
from postproc.cca import Moments


class RegularisedCCA(AssociationModule):
    """Closed-form voice-face scorer; not from the papers. On a few dozen training identities it beats trained heads.

    Training takes one epoch, whatever ``max_epochs`` is: each rank adds up moments of its clips, the sum over ranks is
    solved in float64 (:func:`postproc.cca.regularised_cca`), and the solution is copied into the parameters. They are
    ordinary parameters without gradients, so DDP and checkpoints need no special case.

    Args:
        dims: input sizes (voice, face); commands take them from the data.
        shrinkage: r, weight of the identity matrix in the whitening, in units of the mean variance.
        directions: k, number of canonical directions that a cosine compares. With several numbers, the cosine of the
            embeddings is the mean of the cosines for each k (:func:`postproc.cca.nested`).

    Raises:
        DataError: an option out of range; a test before the fit; a fit that did not see every clip exactly once.
    """

    sampling: ClassVar[str] = "once"

    def __init__(
        self, dims: tuple[int, int] | None = None, shrinkage: float = 100.0, directions: int | list[int] = 16
    ) -> None:
        super().__init__(dims)
        if not shrinkage >= 0:
            raise DataError(f"model.shrinkage is {shrinkage}; it must be 0 or more (100 generalises well)")
        widths = [directions] if isinstance(directions, int) else directions
        if not widths or not all(1 <= k <= min(self.dims) for k in widths):
            raise DataError(
                f"model.directions is {directions}; choose 1 to {min(self.dims)}, the size of the smaller input"
            )
        self.automatic_optimization = False
        self.shrinkage, self.widths = shrinkage, tuple(widths)
        (voice, face), most = self.dims, max(widths)
        self.voice_mean = nn.Parameter(torch.zeros(voice))
        self.face_mean = nn.Parameter(torch.zeros(face))
        self.voice_projection = nn.Parameter(torch.zeros(voice, most))
        self.face_projection = nn.Parameter(torch.zeros(face, most))
        self._moments: PairMoments | None = None

    def embed_voice(self, x: Tensor) -> Tensor:
        return _embed(x, self.voice_mean, self.voice_projection, self.widths)

    def embed_face(self, x: Tensor) -> Tensor:
        return _embed(x, self.face_mean, self.face_projection, self.widths)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # Never sees a gradient. Lightning writes checkpoints only after it has counted an optimiser step.
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def on_train_epoch_start(self) -> None:
        self._moments = no_moments(self._data.num_identities, self.dims)

    def training_step(self, batch: PairBatch, batch_idx: int) -> None:  # type: ignore[override]
        check_batch(self.trainer.train_dataloader, ("voice", "face", "identity"), batch)
        moments = cast(PairMoments, self._moments)
        add_clips(moments, *(cast(Tensor, batch[key]) for key in ("voice", "face", "identity")))
        if self.trainer.is_last_batch:  # not at the end of the epoch, which comes after its validation
            self._moments = None
            self._solve(moments)

    def _solve(self, moments: PairMoments) -> None:
        voices, faces = (Moments(*map(self._sum_over_ranks, (of.count, of.total, of.moment))) for of in moments)
        self._check_every_clip_seen(int(voices.count.sum()))
        solution = fit_cca((voices, faces), self.shrinkage, max(self.widths))
        parameters = self.voice_mean, self.face_mean, self.voice_projection, self.face_projection
        with torch.no_grad():
            for parameter, value in zip(parameters, (*solution.means, *solution.projections), strict=True):
                parameter.copy_(torch.from_numpy(value))
        cast(torch.optim.Optimizer, self.optimizers()).step()
        self.log("train/correlation", float(solution.correlations[0]), prog_bar=True)
        self.trainer.should_stop = True

    def evaluation_set(self, stage: Stage) -> EvaluationSet:
        if not (self.trainer.sanity_checking or self.voice_projection.any()):
            raise DataError(f"RegularisedCCA is not fitted: run fit before {stage}, or give --ckpt_path")
        return super().evaluation_set(stage)

    @property
    def _data(self) -> Any:
        return cast(Any, self.trainer).datamodule

    def _sum_over_ranks(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        total = self.trainer.strategy.reduce(torch.from_numpy(x).to(self.device), reduce_op="sum")
        return cast(Tensor, total).cpu().numpy()

    def _check_every_clip_seen(self, seen: int) -> None:
        """Refuses moments of only some clips, or of repeated ones: they would give a wrong model without an error."""
        clips = len(self._data.training_set().identity)
        if seen == clips:
            return
        message = f"CCA was fitted on {seen} clips, the training set has {clips}"
        if self.trainer.limit_train_batches != 1.0:
            rank_zero_warn(f"{message} (trainer.limit_train_batches)")
            return
        raise DataError(
            f"{message}; leave data.sampling unset, and start a new run instead of resuming within an epoch"
        )


def _embed(x: Tensor, mean: Tensor, projection: Tensor, widths: tuple[int, ...]) -> Tensor:
    """Features (B, d) of any length -> unit embeddings (B, sum of widths), in float32 under any autocast."""
    with torch.autocast(x.device.type, enabled=False):
        projected = (F.normalize(x.float(), dim=1) - mean.float()) @ projection.float()
        parts = [F.normalize(projected[:, :k], dim=1) for k in widths]
        return torch.cat(parts, dim=1) / math.sqrt(len(parts))
