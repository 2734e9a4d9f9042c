"""Faults are injected through the command line, with a cache of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the user's cache out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOICEFACE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
