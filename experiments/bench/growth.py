"""What work costs as it grows: CPU seconds and memory at growing sizes, each in its own process; their exponents."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from datamodules.schema import MODALITIES, DataError
from experiments.bench.process import below, peak_gb
from experiments.bench.sizes import GROWING

Row = dict[str, Any]
WIDTH, BATCH, CLIPS, LANGUAGES = 768, 1024, 20, ("English", "Urdu")
SHARED = 200_000  # items that ranks share
NUMBER = b"number 0"  # of a file, in its place
ROOT = Path(__file__).parents[2]  # of the checkout


class Pool(NamedTuple):
    """What the processes of a pool had at their peaks, in GB; they have ended when the work has."""

    gb: float


def bank(size: int) -> Callable[[], object]:
    """Collects the embeddings of ``size`` items of one modality, and puts them in order."""
    import torch

    from lightning_modules.evaluation.bank import EmbeddingBank

    order = torch.randperm(size)

    def work() -> None:
        collected = EmbeddingBank(size)
        for rows in order.split(BATCH):
            collected.update(torch.ones(len(rows), WIDTH), rows)
        assert collected.compute().shape == (size, WIDTH)

    return work


def scoring(size: int) -> Callable[[], object]:
    """Distances of ``size`` trials between 10,000 voices and faces, in blocks as in a test."""
    import torch

    from lightning_modules.cca import RegularisedCCA

    model = RegularisedCCA((WIDTH, WIDTH))
    rng = np.random.default_rng(0)
    items = 10_000
    model.embeddings = {m: rng.standard_normal((items, WIDTH), dtype=np.float32) for m in MODALITIES}
    voice, face = (rng.integers(items, size=size) for _ in range(2))
    torch.set_num_threads(1)
    return lambda: model._score(voice, face)


def eer(size: int) -> Callable[[], object]:
    """The exact EER of ``size`` trials."""
    from experiments.bench.compare import synthetic_trials
    from postproc.metrics.roc import eer as exact

    distances, labels = synthetic_trials(size)
    return lambda: exact(distances, labels, direction="distance")


def sampler(size: int) -> Callable[[], object]:
    """An epoch of batches over the clips of ``size`` identities, 20 each."""
    from datamodules.sampling.samplers import IdentityBatchSampler

    identity = np.repeat(np.arange(size), CLIPS)
    language = np.resize(np.array(LANGUAGES), len(identity))
    return lambda: sum(1 for _ in IdentityBatchSampler(identity, language, min(64, size)))


def record(size: int) -> Callable[[], object]:
    """What a checkpoint says of ``size`` identities, and the comparison with as many others."""
    from datamodules.evaluation.learnt import Learnt

    names = [[f"id{i:05d}" for i in range(start, start + size)] for start in (0, size)]

    def work() -> None:
        one, other = (Learnt.of("any", part, (), (), None) for part in names)
        assert Learnt.read(json.loads(json.dumps(one.plain()))) == one
        assert one | other != one

    return work


def prepare(size: int) -> Callable[[], Pool]:
    """The manifest of ``size`` files, voices and faces, of identities with 20 videos each; one process reads them."""
    from datamodules.prepare.listing import list_files
    from datamodules.prepare.manifest import check_files, manifest_of, write_manifest
    from datamodules.prepare.paths import describe_all, layout_of

    folder, (voice, face) = TemporaryDirectory(), _one_clip()
    for clip in range(size // 2):
        video = f"id{clip // CLIPS:06d}/English/v{clip % CLIPS:02d}"
        for name, content in ((f"voices/{video}/1.wav", voice), (f"faces/{video}/1.jpg", face)):
            path = Path(folder.name, name)
            path.parent.mkdir(parents=True)
            path.write_bytes(content.replace(NUMBER, clip.to_bytes(len(NUMBER), "little")))  # no two are equal

    def work() -> Pool:
        root, readers = Path(folder.name), [0.0]
        listing = list(list_files(root, {}))
        files = describe_all(listing, layout_of(root, listing, [], False, {}), None, "", {})
        paths = [(file.path, file.modality) for file in files]
        probes = check_files(root, paths, root / "parts", 1, False, lambda _: readers.append(below()[1]))
        assert not probes["problem"].any()
        write_manifest(manifest_of(files, probes, {}), root / "manifest.csv")
        return Pool(max(readers))

    return work


def _one_clip() -> tuple[bytes, bytes]:
    """A wav and a jpg with ``NUMBER`` in place of samples and in a comment."""
    import soundfile
    from PIL import Image

    rng, voice, face = np.random.default_rng(0), BytesIO(), BytesIO()
    soundfile.write(voice, rng.normal(scale=0.1, size=400), 8000, format="WAV")
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(face, "JPEG", comment=NUMBER)
    return voice.getvalue()[: -len(NUMBER)] + NUMBER, face.getvalue()


def report(size: int) -> Callable[[], object]:
    """The page of ``size`` runs that differ in their seeds; one is made, the others are its copies."""
    from experiments.report.build import build_report

    folder = TemporaryDirectory()
    command = ["fit", "--config", "demo.yaml", "--model", "model/cca.yaml", "--run_dir", f"{folder.name}/0"]
    subprocess.run([sys.executable, "-m", "experiments.run", *command], check=True, capture_output=True, cwd=ROOT)
    config = Path(folder.name, "0", "config.yaml").read_text()
    for seed in range(1, size):
        copy = Path(shutil.copytree(f"{folder.name}/0", f"{folder.name}/{seed}", copy_function=os.link))
        (copy / "config.yaml").unlink()
        (copy / "config.yaml").write_text(config.replace("seed_everything: 0", f"seed_everything: {seed}"))

    def work() -> None:
        text, _ = build_report([Path(folder.name)], "html")
        assert f"{size} run" in text

    return work


def ranks(size: int) -> Callable[[], object]:
    """Embeds 200,000 items by linear heads on ``size`` gloo ranks, and collects the embeddings on all of them."""
    import torch
    import torch.distributed as dist
    from torch.multiprocessing.spawn import start_processes

    folder = TemporaryDirectory()
    arguments = size, folder.name
    others = start_processes(_join, (1, *arguments), size - 1, join=False, start_method="spawn") if size > 1 else None
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder.name}/store", rank=0, world_size=size)
    dist.barrier()

    def work() -> None:
        _embed(0, size)
        while others is not None and not others.join():
            pass
        dist.destroy_process_group()
        folder.cleanup()

    return work


def _join(index: int, first: int, size: int, folder: str) -> None:
    """What another rank does."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=first + index, world_size=size)
    dist.barrier()
    _embed(first + index, size)
    dist.destroy_process_group()


def _embed(rank: int, size: int) -> None:
    import torch

    from lightning_modules.evaluation.bank import EmbeddingBank
    from lightning_modules.networks.heads import HeadPair

    torch.manual_seed(0)
    heads, collected = HeadPair(WIDTH, WIDTH, WIDTH), EmbeddingBank(SHARED)
    with torch.no_grad():
        for rows in torch.arange(rank, SHARED, size).split(BATCH):
            collected.update(heads.voice(torch.ones(len(rows), WIDTH)), rows)
    assert collected.compute().shape == (SHARED, WIDTH)


WORK: dict[str, Callable[[int], Callable[[], object]]] = {
    "bank": bank, "scoring": scoring, "eer": eer, "sampler": sampler, "record": record,
    "prepare": prepare, "report": report, "ranks": ranks,
}  # fmt: skip


def measure(what: str, size: int) -> Row:
    """One size in this process: CPU seconds of the work, peak memory, and that before the work.

    The processes of a pool count in both, the peak being the sum of their peaks; other ranks do not.
    """
    work = WORK[what](size)
    before, start = peak_gb(), time.process_time()
    result = work()
    seconds = time.process_time() - start + below()[0]
    peak = peak_gb() + (result.gb if isinstance(result, Pool) else 0)
    return {"seconds": seconds, "peak_gb": peak, "start_gb": before}


def measure_growth(quick: bool) -> Iterator[Row]:
    """A row for each kind of work: ``growth`` (its name), ``sizes``, ``seconds``, ``peak_gb``, ``start_gb``."""
    for what, (usual, small) in GROWING.items():
        row: Row = {"what": f"growth {what}", "growth": what, "sizes": list(small if quick else usual)}
        for size in row["sizes"]:
            print(f"bench growth {what}: {size:,}", file=sys.stderr, flush=True)
            command = [sys.executable, "-m", "experiments.bench.growth", what, str(size)]
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
            if done.returncode:
                said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
                raise DataError(f"bench growth {what} {size}: {said}")
            for key, value in json.loads(done.stdout.splitlines()[-1]).items():
                row.setdefault(key, []).append(value)
        yield row


def exponent(sizes: list[int], costs: list[float]) -> float:
    """X of cost ~ size^x by least squares of the logarithms; NaN where there is no cost."""
    if min(costs) <= 0 or len(sizes) < 2:
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
