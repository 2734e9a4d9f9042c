"""A protocol makes what its fits read first, and tells the spread of one fold over seeds."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datamodules.schema import DataError
from experiments.commands.sweep import run_fit
from experiments.config.files import find_config
from experiments.protocol.file import Protocol, planned_fits
from experiments.protocol.numbers import Outcome, summarise_protocol
from experiments.protocol.run import run_protocol
from experiments.runs.rates import RATES
from tests import REPOSITORY
from tests.experiments.runs.test_fits import comes_true

pytestmark = pytest.mark.processes


def test_the_seed_is_the_unit_of_one_fold() -> None:
    def outcome(seed: int) -> Outcome:
        record = dict.fromkeys(RATES.values(), 0.2 + 0.1 * seed)
        return Outcome("heads", "s2f", 0, seed, {"voxceleb": record, "overall": record})

    (record,) = summarise_protocol([outcome(seed) for seed in (0, 1, 2)])
    assert record["raw"]["mean"] == pytest.approx(0.3)
    assert record["raw"]["sd"] == pytest.approx(np.std([0.2, 0.3, 0.4], ddof=1))


def test_nothing_is_fitted_where_a_first_command_fails(tmp_path: Path) -> None:
    protocol = Protocol(["tiny.yaml"], [0], [0], {}, first=[["embed", "--manifest=none.csv", f"--out={tmp_path}"]])
    with pytest.raises(DataError, match="embed failed"):
        run_protocol(protocol, run_fit, tmp_path, jobs=1)


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_first_command_ends_with_a_killed_protocol(tmp_path: Path, number: int) -> None:
    file = tmp_path / "pid"
    module = "tests.experiments.protocol.sleeper"
    script = f"from experiments.protocol.run import run_command; run_command(['{file}'], '{module}')"
    protocol = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    assert comes_true(lambda: file.exists() and file.read_text() != "")
    child = int(file.read_text())
    protocol.send_signal(number)
    protocol.wait()
    try:
        assert comes_true(lambda: not Path(f"/proc/{child}").exists())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_the_protocol_of_s2f_is_readable() -> None:
    protocol = Protocol.read(find_config("protocols/s2f.yaml"))
    assert protocol.first[0][0] == "embed"
    assert {fit.method for fit in planned_fits(protocol, list(protocol.methods))} >= {
        "cca",
        "scc_heads",
        "scc_heads_permuted",
    }


def test_a_fusion_of_a_method_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "{configs: [a.yaml], folds: [0], seeds: [0], methods: {cca: }, fusions: {both: [cca, fop]}}"
    )
    with pytest.raises(DataError, match=r"fusions.both: \['cca', 'fop'\] must be two or more of cca"):
        Protocol.read(tmp_path / "p.yaml")


def test_a_strategy_without_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "{configs: [a.yaml], folds: [0], seeds: [0], methods: {cca: }, refinements: {x: postproc/blokcs.yaml}}"
    )
    with pytest.raises(DataError, match=r"blokcs.yaml: no such file .* did you mean postproc/blocks.yaml"):
        Protocol.read(tmp_path / "p.yaml")
