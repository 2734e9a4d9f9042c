"""Reads results.json, quickly and without pandas: a sweep has thousands."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from datamodules.io.documents import read_mapping
from datamodules.schema import MODALITIES, DataError

TRUSTED = "trusted_weights"
UNLABELLED = "languages_unknown"
NOT_CELLS = ("alignment", "tasks", TRUSTED, UNLABELLED)
"""Keys of results.json that are no test conditions."""

COUNTS = ("trials", "positives")


def read_records(path: Path) -> dict[str, Any]:
    """The content of a results.json: records by test condition, and the keys :data:`NOT_CELLS`.

    Raises:
        DataError: missing, unreadable, or a value that no test writes; names the key.
    """
    content = read_mapping(path, "run test again")
    for name, record in content.items():
        if name in (TRUSTED, UNLABELLED):
            wrong = None if isinstance(record, list) and all(isinstance(x, str) for x in record) else name
        elif not isinstance(record, dict):
            wrong = name
        elif name == "tasks":
            wrong = next((f"tasks.{task}" for task, entry in record.items() if not _is_task(entry)), None)
        else:
            wrong = None if name in NOT_CELLS else _wrong(record)
            wrong = wrong and f"{name}.{wrong}"
        if wrong is not None:
            raise DataError(
                f"{path}: {ascii(wrong[:80])[1:-1]} is missing or no value that a test writes; run test again"
            )
    return content


def _wrong(record: dict[str, Any]) -> str | None:
    """The first key of the record of a test condition that holds what it may not."""
    if not _is_value("trials", record.get("trials")):
        return "trials"
    rates, others = _checked(tuple(record))
    for key in rates:
        value = record[key]
        if not (type(value) is float and 0 <= value <= 1) and not _is_rate(value):  # the quick way first
            return key
    return next((key for key in others if not _is_value(key, record[key])), None)


@lru_cache(maxsize=64)
def _checked(keys: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Keys of a record that hold rates, and other keys that may not hold anything. Many records have the same keys."""
    others = [key for key in keys if key in COUNTS or key.endswith("_ci95")]
    return [key for key in keys if key.startswith(("eer", "auc")) and key not in others], others


def _is_value(key: str, value: Any) -> bool:
    """Whether a record may hold this as one of :data:`COUNTS`, or as an interval."""
    if key in COUNTS:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
    return value is None or (isinstance(value, list) and len(value) == 2 and all(map(_is_rate, value)))


def _is_rate(value: Any) -> bool:
    """A number from 0 to 1; None and NaN where it cannot be computed."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (number and (value != value or 0 <= value <= 1))


def _is_task(record: Any) -> bool:
    """Whether this is a record of matching or retrieval."""
    if not isinstance(record, dict) or record.get("task") not in ("matching", "retrieval"):
        return False
    rates = [record.get(key) for key in ("score", "score_gender_only", "score_chance")]
    counts = [record.get(key, 0) for key in ("candidates", "probes")]
    return (
        record.get("probe", "voice") in MODALITIES
        and all(map(_is_rate, rates))
        and all(_is_value("trials", count) for count in counts)
        and _is_value("score_ci95", record.get("score_ci95"))
    )
