"""Which voice and which face come from the same clip."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.features import FeaturePack, FeatureTable
from datamodules.schema import DataError, Items

_CLIP = ("identity", "language", "video")


def clip_pairs(voices: FeatureTable, faces: FeatureTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a voice and a face of the same clip.

    Row i of both packs is a pair where the files are row-aligned: as many rows, and either the same index or the same
    identity, language and video in every row. Otherwise the voices and the faces of each (identity, language, video)
    are paired in order of their ids, the shorter side starting over, so that each occurs at least once; an item whose
    rows name several languages or videos is among those of each. Where no video is known, a person's clips in a
    language count as one video.

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
        if same_index or (
            np.array_equal(voices.items.identity[voice], faces.items.identity[face])
            and np.array_equal(first_voices.language, first_faces.language)
            and np.array_equal(first_voices.video, first_faces.video)
        ):
            return np.asarray(voice), np.asarray(face)
    (own, voice_of), (other, face_of) = _uses(first_voices), _uses(first_faces)
    voice, face = pairs_by_video(own, other)
    if len(voice) == 0:
        raise DataError(
            f"feature packs {first_voices.pack.path} and {first_faces.pack.path} have no identity, language and video "
            "in common; give both an index that names them"
        )
    return voice_of[voice], face_of[face]


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


def _uses(pack: FeaturePack) -> tuple[Items, NDArray[np.int64]]:
    """Every item with each language and video that rows name for it, and the item of each of these."""
    rows = pd.DataFrame({"item": pack.item_of_row, "language": pack.language, "video": pack.video}).drop_duplicates()
    item, items = rows["item"].to_numpy(), pack.items
    language, video = (np.asarray(getattr(pack, name))[rows.index] for name in ("language", "video"))
    return Items(items.ids[item], items.identity[item], language, items.gender[item], video), item


def _frame(items: Items) -> pd.DataFrame:
    return pd.DataFrame({"id": items.ids, **{name: getattr(items, name) for name in _CLIP}}, dtype=object)
