"""The feature store: it reads what was written, caches it once, and joins files by item at unit length."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from datamodules.features import table as features
from datamodules.features.table import FeatureTable, open_feature_file
from datamodules.io.cache import cache_folder, cached_folder
from datamodules.io.feature_files import FeatureFile
from datamodules.schema import DataError
from tests.datamodules.feature_files_on_disk import ids, write_npz


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_rows_come_at_unit_length_or_as_they_are(tmp_path: Path) -> None:
    x = write_npz(tmp_path / "p.npz")["x"]
    rows = np.array([5, 0, 5])
    np.testing.assert_allclose(FeatureTable([f"{tmp_path}/p.npz"], "voice").read(rows), unit(x)[rows], atol=1e-6)
    np.testing.assert_array_equal(FeatureTable([f"{tmp_path}/p.npz"], "voice", normalise=False).read(rows), x[rows])


def test_zero_embedding_stays_zero(tmp_path: Path) -> None:
    x = np.ones((48, 3), dtype=np.float32)
    x[2] = 0
    write_npz(tmp_path / "p.npz", x=x)
    read = FeatureTable([f"{tmp_path}/p.npz"], "voice").array(np.arange(4))
    assert np.isfinite(read).all()
    assert not read[2].any()


def test_feature_files_are_joined_by_item_whatever_their_order(tmp_path: Path) -> None:
    first = write_npz(tmp_path / "a.npz", width=3)
    order = np.random.default_rng(1).permutation(48)
    second = write_npz(tmp_path / "b.npz", width=4, seed=2)
    shuffled = {name: value[order] for name, value in second.items()}
    np.savez(tmp_path / "b.npz", **shuffled)
    table = FeatureTable([f"{tmp_path}/a.npz", f"{tmp_path}/b.npz"], "voice")
    joined = np.concatenate([unit(first["x"]), unit(second["x"])], axis=1) / np.sqrt(2)
    np.testing.assert_allclose(table.array(np.arange(48)), joined, atol=1e-6)
    assert table.dim == 7
    assert table.items.ids.tolist() == ids(first)


def test_feature_files_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    whole = write_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **{name: value[3:] for name, value in whole.items()})
    with pytest.raises(DataError, match=r"b\.npz: lacks 3 items of .*a\.npz, first id0000/Alpha/v0A/00000"):
        FeatureTable([f"{tmp_path}/a.npz", f"{tmp_path}/b.npz"], "voice")
    assert len(FeatureTable([f"{tmp_path}/b.npz", f"{tmp_path}/a.npz"], "voice")) == 45
    for name, person in (("c", "p"), ("d", "q")):
        np.save(tmp_path / f"{name}.npy", np.ones((1, 2), dtype=np.float32))
        (tmp_path / f"{name}.csv").write_text(f"item,identity\nx,{person}\n")
    files = [FeatureFile(f"{tmp_path}/{name}.npy", f"{tmp_path}/{name}.csv") for name in "cd"]
    with pytest.raises(DataError, match=r"d\.npy: item x is q, but p in"):
        FeatureTable(files, "voice")
    with pytest.raises(DataError, match=r"data\.voices: names no feature file"):
        FeatureTable([], "voice")


def test_second_opening_maps_the_cache_and_a_changed_file_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_npz(tmp_path / "p.npz")
    first = open_feature_file(f"{tmp_path}/p.npz", "voice")
    assert isinstance(first.x, np.memmap)
    assert cache_folder() in Path(first.x.filename).parents
    with monkeypatch.context() as patch:
        patch.setattr(features, "read_feature_file", lambda *_: pytest.fail("read again"))
        again = open_feature_file(f"{tmp_path}/p.npz", "voice")
    np.testing.assert_array_equal(first.x, again.x)
    np.testing.assert_array_equal(first.items.ids, again.items.ids)
    changed = write_npz(tmp_path / "p.npz", seed=9)
    os.utime(tmp_path / "p.npz", ns=(0, 12345))
    np.testing.assert_array_equal(open_feature_file(f"{tmp_path}/p.npz", "voice").x, changed["x"])


def test_a_changed_index_is_read_again(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 2), dtype=np.float32))
    for item in ("short", "longer"):
        (tmp_path / "m.csv").write_text(f"item\n{item}\n")
        assert open_feature_file(FeatureFile(f"{tmp_path}/x.npy", f"{tmp_path}/m.csv"), "voice").items.ids.tolist() == [
            item
        ]


def test_a_damaged_cache_entry_is_made_again(tmp_path: Path) -> None:
    x = write_npz(tmp_path / "p.npz")["x"]
    entry = Path(open_feature_file(f"{tmp_path}/p.npz", "voice").x.filename)
    with entry.open("r+b") as file:
        file.truncate(100)
    with pytest.warns(UserWarning, match="damaged"):
        file = open_feature_file(f"{tmp_path}/p.npz", "voice")
    np.testing.assert_array_equal(file.x, x)
    (entry.parent / "ids.npy").unlink()
    with pytest.warns(UserWarning, match="damaged"):
        assert len(open_feature_file(f"{tmp_path}/p.npz", "voice").items) == 48


def test_without_a_cache_it_is_read_into_memory_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = write_npz(tmp_path / "p.npz")["x"]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(
        "VOICEFACE_CACHE", str(tmp_path / "file" / "cache")
    )  # below a file: no folder can be write there
    with pytest.warns(UserWarning, match="cannot be written .* set VOICEFACE_CACHE"):
        file = open_feature_file(f"{tmp_path}/p.npz", "voice")
    np.testing.assert_array_equal(file.x, x)
    assert not isinstance(file.x, np.memmap)


def test_a_full_disk_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> None:
        (folder / "x").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.warns(UserWarning, match="No space left"):
        assert cached_folder("full", "key", full) is None
    assert list((cache_folder() / "full").iterdir()) == []


def _open_in_child(path: str, out: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    out.put(float(open_feature_file(path, "voice").x.sum()))


def test_processes_that_open_at_once_agree(tmp_path: Path) -> None:
    write_npz(tmp_path / "p.npz", x=np.random.default_rng(0).normal(size=(48, 4000)).astype(np.float32))
    context = multiprocessing.get_context("fork")
    out = context.Queue()
    children = [context.Process(target=_open_in_child, args=(f"{tmp_path}/p.npz", out)) for _ in range(4)]
    for child in children:
        child.start()
    sums = {out.get(timeout=60) for _ in children}
    for child in children:
        child.join()
    assert len(sums) == 1
    entry = Path(open_feature_file(f"{tmp_path}/p.npz", "voice").x.filename).parent
    assert not [p for p in entry.parent.iterdir() if p.name.startswith(".")]


def test_paths_with_spaces_and_symlinks(tmp_path: Path) -> None:
    folder = tmp_path / "mit Leerzeichen und ü"
    folder.mkdir()
    x = write_npz(folder / "p.npz")["x"]
    (tmp_path / "link.npz").symlink_to(folder / "p.npz")
    np.testing.assert_array_equal(open_feature_file(f"{tmp_path}/link.npz", "voice").x, x)


def test_a_hundred_thousand_rows_open_in_milliseconds(tmp_path: Path) -> None:
    n = 100_000
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((n, 16), dtype=np.float32))
    rows = "".join(f"id{i % 999}/Alpha/v/{i:06d},id{i % 999}\n" for i in range(n))
    (tmp_path / "m.csv").write_text("item,identity\n" + rows)
    file = FeatureFile(f"{tmp_path}/x.npy", f"{tmp_path}/m.csv")
    open_feature_file(file, "voice")
    start = time.process_time()
    assert len(open_feature_file(file, "voice").items) == n
    assert time.process_time() - start < 0.1


def test_the_real_feature_files_open_at_once(shared_data: Path) -> None:
    paths = [str(shared_data / "mavceleb" / f"v1_voices_{name}.npz") for name in ("ecapa192", "resnet256")]
    assert len(FeatureTable(paths, "voice")) == 12290
    start = time.process_time()
    table = FeatureTable(paths, "voice")
    assert time.process_time() - start < 0.2
    np.testing.assert_allclose(table.read(np.arange(0, 12290, 97)).norm(dim=1), 1, atol=1e-5)
