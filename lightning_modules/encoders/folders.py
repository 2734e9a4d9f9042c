"""Folders of pre-trained models in the format of their library: on this machine, or on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from datamodules.io.text import shown
from datamodules.schema import DataError, one_line

_HUB = re.compile(r"(?:hf://)?([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")


def model_folder(weights: str, needed: Sequence[str | tuple[str, ...]]) -> Path:
    """The folder of a model, which ``weights`` names: a path, or ``USER/NAME[@REVISION]`` on the hub.

    What was fetched before is not fetched again without a network. Only the needed files are fetched.

    Args:
        weights: of YAML.
        needed: names of its files; of a tuple, one is enough.

    Raises:
        DataError: no such folder, none on the hub, not reachable, or a file is missing; says which files to put where.
    """
    files = [name for names in needed for name in ([names] if isinstance(names, str) else names)]
    names = ", ".join(name if isinstance(name, str) else " or ".join(name) for name in needed)
    folder, hub = Path(weights).expanduser(), _HUB.fullmatch(weights)
    if not folder.is_dir():
        if hub is None or weights.startswith((".", "~")):
            raise DataError(f"{weights}: no such folder; it needs {names}")
        from huggingface_hub import snapshot_download  # half a second, which local folders need not wait for

        try:
            folder = Path(snapshot_download(hub[1], revision=hub[2], allow_patterns=files))
        except Exception as error:  # of the hub's client and of whatever it uses to reach it
            raise DataError(
                f"{weights}: no such folder, and not to be had from the hub ({one_line(error, 100)}); copy its files "
                f"{names} into a folder and name that as weights"
            ) from error
    for name in needed:
        choices = (name,) if isinstance(name, str) else name
        if not any((folder / choice).is_file() for choice in choices):
            raise DataError(f"{folder}: {' or '.join(choices)} is missing; it needs {names} of {shown([weights])}")
    return folder
