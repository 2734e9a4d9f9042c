"""The one module every method extends: embed each unique voice and face once, gather by index, score the trials."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.schema import (
    MODALITIES,
    Cell,
    DataError,
    EvaluationSet,
    ItemBatch,
    Modality,
    PairBatch,
    Ranking,
    ScoredCell,
    Stage,
)
from lightning_modules.evaluation.bank import EmbeddingBank
from lightning_modules.evaluation.reference import embed_reference
from lightning_modules.training.safety import require_finite, require_fitting
from postproc.cells import scored_cell
from postproc.metrics.evaluate import evaluate_cell, overall
from postproc.reference import Reference

SCORING_CHUNK = 1 << 18  # trials scored at once: bounds memory at 2 * 2^18 * d floats
NetworkFactory = Callable[[int, int], nn.Module]


class AssociationModule(LightningModule, ABC):
    """A voice-face association model.

    A subclass implements :meth:`embed_voice`, :meth:`embed_face` and :meth:`loss` (or, without gradients,
    ``training_step``); it may override :meth:`distance`.
    Validation, test and prediction embed every unique item once, on whichever rank its loader put it, gather the
    embeddings by index, and score the trials of each cell on rank 0, so the numbers do not depend on the number of
    ranks. After the epoch, :attr:`embeddings` and :attr:`scores` hold what callbacks refine and save; a refining
    callback leaves its distances in :attr:`refined`.

    Args:
        dims: input sizes (voice, face); the CLI links them from the data module.
        optimizer: ``params -> Optimizer``.
        scheduler: ``optimizer -> scheduler``, stepped every optimiser step; None = constant.
    """

    sampling: ClassVar[str] = "identity"
    """How training pairs are drawn unless the data module says otherwise: ``identity``, ``shuffle`` or ``once``."""

    def __init__(
        self,
        dims: tuple[int, int] | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        if dims is None:
            raise ValueError("model.dims: the input sizes (voice, face) are missing; the CLI takes them from data")
        self.dims = (int(dims[0]), int(dims[1]))
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.languages: tuple[str, ...] = ()  # that the weights it starts from have heard
        self.embeddings: dict[Modality, NDArray[np.float32]] = {}
        self.scores: dict[str, NDArray[np.float64]] = {}
        self.refined: dict[str, NDArray[np.float64]] = {}
        self._banks: dict[Modality, EmbeddingBank] = {}
        self._loss_since_step: Tensor | None = None
        self._last_batch: PairBatch | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> AssociationModule:
        """A model with weights of its own (averaged ones, say) in the same run: trainers and factories do not copy."""
        shared = ("_trainer", "make_optimizer", "make_scheduler")
        twin = memo[id(self)] = type(self).__new__(type(self))
        twin.__dict__.update({k: v if k in shared else deepcopy(v, memo) for k, v in self.__dict__.items()})
        return twin

    @abstractmethod
    def embed_voice(self, x: Tensor) -> Tensor:
        """Voices (B, ...) -> embeddings (B, d)."""

    @abstractmethod
    def embed_face(self, x: Tensor) -> Tensor:
        """Faces (B, ...) -> embeddings (B, d)."""

    def loss(self, batch: PairBatch) -> dict[str, Tensor]:
        """Loss terms of a training batch; the one named ``loss`` is minimised, all are logged as ``train/<name>``."""
        # not abstract: a closed form has a training_step of its own and no loss
        raise NotImplementedError(f"{type(self).__name__} has no loss; implement it, or training_step")

    def distance(self, voices: Tensor, faces: Tensor) -> Tensor:
        """Distances (t,) of aligned rows (t, d) and (t, d): 1 - cosine, lower = same person ([SCC] 3.2)."""
        return 1 - F.cosine_similarity(voices, faces, dim=-1)

    def rank(self, probes: Tensor, candidates: Tensor, probe: Modality, **scoring: Any) -> Tensor:
        """Distances (n, m) of every probe (n, d) to every candidate (m, d), lower = same person: those of `distance`.

        Override it where that costs too much for all pairs of a gallery: a probe's candidates need only be in order.

        Args:
            probes: embeddings.
            candidates: embeddings of the other modality.
            probe: modality of the probes.
            **scoring: passed on to `distance`.
        """
        if type(self).distance is AssociationModule.distance:
            return 1 - F.normalize(probes, dim=1) @ F.normalize(candidates, dim=1).T
        rows = []
        for part in probes.split(max(1, SCORING_CHUNK // len(candidates))):
            pairs = part.repeat_interleave(len(candidates), 0), candidates.repeat(len(part), 1)
            voices, faces = pairs if probe == "voice" else pairs[::-1]
            rows.append(self.distance(voices, faces, **scoring).view(len(part), -1))
        return torch.cat(rows)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        heard = cast(Any, self.trainer).datamodule.training_set().language
        checkpoint["languages"] = sorted({*self.languages, *np.unique(heard).tolist()} - {""})

    def on_fit_start(self) -> None:
        cast(Any, self.trainer).datamodule.refuse_heard(self.languages)
        if self.trainer.world_size > 1:  # seeds are the same on all ranks; dropout, masks and noise must not be
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        terms = self.loss(batch)
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

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_fitting(self, checkpoint, str(self.trainer.ckpt_path), resuming=self.trainer.training)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer([p for p in self.parameters() if p.requires_grad])
        if self.make_scheduler is None:
            return optimizer
        scheduler = {"scheduler": self.make_scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    # -- evaluation ---------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self._open_banks("validate")

    def on_test_epoch_start(self) -> None:
        self._open_banks("test")

    def on_predict_epoch_start(self) -> None:
        self._open_banks("predict")

    def validation_step(self, batch: ItemBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._embed(batch, dataloader_idx)

    def test_step(self, batch: ItemBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._embed(batch, dataloader_idx)

    def predict_step(self, batch: ItemBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._embed(batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:  # a few batches only: nothing to score
            return
        self._gather_and_score("validate")
        voices, faces = self.evaluation.voices, self.evaluation.faces
        results = {
            name: evaluate_cell(cell, voices, faces, self.scores[name], controls=False)
            for name, cell in self.evaluation.cells.items()
        }
        self.log("val/eer", overall(results)["eer"], prog_bar=True, sync_dist=True)

    def evaluate(self, stage: Stage) -> None:
        """Gathers embeddings and scores every cell once per epoch; callbacks may call it, later calls do nothing."""
        if not self.scores:
            self._gather_and_score(stage)

    def on_test_epoch_end(self) -> None:
        self.evaluate("test")

    def on_predict_epoch_end(self) -> None:
        self.evaluate("predict")

    @property
    def evaluation(self) -> EvaluationSet:
        """The evaluation set of the running stage."""
        return self._evaluation

    def scoring_of(self, test: str) -> dict[str, Any]:
        """Options of `distance` and `rank` in the test of a name, for a subclass that scores in several ways."""
        return {}

    def score_cell(self, cell: Cell) -> NDArray[np.float64]:
        """The distances (t,) of a cell's trials, lower = same person."""
        return self._score(cell.voice_index, cell.face_index, **self.scoring_of(cell.name))

    def score_rows(self, ranking: Ranking) -> Callable[[slice], NDArray[np.floating]]:
        """The distances (b, N) of a slice of a ranking's probes to their candidates, lower = same person."""
        scoring = self.scoring_of(ranking.name)
        if ranking.task == "matching":

            def matched(rows: slice) -> NDArray[np.floating]:
                candidates = ranking.candidate_index[rows]
                probes = np.repeat(ranking.probe_index[rows], candidates.shape[1])
                pairs = probes, candidates.ravel()
                voices, faces = pairs if ranking.probe == "voice" else pairs[::-1]
                return self._score(voices, faces, **scoring).reshape(candidates.shape)

            return matched
        other: Modality = "face" if ranking.probe == "voice" else "voice"
        probes = torch.from_numpy(self.embeddings[ranking.probe][ranking.probe_index]).to(self.device)
        gallery = torch.from_numpy(self.embeddings[other][ranking.candidate_index]).to(self.device)

        @torch.no_grad()
        def retrieved(rows: slice) -> NDArray[np.floating]:
            with torch.autocast(self.device.type, enabled=False):
                return cast(Any, self.rank(probes[rows], gallery, ranking.probe, **scoring).cpu().numpy())

        return retrieved

    def scored_cell(self, name: str) -> ScoredCell:
        """What a refinement may see of a cell: scores and embeddings of its own unique items, nothing else."""
        return scored_cell(self.evaluation, name, self.scores[name], self.embeddings)

    @torch.no_grad()
    def reference(self) -> Reference:
        """Embedded clips of training and validation people, for refinements that learn from them."""
        return embed_reference(self)

    def evaluation_set(self, stage: Stage) -> EvaluationSet:
        """What a stage evaluates: the tests of the data module."""
        return cast(EvaluationSet, cast(Any, self.trainer).datamodule.evaluation_set(stage))

    def _open_banks(self, stage: Stage) -> None:
        self._evaluation = self.evaluation_set(stage)
        self.embeddings, self.scores, self.refined = {}, {}, {}
        self._banks = {m: EmbeddingBank(len(self._evaluation.items(m))).to(self.device) for m in MODALITIES}

    def _embed(self, batch: ItemBatch, dataloader_idx: int) -> None:
        modality = MODALITIES[dataloader_idx]
        embed = self.embed_voice if modality == "voice" else self.embed_face
        self._banks[modality].update(embed(cast(Tensor, batch["x"])), cast(Tensor, batch["index"]))

    def _gather_and_score(self, stage: Stage) -> None:
        for modality, bank in self._banks.items():
            self.embeddings[modality] = bank.compute().cpu().numpy()
            bad = np.flatnonzero(~np.isfinite(self.embeddings[modality]).all(axis=1))  # the same on all ranks
            if len(bad):
                first = self.evaluation.items(modality).ids[bad[0]]
                raise DataError(
                    f"{stage}: the model gives {len(bad)} of {len(self.embeddings[modality])} {modality}s embeddings "
                    f"that are not finite, first {first}; its weights are broken or overflow: try another checkpoint "
                    "or trainer.precision 32"
                )
        self._banks = {}
        tests = self.evaluation.cells.items() if self.trainer.is_global_zero else ()
        scores = {name: self.score_cell(cell) for name, cell in tests}
        # one result for all: devices may round differently, and ranks that disagree on "best" never meet again
        self.scores = self.trainer.strategy.broadcast(scores, src=0)

    @torch.no_grad()
    def _score(
        self, voice_index: NDArray[np.int64], face_index: NDArray[np.int64], **scoring: Any
    ) -> NDArray[np.float64]:
        """Distances of trials, in float32 on the module's device, in bounded memory."""
        voices = torch.from_numpy(self.embeddings["voice"]).to(self.device)
        faces = torch.from_numpy(self.embeddings["face"]).to(self.device)
        out = np.empty(len(voice_index), dtype=np.float64)
        with torch.autocast(self.device.type, enabled=False):
            for start in range(0, len(out), SCORING_CHUNK):
                chunk = slice(start, start + SCORING_CHUNK)
                v, f = torch.from_numpy(voice_index[chunk]), torch.from_numpy(face_index[chunk])
                pairs = voices[v.to(self.device)], faces[f.to(self.device)]
                out[chunk] = self.distance(*pairs, **scoring).cpu().numpy()
        return out
