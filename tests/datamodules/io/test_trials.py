"""Trial lists: every known format is read, anything else is refused in one line that says where and why."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.io.item_ids import stem
from datamodules.io.trials import read_trials, resolve, write_trials
from datamodules.schema import DataError, Trials

VOICES = ["id1/Alpha/v/00000", "id1/Alpha/v/00001", "id2/Alpha/w/00000"]
FACES = ["id1/Alpha/v/0000025", "id2/Alpha/w/0000050"]


def write(tmp_path: Path, text: str | bytes, name: str = "list.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def as_rows(trials: Trials) -> list[tuple]:
    labels = [None] * len(trials) if trials.labels is None else trials.labels.tolist()
    return list(zip(trials.keys.tolist(), trials.voices.tolist(), trials.faces.tolist(), labels, strict=True))


def test_a_list_of_faces_and_voices_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("1 id1/en/1.jpg id1/en/1.wav\n0 id1/en/1.png id2/en/1.flac\n1 id2/en/1.jpg id2/en/1.wav\n")
    with pytest.raises(DataError, match=r"its voices are pictures such as id1/en/1\.jpg, and its faces recordings"):
        read_trials(path)


@pytest.mark.parametrize(
    "text",
    [
        "key,voice,face,label\nk1,a.wav,b.jpg,1\nk2,c.wav,d.jpg,0\n",
        "label,face,voice,key\r\n1,b.jpg,a.wav,k1\r\n0,d.jpg,c.wav,k2",
        "\ufeffkey, voice, face, label\n\nk1 , a.wav,b.jpg,1\n   \nk2,c.wav,d.jpg ,0\n\n",
        '"key","voice","face","label"\n"k1","a.wav","b.jpg","1"\nk2,c.wav,d.jpg,0',
        "k1 1 a.wav b.jpg\nk2 0 c.wav d.jpg",
        "\ufeffk1   1\ta.wav b.jpg  \r\n  k2 0  c.wav    d.jpg",
        "key,voice,face,label\rk1,a.wav,b.jpg,1\rk2,c.wav,d.jpg,0\r",
    ],
)
def test_labelled_formats_give_the_same_trials(tmp_path: Path, text: str) -> None:
    trials = read_trials(write(tmp_path, text))
    assert as_rows(trials) == [("k1", "a.wav", "b.jpg", 1), ("k2", "c.wav", "d.jpg", 0)]
    assert trials.labels is not None
    assert trials.labels.dtype == np.int8


@pytest.mark.parametrize("text", ["key,voice,face\nk1,a b.wav,b.jpg\n", "k1   v,1.wav f,1.jpg\r\n", "k1 a.wav b.jpg"])
def test_unlabelled_formats(tmp_path: Path, text: str) -> None:
    trials = read_trials(write(tmp_path, text))
    assert trials.labels is None
    assert as_rows(trials)[0][0] == "k1"
    assert as_rows(trials)[0][1] in ("a b.wav", "v,1.wav", "a.wav")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("key,voice,face\n", "no trials"),
        ("key,voice,face\n,,\n , ,\n", "no trials"),
        ("key,voice,face\n,,\nk,a.wav,b.jpg\n,,\nl,,b.jpg\n", "line 5, column voice: is empty"),
        ("key\nk1\n", "1 column"),
        ("a b\n", "2 columns"),
        ("key,voice,fase\nk,a,b\n", "line 1: unknown column 'fase'; did you mean face?"),
        ("key,voice\nk,a\n", "columns key, voice; expected key,voice,face"),
        ("key,voice,voice,face\nk,a,a,b\n", "expected key,voice,face"),
        ("k1,a.wav,b.jpg\nk2,a.wav,c.jpg\n", "unknown column 'k1'.*; expected key,voice,face"),
        ("key,voice,face,label\nk1,a,b,1\nk2,c,b,1\nk3,a,b,0\n", "line 4: the pair of .* line 2 has the other label"),
        ("key,voice,face\nk1,a,b\n\nk2,a\n", "line 4: 2 columns, expected 3"),
        ("k1 a b\nk2 a b c\n", "line 2: 4 columns, expected 3"),
        ("key,voice,face\nk1,a,b\nk1,c,d\n", "line 3, column key: 'k1' is already used in .* line 2"),
        ("key,voice,face,label\nk1,a,b,1\n\nk2,a,b,2\n", "line 4, column label: '2' is neither 0 nor 1"),
        ("k1 yes a b\n", "line 1, column label: 'yes'"),
        ("key,voice,face\nk1,,b\n", "line 2, column voice: is empty"),
        ("key,voice,face\nk 1,a,b\n", "line 2, column key: 'k 1' contains a blank"),
        ("key,voice,face\nk1,a,../b\n", r"line 2, column face: '\.\./b' leaves the data folder"),
        ("k1 a/../../etc/passwd b\n", "line 1, column voice: .* leaves the data folder"),
        ("k1 a /etc/passwd\n", "line 1, column face: '/etc/passwd' is absolute"),
        ("k1 C:\\a b\n", "column voice: .* is absolute"),
        ("k1 a\\..\\b c\n", "leaves the data folder"),
        ("key,voice,face\nk1,a\x07,b\n", "line 2, column voice: .* unprintable"),
        ('key,voice,face\nk1,"a,b\n', "line"),
        (b"k1 a b\nk2 \xff b\n", "line 2: not UTF-8"),
        (b"k1 a b\nk2 a\0 b\n", "line 2: contains a zero byte"),
    ],
)
def test_what_is_wrong_and_where(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        read_trials(write(tmp_path, text))
    assert "\n" not in str(error.value)
    assert "list.csv" in str(error.value)


def test_missing_list_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "k a b", "Urdu_test.txt")
    with pytest.raises(DataError, match=r"no such file; did you mean Urdu_test\.txt\?"):
        read_trials(tmp_path / "Urdu_tset.txt")
    with pytest.raises(DataError, match=r"the folder .*nowhere does not exist"):
        read_trials(tmp_path / "nowhere" / "list.txt")
    with pytest.raises(DataError, match="is a folder"):
        read_trials(tmp_path)


@pytest.mark.parametrize("labels", ["1\n0\n", "k1 1\nk2 0\n", "k2 0\r\nk1 1", "1 x\n0 y", "0 1\n1 0\n"])
def test_labels_in_a_separate_file(tmp_path: Path, labels: str) -> None:
    path = write(tmp_path, "k1 a b\nk2 c d\n")
    trials = read_trials(path, write(tmp_path, labels, "labels.txt"))
    assert trials.labels is not None
    assert trials.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("1\n", "line 1: 1 labels for 2 trials"),
        ("k1 1\nk3 0\n", "no label for trial k2"),
        ("a b\nc d", "must be 0 or 1"),
        ("1\n0 1", "must be 0 or 1"),
        ("", "must be 0 or 1"),
    ],
)
def test_wrong_labels(tmp_path: Path, labels: str, said: str) -> None:
    path = write(tmp_path, "k1 a b\nk2 c d\n")
    with pytest.raises(DataError, match=said):
        read_trials(path, write(tmp_path, labels, "labels.txt"))


def test_two_sources_of_labels_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "k1 1 a b\n")
    with pytest.raises(DataError, match="already has labels"):
        read_trials(path, write(tmp_path, "1", "labels.txt"))


VISIBLE = st.characters(exclude_categories=("C", "Z"))
KEYS = st.text(VISIBLE, min_size=1, max_size=8)
REFERENCES = (
    st.text(st.characters(exclude_categories=("C", "Zl", "Zp"), exclude_characters="\\:/\xa0"), min_size=1, max_size=12)
    .map(lambda text: text.strip())
    .filter(lambda text: text and text != ".." and text.isprintable())
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_is_written_is_read_back(tmp_path: Path, data: st.DataObject) -> None:
    keys = data.draw(st.lists(KEYS, min_size=1, max_size=6, unique=True))
    n = len(keys)
    voices, faces = (data.draw(st.lists(REFERENCES, min_size=n, max_size=n)) for _ in range(2))
    labels = data.draw(st.none() | st.lists(st.integers(0, 1), min_size=n, max_size=n))
    if labels is not None:  # a pair has one label
        first = dict(zip(reversed(list(zip(voices, faces, strict=True))), reversed(labels), strict=True))
        labels = [first[pair] for pair in zip(voices, faces, strict=True)]
    written = Trials(
        np.array(keys), np.array(voices), np.array(faces), None if labels is None else np.array(labels, np.int8), "x"
    )
    path = tmp_path / "round.csv"
    write_trials(written, path)
    assert as_rows(read_trials(path)) == as_rows(written)
    assert [p.name for p in tmp_path.iterdir()] == ["round.csv"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60)
    | st.text(alphabet='key,voice face\n\r"01 ./\\\t\x0b\x1c\u2028é', max_size=60).map(str.encode)
    | st.text(alphabet='k,a01"\n ./', max_size=40).map(lambda text: ("key,voice,face,label\n" + text).encode())
)
def test_any_file_is_read_or_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, content, "fuzz.txt")
    message = ""
    try:
        trials = read_trials(path)
    except DataError as error:
        message = str(error)
    if message:
        assert "\n" not in message
        assert "fuzz.txt" in message
    else:
        assert len(trials) == len(set(trials.keys)) == len(trials.voices) == len(trials.faces) > 0


@pytest.mark.parametrize(
    ("voice", "face"),
    [
        ("id2/Alpha/w/00000", "id1/Alpha/v/0000025"),
        ("id2/Alpha/w/00000.wav", "id1/Alpha/v/0000025.jpg"),
        ("v1/voices/id2/Alpha/w/00000.wav", "a/b/id1/Alpha/v/0000025.jpeg"),
        ("voices\\id2\\Alpha\\w\\00000.flac", "faces\\id1\\Alpha\\v\\0000025.png"),
    ],
)
def test_references_find_their_items(voice: str, face: str) -> None:
    trials = Trials(np.array(["k"]), np.array([voice]), np.array([face]), None, "memory")
    rows = resolve(trials, VOICES, FACES)
    assert (rows[0].tolist(), rows[1].tolist()) == ([2], [0])


def test_dots_in_a_name_are_not_an_extension() -> None:
    trials = Trials(np.array(["k"]), np.array(["audio/clip_021.5-026.75.ogg"]), np.array([FACES[0]]), None, "memory")
    assert resolve(trials, ["clip_021", "clip_021.5-026.75"], FACES)[0].tolist() == [1]


def test_unknown_item_is_named_with_its_line_and_the_nearest(tmp_path: Path) -> None:
    path = write(
        tmp_path, "key,voice,face\n\nk1,id1/Alpha/v/00000.wav,id1/Alpha/v/0000025.jpg\nk2,id1/Alpha/v/00009.wav,x\n"
    )
    with pytest.raises(
        DataError, match=r"line 4, column voice: unknown item .*00009\.wav; did you mean id1/Alpha/v/0000\d"
    ):
        resolve(read_trials(path), VOICES, FACES)


def test_two_files_do_not_become_one_item() -> None:
    trials = Trials(np.array(["k", "l"]), np.array(["a/0.wav", "b/0.wav"]), np.array([FACES[0]] * 2), None, "memory")
    with pytest.raises(DataError, match=r"a/0\.wav and b/0\.wav lead to the same item"):
        resolve(trials, ["0"], FACES)


def test_lines_of_commas_are_blank(tmp_path: Path) -> None:
    trials = read_trials(write(tmp_path, "key,voice,face\nk,a.wav,b.jpg\n,,\n , ,\t\nl,c.wav,d.jpg\n,,\n"))
    assert trials.keys.tolist() == ["k", "l"]
    assert trials.faces.tolist() == ["b.jpg", "d.jpg"]


def test_a_million_lines_in_seconds(tmp_path: Path) -> None:
    n, voices = 1_000_000, [f"id{i % 70:04d}/Alpha/v{i % 9}/{i:05d}" for i in range(5000)]
    lines = (f"k{i:07d}  {voices[i % 5000]}.wav  {voices[i * 7 % 5000]}.jpg" for i in range(n))
    path = write(tmp_path, "\r\n".join(lines))
    start = time.process_time()
    trials = read_trials(path)
    rows = resolve(trials, voices, voices)
    assert time.process_time() - start < 15  # 3 s on an idle core; the limit only catches loops in Python
    assert rows[1][3] == 21
    assert len(trials) == n


def test_the_real_lists_are_read(shared_data: Path) -> None:
    lists = sorted((shared_data / "mavceleb" / "trials").glob("*.csv"))
    assert len(lists) == 36
    for path in lists:
        trials = read_trials(path)
        assert trials.labels is not None
        same = np.array([v[:6] == f[:6] for v, f in zip(trials.voices, trials.faces, strict=True)])
        np.testing.assert_array_equal(trials.labels, same.astype(np.int8))


LINES = [("a", "x", 1), ("a", "y", 0), ("b", "y", 1)]


@pytest.mark.parametrize(
    ("line", "order"),
    [
        ("{label} {voice} {face}", "<label> <voice> <face>"),
        ("{voice}\t{face}\t{label}", "<voice> <face> <label>"),
    ],
)
def test_the_column_of_zeros_and_ones_tells_the_order(tmp_path: Path, line: str, order: str) -> None:
    (tmp_path / "list.txt").write_text("\n".join(line.format(voice=v, face=f, label=y) for v, f, y in LINES))
    with pytest.warns(UserWarning, match=f"read as {order}"):
        trials = read_trials(tmp_path / "list.txt")
    assert trials.keys.tolist() == ["1", "2", "3"]
    assert list(zip(trials.voices, trials.faces, trials.labels.tolist(), strict=True)) == LINES


@pytest.mark.parametrize("names", ["label,voice,face", "Label, VOICE ,Face", '"label","voice","face"'])
def test_names_of_columns_in_any_case_and_without_keys(tmp_path: Path, names: str) -> None:
    (tmp_path / "list.csv").write_text("\n".join([names, *(f"{y},{v},{f}" for v, f, y in LINES)]) + "\n")
    trials = read_trials(tmp_path / "list.csv")
    assert trials.keys.tolist() == ["1", "2", "3"]
    assert list(zip(trials.voices, trials.faces, trials.labels.tolist(), strict=True)) == LINES


def test_a_label_may_be_the_last_of_four_columns(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("k1 a x 1\nk2 a y 0\n")
    trials = read_trials(tmp_path / "list.txt")
    assert trials.keys.tolist() == ["k1", "k2"]
    assert trials.labels.tolist() == [1, 0]


def test_other_numbers_of_columns_name_the_orders_there_are(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a x\nb y\n")
    with pytest.raises(DataError, match=r"2 columns; expected <key> <voice> <face>; <label> <voice> <face>; .*or CSV"):
        read_trials(tmp_path / "list.txt")


@pytest.mark.parametrize("name", ["x.uttZ", "x.v2", "x", "x.utt"])
def test_what_follows_a_dot_is_part_of_an_id(name: str) -> None:
    trials = Trials(np.array(["k"]), np.array([name]), np.array(["f.JPG"]), None, "list")
    with pytest.raises(DataError, match=f"unknown item {name}"):
        resolve(trials, ["x.uttA"], ["f"])
    known = Trials(np.array(["k"]), np.array(["x.uttA.wav"]), np.array(["f.JPG"]), None, "list")
    assert [rows.tolist() for rows in resolve(known, ["x.uttA"], ["f"])] == [[0], [0]]


def test_composed_and_decomposed_names_are_the_same_item() -> None:
    composed, decomposed = "Zo\u00eb/1.wav", "Zoe\u0308/1.wav"
    for reference, item in ((composed, decomposed), (decomposed, composed)):
        trials = Trials(np.array(["k"]), np.array([reference]), np.array([reference]), None, "list")
        assert [rows.tolist() for rows in resolve(trials, [stem(item)], [stem(item)])] == [[0], [0]]
