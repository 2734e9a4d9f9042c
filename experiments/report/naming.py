"""Names of methods: as short as tells the runs of a test set apart."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from experiments.report.runs import AXES, ReportRun, flatten, options

TRAINER = (
    "max_epochs", "max_steps", "max_time", "precision", "accumulate_grad_batches", "gradient_clip_val",
    "limit_train_batches", "overfit_batches",
)  # fmt: skip
"""Settings of the trainer in which two runs of one method do not differ."""
PLANNED = re.compile(r"fold-?\d+-seed-?\d+")
"""Name of a run folder of a protocol, ``METHOD/CONFIG/foldF-seedS``."""
MOST = 3  # settings in a name
LONGEST = 28  # characters of a setting's value


def with_methods(runs: Sequence[ReportRun]) -> list[ReportRun]:
    """Names the method of each run of a test set: runs of one method differ only in identities, languages and seed.

    A protocol names its methods. Other names are the model and, where others differ in them, its network, refinement
    and settings. ``full_name`` says all of it.
    """
    settings = [settings_of(run.config) for run in runs]
    keys = [
        json.dumps([protocol_name(run), kept], sort_keys=True, default=str)
        for run, kept in zip(runs, settings, strict=True)
    ]
    firsts = [keys.index(key) for key in dict.fromkeys(keys)]
    bases = _shortest([runs[i] for i in firsts])
    names, full = {}, {}
    for number, i in enumerate(firsts):
        namesakes = [settings[j] for j, base in zip(firsts, bases, strict=True) if base == bases[number]]
        named = [_setting(key, settings[i].get(key)) for key in _telling(namesakes)]
        told = f" ({', '.join(named)})" if named else ""
        names[keys[i]] = bases[number] + (told if len(named) <= MOST else "")
        full[keys[i]] = " + ".join(part for part in parts_of(runs[i].config) if part) + told
    unique = _numbered(names)
    return [replace(run, method=unique[key], full_name=full[key]) for run, key in zip(runs, keys, strict=True)]


def _numbered(names: Mapping[str, str]) -> dict[str, str]:
    """Names by key, with a number where several keys have one name."""
    given, numbered = list(names.values()), {}
    for i, (key, name) in enumerate(names.items()):
        numbered[key] = f"{name} #{given[: i + 1].count(name)}" if given.count(name) > 1 else name
    return numbered


def parts_of(config: Mapping[str, Any]) -> tuple[str, str]:
    """Model with network, and refinement steps: ``SCC HeadPair`` and ``ChainingCluster``."""
    model = config["model"]
    network = options(model).get("network")
    names = [_class_name(model), _class_name(network) if isinstance(network, dict) else ""]
    steps = (config.get("postproc") or {}).get("steps") or []
    return " ".join(filter(None, names)), " + ".join(_class_name(step) for step in steps)


def protocol_name(run: ReportRun) -> str | None:
    """The method's name in the protocol that made the run; None for other runs."""
    return run.folder.parts[-3] if len(run.folder.parts) > 3 and PLANNED.fullmatch(run.folder.name) else None


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name that make a method what it is."""
    flat = flatten({key: config.get(key) for key in ("model", "data", "postproc")})
    kept = {key: value for key, value in flat.items() if not AXES.match(key)}
    trainer = config.get("trainer") or {}
    return kept | {f"trainer.{key}": trainer[key] for key in TRAINER if key in trainer}


def _shortest(runs: Sequence[ReportRun]) -> list[str]:
    """The protocol's names, or model, network and steps without those that are the same for all runs of the model."""
    parts = [parts_of(run.config) for run in runs]
    models = [part[0].partition(" ")[0] for part in parts]
    refined = len({part[1] for part in parts}) > 1
    names = []
    for run, (network, steps), model in zip(runs, parts, models, strict=True):
        several = len({part[0] for part, other in zip(parts, models, strict=True) if other == model}) > 1
        name = (network if several else model) + (f" + {steps}" if refined and steps else "")
        names.append(protocol_name(run) or name)
    return names


def _telling(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fewest settings, as far as a greedy choice finds them, that tell all of these apart."""
    keys = list(dict.fromkeys(key for values in settings for key in values))
    chosen: list[str] = []

    def told(by: Sequence[str]) -> int:
        return len({tuple(str(each.get(key)) for key in by) for each in settings})

    while told(chosen) < len(settings):
        best = max(keys, key=lambda key: told([*chosen, key]))
        if told([*chosen, best]) == told(chosen):  # only a protocol's name tells them apart
            break
        chosen.append(best)
    return chosen


def _setting(key: str, value: Any) -> str:
    """``tau 0.05``: the last name that says something, and a value of few characters."""
    words = [word for word in key.split(".") if word not in ("init_args", "path", "class_path") and not word.isdigit()]
    text = "none" if value is None else str(value)
    text = PurePath(text).name if "/" in text else text.rpartition(".")[2] if key.endswith("class_path") else text
    return f"{words[-1]} {text if len(text) <= LONGEST else f'…{text[1 - LONGEST :]}'}"


def _class_name(spec: Mapping[str, Any]) -> str:
    return str(spec["class_path"]).rpartition(".")[2]
