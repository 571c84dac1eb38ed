"""`elman explain`, through its real entry point."""

import json
import os

import numpy as np
import pandas as pd
import pytest

import elman
from elman import cli
from test_cli import run

TEXT = "the cat sat on the mat. the dog (a big one) ran to the cat!\n" * 40
ENV = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models of text and series, and what to explain them on."""
    folder = tmp_path_factory.mktemp("explain")
    elman.TextGenerator("gru", 16, 1, 8, batch_size=8, chunk_length=32).fit(
        TEXT, epochs=4, progress=False, output=folder / "book.elman"
    )
    days = pd.date_range("2023-01-01", periods=200, freq="D")
    y = np.sin(np.arange(200) * 2 * np.pi / 7)
    frame = pd.DataFrame({"unique_id": ["a"] * 200 + ["b"] * 200, "ds": [*days, *days], "y": [*y, *(2 * y)]})
    frame.to_csv(folder / "sales.csv", index=False)
    elman.Forecaster(horizon=7, hidden_size=8).fit(
        frame, epochs=1, progress=False, output=folder / "sales.elman"
    )
    (folder / "part.txt").write_text(TEXT[:400])
    return folder


def explained(*arguments):
    done = run("explain", *arguments, env=ENV, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def test_a_text_on_the_command_line_with_a_page(folder):
    page = folder / "report.html"
    done = explained(folder / "book.elman", TEXT[:150], "-o", page)
    for part in ("What its units follow", "How far it remembers", "Health", "What moved the prediction"):
        assert part in done.stdout
    assert "report.html written" in done.stderr
    assert page.read_bytes().startswith(b"<!doctype html>")


def test_a_text_too_long_for_the_name_of_a_file(folder):
    page, text = folder / "long.html", TEXT.replace("\n", " ")[:600].replace(" ", "")
    assert len(text.encode()) > 255
    page.write_text("mine")
    done = explained(folder / "book.elman", text, "-o", page, "--force")
    assert f"{len(text)} characters" in done.stdout


def test_a_file_as_json(folder):
    done = explained(folder / "book.elman", folder / "part.txt", "--json")
    figures = json.loads(done.stdout)
    assert figures["steps"] == 400
    assert figures["model"]["cell"] == "gru"
    assert set(figures["memory"]["context"]) >= {"1", "2"}


def test_a_series(folder):
    done = explained(folder / "sales.elman", folder / "sales.csv", "--series", "b")
    assert "Series b" in done.stdout


def refused(capsys, *arguments):
    """The last line of a bad call; before it there is at most one that says what is read."""
    assert cli.main(list(map(str, arguments))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    *before, last = err.splitlines()
    assert len(before) <= 1
    assert last.startswith("error: ")
    return last


@pytest.mark.parametrize(
    ("model", "given", "options", "message"),
    [
        ("book.elman", "", (), "no text to explain"),
        ("book.elman", "a ☃", (), "never seen '☃'"),
        ("book.elman", "the cat sat", ("--series", "a"), "names a series of a table"),
        ("book.elman", "the cat sat", ("-o", "report.pdf"), ".html"),
        ("sales.elman", "none.csv", (), "none.csv"),
        ("sales.elman", "sales.csv", ("--series", "c"), "no series c"),
        ("sales.elman", "sales.csv", ("--replace-unknown",), "for models of text"),
        ("part.txt", "the cat sat", (), "part.txt"),
        ("none.elman", "the cat sat", (), "none.elman"),
        ("book.elman", "none.txt", (), "none.txt"),
    ],
)
def test_bad_input_is_one_line(capsys, folder, model, given, options, message):
    given = str(folder / given) if given.endswith(".csv") else given
    options = [str(folder / o) if o.endswith(".pdf") else o for o in options]
    error = refused(capsys, "explain", folder / model, given, *options)
    assert message in error


def test_a_page_that_exists_is_kept_before_any_work(capsys, folder):
    page = folder / "kept.html"
    page.write_text("mine")
    error = refused(capsys, "explain", folder / "book.elman", TEXT[:100], "-o", page)
    assert "exists" in error
    assert "--force" in error
    assert page.read_text() == "mine"
    explained(folder / "book.elman", TEXT[:100], "-o", page, "--force")
    assert page.read_bytes().startswith(b"<!doctype html>")
