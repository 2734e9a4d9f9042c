"""Writes the configs of a data set of one's own beside it: data, fit and protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from datamodules.io.writing import write_text
from experiments.config.files import packaged
from experiments.console.arguments import command_line


def write_configs(out: Path, template: str, data: Mapping[str, dict[str, Any]]) -> list[Path]:
    """Writes ``NAME.yaml`` and ``data_NAME.yaml`` for each data group.

    Args:
        out: folder of the files.
        template: the packaged config that ``NAME.yaml`` is a copy of, with another data group.
        data: the data groups by name.

    Returns:
        The files ``NAME.yaml``.
    """
    lines = (packaged() / template).read_text(encoding="utf-8").splitlines()
    written = []
    for name, group in data.items():
        path = out / f"{name}.yaml"
        command = f"# {command_line('fit', '--config', path)}"
        body = [f"data: data_{name}.yaml" if line.startswith("data:") else line for line in lines if line[:1] != "#"]
        write_text(out / f"data_{name}.yaml", f"{command}\n{_yaml(group)}")
        write_text(path, "\n".join([command, *body]) + "\n")
        written.append(path)
    return written


def write_protocol(out: Path, configs: Sequence[Path], folds: int) -> Path:
    """Writes ``protocol.yaml``: all configs and folds, by CCA and by SCC heads, raw and refined."""
    path = out / "protocol.yaml"
    content = {
        "configs": [str(config.absolute()) for config in configs],
        "folds": list(range(folds)),
        "seeds": [0, 1, 2],
        "methods": {
            "cca": {"arguments": ["--model=model/cca.yaml", "--data.val_identities=0"], "seeds": [0]},
            "scc": {"arguments": ["--model=model/scc_heads.yaml"]},
        },
        "refinements": {name: f"postproc/{name}.yaml" for name in ("transport", "best")},
    }
    why = "# CCA has no checkpoint to choose, so it also learns from the identities that validate a fit of the config."
    write_text(path, f"# {command_line('protocol', '--config', path)}\n{why}\n{_yaml(content)}")
    return path


def _yaml(content: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return text
