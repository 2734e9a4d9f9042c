"""Files that are written as a whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datamodules.io.writing import (
    CannotWrite,
    draft_of,
    remove_file,
    together,
    write_array,
    write_arrays,
    write_csv,
    write_json,
    write_parquet,
    write_text,
)

WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text(path, "new"),
    "json": lambda path: write_json(path, {"x": np.arange(3)}),
    "csv": lambda path: write_csv(path, pd.DataFrame({"a": [1]})),
    "parquet": lambda path: write_parquet(path, pd.DataFrame({"a": [1]})),
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
    with pytest.raises(CannotWrite, match=r"file: cannot be written \(Is a directory\); name another place$"):
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

    with pytest.raises(CannotWrite, match="; the file that was there is as before") as caught:
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
    with pytest.raises(CannotWrite, match="there is no such folder"):
        write_text(tmp_path / "none" / "file", "text")


def test_a_link_to_itself_is_said(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(CannotWrite, match="link: is a link that leads to itself"):
        write_text(tmp_path / "link", "text")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def spoilt_set(out: Path) -> None:
    with together(out):
        write_text(out / "a", "new")
        remove_file(out / "gone")
        with draft_of(out / "b"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_files_of_a_set_come_together_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with pytest.raises(CannotWrite, match="b: cannot be written"):
        spoilt_set(out)
    assert names(tmp_path) == []
    with together(out):
        write_text(out / "a", "old")
        write_text(out / "b", "old")
        write_text(out / "gone", "old")
        assert not (out / "a").exists()
    with pytest.raises(CannotWrite):
        spoilt_set(out)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"a": "old", "b": "old", "gone": "old"}
    with together(out):
        remove_file(out / "gone")
        write_text(out / "a", "new")
        write_text(out / "b", "new")
    assert {path.name: path.read_text() for path in out.iterdir()} == {"a": "new", "b": "new"}


def test_old_and_new_files_of_a_set_never_stand_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However early a set is cut off while its files take their places, those that are there are of one set."""

    class Killed(BaseException):
        pass

    def write(text: str) -> None:
        with together(tmp_path):
            for name in "abc":
                write_text(tmp_path / name, text)

    def counted(method: Callable[..., object]) -> Callable[..., object]:
        def call(path: Path, *arguments: object, **options: object) -> object:
            if next(left, None) is None:
                raise Killed
            return method(path, *arguments, **options)

        return call

    seen = []
    for steps in range(6):
        write("old")
        left = iter(range(steps))
        with monkeypatch.context() as patch:
            for name in ("unlink", "replace"):
                patch.setattr(Path, name, counted(getattr(Path, name)))
            with pytest.raises(Killed):
                write("new")
        seen.append("".join(path.read_text()[0] + path.name for path in sorted(tmp_path.glob("?"))))
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
    assert seen == ["oaoboc", "oaob", "oa", "", "na", "nanb"]


def test_drafts_of_killed_processes_go_with_the_next_file(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with draft_of(tmp_path / "file") as draft:
            draft.write_text("half")
            os._exit(9)
    os.waitpid(child, 0)
    (abandoned,) = tmp_path.iterdir()
    elsewhere = tmp_path / abandoned.name.replace("@", "@another-", 1)
    elsewhere.write_text("of a process of another machine")
    write_text(tmp_path / "other", "text")
    assert names(tmp_path) == sorted([elsewhere.name, "other"])
