"""Refinements on simulated test sets of V1's identities: how much each gains, how often and how far it does harm."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from datamodules.features.module import clip_pairs
from datamodules.features.table import FeatureTable
from datamodules.io.identities import read_genders
from datamodules.schema import Modality, ScoredCell
from postproc.crossval.scenarios import SCENARIOS, scenario_sets
from postproc.crossval.scorers import held_out_scorers
from postproc.crossval.sets import GOOD
from postproc.memory import Memory
from postproc.metrics.roc import eer
from postproc.reference import Reference
from postproc.refinement import Refinement, calibrate, refine

STRATEGIES = ("blocks", "transport", "joint", "best", "matching")
"""Files of ``configs/postproc`` that are compared."""

_GROUPS = (4, 2)  # of held-out identities: scenarios of many identities need large groups
_MANY = 12  # identities of a scenario that needs a large group, more than
Row = dict[str, Any]


def measure_scenarios(count: int, read: Callable[[str], list[Refinement]]) -> list[Row]:
    """EERs of test sets of held-out identities: ``scenario``, ``raw``, and each of :data:`STRATEGIES`.

    CCA is fitted on one language of the other identities, and steps are calibrated on them.

    Args:
        count: test sets of each scenario for each training language and group of held-out identities; twice as many
            where groups are large, so that all scenarios have eight times as many sets.
        read: the steps of a strategy, by name.
    """
    clips, memory, rows = read_v1(), Memory(), []
    for training, held_out, groups in held_out_groups(clips):
        steps = {name: read(name) for name in STRATEGIES}
        for chain in steps.values():
            calibrate(chain, training, memory=memory)
        sets = count * _GROUPS[0] // groups
        for cell, labels, name in sets_of(held_out, groups, sets):
            rows.append({"scenario": name, **errors(cell, labels, steps)})
        print(f"scenarios: {len(rows)} test sets", file=sys.stderr, flush=True)
    return rows


def read_v1() -> Reference:
    """All clips of V1 with ``input`` embeddings: ECAPA voices, FaceNet faces; from ``$VOICEFACE_DATA/mavceleb``."""
    root = Path(os.environ.get("VOICEFACE_DATA", "data")) / "mavceleb"
    files: tuple[tuple[str, Modality], ...] = (("v1_voices_ecapa192.npz", "voice"), ("v1_faces_facenet512.npz", "face"))
    voices, faces = (FeatureTable([root / file], modality) for file, modality in files)
    genders = read_genders(root / "v1_gender.csv")
    pairs = clip_pairs(voices, faces)
    items = voices.items
    identity, language = items.identity[pairs[0]], items.language[pairs[0]]
    gender = np.array([genders.get(name, "") for name in identity.tolist()])
    v, f = voices.array(pairs[0]), faces.array(pairs[1])
    return Reference({"input": v}, {"input": f}, identity, language, gender, np.ones(len(identity), dtype=bool))


def held_out_groups(clips: Reference) -> Iterator[tuple[Reference, Reference, int]]:
    """For each training language and group of identities: clips to learn from, clips to test, and number of groups."""
    for language in np.unique(clips.language).tolist():
        for count in _GROUPS:
            groups = clips.folds(count, seed=0)
            for names, (whole,) in zip(groups, held_out_scorers(clips, groups, [GOOD], language), strict=True):
                yield whole.rows(whole.seen), whole.rows(np.isin(whole.identity, names)), count


def sets_of(held_out: Reference, groups: int, count: int) -> Iterator[tuple[ScoredCell, NDArray[np.int8], str]]:
    """Test sets of the scenarios that fit groups of this size, with labels and the name of the scenario."""
    for seed, (name, scenario) in enumerate(SCENARIOS.items()):
        if (scenario.identities > _MANY) == (groups == _GROUPS[1]):
            for cell, labels in scenario_sets(held_out, scenario, count, seed):
                yield cell, labels, name


def errors(cell: ScoredCell, labels: NDArray[np.int8], steps: dict[str, list[Refinement]]) -> dict[str, float]:
    """EER by strategy, raw first."""
    refined = {"raw": cell.distances} | {name: refine(cell, chain).distances for name, chain in steps.items()}
    return {name: eer(distances, labels, direction="distance").eer for name, distances in refined.items()}


def scenario_table(rows: Sequence[Row]) -> Table:
    """A line per scenario: mean EER in %; of a strategy also how many sets are worse than raw, and the largest loss."""
    table = Table(caption="EER in %; (sets worse than raw in %, largest loss in points)")
    for column in ("scenario", "sets", "raw", *STRATEGIES):
        table.add_column(column, justify="left" if column == "scenario" else "right", no_wrap=True)
    for name in [*dict.fromkeys(row["scenario"] for row in rows), "all"]:
        part = [row for row in rows if name in ("all", row["scenario"])]
        raw = 100 * np.array([row["raw"] for row in part])
        cells = []
        for strategy in STRATEGIES:
            refined = 100 * np.array([row[strategy] for row in part])
            change = refined - raw
            cells.append(f"{refined.mean():.1f} ({100 * (change > 1e-9).mean():.0f} %, {change.max():+.1f})")
        table.add_row(name, str(len(part)), f"{raw.mean():.1f}", *cells)
    return table
