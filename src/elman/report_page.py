"""What a model does on an input, as one HTML page that loads nothing: units over the text, memory, health, attribution.

The script colours the input by a unit's values; everything else can be read without it. Names and texts come from the
user: they reach the page escaped or inside JSON, and its own policy forbids it to load or run anything else. Knows
nothing of models.
"""

import html
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from elman.checkpoint import write_whole
from elman.data import ElmanError
from elman.page import as_json, head
from elman.picture import check_picture
from elman.report import DEFINITIONS, Floats, Report, Traced, Tracked, plural
from elman.report_parts import Terms, attribution, glossary, health, memory
from elman.report_script import SCRIPT
from elman.report_steps import blocks, kind_of, names
from elman.report_style import LEVELS, STYLE
from elman.report_values import FINE, Packed, encode, encode_guesses, pack
from elman.trajectory import signed

SIZE = 4_600_000  # bytes of a page, about: its values take what the rest leaves
MOST = 100_000  # steps of a page
RANKED = 200  # units in the list at most


def write_page(path: str | os.PathLike[str], report: Report, force: bool = False) -> None:
    """Writes the page, whole or not at all. Raises ElmanError as `check_page` does, and when it cannot be written."""
    check_page(path, force)
    write_whole(path, page(report))


def check_page(path: str | os.PathLike[str], force: bool = False) -> None:
    """Raises ElmanError when no page could be written at `path`, or one is there and not `force`: before the work."""
    check_picture(path, (".html",))
    if Path(path).exists() and not force:
        raise ElmanError(f"{path} exists: choose another name, or replace it with --force (force=True).")


def page(report: Report) -> bytes:
    """The file's contents: under 5 MB, however many units and steps there are."""
    report = _last(report, MOST)
    term = Terms()
    parts = {
        "title": html.escape(report.title),
        "facts": _facts(report),
        "notes": "".join(f"<li>{html.escape(note)}</li>" for note in report.notes),
        "nav": _nav(report),
        "memory": memory(report.memory, term),
        "health": health(report.health, term),
        "attribution": attribution(report, term),
        "glossary": glossary(),
        "blocks": _blocks(report),
        "script": SCRIPT,
    }
    data = _data(report)
    packed = pack(report, SIZE - sum(map(_size, parts.values())) - _size(as_json(data)))
    data |= {"layers": _layers(report, packed), "bits": packed.bits, "first": list(next(iter(packed.series)))}
    text = _PAGE.substitute(
        parts,
        head=head(report.title, STYLE, SCRIPT),
        data=as_json(data),
        **_inside(report, packed, term),
    )
    return text.encode("utf-8", "xmlcharrefreplace")  # half a surrogate pair is no UTF-8


def _last(report: Report, count: int) -> Report:
    """The last steps of a report that has more; its figures are of all of them."""
    left = len(report.steps) - count
    if left <= 0:
        return report
    layers = tuple(
        replace(layer, values={name: values[left:] for name, values in layer.values.items()})
        for layer in report.layers
    )
    moved = report.attribution
    if moved is not None:
        skipped = max(0, left - moved.first)
        moved = replace(moved, first=moved.first + skipped - left, values=moved.values[skipped:])
    note = (
        f"this page shows the last {plural(count, report.step)}; its figures are of all {len(report.steps):,}"
    )
    return replace(
        report, steps=report.steps[left:], layers=layers, attribution=moved, guesses=report.guesses[left:],
        losses=None if report.losses is None else report.losses[left:], notes=(*report.notes, note),
    )  # fmt: skip


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _facts(report: Report) -> str:
    return "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in report.facts.items()
    )


def _nav(report: Report) -> str:
    wrong = sum(finding.verdict != "good" for finding in report.health)
    about = {
        "inside": ("Inside", plural(len(report.steps), report.step)),
        "memory": ("Memory", f"horizon {report.memory.horizon:,}"),
        "health": ("Health", f"{wrong} to look at" if wrong else "nothing wrong"),
        "attribution": ("Attribution", "" if report.attribution else "none"),
    }
    return "".join(
        f'<span><a href="#{key}">{name}</a> {html.escape(words)}</span>'
        for key, (name, words) in about.items()
    )


# What the script reads.


def _data(report: Report) -> dict[str, Any]:
    """All but the values of units."""
    places = {layer.name: place for place, layer in enumerate(report.layers)}
    predicted = any(report.guesses)
    words = {word for step in report.guesses for word, _ in step}
    known = report.losses is not None and bool(np.isfinite(report.losses).any())
    return {
        "step": report.step.capitalize(),
        "steps": report.steps,
        "names": names([*report.steps, *words]),
        "levels": LEVELS,
        "fine": FINE,
        "next": report.kind == "text",
        "tracked": [
            {"layer": places[t.layer], "quantity": t.quantity, "unit": t.unit, "feature": t.feature,
             "shown": t.quantity.replace("_", " "), "r": round(float(t.correlation), 4)}
            for t in _ranked(report)
        ],
        "losses": encode(report.losses, FINE) if known and report.losses is not None else None,
        "guesses": encode_guesses(report.guesses, report.kind != "series") if predicted else None,
    }  # fmt: skip


def _ranked(report: Report) -> list[Tracked]:
    return sorted(report.tracked, key=lambda t: -abs(t.correlation))[:RANKED]


def _layers(report: Report, packed: Packed) -> list[dict[str, Any]]:
    held: dict[tuple[int, str], dict[int, list[Any]]] = {}
    for (place, quantity, unit), series in packed.series.items():
        held.setdefault((place, quantity), {})[unit] = series
    return [
        {
            "count": layer.units,
            "values": [_quantity(layer, q, held.get((place, q), {})) for q in layer.values],
        }
        for place, layer in enumerate(report.layers)
    ]


def _quantity(layer: Traced, quantity: str, units: Mapping[int, list[Any]]) -> dict[str, Any]:
    values = layer.values[quantity]
    known = np.isfinite(values)
    low, high = values.min(initial=0, where=known), values.max(initial=0, where=known)
    definition, source = DEFINITIONS.get(quantity, (f"what the cell calls {quantity}.", layer.cell))
    return {
        "name": quantity,
        "shown": quantity.replace("_", " "),
        "about": f"{definition} {source}.",
        "gate": bool(quantity.endswith("gate") and low >= 0 and high <= 1),
        "bound": _bound(values),
        "order": sorted(units),
        "units": units,
    }  # fmt: skip


def _bound(values: Floats) -> float:
    """From zero, 99 % of the values are not farther: of some hundred steps."""
    some = np.abs(values[:: 1 + len(values) // 200]).astype(np.float64)
    known = some[np.isfinite(some)]
    return float(f"{np.quantile(known, 0.99):.7g}") if known.size else 0.0


# The parts of the page.


def _inside(report: Report, packed: Packed, term: Terms) -> dict[str, str]:
    kind, each = kind_of(report), html.escape(report.step)
    held = sorted({place for place, _, _ in packed.series})
    layers = "".join(f'<option value="{i}">{html.escape(report.layers[i].name)}</option>' for i in held)
    return {
        "each": each,
        "holds": html.escape(packed.sentence()),
        "layers": layers,
        "one": " hidden" if len(held) == 1 else "",
        "unit": term.known("unit", "Unit"),
        "kind": kind,
        "width": _width(report),
        "last": str(len(report.steps)),
        "count": html.escape(plural(len(report.steps), report.step)),
        "loss": _loss(report, term),
        "guesses": _guesses(report, term),
        "ranking": _ranking(report, term),
    }


def _width(report: Report) -> str:
    longest = max(map(len, report.steps))
    return "narrow" if longest <= 7 else "middle" if longest <= 16 else "wide"


def _blocks(report: Report) -> str:
    return "".join(
        f'<div class="block" data-from="{start}" dir="auto">{html.escape(text)}</div>'
        for start, text in blocks(report)
    )


def _loss(report: Report, term: Terms) -> str:
    if report.losses is None or not np.isfinite(report.losses).any():
        return ""
    unit = ", nats" if report.memory.unit == "nats" else ""
    return f'<dt>{term.known("loss")}{unit}</dt><dd id="loss"></dd>'


def _guesses(report: Report, term: Terms) -> str:
    if not any(report.guesses):
        if report.kind == "layer":
            return "<p>A layer by itself predicts nothing.</p>"
        return "<p>The model predicts at the end alone: there are no predictions step by step.</p>"
    return f'<div>{term.known("predictions", "Predictions after it")}</div><ol id="guesses"></ol>'


def _ranking(report: Report, term: Terms) -> str:
    if not report.tracked:
        return "<h3>Units by what they track</h3><p>No unit tracks a feature of this input beyond chance.</p>"
    found = _ranked(report)
    features = dict.fromkeys(t.feature for t in found)
    options = "".join(f"<option>{html.escape(feature)}</option>" for feature in features)
    choice = (
        '<select id="feature" aria-label="Feature" autocomplete="off" data-live hidden>'
        f'<option value="">any feature</option>{options}</select>'
    )
    items = "".join(
        f'<li><button type="button" data-k="{k}" aria-pressed="false"><span dir="auto">{html.escape(t.feature)}</span>'
        f"<b>{signed(t.correlation, 2)}</b><small>unit {t.unit} · {html.escape(t.quantity.replace('_', ' '))} · "
        f"{html.escape(t.layer)}</small></button></li>"
        for k, t in enumerate(found)
    )
    more = len(report.tracked) - len(found)
    rest = f'<p class="quiet">and {more:,} more, weaker</p>' if more else ""
    title = f"<h3>Units by what they {term.known('tracks', 'track, r')}</h3>"
    return (
        f'<header>{title}{choice if len(features) > 1 else ""}</header><ol class="ranked">{items}</ol>{rest}'
    )


_PAGE = Template("""$head
<body>
<main>
<header>
<h1 dir="auto">$title</h1>
<dl class="facts">$facts</dl>
<ul class="notes">$notes</ul>
<nav aria-label="Parts">$nav</nav>
</header>
<section id="inside" aria-labelledby="inside-title">
<h2 id="inside-title">Inside</h2>
<p>Each $each is coloured by what one unit holds after it.</p>
<p class="quiet">$holds</p>
<noscript><p>Colours and predictions need JavaScript, which is switched off.</p></noscript>
<div class="tools" data-live hidden>
<label$one>Layer<select id="layer" autocomplete="off">$layers</select></label>
<label>Value<select id="quantity" autocomplete="off"></select></label>
<div class="unit">$unit<div><button type="button" id="previous" aria-label="Previous unit">‹</button>
<input type="text" id="unit" inputmode="numeric" autocomplete="off" aria-label="Unit: arrow keys go on">
<button type="button" id="next" aria-label="Next unit">›</button><span id="count"></span></div></div>
<div class="legend" id="legend"><i></i><div><span></span><span></span><span></span></div></div>
<label class="same"><input type="checkbox" id="same" autocomplete="off">One scale for all units</label>
</div>
<p class="quiet" id="what"></p>
<p class="tracks" id="tracks" aria-live="polite"></p>
<div class="view">
<div>
<div class="wave" id="wave" role="slider" tabindex="0" aria-label="Place in the input" aria-valuemin="1"
 aria-valuemax="$last" aria-valuenow="1" data-live hidden><canvas aria-hidden="true"></canvas><i></i></div>
<div id="text" class="$kind $width" tabindex="0" role="group" aria-busy="true" lang=""
 aria-label="The input, $count: left and right arrow keys go from one to the next">$blocks</div>
</div>
<aside>
<div class="readout" data-live hidden>
<div class="place"><span id="place"></span></div>
<div class="stands" id="stands" dir="auto"></div>
<dl><dt id="label"></dt><dd id="value"></dd>$loss</dl>
<div class="guesses">$guesses</div>
</div>
<div class="ranking" id="ranked">$ranking</div>
</aside>
</div>
<output class="heard" id="heard" aria-live="polite"></output>
</section>
<section id="memory" aria-labelledby="memory-title">
<h2 id="memory-title">Memory</h2>
$memory
</section>
<section id="health" aria-labelledby="health-title">
<h2 id="health-title">Health</h2>
$health
</section>
<section id="attribution" aria-labelledby="attribution-title">
<h2 id="attribution-title">Attribution</h2>
$attribution
</section>
<section>
<details><summary>All definitions and their sources</summary><dl class="glossary">$glossary</dl></details>
</section>
</main>
<script type="application/json" id="data">$data</script>
<script>$script</script>
</body>
</html>
""")
