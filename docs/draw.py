"""The figures of how-it-works.md as SVG. Knows arrays, not models.

The same arrays give the same file: no dates, no random names. Colours are Okabe and Ito's, which the colour-blind tell
apart; lines differ by dashes or markers too.
"""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from elman.checkpoint import write_whole
from elman.page import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]

_BLUE, _ORANGE, _GREEN, _PINK, _GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", LIGHT["history"]
_STYLES: dict[str, dict[str, Any]] = {
    "RNN": {"color": _ORANGE, "marker": "s"},
    "RNN, orthogonal": {
        "color": _ORANGE,
        "marker": "s",
        "linestyle": (0, (4, 2)),
        "markerfacecolor": "white",
    },
    "RNN, radius 0.9": {"color": _ORANGE, "linestyle": (0, (1, 1.5))},
    "RNN, radius 1": {"color": _ORANGE},
    "RNN, radius 1.2": {"color": _ORANGE, "linestyle": (0, (6, 2))},
    "RNN, new": {"color": _ORANGE, "linestyle": (0, (4, 2)), "linewidth": 1},
    "GRU, new": {"color": _GREEN, "linestyle": (0, (4, 2)), "linewidth": 1},
    "LSTM, new": {"color": _BLUE, "linestyle": (0, (4, 2)), "linewidth": 1},
    "GRU": {"color": _GREEN, "marker": "^"},
    "LSTM": {"color": _BLUE, "marker": "o"},
    "LSTM, forget bias 1": {"color": _BLUE, "marker": "o"},
    "LSTM, chrono": {"color": _BLUE, "marker": "o", "linestyle": (0, (4, 2)), "markerfacecolor": "white"},
}
_DIGITS = re.compile(
    r"(?<!scale\(0)(\.\d\d)\d+"
)  # beyond hundredths of a point; glyphs are scaled by 0.015625
_IDENTIFIERS = re.compile(r"(?<=[\"#])[a-z][0-9a-f]{10}(?=[\")])")
_LOOK: dict[Any, Any] = {
    "svg.hashsalt": "elman",
    "svg.fonttype": "path",
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same picture everywhere
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.edgecolor": LIGHT["line"],
    "axes.titlecolor": LIGHT["ink"],
    "axes.labelcolor": LIGHT["muted"],
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.6,
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["line"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.color": LIGHT["line"],
    "ytick.labelcolor": LIGHT["muted"],
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "figure.facecolor": LIGHT["paper"],
}


def _save(path: Path, figure: Figure) -> None:
    """Without matplotlib's indentation and the digits that nobody sees: half of the file.

    Its identifiers are hashes of numbers whose last bits change from run to run; here they are counted.
    """
    picture, names = io.StringIO(), dict[str, str]()
    figure.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
    text = "\n".join(line.strip() for line in picture.getvalue().splitlines())
    text = _IDENTIFIERS.sub(lambda m: names.setdefault(m[0], f"i{len(names)}"), _DIGITS.sub(r"\1", text))
    write_whole(path, (text + "\n").encode())


def _figure(height: float, **grid: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(9.0, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    return figure, figure.subplots(**grid)


def _lines(
    axes: "Axes", x: Sequence[float] | Floats, curves: Mapping[str, Floats], marked: bool = True
) -> None:
    for name, values in curves.items():
        style = _STYLES[name] if marked else {**_STYLES[name], "marker": None}
        axes.plot(x, values, label=name, **style)


@mpl.rc_context(_LOOK)
def reach(path: Path, new: Mapping[str, Floats], trained: Mapping[str, Floats]) -> None:
    """Norms of gradients by how many steps back, each (T,), of new layers and of text models."""
    figure, (left, right) = _figure(4.4, ncols=2, sharey=True)
    for axes, curves, title in (
        (left, new, "New layers, faint noise"),
        (right, trained, "Text models, before and after"),
    ):
        steps = np.arange(float(len(next(iter(curves.values())))))
        _lines(axes, steps, curves, marked=False)
        axes.set(title=title, yscale="log", ylim=(1e-9, 1e3), xlim=(0, steps[-1]), xlabel="steps back")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, fontsize=8, handlelength=3)
    left.set_ylabel("norm of the gradient,\nrelative to the last step's")
    for radius, at, shift in (0.9, 80.0, (2, 5)), (1.2, 24.0, (-14, 6)):
        left.plot(steps, radius**steps, color=_GREY, linewidth=0.8, zorder=1)
        _note(left, f"{radius}$^k$", (at, radius**at), shift)
    _save(path, figure)


def _note(axes: "Axes", text: str, at: tuple[float, float], shift: tuple[float, float], **how: Any) -> None:
    axes.annotate(
        text,
        at,
        shift,
        textcoords="offset points",
        color=LIGHT["muted"],
        fontsize=8,
        annotation_clip=False,
        **how,
    )


@mpl.rc_context(_LOOK)
def truncation(path: Path, lengths: Sequence[int], cosines: Mapping[str, Floats]) -> None:
    """Cosine between truncated and whole gradients, by the steps between cuts."""
    figure, axes = _figure(2.8)
    _lines(axes, lengths, cosines)
    _by_powers(axes, lengths)
    axes.set(xlabel="steps between cuts", ylabel="cosine to the uncut gradient", ylim=(0.5, 1.01))
    axes.legend(loc="lower right")
    _save(path, figure)


def _by_powers(axes: "Axes", ticks: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.set_xticks([], minor=True)


@mpl.rc_context(_LOOK)
def context(path: Path, lengths: Sequence[int], losses: Mapping[str, Floats], trigram: float) -> None:
    """Nats per character, by how many characters before it a model reads."""
    figure, axes = _figure(3.0)
    _lines(axes, lengths, losses)
    axes.axhline(trigram, color=_GREY, linewidth=1, linestyle=(0, (2, 2)))
    _note(axes, "trigram", (lengths[-1], trigram), (0, 3), ha="right")
    _by_powers(axes, [t for t in lengths if t & (t - 1) == 0])
    axes.set(xlabel="characters read before the one to predict", ylabel="nats per character")
    axes.legend(loc="upper right")
    _save(path, figure)


@mpl.rc_context(_LOOK)
def memory(path: Path, delays: Sequence[int], right: Mapping[str, Floats], chance: float) -> None:
    """Share of right answers, by the steps between the symbol and the question."""
    figure, axes = _figure(3.0)
    _lines(axes, delays, {name: 100 * values for name, values in right.items()})
    axes.axhline(100 * chance, color=_GREY, linewidth=1, linestyle=(0, (2, 2)))
    _note(axes, "chance", (delays[0], 100 * chance), (0, -4), va="top")
    _by_powers(axes, delays)
    axes.set(xlabel="steps between the symbol and the answer", ylabel="right answers, %", ylim=(0, 104))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", handlelength=3.2)
    _save(path, figure)


@mpl.rc_context(_LOOK)
def gates(path: Path, text: str, rows: Mapping[str, Floats], curves: Mapping[str, Floats]) -> None:
    """Gates on a line of text, by name (units, T), as shades; and cell states by name (T,) below them."""
    figure = Figure(
        figsize=(10.0, 1.9 * len(rows) + 1.25 * len(curves)),
        layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1),
    )
    heights = [1.9] * len(rows) + [1.0] * len(curves)
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    for ax, (name, values) in zip(axes, rows.items(), strict=False):
        shades = ax.imshow(values, aspect="auto", cmap="cividis", vmin=0, vmax=1, interpolation="none")
        ax.set(title=name, yticks=[], ylabel="units")
        ax.grid(False)
    figure.colorbar(shades, ax=axes[: len(rows)], label="0 shut, 1 open", pad=0.01, aspect=40)
    for ax, (name, states), colour in zip(axes[len(rows) :], curves.items(), (_BLUE, _ORANGE), strict=True):
        ax.plot(states, color=colour, linewidth=1.2)
        ax.set(title=name, ylabel="cell state")
        for end in (i for i, letter in enumerate(text) if letter == "\n"):
            ax.axvline(end, color=_GREY, linewidth=0.8, linestyle=(0, (2, 2)))
    letters = [{"\n": "↵", " ": "·"}.get(letter, letter) for letter in text]
    axes[-1].set_xticks(
        range(len(text)), letters, fontfamily="DejaVu Sans Mono", fontsize=7, color=LIGHT["ink"]
    )
    axes[-1].set_xlim(-0.5, len(text) - 0.5)
    for ax in axes:
        ax.grid(False, axis="x")
        ax.tick_params(axis="x", bottom=False)
    _save(path, figure)


@mpl.rc_context(_LOOK)
def forgetting(path: Path, gates: tuple[Floats, Floats], half_lives: tuple[Floats, Floats]) -> None:
    """Before and after training: how often forget gates take which value, and each unit's half-life, sorted."""
    figure, (left, right) = _figure(3.0, ncols=2)
    looks = ("new", _GREY, (0, (4, 2))), ("trained", _BLUE, "-")
    for values, lives, (name, colour, dashes) in zip(gates, half_lives, looks, strict=True):
        shares, edges = np.histogram(values, bins=25, range=(0, 1))
        left.stairs(
            100 * shares / values.size, edges, label=name, color=colour, linestyle=dashes, linewidth=1.6
        )
        right.plot(np.sort(lives)[::-1], label=name, color=colour, linestyle=dashes)
    left.set(title="Forget gates", xlabel="value: 0 forgets, 1 keeps", ylabel="% of all units and characters")
    right.set(title="Half-lives", xlabel="units, longest memory first", ylabel="characters", yscale="log")
    right.set_yticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    right.set_yticks([], minor=True)
    left.legend(loc="upper center")
    right.legend(loc="upper right")
    _save(path, figure)
