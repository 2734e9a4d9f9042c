"""``bench gpu`` and ``bench cpu`` measure every row on a CPU at tiny sizes, and outlive rows that fail."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import torch
from timm.layers.attention import Attention
from torch.utils.flop_counter import FlopCounterMode

from experiments.bench import compare
from experiments.bench import media as bench_media
from experiments.bench.limits import processes, step
from experiments.bench.limits.eer import sorted_eer
from experiments.bench.limits.setting import Measured, setting_of
from experiments.bench.ratios import fallen, ratios
from experiments.commands import bench
from experiments.run import main
from lightning_modules import CAVMAE
from postproc.metrics.roc import eer

SETTING = dataclasses.replace(setting_of("quick", "cpu"), warm=0)
LARGEST_ERROR = {"step": 0.05, "kmeans": 0.2, "fbank": 1e-3, "loss": 1e-4, "eer": 1e-9, "ranks": 1e-9}
SLOW = ("torch.compile", "2 ranks", "--help", "--print_config", "6 pairs")


@pytest.mark.parametrize("name", [*processes.CPU])
def test_every_row_is_measured_beside_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "TRIALS", 2000)
    monkeypatch.setattr(bench_media, "SECONDS", 1)
    cases = import_module(f"experiments.bench.limits.{name}").cases(SETTING)
    assert len(cases) >= 1
    for way, case in cases.items():
        if not any(text in way for text in SLOW):
            row = case()
            assert row.seconds > 0
            assert row.amount > 0
            assert (row.error or 0) <= LARGEST_ERROR.get(name, 0), way
            if name not in ("rates", "ranks"):
                assert (
                    processes.against_limit(vars(row), {"copy": 1e9, "host copy": 1e9, "bf16": 1e9, "fp32": 1e9})[
                        "ratio"
                    ]
                    > 0
                )
            json.dumps(dataclasses.asdict(row))


def test_the_gpu_bench_takes_less_than_eight_minutes_and_has_every_row() -> None:
    assert sum(processes.GPU.values()) < 8 * 60 - 20
    cases = step.cases(setting_of("gpu", "cuda"))
    for text in ("written out", "SDPA, 64", "channels_last", "checkpointing, 1024", "torch.compile", "in chunks of"):
        assert any(text in name for name in cases), text


def test_operations_of_a_step_are_those_that_torch_counts() -> None:
    network = CAVMAE(128, 3, width=48, depth=2, heads=3, frames=64, image_size=32)
    for module in network.modules():
        if isinstance(module, Attention):
            module.fused_attn = False  # torch does not count the fused one on CPUs
    with FlopCounterMode(display=False) as counter:
        (network.encode_voice(torch.randn(1, 64, 128)).sum() + network.face(torch.randn(1, 3, 32, 32)).sum()).backward()
    assert step.step_flops(network) == counter.get_total_flops()


def test_the_eer_by_sorting_is_ours() -> None:
    for seed, decimals in enumerate((1, 2, 8)):
        torch.manual_seed(seed)
        labels = torch.randint(0, 2, (999,), dtype=torch.int8)
        distances = (torch.randn(999) - labels).round(decimals=decimals)
        expected = eer(distances.numpy(), labels.numpy(), direction="distance").eer
        assert sorted_eer(distances, labels) == pytest.approx(expected, abs=1e-12)


def test_the_limit_is_the_slowest_of_what_cannot_be_left_out() -> None:
    row = dataclasses.asdict(Measured(2.0, 10, "images", {"bf16": 4.0, "copy": 1.0, "fp32": 1e9}))
    found = processes.against_limit(row, {"bf16": 4.0, "copy": 8.0})  # no rate of fp32 was measured
    assert (found["limit"], found["limit_seconds"], found["ratio"]) == ("bf16", 1.0, 0.5)
    assert processes.against_limit({**row, "best": 1.5}, {"bf16": 4.0})["limit"] == "measured"
    assert "ratio" not in processes.against_limit(row, {})
    assert processes.against_limit({"name": "x", "failed": "y"}, {}) == {"name": "x", "failed": "y"}


def test_failures_are_rows() -> None:
    def fail(error: BaseException) -> Any:
        def case() -> Measured:
            raise error

        return processes.row_of(case)

    assert fail(ModuleNotFoundError("No module named 'faiss'", name="faiss")) == (
        {"failed": "the package faiss is missing"},
        False,
    )
    assert fail(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried ...")) == ({"failed": "out of memory"}, False)
    assert fail(RuntimeError("CUDA error:\n an illegal access")) == (
        {"failed": "RuntimeError: CUDA error: an illegal access"},
        True,
    )


def played(monkeypatch: pytest.MonkeyPatch, plays: list[list[dict[str, Any] | None]]) -> list[list[str]]:
    """Replaces processes by messages; returns what each was asked for. Without a None at its end, a process hangs."""
    asked: list[list[str]] = []

    @contextmanager
    def process(arguments: list[str], log: Any) -> Iterator[Queue[Any]]:
        messages: Queue[Any] = Queue()
        for message in plays[len(asked)]:
            messages.put(message)
        asked.append(arguments[3:])
        log.write("Traceback\nSegmentation fault\n")
        yield messages

    monkeypatch.setattr(processes, "_process", process)
    return asked


GOOD = dataclasses.asdict(Measured(1.0, 1, "B"))
NAMES: dict[str, Any] = {"cases": ["a", "b", "c"]}


def test_a_row_that_ends_its_process_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    plays = [
        [NAMES, {"start": "a"}, {"name": "a", **GOOD}, {"start": "b"}, None],
        [NAMES, {"start": "c"}, {"name": "c", **GOOD}, None],
    ]
    asked = played(monkeypatch, plays)
    rows = list(processes.measure({"eer": 60}, "gpu", "cuda"))
    assert [(row["name"], row.get("failed")) for row in rows] == [("a", None), ("b", "Segmentation fault"), ("c", None)]
    assert asked == [[], ["c"]]


def test_a_row_that_hangs_and_a_bench_that_cannot_start_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(processes.LONGEST, "gpu", 0.1)
    played(monkeypatch, [[NAMES, {"start": "a"}], [NAMES, {"start": "b"}, {"name": "b", **GOOD}, None], [None], [None]])
    rows = list(processes.measure({"eer": 60, "loss": 60}, "gpu", "cuda"))
    assert [(row["what"], row["name"], row.get("failed")) for row in rows] == [
        ("eer", "a", processes.LATE),
        ("eer", "b", None),
        ("eer", "c", "Segmentation fault"),
        ("loss", "all", "Segmentation fault"),
    ]
    played(monkeypatch, [[NAMES, {"start": "a"}]])
    late = list(processes.measure({"eer": 0.05}, "gpu", "cuda"))
    assert [(row["name"], row["failed"]) for row in late] == [(name, processes.LATE) for name in "abc"]


def test_a_ratio_that_fell_is_flagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    ways = [{"who": "plain", "figure": 2.0, "unit": "GB"}, {"who": "ours", "figure": 0.5, "unit": "GB"}]
    side = {"estimated": False, "eer": 0.1, "peak_gb": 1.0, "start_gb": 1.0}
    seconds = {"eer": (1.0, 5.0)}

    def measured(what: str, size: int) -> dict[str, Any]:
        if what == "memory":
            return {"what": what, "size": size, "ways": ways}
        ours, theirs = seconds[what]
        return {"what": what, "size": size, "ours": {**side, "seconds": ours}, "sklearn": {**side, "seconds": theirs}}

    monkeypatch.setattr(compare, "compare", measured)
    monkeypatch.setattr(bench, "_environment", lambda: {"machine": "2 x CPU"})
    old = tmp_path / "old.json"
    assert main(["bench", "eer", "--sizes", "1000", "--out", str(old)]) == 0
    content = json.loads(old.read_text())
    assert content["environment"] == {"machine": "2 x CPU"}
    assert ratios(content["rows"]) == {"eer 1000": 5.0}
    seconds["eer"] = 1.1, 5.0
    assert main(["bench", "--compare", str(old)]) == 0
    seconds["eer"] = 1.2, 5.0
    capsys.readouterr()
    assert main(["bench", "--compare", str(old)]) == 1
    assert "1 of 1 ratios fell by more than 15 %" in capsys.readouterr().out
    old.write_text(json.dumps(content["rows"]))  # of an earlier version
    assert main(["bench", "eer", "--sizes", "1000", "--compare", str(old)]) == 1
    assert "another machine: None, here 2 x CPU" in capsys.readouterr().err
    assert ratios([measured("memory", 8)]) == {"memory 8, ours": 4.0}
    assert fallen({"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 0.84, "b": 0.86}) == ["a"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "what to measure is missing"),
        (["eer", "--compare", "none.json"], "none.json: no such file"),
        (["eer", "--compare", "other.json"], "other.json: is no file that bench --out has written"),
        (["nothing"], "invalid choice"),
    ],
)
def test_wrong_calls_are_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.json").write_text('{"a": 1}')
    assert main(["bench", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_the_way_out_is_said(capsys: pytest.CaptureFixture) -> None:
    assert main(["bench", "gpu"]) == 2
    assert "no CUDA GPU; bench gpu --quick --device cpu" in capsys.readouterr().err


@pytest.mark.processes
@pytest.mark.timeout(1500)
def test_the_whole_gpu_bench_runs_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "bench.json"
    assert main(["bench", "gpu", "--quick", "--device", "cpu", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert {row["what"] for row in rows} == set(processes.GPU)
    assert [row for row in rows if "failed" in row] == []
    shown = capsys.readouterr().out
    assert all(f" {row['name']} " in shown for row in rows)
