"""Lists of identities, the gender of each, and the items that belong to them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.io.languages import language_key
from datamodules.io.tables import read_table
from datamodules.io.text import name_key, nearest, numbered, plain_name, read_text, split_fragment
from datamodules.schema import ATTRIBUTES, DataError, Items

_OLDEST = 150.0  # years
_GENDERS = {"m": "M", "male": "M", "f": "F", "female": "F", "": ""}


def gender_letter(value: str, where: str) -> str:
    """Any usual spelling of a gender as "M", "F" or "".

    Raises:
        DataError: any other value.
    """
    try:
        return _GENDERS[value.strip().lower()]
    except KeyError:
        raise DataError(f"{where}: gender {value!r} is unknown; write M, F or nothing") from None


def read_genders(path: str | Path) -> dict[str, str]:
    """Reads the gender of each identity from a CSV with the columns ``identity`` (or ``id``) and ``gender``.

    Raises:
        DataError: an unreadable file, a missing column, or an unknown gender.
    """
    table = read_table(path, "genders")
    column = next((name for name in ("identity", "id") if name in table.columns), None)
    if column is None or "gender" not in table.columns:
        raise DataError(f"genders {path}: columns {', '.join(table.columns)}; expected identity, gender")
    return {
        plain_name(identity): gender_letter(gender, f"genders {path}, {identity}")
        for identity, gender in zip(table[column], table["gender"], strict=True)
    }


def read_identities(source: Sequence[str] | str | Path, what: str = "identities") -> list[str]:
    """Reads identities from a file, or takes them from a list.

    The file may be text with one identity per line; JSON with a list, or ``file.json#key`` for a list under a key; or a
    table with a column ``identity``. ``table.csv#column=value`` takes the rows in which a column has that value.

    Args:
        source: a path, or the identities.
        what: the config key they come from, for messages.

    Returns:
        Unique identities, sorted.

    Raises:
        DataError: a missing or unreadable file, an unknown key or column, or no identity at all.
    """
    if not isinstance(source, str | Path):
        identities = [str(identity) for identity in source]
    else:
        path, key = split_fragment(source)
        suffix = path.rpartition(".")[2].lower()
        if suffix == "json":
            identities = _from_json(path, key, what)
        elif suffix in ("csv", "tsv", "parquet"):
            identities = _from_table(path, key, what)
        else:
            identities = [line.strip() for line in read_text(path, what).split("\n") if line.strip()]
    if not identities:
        raise DataError(f"{what} {source}: names no identity")
    return sorted({plain_name(identity) for identity in identities})


def _from_json(path: str, key: str, what: str) -> list[str]:
    try:
        content = json.loads(read_text(path, what))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{what} {path}: not JSON ({error})") from error
    if key:
        if not isinstance(content, dict) or key not in content:
            keys = list(content) if isinstance(content, dict) else []
            raise DataError(f"{what} {path}: no key {key}{nearest(key, keys) or '; there are ' + ', '.join(keys[:20])}")
        content = content[key]
    if not isinstance(content, list):
        raise DataError(f"{what} {path}: not a list of identities; name the list in it as {path}#key")
    return [str(identity) for identity in content]


def _from_table(path: str, key: str, what: str) -> list[str]:
    table = read_table(path, what)
    column, _, value = key.partition("=")
    for name in filter(None, ("identity", column)):
        if name not in table.columns:
            raise DataError(f"{what} {path}: no column {name}{nearest(name, table.columns)}")
    if column:
        table = table[table[column] == value]
    return [identity for identity in table["identity"] if identity]


def items_of(items: Items, identities: NDArray[np.str_], languages: list[str] | None) -> Items:
    """The items of some identities in some languages; None = any language."""
    mask = np.isin(items.identity, identities)
    if languages is not None:
        mask &= np.isin(items.language, languages)
    columns = (items.ids, items.identity, items.language, items.gender, items.video)
    ids, identity, language, gender, video = (np.asarray(column)[mask] for column in columns)
    return Items(ids, identity, language, gender, video)


def check_spelling(names: Iterable[str], what: str) -> None:
    """Refuses names that differ in spelling only (:func:`name_key`, :func:`numbered`): they would count as two.

    Languages are compared by their codes, too (:func:`language_key`).

    Args:
        names: all of them.
        what: they name, for the error: ``identity``, ``language``.

    Raises:
        DataError: there are such names; shows the first two spellings.
    """
    spelling: dict[str, str] = {}
    for name in sorted(set(names)):
        key = language_key(name) if what == "language" else name_key(name)
        if (other := spelling.setdefault("".join(numbered(key)), name)) != name:
            how = "case, blanks, Unicode form or letters that look alike"
            if name_key(other) != name_key(name):
                how = "how the language is written" if what == "language" else "how a number is written"
            two = ", or rename one if they are two people" if what == "identity" else ""
            raise DataError(f"data: {what} {other!r} and {name!r} differ only in {how}; write them in one way{two}")


def check_known(names: Sequence[str], known: NDArray[np.str_], key: str) -> None:
    """Refuses a language or identity that the data do not have.

    Raises:
        DataError: names the nearest one, or those there are.
    """
    for name in names:
        if name not in known:
            available = ", ".join(known[known != ""][:8]) or "none: give the feature files a language or an index"
            same = [other for other in known.tolist() if other and language_key(other) == language_key(name)]
            near = f"; did you mean {same[0]}?" if same else nearest(name, known.tolist())
            hint = near or f"; the data have {available}"
            raise DataError(f"data.{key}: {name} is unknown{hint}")


def read_estimates(table: pd.DataFrame, where: str) -> NDArray[np.float32] | None:
    """The :data:`datamodules.schema.ATTRIBUTES` (n, 2) of a table, NaN in empty cells; None where it has none of them.

    Raises:
        DataError: a cell holds no number, or one out of range.
    """
    if not set(ATTRIBUTES) & set(table.columns):
        return None
    none = np.full(len(table), np.nan)
    columns = [_estimates(table[name], name, where) if name in table.columns else none for name in ATTRIBUTES]
    return np.stack(columns, axis=1).astype(np.float32)


def _estimates(values: pd.Series, name: str, where: str) -> NDArray[np.float64]:
    """Ages in years or probabilities of a woman (n,), NaN where a cell is empty."""
    texts = values.astype(str).str.strip()
    numbers: NDArray[np.float64] = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
    most = _OLDEST if name == "age" else 1.0
    wrong = (texts != "").to_numpy() & ~((numbers >= 0) & (numbers <= most))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{where}, row {row + 1}: {name} is {texts.iloc[row][:40]!r}; write a number from 0 to {most:g}, or "
            "nothing where it is unknown"
        )
    return numbers
