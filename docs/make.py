"""What `make docs` does: how-it-works.md gets its quotes of the source and its figures anew.

    python docs/make.py [quotes] [FIGURE ...]       # without names: all of it, about two minutes

A quote stands behind a comment that names a function of src/elman, and a figure, with its caption, between two
comments; tests/test_docs.py holds both against the source. Figures are measured (`measure`) on models trained here,
and drawn by `draw`.
"""

import ast
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elman.checkpoint import write_whole
from elman.data import ElmanError

DOCS = Path(__file__).parent
PAGE, FIGURES_AT, SOURCE = DOCS / "how-it-works.md", DOCS / "figures", DOCS.parent / "src" / "elman"

QUOTE = re.compile(r"<!-- quote: (\S+) -->\n```python\n(.*?)```\n", re.DOTALL)
FIGURE = re.compile(r"<!-- figure: (\S+) -->\n(.*?)<!-- end -->\n", re.DOTALL)


# Quotes


def quoted(name: str) -> str:
    """The source of a function by the name of its file and its own, as in "reference.gru_cell".

    Raises ElmanError where there is none.
    """
    module, _, function = name.partition(".")
    path = SOURCE / f"{module}.py"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == function:
            return "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno]) + "\n"
    raise ElmanError(f"the page quotes {name}, but src/elman/{module}.py has no such function. Name another.")


def with_quotes(page: str) -> str:
    """The page with each quote as the source is now. Raises what `quoted` raises."""
    return QUOTE.sub(lambda m: f"<!-- quote: {m[1]} -->\n```python\n{quoted(m[1])}```\n", page)


# Figures


@dataclass(frozen=True)
class Picture:
    """A figure: `make` draws it at a path and returns its caption; `alt` is for those who do not see it."""

    alt: str
    make: Callable[[Path], str]


def reach(path: Path) -> str:
    """How far gradients reach back."""
    import draw
    import measure

    new, trained = measure.untrained(), measure.trained()
    draw.reach(path, new, trained)
    back = {
        name: _power(values[80]) for name, values in (new | trained).items()
    }  # of two GRUs, the text model
    models = ", ".join(
        f"{back[name]} in the {name} ({back[name + ', new']} when new)" for name in ("LSTM", "GRU", "RNN")
    )
    return (
        "Gradient of the last step's loss with respect to the input k steps before it. Eighty steps back, this share "
        f"of it is left in text models: {models}; in new layers that read noise: {back['RNN, radius 0.9']} in an RNN "
        f"of spectral radius 0.9, {back['LSTM, chrono']} in an LSTM whose forget gates begin open for up to a hundred "
        "steps. Grey: the radius to the power of k."
    )


def truncation(path: Path) -> str:
    """What is lost where backpropagation is cut."""
    import draw
    import measure

    lengths = (1, 2, 4, 8, 16, 32, 64, 128)
    cosines = measure.truncations(lengths)
    draw.truncation(path, lengths, cosines)
    first, chunk = _each(cosines, 0), _each(cosines, lengths.index(64))
    return (
        "Gradient of the recurrent weights of the three trained text models on 256 characters, cut every so many steps "
        f"and uncut: the cosine between the two. Cut at every step: {first}; every 64 steps: {chunk}."
    )


def context(path: Path) -> str:
    """What reading more is worth."""
    import draw
    import measure

    losses, trigram = measure.context_losses(), measure.trigram()
    draw.context(path, measure.CONTEXTS, losses, trigram)
    gained = ", ".join(
        f"{name} {measure.crossing(measure.CONTEXTS, v, v[-1] + 0.01)}" for name, v in losses.items()
    )
    return (
        "Loss on 4,000 held-out characters of three text models, by how many characters before it each read from a "
        f"zero state. In the end: {_each(losses, -1, 3)}; a trigram {trigram:.3f}. Within 0.01 of that after so many "
        f"characters: {gained}."
    )


def memory(path: Path) -> str:
    """Who learns to remember for how long."""
    import draw
    import measure

    right = measure.memory()
    draw.memory(path, measure.DELAYS, right, 1 / measure.SYMBOLS)
    longest = "; ".join(f"{name}: {_percent(values[-1])}" for name, values in right.items())
    return (
        f"Right answers after {measure.UPDATES} updates from scratch at each delay, mean of {measure.SEEDS} seeds; "
        f"layers of {measure.UNITS} units. At {measure.DELAYS[-1]} steps: {longest}."
    )


def gates(path: Path) -> str:
    """An LSTM at work on a line."""
    import draw
    import measure

    read, shown = measure.reading(), 20
    lives = measure.half_lives(measure.forgetting().after)
    order = lives.argsort()[::-1][:shown]
    rows = {
        f"{name.replace('_', ' ').capitalize()} of the {shown} units that remember longest": read.gates[name][
            :, order
        ].T
        for name in ("forget_gate", "input_gate")
    }
    curves = {f"Unit {unit}: {what}": states for what, (unit, _, states) in read.units.items()}
    draw.gates(path, read.text, rows, curves)
    found = "; ".join(f"unit {unit}, {what}: {value:+.2f}" for what, (unit, value, _) in read.units.items())
    return (
        "The trained LSTM reads the beginning of Twelfth Night, which it never saw (↵ ends a line). Nobody told it of "
        f"lines and speakers; the units below were found by correlation on other held-out text ({found})."
    )


def forgetting(path: Path) -> str:
    """How long the units of an LSTM remember."""
    import numpy as np

    import draw
    import measure

    found = measure.forgetting()
    before, after = measure.half_lives(found.before), measure.half_lives(found.after)
    draw.forgetting(path, (found.before, found.after), (before, after))
    return (
        f"Forget gates of {measure.HIDDEN} units on 50,000 held-out characters. New, all half-lives lie between "
        f"{before.min():.1f} and {before.max():.1f} characters; trained, half of the units are below "
        f"{np.median(after):.1f} and the longest is {after.max():.0f}. Trained, "
        f"{_percent((found.after > 0.95).mean())} of all gates are above 0.95 and "
        f"{_percent((found.after < 0.05).mean())} below 0.05; new, {_percent((found.before > 0.95).mean())} and "
        f"{_percent((found.before < 0.05).mean())}."
    )


FIGURES: dict[str, Picture] = {
    "reach": Picture("Gradient norms on a log scale against steps back, for new and trained cells", reach),
    "truncation": Picture(
        "Cosine between truncated and whole gradients against the steps between cuts", truncation
    ),
    "forgetting": Picture(
        "A histogram of forget gates, and half-lives of units, before and after training", forgetting
    ),
    "gates": Picture(
        "Forget and input gates of an LSTM, and two of its cell states, over the letters of a verse", gates
    ),
    "context": Picture(
        "Loss against characters read, for an RNN, a GRU and an LSTM, beside a trigram", context
    ),
    "memory": Picture("Right answers against the delay of a memory task, for five layers", memory),
}


def figure_block(name: str, caption: str) -> str:
    """What stands between a figure's two comments."""
    return f"![{FIGURES[name].alt}](figures/{name}.svg)\n\n*{caption}*\n"


def with_figure(page: str, name: str, caption: str) -> str:
    """The page with that figure and its caption."""
    block = f"<!-- figure: {name} -->\n{figure_block(name, caption)}<!-- end -->\n"
    return FIGURE.sub(lambda m: block if m[1] == name else m[0], page)


def _power(value: float) -> str:
    """0.00012 → "1e-04", 0.3 → "0.30": as short as it may be."""
    return f"{value:.2f}" if value >= 0.01 else f"{value:.0e}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _each(curves: Mapping[str, Any], at: int, digits: int = 2) -> str:
    return ", ".join(f"{name} {values[at]:.{digits}f}" for name, values in curves.items())


# The command


def check_names(page: str, names: Sequence[str]) -> None:
    """Raises ElmanError for a figure that is not known, not on the page, or there without being known."""
    placed = {m[1] for m in FIGURE.finditer(page)}
    for name in names:
        if name != "quotes" and name not in FIGURES:
            raise ElmanError(f"there is no figure {name!r}: choose from quotes, {', '.join(FIGURES)}.")
    for name in sorted(placed ^ set(FIGURES)):
        where = "has no place on the page" if name in FIGURES else "is on the page, but not among FIGURES"
        raise ElmanError(f"figure {name!r} {where}: docs/make.py and {PAGE.name} must name the same.")


def main(names: Sequence[str]) -> None:
    """Refreshes what is named, or all; the page is written after each figure, whole."""
    page = PAGE.read_text(encoding="utf-8")
    check_names(page, names)
    page = with_quotes(page)
    write_whole(PAGE, page.encode())
    FIGURES_AT.mkdir(exist_ok=True)
    for name in [n for n in FIGURES if not names or n in names]:
        print(f"{name}: {FIGURES[name].make.__doc__}", file=sys.stderr, flush=True)
        page = with_figure(page, name, FIGURES[name].make(FIGURES_AT / f"{name}.svg"))
        write_whole(PAGE, page.encode())


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ElmanError, OSError) as error:
        sys.exit(f"make docs: {error}")
