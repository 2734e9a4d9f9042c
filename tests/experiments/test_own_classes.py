"""Classes of the user's own: their errors are named with file and line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from experiments.run import main
from tests.experiments.conftest import TINY, lines


def test_what_an_abstract_class_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "from lightning_modules import AssociationModule\nclass M(AssociationModule):\n    def loss(self, b): pass\n"
    (tmp_path / "own_abstract.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["fit", "--config", str(TINY), "--model", "own_abstract.M"]) == 2
    said = "error: model: own_abstract.M does not define embed_face, embed_voice, which its base class asks for"
    assert lines(capsys) == said


LOSS = "class M(SCC):\n    def loss(self, batch):\n        return super().loss(batch)['loss']\n"
INIT = "class M(SCC):\n    def __init__(self, *args, **options):\n"
OWN = {
    "syntax": ("class M(SCC):\n    def loss(self)\n        pass\n", r"4: SyntaxError: expected ':'"),
    "import": ("import not_there\n", r"3: ModuleNotFoundError: No module named 'not_there'"),
    "name": ("from lightning_modules import Nope\n", r"3: ImportError: cannot import name 'Nope'"),
    "no super": (
        f"{INIT}        self.head = torch.nn.Linear(2, 2)\n",
        r"5: AttributeError: cannot assign module before",
    ),
    "own error": (
        f"{INIT}        super().__init__(*args, **options)\n        len(3)\n",
        r"6: TypeError: object of type 'int'",
    ),
    "no super, no module": (
        "class M(SCC):\n    def __init__(self, network=None, optimizer=None):\n        self.size = 3\n",
        r"4: M\.__init__ does not call super\(\)\.__init__\(\)",
    ),
    "setup": ("class M(SCC):\n    def setup(self, stage):\n        raise KeyError('gone')\n", "5: KeyError: 'gone'"),
    "step": ("class M(SCC):\n    def training_step(self, batch, i):\n        return batch['x']\n", "5: KeyError: 'x'"),
    "loss": (LOSS, r"4: M\.loss must return a dictionary of terms, one of them 'loss', not a tensor \(\) of float32"),
    "too few": (
        "class M(SCC):\n    def loss(self):\n        pass\n",
        r"4: TypeError: M\.loss\(\) takes 1 .*it must take",
    ),
    "too many": (
        "class M(SCC):\n    def embed_face(self, x, y):\n        pass\n",
        r"4: TypeError: M\.embed_face\(\) miss",
    ),
    "a loop of Lightning": (
        "class M(SCC):\n    def setup(self):\n        pass\n",
        r"4: TypeError: M\.setup\(\) got an un",
    ),
    "other width": (
        "class M(SCC):\n    def embed_face(self, x):\n        return super().embed_face(x)[:, 1:]\n",
        r"3: M: ValueError: voice \(12, 128\), face \(12, 127\).*\(at .*contrastive\.py:\d+\); its methods must take",
    ),
    **{
        f"{method} returns {value}": (
            f"class M(SCC):\n    def {method}(self, *x):\n        return {value}\n",
            rf"4: M\.{method} must return .* not {said}",
        )
        for method, value, said in (
            ("loss", "None", "None"),
            ("loss", "{'loss': 3.5}", "float"),
            ("loss", "{'loss': torch.zeros(3)}", r"a tensor \(3,\) of float32"),
            ("loss", "{'loss': torch.zeros(())}", "one without a gradient"),
            ("embed_voice", "None", "None"),
            ("embed_voice", "(x, x)", "tuple"),
            ("embed_face", "x[0].numpy()", "ndarray"),
            ("embed_face", "x[0][1:]", r"a tensor \(11, 512\) of float32"),
            ("embed_face", "x[0].int()", r"a tensor \(12, 512\) of int32"),
            ("distance", "None", "None"),
            ("distance", "x[0] @ x[1].T", r"a tensor \(\d+, \d+\) of float32"),
        )
    },
}
ITEMS = "class P(Dataset):\n    def __len__(self):\n        return 8\n    def __getitem__(self, i):\n        return "
DATA = {
    **{
        f"no {part} loader": (
            f"class D(SyntheticDataModule):\n    def {part}_dataloader(self):\n        pass\n",
            rf"4: TypeError: An invalid dataloader was returned from `D\.{part}_dataloader\(\)`\. Found None",
        )
        for part in ("train", "val", "test")
    },
    "no super": (
        "class D(SyntheticDataModule):\n    def __init__(self, size: int = 3):\n        self.size = size\n",
        r"4: D\.__init__ does not call super\(\)\.__init__\(\)",
    ),
    "no sizes": (
        "class D(SyntheticDataModule):\n    dims = None\n",
        r"D\.dims must return two whole numbers.*not None",
    ),
    "one loader": (
        "class D(SyntheticDataModule):\n    def val_dataloader(self):\n        return super().val_dataloader()[0]\n",
        r"4: D\.val_dataloader must return two loaders, one of voices and one of faces, not ",
    ),
    "no set": (
        "class D(SyntheticDataModule):\n    def evaluation_set(self, stage):\n        pass\n",
        r"3: D: AttributeError: 'NoneType' object has no attribute 'cells' \(at .*\); its methods must take and return",
    ),
    "no source": (
        "class D(SyntheticDataModule):\n    def evaluation_source(self, stage, modality):\n        pass\n",
        r"4: D\.evaluation_source must return an object with a method read\(rows\), not None",
    ),
    "other batches": (
        f"{ITEMS}{{'x': 3}}\nclass D(SyntheticDataModule):\n"
        "    def train_dataloader(self):\n        return DataLoader(P(), batch_size=4)\n",
        r"3: P must give batches as a dictionary of voice, face, identity, not one of x",
    ),
}


def some(names: Iterable[str]) -> list[Any]:
    """Every seventh in each run of the tests: a second each."""
    marks: list[Any] = [[] if i % 7 == 0 else [pytest.mark.processes] for i in range(len([*names]))]
    return [pytest.param(name, marks=mark) for name, mark in zip(names, marks, strict=True)]


@pytest.mark.parametrize("name", some(OWN))
def test_the_error_of_a_class_of_ones_own_is_named_with_its_file_and_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = OWN[name]
    module = f"own_{list(OWN).index(name)}"  # Python keeps what it has imported
    (tmp_path / f"{module}.py").write_text(f"import torch\nfrom lightning_modules import SCC\n{code}")
    monkeypatch.syspath_prepend(tmp_path)
    command = ["fit", "--config", str(TINY), "--model", f"{module}.M", "--no-test", f"--run_dir={tmp_path / 'run'}"]
    assert main(command) == 2
    assert re.search(rf"{module}\.py:{said}", lines(capsys))


@pytest.mark.parametrize("name", some(DATA))
def test_the_error_of_a_data_module_of_ones_own_is_named_with_its_file_and_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = DATA[name]
    module = f"own_data_{list(DATA).index(name)}"
    imports = "from torch.utils.data import DataLoader, Dataset\nfrom datamodules import SyntheticDataModule\n"
    (tmp_path / f"{module}.py").write_text(imports + code)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["fit", "--config", str(TINY), "--data", f"{module}.D", f"--run_dir={tmp_path / 'run'}"]) == 2
    assert re.search(said if said[0] == "D" else rf"{module}\.py:{said}", lines(capsys))


def test_another_class_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_other.py").write_text("class M: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["fit", "--config", str(TINY), "--model", "own_other.M"]) == 2
    assert "model: expected a subclass of AssociationModule, got own_other.M" in lines(capsys)
