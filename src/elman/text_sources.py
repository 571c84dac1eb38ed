"""Texts and their labels out of files, folders, frames and lists: cells as they came, and where each was.

Knows nothing of what a label may be. pandas and narwhals are imported when a frame or a Parquet file is read; CSV,
JSONL, folders and lists need neither. Messages count a file's lines from 1, and other rows from 0.
"""

import codecs
import csv
import gzip
import io
import json
import os
import reprlib
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elman.data import ElmanError
from elman.tables import check_file, counted, open_table

Place = Callable[[int], str]

_JSONL = (".jsonl", ".ndjson", ".json")
_PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class Pairs:
    """Cells of texts and labels (n,), as they came."""

    texts: list[Any]
    labels: list[Any]
    place: Place
    notes: list[str] = field(default_factory=list)
    plain: bool = False


def pairs(source: Any, text: str, label: str) -> Pairs:
    """Of a folder, or of a table's two columns. Raises OSError or ElmanError for what is neither."""
    if _is_folder(source):
        return _classes_of(Path(source))
    if text == label:
        raise ElmanError(f"text= (--text) and label= (--label) must name different columns, not both {text}.")
    found = opened(source)
    for option, name in (("text", text), ("label", label)):
        check_column(found, name, option)
    return Pairs(found.column(text), found.column(label), found.place, found.notes, found.plain)


def paired(texts: Any, labels: Any) -> Pairs:
    """Of two lists, arrays or columns. Raises ElmanError unless they are as long."""
    cells, names = listed(texts, "texts"), listed(labels, "labels")
    if len(cells) != len(names):
        raise ElmanError(
            f"there are {counted(len(cells), 'text')} and {counted(len(names), 'label')}: give one label for each text."
        )
    return Pairs(cells, names, _row)


def alone(source: Any, text: str) -> tuple[list[Any], Place, list[str]]:
    """(cells of texts (n,), where each was, notes) of whatever holds texts. Raises what `pairs` raises."""
    if _is_folder(source):
        files = _files(sorted(Path(source).rglob("*")))
        if not files:
            raise ElmanError(f"{source} has no .txt files: give a folder of texts.")
        return [_file_text(file) for file in files], _named(files, Path(source)), []
    if _is_path(source) and _suffix(source) == ".txt":
        return _lines(source), _line, []
    if isinstance(source, (list, tuple)) or (hasattr(source, "dtype") and not hasattr(source, "columns")):
        return listed(source, "texts"), _row, []
    found = opened(source)
    check_column(found, text, "text")
    return found.column(text), found.place, found.notes


def picked(place: Place, rows: Sequence[int]) -> Place:
    return lambda i: place(rows[i])


def article(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


# Files


@dataclass(frozen=True)
class _Table:
    """A table that is open, of any kind."""

    name: str
    columns: list[str]
    column: Callable[[str], list[Any]]  # None where a cell is missing
    place: Place
    plain: bool = False  # all cells are a file's plain text, of no type yet
    notes: list[str] = field(default_factory=list)


def opened(source: Any) -> _Table:
    if not _is_path(source):
        return _frame(source, "the table")
    path = os.fspath(source)
    name, suffix = ("standard input", ".csv") if path == "-" else (path, _suffix(path))
    if path != "-":
        check_file(path)
    if suffix in _PARQUET:
        return _frame(path, name)
    if suffix not in (".csv", ".tsv", *_JSONL):
        raise ElmanError(
            f"{name} is no table that can be read: give a .csv, .tsv, .jsonl or .parquet file whose columns are named, "
            "or a folder with one folder of .txt files for each class."
        )
    text = _decoded(_bytes(path), name)
    return _jsonl(name, text) if suffix in _JSONL else _csv(name, text, suffix == ".tsv")


def _is_path(source: Any) -> bool:
    return isinstance(source, (str, os.PathLike))


def _is_folder(source: Any) -> bool:
    return _is_path(source) and Path(source).is_dir()


def _suffix(path: str | os.PathLike[str]) -> str:
    """Without the .gz of what is compressed."""
    return Path(os.fspath(path).lower().removesuffix(".gz")).suffix


def _bytes(path: str) -> bytes:
    data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    if not path.lower().endswith(".gz"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ElmanError(f"{path} cannot be unpacked ({error}): it is damaged, or not gzip.") from None


def _decoded(data: bytes, name: str) -> str:
    data = data.removeprefix(codecs.BOM_UTF8)
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in data:
        raise ElmanError(
            f"{name} is not UTF-8 but UTF-16, or no text at all. Convert it first: iconv -f UTF-16 -t UTF-8 IN > OUT"
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        at, guess = error.start, _encodings(data)
    raise ElmanError(
        f"{name} is not UTF-8: byte 0x{data[at]:02x} at offset {at:,}, line {data.count(10, 0, at) + 1:,}. It may be "
        f"{' or '.join(guess)}. Convert it first: iconv -f {guess[0]} -t UTF-8 IN > OUT"
    )


def _encodings(data: bytes) -> list[str]:
    """What bytes may be: in Western languages most letters are ASCII."""
    western = len(data.translate(None, bytes(range(128)))) < 0.2 * len(data)
    guesses = ("WINDOWS-1252",) if western else ("WINDOWS-1251", "GB18030", "SHIFT_JIS", "EUC-KR")
    return [guess for guess in guesses if _decodes(data, guess)] or ["LATIN1"]


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        return bool(data.decode(encoding))
    except UnicodeDecodeError:
        return False


def _row(i: int) -> str:
    return f"row {i}"


def _line(i: int) -> str:
    return f"line {i + 1}"


def _lines(source: str | os.PathLike[str]) -> list[Any]:
    path = os.fspath(source)
    check_file(path)
    text = _decoded(_bytes(path), path).replace("\r\n", "\n").replace("\r", "\n")
    return text.removesuffix("\n").split("\n")


def listed(values: Any, what: str) -> list[Any]:
    """The values of a list, an array, or a Series, an index or an array of pandas or polars; None where pandas has
    none."""
    if isinstance(values, (str, bytes, dict)) or getattr(values, "ndim", 1) != 1:
        raise ElmanError(f"{what} must be a list with one item for each text, not {reprlib.repr(values)}.")
    if hasattr(values, "isna"):
        return [None if gone else value for value, gone in zip(values, values.isna(), strict=True)]
    for name in ("to_list", "tolist", "to_pylist"):
        if hasattr(values, name):
            return list(getattr(values, name)())
    if not isinstance(values, Iterable):
        raise ElmanError(f"{what} must be a list with one item for each text, not {reprlib.repr(values)}.")
    return list(values)


# Tables


def _frame(source: Any, name: str) -> _Table:
    frame = open_table(source, None, "").frame

    def column(wanted: str) -> list[Any]:
        return listed(frame.get_column(wanted).to_native(), wanted)

    return _Table(name, list(frame.columns), column, _row)


def _jsonl(name: str, text: str) -> _Table:
    records, lines, columns = [], [], dict[str, None]()
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            record = _record(line, f"{name}, line {number},")
            records.append(record)
            lines.append(number)
            columns.update(dict.fromkeys(record))
    if not records:
        raise ElmanError(f"{name} is empty: there is no text in it.")
    place = picked("line {}".format, lines)
    return _Table(name, list(columns), lambda key: [record.get(key) for record in records], place)


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
        problem = f"is {article(record)}, not an object"
    except json.JSONDecodeError as error:
        record, problem = None, f"is not JSON: {error.msg} at character {error.pos + 1:,}"
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits; lists in lists
        record, problem = None, f"cannot be read: {error}"
    if isinstance(record, dict):
        return record
    raise ElmanError(
        f'{where} {problem}. Write each text on a line of its own, as {{"text": "…", "label": "…"}}.'
    )


def _csv(name: str, text: str, tabs: bool) -> _Table:
    """As text. In a .tsv, quotation marks that quote nothing are text: many are written so."""
    delimiter = "\t" if tabs else max(",;\t", key=text.partition("\n")[0].count)
    notes: list[str] = []
    try:
        rows, lines = _rows(name, text, delimiter, csv.QUOTE_MINIMAL)
        quoted = not tabs or not any("\t" in cell for row in rows for cell in row)
    except ElmanError:
        if not tabs:
            raise
        quoted = False
    if not quoted:
        rows, lines = _rows(name, text, delimiter, csv.QUOTE_NONE)
        notes.append(f"Quotation marks in {name} do not pair up as quotes and were read as text.")
    if len(rows) < 2:
        raise ElmanError(f"{name} is empty: there is no row below the names of the columns.")
    columns, place = rows[0], picked("line {}".format, lines[1:])
    return _Table(
        name, columns, lambda key: [row[columns.index(key)] for row in rows[1:]], place, True, notes
    )


def _rows(name: str, text: str, delimiter: str, quoting: Any) -> tuple[list[list[str]], list[int]]:
    """(the rows, the line that each begins on). Raises ElmanError unless all have the same fields.

    Blank lines are no rows; but below a single column's name, and above its last value, they are empty cells.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    limit = csv.field_size_limit(2**31 - 1)
    rows: list[list[str]] = []
    lines: list[int] = []
    blank: list[int] = []
    line = 1
    try:
        for row in reader:
            if row:
                rows += [[""] for _ in blank] + [row]
                lines += [*blank, line]
                blank = []
                _check_fields(name, row, rows[0], line)
            elif rows and len(rows[0]) == 1:
                blank.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise ElmanError(
            f"{name}, line {line}: quotation marks do not pair up ({error}). Put them around the whole text, and "
            "double those inside it."
        ) from None
    finally:
        csv.field_size_limit(limit)
    return rows, lines


def _check_fields(name: str, row: list[str], header: list[str], line: int) -> None:
    if len(row) != len(header):
        raise ElmanError(
            f"{name}, line {line} has {counted(len(row), 'field')}, and the first line names "
            f"{counted(len(header), 'column')}: put quotation marks around texts that hold commas or line breaks."
        )


def check_column(table: _Table, name: str, option: str) -> None:
    if table.columns.count(name) != 1:
        problem = f"two columns {name}" if name in table.columns else f"no column {name}"
        raise ElmanError(
            f"{table.name} has {problem}; it has {', '.join(map(str, table.columns)) or 'none'}. "
            f"Name the right one with {option}= (--{option})."
        )


# Folders


def _classes_of(folder: Path) -> Pairs:
    """The .txt files in each folder of `folder`, whose name is their class."""
    paths = _inside(folder)
    folders = [path for path in paths if path.is_dir()]
    inside = [_inside(path) for path in folders]
    files = [_files(path) for path in inside]
    empty = [path.name for path, found in zip(folders, files, strict=True) if not found]
    if not folders or empty:
        problem = f"no .txt files in {', '.join(empty[:5])}" if empty else "no folders in it"
        raise ElmanError(
            f"{folder} has {problem}: give a folder that has one folder of .txt files per class."
        )
    unread = len(paths) - len(folders) + sum(map(len, inside)) - sum(map(len, files))
    notes = [f"{counted(unread, 'file')} beside the .txt files of classes left out."] if unread else []
    labels = [path.name for path, found in zip(folders, files, strict=True) for _ in found]
    every = [file for found in files for file in found]
    return Pairs([_file_text(file) for file in every], labels, _named(every, folder), notes)


def _inside(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]


def _files(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() == ".txt" and path.is_file()]


def _file_text(file: Path) -> str:
    return _decoded(file.read_bytes(), str(file))


def _named(files: list[Path], folder: Path) -> Place:
    return lambda i: str(files[i].relative_to(folder))
