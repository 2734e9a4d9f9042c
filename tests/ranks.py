"""Processes joined by gloo for the whole session: collectives are tested for real, and imports are paid once."""

from __future__ import annotations

import multiprocessing as mp
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed

PRELOAD = ["lightning_modules.base", "tests.lightning_modules.tiny"]  # imported once, in a process without threads


class Ranks:
    """Processes that wait for work; the first n of them form a gloo group for each call."""

    def __init__(self, size: int) -> None:
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self.tasks = [context.Queue() for _ in range(size)]
        self.answers = context.Queue()
        self.processes = [
            context.Process(target=_serve, args=(rank, queue, self.answers), daemon=True)
            for rank, queue in enumerate(self.tasks)
        ]
        for process in self.processes:
            process.start()

    def run(self, world: int, function: Callable[..., Any], *args: Any, timeout: float = 200) -> list[Any]:
        """``function(rank, world, *args)`` on each rank of a fresh group.

        Args:
            world: how many ranks.
            function: importable, for it goes to other processes.
            *args: the same on all ranks.
            timeout: seconds without an answer.

        Returns:
            What it returned, by rank.

        Raises:
            RuntimeError: an error on some rank, with its text.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for queue in self.tasks[:world]:
            queue.put((world, port, function, args))
        answers = dict(self.answers.get(timeout=timeout) for _ in range(world))
        errors = [str(answer) for answer in answers.values() if isinstance(answer, _Error)]
        if errors:
            raise RuntimeError("\n".join(errors))
        return [answers[rank] for rank in range(world)]

    def close(self) -> None:
        """Ends the processes."""
        for queue in self.tasks:
            queue.put(None)
        for process in self.processes:
            process.join(10)
            if process.is_alive():
                process.terminate()


class TwoRanks:
    """Two of the ranks, for functions that ask torch who they are."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """``function(*args)`` on both; as :meth:`Ranks.run`."""
        return self.ranks.run(2, _unranked, function, *args)


class _Error(str):
    """The text of an error on a rank."""


def _unranked(rank: int, world: int, function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def _serve(rank: int, tasks: Any, answers: Any) -> None:
    torch.set_num_threads(1)
    while (task := tasks.get()) is not None:
        world, port, function, args = task
        # Lightning's DDP takes ranks from the environment and finds the process group already there
        os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(world)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        try:
            torch.distributed.init_process_group(
                "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world
            )
            answers.put((rank, function(rank, world, *args)))
        except Exception:
            answers.put((rank, _Error(f"rank {rank}: {traceback.format_exc()}")))
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
