"""EERs had other people been drawn: those of the list in which every person occurs as often as drawn."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from datamodules.schema import EvaluationSet
from experiments.protocol.derived import Derived
from experiments.protocol.run import languages_of
from experiments.runs.people import people_rows, read_people, replicates_of, write_people
from experiments.runs.saved import SavedRun, read_run
from postproc.metrics import eer
from postproc.metrics.bootstrap import draw_identities
from tests.experiments.saved import save_run, save_tested, world


def test_a_replicate_is_the_eer_of_the_list_with_people_repeated(tmp_path: Path) -> None:
    run = read_run(save_run(tmp_path / "run", world({"heard": "English", "unheard": "Urdu"})))
    people = np.unique(run.evaluation.voices.identity)
    draws = draw_identities(len(people), 1000, zlib.crc32("\n".join(people.tolist()).encode()))
    found = replicates_of(run)
    assert set(found) == {(cell, stage) for cell in ("heard", "unheard") for stage in ("raw", "refined")}
    for name, cell in run.evaluation.cells.items():
        voice = np.searchsorted(people, run.evaluation.voices.identity[cell.voice_index])
        face = np.searchsorted(people, run.evaluation.faces.identity[cell.face_index])
        for i in range(5):
            times = np.where(voice == face, draws[i][voice], draws[i][voice] * draws[i][face])
            listed = np.repeat(np.arange(len(voice)), times)
            plain = eer(run.scores[name][listed], cell.trials.labels[listed], direction="distance").eer
            assert abs(found[name, "raw"][i] - plain) < 1e-12


def test_draws_are_those_of_the_people(tmp_path: Path) -> None:
    """The same people are drawn alike in every run, whatever its scores; other people are drawn anew."""
    run = read_run(save_run(tmp_path / "run", world({"heard": "English"})))
    halved = replace(run, scores={name: d**3 for name, d in run.scores.items()})  # the same order, the same EERs
    np.testing.assert_array_equal(replicates_of(run)["heard", "raw"], replicates_of(halved)["heard", "raw"])
    assert not np.array_equal(replicates_of(run)["heard", "raw"], replicates_of(_renamed(run, "x"))["heard", "raw"])


def test_people_that_are_not_known_are_not_drawn(tmp_path: Path) -> None:
    run = read_run(save_run(tmp_path / "run", world({"heard": "English"})))
    voices = replace(run.evaluation.voices, identity=np.where(run.evaluation.voices.identity == "id00", "", "id01"))
    unknown = replace(run, evaluation=EvaluationSet(voices, run.evaluation.faces, run.evaluation.cells))
    assert replicates_of(unknown) == {}


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    run = read_run(save_run(tmp_path / "run", world({"heard": "English", "a/unheard": "Urdu"}), refined=False))
    write_people(tmp_path, run)
    people, found = read_people(tmp_path)
    assert set(people["cell"]) == {"heard", "a/unheard"}
    assert people["refined"].isna().all()
    for key, rates in replicates_of(run).items():
        np.testing.assert_array_equal(found[key], rates)


def test_a_run_that_refined_itself_is_judged_where_it_is(tmp_path: Path) -> None:
    run = save_tested(tmp_path / "run", "English", "HeadPair", fold=0)
    before = (run / "results.json").read_bytes()
    own = Derived(run, (run,), run)
    assert not own.done()
    assert own.run() is None
    assert own.done()
    assert (run / "results.json").read_bytes() == before
    people, found = read_people(run)
    rows = people_rows(read_run(run), "heard")
    heard = people[people["cell"] == "heard"]
    assert [tuple(row) for row in heard.itertuples(index=False)] == rows
    assert set(found) == {(cell, stage) for cell in ("heard", "unheard") for stage in ("raw", "refined")}
    assert languages_of(run) == {"heard": "English→English", "unheard": "English→Urdu"}


def _renamed(run: SavedRun, prefix: str) -> SavedRun:
    voices, faces = (
        replace(items, identity=np.char.add(prefix, items.identity))
        for items in (run.evaluation.voices, run.evaluation.faces)
    )
    return replace(run, evaluation=EvaluationSet(voices, faces, run.evaluation.cells))
