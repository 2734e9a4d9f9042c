"""The evaluation half of a method: embeds each unique voice and face once, gathers them, and scores the trials."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from datamodules.contracts import check_batch, check_distances, check_embeddings, mistaken
from datamodules.schema import (
    MODALITIES,
    Cell,
    DataError,
    EvaluationSet,
    ItemBatch,
    Modality,
    Ranking,
    ScoredCell,
    Stage,
)
from lightning_modules.evaluation.bank import EmbeddingBank
from postproc.cells import scored_cell
from postproc.metrics import evaluate_cell, overall
from postproc.metrics.calibration import Calibration, fit_calibration

SCORING_CHUNK = 1 << 16  # trials scored at once: bounds memory at a few times 2^16 * d floats; more gain no time


class TrialScorer(LightningModule, ABC):
    """Turns the embeddings of both modalities into distances of trials.

    Validation, test and prediction embed each unique item once, on the rank that loads it, gather the embeddings by
    item index, and score the trials of each test condition on rank 0. Results therefore do not depend on the number of
    ranks.

    Attributes:
        embeddings: by modality, (n, d) embeddings of all items, after an evaluation epoch.
        scores: by test condition, distances (t,) of its trials, lower = same person.
        refined: by test condition, distances (t,) that a refining callback has computed.
        calibration: what distances of the validation identities meant at the last validation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embeddings: dict[Modality, NDArray[np.float32]] = {}
        self.scores: dict[str, NDArray[np.float64]] = {}
        self.refined: dict[str, NDArray[np.float64]] = {}
        self.calibration: Calibration | None = None
        self._banks: dict[Modality, EmbeddingBank] = {}

    @abstractmethod
    def embed_voice(self, x: Tensor) -> Tensor:
        """Voices (B, ...) -> embeddings (B, d)."""

    @abstractmethod
    def embed_face(self, x: Tensor) -> Tensor:
        """Faces (B, ...) -> embeddings (B, d)."""

    def embed(self, modality: Modality, x: Tensor) -> Tensor:
        """Voices or faces (B, ...) -> embeddings (B, d)."""
        embeddings = self.embed_voice(x) if modality == "voice" else self.embed_face(x)
        check_embeddings(self, f"embed_{modality}", x, embeddings)
        return embeddings

    def distance(self, voices: Tensor, faces: Tensor) -> Tensor:
        """Distances (t,) of aligned rows (t, d) and (t, d): 1 - cosine, lower = same person ([SCC] 3.2)."""
        return 1 - F.cosine_similarity(voices, faces, dim=-1)

    def rank(self, probes: Tensor, candidates: Tensor, probe: Modality, **scoring: Any) -> Tensor:
        """Distances (n, m) of every probe (n, d) to every candidate (m, d), by :meth:`distance`; lower = same person.

        Override it if that is too slow for all pairs of a gallery. Only the order of each probe's candidates matters.

        Args:
            probes: embeddings (n, d) of one modality.
            candidates: embeddings (m, d) of the other modality.
            probe: modality of the probes.
            **scoring: passed on to :meth:`distance`.
        """
        if type(self).distance is TrialScorer.distance:
            return 1 - F.normalize(probes, dim=1) @ F.normalize(candidates, dim=1).T
        rows = []
        for part in probes.split(max(1, SCORING_CHUNK // len(candidates))):
            pairs = part.repeat_interleave(len(candidates), 0), candidates.repeat(len(part), 1)
            voices, faces = pairs if probe == "voice" else pairs[::-1]
            distances = self.distance(voices, faces, **scoring)
            check_distances(self, "distance", (len(voices),), distances)
            rows.append(distances.view(len(part), -1))
        return torch.cat(rows)

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
        if self.trainer.sanity_checking:  # only a few batches are embedded
            return
        self._gather_and_score("validate")
        voices, faces = self.evaluation.voices, self.evaluation.faces
        results = {
            name: evaluate_cell(cell, voices, faces, self.scores[name], controls=False)
            for name, cell in self.evaluation.cells.items()
        }
        self.log("val/eer", overall(results)["eer"], prog_bar=True, sync_dist=True)
        self.calibration = _calibration(self.evaluation, self.scores)

    def evaluate(self, stage: Stage) -> None:
        """Gathers the embeddings and scores all test conditions, once per epoch; further calls do nothing."""
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
        """Options of :meth:`distance` and :meth:`rank` for a test, in subclasses that score in several ways."""
        return {}

    def score_cell(self, cell: Cell) -> NDArray[np.float64]:
        """The distances (t,) of the trials of a test condition, lower = same person."""
        return self._score(cell.voice_index, cell.face_index, **self.scoring_of(cell.name))

    def score_rows(self, ranking: Ranking) -> Callable[[slice], NDArray[np.floating]]:
        """A function from a slice of a ranking's probes to distances (b, N) of their candidates, lower = same."""
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
                distances = self.rank(probes[rows], gallery, ranking.probe, **scoring)
                check_distances(self, "rank", (len(probes[rows]), len(gallery)), distances)
                return cast("NDArray[np.floating]", distances.cpu().numpy())

        return retrieved

    def scored_cell(self, name: str) -> ScoredCell:
        """What a refinement may see of a test condition: its scores and the embeddings of its unique items."""
        return scored_cell(self.evaluation, name, self.scores[name], self.embeddings)

    def evaluation_set(self, stage: Stage) -> EvaluationSet:
        """The items and test conditions of a stage; by default those of the data module."""
        return cast(EvaluationSet, cast(Any, self.trainer).datamodule.evaluation_set(stage))

    def _open_banks(self, stage: Stage) -> None:
        self._evaluation = self.evaluation_set(stage)
        self.embeddings, self.scores, self.refined = {}, {}, {}
        self._loaders = self._loaders_of(stage)
        self._banks = {m: EmbeddingBank(len(self._evaluation.items(m)), self.device) for m in MODALITIES}

    def _loaders_of(self, stage: Stage) -> list[Any]:
        """The loaders of voices and of faces."""
        trainer, part = cast(Any, self.trainer), {"validate": "val"}.get(stage, stage)
        loaders = getattr(trainer, f"{part}_dataloaders")
        if not isinstance(loaders, list | tuple) or len(loaders) != len(MODALITIES):
            raise mistaken(
                trainer.datamodule, f"{part}_dataloader", "two loaders, one of voices and one of faces", loaders
            )
        return list(loaders)

    def _embed(self, batch: ItemBatch, dataloader_idx: int) -> None:
        modality = MODALITIES[dataloader_idx]
        check_batch(self._loaders[dataloader_idx], ("index", "x"), batch)
        self._banks[modality].update(self.embed(modality, cast(Tensor, batch["x"])), cast(Tensor, batch["index"]))

    def _gather_and_score(self, stage: Stage) -> None:
        for modality, bank in self._banks.items():
            rows = self.embeddings[modality] = bank.compute().cpu().numpy()
            # equal on all ranks; the extremes are finite where all numbers are, and take no second array of their size
            bad = np.flatnonzero(~(np.isfinite(rows.min(axis=1)) & np.isfinite(rows.max(axis=1))))
            if len(bad):
                first = self.evaluation.items(modality).ids[bad[0]]
                raise DataError(
                    f"{stage}: embeddings of {len(bad)} of {len(self.embeddings[modality])} {modality}s contain NaN or "
                    f"inf, first {first}; try another checkpoint, or trainer.precision 32"
                )
        self._banks = {}
        tests = self.evaluation.cells.items() if self.trainer.is_global_zero else ()
        scores = {name: self.score_cell(cell) for name, cell in tests}
        # all ranks use the scores of rank 0: devices may round differently, and ranks that disagree on the best
        # checkpoint would wait for each other forever
        self.scores = self.trainer.strategy.broadcast(scores, src=0)

    @torch.no_grad()
    def _score(
        self, voice_index: NDArray[np.int64], face_index: NDArray[np.int64], **scoring: Any
    ) -> NDArray[np.float64]:
        """Distances (t,) of trials, computed in float32 on the module's device in bounded memory."""
        voices = torch.from_numpy(self.embeddings["voice"]).to(self.device)
        faces = torch.from_numpy(self.embeddings["face"]).to(self.device)
        out = np.empty(len(voice_index), dtype=np.float64)
        with torch.autocast(self.device.type, enabled=False):
            for start in range(0, len(out), SCORING_CHUNK):
                chunk = slice(start, start + SCORING_CHUNK)
                v, f = torch.from_numpy(voice_index[chunk]), torch.from_numpy(face_index[chunk])
                pairs = voices[v.to(self.device)], faces[f.to(self.device)]
                distances = self.distance(*pairs, **scoring)
                check_distances(self, "distance", (len(v),), distances)
                out[chunk] = distances.cpu().numpy()
        return out


def _calibration(evaluation: EvaluationSet, scores: dict[str, NDArray[np.float64]]) -> Calibration | None:
    """Over the labelled trials of all test conditions."""
    cells = [(cell, cell.trials.labels, scores[name]) for name, cell in evaluation.cells.items()]
    known = [(cell, labels, distances) for cell, labels, distances in cells if labels is not None]
    if not known:
        return None
    voices = np.concatenate([cell.voice_index for cell, _, _ in known])
    faces = np.concatenate([cell.face_index for cell, _, _ in known])
    return fit_calibration(
        np.concatenate([distances for _, _, distances in known]),
        np.concatenate([labels for _, labels, _ in known]),
        (evaluation.voices.gender[voices], evaluation.faces.gender[faces]),
        len(np.union1d(evaluation.voices.identity[voices], evaluation.faces.identity[faces])),
    )
