"""Time steps: how far apart the values of a series are, which step a row is, and what follows.

Times are numbers: on the wall clock for days and longer, in UTC for what is shorter. Knows nothing of values.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data import ElmanError
from elman.tables import Ints, Rows, instants, module, shown

_ATTEMPTS = 20  # series that are asked for their frequency
_REGULAR = 0.5  # of all differences: below this, the most common one is no frequency
_DAY = 86_400 * 10**9  # nanoseconds
_CYCLE = {"B": 5, "C": 5, "W": 52, "SMS": 24, "SME": 24}  # steps in a week or a year, by pandas' alias
_CYCLE |= dict.fromkeys(("MS", "ME", "BMS", "BME", "CBMS", "CBME", "WOM", "LWOM"), 12)
_CYCLE |= dict.fromkeys(("QS", "QE", "BQS", "BQE"), 4)
_CYCLES = {"hour of day": 1.0, "day of week": 7.0, "day of month": 30.4, "day of year": 365.0}  # days
_WORK = {"day of week": 5.0, "day of month": 21.0, "day of year": 260.0}  # of the same, days of work
_QUARTERS = ("JAN APR JUL OCT", "FEB MAY AUG NOV", "MAR JUN SEP DEC")  # anchors of the same quarters
_SAME = {
    f"{kind}-{month}": kind + ("" if i == usual else f"-{months[:3]}")
    for kind, usual in (("QS", 0), ("QE", 2), ("BQS", 0), ("BQE", 2))
    for i, months in enumerate(_QUARTERS)
    for month in months.split()
} | {"YS-JAN": "YS", "YE-DEC": "YE", "BYS-JAN": "BYS", "BYE-DEC": "BYE"}


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
    def cycles(self) -> dict[str, float]:
        """Steps in a period, of what comes back by the calendar and lasts longer than a step."""
        return {} if self.integer else _cycles(_offset(self.alias))

    @property
    def integer(self) -> bool:
        """Whether times are integers."""
        return self.alias.isdecimal()


# Aliases


def _offset(alias: str) -> Any:
    """pandas' offset; those of fixed length in their largest unit: 60min is h."""
    pandas = module("pandas")
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
    pandas = module("pandas")
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


def _cycles(offset: Any) -> dict[str, float]:
    length, kind = _nanoseconds(offset), _kind(offset)
    if length is not None:
        found = {name: days * _DAY / length for name, days in _CYCLES.items()}
        if length < _DAY:
            del found["day of month"]
    elif kind in ("B", "C"):
        found = {name: days / offset.n for name, days in _WORK.items()}
    else:
        steps = _CYCLE.get(kind, 0) / offset.n
        found = {"day of year" if kind in ("W", "SMS", "SME") else "month of year": steps}
    return {name: steps for name, steps in found.items() if steps > 1}


# Inference


def found_frequency(rows: Rows, given: str | int | None) -> Frequency:
    if given is None:
        return Frequency.parse(_common(rows) if rows.integer else _inferred(rows) or _common(rows))
    if str(given) == "W" and not rows.integer:
        given = f"W-{_weekday(rows.stamps[0])}"
    frequency = Frequency.parse(given)
    if frequency.integer != rows.integer:
        have, need = ("integers", "a number, as 1") if rows.integer else ("dates", "an alias, as h, D or MS")
        raise ElmanError(f"the times are {have}, and the frequency is {given}: give {need} (--frequency).")
    return frequency


def _inferred(rows: Rows) -> str | None:
    """pandas' inference on the longest series that it can tell the frequency of."""
    pandas, starts = module("pandas"), rows.starts
    lengths = np.diff(starts, append=len(rows.code))
    for i in np.argsort(-lengths, kind="stable")[:_ATTEMPTS]:
        if lengths[i] < max(3, lengths.max() / 2):
            break
        found = _quiet(pandas.infer_freq, rows.stamps[starts[i] : starts[i] + lengths[i]])
        alias = getattr(found, "freqstr", found)
        if alias is not None and "bh" not in alias:  # pandas finds hours that its own business hours are not
            return str(alias)
    return None


def _common(rows: Rows) -> str:
    """The most common difference between neighbours, as an alias. Raises ElmanError if there is none."""
    inside = np.diff(rows.code) == 0
    if not inside.any():
        raise _no_frequency("no series has two time stamps")
    step, at, share = _mode(np.diff(instants(rows.stamps)), inside)
    if rows.integer:
        alias: str | None = str(step)
    else:
        pandas = module("pandas")
        length = pandas.Timedelta(int(step), unit=rows.stamps.unit)
        if length < pandas.Timedelta(1, unit="D"):
            alias = pandas.tseries.frequencies.to_offset(length).freqstr
        else:
            alias, share = _calendar(rows, inside)
    if alias is None or share < _REGULAR:
        raise _no_frequency(
            f"the most common difference, as after {shown(rows.stamps[at])}, is not common enough"
        )
    return alias


def _mode(differences: Ints, inside: NDArray[np.bool_]) -> tuple[int, int, float]:
    """(the most common difference, a place where it is, its share of those `inside`)."""
    found, first, counts = np.unique(differences[inside], return_index=True, return_counts=True)
    best = int(np.argmax(counts))
    at = np.flatnonzero(inside)[first[best]]
    return int(found[best]), int(at), float(counts[best] / inside.sum())


def _calendar(rows: Rows, inside: NDArray[np.bool_]) -> tuple[str | None, float]:
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


# Steps


def numbered(stamps: Any, frequency: Frequency) -> tuple[Ints, int | None]:
    """(times (n,), the step between neighbours in their unit, None if it varies)."""
    if frequency.integer:
        return instants(stamps), int(frequency.alias)
    offset = _offset(frequency.alias)
    length = _nanoseconds(offset)
    if length is None or _kind(offset) == "D":
        stamps = stamps.tz_localize(None)
    if length is None:
        return instants(stamps), None
    if stamps.unit == "us" and length % 1_000:
        raise ElmanError(
            f"the frequency {frequency.alias} is finer than the time stamps, which are microseconds."
        )
    return instants(stamps), length // (1_000 if stamps.unit == "us" else 1)


def positions(rows: Rows, frequency: Frequency, origins: tuple[Any, ...] | None = None) -> Ints:
    """(n,) steps since each series' first row, or since its `origins`. Raises ElmanError for rows between steps."""
    numbers, step = numbered(rows.stamps, frequency)
    firsts = numbers[rows.starts] if origins is None else numbered(_index(origins, rows.stamps), frequency)[0]
    if step is not None:
        position, rest = np.divmod(numbers - firsts[rows.code], step)
    else:
        grid = _grid(np.append(numbers, firsts), rows.stamps.unit, frequency)
        place = np.minimum(np.searchsorted(grid, numbers), len(grid) - 1)
        position, rest = place - np.searchsorted(grid, firsts)[rows.code], numbers - grid[place]
    if rest.any():
        raise _off(rows, int(np.argmax(rest != 0)), frequency)
    return position


def _index(stamps: tuple[Any, ...], like: Any = None) -> Any:
    """Time stamps as a pandas index of `like`'s unit, or in microseconds or finer; or of int64."""
    pandas = module("pandas")
    if not isinstance(stamps[0], pandas.Timestamp):
        return pandas.Index(np.array(stamps, np.int64))
    index = pandas.DatetimeIndex(stamps)
    coarse = "us" if index.unit in ("s", "ms") else index.unit
    return index.as_unit(coarse if like is None else like.unit)


def _grid(numbers: Ints, unit: str, frequency: Frequency) -> Ints:
    """All times of a calendar frequency between the least and the greatest of `numbers`."""
    pandas = module("pandas")
    least, greatest = pandas.DatetimeIndex(np.array([numbers.min(), numbers.max()]).view(f"M8[{unit}]"))
    grid = _quiet(pandas.date_range, least, greatest, None, _offset(frequency.alias))
    return np.asarray(grid.as_unit(unit).asi8 if len(grid) else np.zeros(1, np.int64))


def _off(rows: Rows, i: int, frequency: Frequency) -> ElmanError:
    stamp = rows.stamps[i]
    day = "" if rows.integer else f" ({stamp.day_name()})"
    return ElmanError(
        f"{rows.series(i)} leaves the frequency {frequency.alias} at {shown(stamp)}{day}, "
        f"{rows.where(i)}: correct the time stamp, or give another frequency (--frequency)."
    )


def following(ends: tuple[Any, ...], horizon: int, frequency: Frequency) -> Any:
    """The `horizon` times after each of `ends`, (series · horizon,), as a pandas index."""
    pandas = module("pandas")
    if frequency.integer:
        steps = np.arange(1, horizon + 1) * int(frequency.alias)
        return pandas.Index((np.array(ends, np.int64)[:, None] + steps).reshape(-1))
    index = _index(ends)
    numbers, step = numbered(index, frequency)
    if step is not None:
        times = numbers[:, None] + np.arange(1, horizon + 1) * step
    else:
        times = _calendar_steps(numbers, index.unit, horizon, frequency)
    naive = pandas.DatetimeIndex(times.reshape(-1).view(f"M8[{index.unit}]"))
    return _zoned(naive, index.tz, utc=step is not None and _kind(_offset(frequency.alias)) != "D")


def _calendar_steps(numbers: Ints, unit: str, horizon: int, frequency: Frequency) -> Ints:
    pandas, offset = module("pandas"), _offset(frequency.alias)
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


def timeline(starts: tuple[Any, ...], lengths: Ints, frequency: Frequency) -> tuple[Any, Ints]:
    """(times on the wall clock (T,), the place (series,) from which on they are those of each series' steps)."""
    pandas, index = module("pandas"), _index(starts)
    firsts, step = numbered(index, frequency)
    if step is None:
        begin = np.searchsorted(_grid(firsts, index.unit, frequency), firsts)
        times = _calendar_steps(
            firsts.min(keepdims=True), index.unit, int((begin + lengths).max()) - 1, frequency
        )
        times = np.append(firsts.min(), times)
    else:
        times, begin = _shared(firsts, lengths, step)
    naive = pandas.DatetimeIndex(times.view(f"M8[{index.unit}]"))
    utc = step is not None and _kind(_offset(frequency.alias)) != "D"
    return (_zoned(naive, index.tz, utc=True).tz_localize(None) if utc else naive), begin


def _shared(firsts: Ints, lengths: Ints, step: int) -> tuple[Ints, Ints]:
    """(times (T,), where each series begins in them): one stretch of times for all series that overlap in it."""
    ends, begin, size = firsts + lengths * step, np.empty_like(firsts), 0
    stretches: list[list[int]] = []  # first time, end, place of the first
    for i in np.lexsort((firsts, firsts % step)).tolist():
        first, end = int(firsts[i]), int(ends[i])
        if not stretches or (first - stretches[-1][0]) % step or first > stretches[-1][1]:
            stretches.append([first, end, size])
        low, high, place = stretches[-1]
        begin[i] = place + (first - low) // step
        stretches[-1][1] = max(high, end)
        size = place + (stretches[-1][1] - low) // step
    return np.concatenate([np.arange(low, high, step) for low, high, _ in stretches]), begin
