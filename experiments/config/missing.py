"""Finds files of the data that are not there, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from datamodules.schema import MODALITIES, DataError

FEATURES = ("FeatureDataModule", "VoxCelebFeatureDataModule")
LISTED = ("VoxCelebDataModule", "VoxCelebFeatureDataModule")


def check_files(settings: Mapping[str, Any]) -> None:
    """Refuses data whose feature files, manifest, trial lists or folder are missing, in the words of their readers.

    What else a data module needs is left to it, and so are data modules of one's own.

    Args:
        settings: keys of a fit and their values, without ``init_args`` where the class is not said.

    Raises:
        DataError: names the first that is missing.
    """
    data = _filled_in(settings)
    name, options = _named(data)
    sets = options.get("sets") if name == "JointDataModule" else None
    if not isinstance(sets, dict):
        _check(name, options)
        return
    for key, one in sets.items():
        try:
            _check(*_named(one))
        except DataError as error:
            raise DataError(f"data.sets.{key}: {str(error).replace('data.root', f'data.sets.{key}.root')}") from error


def _filled_in(settings: Mapping[str, Any]) -> Any:
    """The value of ``data`` with its variables; None where the parser will say what is wrong with them."""
    # wrong names and keys are said before this import
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        known = OmegaConf.create({"seed_everything": 0, **settings})
        data = known.get("data")  # a class may be named alone
        return OmegaConf.to_container(data, resolve=True) if OmegaConf.is_config(data) else data
    except OmegaConfBaseException:
        return None


def _named(data: Any) -> tuple[str, dict[str, Any]]:
    """The name of a class of this project, "" of others, and its options."""
    path = data.get("class_path") if isinstance(data, dict) else None
    options = data.get("init_args") if isinstance(data, dict) else None
    own = isinstance(path, str) and (path.startswith("datamodules.") or "." not in path)
    return (str(path).rpartition(".")[2] if own else ""), options if isinstance(options, dict) else {}


def _check(name: str, options: Mapping[str, Any]) -> None:
    # wrong names and keys are said before these imports, which take half a second
    from datamodules.datasets.mavceleb.layout import LANGUAGES, Layout
    from datamodules.io.feature_files import FeatureFile, paths_of
    from datamodules.io.text import existing, expanded

    root = expanded(str(options.get("root") or ""))
    version = options.get("version")
    if name == "MAVCelebDataModule" and version in LANGUAGES:
        Layout(root, version, "no_gender").check(str(options.get("train_language")))
    if name == "ManifestDataModule" and isinstance(options.get("manifest"), str):
        existing(options["manifest"], "manifest")
    if name in LISTED and isinstance(options.get("lists"), str):
        existing(expanded(options["lists"]) / "vox1_meta.csv", "VoxCeleb1 people")
    if name in FEATURES:
        for path, index in _feature_files(options):
            paths_of(FeatureFile(str(root / expanded(path)), index and str(root / expanded(index))))
    if name == "FeatureDataModule":
        for trials in _trial_lists(options):
            existing(root / expanded(trials), "trial list")


def _feature_files(options: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    tests = options.get("test")
    conditions = [one for one in tests.values() if isinstance(one, dict)] if isinstance(tests, dict) else []
    for part in (options, *conditions):
        for modality in MODALITIES:
            for file in part.get(f"{modality}s") or []:
                path, index = (file.get("path"), file.get("index")) if isinstance(file, dict) else (file, None)
                if isinstance(path, str):
                    yield path, index if isinstance(index, str) else None


def _trial_lists(options: Mapping[str, Any]) -> Iterator[str]:
    tests = options.get("test")
    for one in tests.values() if isinstance(tests, dict) else ():
        trials = one.get("trials") if isinstance(one, dict) else one
        task = one.get("task") if isinstance(one, dict) else None
        if isinstance(trials, str) and task is None:
            yield trials
