"""What a protocol makes of saved scores: refined by a strategy, fused, and judged person by person."""

from __future__ import annotations

import contextlib
import hashlib
import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.schema import DataError
from experiments.config.build import options_of, read_steps
from experiments.protocol.file import Protocol, Trial, trials_of
from experiments.runs.files import write_json
from experiments.runs.folder import OWN, REFINED
from experiments.runs.people import write_people
from experiments.runs.refine import write_refined
from experiments.runs.results import Scores, write_scores
from experiments.runs.saved import SavedRun, read_run
from postproc.cells import scored_cell
from postproc.metrics.evaluate import evaluate_cell, summarise
from postproc.steps.fusion import Fusion


@dataclass(frozen=True)
class Derived:
    """Scores made of saved scores, and what they say about each person.

    ``made_of.json`` is written last: it tells that all is there, of which strategy and of which scores.

    Attributes:
        folder: for results.json, scores.parquet, refinement.json, people.csv, people.npz, log.txt.
        sources: folders of the scores it is made of; several are fused.
        home: the run with the items and embeddings of the first.
        strategy: its file; None where the scores are refined as they should be.
    """

    folder: Path
    sources: tuple[Path, ...]
    home: Path
    strategy: Path | None = None

    def made_of(self) -> dict[str, Any]:
        """The strategy's steps with all their options, defaults too, and the hashes of the scores."""
        said = None if self.strategy is None else options_of(self.strategy, self.strategy.stat().st_mtime_ns)
        scores = [hashlib.sha256((source / "scores.parquet").read_bytes()).hexdigest() for source in self.sources]
        return {"strategy": said, "scores": scores}

    def done(self) -> bool:
        """Whether it is there, made by the same strategy of the same scores."""
        path = self.folder / "made_of.json"
        return path.is_file() and json.loads(path.read_text(encoding="utf-8")) == self.made_of()

    def results(self) -> dict[str, Any]:
        """Its results.json."""
        found: dict[str, Any] = json.loads((self.folder / "results.json").read_text(encoding="utf-8"))
        return found

    def run(self) -> str | None:
        """Makes it, warnings in log.txt; the error line if it failed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        made_of = self.made_of()
        with (
            (self.folder / ("log.txt" if self.folder != self.home else "people.log")).open("w") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            try:
                if len(self.sources) > 1:
                    write_fused(self.folder, self.sources, self.home)
                elif self.strategy is not None:
                    write_refined(self.folder, read_run(self.home), read_steps(self.strategy))
                write_people(self.folder, read_run(self.folder, self.home))
            except Exception as error:  # a bug in one must not stop the others; the log says what it was
                traceback.print_exc()
                return f"{self.folder}: {error}"
        write_json(self.folder / "made_of.json", made_of)
        return None


def derived_of(protocol: Protocol, trial: Trial, out: Path) -> dict[str, Derived]:
    """What is made of a fit, or the fusion of several, by the name of the strategy."""
    parts = protocol.fusions.get(trial.method, [])
    found = {}
    for name in protocol.refinements or [OWN]:
        if parts:
            runs = [_part(protocol, part, trial).folder(out) for part in parts]
            sources = tuple(_folder(protocol, run, name) for run in runs)
            found[name] = Derived(_folder(protocol, trial.folder(out), name), sources, runs[0])
        else:
            run = trial.folder(out)
            file = protocol.refinements.get(name)
            found[name] = Derived(_folder(protocol, run, name), (run,), run, Path(file) if file else None)
    return found


def _folder(protocol: Protocol, run: Path, strategy: str) -> Path:
    """Where ``refine`` writes by default; a fit's own refinement is in its run folder."""
    return run / REFINED / strategy if protocol.refinements else run


def _part(protocol: Protocol, method: str, fusion: Trial) -> Trial:
    """The run of a method that takes part in a fusion: of the same seed, or of its first where it has not that one."""
    seeds = protocol.seeds_of(method)
    seed = fusion.seed if fusion.seed in seeds else seeds[0]
    return Trial(method, fusion.config, fusion.fold, seed)


def write_fused(folder: Path, sources: tuple[Path, ...], home: Path) -> None:
    """Writes the fusion of scores on the same lists: results.json, scores.parquet, refinement.json.

    Raw distances are fused with raw ones, refined with refined: the strategies work in the learnt space of a method,
    and a fusion has none, so that fused raw scores could not be refined.

    Args:
        folder: to write into.
        sources: folders with scores.parquet.
        home: the run folder of the first.

    Raises:
        DataError: lists that differ, named by :class:`postproc.Fusion`.
    """
    run, others = read_run(sources[0], home), [str(source / "scores.parquet") for source in sources[1:]]
    raw, raw_traces = _fuse(run, run.scores, Fusion(others, "distance"))
    refined, traces = _fuse(run, run.refined, Fusion(others, "refined"))
    evaluation = run.evaluation
    write_scores(folder / "scores.parquet", evaluation, raw, refined)
    write_json(folder / "refinement.json", {name: [trace] for name, trace in (traces or raw_traces).items()})
    labelled = {name: cell for name, cell in evaluation.cells.items() if cell.trials.labels is not None}
    judged = {
        name: evaluate_cell(cell, evaluation.voices, evaluation.faces, raw[name], refined.get(name))
        for name, cell in labelled.items()
    }
    write_json(folder / "results.json", summarise(judged, {name: cell.language for name, cell in labelled.items()}))


def _fuse(run: SavedRun, scores: Scores, fusion: Fusion) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Fused distances and traces by cell."""
    distances, traces = {}, {}
    for name, mine in scores.items():
        cell = scored_cell(run.evaluation, name, mine, run.embeddings)
        fused = fusion.for_cell(name, run.evaluation.cells[name].trials.keys)(cell)
        if "unchanged" in fused.trace:
            raise DataError(f"run {run.folder}: cell {name} cannot be fused: {fused.trace['unchanged']}")
        distances[name], traces[name] = fused.distances, {"step": "Fusion", **fused.trace}
    return distances, traces


def derived_in_order(protocol: Protocol, methods: list[str], out: Path) -> list[list[Derived]]:
    """What is to be made: first of the fits, then the fusions of those methods.

    Runs of the same people come one after the other: what strategies find out about their encoder embeddings
    (:class:`postproc.clustering.partitions.Clustering`) serves all of them.
    """
    by_people = sorted(trials_of(protocol, methods), key=lambda trial: trial.fold)
    fused = trials_of(protocol, fusions_of(protocol, methods))
    return [
        [job for trial in trials for job in derived_of(protocol, trial, out).values()] for trials in (by_people, fused)
    ]


def fusions_of(protocol: Protocol, methods: list[str]) -> list[str]:
    """The fusions all of whose methods are there."""
    return [name for name, parts in protocol.fusions.items() if set(parts) <= set(methods)]
