"""The mean of several refinements: which count, what they see, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from postproc import Averaged, Centring, Clustering, JointIdentities, Transport, refine
from tests.postproc.synthetic_people import World

QUICK = Clustering(ks=(5, 6, 8), repeats=2, backend="cpu")


def test_the_mean_of_the_members_that_moved_the_scores() -> None:
    cell, _ = World(3).cell()
    hard, soft = (Transport(QUICK, temperature=t)(cell).distances for t in (0.05, 0.2))
    both = {"hard": [Transport(QUICK)], "soft": [Centring(0.0), Transport(QUICK, temperature=0.2)]}
    averaged = Averaged(both)(cell)
    np.testing.assert_allclose(averaged.distances, (hard + soft) / 2, atol=1e-9)
    assert list(averaged.trace["members"]) == ["hard", "soft"]
    declined = Averaged({"hard": [Transport(QUICK)], "joint": [JointIdentities()]})(cell)  # joint: not calibrated
    np.testing.assert_array_equal(declined.distances, hard)
    assert declined.trace["averaged"] == 1


def test_members_are_calibrated_and_need_what_their_steps_need() -> None:
    world = World(3)
    cell, _ = world.cell(trials=300)
    joint = JointIdentities(12, chains=4, sweeps=5, burn_in=5)
    step = Averaged({"joint": [joint], "transport": [Transport(QUICK)]})
    assert step.needs_reference
    assert not Averaged({"a": [Transport(QUICK)], "b": [Centring()]}).needs_reference
    step.calibrate(world.reference())
    assert step(cell).trace["averaged"] == 2


def test_where_no_member_can_refine_the_scores_stay_and_the_reasons_are_named() -> None:
    cell, _ = World(3).cell(trials=50)
    broken = replace(cell, distances=np.full(50, np.nan))
    step = Averaged({"a": [Transport(QUICK)], "b": [Centring()]})
    same = refine(broken, [step])
    np.testing.assert_array_equal(same.distances, broken.distances)
    assert "a: 50 initial distances are not finite; b: " in same.trace["steps"][0]["unchanged"]


@pytest.mark.parametrize("members", [{}, {"one": [Centring()]}, {"one": [Centring()], "none": []}])
def test_fewer_than_two_members_and_empty_ones_are_refused(members: dict[str, list[Centring]]) -> None:
    with pytest.raises(ValueError, match=r"members: .*give two or more, each with steps"):
        Averaged(members)  # type: ignore[arg-type]
