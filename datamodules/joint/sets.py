"""The sets of a joint data module: what they must have in common, their tests, and errors that name them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from datamodules.evaluation.conditions import CellSpec
from datamodules.io.identities import check_spelling
from datamodules.io.text import nearest, shown
from datamodules.media.module import MediaDataModule
from datamodules.schema import MODALITIES, DataError, Modality
from datamodules.split import SplitDataModule

SAME_MEDIA = ("frames", "voice_crops", "whole_voice", "image_size", "image_normalisation")
"""Options of media that give inputs their form: batches hold files of all sets."""


@dataclass
class SetTest(CellSpec):
    """A test of items of one set. In a config, ``SET/TEST`` stands for a test that the set defines itself.

    Attributes:
        set: name of the set.
    """

    set: str = ""


def union(lists: Iterable[Iterable[str]]) -> list[str]:
    """The names of all lists, each once."""
    return list(dict.fromkeys(name for names in lists for name in names))


def check_sets(sets: Mapping[str, SplitDataModule]) -> None:
    """Refuses names that cannot tell sets apart, and sets that cannot be in one batch."""
    if not sets:
        raise DataError("data.sets: names no data set; give data modules by name: {v1: {class_path: ...}}")
    for name, part in sets.items():
        if not isinstance(name, str) or not name or "/" in name or not name.isprintable():
            raise DataError(f"data.sets: {name!r} is no name of a set; names are text without a slash: quote numbers")
        if hasattr(part, "sets"):
            raise DataError(f"data.sets.{name}: joins sets itself; name its sets in data.sets")
    check_spelling(sets, "set")
    kinds = {name: isinstance(part, MediaDataModule) for name, part in sets.items()}
    if len(set(kinds.values())) > 1:
        media, features = (shown([name for name, kind in kinds.items() if kind is wanted]) for wanted in (True, False))
        raise DataError(
            f"data.sets: {media} has recordings and pictures, {features} has embeddings; one model takes one kind: "
            "embed the former with the encoders of the latter"
        )


def tests_of(
    sets: Mapping[str, SplitDataModule], test: Mapping[str, str | SetTest] | None
) -> dict[str, tuple[str, str]]:
    """Set and name in it of each test condition; options of a test are given to the set.

    Raises:
        DataError: an unknown set, or a test that it has not or has twice.
    """
    if test is None:
        return {f"{name}/{own}": (name, own) for name, part in sets.items() for own in part.test}
    found = {}
    for name, spec in test.items():
        of, _, own = spec.partition("/") if isinstance(spec, str) else (spec.set, "", name)
        if not of or not own:
            given = spec if isinstance(spec, str) else "without a set"
            raise DataError(f"data.test.{name}: {given!r} is no test of a set; write SET/TEST, or {{set: SET, ...}}")
        if of not in sets:
            hint = nearest(of, sets) or f"; there are {', '.join(sets)}"
            raise DataError(f"data.test.{name}: there is no set {of}{hint}")
        if isinstance(spec, SetTest):
            if own in sets[of].test:
                raise DataError(f"data.test.{name}: set {of} has a test {own} itself; write {of}/{own}, or rename it")
            sets[of].test = {**sets[of].test, own: spec}
        elif own not in sets[of].test:
            hint = nearest(own, sets[of].test) or f"; it has {', '.join(sets[of].test) or 'none'}"
            raise DataError(f"data.test.{name}: set {of} has no test {own}{hint}")
        found[name] = of, own
    return found


def check_agreement(sets: Mapping[str, SplitDataModule], dims: Mapping[str, tuple[int, int]]) -> None:
    """Refuses sets whose inputs have another form than those of the first."""
    first, *others = sets
    for other in others:
        for modality, width, its in zip(MODALITIES, dims[first], dims[other], strict=True):
            if width != its:
                files = [f"{name} ({_file(sets[name], modality)})" for name in (first, other)]
                raise DataError(
                    f"data.sets: {modality}s of {files[0]} have {width} numbers, those of {files[1]} {its}; "
                    "embed both with one encoder"
                )
        one, two = sets[first], sets[other]
        if one.unit_length != two.unit_length:
            raise DataError(f"data.sets: normalise of {first} and of {other} differ; give both the same")
        if isinstance(one, MediaDataModule) and isinstance(two, MediaDataModule):
            for name in SAME_MEDIA:
                values = getattr(one.media, name), getattr(two.media, name)
                if values[0] != values[1]:
                    said = f"is {values[0]} in {first} and {values[1]} in {other}"
                    raise DataError(f"data.sets: media.{name} {said}; give both the same")


def _file(part: SplitDataModule, modality: Modality) -> str:
    """The feature file of a set."""
    table: Any = part.tables[MODALITIES.index(modality)]
    files = getattr(table, "files", ())
    return " + ".join(file.file.path for file in files) or "media"


@contextmanager
def within(name: str) -> Iterator[None]:
    """Names the set in errors of its data module, and its options as the config has them."""
    try:
        yield
    except DataError as error:
        message = re.sub(r"\bdata(?=[.:])", f"data.sets.{name}", str(error))
        at = "" if message.startswith("data.sets.") else f"data.sets.{name}: "
        raise DataError(f"{at}{message}") from error
