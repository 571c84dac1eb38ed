"""Tables of series in long format → regular arrays, and forecasts → tables of the same kind.

A table has one row for each series and time stamp. pandas and narwhals are imported when a table is read, not
with this module. Knows nothing of models or torch.
"""

import importlib
import io
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data import ElmanError

ID = "unique_id"  # the id column's usual name: only this one may be absent
ALONE = "series"  # the id of a series in a table without ids
FILLED = 0.1  # of a series: more than this is not interpolated
RUN = 24  # steps: gaps up to this long are interpolated, or up to a season where that is longer
_MISSING = ("", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "null", "NULL", "None", "none", "<NA>")
_ATTEMPTS = 20  # series that are asked for their frequency
_REGULAR = 0.5  # of all differences: below this, the most common one is no frequency
_DAY = 86_400 * 10**9  # nanoseconds
_CYCLE = {"B": 5, "C": 5, "W": 52, "SMS": 24, "SME": 24}  # steps in a week or a year, by pandas' alias
_CYCLE |= dict.fromkeys(("MS", "ME", "BMS", "BME", "CBMS", "CBME", "WOM", "LWOM"), 12)
_CYCLE |= dict.fromkeys(("QS", "QE", "BQS", "BQE"), 4)
_QUARTERS = ("JAN APR JUL OCT", "FEB MAY AUG NOV", "MAR JUN SEP DEC")  # anchors of the same quarters
_SAME = {
    f"{kind}-{month}": kind + ("" if i == usual else f"-{months[:3]}")
    for kind, usual in (("QS", 0), ("QE", 2), ("BQS", 0), ("BQE", 2))
    for i, months in enumerate(_QUARTERS)
    for month in months.split()
} | {"YS-JAN": "YS", "YE-DEC": "YE", "BYS-JAN": "BYS", "BYE-DEC": "BYE"}

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Frequency:
    """How far apart the values of a series are."""

    alias: str  # pandas' offset alias: "h", "D", "W-SUN", "MS"; or a number, the step of integer times
    seasons: tuple[int, ...]  # lengths in steps, shortest first

    @classmethod
    def parse(cls, alias: str | int) -> "Frequency":
        """From pandas' alias or an integer step. Different names of one frequency give equal results.

        Raises ElmanError for what pandas does not know, and for steps that do not go forward.
        """
        if str(alias).isdecimal() and int(alias) > 0:
            return cls(str(int(alias)), (1,))
        offset = _offset(str(alias))
        if offset.n < 1:
            raise ElmanError(f"the frequency {alias!r} does not go forward: give one of at least one step.")
        return cls(_SAME.get(offset.freqstr, offset.freqstr), _seasons(offset))

    @property
    def integer(self) -> bool:
        """Whether times are integers."""
        return self.alias.isdecimal()


@dataclass(frozen=True)
class Panel:
    """Series that are regular in time and have no missing values."""

    ids: tuple[Any, ...]  # in order of first appearance
    values: tuple[Floats, ...]  # each (n,)
    ends: tuple[Any, ...]  # each series' last time stamp: pandas.Timestamp or int
    frequency: Frequency
    columns: tuple[str, str, str]  # the user's names of id, time, target
    library: str  # "pandas" or "polars": what came in, and what goes out
    notes: tuple[str, ...]  # what was done to the data, a sentence each
    has_id: bool  # False: one series, and no column that names it
    dtypes: tuple[Any, Any] = (None, None)  # the library's own, of id and time; None: as it comes


@dataclass(frozen=True)
class _Rows:
    """The table's rows, (n,) each: `code` indexes `ids`, `place` says where a row was."""

    ids: tuple[Any, ...]
    code: Ints
    stamps: Any  # pandas.DatetimeIndex, or Index of int64
    value: Floats
    row: Ints
    place: Callable[[int], str]

    def take(self, index: Ints) -> "_Rows":
        code, value, row = self.code[index], self.value[index], self.row[index]
        return _Rows(self.ids, code, self.stamps[index], value, row, self.place)

    @property
    def starts(self) -> Ints:
        """(series,) the first row of each, once rows are sorted by code."""
        return np.flatnonzero(np.diff(self.code, prepend=-1))

    @property
    def integer(self) -> bool:
        return bool(self.stamps.dtype.kind == "i")

    def series(self, i: int) -> str:
        """The series of row `i`, for messages."""
        return f"series {self.ids[self.code[i]]}"


def read(
    source: Any,
    id: str | None = ID,
    time: str = "ds",
    target: str = "y",
    frequency: str | int | None = None,
) -> Panel:
    """The series of a table with the columns `id`, `time` and `target`; without an `id` column, it is one series.

    `source` is a pandas or polars DataFrame (or another that narwhals reads), or the path of a .csv, .tsv or .parquet
    file; "-" is CSV from standard input. `frequency` is a pandas alias, or the step of integer times; None: found
    from the data. Rows are sorted, missing values at either end cut, short gaps interpolated; the notes say so.
    Messages count a file's lines from 1, and other rows from 0.

    Raises OSError when a file cannot be read, and ElmanError for a table that is no set of regular series.
    """
    frame, place = _open(source, id, time)
    _check_columns(frame.columns, id, time, target)
    if not len(frame):
        raise ElmanError("the table is empty: it has no rows.")
    has_id = id is not None and id in frame.columns
    rows = _rows(frame, id if has_id else None, time, target, place)
    notes: list[str] = []
    rows = _sorted(rows, notes)
    _check_finite(rows)
    found = _frequency(rows, frequency)
    values, rows = _regular(rows, _positions(rows, found), found, notes)
    return Panel(
        rows.ids,
        values,
        _items(rows.stamps),
        found,
        (id or ID, time, target),
        "polars" if _is_polars(frame) else "pandas",
        tuple(notes),
        has_id,
        (_dtype(frame, id) if has_id else None, _dtype(frame, time)),
    )


def forecast_frame(panel: Panel, horizon: int, columns: Mapping[str, Floats]) -> Any:
    """A table in the panel's library: id, time (the `horizon` steps after each series), then `columns`.

    Each of `columns` is (series, horizon). Raises ElmanError for other shapes and for names that are taken.
    """
    id, time, _ = panel.columns
    taken = {id, time} if panel.has_id else {time}
    for name, array in columns.items():
        if np.shape(array) != (len(panel.ids), horizon):
            raise ElmanError(
                f"{name} is {np.shape(array)}, not {(len(panel.ids), horizon)}: series, horizon."
            )
        if name in taken:
            raise ElmanError(f"the forecast's column {name} has the name of another: rename that one.")
    flat = {name: np.asarray(array, np.float64).reshape(-1) for name, array in columns.items()}
    build = _polars_frame if panel.library == "polars" else _pandas_frame
    return build(panel, horizon, _following(panel.ends, horizon, panel.frequency), flat)


# Libraries


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ElmanError('forecasting needs pandas and narwhals: pip install "elman[series]"') from None


def _is_polars(frame: Any) -> bool:
    return bool(frame.implementation.is_polars())


def _dtype(frame: Any, name: str | None) -> Any:
    return frame.get_column(name).to_native().dtype


def _items(index: Any) -> tuple[Any, ...]:
    return tuple(index.tolist())


# Sources


def _open(source: Any, id: str | None, time: str) -> tuple[Any, Callable[[int], str]]:
    """(the table in narwhals, what names one of its rows)."""
    pandas, narwhals = _module("pandas"), _module("narwhals.stable.v2")
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
    known = _is_polars(frame) or frame.implementation.is_pandas()
    return (frame if known or not columns else narwhals.from_native(frame.to_pandas())), place


def _line(row: int) -> str:
    return f"line {row + 2}"


def _parquet(pandas: Any, path: str | os.PathLike[str]) -> Any:
    _check_file(path)
    try:
        return pandas.read_parquet(path)
    except ImportError:
        raise ElmanError('reading Parquet needs pyarrow: pip install "elman[series]"') from None
    except (ValueError, OSError) as error:  # pyarrow's ArrowInvalid is a ValueError
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
        empty = {column: empty.get(column, list(_MISSING)) for column in header}
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
    _check_file(path)
    if Path(path).suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise ElmanError(
            f"{os.fspath(path)} is no table that can be read: give a .csv, .tsv or .parquet file."
        )
    return Path(path).read_bytes()


def _check_file(path: str | os.PathLike[str]) -> None:
    if Path(path).is_dir():
        raise IsADirectoryError(f"{os.fspath(path)} is a directory: give one file.")
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no file {os.fspath(path)}: check the name and the folder.")


def _separator(data: bytes) -> str:
    header = data.split(b"\n", 1)[0].decode("latin-1")
    return max(",;\t", key=header.count)


# Columns


def _check_columns(columns: list[Any], id: str | None, time: str, target: str) -> None:
    wanted = {"--time": time, "--target": target}
    if id is not None and (id != ID or id in columns):
        wanted["--id"] = id
    if len(set(wanted.values())) < len(wanted):
        raise ElmanError(
            f"{', '.join(wanted)} must name different columns, not {', '.join(wanted.values())}."
        )
    for option, name in wanted.items():
        if name not in columns:
            raise ElmanError(
                f"the table has no column {name}; it has {', '.join(map(str, columns)) or 'none'}. "
                f"Name the right one with {option[2:]}= ({option})."
            )


def _rows(frame: Any, id: str | None, time: str, target: str, place: Callable[[int], str]) -> _Rows:
    stamps = _stamps(_column(frame, time), time, place)
    value = _values(_column(frame, target), target, place)
    row = np.arange(len(value))
    if id is None:
        return _Rows((ALONE,), np.zeros(len(value), np.int64), stamps, value, row, place)
    code, ids = _module("pandas").factorize(_column(frame, id))
    if (code < 0).any():
        raise ElmanError(f"{place(int(np.argmax(code < 0)))} has no {id}: name the series of every row.")
    return _Rows(_items(ids), code.astype(np.int64), stamps, value, row, place)


def _column(frame: Any, name: str) -> Any:
    """A column as a pandas.Series over 0, 1, 2, …; needs no pyarrow."""
    pandas, column = _module("pandas"), frame.get_column(name).to_native()
    if not _is_polars(frame):
        return column.reset_index(drop=True)
    polars = _module("polars")
    if column.dtype.base_type() in (polars.Categorical, polars.Enum):
        column = column.cast(polars.String)
    elif column.dtype.is_decimal():
        column = column.cast(polars.Float64)
    zone = getattr(column.dtype, "time_zone", None)
    series = pandas.Series(column.to_numpy())
    return series.dt.tz_localize("UTC").dt.tz_convert(zone) if zone else series


def _stamps(column: Any, name: str, place: Callable[[int], str]) -> Any:
    """Time stamps (n,) as a pandas index: of datetimes in microseconds or finer, or of int64."""
    pandas = _module("pandas")
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
    pandas = _module("pandas")
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


def _values(column: Any, name: str, place: Callable[[int], str]) -> Floats:
    """Numbers (n,), NaN where missing."""
    pandas = _module("pandas")
    if pandas.api.types.is_numeric_dtype(column.dtype) and getattr(column.dtype, "kind", "f") != "c":
        return np.array(column.to_numpy(dtype=np.float64, na_value=np.nan))
    if getattr(column.dtype, "kind", "O") in "cmM":
        raise ElmanError(
            f"the target {name} holds {column.dtype}, not numbers: name another column (--target)."
        )
    column = column.astype(object)
    numbers = pandas.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    for row in np.flatnonzero(np.isnan(numbers) & column.notna().to_numpy()):
        if str(column.iloc[row]).strip() not in _MISSING:
            raise ElmanError(
                f"{place(int(row))}: {str(column.iloc[row])!r} in {name} is no number. Write it as 1234.5, or "
                "leave it empty if it is missing."
            )
    return np.array(numbers)


# Order


def _sorted(rows: _Rows, notes: list[str]) -> _Rows:
    """By series, then time. Raises ElmanError where a series has a time stamp twice."""
    if (np.diff(rows.code) < 0).any():
        rows = rows.take(np.argsort(rows.code, kind="stable"))
    late = _differences(rows, _instants(rows.stamps)) < 0
    if late.any():
        count = len(np.unique(rows.code[1:][late]))
        notes.append(f"The rows of {_count(count, 'series')} were not in order of time and were sorted.")
        rows = rows.take(np.lexsort((_instants(rows.stamps), rows.code)))
    twice = _differences(rows, _instants(rows.stamps)) == 0
    if twice.any():
        raise _duplicate(rows, int(np.argmax(twice)))
    return rows


def _duplicate(rows: _Rows, i: int) -> ElmanError:
    first, second = (rows.place(int(row)) for row in rows.row[i : i + 2])
    several = (
        ""
        if len(rows.ids) > 1
        else " If these are several series, name the column that tells them apart (--id)."
    )
    return ElmanError(
        f"{rows.series(i)} has {_shown(rows.stamps[i])} twice, in {first} and {second}: keep one of them.{several}"
    )


def _check_finite(rows: _Rows) -> None:
    infinite = np.isinf(rows.value)
    if infinite.any():
        i = int(np.argmax(infinite))
        raise ElmanError(
            f"{rows.series(i)} is infinite at {_shown(rows.stamps[i])} ({rows.place(int(rows.row[i]))}): "
            "correct the value, or leave it empty."
        )


def _differences(rows: _Rows, numbers: Ints) -> Ints:
    """(n - 1,) from each row to the next; 1 where another series begins."""
    return np.where(np.diff(rows.code) == 0, np.diff(numbers), 1)


def _instants(stamps: Any) -> Ints:
    return np.asarray(stamps.asi8 if hasattr(stamps, "asi8") else stamps.to_numpy(), np.int64)


def _shown(stamp: Any) -> str:
    return str(stamp).removesuffix(" 00:00:00")


def _count(number: Any, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 or noun == 'series' else 's'}"


# Frequencies


def _offset(alias: str) -> Any:
    """pandas' offset; those of fixed length in their largest unit: 60min is h."""
    pandas = _module("pandas")
    try:
        offset = _quiet(pandas.tseries.frequencies.to_offset, alias)
    except ValueError as error:
        meant = str(error).rpartition("Did you mean ")[2] if "Did you mean " in str(error) else ""
        meant = {"M": "ME", "Q": "QE", "Y": "YE"}.get(alias.lstrip("0123456789"), meant.rstrip("?'\") "))
        raise ElmanError(
            f"{alias!r} is no frequency. "
            + (f"Did you mean {meant}? " if meant else "")
            + "Give a pandas alias: "
            "s, min, 15min, h, D, B, W, MS (start of month), ME (end), QS, YS; or the step of integer times."
        ) from None
    if isinstance(offset, pandas.offsets.Tick) and offset.n > 0:
        return pandas.tseries.frequencies.to_offset(pandas.Timedelta(offset))
    return offset


def _quiet(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result, without warnings of what a later pandas will do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments)


def _kind(offset: Any) -> str:
    """An offset's alias without number and anchor."""
    return str(offset.rule_code).split("-")[0]


def _nanoseconds(offset: Any) -> int | None:
    """An offset's length where that is fixed (days: on the wall clock), else None."""
    pandas = _module("pandas")
    if _kind(offset) == "D":
        return int(offset.n) * _DAY
    return int(pandas.Timedelta(offset).value) if isinstance(offset, pandas.offsets.Tick) else None


def _seasons(offset: Any) -> tuple[int, ...]:
    """A day and a week; below a minute, a minute and an hour; of calendar steps, a year or a week of work."""
    length = _nanoseconds(offset)
    if length is None:
        length, periods = offset.n, [_CYCLE.get(_kind(offset), 1)]
    elif length < 60 * 10**9:
        periods = [60 * 10**9, 3_600 * 10**9]
    else:
        periods = [_DAY, 7 * _DAY]
    return tuple(p // length for p in periods if p > length and p % length == 0) or (1,)


def _frequency(rows: _Rows, given: str | int | None) -> Frequency:
    if given is None:
        return Frequency.parse(_common(rows) if rows.integer else _inferred(rows) or _common(rows))
    if str(given) == "W" and not rows.integer:
        given = f"W-{_weekday(rows.stamps[0])}"
    frequency = Frequency.parse(given)
    if frequency.integer != rows.integer:
        have, need = ("integers", "a number, as 1") if rows.integer else ("dates", "an alias, as h, D or MS")
        raise ElmanError(f"the times are {have}, and the frequency is {given}: give {need} (--frequency).")
    return frequency


def _inferred(rows: _Rows) -> str | None:
    """pandas' inference on the longest series that it can tell the frequency of."""
    pandas, starts = _module("pandas"), rows.starts
    lengths = np.diff(starts, append=len(rows.code))
    for i in np.argsort(-lengths, kind="stable")[:_ATTEMPTS]:
        if lengths[i] < max(3, lengths.max() / 2):
            break
        found = _quiet(pandas.infer_freq, rows.stamps[starts[i] : starts[i] + lengths[i]])
        alias = getattr(found, "freqstr", found)
        if (
            alias is not None and "bh" not in alias
        ):  # business hours of other days than pandas' own are none to it
            return str(alias)
    return None


def _common(rows: _Rows) -> str:
    """The most common difference between neighbours, as an alias. Raises ElmanError if there is none."""
    inside = np.diff(rows.code) == 0
    if not inside.any():
        raise _no_frequency("no series has two time stamps")
    step, at, share = _mode(np.diff(_instants(rows.stamps)), inside)
    if rows.integer:
        alias: str | None = str(step)
    else:
        pandas = _module("pandas")
        length = pandas.Timedelta(int(step), unit=rows.stamps.unit)
        if length < pandas.Timedelta(1, unit="D"):
            alias = pandas.tseries.frequencies.to_offset(length).freqstr
        else:
            alias, share = _calendar(rows, inside)
    if alias is None or share < _REGULAR:
        raise _no_frequency(
            f"the most common difference, as after {_shown(rows.stamps[at])}, is not common enough"
        )
    return alias


def _mode(differences: Ints, inside: NDArray[np.bool_]) -> tuple[int, int, float]:
    """(the most common difference, a place where it is, its share of those `inside`)."""
    found, first, counts = np.unique(differences[inside], return_index=True, return_counts=True)
    best = int(np.argmax(counts))
    at = np.flatnonzero(inside)[first[best]]
    return int(found[best]), int(at), float(counts[best] / inside.sum())


def _calendar(rows: _Rows, inside: NDArray[np.bool_]) -> tuple[str | None, float]:
    """(alias of whole days, weeks, months, quarters or years, the share of differences that are such)."""
    wall = rows.stamps.tz_localize(None)
    day = wall.normalize().as_unit("s").asi8 // 86_400
    days = np.diff(day)
    step, at, share = _mode(days, inside)
    for low, high, letter in ((28, 31, "M"), (89, 92, "Q"), (365, 366, "Y")):
        if low <= step <= high:
            share = float(((days >= low) & (days <= high))[inside].mean())
            return _month_alias(wall, letter, wall[at].strftime("%b").upper()), share
    if step % 7 == 0:
        return f"{step // 7}W-{_weekday(wall[at])}", share
    if step == 1 and (wall.day_of_week < 5).all() and (days[inside] == 3).any():
        return "B", share
    return f"{step}D", share


def _month_alias(wall: Any, letter: str, month: str) -> str | None:
    anchor = "" if letter == "M" else f"-{month}"
    if (wall.day == 1).mean() > _REGULAR:
        return f"{letter}S{anchor}"
    return f"{letter}E{anchor}" if wall.is_month_end.mean() > _REGULAR else None


def _weekday(stamp: Any) -> str:
    return str(stamp.day_name()[:3].upper())


def _no_frequency(why: str) -> ElmanError:
    return ElmanError(
        f"the time stamps show no regular frequency: {why}. Give it as a pandas alias, frequency='h' (--frequency h), "
        "or bring the series to regular steps first."
    )


# Steps: time on the wall clock for days and longer, in UTC for what is shorter


def _numbers(stamps: Any, frequency: Frequency) -> tuple[Ints, int | None]:
    """(times (n,), the step between neighbours in their unit, None if it varies)."""
    if frequency.integer:
        return _instants(stamps), int(frequency.alias)
    offset = _offset(frequency.alias)
    length = _nanoseconds(offset)
    if length is None or _kind(offset) == "D":
        stamps = stamps.tz_localize(None)
    if length is None:
        return _instants(stamps), None
    if stamps.unit == "us" and length % 1_000:
        raise ElmanError(
            f"the frequency {frequency.alias} is finer than the time stamps, which are microseconds."
        )
    return _instants(stamps), length // (1_000 if stamps.unit == "us" else 1)


def _positions(rows: _Rows, frequency: Frequency) -> Ints:
    """(n,) steps since each series' first row, or since another time that they share. Raises ElmanError off them."""
    numbers, step = _numbers(rows.stamps, frequency)
    if step is not None:
        position, rest = np.divmod(numbers - numbers[rows.starts][rows.code], step)
    else:
        grid = _grid(numbers, rows.stamps.unit, frequency)
        position = np.minimum(np.searchsorted(grid, numbers), len(grid) - 1)
        rest = numbers - grid[position]
    if rest.any():
        raise _off(rows, int(np.argmax(rest != 0)), frequency)
    return position


def _grid(numbers: Ints, unit: str, frequency: Frequency) -> Ints:
    """All times of a calendar frequency between the least and the greatest of `numbers`."""
    pandas = _module("pandas")
    least, greatest = pandas.DatetimeIndex(np.array([numbers.min(), numbers.max()]).view(f"M8[{unit}]"))
    grid = _quiet(pandas.date_range, least, greatest, None, _offset(frequency.alias))
    return np.asarray(grid.as_unit(unit).asi8 if len(grid) else np.zeros(1, np.int64))


def _off(rows: _Rows, i: int, frequency: Frequency) -> ElmanError:
    stamp = rows.stamps[i]
    day = "" if rows.integer else f" ({stamp.day_name()})"
    return ElmanError(
        f"{rows.series(i)} leaves the frequency {frequency.alias} at {_shown(stamp)}{day}, "
        f"{rows.place(int(rows.row[i]))}: correct the time stamp, or give another frequency (--frequency)."
    )


def _following(ends: tuple[Any, ...], horizon: int, frequency: Frequency) -> Any:
    """The `horizon` times after each of `ends`, (series · horizon,), as a pandas index."""
    pandas = _module("pandas")
    if frequency.integer:
        steps = np.arange(1, horizon + 1) * int(frequency.alias)
        return pandas.Index((np.array(ends, np.int64)[:, None] + steps).reshape(-1))
    index = pandas.DatetimeIndex(ends)
    index = index.as_unit("us") if index.unit in ("s", "ms") else index
    numbers, step = _numbers(index, frequency)
    if step is not None:
        times = numbers[:, None] + np.arange(1, horizon + 1) * step
    else:
        times = _calendar_steps(numbers, index.unit, horizon, frequency)
    naive = pandas.DatetimeIndex(times.reshape(-1).view(f"M8[{index.unit}]"))
    return _zoned(naive, index.tz, utc=step is not None and _kind(_offset(frequency.alias)) != "D")


def _calendar_steps(numbers: Ints, unit: str, horizon: int, frequency: Frequency) -> Ints:
    pandas, offset = _module("pandas"), _offset(frequency.alias)
    unique, inverse = np.unique(numbers, return_inverse=True)
    steps = np.empty((len(unique), horizon), np.int64)
    for i, end in enumerate(pandas.DatetimeIndex(unique.view(f"M8[{unit}]"))):
        later = _quiet(pandas.date_range, end, None, horizon + 1, offset)[1:]
        steps[i] = later.as_unit(unit).asi8
    return steps[inverse]


def _zoned(naive: Any, zone: Any, utc: bool) -> Any:
    """Times in UTC or on the wall clock, in their zone; wall times that a change of the clock skips come after it."""
    if zone is None:
        return naive
    if utc:
        return naive.tz_localize("UTC").tz_convert(zone)
    return naive.tz_localize(zone, ambiguous=np.ones(len(naive), bool), nonexistent="shift_forward")


# Missing values


def _regular(
    rows: _Rows, position: Ints, frequency: Frequency, notes: list[str]
) -> tuple[tuple[Floats, ...], _Rows]:
    """(each series' values (n,) without gaps, each one's last row)."""
    present = np.flatnonzero(~np.isnan(rows.value))
    if not len(present):
        raise ElmanError("no series has a value: the whole target column is missing.")
    if len(present) < len(rows.value):
        _note_missing(rows, present, notes)
        rows, position = _kept(rows, present), position[present]
    starts = rows.starts
    ends = np.append(starts[1:], len(rows.code)) - 1
    missing = position[ends] - position[starts] - (ends - starts)
    if missing.any():
        _check_gaps(rows, position, missing, frequency)
        notes.append(
            f"{_count(missing.sum(), 'missing value')} in {_count(np.count_nonzero(missing), 'series')} "
            f"{'was' if missing.sum() == 1 else 'were'} filled by linear interpolation."
        )
    return _filled(rows, position, starts, ends + 1 - starts + missing), rows.take(ends)


def _note_missing(rows: _Rows, present: Ints, notes: list[str]) -> None:
    """Says which series have no value, and what is cut at either end of the others."""
    absent = np.flatnonzero(np.bincount(rows.code[present], minlength=len(rows.ids)) == 0)
    if len(absent):
        names = ", ".join(str(rows.ids[i]) for i in absent[:5])
        more = f" and {len(absent) - 5:,} more" if len(absent) > 5 else ""
        notes.append(f"{_count(len(absent), 'series')} without any value skipped: {names}{more}.")
    kept = np.setdiff1d(np.arange(len(rows.ids)), absent)
    starts, inner = rows.starts, np.flatnonzero(np.diff(rows.code[present], prepend=-1))
    ends = np.append(starts[1:], len(rows.code)) - 1
    last = np.append(inner[1:], len(present)) - 1
    for where, cut in (("start", present[inner] - starts[kept]), ("end", ends[kept] - present[last])):
        if cut.any():
            verb = "was" if cut.sum() == 1 else "were"
            some = _count(np.count_nonzero(cut), "series")
            notes.append(f"{_count(cut.sum(), 'missing value')} at the {where} of {some} {verb} cut.")


def _kept(rows: _Rows, present: Ints) -> _Rows:
    """The rows of `present`, and only the series that have some."""
    rows = rows.take(present)
    codes, code = np.unique(rows.code, return_inverse=True)
    return _Rows(tuple(rows.ids[i] for i in codes), code, rows.stamps, rows.value, rows.row, rows.place)


def _check_gaps(rows: _Rows, position: Ints, missing: Ints, frequency: Frequency) -> None:
    """Raises ElmanError for the first series with too long a gap, or too many missing values."""
    gaps = _differences(rows, position) - 1
    longest, share = max(RUN, *frequency.seasons), missing / (missing + np.bincount(rows.code))
    run = np.zeros(len(missing), np.int64)
    np.maximum.at(run, rows.code[1:], gaps)
    bad = (share > FILLED) | (run > longest)
    if not bad.any():
        return
    series = int(np.argmax(bad))
    after = int(np.argmax((rows.code[1:] == series) & (gaps == run[series])))
    start = _following((rows.stamps[after],), 1, frequency)[0]
    raise ElmanError(
        f"{rows.series(after)} has too much missing: {share[series]:.1%} of its values, and from {_shown(start)} on "
        f"{_count(run[series], 'step')} in a row; at most {FILLED:.0%} and {longest} in a row are filled. "
        f"Fill them, remove the series, or give another frequency than {frequency.alias} (--frequency)."
    )


def _filled(rows: _Rows, position: Ints, starts: Ints, lengths: Ints) -> tuple[Floats, ...]:
    """Each series' values (length,). Ends are present, so that interpolation stays inside a series."""
    borders = np.concatenate(([0], np.cumsum(lengths)))
    target = position - position[starts][rows.code] + borders[:-1][rows.code]
    values = np.full(borders[-1], np.nan)
    values[target] = rows.value
    holes = np.flatnonzero(np.isnan(values))
    values[holes] = np.interp(holes, target, rows.value)
    return tuple(values[start:end] for start, end in itertools.pairwise(borders.tolist()))


# Tables


def _pandas_frame(panel: Panel, horizon: int, times: Any, flat: dict[str, Floats]) -> Any:
    pandas = _module("pandas")
    id, time, _ = panel.columns
    ids = pandas.Index(panel.ids, dtype=panel.dtypes[0]).repeat(horizon)
    table = {id: pandas.Series(ids)} if panel.has_id else {}
    times = pandas.Series(times)
    if _is_time(panel.dtypes[1]):
        times = times.astype(panel.dtypes[1])
    return pandas.DataFrame({**table, time: times, **flat})


def _is_time(dtype: Any) -> bool:
    """Whether a pandas dtype can hold what time stamps became: theirs, not text or objects."""
    return getattr(dtype, "kind", "O") in "iuM"


def _polars_frame(panel: Panel, horizon: int, times: Any, flat: dict[str, Floats]) -> Any:
    polars = _module("polars")
    id, time, _ = panel.columns
    ids = polars.Series(id, panel.ids, dtype=panel.dtypes[0])
    table = {id: ids.gather(np.repeat(np.arange(len(panel.ids)), horizon))} if panel.has_id else {}
    return polars.DataFrame({**table, time: _polars_times(polars, time, times, panel.dtypes[1]), **flat})


def _polars_times(polars: Any, name: str, times: Any, dtype: Any) -> Any:
    """Zones without a name, as +01:00, polars does not know: such times are given in UTC."""
    if getattr(times, "tz", None) is None:
        series = polars.Series(name, times.to_numpy())
    else:
        series = polars.Series(name, times.tz_convert("UTC").tz_localize(None).to_numpy())
        zone = getattr(dtype, "time_zone", None) or "UTC"
        series = series.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    return series.cast(dtype) if dtype is not None and (dtype.is_temporal() or dtype.is_integer()) else series
