"""Chances from distances: right on simulated people, bounded, and refused where damaged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from datamodules.schema import DataError
from postproc.metrics.calibration import Calibration, fit_calibration, read_calibration


def simulated(n: int, positives: float = 0.5, sign: int = 1, identities: int = 10**6) -> Calibration:
    """Distances of pairs of one person around 0, of two people of one gender around 1, of two genders around 3."""
    rng = np.random.default_rng(0)
    labels = (rng.random(n) < positives).astype(np.int8)
    voice = rng.choice(["M", "F"], n)
    face = np.where((labels == 1) | (rng.random(n) < 0.5), voice, np.where(voice == "M", "F", "M"))
    centre = np.where(labels == 1, 0.0, np.where(voice == face, 1.0, 3.0))
    found = fit_calibration(sign * rng.normal(centre, 0.5), labels, (voice, face), identities)
    assert found is not None
    return found


@pytest.mark.parametrize("positives", [0.5, 0.1])
def test_chances_are_those_of_the_simulation_whatever_the_share_of_positives(positives: float) -> None:
    chances = simulated(40_000, positives).chances([0.0, 0.5, 1.0], same_gender=True)
    right = 1 / (1 + np.exp(4 * (np.array([0.0, 0.5, 1.0]) - 0.5)))  # of normals of one width: (m1 - m0) / s^2
    np.testing.assert_allclose(chances, right, atol=0.02)


def test_pairs_of_any_gender_are_easier_than_of_one() -> None:
    found = simulated(4000)
    every, alike = found.chances(0.5), found.chances(0.5, same_gender=True)
    assert every is not None
    assert alike is not None
    assert every > 0.6 > alike > 0.4
    falling = found.chances(np.linspace(-9, 9, 50))
    assert falling is not None
    assert (np.diff(falling) <= 0).all()
    assert falling[0] == found.chances(found.nearest)


def test_few_identities_are_never_sure() -> None:
    distances, labels = np.array([0.1, 0.1, 0.9, 0.9]), np.array([1, 1, 0, 0])
    found = fit_calibration(distances, labels, (np.full(4, ""), np.full(4, "")), 6)
    assert found is not None
    np.testing.assert_allclose(found.chances([0.1, 0.9, -5, 5]), [7 / 8, 1 / 8, 7 / 8, 1 / 8], atol=0.01)
    assert found.chances(0.1, same_gender=True) is None


@pytest.mark.parametrize(
    ("distances", "chance"), [([3, 2, 1, 0], 0.5), ([1, 1, 1, 1], 0.5), ([1e9, 1e9, 2e9, 2e9], 0.875)]
)
def test_worse_than_chance_and_constant_distances_say_nothing(distances: list[float], chance: float) -> None:
    found = fit_calibration(np.array(distances, float), np.array([1, 1, 0, 0]), (np.full(4, "F"), np.full(4, "F")), 6)
    assert found is not None
    assert found.chances(distances[0]) == pytest.approx(chance, abs=0.01)


def test_one_kind_of_pair_has_no_calibration() -> None:
    assert fit_calibration(np.arange(3.0), np.ones(3, int), (np.full(3, ""), np.full(3, "")), 3) is None


def test_it_is_read_back_or_refused() -> None:
    found = simulated(100)
    assert read_calibration(found.plain(), "x") == found
    assert read_calibration(None, "x") is None
    plain = found.plain()
    damaged: list[Any] = [3, [], {}, plain | {"curve": None}, plain | {"nearest": float("nan")}, plain | {"more": 1}]
    damaged += [
        plain | {"curve": {"slope": -1.0, "centre": 0.0}},
        plain | {"identities": True},
        plain | {"nearest": "0"},
    ]
    damaged += [plain | {"same_gender": {"slope": 1.0}}, plain | {"curve": [1.0, 2.0]}, {**plain, "farthest": None}]
    for record in damaged:
        with pytest.raises(DataError, match=r"best\.ckpt: calibration"):
            read_calibration(record, "best.ckpt")
