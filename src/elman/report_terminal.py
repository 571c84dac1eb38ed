"""A report on the terminal: the input in colours, what units follow, memory, health, and what moved the prediction.

Knows a report and a width. Nothing in the input is obeyed: control characters are shown as replacements.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from elman.report import Report, plural
from elman.trajectory import BLOCKS, safe, signed, style, terminal

if TYPE_CHECKING:
    from rich.text import Text

_SHOWN = 600  # steps in colours
_LISTED = 10
_MARKS = {"good": "ok", "warning": "look", "bad": "bad"}
_STYLES = {"good": "green", "warning": "yellow", "bad": "bold red"}


def render(report: Report, width: int, color: bool) -> str:
    """For a terminal of so many columns; plain text where `color` is False."""
    console = terminal(width, color)
    with console.capture() as capture:
        for line in _lines(report, width):
            console.print(line, soft_wrap=False, overflow="fold")
    found: str = capture.get().removesuffix("\n")
    return found


def _lines(report: Report, width: int) -> "Iterable[Text | str]":
    from rich.text import Text

    yield Text(safe(report.title), "bold")
    yield Text(safe(", ".join(f"{name} {value}" for name, value in report.facts.items())), "dim")
    for note in report.notes:
        yield Text(f"Note: {safe(note)}", "dim")
    yield ""
    yield from _units(report)
    yield Text("How far it remembers", "bold")
    yield report.memory.sentence
    yield from _curves(report, width)
    yield ""
    yield from _health(report)
    yield from _attribution(report)


def _units(report: Report) -> "Iterable[Text | str]":
    from rich.text import Text

    yield Text("What its units follow", "bold")
    if not report.tracked:
        yield "No unit follows a feature of the input beyond chance."
    for one in report.tracked[:_LISTED]:
        where = f"{one.layer}, unit {one.unit}, {one.quantity.replace('_', ' ')}"
        yield Text(safe(f"  r {signed(one.correlation, 2)}  {one.feature}: {where}"))
    if report.tracked and report.kind in ("text", "labels"):
        yield from _coloured(report)
    yield ""


def _coloured(report: Report) -> "Iterable[Text | str]":
    """The beginning of the input, in the colours of the unit that follows something best."""
    from rich.text import Text

    best = report.tracked[0]
    layer = next(layer for layer in report.layers if layer.name == best.layer)
    values = layer.values[best.quantity][:_SHOWN, best.unit].astype(np.float64)
    low, high = float(values.min()), float(values.max())
    scaled = (values - (low + high) / 2) / max(1e-9, (high - low) / 2)
    yield Text(safe(f"Unit {best.unit} of {best.layer} ({best.feature}): blue high, orange low"), "dim")
    line = Text()
    between = " " if report.step == "word" else ""
    for what, value in zip(report.steps[:_SHOWN], scaled.tolist(), strict=False):
        line.append(what if what == "\n" else safe(what), style(value))
        line.append(between)
    if len(report.steps) > _SHOWN:
        line.append(f" … {plural(len(report.steps) - _SHOWN, report.step)} more", "dim")
    yield line


def _curves(report: Report, width: int) -> "Iterable[str]":
    memory = report.memory
    shown = memory.gradient[: max(10, width - 24)]
    logs = np.log10(np.maximum(shown, 1e-12 * max(1e-30, float(shown.max()))))
    heights = np.clip(np.rint(8 * (1 + (logs - logs.max()) / 4)), 0, 8).astype(int)
    yield "gradient, 4 decades:  " + "".join(BLOCKS[h] for h in heights)
    given = "  ".join(f"{k}: {loss:.3f}" for k, loss in zip(memory.steps_given, memory.context, strict=True))
    what = {"difference": "distance from the whole", "nats": "loss in nats"}.get(memory.unit, "loss")
    yield f"{what} with the last … {report.step}s:  {given}"


def _health(report: Report) -> "Iterable[Text | str]":
    from rich.text import Text

    wrong = [one for one in report.health if one.verdict != "good"]
    yield Text("Health", "bold")
    for one in wrong:
        line = Text(f"  {_MARKS[one.verdict]:5}", _STYLES[one.verdict])
        yield line.append(f"{safe(one.layer)}: {one.sentence} {one.advice}", "")
    good = len(report.health) - len(wrong)
    yield Text(f"  {'ok':5}{plural(good, 'measure')} of {len(report.health)} in order.", "")
    yield ""


def _attribution(report: Report) -> "Iterable[Text | str]":
    from rich.text import Text

    found = report.attribution
    if found is None:
        return
    shown = plural(len(found.values), report.step)
    yield Text(safe(f"What moved the prediction, of the last {shown}: {found.prediction}"), "bold")
    order = np.argsort(-np.abs(found.values), kind="stable")[:_LISTED]
    largest = max(1e-12, float(np.abs(found.values).max()))
    line = Text("  ")
    for k in order.tolist():
        what = safe(
            repr(report.steps[found.first + k]) if report.kind == "text" else report.steps[found.first + k]
        )
        back = len(report.steps) - 1 - found.first - k
        where = f" ({back} back)" if report.step == "character" else ""
        line.append(
            f"{what}{where} {signed(float(found.values[k]), 2)}", style(float(found.values[k]) / largest)
        ).append("  ")
    yield line
    yield Text(
        f"  in {found.unit}: {found.output:.3f}, with zeros there {found.baseline:.3f}, gap {found.gap:.3f}",
        "dim",
    )
