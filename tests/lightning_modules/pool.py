"""Two processes joined by gloo for the whole session: collectives are tested for real, and start-up is paid once."""

from __future__ import annotations

import os
import socket
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing import get_context

WORLD = 2


class Pool:
    """Runs a module-level function on two ranks and returns both results."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        store = str(Path(self._folder.name) / "store")
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        self._tasks = [context.SimpleQueue() for _ in range(WORLD)]
        self._results = [context.SimpleQueue() for _ in range(WORLD)]
        self._processes = [
            context.Process(
                target=_serve, args=(rank, store, port, self._tasks[rank], self._results[rank]), daemon=True
            )
            for rank in range(WORLD)
        ]
        for process in self._processes:
            process.start()

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """``function(*args)`` on both ranks; an error on a rank is raised here as RuntimeError with its text."""
        for queue in self._tasks:
            queue.put((function, args))
        results = [queue.get() for queue in self._results]
        errors = [text for failed, text in results if failed]
        if errors:
            raise RuntimeError("\n".join(errors))
        return [value for _, value in results]

    def close(self) -> None:
        for queue in self._tasks:
            queue.put(None)
        for process in self._processes:
            process.join(20)
        self._folder.cleanup()


def _serve(rank: int, store: str, port: int, tasks: Any, results: Any) -> None:
    # Lightning's DDP takes ranks from the environment and finds the process group already there
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(WORLD)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    while (task := tasks.get()) is not None:
        function, args = task
        try:
            results.put((False, function(*args)))
        except Exception:
            results.put((True, traceback.format_exc()))
    dist.destroy_process_group()
