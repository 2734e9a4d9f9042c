"""Refines and fuses the saved scores of fits, and writes the results of each identity."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.io.documents import read_json
from datamodules.io.text import plain_file
from datamodules.io.writing import make_folder, together, write_json
from datamodules.schema import DataError, one_line
from experiments.config.build import read_steps, strategy_options
from experiments.console.errors import logged
from experiments.protocol.file import PlannedFit, Protocol, planned_fits
from experiments.runs.folder import OWN, REFINED
from experiments.runs.people import write_people
from experiments.runs.records import read_records
from experiments.runs.refine import write_refined
from experiments.runs.results import evaluate_run, write_scores
from experiments.runs.saved import SavedRun, read_run
from postproc.cells import scored_cell
from postproc.memory import Memory
from postproc.refinement import refine_cells
from postproc.steps.fusion import Fusion


@dataclass(frozen=True)
class Derived:
    """Scores that are computed from saved scores, and the results of each identity.

    ``made_of.json`` is written last. It names the refinement and the scores, and shows that all files are complete.

    Attributes:
        folder: holds results.json, scores.parquet, refinement.json, people.csv, people.npz and log.txt.
        sources: folders of the saved scores; several are fused.
        home: run folder with the items and embeddings of the first source.
        strategy: refinement file; None if the saved scores need no further refinement.
        alternative: of the file, whose steps are applied; empty = those of the file.
    """

    folder: Path
    sources: tuple[Path, ...]
    home: Path
    strategy: Path | None = None
    alternative: str = ""

    def made_of(self) -> dict[str, Any]:
        """The steps of the refinement with all options (defaults included), and the hashes of the scores."""
        steps = None
        if self.strategy is not None:
            steps = strategy_options(self.strategy, self.strategy.stat().st_mtime_ns, self.alternative)
        files = [plain_file(source / "scores.parquet") for source in self.sources]
        scores = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        return {"strategy": steps, "scores": scores}

    def done(self) -> bool:
        """Whether all files exist, and come from the same refinement and the same scores."""
        path = self.folder / "made_of.json"
        return path.is_file() and read_json(path) == self.made_of()

    def results(self) -> dict[str, Any]:
        """Its results.json."""
        return read_records(self.folder / "results.json")

    def run(self) -> str | None:
        """Writes all files, with warnings in log.txt; returns an error line if that failed."""
        made_of, failed = self.made_of(), None
        make_folder(self.folder)
        with logged(self.folder / ("log.txt" if self.folder != self.home else "people.log"), "wb"):
            try:
                if len(self.sources) > 1:
                    write_fused(self.folder, self.sources, self.home)
                elif self.strategy is not None:
                    steps = read_steps(self.strategy, alternative=self.alternative)
                    write_refined(self.folder, read_run(self.home), steps, _memory())
                write_people(self.folder, read_run(self.folder, self.home))
                write_json(self.folder / "made_of.json", made_of)
            except Exception as error:
                failed = f"{self.folder}: {one_line(error)}"
                raise
        return failed


def derived_of(protocol: Protocol, planned: PlannedFit, out: Path) -> dict[str, Derived]:
    """The refinements of a fit, or of the fusion of several fits, by name."""
    parts = protocol.fusions.get(planned.method, [])
    derived = {}
    for name in protocol.refinements or [OWN]:
        if parts:
            runs = [_part(protocol, part, planned).folder(out) for part in parts]
            sources = tuple(_folder(protocol, run, name) for run in runs)
            derived[name] = Derived(_folder(protocol, planned.folder(out), name), sources, runs[0])
        else:
            run = planned.folder(out)
            file, _, alternative = protocol.refinements.get(name, "").partition("#")
            folder = _folder(protocol, run, name)
            derived[name] = Derived(folder, (run,), run, Path(file) if file else None, alternative)
    return derived


def _folder(protocol: Protocol, run: Path, strategy: str) -> Path:
    """The folder that ``refine`` writes into by default; refinement by a fit itself is in its run folder."""
    return run / REFINED / strategy if protocol.refinements else run


def _part(protocol: Protocol, method: str, fusion: PlannedFit) -> PlannedFit:
    """The fit of a method that is part of a fusion: with the same seed, or with its first seed if it lacks that one."""
    seeds = protocol.seeds_of(method)
    seed = fusion.seed if fusion.seed in seeds else seeds[0]
    return PlannedFit(method, fusion.config, fusion.fold, seed)


def write_fused(folder: Path, sources: tuple[Path, ...], home: Path) -> None:
    """Writes the fusion of scores on the same lists: results.json, scores.parquet, refinement.json.

    Raw distances are fused with raw ones, refined with refined ones. Fused raw scores are not refined, because the
    refinements work in the embedding space of one method.

    Args:
        folder: receives the files.
        sources: folders with scores.parquet.
        home: run folder of the first source.

    Raises:
        DataError: the trial lists differ.
    """
    run, others = read_run(sources[0], home), [str(source / "scores.parquet") for source in sources[1:]]
    raw, raw_traces = _fuse(run, run.scores, Fusion(others, "distance"))
    refined, traces = _fuse(run, run.refined, Fusion(others, "refined"))
    fused = replace(run, folder=folder, scores=raw, refined=refined)
    results = evaluate_run(fused) | run.notes
    with together(folder):
        write_scores(fused)
        write_json(folder / "refinement.json", {name: [trace] for name, trace in (traces or raw_traces).items()})
        write_json(folder / "results.json", results)


def _fuse(
    run: SavedRun, scores: Mapping[str, NDArray[np.float64]], fusion: Fusion
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Fused distances and traces by test condition."""

    def refuse(line: str) -> None:
        raise DataError(f"run {run.folder}: cannot be fused: {line}")

    scored = ((name, scored_cell(run.evaluation, name, raw, run.embeddings)) for name, raw in scores.items())
    fused = dict(refine_cells(run.evaluation, scored, [fusion], warn=refuse))
    traces = {name: refined.trace["steps"][0] for name, refined in fused.items()}
    return {name: refined.distances for name, refined in fused.items()}, traces


@lru_cache(maxsize=1)
def _memory() -> Memory:
    """Clusters that all refinements of a worker process share: fits of one fold have the same encoder embeddings."""
    return Memory()


def derived_in_order(protocol: Protocol, methods: list[str], out: Path) -> list[list[Derived]]:
    """First the refinements of the fits, then those of the fusions of the methods.

    Fits of one fold follow each other: they share test identities and encoder embeddings, so that clusterings of the
    embeddings (:class:`postproc.clustering.partitions.Clustering`) are computed once and reused.
    """
    by_fold = sorted(planned_fits(protocol, methods), key=lambda planned: planned.fold)
    fused = planned_fits(protocol, fusions_of(protocol, methods))
    return [
        [derived for planned in group for derived in derived_of(protocol, planned, out).values()]
        for group in (by_fold, fused)
    ]


def fusions_of(protocol: Protocol, methods: list[str]) -> list[str]:
    """Names of the fusions whose methods are all in ``methods``."""
    return [name for name, parts in protocol.fusions.items() if set(parts) <= set(methods)]
