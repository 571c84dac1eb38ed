"""What the commands print: news on stderr, results on stdout, one line for an error.

Knows the shape of the figures, not where they come from.
"""

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_LABELS = {"trigram": "trigram", "frequency": "character frequency"}


def news(line: str) -> None:
    """One line on stderr, at once."""
    print(line, file=sys.stderr, flush=True)


def stream(pieces: Iterable[str]) -> None:
    """Text on stdout as it comes, with a line break at the end."""
    last = "\n"
    for piece in pieces:
        if piece:
            sys.stdout.write(piece)
            sys.stdout.flush()
            last = piece[-1]
    if last != "\n":
        sys.stdout.write("\n")


def as_json(figures: Mapping[str, Any]) -> None:
    """Figures on stdout for scripts: one JSON object."""
    print(json.dumps(figures, indent=2, ensure_ascii=False))


def rows(figures: Mapping[str, Any]) -> None:
    """Figures on stdout for people: a name and a value a line. None is left out."""
    shown = {name: value for name, value in figures.items() if value is not None}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        print(f"{name:<{width}}  {_shown(value)}")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def losses(name: str, nats: float, baselines: Mapping[str, float]) -> None:
    """A model's loss on stdout, and below it what it has to beat."""
    table = {name: nats} | {_LABELS[key]: baselines[key] for key in _LABELS if key in baselines}
    width = max(map(len, table))
    print(f"{'':<{width}}  nats/char  bits/char  perplexity")
    for label, value in table.items():
        print(f"{label:<{width}}  {value:9.4f}  {value / math.log(2):9.4f}  {_perplexity(value):10.3f}")


def _perplexity(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf


def table(rows: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> None:
    """Rules and their figures on stdout, a rule a line."""
    width = max(map(len, rows))
    wide = {column: max(11, len(column)) for column in columns}
    print(" " * width, *(f"{column:>{wide[column]}}" for column in columns))
    for name, figures in rows.items():
        print(f"{name:<{width}}", *(f"{figures[column]:>{wide[column]}.4f}" for column in columns))


def plain(text: str) -> str:
    """A user's text in one line that a terminal only shows: what it would obey is replaced."""
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)


def size_of(size: int) -> str:
    """Bytes as people say them: 812 bytes, 1.1 MB."""
    if size < 1_000:
        return f"{size} bytes"
    scale = min((len(str(size)) - 1) // 3, 4)
    return f"{size / 1_000**scale:.3g} {' kMGT'[scale]}B"


def explained(error: BaseException) -> str:
    """An error in one line of words: the system's own without its number and with the file's name."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether both names lead to one file that exists."""
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def silence_stdout() -> None:
    """The reader is gone (`| head`): let the interpreter's own last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
