"""The two curves of how far a model remembers, as SVG that needs no script: gradients and loss, over steps.

Its colours are the page's. Knows nothing of the page around it.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from elman.report import Floats, Memory, plural

WIDTH, HEIGHT = 480, 290
LEFT, RIGHT, TOP, BOTTOM = 62, 466, 30, 238
TICKS = 6
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class _Scale:
    """Numbers from low to high → places from start to end."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        share = (at - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def gradient_chart(memory: Memory) -> str:
    """Gradient norm against steps back, on a logarithmic scale, with the line of its half-life and the horizon marked;
    "" where fewer than two norms are above zero."""
    norms = np.asarray(memory.gradient, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(norms) & (norms > 0))
    if len(known) < 2:
        return ""
    shown = norms[known]
    x = _Scale(0, len(norms) - 1, LEFT, RIGHT)
    y = _Scale(*_decades(float(shown.min()), float(shown.max())), BOTTOM, TOP, log=True)
    titles = [f"{plural(k, 'step')} back: {norms[k]:.3g}" for k in known.tolist()]
    parts = [
        _horizontal(y, _log_ticks(y.low, y.high)), _vertical(x, _linear_ticks(0, len(norms) - 1, whole=True)),
        _mark(x, _place(memory), f"95 % within {memory.gradient_horizon:,}"),
        _fitted(memory, known, shown, x, y),
        _curve([x(k) for k in known.tolist()], [y(v) for v in shown.tolist()], titles, dots=False),
    ]  # fmt: skip
    about = f"Gradient norm from 0 to {len(norms) - 1} steps back: from {shown[0]:.3g} to {shown[-1]:.3g}"
    return _svg(about, "steps back", parts)


def _place(memory: Memory) -> int:
    """The lag of the gradient's horizon, within the chart."""
    last = len(memory.gradient) - 1
    return max(0, last - memory.gradient_horizon) if memory.turned else min(memory.gradient_horizon, last)


def _fitted(memory: Memory, known: "np.typing.NDArray[np.intp]", shown: Floats, x: _Scale, y: _Scale) -> str:
    """The straight line through the logarithms it was fitted to, as long as it is within the chart."""
    slope = math.log(memory.growth) if 0 < memory.growth < math.inf else math.nan
    fitted = memory.fitted or len(memory.gradient)
    within = known >= len(memory.gradient) - fitted if memory.turned else known < fitted
    known, shown = known[within], shown[within]
    if not math.isfinite(slope) or not len(known):
        return ""
    slope = -slope if memory.turned else slope
    middle = float(np.log(shown).mean() - slope * known.mean())
    lags = np.linspace(known[0], known[-1], 200)
    values = np.exp(np.clip(middle + slope * lags, -700, 700))
    inside = (values >= y.low) & (values <= y.high)
    if inside.sum() < 2:
        return ""
    (a, *_, b), (first, *_, last) = lags[inside].tolist(), values[inside].tolist()
    words = "no decay" if math.isinf(memory.half_life) else f"halves in {memory.half_life:.3g} steps"
    return (
        f'<path class="fit" d="M{x(a)} {y(first)}L{x(b)} {y(last)}"/>'
        f'<text class="fit" x="{RIGHT}" y="{TOP - 12}" text-anchor="end"><tspan>– –</tspan> {words}</text>'
    )


def context_chart(memory: Memory) -> str:
    """Loss against the steps of context that are given, with the horizon marked; "" where there are fewer than two."""
    losses = np.asarray(memory.context, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(losses)).tolist()
    if len(known) < 2:
        return ""
    steps = [memory.steps_given[j] for j in known]
    low, high = float(losses[known].min()), float(losses[known].max())
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    x = _Scale(steps[0], steps[-1], LEFT, RIGHT, log=steps[0] > 0 and steps[-1] >= 8 * steps[0])
    y = _Scale(low - room, high + room, BOTTOM, TOP)
    titles = [
        f"{plural(k, 'step')} of context: {losses[j]:.4g} {memory.unit}"
        for k, j in zip(steps, known, strict=True)
    ]
    at = min(max(memory.horizon, steps[0]), steps[-1])
    parts = [
        _horizontal(y, _linear_ticks(y.low, y.high)), _vertical(x, _apart(x, steps)),
        _mark(x, at, f"horizon {memory.horizon:,}"),
        _curve([x(k) for k in steps], [y(losses[j]) for j in known], titles, dots=True),
    ]  # fmt: skip
    ends = f"from {losses[known[0]]:.4g} with {steps[0]:,} to {losses[known[-1]]:.4g} with {steps[-1]:,}"
    return _svg(f"{memory.unit} by steps of context: {ends}", "steps of context", parts)


def _svg(about: str, axis: str, parts: Sequence[str]) -> str:
    name = f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{axis}</text>'
    return (
        f'<svg class="chart" role="img" aria-label="{html.escape(about)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f"{''.join(parts)}{name}</svg>"
    )


def _horizontal(y: _Scale, ticks: Sequence[tuple[float, str]]) -> str:
    return "".join(
        f'<path class="grid" d="M{LEFT} {y(at)}H{RIGHT}"/>'
        f'<text x="{LEFT - 8}" y="{y(at) + 4}" text-anchor="end">{label}</text>'
        for at, label in ticks
    )


def _vertical(x: _Scale, ticks: Sequence[tuple[float, str]]) -> str:
    return "".join(
        f'<path class="grid" d="M{x(at)} {BOTTOM}v5"/>'
        f'<text x="{x(at)}" y="{BOTTOM + 20}" text-anchor="middle">{label}</text>'
        for at, label in ticks
    )


def _mark(x: _Scale, at: float, words: str) -> str:
    """What lies within the horizon, tinted, with its end named."""
    place = x(at)
    anchor, away = ("start", 6) if place < (LEFT + RIGHT) / 2 else ("end", -6)
    return (
        f'<rect class="within" x="{LEFT}" y="{TOP}" width="{place - LEFT:.1f}" height="{BOTTOM - TOP}"/>'
        f'<path class="horizon" d="M{place} {TOP}V{BOTTOM}"/>'
        f'<text class="horizon" x="{place + away}" y="{TOP + 14}" text-anchor="{anchor}">{words}</text>'
    )


def _curve(xs: Sequence[float], ys: Sequence[float], titles: Sequence[str], dots: bool) -> str:
    points = list(zip(xs, ys, strict=True))
    line = "L".join(f"{x} {y}" for x, y in points)
    kind = "dot" if dots else "spot"  # a spot shows its title alone
    found = "".join(
        f'<circle class="{kind}" cx="{x}" cy="{y}" r="{4 if dots else 6}"><title>{html.escape(title)}</title></circle>'
        for (x, y), title in zip(points, titles, strict=True)
    )
    return f'<path class="line" d="M{line}"/>{found}'


def _decades(low: float, high: float) -> tuple[float, float]:
    """A little more than from low to high; a decade at least."""
    middle = math.log10(low) / 2 + math.log10(high) / 2
    half = max(0.5, (math.log10(high) - math.log10(low)) / 2 * 1.06)
    return 10.0 ** max(middle - half, -307), 10.0 ** min(middle + half, 307)


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    if last - first < 2:
        every = [(m * 10.0**e, _power(e, m)) for e in range(first - 1, last + 1) for m in (1, 2, 5)]
        return [(value, label) for value, label in every if low <= value <= high]
    step = math.ceil((last - first + 1) / TICKS)
    return [(10.0**e, _power(e)) for e in range(first, last + 1, step)]


def _power(exponent: int, times: int = 1) -> str:
    if -3 <= exponent <= 3:
        return f"{times * 10.0**exponent:g}"
    return (f"{times}·" if times > 1 else "") + "10" + str(exponent).translate(_RAISED)


def _linear_ticks(low: float, high: float, whole: bool = False) -> list[tuple[float, str]]:
    """Round numbers from low to high, about as many as there is room for."""
    if not high > low:
        return [(low, f"{low:.4g}")]
    rough = (high - low) / TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough)
    step = max(1.0, step) if whole else step
    decimals = max(0, -math.floor(math.log10(step)))
    first = math.ceil(low / step - 1e-9)
    places = [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]
    return [(at, f"{at:,.{decimals}f}" if decimals < 6 else f"{at:.4g}") for at in places]


def _apart(x: _Scale, steps: Sequence[int]) -> list[tuple[float, str]]:
    """Of these, from the last on, those whose labels do not touch."""
    found: list[tuple[float, str]] = []
    for k in reversed(steps):
        if not found or x(found[-1][0]) - x(k) >= 4 * (len(f"{k:,}") + len(found[-1][1])) + 8:
            found.append((k, f"{k:,}"))
    return found[::-1]
