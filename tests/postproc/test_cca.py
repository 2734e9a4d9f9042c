"""One closed form for the model and for scorers of practice; the formula: lightning_modules/test_closed_form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_modules.training import closed_form
from postproc.cca import Moments, nested, regularised_cca
from postproc.cells import DegenerateInput, unit
from tests.postproc.synthetic_people import World

SHRINKAGES = (1.0, 10.0, 100.0)


def test_moments_of_clips_are_those_the_model_gathers_and_so_is_the_solution() -> None:
    reference = World(1).reference(clips=7)
    voices, faces = (unit(x["input"].astype(np.float64)) for x in (reference.voices, reference.faces))
    ours = [Moments.of(x, reference.identity) for x in (voices, faces)]
    gathered = closed_form.PairStatistics(24, (voices.shape[1], faces.shape[1]))
    people = torch.from_numpy(np.unique(reference.identity, return_inverse=True)[1])
    gathered.update(torch.from_numpy(voices), torch.from_numpy(faces), people)
    np.testing.assert_array_equal(ours[0].count, gathered.count.numpy())
    np.testing.assert_allclose(ours[1].total, gathered.face_sum.numpy(), atol=1e-12)
    np.testing.assert_allclose(ours[0].moment, gathered.voice_moment.numpy(), atol=1e-12)
    for shrinkage, found in zip(SHRINKAGES, regularised_cca(ours[0], ours[1], SHRINKAGES, 5), strict=True):
        expected = closed_form.regularised_cca(gathered, shrinkage, 5)
        np.testing.assert_allclose(found.projections[0], expected.voice_projection.numpy(), atol=1e-10)
        np.testing.assert_allclose(found.projections[1], expected.face_projection.numpy(), atol=1e-10)
        np.testing.assert_allclose(found.means[1], expected.face_mean.numpy(), atol=1e-12)


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
