"""The negative control trains on the same clips, but on shuffled pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from datamodules import FeatureDataModule, FeatureFile, PermutedFeatureDataModule


def test_only_training_pairs_are_permuted(tmp_path: Path) -> None:
    people = np.repeat([f"p{i:02d}" for i in range(40)], 2)
    index = {"item": [f"{i:03d}" for i in range(80)], "identity": people, "language": "English", "video": ""}
    pd.DataFrame(index).to_csv(tmp_path / "i.csv", index=False)
    for name in ("v", "f"):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(len(name)).normal(size=(80, 3)).astype(np.float32))

    def data(kind: type[FeatureDataModule], seed: int = 0) -> FeatureDataModule:
        table = str(tmp_path / "i.csv")
        voices: list[str | FeatureFile] = [FeatureFile("v.npy", index=table)]
        faces: list[str | FeatureFile] = [FeatureFile("f.npy", index=table)]
        return kind(voices, faces, ["English"], root=str(tmp_path), val_identities=4, seed=seed)

    true, permuted = data(FeatureDataModule), data(PermutedFeatureDataModule)
    voice, face = permuted.training_set().voice_rows, permuted.training_set().face_rows
    np.testing.assert_array_equal(np.sort(voice), np.sort(true.training_set().voice_rows))
    np.testing.assert_array_equal(face, true.training_set().face_rows)
    assert (people[voice] == people[face]).mean() < 0.15
    assert not np.array_equal(voice, data(PermutedFeatureDataModule, 1).training_set().voice_rows)
    permuted_trials, true_trials = (d.evaluation_set("validate").cells["heard"].trials for d in (permuted, true))
    np.testing.assert_array_equal(permuted_trials.voices, true_trials.voices)
    np.testing.assert_array_equal(permuted_trials.labels, true_trials.labels)
