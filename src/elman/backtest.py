"""Forecasts of the past, by a model and by simple rules, measured alike.

Measures by their usual definitions (Hyndman and Koehler, "Another look at measures of forecast accuracy", 2006; the M4
competition for sMAPE), averaged over series. It knows arrays, not frames or networks.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from elman.data import ElmanError
from elman.windows import Floats, Shape, error_scale, least_length, quantiles


class Forecasts(Protocol):
    levels: tuple[float, ...]

    def _ahead(self, ids: Sequence[Any], values: Sequence[Floats], steps: int) -> Floats: ...


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


def smape(actual: Floats, forecast: Floats) -> float:
    """Percent; a value and a forecast that are both 0 agree."""
    size = np.abs(actual) + np.abs(forecast)
    return float(200 * np.mean(np.abs(actual - forecast) / np.where(size == 0, 1, size)))


def measures(actual: Floats, forecast: Floats, scale: float) -> dict[str, float]:
    """mase (NaN where the scale is 0), smape, mae, rmse of one forecast."""
    error = np.abs(actual - forecast)
    mase = float(error.mean() / scale) if scale > 0 else float("nan")
    rmse = float(np.sqrt((error**2).mean()))
    return {"mase": mase, "smape": smape(actual, forecast), "mae": float(error.mean()), "rmse": rmse}


def backtest(
    ids: Sequence[Any], values: Sequence[Floats], windows: int, shape: Shape, model: Forecasts
) -> dict[str, Any]:
    """The table of `Forecaster.backtest`. Raises ElmanError where no series is long enough."""
    horizon, period, rows = shape.horizon, shape.seasons[0], []
    names, pasts, actual = [], [], []
    for name, v in zip(ids, values, strict=True):
        for k in range(windows, 0, -1):
            cut = len(v) - k * horizon
            if cut >= max(least_length(shape), period + 1, 2):
                names.append(name)
                pasts.append(v[:cut])
                actual.append(v[cut : cut + horizon])
    if not pasts:
        raise ElmanError(
            f"no series is long enough for a forecast of {horizon} steps to be compared with what came."
        )
    found = model._ahead(names, pasts, horizon)
    median = found[..., found.shape[-1] // 2]
    scales = [error_scale(past, period) for past in pasts]
    table: dict[str, Any] = {}
    for rule in ("elman", *RULES):
        forecasts = median if rule == "elman" else [RULES[rule](past, horizon, period) for past in pasts]
        rows = [measures(a, f, s) for a, f, s in zip(actual, forecasts, scales, strict=True)]
        table[rule] = {key: float(np.nanmean([row[key] for row in rows])) for key in rows[0]}
    table["elman"] |= _intervals(np.stack(actual), found, np.array(scales), model.levels)
    return {
        "table": table,
        "series": len(set(map(str, names))),
        "windows": len(pasts),
        "values": len(pasts) * horizon,
    }


def _intervals(actual: Floats, found: Floats, scales: Floats, levels: tuple[float, ...]) -> dict[str, float]:
    """Coverage of each interval in percent, and the mean quantile loss in units of MASE's scale."""
    count = found.shape[-1]
    covered = {}
    for k, level in enumerate(sorted(levels, reverse=True)):
        inside = (actual >= found[..., k]) & (actual <= found[..., count - 1 - k])
        covered[f"coverage-{level:g}"] = 100 * float(inside.mean())
    q, difference = np.array(quantiles(levels)), actual[..., None] - found
    loss = np.maximum(q * difference, (q - 1) * difference).mean(axis=(1, 2))
    known = scales > 0
    covered["scaled_quantile_loss"] = (
        float((loss[known] / scales[known]).mean()) if known.any() else float("nan")
    )
    return covered
