"""Whom and which languages weights have learnt from, and the check of a test against it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.io.languages import language_key, may_be_same
from datamodules.io.text import name_key, numbered, plain_file, shown
from datamodules.schema import Cell, DataError, EvaluationSet, Items, Ranking, Stage, one_line

FILE = "learnt.json"
"""Name of the record beside feature files that a trained model has made."""
ENCODERS = "embed.yaml"
"""Name of the file beside feature files that says which encoders have made them."""

UNKNOWN = ("", "unk", "unknown", "und")
"""What stands for a language where none is known; und is ISO 639's code."""

WIDEST = 12
"""Digits of a number in the name of an identity, with leading zeros."""

Names = Mapping[str, frozenset[str]]
"""Hashes of identities by corpus, "" where the corpus is unknown."""


@dataclass(frozen=True)
class Learnt:
    """Whom and which languages weights have learnt from, themselves and through the weights they started from.

    It is in every checkpoint and export. Identities are kept as hashes: no name of a person travels with weights, and a
    tested name can still be compared. Names of one :func:`name_key` are equal, with or without leading zeros of their
    number. The same name in two corpora, as id0001 in MAV-Celeb v1 and v2, is two people; where one of the corpora is
    unknown (""), it is one.

    Attributes:
        training: training identities.
        validation: identities that chose the checkpoint.
        languages: languages of the training clips.
        unrecorded: names of the weights files among the starting points that say nothing of all this: files of other
            projects, and checkpoints of earlier versions.
        unit_length: whether the embeddings they take are scaled to unit length; None for media and where unknown.
        unlabelled: by corpus, what the language of training clips was taken for of which nothing says it, as English in
            VoxCeleb1; "" where for nothing.
    """

    training: Names = field(default_factory=dict)
    validation: Names = field(default_factory=dict)
    languages: frozenset[str] = frozenset()
    unrecorded: frozenset[str] = frozenset()
    unit_length: bool | None = None
    unlabelled: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        corpus: str,
        training: Iterable[str],
        validation: Iterable[str] = (),
        languages: Iterable[str] = (),
        unit_length: bool | None = None,
    ) -> Learnt:
        """The record of a fit on some identities of one corpus."""
        first, second = (
            {corpus: frozenset(_hashed(name_key(name)) for name in names)} for names in (training, validation)
        )
        return cls(first, second, frozenset(languages) - {""}, unit_length=unit_length)

    @classmethod
    def of_languages(cls, corpus: str, language: NDArray[np.str_], labelled: NDArray[np.bool_]) -> Learnt:
        """The record of clips of one corpus without their identities.

        Args:
            corpus: name of the data set.
            language: (n,) language of each clip.
            labelled: (n,) whether it is known, and not what the data set is taken for.
        """
        known, taken = (frozenset(np.unique(language[part]).tolist()) for part in (labelled, ~labelled))
        unlabelled = {corpus: frozenset("" if name in UNKNOWN else name for name in taken)} if taken else {}
        return cls(languages=known, unlabelled=unlabelled)

    @property
    def heard(self) -> frozenset[str]:
        """All languages, those of unlabelled clips among them as they were taken."""
        return self.languages.union(*self.unlabelled.values()) - {""}

    @classmethod
    def unknown(cls, file: str, languages: Iterable[str] = ()) -> Learnt:
        """The record of a weights file without one."""
        return cls(languages=frozenset(languages), unrecorded=frozenset({file}))

    def __or__(self, other: Learnt) -> Learnt:
        return Learnt(
            _joined(self.training, other.training),
            _joined(self.validation, other.validation),
            self.languages | other.languages,
            self.unrecorded | other.unrecorded,
            self.unit_length if other.unit_length is None else other.unit_length,
            _joined(self.unlabelled, other.unlabelled),
        )

    def plain(self) -> dict[str, Any]:
        """The form in files: dictionaries and lists of text."""
        sides = {"training": self.training, "validation": self.validation}
        record: dict[str, Any] = {
            side: {corpus: sorted(names) for corpus, names in sorted(of.items())} for side, of in sides.items()
        }
        record |= {"languages": sorted(self.languages), "unrecorded": sorted(self.unrecorded)}
        unlabelled = {corpus: sorted(taken) for corpus, taken in sorted(self.unlabelled.items())}
        return record | {"unit_length": self.unit_length, "unlabelled": unlabelled}

    @classmethod
    def read(cls, record: Any) -> Learnt:
        """Reads :meth:`plain` back.

        Raises:
            ValueError: it has another form.
        """
        if not isinstance(record, Mapping):
            raise ValueError("the record of what the weights have learnt from is no mapping")
        sides = []
        for side in ("training", "validation"):
            names = record.get(side)
            if not isinstance(names, Mapping) or not all(isinstance(corpus, str) for corpus in names):
                raise ValueError(f"the record of what the weights have learnt from has no {side} identities by corpus")
            sides.append({corpus: _texts(part, side) for corpus, part in names.items()})
        languages, unrecorded = (_texts(record.get(key), key) for key in ("languages", "unrecorded"))
        unit_length = record.get("unit_length")
        if unit_length not in (None, True, False):
            raise ValueError(
                "the record of what the weights have learnt from has a unit_length that is neither true nor false"
            )
        unlabelled = record.get("unlabelled", {})  # not in those of earlier versions
        if not isinstance(unlabelled, Mapping) or not all(isinstance(corpus, str) for corpus in unlabelled):
            raise ValueError("the record of what the weights have learnt from has no unlabelled languages by corpus")
        taken = {corpus: _texts(names, "unlabelled languages") for corpus, names in unlabelled.items()}
        return cls(sides[0], sides[1], languages, unrecorded, unit_length, taken)

    def among(self, identities: Sequence[str], corpus: str, validation: bool = True) -> list[str]:
        """Those identities of a corpus that the weights have learnt from.

        Args:
            identities: names.
            corpus: the data set they belong to, "" where unknown.
            validation: whether the identities that chose the checkpoint count.
        """
        known: set[str] = set()
        for side in (self.training, self.validation) if validation else (self.training,):
            for other, names in side.items():
                if not corpus or not other or name_key(other) == name_key(corpus):
                    known |= names
        return [name for name in identities if name and not known.isdisjoint(_spellings(name))]

    @property
    def identities(self) -> int:
        """Number of identities, those of validation among them."""
        both = _joined(self.training, self.validation)
        return sum(map(len, both.values()))


def check_learnt(
    evaluation: EvaluationSet,
    corpus: str,
    learnt: Learnt,
    stage: Stage,
    who: str = "the weights have learnt from",
    remedy: str = "take weights that were trained without them, or start a new run without weights",
    unknown: bool = False,
) -> None:
    """Refuses tests of identities that weights have learnt from, and of ``unheard`` languages that they have heard.

    The identities of a test that is made of training identities (``seen``) are not compared. Validation may use the
    identities of an earlier validation, but none of training.

    Args:
        evaluation: the tests.
        corpus: the data set that its identities belong to, "" where unknown.
        learnt: what the weights have learnt from.
        stage: of the tests.
        who: has learnt; for the error.
        remedy: for identities that have been learnt from; for the error.
        unknown: whether an ``unheard`` language may be among those of unlabelled clips.

    Raises:
        DataError: there is such a test; names it and the first five identities, or the language.
    """
    tests: list[Cell | Ranking] = [*evaluation.cells.values(), *evaluation.rankings.values()]
    for test in tests:
        name = f"validation {test.name}" if stage == "validate" else f"data.test.{test.name}"
        way_out = "name others in data.val_identities" if stage == "validate" else remedy
        if not test.seen:
            both = learnt.among(_tested(evaluation, test), corpus, validation=stage != "validate")
            if both:
                raise DataError(f"{name}: {who} {len(both)} of its identities: {shown(both)}; {way_out}")
        if isinstance(test, Cell) and test.name.rpartition("/")[2] == "unheard":
            spoken = spoken_in(test, evaluation.voices)
            if both := sorted(one for one in spoken if any(may_be_same(one, heard) for heard in learnt.languages)):
                raise DataError(
                    f"the weights were trained on {', '.join(sorted(learnt.heard))}, but {name} is a test of "
                    f"unheard {', '.join(both)}; take other weights, or name the test otherwise"
                )
            if not unknown:
                check_unlabelled(name, spoken, learnt, "the weights were trained on")


def spoken_in(cell: Cell, voices: Items) -> set[str]:
    """The known languages of a test condition."""
    return {cell.language, *voices.language[cell.voice_index].tolist()} - {""}


def check_unlabelled(name: str, spoken: Iterable[str], learnt: Learnt, who: str) -> None:
    """Refuses a test of an ``unheard`` language that may be among those of unlabelled training clips.

    Args:
        name: of the test.
        spoken: its languages.
        learnt: what has been learnt from.
        who: has learnt; for the error.

    Raises:
        DataError: names the data set of those clips.
    """
    for corpus, taken in sorted(learnt.unlabelled.items()):
        keys = {language_key(language) for language in taken}
        both = sorted(language for language in spoken if "" in keys or language_key(language) in keys)
        if both:
            clips = f"clips of {corpus}" if corpus else "clips"
            heard = "clips of unknown language" if "" in taken else ", ".join(sorted(learnt.heard))
            raise DataError(
                f"{who} {heard}, but {name} is a test of unheard {', '.join(both)}; nothing says which language some "
                f"{clips} are in: list it, or say data.languages_unknown: allow, which the results then state"
            )


def unlabelled_of(learnt: Learnt, evaluation: EvaluationSet) -> list[str]:
    """Data sets of unlabelled training clips, where a test is one of an ``unheard`` language."""
    tested = any(name.rpartition("/")[2] == "unheard" for name in evaluation.cells)
    return sorted(corpus or "a data set without a name" for corpus in learnt.unlabelled) if tested else []


def beside(paths: Iterable[str | Path]) -> Learnt:
    """What the models have learnt from that made some feature files, as the records beside these say.

    Raises:
        DataError: a damaged record.
    """
    learnt = Learnt()
    for folder in sorted({Path(path).parent for path in paths}):
        record = folder / FILE
        if plain_file(record, remedy="make these feature files again").is_file():
            try:
                learnt |= Learnt.read(json.loads(record.read_text(encoding="utf-8")))
            except (OSError, ValueError, RecursionError) as error:
                raise DataError(f"{record}: {one_line(error)}; make these feature files again") from error
        elif _by_a_model(folder):
            learnt |= Learnt.unknown("/".join(folder.resolve().parts[-2:]))
    return replace(learnt, unit_length=None)  # that of what the model took, not of what it made


def _by_a_model(folder: Path) -> bool:
    """Whether a trained model made the feature files of a folder: ``embed --ckpt``, or the test of a run.

    Earlier versions left no record there.
    """
    try:
        encoders = plain_file(folder / ENCODERS).read_text(encoding="utf-8", errors="replace")
    except OSError:
        encoders = ""
    tested = folder.name == "embeddings" and (folder.parent / "scores.parquet").is_file()
    return tested or re.search(r"^\s*trained:", encoders, re.MULTILINE) is not None


def check_inputs(unit_length: bool | None, learnt: Learnt) -> None:
    """Refuses raw embeddings for weights that take those of unit length, and the other way round.

    Args:
        unit_length: of the data; None for media.
        learnt: of the weights.

    Raises:
        DataError: they differ.
    """
    if None not in (unit_length, learnt.unit_length) and unit_length != learnt.unit_length:
        form = "scaled to unit length" if learnt.unit_length else "as they are in the files"
        raise DataError(
            f"data.normalise: these weights take embeddings {form}; set data.normalise to "
            f"{str(learnt.unit_length).lower()}"
        )


def has_labels(evaluation: EvaluationSet) -> bool:
    """Whether a test measures something: some of its trials have labels, or it ranks."""
    return bool(evaluation.rankings) or any(cell.trials.labels is not None for cell in evaluation.cells.values())


def _tested(evaluation: EvaluationSet, test: Cell | Ranking) -> list[str]:
    """Sorted identities of a test's voices and faces."""
    voices, faces = evaluation.voices.identity, evaluation.faces.identity
    if isinstance(test, Cell):
        rows = voices[test.voice_index], faces[test.face_index]
    else:
        probes, others = (voices, faces) if test.probe == "voice" else (faces, voices)
        rows = probes[test.probe_index], others[test.candidate_index.ravel()]
    names: list[str] = np.union1d(*rows).tolist()
    return names


def _spellings(name: str) -> set[str]:
    """Hashes of a name with its number in every usual width: a record does not say how wide its numbers are.

    Records of earlier versions hold letters that look alike as they are.
    """
    keys = {name_key(name), name_key(name, alike=False)}
    for stem, digits in map(numbered, tuple(keys)):
        widths = range(len(digits), WIDEST + 1) if digits else ()
        keys |= {f"{stem}{digits.zfill(width)}{end}" for width in widths for end in ("", ".0")}
    return set(map(_hashed, keys))


def _hashed(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _joined(first: Names, second: Names) -> Names:
    none = frozenset[str]()
    return {corpus: first.get(corpus, none) | second.get(corpus, none) for corpus in {**first, **second}}


def _texts(value: Any, what: str) -> frozenset[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"the record of what the weights have learnt from has no list of {what}")
    return frozenset(value)
