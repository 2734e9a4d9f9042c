"""The table of all media files of one modality."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.schema import DataError, Items


@dataclass(frozen=True, eq=False)
class MediaTable:
    """All files of one modality.

    Attributes:
        items: an item for each file.
        paths: (n,) path of each file.
        uses: columns ``file`` (row of ``items``), ``language`` and ``video``: an entry for each file with each of the
            languages and videos it occurs with.
    """

    items: Items
    paths: NDArray[np.str_]
    uses: pd.DataFrame

    def array(self, items: NDArray[np.int64]) -> None:
        """None: media have no features."""


Row = tuple[str, Path, str, str, str, str]


def media_table(rows: Iterable[Row], what: str) -> tuple[MediaTable, NDArray[np.int64]]:
    """The unique files among rows (id, path, identity, language, gender, video), and the file of each row.

    A file whose rows name several languages (a portrait shown with several clips) gets the language "".

    Raises:
        DataError: rows name different identities for one file, or two files differ only in their extension.
    """
    frame = pd.DataFrame(rows, columns=["id", "path", "identity", "language", "gender", "video"], dtype=object)
    row, _ = pd.factorize(frame["id"])
    first = frame.drop_duplicates("id").reset_index(drop=True)
    elsewhere = np.flatnonzero(frame["path"].to_numpy() != first["path"].to_numpy()[row])
    if elsewhere.size:
        i = elsewhere[0]
        raise DataError(f"{what}: {first['path'][row[i]]} and {frame['path'][i]} have the same item id; rename one")
    other = np.flatnonzero(frame["identity"].to_numpy() != first["identity"].to_numpy()[row])
    if other.size:
        i = other[0]
        raise DataError(
            f"{what}: {frame['id'][i]} is {first['identity'][row[i]]} in one row and {frame['identity'][i]} in another"
        )
    several = np.unique(row[frame["language"].to_numpy() != first["language"].to_numpy()[row]])
    first.loc[several, "language"] = ""
    columns = {name: np.array(first[name].astype(str).tolist(), dtype=np.str_) for name in first.columns}
    items = Items(columns["id"], columns["identity"], columns["language"], columns["gender"], columns["video"])
    uses = pd.DataFrame({"file": row, "language": frame["language"], "video": frame["video"]})
    return MediaTable(items, columns["path"], uses.drop_duplicates(ignore_index=True)), row.astype(np.int64)
