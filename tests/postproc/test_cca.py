"""Closed-form CCA; its formula is tested in tests/lightning_modules/training/test_closed_form.py."""

from __future__ import annotations

import numpy as np
import pytest

from postproc.cca import Moments, nested, regularised_cca
from postproc.cells import DegenerateInput, unit
from tests.postproc.synthetic_people import World

SHRINKAGES = (1.0, 10.0, 100.0)


def test_several_shrinkages_give_what_each_alone_gives() -> None:
    reference = World(1).reference(clips=7)
    spaces = (unit(x["input"].astype(np.float64)) for x in (reference.voices, reference.faces))
    moments = [Moments.of(x, reference.identity) for x in spaces]
    for shrinkage, solution in zip(SHRINKAGES, regularised_cca(*moments, SHRINKAGES, 5), strict=True):
        (expected,) = regularised_cca(*moments, [shrinkage], 5)
        np.testing.assert_array_equal(solution.projections[0], expected.projections[0])
        np.testing.assert_array_equal(solution.projections[1], expected.projections[1])


def test_clips_that_are_all_the_same_are_refused() -> None:
    identity = np.repeat(["a", "b"], 3)
    moments = [Moments.of(x, identity) for x in (np.eye(6), np.tile(np.eye(6)[0], (6, 1)))]
    with pytest.raises(DegenerateInput, match="the same embedding"):
        next(regularised_cca(moments[0], moments[1], [1.0], 2))


def test_nested_embeddings_have_the_mean_of_the_cosines_of_the_first_directions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 7, 6))
    widths = (1, 2, 5)
    expected = np.mean([(unit(a[:, :k]) * unit(b[:, :k])).sum(axis=1) for k in widths], axis=0)
    np.testing.assert_allclose((nested(a, widths) * nested(b, widths)).sum(axis=1), expected, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(nested(a, widths), axis=1), 1)
    np.testing.assert_array_equal(nested(a, [6]), unit(a))
