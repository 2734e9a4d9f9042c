"""Embeddings and test sets with nothing to cluster: every shipped refinement leaves the scores finite or alone."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from datamodules.schema import ScoredCell
from experiments.config.build import read_steps
from experiments.config.files import packaged
from experiments.run import main
from postproc.reference import Reference
from postproc.refinement import Refined, Refinement, calibrate, refine
from postproc.selection.selected import Selected
from postproc.steps.fusion import Fusion
from tests.faults.worlds import feature_world, refusal
from tests.postproc.synthetic_people import World

# chaining_switches.yaml is chaining.yaml many times over, and takes minutes
CONFIGS = sorted({path.stem for path in (packaged() / "postproc").glob("*.yaml")} - {"chaining_switches"})
EMBEDDING_BLIND = ("none", "fusion")  # steps that look at scores alone

LEARNING = (
    "age",
    "asnorm",
    "best",
    "gender",
    "guarded_chaining",
    "joint",
    "matching",
    "nested",
)  # from training people

Spoil = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def one_bad(value: float) -> Spoil:
    def spoil(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        x[rng.integers(len(x)), rng.integers(x.shape[1])] = value
        return x

    return spoil


EMBEDDINGS: dict[str, Spoil] = {
    "NaN": one_bad(np.nan),
    "infinite": one_bad(np.inf),
    "minus infinite": one_bad(-np.inf),
    "all NaN": lambda x, _: np.full_like(x, np.nan),
    "constant": lambda x, _: np.ones_like(x),
    "zero": lambda x, _: np.zeros_like(x),
    "one zero": lambda x, _: np.r_[np.zeros_like(x[:1]), x[1:]],
    "two distinct points": lambda x, _: x[np.arange(len(x)) % 2],
    "three points, one of them once": lambda x, _: x[np.r_[2, np.arange(1, len(x)) % 2]],
    "huge": lambda x, _: x * 1e200,
    "tiny": lambda x, _: x * 1e-200,
    "opposite": lambda x, _: np.where(np.arange(len(x))[:, None] % 2, x[0], -x[0]),
}
UNUSABLE = ("NaN", "infinite", "minus infinite", "all NaN", "zero")


def shipped(name: str) -> list[Refinement]:
    steps = read_steps(packaged() / "postproc" / f"{name}.yaml")
    for step in steps:
        if isinstance(step, Selected):
            step.sets = 1  # cross-validation takes a second per set
    return steps


@cache
def calibrated(name: str) -> list[Refinement]:
    """The steps of a shipped config, calibrated on training identities."""
    steps = shipped(name)
    calibrate(steps, World(7).reference(clips=3))
    return steps


def fusion_with_random_scores(trials: int, folder: Path) -> list[Refinement]:
    trials += 1  # the other run may have more
    distances = np.random.default_rng(1).normal(size=trials)
    table = {"cell": "heard", "key": np.arange(trials).astype(str), "distance": distances}
    pd.DataFrame(table).to_parquet(folder / "scores.parquet")
    return [Fusion([str(folder / "scores.parquet")])]


def refined(name: str, cell: ScoredCell, folder: Path, reference: Reference | None = None) -> Refined:
    """What a shipped config makes of a cell, checked for what holds whatever the cell."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if name == "fusion":
            steps = fusion_with_random_scores(len(cell.distances), folder)
        else:
            steps = calibrated(name) if reference is None else shipped(name)
            if reference is not None:
                calibrate(steps, reference)
        result = refine(cell, [step.for_cell("heard", np.arange(len(cell.distances)).astype(str)) for step in steps])
    assert result.distances.shape == cell.distances.shape
    assert np.isfinite(result.distances[np.isfinite(cell.distances)]).all()
    for trace in result.trace["steps"]:
        reason = trace.get("unchanged")
        assert reason is None or (reason and "\n" not in reason)
    return result


def assert_alone(result: Refined, cell: ScoredCell) -> None:
    np.testing.assert_array_equal(result.distances, cell.distances)
    assert all(trace.get("unchanged") for trace in result.trace["steps"])


@pytest.fixture(scope="module")
def cell() -> ScoredCell:
    return World(2, noise=0.8, gender=3.0).cell(trials=200)[0]


@pytest.mark.parametrize("fault", EMBEDDINGS)
@pytest.mark.parametrize("name", CONFIGS)
def test_degenerate_embeddings(name: str, fault: str, cell: ScoredCell, tmp_path: Path) -> None:
    for sides in (("face",), ("voice", "face")):
        rng = np.random.default_rng(0)
        spoilt = {
            side: {s: EMBEDDINGS[fault](x.astype(float), rng) for s, x in getattr(cell, f"{side}s").items()}
            for side in sides
        }
        given = replace(cell, **{f"{side}s": spaces for side, spaces in spoilt.items()})
        result = refined(name, given, tmp_path)
        if fault in UNUSABLE and name not in EMBEDDING_BLIND:
            assert_alone(result, given)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("voices", "faces"), [(1, 1), (1, 30), (30, 1), (2, 2), (3, 3), (7, 9)])
def test_fewer_samples_than_clusters(name: str, voices: int, faces: int, cell: ScoredCell, tmp_path: Path) -> None:
    voice, face = (grid.ravel() for grid in np.mgrid[:voices, :faces])
    few = ScoredCell(
        np.random.default_rng(0).uniform(0, 2, len(voice)), voice, face,
        {s: x[:voices] for s, x in cell.voices.items()}, {s: x[:faces] for s, x in cell.faces.items()},
    )  # fmt: skip
    result = refined(name, few, tmp_path)
    if min(voices, faces) < 4 and name in ("chaining", "guarded_chaining", "blocks", "transport"):
        assert_alone(result, few)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("genders", ["MMMMMM", "F"])
def test_one_gender_or_one_person_only(name: str, genders: str, tmp_path: Path) -> None:
    given = World(3, gender=3.0).cell(genders, trials=300)[0]
    result = refined(name, given, tmp_path)
    if name == "guarded_chaining":
        assert_alone(result, given)


SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda d: d[:0],
    "constant": lambda d: np.full_like(d, 0.5),
    "NaN": lambda d: np.full_like(d, np.nan),
    "one infinite": lambda d: np.r_[np.inf, d[1:]],
    "huge": lambda d: d * 1e307,
}


@pytest.mark.parametrize("fault", SCORES)
@pytest.mark.parametrize("name", CONFIGS)
def test_degenerate_scores(name: str, fault: str, cell: ScoredCell, tmp_path: Path) -> None:
    distances = SCORES[fault](cell.distances)
    n = len(distances)
    given = replace(cell, distances=distances, voice_index=cell.voice_index[:n], face_index=cell.face_index[:n])
    result = refined(name, given, tmp_path)
    if fault in ("none", "NaN", "one infinite"):
        assert_alone(result, given)


def without_genders(reference: Reference) -> Reference:
    return replace(reference, gender=np.full(len(reference), ""))


def constant(reference: Reference) -> Reference:
    voices, faces = ({s: np.ones_like(x) for s, x in spaces.items()} for spaces in (reference.voices, reference.faces))
    return replace(reference, voices=voices, faces=faces)


def not_finite(reference: Reference) -> Reference:
    voices = {s: np.full_like(x, np.nan) for s, x in reference.voices.items()}
    return replace(reference, voices=voices)


REFERENCES: dict[str, Callable[[Reference], Reference]] = {
    "no genders": without_genders,
    "one gender": lambda r: r.rows(r.gender == "M"),
    "one person": lambda r: r.rows(r.identity == "id00"),
    "two people": lambda r: r.rows(np.isin(r.identity, ["id00", "id12"])),
    "one clip": lambda r: r.rows(np.arange(len(r)) < 1),
    "no identity": lambda r: r.rows(np.arange(len(r)) < 0),
    "constant": constant,
    "not finite": not_finite,
}


@pytest.mark.parametrize("fault", REFERENCES)
@pytest.mark.parametrize("name", LEARNING)
def test_degenerate_training_identities(name: str, fault: str, cell: ScoredCell, tmp_path: Path) -> None:
    result = refined(name, cell, tmp_path, REFERENCES[fault](World(7).reference(clips=3)))
    if fault == "no identity":
        said = str(result.trace["steps"])
        assert "'unchanged'" in said or "'otherwise'" in said  # of a step, or of one inside it


# -- through the command line --------------------------------------------------------------------------------------


def fit(config: Path, run: Path, *options: str) -> list[str]:
    return ["fit", "--config", str(config), f"--run_dir={run}", *options]


def test_the_list_of_steps_that_learn_is_complete() -> None:
    learning = {name for name in CONFIGS if name != "fusion" and any(step.needs_reference for step in shipped(name))}
    assert learning == set(LEARNING)


@pytest.mark.parametrize("fault", ["constant", "two distinct points"])
def test_a_fit_on_degenerate_feature_files_ends_well_and_says_why(
    fault: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config, run = feature_world(tmp_path / "world"), tmp_path / "run"
    for name in ("voices", "faces"):
        path = tmp_path / "world" / f"{name}.npy"
        np.save(path, EMBEDDINGS[fault](np.load(path), np.random.default_rng(0)))
    assert main(fit(config, run, "--postproc=postproc/guarded_chaining.yaml")) == 0
    capfd.readouterr()
    names = [name for name in CONFIGS if name != "fusion"]
    assert main(["refine", str(run), *(f"--postproc=postproc/{name}.yaml" for name in names)]) == 0
    said = capfd.readouterr().err
    raw = pd.read_parquet(run / "scores.parquet")["distance"].to_numpy()
    for name in names:
        table = pd.read_parquet(run / "refined" / name / "scores.parquet")
        assert np.isfinite(table["refined"]).all()
        trace = json.loads((run / "refined" / name / "refinement.json").read_text())["heard"]
        if name in ("chaining", "guarded_chaining"):
            np.testing.assert_array_equal(table["refined"], raw)
            assert f"left the scores unchanged: {trace[0]['unchanged']}" in said


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_feature_file_that_is_not_finite_is_refused(
    value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = feature_world(tmp_path / "world")
    x = np.load(tmp_path / "world" / "faces.npy")
    x[7, 2] = value
    np.save(tmp_path / "world" / "faces.npy", x)
    line = refusal(fit(config, tmp_path / "run"), capsys)
    assert re.search(r"faces\.npy, row 8: the embedding of p1/English/1 contains NaN or inf; extract it again", line)


OVERFLOWS = r"voices contain NaN or inf, first p\d/English/\d; try another checkpoint"


@pytest.mark.parametrize(
    ("command", "fill", "said"),
    [
        ("validate", 3e38, OVERFLOWS),
        ("test", 3e38, OVERFLOWS),
        ("predict", 3e38, OVERFLOWS),
        ("test", np.nan, r"4 not finite: network\.voice_branch"),
    ],
)
def test_a_checkpoint_that_gives_nan_is_refused(
    command: str, fill: float, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run = feature_world(tmp_path / "world"), tmp_path / "run"
    assert main(fit(config, run, "--no-test")) == 0
    path = run / "checkpoints" / "best.ckpt"
    saved = torch.load(path, weights_only=True)
    for tensor in saved["state_dict"].values():
        tensor.fill_(fill)
    torch.save(saved, path)
    line = refusal(
        [command, "--config", str(run / "config.yaml"), "--ckpt_path=best", f"--run_dir={tmp_path / 'x'}"], capsys
    )
    assert re.search(said, line)
    assert not (tmp_path / "x" / "scores.parquet").exists()
