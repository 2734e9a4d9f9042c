"""Small data sets on disk with their configs, and the command line run on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from experiments.run import main
from tests.datamodules.media_tree import mavceleb

TRAINER = {
    "accelerator": "cpu",
    "devices": 1,
    "max_epochs": 1,
    "num_sanity_val_steps": 0,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
HEADS = {
    "class_path": "lightning_modules.SCC",
    "init_args": {"network": {"class_path": "lightning_modules.networks.heads.HeadPair"}},
}
TRANSFORMER = {
    "class_path": "lightning_modules.SCC",
    "init_args": {
        "network": {
            "class_path": "lightning_modules.CAVMAE",
            "init_args": {"width": 24, "depth": 1, "heads": 3, "frames": 32, "image_size": 32},
        }
    },
}
LANGUAGES = ("English", "Urdu")
PEOPLE, TESTED, CLIPS = 10, 4, 3


def write_config(path: Path, data: dict[str, Any], model: dict[str, Any]) -> Path:
    """A config of a short fit on the CPU without pictures and logger."""
    content = {"seed_everything": 0, "trainer": TRAINER, "model": model, "data": data, "pictures": False}
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def feature_world(root: Path) -> Path:
    """Embeddings of ten people in two languages with a manifest, and lists of the last four; the config."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    rows = ["voice,face,identity,language,video,gender"]
    lists: dict[str, list[str]] = {language: [] for language in LANGUAGES}
    for person in range(PEOPLE):
        for language in LANGUAGES:
            for clip in range(CLIPS):
                stem = f"p{person}/{language}/{clip}"
                rows.append(f"{stem}.wav,{stem}.jpg,p{person},{language},v{clip},{'MF'[person % 2]}")
                if person >= PEOPLE - TESTED:
                    other = PEOPLE - TESTED + (person + 1 + clip) % TESTED
                    for face, label in ((person, 1), (other, int(other == person))):
                        key = f"{language[0]}{len(lists[language])}"
                        lists[language].append(f"{key},{stem}.wav,p{face}/{language}/{(clip + 1) % CLIPS}.jpg,{label}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    for modality, width in (("voices", 6), ("faces", 8)):
        np.save(root / f"{modality}.npy", rng.normal(size=(len(rows) - 1, width)).astype(np.float32))
    for language, lines in lists.items():
        (root / f"{language}.csv").write_text("\n".join(["key,voice,face,label", *lines]) + "\n")
    (root / "tested.txt").write_text("".join(f"p{person}\n" for person in range(PEOPLE - TESTED, PEOPLE)))
    data = {
        "class_path": "datamodules.FeatureDataModule",
        "init_args": {
            "root": str(root),
            "voices": [{"path": "voices.npy", "index": "manifest.csv"}],
            "faces": [{"path": "faces.npy", "index": "manifest.csv"}],
            "train_languages": ["English"],
            "exclude_identities": "tested.txt",
            "val_identities": 2,
            "val_trials": 20,
            "batch_size": 4,
            "test": {"heard": "English.csv", "unheard": "Urdu.csv"},
        },
    }
    return write_config(root / "world.yaml", data, HEADS)


def media_world(root: Path) -> Path:
    """MAV-Celeb v1 of eight people, wav and jpg that a fit reads once each; the config."""
    mavceleb(root)
    data = {
        "class_path": "datamodules.MAVCelebDataModule",
        "init_args": {
            "version": "v1",
            "train_language": "English",
            "root": str(root),
            "labels": {language: f"v1/{language}_labels.txt" for language in LANGUAGES},
            "val_identities": 2,
            "val_trials": 20,
            "batch_size": 4,
            "sampling": "once",
            "media": {"frames": 32, "image_size": 32},
        },
    }
    return write_config(root / "world.yaml", data, TRANSFORMER)


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command ends in status 2."""
    capsys.readouterr()
    assert main(arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in line
    return line.removeprefix("error: ")
