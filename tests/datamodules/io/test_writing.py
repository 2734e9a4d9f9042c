"""Files that are written as a whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datamodules.io.writing import draft_of, write_array, write_arrays, write_csv, write_json, write_text
from datamodules.schema import DataError

WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text(path, "new"),
    "json": lambda path: write_json(path, {"x": np.arange(3)}),
    "csv": lambda path: write_csv(path, pd.DataFrame({"a": [1]})),
    "npy": lambda path: write_array(path, np.arange(3)),
    "npz": lambda path: write_arrays(path, x=np.arange(3)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_has_the_usual_permissions_and_leaves_no_draft(name: str, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        WRITERS[name](tmp_path / f"file.{name}")
    finally:
        os.umask(before)
    assert [path.name for path in tmp_path.iterdir()] == [f"file.{name}"]
    assert stat.S_IMODE((tmp_path / f"file.{name}").stat().st_mode) == 0o644


@pytest.mark.parametrize("name", WRITERS)
def test_where_a_folder_has_the_name_it_says_so(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(
        DataError, match=r"file: cannot be written \(Is a directory\); free space there or name another"
    ):
        WRITERS[name](tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fails_leaves_the_file_that_was_there(code: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write() -> None:
        with draft_of(path) as draft:
            draft.write_text("half of the n")
            raise OSError(code, os.strerror(code))

    with pytest.raises(DataError, match="; the file that was there is as before") as caught:
        write()
    assert os.strerror(code) in str(caught.value)
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_errors_of_other_files_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), draft_of(tmp_path / "file"):
        (tmp_path / "other").read_text()


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_devices_are_written_to_and_stay(tmp_path: Path) -> None:
    write_text(Path(os.devnull), "nothing")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("name", ["\u0627" * 125, "x" * 250])
def test_any_name_that_the_disk_takes_is_written(name: str, tmp_path: Path) -> None:
    write_text(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        write_text(tmp_path / "none" / "file", "text")
