"""Readers of feature files: the formats, and the errors of damaged or contradictory ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.features.table import FeatureTable, OpenFeatureFile, open_feature_file
from datamodules.io.feature_files import FeatureFile
from datamodules.schema import DataError
from tests.datamodules.feature_files_on_disk import columns, ids, write_npz


def csv(path: Path, x: np.ndarray, labels: list | None = None) -> Path:
    lines = [",".join(f"{v:.6f}" for v in row) for row in x]
    if labels is not None:
        lines = [f"{line},{label}" for line, label in zip(lines, labels, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


X = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
TRAIN = (
    "v1/voices/id0001/Urdu/vid1/00001.wav v1/faces/id0002/Urdu/vid2/0000025.jpg\n"
    "v1/voices/id0001/Urdu/vid1/00002.wav v1/faces/id0002/Urdu/vid2/0000050.jpg\n"
    "v1/voices/id0003/Urdu/vid3/00001.wav v1/faces/id0005/Urdu/vid4/0000025.jpg\n"
    "v1/voices/id0003/Urdu/vid3/00001.wav v1/faces/id0005/Urdu/vid4/0000050.jpg\n"
)


def test_npz_with_all_arrays(tmp_path: Path) -> None:
    arrays = write_npz(tmp_path / "p.npz")
    file = open_feature_file(str(tmp_path / "p.npz"), "voice")
    assert file.items.ids.tolist() == ids(arrays)
    np.testing.assert_array_equal(file.x[file.row], arrays["x"])
    np.testing.assert_array_equal(file.items.video, arrays["video"])
    assert set(file.items.gender) == {""}


def test_named_array_with_a_manifest_in_another_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", voice=X, face=X[:, :2], clip_id=["c_1.5", "c_2.5", "c_3.5", "c_4.5"])
    (tmp_path / "m.csv").write_text(
        "clip_id,identity,youtube_id,gender,lang\nc_3.5,p3,y3,m,en\nc_1.5,p1,y1,f,en\nc_2.5,p2,y2,f,xx\nc_4.5,p4,y4,m,en\n"
    )
    names = {"item": "clip_id", "video": "youtube_id", "language": "lang"}
    file = open_feature_file(FeatureFile(f"{tmp_path}/e.npz#face", str(tmp_path / "m.csv"), columns=names), "face")
    assert file.items.ids.tolist() == ["c_1.5", "c_2.5", "c_3.5", "c_4.5"]
    assert file.items.identity.tolist() == ["p1", "p2", "p3", "p4"]
    assert file.items.gender.tolist() == ["F", "F", "M", "M"]
    assert file.items.language.tolist() == ["en", "xx", "en", "en"]
    np.testing.assert_array_equal(file.x[file.row], X[:, :2])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_npy_is_mapped_in_place(tmp_path: Path, dtype: type) -> None:
    np.save(tmp_path / "x.npy", X.astype(dtype))
    (tmp_path / "m.csv").write_text(
        "voice,face,identity,language\n" + "".join(f"{i}.wav,{i}.jpg,p,L\n" for i in range(4))
    )
    file = open_feature_file(FeatureFile(str(tmp_path / "x.npy"), str(tmp_path / "m.csv")), "face")
    assert isinstance(file.x, np.memmap)
    assert Path(file.x.filename) == tmp_path / "x.npy"
    assert file.items.ids.tolist() == ["0", "1", "2", "3"]


def test_training_csv_takes_identities_from_the_faces_of_its_list(tmp_path: Path) -> None:
    """In v1 voices are renumbered and faces are not; the label column uses either numbering."""
    (tmp_path / "train.txt").write_text(TRAIN)
    x = X.copy()
    x[3] = x[2]  # the same voice twice
    path = csv(tmp_path / "voices.csv", x, ["1.0", "1.0", "3.0", "3.0"])
    file = open_feature_file(FeatureFile(str(path), str(tmp_path / "train.txt")), "voice")
    assert file.items.ids[0] == "v1/voices/id0001/Urdu/vid1/00001"
    assert file.items.identity.tolist() == ["id0002", "id0002", "id0005"]
    assert set(file.items.language) == {"Urdu"}
    assert file.items.video.tolist() == ["vid1", "vid1", "vid3"]
    assert file.item_of_row.tolist() == [0, 1, 2, 2]
    np.testing.assert_allclose(file.x[:3], x[:3], atol=1e-6)


def test_csv_without_a_list_has_only_its_labels(tmp_path: Path) -> None:
    path = csv(tmp_path / "voices.csv", X, [7, 7, 8, 8])
    file = open_feature_file(FeatureFile(str(path), language="Urdu"), "voice")
    assert file.items.identity.tolist() == ["7", "7", "8", "8"]
    assert set(file.items.language) == {"Urdu"}
    assert file.x.shape == (4, 3)


def test_unlabelled_csv_follows_its_test_list(tmp_path: Path) -> None:
    path = csv(tmp_path / "faces.csv", X)
    (tmp_path / "test.txt").write_text("".join(f"key{i}  voices/{i}.wav faces/{i}.jpg\r\n" for i in range(4)))
    file = open_feature_file(FeatureFile(str(path), str(tmp_path / "test.txt"), labelled=False), "face")
    assert file.items.ids.tolist() == [f"faces/{i}" for i in range(4)]
    assert file.x.shape == (4, 3)
    assert set(file.items.identity) == {""}


def test_wide_csv_in_reasonable_time(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(100, 4096)).astype(np.float32)
    file = open_feature_file(str(csv(tmp_path / "wide.csv", x, [i // 10 for i in range(100)])), "face")
    np.testing.assert_allclose(file.x, x, atol=1e-6)
    assert len(set(file.items.identity)) == 10


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["1.5,2,0", "1.5,x,0"], "line 2, column 2: 'x' is not a finite number"),
        (["1.5,2,0", "1.5,nan,0"], "line 2, column 2: 'nan'"),
        (["1.5,2,0", "1.5,,0"], "line 2, column 2: ''"),
        (["1.5,2,0", "1.5,inf,0"], "line 2, column 2: 'inf'"),
        (["1.5,2,0", "1.5,2"], "line 2: 2 columns, but line 1 has 3"),
        (["1.5,2,0", "1.5,2,0,4"], "line 2: 4 columns, but line 1 has 3"),
        (["True,2,0", "False,2,0"], "line 1, column 1: 'True' is not a finite number"),
        (["1_000,2,0", "1.5,2,0"], "line 1, column 1: '1_000'"),
        (["f1,f2,label", "1.5,2,0"], "line 1, column 1: 'f1'"),
        (["1.5,2,0.25", "1.5,2,0.5"], "the last column is a feature, not an identity; set labelled: false"),
        ([], "cannot be read"),
    ],
)
def test_bad_csv_says_where(tmp_path: Path, lines: list[str], said: str) -> None:
    (tmp_path / "bad.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=said):
        open_feature_file(str(tmp_path / "bad.csv"), "voice")


def test_csv_that_does_not_follow_its_list(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(TRAIN)
    path = csv(tmp_path / "voices.csv", X, [1, 2, 1, 2])
    with pytest.raises(DataError, match=r"line 3: label 1 is id0005 in .*train\.txt, but id0002 before"):
        open_feature_file(FeatureFile(str(path), str(tmp_path / "train.txt")), "voice")
    path = csv(tmp_path / "short.csv", X[:3], [1, 1, 2])
    with pytest.raises(DataError, match=r"3 rows, but .*train\.txt have 4"):
        open_feature_file(FeatureFile(str(path), str(tmp_path / "train.txt")), "voice")


def test_item_with_two_embeddings_is_refused_and_twice_the_same_is_kept_once(tmp_path: Path) -> None:
    table = columns()
    table["item"][1], table["video"][1] = table["item"][0], table["video"][0]
    x = np.random.default_rng(0).normal(size=(len(table["item"]), 4)).astype(np.float32)
    with pytest.raises(DataError, match="id0000/Alpha/v0A/00000 has two different embeddings, in rows 1 and 2"):
        open_npz(tmp_path / "a.npz", x=x, **table)
    x[1] = x[0]
    file = open_npz(tmp_path / "b.npz", x=x, **table)
    assert len(file.items) == len(x) - 1
    assert file.item_of_row[:3].tolist() == [0, 0, 1]


def open_npz(path: Path, **changes: np.ndarray) -> OpenFeatureFile:
    write_npz(path, **changes)
    return open_feature_file(str(path), "voice")


def test_wrong_npz_says_what(tmp_path: Path) -> None:
    x = write_npz(tmp_path / "good.npz")["x"]
    bad = x.copy()
    bad[7, 1] = np.inf
    with pytest.raises(DataError, match=r"row 8: the embedding of id0000/Beta/v1B/00003 contains NaN or inf"):
        open_npz(tmp_path / "nan.npz", x=bad)
    with pytest.raises(DataError, match="contains int64 of shape"):
        open_npz(tmp_path / "int.npz", x=np.ones((48, 2), dtype=np.int64))
    with pytest.raises(DataError, match=r"contains float32 of shape \(48,\)"):
        open_npz(tmp_path / "flat.npz", x=x[:, 0])
    with pytest.raises(DataError, match=r"identity has shape \(48,\), but there are 47 rows"):
        open_npz(tmp_path / "long.npz", x=x[:-1])
    with pytest.raises(DataError, match=r"no array voice among x, .*; name one as good\.npz#x"):
        open_feature_file(f"{tmp_path}/good.npz#voice", "voice")
    with pytest.raises(DataError, match=r"no such file; did you mean good\.npz\?"):
        open_feature_file(f"{tmp_path}/goood.npz", "voice")
    (tmp_path / "x.h5").write_text("x")
    with pytest.raises(DataError, match=r"unknown kind \.h5; use \.npz, \.npy or \.csv"):
        open_feature_file(f"{tmp_path}/x.h5", "voice")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object))
    (tmp_path / "m.csv").write_text("item\n1\n")
    with pytest.raises(DataError, match="cannot be read"):
        open_feature_file(FeatureFile(f"{tmp_path}/o.npy", f"{tmp_path}/m.csv"), "voice")


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("itm,identity\na,b\n", {}, r"no column voice for item"),
        ("item,identity\na,b\n", {"columns": {"vidoe": "x"}}, "columns has vidoe; did you mean video?"),
        (
            "item,person\na,b\n",
            {"columns": {"identity": "persn"}},
            "no column persn for identity; did you mean person?",
        ),
        ("item,item\na,b\n", {}, "column item occurs twice"),
        ("item,identity\na\n", {}, "line 2: 1 columns, but line 1 names 2"),
        ("item,gender\na,q\nb,m\nc,m\nd,m\n", {}, "gender 'q' is unknown"),
        ("item\na\n\nb\nc\n", {}, "4 rows, but .* have 3"),
        ("item,identity\n,p\nb,p\nc,p\nd,p\n", {}, "row 1 has no item id"),
        ("", {}, "is empty"),
    ],
)
def test_bad_index_says_what(tmp_path: Path, text: str, options: dict, said: str) -> None:
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        open_feature_file(FeatureFile(str(tmp_path / "x.npy"), str(tmp_path / "m.csv"), **options), "voice")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_npz_is_refused_or_read_whole(tmp_path: Path, data: st.DataObject) -> None:
    arrays = write_npz(tmp_path / "p.npz")
    content = bytearray((tmp_path / "p.npz").read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "p.npz").write_bytes(content)
    message = ""
    try:
        file = open_feature_file(str(tmp_path / "p.npz"), "voice")
    except DataError as error:
        message = str(error)
    if message:
        assert "p.npz" in message
    else:
        np.testing.assert_array_equal(file.x[file.row], arrays["x"])


@pytest.mark.parametrize("labels", [None, ["a", "b", "c", "d"]])
@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"index": False}, "first line numbers the columns"),
        ({"header": False}, "first column numbers the rows"),
        ({}, "write it without row and column names"),
        ({"index": False, "header": ["f1", "f2", "f3"]}, "line 1, column 1: 'f1' is not a finite number; write it"),
        ({"header": False, "index_label": "row"}, "first column numbers the rows"),
    ],
)
def test_names_that_pandas_writes_are_refused(tmp_path: Path, options: dict, what: str, labels: list | None) -> None:
    frame = pd.DataFrame(X + 0.5)
    if labels is not None:
        frame["identity"] = labels
        options = (
            {**options, "header": [*options["header"], "identity"]}
            if isinstance(options.get("header"), list)
            else options
        )
    frame.to_csv(tmp_path / "x.csv", **options)
    with pytest.raises(DataError, match=rf"x\.csv.*{what}") as caught:
        open_feature_file(FeatureFile(str(tmp_path / "x.csv"), labelled=labels is not None), "voice")
    assert "to_csv(path, index=False, header=False)" in str(caught.value)


def test_row_names_of_a_shuffled_table_are_refused(tmp_path: Path) -> None:
    pd.DataFrame(np.random.default_rng(0).standard_normal((40, 4))).sample(20).to_csv(tmp_path / "x.csv", header=False)
    with pytest.raises(DataError, match="first column numbers the rows"):
        open_feature_file(FeatureFile(str(tmp_path / "x.csv"), labelled=False), "voice")


def test_row_names_of_two_levels_are_refused(tmp_path: Path) -> None:
    rows = pd.MultiIndex.from_product([[0, 1], [0, 1, 2]])
    frame = pd.DataFrame(np.random.default_rng(0).standard_normal((6, 4)), index=rows)
    frame.to_csv(tmp_path / "x.csv", header=False)
    with pytest.raises(DataError, match="first two columns number the rows"):
        open_feature_file(FeatureFile(str(tmp_path / "x.csv"), labelled=False), "voice")
    frame.sample(frac=1, random_state=0).to_csv(tmp_path / "y.csv", header=False, index=False)
    assert open_feature_file(FeatureFile(str(tmp_path / "y.csv"), labelled=False), "voice").x.shape == (6, 4)


def test_identities_that_read_like_missing_values_stay(tmp_path: Path) -> None:
    names = ["NA", "None", "nan", "null"]
    file = open_feature_file(FeatureFile(str(csv(tmp_path / "x.csv", X, names))), "voice")
    assert file.items.identity.tolist() == names


def test_an_npz_with_a_vector_for_each_item(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **{f"p{i}/en/v/{i}.wav": x for i, x in enumerate(X)})
    file = open_feature_file(str(tmp_path / "x.npz"), "voice")
    assert file.items.ids.tolist() == [f"p{i}/en/v/{i}" for i in range(4)]
    np.testing.assert_array_equal(file.x[file.row], X)


def test_numbers_too_large_for_a_norm_are_refused(tmp_path: Path) -> None:
    for value in (1e30, -1e30, 1e200):
        np.savez(tmp_path / "x.npz", x=np.where(X[2, 1] == X, value, X), item=list("abcd"))
        with pytest.raises(DataError, match=r"row 3: the embedding of c contains (numbers beyond|NaN or inf)"):
            open_feature_file(str(tmp_path / "x.npz"), "voice")


@pytest.mark.parametrize("make", [
    lambda x: x.astype(">f4"), lambda x: x.astype(">f8"), np.asfortranarray, lambda x: x.astype(np.float16),
    lambda x: x.astype(np.longdouble),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_any_layout_of_floats_is_read(tmp_path: Path, make: Callable[[np.ndarray], np.ndarray], kind: str) -> None:
    x = make(X)
    (tmp_path / "index.csv").write_text("item\n" + "\n".join("abcd") + "\n")
    if kind == "npy":
        np.save(tmp_path / "x.npy", x)
    else:
        np.savez(tmp_path / "x.npz", x=x)
    table = FeatureTable([FeatureFile(f"{tmp_path}/x.{kind}", str(tmp_path / "index.csv"))], "voice", normalise=False)
    np.testing.assert_array_equal(table.read([3, 0]).numpy(), x.astype(np.float32)[[3, 0]])


@pytest.mark.parametrize("x", [
    X.astype(np.int8), X.astype(complex), X > 1, X[0], X[None], np.float32(1), X[:0], X.astype(object),
    np.array({"a": X[0]}), np.zeros(3, dtype=[("a", "f4"), ("b", "f4")]), X.astype(str), np.zeros((4, 3), "V2"),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_other_arrays_are_refused_in_one_line(tmp_path: Path, x: np.ndarray, kind: str) -> None:
    (tmp_path / "index.csv").write_text("item\n" + "\n".join("abcd") + "\n")
    (np.save if kind == "npy" else np.savez)(
        tmp_path / f"x.{kind}", **{"arr" if kind == "npy" else "x": x}, allow_pickle=True
    )
    with pytest.raises(DataError, match=rf"^feature file \S*x\.{kind}: [^\n]*$"):
        open_feature_file(FeatureFile(f"{tmp_path}/x.{kind}", str(tmp_path / "index.csv")), "voice")
