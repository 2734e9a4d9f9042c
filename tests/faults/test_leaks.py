"""Test people in training, and files of the language that must not be heard: a run refuses to start."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults.worlds import feature_world, media_world, refusal


def fit(config: Path, *options: str) -> list[str]:
    return ["fit", "--config", str(config), f"--run_dir={config.parent / 'run'}", *options]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return feature_world(tmp_path)


def started(config: Path) -> bool:
    return (config.parent / "run" / "checkpoints").exists()


def test_test_people_in_training_are_named(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(fit(world, "--data.exclude_identities=null", "--data.val_identities=0"), capsys)
    assert line == (
        "data.test.heard: 4 test identities are also in training: p6, p7, p8, p9; name them in data.exclude_identities"
    )
    assert not started(world)


def test_the_first_five_are_shown(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everybody = "{heard: {identities: [p0, p1, p2, p3, p4, p5, p6], language: English}}"
    line = refusal(fit(world, f"--data.test={everybody}", "--data.val_identities=0"), capsys)
    assert "6 test identities are also in training: p0, p1, p2, p3, p4, ...; name them" in line


def test_a_test_person_who_validates_is_named(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data.exclude_identities=[p7,p8,p9]", "--data.val_identities=[p5,p6]"]
    assert "1 test identities are also in validation: p6" in refusal(fit(world, *options), capsys)


def test_a_test_refuses_as_a_fit_does(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The people of a checkpoint are those of its config: changed afterwards, they must still be apart."""
    from experiments.run import main

    assert main(fit(world, "--no-test")) == 0
    config = world.parent / "run" / "config.yaml"
    again = ["test", "--config", str(config), "--ckpt_path=best", f"--run_dir={world.parent / 'again'}"]
    line = refusal([*again, "--data.exclude_identities=null", "--data.val_identities=0"], capsys)
    assert "4 test identities are also in training" in line


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ("{heard: Urdu.csv}", r"data\.test\.heard: contains Urdu voices, training uses English; name it unheard"),
        ("{unheard: English.csv}", r"data\.test\.unheard: contains English voices, .* name it heard"),
        ("{x: {trials: English.csv, language: Urdu}}", "its language is set to Urdu, but its voices are English"),
    ],
)
def test_a_cell_must_be_what_it_is_called(
    world: Path, lists: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(said, refusal(fit(world, f"--data.test={lists}"), capsys))
    assert not started(world)


def test_training_on_both_languages_leaves_none_unheard(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(fit(world, "--data.train_languages=[English,Urdu]"), capsys)
    assert "data.test.unheard: contains Urdu voices, training uses English, Urdu" in line


def test_files_of_the_unheard_language_in_the_training_list_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = media_world(tmp_path)
    english, urdu = (tmp_path / "v1" / f"{language}_train.txt" for language in ("English", "Urdu"))
    english.write_text(english.read_text() + "\n".join(urdu.read_text().splitlines()[:4]))
    line = refusal(fit(config), capsys)
    assert "8 files are not English, the only training language: line 33 id0001/Urdu/" in line
    assert line.count("line ") == 5
    assert line.endswith("...; take them out of the list")
    assert not started(config)
