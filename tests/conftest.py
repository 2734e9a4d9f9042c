"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: VOICEFACE_DATA, else ../shared/data beside the repository."""
    folder = Path(os.environ.get("VOICEFACE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set VOICEFACE_DATA")
    return folder
