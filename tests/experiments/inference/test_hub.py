"""``export --push`` and ``hf://USER/NAME`` against a hub on this machine."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import yaml
from huggingface_hub.utils import disable_progress_bars

from datamodules.schema import DataError
from experiments import load
from experiments.inference.hub import FILES, local_folder, repository
from experiments.inference.trained import read_trained
from experiments.run import main
from tests.experiments.inference.hub_server import TOKEN, Hub, started

EARLIER = Path(__file__).parents[2] / "compat" / "run"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that this process takes for the real one, with an empty cache, logged in."""
    disable_progress_bars()
    with started() as running:
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its storage speaks a protocol of its own
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


def refused(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """The one line of a command that ends with 2."""
    capsys.readouterr()
    assert main(list(command)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_pushed_model_is_found_again(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(EARLIER), "--push", "ann/voices-and.faces"]) == 0
    address = re.findall("hf://ann/voices-and.faces@[0-9a-f]{40}", capsys.readouterr().out)[-1]
    (files,) = list(hub.commits["ann/voices-and.faces"].values())[1:]
    assert set(files) == {*FILES, ".gitattributes"}
    assert hub.private["ann/voices-and.faces"]
    local = read_trained(EARLIER).model.state_dict()
    for name in ("hf://ann/voices-and.faces", address):
        fetched = load(name, device="cpu").trained.model.state_dict()
        assert all(torch.equal(fetched[key], value) for key, value in local.items())

    first = address.partition("@")[2]
    config = yaml.safe_load(files["config.yaml"]) | {"note": "newer"}
    second = hub.commit("ann/voices-and.faces", {"config.yaml": yaml.safe_dump(config).encode()})
    asked = len(hub.asked)
    assert local_folder(address).name == first  # pinned, and in the cache
    assert len(hub.asked) == asked
    assert local_folder("hf://ann/voices-and.faces").name == second

    huggingface_hub.constants.HF_HUB_OFFLINE = True
    assert local_folder("hf://ann/voices-and.faces").name == second  # what was fetched is there without a connection
    assert local_folder(address).name == first
    files_of = ("--voices", str(tmp_path), "--faces", str(tmp_path))
    line = refused(capsys, "score", "hf://bob/other", *files_of)
    assert "model.safetensors and config.yaml" in line
    assert "one folder" in line


def test_what_the_hub_refuses_is_one_line(hub: Hub, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = ("--voices", str(tmp_path), "--faces", str(tmp_path))
    assert "no such repository" in refused(capsys, "score", "hf://ann/none", *model)
    hub.commit("ann/there", {"config.yaml": b"{}"})
    assert "no such branch" in refused(capsys, "score", "hf://ann/there@v2", *model)
    assert "model.safetensors is missing" in refused(capsys, "score", "hf://ann/there", *model)
    hub.commit("ann/pickles", {"pytorch_model.bin": pickle.dumps(1), "config.yaml": b"{}"})
    line = refused(capsys, "score", "hf://ann/pickles", *model)
    assert "pickles (pytorch_model.bin)" in line
    assert not any("pytorch_model.bin" in path for path in hub.asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", "hf_wrong")
        line = refused(capsys, "export", str(EARLIER), "--push", "ann/mine")
    assert "HF_TOKEN" in line
    assert "hf_wrong" not in line
    huggingface_hub.constants.ENDPOINT = "http://127.0.0.1:9"
    assert "cannot be reached" in refused(capsys, "export", str(EARLIER), "--push", "ann/mine")
    assert "put both into one folder" in refused(capsys, "score", "hf://ann/none", *model)


def test_what_comes_from_a_hub_is_foreign(hub: Hub, tmp_path: Path) -> None:
    assert main(["export", str(EARLIER), "--out", str(tmp_path / "export")]) == 0
    files = {name: (tmp_path / "export" / name).read_bytes() for name in FILES}
    config = yaml.safe_load(files["config.yaml"])
    config["model"]["class_path"] = "os.system"
    hub.commit("ann/evil", {**files, "config.yaml": yaml.safe_dump(config).encode()})
    with pytest.raises(DataError, match="is no class of"):
        load("hf://ann/evil")
    config = yaml.safe_load(files["config.yaml"])
    config["inputs"]["voice"] = [{"trained": "hf://ann/other", "modality": "voice"}]
    hub.commit("ann/chained", {**files, "config.yaml": yaml.safe_dump(config).encode()})
    with pytest.raises(DataError, match="names a file"):
        load("hf://ann/chained", device="cpu").trained.encoder("voice")


ODD = (
    "ann", "ann/", "/ann", "ann/a/b", "ann/a b", "ann/..", "../ann", "ann/a..b", "ann/-a", "änn/a", "ann/a@",
    "ann/a@..", "ann/a@../main", "ann/a@-x", "ann/a?x", "ann/a#x", "ann/a%2e", "ann/a\n", "ann/" + "a" * 97,
    "a/b@c@d", "a/b@/x",
)  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="no name of a repository"):
        local_folder(f"hf://{name}")


@pytest.mark.parametrize(
    ("name", "revision"),
    [("ann/a", None), ("Ann-1/b_c.d", "main"), ("a/b", "refs/pr/1"), ("a/b", "v1.0"), ("a/b", "_x")],
)
def test_good_names_are_taken(name: str, revision: str | None) -> None:
    assert repository("hf://" + name + (f"@{revision}" if revision else "")) == (name, revision)
    assert repository(str(Path(f"hf://{name}"))) == (name, None)


def test_push_asks_for_a_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert "a revision cannot be chosen" in refused(capsys, "export", "run", "--push", "ann/a@v1")
    assert "--out is missing" in refused(capsys, "export", "run")
    assert "--out is missing" in refused(capsys, "export", "run", "--push", "ann/a", "--onnx")
