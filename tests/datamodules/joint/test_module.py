"""Several data sets at once: names, shares, checks over all sets, resume and ranks; two corpora with clashing ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules import JointDataModule, SetTest, SyntheticDataModule
from datamodules.evaluation.learnt import Learnt
from datamodules.schema import DataError
from datamodules.split import SplitDataModule
from datamodules.training_set import ResumableLoader
from lightning_modules import SCC, HeadPair
from tests.datamodules.feature_world import module, six_people
from tests.lightning_modules.tiny import trainer
from tests.ranks import TwoRanks

SMALL, LARGE, HELD_OUT, CLIPS = 12, 30, 4, 4


def corpus(world: int, size: int = SMALL, **options: Any) -> SyntheticDataModule:
    settings: dict[str, Any] = {"clips": CLIPS, "val_identities": HELD_OUT, "val_trials": 50, "batch_size": 7}
    return SyntheticDataModule(identities=size, world=world, **settings | options)


def joint(sets: dict[str, SplitDataModule] | None = None, **options: Any) -> JointDataModule:
    sets = {"v1": corpus(0), "v2": corpus(1, LARGE)} if sets is None else sets
    data = JointDataModule(sets, **{"batch_size": 8, "steps_per_epoch": 20} | options)
    data.setup("fit")
    return data


def table(folder: Path, *rows: str) -> str:
    path = folder / "people.csv"
    path.write_text("\n".join(["set,identity,person", *rows]) + "\n")
    return str(path)


def set_of(names: np.ndarray) -> np.ndarray:
    return np.array([name.partition("/")[0] for name in names.tolist()])


def test_identities_videos_and_items_of_a_set_are_its_own() -> None:
    data = joint()
    train = data.training_set()
    assert data.num_identities == SMALL + LARGE - 2 * HELD_OUT
    assert len(train.identity) == CLIPS * data.num_identities
    assert {name.partition("/")[2] for name in train.identities[set_of(train.identities) == "v1"].tolist()} & {
        name.partition("/")[2] for name in train.identities[set_of(train.identities) == "v2"].tolist()
    }  # the ids clash
    assert (set_of(train.identities[train.identity]) == set_of(train.video)).all()
    ids = data.tables[0].items.ids
    assert len(np.unique(ids)) == len(ids)
    voices = train.voices.read(train.voice_rows)
    for number, name in enumerate(data.sets):
        own = data.sets[name].training_set()
        rows = np.flatnonzero(data.tables[0].set_of(train.voice_rows) == number)
        assert torch.equal(voices[rows], own.voices.read(own.voice_rows))
        named = [f"{name}/{identity}" for identity in own.identities[own.identity].tolist()]
        assert train.identities[train.identity[rows]].tolist() == named


def test_tests_name_their_set_and_the_items_are_those_of_the_set_alone() -> None:
    data = joint()
    found = data.evaluation_set("test")
    assert list(found.cells) == ["v1/heard", "v1/unheard", "v2/heard", "v2/unheard"]
    assert list(data.evaluation_set("validate").cells) == ["v1/heard", "v2/heard"]
    for name, alone in (("v1", corpus(0)), ("v2", corpus(1, LARGE))):
        expected = alone.evaluation_set("test")
        cell, own = found.cells[f"{name}/unheard"], expected.cells["unheard"]
        for modality, index, of in (
            ("voice", cell.voice_index, own.voice_index),
            ("face", cell.face_index, own.face_index),
        ):
            items, others = found.items(modality), expected.items(modality)
            assert items.ids[index].tolist() == [f"{name}/{item}" for item in others.ids[of].tolist()]
            np.testing.assert_array_equal(items.features[index], others.features[of])
            assert items.gender[index].tolist() == others.gender[of].tolist()
        read = data.evaluation_source("test", "voice").read(cell.voice_index)
        np.testing.assert_array_equal(read.numpy(), expected.voices.features[own.voice_index])


def test_one_tested_set_has_the_names_of_its_tests() -> None:
    spec = SetTest(set="v2", identities=[f"p{LARGE:04d}", f"p{LARGE + 1:04d}"], language="Alpha")
    data = joint(test={"heard": "v1/heard", "unheard": "v1/unheard", "drawn": spec})
    cells = data.evaluation_set("test").cells
    assert list(cells) == ["heard", "unheard", "drawn"]
    assert len(cells["drawn"].trials) == (2 * CLIPS) ** 2


def test_a_table_says_who_is_the_same_person(tmp_path: Path) -> None:
    people = table(tmp_path, "v1,p0000,one", "v2,p0007,one", "v2,p0001,two", "v1,p0005,two", "v2,p0002,three")
    everyone = {"v1": corpus(0, val_identities=0), "v2": corpus(1, LARGE, val_identities=0)}
    data = joint(everyone, people=people)
    train = data.training_set()
    assert data.num_identities == SMALL + LARGE - 2
    of = data.tables[0].set_of(train.voice_rows)
    both = [name for i, name in enumerate(train.identities.tolist()) if len(set(of[train.identity == i])) == 2]
    assert both == ["v1/p0000", "v2/p0001"]
    # the voice of a pair may come from one set and the face from the other
    sampler = data.train_dataloader().pairs
    pairs = np.array([pair for step in range(300) for pair in sampler.batch(step)])
    pairs = pairs[np.isin(train.identities[train.identity[pairs[:, 0]]], both)]
    assert (of[pairs[:, 0]] != of[pairs[:, 1]]).mean() == pytest.approx(0.5, abs=0.15)
    assert (train.identity[pairs[:, 0]] == train.identity[pairs[:, 1]]).all()


def test_who_validates_in_one_set_trains_in_none(tmp_path: Path) -> None:
    sets = {"v1": corpus(0, val_identities=["p0001", "p0002"]), "v2": corpus(1, val_identities=0)}
    data = joint(sets, people=table(tmp_path, "v1,p0001,one", "v2,p0004,one"))
    assert data.num_identities == 2 * SMALL - 3
    assert data.held_out_set().identities.tolist() == ["v1/p0001", "v1/p0002"]
    assert list(data.evaluation_set("validate").cells) == ["heard"]
    learnt = data.learnt()
    assert learnt.among(["p0001", "p0004"], "synthetic 0", validation=False) == ["p0004"]
    assert learnt.among(["p0001", "p0004"], "synthetic 1", validation=False) == ["p0001"]
    data.refuse_learnt(learnt, "validate")


def test_sets_of_one_corpus_have_the_same_identities() -> None:
    data = joint({"once": corpus(0), "again": corpus(0)})
    assert data.num_identities == SMALL - HELD_OUT


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (
            ["v1,p0012,x", "v2,p0009,x"],
            "data.test.v1/heard: 1 test identities are also in training of v2: v2/p0009; name",
        ),
        (["v9,p0000,x"], "there is no set 'v9'"),
        (["v1,q0000,x"], "set v1 has no identity 'q0000'; did you mean p0000?"),
        (["v1,p0000,x", "v1,p0000,y"], "p0000 of set v1 is y here and x in another row"),
        (["v1,p0000,"], "p0000 of set v1 has no person"),
    ],
)
def test_wrong_tables_are_refused(rows: list[str], line: str, tmp_path: Path) -> None:
    sets = {"v1": corpus(0), "v2": corpus(1, LARGE, val_identities=0)}
    with pytest.raises(DataError, match=line.replace("?", r"\?")):
        joint(sets, people=table(tmp_path, *rows))


@pytest.mark.parametrize(
    ("balance", "share"),
    [
        (["sets", "identities", "languages"], 0.5),
        (["sets"], 0.5),
        (["identities", "languages"], 20 / 64),
        ([], 80 / (80 + 44 * 6)),
    ],
)
@pytest.mark.parametrize("batch_size", [8, 32])
def test_shares_of_the_sets(balance: list[Any], share: float, batch_size: int) -> None:
    sets = {"v1": corpus(0, 20, val_identities=0, clips=4), "v2": corpus(1, 44, val_identities=0, clips=6)}
    data = joint(sets, balance=balance, batch_size=batch_size, steps_per_epoch=200)
    of = data.tables[0].set_of(data.training_set().voice_rows)
    batches = [np.array(batch) for batch in data.train_dataloader().pairs]
    assert all(len(set(data.training_set().identity[batch[:, 0]])) == batch_size for batch in batches)
    for side in (0, 1):
        found = float(np.mean([(of[batch[:, side]] == 0).mean() for batch in batches]))
        assert found == pytest.approx(share, abs=0.03)


def test_languages_are_balanced_within_their_set(tmp_path: Path) -> None:
    world = six_people(tmp_path)
    both = {"train_languages": ["Alpha", "Beta"], "val_identities": 0, "test": {}}
    sets = {"one": module(world, train_languages=["Alpha"], corpus="a", val_identities=0, test={}),
            "two": module(world, corpus="b", **both)}  # fmt: skip
    data = joint(sets, steps_per_epoch=300)
    train = data.training_set()
    rows = np.array([pair[0] for batch in data.train_dataloader().pairs for pair in batch])
    of, language = data.tables[0].set_of(train.voice_rows)[rows], train.language[rows]
    assert (language[of == 1] == "Alpha").mean() == pytest.approx(0.5, abs=0.03)
    assert (of == 1).mean() == pytest.approx(0.5, abs=0.03)


def test_a_language_that_another_set_trains_on_is_heard(tmp_path: Path) -> None:
    world = six_people(tmp_path)
    sets: dict[str, SplitDataModule] = {
        "one": module(world, corpus="a"),
        "two": module(world, corpus="b", train_languages=["Beta"], test={}),
    }
    with pytest.raises(DataError, match=r"data.test.one/unheard: contains Beta voices, training uses Alpha, Beta"):
        joint(sets)


def test_copies_in_another_set_are_refused(tmp_path: Path) -> None:
    """The same files without a table: the tested identities of one set train in the other."""
    world = six_people(tmp_path)
    sets = {"one": module(world, corpus="a"), "two": module(world, corpus="b", exclude_identities=None, test={})}
    with pytest.raises(DataError, match=r"data.test.one/heard: \d+ voices are those of training by their data: one/"):
        joint(sets)


def test_a_video_of_another_set_is_refused_where_the_own_set_shares_videos(tmp_path: Path) -> None:
    data = joint()
    assert not data.shared_videos
    data.sets["v1"].shared_videos = data.shared_videos = True
    data.tables[0].items.video[:] = "dQw4w9WgXcQ"
    condition = data.condition("v1/heard", data.test["v1/heard"])
    with pytest.raises(DataError, match="are those of training by their videos"):
        data.check_copies_of(condition)


def test_weights_of_one_set_are_refused_under_every_name_of_a_person(tmp_path: Path) -> None:
    people = table(tmp_path, "v1,p0012,one", f"v2,p{LARGE:04d},one")
    data = joint(people=people, test={"heard": "v1/heard"})
    of_v2 = Learnt.of("synthetic 1", [f"p{LARGE:04d}"])
    with pytest.raises(
        DataError, match=f"data.test.heard: the weights have learnt from 1 of its identities: p{LARGE:04d}"
    ):
        data.refuse_learnt(of_v2, "test")
    with pytest.raises(DataError, match="p0012"):
        data.refuse_learnt(Learnt.of("synthetic 0", ["p0012"]), "test")
    data.refuse_learnt(Learnt.of("synthetic 1", ["p0012"]), "test")  # another p0012
    data.refuse_learnt(data.learnt(), "test")


def test_the_record_keeps_corpora_apart() -> None:
    learnt = joint().learnt()
    assert {corpus: len(names) for corpus, names in learnt.training.items()} == {
        "synthetic 0": SMALL - HELD_OUT,
        "synthetic 1": LARGE - HELD_OUT,
    }
    assert learnt.languages == {"Alpha"}
    assert Learnt.read(learnt.plain()) == learnt


def test_clips_of_unknown_language_need_a_word(tmp_path: Path) -> None:
    world = six_people(tmp_path)
    for name in ("voice", "face"):
        rows = dict(np.load(world / f"{name}.npz"))
        rows["language"] = np.full(len(rows["language"]), "")
        np.savez(tmp_path / f"unlabelled_{name}.npz", **rows)
    own: dict[str, Any] = {"voices": ["unlabelled_voice.npz"], "faces": ["unlabelled_face.npz"], "test": {}}

    def sets() -> dict[str, SplitDataModule]:
        return {"one": corpus(0), "own": module(world, train_languages=[""], val_identities=0, **own)}

    with pytest.raises(DataError) as refused:
        _same_width(sets())
    assert "clips of own are in: list it, or say data.languages_unknown: allow" in str(refused.value)
    data = _same_width(sets(), languages_unknown="allow")
    learnt = data.learnt()
    assert learnt.unlabelled == {"own": frozenset({""})}
    assert learnt.languages == {"Alpha"}
    with pytest.raises(DataError, match="the weights were trained on clips of unknown language"):
        corpus(5).refuse_learnt(learnt, "test")
    corpus(5, languages_unknown="allow").refuse_learnt(learnt, "test")


def _same_width(sets: dict[str, SplitDataModule], **options: Any) -> JointDataModule:
    """Joins sets of other widths, of which only the names matter."""
    data = JointDataModule(sets, **options)
    data.evaluation_set("test")
    return data


def test_a_resumed_loader_goes_on_with_the_next_batch() -> None:
    whole, resumed = joint(), joint()
    first = whole.train_dataloader()
    assert isinstance(first, ResumableLoader)
    batches, state = [], {}
    for number, batch in enumerate(first):
        batches.append(batch)
        if number == 6:
            state = first.state_dict()
    again = resumed.train_dataloader()
    again.load_state_dict(state)
    rest = list(again)
    assert len(rest) == len(batches) - 7
    for one, other in zip(batches[7:], rest, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_that_was_stopped_within_an_epoch_ends_as_one_that_was_not(tmp_path: Path) -> None:
    def heads() -> SCC:
        torch.manual_seed(0)
        data = joint()
        return SCC(data.dims, network=lambda *dims: HeadPair(*dims, embedding_dim=8), tau=0.2)

    options: dict[str, Any] = {"max_epochs": 2, "limit_val_batches": 0}
    saved = ModelCheckpoint(tmp_path, "stopped", every_n_train_steps=27, enable_version_counter=False)
    whole, resumed = heads(), heads()
    trainer(tmp_path, **options, callbacks=[saved]).fit(whole, joint())
    again = trainer(tmp_path, **options, callbacks=[], enable_checkpointing=False)
    again.fit(resumed, joint(), ckpt_path=tmp_path / "stopped.ckpt", weights_only=True)
    assert torch.load(tmp_path / "stopped.ckpt", weights_only=True)["global_step"] == 27
    assert again.global_step == 40
    for name, weight in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weight), name


def drawn_on_rank() -> tuple[list[list[int]], list[int]]:
    data = joint()
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    data.trainer = type("Trainer", (), {"global_rank": rank, "world_size": world, "lightning_module": None})()
    train = data.training_set()
    pairs = data.train_dataloader().pairs
    items = [row for batch in data.test_dataloader()[0] for row in batch["index"].tolist()]
    return [train.identity[[voice for voice, _ in batch]].tolist() for batch in pairs], items


def test_two_ranks_have_disjoint_shares(two_ranks: TwoRanks) -> None:
    (first, items), (second, others) = two_ranks.run(drawn_on_rank)
    alone = joint()
    identity = alone.training_set().identity
    batches = [identity[[voice for voice, _ in batch]].tolist() for batch in alone.train_dataloader().pairs]
    assert [one + other for one, other in zip(first, second, strict=True)] == batches
    assert all(not set(one) & set(other) for one, other in zip(first, second, strict=True))
    assert sorted(items + others) == list(range(len(alone.evaluation_set("test").voices)))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"sets": {}}, "data.sets: names no data set"),
        ({"sets": {"a/b": corpus(0)}}, "'a/b' is no name of a set"),
        ({"sets": {"v1": corpus(0), "V1": corpus(1)}}, "differ only in case"),
        ({"test": {"heard": "v3/heard"}}, "data.test.heard: there is no set v3; did you mean v"),
        ({"test": {"heard": "v1/herd"}}, "data.test.heard: set v1 has no test herd; did you mean heard"),
        ({"test": {"heard": "list.csv"}}, "data.test.heard: 'list.csv' is no test of a set"),
        ({"test": {"heard": SetTest(trials="list.csv")}}, "data.test.heard: 'without a set' is no test of a set"),
        ({"test": {"heard": "v1/unheard"}}, "data.test.heard: contains Beta voices"),
        ({"balance": ["set"]}, "data.balance: 'set' is none of sets, identities, languages; did you mean sets"),
        ({"sets": {"v1": corpus(0), "v2": corpus(1, val_identities=12)}}, "data.sets.v2.val_identities: 12 of 12"),
        ({"sets": {"v1": corpus(0), "v2": corpus(1, normalise=False)}}, "normalise of v1 and of v2 differ"),
        ({"people": "nowhere.csv"}, "people nowhere.csv: no such file"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], line: str) -> None:
    with pytest.raises(DataError, match=line):
        joint(**options)


def test_widths_that_differ_are_named_with_both_files(tmp_path: Path) -> None:
    sets = {"one": corpus(0), "two": module(six_people(tmp_path))}
    with pytest.raises(
        DataError, match=r"voices of one \(.*voice.npy\) have 192 numbers, those of two \(.*voice.npz\) 5"
    ):
        joint(sets)


def test_a_whole_pass_does_not_balance_sets() -> None:
    data = joint(balance=["sets"], sampling="shuffle")
    with pytest.raises(DataError, match=r"data.balance: sampling shuffle passes over all clips"):
        data.train_dataloader()
    everything = joint(sampling="once").train_dataloader()
    assert sum(len(batch["identity"]) for batch in everything) == CLIPS * (SMALL + LARGE - 2 * HELD_OUT)


def test_genders_are_known_by_the_names_of_all_sets() -> None:
    genders = joint().identity_genders()
    assert genders["v1/p0000"] == "M"
    assert genders["v2/p0001"] == "F"
