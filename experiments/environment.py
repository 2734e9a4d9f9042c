"""What a run ran on: git state, package versions, machine; for environment.json, W&B and the report."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "lightning", "faiss-gpu", "faiss-cpu", "timm", "numpy", "scikit-learn", "pot", "wandb")
SHOWN = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "SLURM_NTASKS", "VOICEFACE_DATA")


def environment() -> dict[str, Any]:
    """The git state (None outside of a checkout), Python, package versions, machine and telling variables."""
    return {
        "git": git_state(ROOT),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "variables": {name: os.environ[name] for name in SHOWN if name in os.environ},
        "executable": sys.executable,
    }


def git_state(root: Path) -> dict[str, Any] | None:
    """``commit``, ``dirty``, ``diff_lines`` (added and removed against the commit) and ``untracked`` files.

    None where ``root`` is not the top of a checkout with a commit, or there is no git.
    """
    if _git(root, "rev-parse", "--show-toplevel") != str(root):
        return None  # an installed package may lie inside somebody else's checkout
    commit, status = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain")
    if commit is None or status is None:
        return None
    counts = [line.split("\t")[:2] for line in (_git(root, "diff", "HEAD", "--numstat") or "").splitlines()]
    return {
        "commit": commit,
        "dirty": bool(status),
        "diff_lines": sum(int(n) for pair in counts for n in pair if n.isdigit()),
        "untracked": sum(line.startswith("??") for line in status.splitlines()),
    }


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
