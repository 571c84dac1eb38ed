"""From a table to the series that a forecaster learns from, and from its numbers back to a table.

Several targets are several series that share what else is known of them: one network learns from all. Knows tables and
covariates; nothing of networks.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elman import covariates, frames
from elman.checkpoint import write_whole
from elman.covariates import Encoding
from elman.data import ElmanError
from elman.frequency import following
from elman.series_plot import Drawing
from elman.windows import Floats, Series


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what. Without an `id` column a table is one series."""

    id: str
    time: str
    targets: tuple[str, ...]
    past: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    static: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        lists = {name: list(getattr(self, name)) for name in ("targets", "past", "future", "static")}
        return {"id": self.id, "time": self.time, **lists}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Columns":
        """What `as_dict` gave."""
        lists = {name: tuple(values[name]) for name in ("targets", "past", "future", "static")}
        return cls(values["id"], values["time"], **lists)


@dataclass(frozen=True)
class Data:
    """The series of a table, target by target: names for messages, and what was done to them."""

    panels: tuple[frames.Panel, ...]  # one of each target, of the same series
    series: tuple[Series, ...]
    names: tuple[str, ...]
    encoding: Encoding
    notes: tuple[str, ...]

    @property
    def frequency(self) -> frames.Frequency:
        return self.panels[0].frequency

    def chosen(self, ids: Sequence[str] | None) -> list[int]:
        """Numbers of the series with these ids, as text; of all when None. Raises ElmanError for an unknown one."""
        if ids is None:
            return list(range(len(self.series)))
        known: dict[str, list[int]] = {}
        for k in range(len(self.series)):
            known.setdefault(str(self.panels[0].ids[k % len(self.panels[0].ids)]), []).append(k)
        absent = [name for name in ids if str(name) not in known]
        if absent:
            some = ", ".join(list(known)[:5]) + (", ..." if len(known) > 5 else "")
            raise ElmanError(f"the table has no series {', '.join(map(str, absent))}; it has {some}.")
        return [k for name in ids for k in known[str(name)]]

    def drawing(self, k: int, end: int, columns: Mapping[str, Floats], came: bool) -> Drawing:
        """Series k up to value `end`, and its forecast, each of `columns` (steps,). came: with what followed."""
        one = self.series[k]
        middle = "median" if "median" in columns else "mean"
        steps = len(columns[middle])
        whole = self.times(k, end + steps)
        levels = [float(name.removeprefix("lo-")) for name in columns if name.startswith("lo-")]
        intervals = {level: (columns[f"lo-{level:g}"], columns[f"hi-{level:g}"]) for level in levels}
        return Drawing(
            self.names[k], whole[:end], one.values[:end], whole[end:], columns[middle], middle, intervals,
            one.values[end : end + steps] if came else None,
        )  # fmt: skip

    def times(self, k: int, count: int) -> Any:
        """The first `count` time steps of series k (count,), of those that it has and of those that follow."""
        panel = self.panels[0]
        start = panel.starts[k % len(panel.ids)]
        times = following((start,), count - 1, panel.frequency)
        times = (times.tz_localize(None) if getattr(times, "tz", None) else times).to_numpy()
        first = getattr(start, "tz_localize", lambda _: start)(None)
        return np.concatenate((np.array([first]).astype(times.dtype), times))

    def frame(self, steps: int, columns: Mapping[str, Floats]) -> Any:
        """A table of forecasts, each of `columns` (series, steps); with several targets, each named before it."""
        first, many = self.panels[0], len(self.panels) > 1
        flat: dict[str, npt.NDArray[np.float64]] = {}
        for k, panel in enumerate(self.panels):
            before = f"{panel.columns[2]}-" if many else ""
            rows = slice(k * len(first.ids), (k + 1) * len(first.ids))
            flat |= {before + name: np.asarray(found[rows], np.float64) for name, found in columns.items()}
        return frames.forecast_frame(first, steps, flat)


def read(
    source: Any,
    columns: Columns,
    frequency: str | None,
    ahead: int,
    beyond: int,
    encoding: Encoding | None = None,
    calendar: bool | None = None,
    futr_df: Any = None,
) -> Data:
    """The series of a table. Known-future covariates reach `ahead` steps beyond each, from later rows or `futr_df`; the
    calendar reaches `beyond` those.

    encoding: how covariates become numbers; learned from this table when None, with calendar features as `calendar`
    says. Raises ElmanError for a table that cannot be used; OSError for a file.
    """
    table = frames.open_table(source, columns.id, columns.time)
    panels = tuple(frames.read(table, columns.id, columns.time, t, frequency) for t in columns.targets)
    _check_together(panels)
    if encoding is None:
        encoding = covariates.learn(table, panels[0], columns.past, columns.future, columns.static, calendar)
    known = covariates.encode(table, panels[0], encoding, ahead, futr_df, beyond)
    series, names = [], []
    for panel in panels:
        for i, values in enumerate(panel.values):
            series.append(Series(values, known.past[i], known.future[i], known.static[i]))
            names.append(f"{panel.ids[i]}" + (f" ({panel.columns[2]})" if len(panels) > 1 else ""))
    notes = dict.fromkeys((*(note for panel in panels for note in panel.notes), *known.notes))
    return Data(panels, tuple(series), tuple(names), encoding, tuple(notes))


def _check_together(panels: Sequence[frames.Panel]) -> None:
    """Raises ElmanError unless all targets have the same series, over the same time."""
    first = panels[0]
    lengths = list(map(len, first.values))
    for panel in panels[1:]:
        same = panel.ids == first.ids and panel.ends == first.ends and list(map(len, panel.values)) == lengths
        if not same:
            raise ElmanError(
                f"the targets {first.columns[2]} and {panel.columns[2]} are not known over the same time: one begins "
                "or ends earlier, or misses a series. Cut the rows where one is missing, or train a model for each."
            )


def write_csv(path: str | os.PathLike[str], frame: Any) -> None:
    """A pandas or polars frame as a CSV file, whole or not at all."""
    import narwhals.stable.v2 as narwhals

    text = narwhals.from_native(frame, eager_only=True).write_csv()
    write_whole(path, text.encode())
