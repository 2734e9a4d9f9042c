"""``score`` and ``export``: what a test measured is what files give, from the run and from an export elsewhere."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from datamodules.evaluation.learnt import Learnt
from datamodules.io.media import read_image
from datamodules.schema import DataError
from experiments import load
from experiments.inference import exporting
from experiments.inference.file_encoders import FrozenFiles
from experiments.inference.onnx import export_onnx
from experiments.inference.scoring import distance_rows, embed_files
from experiments.inference.trained import read_trained
from experiments.run import main
from lightning_modules.encoders.faces.aligned import AlignedFace
from lightning_modules.fop import FOP
from tests.experiments.clips import FACE, VOICE, make_clips
from tests.experiments.tiny_encoders import ColourFace
from tests.faults.disks import Fault, contents, disk, failing

TRAINER = {"accelerator": "cpu", "devices": 1, "max_epochs": 2, "enable_progress_bar": False, "num_sanity_val_steps": 0}
TEST = {"heard": {"identities": "manifest.csv#split=test"}}


def fitted(folder: Path, model: dict, data: dict) -> Path:
    """The run folder of a fit and test."""
    config = {"seed_everything": 0, "trainer": TRAINER, "model": model, "data": data, "pictures": False}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(folder / "config.yaml"), f"--run_dir={folder / 'run'}"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("clips")).parent


@pytest.fixture(scope="module")
def head_run(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads on packs that ``embed`` made."""
    assert main(["embed", f"--manifest={clips / 'manifest.csv'}", VOICE, FACE, f"--out={clips / 'packs'}"]) == 0
    packs = {f"{m}s": [{"path": f"packs/{m}s.npy", "index": str(clips / f"packs/{m}s.csv")}] for m in ("voice", "face")}
    people = {"exclude_identities": TEST["heard"]["identities"], "val_identities": 2}
    data = {"root": str(clips), **packs, "train_languages": ["English"], "test": TEST, "batch_size": 6, **people}
    model = {"class_path": "lightning_modules.FOP", "init_args": {"embedding_dim": 8}}
    data = {"class_path": "datamodules.FeatureDataModule", "init_args": data}
    return fitted(tmp_path_factory.mktemp("heads"), model, data)


@pytest.fixture(scope="module")
def media_run(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The transformer on the files themselves."""
    media = {"frames": 32, "image_size": 32, "voice_crops": 2, "whole_voice": 0.4}
    options = {"train_languages": ["English"], "test": TEST, "batch_size": 6, "val_identities": 2, "media": media}
    data = {"manifest": str(clips / "manifest.csv"), "exclude_identities": TEST["heard"]["identities"], **options}
    sizes = {"width": 24, "depth": 1, "heads": 2, "frames": 32, "image_size": 32}
    network = {"class_path": "lightning_modules.CAVMAE", "init_args": sizes}
    model = {"class_path": "lightning_modules.SCC", "init_args": {"network": network}}
    data = {"class_path": "datamodules.ManifestDataModule", "init_args": data}
    return fitted(tmp_path_factory.mktemp("media"), model, data)


class PassesOn(FOP):
    """Takes the options of its base without naming them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)


def test_a_model_that_passes_its_options_on_is_read_back(head_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(head_run, tmp_path / "run"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["class_path"] = f"{__name__}.PassesOn"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    trained, expected = read_trained(run, trust=True), read_trained(head_run)
    assert type(trained.model) is PassesOn
    assert trained.spec["model"]["init_args"] == expected.spec["model"]["init_args"]


@pytest.mark.parametrize("kind", ["head_run", "media_run"])
def test_files_get_the_distances_of_the_test(
    kind: str, clips: Path, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Path = request.getfixturevalue(kind)
    measured = pd.read_parquet(run / "scores.parquet")
    files = ["--voices", str(clips / "voices/p8"), str(clips / "voices/p9/0.wav"), "--faces", str(clips / "faces")]
    assert main(["score", str(run), "--trust", *files, "--out", str(tmp_path / "from_run.csv"), "--best", "2"]) == 0
    assert "match 2" in capsys.readouterr().out
    found = pd.read_csv(tmp_path / "from_run.csv", index_col="voice")
    assert found.shape == (4, 24)
    for trial in measured.itertuples():
        voice, face = str(clips / f"{trial.voice}.wav"), str(clips / f"{trial.face}.png")
        if voice in found.index:
            assert found.loc[voice, face] == pytest.approx(trial.distance, abs=2e-6)

    elsewhere = tmp_path / "else where" / "export"
    assert main(["export", str(run), "--out", str(tmp_path / "export"), "--onnx"]) == 0
    elsewhere.parent.mkdir()
    shutil.move(tmp_path / "export", elsewhere)
    run = run.rename(run.with_name("hidden"))  # an export needs nothing of its run
    try:
        assert main(["score", str(elsewhere), "--trust", *files, "--out", str(tmp_path / "from_export.npz")]) == 0
    finally:
        run.rename(run.with_name("run"))
    with np.load(tmp_path / "from_export.npz") as saved:
        assert saved["voices"].tolist() == found.index.tolist()
        assert saved["faces"].tolist() == found.columns.tolist()
        np.testing.assert_allclose(saved["distance"], found.to_numpy(), atol=2e-6)


@pytest.mark.parametrize("kind", ["head_run", "media_run"])
def test_the_card_says_what_was_measured(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run: Path = request.getfixturevalue(kind)
    assert main(["export", str(run), "--out", str(tmp_path)]) == 0
    card = (tmp_path / "README.md").read_text()
    record = json.loads((run / "results.json").read_text())["heard"]
    rates = (record[key] for key in ("eer", "eer_same_gender", "eer_gender_only", "eer_chance"))
    raw, same, gender, chance = (f"{100 * rate:.1f}" for rate in rates)
    assert f"| heard | {raw} | - | {same} | {gender} | {chance} | {record['trials']} |" in card
    assert ("SpectrumVoice" in card) == (kind == "head_run")
    calibration = read_trained(tmp_path).calibration
    assert calibration is not None
    assert calibration == read_trained(run).calibration
    assert calibration.identities == 2
    assert "calibrated on 2 validation" in card
    assert str(run) not in card


@pytest.mark.parametrize("kind", ["head_run", "media_run"])
def test_onnx_branches_equal_torch(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """For batch sizes that the exporter never saw."""
    import onnxruntime

    trained = read_trained(request.getfixturevalue(kind))
    assert max(export_onnx(trained, tmp_path).values()) < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "face.onnx"))
    record = json.loads(session.get_modelmeta().custom_metadata_map["learnt"])
    assert Learnt.read(record) == trained.model.learnt
    assert record["training"]
    shape = session.get_inputs()[0].shape
    x = torch.randn(7, *shape[1:])
    np.testing.assert_allclose(
        session.run(None, {"x": x.numpy()})[0], trained.model.embed_face(x).detach().numpy(), atol=1e-4
    )


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_an_export_is_whole_or_not_there(
    fault: Fault,
    head_run: Path,
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reason = {"full": "No space left on device", "read-only": "Read-only file system"}[fault]
    with disk(tmp_path / "disk") as place:
        out = place / "out"
        with failing(place, fault):
            before = contents(place)
            assert main(["export", str(head_run), "--out", str(out)]) == 2
            assert contents(place) == before == {}
        assert main(["export", str(head_run), "--out", str(out)]) == 0
        (out / "voice.onnx").write_text("of an earlier export")
        before = contents(place)
        original = exporting.save_file  # only the last file meets the fault
        with monkeypatch.context() as patch, ExitStack() as until:

            def late(*arguments: object) -> None:
                until.enter_context(failing(place, fault) if fault == "full" else nullcontext())
                original(*arguments)

            patch.setattr(exporting, "save_file", late)
            if fault == "read-only":
                until.enter_context(failing(place, fault))
            capsys.readouterr()
            assert main(["export", str(head_run), "--out", str(out)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        named = "model.safetensors" if fault == "full" else r"\S+"
        assert re.search(rf"^error: {out}/{named}: cannot be written \({reason}\); the file that was there is as", line)
        assert contents(place) == before
        assert main(["export", str(head_run), "--out", str(out)]) == 0
        assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.yaml", "model.safetensors"]
        (out / "model.safetensors").unlink()
        assert main(["score", str(out), "--voices", str(clips), "--faces", str(clips)]) == 2
        assert f"{out}: is an export without model.safetensors; export again" in capsys.readouterr().err


def test_a_run_is_not_overwritten_by_its_export(head_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (head_run / "config.yaml").read_bytes()
    assert main(["export", str(head_run), "--out", str(head_run)]) == 2
    assert "holds a run" in capsys.readouterr().err
    assert (head_run / "config.yaml").read_bytes() == before


def test_a_trained_model_is_an_encoder_of_embed(media_run: Path, clips: Path, tmp_path: Path) -> None:
    """Its packs are the embeddings of the test."""
    assert main(["embed", f"--manifest={clips / 'manifest.csv'}", f"--ckpt={media_run}", f"--out={tmp_path}"]) == 0
    for name in ("voices", "faces"):
        tested = pd.read_csv(media_run / "embeddings" / f"{name}.csv")["item"].tolist()
        own = [item.rpartition(".")[0] for item in pd.read_csv(tmp_path / f"{name}.csv")["item"]]
        rows = [own.index(item) for item in tested]
        expected = np.load(media_run / "embeddings" / f"{name}.npy")
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy")[rows], expected, atol=1e-5)


def test_faces_are_aligned_before_they_are_scored(head_run: Path, clips: Path, tmp_path: Path) -> None:
    """Aligned faces are named tuples, which a loader hands on as such."""
    init = {"size": 48, "upsample": 0, "encoder": {"class_path": "tests.experiments.tiny_encoders.ColourFace"}}
    encoder = tmp_path / "aligned.yaml"
    encoder.write_text(yaml.safe_dump({"class_path": "lightning_modules.AlignedFace", "init_args": init}))
    files = [str(path) for path in sorted(clips.glob("faces/p0/*.png"))]
    aligned = AlignedFace(ColourFace(), size=48, upsample=0)
    expected = aligned([aligned.prepare(read_image(path)) for path in files])
    found = embed_files(FrozenFiles(aligned), np.array(files), torch.device("cpu"), 2, 0)
    torch.testing.assert_close(found, expected)
    given = ["--voices", str(clips / "voices/p0/0.wav"), "--faces", *files, f"--face={encoder}", "--trust"]
    assert main(["score", str(head_run), *given, f"--out={tmp_path / 'd.csv'}"]) == 0
    assert np.isfinite(pd.read_csv(tmp_path / "d.csv")[files].to_numpy()).all()


def test_distances_do_not_depend_on_how_they_are_cut(head_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = read_trained(head_run).model
    voices, faces = torch.randn(3, 8), torch.randn(11, 8)
    whole = np.stack(list(distance_rows(model, voices, faces)))
    monkeypatch.setattr("experiments.inference.scoring.SCORING_CHUNK", 4)
    np.testing.assert_array_equal(np.stack(list(distance_rows(model, voices, faces))), whole)
    assert whole[2, 5] == pytest.approx(float(model.distance(voices[2:3], faces[5:6])), abs=1e-6)


def test_errors_name_the_file_and_the_way_out(
    head_run: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> str:
        assert main([*arguments]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ")
        return error

    good = ["--voices", str(clips / "voices/p0"), "--faces", str(clips / "faces/p0")]
    assert "0.wv: no such voice file or folder; did you mean 0.wav?" in said(
        "score", str(head_run), "--voices", str(clips / "voices/p0/0.wv"), *good[2:]
    )
    assert "no voice file in this folder" in said("score", str(head_run), "--voices", str(clips / "faces"), *good[2:])
    assert "no export, run folder or checkpoint" in said("score", str(clips), *good)
    broken = tmp_path / "b.png"
    broken.write_bytes(b"junk")
    assert "b.png: not readable as an image" in said(
        "score", str(head_run), "--trust", *good[:2], "--faces", str(broken)
    )
    assert "write .csv or .npz" in said("score", str(head_run), *good, "--out", str(tmp_path / "m.txt"))

    assert main(["export", str(head_run), "--out", str(tmp_path / "e")]) == 0
    assert "is an export already" in said("export", str(tmp_path / "e"), "--out", str(tmp_path / "f"))
    spec = yaml.safe_load((tmp_path / "e/config.yaml").read_text())
    spec["inputs"]["voice"] = None
    (tmp_path / "e/config.yaml").write_text(yaml.safe_dump(spec))
    assert "name their encoder: --voice encoder/NAME.yaml" in said("score", str(tmp_path / "e"), *good)
    spec["model"]["init_args"]["embeding_dim"] = 3
    (tmp_path / "e/config.yaml").write_text(yaml.safe_dump(spec))
    assert "embeding_dim" in said("score", str(tmp_path / "e"), *good)


def test_load_embeds_files_and_compares_them(media_run: Path, clips: Path) -> None:
    scores = pd.read_parquet(media_run / "scores.parquet").iloc[:12]
    model = load(str(media_run), device="cpu")
    voices = model.embed_voices([str(clips / f"{item}.wav") for item in scores["voice"]])
    faces = model.embed_faces([clips / f"{item}.png" for item in scores["face"]])
    assert voices.dtype == faces.dtype == np.float32
    assert len(voices) == len(faces) == 12
    np.testing.assert_allclose(model.distance(voices, faces), scores["distance"], atol=1e-5)
    with pytest.raises(DataError, match="takes voice files, not embeddings"):
        model.embed_voices(voices)
