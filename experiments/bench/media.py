"""What raw media cost, for ``bench``: training step, loader, and peak memory, each beside the plain way."""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from datamodules import ManifestDataModule, MediaOptions
from datamodules.io.media import samples_of
from datamodules.schema import PairBatch
from datamodules.workers import make_loader
from experiments.bench import media_baseline as bench_plain
from experiments.bench.process import peak_gb, say
from lightning_modules import CAVMAE, SCC, ContrastiveLoss, FrontEnd, LayerwiseAdamW
from lightning_modules.training.precision import computes_bf16

FRAMES, IMAGE, HEADS = 512, 224, 12
DROPPED = 0.5  # tokens left out in the line that computes something else
STEPS = 2  # measured of each way, after one that is not; ways take turns, the best of each counts
PEOPLE, CLIPS, SECONDS, PIXELS, LOADED = 32, 4, 10, 256, 32  # the loader's corpus, and its batch
TINY: dict[str, Any] = {"width": 48, "depth": 2, "heads": 3, "frames": 128, "image_size": 64}
CHUNK = 32
Row = dict[str, Any]


def train_step(size: int) -> list[Row]:
    """Pairs per second of forward, backward and AdamW step, the full network; all ways share one set of weights.

    The plain way has torch's AdamW as it comes.
    """
    torch.manual_seed(0)
    network, contrastive = CAVMAE(128, 3, frames=FRAMES, image_size=IMAGE).train(), ContrastiveLoss()
    optimizers = torch.optim.AdamW(network.parameters(), lr=1e-6), LayerwiseAdamW(network.parameters(), lr=1e-6)
    banks, faces = torch.randn(size, FRAMES, 128), torch.randn(size, 3, IMAGE, IMAGE)

    def plain() -> Tensor:
        weights = dict(network.named_parameters()) | dict(network.named_buffers())
        voice = bench_plain.embedding(weights, banks, "a", HEADS)
        return bench_plain.loss(voice, bench_plain.embedding(weights, faces, "v", HEADS))

    def ours(half: bool, dropped: float = 0.0) -> Tensor:
        network.patch_dropout.prob = dropped
        with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            voice, face = network.encode_voice(banks), network.face(faces)
            loss: Tensor = contrastive(voice, face, torch.arange(size))
        return loss

    ways: dict[str, Callable[[], Tensor]] = {
        "plain eager fp32": plain,
        "ours fp32": partial(ours, False),
    }
    if computes_bf16("cpu"):
        ways["ours bf16"] = partial(ours, True)
        ways[f"ours bf16, {DROPPED:.0%} of patches dropped: another computation"] = partial(ours, True, DROPPED)
    best = dict.fromkeys(ways, (float("inf"), float("inf")))  # seconds, seconds of all cores
    for step in range(1 + STEPS):
        for name, way in ways.items():
            say(f"train_step {size}, round {step + 1} of {1 + STEPS}: {name}")
            optimizer = optimizers[way is not plain]
            start, spent = time.perf_counter(), time.process_time()
            optimizer.zero_grad()
            way().backward()
            optimizer.step()
            if step:
                best[name] = min(best[name], (time.perf_counter() - start, time.process_time() - spent))
    return [
        {"who": name, "figure": size / seconds, "unit": "pairs/s", "cpu_s_per_pair": spent / size}
        for name, (seconds, spent) in best.items()
    ]


def loader(size: int) -> list[Row]:
    """Clips per second of CPU from files to filter banks and augmented images, in one process, of ``size`` batches."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = write_corpus(folder, PEOPLE * CLIPS)
        media = MediaOptions(frames=FRAMES, image_size=IMAGE)
        data = ManifestDataModule(
            str(folder / "clips.csv"), ["any"], val_identities=0, media=media, batch_size=LOADED, steps_per_epoch=size
        )
        frontend = FrontEnd().eval()

        def ours() -> Iterator[Any]:
            for batch in data.train_dataloader():
                yield frontend(batch["voice"], FRAMES), batch["face"]

        def naive() -> Iterator[Any]:
            clips = bench_plain.NaiveClips(
                [pairs[i % len(pairs)] for i in range(size * LOADED)], samples_of(FRAMES), IMAGE
            )
            yield from make_loader(DataLoader, clips, 0, batch_size=LOADED, shuffle=True)

        ways = {"whole files, clip by clip": naive, "ours": ours}
        best = dict.fromkeys(ways, float("inf"))
        with one_thread():
            for step in range(1 + STEPS):
                for who, way in ways.items():
                    say(f"loader {size}, round {step + 1} of {1 + STEPS}: {who}")
                    spent = time.process_time()
                    clips = sum(len(batch[0]) for batch in way())
                    if step:
                        best[who] = min(best[who], (time.process_time() - spent) / clips)
        return [{"who": who, "figure": 1 / seconds, "unit": "clips/CPU s"} for who, seconds in best.items()]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch calculates with one thread, as in a loader process, so that seconds of CPU are those of the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def write_corpus(folder: Path, count: int) -> list[tuple[Path, Path]]:
    """Noise: recordings and images of the usual sizes, and the manifest ``clips.csv``."""
    rng = np.random.default_rng(0)
    pairs = []
    with (folder / "clips.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["voice", "face", "identity", "language"])
        for i in range(count):
            audio, image = folder / f"{i}.wav", folder / f"{i}.jpg"
            soundfile.write(audio, rng.normal(0, 0.1, SECONDS * 16_000), 16_000)
            coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            coarse.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC).save(image)
            writer.writerow([audio.name, image.name, f"p{i // CLIPS}", "any"])
            pairs.append((audio, image))
    return pairs


def loss_memory(who: str, size: int) -> float:
    """GB that a loss and its gradient add to the process: Eq. 1 on ``size`` embeddings of width 512."""
    torch.manual_seed(0)
    voice, face = (F.normalize(torch.randn(size, 512), dim=1).requires_grad_() for _ in range(2))
    ours, identity = ContrastiveLoss(), torch.arange(size)
    ours(voice[:64], face[:64], identity[:64]).backward()
    before = peak_gb()
    (ours(voice, face, identity) if who == "blockwise" else bench_plain.loss(voice, face)).backward()
    return peak_gb() - before


def batch_memory(who: str, size: int) -> float:
    """GB that a training step adds to the process: the tiny network on ``size`` pairs."""
    torch.manual_seed(0)
    model = SCC((128, 3), partial(CAVMAE, **TINY), chunk_size=CHUNK if who == "chunks" else None)
    voice, face = torch.randn(size, samples_of(TINY["frames"])), torch.randn(size, 3, 64, 64)
    identity = torch.arange(size)
    model.loss(PairBatch(voice=voice[:2], face=face[:2], identity=identity[:2], clip=identity[:2]))["loss"].backward()
    before = peak_gb()
    model.loss(PairBatch(voice=voice, face=face, identity=identity, clip=identity))["loss"].backward()
    return peak_gb() - before
