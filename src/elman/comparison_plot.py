"""Learning curves of a comparison as a PNG: validation loss by time or steps, mean and range over seeds.

Knows curves; matplotlib is imported when one is drawn.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from elman.page import LIGHT
from elman.picture import apart, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from elman.comparison import Comparison, Trained

Floats = NDArray[np.float64]

# Okabe and Ito's colours, which colour-blind readers tell apart (https://jfly.uni-koeln.de/color/); lines differ too.
_LOOKS: dict[str, tuple[str, Any]] = {
    "feedforward": ("#000000", (0, (1, 1))),
    "rnn": ("#E69F00", (0, (5, 2))),
    "gru": ("#009E73", "-"),
    "lstm": ("#0072B2", "-"),
    "mingru": ("#CC79A7", (0, (4, 1, 1, 1))),
}
_POINTS = 200
_BEGINNING = 0.1  # of the budget, whose losses may lie above the picture


def learning_curves(found: "Comparison") -> bytes:
    """The PNG."""
    return png(lambda: _figure(found))


def mean_and_range(curves: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Curves (x, y) with x ascending → x (P,) over what all of them reach, and y's mean, lowest and highest (3, P)."""
    x = np.linspace(max(c[0][0] for c in curves), min(c[0][-1] for c in curves), _POINTS)
    y = np.stack([np.interp(x, *curve) for curve in curves])
    return x, np.stack((y.mean(0), y.min(0), y.max(0)))


def _figure(found: "Comparison") -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.8), dpi=150, layout="constrained")
    ax = figure.add_subplot()
    drawn = {}
    for cell in found.losses:
        learned = [run for run in found.runs if run.cell == cell and math.isfinite(run.value)]
        curves = [_xy(run, found.by_time) for run in learned if run.curve]
        if curves:
            drawn[cell] = mean_and_range(curves)
    for cell, (x, (middle, low, high)) in drawn.items():
        colour, line = _LOOKS[cell]
        ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
        ax.plot(x, middle, color=colour, ls=line, lw=1.8)
    for value in found.baseline.values():
        ax.axhline(value, color=LIGHT["history"], lw=1, ls=(0, (4, 3)), zorder=1)
    _frame(ax, found, drawn)
    _names(ax, found, drawn)
    return figure


def _xy(run: "Trained", by_time: bool) -> tuple[Floats, Floats]:
    steps, seconds, values = np.array(run.curve, np.float64).T
    return (seconds if by_time else steps), values


def _frame(ax: "Axes", found: "Comparison", drawn: dict[str, tuple[Floats, Floats]]) -> None:
    seeds = max(map(len, found.losses.values()))
    what = f"{found.unit} on validation data"
    ax.set_title(f"{what[0].upper()}{what[1:]}" + (f", mean and range of {seeds} seeds" if seeds > 1 else ""))
    ax.set_xlabel("seconds of training" if found.by_time else "steps of training")
    levels = [*found.baseline.values(), *(low.min() for _, (_, low, _) in drawn.values())]
    for x, (_, _, high) in drawn.values():
        levels.append(high[x >= _BEGINNING * x[-1]].max())
    bottom, top = min(levels, default=0.0), max(levels, default=1.0)
    room = 0.06 * (top - bottom) or 0.1
    ax.set_ylim(bottom - room, top + room)
    ax.set_xlim(0)


def _names(ax: "Axes", found: "Comparison", drawn: dict[str, tuple[Floats, Floats]]) -> None:
    """Of lines, at their right ends."""
    low, high = ax.get_ylim()
    ends = {cell: (middle[-1], _LOOKS[cell][0]) for cell, (_, (middle, _, _)) in drawn.items()}
    ends |= {name: (value, LIGHT["muted"]) for name, value in found.baseline.items()}
    places = apart([(value - low) / (high - low) for value, _ in ends.values()], 0.055)
    for (name, (_, colour)), place in zip(ends.items(), places, strict=True):
        ax.text(1.012, place, name, transform=ax.transAxes, va="center", color=colour, fontweight="bold")
