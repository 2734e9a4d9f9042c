"""TODO docstring."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np


def write_json(path: Path, content: Any) -> None:
    """Writes beside and renames, so that a killed run leaves the old file or the new one."""
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(content, indent=1, default=_plain) + "\n", encoding="utf-8")
    os.replace(beside, path)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
