"""A checkpoint that is there stays, whatever happens to the next one; a bad one is refused in a line."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest
import torch

from datamodules.io.writing import CannotWrite
from experiments.run import main
from experiments.runs.checkpoints import UNFINISHED, AtomicCheckpointIO, newest_checkpoint, read_checkpoint
from tests import REPOSITORY
from tests.faults.disks import disk
from tests.faults.processes import SHORT, TINY, paced, run, start, step, wait_until

CONTENT = {"state_dict": {"w": torch.zeros(250_000)}, "global_step": 1, "pytorch-lightning_version": "2.6"}  # 1 MB


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    assert main(["fit", "--config", str(TINY), "--no-test", f"--run_dir={folder}"]) == 0
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 3 MB."""
    with disk(tmp_path / "disk", 3) as folder:
        yield folder


def size(path: Path) -> int:
    """Bytes of a file that may go at any time."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def fill(file: FileIO) -> None:
    """Writes until the disk is full."""
    while True:
        file.write(bytes(65536))


@pytest.mark.processes
def test_kill_9_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path: Path) -> None:
    last = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CONTENT, last)
    writer = (
        "import sys, torch; from experiments.runs.checkpoints import AtomicCheckpointIO\n"
        "big = {'state_dict': {'w': torch.ones(50_000_000)}, 'global_step': 2, 'pytorch-lightning_version': '2.6'}\n"
        "print('writing', flush=True)\n"
        "while True: AtomicCheckpointIO().save_checkpoint(big, sys.argv[1])"
    )
    kills_in_the_middle = 0
    for _ in range(3):
        command = [sys.executable, "-c", writer, str(last)]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        drafts = last.parent.glob  # 200 MB take a while: it is in the middle
        while process.poll() is None and not any(size(path) > 1_000_000 for path in drafts(UNFINISHED)):
            pass
        process.kill()
        process.communicate()
        kills_in_the_middle += any(drafts(UNFINISHED))
        assert read_checkpoint(last)["global_step"] in (1, 2)
    assert kills_in_the_middle


def test_full_disk_keeps_the_checkpoint_before_and_ends_in_a_line(small_disk: Path) -> None:
    last = small_disk / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CONTENT, last)
    (small_disk / "filler").write_bytes(bytes(1_500_000))
    said = (
        r"last\.ckpt: cannot be written \(No space left on device\); the file that was there is as before; free space"
    )
    with pytest.raises(CannotWrite, match=said) as error:
        AtomicCheckpointIO().save_checkpoint(CONTENT | {"global_step": 2}, last)
    assert "\n" not in str(error.value)
    assert read_checkpoint(last)["global_step"] == 1
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.processes
def test_a_fit_on_a_full_disk_ends_in_a_line_and_goes_on_when_there_is_space(small_disk: Path) -> None:
    command = [*SHORT[:-3], "--data.steps_per_epoch=2", "--model.network.embedding_dim=64", f"--run_dir={small_disk}"]
    command += ["--logger=null", "--no-test", "--resume=auto", "--trainer.enable_model_summary=false"]
    status, output = run(*command, "--trainer.max_epochs=1")
    assert status == 0, output
    os.remove(small_disk / "trained.json")
    before = read_checkpoint(small_disk / "checkpoints" / "last.ckpt")["global_step"]
    with (small_disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="space"):
        fill(filler)
    status, output = run(*command)
    assert status == 2, output
    errors = [line for line in output.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "Traceback" not in output
    assert read_checkpoint(small_disk / "checkpoints" / "last.ckpt")["global_step"] == before
    os.remove(small_disk / "filler")
    status, output = run(*command)
    assert status == 0, output
    assert read_checkpoint(small_disk / "checkpoints" / "last.ckpt")["global_step"] == 3 * before


def test_resume_auto_takes_the_newest_loadable_checkpoint_and_clears_what_was_half_written(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny, tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    (tmp_path / "run" / "trained.json").unlink()
    last = checkpoints / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])  # truncated
    (checkpoints / ".last.ckpt.tmp").write_bytes(b"half")
    command = ["fit", "--config", str(TINY), f"--run_dir={tmp_path / 'run'}", "--resume=auto", "--no-test"]
    assert main([*command, "--trainer.max_epochs=3"]) == 0
    said = capsys.readouterr().out
    assert f"warning: {last}: damaged or not a checkpoint" in said
    assert f"resuming from {checkpoints / 'best.ckpt'}" in said
    assert sorted(path.name for path in checkpoints.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert read_checkpoint(last)["global_step"] == 12


def test_slurms_checkpoint_is_resumed_from_where_it_is_the_newest(tmp_path: Path) -> None:
    for name, steps in (("checkpoints/last.ckpt", 10), ("hpc_ckpt_1.ckpt", 12), ("checkpoints/best.ckpt", 5)):
        AtomicCheckpointIO().save_checkpoint(CONTENT | {"global_step": steps}, tmp_path / name)
    assert newest_checkpoint(tmp_path) == (tmp_path / "hpc_ckpt_1.ckpt", [])


class Malice:
    """Its unpickling writes a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return (os.system, (f"touch '{self.proof}'",))


def _spoil(good: Path, path: Path, how: str, proof: Path) -> None:
    content = read_checkpoint(good)
    weights = content["state_dict"]
    name = next(iter(weights))
    if how == "zero bytes":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    elif how == "junk":
        path.write_bytes(os.urandom(2000))
    elif how == "malicious pickle":
        path.write_bytes(pickle.dumps({"state_dict": Malice(proof)}))
    elif how == "malicious zip":
        torch.save({"state_dict": {name: Malice(proof)}}, path)
    elif how == "another size":
        torch.save(content | {"state_dict": weights | {name: torch.zeros(3, 5)}}, path)
    elif how == "partial":
        torch.save(content | {"state_dict": {k: v for k, v in weights.items() if k != name}}, path)
    elif how == "foreign":
        torch.save(content | {"state_dict": {"backbone.conv1": torch.zeros(3)}}, path)
    elif how == "weights alone":
        torch.save({"global_step": 8, "state_dict": weights}, path)
    else:
        torch.save(list(weights.values()), path)


BAD = {
    "zero bytes": "damaged or not a checkpoint",
    "truncated": "damaged or not a checkpoint",
    "junk": "not a checkpoint",
    "malicious pickle": "nothing in it was run",
    "malicious zip": "nothing in it was run",
    "another size": r"1 wrong shape: network\.\S+ \(3, 5\) for",
    "partial": r"1 missing: network\.",
    "foreign": r"4 missing: network\..*1 unexpected: backbone\.conv1",
    "weights alone": "it lacks pytorch-lightning_version",
    "a list": "no Lightning checkpoint",
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_checkpoint_is_refused_in_a_line_and_nothing_of_it_runs(
    how: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, proof = tmp_path / "bad.ckpt", tmp_path / "proof"
    _spoil(tiny / "checkpoints" / "last.ckpt", path, how, proof)
    command = ["fit", "--config", str(TINY), "--no-test", f"--run_dir={tmp_path / 'run'}", "--trainer.max_epochs=3"]
    assert main([*command, f"--ckpt_path={path}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"error: {path}"), error
    assert re.search(BAD[how], error), error
    assert not proof.exists()


@pytest.mark.parametrize("how", ["zero bytes", "junk", "malicious pickle", "malicious zip"])
def test_resume_auto_passes_over_a_bad_checkpoint(
    how: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proof, folder = tmp_path / "proof", tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    _spoil(tiny / "checkpoints" / "last.ckpt", folder / "last.ckpt", how, proof)
    command = ["fit", "--config", str(TINY), "--no-test", f"--run_dir={folder.parent}", "--resume=auto"]
    assert main(command) == 0
    assert "no checkpoint to resume from, starting from the beginning" in capsys.readouterr().out
    assert not proof.exists()
    assert read_checkpoint(folder / "last.ckpt")["global_step"] == 8


def test_a_moved_run_remembers_its_best_score(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "elsewhere"))
    last, best = (folder / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    content = torch.load(last, weights_only=True)
    (state,) = (found for name, found in content["callbacks"].items() if name.startswith("RunCheckpoint"))
    unbeaten = torch.tensor(-1.0)
    state |= {"best_model_score": unbeaten, "kth_value": unbeaten}
    state["best_k_models"] = dict.fromkeys(state["best_k_models"], unbeaten)
    torch.save(content, last)
    before = best.read_bytes()
    fit = ["fit", "--config", str(TINY), "--no-test", f"--ckpt_path={last}", "--trainer.max_epochs=3"]
    assert main([*fit, f"--run_dir={folder}"]) == 0
    assert best.read_bytes() == before
    states = read_checkpoint(last)["callbacks"]
    assert [s["best_model_path"] for name, s in states.items() if name.startswith("RunCheckpoint")] == [str(best)]
    # a run that only starts from these weights keeps its own best score
    assert main([*fit, f"--run_dir={tmp_path / 'other'}", "--trainer.max_epochs=4"]) == 0
    assert (tmp_path / "other" / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.processes
def test_a_killed_run_is_resumed_from_its_last_checkpoint(tmp_path: Path) -> None:
    command = [*SHORT, *paced(0.1), f"--run_dir={tmp_path}", "--resume=auto", "--no-test"]
    process = start(*command)
    wait_until(lambda: step(tmp_path)[0] >= 11, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 8
    status, output = run(*command)
    assert status == 0, output
    assert "resuming from" in output
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 24
