"""Files of a run folder that somebody has forged: one line or read right, and nothing of them runs."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.schema import DataError
from experiments.run import main
from experiments.runs.saved import read_reference, write_reference
from postproc.reference import Reference
from tests.experiments.saved import save_tested


def _npy(shape: tuple[int, ...], kind: str, content: bytes = b"") -> bytes:
    """An npy file that declares more than it holds."""
    made = io.BytesIO()
    np.lib.format.write_array_header_1_0(made, {"descr": kind, "fortran_order": False, "shape": shape})
    return made.getvalue() + content


class _Touch:
    """Leaves a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


FORGED: dict[str, bytes | np.ndarray] = {
    "voice_model": _npy((10**12, 10**3), "<f4"), "face_model": _npy((2**62, 2**62), "<f4"),
    "voice_input": np.zeros((8, 3), np.float32), "identity": _npy((8,), "<U1", b"\xff\xff\xff\x7f" * 8),
    "language": _npy((8,), ">U1", b"\x7f\xff\xff\xff" * 8), "gender": np.array([_Touch()] * 8, dtype=object),
    "seen": np.ones(8, int),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_reference_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spaces, names = {"model": np.zeros((8, 3), np.float32)}, np.full(8, "a")
    write_reference(tmp_path, Reference(spaces, spaces, names, names, names, np.ones(8, bool)), ["heard"])
    assert len(read_reference(tmp_path)) == 8
    path, forged = tmp_path / "embeddings" / "reference.npz", FORGED[name]
    arrays = dict(np.load(path))
    with zipfile.ZipFile(path, "w") as archive:
        for key, array in (arrays | {name: forged}).items():
            content = io.BytesIO()
            if not isinstance(array, bytes):
                np.save(content, array)
            archive.writestr(f"{key}.npy", array if isinstance(array, bytes) else content.getvalue())
    with pytest.raises(DataError, match=r"reference\.npz: .*first run test") as error:
        read_reference(tmp_path)
    assert "\n" not in str(error.value)
    assert not Path("ran").exists()


RESULT = {"trials": 5, "eer": 0.1}


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('{"heard": {"trials": 5, "eer": 1e400}}', 2), ('{"heard": {"trials": 1e400, "eer": 0.1}}', 2),
        ('{"heard": ' + '{"a": ' * 60 + "1" + "}" * 61, 2), ('{"heard": {"trials": 5, "eer": "x"}}', 2),
        (json.dumps({"heard": RESULT | {"more": "a" * 10**6}}), 0),
        (json.dumps({"heard": RESULT | {"doubts": {"a": "\udfff\x1b[2J"}}, "trusted_weights": ["\udcff.pt"]}), 0),
    ],
    ids=["rate", "count", "deep", "type", "long", "letters"],
)  # fmt: skip
def test_forged_results_are_one_line_or_read(
    text: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = save_tested(tmp_path / "run", "English", "HeadPair", 0)
    (run / "results.json").write_text(text)
    (run / "decisions.json").write_text("[" * 100_000)  # which no command reads
    for out in ("r.html", "r.md") if "\\ud" in text else ("r.md",):
        assert main(["report", str(run), "--out", str(tmp_path / out)]) == status
        assert len([line for line in capsys.readouterr().err.splitlines() if "error:" in line]) == status // 2
        assert status or "\x1b" not in (tmp_path / out).read_text()
