"""Tables in long format: a row for each series and time stamp → columns as arrays, and rows in order.

pandas and narwhals are imported when a table is opened, not with this module. Knows nothing of frequencies.
"""

import importlib
import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data import ElmanError

ID = "unique_id"  # the id column's usual name: only this one may be absent
ALONE = "series"  # the id of a series in a table without ids
EMPTY = ("", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "null", "NULL", "<NA>")  # in any column of a file
_MISSING = (*EMPTY, "None", "none")  # where a number should be; elsewhere, none is a name

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """The table's rows, (n,) each: `code` indexes `ids`, `place` says where a row was."""

    ids: tuple[Any, ...]
    code: Ints
    stamps: Any  # pandas.DatetimeIndex, or Index of int64
    row: Ints
    place: Callable[[int], str]

    def take(self, index: Ints) -> "Rows":
        return Rows(self.ids, self.code[index], self.stamps[index], self.row[index], self.place)

    @property
    def starts(self) -> Ints:
        """(series,) the first row of each, once rows are sorted by code."""
        return np.flatnonzero(np.diff(self.code, prepend=-1))

    @property
    def ends(self) -> Ints:
        """(series,) the last row of each, likewise."""
        return np.flatnonzero(np.diff(self.code, append=-1))

    @property
    def integer(self) -> bool:
        return bool(self.stamps.dtype.kind == "i")

    def series(self, i: int) -> str:
        """The series of row `i`, for messages."""
        return f"series {self.ids[self.code[i]]}"

    def where(self, i: int) -> str:
        """What the user calls row `i`, for messages."""
        return self.place(int(self.row[i]))


@dataclass(frozen=True, eq=False)
class Table:
    """A table that is open: it can be read as often as there are columns to read."""

    frame: Any  # narwhals
    id: str | None
    time: str
    place: Callable[[int], str]

    @property
    def has_id(self) -> bool:
        return self.id is not None and self.id in self.frame.columns

    def column(self, name: str) -> Any:
        """A column as a pandas.Series over 0, 1, 2, …; needs no pyarrow."""
        return _column(self.frame, name)

    @cached_property
    def ordered(self) -> tuple[Rows, tuple[str, ...]]:
        """(rows by series, then time, notes on that). Raises ElmanError for what cannot be put in order."""
        if not len(self.frame):
            raise ElmanError("the table is empty: it has no rows.")
        return _sorted(_rows(self))


def open_table(source: Any, id: str | None = ID, time: str = "ds") -> Table:
    """The table that `source` is, as `frames.read` takes it; one that is open already, as it is.

    Raises OSError when a file cannot be read, and ElmanError for what is no table.
    """
    if isinstance(source, Table):
        return source
    frame, place = _open(source, id, time)
    return Table(frame, id, time, place)


# Libraries


def module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ElmanError('reading tables needs pandas and narwhals: pip install "elman[series]"') from None


def is_polars(frame: Any) -> bool:
    return bool(frame.implementation.is_polars())


# Sources


def _open(source: Any, id: str | None, time: str) -> tuple[Any, Callable[[int], str]]:
    """(the table in narwhals, what names one of its rows)."""
    pandas, narwhals = module("pandas"), module("narwhals.stable.v2")
    place: Callable[[int], str] = "row {}".format
    if isinstance(source, (str, os.PathLike)):
        if Path(source).suffix.lower() in (".parquet", ".pq"):
            source = _parquet(pandas, source)
        else:
            source, place = _csv(pandas, source, id, time), _line
    try:
        frame = narwhals.from_native(source, eager_only=True)
        columns = frame.columns
    except TypeError:
        collect = " Collect it first: .collect()." if hasattr(source, "collect") else ""
        raise ElmanError(
            f"a {type(source).__name__} is no table: give a pandas or polars DataFrame, or the path of a .csv, "
            f".tsv or .parquet file.{collect}"
        ) from None
    except narwhals.exceptions.NarwhalsError as error:
        raise ElmanError(f"the table cannot be used: {error}") from None
    known = is_polars(frame) or frame.implementation.is_pandas()
    return (frame if known or not columns else narwhals.from_native(frame.to_pandas())), place


def _line(row: int) -> str:
    return f"line {row + 2}"


def _parquet(pandas: Any, path: str | os.PathLike[str]) -> Any:
    check_file(path)
    try:
        return pandas.read_parquet(path)
    except ImportError:
        raise ElmanError('reading Parquet needs pyarrow: pip install "elman[series]"') from None
    except Exception as error:  # what pyarrow raises for damaged files has no base but this
        raise ElmanError(f"{os.fspath(path)} is no Parquet file that can be read: {error}") from None


def _csv(pandas: Any, path: str | os.PathLike[str], id: str | None, time: str) -> Any:
    """Ids are read as text, so that "NA" and "007" stay what they are; integers are made of them where that is safe."""
    name = "standard input" if os.fspath(path) == "-" else os.fspath(path)
    data = _bytes(path)
    separator = "\t" if Path(path).suffix.lower() == ".tsv" else _separator(data)
    texts = {column: str for column in (id,) if column is not None}
    empty: dict[Any, list[str]] = {column: [""] for column in (id, time) if column is not None}
    try:
        header = pandas.read_csv(io.BytesIO(data), sep=separator, nrows=0).columns
        empty = {column: empty.get(column, list(EMPTY)) for column in header}
        options = {"dtype": texts, "na_values": empty, "keep_default_na": False, "low_memory": False}
        frame = pandas.read_csv(io.BytesIO(data), sep=separator, **options)
    except pandas.errors.EmptyDataError:
        raise ElmanError(f"{name} is empty: there is no table in it.") from None
    except (pandas.errors.ParserError, UnicodeDecodeError) as error:
        raise ElmanError(f"{name} is no CSV in UTF-8 that can be read: {str(error).strip()}") from None
    if not isinstance(frame.index, pandas.RangeIndex):
        raise ElmanError(
            f"{name} has rows with more fields than its first line names: name all columns there."
        )
    if id in frame.columns and frame[id].str.fullmatch(r"0|-?[1-9]\d{0,17}").all():
        frame[id] = frame[id].astype("int64")
    return frame


def _bytes(path: str | os.PathLike[str]) -> bytes:
    if os.fspath(path) == "-":
        return sys.stdin.buffer.read()
    check_file(path)
    if Path(path).suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise ElmanError(
            f"{os.fspath(path)} is no table that can be read: give a .csv, .tsv or .parquet file."
        )
    return Path(path).read_bytes()


def check_file(path: str | os.PathLike[str]) -> None:
    if Path(path).is_dir():
        raise IsADirectoryError(f"{os.fspath(path)} is a directory: give one file.")
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no file {os.fspath(path)}: check the name and the folder.")


def _separator(data: bytes) -> str:
    header = data.split(b"\n", 1)[0].decode("latin-1")
    return max(",;\t", key=header.count)


# Columns


def check_columns(table: Table, target: str | None = None) -> None:
    """Raises ElmanError unless the columns of ids, times and the target exist and are different ones."""
    columns = table.frame.columns
    wanted = {"--time": table.time} | ({} if target is None else {"--target": target})
    if table.id is not None and (table.id != ID or table.id in columns):
        wanted["--id"] = table.id
    if len(set(wanted.values())) < len(wanted):
        raise ElmanError(
            f"{', '.join(wanted)} must name different columns, not {', '.join(wanted.values())}."
        )
    for option, name in wanted.items():
        check_column(table, name, option)


def check_column(table: Table, name: str, option: str, what: str = "the table") -> None:
    """Raises ElmanError where the table, called `what`, lacks a column, which `option` names."""
    columns = table.frame.columns
    if name not in columns:
        raise ElmanError(
            f"{what} has no column {name}; it has {', '.join(map(str, columns)) or 'none'}. "
            f"Name the right one with {option[2:]}= ({option})."
        )


def _rows(table: Table) -> Rows:
    place, id = table.place, table.id
    stamps = _stamps(table.column(table.time), table.time, place)
    row = np.arange(len(stamps))
    if not table.has_id or id is None:
        return Rows((ALONE,), np.zeros(len(row), np.int64), stamps, row, place)
    code, ids = module("pandas").factorize(table.column(id))
    if (code < 0).any():
        raise ElmanError(f"{place(int(np.argmax(code < 0)))} has no {id}: name the series of every row.")
    return Rows(tuple(ids.tolist()), code.astype(np.int64), stamps, row, place)


def _column(frame: Any, name: str) -> Any:
    pandas, column = module("pandas"), frame.get_column(name).to_native()
    if not is_polars(frame):
        return column.reset_index(drop=True)
    polars = module("polars")
    if column.dtype.base_type() in (polars.Categorical, polars.Enum):
        column = column.cast(polars.String)
    elif column.dtype.is_decimal():
        column = column.cast(polars.Float64)
    zone = getattr(column.dtype, "time_zone", None)
    series = pandas.Series(column.to_numpy())
    return series.dt.tz_localize("UTC").dt.tz_convert(zone) if zone else series


def _stamps(column: Any, name: str, place: Callable[[int], str]) -> Any:
    """Time stamps (n,) as a pandas index: of datetimes in microseconds or finer, or of int64."""
    pandas = module("pandas")
    if (absent := column.isna().to_numpy()).any():
        raise ElmanError(
            f"{place(int(np.argmax(absent)))} has no time stamp in {name}: fill or remove the row."
        )
    kind = column.dtype.kind if hasattr(column.dtype, "kind") else "O"
    if kind in "iu" or (kind == "f" and (column % 1 == 0).all()):
        return pandas.Index(column.to_numpy(dtype=np.int64))
    if isinstance(column.dtype, pandas.PeriodDtype):
        column = column.dt.to_timestamp()
    elif kind in "fbcm":
        raise ElmanError(
            f"the column {name} holds {column.dtype}, not time stamps: give dates or whole numbers."
        )
    index = pandas.DatetimeIndex(_parsed(column, name, place))
    return index.as_unit("us") if index.unit in ("s", "ms") else index


def _parsed(column: Any, name: str, place: Callable[[int], str]) -> Any:
    pandas = module("pandas")
    try:
        stamps = pandas.to_datetime(column, format="ISO8601", errors="coerce")
    except ValueError:
        raise ElmanError(
            f"the time stamps in {name} are in several time zones, or some have one and some do not. "
            "Write all of them in UTC, or without a zone."
        ) from None
    if (bad := stamps.isna().to_numpy()).any():
        row = int(np.argmax(bad))
        raise ElmanError(
            f"{place(row)}: {str(column.iloc[row])!r} in {name} is no time stamp. Write it as 2024-01-31 or "
            "2024-01-31 18:00:00."
        )
    return stamps


def numbers_of(column: Any, name: str, place: Callable[[int], str], option: str = "--target") -> Floats:
    """Numbers (n,), NaN where missing. Raises ElmanError for what is none; `option` named the column."""
    pandas = module("pandas")
    if pandas.api.types.is_numeric_dtype(column.dtype) and getattr(column.dtype, "kind", "f") != "c":
        return np.array(column.to_numpy(dtype=np.float64, na_value=np.nan))
    if getattr(column.dtype, "kind", "O") in "cmM":
        raise ElmanError(
            f"the {option[2:]} {name} holds {column.dtype}, not numbers: name another column ({option})."
        )
    column = column.astype(object)
    numbers = pandas.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    for row in np.flatnonzero(np.isnan(numbers) & column.notna().to_numpy()):
        if str(column.iloc[row]).strip() not in _MISSING:
            raise ElmanError(
                f"{place(int(row))}: {str(column.iloc[row])!r} in {name} is no number. Write it as 1234.5"
                + (", or leave it empty if it is missing." if option == "--target" else ".")
            )
    return np.array(numbers)


# Order


def _sorted(rows: Rows) -> tuple[Rows, tuple[str, ...]]:
    """(rows by series, then time, notes). Raises ElmanError where a series has a time stamp twice."""
    notes: tuple[str, ...] = ()
    if (np.diff(rows.code) < 0).any():
        rows = rows.take(np.argsort(rows.code, kind="stable"))
    late = differences(rows, instants(rows.stamps)) < 0
    if late.any():
        some = counted(len(np.unique(rows.code[1:][late])), "series")
        notes = (f"The rows of {some} were not in order of time and were sorted.",)
        rows = rows.take(np.lexsort((instants(rows.stamps), rows.code)))
    twice = differences(rows, instants(rows.stamps)) == 0
    if twice.any():
        raise _duplicate(rows, int(np.argmax(twice)))
    return rows, notes


def _duplicate(rows: Rows, i: int) -> ElmanError:
    several = " If these are several series, name the column that tells them apart (--id)."
    return ElmanError(
        f"{rows.series(i)} has {shown(rows.stamps[i])} twice, in {rows.where(i)} and {rows.where(i + 1)}: keep one of "
        f"them.{'' if len(rows.ids) > 1 else several}"
    )


def differences(rows: Rows, numbers: Ints) -> Ints:
    """(n - 1,) from each row to the next; 1 where another series begins."""
    return np.where(np.diff(rows.code) == 0, np.diff(numbers), 1)


def instants(stamps: Any) -> Ints:
    return np.asarray(stamps.asi8 if hasattr(stamps, "asi8") else stamps.to_numpy(), np.int64)


def shown(stamp: Any) -> str:
    return str(stamp).removesuffix(" 00:00:00")


def counted(number: Any, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 or noun == 'series' else 's'}"
