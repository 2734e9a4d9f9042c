"""What a fit really uses where one config or argument overrides another."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from datamodules.schema import DataError
from experiments.commands.fit import check_arguments
from experiments.config.variables import holding

SCC, FOP, CCA = (f"lightning_modules.{name}" for name in ("SCC", "FOP", "RegularisedCCA"))
CHAINING = "postproc.ChainingCluster"
CALLBACKS = "lightning.pytorch.callbacks"
FEATURES = {
    "class_path": "datamodules.FeatureDataModule",
    "init_args": {
        "root": "world",
        "voices": [{"path": "a.npz", "language": "English"}],
        "faces": ["faces.npz"],
        "train_languages": ["English"],
        "val_identities": 4,
        "test": {"heard": "English.csv", "unheard": "Urdu.csv"},
    },
}
BASE = {
    "vars": {"fold": 1, "other": 2},
    "seed_everything": "${vars.fold}",
    "trainer": {"accelerator": "cpu", "max_epochs": 4, "callbacks": [{"class_path": f"{CALLBACKS}.ModelSummary"}]},
    "model": {
        "class_path": SCC,
        "init_args": {
            "network": {"class_path": "lightning_modules.HeadPair", "init_args": {"embedding_dim": 16, "dropout": 0.4}},
            "tau": 0.7,
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.3, "weight_decay": 0.3}},
            "scheduler": {
                "class_path": "lightning_modules.WarmupCosine",
                "init_args": {"total_steps": 24, "warmup_steps": 3},
            },
        },
    },
    "data": "features.yaml",
    "postproc": "postproc/chaining.yaml",
}
FILES: dict[str, Any] = {
    "features.yaml": FEATURES,
    "base.yaml": BASE,
    "fop.yaml": {"model": {"class_path": FOP, "init_args": {"embedding_dim": 7, "dropout": 0.3}}},
    "part.yaml": {"model": {"init_args": {"tau": 0.1}}},
    "same.yaml": {"model": {"class_path": "lightning_modules.scc.SCC", "init_args": {"tau": 0.1}}},
    "lists.yaml": {"data": {"init_args": {"voices": [{"path": "c.npz"}], "test": {"heard": "x.csv"}}}},
    "sgd.yaml": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}},
}
M, D, S = "model.init_args.", "data.init_args.", "postproc.steps."
OPTIMIZER, HEADS = M + "optimizer.init_args.", M + "network.init_args."
DEFAULT = {OPTIMIZER + "lr": 0.001, OPTIMIZER + "weight_decay": 0.01}  # of SCC itself
BARE = {OPTIMIZER + "lr": 0.001, OPTIMIZER + "weight_decay": 0}  # of SGD and Adam; SCC's own optimiser is AdamW
OF_FOP = {OPTIMIZER + "lr": 0.01, OPTIMIZER + "weight_decay": 0.01}
CASES: list[tuple[str, dict[str, Any]]] = [
    # another class takes nothing of the one before it
    (f"--model={FOP}", {"model.class_path": FOP, M + "dropout": 0.5, **OF_FOP}),
    (f"--model {FOP} --model.dropout=0.2", {M + "dropout": 0.2, M + "embedding_dim": 128, **OF_FOP}),
    ("--model=FOP", {"model.class_path": FOP, **OF_FOP}),
    (f"--model.class_path={FOP} --model.alpha=3", {M + "alpha": 3.0, **OF_FOP}),
    (f"--model={{class_path:{FOP}}}", {"model.class_path": FOP, **OF_FOP}),
    (f"--model.tau=0.9 --model={FOP}", {"model.class_path": FOP, **OF_FOP}),
    ("--config fop.yaml", {M + "embedding_dim": 7, **OF_FOP}),
    ("--config fop.yaml --config base.yaml", {M + "tau": 0.7, HEADS + "embedding_dim": 16, OPTIMIZER + "lr": 0.3}),
    (f"--model=model/fop.yaml --model={CCA}", {"model.class_path": CCA, M + "shrinkage": 100.0}),
    ("--model.optimizer=SGD", {M + "optimizer.class_path": "torch.optim.SGD", **BARE}),
    ("--model.optimizer.class_path=torch.optim.SGD --model.optimizer.lr=0.2", {**BARE, OPTIMIZER + "lr": 0.2}),
    ("--model.init_args.optimizer torch.optim.Adam", BARE),
    ("--model.optimizer=sgd.yaml", {**BARE, OPTIMIZER + "lr": 0.5}),
    ("--model.optimizer=SGD --model.optimizer.momentum=0.5 --model.optimizer=torch.optim.Adam", BARE),
    ("--model.optimizer={class_path:SGD,init_args:{lr:0.3}} --model.optimizer=torch.optim.Adam", BARE),
    ("--model.optimizer=SGD --model.optimizer.weight_decay=0.01", {OPTIMIZER + "weight_decay": 0.01}),
    ("--model.optimizer={class_path:SGD,init_args:{lr:0.3,weight_decay:0.01}}", {OPTIMIZER + "weight_decay": 0.01}),
    (f"--model={FOP} --model.optimizer=torch.optim.SGD", BARE),
    ("--data=datamodules.SyntheticDataModule", {D + "val_identities": 6}),
    # the same class keeps its options, and a part changes a part
    (f"--model={SCC}", {M + "tau": 0.7}),
    ("--model=SCC --model.tau=2", {M + "tau": 2.0, OPTIMIZER + "lr": 0.3}),
    ("--config same.yaml", {M + "tau": 0.1, OPTIMIZER + "lr": 0.3}),
    ("--config part.yaml", {M + "tau": 0.1, OPTIMIZER + "lr": 0.3}),
    ("--model.init_args={tau:2}", {M + "tau": 2.0, OPTIMIZER + "lr": 0.3}),
    ("--model.optimizer.lr=0.2", {OPTIMIZER + "lr": 0.2, OPTIMIZER + "weight_decay": 0.3}),
    ("--model.network.dropout=0.1", {HEADS + "dropout": 0.1, HEADS + "embedding_dim": 16}),
    ("--data.test.heard=x.csv", {D + "test": {"heard": "x.csv", "unheard": "Urdu.csv"}}),
    # lists, dictionaries and files are replaced as a whole
    ("--data.voices=[{path:b.npz}]", {D + "voices.0.path": "b.npz", D + "voices.0.language": ""}),
    ("--data.voices=[{path:c.npz,language:Urdu}] --data.voices=[{path:b.npz}]", {D + "voices.0.language": ""}),
    ("--data.voices=[b.npz]", {D + "voices": ["b.npz"]}),
    ("--config lists.yaml", {D + "voices.0.language": "", D + "test": {"heard": "x.csv"}}),
    ("--data.voices=[b.npz] --data=features.yaml", {D + "voices.0.path": "a.npz"}),
    ("--data.test={heard:x.csv}", {D + "test": {"heard": "x.csv"}}),
    ("--data.test={}", {D + "test": {}}),
    ("--data.test.unheard=null", {D + "test": {"heard": "English.csv"}}),
    ("--data.train_languages=[Urdu] --data.train_languages=[Hindi]", {D + "train_languages": ["Hindi"]}),
    ("--model.optimizer={class_path:torch.optim.AdamW,init_args:{lr:0.2}}", {**DEFAULT, OPTIMIZER + "lr": 0.2}),
    ("--model.network={class_path:lightning_modules.HeadPair}", {HEADS + "dropout": 0.0, HEADS + "embedding_dim": 128}),
    ("--trainer={max_epochs:9}", {"trainer.max_epochs": 9, "trainer.accelerator": "auto", "trainer.callbacks": None}),
    ("--trainer.callbacks=[]", {"trainer.callbacks": []}),
    ("--postproc={steps:[{class_path:postproc.Transport}]}", {S + "0.class_path": "postproc.Transport"}),
    ("--postproc.steps=[{class_path:postproc.ChainingCluster}]", {S + "0.init_args.elbow_range": (2, 32)}),
    ("--vars={fold:4}", {"vars": {"fold": 4}, "seed_everything": 4}),
    # null, twice, and what is added
    ("--model.scheduler=null", {M + "scheduler": None}),
    ("--logger=logger/csv.yaml --logger=null", {"logger": None}),
    ("--vars.fold=3 --vars.fold=4", {"vars": {"fold": 4, "other": 2}, "seed_everything": 4}),
    ("--data.train_languages+=Urdu", {D + "train_languages": ["English", "Urdu"]}),
    ("--data.voices+=b.npz", {D + "voices.0.language": "English", D + "voices.1": "b.npz"}),
    ("--postproc.steps+=postproc.Transport", {S + "0.class_path": CHAINING, S + "1.class_path": "postproc.Transport"}),
    (f"--trainer.callbacks+={CALLBACKS}.Timer --trainer.callbacks=[]", {"trainer.callbacks": []}),
]  # fmt: skip


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """What a fit of ``base.yaml`` with more arguments would use."""
    folder = tmp_path_factory.mktemp("configs")
    for name, content in FILES.items():
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False))

    def read(arguments: str) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            given = re.sub(r":(?=[^/ ])", ": ", arguments)  # spaces part the arguments
            parts = re.split(r" (?=--|[\w/]+(?:[.]\w+)+(?: |$))", given)
            return check_arguments("fit", ["--config", "base.yaml", *parts]).as_dict()

    return read


EACH = [pytest.param(*case, id=case[0], marks=[pytest.mark.processes] if i % 6 else []) for i, case in enumerate(CASES)]
"""Every sixth in each run of the tests: half a second each."""


@pytest.mark.parametrize(("arguments", "expected"), EACH)
def test_an_override_replaces_what_it_overrides(
    arguments: str, expected: dict[str, Any], used: Callable[[str], Any]
) -> None:
    config = used(arguments)
    for key, value in expected.items():
        found = config
        for name in key.split("."):
            found = found[int(name)] if isinstance(found, list) else found[name]
        assert found == value, key


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("features.yaml", "describes one object, datamodules.FeatureDataModule; give it as --data features.yaml"),
        ("model/cca.yaml", "give it as --model cca.yaml"),
        ("logger/csv.yaml", "give it as --logger csv.yaml"),
        ("trainer/features.yaml", "holds the options of trainer alone; give it as --trainer trainer/features.yaml"),
        ("postproc/best.yaml", "give it as --postproc postproc/best.yaml"),
        ("encoder/dlib.yaml", "is an encoder, lightning_modules.DlibFace; give it to embed or score as --voice"),
        ("sgd.yaml", "describes one object, torch.optim.SGD; name it under its key in a config"),
        ("sweeps/v1_table.yaml", "is a sweep; run it by sweep --config"),
        ("protocols/v1_dev.yaml", "is a protocol; run it by protocol --config"),
    ],
)
def test_a_file_that_is_no_config_says_what_takes_it(file: str, said: str, used: Callable[[str], Any]) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        used(f"--config {file}")


def test_a_class_that_lacks_an_option_is_named(used: Callable[[str], Any]) -> None:
    with pytest.raises(DataError, match=r"^model.scheduler: torch.optim.lr_scheduler.StepLR needs step_size; give"):
        used("--model.scheduler=torch.optim.lr_scheduler.StepLR")
    with pytest.raises(DataError, match=r"^--data.test.other: the configs have no such test condition"):
        used("--data.test.other=null")
    with pytest.raises(DataError, match="--data: a value is expected after it"):
        used("--data")


def test_keys_that_a_variable_went_into_are_found() -> None:
    content = {
        "vars": {"fold": 1},
        "seed_everything": 1,
        "data": {"init_args": {"test": {"a": "t/fold1_a.csv", "b": "t/fold1.csv"}, "voices": ["v1.npz"], "root": "12"}},
        "name": "run 1",
    }  # fmt: skip
    assert holding(content, 1) == ["data.test.*", "data.voices", "name"]
    assert holding(content, "fold") == []
    assert holding(content, "run") == ["name"]
