"""Pairs voices and faces that come from the same clip or video."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.schema import Items

_CLIP = ("identity", "language", "video")


def pairs_by_video(voices: Items, faces: Items) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs voices and faces of the same (identity, language, video), in order of their ids.

    Where there are fewer voices than faces, or fewer faces than voices, the fewer are used repeatedly, so each item
    occurs at least once.

    Returns:
        (n,) rows of ``voices`` and (n,) rows of ``faces``; n may be 0.
    """
    voice_table, face_table = _frame(voices), _frame(faces)
    groups = pd.concat([voice_table, face_table]).groupby(list(_CLIP), sort=False).ngroup().to_numpy()
    voice_group, face_group = groups[: len(voices)], groups[len(voices) :]
    size = int(groups.max()) + 1
    voice_order, face_order = (
        np.lexsort((frame["id"], group)) for frame, group in ((voice_table, voice_group), (face_table, face_group))
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
