"""Files to embeddings, end to end: whether the loader or the network bounds it; and the loader of training batches."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.workers import make_loader
from experiments.bench.limits.setting import Case, Measured, Setting, peak_gb, reset_peak, seconds_of
from lightning_modules.networks.cavmae import CAVMAE
from lightning_modules.networks.frontend import samples_of

DISTINCT = 128  # files on disk; more are the same ones again


def cases(setting: Setting) -> dict[str, Case]:
    """Both modalities, and training batches."""
    how = f"{setting.files} files, {setting.workers} loader processes"
    made: dict[str, Case] = {f"{what}, {how}": partial(_embed, setting, what) for what in ("voices", "faces")}
    return made | {f"training batches, {how}": partial(_training, setting)}


class Files(Dataset[Tensor]):
    """Inputs of the network by file.

    Args:
        source: reads rows, see :class:`datamodules.media.sources.MediaSource`.
        rows: which row of the source each position is.
    """

    def __init__(self, source: Any, rows: list[int]) -> None:
        self.source, self.rows = source, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Tensor:
        item: Tensor = self.source.read([self.rows[position]])[0]
        return item


@lru_cache(maxsize=1)
def _network(setting: Setting) -> CAVMAE:
    with torch.device(setting.device):
        return CAVMAE(128, 3, **setting.network).eval()


@torch.inference_mode()
def _embed(setting: Setting, what: str) -> Measured:
    network = _network(setting)
    embed = network.voice if what == "voices" else network.face
    with tempfile.TemporaryDirectory() as folder:
        loader = _loader(setting, _source(setting, what, Path(folder), None))

        def run(network: Callable[[Tensor], Tensor] | None) -> float:
            start = time.perf_counter()
            for batch in loader:
                if network is not None:
                    with setting.autocast():
                        network(batch.to(setting.device, non_blocking=True)).float().cpu()
            return time.perf_counter() - start

        run(None)  # files into the page cache
        reset_peak(setting.device)
        seconds, alone = run(embed), run(None)
        batch = next(iter(loader)).to(setting.device)
    with setting.autocast():
        computing = seconds_of(lambda: embed(batch), setting) * setting.files / len(batch)
    rates = f"loader {setting.files / alone:.0f}/s, network {setting.files / computing:.0f}/s"
    bound = "loader" if alone > computing else "network"
    return Measured(
        seconds, setting.files, "files", best=max(alone, computing), peak_gb=peak_gb(setting.device),
        note=f"bound by the {bound}: {rates}",
    )  # fmt: skip


def _source(setting: Setting, what: str, folder: Path, seed: int | None) -> Any:
    # these need soundfile, which a GPU machine may lack: the row says so
    from datamodules.media.sources import FaceSource, VoiceSource
    from datamodules.media.transforms import augmenting_transform, plain_transform
    from experiments.bench.media import write_corpus

    pairs = write_corpus(folder, min(setting.files, DISTINCT))
    paths = np.array([str(pair[what == "faces"]) for pair in pairs])
    if what == "voices":
        return VoiceSource(paths, samples_of(setting.network["frames"]), seed=seed)
    side = setting.network["image_size"]
    return FaceSource(paths, plain_transform(side) if seed is None else augmenting_transform(side), seed=seed)


def _loader(setting: Setting, source: Any) -> DataLoader[Tensor]:
    rows = [i % len(source.paths) for i in range(setting.files)]
    pinned = setting.device != "cpu"
    return make_loader(DataLoader, Files(source, rows), setting.workers, batch_size=setting.batch, pin_memory=pinned)


def _training(setting: Setting) -> Measured:
    """Crops and augmented images, against decoding crops and images with nothing else."""
    import soundfile  # as above
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / what for what in ("voices", "faces")]
        for place in places:
            place.mkdir()
        sources = [_source(setting, place.name, place, seed=0) for place in places]
        loaders = [_loader(setting, source) for source in sources]

        def decode(source: Any, read: Callable[[str], object]) -> Iterable[object]:
            decoded = _Decoded(source.paths, read, setting.files)
            return make_loader(DataLoader, decoded, setting.workers, batch_size=setting.batch, collate_fn=len)

        crop = partial(soundfile.read, dtype="float32", frames=samples_of(setting.network["frames"]))
        plain = [decode(sources[0], crop), decode(sources[1], _pixels(Image))]
        best = seconds_of(lambda: [sum(1 for _ in part) for part in plain], setting)
        seconds = seconds_of(lambda: [sum(1 for _ in part) for part in loaders], setting)
    return Measured(seconds, setting.files, "pairs", best=best, note="limit: decoding alone")


def _pixels(image: Any) -> Callable[[str], object]:
    return lambda path: np.asarray(image.open(path))


class _Decoded(Dataset[object]):
    def __init__(self, paths: Any, read: Callable[[str], object], count: int) -> None:
        self.paths, self.read, self.count = paths, read, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> object:
        return self.read(str(self.paths[position % len(self.paths)]))
