"""What `explain` found out about a model on an input: the facts, as a data frame and on the terminal.

Knows nothing of models and torch: someone else measures. The same facts as a page are `report_page`'s.

Letters: T steps of the input, H units of one direction of one layer, K lags.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Guesses = tuple[tuple[str, float], ...]
"""The likeliest predictions after a step, with their probabilities or values."""

Row = tuple[str, str, str, int | None, float, str]

DEFINITIONS: Mapping[str, tuple[str, str]] = {
    "hidden": ("h[t], what a unit puts out after step t.", "Elman, Finding structure in time, 1990"),
    "cell": (
        "c[t] = f c[t-1] + i g, the memory inside an LSTM unit.",
        "Hochreiter and Schmidhuber, Long short-term memory, 1997",
    ),
    "input_gate": ("i[t], from 0 to 1: how much of the candidate enters the cell.", "Hochreiter and Schmidhuber, 1997"),
    "forget_gate": ("f[t], from 0 to 1: how much of the cell is kept.", "Gers et al., Learning to forget, 2000"),
    "output_gate": ("o[t], from 0 to 1: how much of the cell is shown as h.", "Hochreiter and Schmidhuber, 1997"),
    "candidate": ("g[t] or n[t], from -1 to 1: what would enter the state.", "Hochreiter and Schmidhuber, 1997"),
    "reset_gate": ("r[t], from 0 to 1: how much of h[t-1] the candidate sees.", "Cho et al., 2014"),
    "update_gate": ("z[t], from 0 to 1: how much of h[t-1] is kept.", "Cho et al., 2014"),
    "tracks": (
        "r, Pearson's correlation over all steps between a unit's value and a feature of the input; only what is "
        "beyond chance for as many units and features is listed.",
        "after Karpathy, Johnson and Fei-Fei, Visualizing and understanding recurrent networks, 2015",
    ),
    "gradient": (
        "|dL[t] / dx[t-k]|, the norm of the gradient of a step's loss with respect to the layers' input k steps "
        "before, mean over places.",
        "Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks, 2013",
    ),
    "half-life": (
        "steps in which the gradient norm halves: ln 2 / -slope of its logarithm over the lags, by least squares.",
        "after Hochreiter, 1991, and Bengio, Simard and Frasconi, 1994",
    ),
    "gradient horizon": ("the smallest number of steps that hold 95 % of the sum of gradient norms.", "elman"),
    "context": (
        "the mean loss of a step when the model reads only the last k steps, from a zero state.",
        "after Khandelwal et al., Sharp nearby, fuzzy far away, 2018",
    ),
    "horizon": (
        "the smallest k whose loss is within 5 % of what context gains in all.",
        "after Khandelwal et al., 2018",
    ),
    "attribution": (
        "integrated gradients: the input's distance from zero times the gradient's mean on the way there, summed over "
        "the numbers of a step. They add up to the output's change.",
        "Sundararajan, Taly and Yan, Axiomatic attribution for deep networks, 2017; computed by captum",
    ),
}  # fmt: skip
"""What each number is, and where its definition comes from."""


@dataclass(frozen=True)
class Traced:
    """What one direction of one recurrent layer did: quantity ("hidden", "cell", "forget_gate", …) → (T, H)."""

    name: str  # "layer 1", "layer 1, backwards", "encoder, layer 1"
    cell: str  # "lstm", "gru", "rnn", or the class of a cell of one's own
    values: Mapping[str, Floats]
    recurrent: Floats  # (G*H, H) the recurrent weights; (0, H) of a cell without

    @property
    def output(self) -> Floats:
        """(T, H) what the units put out: the hidden state, of a cell of one's own its first state."""
        return self.values["hidden"] if "hidden" in self.values else next(iter(self.values.values()))

    @property
    def units(self) -> int:
        return int(self.output.shape[1])


@dataclass(frozen=True)
class Tracked:
    """A unit that follows a feature of the input."""

    layer: str
    quantity: str
    unit: int
    feature: str  # "inside quotes"
    correlation: float


@dataclass(frozen=True)
class Memory:
    """How far back the input matters. Index k of `gradient` is k steps before, from 0; `context[j]` is the loss with
    the last `steps_given[j]` steps. unit: of the loss, "nats"; "difference" where there is no loss, and the context
    curve is the relative distance of the output from that with all steps."""

    gradient: Floats  # (K,)
    half_life: (
        float  # steps; infinite where the gradient does not shrink, NaN where there are too few steps to tell
    )
    growth: float  # factor a step; NaN likewise
    gradient_horizon: int
    steps_given: tuple[int, ...]
    context: Floats
    horizon: int
    unit: str
    places: int  # over how many the means are
    sentence: str
    fitted: int = 0  # growth is of so many of the lags; 0 for all
    turned: bool = False  # growth and gradient_horizon count from the last lag, where the gradient is largest


@dataclass(frozen=True)
class Finding:
    """One measure of health of a layer, and what it means. `advice` is empty where nothing is wrong."""

    layer: str
    measure: str  # "forget gates shut"
    value: float
    shown: str  # the value as text: "3 %"
    verdict: Literal["good", "warning", "bad"]
    definition: str
    source: str
    sentence: str
    advice: str = ""


@dataclass(frozen=True)
class Attribution:
    """What moved one prediction: a number for each step from `first` on."""

    prediction: str  # "e after “…the”", "positive"
    first: int
    values: Floats
    output: float  # of the model, in `unit`, on the input
    baseline: float  # with zeros at these steps
    gap: float  # between the sum of values and output - baseline
    unit: str
    asked: int = 0  # steps that were asked about: where there are fewer values, those of more do not add up


@dataclass(frozen=True)
class Report:
    """What `explain` found. steps: what stands at each, a character, word, date or number. guesses: after each step the
    likeliest predictions with their probabilities, or () where the model predicts at the end alone. losses: of what
    came after each step, in `Memory.unit`; NaN where that is not known."""

    title: str
    kind: Literal["text", "labels", "series", "layer"]
    facts: Mapping[str, str]  # what the model is, by name
    step: str  # "character", "word", "segment", "step"
    steps: tuple[str, ...]
    layers: tuple[Traced, ...]
    tracked: tuple[Tracked, ...]
    memory: Memory
    health: tuple[Finding, ...]
    attribution: Attribution | None
    guesses: tuple[Guesses, ...] = ()
    losses: Floats | None = None
    notes: tuple[str, ...] = ()
    """What the reader must know: that an ensemble's first network is shown, say."""

    def show(self) -> None:
        """Print the report to the terminal, in colours where it has them."""
        import shutil
        import sys

        from elman.report_terminal import render

        print(render(self, shutil.get_terminal_size().columns, sys.stdout.isatty()))

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the report as one HTML page that needs nothing but a browser. Raises ElmanError for a name that does
        not end in .html, for a file that exists, unless `force`, and when it cannot be written."""
        from elman.report_page import write_page

        write_page(path, self, force=force)

    def figures(self) -> dict[str, Any]:
        """The facts, JSON-able; None for what is infinite or not known."""
        m = self.memory
        memory = {
            "half_life": _finite(m.half_life), "growth": _finite(m.growth), "gradient_horizon": m.gradient_horizon,
            "horizon": m.horizon, "gradient": [float(value) for value in m.gradient],
            "context": {str(k): float(loss) for k, loss in zip(m.steps_given, m.context, strict=True)},
            "unit": m.unit, "sentence": m.sentence,
        }  # fmt: skip
        found = self.attribution
        about = None if found is None else {
            "prediction": found.prediction, "unit": found.unit, "output": found.output, "baseline": found.baseline,
            "first": found.first, "values": [float(value) for value in found.values],
        }  # fmt: skip
        return {
            "model": dict(self.facts), "steps": len(self.steps), "memory": memory,
            "health": [_of(one, "layer", "measure", "value", "verdict", "sentence", "advice") for one in self.health],
            "units": [_of(one, "layer", "quantity", "unit", "feature", "correlation") for one in self.tracked],
            "attribution": about, "notes": list(self.notes),
        }  # fmt: skip

    def to_frame(self) -> Any:
        """The same facts as a pandas frame, one in each row: part ("memory", "health", "units", "attribution",
        "steps"), layer, name, position (a lag, a unit, a step; missing where there is none), value, and text. What
        every unit did is in `layers`: too much for a table."""
        rows = [*self._memory_rows(), *self._health_rows(), *self._unit_rows(), *self._step_rows()]
        return (
            import_module("pandas")
            .DataFrame(rows, columns=["part", "layer", "name", "position", "value", "text"])
            .astype({"position": "Int64", "value": "float64"})
        )

    def _memory_rows(self) -> list[Row]:
        m = self.memory
        single = {"half-life": m.half_life, "growth": m.growth, "gradient horizon": m.gradient_horizon}
        rows: list[Row] = [("memory", "", name, None, float(value), "") for name, value in single.items()]
        rows.append(("memory", "", "horizon", None, float(m.horizon), m.sentence))
        rows += [("memory", "", "gradient", k, float(value), "") for k, value in enumerate(m.gradient)]
        pairs = zip(m.steps_given, m.context, strict=True)
        return rows + [("memory", "", "context", k, float(value), m.unit) for k, value in pairs]

    def _health_rows(self) -> list[Row]:
        return [
            (
                "health",
                one.layer,
                one.measure,
                None,
                one.value,
                f"{one.verdict}: {one.sentence} {one.advice}".rstrip(),
            )
            for one in self.health
        ]

    def _unit_rows(self) -> list[Row]:
        return [
            ("units", one.layer, one.quantity, one.unit, one.correlation, one.feature) for one in self.tracked
        ]

    def _step_rows(self) -> list[Row]:
        rows: list[Row] = []
        if self.losses is not None:
            pairs = enumerate(zip(self.steps, self.losses, strict=True))
            rows += [("steps", "", "loss", k, float(loss), step) for k, (step, loss) in pairs]
        if self.attribution is not None:
            first = self.attribution.first
            rows += [
                (
                    "attribution",
                    "",
                    self.attribution.prediction,
                    first + k,
                    float(value),
                    self.steps[first + k],
                )
                for k, value in enumerate(self.attribution.values)
            ]
        return rows


def plural(count: int, what: str) -> str:
    """ "1 step", "2 steps"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _of(one: Finding | Tracked, *names: str) -> dict[str, Any]:
    return {name: getattr(one, name) for name in names}
