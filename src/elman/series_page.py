"""Forecasts as one HTML page that loads nothing: the data as JSON, and a script that draws the chosen series as SVG.

Names come from the user's table, so they reach the page only inside the JSON, with < > & escaped, and the script puts
them in as text. The page's own policy forbids it to load or run anything else.
"""

import html
from collections.abc import Sequence
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from elman.page import DARK, LIGHT, START, as_json, head, palette

if TYPE_CHECKING:
    from elman.series_plot import Drawing, Steps

DIGITS = (
    5  # significant, of a series' largest value; smaller ones have as many decimals, and at least 3 digits
)
DOTS = 60  # steps ahead: so many actual values are dots, more are a line
_PRECISION = 8  # significant digits in the file: more than are shown
_EXACT = 2**53  # integers below this are exact in JavaScript


def shade(bands: int, below: int = 0) -> float:
    """Opacity of one of so many nested bands; with `below`, what it and the bands below it add up to."""
    one = min(0.2, 1 - 0.5 ** (1 / max(1, bands)))
    return float(1 - (1 - one) ** (below + 1))


def page(drawings: "Sequence[Drawing]", steps: "Steps | None", title: str) -> bytes:
    """The file's contents."""
    data = {
        "series": [_series(drawing) for drawing in drawings],
        "steps": None if steps is None else _steps(steps),
        "dots": DOTS,
        "shades": {len(d.intervals): _shades(len(d.intervals)) for d in drawings},
    }
    text = _PAGE.substitute(
        head=head(title or "Forecast", _STYLE, _SCRIPT),
        title=html.escape(title or "Forecast"),
        script=_SCRIPT,
        data=as_json(data),
        **{name: _FIGURE.substitute(id=name, title=title) for name, title in _FIGURES.items()},
    )
    return text.encode("utf-8", "xmlcharrefreplace")  # half a surrogate pair is no UTF-8


def _shades(bands: int) -> list[float]:
    """One band's opacity, then for each, widest first, what is seen: the legend's."""
    return [round(shade(bands), 4), *(round(shade(bands, k), 4) for k in range(bands))]


def _series(drawing: "Drawing") -> dict[str, Any]:
    levels = sorted(drawing.intervals, reverse=True)
    arrays = [drawing.values, drawing.middle, *(b for pair in drawing.intervals.values() for b in pair)]
    if drawing.actual is not None:
        arrays.append(drawing.actual)
    return {
        "name": drawing.name,
        "times": _times(drawing),
        "recent": drawing.recent,
        "digits": _decimals(arrays),
        "values": _numbers(drawing.values),
        "middle": _numbers(drawing.middle),
        "middleName": drawing.middle_name,
        "intervals": [[f"{level:g} %", *map(_numbers, drawing.intervals[level])] for level in levels],
        "actual": None if drawing.actual is None else _numbers(drawing.actual),
    }


def _steps(steps: "Steps") -> dict[str, Any]:
    errors = [[rule, _numbers(values)] for rule, values in steps.errors.items()]
    coverage = [[level, _numbers(values)] for level, values in steps.coverage.items()]
    return {"horizon": steps.horizon, "errors": errors, "coverage": coverage}


def _decimals(arrays: Sequence[NDArray[np.floating[Any]]]) -> int:
    """Decimals to show."""
    every = np.abs(np.concatenate([np.asarray(a, dtype=np.float64) for a in arrays]))
    largest = np.max(every, initial=0.0, where=np.isfinite(every))
    return int(np.clip(DIGITS - 1 - np.floor(np.log10(largest)), 0, 300)) if largest > 0 else 0


def _numbers(values: NDArray[np.floating[Any]]) -> list[float | None]:
    """As short as what is shown allows; None where there is no number."""
    return [_number(v) for v in np.asarray(values, dtype=np.float64).tolist()]


def _number(value: float) -> float | None:
    if not np.isfinite(value):
        return None
    if abs(value) < 10**_PRECISION:
        value = float(f"{value:.{_PRECISION}g}")
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def _times(drawing: "Drawing") -> dict[str, Any]:
    """History's and the forecast's: a start and steps, one number for all of them where they are equal."""
    times = np.concatenate((np.asarray(drawing.times), np.asarray(drawing.ahead)))
    dates = times.dtype.kind == "M"
    whole = (times.astype("datetime64[us]") if dates else times).astype(np.int64)
    steps = np.diff(whole)
    unit = max(1, int(np.gcd.reduce(steps))) if len(steps) else 1
    steps = steps // unit
    same = len(steps) > 0 and (steps == steps[0]).all()
    short = int(steps[0]) if same else steps.tolist()
    return {"dates": dates, "start": int(whole[0]), "unit": unit, "steps": short, "count": len(times)}


_FIGURES = {
    "forecast": "History and forecast",
    "errors": "Mean absolute scaled error by step ahead",
    "coverage": "Coverage by step ahead, % (dashed: nominal)",
}

_FIGURE = Template("""<section class="figure" id="$id">
<h2>$title</h2>
<dl class="readout"></dl>
<div class="plot"><svg role="img" aria-label="$title"></svg>
<div class="over" role="slider" tabindex="0" aria-label="$title: step" aria-valuemin="1"></div></div>
</section>""")

_PAGE = Template("""$head
<body>
<main>
<header>
<h1>$title</h1>
<nav id="choice" aria-label="Series">
<button type="button" id="previous" aria-label="Previous series">‹</button>
<select id="series" aria-label="Series"></select>
<button type="button" id="next" aria-label="Next series">›</button>
<span id="count"></span>
</nav>
<label id="longer"><input type="checkbox" id="all"> All history</label>
</header>
<noscript><p>This page draws its charts with JavaScript, which is switched off.</p></noscript>
$forecast
<details id="table"><summary>The forecast as a table</summary><div class="scroll"><table></table></div></details>
<div id="steps" hidden>
$errors
$coverage
</div>
</main>
<script type="application/json" id="data">$data</script>
<script>$script</script>
</body>
</html>
""")


_STYLE = (
    palette(LIGHT, DARK)
    + """
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif }
main { max-width: 1120px; margin: 0 auto; padding: 24px clamp(12px, 3vw, 32px) 40px }
header { display: flex; flex-wrap: wrap; align-items: center; gap: 10px 20px; margin-bottom: 18px }
h1 { flex: 1 1 100%; margin: 0; font-size: 22px; font-weight: 650; overflow-wrap: anywhere }
h2 { margin: 0; font-size: 15px; font-weight: 600; overflow-wrap: anywhere }
nav { display: flex; align-items: center; gap: 6px; min-width: 0; max-width: 100% }
nav[hidden], #longer[hidden] { display: none }
select { min-width: 0; max-width: min(420px, 60vw) }
select, button { height: 34px; font: inherit; color: inherit; background: var(--paper);
  border: 1px solid var(--history); border-radius: 6px; padding: 0 10px; text-overflow: ellipsis }
button { width: 34px; padding: 0; font-size: 18px; line-height: 1; cursor: pointer }
button:hover, select:hover { border-color: var(--accent) }
#count { color: var(--muted); margin-left: 6px; white-space: nowrap; font-variant-numeric: tabular-nums }
#longer { display: inline-flex; gap: 7px; align-items: center; min-height: 34px; cursor: pointer }
input { accent-color: var(--accent); width: 16px; height: 16px; margin: 0 }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px }
.readout { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 6px 0 4px; min-height: 44px; font-size: 13px }
.readout.idle dd { color: var(--muted); font-weight: 400 }
.readout dt { color: var(--muted); display: flex; align-items: center; gap: 6px; white-space: nowrap }
.readout dd { margin: 0; min-height: 19px; font-variant-numeric: tabular-nums; white-space: nowrap; font-weight: 550 }
.readout svg { width: 16px; height: 10px; flex: none }
.readout svg path { stroke-width: 2.25 }
.readout svg path.dots { stroke-width: 6; stroke-linecap: round }
.plot { position: relative; height: 380px }
#steps .plot { height: 260px }
.plot svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible }
.over { position: absolute; inset: 0; touch-action: pan-y; cursor: crosshair }
#steps { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 28px 36px;
  margin-top: 30px }
#steps[hidden] { display: none }
svg text { fill: var(--muted); font-size: 12px; font-variant-numeric: tabular-nums }
svg text.ours { fill: var(--accent); font-weight: 650 }
path, line { fill: none; stroke: var(--history); stroke-width: 1.25; stroke-linejoin: round }
path.ours { stroke: var(--accent); stroke-width: 2.25 }
path.actual { stroke: var(--ink); stroke-width: 1.4 }
path.band { fill: var(--accent); stroke: none }
line.grid { stroke: var(--line); stroke-width: 1 }
line.promised { stroke-dasharray: 5 4 }
line.at { stroke: var(--muted); stroke-width: 1 }
circle { fill: var(--history) }
g circle { stroke: var(--paper); stroke-width: 1.5 }
circle.ours { fill: var(--accent) }
circle.actual { fill: var(--ink) }
details { margin-top: 14px }
summary { cursor: pointer; color: var(--muted); width: fit-content }
.scroll { overflow-x: auto; margin-top: 8px }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { padding: 3px 14px 3px 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left }
th { color: var(--muted); font-weight: 500 }
"""
)

_SCRIPT = (
    START
    + r"""
const SVG = document.querySelector("svg").namespaceURI;
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
const DAYS = "Sun Mon Tue Wed Thu Fri Sat".split(" ");
const SECOND = 1e3, MINUTE = 6e4, HOUR = 36e5, DAY = 864e5, WEEK = 7 * DAY;

const mark = (parent, name, attributes, text = "") => {
  const made = document.createElementNS(SVG, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  made.textContent = text;
  parent.append(made);
  return made;
};

// Numbers and times as text.
const number = (value, digits) => {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-4)) return value.toExponential(4);
  const decimals = Number.isInteger(value) ? 0 : Math.min(15, Math.max(digits, 2 - Math.floor(Math.log10(size))));
  const fixed = {minimumFractionDigits: decimals, maximumFractionDigits: decimals};
  return new Intl.NumberFormat("en-US", fixed).format(value);
};
const short = value => {
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-4)) return String(Number(value.toPrecision(10)));
  const [unit, letter] = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1, ""]].find(([u]) => size >= u) || [1, ""];
  return new Intl.NumberFormat("en-US", {maximumSignificantDigits: 10}).format(value / unit) + letter;
};
const two = value => String(value).padStart(2, "0");
const hours = time => two(time.getUTCHours()) + ":" + two(time.getUTCMinutes());
const day = time => `${time.getUTCDate()} ${MONTHS[time.getUTCMonth()]} ${time.getUTCFullYear()}`;
const stamp = (at, exact) => {
  const time = new Date(at);
  let text = `${DAYS[time.getUTCDay()]} ${day(time)}`;
  if (exact < DAY) text += ", " + hours(time);
  if (exact < MINUTE) text += ":" + two(time.getUTCSeconds());
  if (exact < SECOND) text += "." + String(time.getUTCMilliseconds()).padStart(3, "0");
  return text;
};

// Ticks: [{at, label, below}].
const ticks = (low, high, room, whole = false) => {
  const rough = (high - low) / Math.max(1, room), power = 10 ** Math.floor(Math.log10(rough));
  let step = power * [1, 2, 5, 10].find(k => k * power >= rough * 0.999);
  if (whole) step = Math.max(1, Math.round(step));
  const first = Math.ceil(low / step - 1e-9), count = Math.floor(high / step + 1e-9) - first;
  if (!(count >= 0 && count < 100)) return [];
  return Array.from({length: count + 1}, (_, i) => ({at: (first + i) * step, label: short((first + i) * step)}));
};
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500].concat(
  [1, 2, 5, 10, 15, 30].map(k => k * SECOND), [1, 2, 5, 10, 15, 30].map(k => k * MINUTE),
  [1, 2, 3, 6, 12].map(k => k * HOUR), DAY, 2 * DAY, WEEK, 2 * WEEK);
const timeTicks = (low, high, room, exact) => {
  const step = STEPS.find(s => s >= exact && (high - low) / s <= room), found = [];
  if (step) {
    const monday = step % WEEK ? 0 : 4 * DAY;  // the epoch was a Thursday
    for (let at = Math.ceil((low - monday) / step) * step + monday; at <= high; at += step) found.push(at);
  } else {
    const span = (high - low) / (30.44 * DAY), first = new Date(low);
    const months = [1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200, 6000, 12e3].find(m => span / m <= room) || 12e4;
    let month = Math.floor((first.getUTCFullYear() * 12 + first.getUTCMonth()) / months) * months;
    for (; Date.UTC(Math.floor(month / 12), month % 12) <= high; month += months)
      if (Date.UTC(Math.floor(month / 12), month % 12) >= low) found.push(Date.UTC(Math.floor(month / 12), month % 12));
    if (months >= 12) return found.map(at => ({at, label: String(new Date(at).getUTCFullYear())}));
  }
  let before = "";
  return found.map(at => {
    const time = new Date(at), year = String(time.getUTCFullYear());
    const [label, context] = !step ? [MONTHS[time.getUTCMonth()], year]
      : step >= DAY ? [String(time.getUTCDate()), MONTHS[time.getUTCMonth()] + " " + year]
      : [step >= MINUTE ? hours(time) : stamp(at, step).split(", ")[1], day(time)];
    const below = context === before ? "" : context;
    before = context;
    return {at, label, below};
  });
};

// Of many points in one column of pixels: the first, the lowest, the highest, the last.
const thinned = (x, y, width) => {
  if (y.length < 4 * width) return [...y.keys()];
  const kept = [];
  for (let i = 0, end; i < y.length; i = end) {
    let low = i, high = i;
    for (end = i; end < y.length && Math.floor(x(end)) === Math.floor(x(i)); end++) {
      if (y[end] < y[low] || Number.isNaN(y[low])) low = end;
      if (y[end] > y[high] || Number.isNaN(y[high])) high = end;
    }
    kept.push(...new Set([i, Math.min(low, high), Math.max(low, high), end - 1]));
  }
  return kept;
};
const apart = (places, gap, top, bottom) => {
  const order = [...places.keys()].sort((a, b) => places[a] - places[b]), found = [...places];
  let last = -Infinity;
  for (const i of order) last = found[i] = Math.max(found[i], last + gap);
  last = bottom + gap;
  for (const i of order.reverse()) last = found[i] = Math.min(found[i], last - gap);
  return found;
};

// A chart: draw(spec), then a pointer, a finger or the arrow keys move over its steps.
// spec: x [numbers], lines [{name, kind, y, start, end}], bands [{name, low, high, opacity, seen}], promised [numbers],
// ticks(low, high, room), when(i), digits, about, first (where the keys begin), zero, top.
const chart = id => {
  const host = get(id), svg = host.querySelector("svg"), over = host.querySelector(".over");
  const readout = host.querySelector(".readout");
  let spec, x, y, at = null, moving, cells;

  const range = () => {
    const every = [...spec.lines.map(l => l.y), ...spec.bands.flatMap(b => [b.low, b.high]), spec.promised];
    let low = Infinity, high = -Infinity;
    for (const values of every) for (const v of values) if (Number.isFinite(v)) {
      low = Math.min(low, v);
      high = Math.max(high, v);
    }
    if (low > high) [low, high] = [0, 1];
    if (spec.zero) low = Math.min(0, low);
    const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
    return [spec.zero && low === 0 ? 0 : low - pad, Math.min(high + pad, spec.top ?? Infinity)];
  };
  const trace = (values, start) => {
    let open = Boolean(start), path = start ? `M${x(start[0]).toFixed(1)} ${y(start[1]).toFixed(1)}` : "";
    for (const i of thinned(x, values, svg.clientWidth)) if (!start || i > start[0]) {
      if (Number.isFinite(values[i])) path += `${open ? "L" : "M"}${x(i).toFixed(1)} ${y(values[i]).toFixed(1)}`;
      open = Number.isFinite(values[i]);
    }
    return path;
  };
  const area = band => {
    const known = [...band.low.keys()].filter(i => Number.isFinite(band.low[i]) && Number.isFinite(band.high[i]));
    const start = band.start ? [band.start] : [];
    const corner = ([i, v]) => `${x(i).toFixed(1)} ${y(v).toFixed(1)}`;
    const edge = values => start.concat(known.map(i => [i, values[i]])).map(corner);
    return known.length ? "M" + edge(band.high).concat(edge(band.low).reverse()).join("L") + "Z" : "";
  };
  const axes = (left, right, top, bottom, low, high) => {
    for (const tick of ticks(low, high, (bottom - top) / 60)) {
      mark(svg, "line", {class: "grid", x1: left, x2: right, y1: y(tick.at), y2: y(tick.at)});
      mark(svg, "text", {x: left - 8, y: y(tick.at) + 4, "text-anchor": "end"}, tick.label);
    }
    const [first, last] = [spec.x[0], spec.x.at(-1)];
    const place = v => first === last ? (left + right) / 2 : left + (v - first) / (last - first) * (right - left);
    const alone = [{at: first, label: spec.when(0)}];
    for (const tick of first === last ? alone : spec.ticks(first, last, (right - left) / 72)) {
      mark(svg, "line", {class: "grid", x1: place(tick.at), x2: place(tick.at), y1: bottom, y2: bottom + 5});
      mark(svg, "text", {x: place(tick.at), y: bottom + 18, "text-anchor": "middle"}, tick.label);
      if (tick.below) mark(svg, "text", {x: place(tick.at), y: bottom + 33, "text-anchor": "middle"}, tick.below);
    }
    return place;
  };
  const legend = () => {
    readout.replaceChildren();
    const sample = range().map(v => number(v * 0.999999, spec.digits).length);
    const cell = (name, kind, length, opacity) => {
      const box = node(readout, "div"), label = node(box, "dt");
      box.style.minWidth = `${length}ch`;  // the others stay where they are when this one changes
      if (kind) {
        const key = mark(label, "svg", {"aria-hidden": "true"}), shape = {band: "M0 0H16V10H0Z", dots: "M8 5h0"};
        mark(key, "path", {class: kind, d: shape[kind.split(" ").at(-1)] || "M0 5H16", "fill-opacity": opacity});
      }
      node(label, "span", name);
      return node(box, "dd");
    };
    const value = Math.max(...sample) + 1;
    cells = [cell(spec.axis, "", spec.when(0).length + 2)];
    for (const line of spec.lines) cells.push(cell(line.name, line.end ? "" : line.kind, value));
    for (const band of spec.bands) cells.push(cell(band.name, "band", 2 * value + 3, band.seen));
  };
  const names = (right, bottom) => {
    const known = spec.lines.filter(l => l.end && l.y.some(Number.isFinite));
    const places = known.map(l => y(l.y.findLast(Number.isFinite)));
    apart(places, 15, 8, bottom).forEach((place, i) =>
      mark(svg, "text", {x: right + 8, y: place + 4, class: known[i].kind}, known[i].end));
  };
  const draw = made => {
    if (made) { spec = made; at = null; legend(); }
    const width = svg.clientWidth, height = svg.clientHeight, [low, high] = range();
    const wide = Math.max(...ticks(low, high, 6).map(t => t.label.length), 2);
    const end = Math.max(0, ...spec.lines.map(l => (l.end || "").length));
    const left = 7.2 * wide + 12, right = width - (end ? 7.4 * end + 12 : 14), top = 10, bottom = height - 40;
    y = v => bottom - (v - low) / (high - low) * (bottom - top);
    svg.replaceChildren();
    mark(svg, "desc", {}, spec.about);
    const place = axes(left, right, top, bottom, low, high);
    x = i => place(spec.x[i]);
    for (const v of spec.promised) mark(svg, "line", {class: "promised", x1: left, x2: right, y1: y(v), y2: y(v)});
    for (const band of spec.bands) mark(svg, "path", {class: "band", d: area(band), "fill-opacity": band.opacity});
    for (const line of [...spec.lines].sort((a, b) => (a.kind === "ours") - (b.kind === "ours"))) {
      if (!line.kind.includes("dots")) mark(svg, "path", {class: line.kind, d: trace(line.y, line.start)});
    }
    for (const line of spec.lines) {
      const many = line.y.filter(Number.isFinite).length;
      if (many === 1 || line.kind.includes("dots")) line.y.forEach((v, i) => {
        if (Number.isFinite(v)) mark(svg, "circle", {class: line.kind, cx: x(i), cy: y(v), r: 2.75});
      });
    }
    names(right, bottom);
    moving = mark(svg, "g", {});
    over.setAttribute("aria-valuemax", spec.x.length);
    show(at);
  };
  const show = i => {
    at = i;
    moving.replaceChildren();
    if (i === null) {
      cells.forEach(cell => { cell.textContent = ""; });
      cells[0].textContent = spec.hint;
      readout.classList.add("idle");
      over.setAttribute("aria-valuenow", spec.first + 1);
      over.setAttribute("aria-valuetext", "no step chosen: use the arrow keys");
      return;
    }
    readout.classList.remove("idle");
    const bottom = svg.clientHeight - 40;
    mark(moving, "line", {class: "at", x1: x(i), x2: x(i), y1: 10, y2: bottom});
    for (const line of spec.lines) if (Number.isFinite(line.y[i]))
      mark(moving, "circle", {class: line.kind, cx: x(i), cy: y(line.y[i]), r: 4.5});
    const texts = [spec.when(i), ...spec.lines.map(l => number(l.y[i], spec.digits)), ...spec.bands.map(b =>
      Number.isFinite(b.low[i]) ? `${number(b.low[i], spec.digits)} to ${number(b.high[i], spec.digits)}` : "–")];
    cells.forEach((cell, k) => { cell.textContent = texts[k]; });
    over.setAttribute("aria-valuenow", i + 1);
    const labels = ["", ...spec.lines.map(l => l.name), ...spec.bands.map(b => b.name)];
    const spoken = texts.map((text, k) => `${labels[k]} ${text}`.trim()).filter(text => !text.endsWith("–"));
    over.setAttribute("aria-valuetext", spoken.join(", "));
  };
  const nearest = event => {
    const to = event.clientX - svg.getBoundingClientRect().left;
    let low = 0, high = spec.x.length - 1;
    while (high - low > 1) {
      const between = (low + high) >> 1;
      if (x(between) < to) low = between; else high = between;
    }
    return to - x(low) < x(high) - to ? low : high;
  };
  for (const kind of ["pointermove", "pointerdown"]) over.addEventListener(kind, event => show(nearest(event)));
  over.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") show(null); });
  over.addEventListener("blur", () => show(null));
  over.addEventListener("keydown", event => {
    const last = spec.x.length - 1, from = at ?? spec.first - 1;
    const to = {ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last, Escape: null}[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(to === null ? null : Math.max(0, Math.min(last, to)));
  });
  new ResizeObserver(() => { if (spec) draw(); }).observe(svg);
  return draw;
};

// The series.
const known = values => values.map(v => v === null ? NaN : v);
const times = ({dates, start, unit, steps, count}) => {
  const found = new Array(count), scale = dates ? 1e3 : 1;  // microseconds
  for (let i = 0, at = start; i < count; i++) {
    found[i] = at / scale;
    at += unit * (Array.isArray(steps) ? steps[i] : steps);
  }
  return found;
};
const exactness = x => [DAY, MINUTE, SECOND].find(unit => x.every(at => at % unit === 0)) || 1;
const forecastSpec = (series, all) => {
  const n = series.values.length, from = all ? 0 : Math.max(0, n - series.recent), every = times(series.times);
  const x = every.slice(from), past = known(series.values.slice(from)), before = past.length;
  const later = values => new Array(before).fill(NaN).concat(known(values));
  const start = before && Number.isFinite(past.at(-1)) ? [before - 1, past.at(-1)] : undefined;
  const exact = series.times.dates ? exactness(every) : 0, shades = DATA.shades[series.intervals.length];
  const lines = [{name: "history", kind: "history", y: past.concat(new Array(series.middle.length).fill(NaN))},
    {name: series.middleName, kind: "ours", y: later(series.middle), start}];
  if (series.actual) lines.push({name: "actual", y: later(series.actual),
    kind: series.middle.length <= DATA.dots ? "actual dots" : "actual"});
  const when = i => series.times.dates ? stamp(x[i], exact) : String(x[i]);
  const ends = (i, j) => `from ${when(i)} to ${when(j)}`;
  return {x, lines, when, digits: series.digits, first: before, promised: [], axis: "time",
    hint: "point at the chart",
    bands: series.intervals.map(([name, low, high], k) =>
      ({name, low: later(low), high: later(high), start, opacity: shades[0], seen: shades[k + 1]})),
    ticks: (low, high, room) => series.times.dates ? timeTicks(low, high, room, exact) :
      ticks(low, high, room, true).map(({at}) => ({at, label: String(at)})),
    about: `${series.name}: ` + (before ? `history ${ends(0, before - 1)}, ` : "") +
      `${series.middleName} forecast with intervals ${ends(before, x.length - 1)}.`};
};
const fill = series => {
  const table = get("table").querySelector("table"), n = series.values.length, at = times(series.times);
  table.replaceChildren();
  const exact = series.times.dates ? exactness(at) : 0, head = node(node(table, "thead"), "tr");
  const columns = [[series.middleName, series.middle],
    ...series.intervals.flatMap(([name, low, high]) => [[name + " from", low], ["to", high]]),
    ...(series.actual ? [["actual", series.actual]] : [])];
  for (const name of ["time", ...columns.map(c => c[0])]) node(head, "th", name).scope = "col";
  const body = node(table, "tbody");
  series.middle.forEach((_, i) => {
    const row = node(body, "tr"), time = at[n + i];
    node(row, "td", series.times.dates ? stamp(time, exact) : String(time));
    for (const [, values] of columns) node(row, "td", number(known(values)[i], series.digits));
  });
};

// The page.
const drawForecast = chart("forecast"), choice = get("series");
const choose = () => {
  const chosen = choice.selectedIndex, series = DATA.series[chosen], more = series.values.length > series.recent;
  get("forecast").querySelector("h2").textContent = series.name;
  get("count").textContent = `${(chosen + 1).toLocaleString("en-US")} of ${DATA.series.length.toLocaleString("en-US")}`;
  get("longer").hidden = !more;
  drawForecast(forecastSpec(series, get("all").checked));
  if (get("table").open) fill(series);
};
const move = by => {
  choice.selectedIndex = (choice.selectedIndex + by + DATA.series.length) % DATA.series.length;
  choose();
};
for (const series of DATA.series) node(choice, "option", series.name);
get("choice").hidden = DATA.series.length < 2;
choice.addEventListener("change", choose);
get("all").addEventListener("change", choose);
get("previous").addEventListener("click", () => move(-1));
get("next").addEventListener("click", () => move(1));
get("table").addEventListener("toggle", () => { if (get("table").open) fill(DATA.series[choice.selectedIndex]); });
choose();
if (DATA.steps) {
  get("steps").hidden = false;
  const x = Array.from({length: DATA.steps.horizon}, (_, i) => i + 1);
  const common = {x, bands: [], when: i => `${i + 1}`, first: 0, axis: "step", hint: "",
    ticks: (low, high, room) => ticks(low, high, Math.min(12, 1.5 * room), true)};
  chart("errors")({...common, digits: 3, zero: true, promised: [],
    about: "Mean absolute scaled error of each rule, by step ahead.",
    lines: DATA.steps.errors.map(([name, y]) =>
      ({name, y: known(y), end: name, kind: name === "elman" ? "ours" : "rule"}))});
  chart("coverage")({...common, digits: 1, top: 101, promised: DATA.steps.coverage.map(c => c[0]),
    about: "Share of actual values inside each interval, by step ahead.",
    lines: DATA.steps.coverage.map(([level, y]) =>
      ({name: `${level} %`, y: known(y), end: `${level} %`, kind: "ours"}))});
}
"""
)
