import csv
import gzip
import importlib
import io
import json
import subprocess
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data import ElmanError
from elman.labelled import from_lists, read_labelled, read_texts

TEXTS = ["good film", 'he said "no", twice', "two\nlines", "NA", "Grüße, 世界"]
LABELS = ["pos", "neg", "neg", "pos", "neg"]
UNICODE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def written(tmp_path, content, name="table.csv"):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return tmp_path / name


def as_csv(texts, labels, delimiter=","):
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(
        [("text", "label"), *zip(texts, labels, strict=True)]
    )
    return out.getvalue()


def as_jsonl(texts, labels):
    return "".join(json.dumps({"text": t, "label": l}) + "\n" for t, l in zip(texts, labels, strict=True))


def given_as(kind, tmp_path, texts, labels):
    if kind.startswith(("csv", "tsv")):
        return written(tmp_path, as_csv(texts, labels, "\t" if kind[0] == "t" else ","), f"table.{kind}")
    if kind.startswith("jsonl"):
        return written(tmp_path, as_jsonl(texts, labels), f"table.{kind}")
    library = pytest.importorskip("polars" if kind == "polars" else "pandas")
    frame = library.DataFrame({"text": texts, "label": labels})
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(tmp_path / "table.parquet")
        return tmp_path / "table.parquet"
    return frame


KINDS = ["csv", "csv.gz", "tsv", "jsonl", "jsonl.gz", "parquet", "pandas", "polars"]


# Sources


def test_importing_and_reading_files_needs_no_pandas(tmp_path):
    path = written(tmp_path, as_csv(TEXTS, LABELS))
    code = (
        f"import sys; from elman.labelled import read_labelled; read_labelled({str(path)!r}); "
        "print([m for m in ('torch', 'pandas', 'narwhals', 'polars') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_packages_are_named(monkeypatch):
    def without(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ElmanError, match=r'^reading tables needs pandas and narwhals: pip install "elman'):
        read_labelled({"text": TEXTS})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "labels", [LABELS, [1, 0, 0, 1, 0], [True, False, True, False, False], [-1, 2, 2, -1, 2]]
)
def test_all_sources_give_the_same(tmp_path, kind, labels):
    found = read_labelled(given_as(kind, tmp_path, TEXTS, labels))
    assert (list(found.texts), list(found.labels)) == (TEXTS, labels)
    assert {type(label) for label in found.labels} == {type(labels[0])}
    assert found.classes == tuple(sorted(set(labels)))
    assert (found.notes, found.several) == ((), False)
    assert list(read_texts(given_as(kind, tmp_path, TEXTS, labels)).texts) == TEXTS


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "pandas", "polars"])
def test_cells_may_hold_lists(tmp_path, kind):
    labels = [["a", "b"], ["b"], [], ["a"], ["a"]]
    found = read_labelled(given_as(kind, tmp_path, TEXTS, labels))
    assert found.labels == (("a", "b"), ("b",), (), ("a",), ("a",))
    assert (found.classes, found.several) == (("a", "b"), True)
    assert found.notes == ("1 text was taken to have none of the labels; it is " + found.places(2) + ".",)


@pytest.mark.parametrize("kind", KINDS)
def test_a_separator_parts_labels(tmp_path, kind):
    found = read_labelled(given_as(kind, tmp_path, TEXTS, ["a|b", "b", "", "a", "a"]), separator="|")
    assert found.labels == (("a", "b"), ("b",), (), ("a",), ("a",))
    found = read_labelled(given_as(kind, tmp_path, TEXTS, ["1|22", "22", "22", "1", "1"]), separator="|")
    assert found.classes == ((1, 22) if kind[0] in "ct" else ("1", "22"))


def test_labels_twice_in_a_cell_count_once():
    found = from_lists(["x", "y", "z"], [["a", "b", "a"], ("b",), np.array(["a"])])
    assert found.labels == (("a", "b"), ("b",), ("a",))
    assert found.notes == ("1 text was given a label twice, which counts once; it is row 0.",)


def test_standard_input_is_csv(monkeypatch):
    data = as_csv(TEXTS, LABELS).encode()
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
    assert list(read_labelled("-").texts) == TEXTS
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"a,b\n1,2\n")))
    with pytest.raises(ElmanError, match=r"^standard input has no column text; it has a, b\."):
        read_labelled("-")


def test_columns_have_any_name(tmp_path):
    path = written(tmp_path, "id;stars;review\n1;5;good\n2;5;fine\n3;1;bad\n4;1;poor\n")
    found = read_labelled(path, text="review", label="stars")
    assert (found.texts, found.labels) == (("good", "fine", "bad", "poor"), (5, 5, 1, 1))


def test_places_are_lines_of_files_even_after_texts_of_many_lines(tmp_path):
    path = written(tmp_path, '\ufefftext,label\r\n"a\nb\n",x\r\n\r\n"c\rd",x\r\n"",x\r\ne,y\r\nf,y\r\n')
    found = read_labelled(path)
    assert found.texts == ("a\nb\n", "c\rd", "e", "f")
    assert [found.places(i) for i in range(4)] == ["line 2", "line 6", "line 9", "line 10"]
    assert found.notes == ("1 empty text was skipped; it is line 8.",)
    lists = from_lists(["", "a", None, "b", "c", "d"], list("xxyyxy"))
    assert [lists.places(i) for i in range(4)] == ["row 1", "row 3", "row 4", "row 5"]


def test_a_folder_has_a_folder_for_each_class(tmp_path):
    for name, text in (
        ("pos/1", "good"),
        ("pos/2", "fi\r\nne"),
        ("neg/1", "bad"),
        ("neg/2", "poor"),
        ("neg/3", " "),
    ):
        path = tmp_path / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode())
    (tmp_path / "pos" / "notes.md").write_text("x")
    (tmp_path / "pos" / ".DS_Store").write_text("x")
    (tmp_path / "urls.txt").write_text("x")
    (tmp_path / ".git").mkdir()
    found = read_labelled(tmp_path)
    assert found.texts == ("bad", "poor", "good", "fi\r\nne")
    assert found.labels == ("neg", "neg", "pos", "pos")
    assert found.places(2).replace("\\", "/") == "pos/1.txt"
    assert found.notes[0] == "2 files beside the .txt files of classes left out."
    assert found.notes[1].startswith("1 empty text was skipped; it is neg")
    assert read_texts(tmp_path / "pos").texts == ("good", "fi\r\nne")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ElmanError, match=r"has no \.txt files in empty: give a folder that has one folder"):
        read_labelled(tmp_path)
    with pytest.raises(ElmanError, match=r"has no folders in it: give a folder that has one folder"):
        read_labelled(tmp_path / "pos")
    with pytest.raises(ElmanError, match=r"has no \.txt files: give a folder of texts"):
        read_texts(tmp_path / "empty")
    (tmp_path / "empty" / "1.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ElmanError, match=r"1\.txt is not UTF-8: byte 0xe9 at offset 3, line 1"):
        read_labelled(tmp_path)


def test_texts_alone(tmp_path):
    path = written(tmp_path, "one\r\n\ntwo\u2028lines\n<b>", "lines.txt")
    found = read_texts(path)
    assert (found.texts, found.rows) == (("one", "two\u2028lines", "<b>"), (0, 2, 3))
    assert [found.places(i) for i in range(3)] == ["line 1", "line 3", "line 4"]
    assert found.notes == ("1 empty text was skipped; it is line 2.",)
    packed = read_texts(written(tmp_path, "one\n", "lines.txt.gz"))
    assert (packed.texts, packed.notes) == (("one",), ())
    assert read_texts(["a", "b"]).texts == read_texts(np.array(["a", "b"])).texts == ("a", "b")
    with pytest.raises(ElmanError, match=r"^row 1: 5 is an int, not text"):
        read_texts(["a", 5])
    with pytest.raises(ElmanError, match=r"^there is no text: there are no rows"):
        read_texts([])


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_series_are_lists(library):
    library = pytest.importorskip(library)
    texts, labels = library.Series(["a", "b", None, "c", "d"]), library.Series([1, 1, 1, 0, 0])
    found = from_lists(texts, labels)
    assert (found.texts, found.labels) == (("a", "b", "c", "d"), (1, 1, 0, 0))
    assert read_labelled((texts, labels)).labels == (1, 1, 0, 0)
    assert read_texts(texts).rows == (0, 1, 3, 4)


@pytest.mark.parametrize(
    "kind",
    [
        "object",
        "str",
        "string",
        "string[pyarrow]",
        "category",
        "Index",
        "str values",
        "string values",
        "category values",
    ],
)
def test_columns_of_pandas_in_all_their_forms(kind):
    pandas = pytest.importorskip("pandas")
    dtype, _, form = kind.partition(" ")
    if dtype == "Index":
        texts, labels = pandas.Index(["a", None, "b", "c", "d"]), pandas.Index([1, 1, 1, 0, 0])
    else:
        texts = pandas.Series(["a", None, "b", "c", "d"], dtype=dtype)
        labels = pandas.Series([1, 1, 1, 0, 0], dtype="category" if dtype == "category" else "Int64")
    if form:
        texts, labels = texts.array, labels.array
    found = from_lists(texts, labels)
    assert (found.texts, found.labels) == (("a", "b", "c", "d"), (1, 1, 0, 0))
    assert {type(label) for label in found.labels} == {int}
    assert read_texts(texts).rows == (0, 2, 3, 4)
    with pytest.raises(ElmanError, match=r"^row 1 has no label"):
        from_lists(labels.astype(str), texts)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_categories_are_labels(library):
    library = pytest.importorskip(library)
    dtype = "category" if library.__name__ == "pandas" else library.Categorical
    frame = library.DataFrame({"text": TEXTS, "label": library.Series(LABELS, dtype=dtype)})
    assert list(read_labelled(frame).labels) == LABELS


def test_numpy_labels_become_python():
    found = from_lists(TEXTS, np.array([1, 0, 0, 1, 0], np.int8))
    assert {type(label) for label in found.labels} == {int}
    assert {type(label) for label in from_lists(TEXTS, [np.bool_(i % 2) for i in range(5)]).labels} == {bool}


def test_tsv_with_quotation_marks_that_are_text(tmp_path):
    lines = 'text\tlabel\n"Good" is the word\tpos\n"Fine\tpos\nbad\tneg\nthe "end\tneg\n'
    found = read_labelled(written(tmp_path, lines, "table.tsv"))
    assert found.texts == ('"Good" is the word', '"Fine', "bad", 'the "end')
    assert found.notes[0].endswith("table.tsv do not pair up as quotes and were read as text.")
    swallowed = 'text\tlabel\n"Fine\tpos\nthe end"\tneg\nx\tpos\ny\tneg\n'  # paired: two rows would be one
    assert len(read_labelled(written(tmp_path, swallowed, "table.tsv")).texts) == 4


def test_a_text_of_a_million_words(tmp_path):
    text = "word, " * 1_000_000
    csv.field_size_limit(limit := 131_072)
    for kind in ("csv", "jsonl"):
        found = read_labelled(given_as(kind, tmp_path, [text, "a", "b", "c"], list("xxyy")))
        assert found.texts[0] == text
    assert csv.field_size_limit() == limit


@given(st.lists(UNICODE, max_size=5), st.sampled_from([",", ";", "\t"]))
def test_any_text_comes_back_from_csv(texts, delimiter):
    texts = ["a", "b", *texts, "c", "d"]
    labels = ["x", *["y"] * (len(texts) - 2), "x"]
    data = as_csv(texts, labels, delimiter).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
        assert list(read_labelled("-").texts) == [text for text in texts if text.strip()]


@given(st.lists(UNICODE | st.just("\0"), max_size=5), st.booleans())
def test_any_text_comes_back_from_jsonl(tmp_path_factory, texts, ascii):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    texts = ["a", "b", *texts]
    path.write_text(
        "\n".join(json.dumps({"text": t}, ensure_ascii=ascii) for t in texts), "utf-8", newline="\n"
    )
    assert list(read_texts(path).texts) == [text for text in texts if text.strip()]


def test_pandas_writes_what_is_read(tmp_path):
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"text": TEXTS, "label": LABELS}).to_csv(tmp_path / "t.csv", index=False)
    assert list(read_labelled(tmp_path / "t.csv").texts) == TEXTS


# Labels


def test_labels_of_files_are_what_all_of_them_are(tmp_path):
    def read(*labels):
        return read_labelled(written(tmp_path, as_csv(range(len(labels)), labels)))

    assert read("1", "1", "pos", "pos").classes == ("1", "pos")
    assert read("007", "007", "7", "7").classes == ("007", "7")
    assert read("true", "FALSE", "True", "false").labels == (True, False, True, False)
    assert read("9" * 20, "9" * 20, "1" * 20, "1" * 20).classes == ("1" * 20, "9" * 20)
    assert read("None", "None", "a", "a").classes == ("None", "a")
    found = read("1.0", "2", "2.0", "1.0")
    assert found.labels == (1, 2, 2, 1)
    assert {type(label) for label in found.labels} == {int}
    assert found.notes == ("4 labels were made whole, as 1.0; the first is line 2.",)
    found = read(" a", "a", "b ", "b")
    assert found.labels == ("a", "a", "b", "b")
    assert found.notes == ("2 labels were cut free of white space around; the first is line 2.",)


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "pandas", "polars"])
def test_whole_floats_become_integers(tmp_path, kind):
    found = read_labelled(given_as(kind, tmp_path, TEXTS, [1.0, 0.0, 0.0, 1.0, 0.0]))
    assert {type(label) for label in found.labels} == {int}
    assert found.notes[0].startswith("5 labels were made whole, as 1.0; the first is ")


def test_labels_for_evaluation_are_read_as_the_models(tmp_path):
    path = written(tmp_path, as_csv(["a", "b"], ["1", "2"]))
    assert read_labelled(path, classes=("1", "2", "x")).labels == ("1", "2")
    assert read_labelled(path, classes=(1, 2, 3)).labels == (1, 2)
    assert from_lists(["a"], ["x"], classes=("x", "y")).labels == ("x",)
    with pytest.raises(
        ElmanError, match=r"^line 3: the label 2 is none of the model's classes, 1, 3: correct"
    ):
        read_labelled(path, classes=(1, 3))
    with pytest.raises(ElmanError, match=r"^row 0: the label True is none of the model's classes, 0, 1"):
        from_lists(["a"], [True], classes=(0, 1))


def test_a_label_that_is_no_number_is_what_a_model_of_numbers_is_told(tmp_path):
    path = written(tmp_path, as_csv(["a", "b", "c", "d"], ["1", "2.0", "True", "unknown"]))
    with pytest.raises(
        ElmanError, match=r"^line 4: the label 'True' is none of the model's classes, 1, 2, 3"
    ):
        read_labelled(path, classes=(1, 2, 3))
    path = written(tmp_path, as_csv(["a", "b", "c"], ["unknown", "1", "2"]))
    with pytest.raises(
        ElmanError, match=r"^line 2: the label 'unknown' is none of the model's classes, 1, 2"
    ):
        read_labelled(path, classes=(1, 2))
    path = written(tmp_path, as_csv(["a", "b"], ["true", "1"]))
    with pytest.raises(
        ElmanError, match=r"^line 3: the label '1' is none of the model's classes, False, True"
    ):
        read_labelled(path, classes=(False, True))
    with pytest.raises(ElmanError, match=r"^row 1: the label 'x' is none of the model's classes, 1, 2"):
        from_lists(["a", "b"], [1, "x"], classes=(1, 2))
    path = written(tmp_path, as_csv(["a", "b"], ["2.0", "1"]))
    assert read_labelled(path, classes=(1, 2)).labels == (2, 1)


def test_blank_lines_of_a_single_column_are_empty_texts(tmp_path):
    path = written(tmp_path, '\ntext\n\ngood\n\n\n"b\nad"\n""\n\n\n')
    found = read_texts(path)
    assert (found.texts, found.rows) == (("good", "b\nad"), (1, 4))
    assert [found.places(i) for i in range(2)] == ["line 4", "line 7"]
    assert found.notes == ("4 empty texts were skipped; the first is line 3.",)
    with pytest.raises(ElmanError, match=r"is empty: there is no row"):
        read_texts(written(tmp_path, "text\n\n\n"))


def test_repeated_texts_are_noted():
    found = from_lists(["a", "b", "a", "a", "b", "c"], list("xyxyyx"))
    assert len(found.texts) == 6
    assert found.notes == (
        "3 texts of 6 repeat another exactly and were kept: row 2 is row 0 again, and so on.",
        "1 text with different labels in different places: row 0 says 'x', row 3 'y'.",
    )
    found = from_lists(["a", "b", "b", "a", "b"], list("xxyyy"))
    assert found.notes[1].endswith(
        "2 texts with different labels in different places: row 1 says 'x', row 2 'y'."
    )
    several = from_lists(["a", "a", "b"], [["x", "y"], ["y", "x"], []])
    assert len(several.notes) == 2
    assert several.notes[1] == "1 text of 3 repeat another exactly and were kept: row 1 is row 0 again."


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", None, "b", "b"], r"^row 1 has no label: fill it in, or remove the row\."),
        (["a", "a", float("nan"), "b"], r"^row 2 has no label: fill"),
        (["a", "a", "b", " "], r"^row 3 has no label: fill"),
        (["a", ["a"], "b", "b"], r"^row 0 has 'a' for a label, where others have lists: write lists"),
        ([["a"], ["a"], None, ["b"]], r"^row 2 has no label"),
        ([["a"], ["a"], ["b", None], ["b"]], r"^row 2 has no label"),
        (
            [1, "pos", 1, "pos"],
            r"^the labels are of mixed type: 1 in row 0, 'pos' in row 1\. Write all of them",
        ),
        ([True, 1, True, 1], r"mixed type: True in row 0, 1 in row 1"),
        ([[1], ["a"], [1], ["a"]], r"mixed type: 1 in row 0, 'a' in row 1"),
        ([1.5, 2.0, 1.5, 2.0], r"^row 0: the label 1\.5 is a measure, no class\. Bin them"),
        ([1.0, float("inf"), 1.0, 2.0], r"^row 1: the label inf is a measure"),
        (
            [b"a", b"a", b"b", b"b"],
            r"^row 0: the label b'a' is a bytes: labels are text, whole numbers, or True",
        ),
        ([{"a": 1}] * 4, r"^row 0: the label \{'a': 1\} is a dict"),
        ([["a", ["b"]], ["a"], ["b"], ["b"]], r"^row 0: the label \['b'\] is a list"),
        (["a\ud800"] * 4, r"^row 0 holds a lone surrogate, U\+D800"),
        (["pos"] * 4, r"^there is only one class, 'pos': give texts of two classes"),
        ([[]] * 4, r"^there are no labels: give texts of two classes at least\."),
        (
            ["a", "a", "a", "b"],
            r"^'b' has only one text \(row 3\), and a class needs two at least: add texts",
        ),
        (["a", "a", "c", "b"], r"^'b', 'c' have only one text \(row 3\), and"),
        ([["a", "b"], ["a"], ["a"], ["a"]], r"^'b' has only one text \(row 0\), and"),
        (["a", "a", "b"], r"^there are 4 texts and 3 labels: give one label for each text\."),
        ("abab", r"^labels must be a list with one item for each text, not 'abab'"),
        (5, r"^labels must be a list with one item for each text, not 5"),
        (np.eye(4), r"^labels must be a list with one item for each text, not array"),
    ],
)
def test_labels_that_are_refused(labels, message):
    with pytest.raises(ElmanError, match=message):
        from_lists(["w", "x", "y", "z"], labels)


def test_many_rare_labels_are_not_all_listed():
    with pytest.raises(ElmanError, match=r"^0, 1, 2, 3, 4 and 995 more have only one text \(row 0\)"):
        from_lists([str(i) for i in range(1000)], range(1000))


@pytest.mark.parametrize("empty", ["NA", "NaN", "null", ""])
def test_what_may_be_missing_in_a_file_is_refused(tmp_path, empty):
    path = written(tmp_path, f"text,label\na,x\nb,{empty}\nc,x\n")
    with pytest.raises(ElmanError, match=r"^line 3 has no label"):
        read_labelled(path)
    if empty:
        with pytest.raises(ElmanError, match=rf"no label but '{empty}': .*, or rename the class\."):
            read_labelled(path, separator="|")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_missing_values_of_frames(library):
    library = pytest.importorskip(library)
    frame = library.DataFrame({"text": ["a", None, "b", "c"], "label": ["x", "x", None, "x"]})
    with pytest.raises(ElmanError, match=r"^row 2 has no label"):
        read_labelled(frame)
    frame = library.DataFrame({"text": ["a", None, "b", "c"], "label": [1, None, 2, None]})
    with pytest.raises(ElmanError, match=r"^row 3 has no label"):
        read_labelled(frame)
    if library.__name__ == "pandas":
        frame = frame.astype({"text": "string", "label": "Int64"})  # which have pandas.NA
        assert read_texts(frame).rows == (0, 2, 3)
        with pytest.raises(ElmanError, match=r"^row 3 has no label"):
            read_labelled(frame)


# Files and texts that are refused


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", r"t\.csv is empty: there is no row below the names"),
        ("t.csv", "text,label\n", r"t\.csv is empty: there is no row below"),
        ("t.csv", "body,class\na,b\n", r"has no column text; it has body, class\. Name .* text= \(--text\)"),
        (
            "t.csv",
            "text,class\na,b\n",
            r"has no column label; it has text, class\. Name .* label= \(--label\)",
        ),
        ("t.csv", "text,text,label\na,b,c\n", r"has two columns text; it has text, text, label"),
        (
            "t.csv",
            "text,label\na,b\nc,d,e\n",
            r"t\.csv, line 3 has 3 fields, and the first line names 2 columns",
        ),
        (
            "t.csv",
            'text,label\na,b\n"c,d\n',
            r"line 3: quotation marks do not pair up .* double those inside",
        ),
        ("t.csv", 'text,label\n"c" d,e\n', r"line 2: quotation marks do not pair up"),
        ("t.csv", "text,label\n,a\n  ,b\n", r"^there is no text: all texts are empty"),
        ("t.jsonl", "\n", r"is empty: there is no text in it"),
        (
            "t.jsonl",
            '{"text": "a"}\n\n{text: 1}\n',
            r"line 3, is not JSON: Expecting property .* at character 2\.",
        ),
        (
            "t.jsonl",
            '["a", "b"]\n',
            r'line 1, is a list, not an object\. Write each text .*\{"text": "…", "label"',
        ),
        ("t.jsonl", "[" * 100_000, r"line 1, cannot be read: "),
        ("t.jsonl", '{"text": ' + "1" * 5_000 + "}", r"line 1, cannot be read: "),
        ("t.jsonl", '{"text": "a"}\n', r"has no column label; it has text"),
        ("t.jsonl", '{"text": "a", "label": "x"}\n{"text": "b"}\n', r"^line 2 has no label"),
        (
            "t.jsonl",
            '{"text": "a", "label": "x"}\n{"text": 7, "label": "x"}',
            r"^line 2: 7 is an int, not text: name",
        ),
        ("t.jsonl", '{"text": ["a"], "label": "x"}', r"^line 1: \['a'\] is a list, not text"),
        (
            "t.jsonl",
            r'{"text": "a \ud83d", "label": "x"}',
            r"^line 1 holds a lone surrogate, U\+D83D: .* Replace",
        ),
        (
            "t.csv",
            "text,label\nöl,x\n".encode("latin-1"),
            r"byte 0xf6 at offset 11, line 2\. It may be WINDOWS-1252",
        ),
        (
            "t.csv",
            ("text,label\n" + "добрый день," * 9).encode("cp1251"),
            r"It may be WINDOWS-1251.*iconv -f WIN",
        ),
        ("t.csv", b"\x81\x8d caf\xe9 and so much more in it", r"It may be LATIN1"),
        ("t.csv", "text,label\n".encode("utf-16"), r"is not UTF-8 but UTF-16, or no text.*iconv -f UTF-16"),
        ("t.csv", "text,label\n".encode("utf-16-le"), r"is not UTF-8 but UTF-16"),
        (
            "t.txt",
            "a\nb\n",
            r"t\.txt is no table that can be read: give a \.csv, .*, or a folder with one folder",
        ),
        ("t.xlsx", b"PK", r"t\.xlsx is no table that can be read"),
        ("t.parquet", b"PAR1", r"is no Parquet file that can be read"),
    ],
)
def test_files_that_are_refused(tmp_path, name, content, message):
    path = written(tmp_path, content, name)
    with pytest.raises(ElmanError, match=message):
        read_labelled(path)


@pytest.mark.parametrize(
    "damage",
    [b"no gzip", gzip.compress(b"text,label\n", mtime=0)[:-9], b"\x1f\x8b\x08" + b"\xff" * 40],
    ids=["no gzip", "cut off", "bad header"],
)
def test_damaged_gzip(tmp_path, damage):
    (tmp_path / "t.csv.gz").write_bytes(damage)
    with pytest.raises(ElmanError, match=r"t\.csv\.gz cannot be unpacked .*: it is damaged, or not gzip\."):
        read_labelled(tmp_path / "t.csv.gz")


def test_damaged_parquet(tmp_path):
    path = given_as("parquet", tmp_path, TEXTS, LABELS)
    whole = path.read_bytes()
    for cut in range(4, len(whole), 97):
        path.write_bytes(whole[:cut] + b"\xff" * 8 + whole[cut + 8 :])
        try:
            read_labelled(path)
        except ElmanError:
            continue


def test_other_misuse(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file missing\.csv: check the name"):
        read_labelled("missing.csv")
    with pytest.raises(FileNotFoundError, match=r"there is no file missing\.txt: check the name"):
        read_texts("missing.txt")
    with pytest.raises(ElmanError, match=r"must name different columns, not both text\."):
        read_labelled(written(tmp_path, "text\na\n"), label="text")
    with pytest.raises(ElmanError, match=r"^the separator of labels is empty: give the character"):
        read_labelled(written(tmp_path, as_csv(TEXTS, LABELS)), separator="")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_that_are_refused(library):
    library = pytest.importorskip(library)
    with pytest.raises(ElmanError, match=r"^the table has no column text; it has a\. Name"):
        read_labelled(library.DataFrame({"a": ["b"]}))
    with pytest.raises(ElmanError, match=r"^row 0: 5 is an int, not text"):
        read_labelled(library.DataFrame({"text": [5, 6], "label": ["a", "b"]}))
    with pytest.raises(ElmanError, match=r"^there is no text: there are no rows"):
        read_labelled(library.DataFrame({"text": [], "label": []}))
