"""Labelled texts, from tables, folders and lists: read, checked, cleaned.

Knows nothing of models. pandas and narwhals are imported when a frame or a Parquet file is read; CSV, JSONL, folders
and lists need neither. Messages count a file's lines from 1, and other rows from 0.
"""

import codecs
import csv
import gzip
import hashlib
import io
import itertools
import json
import os
import re
import reprlib
import sys
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import unescape
from html.entities import html5
from pathlib import Path
from typing import Any

import numpy as np

from elman.data import ElmanError
from elman.tables import EMPTY, check_file, counted, open_table

Place = Callable[[int], str]

_JSONL = (".jsonl", ".ndjson", ".json")
_PARQUET = (".parquet", ".pq")
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")  # not 007: that is a name
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?")  # more digits make a name
_TRUTH = {"True": True, "true": True, "TRUE": True, "False": False, "false": False, "FALSE": False}
_KINDS = (bool, str, int, float)  # bool first: it is an int


@dataclass(frozen=True)
class Labelled:
    """Texts that are not empty, (n,), and the label of each; or a tuple of labels, where there may be several."""

    texts: tuple[str, ...]
    labels: tuple[Any, ...]  # str, int or bool, all the same; or tuples of them
    places: Place  # what the user calls text `i`, for messages
    notes: tuple[str, ...]  # what was done to the data, and what is strange in it, a sentence each
    several: bool = False  # labels are tuples

    @property
    def classes(self) -> tuple[Any, ...]:
        """The labels there are, sorted."""
        return tuple(sorted(set(_flat(self.labels) if self.several else self.labels)))


@dataclass(frozen=True)
class Texts:
    """Texts that are not empty, (n,)."""

    texts: tuple[str, ...]
    rows: tuple[int, ...]  # of the source, from 0: what was skipped is missing here
    places: Place
    notes: tuple[str, ...]


def read_labelled(
    source: Any,
    text: str = "text",
    label: str = "label",
    separator: str | None = None,
    *,
    classes: Sequence[Any] | None = None,
) -> Labelled:
    """The texts and labels of a table with the columns `text` and `label`, or of a folder.

    `source` is the path of a .csv, .tsv, .jsonl (each also .gz) or .parquet file, or a pandas or polars DataFrame; "-"
    is CSV from standard input; a folder has one folder of .txt files for each class; a tuple of two is taken by
    `from_lists`. With a `separator`, a label cell holds several labels, as "a|b" does, or none; so do cells that are
    lists.

    Empty texts are skipped. Labels are text, whole numbers or truth values, all of one type; those of CSV are numbers
    or truth values where all of them are. `classes` are those of a model that is to be evaluated: labels are then read
    as these are, must be among them, and may be as few as they like; else two classes and two texts in each are needed.

    Raises OSError when a file cannot be read, and ElmanError for what are no labelled texts.
    """
    if isinstance(source, tuple) and len(source) == 2:
        return from_lists(*source, classes=classes)
    if _is_folder(source):
        return _checked(_classes_of(Path(source)), None, classes)
    if text == label:
        raise ElmanError(f"text= (--text) and label= (--label) must name different columns, not both {text}.")
    found = _open(source)
    for option, name in (("text", text), ("label", label)):
        _check_column(found, name, option)
    pairs = _Pairs(found.column(text), found.column(label), found.place, found.notes, found.plain)
    return _checked(pairs, separator, classes)


def read_texts(source: Any, text: str = "text") -> Texts:
    """Texts alone, from what `read_labelled` takes, a list, or a .txt file, one text a line.

    Of a folder, all .txt files in it, however deep. Raises what `read_labelled` raises.
    """
    notes: list[str] = []
    if _is_folder(source):
        files = _files(sorted(Path(source).rglob("*")))
        if not files:
            raise ElmanError(f"{source} has no .txt files: give a folder of texts.")
        cells, place = [_file_text(file) for file in files], _named(files, Path(source))
    elif _is_path(source) and _suffix(source) == ".txt":
        cells, place = _lines(source), _line
    elif isinstance(source, (list, tuple)) or (hasattr(source, "dtype") and not hasattr(source, "columns")):
        cells, place = _listed(source, "texts"), _row
    else:
        found = _open(source)
        _check_column(found, text, "text")
        cells, place, notes = found.column(text), found.place, found.notes
    rows = _present(cells, place, notes)
    return Texts(tuple(cells[i] for i in rows), tuple(rows), _picked(place, rows), tuple(notes))


def from_lists(texts: Any, labels: Any, *, classes: Sequence[Any] | None = None) -> Labelled:
    """The same from two lists, arrays or columns (n,); labels may be lists themselves. Raises ElmanError."""
    cells, names = _listed(texts, "texts"), _listed(labels, "labels")
    if len(cells) != len(names):
        raise ElmanError(
            f"there are {counted(len(cells), 'text')} and {counted(len(names), 'label')}: give one label for each text."
        )
    return _checked(_Pairs(cells, names, _row), None, classes)


# Cleaning

_BLOCKS, _OTHERS = (
    frozenset(names.split())
    for names in (
        "address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset figcaption "
        "figure footer form frameset h1 h2 h3 h4 h5 h6 head header hr html legend li main menu nav noscript ol "
        "optgroup option p pre section summary table tbody td tfoot th thead title tr ul",
        "a abbr acronym area audio b base basefont bdi bdo big button canvas cite code col colgroup data datalist "
        "del dfn em embed font frame i iframe img input ins kbd label link map mark meta meter object output "
        "param picture progress q rp rt ruby s samp script select small source span strike strong style sub sup "
        "svg template textarea time track tt u var video wbr",
    )
)
# An attribute without a value must be one that HTML has, else "<b and c>" would be a tag. No part of markup holds a
# "<", so that no search reads far in vain.
_ATTRIBUTE = (
    r"[a-z_:@][\w:.-]*\s*=\s*(?:\"[^\"<]*\"|'[^'<]*'|[^\s\"'<>]+)|(?:async|autofocus|autoplay|checked|compact|controls|defer|"
    r"disabled|hidden|ismap|loop|multiple|muted|noshade|nowrap|open|readonly|required|reversed|selected)"
)
_MARKUP = re.compile(
    rf"[<&](?:(?<=<)/?([a-z][a-z0-9]*)(?:\s+(?:{_ATTRIBUTE}))*\s*/?>|(?<=<)!--[^<]*?-->|(?<=<)!doctype[^<>]*>"
    r"|(?<=&)(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});)",
    re.IGNORECASE | re.ASCII,
)
_HIDDEN = re.compile(  # controls that are no white space; what has no width: joiners, direction marks, soft hyphens, …
    "[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_SPACES = re.compile(r"\s{2,}|[^\S \n]")
_BREAK = re.compile("[\n\r\v\f\x85\u2028\u2029]")
_DEPTH = 8  # how often markup may hide in markup, as &amp;lt; does


def clean(text: str) -> str:
    """The text without markup: what is learned from and compared. Cleaning twice is cleaning once.

    HTML tags go, those of blocks and <br> become line breaks; only HTML's own tags are tags, so that "a < b and c > d"
    stays. Entities (&amp;) become their characters, Unicode is composed (NFC), control characters and those without
    width go, white space becomes one space, or one line break where it has any. Entities may make up tags again.
    """
    for _ in range(_DEPTH):
        before, text = text, _plain(_MARKUP.sub(_without, text))
        if text == before or ("<" not in text and "&" not in text):
            return text
    return _plain(text.replace("<", "").replace("&", ""))  # such depth is an attack: time must stay linear


def duplicates(train: Sequence[str], test: Sequence[str]) -> list[int]:
    """The indices of those texts of `test` that are in `train` too, once cleaned and without case."""
    seen = set(map(_fingerprint, train))
    return [i for i, text in enumerate(test) if _fingerprint(text) in seen]


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFC", _HIDDEN.sub("", text))
    return _SPACES.sub(lambda run: "\n" if _BREAK.search(run.group()) else " ", text).strip()


def _without(found: re.Match[str]) -> str:
    markup, name = found.group(), (found.group(1) or "").lower()
    if markup.startswith("&#"):
        return unescape(markup)
    if markup.startswith("&"):
        return html5.get(markup[1:], markup)
    if name in _BLOCKS:
        return "\n"
    return "" if not name or name in _OTHERS else markup


def _fingerprint(text: str) -> bytes:
    folded = clean(text).casefold().encode(errors="surrogatepass")
    return hashlib.blake2b(folded, digest_size=16).digest()


# Sources


@dataclass(frozen=True)
class _Table:
    """A table that is open, of any kind."""

    name: str
    columns: list[str]
    column: Callable[[str], list[Any]]  # None where a cell is missing
    place: Place
    plain: bool = False  # all cells are a file's plain text, of no type yet
    notes: list[str] = field(default_factory=list)


def _open(source: Any) -> _Table:
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


def _picked(place: Place, rows: Sequence[int]) -> Place:
    return lambda i: place(rows[i])


def _lines(source: str | os.PathLike[str]) -> list[Any]:
    path = os.fspath(source)
    check_file(path)
    text = _decoded(_bytes(path), path).replace("\r\n", "\n").replace("\r", "\n")
    return text.removesuffix("\n").split("\n")


def _listed(values: Any, what: str) -> list[Any]:
    """The values of a list, an array, or a pandas or polars Series; None where pandas has none."""
    if isinstance(values, (str, bytes, dict)) or getattr(values, "ndim", 1) != 1:
        raise ElmanError(f"{what} must be a list with one item for each text, not {reprlib.repr(values)}.")
    if hasattr(values, "isna"):
        values = values.astype(object).where(values.notna(), None)
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
        return _listed(frame.get_column(wanted).to_native(), wanted)

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
    place = _picked("line {}".format, lines)
    return _Table(name, list(columns), lambda key: [record.get(key) for record in records], place)


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
        problem = f"is {_article(record)}, not an object"
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
    columns, place = rows[0], _picked("line {}".format, lines[1:])
    return _Table(
        name, columns, lambda key: [row[columns.index(key)] for row in rows[1:]], place, True, notes
    )


def _rows(name: str, text: str, delimiter: str, quoting: Any) -> tuple[list[list[str]], list[int]]:
    """(the rows, the line that each begins on). Raises ElmanError unless all have the same fields."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    limit = csv.field_size_limit(2**31 - 1)
    rows: list[list[str]] = []
    lines: list[int] = []
    line = 1
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(line)
                _check_fields(name, row, rows[0], line)
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


def _check_column(table: _Table, name: str, option: str) -> None:
    if table.columns.count(name) != 1:
        problem = f"two columns {name}" if name in table.columns else f"no column {name}"
        raise ElmanError(
            f"{table.name} has {problem}; it has {', '.join(map(str, table.columns)) or 'none'}. "
            f"Name the right one with {option}= (--{option})."
        )


# Folders


def _classes_of(folder: Path) -> "_Pairs":
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
    return _Pairs([_file_text(file) for file in every], labels, _named(every, folder), notes)


def _inside(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]


def _files(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() == ".txt" and path.is_file()]


def _file_text(file: Path) -> str:
    return _decoded(file.read_bytes(), str(file))


def _named(files: list[Path], folder: Path) -> Place:
    return lambda i: str(files[i].relative_to(folder))


# Checks


@dataclass(frozen=True)
class _Pairs:
    """Cells of texts and labels (n,), as they came."""

    texts: list[Any]
    labels: list[Any]
    place: Place
    notes: list[str] = field(default_factory=list)
    plain: bool = False


def _checked(pairs: _Pairs, separator: str | None, classes: Sequence[Any] | None) -> Labelled:
    notes = pairs.notes
    rows = _present(pairs.texts, pairs.place, notes)
    place = _picked(pairs.place, rows)
    texts = tuple(pairs.texts[i] for i in rows)
    groups, several = _groups([pairs.labels[i] for i in rows], separator, place)
    labels = _labels(groups, place, pairs.plain, classes, notes)
    if classes is None:
        _check_classes(labels, place)
    else:
        _check_known(labels, classes, place)
    if several:
        _note_several(groups, labels, place, notes)
    _note_repeats(texts, labels, place, notes)
    found = tuple(labels) if several else tuple(_flat(labels))
    return Labelled(texts, found, place, tuple(notes), several)


def _present(cells: list[Any], place: Place, notes: list[str]) -> list[int]:
    """The indices of texts that are not empty. Raises ElmanError for what is no text."""
    rows = []
    for i, cell in enumerate(cells):
        if _missing(cell):
            continue
        if not isinstance(cell, str):
            raise ElmanError(
                f"{place(i)}: {reprlib.repr(cell)} is {_article(cell)}, not text: name the column of the texts with "
                "text= (--text), or write it as text."
            )
        _check_writable(cell, place, i)
        rows.append(i)
    if not rows:
        raise ElmanError("there is no text: " + ("all texts are empty." if cells else "there are no rows."))
    if len(rows) < len(cells):
        first = next((i for i, row in enumerate(rows) if i != row), len(rows))
        _note(notes, len(cells) - len(rows), "empty text", "skipped", place(first))
    return rows


def _missing(value: Any, plain: bool = False) -> bool:
    if isinstance(value, str):
        return not value or value.isspace() or (plain and value.strip() in EMPTY)
    return value is None or (isinstance(value, (float, np.floating)) and bool(value != value))


def _check_writable(text: str, place: Place, i: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ElmanError(
            f"{place(i)} holds a lone surrogate, U+{ord(text[error.start]):04X}: it is no text that can be written "
            "down. Replace or remove it."
        ) from None


def _article(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _note(notes: list[str], number: int, noun: str, done: str, first: str) -> None:
    verb, which = ("was", "it is") if number == 1 else ("were", "the first is")
    notes.append(f"{counted(number, noun)} {verb} {done}; {which} {first}.")


def _flat(groups: Iterable[tuple[Any, ...]]) -> Iterable[Any]:
    return itertools.chain.from_iterable(groups)


# Labels


def _groups(cells: list[Any], separator: str | None, place: Place) -> tuple[list[list[Any]], bool]:
    """(the labels in each cell, whether there may be several)."""
    if separator == "":
        raise ElmanError(
            "the separator of labels is empty: give the character between them, as separator='|'."
        )
    lists = (list, tuple, np.ndarray)
    if separator is None and not any(isinstance(cell, lists) for cell in cells):
        return [[cell] for cell in cells], False
    groups: list[list[Any]] = []
    for i, cell in enumerate(cells):
        if isinstance(cell, lists):
            groups.append(list(cell))
        elif separator is None and not _missing(cell):
            raise ElmanError(
                f"{place(i)} has {reprlib.repr(cell)} for a label, where others have lists: write lists everywhere."
            )
        elif separator is not None and isinstance(cell, str):
            groups.append(cell.split(separator) if cell.strip() else [])
        else:
            groups.append([cell])
    return groups, True


def _labels(
    groups: list[list[Any]], place: Place, plain: bool, classes: Sequence[Any] | None, notes: list[str]
) -> list[tuple[Any, ...]]:
    """The groups with labels of one type, none of them twice."""
    where = _picked(place, [i for i, group in enumerate(groups) for _ in group])
    cells = itertools.chain.from_iterable(groups)
    values = _stripped(
        [cell.item() if isinstance(cell, np.generic) else cell for cell in cells], where, plain, notes
    )
    if plain and not (classes and isinstance(classes[0], str)):
        values = _typed(values)
    _check_kinds(values := _whole(values, where, notes), where)
    following = iter(values)
    return [tuple(dict.fromkeys(itertools.islice(following, len(group)))) for group in groups]


def _stripped(values: list[Any], place: Place, plain: bool, notes: list[str]) -> list[Any]:
    """Without white space around text. Raises ElmanError where a label is missing."""
    for i, value in enumerate(values):
        if _missing(value, plain):
            written = f" but {value.strip()!r}" if isinstance(value, str) and value.strip() else ""
            what = ", or rename the class" if written else ""
            raise ElmanError(f"{place(i)} has no label{written}: fill it in, or remove the row{what}.")
    wide = [i for i, value in enumerate(values) if isinstance(value, str) and value != value.strip()]
    if wide:
        _note(notes, len(wide), "label", "cut free of white space around", place(wide[0]))
    return [value.strip() if isinstance(value, str) else value for value in values]


def _typed(values: list[str]) -> list[Any]:
    """A file's plain text as what all of it is: whole numbers, truth values, other numbers, or text."""
    if all(map(_WHOLE.fullmatch, values)):
        return list(map(int, values))
    if all(value in _TRUTH for value in values):
        return [_TRUTH[value] for value in values]
    return list(map(float, values)) if all(map(_NUMBER.fullmatch, values)) else list(values)


def _whole(values: list[Any], place: Place, notes: list[str]) -> list[Any]:
    """Whole numbers as int. Raises ElmanError for other numbers."""
    floats = [i for i, value in enumerate(values) if isinstance(value, float)]
    for i in floats:
        if not values[i].is_integer():
            raise ElmanError(
                f"{place(i)}: the label {values[i]!r} is a measure, no class. Bin them, for example "
                'into "low" and "high".'
            )
    if floats:
        _note(notes, len(floats), "label", f"made whole, as {values[floats[0]]!r}", place(floats[0]))
    return [int(value) if isinstance(value, float) else value for value in values]


def _kind(value: Any) -> Any:
    return next((kind for kind in _KINDS if isinstance(value, kind)), None)


def _check_kinds(values: list[Any], place: Place) -> None:
    """Raises ElmanError for labels of mixed type, and of types that are none of classes."""
    for i, value in enumerate(values):
        kind = _kind(value)
        if kind is None:
            raise ElmanError(
                f"{place(i)}: the label {reprlib.repr(value)} is {_article(value)}: labels are text, whole numbers, "
                "or True and False."
            )
        if kind is str:
            _check_writable(value, place, i)
        if kind is not _kind(values[0]):
            raise ElmanError(
                f"the labels are of mixed type: {values[0]!r} in {place(0)}, {value!r} in {place(i)}. Write all of "
                "them as text, or all as numbers."
            )


def _check_classes(labels: list[tuple[Any, ...]], place: Place) -> None:
    """Raises ElmanError unless there are two classes, and two texts in each."""
    counts = Counter(_flat(labels))
    if len(counts) < 2:
        there = f"is only one class, {next(iter(counts))!r}" if counts else "are no labels"
        raise ElmanError(f"there {there}: give texts of two classes at least.")
    few = [name for name in sorted(counts) if counts[name] == 1]
    if few:
        names = ", ".join(map(repr, few[:5])) + (f" and {len(few) - 5:,} more" if len(few) > 5 else "")
        first = place(next(i for i, group in enumerate(labels) if few[0] in group))
        raise ElmanError(
            f"{names} {'has' if len(few) == 1 else 'have'} only one text ({first}), and a class needs two at least: "
            "add texts, merge classes, or remove them."
        )


def _check_known(labels: list[tuple[Any, ...]], classes: Sequence[Any], place: Place) -> None:
    known = {(_kind(name), name) for name in classes}  # since True == 1
    for i, group in enumerate(labels):
        for name in group:
            if (_kind(name), name) not in known:
                some = ", ".join(map(repr, classes[:10])) + (", …" if len(classes) > 10 else "")
                raise ElmanError(
                    f"{place(i)}: the label {name!r} is none of the model's classes, {some}: correct or remove it."
                )


def _note_several(
    groups: list[list[Any]], labels: list[tuple[Any, ...]], place: Place, notes: list[str]
) -> None:
    without = [i for i, group in enumerate(labels) if not group]
    if without:
        _note(notes, len(without), "text", "taken to have none of the labels", place(without[0]))
    twice = [i for i, group in enumerate(labels) if len(group) < len(groups[i])]
    if twice:
        _note(notes, len(twice), "text", "given a label twice, which counts once", place(twice[0]))


def _note_repeats(
    texts: tuple[str, ...], labels: list[tuple[Any, ...]], place: Place, notes: list[str]
) -> None:
    """Says how many texts are exactly as another one, and how many such have another label."""
    first: dict[str, int] = {}
    again = [i for i, text in enumerate(texts) if first.setdefault(text, i) != i]
    if again:
        i, j = again[0], first[texts[again[0]]]
        notes.append(
            f"{counted(len(again), 'text')} of {len(texts):,} repeat another exactly and were kept: "
            f"{place(i)} is {place(j)}{' again' if len(again) == 1 else ' again, and so on'}."
        )
    other = {texts[i]: i for i in reversed(again) if set(labels[i]) != set(labels[first[texts[i]]])}
    if other:
        i = min(other.values())
        j = first[texts[i]]
        notes.append(
            f"{counted(len(other), 'text')} with different labels in different places: {place(j)} says "
            f"{_said(labels[j])}, {place(i)} {_said(labels[i])}."
        )


def _said(group: tuple[Any, ...]) -> str:
    return ", ".join(map(repr, group)) or "none"
