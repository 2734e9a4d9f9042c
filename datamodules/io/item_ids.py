"""Item ids and the paths by which lists refer to them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute as pc

from datamodules.endings import MEDIA
from datamodules.io.text import plain_name

_PERSON = re.compile(r"id\d+")


def stem(reference: str) -> str:
    """A path without its extension: ``id0001/English/v/00001.wav`` becomes ``id0001/English/v/00001``.

    Only the usual extensions of recordings, pictures and arrays are taken off: other parts of a name after a dot
    (``x.uttA``, ``clip_021.5``) belong to the id. Names are put into one Unicode form (NFC).
    """
    return re.sub(MEDIA, "", plain_name(reference).replace("\\", "/"))


def stems(references: Sequence[str] | NDArray[Any]) -> NDArray[np.object_]:
    """:func:`stem` of many references at once."""
    slashed = pc.replace_substring(pc.utf8_normalize(pa.array(references, pa.string()), "NFC"), "\\", "/")
    names: NDArray[np.object_] = pc.replace_substring_regex(slashed, MEDIA, "").to_numpy(zero_copy_only=False)
    return names


def media_fields(reference: str) -> tuple[str, str, str]:
    """(identity, language, video) of a MAV-Celeb media path, "" for what the path does not contain.

    Reads ``.../idNNNN/<Language>/<video>/<file>`` (v1 to v3) and ``.../<Language>/idNNN/<file>`` (v4). Paths of
    anonymous test files contain no identity.
    """
    parts = reference.replace("\\", "/").split("/")
    for i, part in enumerate(parts[:-1]):
        if _PERSON.fullmatch(part):
            after = parts[i + 1 : -1]
            if len(after) >= 2:
                return part, after[0], after[1]
            return part, parts[i - 1] if i else "", ""
    return "", "", ""


def unsafe(reference: str) -> str:
    """Why a reference must not be opened: it is absolute or leaves its folder; "" where it is safe."""
    parts = re.split(r"[/\\]", reference)
    if ".." in parts:
        return "leaves the data folder by '..'"
    if parts[0] == "" or re.match(r"[A-Za-z]:", reference):
        return "is absolute; give it relative to the data folder"
    return "" if reference.isprintable() else "contains an unprintable character"


def first_unsafe(references: pa.Array) -> int:
    """Position of the first reference that :func:`unsafe` refuses, -1 if there is none."""
    suspects = pc.match_substring_regex(references, r"\.\.|^[/\\]|^[A-Za-z]:|[^ -~]")
    for i in np.flatnonzero(suspects.to_numpy(zero_copy_only=False)):
        if unsafe(references[i].as_py()):
            return int(i)
    return -1
