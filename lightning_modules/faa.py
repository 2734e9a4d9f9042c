"""FAA, Fuse after Align: face-voice association learnt from videos without identity labels ([FAA])."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from lightning.pytorch import Callback
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.schema import MODALITIES, DataError, EvaluationSet, Modality, PairBatch, Stage
from lightning_modules.base import AssociationModule, NetworkFactory
from lightning_modules.losses.contrastive import ContrastiveLoss
from lightning_modules.losses.gather import gather_rows, world_size
from lightning_modules.losses.matching import MatchingLoss
from lightning_modules.losses.multi_similarity import MultiSimilarityLoss
from lightning_modules.networks.heads import SharedHeads
from lightning_modules.networks.matching import MatchingEncoder
from lightning_modules.networks.weights import load_weights
from lightning_modules.training.pseudo_identities import Clusters, Pooling, PseudoIdentities

Scoring = Literal["cosine", "matching", "rerank"]
Loss = Literal["infonce", "multi_similarity"]
Unit = Literal["pseudo_identity", "video"]
MATCHING_CHUNK = 1 << 14  # pairs that the matching head scores at once


class FAA(AssociationModule):
    """Contrastive alignment of voices and faces, then a multimodal encoder that judges pairs; no identity labels.

    Before an epoch, the training videos are clustered into pseudo-identities (the callback :class:`PseudoIdentities`).
    Each batch then trains the voice and face encoders (face-voice contrastive loss on the unimodal embeddings) and the
    multimodal encoder (face-voice matching: binary cross-entropy on selected pairs).

    The paper's four parts and their switches: dual-modality pooling (``pooling``), progressive clustering
    (``clusters``, ``recluster_every``, ``learnt_from``), effective pair selection (``diverse_positives``,
    ``hard_negatives``), matching head (``matching``; null = off). As published, with what [FAA] leaves open taken from
    [Self-Lifting]: ``loss: multi_similarity``, ``joint: true``, ``unit: video``, ``learnt_from: 0``, a schedule of
    ``clusters``, ``matching_weight: 1``. The defaults differ, since they were better on unseen identities: InfoNCE over
    one pair per pseudo-identity, and clusters of the encoders' embeddings, whose number is estimated.

    Args:
        dims: input sizes (voice, face); commands take them from the data.
        network: ``(voice_dim, face_dim) -> module`` with methods ``voice`` and ``face`` that return embeddings, of unit
            length where there is a matching head, and their width as ``embedding_dim``.
        matching: ``(embedding_dim) -> module`` from aligned voices and faces to logits, see :class:`MatchingEncoder`;
            None = no matching head.
        clusters: numbers of pseudo-identities of the first clustering, the second, ...; the last one stays.
            ``silhouette`` (not from the papers): estimated at the first, see :func:`count_by_silhouette`.
        recluster_every: epochs between clusterings.
        learnt_from: number of the clustering from which the learnt embeddings are clustered: 0 = always, as published.
            None (not from the papers) = never: always the embeddings of the encoders that the data module reads.
        pooling: what represents a video: ``both`` = its mean voice and mean face ([FAA]); ``voice``, ``face`` = one.
        loss: contrastive loss: ``infonce`` with temperature ``tau``; ``multi_similarity`` with ``alpha``, ``beta``,
            ``base`` ([FAA]).
        unit: what a batch holds at most once: ``pseudo_identity``, or ``video`` ([Self-Lifting]).
        joint: the loss takes voices and faces as one set, so that voice-voice and face-face pairs count too
            ([Self-Lifting]); False: voice-face pairs only.
        tau: see :class:`ContrastiveLoss`.
        alpha: see :class:`MultiSimilarityLoss`.
        beta: see :class:`MultiSimilarityLoss`.
        base: see :class:`MultiSimilarityLoss`.
        contrastive_weight: weight of the contrastive loss in the objective; 0 = off.
        matching_weight: share of the matching loss's gradient that reaches the voice and face encoders; the multimodal
            encoder gets all of it. 1 = the joint objective as printed in [FAA]. 0 (default, not from the paper): the
            contrastive loss aligns, the multimodal encoder fuses.
        diverse_positives: the face of a pair is from another video of the pseudo-identity than the voice ([FAA],
            effective pair selection); False: any face of the unit.
        hard_negatives: negatives of the matching loss are drawn by similarity ([FAA], effective pair selection).
        scoring: distance of a pair. ``cosine``: 1 - cosine of the unimodal embeddings. ``matching``: negative log of
            the matching head's probability of "same person". ``rerank``: as ``matching``, but in retrieval the head
            only re-orders the ``rerank_top`` candidates that are nearest by cosine, since it is slow for all pairs.
            With several values, the first is the model's; the others score each test again under a name such as
            ``cosine/heard``.
        rerank_top: number of candidates that ``rerank`` re-orders.
        supervised: train on the true identities instead of pseudo-identities: an upper bound, not FAA.
        seed: of clustering and of the drawing of pairs.
        weights: file with the weights of the whole model to start from; every key must fit.
        optimizer: see :class:`AssociationModule`.
        scheduler: see :class:`AssociationModule`.

    Raises:
        DataError: an option out of range, or weights that do not fit.
    """

    sampling = "grouped"

    def __init__(
        self,
        dims: tuple[int, int] | None = None,
        network: NetworkFactory = SharedHeads,
        matching: Callable[[int], nn.Module] | None = MatchingEncoder,
        clusters: Clusters = "silhouette",
        recluster_every: int = 1,
        learnt_from: int | None = None,
        pooling: Pooling = "both",
        loss: Loss = "infonce",
        unit: Unit = "pseudo_identity",
        joint: bool = False,
        tau: float = 1.0,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 1.0,
        contrastive_weight: float = 1.0,
        matching_weight: float = 0.0,
        diverse_positives: bool = True,
        hard_negatives: bool = True,
        scoring: Scoring | list[Scoring] = "cosine",
        rerank_top: int = 100,
        supervised: bool = False,
        seed: int = 0,
        weights: str | None = None,
        optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=1e-3),
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(dims, optimizer, scheduler)
        _check_clusters(clusters, recluster_every, learnt_from)
        _check_choices(pooling=(pooling, Pooling), loss=(loss, Loss), unit=(unit, Unit))
        scorings = [scoring] if isinstance(scoring, str) else scoring
        _check_head(matching is not None, scoring, contrastive_weight, matching_weight)
        encoder: Any = network(*self.dims)
        self.network: Any = encoder
        self.matching: Any = None if matching is None else matching(encoder.embedding_dim)
        self.contrastive: nn.Module = (
            MultiSimilarityLoss(alpha, beta, base, joint) if loss == "multi_similarity" else _InfoNCE(tau, joint)
        )
        self.matching_loss = MatchingLoss(hard_negatives)
        self.contrastive_weight, self.matching_weight = contrastive_weight, matching_weight
        self.unit, self.diverse_positives = unit, diverse_positives
        self.scoring, self.further = scorings[0], scorings[1:]
        self.rerank_top, self.seed = rerank_top, seed
        self._clustering = PseudoIdentities(clusters, recluster_every, learnt_from, pooling, seed, supervised)
        if weights is not None:
            load_weights(self, weights)

    def configure_callbacks(self) -> list[Callback]:
        """The callback that clusters the training videos; its state is in checkpoints, as for any callback."""
        return [self._clustering]

    def set_pseudo_identities(
        self, labels: NDArray[np.int64], videos: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Sets the pseudo-identities (n,) of the clips; gives the units of batches and groups of diverse positives."""
        self._labels = torch.from_numpy(labels).to(self.device)
        return (labels if self.unit == "pseudo_identity" else videos), (labels if self.diverse_positives else None)

    def embed_voice(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.network.voice(x))

    def embed_face(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.network.face(x))

    def loss(self, batch: PairBatch) -> dict[str, Tensor]:
        voice, face = (self.embed(modality, cast(Tensor, batch[modality])) for modality in MODALITIES)
        clip = cast(Tensor, batch["clip"])
        label, terms = self._labels[clip], {}
        loss = voice.new_zeros(())
        if self.contrastive_weight:
            terms["contrastive"] = self.contrastive(voice, face, label)
            loss = loss + self.contrastive_weight * terms["contrastive"]
        if self.matching is not None:
            draws = np.random.default_rng((self.seed, self.global_step)).random((2, len(clip) * world_size()))
            self.matching.centre_on(gather_rows(voice.detach()) @ gather_rows(face.detach()).T)
            # lerp leaves the values as they are and scales the gradient that reaches the encoders
            voice, face = (x.detach().lerp(x, self.matching_weight) for x in (voice, face))
            terms["matching"] = self.matching_loss(self.matching, voice, face, label, torch.from_numpy(draws))
            loss = loss + terms["matching"]
        return {"loss": loss, **terms}

    def distance(self, voices: Tensor, faces: Tensor, scoring: Scoring | None = None) -> Tensor:
        """Distances (t,) of aligned rows (t, d), lower = same person; ``scoring`` None = the model's."""
        if (scoring or self.scoring) == "cosine":
            return super().distance(voices, faces)
        parts = zip(voices.split(MATCHING_CHUNK), faces.split(MATCHING_CHUNK), strict=True)
        return torch.cat([F.softplus(-self.matching(v, f)) for v, f in parts])

    def rank(  # type: ignore[override]
        self, probes: Tensor, candidates: Tensor, probe: Modality, scoring: Scoring | None = None
    ) -> Tensor:
        """Distances (n, m) of probes (n, d) to candidates (m, d) of the other modality, lower = same person."""
        scoring = scoring or self.scoring
        if scoring == "matching":
            return super().rank(probes, candidates, probe, scoring=scoring)
        distances = 1 - F.normalize(probes, dim=1) @ F.normalize(candidates, dim=1).T
        if scoring == "cosine":
            return distances
        near, nearest = distances.topk(min(self.rerank_top, len(candidates)), dim=1, largest=False)
        pairs = probes.repeat_interleave(near.shape[1], dim=0), candidates[nearest.flatten()]
        voices, faces = pairs if probe == "voice" else pairs[::-1]
        order = self.distance(voices, faces, scoring).view_as(near).argsort(dim=1)
        return distances.scatter(1, nearest.gather(1, order), near)

    def evaluation_set(self, stage: Stage) -> EvaluationSet:
        """The tests of the data module; the test stage repeats them for each further scoring with other distances."""
        tests, judges = super().evaluation_set(stage), {_judge(self.scoring)}
        cells, rankings = dict(tests.cells), dict(tests.rankings)
        for scoring in self.further if stage == "test" else []:
            known = _judge(scoring) in judges  # matching and rerank differ in retrieval only
            judges.add(_judge(scoring))
            named = {f"{scoring}/{name}": cell for name, cell in tests.cells.items() if not known}
            cells |= {name: replace(cell, name=name) for name, cell in named.items()}
            ranked = {f"{scoring}/{n}": r for n, r in tests.rankings.items() if r.task == "retrieval" or not known}
            rankings |= {name: replace(ranking, name=name) for name, ranking in ranked.items()}
        return EvaluationSet(tests.voices, tests.faces, cells, rankings)

    def scoring_of(self, test: str) -> dict[str, Any]:
        """The scoring named at the beginning of a test's name, else the model's."""
        return {"scoring": next((way for way in self.further if test.startswith(f"{way}/")), self.scoring)}


class _InfoNCE(nn.Module):
    """:class:`ContrastiveLoss` in both directions; other pairs of one label are no negatives.

    Args:
        tau: temperature.
        joint: each voice and each face is compared with all voices and faces of other labels, not from the papers.
    """

    def __init__(self, tau: float, joint: bool) -> None:
        super().__init__()
        self.joint = joint
        self.pairs = ContrastiveLoss(tau, direction="voice_to_face" if joint else "both", same_identity="masked")

    def forward(self, voice: Tensor, face: Tensor, label: Tensor) -> Tensor:
        """Mean loss of the rank's voices (B, d) and faces (B, d) of labels (B,)."""
        voice, face = F.normalize(voice.float(), dim=1), F.normalize(face.float(), dim=1)
        if self.joint:  # an anchor's partner stands in its row; the anchor itself has its label, so it is left out
            voice, face, label = torch.cat([voice, face]), torch.cat([face, voice]), torch.cat([label, label])
        return cast(Tensor, self.pairs(voice, face, label))


def _check_choices(**options: tuple[str, Any]) -> None:
    """Refuses values outside the ``Literal`` of their option."""
    for option, (value, kind) in options.items():
        if value not in get_args(kind):
            raise DataError(f"model.{option} is {value!r}; choose from {', '.join(get_args(kind))}")


def _check_head(
    matching: bool, scoring: Scoring | list[Scoring], contrastive_weight: float, matching_weight: float
) -> None:
    """Refuses scores of a head that is not there, and objectives that train no encoder."""
    scorings = [scoring] if isinstance(scoring, str) else scoring
    if not scorings or set(scorings) - set(get_args(Scoring)):
        raise DataError(f"model.scoring is {scoring!r}; choose from {', '.join(get_args(Scoring))}")
    if not matching and scorings != ["cosine"]:
        raise DataError(
            f"model.matching is null, but model.scoring is {scoring!r}; without a matching head only cosine works"
        )
    if not contrastive_weight and not (matching and matching_weight):
        raise DataError(
            "nothing trains the encoders: model.contrastive_weight is 0, and no matching loss reaches them; "
            "set model.contrastive_weight or model.matching_weight above 0"
        )


def _check_clusters(clusters: Clusters, recluster_every: int, learnt_from: int | None) -> None:
    """Refuses numbers of clusterings and of clusters that make no sense."""
    numbers = [2] if clusters == "silhouette" else clusters
    if isinstance(numbers, str) or not numbers or min(numbers) < 2 or recluster_every < 1:
        raise DataError(
            f"model.clusters is {clusters} and model.recluster_every is {recluster_every}; "
            "choose silhouette or at least 2 clusters, and at least 1 epoch"
        )
    if learnt_from is not None and learnt_from < 0:
        raise DataError(f"model.learnt_from is {learnt_from}; give the number of a clustering from 0, or null")


def _judge(scoring: Scoring) -> str:
    """What computes the distance of a single pair."""
    return "cosine" if scoring == "cosine" else "head"
