"""The clips of an identity in two languages are positives of each other if training uses both languages."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest

from datamodules import CellSpec, FeatureDataModule, ManifestDataModule, MediaOptions
from datamodules.base import VoiceFaceDataModule
from datamodules.evaluation.checks import check_heard
from datamodules.schema import DataError
from datamodules.training_set import ResumableLoader
from tests.datamodules.feature_files_on_disk import write_npz
from tests.datamodules.media_tree import patch, tone
from tests.experiments.saved import world

PEOPLE, LANGUAGES = 5, ("English", "Urdu")


def pairs_by_language(data: VoiceFaceDataModule) -> Counter[tuple[str, str]]:
    """Number of training pairs by language (voice, face); checks that a pair has one identity, once per batch."""
    train, found = data.training_set(), Counter[tuple[str, str]]()
    sampler = cast(ResumableLoader, data.train_dataloader()).pairs
    for epoch in range(8):
        sampler.set_epoch(epoch)
        for pairs in sampler:
            voice, face = np.array(pairs).T
            assert np.array_equal(train.identity[voice], train.identity[face])
            assert len(set(train.identity[voice].tolist())) == len(pairs)
            found.update(zip(train.language[voice].tolist(), train.language[face].tolist(), strict=True))
    return found


def media(folder: Path, languages: list[str]) -> ManifestDataModule:
    """A manifest of identities that speak both languages."""
    rows = []
    for person in range(PEOPLE):
        for clip, language in enumerate(LANGUAGES):
            voice, face = f"p{person}/{language}.wav", f"p{person}/{language}.jpg"
            tone(folder / voice, person, clip)
            patch(folder / face, person, clip)
            rows.append({"voice": voice, "face": face, "identity": f"p{person}", "language": language})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    sizes = MediaOptions(frames=16, image_size=16)
    return ManifestDataModule(str(folder / "manifest.csv"), languages, val_identities=0, media=sizes, batch_size=4)


def features(folder: Path, languages: list[str]) -> FeatureDataModule:
    """Feature files of the same identities."""
    for name, seed in (("voices", 0), ("faces", 1)):
        write_npz(folder / f"{name}.npz", seed=seed)
    own = [{"English": "Alpha", "Urdu": "Beta"}[language] for language in languages]
    files = [str(folder / f"{name}.npz") for name in ("voices", "faces")]
    return FeatureDataModule([files[0]], [files[1]], own, val_identities=0, batch_size=4)


@pytest.mark.parametrize("make", [media, features])
def test_both_languages_make_positives_across_them(make: type[VoiceFaceDataModule], tmp_path: Path) -> None:
    found = pairs_by_language(make(tmp_path, list(LANGUAGES)))  # type: ignore[call-arg, arg-type]
    assert len(found) == 4
    assert min(found.values()) > 0.15 * found.total()  # balanced, voices and faces independently


@pytest.mark.parametrize("make", [media, features])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_that_is_not_trained_on_is_in_no_pair(
    make: type[VoiceFaceDataModule], language: str, tmp_path: Path
) -> None:
    found = pairs_by_language(make(tmp_path, [language]))  # type: ignore[call-arg, arg-type]
    assert len(found) == 1
    assert set(next(iter(found))) <= {language, {"English": "Alpha", "Urdu": "Beta"}[language]}


def test_a_training_language_cannot_be_called_unheard(tmp_path: Path) -> None:
    data = media(tmp_path, list(LANGUAGES))
    people: list[str] | str = ["p0", "p1"]
    data.exclude_identities, data.test = people, {"unheard": CellSpec(identities=people, language="Urdu")}
    with pytest.raises(DataError, match=r"data\.test\.unheard: contains Urdu voices, training uses English, Urdu"):
        data.setup("fit")


def test_clips_without_a_language_are_neither_heard_nor_unheard() -> None:
    evaluation = world({"balanced/heard": ""})
    said = "data.test.balanced/heard: the language of its voices is unknown; set its language, or where none is known "
    with pytest.raises(DataError, match=f"{said}name it balanced/test$"):
        check_heard(evaluation.cells["balanced/heard"], evaluation.voices, ["English"])
