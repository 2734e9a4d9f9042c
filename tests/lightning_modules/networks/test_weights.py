"""Weights files: every accepted form, every refusal, and nothing executed."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lightning_modules.networks.weights import WeightsError, load_weights, read_state_dict


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def filled(value: float) -> dict[str, torch.Tensor]:
    return {k: torch.full_like(v, value) for k, v in net().state_dict().items()}


@pytest.mark.parametrize("form", ["plain", "lightning", "model", "ddp", "safetensors"])
def test_every_form_is_read(form: str, tmp_path: Path) -> None:
    state = filled(3.0)
    path = tmp_path / f"wéights of {form}.pt"
    if form == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(state, path)
    else:
        wrapped: dict[str, Any] = {
            "plain": state,
            "lightning": {"epoch": 3, "state_dict": state, "hyper_parameters": {"lr": 0.1}},
            "model": {"model": state},
            "ddp": {f"module.{k}": v for k, v in state.items()},
        }
        torch.save(wrapped[form], path)
    module = net()
    load_weights(module, path)
    assert all((v == 3).all() for v in module.state_dict().values())


def test_prefix_and_key_map(tmp_path: Path) -> None:
    state = {f"net.{k.replace('0.', 'fc.')}": v for k, v in filled(2.0).items()}
    state |= {"net.decoder.weight": torch.zeros(9), "other": torch.zeros(1)}
    torch.save(state, tmp_path / "w.pt")
    module = net()

    def rename(key: str) -> str | None:
        return None if key.startswith("decoder.") else key.replace("fc.", "0.")

    load_weights(module, tmp_path / "w.pt", prefix="net.", rename=rename)
    assert all((v == 2).all() for v in module.state_dict().values())


def test_key_map_may_not_merge_tensors(tmp_path: Path) -> None:
    torch.save(filled(1.0), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"same name after renaming: 0\.weight"):
        load_weights(net(), tmp_path / "w.pt", rename=lambda key: "0.weight")


def test_optional_keys_keep_their_values(tmp_path: Path) -> None:
    state = filled(5.0)
    del state["0.bias"]
    torch.save(state, tmp_path / "w.pt")
    module = net()
    bias = module[0].bias.detach().clone()
    load_weights(module, tmp_path / "w.pt", optional=["0.bias"])
    assert torch.equal(module[0].bias, bias)
    assert (module[0].weight == 5).all()


def test_what_does_not_fit_is_listed_in_one_short_line_and_nothing_is_changed(tmp_path: Path) -> None:
    state = filled(1.0)
    del state["0.weight"]
    state["0.bias"] = torch.zeros(9)
    state["1.weight"] = torch.full((2,), torch.nan)
    state |= {f"foreign.{i}": torch.zeros(1) for i in range(1000)}
    torch.save(state, tmp_path / "w.pt")
    module = net()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        load_weights(module, tmp_path / "w.pt")
    text = str(error.value)
    assert "1 missing: 0.weight" in text
    assert "1000 unexpected: foreign.0" in text
    assert "and 995 more" in text
    assert "0.bias (9,) for (2,)" in text
    assert "not finite: 1.weight" in text
    assert "w.pt" in text
    assert "\n" not in text
    assert len(text) < 500
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_nothing_in_a_pickle_is_executed(form: str, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    content = {"state_dict": filled(1.0), "hook": Evil(str(trace))}
    path = tmp_path / "w.ckpt"
    if form == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(WeightsError, match="nothing in it was run") as error:
        load_weights(net(), path)
    assert "\n" not in str(error.value)
    assert not trace.exists()


def damaged(form: str, path: Path) -> None:
    torch.save(filled(1.0), path)
    whole = path.read_bytes()
    contents = {"empty": b"", "text": b"<html>404</html>", "truncated": whole[: len(whole) // 2]}
    if form in contents:
        path.write_bytes(contents[form])
    else:
        torch.save({"list": [1, 2], "number": 3, "none": {}}[form], path)


@pytest.mark.parametrize("form", ["empty", "text", "truncated", "list", "number", "none"])
def test_damaged_and_foreign_files_are_named(form: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    damaged(form, path)
    with pytest.raises(WeightsError, match=r"w\.pt") as error:
        read_state_dict(path)
    assert "\n" not in str(error.value)


def test_a_damaged_safetensors_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(WeightsError, match=r"w\.safetensors: damaged"):
        read_state_dict(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such weights file"):
        read_state_dict(tmp_path / "absent.pt")


def why_unreadable(path: Path) -> WeightsError | None:
    try:
        read_state_dict(path)
    except WeightsError as error:
        return error
    return None


def test_whatever_the_bytes_the_error_is_one_that_names_the_file(tmp_path: Path) -> None:
    """The unpickler raises IndexError, TypeError, AssertionError and more on bytes that are nearly a checkpoint."""
    rng, path, kinds = random.Random(0), tmp_path / "w.pt", set()
    torch.save({"state_dict": {"a": torch.ones(3)}}, path, _use_new_zipfile_serialization=False)
    good = path.read_bytes()
    for attempt in range(600):
        spoilt = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            spoilt[rng.randrange(len(good))] = rng.randrange(256)
        path.write_bytes(rng.randbytes(100) if attempt % 2 else bytes(spoilt))
        said = why_unreadable(path)
        if said is not None:  # else a number was spoilt and no more
            assert "w.pt" in str(said)
            kinds.add(type(said.__cause__))
    assert {pickle.UnpicklingError, IndexError, UnicodeDecodeError} <= kinds
