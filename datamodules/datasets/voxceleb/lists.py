"""The public test lists of VoxCeleb1, in the layouts of CMPC and of Wen et al."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.datasets.voxceleb.people import People, Split, read_tab_table
from datamodules.evaluation.conditions import CellSpec
from datamodules.io.rankings import read_matching, read_retrieval
from datamodules.io.tables import read_table
from datamodules.io.text import blank_separated_rows, read_text
from datamodules.schema import DataError, Modality, RankingList, Trials

_WAYS: dict[str, Modality] = {"v2f": "voice", "f2v": "face"}
_CMPC_COLUMNS = ("id", "label", "voice-path", "face-path")


def public_tests(split: Split, test_people: list[str]) -> dict[str, CellSpec]:
    """The tests of a split: those with public lists, and 1:10 matching, which has no public list and is drawn by seed.

    Names begin with the split: ``pins/unseen/G`` is verification of unseen identities with negatives of the same gender
    (U = unrestricted, N = nationality, A = age), ``pins/matching/v2f/U`` is 1:2 matching. Of Wen et al. the public
    lists from voice to face are used. ``wen/retrieval/f2v_swapped`` is such a list with queries and gallery swapped;
    1:2 matching is drawn.

    Args:
        split: name of the split.
        test_people: its test identities.
    """
    tests: dict[str, CellSpec] = {}
    if split == "pins":
        for heard, known in (("unseen", "unseenunheard"), ("seen", "seenheard")):
            for stratum in ("U", "G", "N", "A", "GNA"):
                kind = "random" if stratum == "U" else stratum
                path = f"cmpc/veriflist/veriflist_test_{kind}_{known}.txt"
                tests[f"pins/{heard}/{stratum}"] = CellSpec(trials=path, seen=heard == "seen")
        for way, probe in _WAYS.items():
            for stratum in ("U", "G", "N", "GN"):
                path = f"cmpc/matching/matching_{way}_{stratum}.csv"
                tests[f"pins/matching/{way}/{stratum}"] = CellSpec(trials=path, task="matching", probe=probe)
            tests[f"pins/retrieval/{way}"] = CellSpec(trials="cmpc/retrieval", task="retrieval", probe=probe)
    else:
        tests["wen/unseen/v2f"] = CellSpec(trials="wen/verify_v2f_test.txt")
        for name, probe in (("v2f", "voice"), ("f2v_swapped", "face")):
            path = "wen/reterival_v2f_test.txt"
            tests[f"wen/retrieval/{name}"] = CellSpec(trials=path, task="retrieval", probe=probe)
    for way, probe in _WAYS.items():
        for candidates in (2, 10) if split == "wen" else (10,):
            made = CellSpec(identities=test_people, task="matching", probe=probe, candidates=candidates)
            tests[f"{split}/made/{way}/1of{candidates}_U"] = made
            tests[f"{split}/made/{way}/1of{candidates}_G"] = replace(made, same_gender=True)
    return tests


def read_verification(path: str | Path, people: People) -> Trials:
    """Reads a verification list; references become item ids.

    The list is either CMPC's CSV, ``id,voice-speaker-id,face-speaker-id,label,voice-path,face-path``, or Wen's
    ``<voice> <face>``. Labels are made by comparing identities; those of the CSV must agree.

    Raises:
        DataError: an unreadable list, a missing line or column, an unknown identity, or a label that contradicts the
            paths.
    """
    where = f"verification list {path}"
    text = read_text(path, "verification list")
    listed: NDArray[np.str_] | None = None
    if "," in text.partition("\n")[0]:
        table = _cmpc_table(path)
        keys = table["id"].to_numpy(dtype=np.str_)
        if len(set(keys.tolist())) < len(keys):
            raise DataError(f"{where}: an id occurs twice")
        listed = table["label"].to_numpy(dtype=np.str_)
        pairs = table[["voice-path", "face-path"]].to_numpy(dtype=np.str_)
    else:
        rows, lines = blank_separated_rows(text)
        for row, line in zip(rows, lines, strict=True):
            if len(row) != 2:
                raise DataError(f"{where}, line {line}: {len(row)} columns; expected '<voice> <face>'")
        if not rows:
            raise DataError(f"{where}: is empty")
        pairs = np.array(rows, dtype=np.str_)
        keys = np.array([str(line) for line in lines], dtype=np.str_)
    voices, faces = (people.items(column, where) for column in pairs.T)
    labels = (_identity(voices) == _identity(faces)).astype(np.int8)
    if listed is not None:
        wrong = np.flatnonzero(listed != labels.astype(np.str_))
        if wrong.size:
            i = wrong[0]
            raise DataError(f"{where}, id {keys[i]}: label {listed[i]}, but the paths are {voices[i]} and {faces[i]}")
    return Trials(keys, voices, faces, labels, where)


def read_languages(path: str | Path, people: People) -> dict[str, str]:
    """Reads the languages of clips: a CSV ``item, language``, by path, or ``video, language``, by id of the video.

    Raises:
        DataError: an unreadable file, a missing column, an unknown identity, or an item with two languages.
    """
    where = f"languages {path}"
    table = read_table(path, "languages")
    column = next((name for name in ("item", "video") if name in table.columns), None)
    if column is None or "language" not in table.columns:
        raise DataError(f"{where}: columns {', '.join(table.columns)}; expected item, language or video, language")
    names = table[column].to_numpy(dtype=np.str_)
    languages: dict[str, str] = {}
    for name, language in zip(
        people.items(names, where) if column == "item" else names, table["language"], strict=True
    ):
        if languages.setdefault(str(name), language) != language:
            raise DataError(f"{where}: {name} is {languages[str(name)]} in one row and {language} in another")
    return languages


def read_ranking(path: str | Path, spec: CellSpec, people: People) -> RankingList:
    """Reads a matching list, or a retrieval: CMPC's folder of ``wav_20k.csv`` and ``jpg_20k.csv``, or Wen's two lines.

    Wen's lines are voices, then faces; if faces are the probes, the two are swapped.

    Raises:
        DataError: see :func:`read_matching` and :func:`read_retrieval`; an unknown identity.
    """
    path = Path(path)
    if spec.task == "matching":
        ranking = read_matching(path, spec.probe)
    elif path.is_dir():
        sides = {"voice": _cmpc_gallery(path / "wav_20k.csv"), "face": _cmpc_gallery(path / "jpg_20k.csv")}
        other = "face" if spec.probe == "voice" else "voice"
        ranking = RankingList(spec.probe, sides[spec.probe], sides[other], f"retrieval lists {path}")
    else:
        ranking = read_retrieval(path, "voice")
        if spec.probe == "face":
            ranking = RankingList("face", ranking.candidates, ranking.probes, ranking.source)
    probes = people.items(ranking.probes, ranking.source)
    candidates = people.items(ranking.candidates.ravel(), ranking.source).reshape(ranking.candidates.shape)
    return RankingList(spec.probe, probes, candidates, ranking.source)


def _cmpc_table(path: str | Path) -> pd.DataFrame:
    table = read_table(path, "verification list")
    if missing := [name for name in _CMPC_COLUMNS if name not in table]:
        raise DataError(f"verification list {path}: no column {missing[0]}")
    return table


def _cmpc_gallery(path: Path) -> NDArray[np.str_]:
    """The paths of a table ``VoxCeleb1 ID<TAB>path``."""
    return np.array([row[1] for row in read_tab_table(path, "retrieval list", 2)], dtype=np.str_)


def _identity(items: NDArray[np.str_]) -> NDArray[np.str_]:
    return np.array([item.partition("/")[0] for item in items.tolist()], dtype=np.str_)
