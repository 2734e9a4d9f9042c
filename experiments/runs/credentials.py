"""Whether the credentials of services are there; imports nothing heavy."""

from __future__ import annotations

import netrc
import os


def has_key() -> bool:
    """Whether W&B can log in: WANDB_API_KEY, or a netrc entry written by ``wandb login``."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False
