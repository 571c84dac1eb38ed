"""The parts of an explanation's page that need no script: memory, health, attribution, every number's definition."""

import html
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from elman.report import DEFINITIONS, Attribution, Finding, Memory, Report, plural
from elman.report_charts import context_chart, gradient_chart
from elman.report_steps import kind_of, spoken, stretches, surroundings
from elman.report_style import LEVELS
from elman.trajectory import signed

STRONGEST = 10  # steps in the table of attribution
MANY = 16  # findings that nothing is wrong with: more are folded
HEADS = ("Verdict", "Measure", "Layer", "Value", "What it says")
VERDICTS = {"bad": "✕ wrong", "warning": "! look", "good": "✓ good"}
OWN: Mapping[str, tuple[str, str]] = {
    "unit": (
        "one number of a layer's state, by its place in the layer; counted from 0, as in the arrays of a trace.",
        "Elman, Finding structure in time, 1990",
    ),
    "loss": (
        "of what came after this step; in nats it is -ln of the probability that the model gave to it.",
        "Shannon, A mathematical theory of communication, 1948",
    ),
    "predictions": (
        "what the model holds likeliest after this step: its softmax's probabilities, or its forecasts.",
        "Bridle, Probabilistic interpretation of feedforward classification network outputs, 1990",
    ),
    "growth": (
        "the factor by which the gradient norm changes with each step back: e to the slope of its logarithm.",
        "Pascanu, Mikolov and Bengio, 2013",
    ),
    "output": (
        "the number that is explained, on this input; the baseline is that with zeros at the steps that are coloured.",
        "Sundararajan, Taly and Yan, 2017",
    ),
    "gap": (
        "between the attributions' sum and the output's change from the baseline: the error of the method's sums.",
        "Sundararajan, Taly and Yan, 2017",
    ),
}  # fmt: skip
"""What the page shows beyond `DEFINITIONS`."""


class Terms:
    """Names with their definition, one hover, focus or touch away."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def __call__(self, name: str, definition: str, source: str) -> str:
        key = f"tip{next(self._numbers)}"
        return (
            f'<span class="term"><button type="button" aria-describedby="{key}">{html.escape(name)}</button>'
            f'<span class="tip" role="tooltip" id="{key}">{html.escape(definition)}'
            f"<cite>{html.escape(source)}</cite></span></span>"
        )

    def known(self, name: str, shown: str = "") -> str:
        """Of `DEFINITIONS` or `OWN`; what has none there is a name alone."""
        found = DEFINITIONS.get(name) or OWN.get(name)
        return self(shown or name, *found) if found else html.escape(shown or name)


def memory(memory: Memory, term: Terms) -> str:
    """How far back the input matters: a sentence, figures, two curves."""
    unit = {"loss": "", "difference": ""}.get(memory.unit, f", {html.escape(memory.unit)}")
    name = "Difference from the output with all steps" if memory.unit == "difference" else "Loss"
    curves = {
        "gradient": (term.known("gradient", "Gradient norm by steps back"), gradient_chart(memory)),
        "context": (term.known("context", f"{name} by context") + unit, context_chart(memory)),
    }
    figures = "".join(
        f"<figure><figcaption>{caption}</figcaption>"
        f"{chart or '<p>There are too few numbers for a curve.</p>'}{_numbers(memory, name)}</figure>"
        for name, (caption, chart) in curves.items()
    )
    said = f'<p class="said">{html.escape(memory.sentence)}</p>'
    return f'{said}{_reach(memory, term)}<div class="charts">{figures}</div>'


def _reach(memory: Memory, term: Terms) -> str:
    """The figures in one row."""
    never = math.isinf(memory.half_life)
    half = "<small>it does not shrink</small>" if never else f"{memory.half_life:,.3g} <small>steps</small>"
    given = memory.steps_given[-1] if memory.steps_given else 0
    found = {
        term.known("horizon"): f"{memory.horizon:,} <small>of {given:,} steps tried</small>",
        term.known("gradient horizon"): f"{memory.gradient_horizon:,} <small>steps</small>",
        term.known("half-life", "half-life of the gradient"): _told(memory.half_life, half),
        term.known("growth", "growth of the gradient"): _told(
            memory.growth, f"× {memory.growth:.3g} <small>a step back</small>"
        ),
    }
    each = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in found.items())
    places = f'<p class="quiet">Means over {plural(memory.places, "place")} of the input.</p>'
    return f'<dl class="figures">{each}</dl>{places}'


def _told(value: float, shown: str) -> str:
    """A figure of the gradient, or why there is none."""
    return "<small>too few steps to tell</small>" if math.isnan(value) else shown


def _numbers(memory: Memory, name: str) -> str:
    """A curve as a table."""
    rows: Iterable[tuple[int, float]] = enumerate(memory.gradient.tolist())
    heads = ("steps back", "gradient norm")
    if name == "context":
        rows, heads = (
            zip(memory.steps_given, memory.context.tolist(), strict=True),
            ("steps of context", memory.unit),
        )
    body = "".join(f'<tr><td>{k:,}</td><td class="number">{value:.4g}</td></tr>' for k, value in rows)
    return (
        '<details><summary>The numbers</summary><div class="scroll" tabindex="0" role="group" aria-label="The numbers">'
        f'<table><thead><tr><th scope="col">{heads[0]}</th><th scope="col" class="number">{html.escape(heads[1])}</th>'
        f"</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def health(findings: Sequence[Finding], term: Terms) -> str:
    """What is wrong, the worst first, with what to try; then what is not."""
    if not findings:
        return "<p>Nothing was measured.</p>"
    wrong = sorted((f for f in findings if f.verdict != "good"), key=lambda f: f.verdict != "bad")
    good = [f for f in findings if f.verdict == "good"]
    count = f"{len(wrong)} of {len(findings)} measures"
    said = f"{count} {'needs' if len(wrong) == 1 else 'need'} a look." if wrong else "Nothing is wrong."
    problems = f'<ul class="problems">{"".join(_problem(f, term) for f in wrong)}</ul>' if wrong else ""
    rows = "".join(_row(f, term) for f in good)
    heads = "".join(f'<th scope="col">{name}</th>' for name in HEADS)
    table = f'<table class="health"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    if len(good) > MANY:
        table = f"<details><summary>The {len(good)} measures that are in order</summary>{table}</details>"
    return f'<p class="said">{said}</p>{problems}{table if good else ""}'


def _verdict(finding: Finding) -> str:
    return f'<span class="verdict {finding.verdict}">{VERDICTS[finding.verdict]}</span>'


def _problem(finding: Finding, term: Terms) -> str:
    advice = (
        f'<p class="try"><strong>Try:</strong> {html.escape(finding.advice)}</p>' if finding.advice else ""
    )
    measure = term(finding.measure, finding.definition, finding.source)
    return (
        f'<li class="{finding.verdict}"><div class="what">{_verdict(finding)}<span>{measure}: '
        f"<strong>{html.escape(finding.shown)}</strong></span>"
        f'<span class="quiet">{html.escape(finding.layer)}</span></div>'
        f"<p>{html.escape(finding.sentence)}</p>{advice}</li>"
    )


def _row(finding: Finding, term: Terms) -> str:
    measure = term(finding.measure, finding.definition, finding.source)
    return (
        f'<tr><td>{_verdict(finding)}</td><td>{measure}</td><td class="quiet">{html.escape(finding.layer)}</td>'
        f"<td>{html.escape(finding.shown)}</td><td>{html.escape(finding.sentence)}</td></tr>"
    )


def attribution(report: Report, term: Terms) -> str:
    """Which steps moved one prediction: the input in colours, and the strongest in a table."""
    found = report.attribution
    if found is None:
        return "<p>No prediction was explained for this input.</p>"
    unit = html.escape(found.unit)
    figures = {
        term.known("output"): f"{_plain(found.output)} <small>{unit}</small>",
        term.known("output", "baseline"): f"{_plain(found.baseline)} <small>{unit}</small>",
        term.known("attribution", "sum of attributions"): _plain(float(np.sum(found.values))),
        term.known("gap"): signed(found.gap, _decimals(found) + 1).removeprefix("+"),
    }
    each = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures.items())
    return (
        '<p class="said">What moved the prediction '
        f'<strong dir="auto">{html.escape(spoken(found.prediction))}</strong>. '
        f'<span class="key up{LEVELS}">Blue</span> raised it, <span class="key down{LEVELS}">orange</span> lowered it.'
        f'</p><dl class="figures">{each}</dl><div class="moved">'
        f'<div class="read {kind_of(report)}" tabindex="0" role="group" aria-label="The input by attribution" lang="">'
        f"{_coloured(report, found)}</div><div>{_strongest(report, found, term)}</div></div>"
    )


def _plain(value: float) -> str:
    return f"{value:z.4g}".replace("-", "−")


def _coloured(report: Report, found: Attribution) -> str:
    """The steps, those that moved the prediction as elements with a colour and a title."""
    values = np.nan_to_num(np.asarray(found.values, dtype=np.float64))
    levels = np.rint(LEVELS * values / (np.abs(values).max(initial=0) or 1)).astype(int).tolist()
    cells = kind_of(report) == "cells"
    return "".join(
        f'<span class="{"up" if level > 0 else "down"}{abs(level)}" title="{html.escape(_titled(report, found, k))}">'
        f"{html.escape(text)}</span>{after}"
        if level or cells
        else html.escape(text) + after
        for k, (level, (text, after)) in enumerate(zip(levels, stretches(report, found.first), strict=False))
    )


def _titled(report: Report, found: Attribution, k: int) -> str:
    step = found.first + k
    place = "" if kind_of(report) == "cells" else f"{step + 1:,}, "
    return f"{report.step} {place}{spoken(report.steps[step])}: {_plain(float(found.values[k]))}"


def _strongest(report: Report, found: Attribution, term: Terms) -> str:
    values = np.nan_to_num(found.values)
    order = np.argsort(-np.abs(values), kind="stable")[:STRONGEST].tolist()
    moved = {found.first + k: float(values[k]) for k in order if values[k]}
    if not moved:
        return "<p>No step moved it.</p>"
    digits, labels = _decimals(found), kind_of(report) == "cells"  # a label says which step it is
    rows = "".join(
        f"<tr>{'' if labels else _number_cell(f'{step + 1:,}')}<td dir=auto>{_in_place(report, step)}</td>"
        f"{_number_cell(_chip(value, digits))}</tr>"
        for step, value in moved.items()
    )
    each = html.escape(report.step)
    first = "" if labels else f'<th scope="col" class="number">{each}</th>'
    return (
        f'<h3>Moved it most</h3><table><thead><tr>{first}<th scope="col">{each if labels else "what stands there"}</th>'
        f'<th scope="col" class="number">{term.known("attribution")}</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _number_cell(content: str) -> str:
    return f'<td class="number">{content}</td>'


def _chip(value: float, digits: int) -> str:
    return f'<span class="chip {"up" if value > 0 else "down"}{LEVELS // 3}">{signed(value, digits)}</span>'


def _decimals(found: Attribution) -> int:
    """So that the largest has three digits."""
    largest = float(np.abs(np.nan_to_num(found.values)).max(initial=0))
    return max(0, 2 - math.floor(math.log10(largest))) if largest > 0 else 0


def _in_place(report: Report, step: int) -> str:
    before, here, after = map(html.escape, surroundings(report, step))
    return f'<span class="quiet">{before}</span><strong>{here}</strong><span class="quiet">{after}</span>'


def glossary() -> str:
    """All definitions."""
    return "".join(
        f"<dt>{html.escape(name.replace('_', ' '))}</dt>"
        f"<dd>{html.escape(definition)} <cite>{html.escape(source)}</cite></dd>"
        for name, (definition, source) in {**DEFINITIONS, **OWN}.items()
    )
