"""Gender-only floor, same-gender EER, chance, and the bootstrap over people."""

from __future__ import annotations

import numpy as np
import pytest

from postproc.metrics import TooFewIdentities, bootstrap_eer, chance_eer, eer, gender_only_eer, same_gender_eer


@pytest.fixture
def six_people() -> dict[str, np.ndarray]:
    """Trials of 3 men and 3 women, all pairs of people equally often among the negatives; scores know the person."""
    rng = np.random.default_rng(0)
    voice = np.repeat(np.arange(6), 600)
    face = np.where(np.arange(3600) % 2, voice, rng.integers(0, 6, 3600))
    labels = (voice == face).astype(np.int8)
    return {"voice": voice, "face": face, "labels": labels, "distances": rng.normal(size=3600) - 2.0 * labels}


def test_gender_only_is_s_over_one_plus_s() -> None:
    # uniform negatives of 3 M + 3 F: 2 of 5 others have the same gender, s = .4
    voice, face = (index.ravel() for index in np.mgrid[:6, :6])
    floor = gender_only_eer(voice < 3, face < 3, voice == face)
    assert floor == pytest.approx(0.4 / 1.4)
    assert round(100 * floor, 1) == 28.6


def test_same_gender_drops_only_cross_gender_negatives(six_people: dict[str, np.ndarray]) -> None:
    voice, face, labels = six_people["voice"], six_people["face"], six_people["labels"]
    distances = six_people["distances"] + 100 * ((voice < 3) != (face < 3))
    kept = [i for i in range(len(labels)) if labels[i] == 1 or (voice[i] < 3) == (face[i] < 3)]
    expected = eer(distances[kept], labels[kept], direction="distance").eer
    assert same_gender_eer(distances, labels, voice < 3, face < 3, direction="distance") == expected
    assert eer(distances, labels, direction="distance").eer < expected


def test_same_gender_without_such_negatives_is_an_error() -> None:
    with pytest.raises(ValueError, match="no different-person trial is a same-gender pair"):
        same_gender_eer([0.1, 0.2], [1, 0], ["M", "M"], ["M", "F"], direction="distance")


def test_chance_is_a_half_whatever_the_scores_know(six_people: dict[str, np.ndarray]) -> None:
    people = six_people["voice"], six_people["face"]
    assert eer(six_people["distances"], six_people["labels"], direction="distance").eer < 0.2
    rng = np.random.default_rng(3)
    voice, face = rng.integers(0, 30, (2, 20_000))
    scores = rng.normal(size=20_000) - 2 * (voice == face)
    shuffled = chance_eer(scores, voice == face, voice, face, direction="distance", n=40)
    assert shuffled == pytest.approx(0.5, abs=0.02)
    blind = chance_eer(six_people["distances"], six_people["labels"], None, None, direction="distance", n=20)
    assert blind == pytest.approx(0.5, abs=0.02)
    first, again, other = (
        chance_eer(six_people["distances"], six_people["labels"], *people, direction="distance", seed=s)
        for s in (0, 0, 1)
    )
    assert first == again != other


def test_chance_of_one_person_cannot_be_told() -> None:
    with pytest.raises(TooFewIdentities, match="no chance control"):
        chance_eer([0.1, 0.2], [1, 0], ["a", "a"], ["a", "a"], direction="distance")


def test_bootstrap_equals_a_loop_that_repeats_trials(six_people: dict[str, np.ndarray]) -> None:
    rows = slice(0, None, 9)
    distances = six_people["distances"][rows].round(1)
    labels, voice, face = (six_people[k][rows] for k in ("labels", "voice", "face"))
    rng = np.random.default_rng(5)
    rates = []
    for times in rng.multinomial(6, np.full(6, 1 / 6), size=50):
        weight = np.where(voice == face, times[voice], times[voice] * times[face])
        repeated = np.repeat(np.arange(len(labels)), weight)
        if labels[repeated].any() and not labels[repeated].all():
            rates.append(eer(distances[repeated], labels[repeated], direction="distance").eer)
    interval = bootstrap_eer(distances, labels, voice, face, direction="distance", n=50, seed=5, level=0.9)
    assert interval == pytest.approx(tuple(np.quantile(rates, [0.05, 0.95])), abs=1e-12)


def test_bootstrap_holds_the_eer_and_does_not_depend_on_chunks(
    six_people: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = [six_people[k] for k in ("distances", "labels", "voice", "face")]
    low, high = bootstrap_eer(*args, direction="distance", n=200)
    assert low < eer(*args[:2], direction="distance").eer < high
    monkeypatch.setattr("postproc.metrics.bootstrap._CELLS", 10_000)
    assert bootstrap_eer(*args, direction="distance", n=200) == (low, high)


def test_bootstrap_is_wide_when_one_person_carries_the_errors() -> None:
    rng = np.random.default_rng(0)
    voice, face = (index.ravel() for index in np.mgrid[:6, :6].repeat(20, axis=1))
    labels = voice == face
    everyone = rng.normal(size=len(voice)) - 2.5 * labels
    one = np.where(voice == 0, rng.normal(size=len(voice)), everyone)
    widths = [np.diff(bootstrap_eer(s, labels, voice, face, direction="distance", n=300))[0] for s in (everyone, one)]
    assert widths[1] > 2 * widths[0]


def test_bootstrap_needs_two_people() -> None:
    with pytest.raises(TooFewIdentities, match="1 identity"):
        bootstrap_eer([0.1, 0.2], [1, 0], ["a", "a"], ["a", "a"], direction="distance")
