"""The people of VoxCeleb1, what files call them, and the identity splits they are divided into."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.io.item_ids import stems
from datamodules.io.people import gender_letter
from datamodules.io.text import nearest, read_table, read_text
from datamodules.schema import DataError

Split = Literal["pins", "wen"]
Role = Literal["train", "val", "test"]
ROLES: tuple[Role, Role, Role] = ("train", "val", "test")
SIZES: dict[Split, tuple[int, int, int]] = {"pins": (901, 100, 250), "wen": (924, 112, 189)}
_PINS_ROLES = {"1": "train", "2": "val", "4": "test"}  # 3, seen-heard, is a split of videos
_JOINED = re.compile(r"(.{11})_\d*(\d{5})")  # CMPC's voices: <video>_0000001 for <video>/00001


@dataclass(frozen=True, eq=False)
class People:
    """``vox1_meta.csv``: everybody by id.

    Attributes:
        names: name by id: ``id10001`` is ``A.J._Buckley``.
        genders: "M"/"F" by id.
        nations: nationality by id.
        source: the file.
    """

    names: dict[str, str]
    genders: dict[str, str]
    nations: dict[str, str]
    source: str

    def __post_init__(self) -> None:
        by_name = {name: person for person, name in self.names.items()}
        object.__setattr__(self, "_ids", by_name | {person: person for person in self.names})

    def id_of(self, name: str) -> str:
        """The id of a name or id, "" if it is nobody's."""
        ids: dict[str, str] = self._ids  # type: ignore[attr-defined]
        return ids.get(name, "")

    def items(self, references: NDArray[np.str_], source: str) -> NDArray[np.str_]:
        """The one id that every way to write a file's path stands for: ``<person>/<video>/<file>``.

        The person is the part of the path that is a known id or name; the folder ``1.6`` of cropped faces is left out;
        frontal faces, which have no video, are ``<person>/<file>``; ``<video>_0000001`` becomes ``<video>/00001``.

        Args:
            references: (n,) paths.
            source: where they stand, for the message.

        Raises:
            DataError: a path names no known person, or nothing below one.
        """
        codes, unique = pd.factorize(references.astype(object))
        found = []
        for path, stem in zip(unique, stems(unique), strict=True):
            parts = stem.split("/")
            at = next((i for i, part in enumerate(parts) if self.id_of(part)), len(parts))
            below = [part for part in parts[at + 1 :] if part != "1.6"]
            if not below:
                hint = nearest(parts[0], self.names.values()) or f"; {self.source} names everybody"
                raise DataError(f"{source}: {path} names no person of VoxCeleb1{hint}")
            if joined := _JOINED.fullmatch(below[-1]):
                below[-1:] = joined.groups()
            found.append("/".join([self.id_of(parts[at]), *below]))
        return np.array(found, dtype=np.str_)[codes]


def read_people(path: str | Path) -> People:
    """Reads ``vox1_meta.csv``: tab-separated ``VoxCeleb1 ID, VGGFace1 ID, Gender, Nationality, Set``.

    Raises:
        DataError: unreadable, a line of another width, or somebody twice.
    """
    rows = [line.split("\t") for line in read_text(path, "VoxCeleb1 people").split("\n") if line.strip()][1:]
    for line, row in enumerate(rows, 2):
        if len(row) != 5:
            raise DataError(f"VoxCeleb1 people {path}, line {line}: {len(row)} columns, expected 5 with tabs between")
    names = {row[0]: row[1] for row in rows}
    if len(names) < len(rows) or len(set(names.values())) < len(rows):
        raise DataError(f"VoxCeleb1 people {path}: an id or a name occurs twice")
    genders = {row[0]: gender_letter(row[2], f"VoxCeleb1 people {path}, {row[0]}") for row in rows}
    return People(names, genders, {row[0]: row[3] for row in rows}, str(path))


def read_split(root: str | Path, split: Split, people: People) -> dict[Role, list[str]]:
    """Who trains, validates and tests: ids by role, sorted.

    ``pins`` is that of Learnable PINs (901/100/250, of 1,251 people), ``wen`` that of SVHF and Wen et al. (924/112/189,
    of the 1,225 whose row does not say ``none``). Results on one say nothing about the other.

    Raises:
        DataError: an unreadable list, an unknown person, or sizes that are not those of the split.
    """
    if split not in SIZES:
        raise DataError(f"data.split: {split!r} is unknown; use one of {', '.join(SIZES)}")
    found: dict[Role, list[str]]
    if split == "pins":
        path = Path(root) / "pins_splits" / "identity_splits.txt"
        rows = [line.split() for line in read_text(path, "split").split("\n") if line.strip()]
        wrong = next((row for row in rows if len(row) != 2 or row[1] not in _PINS_ROLES), None)
        if wrong:
            raise DataError(f"split {path}: {' '.join(wrong)!r} is not '<name> <1, 2 or 4>'")
        found = {role: [_known(people, n, path) for n, s in rows if _PINS_ROLES[s] == role] for role in ROLES}
    else:
        found = {}
        for role in ROLES:
            path = Path(root) / "wen" / f"vox1_{role}.csv"
            table = read_table(path, "split")
            found[role] = [_known(people, row, path) for row in table["VoxCeleb1_ID"][table["Set"] != "none"]]
    sizes = tuple(len(found[role]) for role in ROLES)
    if sizes != SIZES[split]:
        raise DataError(f"split {split} in {root}: {sizes} people train, validate, test; it has {SIZES[split]}")
    return {role: sorted(found[role]) for role in ROLES}


def _known(people: People, name: str, path: Path) -> str:
    if not (person := people.id_of(name)):
        raise DataError(f"split {path}: {name} is not in {people.source}{nearest(name, people.names.values())}")
    return person
