"""The tables of the page: order, chances, names, and a line for files that cannot be compared."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.schema import DataError
from experiments.app.page import require_gradio
from experiments.app.ranking import compared
from experiments.run import main
from postproc.metrics.calibration import Calibration, Curve

EARLIER = Path(__file__).parents[2] / "compat" / "run"
CALIBRATED = Calibration(Curve(10.0, 0.5), Curve(5.0, 0.4), 0.0, 1.0, 6)


class FixedScorer:
    """Distances that are given, for files of any content."""

    def __init__(self, distances: Any, calibration: Calibration | None = None, error: str = "") -> None:
        self.distances, self.error = np.array(distances, np.float32), error
        self.trained = SimpleNamespace(calibration=calibration)

    def embed(self, modality: str, files: Any, batch_size: int) -> Any:
        if self.error:
            raise DataError(f"{files[0]}: {self.error}")
        return files

    def rows(self, voices: Any, faces: Any) -> Any:
        return iter(self.distances)


@pytest.fixture
def files(tmp_path: Path) -> tuple[list[str], list[str]]:
    """Two voices and three faces."""
    voices = [tmp_path / "ann.wav", tmp_path / "bob.wav"]
    faces = [tmp_path / name for name in ("a.png", "<b>&.png", "c.png")]
    for voice in voices:
        voice.touch()
    for face in faces:
        Image.new("RGB", (300, 200), "green").save(face)
    return [str(x) for x in voices], [str(x) for x in faces]


def cells(page: str) -> list[str]:
    return re.findall(r"<td>([^<]*)</td>", page)


def test_faces_are_ranked_for_each_voice(files: tuple[list[str], list[str]]) -> None:
    scorer: Any = FixedScorer([[0.3, 0.1, 0.9], [0.5, 0.8, 0.2]], CALIBRATED)
    page = compared(scorer, *files)
    alts = re.findall(r'alt="face (\S+), rank (\d) of 3"', page)
    assert alts == [(name, str(rank + 1)) for names in ("bac", "cab") for rank, name in enumerate(
        {"a": "a.png", "b": "&lt;b&gt;&amp;.png", "c": "c.png"}[x] for x in names)]  # fmt: skip
    assert cells(page)[:4] == ["1", "0.100", "98 %", "82 %"]
    assert page.count("<table>") == 2
    assert "<caption>Faces for the voice bob.wav" in page
    assert "6 validation identities" in page
    assert "http" not in page


def test_without_calibration_there_are_distances_alone(files: tuple[list[str], list[str]]) -> None:
    voices, faces = files
    scorer: Any = FixedScorer([[0.3, 0.1, 0.9]])
    page = compared(scorer, voices[:1], faces)
    assert cells(page) == ["1", "0.100", "2", "0.300", "3", "0.900"]
    assert "no calibration" in page
    half = Calibration(CALIBRATED.curve, None, 0.0, 1.0, 6)
    scorer = FixedScorer([[0.3, 0.1, 0.9]], half)
    page = compared(scorer, voices[:1], faces)
    assert cells(page)[:4] == ["1", "0.100", "98 %", "?"]


def test_what_cannot_be_compared_is_one_line(files: tuple[list[str], list[str]]) -> None:
    voices, faces = files
    scorer: Any = FixedScorer([[0.1]], error="silent audio")
    assert '<p role="alert">ann.wav: silent audio</p>' in compared(scorer, voices, faces)
    assert "no voice" in compared(scorer, [], faces)
    assert "no face" in compared(scorer, voices, [])


def test_a_model_that_cannot_be_shown_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("experiments.app.page.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'voiceface\[app\]'"):
        require_gradio()
    monkeypatch.undo()
    monkeypatch.setattr("experiments.app.page.require_gradio", lambda: None)
    for model, line in (
        (EARLIER, "encoder/NAME.yaml, one that gives"),
        (tmp_path, "no export, run folder or checkpoint"),
    ):
        assert main(["app", str(model)]) == 2
        assert line in capsys.readouterr().err.splitlines()[-1]
