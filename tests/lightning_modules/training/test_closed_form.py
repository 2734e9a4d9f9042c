"""Regularised CCA: the formula written out, additivity, invariances, faults."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.schema import DataError
from lightning_modules.training.closed_form import PairMoments, add_clips, fit_cca, no_moments
from postproc.cells import unit


def clips(seed: int = 0, people: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """(n, 5) voices, (n, 7) faces of any length, and identities with 1 to 8 clips each."""
    rng = np.random.default_rng(seed)
    identity = np.repeat(np.arange(people), np.arange(1, people + 1))
    traits = rng.normal(size=(people, 3))
    voice, face = (
        traits[identity] @ rng.normal(size=(3, d)) + 0.5 * rng.normal(size=(len(identity), d)) + 1 for d in (5, 7)
    )
    return torch.from_numpy(voice), torch.from_numpy(face), torch.from_numpy(identity)


def moments(voice: Tensor, face: Tensor, identity: Tensor, people: int = 8) -> PairMoments:
    out = no_moments(people, (voice.shape[1], face.shape[1]))
    add_clips(out, voice, face, identity)
    return out


def written_out(
    voice: NDArray[np.float64], face: NDArray[np.float64], identity: NDArray[np.int64], r: float, k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Cosines of all clips, and the means, from the clips themselves in numpy."""
    spaces = []
    for x in (voice, face):
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        means = np.stack([x[identity == i].mean(0) for i in np.unique(identity)])
        mean = means.mean(0)
        covariance = (x - mean).T @ (x - mean) / len(x)
        covariance += r * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        values, vectors = np.linalg.eigh(covariance)
        spaces.append((x - mean, means - mean, vectors / np.sqrt(values) @ vectors.T, mean))
    (v, mv, wv, cv), (f, mf, wf, cf) = spaces
    u, s, vt = np.linalg.svd(wv @ (mv.T @ mf / len(mv)) @ wf)
    a, b = v @ wv @ u[:, :k] * np.sqrt(s[:k]), f @ wf @ vt[:k].T * np.sqrt(s[:k])
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return a @ b.T, cv, cf


@pytest.mark.parametrize(("r", "k"), [(100.0, 3), (0.1, 2), (3.0, 5)])
def test_equals_the_formula(r: float, k: int) -> None:
    voice, face, identity = clips()
    model = fit_cca(moments(voice, face, identity), r, k)
    cosine, voice_mean, face_mean = written_out(voice.numpy(), face.numpy(), identity.numpy(), r, k)
    a, b = (
        unit((unit(x.numpy()) - mean) @ w)
        for x, mean, w in zip((voice, face), model.means, model.projections, strict=True)
    )
    np.testing.assert_allclose(a @ b.T, cosine, atol=1e-9)
    np.testing.assert_allclose(model.means[0], voice_mean, atol=1e-12)
    np.testing.assert_allclose(model.means[1], face_mean, atol=1e-12)


def test_moments_of_parts_add_up() -> None:
    voice, face, identity = clips()
    whole, parts = moments(voice, face, identity), moments(voice[:20], face[:20], identity[:20])
    add_clips(parts, voice[20:], face[20:], identity[20:])
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one.count, other.count)
        np.testing.assert_allclose(one.total, other.total, atol=1e-12)
        np.testing.assert_allclose(one.moment, other.moment, atol=1e-12)
    np.testing.assert_array_equal(whole[0].count, np.arange(1, 9))
    np.testing.assert_allclose(np.trace(whole[0].moment), len(identity))  # clips are scaled to unit length


def test_equal_data_give_equal_embeddings_whatever_their_order() -> None:
    voice, face, identity = clips()
    order = torch.from_numpy(np.random.default_rng(1).permutation(len(identity)))
    one = fit_cca(moments(voice, face, identity), directions=3)
    other = fit_cca(moments(voice[order], face[order], identity[order]), directions=3)
    np.testing.assert_allclose(one.projections[0], other.projections[0], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(one.projections[1], other.projections[1], rtol=1e-8, atol=1e-10)


def test_without_shrinkage_constant_inputs_are_left_out() -> None:
    voice, face, identity = clips()
    voice = torch.nn.functional.normalize(voice, dim=1)
    padded = torch.cat([voice, torch.zeros(len(voice), 2)], dim=1)  # two dimensions in which nothing varies
    plain = fit_cca(moments(voice, face, identity), shrinkage=0.0, directions=2).projections[0]
    more = fit_cca(moments(padded, face, identity), shrinkage=0.0, directions=2).projections[0]
    assert np.isfinite(more).all()
    np.testing.assert_allclose(more[:5], plain, rtol=1e-6, atol=1e-8)
    assert (more[5:] == 0).all()


def test_identities_without_clips_do_not_count() -> None:
    voice, face, identity = clips()
    model = fit_cca(moments(voice, face, identity, people=20), directions=2)
    expected = fit_cca(moments(voice, face, identity), directions=2)
    np.testing.assert_array_equal(model.projections[0], expected.projections[0])


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda v, f, y: (v, f, torch.zeros_like(y)), "at least 2 identities"),
        (lambda v, f, y: (v.index_fill(0, torch.tensor([3]), torch.nan), f, y), "voice features"),
        (lambda v, f, y: (v, f.index_fill(0, torch.tensor([3]), torch.inf), y), "face features"),
        (lambda v, f, y: (torch.ones_like(v), f, y), "same features"),
    ],
)
def test_bad_data_are_named(spoil: object, word: str) -> None:
    with pytest.raises(DataError, match=word):
        fit_cca(moments(*spoil(*clips())))  # type: ignore[operator]
