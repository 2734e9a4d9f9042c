"""The data module that joins others: several data sets train one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from datamodules.base import Sampling
from datamodules.evaluation.checks import Role
from datamodules.evaluation.conditions import CellSpec, Condition, RankingCondition, as_spec
from datamodules.evaluation.copies import Copies
from datamodules.evaluation.learnt import Learnt, check_inputs, check_learnt
from datamodules.features.module import FeatureArray, FeatureDataModule
from datamodules.io.text import expanded, nearest
from datamodules.joint.people import read_people
from datamodules.joint.sets import SetTest, check_agreement, check_sets, tests_of, union, within
from datamodules.joint.tables import JoinedSource, JoinedTable, Names, RenamedTable, SomeRows
from datamodules.media.module import MediaDataModule
from datamodules.sampling.samplers import PairBatchSampler
from datamodules.schema import MODALITIES, DataError, EvaluationSet, ItemTable, Modality, Rows, Stage
from datamodules.split import SplitDataModule
from datamodules.training_set import ItemSource, TrainingSet

Level = Literal["sets", "identities", "languages"]
T = TypeVar("T")


class JointDataModule(SplitDataModule):
    """Trains on several data sets at once, all of features or all of media ([SCC] 4.3).

    Each set is a data module with its own languages, split and tests. Its identities, videos and items are its own:
    ``v1/id0001`` is not ``v2/id0001``, unless both sets have the same ``corpus`` or :attr:`people` says so. Who
    validates in one set trains in none. All checks of tests run over all sets: no test identity trains in any, none of
    its clips is in any under another name, and no set trains on an ``unheard`` language.

    Args:
        sets: data modules by name; their loading options (batch size, sampling, processes, seed) are not used.
        test: test conditions by name: ``SET/TEST``, a test of that set, or its options with the name of the ``set``;
            None = all tests of all sets, called ``SET/TEST``; {} = no test.
        people: CSV ``set, identity, person`` that says which identities of several sets are the same person.
        balance: what ``identity`` sampling draws equally often. ``identities``: each identity, else in proportion to
            its clips; ``sets``: each set, else in proportion to its identities or clips; ``languages``: each language
            of an identity, else in proportion to its clips. Other ways of sampling pass over all clips.
        languages_unknown: see :class:`SplitDataModule`; for all sets.
        eval_batch_size: items per batch when embedding, on each rank; None = 64 for media, 1024 for features.
        **loading: options of :class:`VoiceFaceDataModule`.

    Raises:
        DataError: no set, sets of features and of media, or a test of an unknown set.
    """

    def __init__(
        self,
        sets: dict[str, SplitDataModule],
        test: dict[str, str | SetTest] | None = None,
        people: str | None = None,
        balance: Sequence[Level] = ("identities", "languages"),
        languages_unknown: Literal["refuse", "allow"] = "refuse",
        eval_batch_size: int | None = None,
        **loading: Any,
    ) -> None:
        check_sets(sets)
        for level in balance:
            if level not in get_args(Level):
                hint = nearest(str(level), get_args(Level))
                raise DataError(f"data.balance: {level!r} is none of {', '.join(get_args(Level))}{hint}")
        self._tests = tests_of(sets, test)
        media = isinstance(next(iter(sets.values())), MediaDataModule)
        super().__init__(
            train_languages=union(part.train_languages for part in sets.values()),
            test={name: as_spec(sets[of].test[own]) for name, (of, own) in self._tests.items()},
            train_identities=None,
            exclude_identities=None,
            val_identities=0,
            val_languages=union(part.val_languages for part in sets.values()),
            val_trials=0,
            split_seed=0,
            equal_clips=None,
            corpus=None,
            shared_videos=any(part.shared_videos for part in sets.values()),
            languages_unknown=languages_unknown,
            root="",
            genders=None,
            eval_batch_size=eval_batch_size or (64 if media else 1024),
            **loading,
        )
        self.sets, self.people, self.balance = sets, people, balance
        self._others: dict[str, Copies] = {}
        for part in sets.values():
            part.seed = self.seed  # of the augmentation of media

    def setup(self, stage: str) -> None:
        model = None if self.trainer is None else self.trainer.lightning_module
        for part in self._each(lambda part: part).values():
            part.trainer = self.trainer
            if isinstance(part, FeatureDataModule):
                part.take_form(getattr(model, "learnt", None))
        check_agreement(self.sets, self._each(lambda part: part.dims))
        self.unit_length = next(iter(self.sets.values())).unit_length
        super().setup(stage)

    @property
    def dims(self) -> tuple[int, int]:
        dims = self._each(lambda part: part.dims)
        check_agreement(self.sets, dims)
        return next(iter(dims.values()))

    # -- items of all sets --------------------------------------------------------------------------------------

    @property
    def tables(self) -> tuple[JoinedTable, JoinedTable]:
        return self._joined

    @cached_property
    def _joined(self) -> tuple[JoinedTable, JoinedTable]:
        tables = self._each(lambda part: part.tables)
        names = list(self._names.values())
        voices, faces = (JoinedTable([pair[side] for pair in tables.values()], names) for side in (0, 1))
        return voices, faces

    @cached_property
    def _names(self) -> dict[str, Names]:
        """How each set names what it has."""
        homes: dict[str, str] = {}
        for name, part in self.sets.items():
            same = (other for other in homes if part.corpus and self.sets[other].corpus == part.corpus)
            homes[name] = next(same, name)
        known = {
            name: frozenset(np.union1d(voices.items.identity, faces.items.identity).tolist()) - {""}
            for name, (voices, faces) in self._each(lambda part: part.tables).items()
        }
        persons = read_people(expanded(self.people), known, homes) if self.people else {}
        of_set = {
            name: {own: persons.get(f"{homes[name]}/{own}", f"{homes[name]}/{own}") for own in known[name]}
            for name in self.sets
        }
        return {name: Names(name, homes[name], of_set[name]) for name in self.sets}

    @cached_property
    def _genders(self) -> dict[str, str]:
        genders: dict[str, str] = {}
        for name, of_set in self._each(lambda part: part.identity_genders()).items():
            identities = self._names[name].identities
            genders |= {identities[own]: gender for own, gender in of_set.items() if own in identities and gender}
        return genders

    def clip_rows(self) -> tuple[Rows, Rows]:
        return self._rows(lambda part: part.usable_clips)

    @cached_property
    def usable_clips(self) -> tuple[Rows, Rows]:
        return self.clip_rows()

    @cached_property
    def val_names(self) -> NDArray[np.str_]:
        validating = self._each(lambda part: part.val_names)
        names = [self._names[name].identities[own] for name, of_set in validating.items() for own in of_set.tolist()]
        return np.unique(np.array(names, dtype=np.str_))

    @cached_property
    def training_rows(self) -> tuple[Rows, Rows]:
        voice, face = self._rows(lambda part: part.training_rows)
        keep = ~np.isin(self.tables[1].items.identity[face], self.val_names)
        for number, name in enumerate(self.sets):
            if not (keep & (self.tables[1].set_of(face) == number)).any():
                raise DataError(
                    f"data.sets.{name}: all its training identities validate in other sets; name fewer in their "
                    "val_identities, or take the set out"
                )
        return voice[keep], face[keep]

    def training_sources(self) -> tuple[ItemSource, ItemSource]:
        return self._sources(lambda part: part.training_sources())

    def plain_sources(self) -> tuple[ItemSource, ItemSource]:
        return self._sources(lambda part: part.plain_sources())

    def evaluation_source(self, stage: Stage, modality: Modality) -> ItemSource:
        items, table = self.evaluation_set(stage).items(modality), self.tables[MODALITIES.index(modality)]
        if items.features is not None:
            return FeatureArray(items.features)
        parts = zip(self.sets.values(), table.tables, strict=True)
        sources = [part.plain_source(modality, of.paths) for part, of in parts]  # type: ignore[attr-defined]
        order = np.argsort(table.items.ids)
        return SomeRows(JoinedSource(sources, table.starts), order[np.searchsorted(table.items.ids[order], items.ids)])

    # -- training -----------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Any]:
        for part in self.sets.values():
            if isinstance(part, MediaDataModule) and self.trainer is not None:
                part.record_bad(self.trainer.default_root_dir)
        return super().train_dataloader()

    def pair_sampler(self, train: TrainingSet, sampling: Sampling) -> PairBatchSampler:
        if "sets" in self.balance and sampling != "identity":
            raise DataError(
                f"data.balance: sampling {sampling} passes over all clips, so sets have the shares of their clips; "
                "take sets out of data.balance, or set data.sampling: identity"
            )
        return super().pair_sampler(train, sampling)

    def spread_over(self, train: TrainingSet) -> NDArray[np.str_]:
        of = self.tables[0].set_of(train.voice_rows)
        # identities of other sets have other languages: only those of the same sets are spread together
        _, together = np.unique(self._clips(train) > 0, axis=0, return_inverse=True)
        names = together.ravel()[train.identity].astype(np.str_)
        if "sets" in self.balance:
            names = np.char.add(np.char.add(names, "/"), of.astype(np.str_))
        if "languages" in self.balance:
            names = np.char.add(np.char.add(names, "/"), train.language)
        return names

    def _clips(self, train: TrainingSet) -> NDArray[np.float64]:
        """Number of clips (identities, sets) of each identity in each set."""
        clips = np.zeros((len(train.identities), len(self.sets)))
        np.add.at(clips, (train.identity, self.tables[0].set_of(train.voice_rows)), 1)
        return clips

    def chances(self, train: TrainingSet) -> NDArray[np.float64] | None:
        clips = self._clips(train)
        share = clips
        if "identities" in self.balance:
            share = (clips > 0) / (clips > 0).sum(axis=1, keepdims=True)
        if "sets" in self.balance:
            share = share / share.sum(axis=0)
        chance: NDArray[np.float64] = share.sum(axis=1)
        return None if np.allclose(chance, chance[0]) else chance

    # -- evaluation ---------------------------------------------------------------------------------------------

    def condition(self, name: str, spec: CellSpec) -> Condition | RankingCondition:
        of, own = self._tests[name]
        with within(of):
            made = self.sets[of].condition(own, spec)
        return self._moved(made, of, name)

    def validation_conditions(self, heard: Sequence[str]) -> list[Condition]:
        made = self._each(lambda part: part.validation_conditions(heard))
        several = sum(map(bool, made.values())) > 1
        return [
            self._moved(condition, name, f"{name}/{condition.name}" if several else condition.name)
            for name, conditions in made.items()
            for condition in conditions
        ]

    def _moved(self, made: AnyCondition, of: str, name: str) -> AnyCondition:
        """A condition of a set over the items of all sets."""
        number, tables, rows = list(self.sets).index(of), list[ItemTable](), list[Rows]()
        for side, table in enumerate((made.voices, made.faces)):
            joined = self.tables[side]
            own = table is joined.tables[number]
            tables.append(joined if own else RenamedTable(table, self._names[of]))
            rows.append(made.rows[side] + (joined.starts[number] if own else 0))
        return made.moved(name, tables[0], tables[1], (rows[0], rows[1]))

    def check_copies_of(self, condition: Condition | RankingCondition) -> None:
        """Refuses copies as for one set; videos of other sets count also where those of this one are shared."""
        super().check_copies_of(condition)
        if self.shared_videos and len(self.sets) > 1:
            self._copies_in_others(self._tests[condition.name][0]).refuse(condition)

    def _copies_in_others(self, name: str) -> Copies:
        """The recordings of the other sets than one."""
        if name not in self._others:
            voice, face = self.usable_clips
            others = self.tables[1].set_of(face) != list(self.sets).index(name)
            self._others[name] = Copies(self.tables, (voice[others], face[others]), shared_videos=False)
        return self._others[name]

    def roles(self) -> list[Role]:
        roles = []
        face = self.training_rows[1]
        identity, of = self.tables[1].items.identity[face], self.tables[1].set_of(face)
        validating = self._each(lambda part: part.val_names)
        for number, (name, names) in enumerate(self._names.items()):
            written = {new: f"{name}/{own}" for own, new in sorted(names.identities.items(), reverse=True)}
            option = f"data.sets.{name}.exclude_identities"
            held_out = np.array([names.identities[own] for own in validating[name].tolist()], dtype=np.str_)
            roles.append(Role(f"training of {name}", np.unique(identity[of == number]), option, written))
            roles.append(Role(f"validation of {name}", held_out, option, written))
        return roles

    # -- what has been learnt from ------------------------------------------------------------------------------

    def learnt(self) -> Learnt:
        record = self.inherited() | Learnt(unit_length=self.unit_length) | self.learnt_languages()
        train, held_out = self.training_rows[1], self.usable_clips[1]
        held_out = held_out[np.isin(self.tables[1].items.identity[held_out], self.val_names)]
        for number, (name, part) in enumerate(self.sets.items()):
            table, start = self.tables[1].tables[number], self.tables[1].starts[number]
            trained, validated = (
                np.unique(table.items.identity[rows[self.tables[1].set_of(rows) == number] - start]).tolist()
                for rows in (train, held_out)
            )
            record |= Learnt.of(part.corpus or name, trained, validated)
        return record

    def learnt_languages(self) -> Learnt:
        record = Learnt()
        for name, (part, train) in self._by_set(self.training_set()).items():
            record |= Learnt.of_languages(part.corpus or name, train.language, part.labelled(train))
        return record

    def inherited(self) -> Learnt:
        record = Learnt()
        for part in self.sets.values():
            record |= part.inherited()
        return record

    def refuse_learnt(self, learnt: Learnt, stage: Stage | Literal["fit"]) -> None:
        """As for one set, under the names that each set has for the tested identities."""
        check_inputs(self.unit_length, learnt)
        for stage_measured in self.measured(stage):
            evaluation = self.evaluation_set(stage_measured)
            for name, part in self.sets.items():
                for own in self._under_names_of(name, evaluation):
                    corpus, unknown = part.corpus or name, self.takes_unknown
                    check_learnt(own, corpus, learnt, stage_measured, unknown=unknown)

    def _under_names_of(self, name: str, evaluation: EvaluationSet) -> Iterator[EvaluationSet]:
        """An evaluation set with the names that a set has for its identities; "" where it has none.

        A person who has several in the set is there several times.
        """
        left = sorted(self._names[name].identities.items())
        while left:
            own = {new: old for old, new in reversed(left)}
            left = [(old, new) for old, new in left if own[new] != old]

            def renamed(identity: NDArray[np.str_], own: Mapping[str, str] = own) -> NDArray[np.str_]:
                return np.array([own.get(of, "") for of in identity.tolist()], dtype=np.str_)

            voices, faces = (
                replace(items, identity=renamed(items.identity)) for items in (evaluation.voices, evaluation.faces)
            )
            yield replace(evaluation, voices=voices, faces=faces)

    def labelled(self, train: TrainingSet) -> NDArray[np.bool_]:
        of = self.tables[0].set_of(train.voice_rows)
        labelled = np.ones(len(of), dtype=bool)
        for number, (part, clips) in enumerate(self._by_set(train).values()):
            labelled[of == number] = part.labelled(clips)
        return labelled

    # -- sets ---------------------------------------------------------------------------------------------------

    def _by_set(self, train: TrainingSet) -> dict[str, tuple[SplitDataModule, TrainingSet]]:
        """The training clips of each set, as rows of its own tables."""
        of, parts = self.tables[0].set_of(train.voice_rows), {}
        starts = [table.starts for table in self.tables]
        for number, (name, part) in enumerate(self.sets.items()):
            at = of == number
            rows = train.voice_rows[at] - starts[0][number], train.face_rows[at] - starts[1][number]
            clips = {key: getattr(train, key)[at] for key in ("identity", "language", "video")}
            parts[name] = part, replace(train, voice_rows=rows[0], face_rows=rows[1], attributes=(None, None), **clips)
        return parts

    def _each(self, get: Callable[[SplitDataModule], T]) -> dict[str, T]:
        """Something of each set; errors name the set."""
        found = {}
        for name, part in self.sets.items():
            with within(name):
                found[name] = get(part)
        return found

    def _rows(self, get: Callable[[SplitDataModule], tuple[Rows, Rows]]) -> tuple[Rows, Rows]:
        pairs = self._each(get).values()
        voice, face = (
            np.concatenate([pair[side] + start for pair, start in zip(pairs, table.starts, strict=False)])
            for side, table in enumerate(self.tables)
        )
        return voice, face

    def _sources(
        self, get: Callable[[SplitDataModule], tuple[ItemSource, ItemSource]]
    ) -> tuple[ItemSource, ItemSource]:
        pairs = list(self._each(get).values())
        voices, faces = (
            JoinedSource([pair[side] for pair in pairs], table.starts) for side, table in enumerate(self.tables)
        )
        return voices, faces


AnyCondition = TypeVar("AnyCondition", Condition, RankingCondition, Condition | RankingCondition)
