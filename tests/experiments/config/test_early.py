"""What is wrong in the arguments of a fit is said before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.schema import DataError
from experiments.commands.fit import _check as check
from experiments.config.classes import is_below, options_of_source, own_path
from experiments.config.errors import options_of, public_classes
from experiments.config.files import packaged
from experiments.config.missing import check_files
from experiments.run import COMMANDS, main
from tests import REPOSITORY, TINY
from tests.experiments.test_start import cpu_seconds

SAID = {
    "--model.tauu=3": r"model: lightning_modules\.SCC has no option 'tauu'; did you mean tau\?",
    "--model.network.init_args.widthh=3": r"network: .*HeadPair has no option 'widthh'",
    "--modell.tau=3": r"unknown option --modell\.tau=3; did you mean --model\.tau\?",
    "--model=lightning_modules.SCCC": r"no class 'lightning_modules\.SCCC'; did you mean lightning_modules\.SCC\?",
    "--trainer.max_epoch=3": r"unknown option --trainer\.max_epoch=3; did you mean --trainer\.max_epochs\?",
    "--checkpoint.monitr=x": r"did you mean --checkpoint\.monitor\?",
    "--model=model/ccaa.yaml": r"no such file.*did you mean model/cca\.yaml\?",
    "--vars.identites=3": r"--vars\.identites: the config has no such value; it has identities",
    "--ckpt_path=nowhere.ckpt": "no file nowhere.ckpt",
    "--run_dirr=x": r"did you mean --run_dir\?",
}


@pytest.mark.parametrize("argument", SAID)
def test_wrong_arguments_are_said(argument: str) -> None:
    with pytest.raises(DataError, match=SAID[argument]):
        check("fit", ["--config", str(TINY), argument])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modell: {}", "modell: no such key; did you mean model"),
        ("trainer: {max_epoch: 3}", r"trainer\.max_epoch: no such key; did you mean trainer\.max_epochs"),
        ("postproc: {steps: [{class_path: postproc.Transprt}]}", "did you mean postproc.Transport"),
    ],
)
def test_wrong_configs_are_said(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(DataError, match=said):
        check("fit", ["--config", str(TINY), "--config", str(tmp_path / "own.yaml")])


def test_right_ones_pass() -> None:
    for path in packaged().glob("*.yaml"):
        check("fit", ["--config", str(path)])
    for group in ("model", "data", "postproc", "trainer", "logger"):
        for path in (packaged() / group).glob("*.yaml"):
            check("fit", ["--config", str(TINY), f"--{group}={group}/{path.name}"])
    for more in (
        ["--model=lightning_modules.scc.SCC", "--no-test", "--print_config"],
        ["--model", "SCC", "--model.tau", "0.1", "--pictures", "false"],
        ["--model=own.Model", "--model.anything=1", "--logger=null"],
        ["--model.optimizer=SGD", "--model.optimizer.init_args.lr=0.1"],
        ["--trainer", "trainer/media_ema.yaml", "--trainer.accelerator=cpu"],
        ["--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping", "--trainer.callbacks.patience=3"],
    ):
        check("fit", ["--config", str(TINY), *more])


MISSING = {
    "v1_eng_features": r"^feature file none/mavceleb/v1_voices_ecapa192\.npz: no such file",
    "v2_eng_features": r"^feature file none/v2/English_voices_train\.csv: no such file",
    "v1_eng_joint_features": r"^data\.sets\.v1: feature file .* check the path and data\.sets\.v1\.root",
    "s2f": r"^feature file none/voices\.npy: no such file",
    "v1_eng": r"^MAV-Celeb v1 is not at none/v1",
    "own_media": r"^manifest my_clips/manifest\.csv: no such file",
    "pretrain_vox1": r"^VoxCeleb1 people none/voxceleb/vox1_meta\.csv: no such file",
}


@pytest.mark.parametrize("name", MISSING)
def test_missing_data_are_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VOICEFACE_DATA", "MAVCELEB_FEATURES", "MAVCELEB_ROOT", "S2F_FEATURES"):
        monkeypatch.setenv(variable, "none")
    with pytest.raises(DataError, match=MISSING[name]):
        check_files(check("fit", ["--config", f"{name}.yaml"]))


def test_missing_trial_lists_are_said_and_what_is_there_passes(tmp_path: Path) -> None:
    for name in ("v.npz", "f.csv", "trials.csv"):
        (tmp_path / name).touch()
    files = [f"--data.root={tmp_path}", "--data.voices=[v.npz#x]", "--data.faces=[{path: f.csv}]"]
    given = ["--config", "own_data.yaml", *files]
    check_files(check("fit", [*given, "--data.test={heard: trials.csv, unheard: {identities: [a], trials: 600}}"]))
    with pytest.raises(DataError, match=r"trial list .*trails\.csv: no such file; did you mean trials\.csv\?"):
        check_files(check("fit", [*given, "--data.test={heard: {trials: trails.csv}}"]))
    check_files(check("fit", ["--config", "own_data.yaml", "--data.root=${vars.nothing}"]))  # the parser's to say
    check_files(check("fit", ["--config", str(TINY), "--data=own.Data", "--data.voices=x"]))


def test_options_read_in_the_source_are_those_of_the_parser() -> None:
    known = 0
    for class_path in public_classes():
        options = options_of_source(class_path)
        assert own_path(class_path), class_path
        if options is not None:
            known += 1
            assert {*options_of(class_path)} <= {*options}, class_path
    assert known > 30
    assert is_below("datamodules.VoxCelebFeatureDataModule", "datamodules.SplitDataModule")
    assert not is_below("datamodules.SplitDataModule", "datamodules.FeatureDataModule")


def refused_at_once(arguments: list[str], without: set[str]) -> None:
    """A command is refused within two seconds of CPU, before some packages are imported."""
    code = f"import sys; from experiments.run import main; s = main({arguments}); "
    code += f"print(s, sorted({without} & set(sys.modules)))"
    before = cpu_seconds()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert cpu_seconds() - before < 2
    assert done.stdout.strip() == "2 []"


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_config_without_its_option_is_said(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "my data/own.yaml", "--trainer.max_epochs", "1"]) == 2
    said = "error: unknown argument my data/own.yaml; did you mean --config 'my data/own.yaml'?\n"
    assert capsys.readouterr().err == said


@pytest.mark.processes
@pytest.mark.parametrize(
    "argument", ["--config=nowhere.yaml", *list(SAID)[:3], "--config=v1_eng_joint.yaml", "own.yaml"]
)
def test_it_takes_less_than_two_seconds(argument: str) -> None:
    arguments = ["fit", f"--config={TINY}", argument, "--a"]
    refused_at_once(arguments, {"torch", "lightning", "pandas"})


NOWHERE = (
    ["fit", "--config=own_data.yaml"],
    ["embed", "--manifest=none.csv", "--out=none"],
    ["split", "none"],
    ["protocol", "--config=none.yaml"],
    ["score", "tests", "--voices=none.wav", "--faces=tests"],
    ["score", "tests", "--voices=tests", "--faces=tests"],
    ["app", "none"],
)


@pytest.mark.processes
@pytest.mark.parametrize("arguments", NOWHERE, ids=lambda arguments: arguments[0])
def test_missing_data_take_two_seconds_and_no_torch(arguments: list[str]) -> None:
    refused_at_once(arguments, {"torch", "lightning"})


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_default(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from experiments.commands.completion import parser_of

    parser = parser_of(command)
    main([command, "--help"])
    words = " ".join(capsys.readouterr().out.split())
    for action in parser._actions:
        if action.option_strings and action.default not in (None, False, "==SUPPRESS==", [], {}):
            help_of = " ".join(parser._get_formatter()._get_help_string(action).split())  # type: ignore[attr-defined]
            assert "default" in help_of, action.option_strings
            assert action.option_strings[0] in words


def complete(script: Path, *words: str) -> set[str]:
    """What bash offers for the last word."""
    line = " ".join(f"'{word}'" for word in words)
    code = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _shtab_voiceface; "
    code += 'printf "%s\\n" "${COMPREPLY[@]}"'
    return {*subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split()}


def test_bash_completes_commands_options_and_configs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    assert {*COMMANDS} <= complete(script, "voiceface", "")
    assert complete(script, "voiceface", "ref") == {"refine"}
    assert {"--config", "--ckpt_path", "--no-test"} <= complete(script, "voiceface", "fit", "--")
    assert "v1_eng_features.yaml" in complete(script, "voiceface", "fit", "--config", "v1_eng_f")
    assert complete(script, "voiceface", "refine", "run", "--postproc", "postproc/tr") == {"postproc/transport.yaml"}
