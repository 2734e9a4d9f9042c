"""Shards: what is read from them is what the files hold, and what is wrong with them is one line."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from PIL import Image

from datamodules.evaluation.conditions import CellSpec
from datamodules.io.media import read_audio, read_image
from datamodules.io.shards import INDEX, making, opened, shard_paths, shards_of, write_shards
from datamodules.io.writing import CannotWrite
from datamodules.media.manifest import ManifestDataModule
from datamodules.schema import DataError
from experiments.run import main
from tests.datamodules.media.test_manifest import module, rows, write
from tests.datamodules.media_tree import make_training

SMALL_SHARD = 20_000  # bytes: several of the test's files
TEST = {"heard": CellSpec(identities=["p4", "p5"], language="xx")}


def sharded(manifest: str, folder: Path) -> str:
    """A copy of a manifest with shards, without its files."""
    table, copy = pd.read_csv(manifest), folder / "manifest.csv"
    items = [*table["voice"], *table["face"]]
    assert write_shards(Path(manifest).parent, items, shards_of(copy), SMALL_SHARD) > 3
    shutil.copy(manifest, copy)
    return str(copy)


@pytest.fixture
def both(tmp_path: Path) -> tuple[str, str]:
    """A manifest with files, and the same with shards."""
    manifest = write(tmp_path / "files", rows())
    return manifest, sharded(manifest, tmp_path / "shards")


def batches(data: ManifestDataModule, start: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    loader: Any = data.train_dataloader()
    if start is not None:
        loader.load_state_dict(start)
    return [dict(batch) for batch in loader]


def assert_same(found: Any, expected: Any) -> None:
    assert len(found) == len(expected) > 0
    for batch, other in zip(found, expected, strict=True):
        assert batch.keys() == other.keys()
        for name, value in batch.items():
            torch.testing.assert_close(value, other[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_and_test_items_are_those_of_the_files(both: tuple[str, str], workers: int) -> None:
    options = {"batch_size": 2, "steps_per_epoch": 5, "test": TEST, "exclude_identities": ["p4", "p5"]}
    files, shards = (module(manifest, **options, num_workers=workers) for manifest in both)
    expected = batches(files)
    assert_same(batches(shards), expected)
    for side in (0, 1):
        loaders = files.test_dataloader()[side], shards.test_dataloader()[side]
        assert_same([dict(batch) for batch in loaders[1]], [dict(batch) for batch in loaders[0]])
    loader: Any = files.train_dataloader()
    iterator = iter(loader)
    next(iterator), next(iterator)
    assert_same(batches(module(both[1], **options), loader.state_dict()), expected[2:])


def test_every_format_reads_as_from_its_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wave, colours = 0.1 * rng.standard_normal((9000, 2)), rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    voices = [f"v/a b.{kind}" for kind in ("wav", "flac", "ogg", "mp3")] + ["v/ä.wav", "v/" + "long" * 40 + ".x.wav"]
    faces = [f"f/{kind}.{kind}" for kind in ("jpg", "png", "bmp", "webp")]
    for folder in ("v", "f"):
        (tmp_path / folder).mkdir()
    for name in voices:
        soundfile.write(tmp_path / name, wave, 22_050)
    for name in faces:
        Image.fromarray(colours).save(tmp_path / name)
    piped = (tmp_path / "v/a b.wav").read_bytes()
    (tmp_path / "v/piped.wav").write_bytes(piped[:40] + b"\xff" * 4 + piped[44:])  # declares no length
    voices.append("v/piped.wav")
    write_shards(tmp_path, voices + faces, tmp_path / "set.shards", SMALL_SHARD)
    paths = shard_paths(tmp_path / "set.shards", voices + faces)
    for name, path in zip(voices, paths, strict=False):
        for found, crop in zip(*(read_audio(p, 3000, [0.2, 1]) for p in (path, tmp_path / name)), strict=True):
            np.testing.assert_array_equal(found, crop)
    for name, path in zip(faces, paths[len(voices) :], strict=True):
        np.testing.assert_array_equal(np.asarray(read_image(path)), np.asarray(read_image(tmp_path / name)))
    assert list(members(tmp_path / "set.shards")) == voices + faces


def members(folder: Path) -> dict[str, tuple[Path, int]]:
    """The shard and the place of each item, as tar files have them."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            found |= {member.name: (path, member.offset_data) for member in tar}
    return found


def test_a_file_that_is_no_recording_is_named_as_on_disk(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no recording" * 9)
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    write_shards(tmp_path, ["a.wav", "a.jpg"], tmp_path / "set.shards")
    voice, face = shard_paths(tmp_path / "set.shards", ["a.wav", "a.jpg"])
    for read, path, plain in (
        (lambda p: read_audio(p, 1, [0]), voice, tmp_path / "a.wav"),
        (read_image, face, tmp_path / "a.jpg"),
    ):
        said = []
        for each in (path, plain):
            with pytest.raises(DataError) as caught:
                read(each)
            said.append(str(caught.value).removeprefix(str(each)))
        assert said[0] == said[1] != ""


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda shard, item: shard.unlink(), r"000\d\d\.tar: there is no such shard; it lacks \d+ files, such as wav"),
        (lambda shard, item: os.truncate(shard, 4000), r"000\d\d\.tar: has 4,000 of at least [\d,]+ bytes; it lacks"),
        (lambda shard, item: (shard.unlink(), os.mkfifo(shard)), r"000\d\d\.tar: is no file"),
        (lambda shard, item: (shard.parent / INDEX).write_bytes(b"PAR1 no"), r"index.*not a readable parquet file"),
        (lambda shard, item: pd.DataFrame({"item": ["a"]}).to_parquet(shard.parent / INDEX), "not a readable parquet"),
        (
            lambda shard, item: pd.read_parquet(shard.parent / INDEX).query("item != @item").to_parquet(
                shard.parent / INDEX
            ),
            r"1 of 24 files of the manifest are in no shard: wav/p0_xx_1\.wav; run prepare --shards again",
        ),
        (lambda shard, item: (shard.parent / INDEX).unlink(), r"24 of 24 voice files are missing .*copy index.parquet"),
    ],
)  # fmt: skip
def test_shards_that_lack_something_are_named_at_the_start(both: tuple[str, str], damage: Any, said: str) -> None:
    shard, _ = members(shards_of(both[1]))["wav/p0_xx_1.wav"]
    damage(shard, "wav/p0_xx_1.wav")
    with pytest.raises(DataError, match=said) as caught:
        module(both[1]).training_set()
    assert "\n" not in str(caught.value)


def test_damage_within_a_shard_names_shard_and_item(both: tuple[str, str]) -> None:
    (path,) = shard_paths(shards_of(both[1]), ["wav/p2_xx_1.wav"])
    shard, start = members(shards_of(both[1]))["wav/p2_xx_1.wav"]
    with shard.open("r+b") as file:
        file.seek(start + 3000)  # samples, whose damage no decoder sees
        file.write(b"\0\0\0\0")
    data = module(both[1], val_identities=["p4", "p5"], batch_size=4, steps_per_epoch=30)
    said = r"000\d\d\.tar/wav/p2_xx_1\.wav: is damaged in its shard 000\d\d\.tar; copy it again"
    with pytest.raises(DataError, match=said):
        batches(data)
    os.truncate(shard, start + 100)
    with pytest.raises(DataError, match=r"wav/p2_xx_1\.wav: its shard ends \d+ bytes too early; copy it again"):
        opened(path)
    with pytest.raises(DataError, match=r"other\.wav: is not in its shard"):
        opened(path.with_name("other.wav"))


def test_copies_are_found_in_shards(tmp_path: Path) -> None:
    table = rows()
    manifest = write(tmp_path / "files", table)
    shutil.copy(tmp_path / "files/wav/p0_xx_0.wav", tmp_path / "files/wav/p4_xx_0.wav")
    said = []
    for each in (manifest, sharded(manifest, tmp_path / "shards")):
        with pytest.raises(DataError) as caught:
            module(each, test=TEST, exclude_identities=["p4", "p5"]).setup("fit")
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "wav/p4_xx_0" in said[0]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make_training(tmp_path, "v1", ("English",), people=3, clips=2)  # type: ignore[arg-type]
    return tmp_path / "v1"


def test_prepare_writes_shards_that_stand_for_the_files(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "English_train.txt").unlink()
    out = tmp_path / "set" / "manifest.csv"
    command = ["prepare", str(tree), "--out", str(out), "--workers", "1"]
    assert main([*command, "--shards"]) == 0
    assert f"{out.with_suffix('.shards')}: 12 files in 1 shard\n" in capsys.readouterr().out
    assert sorted(path.name for path in out.parent.rglob("*")) == [
        "00000.tar", "index.parquet", "manifest.csv", "manifest.shards",
    ]  # fmt: skip
    assert main(command) == 2  # shards would not be those of the manifest any more
    assert "manifest.shards: holds the files of the manifest; add --shards, remove it" in capsys.readouterr().err
    shutil.rmtree(tree)
    assert len(ManifestDataModule(str(out), ["English"], val_identities=0).training_set().identity) == 6


def kept(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_shards_that_are_not_finished_leave_the_earlier_ones(
    both: tuple[str, str], error: BaseException, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    items = [row["voice"] for row in rows()]
    folder, new = shards_of(both[1]), tmp_path / "new" / "m.shards"
    before, add = kept(folder), tarfile.TarFile.addfile

    def fails(tar: tarfile.TarFile, member: tarfile.TarInfo, file: io.BytesIO) -> None:
        if member.name == items[-1]:
            raise error
        add(tar, member, file)

    monkeypatch.setattr(tarfile.TarFile, "addfile", fails)
    for place in (folder, new):
        with pytest.raises((KeyboardInterrupt, CannotWrite)):
            write_shards(Path(both[0]).parent, items, place, SMALL_SHARD)
    assert kept(folder) == before
    assert not new.exists()
    monkeypatch.undo()
    assert write_shards(Path(both[0]).parent, items[:2], folder) == 1
    assert sorted(kept(folder)) == ["00000.tar", INDEX]  # those that there were more of are gone


def test_shards_take_no_folder_of_other_work(tmp_path: Path) -> None:
    (tmp_path / "m.shards").mkdir()
    making.refuse_stale(tmp_path / "m.shards", again=True)
    (tmp_path / "m.shards" / "notes").touch()
    with pytest.raises(CannotWrite, match=r"m\.shards: holds notes and no index\.parquet; remove it"):
        making.refuse_stale(tmp_path / "m.shards", again=True)
    with pytest.raises(DataError, match=r"gone\.wav: cannot be read \(No such file or directory\); is it still there"):
        write_shards(tmp_path, ["gone.wav"], tmp_path / "n.shards")
    assert not (tmp_path / "n.shards").exists()
