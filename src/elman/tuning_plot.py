"""A study as a PNG: its trials in order with the best so far, and the importance of each setting.

Knows trials; matplotlib is imported when one is drawn.
"""

import math
from itertools import accumulate
from typing import TYPE_CHECKING

from elman.page import LIGHT
from elman.picture import png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from elman.tuning import Tuned


def history(found: "Tuned") -> bytes:
    """The PNG."""
    return png(lambda: _figure(found))


def _figure(found: "Tuned") -> "Figure":
    from matplotlib.figure import Figure

    settings = len(found.importance)
    figure = Figure(
        figsize=(8.5, 3.6 + 0.6 * (settings > 0) + 0.28 * settings), dpi=150, layout="constrained"
    )
    if not settings:
        _trials(figure.add_subplot(), found)
        return figure
    above, below = figure.subplots(2, height_ratios=(3, 0.5 + 0.28 * settings))
    _trials(above, found)
    _importances(below, found)
    return figure


def _trials(ax: "Axes", found: "Tuned") -> None:
    from matplotlib.ticker import MaxNLocator

    for how, mark, colour in (("finished", "o", LIGHT["accent"]), ("pruned", "x", LIGHT["history"])):
        x, y = _known(found, how)
        ax.plot(x, y, mark, color=colour, lw=0, ms=5, label="cut short" if how == "pruned" else how)
    x, y = _known(found, "finished")
    ax.step(x, list(accumulate(y, min)), where="post", color=LIGHT["ink"], lw=1.4, label="best so far")
    for name, value in found.baseline.items():
        ax.axhline(value, color=LIGHT["history"], lw=1, ls=(0, (4, 3)), zorder=1, label=name)
    _limits(ax, found, y)
    ax.set_title(f"{found.unit[0].upper()}{found.unit[1:]} on validation data, by trial")
    ax.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _known(found: "Tuned", how: str) -> tuple[list[int], list[float]]:
    """Numbers and losses of the trials that ended so."""
    some = [(t.number, t.value) for t in found.trials if t.how == how and t.value is not None]
    return [number for number, _ in some], [value for _, value in some]


def _limits(ax: "Axes", found: "Tuned", values: list[float]) -> None:
    """All finished trials but the worst tenth, and the baseline where it is not far above them."""
    if not values:
        return
    ordered = sorted(values)
    low, high = ordered[0], ordered[math.ceil(0.9 * (len(ordered) - 1))]
    high = max([high, *(v for v in found.baseline.values() if v < high + 0.5 * (high - low))])
    low = min([low, *(v for v in found.baseline.values())])
    room = 0.08 * (high - low) or 0.05 * abs(high) or 1
    ax.set_ylim(low - room, high + room)


def _importances(ax: "Axes", found: "Tuned") -> None:
    ordered = sorted(found.importance.items(), key=lambda item: item[1])
    bars = ax.barh(
        [name for name, _ in ordered], [value for _, value in ordered], color=LIGHT["accent"], height=0.6
    )
    ax.bar_label(bars, fmt="{:.0%}", padding=3, color=LIGHT["muted"])
    finished = found.count("finished")
    ax.set_title(f"Importance of each setting, estimated from {finished} trials")
    ax.grid(visible=False)
    ax.set_xticks([])
    ax.margins(x=0.12)
