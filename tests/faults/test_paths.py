"""Folders with odd names, links, read-only data, and no room for temporary files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from experiments.run import main
from tests import warm
from tests.faults.disks import mounted
from tests.faults.worlds import feature_world, media_world, refusal

pytestmark = pytest.mark.processes

ODD = ["with spaces  two", "ünï-कोड-اردو", "a,b=c#d", 'quote\'s "here"', "$HOME {x} [y]"]
FIT = ["--data.val_identities=2"]


def fit(config: Path, run: Path, *options: str) -> list[str]:
    return ["fit", "--config", str(config), f"--run_dir={run}", *options]


def command(config: Path, run: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return warm.run(*fit(config, run, *options), environment=environment)


def assert_complete(run: Path) -> None:
    assert (run / "results.json").is_file()
    assert (run / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.parametrize("make", [feature_world, media_world])
@pytest.mark.parametrize("name", ODD)
def test_odd_folder_names_work_from_data_to_refined_results(
    make: Callable[[Path], Path], name: str, tmp_path: Path
) -> None:
    root = tmp_path / name
    run = root / "runs" / name
    config = make(root / "data")
    assert main(fit(config, run, *FIT, "--postproc=postproc/chaining.yaml", "--logger=logger/csv.yaml")) == 0
    assert_complete(run)
    assert list(run.rglob("metrics.csv"))
    again = root / "again"
    assert main(["test", "--config", str(run / "config.yaml"), "--ckpt_path=best", f"--run_dir={again}"]) == 0
    frames = [pd.read_parquet(folder / "scores.parquet") for folder in (run, again)]
    pd.testing.assert_frame_equal(*frames)
    assert main(["refine", str(run), "--postproc=postproc/centring.yaml"]) == 0


def test_links_are_followed(tmp_path: Path) -> None:
    world = tmp_path / "world"
    config = feature_world(world)
    (tmp_path / "elsewhere").mkdir()
    shutil.move(world / "voices.npy", tmp_path / "elsewhere" / "x.npy")
    (world / "voices.npy").symlink_to(tmp_path / "elsewhere" / "x.npy")
    (tmp_path / "link").symlink_to(world)
    (tmp_path / "runs").mkdir()
    (tmp_path / "to-runs").symlink_to(tmp_path / "runs")
    assert (
        main(fit(tmp_path / "link" / config.name, tmp_path / "to-runs" / "a", f"--data.root={tmp_path / 'link'}")) == 0
    )
    assert_complete(tmp_path / "runs" / "a")


def test_a_broken_link_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = feature_world(tmp_path / "world")
    path = tmp_path / "world" / "voices.npy"
    path.unlink()
    path.symlink_to(tmp_path / "gone.npy")
    assert f"feature file {path}: no such file" in refusal(fit(config, tmp_path / "run"), capsys)


@pytest.mark.parametrize("make", [feature_world, media_world])
def test_read_only_data_are_enough(
    make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, data = tmp_path / "source", tmp_path / "data"
    make(source)
    config = tmp_path / "world.yaml"
    config.write_text((source / "world.yaml").read_text().replace(str(source), str(data)))
    with mounted(data, "--bind", "-o", "ro", str(source)):
        if os.access(data, os.W_OK):
            subprocess.run(["mount", "-o", "remount,ro,bind", str(data)], check=True)
        with pytest.raises(OSError, match="Read-only"):
            (data / "x").touch()
        monkeypatch.chdir(data)  # nothing is written beside the data, nor into the current folder
        assert main(fit(config, tmp_path / "run", *FIT)) == 0
    assert_complete(tmp_path / "run")


def test_a_read_only_run_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = feature_world(tmp_path / "world")
    with mounted(tmp_path / "ro", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs") as folder:
        line = refusal(fit(config, folder / "run"), capsys)
    assert line == f"run folder {folder / 'run'}: Read-only file system; choose another with --run_dir"


@pytest.mark.parametrize("make", [feature_world, media_world])
def test_a_full_temporary_folder_and_cache_do_not_stop_a_run(make: Callable[[Path], Path], tmp_path: Path) -> None:
    config = make(tmp_path / "world")
    with mounted(tmp_path / "full", "-t", "tmpfs", "-o", "size=3m", "tmpfs") as folder:
        with (folder / "filler").open("wb", buffering=0) as file:
            while os.statvfs(folder).f_bavail:
                file.write(b"\0" * 4096)
        done = command(
            config, tmp_path / "run", *FIT, "--data.num_workers=2", "--postproc=postproc/chaining.yaml",
            TMPDIR=str(folder), VOICEFACE_CACHE=str(folder / "cache"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        if make is feature_world:
            said = f"warning: cache folder {folder / 'cache'} cannot be written (No space left on device)"
            assert done.stderr.count(said) >= 1
            assert "set VOICEFACE_CACHE to a folder with free space" in done.stderr
    assert_complete(tmp_path / "run")
