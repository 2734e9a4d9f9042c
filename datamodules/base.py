"""The base of all data modules: loaders of training pairs, and of unique voices and faces to embed once each."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, get_args

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from datamodules.contracts import check_source
from datamodules.evaluation.learnt import UNKNOWN, Learnt, check_inputs, check_learnt
from datamodules.sampling.groups import GroupedPairSampler
from datamodules.sampling.samplers import (
    EvenShardSampler,
    FixedOrderPairSampler,
    IdentityBatchSampler,
    OncePairSampler,
    PairBatchSampler,
    ShuffledPairSampler,
)
from datamodules.schema import DataError, EvaluationSet, Modality, Stage
from datamodules.training_set import ItemSource, ResumableLoader, TrainingSet, _as_is, _Pairs, _UniqueItems
from datamodules.workers import make_loader, workers_by_cores

Sampling = Literal["identity", "shuffle", "fixed_order", "grouped", "once"]


class VoiceFaceDataModule(LightningDataModule):
    """Base of all data modules.

    A subclass implements :meth:`training_set`, :meth:`evaluation_set`, :meth:`evaluation_source`, :attr:`dims` and
    :attr:`num_identities`. This class makes loaders of them that are correct under DDP. Give the Trainer
    ``use_distributed_sampler=False``: the samplers here divide the data over the ranks without padding the test set.

    Args:
        batch_size: pairs per optimiser step, over all ranks together.
        eval_batch_size: items per batch when embedding, on each rank.
        sampling: ``identity`` draws each identity at most once per batch, balanced over languages (SCC); ``shuffle``
            passes over all clips once per epoch (FOP); ``fixed_order`` does so in the same order in each epoch and
            without the last, partial batch (the code of FOP's authors); ``grouped`` draws each video or pseudo-identity
            at most once per batch, as the model says (FAA); ``once`` yields every clip exactly once, in order (for
            closed-form methods). None = the model's own choice (``model.sampling``).
        steps_per_epoch: batches per epoch for ``identity`` and ``grouped`` sampling; None = as many as one pass over
            the clips needs.
        num_workers: loader processes of each rank; 0 is fastest for embeddings; ``auto`` = one for each core, at most
            eight.
        seed: of the training order; each epoch is drawn from (seed, epoch).

    Attributes:
        corpus: the data set that the identities belong to, "" where unknown; see :class:`Learnt`.
        unit_length: whether embeddings are scaled to unit length; None for media.
        takes_unknown: whether an unheard language may be among those of unlabelled training clips.
    """

    corpus: str = ""
    unit_length: bool | None = None
    takes_unknown: bool = False

    def __init__(
        self,
        batch_size: int = 64,
        eval_batch_size: int = 1024,
        sampling: Sampling | None = None,
        steps_per_epoch: int | None = None,
        num_workers: int | Literal["auto"] = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.sampling, self.steps_per_epoch = sampling, steps_per_epoch
        self.num_workers, self.seed = num_workers, seed

    @property
    @abstractmethod
    def dims(self) -> tuple[int, int]:
        """Input sizes (voice, face) a model is built for: feature widths, or (mel bins, image channels) for media."""

    @property
    @abstractmethod
    def num_identities(self) -> int:
        """Number of training identities (classes)."""

    @abstractmethod
    def training_set(self) -> TrainingSet:
        """The training clips; checked for test identities and languages that must not be among them."""

    @abstractmethod
    def evaluation_set(self, stage: Stage) -> EvaluationSet:
        """Unique items and test conditions of a stage; cached, the same object at every call."""

    @abstractmethod
    def evaluation_source(self, stage: Stage, modality: Modality) -> ItemSource:
        """Reader of ``evaluation_set(stage).items(modality)`` by row, without augmentation."""

    def reference_set(self) -> TrainingSet:
        """The training clips without augmentation, for refinements that learn from training identities."""
        return self.training_set()

    def held_out_set(self) -> TrainingSet | None:
        """The clips of the validation identities, without augmentation; None without validation identities."""
        return None

    def learnt(self) -> Learnt:
        """The record of a fit on these data, which every checkpoint keeps."""
        train, held_out = self.training_set(), self.held_out_set()
        validation = [] if held_out is None else held_out.identities.tolist()
        own = Learnt.of(self.corpus, train.identities.tolist(), validation, (), self.unit_length)
        return self.inherited() | own | self.learnt_languages()

    def learnt_languages(self) -> Learnt:
        """The languages of the training clips, as a record without identities."""
        train = self.training_set()
        return Learnt.of_languages(self.corpus, train.language, self.labelled(train))

    def labelled(self, train: TrainingSet) -> NDArray[np.bool_]:
        """Whether the language of each training clip (n,) is known, and not what the data set is taken for."""
        return ~np.isin(train.language, UNKNOWN)

    def inherited(self) -> Learnt:
        """What the models have learnt from that made these data, where a trained model embedded them."""
        return Learnt()

    def refuse_learnt(self, learnt: Learnt, stage: Stage | Literal["fit"]) -> None:
        """Refuses weights for a stage whose identities or unheard language they have learnt from.

        Args:
            learnt: what the weights have learnt from.
            stage: what they are about to do; before a fit, its validation and test are checked.

        Raises:
            DataError: see :func:`check_learnt`; or they take other embeddings, see :func:`check_inputs`.
        """
        check_inputs(self.unit_length, learnt)
        for part in self.measured(stage):
            check_learnt(self.evaluation_set(part), self.corpus, learnt, part, unknown=self.takes_unknown)

    def measured(self, stage: Stage | Literal["fit"]) -> tuple[Stage, ...]:
        """The stages of a command that evaluate: for a fit, validation and, where there is one, the test."""
        return ("validate",) if stage == "fit" else (stage,)

    def identity_genders(self) -> dict[str, str]:
        """Gender M/F of the identities, where it is known."""
        return {}

    def train_dataloader(self) -> DataLoader[Any]:
        train = self.training_set()
        of_model: Sampling = getattr(self.trainer and self.trainer.lightning_module, "sampling", "identity")
        sampling = self.sampling or of_model
        return self._loader(ResumableLoader, _Pairs(train), batch_sampler=self.pair_sampler(train, sampling))

    def pair_sampler(self, train: TrainingSet, sampling: Sampling) -> PairBatchSampler:
        """The sampler of training pairs.

        Raises:
            DataError: an unknown way of sampling.
        """
        rank, world = self._shard()
        size = len(train.identity)
        if sampling == "identity":
            names, chance, steps = self.spread_over(train), self.chances(train), self.steps_per_epoch
            return IdentityBatchSampler(train.identity, names, self.batch_size, steps, self.seed, rank, world, chance)
        if sampling == "shuffle":
            return ShuffledPairSampler(size, self.batch_size, self.seed, rank, world)
        if sampling == "fixed_order":
            return FixedOrderPairSampler(size, self.batch_size, self.seed, rank, world)
        if sampling == "grouped":
            return GroupedPairSampler(train.video, self.batch_size, self.steps_per_epoch, self.seed, rank, world)
        if sampling == "once":
            return OncePairSampler(size, self.batch_size, rank, world)
        raise DataError(f"data.sampling: {sampling!r} is unknown; use one of {', '.join(get_args(Sampling))}")

    def spread_over(self, train: TrainingSet) -> NDArray[np.str_]:
        """Names (n,) over which ``identity`` sampling spreads the clips of an identity: their languages."""
        return train.language

    def chances(self, train: TrainingSet) -> NDArray[np.float64] | None:
        """Relative chance (C,) of each identity to be in a batch of ``identity`` sampling; None = equal."""
        return None

    def val_dataloader(self) -> list[DataLoader[Any]]:
        return self._unique_items("validate")

    def test_dataloader(self) -> list[DataLoader[Any]]:
        return self._unique_items("test")

    def predict_dataloader(self) -> list[DataLoader[Any]]:
        return self._unique_items("predict")

    def training_items(self) -> list[DataLoader[Any]]:
        """A loader of the unique training voices and one of the unique training faces, without augmentation.

        The index of an item is its position among the sorted unique ``voice_rows`` (``face_rows``) of the training set.
        """
        train = self.reference_set()
        rows = np.unique(train.voice_rows), np.unique(train.face_rows)
        return [self._item_loader(source, r) for source, r in zip((train.voices, train.faces), rows, strict=True)]

    def _unique_items(self, stage: Stage) -> list[DataLoader[Any]]:
        """A loader of the unique voices and one of the unique faces, in the order of ``MODALITIES``."""
        evaluation = self.evaluation_set(stage)
        loaders = []
        modality: Modality
        for modality in ("voice", "face"):
            size = len(evaluation.items(modality))
            if size == 0:
                raise DataError(f"{stage}: no {modality} to embed; check the trial lists of the data config")
            source = self.evaluation_source(stage, modality)
            check_source(self, source)
            loaders.append(self._item_loader(source, np.arange(size)))
        return loaders

    def _item_loader(self, source: ItemSource, rows: NDArray[np.int64]) -> DataLoader[Any]:
        sampler = EvenShardSampler(len(rows), *self._shard())
        dataset = _UniqueItems(source, rows)
        return self._loader(DataLoader, dataset, batch_size=self.eval_batch_size, sampler=sampler)

    def _loader(self, kind: type[DataLoader[Any]], dataset: Dataset[Any], **options: Any) -> DataLoader[Any]:
        workers = self.num_workers
        if workers == "auto":
            workers = workers_by_cores(1 if self.trainer is None else self.trainer.num_devices)
        return make_loader(
            kind,
            dataset,
            workers,
            collate_fn=_as_is,  # datasets return whole batches
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            **options,
        )

    def _shard(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size
