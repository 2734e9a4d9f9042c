"""Equal clips: as many of each identity as in the language it speaks least."""

from __future__ import annotations

import numpy as np
import pytest

from datamodules.sampling.splits import draw_equal
from datamodules.schema import DataError

CLIPS = {"ann": (2, 5), "bob": (4, 3), "cid": (6, 0)}
IDENTITY = np.array([person for person, sizes in CLIPS.items() for _ in range(sum(sizes))])
LANGUAGE = np.array([lang for a, b in CLIPS.values() for lang in ["English"] * a + ["Urdu"] * b])


@pytest.mark.parametrize("chosen", [["English"], ["Urdu"], ["English", "Urdu"], ["Urdu", "English"]])
def test_each_identity_gives_as_many_clips_whatever_the_language(chosen: list[str]) -> None:
    keep = draw_equal(IDENTITY, LANGUAGE, ["English", "Urdu"], chosen, seed=3)
    assert {person: int(keep[person == IDENTITY].sum()) for person in CLIPS} == {"ann": 2, "bob": 3, "cid": 0}
    assert set(LANGUAGE[keep]) == set(chosen)
    if len(chosen) == 2:
        for person in ("ann", "bob"):
            shares = [int((LANGUAGE[keep & (person == IDENTITY)] == language).sum()) for language in chosen]
            assert abs(shares[0] - shares[1]) <= 1


def test_another_seed_draws_other_clips() -> None:
    draws = {tuple(draw_equal(IDENTITY, LANGUAGE, ["English", "Urdu"], ["Urdu"], seed)) for seed in range(10)}
    assert len(draws) > 1


def test_a_training_language_that_is_not_compared_is_refused() -> None:
    with pytest.raises(DataError, match=r"equal_clips: English; train_languages also has Urdu"):
        draw_equal(IDENTITY, LANGUAGE, ["English"], ["English", "Urdu"], seed=0)
