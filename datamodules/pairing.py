"""Which voice and which face come from the same clip."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.features import FeatureTable
from datamodules.schema import DataError, Items

_CLIP = ("identity", "language", "video")


def clip_pairs(voices: FeatureTable, faces: FeatureTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a voice and a face of the same clip.

    Row i of both packs is a pair where the files are row-aligned: as many rows, and either the same index or the same
    identity, language and video in every row. Otherwise the voices and the faces of each (identity, language, video)
    are paired in order of their ids, the shorter side starting over, so that each occurs at least once. Where no video
    is known, a person's clips in a language count as one video.

    Returns:
        (n,) items of ``voices`` and (n,) items of ``faces``.

    Raises:
        DataError: not one pair.
    """
    first_voices, first_faces = voices.packs[0], faces.packs[0]
    voice, face = first_voices.item_of_row, first_faces.item_of_row
    if len(voice) == len(face):
        index = first_voices.pack.index
        same_index = index is not None and index == first_faces.pack.index
        if same_index or all(
            np.array_equal(getattr(voices.items, name)[voice], getattr(faces.items, name)[face]) for name in _CLIP
        ):
            return np.asarray(voice), np.asarray(face)
    voice, face = pairs_by_video(voices.items, faces.items)
    if len(voice) == 0:
        raise DataError(
            f"feature packs {first_voices.pack.path} and {first_faces.pack.path} have no identity, language and video "
            "in common; give both an index that names them"
        )
    return voice, face


def pairs_by_video(voices: Items, faces: Items) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs within each (identity, language, video), see :func:`clip_pairs`; rows (n,) and (n,), perhaps none."""
    own, other = _frame(voices), _frame(faces)
    groups = pd.concat([own, other]).groupby(list(_CLIP), sort=False).ngroup().to_numpy()
    voice_group, face_group = groups[: len(own)], groups[len(own) :]
    size = int(groups.max()) + 1
    voice_order, face_order = (
        np.lexsort((frame["id"], group)) for frame, group in ((own, voice_group), (other, face_group))
    )
    voice_count, face_count = np.bincount(voice_group, minlength=size), np.bincount(face_group, minlength=size)
    both = (voice_count > 0) & (face_count > 0)
    length = np.where(both, np.maximum(voice_count, face_count), 0)
    group = np.repeat(np.arange(size), length)
    turn = np.arange(len(group)) - np.repeat(np.cumsum(length) - length, length)
    voice = voice_order[(np.cumsum(voice_count) - voice_count)[group] + turn % voice_count[group]]
    face = face_order[(np.cumsum(face_count) - face_count)[group] + turn % face_count[group]]
    return voice, face


def _frame(items: Items) -> pd.DataFrame:
    return pd.DataFrame({"id": items.ids, **{name: getattr(items, name) for name in _CLIP}}, dtype=object)
