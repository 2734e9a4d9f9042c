"""Small feature files of random vectors for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def columns(people: int = 6, languages: tuple[str, ...] = ("Alpha", "Beta"), clips: int = 4) -> dict[str, NDArray]:
    """Columns of clips: every identity speaks every language, in two videos each."""
    rows = [
        (f"id{p:04d}", language, f"v{c % 2}{language[0]}", f"{c:05d}")
        for p in range(people)
        for language in languages
        for c in range(clips)
    ]
    return dict(zip(("identity", "language", "video", "item"), np.array(rows).T, strict=True))


def write_npz(path: Path, width: int = 5, seed: int = 0, **changes: NDArray) -> dict[str, NDArray]:
    """Writes an npz feature file."""
    table = columns()
    x = np.random.default_rng(seed).normal(size=(len(table["item"]), width)).astype(np.float32)
    arrays = {"x": x, **table} | changes
    np.savez_compressed(path, **arrays)
    return arrays


def ids(table: dict[str, NDArray]) -> list[str]:
    return [
        "/".join(parts) for parts in zip(*(table[k] for k in ("identity", "language", "video", "item")), strict=True)
    ]
