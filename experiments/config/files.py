"""Finds config files by name, beside the file that names them or in the packaged ``configs`` folder."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from datamodules.io.documents import read_mapping as read_keys
from datamodules.schema import DataError
from experiments.config.renamed import Renamer

GROUPS = ("data", "model", "trainer", "logger", "postproc", "checkpoint")
"""Keys whose value may be a file of their group: ``model: model/scc_heads.yaml``."""

YAML = (".yaml", ".yml")

LOCAL = "local.yaml"
"""Values of this machine, in the working directory: read after the configs of ``fit``, before its other arguments."""


def packaged() -> Path:
    """The folder of the configs that ship with the package."""
    return Path(str(resources.files("configs")))


def find_config(name: str, near: Path | None = None, renamer: Renamer | None = None) -> Path:
    """Path of a config: as given, beside ``near``, or packaged.

    Args:
        name: of the file.
        near: the folder of the config that names it.
        renamer: takes the name of a packaged config that was renamed.

    Raises:
        DataError: no such file; names the nearest one.
    """
    candidates = [Path(name), *([near / name] if near else []), packaged() / name]
    for path in candidates:
        with contextlib.suppress(OSError):  # a name too long
            if path.is_file():
                return path.resolve()
    if renamer and (new := renamer.file(name, str(near or "command line"))) != name:
        return find_config(new)
    known = sorted(p.relative_to(packaged()).as_posix() for p in packaged().rglob("*.yaml"))
    group = [k for k in known if Path(k).parent == Path(name).parent]
    known = group or known
    hint = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    raise DataError(
        f"config {name}: no such file here or in {packaged()}"
        + (f"; did you mean {hint[0]}?" if hint else f"; there are {', '.join(known)}")
    )


def read_config(path: Path, renamer: Renamer | None = None) -> dict[str, Any]:
    """A config file as a dict under the names of today, its group files named by absolute paths.

    A group file that holds an old name is put into the dict as its content, under the new one.

    Args:
        path: the file.
        renamer: of the command that reads several files; None for one of this file alone.

    Raises:
        DataError: unreadable, not YAML, or not a mapping.
    """
    renamer = Renamer() if renamer is None else renamer
    content: dict[str, Any] = renamer.config(read_mapping(path), str(path))
    for group in GROUPS:
        value = content.get(group)
        if isinstance(value, str) and value.endswith(YAML):
            content[group] = group_file(find_config(value, path.parent, renamer), group, renamer)
        elif group == "data" and group in content:
            content[group] = _with_sets(value, path.parent, renamer)
    if renamer.vars:
        content["vars"] = renamer.vars | (content.get("vars") or {})
    return content


def is_saved(content: dict[str, Any]) -> bool:
    """Whether a config was written by a run, which writes all keys."""
    return all(key in content and content[key] is None for key in ("run_dir", "ckpt_path"))


def changed_keys(saved: Path, now: str, keys: Sequence[str]) -> list[str]:
    """Those of some dotted keys that have another value now than in a config.

    Args:
        saved: the config.
        now: YAML of what is used now.
        keys: without ``init_args``.
    """

    def value(content: Any, key: str) -> Any:
        for name in key.split("."):
            inside = content.get("init_args") if isinstance(content, dict) else None
            content = {**content, **(inside or {})}.get(name) if isinstance(content, dict) else None
        return content

    before, after = read_config(saved), yaml.safe_load(now)
    return [key for key in keys if value(before, key) != value(after, key)]


def read_mapping(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        DataError: unreadable, not YAML, or something else.
    """
    try:
        return read_keys(path)
    except DataError as error:
        raise DataError(f"config {error}") from error


def group_file(path: Path, group: str, renamer: Renamer) -> str | dict[str, Any]:
    """The path of a group file, or its content under the new names where it holds an old one."""
    content = read_mapping(path)
    renamed: dict[str, Any] = renamer.config(content, str(path), group)
    if group == "data":
        renamed = _with_sets(renamed, path.parent, renamer)
    return str(path) if renamed is content else renamed


def _with_sets(data: Any, near: Path, renamer: Renamer) -> Any:
    """A data config in which ``sets: {v1: data/FILE.yaml}`` is replaced by the content of the files."""
    options = data.get("init_args") if isinstance(data, dict) else None
    sets = options.get("sets") if isinstance(options, dict) else None
    if not isinstance(sets, dict):
        return data
    read = {}
    for name, of in sets.items():
        if isinstance(of, str) and of.endswith(YAML):
            path = find_config(of, near, renamer)
            read[name] = renamer.config(read_mapping(path), str(path), f"data.sets.{name}")
        elif not isinstance(of, dict) or not isinstance(of.get("class_path"), str):
            given = str(of)[:60]
            raise DataError(f"data.sets.{name}: {given!r} is no data module; give its class_path, or a YAML file")
    return {**data, "init_args": {**(options or {}), "sets": {**sets, **read}}} if read else data


PACKAGES = {"datamodules": "data", "lightning_modules": "model", "lightning.pytorch.loggers": "logger"}


def other_kind(path: Path, content: dict[str, Any]) -> str | None:
    """What a file is that is no config, and the option that takes it; None for a config."""
    folder, named = path.parent.name, path.name
    if isinstance(name := content.get("class_path"), str):
        group = folder if folder in GROUPS else PACKAGES.get(name.rpartition(".")[0].removesuffix(".encoders"))
        if folder == "encoder" or name.rpartition(".")[0].endswith(".encoders"):
            return f"is an encoder, {name}; give it to embed or score as --voice {named} or --face {named}"
        how = f"give it as --{group} {named}" if group else "name it under its key in a config"
        return f"describes one object, {name}; {how}"
    if folder in ("trainer", "postproc") and not set(content) & {*GROUPS, "seed_everything"}:
        return f"holds the options of {folder} alone; give it as --{folder} {folder}/{named}"
    if "steps" in content:
        return f"is a refinement; give it as --postproc {named}"
    if "parameters" in content and "model" not in content:
        return f"is a sweep; run it by sweep --config {named}"
    return f"is a protocol; run it by protocol --config {named}" if "methods" in content else None
