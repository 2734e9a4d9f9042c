"""The V1 dev protocol on real embeddings, through the protocol command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.commands import fit
from experiments.config.files import find_config
from experiments.protocol.file import Protocol
from experiments.protocol.numbers import summarise_protocol
from experiments.protocol.run import run_protocol


def test_cca_reproduces_the_known_eer_of_24_cells(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """25.9 % on balanced lists with FaceNet, ECAPA and 16 directions, like an independent script."""
    monkeypatch.setenv("VOICEFACE_DATA", str(shared_data))
    whole = Protocol.read(find_config("protocols/v1_dev.yaml"))
    protocol = replace(whole, refinements={"transport": whole.refinements["transport"]})
    options: dict[str, Any] = {"jobs": 2, "only": ["cca"], "more": ["--model.directions=16"]}
    outcomes = run_protocol(protocol, fit.main, tmp_path, **options)
    by_lists = {record["lists"]: record for record in summarise_protocol(outcomes)}
    assert by_lists["balanced"]["fits"] == 12
    assert by_lists["balanced"]["raw"]["mean"] == pytest.approx(0.259, abs=0.003)
    assert by_lists["main"]["raw"]["mean"] == pytest.approx(0.259, abs=0.01)
    assert by_lists["main"]["refined"]["mean"] == pytest.approx(0.186, abs=0.01)
    assert by_lists["balanced"]["gender_only"]["mean"] == pytest.approx(0.283, abs=0.01)
    assert by_lists["balanced"]["chance"]["mean"] == pytest.approx(0.5, abs=0.03)

    again = run_protocol(protocol, fit.main, tmp_path, **options)  # finished fits are not run again
    assert summarise_protocol(again) == summarise_protocol(outcomes)
