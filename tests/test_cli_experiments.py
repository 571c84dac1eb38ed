"""compare and tune from the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from elman import cli
from elman.checkpoint import load
from test_cli import refused
from test_comparison import a_table, opened_and_closed

pytestmark = pytest.mark.usefixtures("one_thread")

pytest.importorskip("optuna")
SMALL = ("--hidden-size", 16, "--embedding-size", 8, "--batch-size", 8, "--chunk-length", 32)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "brackets.txt"
    path.write_text(opened_and_closed(8_000))
    return path


def called(capsys, *arguments, code=0):
    assert cli.main(list(map(str, arguments))) == code
    return capsys.readouterr()


@pytest.mark.parametrize(
    "command", [f"{kind} {job}" for kind in ("compare", "tune") for job in ("text", "series", "labels")]
)
def test_help_says_what_and_gives_an_example(capsys, command):
    out = " ".join(called(capsys, *command.split(), "--help").out.split())
    assert f"Example: elman {command}" in out
    assert "--resume" not in out
    kind, job = command.split()
    assert ("Searched" in out) == (kind == "tune")
    assert {"text": "--chunk-length", "series": "--horizon", "labels": "--separator"}[job] in out


def test_compare_text(capsys, text):
    budget = ("--equal", "parameters", "--epochs", 0.5)
    cells = ("--cell", "feedforward", "--cell", "gru")
    found = called(capsys, "compare", "text", text, *SMALL, *budget, *cells)
    table, about, *conclusion = found.out.split("\n\n")
    lines = [line.split() for line in table.splitlines()]
    assert lines[0] == ["validation", "lowest", "highest", "parameters", "chars/s", "steps", "seconds"]
    assert {line[0] for line in lines[1:3]} == {"feedforward", "gru"}
    assert lines[3][0] == "trigram"
    assert all(float(line[2]) <= float(line[1]) <= float(line[3]) for line in lines[1:3])
    assert "nats per character, the mean over 2 seeds" in about
    assert "feedforward has no recurrence: it sees the last 16 characters" in about
    assert "is ahead of" in "".join(conclusion)
    assert text.with_suffix(".compare.png").read_bytes().startswith(b"\x89PNG")


def test_compare_as_json(capsys, tmp_path, text):
    picture = tmp_path / "a.png"
    budget = ("--minutes", 0.05, "--seeds", 1)
    cells = ("--cell", "rnn", "--cell", "mingru")
    found = called(capsys, "compare", "text", text, *SMALL, *budget, *cells, "-o", picture, "--json")
    figures = json.loads(found.out)
    assert figures["equal"] == "time"
    assert figures["budget"] == pytest.approx(1.5)
    assert set(figures["table"]) == {"rnn", "mingru", "trigram"}
    assert [run["cell"] for run in figures["runs"]] == ["rnn", "mingru"]
    assert picture.exists()


def test_tune_text_goes_on(capsys, text):
    how = ("--epochs", 0.3, "--layers", 1, "--dropout", 0)
    assert "the best of 1:" in called(capsys, "tune", "text", text, *how, "--trials", 1).out
    found = called(capsys, "tune", "text", text, *how, "--trials", 2)
    assert "the best of 3:" in found.out
    rows = {line.split()[0] for line in found.out.splitlines() if line}
    assert {"cell", "hidden_size", "learning_rate", "chunk_length", "batch_size"} <= rows
    assert not {"num_layers", "dropout"} & rows
    model = load(text.with_suffix(".tuned.elman"))
    assert (model.model["num_layers"], model.model["dropout"]) == (1, 0)
    assert text.with_suffix(".tune.png").exists()
    assert called(capsys, "generate", text.with_suffix(".tuned.elman"), "([", "--length", 5).out


def test_tune_series_as_json(capsys, tmp_path):
    a_table(3).to_csv(tmp_path / "a.csv", index=False)
    how = ("--horizon", 7, "--trials", 1, "--epochs", 0.2, "--hidden-size", 16, "--cell", "rnn", "--json")
    figures = json.loads(called(capsys, "tune", "series", tmp_path / "a.csv", *how).out)
    assert figures["best"]["how"] == "finished"
    assert not {"cell", "hidden_size"} & set(figures["searched"])
    assert load(tmp_path / "a.tuned.elman").model["cell"] == "rnn"


def test_labels_are_compared_and_tuned(capsys, tmp_path):
    path = tmp_path / "a.csv"
    rows = (f"{word} thing {i},{label}" for i in range(40) for word, label in (("good", 1), ("bad", 0)))
    path.write_text("\n".join(("review,stars", *rows)))
    columns = ("--text", "review", "--label", "stars", "--hidden-size", 8, "--embedding-size", 8)
    budget = ("--equal", "parameters", "--epochs", 1, "--seeds", 1, "--cell", "feedforward", "--cell", "rnn")
    found = called(capsys, "compare", "labels", path, *columns, *budget)
    assert "it sees one word, before all are pooled" in found.out
    assert "TF-IDF + logistic regression" in found.out
    called(capsys, "tune", "labels", path, *columns, "--one-way", "--trials", 1, "--epochs", 1)
    assert load(tmp_path / "a.tuned.elman").model["bidirectional"] is False


@pytest.mark.parametrize("kind", ["compare", "tune"])
def test_ctrl_c(tmp_path, text, kind):
    """What is finished is shown, and the exit code is that of Ctrl-C."""
    own = {
        "compare": ("--minutes", "0.3", "--seeds", "9", "--cell", "rnn", "--cell", "gru"),
        "tune": ("--trials", "90", "--minutes", "0.02"),
    }[kind]
    command = [sys.executable, "-m", "elman", kind, "text", text, *own]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        begun, lines = time.monotonic(), []
        while time.monotonic() < begun + 120:
            lines.append(process.stderr.readline())
            if re.match(r"(rnn, seed 0|trial 0):", lines[-1]):
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, (lines, err)
    assert ("rnn" if kind == "compare" else "the best of") in out
    assert "Traceback" not in err
    if kind == "tune":
        assert "the same command goes on with" in err


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("compare", "Missing command"),
        ("compare words x", "No such command 'words'"),
        ("tune words x", "No such command 'words'"),
        ("compare text", "Missing argument 'FILE'"),
        ("compare text nowhere.txt", "there is no file nowhere.txt"),
        ("compare series nowhere.csv", "Missing option '--horizon'"),
        ("compare text x --seeds 0", "seeds must be a whole number, at least 1, not 0"),
        ("compare text x --cell lstm", "needs two cells or more"),
        ("compare text x --cell lstm --cell cnn", "unknown cell 'cnn': choose among feedforward"),
        ("compare text x --equal size", "--equal"),
        ("compare text x --epochs 1", "epochs give all the same data, not the same time"),
        ("compare text x --minutes 0.01", "seconds for each of 10 runs"),
        ("compare text x --hidden-size 0", "hidden_size must be at least 1"),
        ("compare text x -o nowhere/a.png", "no directory"),
        ("compare text x -o a.pdf", r"must end in \.png"),
        ("compare text -", "say with -o where the picture goes"),
        ("compare text x --resume", "No such option: --resume"),
        ("tune text x --trials 0", "trials must be a whole number, at least 1, not 0"),
        ("tune text nowhere.txt", "there is no file nowhere.txt"),
        ("tune text x --cell cnn", "unknown cell 'cnn'"),
        ("tune text x --cell mingru", "no model file can hold the cell 'mingru'"),
        ("tune text x --minutes 0", "minutes must be above 0"),
        ("tune text x --study nowhere/a.study", "no directory"),
        ("tune text x -o nowhere/a.elman", "no directory"),
        ("tune text x --plot a.html", r"must end in \.png"),
        ("tune text - --study a.study", "say where --study and -o go"),
        ("tune text x --study a -o a", "--study and -o are both a"),
        ("tune labels x --pooling sum", "unknown pooling 'sum'"),
        ("tune series x --horizon 0", "horizon must be a whole number"),
    ],
)
def test_bad_input_is_one_line(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert re.search(message, refused(capsys, *arguments.split()))
    assert not list(tmp_path.iterdir())


def test_what_is_there_and_is_no_study_or_model_stays(capsys, tmp_path, text):
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    assert "is no study" in refused(capsys, "tune", "text", text, "--study", other)
    assert "is not an elman model" in refused(capsys, "tune", "text", text, "-o", other)
    assert "is the text itself" in refused(capsys, "tune", "text", text, "--study", text)
    assert other.read_text() == "mine"


def test_where_the_best_model_is(tmp_path):
    from elman.cli_experiments import _where
    from elman.tuning import Tried, Tuned

    trials, path = (Tried(3, "finished", 1.5, {}, 20),), tmp_path / "a.elman"
    for output, said in (
        (str(path), f"The best model is {path}."),
        (None, f"of trial 3, is not in {path}: a better"),
    ):
        assert said in _where(Tuned("text", "nats", {}, {}, trials, {}, None, output, "finished"), path)


def test_without_optuna(capsys, monkeypatch):
    from elman import study

    monkeypatch.setattr(study, "find_spec", lambda name: None)
    assert 'pip install "elman[tune]"' in refused(capsys, "tune", "text", "x")


def test_neither_torch_nor_optuna_is_imported_for_the_help():
    code = "import sys; from elman import cli; cli.main(['tune', 'text', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "optuna", "matplotlib", "pandas"} & set(done.stdout.split())
