"""Fixtures and markers shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# models of tests are tiny: threads would only wait for each other, and xdist has a process for every core
os.environ.setdefault("OMP_NUM_THREADS", "1")

# a job in the background of a shell has Ctrl-C ignored, and so would have the commands that tests interrupt
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from tests.ranks import Ranks, TwoRanks  # imports torch, which reads the line above

BY_FIXTURE = {"shared_data": "data", "slurm": "cluster", "browser": "browser"}
SHARED = {"ranks", "slurm"}


@pytest.hookimpl(tryfirst=True)  # before xdist, which reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Markers that follow from fixtures; the others stand in the files.

    Tests that share what is made once, a module's fixture, the ranks or the cluster, go to the same process of xdist;
    two clusters would give their jobs the same numbers, and Lightning these the same ports.
    """
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        for fixture, marker in BY_FIXTURE.items():
            if fixture in item.fixturenames:
                item.add_marker(marker)
        definitions = [d for found in item._fixtureinfo.name2fixturedefs.values() for d in found]
        if shared := SHARED & set(item.fixturenames):
            item.add_marker(pytest.mark.xdist_group(min(shared)))
        elif any(definition.scope == "module" for definition in definitions):
            item.add_marker(pytest.mark.xdist_group(item.module.__name__))


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the cache of the user out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOICEFACE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: VOICEFACE_DATA, else the folder data."""
    folder = Path(os.environ.get("VOICEFACE_DATA", Path(__file__).parents[1] / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set VOICEFACE_DATA")
    return folder


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    """Four processes, shared by all tests of the session; ``ranks.run(world, function, *args)``."""
    pool = Ranks(4)
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def two_ranks(ranks: Ranks) -> TwoRanks:
    """Two of them; ``two_ranks.run(function, *args)`` returns both results."""
    return TwoRanks(ranks)
