"""Tables of series in long format → regular arrays, and forecasts → tables of the same kind.

A table has one row for each series and time stamp. pandas and narwhals are imported when a table is read, not
with this module. Knows nothing of models or torch.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from elman.data import ElmanError
from elman.frequency import Frequency, following, found_frequency, positions
from elman.tables import (
    ID,
    Floats,
    Ints,
    Rows,
    Table,
    check_columns,
    counted,
    differences,
    is_polars,
    module,
    numbers_of,
    open_table,
    shown,
)

__all__ = ["Frequency", "Panel", "Table", "forecast_frame", "open_table", "read"]

FILLED = 0.1  # of a series: more than this is not interpolated
RUN = 24  # steps: gaps up to this long are interpolated, or up to a season where that is longer


@dataclass(frozen=True)
class Panel:
    """Series that are regular in time and have no missing values."""

    ids: tuple[Any, ...]  # in order of first appearance
    values: tuple[Floats, ...]  # each (n,)
    starts: tuple[Any, ...]  # each series' first time stamp: pandas.Timestamp or int
    ends: tuple[Any, ...]  # the last
    frequency: Frequency
    columns: tuple[str, str, str]  # the user's names of id, time, target
    library: str  # "pandas" or "polars": what came in, and what goes out
    notes: tuple[str, ...]  # what was done to the data, a sentence each
    has_id: bool  # False: one series, and no column that names it
    dtypes: tuple[Any, Any] = (None, None)  # the library's own, of id and time; None: as it comes


def read(
    source: Any,
    id: str | None = ID,
    time: str = "ds",
    target: str = "y",
    frequency: str | int | None = None,
) -> Panel:
    """The series of a table with the columns `id`, `time` and `target`; without an `id` column, it is one series.

    `source` is a pandas or polars DataFrame (or another that narwhals reads), or the path of a .csv, .tsv or .parquet
    file; "-" is CSV from standard input; or what `open_table` gave, whose own `id` and `time` count. `frequency` is a
    pandas alias, or the step of integer times; None: found from the data. Rows are sorted, missing values at either end
    cut, short gaps interpolated; the notes say so. Messages count a file's lines from 1, and other rows from 0.

    Raises OSError when a file cannot be read, and ElmanError for a table that is no set of regular series.
    """
    table = open_table(source, id, time)
    check_columns(table, target)
    rows, order = table.ordered
    notes = list(order)
    value = numbers_of(table.column(target), target, table.place)[rows.row]
    _check_finite(rows, value)
    found = found_frequency(rows, frequency)
    rows, value, position = _known(rows, value, positions(rows, found), notes)
    return Panel(
        rows.ids,
        _regular(rows, value, position, found, notes),
        tuple(rows.stamps[rows.starts].tolist()),
        tuple(rows.stamps[rows.ends].tolist()),
        found,
        (table.id or ID, table.time, target),
        "polars" if is_polars(table.frame) else "pandas",
        tuple(notes),
        table.has_id,
        (_dtype(table.frame, table.id) if table.has_id else None, _dtype(table.frame, table.time)),
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
    return build(panel, horizon, following(panel.ends, horizon, panel.frequency), flat)


def _dtype(frame: Any, name: str | None) -> Any:
    return frame.get_column(name).to_native().dtype


# Missing values


def _check_finite(rows: Rows, value: Floats) -> None:
    infinite = np.isinf(value)
    if infinite.any():
        i = int(np.argmax(infinite))
        raise ElmanError(
            f"{rows.series(i)} is infinite at {shown(rows.stamps[i])} ({rows.where(i)}): "
            "correct the value, or leave it empty."
        )


def _known(rows: Rows, value: Floats, position: Ints, notes: list[str]) -> tuple[Rows, Floats, Ints]:
    """What has a value: rows, of the series that have some, their values and positions."""
    present = np.flatnonzero(~np.isnan(value))
    if not len(present):
        raise ElmanError("no series has a value: the whole target column is missing.")
    if len(present) == len(value):
        return rows, value, position
    _note_missing(rows, present, notes)
    rows = rows.take(present)
    codes, code = np.unique(rows.code, return_inverse=True)
    rows = Rows(tuple(rows.ids[i] for i in codes), code, rows.stamps, rows.row, rows.place)
    return rows, value[present], position[present]


def _regular(
    rows: Rows, value: Floats, position: Ints, frequency: Frequency, notes: list[str]
) -> tuple[Floats, ...]:
    """Each series' values (n,) without gaps."""
    starts, ends = rows.starts, rows.ends
    missing = position[ends] - position[starts] - (ends - starts)
    if missing.any():
        _check_gaps(rows, position, missing, frequency)
        notes.append(
            f"{counted(missing.sum(), 'missing value')} in {counted(np.count_nonzero(missing), 'series')} "
            f"{'was' if missing.sum() == 1 else 'were'} filled by linear interpolation."
        )
    return _filled(rows, value, position, ends + 1 - starts + missing)


def _note_missing(rows: Rows, present: Ints, notes: list[str]) -> None:
    """Says which series have no value, and what is cut at either end of the others."""
    absent = np.flatnonzero(np.bincount(rows.code[present], minlength=len(rows.ids)) == 0)
    if len(absent):
        names = ", ".join(str(rows.ids[i]) for i in absent[:5])
        more = f" and {len(absent) - 5:,} more" if len(absent) > 5 else ""
        notes.append(f"{counted(len(absent), 'series')} without any value skipped: {names}{more}.")
    kept = np.setdiff1d(np.arange(len(rows.ids)), absent)
    starts, ends = rows.starts, rows.ends
    inner = np.flatnonzero(np.diff(rows.code[present], prepend=-1))
    last = np.append(inner[1:], len(present)) - 1
    for where, cut in (("start", present[inner] - starts[kept]), ("end", ends[kept] - present[last])):
        if cut.any():
            verb = "was" if cut.sum() == 1 else "were"
            some = counted(np.count_nonzero(cut), "series")
            notes.append(f"{counted(cut.sum(), 'missing value')} at the {where} of {some} {verb} cut.")


def _check_gaps(rows: Rows, position: Ints, missing: Ints, frequency: Frequency) -> None:
    """Raises ElmanError for the first series with too long a gap, or too many missing values."""
    gaps = differences(rows, position) - 1
    longest, share = max(RUN, *frequency.seasons), missing / (missing + np.bincount(rows.code))
    run = np.zeros(len(missing), np.int64)
    np.maximum.at(run, rows.code[1:], gaps)
    bad = (share > FILLED) | (run > longest)
    if not bad.any():
        return
    series = int(np.argmax(bad))
    after = int(np.argmax((rows.code[1:] == series) & (gaps == run[series])))
    start = following((rows.stamps[after],), 1, frequency)[0]
    raise ElmanError(
        f"{rows.series(after)} has too much missing: {share[series]:.1%} of its values, and from {shown(start)} on "
        f"{counted(run[series], 'step')} in a row; at most {FILLED:.0%} and {longest} in a row are filled. "
        f"Fill them, remove the series, or give another frequency than {frequency.alias} (--frequency)."
    )


def _filled(rows: Rows, value: Floats, position: Ints, lengths: Ints) -> tuple[Floats, ...]:
    """Each series' values (length,). Ends are present, so that interpolation stays inside a series."""
    borders = np.concatenate(([0], np.cumsum(lengths)))
    target = position - position[rows.starts][rows.code] + borders[:-1][rows.code]
    values = np.full(borders[-1], np.nan)
    values[target] = value
    holes = np.flatnonzero(np.isnan(values))
    values[holes] = np.interp(holes, target, value)
    return tuple(values[start:end] for start, end in itertools.pairwise(borders.tolist()))


# Tables


def _pandas_frame(panel: Panel, horizon: int, times: Any, flat: dict[str, Floats]) -> Any:
    pandas = module("pandas")
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
    polars = module("polars")
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
