"""Items of several data sets as one table, under names that tell the sets apart, and readers of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from datamodules.evaluation.copies import GLOBAL_VIDEO
from datamodules.schema import Items, ItemTable, Rows, joined_attributes
from datamodules.training_set import ItemSource


@dataclass(frozen=True, eq=False)
class Names:
    """How one set names what it has among others.

    Attributes:
        name: of the set.
        home: the first set of the same corpus, by whose name identities and videos go; the set itself for most.
        identities: name of each identity of the set among all sets; of a person in several sets it is the same.
    """

    name: str
    home: str
    identities: Mapping[str, str]

    def of(self, items: Items) -> Items:
        """The items under their names among all sets.

        Ids of videos that are unique in the world, as YouTube's are, stay.
        """

        def identity(name: str) -> str:
            return self.identities.get(name, f"{self.home}/{name}")

        def video(name: str) -> str:
            return name if GLOBAL_VIDEO.fullmatch(name) else f"{self.home}/{name}"

        ids = np.char.add(f"{self.name}/", np.asarray(items.ids))
        renamed = _renamed(items.identity, identity), _renamed(items.video, video)
        language, gender = np.asarray(items.language), np.asarray(items.gender)
        return Items(ids, renamed[0], language, gender, renamed[1], attributes=items.attributes)


def _renamed(names: NDArray[np.str_], new: Callable[[str], str]) -> NDArray[np.str_]:
    """Each name under a new one; "" stays."""
    unique, index = np.unique(names, return_inverse=True)
    known: NDArray[np.str_] = np.array([new(name) if name else "" for name in unique.tolist()], dtype=np.str_)
    return known[index.ravel()] if len(unique) else known


class RenamedTable:
    """A table of one set under the names of :class:`Names`."""

    def __init__(self, table: ItemTable, names: Names) -> None:
        self.table, self.items = table, names.of(table.items)

    def array(self, items: Rows) -> NDArray[np.float32] | None:
        """Features (n, d) of some items; None where the items are media."""
        return self.table.array(items)


class JoinedTable:
    """The tables of several sets one after another.

    Args:
        tables: one of each set.
        names: of each set.

    Attributes:
        starts: (sets + 1,) first row of each set, and the number of all.
        paths: (n,) files of media; None for features.
    """

    def __init__(self, tables: Sequence[ItemTable], names: Sequence[Names]) -> None:
        self.tables = tables
        parts = [of.of(table.items) for table, of in zip(tables, names, strict=True)]
        columns = ("ids", "identity", "language", "gender", "video")
        joined = {column: np.concatenate([getattr(part, column) for part in parts]) for column in columns}
        self.items = Items(**joined, attributes=joined_attributes(parts))
        self.starts = np.cumsum([0, *map(len, parts)])
        paths = [table.paths for table in tables if hasattr(table, "paths")]
        self.paths: NDArray[np.str_] | None = np.concatenate(paths) if len(paths) == len(tables) else None

    def set_of(self, rows: Rows) -> NDArray[np.int64]:
        """Number of the set of each row."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def array(self, items: Rows) -> NDArray[np.float32] | None:
        """Features (n, d) of some items; None where the items are media."""
        if self.paths is not None:
            return None
        source = JoinedSource([_Array(table) for table in self.tables], self.starts)
        return source.read(items).numpy()


class _Array:
    """Reads the features of a table."""

    def __init__(self, table: ItemTable) -> None:
        self.table = table

    def read(self, rows: Sequence[int] | Rows) -> Tensor:
        features = self.table.array(np.asarray(rows, dtype=np.int64))
        assert features is not None
        return torch.from_numpy(features)


class JoinedSource:
    """Reads inputs of several sets by row of their joined table.

    Args:
        sources: a reader of each set.
        starts: see :class:`JoinedTable`.
    """

    def __init__(self, sources: Sequence[ItemSource], starts: NDArray[np.int64]) -> None:
        self.sources, self.starts = sources, starts

    def read(self, rows: Sequence[int] | Rows) -> Tensor:
        """Inputs of the given rows, stacked; NaN after recordings that are shorter than the longest."""
        wanted = np.asarray(rows, dtype=np.int64)
        of = np.searchsorted(self.starts, wanted, side="right") - 1
        places = [np.flatnonzero(of == number) for number in np.unique(of)]
        parts: list[Tensor] = [self.sources[of[at[0]]].read(wanted[at] - self.starts[of[at[0]]]) for at in places]
        if len(parts) == 1:
            return parts[0]
        widest = max(part.shape[-1] for part in parts)
        x: Tensor = torch.cat([pad(part, (0, widest - part.shape[-1]), value=float("nan")) for part in parts])
        ordered: Tensor = x.index_select(0, torch.from_numpy(np.argsort(np.concatenate(places))))
        return ordered


class SomeRows:
    """Reads some rows of a source by their position among them."""

    def __init__(self, source: ItemSource, rows: Rows) -> None:
        self.source, self.rows = source, rows

    def read(self, rows: Sequence[int] | Rows) -> Tensor:
        """Inputs of the given positions, stacked."""
        return self.source.read(self.rows[np.asarray(rows, dtype=np.int64)])
