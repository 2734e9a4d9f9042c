"""What is no protocol is told from one that lacks something, with the command that takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.run import main


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: model/cca.yaml", "is a config; run it by fit --config '{path}'; a protocol has methods"),
        ("parameters: {}", "is a sweep; run it by sweep --config own.yaml; a protocol has methods"),
        ("steps: []", "is a refinement; give it as --postproc own.yaml; a protocol has methods"),
        ("configs: [a.yaml]", "methods are missing; name one or more, as in protocols/v1_dev.yaml"),
    ],
)
def test_a_file_without_methods_is_said(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my data" / "own.yaml"
    path.parent.mkdir()
    path.write_text(text)
    assert main(["protocol", "--config", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: protocol {path}: {said.format(path=path)}")
