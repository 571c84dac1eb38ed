"""Pictures of forecasts: a PNG by matplotlib, or a page (series_page) that opens in any browser.

Small multiples: history, middle, nested intervals, and what came; below them error and coverage by step. It knows
arrays, not models, and imports matplotlib when a PNG is drawn.
"""

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from elman import series_page
from elman.checkpoint import write_whole
from elman.data import ElmanError
from elman.page import LIGHT
from elman.picture import apart, check_picture, png
from elman.series_page import DOTS, shade

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = 12  # series in a PNG: more cannot be read
NAMED = 6  # of those left out
LONGEST = 70  # characters of a name
DPI = 150
WIDTH, MARGIN, LINE, LEGEND, ROW, STEPS = 10.0, 0.1, 0.3, 0.4, 2.1, 2.9  # inches
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Drawing:
    """One series and a forecast of it; H steps are ahead."""

    name: str
    times: Any  # (n,) datetime64 or int64: history, oldest first
    values: Floats  # (n,)
    ahead: Any  # (H,) times of the forecast
    middle: Floats  # (H,)
    middle_name: str  # "median" or "mean"
    intervals: Mapping[float, tuple[Floats, Floats]]  # level in percent → lower and upper, each (H,)
    actual: Floats | None = None  # (H,) what came

    @property
    def recent(self) -> int:
        """Values of the history that are shown unless all are asked for."""
        return max(3 * len(self.middle), 100)


@dataclass(frozen=True)
class Steps:
    """Error and coverage by step of the horizon, from a backtest."""

    horizon: int
    errors: Mapping[str, Floats]  # rule → (H,) mean absolute scaled error; "elman" is emphasised
    coverage: Mapping[float, Floats]  # level in percent → (H,) percent


def draw(
    path: str | os.PathLike[str], drawings: Sequence[Drawing], steps: Steps | None = None, title: str = ""
) -> None:
    """Draws forecasts into a .png, at most the first 12 of them, or an .html page, whole or not at all.

    The page is one file that loads nothing, and shows one series at a time. Raises ElmanError where `check_picture`
    does, for no drawings or arrays that do not fit, and when the file cannot be written.
    """
    check_picture(path)
    if not drawings:
        raise ElmanError("there is nothing to draw: give at least one series.")
    for drawing in drawings:
        _check(drawing)
    png = Path(path).suffix.lower() == ".png"
    write_whole(path, (_png if png else series_page.page)(drawings, steps, title))


def _check(drawing: Drawing) -> None:
    ahead = [drawing.middle, *(bound for pair in drawing.intervals.values() for bound in pair)]
    if drawing.actual is not None:
        ahead.append(drawing.actual)
    steps, kinds = len(drawing.ahead), {np.asarray(t).dtype.kind for t in (drawing.times, drawing.ahead)}
    if not steps or {len(a) for a in ahead} != {steps} or len(drawing.times) != len(drawing.values):
        raise ElmanError(f"cannot draw {drawing.name}: its times and values do not have the same lengths.")
    if kinds not in ({"M"}, {"i"}):
        raise ElmanError(f"cannot draw {drawing.name}: its times must be datetime64, or all integers.")


def _png(drawings: Sequence[Drawing], steps: Steps | None, title: str) -> bytes:
    return png(lambda: _figure(drawings[:ROWS], steps, _lines(title, [d.name for d in drawings])))


def _lines(title: str, names: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Title, and what is left out, and how they look."""
    lines: list[tuple[str, dict[str, Any]]] = []
    if title:
        lines.append((_short(title), {"fontsize": 13, "fontweight": "bold"}))
    if len(names) > ROWS:
        rest = ", ".join(_short(name, 20) for name in names[ROWS : ROWS + NAMED])
        more = f" and {len(names) - ROWS - NAMED:,} more" if len(names) > ROWS + NAMED else ""
        text = f"{ROWS} of {len(names):,} series. Left out: {rest}{more}"
        lines.append((text, {"color": LIGHT["muted"]}))
    return lines


def _figure(
    drawings: Sequence[Drawing], steps: Steps | None, lines: Sequence[tuple[str, dict[str, Any]]]
) -> "Figure":
    from matplotlib.figure import Figure

    head, rows = LEGEND + LINE * len(lines), [ROW] * len(drawings) + [STEPS] * (steps is not None)
    height = head + sum(rows)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    cast(Any, figure.get_layout_engine()).set(rect=(0, 0, 1, 1 - head / height), h_pad=0.08, w_pad=0.08)
    grid = figure.add_gridspec(len(rows), 2, height_ratios=rows)
    entries: dict[str, Any] = {}
    for i, drawing in enumerate(drawings):
        ax = figure.add_subplot(grid[i, :])
        _series(ax, drawing)
        entries |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    if steps is not None:
        _errors(figure.add_subplot(grid[-1, 0]), steps)
        _coverage(figure.add_subplot(grid[-1, 1]), steps)
    _head(figure, lines, entries, head)
    return figure


def _head(
    figure: "Figure", lines: Sequence[tuple[str, dict[str, Any]]], entries: Mapping[str, Any], inches: float
) -> None:
    """The lines, and one legend for all, in the uppermost inches."""
    left, height = MARGIN / WIDTH, figure.get_figheight()
    for k, (text, look) in enumerate(lines):
        figure.text(left, 1 - (0.12 + LINE * k) / height, text, va="top", **look)
    legend = figure.legend(
        list(entries.values()), list(entries), ncols=len(entries), borderpad=0,
        loc="lower left", bbox_to_anchor=(left, 1 - (inches - 0.02) / height),
    )  # fmt: skip
    legend.set_in_layout(False)


def _short(name: str, length: int = LONGEST) -> str:
    """On one line, and not too long."""
    name = "".join(c if c.isprintable() else " " for c in name)
    return name if len(name) <= length else name[: length - 1] + "…"


def _series(ax: "Axes", drawing: Drawing) -> None:
    last = slice(-drawing.recent, None)
    times, dates = _positions(drawing.times), np.asarray(drawing.times).dtype.kind == "M"
    ahead, values = _positions(drawing.ahead), _finite(drawing.values)
    x = np.concatenate((times[-1:], ahead))  # the forecast starts where history ends
    ax.plot(times[last], values[last], color=LIGHT["history"], lw=1.1, label="history")
    levels = sorted(drawing.intervals, reverse=True)
    for k, level in enumerate(levels):
        low, high = (np.concatenate((values[-1:], _finite(b))) for b in drawing.intervals[level])
        ax.fill_between(x, low, high, color=LIGHT["accent"], alpha=shade(len(levels)), lw=0)
        ax.fill_between(
            [], [], color=LIGHT["accent"], alpha=shade(len(levels), k), lw=0, label=f"{level:g} %"
        )
    middle = np.concatenate((values[-1:], _finite(drawing.middle)))
    ax.plot(x, middle, color=LIGHT["accent"], lw=1.8, label=drawing.middle_name, marker=_dot(x))
    if drawing.actual is not None:
        dots: dict[str, Any] = {"lw": 0, "marker": "o", "ms": 3} if len(ahead) <= DOTS else {"lw": 0.9}
        ax.plot(ahead, _finite(drawing.actual), color=LIGHT["ink"], label="actual", **dots)
    ax.set_title(_short(drawing.name))
    ax.margins(x=0.01)
    _scales(ax, dates)


def _scales(ax: "Axes", dates: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    if dates:
        places = _dates().AutoDateLocator(minticks=4, maxticks=10)
        ax.xaxis.set_major_locator(places)
        ax.xaxis.set_major_formatter(_dates().ConciseDateFormatter(places))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.15g}"))


def _positions(times: Any) -> Floats:
    """Where matplotlib puts these times."""
    times = np.asarray(times)
    return np.asarray(_dates().date2num(times) if times.dtype.kind == "M" else times, dtype=np.float64)


def _dates() -> Any:
    """matplotlib.dates, which has no types."""
    return importlib.import_module("matplotlib.dates")


def _finite(values: Floats) -> Floats:
    """An infinity would be the whole picture: it is a gap, as NaN is."""
    values = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _number(value: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if size <= abs(value) < 1e15:
            return f"{value / size:,.10g}{letter}"
    return f"{value:,.10g}"


def _dot(x: NDArray[Any]) -> str | None:
    """A line of one point cannot be seen."""
    return "o" if len(x) == 1 else None


def _errors(ax: "Axes", steps: Steps) -> None:
    x = np.arange(1, steps.horizon + 1)
    for rule, error in steps.errors.items():
        ours = rule == "elman"
        ax.plot(
            x, _finite(error), color=LIGHT["accent" if ours else "history"], lw=2.2 if ours else 1.1,
            zorder=3 if ours else 2, marker=_dot(x),
        )  # fmt: skip
    ax.set_title("Mean absolute scaled error by step ahead")
    ax.set_ylim(bottom=0)
    _step_axis(ax, steps)
    _label(ax, {rule: (error, rule == "elman") for rule, error in steps.errors.items()})


def _coverage(ax: "Axes", steps: Steps) -> None:
    x = np.arange(1, steps.horizon + 1)
    for level, found in steps.coverage.items():
        ax.axhline(level, color=LIGHT["history"], lw=1, ls=(0, (4, 3)), zorder=1)
        ax.plot(x, _finite(found), color=LIGHT["accent"], lw=1.8, marker=_dot(x))
    seen = [_finite(v) for v in steps.coverage.values()] + [np.array([*steps.coverage, 95.0])]
    ax.set_title("Coverage by step ahead, % (dashed: nominal)")
    ax.set_ylim(max(0, np.nanmin(np.concatenate(seen)) - 5), 101)
    _step_axis(ax, steps)
    _label(ax, {f"{level:g} %": (found, True) for level, found in steps.coverage.items()})


def _step_axis(ax: "Axes", steps: Steps) -> None:
    _scales(ax, dates=False)
    ax.set_xlim(*((1, steps.horizon) if steps.horizon > 1 else (0.5, 1.5)))


def _label(ax: "Axes", ends: Mapping[str, tuple[Floats, bool]]) -> None:
    """Names of lines at their right ends."""
    low, high = ax.get_ylim()
    known = {name: _finite(y)[np.isfinite(y)] for name, (y, _) in ends.items()}
    places = {name: (y[-1] - low) / (high - low) for name, y in known.items() if len(y)}
    for name, place in zip(places, apart(list(places.values()), 0.09), strict=True):
        ours = ends[name][1]
        ax.text(
            1.015, place, _short(name, 24), transform=ax.transAxes, va="center",
            color=LIGHT["accent" if ours else "muted"], fontweight="bold" if ours else "normal",
        )  # fmt: skip
