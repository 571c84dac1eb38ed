"""Windows of series: how much a forecaster reads, how it is scaled, and what simple rules would forecast from it.

Shared by training and by inference without PyTorch: arrays in, arrays out. It knows nothing of networks or files.

Letters: B windows, L values read, H values forecast, R segments forecast, A = R * segment, K simple forecasts
(`bases`), P, F and S numbers known of the past, of the future and of a series as a whole.
"""

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from elman.data import ElmanError

Floats = npt.NDArray[np.floating[Any]]

LONGEST_SEGMENT = 48
_PART = 24
_MOST_READ = 768
_FLOOR = 1e-3  # of the level: the scale of a window that hardly moves


def _nothing() -> npt.NDArray[np.float32]:
    return np.zeros((0, 0), np.float32)


@dataclass(frozen=True, eq=False)
class Series:
    """Values (n,) and what else is known: past (n, P), future (n + steps ahead, F), static (S,)."""

    values: Floats
    past: npt.NDArray[np.float32] = field(default_factory=_nothing)
    future: npt.NDArray[np.float32] = field(default_factory=_nothing)
    static: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def deviation(self) -> float:
        """The mean distance of its values from their mean."""
        return float(np.abs(self.values - self.values.mean()).mean())

    def before(self, end: int) -> "Series":
        """Its first values. The future covariates stay: they are known."""
        return replace(self, values=self.values[:end], past=self.past[:end])

    def followed_by(self, values: Floats) -> "Series":
        """The same with what comes next. Nothing is known of its past covariates."""
        return replace(self, values=np.concatenate((self.values, values)))


def checksum(series: Sequence[Series]) -> str:
    """What tells these series from others."""
    found = 0
    for one in series:
        for known in (one.values, one.past, one.future, one.static):
            found = zlib.crc32(np.ascontiguousarray(known).tobytes(), found)
    return f"{found:08x}"


@dataclass(frozen=True)
class Shape:
    """What one window is. `input_length` and the forecast are cut into segments of `segment` values each.

    seasons: season lengths in steps, shortest first; (1,) of none. past, future, static: P, F, S.
    """

    input_length: int
    horizon: int
    segment: int
    seasons: tuple[int, ...]
    past: int = 0
    future: int = 0
    static: int = 0

    @property
    def segments(self) -> int:
        """Of the forecast, the last of which may reach beyond the horizon."""
        return -(-self.horizon // self.segment)

    @property
    def lags(self) -> tuple[tuple[int, int], ...]:
        """(steps back, period) of each simple forecast that repeats a season: the last of each length, and the
        one before the last of the longest."""
        found = [(m, m) for m in self.seasons if 1 < m <= self.input_length]
        if found and 2 * found[-1][0] <= self.input_length:
            found.append((2 * found[-1][0], found[-1][0]))
        return tuple(found)

    @property
    def bases(self) -> int:
        """K: those, the last value, the level, the line through the first and the last value, and, where the window
        holds two of the longest season, the last one moved by its distance from the one before."""
        return len(self.lags) + 3 + (self.moving > 0)

    @property
    def moving(self) -> int:
        """The season of the last of the bases; 0 without one."""
        longest = self.lags[-1][1] if self.lags else 0
        return longest if 2 * longest <= self.input_length else 0

    @property
    def cautious(self) -> tuple[int, int]:
        """Two bases whose mean is a good guess for any series: a season, or the last value, with half its trend."""
        count = len(self.lags)
        if self.moving:
            return count - 2, count + 3
        return (count - 1, count - 1) if count else (0, 2)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"seasons": list(self.seasons)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """What `as_dict` gave."""
        return cls(**{**values, "seasons": tuple(values["seasons"])})


def sensible_shape(horizon: int, seasons: Sequence[int], lengths: Sequence[int]) -> Shape:
    """What to read for series of these lengths: two of the longest seasons that most series have, in segments of
    the shortest season."""
    typical = int(np.median(lengths)) - horizon
    seasons = tuple(m for m in seasons if m == 1 or 2 * m <= max(typical, 2)) or (1,)
    segment = next((m for m in seasons if 1 < m <= LONGEST_SEGMENT), 1)
    if segment == 1:  # of a year of weeks, quarters; of a day of minutes, as many as divide it
        segment = max(d for d in range(1, _PART + 1) if seasons[0] % d == 0)
    longest = seasons[-1]
    wanted = 2 * longest if longest > 1 else min(32, max(4, typical // 2))
    wanted = min(max(wanted, 2 * segment, min(2 * horizon, typical)), _MOST_READ, max(segment, typical))
    return Shape(max(1, wanted // segment) * segment, horizon, segment, tuple(seasons))


def least_length(shape: Shape) -> int:
    """The fewest values that a forecast is made from."""
    return max(2, min(shape.input_length, shape.seasons[0] + 1))


def window(series: Series, end: int, shape: Shape) -> npt.NDArray[np.float32]:
    """What is read to forecast from `end` on, flat: L values, L * P of the past, (L + A) * F of the future, S."""
    x = _values(series.values, end, shape)
    if not (shape.past or shape.future or shape.static):
        return x
    first, ahead = end - shape.input_length, shape.segments * shape.segment
    parts = [x]
    for known, steps in ((series.past, 0), (series.future, ahead)):
        if known.shape[1]:
            places = np.arange(first, end + steps).clip(0, len(known) - 1)
            parts.append(known[places].reshape(-1))
    return np.concatenate((*parts, series.static), dtype=np.float32)


def unpacked(x: Any, shape: Shape) -> tuple[Any, Any, Any, Any]:
    """Windows (B, ·), as `window` makes them, of any library → values (B, L), past (B, L, P), future (B, L + A, F),
    static (B, S)."""
    length = shape.input_length
    whole = length + shape.segments * shape.segment
    borders = np.cumsum([0, length, length * shape.past, whole * shape.future, shape.static])
    values, past, future, static = (x[:, a:b] for a, b in itertools.pairwise(borders))
    return (
        values,
        past.reshape(len(x), length, shape.past),
        future.reshape(len(x), whole, shape.future),
        static,
    )


def _values(values: Floats, end: int, shape: Shape) -> npt.NDArray[np.float32]:
    """The L values before `end`. Where a series begins later, its first season is repeated backwards, the longest
    that it has whole; without one, its first value."""
    length = shape.input_length
    known = values[max(0, end - length) : end]
    missing = length - len(known)
    if missing <= 0:
        return known.astype(np.float32)
    period = max((m for m in shape.seasons if m <= len(known)), default=1)
    first = known[:period]
    padding = first[np.arange(-missing, 0) % period]
    return np.concatenate((padding, known)).astype(np.float32)


def scaled(x: Floats, shape: Shape) -> tuple[Floats, Floats, Floats]:
    """x (B, L) → (x - level) / scale, level (B, 1), scale (B, 1).

    The level is the mean of the last longest season, the scale the mean distance from it over the whole window.
    """
    last = min(shape.input_length, max(shape.seasons[-1], min(4, shape.input_length)))
    level = x[:, -last:].mean(axis=1, keepdims=True)
    scale = np.abs(x - level).mean(axis=1, keepdims=True)
    scale = scale + _FLOOR * np.abs(level) + np.float32(1e-9)
    return (x - level) / scale, level, scale


def bases(z: Floats, shape: Shape) -> Floats:
    """What simple rules forecast from scaled windows z (B, L): (B, R * segment, K)."""
    ahead = np.arange(shape.segments * shape.segment)
    length = shape.input_length
    found = [z[:, length - lag + ahead % period] for lag, period in shape.lags]
    last = np.repeat(z[:, -1:], len(ahead), axis=1)
    slope = (z[:, -1:] - z[:, :1]) / max(1, length - 1)
    found += [last, np.zeros_like(last), last + (ahead + 1).astype(z.dtype) * slope]
    if m := shape.moving:
        change = z[:, -m:].mean(axis=1, keepdims=True) - z[:, -2 * m : -m].mean(axis=1, keepdims=True)
        found.append(z[:, length - m + ahead % m] + change * (1 + ahead // m).astype(z.dtype))
    return np.stack(found, axis=-1)


def error_scale(values: Floats, period: int) -> float:
    """The mean error of the seasonal naive forecast within a series: MASE's scale (Hyndman and Koehler, "Another
    look at measures of forecast accuracy", 2006). 0 of a series that repeats itself."""
    period = period if period < len(values) else 1
    return float(np.abs(values[period:] - values[:-period]).mean()) if len(values) > period else 0.0


def check_horizon(horizon: Any, name: str = "horizon") -> int:
    """Raises ElmanError unless it is a whole number of at least 1."""
    if not isinstance(horizon, int) or isinstance(horizon, bool) or horizon < 1:
        raise ElmanError(f"{name} must be a whole number, at least 1, not {horizon!r}.")
    return horizon


def check_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """Interval levels in percent, sorted. Raises ElmanError unless each lies between 0 and 100."""
    found = []
    for level in levels:
        if not isinstance(level, int | float) or isinstance(level, bool) or not 0 < level < 100:
            raise ElmanError(f"levels must be percentages between 0 and 100, not {level!r}.")
        found.append(float(level))
    return tuple(sorted(set(found)))


def bounds(levels: Sequence[float]) -> list[tuple[float, int, int]]:
    """(level, place of its lower end, of its upper end) among `quantiles`, the widest interval first."""
    last = 2 * len(levels)
    return [(level, k, last - k) for k, level in enumerate(sorted(levels, reverse=True))]


def quantiles(levels: Sequence[float]) -> list[float]:
    """The quantiles that a median and these intervals need, ascending: 80 → 0.1, 0.5, 0.9."""
    halves = [(100 - level) / 200 for level in levels]
    return sorted({0.5, *halves, *(1 - h for h in halves)})
