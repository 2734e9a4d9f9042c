"""Names of languages and their codes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from datamodules.io.identities import check_known
from datamodules.io.languages import LANGUAGE_FOLDER, language_key
from datamodules.schema import DataError


def test_names_and_codes_of_a_language_are_one() -> None:
    assert {language_key(name) for name in ("English", "ENGLISH", "en", "EN", "eng", "\uff25nglish")} == {"english"}
    assert language_key("en_GB") == language_key("english-gb") != language_key("en-US")
    assert language_key("farsi") == language_key("fa")
    assert language_key("Klingon") == "klingon"
    assert language_key("") == ""


@pytest.mark.parametrize(("name", "known"), [("en", True), ("pt-BR", True), ("Urdu", True), ("eng", False)])
def test_folders_that_are_languages(name: str, known: bool) -> None:
    assert bool(re.fullmatch(LANGUAGE_FOLDER, name)) == known


@pytest.mark.parametrize("name", ["en", "eng", "ENGLISH"])
def test_an_unknown_language_names_the_one_that_is_meant(name: str) -> None:
    with pytest.raises(DataError, match=f"^data.train_languages: {name} is unknown; did you mean English[?]"):
        check_known([name], np.array(["English", "Urdu"]), "train_languages")
