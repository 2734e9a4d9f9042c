"""Pairs of voices and faces."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from datamodules.features.module import clip_pairs
from datamodules.features.table import FeatureTable
from datamodules.io.feature_files import FeatureFile
from datamodules.schema import DataError
from tests.datamodules.feature_files_on_disk import write_npz


def table(tmp_path: Path, name: str, rows: list[str]) -> FeatureTable:
    """A table of items ``person/language/video/item``."""
    np.save(tmp_path / f"{name}.npy", np.arange(2 * len(rows), dtype=np.float32).reshape(-1, 2) + 1)
    lines = [f"{row},{','.join(row.split('/')[:3])}" for row in rows]
    (tmp_path / f"{name}.csv").write_text("item,identity,language,video\n" + "\n".join(lines) + "\n")
    return FeatureTable([FeatureFile(f"{tmp_path}/{name}.npy", f"{tmp_path}/{name}.csv")], "voice")


def named(voices: FeatureTable, faces: FeatureTable) -> list[tuple[str, str]]:
    voice, face = clip_pairs(voices, faces)
    return list(zip(voices.items.ids[voice].tolist(), faces.items.ids[face].tolist(), strict=True))


def test_rows_of_the_same_clip_are_pairs_though_ids_differ(tmp_path: Path) -> None:
    arrays = write_npz(tmp_path / "v.npz")
    write_npz(tmp_path / "f.npz", item=np.array([f"{int(i) * 25:07d}" for i in arrays["item"]]))
    voices, faces = FeatureTable([f"{tmp_path}/v.npz"], "voice"), FeatureTable([f"{tmp_path}/f.npz"], "face")
    voice, face = clip_pairs(voices, faces)
    np.testing.assert_array_equal(voice, np.arange(48))
    np.testing.assert_array_equal(face, np.arange(48))


def test_otherwise_videos_are_paired_and_the_shorter_side_starts_over(tmp_path: Path) -> None:
    voices = table(tmp_path, "v", ["p/A/x/2", "p/A/x/1", "p/A/y/1", "q/A/x/1", "p/B/x/1"])
    faces = table(tmp_path, "f", ["q/A/x/9", "p/A/x/7", "p/A/x/8", "p/A/x/9", "r/A/x/1", "p/A/z/1"])
    assert Counter(named(voices, faces)) == Counter(
        [("p/A/x/1", "p/A/x/7"), ("p/A/x/2", "p/A/x/8"), ("p/A/x/1", "p/A/x/9"), ("q/A/x/1", "q/A/x/9")]
    )


def test_pairs_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    voice_rows = [f"p{i % 3}/A/v{i % 2}/{i}" for i in range(12)]
    face_rows = [f"p{i % 3}/A/v{i % 2}/f{i}" for i in range(18)]
    first = named(table(tmp_path, "v", voice_rows), table(tmp_path, "f", face_rows))
    assert sorted(first) == sorted(named(table(tmp_path, "w", voice_rows[::-1]), table(tmp_path, "g", face_rows[::-1])))
    assert {face for _, face in first} == set(face_rows)
    assert {voice for voice, _ in first} == set(voice_rows)


def test_lines_of_a_shared_list_are_pairs_whatever_the_videos(tmp_path: Path) -> None:
    lines = [("id0001/U/a/1.wav", "id0002/U/b/1.jpg"), ("id0001/U/a/2.wav", "id0002/U/c/1.jpg")]
    (tmp_path / "train.txt").write_text("".join(f"v1/voices/{v} v1/faces/{f}\n" for v, f in lines))
    np.save(tmp_path / "x.npy", np.eye(2, dtype=np.float32))
    file = FeatureFile(f"{tmp_path}/x.npy", f"{tmp_path}/train.txt")
    pairs = named(FeatureTable([file], "voice"), FeatureTable([file], "face"))
    assert pairs == [(f"v1/voices/{v[:-4]}", f"v1/faces/{f[:-4]}") for v, f in lines]


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no identity, language and video in common"):
        clip_pairs(table(tmp_path, "v", ["p/A/x/1"]), table(tmp_path, "f", ["q/A/x/1", "q/A/x/2"]))
