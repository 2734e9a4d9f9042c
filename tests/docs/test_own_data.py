"""The lines of the README from wav and jpg to a report work as they stand, with encoders that need no weights."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from datamodules import SyntheticMediaDataModule
from experiments.run import main
from tests import CONFIGS, REPOSITORY
from tests.experiments.clips import FACE, VOICE


@pytest.mark.processes
@pytest.mark.timeout(600)  # eight commands, each of which imports torch
def test_from_wav_and_jpg_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    shutil.copytree(Path(SyntheticMediaDataModule(identities=16, clips=2, val_identities=4).root) / "v2", "my_clips")
    for path in Path("my_clips").glob("*.txt"):  # the lists of a data set, which recordings of one's own do not have
        path.unlink()
    (tmp_path / "configs").symlink_to(CONFIGS)
    text = (REPOSITORY / "README.md").read_text("utf-8")
    block = re.search(r"^```bash\nrun=(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert block
    commands = [shlex.split(line, comments=True) for line in block[1].splitlines()[1:]]
    assert len(commands) <= 9
    for command in commands:
        if command[:2] == ["$run", "app"]:
            continue  # a page that stays until Ctrl-C, see experiments/app
        if command[0] == "$run":
            arguments = command[1:]
            if arguments[0] == "embed":
                arguments = [*arguments[: arguments.index("--voice")], VOICE, FACE]
            if arguments[0] == "split":  # there are 16 identities
                arguments = ["split", "my_data", "--test", "4", "--folds", "2", "--val", "4", "--trials", "40"]
            if arguments[0] == "fit":
                arguments += ["--logger=null", "--pictures=false", "--model.directions=4"]
            if arguments[0] == "protocol":
                arguments += ["--methods=cca", "--model.directions=4"]
            assert main(arguments) == 0, command
        else:
            assert command[0].endswith("pip")
    assert {"heard", "unheard"} <= set(json.loads(Path("runs/mine/results.json").read_text()))
    assert len(json.loads(Path("runs/protocol/protocol.json").read_text())) > 0
    assert Path("report.html").stat().st_size > 10_000
