"""The synthetic media: MAV-Celeb's layout, reproducible, with traits that show in voice and face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.datasets.synthetic import media
from datamodules.datasets.synthetic.faces import Looks, Scene, draw
from datamodules.datasets.synthetic.media import TEST_CLIPS, TEST_IDENTITIES, SyntheticMediaDataModule
from datamodules.datasets.synthetic.voices import LANGUAGES, RATE, Speaker, speak
from datamodules.media.module import MediaOptions
from datamodules.schema import DataError


def world(**options: Any) -> SyntheticMediaDataModule:
    small: dict[str, Any] = {"identities": 8, "clips": 3, "val_identities": 2, "val_trials": 20, "batch_size": 4}
    return SyntheticMediaDataModule(**{**small, **options}, media=MediaOptions(frames=128, image_size=64))


def test_it_is_a_version_of_mavceleb_with_both_conditions() -> None:
    data = world()
    data.setup("fit")
    train, test = data.training_set(), data.evaluation_set("test")
    assert set(train.language) == {"English"}
    assert len(train.identities) == 6
    assert {name: cell.language for name, cell in test.cells.items()} == {"heard": "English", "unheard": "Hindi"}
    for items in (test.voices, test.faces):
        assert len(np.unique(items.identity)) == TEST_IDENTITIES
        assert set(items.gender) == {"M", "F"}
        assert not set(items.identity) & set(train.identities)
        assert len(items) <= 2 * TEST_IDENTITIES * TEST_CLIPS
    batch = next(iter(data.train_dataloader()))
    assert batch["voice"].shape[0] == batch["face"].shape[0] == 4
    assert batch["voice"].isfinite().all()


def test_a_world_is_reproducible_and_worlds_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "TEST_CLIPS", 4)

    def files(name: str, **options: Any) -> dict[str, bytes]:
        monkeypatch.setenv("VOICEFACE_CACHE", str(tmp_path / name))
        root = Path(world(**options).root)
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    first, again, other = files("a"), files("b"), files("c", world=1)
    assert first == again
    assert first.keys() >= {"v2/English_train.txt", "v2/Hindi_test.txt", "v2/Hindi_labels.txt", "genders.csv"}
    assert (
        first["v2/voices/id0001/English/id0001v00/00000.wav"] != other["v2/voices/id0001/English/id0001v00/00000.wav"]
    )
    assert first["v2/faces/id0001/English/id0001v00/00000.jpg"] != other["v2/faces/id0001/English/id0001v00/00000.jpg"]


def test_a_world_that_cannot_be_cached_is_made_in_a_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VOICEFACE_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be written"):
        data = world(identities=4)
    assert len(data.training_set().identities) == 2


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("pitch", [110.0, 200.0])
def test_the_pitch_of_a_speaker_is_heard(language: object, pitch: float) -> None:
    wave = speak(Speaker(pitch, 1.0, 0.2, 1.0), language, 2.0, np.random.default_rng(0))  # type: ignore[arg-type]
    spectrum = np.abs(np.fft.rfft(wave.reshape(-1, 1600), 8192)) ** 2
    echo = np.fft.irfft(spectrum).mean(axis=0)
    lags = np.arange(RATE // 350, RATE // 60)
    assert RATE / lags[echo[lags].argmax()] == pytest.approx(pitch, rel=0.2)


def test_a_shorter_tract_raises_the_voice_and_breath_dulls_it() -> None:
    def centre(speaker: Speaker) -> float:
        wave = speak(speaker, LANGUAGES[0], 4.0, np.random.default_rng(0))
        power = np.abs(np.fft.rfft(wave)) ** 2
        hertz = np.fft.rfftfreq(len(wave), 1 / RATE)
        power = power * (hertz < 2500)  # vowels, without hiss
        return float((power * hertz).sum() / power.sum())

    usual = centre(Speaker(150, 1.0, 0.2, 1.0))
    assert centre(Speaker(150, 1.2, 0.2, 1.0)) > usual * 1.05
    assert centre(Speaker(150, 1.0, 1.0, 1.0)) < usual


def test_age_and_weight_are_seen() -> None:
    scene = Scene((0, 0, 255), 1.0)

    def picture(heaviness: float = 0.0, age: float = 0.0) -> np.ndarray:
        looks = Looks(heaviness, 0.0, age, 0.0, False, False, 0.2, 0.2, False)
        return np.asarray(draw(looks, scene, np.random.default_rng(0)), dtype=float)

    young, old = picture(age=-1.5), picture(age=1.5)
    assert old[10:25, 40:56].mean() > young[10:25, 40:56].mean() + 30  # the hair
    slim, heavy = (picture(heaviness=h)[74:84, :, 0] > 100 for h in (-1.5, 1.5))  # skin on a blue ground
    assert heavy.sum() > 1.1 * slim.sum()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shared": 1.5}, r"data\.shared: 1\.5"),
        ({"identities": 2}, "identities 2"),
        ({"train_language": "Hindy"}, r"train_language: Hindy is unknown.*Hindi"),
    ],
)
def test_bad_options_are_named(options: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        world(**options)
