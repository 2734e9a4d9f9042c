"""``bench`` compares what computes the same thing, and measures it in processes of their own."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from datamodules.io.media import samples_of
from datamodules.media.sources import VoiceSource
from datamodules.media.transforms import augmenting_transform
from datamodules.workers import process_pool
from experiments.bench import compare, growth
from experiments.bench import media as bench_media
from experiments.bench import media_baseline as bench_plain
from experiments.bench.process import below
from experiments.bench.sizes import WAYS
from experiments.bench.sklearn_baseline import roc_eer
from experiments.commands import bench
from experiments.run import main
from lightning_modules import CAVMAE, ContrastiveLoss, FrontEnd
from postproc.metrics.roc import eer
from tests.datamodules.torch_draws import torch_draws


def test_the_baselines_do_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    distances, labels = compare.synthetic_trials(20_000)
    assert roc_eer(distances, labels) == pytest.approx(eer(distances, labels, direction="distance").eer, abs=1e-9)


@pytest.mark.parametrize("size", [500, 1000])
def test_both_ways_of_refinement_have_equal_eers(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for name, value in {"TRIALS": 20_000, "LARGEST_K": 6, "SPARSE_ABOVE": 500, "SPARSE_KS": (1, 2, 6)}.items():
        monkeypatch.setattr(compare, name, value)
    ours, theirs = (compare.measure("refine", who, size) for who in ("ours", "sklearn"))
    assert ours["eer"] == pytest.approx(theirs["eer"], abs=1e-9)
    assert 0.01 < ours["eer"] < 0.4
    assert theirs["estimated"] == (size > 500)


@pytest.mark.processes
def test_the_command_prints_and_writes_figures(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["bench", "eer", "--sizes", "1000", "--out", str(tmp_path / "bench.json")]) == 0
    (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert row["ours"]["eer"] == pytest.approx(row["sklearn"]["eer"], abs=1e-9)
    assert 0 < row["ours"]["start_gb"] <= row["ours"]["peak_gb"] < 4
    assert "1e+03" in capsys.readouterr().out


def test_the_growth_of_the_cost_is_the_exponent_between_sizes() -> None:
    one = {"seconds": 0.0, "estimated": False, "eer": 0.1, "peak_gb": 1.0, "start_gb": 1.0}
    made = [("eer", 1e6, 5.0), ("refine", 1e3, 0.3), ("refine", 1e4, 3.0), ("refine", 1e5, 3.0 * 10**0.5)]
    rows = [{"what": w, "size": size, "ours": one | {"seconds": t}, "sklearn": one} for w, size, t in made]
    assert [bench.growth(*pair) for pair in (rows[1:3], rows[2:4])] == pytest.approx([1.0, 0.5])
    column = next(c for c in bench.table_of(rows).columns if c.header == "growth")
    assert list(column.cells) == ["", "", "1.00", "0.50"]


@pytest.mark.processes
def test_reclustering_is_timed_whole_and_by_step(tmp_path: Path) -> None:
    assert main(["bench", "recluster", "--sizes", "900", "--out", str(tmp_path / "bench.json")]) == 0
    (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    seconds = {way["who"]: way["figure"] for way in row["ways"]}
    for clock in ("wall", "CPU"):
        parts = [seconds[f"{step}, {clock}"] for step in ("our k-means", "embedding", "pooling")]
        assert seconds[f"ours, {clock}"] == pytest.approx(sum(parts))
        assert seconds[f"scikit-learn, {clock}"] > seconds[f"embedding, {clock}"] > 0


def test_the_plain_network_and_loss_are_ours() -> None:
    torch.manual_seed(0)
    network = CAVMAE(128, 3, 24, 2, heads=3, frames=64, image_size=32).eval()
    weights = dict(network.named_parameters()) | dict(network.named_buffers())
    banks, images = torch.randn(4, 64, 128), torch.randn(4, 3, 32, 32)
    voice, face = bench_plain.embedding(weights, banks, "a", 3), bench_plain.embedding(weights, images, "v", 3)
    assert torch.allclose(voice, network.encode_voice(banks), atol=1e-5)
    assert torch.allclose(face, network.face(images), atol=1e-5)
    assert torch.allclose(bench_plain.loss(voice, face), ContrastiveLoss()(voice, face, torch.arange(4)), atol=1e-5)


def test_the_naive_clip_is_what_our_loader_and_front_end_give(tmp_path: Path) -> None:
    tone = np.sin(np.arange(samples_of(64)) / 20) * 0.1
    soundfile.write(tmp_path / "a.wav", tone, 16_000)
    Image.new("RGB", (40, 40), (10, 200, 30)).save(tmp_path / "a.png")
    bank, image = bench_plain.NaiveClips([(tmp_path / "a.wav", tmp_path / "a.png")], samples_of(64), 32)[0]
    ours = VoiceSource(np.array([str(tmp_path / "a.wav")]), samples_of(64)).read([0])
    assert torch.allclose(FrontEnd().eval()(ours, 64)[0], bank, atol=1e-3)
    assert image.shape == (3, 32, 32)


def test_the_naive_augmentation_is_ours_but_for_rounding() -> None:
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    image = coarse.resize((96, 96), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    theirs, ours = bench_plain.augmentation(64), augmenting_transform(64)
    for seed in range(20):
        torch.manual_seed(seed)
        expected = theirs(image)
        assert (
            ours(pixels, torch_draws(seed)) - expected
        ).abs().mean() < 2 / 255 / 0.22  # the standard deviation that both divide by


def test_every_media_measurement_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FRAMES": 32, "IMAGE": 32, "PEOPLE": 8, "CLIPS": 2, "SECONDS": 1, "LOADED": 4}.items():
        monkeypatch.setattr(bench_media, name, value)
    monkeypatch.setattr(bench_media, "CAVMAE", partial(CAVMAE, width=24, depth=1, heads=12))
    for rows in (bench_media.train_step(2), bench_media.loader(2)):
        assert len({row["who"] for row in rows}) == len(rows) >= 2
        assert all(row["figure"] > 0 for row in rows)


@pytest.mark.perf
def test_blocks_and_chunks_hold_less_than_a_third() -> None:
    sizes = {"loss_memory": 8192, "batch_memory": 512}  # a process adds 0.03 GB or so by chance
    for what, ways in WAYS.items():
        plain, ours = (compare.run_apart(what, who, sizes[what])[0]["figure"] for who in ways)
        assert ours < plain / 3


@pytest.mark.processes
def test_a_measurement_that_fails_is_one_line(capsys: pytest.CaptureFixture) -> None:
    assert main(["bench", "eer", "--sizes", "0"]) == 2
    assert capsys.readouterr().err.startswith("error: bench eer ours 0: ")


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[pytest.mark.processes] * (what == "report")) for what in growth.WORK]
)
def test_every_kind_of_work_that_grows_runs(what: str) -> None:
    assert growth.WORK.keys() == growth.GROWING.keys()
    growth.WORK[what](growth.GROWING[what][1][0])()


def _spend(mib: int, seconds: float) -> float:
    """Takes memory and CPU seconds."""
    filled = bytearray(b"1") * (mib << 20)
    while time.process_time() < seconds:
        pass
    return len(filled) / (1 << 30)


@pytest.mark.processes
def test_what_the_processes_of_a_pool_cost_is_counted() -> None:
    with process_pool(1) as pool:
        pool.submit(_spend, 0, 0.0).result()  # imports this module
        start = below()
        taken = pool.submit(_spend, 500, 0.0).result()
        larger = below()
        pool.submit(_spend, 0, start[0] + 2.0).result()
        alive = below()
    assert 0.9 * taken < larger[1] - start[1] < 1.5 * taken
    assert alive[1] > larger[1] - 0.01  # the kernel counts pages by thread, and adds them up now and then
    assert alive[0] - start[0] > 1.0
    after = below()
    assert after[0] >= alive[0]  # of an ended process they count on
    assert after[1] < alive[1]


@pytest.mark.processes
def test_growth_is_the_exponent_of_what_was_measured_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(growth, "GROWING", {"eer": ((), (1000, 10_000))})
    assert main(["bench", "growth", "--quick", "--out", str(tmp_path / "bench.json")]) == 0
    (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert row["sizes"] == [1000, 10_000]
    assert len(row["seconds"]) == 2
    assert all(peak >= start > 0 for peak, start in zip(row["peak_gb"], row["start_gb"], strict=True))
    assert "1,000 10,000" in capsys.readouterr().out
    assert growth.exponent([10, 100, 1000], [2.0, 200.0, 20_000.0]) == pytest.approx(2)
    assert np.isnan(growth.exponent([10, 100], [1.0, 0.0]))
