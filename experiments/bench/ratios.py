"""The ratios of two files of ``bench``: which of them fell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datamodules.schema import DataError

FELL = 0.15  # of a ratio; less is chance
SMALLER_IS_BETTER = ("GB", "s")
Record = dict[str, Any]


def read_bench(path: Path) -> Record:
    """What ``--out`` wrote: ``rows``, and ``environment`` but in files of earlier versions.

    Raises:
        DataError: no such file, or another one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        read: Record = {"rows": content} if isinstance(content, list) else content
        if not all({"what"} < set(row) for row in read["rows"]):
            raise DataError(f"{path}: its rows do not say what was measured; give a file that bench --out has written")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (UnicodeDecodeError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: is no file that bench --out has written") from error
    return read


def ratios(rows: list[Record]) -> dict[str, float]:
    """How many times better than the plain way, or how near to the limit, by what was measured at which size."""
    found: dict[str, float] = {}
    for row in rows:
        if "ours" in row:
            found[f"{row['what']} {row['size']}"] = row["sklearn"]["seconds"] / row["ours"]["seconds"]
        elif "ways" in row:
            plain = row["ways"][0]
            for way in row["ways"][1:]:
                found[f"{row['what']} {row['size']}, {way['who']}"] = way_ratio(way, plain)
        elif "ratio" in row:
            found[f"{row['what']}: {row['name']}"] = row["ratio"]
    return found


def way_ratio(way: Record, plain: Record) -> float:
    """How many times better than the plain way: its rate over the plain one, of seconds and memory the inverse."""
    better, worse = (plain, way) if way["unit"] in SMALLER_IS_BETTER else (way, plain)
    return float(better["figure"] / worse["figure"]) if worse["figure"] else float("inf")


def fallen(old: dict[str, float], new: dict[str, float]) -> list[str]:
    """What both have measured and is now by more than :data:`FELL` worse."""
    return [name for name in old if name in new and new[name] < (1 - FELL) * old[name]]
