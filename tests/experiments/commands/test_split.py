"""``split``: test identities, folds, lists and configs of one's own data, which ``fit`` takes as they are."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

from datamodules import FeatureDataModule, ManifestDataModule
from datamodules.io.feature_files import FeatureFile
from datamodules.io.trials import read_trials
from datamodules.prepare.genders import estimate_genders
from datamodules.prepare.hold_out import TrialFile, draw_folds, list_lines
from datamodules.prepare.own_data import conditions
from datamodules.schema import DataError
from experiments.config.own import write_protocol
from experiments.protocol.file import Protocol
from experiments.run import main


def make_features(
    folder: Path, languages: dict[str, list[str]], clips: int = 4, genders: bool = True, width: int = 8
) -> Path:
    """A folder as ``embed`` makes it; ``languages``: those of each identity."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = [
        {
            "item": f"{name}/{language}/v{clip % 2}/{clip}.wav",
            "identity": name,
            "language": language,
            "video": f"v{clip % 2}",
            "gender": "FM"[number % 2] if genders else "",
        }
        for number, (name, spoken) in enumerate(languages.items())
        for language in spoken
        for clip in range(clips + number % 3)
    ]
    for side, suffix in (("voices", ".wav"), ("faces", ".jpg")):
        table = pd.DataFrame(rows)
        table["item"] = table["item"].str.replace(".wav", suffix)
        table.to_csv(folder / f"{side}.csv", index=False)
        np.save(folder / f"{side}.npy", rng.standard_normal((len(table), width)).astype(np.float32))
    return folder


def tone(path: Path, frequency: float) -> None:
    """A second of a voice-like tone: a series of harmonics."""
    t = np.arange(16_000) / 16_000
    soundfile.write(path, 0.1 * sum(np.sin(2 * np.pi * frequency * k * t) / k for k in range(1, 9)), 16_000)


def people(count: int, *languages: str) -> dict[str, list[str]]:
    return {f"id{number:02d}": list(languages) for number in range(count)}


def test_folds_are_disjoint_and_balanced_and_their_lists_are_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_features(tmp_path / "Ann's data 100%", people(20, "English", "Urdu"))
    assert main(["split", str(data), "--test", "4", "--folds", "3", "--val", "2", "--trials", "40"]) == 0
    said = capsys.readouterr().out
    assert "fold 2: 4 test identities (2 women, 2 men), 2 for validation, 14 for training" in said
    for name, line in (("protocol", "next: "), ("English", " or: "), ("Urdu", " or: ")):
        command, config = "protocol" if name == "protocol" else "fit", data / f"{name}.yaml"
        line += f"python -m experiments.run {command} --config {shlex.quote(str(config))}"
        assert line in said.splitlines()
        assert config.read_text().startswith(f"# {line[line.index('python') :]}\n")
    assert "genders" not in said
    folds = json.loads((data / "folds.json").read_text())
    assert len({name for fold in folds.values() for name in fold}) == 12
    lists = sorted((data / "trials").glob("*.csv"))
    assert len(lists) == 3 * 2 * 3
    for path in lists:
        fold, language, kind = path.stem.removeprefix("fold").split("_")
        trials = read_trials(path)
        assert trials.labels is not None
        assert {name.split("/")[0] for name in [*trials.voices, *trials.faces]} <= set(folds[fold])
        assert {name.split("/")[1] for name in trials.voices} == {language}
        if kind != "natural":
            assert (len(trials), trials.labels.sum()) == (40, 20)


def test_what_split_writes_is_what_fit_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = make_features(tmp_path / "data", people(20, "English", "Urdu"))
    assert main(["split", "data", "--test", "4", "--folds", "2", "--val", "2", "--trials", "40"]) == 0
    command = ["fit", "--config", "data/Urdu.yaml", "--vars.fold=1", "--logger=null", "--pictures=false"]
    assert main([*command, "--model.directions=2", "--run_dir=run"]) == 0
    results = json.loads(Path("run/results.json").read_text())
    assert {"heard", "unheard", "balanced/heard", "natural/unheard"} <= set(results)
    tested = pd.read_parquet("run/scores.parquet")["voice"].str.split("/").str[0]
    assert set(tested) <= set(json.loads((data / "folds.json").read_text())["1"])
    protocol = Protocol.read(data / "protocol.yaml")
    assert protocol.folds == [0, 1]
    assert all(Path(config).is_file() for config in protocol.configs)
    again = write_protocol(tmp_path, [data / "Urdu.yaml"], 2)
    assert Protocol.read(again).configs == [str(data / "Urdu.yaml")]


@pytest.mark.parametrize("languages", [[], ["English"]])
def test_one_language_or_none(languages: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_features(tmp_path / "data", people(14, *(languages or [""])))
    assert main(["split", "data", "--test", "4", "--val", "2", "--trials", "30", "--lists", "scrambled"]) == 0
    name = languages[0] if languages else "own"
    command = ["fit", "--config", f"data/{name}.yaml", "--logger=null", "--pictures=false", "--model.directions=2"]
    assert main([*command, "--run_dir=run"]) == 0
    assert ("heard" if languages else "test") in json.loads(Path("run/results.json").read_text())


def test_people_of_one_language_are_tested_last(tmp_path: Path) -> None:
    counts = {f"a{i}": 1 for i in range(6)} | {f"b{i}": 2 for i in range(6)}
    assert all(name.startswith("b") for name in draw_folds(counts, {}, 1, 6, 2, 0)[0])
    drawn = draw_folds(counts, {}, 1, 8, 2, 0)[0]
    assert sum(name.startswith("b") for name in drawn) == 6
    assert draw_folds(counts, {}, 2, 3, 2, 0) == draw_folds(counts, {}, 2, 3, 2, 0)


def test_a_manifest_is_split_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for name, spoken in people(12, "English").items():
        for clip in range(3):
            row = {"voice": f"{name}/{clip}.wav", "face": f"{name}/{clip}.jpg", "identity": name}
            rows.append(row | {"language": spoken[0], "video": f"v{clip}"})
            (tmp_path / name).mkdir(exist_ok=True)
            tone(tmp_path / row["voice"], 150)
            (tmp_path / row["face"]).write_bytes(b"not opened by split")
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    named = tmp_path / "test.txt"
    named.write_text("id03\nid07\n")
    out = tmp_path / "split"
    command = ["split", str(tmp_path / "manifest.csv"), "--test", str(named), "--val", "2", "--out", str(out)]
    assert main([*command, "--trials", "8"]) == 0
    assert f"next: python -m experiments.run fit --config {out}/English.yaml" in capsys.readouterr().out
    group = yaml.safe_load((out / "data_English.yaml").read_text().replace("${vars.fold}", "0"))
    assert group.pop("class_path") == "datamodules.ManifestDataModule"
    options = group["init_args"]
    options.pop("media")
    data = ManifestDataModule(**options)
    data.setup("fit")
    assert data.num_identities == 8
    assert set(np.unique(data.evaluation_set("test").voices.identity)) == {"id03", "id07"}


def test_too_little_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_features(tmp_path / "data", people(10, "English"), clips=1)
    named = tmp_path / "named.txt"
    named.write_text("id01\nid99\n")
    for arguments, said in (
        (["--test", "8"], "10 identities have a voice and a face: too few"),
        (["--test", "2", "--folds", "9", "--val", "0"], "too few for 9 folds of 2"),
        (["--test", "1"], "a fold needs 2 test identities"),
        (["--test", str(named)], "1 identity has no voice or no face: id99"),
        (["--train", "German"], "--train German: the voices are in English"),
        (["--genders", "estimate"], "needs --media"),
        (["--test", "2", "--val", "1"], "--val 0, or 2 or more"),
        (["--test", "2", "--lists", "square"], "invalid choice"),
    ):
        assert main(["split", str(data), *arguments]) == 2, arguments
        assert said in capsys.readouterr().err
    assert main(["split", str(data), "--test", "4", "--val", "2", "--trials", "500"]) == 0
    said = capsys.readouterr().out
    assert "scrambled trials where 500 were asked for: a part of" in said
    assert "longer lists need more test identities (--test), or more clips of each" in said
    assert main(["split", str(data), "--test", "4", "--val", "2"]) == 2
    assert "holds a split; name another folder" in capsys.readouterr().err
    assert main(["split", str(tmp_path)]) == 2
    assert "has no voices.npy; give a folder that embed made" in capsys.readouterr().err


def test_drawn_lists_in_a_config(tmp_path: Path) -> None:
    data = make_features(tmp_path / "data", people(12, "English", "Urdu"), clips=6)
    files = {side: [FeatureFile(f"{side}.npy", f"{side}.csv")] for side in ("voices", "faces")}

    def module(**spec: object) -> FeatureDataModule:
        from datamodules.evaluation.conditions import CellSpec

        tested = CellSpec(identities=["id01", "id02", "id03"], **spec)  # type: ignore[arg-type]
        options = {"exclude_identities": ["id01", "id02", "id03"], "val_identities": 2, "root": str(data)}
        return FeatureDataModule(**files, train_languages=["English"], test={"heard": tested}, **options)  # type: ignore[arg-type]

    cell = module(draw="scrambled", trials=30, language="English").evaluation_set("test").cells["heard"]
    assert cell.trials.labels is not None
    assert (len(cell.trials), cell.trials.labels.sum()) == (30, 15)
    other = module(draw="scrambled", trials=30, language="English", seed=1).evaluation_set("test").cells["heard"]
    assert cell.trials.voices.tolist() != other.trials.voices.tolist()
    with pytest.warns(UserWarning, match="natural trials where 1000 were asked for"):
        module(draw="natural", language="English").evaluation_set("test")
    for spec, said in (
        ({"trials": 30}, "trials is a number, 30; draw says how"),
        ({"draw": "balanced", "same_gender": True}, "draw takes neither"),
        ({"draw": "balanced", "trials": 1}, "1 trials cannot be drawn"),
    ):
        with pytest.raises(DataError, match=said):
            module(**spec).evaluation_set("test")


def test_without_genders_split_says_how_to_give_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_features(tmp_path / "data", people(12, "English"), genders=False)
    assert main(["split", str(data), "--test", "4", "--val", "2", "--trials", "20"]) == 0
    said = capsys.readouterr().out
    assert "4 test identities (4 of unknown gender)" in said
    assert "EERs within a gender need genders: --genders FILE" in said


def test_one_short_list_is_told_in_the_singular() -> None:
    files = [TrialFile(Path(f"trials/fold0_{kind}.csv"), kind, 8, "few") for kind in ("scrambled", "natural")]
    assert list_lines(files[:1])[:2] == [
        "trials: 1 list of 8 trials",
        "1 scrambled list is shorter; fold0_scrambled.csv: few",
    ]
    assert list_lines([files[1], files[1]])[1] == "2 natural lists are shorter; fold0_natural.csv: few"


def test_genders_are_two_clusters_named_by_pitch(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = np.array([f"id{i:02d}" for i in range(12)])
    female = np.arange(12) % 3 == 0
    recordings = {}
    for name, is_female in zip(names.tolist(), female, strict=True):
        recordings[name] = tmp_path / f"{name}.wav"
        tone(recordings[name], 220 if is_female else 110)
    x = rng.standard_normal((12, 16)) + 4 * np.where(female, 1, -1)[:, None] * np.eye(16)[0]
    assert estimate_genders(names, x, recordings) == {
        name: "F" if is_female else "M" for name, is_female in zip(names.tolist(), female, strict=True)
    }
    with pytest.raises(DataError, match="cannot be estimated: the two clusters"):
        estimate_genders(names, x, dict.fromkeys(names.tolist(), recordings["id00"]))
    with pytest.raises(DataError, match="genders of 3 identities cannot be estimated"):
        estimate_genders(names[:3], x[:3], recordings)


def test_names_of_test_conditions() -> None:
    assert conditions(["English"], ["English", "Urdu"], "") == {"heard": "English", "unheard": "Urdu"}
    assert conditions(["English"], ["English", "Urdu"], "natural") == {
        "natural/heard": "English",
        "natural/unheard": "Urdu",
    }
    assert conditions(["A"], ["A", "B", "C"], "") == {"heard": "A", "B/unheard": "B", "C/unheard": "C"}
    assert conditions(["A"], ["A", "B", "C"], "balanced")["balanced-C/unheard"] == "C"
    assert conditions([""], [""], "balanced") == {"balanced/test": ""}
