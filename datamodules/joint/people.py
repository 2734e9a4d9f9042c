"""The table that says who of several data sets is the same person."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.io.tables import read_table
from datamodules.io.text import nearest, plain_name
from datamodules.schema import DataError

COLUMNS = ("set", "identity", "person")


def read_people(path: str | Path, known: Mapping[str, frozenset[str]], homes: Mapping[str, str]) -> dict[str, str]:
    """Reads a CSV ``set, identity, person``: identities with the same person are one.

    Args:
        path: the table.
        known: identities by set.
        homes: by set, the set by whose name its identities go.

    Returns:
        For ``set/identity`` of each row the ``set/identity`` of the first row of the person.

    Raises:
        DataError: a missing column, an unknown set or identity, an empty name, or an identity that is two persons.
    """
    table = read_table(path, "people")
    for column in COLUMNS:
        if column not in table.columns:
            raise DataError(
                f"people {path}: no column {column}{nearest(column, table.columns)}; it needs {', '.join(COLUMNS)}"
            )
    first: dict[str, str] = {}
    person_of: dict[str, str] = {}
    columns = ([plain_name(str(value)) for value in table[column]] for column in COLUMNS)
    for row, (name, identity, person) in enumerate(zip(*columns, strict=True), start=1):
        where = f"people {path}, row {row}"
        if name not in known:
            raise DataError(f"{where}: there is no set {name!r}{nearest(name, known)}")
        if identity not in known[name]:
            hint = nearest(identity, known[name])
            raise DataError(f"{where}: set {name} has no identity {identity!r}{hint}")
        if not person:
            raise DataError(f"{where}: {identity} of set {name} has no person; name one, or take the row out")
        key = f"{homes[name]}/{identity}"
        if person_of.setdefault(key, person) != person:
            raise DataError(f"{where}: {identity} of set {name} is {person} here and {person_of[key]} in another row")
        first.setdefault(person, key)
    return {key: first[person] for key, person in person_of.items()}
