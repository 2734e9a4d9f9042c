"""The identities of VoxCeleb1, their names in paths of files, and the public splits of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.io.identities import gender_letter
from datamodules.io.item_ids import stems
from datamodules.io.tables import read_table
from datamodules.io.text import nearest, read_text, tab_separated_rows
from datamodules.schema import DataError

Split = Literal["pins", "wen"]
Role = Literal["train", "val", "test"]
ROLES: tuple[Role, Role, Role] = ("train", "val", "test")
SIZES: dict[Split, tuple[int, int, int]] = {"pins": (901, 100, 250), "wen": (924, 112, 189)}
_PINS_ROLES = {"1": "train", "2": "val", "4": "test"}  # 3, seen-heard, is a split of videos
_JOINED = re.compile(r"(.{11})_\d*(\d{5})")  # CMPC's voices: <video>_0000001 for <video>/00001


@dataclass(frozen=True, eq=False)
class People:
    """The content of ``vox1_meta.csv``, by id.

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
        by_name = {name: identity for identity, name in self.names.items()}
        object.__setattr__(self, "_ids", by_name | {identity: identity for identity in self.names})

    def id_of(self, name: str) -> str:
        """The id that belongs to a name or an id, "" if it is unknown."""
        ids: dict[str, str] = self._ids  # type: ignore[attr-defined]
        return ids.get(name, "")

    def items(self, references: NDArray[np.str_], source: str) -> NDArray[np.str_]:
        """Item ids ``<identity>/<video>/<file>``, the same for all the ways in which lists write the path of a file.

        The identity is the part of the path that is a known id or name. The folder ``1.6`` of cropped faces is left
        out. Frontal faces, which have no video, become ``<identity>/<file>``; ``<video>_0000001`` becomes
        ``<video>/00001``.

        Args:
            references: (n,) paths.
            source: the list they come from, for messages.

        Raises:
            DataError: a path names no known identity, or nothing below it.
        """
        codes, unique = pd.factorize(references.astype(object))
        ids = []
        for path, stem in zip(unique, stems(unique), strict=True):
            parts = stem.split("/")
            at = next((i for i, part in enumerate(parts) if self.id_of(part)), len(parts))
            below = [part for part in parts[at + 1 :] if part != "1.6"]
            if not below:
                hint = nearest(parts[0], self.names.values()) or f"; {self.source} lists them"
                raise DataError(f"{source}: {path} names no identity of VoxCeleb1{hint}")
            if joined := _JOINED.fullmatch(below[-1]):
                below[-1:] = joined.groups()
            ids.append("/".join([self.id_of(parts[at]), *below]))
        items: NDArray[np.str_] = np.array(ids, dtype=np.str_)[codes]
        return items


def read_people(path: str | Path) -> People:
    """Reads ``vox1_meta.csv``: tab-separated ``VoxCeleb1 ID, VGGFace1 ID, Gender, Nationality, Set``.

    Raises:
        DataError: an unreadable file, a line of another width, or a repeated id or name.
    """
    rows = read_tab_table(path, "VoxCeleb1 people", 5)
    names = {row[0]: row[1] for row in rows}
    if len(names) < len(rows) or len(set(names.values())) < len(rows):
        raise DataError(f"VoxCeleb1 people {path}: an id or a name occurs twice")
    genders = {row[0]: gender_letter(row[2], f"VoxCeleb1 people {path}, {row[0]}") for row in rows}
    return People(names, genders, {row[0]: row[3] for row in rows}, str(path))


def read_split(root: str | Path, split: Split, people: People) -> dict[Role, list[str]]:
    """Reads a public split: the sorted ids that train, validate and test.

    ``pins`` is the split of Learnable PINs (901/100/250 of 1,251 identities), ``wen`` that of SVHF and Wen et al.
    (924/112/189, the 1,225 identities whose row is not ``none``). Results on the two cannot be compared.

    Args:
        root: folder of ``pins_splits`` and ``wen``.
        split: name of the split.
        people: all identities.

    Raises:
        DataError: an unreadable list, an unknown identity, or sizes that are not those of the split.
    """
    if split not in SIZES:
        raise DataError(f"data.split: {split!r} is unknown; use one of {', '.join(SIZES)}")
    roles: dict[Role, list[str]]
    if split == "pins":
        path = Path(root) / "pins_splits" / "identity_splits.txt"
        rows = [line.split() for line in read_text(path, "split").split("\n") if line.strip()]
        wrong = next((row for row in rows if len(row) != 2 or row[1] not in _PINS_ROLES), None)
        if wrong:
            raise DataError(f"split {path}: {' '.join(wrong)!r} is not '<name> <1, 2 or 4>'")
        roles = {role: [_known(people, n, path) for n, s in rows if _PINS_ROLES[s] == role] for role in ROLES}
    else:
        roles = {}
        for role in ROLES:
            path = Path(root) / "wen" / f"vox1_{role}.csv"
            table = read_table(path, "split")
            roles[role] = [_known(people, row, path) for row in table["VoxCeleb1_ID"][table["Set"] != "none"]]
    sizes = tuple(len(roles[role]) for role in ROLES)
    if sizes != SIZES[split]:
        raise DataError(
            f"split {split} in {root}: has {sizes} training, validation and test identities; expected {SIZES[split]}"
        )
    return {role: sorted(roles[role]) for role in ROLES}


def read_tab_table(path: str | Path, what: str, width: int) -> list[list[str]]:
    """The rows below the first line of a file whose columns are separated by tabs.

    Raises:
        DataError: an unreadable file, or a line of another width.
    """
    rows, lines = tab_separated_rows(read_text(path, what))
    if not rows:
        raise DataError(f"{what} {path}: is empty; a line of column names is expected")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise DataError(f"{what} {path}, line {line}: {len(row)} columns, expected {width} separated by tabs")
    return rows[1:]


def _known(people: People, name: str, path: Path) -> str:
    if not (identity := people.id_of(name)):
        raise DataError(f"split {path}: {name} is not in {people.source}{nearest(name, people.names.values())}")
    return identity
