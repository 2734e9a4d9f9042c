"""Which identities of a data set are tested, in folds, and the trial lists of each fold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.io.identities import items_of
from datamodules.io.text import counted, shown
from datamodules.io.trials import write_trials
from datamodules.sampling.splits import draw_balanced
from datamodules.sampling.trials import Kind, make_trials, why_fewer
from datamodules.schema import DataError, Items

LEFT = 2  # training identities that must be left: with fewer there is no pair of different people


@dataclass(frozen=True)
class TrialFile:
    """A list that was written.

    Attributes:
        path: of the list.
        kind: see :func:`make_trials`.
        size: its number of trials.
        note: why it is shorter than asked for, or "".
    """

    path: Path
    kind: Kind
    size: int
    note: str


def languages_of(voices: Items, faces: Items) -> list[str]:
    """Sorted languages of the voices that have faces; [""] where no language is known."""
    both = np.isin(voices.identity, faces.identity)
    return sorted(set(voices.language[both].tolist()) - {""}) or [""]


def testable(voices: Items, faces: Items, languages: Sequence[str]) -> dict[str, int]:
    """The identities that have a voice and a face, and in how many of the languages.

    A file without a language, such as a portrait, counts for every language.
    """
    counts: dict[str, int] = {}
    for language in languages:
        sides = [set(items.identity[np.isin(items.language, [language, ""])].tolist()) for items in (voices, faces)]
        for identity in (sides[0] & sides[1]) - {""}:
            counts[identity] = counts.get(identity, 0) + 1
    return counts


def draw_folds(
    counts: dict[str, int], genders: dict[str, str], folds: int, size: int, validation: int, seed: int
) -> list[list[str]]:
    """Draws disjoint groups of test identities, as many of each gender as possible.

    Identities with all languages come first, for only they can be tested on both the heard and the unheard language.

    Args:
        counts: by identity, in how many languages it can be tested.
        genders: gender of each identity, where known.
        folds: number of groups.
        size: identities in each.
        validation: identities that training must leave over for validation.
        seed: of the draw.

    Returns:
        ``folds`` sorted lists of ``size`` identities.

    Raises:
        DataError: too few identities.
    """
    if size < 2 or folds < 1:
        raise DataError(f"--test {size} --folds {folds}: a fold needs 2 test identities or more, and there must be one")
    if size + validation + LEFT > len(counts) or folds * size > len(counts):
        raise DataError(
            f"{len(counts)} identities have a voice and a face: too few for {folds} folds of {size} test identities "
            f"beside {validation} for validation; lower --test, --folds or --val"
        )
    most = max(counts.values())
    full = np.array(sorted(name for name, count in counts.items() if count == most))
    others = np.array(sorted(set(counts) - set(full.tolist())), dtype=np.str_)
    drawn = []
    for fold in range(folds):
        chosen = draw_balanced(full, genders, min(size, len(full)), seed + fold) if len(full) else full
        full = np.setdiff1d(full, chosen)
        if len(chosen) < size:
            more = draw_balanced(others, genders, size - len(chosen), seed + fold)
            others, chosen = np.setdiff1d(others, more), np.concatenate([chosen, more])
        drawn.append(sorted(chosen.tolist()))
    return drawn


def check_named(identities: Sequence[str], counts: dict[str, int], validation: int, source: str) -> None:
    """Refuses test identities that a user names if they cannot be tested, or leave too few for training.

    Raises:
        DataError: unknown identities, identities without a voice or a face, or too few others.
    """
    known = set(counts)
    if lost := [identity for identity in identities if identity not in known]:
        who = counted(len(lost), "identity has", "identities have")
        raise DataError(f"{source}: {who} no voice or no face: {shown(lost)}")
    if len(identities) < 2 or len(identities) + validation + LEFT > len(counts):
        raise DataError(
            f"{source}: names {len(identities)} of {len(counts)} identities; at least 2 must be tested, and "
            f"{validation} for validation and {LEFT} for training must be left; change the list or --val"
        )


def write_lists(
    folder: Path,
    folds: Sequence[Sequence[str]],
    items: tuple[Items, Items],
    languages: Sequence[str],
    kinds: Sequence[Kind],
    trials: int,
    seed: int,
) -> list[TrialFile]:
    """Draws and writes a trial list for each fold, language and kind.

    Args:
        folder: of the lists; :func:`list_name` names them.
        folds: the test identities of each fold.
        items: all voices and all faces.
        languages: a list is drawn in each; "" = of all items.
        kinds: see :func:`make_trials`.
        trials: number of trials to draw for each list.
        seed: of the draws.

    Raises:
        DataError: fewer than two identities of a fold have a language.
    """
    written = []
    for fold, identities in enumerate(folds):
        for language in languages:
            wanted = [language, ""] if language else None
            voices, faces = (items_of(part, np.array(identities), wanted) for part in items)
            both = np.intersect1d(voices.identity, faces.identity)
            if len(both) < 2:
                raise DataError(
                    f"fold {fold}: {len(both)} of its test identities have voices and faces in {language}, and a "
                    f"list needs 2: {shown(list(identities))}; raise --test or name others"
                )
            for kind in kinds:
                drawn = make_trials(voices, faces, trials, seed + fold, kind)
                path = folder / list_name(fold, language, kind)
                write_trials(drawn, path)
                written.append(TrialFile(path, kind, len(drawn), why_fewer(drawn, voices, faces, trials, kind)))
    return written


def identity_lines(folds: Sequence[Sequence[str]], genders: dict[str, str], total: int, validation: int) -> list[str]:
    """Says who is tested, a line for each fold."""
    lines = []
    for number, fold in enumerate(folds):
        letters = [genders.get(identity, "") for identity in fold]
        known = (("F", "women"), ("M", "men"), ("", "of unknown gender"))
        parts = ", ".join(f"{letters.count(letter)} {name}" for letter, name in known if letter in letters)
        left = f"{validation} for validation, {total - len(fold) - validation} for training"
        lines.append(f"fold {number}: {len(fold)} test identities ({parts}), {left}")
    if any(not genders.get(identity) for fold in folds for identity in fold):
        lines.append("EERs within a gender need genders: --genders FILE, or --genders estimate --media DIR")
    return lines


def list_lines(lists: Sequence[TrialFile]) -> list[str]:
    """Says what was drawn; of each kind, how many lists are shorter than asked for, why the shortest is; what helps."""
    smallest, largest = (extreme(written.size for written in lists) for extreme in (min, max))
    size = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    lines = [f"{lists[0].path.parent}: {counted(len(lists), 'list')} of {size} trials"]
    for kind in dict.fromkeys(written.kind for written in lists):
        short = [written for written in lists if written.kind == kind and written.note]
        if short:
            shortest = min(short, key=lambda written: written.size)
            which = counted(len(short), f"{kind} list is", f"{kind} lists are")
            lines.append(f"{which} shorter; {shortest.path.name}: {shortest.note}")
    if any(written.note for written in lists):
        lines.append("longer lists need more test identities (--test), or more clips of each")
    return lines


def list_name(fold: int | str, language: str, kind: str) -> str:
    """File name of the list of one fold: ``fold0_English_scrambled.csv``."""
    return "_".join(part for part in (f"fold{fold}", file_word(language), f"{kind}.csv") if part)


def file_word(name: str) -> str:
    """A name as a part of a file name: letters, digits, dots and dashes stay."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")
