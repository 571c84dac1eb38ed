"""What a classifier says of texts in a file, as CSV: the file's own columns and two more.

Knows no options. Parquet alone needs pandas.
"""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from elman.class_measures import THRESHOLD
from elman.data import ElmanError
from elman.labelled import present
from elman.tables import counted
from elman.text_sources import alone, check_column, opened

if TYPE_CHECKING:
    from elman.classify import TextClassifier

AT_ONCE = 4_096  # texts classified before what is known of them is written
_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".txt")


@dataclass(frozen=True)
class Sheet:
    """The columns of a source, and those of its rows (n,) whose text is not empty: their texts, their numbers."""

    columns: dict[str, list[Any]]
    texts: tuple[str, ...]
    numbers: tuple[int, ...]
    notes: tuple[str, ...]


def is_source(argument: str) -> bool:
    """Whether it names a file or folder, be it one that is missing; else it is a text."""
    if argument == "-" or os.path.exists(argument):
        return True
    named = argument.lower().removesuffix(".gz").endswith(_ENDINGS)
    return named and not any(map(str.isspace, argument))


def read_sheet(source: str, text: str) -> Sheet:
    """Of a table, a .txt file or a folder, as `read_texts` takes them. Raises what that raises."""
    if os.path.isdir(source):
        cells, place, notes = alone(source, text)
        columns = {"file": [place(i) for i in range(len(cells))]}
    elif source.lower().removesuffix(".gz").endswith(".txt"):
        cells, place, notes = alone(source, text)
        columns = {"text": cells}
    else:
        table = opened(source)
        check_column(table, text, "text")
        if len(set(table.columns)) < len(table.columns):
            twice = next(name for name in table.columns if table.columns.count(name) > 1)
            raise ElmanError(f"{table.name} has two columns {twice}: rename one of them.")
        columns = {name: table.column(name) for name in table.columns}
        cells, place, notes = columns[text], table.place, table.notes
    numbers = present(cells, place, [])
    empty = len(cells) - len(numbers)
    said = [f"{counted(empty, 'empty text')} kept in place, without a label."] if empty else []
    return Sheet(columns, tuple(cells[i] for i in numbers), tuple(numbers), (*notes, *said))


def write_predictions(classifier: "TextClassifier", sheet: Sheet, out: IO[str]) -> None:
    """Writes all rows and, where there is a text, the predicted label and its probability; as they become known."""
    # A carriage return in a cell is quoted only where the line's end has one.
    writer = csv.writer(_Unix(out), lineterminator="\r\n")
    writer.writerow((*sheet.columns, *_added(sheet.columns)))
    predictions, there = _predictions(classifier, sheet.texts), set(sheet.numbers)
    for i, cells in enumerate(zip(*sheet.columns.values(), strict=True)):
        found = next(predictions) if i in there else ("", "")
        writer.writerow((*map(_written, cells), *found))


class _Unix:
    """Rows of a csv.writer, each with a single line feed at its end."""

    def __init__(self, out: IO[str]) -> None:
        self.out = out

    def write(self, row: str) -> int:
        return self.out.write(row.removesuffix("\r\n") + "\n")


def _predictions(classifier: "TextClassifier", texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(label, probability) of each text, as they are written; several are joined by a |."""
    names = list(map(str, classifier.classes_.tolist()))
    several = classifier.info["several"]
    for start in range(0, len(texts), AT_ONCE):
        for row in classifier.predict_proba(list(texts[start : start + AT_ONCE])):
            found = (row > THRESHOLD).nonzero()[0] if several else [row.argmax()]
            yield "|".join(names[c] for c in found), "|".join(f"{row[c]:.6f}" for c in found)


def _added(columns: Iterable[str]) -> tuple[str, str]:
    """What the new columns are called, without the name of another."""
    taken, number, end = set(columns), 1, ""
    while {f"predicted{end}", f"probability{end}"} & taken:
        number += 1
        end = f"_{number}"
    return f"predicted{end}", f"probability{end}"


def _written(cell: Any) -> str:
    if cell is None:
        return ""
    return json.dumps(cell, ensure_ascii=False, default=str) if isinstance(cell, (list, dict)) else str(cell)
