"""Forecasts of the past, by a model and by simple rules, measured alike (utilsforecast's measures).

A window is one forecast: it sees what lies before its cutoff and is compared with what followed. It knows series and
tables; nothing of networks.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from elman.data import ElmanError
from elman.picture import check_picture
from elman.series_data import Data
from elman.series_plot import Drawing, Steps, draw
from elman.windows import Floats, Series, Shape, bounds, error_scale, least_length, quantiles

POINT = ("mase", "smape", "mae", "rmse")


def seasonal_naive(values: Floats, steps: int, period: int) -> Floats:
    """The last season, again and again."""
    period = period if period <= len(values) else 1
    return values[len(values) - period + np.arange(steps) % period]


def drift(values: Floats, steps: int, period: int) -> Floats:
    """The line through the first and the last value."""
    slope = (values[-1] - values[0]) / max(1, len(values) - 1)
    found: Floats = values[-1] + slope * np.arange(1, steps + 1)
    return found


def naive(values: Floats, steps: int, period: int) -> Floats:
    """The last value."""
    return np.repeat(values[-1:], steps)


RULES = {"seasonal naive": seasonal_naive, "drift": drift, "naive": naive}


@dataclass(frozen=True)
class Backtest:
    """What a backtest found.

    table: rule → measure → figure, averaged over series: mase, smape (percent), mae, rmse, and of elman the scaled
    quantile loss and the coverage of each interval (percent). per_series: a frame of the kind that came in, a row for
    each series and rule. forecasts: the same kind, a row for each series, cutoff and step.
    """

    table: dict[str, dict[str, float]]
    series: int
    windows: int
    values: int
    period: int  # of MASE's scale and of the seasonal naive rule
    per_series: Any
    forecasts: Any
    steps: Steps  # errors in units of MASE's scale
    _drawing: Callable[[Sequence[str] | None], list[Drawing]] = field(repr=False)

    @property
    def best(self) -> str:
        """The rule of the least MASE; of the least sMAPE where a MASE is not defined: series that never change. A
        difference of a thousandth in MASE, a tenth of a percent in sMAPE, is none."""
        key, slack = ("mase", 1e-3) if np.isfinite(self.table["elman"]["mase"]) else ("smape", 0.1)
        least = min(row[key] for row in self.table.values())
        return next(rule for rule, row in self.table.items() if row[key] <= least + slack)

    def by_series(self, measure: str) -> dict[str, dict[str, float]]:
        """series → rule → one measure."""
        import narwhals.stable.v2 as narwhals

        found: dict[str, dict[str, float]] = {}
        for row in narwhals.from_native(self.per_series, eager_only=True).iter_rows(named=True):
            first = next(iter(row))
            name = f"{row[first]}" + (f" ({row['target']})" if "target" in row else "")
            value = row[measure]
            found.setdefault(name, {})[row["model"]] = float("nan") if value is None else float(value)
        return found

    def plot(self, path: str | os.PathLike[str], series: Sequence[str] | None = None) -> None:
        """Draw the last forecast of each series, or of those whose ids are given, beside what came, and error and
        coverage by step: a .png, or a self-contained .html page. Raises ElmanError for what cannot be drawn."""
        check_picture(path)
        draw(path, self._drawing(series), self.steps)

    def as_dict(self) -> dict[str, Any]:
        """The figures alone, JSON-able."""
        table = {
            rule: {k: v if np.isfinite(v) else None for k, v in row.items()}
            for rule, row in self.table.items()
        }
        counts = {
            "series": self.series,
            "windows": self.windows,
            "values": self.values,
            "period": self.period,
        }
        return {"table": table, **counts, "best": self.best}


@dataclass(frozen=True)
class _Windows:
    """Window j: series `which[j]`, up to value `ends[j]`, the k-th of its series from the end."""

    which: list[int]
    ends: list[int]
    cutoffs: list[int]


def backtest(
    data: Data,
    windows: int,
    shape: Shape,
    levels: Sequence[float],
    ahead: Callable[[Sequence[str], Sequence[Series], Sequence[int], int], Any],
    columns: Callable[[Any], dict[str, Floats]],
) -> Backtest:
    """What `Forecaster.backtest` says. Raises ElmanError where no series is long enough."""
    horizon, period = shape.horizon, shape.seasons[0]
    chosen = _chosen(data, windows, shape)
    series = [data.series[i] for i in chosen.which]
    found = ahead([data.names[i] for i in chosen.which], series, chosen.ends, horizon)
    actual = np.stack([one.values[end : end + horizon] for one, end in zip(series, chosen.ends, strict=True)])
    pasts = [one.values[:end] for one, end in zip(series, chosen.ends, strict=True)]
    points = {"elman": found.middle}
    points |= {
        name: np.stack([rule(past, horizon, period) for past in pasts]) for name, rule in RULES.items()
    }
    frame = _long(chosen, actual, points, found.quantiles)
    measured = _measured(frame, data.series, tuple(points), levels, period)
    scales = np.array([error_scale(past, period) for past in pasts])
    library = data.panels[0].library

    def drawing(ids: Sequence[str] | None) -> list[Drawing]:
        last = {i: j for j, i in enumerate(chosen.which)}
        parts = columns(found)
        return [
            data.drawing(i, chosen.ends[last[i]], {n: v[last[i]] for n, v in parts.items()}, came=True)
            for i in data.chosen(ids)
            if i in last
        ]

    return Backtest(
        {rule: _means(measured[measured["model"] == rule]) for rule in points},
        len(set(chosen.which)),
        len(chosen.ends),
        actual.size,
        period,
        _out(_named(measured, data), library),
        _out(_named(_labelled(frame, levels), data), library),
        _steps(actual, points, found.quantiles, levels, scales),
        drawing,
    )


def _chosen(data: Data, windows: int, shape: Shape) -> _Windows:
    horizon, least = shape.horizon, max(least_length(shape), shape.seasons[0] + 1, 2)
    found = _Windows([], [], [])
    for i, one in enumerate(data.series):
        for k in range(windows, 0, -1):
            if len(one) - k * horizon >= least:
                found.which.append(i)
                found.ends.append(len(one) - k * horizon)
                found.cutoffs.append(k)
    if not found.ends:
        raise ElmanError(
            f"no series is long enough for a forecast of {horizon} steps to be compared with what came: "
            f"{least + horizon} values are needed."
        )
    return found


def _long(chosen: _Windows, actual: Floats, points: dict[str, Floats], found: Floats) -> Any:
    """A row for each series (by number), cutoff and step, as utilsforecast reads it."""
    pandas = import_module("pandas")
    count, horizon = actual.shape
    columns = {
        "unique_id": np.repeat(chosen.which, horizon),
        "cutoff": np.repeat(np.array(chosen.ends) - 1, horizon),
        "window": np.repeat(chosen.cutoffs, horizon),
        "step": np.tile(np.arange(1, horizon + 1), count),
        "y": actual.reshape(-1),
    }
    columns |= {name: values.reshape(-1).astype(np.float64) for name, values in points.items()}
    columns |= {f"q{k}": found[..., k].reshape(-1).astype(np.float64) for k in range(found.shape[-1])}
    return pandas.DataFrame(columns)


def _measured(
    frame: Any, series: Sequence[Series], rules: tuple[str, ...], levels: Sequence[float], period: int
) -> Any:
    """A row for each series (by number) and rule: its measures, averaged over its windows."""
    pandas, losses = import_module("pandas"), import_module("utilsforecast.losses")
    known = sorted(set(frame["unique_id"]))
    lengths = [len(series[i]) for i in known]
    past = pandas.DataFrame({
        "unique_id": np.repeat(known, lengths),
        "ds": np.concatenate([np.arange(n) for n in lengths]),
        "y": np.concatenate([series[i].values for i in known]),
    })  # fmt: skip
    models, q = list(rules), np.array(quantiles(levels))
    scaled = {"train_df": past, "seasonality": period}
    found = {
        "mase": losses.mase(frame, models, **scaled),
        "smape": losses.smape(frame, models),
        "mae": losses.mae(frame, models),
        "rmse": losses.rmse(frame, models),
        "scaled_quantile_loss": losses.scaled_mqloss(
            frame, {"elman": [f"q{k}" for k in range(len(q))]}, quantiles=q, **scaled
        ),
    }
    for level, lower, upper in bounds(levels):
        ends = {f"elman-lo-{level:g}": frame[f"q{lower}"], f"elman-hi-{level:g}": frame[f"q{upper}"]}
        covered = frame[["unique_id", "cutoff", "y"]].assign(**ends)
        found[f"coverage-{level:g}"] = losses.coverage(covered, ["elman"], level=f"{level:g}")
    rows = [
        values.melt(["unique_id", "cutoff"], var_name="model").assign(measure=name)
        for name, values in found.items()
    ]
    whole = pandas.concat(rows).replace([np.inf, -np.inf], np.nan)
    table = whole.pivot_table("value", ["unique_id", "model"], "measure", aggfunc="mean", dropna=False)
    percent = [name for name in table.columns if name == "smape" or name.startswith("coverage")]
    table[percent] *= 100
    table["smape"] *= 2  # M4's runs from 0 to 200 %
    return table[list(found)].reindex(rules, level="model").reset_index().rename_axis(columns=None)


def _means(rows: Any) -> dict[str, float]:
    """Over series; without what is not defined for a rule."""
    found = rows.drop(columns=["unique_id", "model"])
    return {name: float(found[name].mean()) for name in found if name in POINT or found[name].notna().any()}


def _labelled(frame: Any, levels: Sequence[float]) -> Any:
    """With the names that a user knows in place of the quantiles' numbers."""
    names = dict[str, str]()
    for level, lower, upper in bounds(levels):
        names |= {f"q{lower}": f"elman-lo-{level:g}", f"q{upper}": f"elman-hi-{level:g}"}
    return frame.drop(columns=["cutoff", f"q{len(levels)}"]).rename(columns=names)


def _named(frame: Any, data: Data) -> Any:
    """Series by their own ids; and which target, where there are several."""
    numbers, count = frame["unique_id"].to_numpy(), len(data.panels[0].ids)
    ids = np.array(data.panels[0].ids, dtype=object)[numbers % count]
    frame = frame.drop(columns="unique_id")
    if len(data.panels) > 1:
        frame.insert(0, "target", [data.panels[k].columns[2] for k in numbers // count])
    frame.insert(0, data.panels[0].columns[0], ids)
    return frame.infer_objects()


def _out(frame: Any, library: str) -> Any:
    if library != "polars":
        return frame
    polars = import_module("polars")
    return polars.DataFrame({name: frame[name].to_list() for name in frame})


def _steps(
    actual: Floats, points: dict[str, Floats], found: Floats, levels: Sequence[float], scales: Floats
) -> Steps:
    known = scales > 0
    errors = {
        name: (np.abs(actual - values)[known] / scales[known, None]).mean(axis=0)
        if known.any()
        else np.full(actual.shape[1], np.nan)
        for name, values in points.items()
    }
    inside = {
        level: 100 * ((actual >= found[..., lower]) & (actual <= found[..., upper])).mean(axis=0)
        for level, lower, upper in bounds(levels)
    }
    return Steps(actual.shape[1], errors, inside)
