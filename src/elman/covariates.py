"""What a table knows besides the target: columns as numbers, by series and step, and the calendar.

A covariate is past (known up to now), future (known ahead as well) or static (one value in each series). How columns
become numbers is learned once and kept with the model. Arrays out; knows nothing of models.

Letters: S series, n steps of a series, P, F and Z numbers of past, future and static.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from elman.columns import Column, Singles, check_present, learned, matrix, width_of
from elman.data import ElmanError
from elman.frames import Panel
from elman.frequency import following, positions, timeline
from elman.tables import (
    Floats,
    Ints,
    Rows,
    Table,
    check_column,
    check_columns,
    counted,
    module,
    open_table,
    shown,
)

_ROLES = ("past", "future", "static")


@dataclass(frozen=True)
class Encoding:
    """How covariates become numbers, learned from the training table."""

    past: tuple[Column, ...] = ()
    future: tuple[Column, ...] = ()
    static: tuple[Column, ...] = ()
    calendar: tuple[str, ...] = ()  # "hour of day sin", …: these follow the columns of `future`

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(P, F, Z)."""
        return width_of(self.past), width_of(self.future) + len(self.calendar), width_of(self.static)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        columns = {role: [column.as_dict() for column in getattr(self, role)] for role in _ROLES}
        return columns | {"calendar": list(self.calendar)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """What `as_dict` gave."""
        past, future, static = (tuple(map(Column.from_dict, values[role])) for role in _ROLES)
        return cls(past, future, static, tuple(values["calendar"]))


@dataclass(frozen=True)
class Features:
    """Covariates as numbers. Those of several series may share memory: they are read, not written."""

    past: tuple[Singles, ...]  # each (n, P)
    future: tuple[Singles, ...]  # each (n + ahead + beyond, F)
    static: Singles  # (S, Z)
    notes: tuple[str, ...]  # what was done to the data, a sentence each


def learn(
    table: Any,
    panel: Panel,
    past: Iterable[str] = (),
    future: Iterable[str] = (),
    static: Iterable[str] = (),
    calendar: bool | None = None,
) -> Encoding:
    """How these columns of the table that `panel` was read from become numbers, by the steps that have a target.

    calendar: True for all cycles that suit the frequency, False for none, None for the time of the year where the
    longest series has seen two years: shorter cycles are seasons, which windows show. Raises ElmanError for columns
    that cannot be used.
    """
    named = dict(zip(_ROLES, map(listed, (past, future, static)), strict=True))
    waves = _waves(panel, calendar)
    if not any(named.values()):
        return Encoding(calendar=waves)
    table = _opened(table, panel)
    _check_roles(table, panel, named)
    rows, _ = _known(*_placed(table, panel), _lengths(panel))
    firsts = rows.take(rows.starts)
    columns = {
        role: tuple(learned(table, firsts if role == "static" else rows, name, role) for name in names)
        for role, names in named.items()
    }
    return Encoding(columns["past"], columns["future"], columns["static"], waves)


def encode(
    table: Any, panel: Panel, encoding: Encoding, ahead: int, future_table: Any = None, beyond: int = 0
) -> Features:
    """The covariates of the panel's series, and of the `ahead` steps after each what is known of the future.

    That stands in later rows of the table, without a target, or else in `future_table`: another table with the same
    columns of ids and times. Of `beyond` more steps the calendar is told; the columns repeat their last. Raises
    ElmanError for values that are missing, infinite or, static, not constant.
    """
    lengths, notes = _lengths(panel), list[str]()
    past = known = np.zeros((int(lengths.sum()), 0), np.float32)
    static = np.zeros((len(lengths), 0), np.float32)
    later = np.zeros((len(lengths) * ahead, width_of(encoding.future)), np.float32)
    if ahead and future_table is not None and not encoding.future:
        raise ElmanError("no covariates of the future are known to the model: leave their table out.")
    if encoding.past or encoding.future or encoding.static:
        table = _opened(table, panel)
        _check_columns(table, encoding)
        every, place = _placed(table, panel)
        rows, steps = _known(every, place, lengths)
        source = _carried(rows, steps, lengths, notes) if encoding.past or encoding.future else slice(None)
        past = matrix(table, rows, encoding.past, "past", notes)[source]
        known = matrix(table, rows, encoding.future, "future", notes)[source]
        static = _static(table, rows, encoding.static, notes)
        if ahead and encoding.future:
            if future_table is not None:
                table, every, place = _ahead_of(future_table, table, panel, encoding.future)
            later = _later(table, every, place, panel, encoding.future, ahead, notes)
    clock = _clock(panel, encoding.calendar, lengths + ahead + beyond)
    parts = zip(_cut(known, lengths), _cut(later, np.full(len(lengths), ahead)), clock, strict=True)
    future = tuple(_joined(*part) for part in parts)
    return Features(_cut(past, lengths), future, static, tuple(dict.fromkeys(notes)))


def _opened(table: Any, panel: Panel) -> Table:
    return open_table(table, panel.columns[0] if panel.has_id else None, panel.columns[1])


def _lengths(panel: Panel) -> Ints:
    return np.array([len(values) for values in panel.values])


def listed(names: Iterable[str]) -> tuple[str, ...]:
    """One name, or several."""
    return (names,) if isinstance(names, str) else tuple(names)


def _check_columns(table: Table, encoding: Encoding) -> None:
    for role in _ROLES:
        for column in getattr(encoding, role):
            check_column(table, column.name, f"--{role}")


def _check_roles(table: Table, panel: Panel, named: dict[str, tuple[str, ...]]) -> None:
    id, time, target = panel.columns
    seen: dict[str, str] = {}
    for role, name in ((role, name) for role, names in named.items() for name in names):
        check_column(table, name, f"--{role}")
        if name == time or (panel.has_id and name == id):
            what = "times" if name == time else "ids"
            raise ElmanError(
                f"{name} is the column of {what}, which is no covariate: leave it out of --{role}."
            )
        if name == target and role != "past":
            raise ElmanError(f"{name} is the target, which is not known ahead: it can only be a --past one.")
        if name in seen:
            raise ElmanError(f"the column {name} is named in --{seen[name]} and in --{role}: name it once.")
        seen[name] = role


# Rows and steps


def _series_of(rows: Rows, code: Ints, panel: Panel) -> Rows:
    """Rows whose series are numbered as the panel's are, by `code` (ids,), -1 for none; without those of none."""
    code = code[rows.code]
    if (code < 0).any():
        rows, code = rows.take(np.flatnonzero(code >= 0)), code[code >= 0]
    return Rows(panel.ids, code, rows.stamps, rows.row, rows.place)


def _placed(table: Table, panel: Panel) -> tuple[Rows, Ints]:
    """(the table's rows of the panel's series, their steps since the series' start)."""
    rows, _ = table.ordered
    place = {id: i for i, id in enumerate(panel.ids)}
    rows = _series_of(rows, np.array([place.get(id, -1) for id in rows.ids]), panel)
    if len(rows.starts) != len(panel.ids):
        raise ElmanError("the panel was not read from this table: read it again, then encode.")
    return rows, positions(rows, panel.frequency, panel.starts)


def _known(rows: Rows, steps: Ints, lengths: Ints) -> tuple[Rows, Ints]:
    """Those from the first to the last target of each series."""
    inside = (steps >= 0) & (steps < lengths[rows.code])
    return (rows, steps) if inside.all() else (rows.take(np.flatnonzero(inside)), steps[inside])


def _carried(rows: Rows, steps: Ints, lengths: Ints, notes: list[str]) -> Ints | slice:
    """For each step of each series, the last row at it or before it; the first step has one."""
    missing = lengths - np.bincount(rows.code, minlength=len(lengths))
    if not missing.any():
        return slice(None)
    notes.append(
        f"Over {counted(missing.sum(), 'step')} without a row, in {counted(np.count_nonzero(missing), 'series')}, "
        "the last known covariates were carried forward."
    )
    at = steps + (np.cumsum(lengths) - lengths)[rows.code]
    return np.repeat(np.arange(len(at)), np.diff(at, append=lengths.sum()))


def _later(
    table: Table,
    rows: Rows,
    steps: Ints,
    panel: Panel,
    columns: tuple[Column, ...],
    ahead: int,
    notes: list[str],
) -> Singles:
    """(S · ahead, numbers of `columns`), from rows with their steps. Raises ElmanError where a step has no row."""
    steps = steps - _lengths(panel)[rows.code]
    inside = np.flatnonzero((steps >= 0) & (steps < ahead))
    at = rows.code[inside] * ahead + steps[inside]
    order = np.argsort(at, kind="stable")
    _check_complete(at[order], panel, ahead, ", ".join(column.name for column in columns))
    return matrix(table, rows.take(inside[order]), columns, "future", notes)


def _ahead_of(
    source: Any, table: Table, panel: Panel, columns: tuple[Column, ...]
) -> tuple[Table, Rows, Ints]:
    """(the table of the future, its rows after the end of the panel's series, their steps since the series' start)."""
    later = _opened(source, panel)
    check_columns(later)
    for column in columns:
        check_column(later, column.name, "--future", "the table of the future")
    if panel.has_id:
        check_column(later, panel.columns[0], "--id", "the table of the future")
    rows = _same_times(later.ordered[0], panel)
    _check_ids(rows, {str(id) for id in table.ordered[0].ids})
    place = {str(id): i for i, id in enumerate(panel.ids)}  # text: in a file, ids may look like numbers
    rows = _series_of(rows, np.array([place.get(str(id), -1) for id in rows.ids]), panel)
    ends = module("pandas").Index(list(panel.ends))
    rows = rows.take(np.flatnonzero(rows.stamps > ends[rows.code]))
    return later, rows, positions(rows, panel.frequency, panel.starts)


def _same_times(rows: Rows, panel: Panel) -> Rows:
    """In the panel's time zone."""
    if rows.integer != panel.frequency.integer:
        raise ElmanError(
            "the table of the future and the table have times of different kinds: dates and numbers."
        )
    if rows.integer:
        return rows
    zone, theirs = panel.ends[0].tz, rows.stamps.tz
    if (zone is None) != (theirs is None):
        raise ElmanError(
            "of the table of the future and the table, one has a time zone and the other has none: write both "
            "in the same zone."
        )
    stamps = rows.stamps if zone is None else rows.stamps.tz_convert(zone)
    return Rows(rows.ids, rows.code, stamps, rows.row, rows.place)


def _check_ids(rows: Rows, known: set[str]) -> None:
    unknown = [str(id) for id in rows.ids if str(id) not in known]
    if unknown:
        more = f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else ""
        raise ElmanError(
            f"the table of the future has series that the table has not: {', '.join(unknown[:5])}{more}. "
            "Remove them, or add their past to the table."
        )


def _check_complete(at: Ints, panel: Panel, ahead: int, names: str) -> None:
    steps = len(panel.ids) * ahead
    if len(at) == steps:
        return
    gaps = np.flatnonzero(at != np.arange(len(at)))
    series, step = divmod(int(gaps[0]) if len(gaps) else len(at), ahead)
    stamp = following((panel.ends[series],), step + 1, panel.frequency)[-1]
    raise ElmanError(
        f"series {panel.ids[series]} has no {names} for {shown(stamp)}, step {step + 1} of {ahead} ahead: add a row "
        "to the table for each of them, with the target left empty, or give these rows in a table of their own."
    )


def _static(table: Table, rows: Rows, columns: tuple[Column, ...], notes: list[str]) -> Singles:
    """(S, numbers of `columns`). Raises ElmanError where one varies in a series."""
    for column in columns:
        values = table.column(column.name).iloc[rows.row]
        check_present(values, rows, column.name)
        code = module("pandas").factorize(values)[0]
        first = rows.starts[rows.code]
        other = code != code[first]
        if other.any():
            i = int(np.argmax(other))
            raise ElmanError(
                f"{column.name} varies in {rows.series(i)}: it is {values.iloc[first[i]]} in {rows.where(first[i])} "
                f"and {values.iloc[i]} in {rows.where(i)}. Correct it, or name it in --past or --future."
            )
    return matrix(table, rows.take(rows.starts), columns, "static", notes)


# Calendar


def _waves(panel: Panel, wanted: bool | None) -> tuple[str, ...]:
    """Names of the calendar's features: two of each cycle."""
    if wanted is False or (wanted is None and panel.frequency.integer):
        return ()
    if panel.frequency.integer:
        raise ElmanError(
            "the times are whole numbers, which have no calendar: give dates, or leave it out (--calendar)."
        )
    longest = max(len(values) for values in panel.values)
    seasons = panel.frequency.seasons
    found = (
        name
        for name, steps in panel.frequency.cycles.items()
        if wanted or (name == "day of year" and longest >= 2 * steps and round(steps) not in seasons)
    )
    return tuple(f"{name} {wave}" for name in found for wave in ("sin", "cos"))


def _clock(panel: Panel, waves: tuple[str, ...], lengths: Ints) -> tuple[Singles, ...]:
    """Each series' calendar features (n, waves): parts of one array, where series share their times."""
    if not waves:
        none = np.zeros((int(lengths.max()), 0), np.float32)
        return tuple(none[:n] for n in lengths.tolist())
    times, begin = timeline(panel.starts, lengths, panel.frequency)
    found = np.empty((len(times), len(waves)), np.float32)
    for k, name in enumerate(waves):
        cycle, _, wave = name.rpartition(" ")
        found[:, k] = getattr(np, wave)(2 * math.pi * _phase(times, cycle))
    return tuple(found[b : b + n] for b, n in zip(begin.tolist(), lengths.tolist(), strict=True))


def _phase(times: Any, cycle: str) -> Floats:
    """(T,) how far each time is in its cycle, from 0 to 1."""
    if cycle == "hour of day":
        return np.asarray((times - times.normalize()) / module("pandas").Timedelta(1, unit="D"))
    if cycle == "day of week":
        return np.asarray(times.day_of_week / 7)
    if cycle == "day of month":
        return np.asarray((times.day - 1) / times.days_in_month)
    if cycle == "day of year":
        return np.asarray((times.day_of_year - 1) / (365 + times.is_leap_year))
    return np.asarray((times.month - 1) / 12)


# Series


def _cut(flat: Singles, lengths: Ints) -> tuple[Singles, ...]:
    borders = [0, *np.cumsum(lengths).tolist()]
    return tuple(flat[start:end] for start, end in itertools.pairwise(borders))


def _joined(known: Singles, later: Singles, clock: Singles) -> Singles:
    """(N, F) from (n, columns), (ahead, columns) and (N, waves), the last row of columns repeated; without a copy where
    the calendar is all."""
    if not known.shape[1]:
        return clock
    columns = np.vstack((known, later))
    rest = np.repeat(columns[-1:], len(clock) - len(columns), axis=0)
    return np.hstack((np.vstack((columns, rest)), clock))
