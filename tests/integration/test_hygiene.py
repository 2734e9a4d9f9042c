"""What a process holds after many runs is what it held before them."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
from pathlib import Path

import psutil
import pytest
import torch

from experiments.run import main
from tests import TINY

pytestmark = pytest.mark.processes

WARM = 3  # runs that fill the caches of libraries
ALLOWED_MB = 15  # of growth over 8 fits: what allocators keep, a fit of this size needs more


def held() -> dict[str, object]:
    """Open files and sockets, threads, child processes, temporary files, environment and folder of this process."""
    me = psutil.Process()
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    files = sorted(os.readlink(link) for link in links if os.path.lexists(link))
    return {
        "files": [name for name in files if "/fd" not in name],
        "descriptors": me.num_fds(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "children": [child.pid for child in me.children(recursive=True)],
        "temporary": sorted(os.listdir(tempfile.gettempdir())),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "group": torch.distributed.is_initialized(),
    }


@pytest.mark.parametrize(
    ("runs", "options"), [(8, []), (3, ["--data.num_workers=1", "--logger=logger/csv.yaml", "--pictures=true"])]
)
def test_many_fits_leave_nothing_behind(
    runs: int, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("VOICEFACE_CACHE", str(tmp_path / "cache"))
    short = tempfile.TemporaryDirectory()  # loader processes have sockets there, whose names may not be long
    monkeypatch.setattr(tempfile, "tempdir", short.name)
    memory = []
    before = {}
    for number in range(WARM + runs):
        if number == WARM:
            gc.collect()
            before = held()
        assert main(["fit", "--config", str(TINY), f"--run_dir={tmp_path / 'runs' / str(number)}", *options]) == 0
        gc.collect()
        memory.append(psutil.Process().memory_info().rss / 2**20)
    after = held()
    for name, what in before.items():
        assert after[name] == what, name
    assert memory[-1] - memory[WARM] < ALLOWED_MB, memory
    short.cleanup()
