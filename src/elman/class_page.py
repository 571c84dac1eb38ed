"""How a classifier's opinion of texts forms, word by word, as one HTML page that loads nothing.

All of it can be read without JavaScript. The script joins words and curve under the pointer and the arrow keys, and
shows other classes. Texts and labels come from the user: they reach the page escaped, and its own policy forbids it to
load or run anything else. Knows nothing of models.
"""

import html
import os
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

import numpy as np

from elman import page
from elman.checkpoint import write_whole
from elman.data import ElmanError
from elman.page import as_json, head, palette
from elman.trajectory import Floats, Trajectory, percent, short, signed, strengths, verdict

LEVELS = 6  # of a colour
CHOICES = 12  # classes to choose from at most: the likeliest anywhere in the text
BARS = 5  # classes at most
MOVES = 8
BEGINNING = 160  # characters of a text in the list of texts, and less where there is no room
WIDTH, HEIGHT = 1000, 100  # of the curve, in its own units
LIGHT = page.LIGHT | {"for": "10 98 184", "against": "224 122 0"}
DARK = page.DARK | {"for": "86 156 240", "against": "226 128 32"}


def write_page(path: str | os.PathLike[str], trajectories: Sequence[Trajectory], title: str) -> None:
    """Writes a page of texts, whole or not at all. Raises ElmanError for no texts, or when it cannot be written."""
    if not trajectories:
        raise ElmanError("there is nothing to show: give at least one text.")
    data = [[_data(trajectory, cls) for cls in _choices(trajectory)] for trajectory in trajectories]
    many = len(trajectories) > 1
    text = _PAGE.substitute(
        head=head(title, _STYLE, _SCRIPT),
        title=html.escape(title),
        script=_SCRIPT,
        data=as_json(data),
        contents=_contents(trajectories) if many else "",
        texts="\n".join(_article(t, trajectory, many) for t, trajectory in enumerate(trajectories)),
    )
    write_whole(path, text.encode("utf-8", "xmlcharrefreplace"))  # half a surrogate pair is no UTF-8


def _choices(trajectory: Trajectory) -> list[Any]:
    """The classes whose curves can be shown: the first is shown at first."""
    shown, classes = trajectory.shown, trajectory.classes
    if len(classes) == 2 and not trajectory.several:
        return [shown]  # the other's curve is this one, upside down
    order = np.argsort(-trajectory.probabilities.max(axis=0), kind="stable")
    return [shown, *(classes[i] for i in order if classes[i] != shown)][:CHOICES]


def _data(trajectory: Trajectory, cls: Any) -> dict[str, Any]:
    """A class's curve and what each stretch did to it. The curve has one point more: where it begins."""
    points, changes = [s.point for s in trajectory.stretches], trajectory.changes(cls)
    score = [trajectory.before(cls), *trajectory.score(cls)[points].tolist()]
    places = (trajectory.read[points] / max(1, len(trajectory.pieces)) * WIDTH).tolist()
    return {
        "name": str(cls),
        "x": [0, *(round(x, 1) for x in places)],
        "score": [round(p, 4) for p in score],
        "change": [round(c, 3) for c in changes.tolist()],
        "level": np.rint(LEVELS * strengths(changes)).astype(int).tolist(),
        "moves": _largest(changes),
        "about": _about(str(cls), score),
    }


def _largest(changes: Floats) -> list[int]:
    order = np.argsort(-np.abs(changes), kind="stable")[:MOVES]
    return [int(i) for i in order if abs(changes[i]) >= 0.05]  # else it says +0.0


def _about(name: str, score: Sequence[float]) -> str:
    """The curve in words."""
    return (
        f"Probability of {name} from the beginning to the end of the text: from {score[0]:.2f} to {score[-1]:.2f}, "
        f"lowest {min(score):.2f}, highest {max(score):.2f}"
    )


def _contents(trajectories: Sequence[Trajectory]) -> str:
    items = (
        f'<li><div><a href="#t{t}" dir="auto">{html.escape(" ".join(each.text[:BEGINNING].split()))}</a> '
        f'<span dir="auto">{html.escape(verdict(each))}</span></div></li>'
        for t, each in enumerate(trajectories)
    )
    return f'<nav aria-label="Texts"><ol>{"".join(items)}</ol></nav>'


def _article(t: int, trajectory: Trajectory, many: bool) -> str:
    choices = _choices(trajectory)
    data = _data(trajectory, choices[0])
    place = f"{t + 1}. " if many else ""
    return _ARTICLE.substitute(
        t=t,
        heading=f"{place}<bdi>{html.escape(verdict(trajectory))}</bdi>",
        bars="".join(_bars(trajectory)),
        name=html.escape(data["name"]),
        about=html.escape(data["about"]),
        options="".join(f"<option>{html.escape(str(cls))}</option>" for cls in choices),
        line=_path(data),
        area=f"{_path(data)}V{HEIGHT / 2:g}H0Z",
        text=_text(t, trajectory, data),
        moves=_moves(t, trajectory, data),
    )


def _bars(trajectory: Trajectory) -> list[str]:
    """The likeliest classes, as rows of a list."""
    predicted = trajectory.label if trajectory.several else (trajectory.label,)
    order = np.argsort(-trajectory.final, kind="stable")[:BARS]
    named = [(trajectory.classes[i], float(trajectory.final[i])) for i in order]
    return [
        f'<div{" class=predicted" if cls in predicted else ""}><dt dir="auto">{html.escape(str(cls))}</dt>'
        f'<dd><svg viewBox="0 0 1 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{np.clip(p, 0, 1):.4f}" height="1"/></svg><span>{html.escape(percent(p))}</span></dd></div>'
        for cls, p in named
    ]


def _path(data: Mapping[str, Any]) -> str:
    return "M" + "L".join(
        f"{x:g} {HEIGHT * (1 - p):.1f}" for x, p in zip(data["x"], data["score"], strict=True)
    )


def _text(t: int, trajectory: Trajectory, data: Mapping[str, Any]) -> str:
    """The whole text, its stretches as elements with a colour and a title."""
    found, last = [], 0
    for i, (start, end, _) in enumerate(trajectory.stretches):
        word, kind = trajectory.text[start:end], _kind(data["level"][i])
        title = f"{short(word)}: {data['score'][i + 1]:.3f} after it, {signed(data['change'][i], 2)}"
        found.append(
            f'{html.escape(trajectory.text[last:start])}<span id="t{t}w{i}"{kind} title="{html.escape(title)}">'
            f"{html.escape(word)}</span>"
        )
        last = end
    return "".join(found) + html.escape(trajectory.text[last:])


def _kind(level: int) -> str:
    return f" class={'f' if level > 0 else 'a'}{abs(level)}" if level else ""


def _moves(t: int, trajectory: Trajectory, data: Mapping[str, Any]) -> str:
    def item(i: int) -> str:
        start, end, _ = trajectory.stretches[i]
        word, change = html.escape(short(trajectory.text[start:end])), data["change"][i]
        kind = "for" if change > 0 else "against"
        return f'<li><a href="#t{t}w{i}" dir="auto">{word}</a> <b class="{kind}">{signed(change)}</b></li>'

    return "".join(map(item, data["moves"]))


_ARTICLE = Template("""<article id="t$t">
<h2>$heading</h2>
<dl class="bars">$bars</dl>
<figure>
<figcaption>Probability of <strong class="name" dir="auto">$name</strong><select aria-label="Class" autocomplete="off"
 hidden>$options</select>, word by word</figcaption>
<output class="readout" aria-live="polite" dir="auto"></output>
<div class="chart"><div class="scale" aria-hidden="true"><span>1</span><span>0.5</span><span>0</span></div>
<svg class="curve" role="img" aria-label="$about" viewBox="0 0 1000 100" preserveAspectRatio="none">
<svg width="1000" height="50"><path class="area for" d="$area"/></svg>
<svg y="50" width="1000" height="50" viewBox="0 50 1000 50"><path class="area against" d="$area"/></svg>
<path class="half" d="M0 50H1000"/><path class="line" d="$line"/><path class="at"/><path class="dot"/>
</svg></div>
<div class="ends" aria-hidden="true"><span>beginning</span><span>end</span></div>
</figure>
<p class="text" dir="auto" lang="">$text</p>
<h3>Moved it most</h3>
<ol class="moves">$moves</ol>
</article>""")

_PAGE = Template("""$head
<body>
<main>
<h1 dir="auto">$title</h1>
<p class="legend"><span class="f5">Blue</span> raised the probability that is shown, <span class="a5">orange</span>
lowered it; the stronger the colour, the more. Changes are of log-odds: +0.7 doubles the odds, −0.7 halves them.
The curve is blue above 0.5, orange below.</p>
$contents
$texts
</main>
<script type="application/json" id="data">$data</script>
<script>$script</script>
</body>
</html>
""")


def opacity(level: int) -> float:
    """Of a word's colour: the text on it stays readable."""
    return round(0.08 + 0.42 * level / LEVELS, 2)


def _tints() -> str:
    return "".join(
        f".{letter}{level} {{ background: rgb(var(--{name}) / {opacity(level)}) }}\n"
        for letter, name in (("f", "for"), ("a", "against"))
        for level in range(1, LEVELS + 1)
    )


_STYLE = (
    palette(LIGHT, DARK)
    + _tints()
    + """
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif }
main { max-width: 860px; margin: 0 auto; padding: 24px clamp(12px, 3vw, 32px) 40px }
h1 { margin: 0 0 6px; font-size: 22px; font-weight: 650; overflow-wrap: anywhere }
h2 { margin: 0 0 12px; font-size: 18px; font-weight: 650; overflow-wrap: anywhere }
h3 { margin: 0 0 6px; font-size: 13px; font-weight: 550; color: var(--muted) }
a { color: var(--accent); text-underline-offset: 2px }
.legend { margin: 0; color: var(--muted); font-size: 13px; max-width: 68ch }
.legend span { color: var(--ink); padding: 1px 4px; border-radius: 3px }
nav { margin-top: 20px; max-height: 320px; overflow-y: auto; border: 1px solid var(--line); border-radius: 8px }
nav ol { margin: 0; padding: 10px 16px 10px 44px }
nav li { padding: 2px 0 }
nav li div { display: flex; justify-content: space-between; gap: 16px; vertical-align: top }
nav li a { min-width: 0; white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
nav li span { flex: none; max-width: 50%; color: var(--muted); font-size: 13px; line-height: 22px }
article { margin-top: 28px; padding-top: 24px; border-top: 1px solid var(--line); scroll-margin-top: 8px }
.bars { display: grid; grid-template-columns: fit-content(40%) 1fr; gap: 4px 12px; margin: 0 0 20px; font-size: 14px }
.bars div { display: contents }
dt { color: var(--muted); overflow-wrap: anywhere }
dd { display: flex; align-items: center; gap: 10px; margin: 0; color: var(--muted);
  font-variant-numeric: tabular-nums; white-space: nowrap }
dd svg { flex: 1; max-width: 360px; height: 10px; background: var(--line); border-radius: 3px }
dd span { min-width: 56px; text-align: right }
dd svg rect { fill: var(--history) }
.predicted dt, .predicted dd { color: var(--ink); font-weight: 600 }
.predicted rect { fill: var(--accent) }
figure { margin: 0 }
figcaption { font-size: 14px }
.name { font-weight: 600 }
.name[hidden], select[hidden] { display: none }
select { height: 30px; max-width: min(300px, 60vw); font: inherit; font-weight: 600; color: inherit;
  background: var(--paper); border: 1px solid var(--history); border-radius: 6px; padding: 0 6px }
.readout { display: block; min-height: 20px; margin: 2px 0 6px; font-size: 13px; color: var(--muted);
  font-variant-numeric: tabular-nums; white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
.chart { display: flex; gap: 8px; height: 132px }
.scale { flex: none; width: 22px; display: flex; flex-direction: column; justify-content: space-between;
  margin: -8px 0; text-align: right }
.scale, .ends { font-size: 12px; line-height: 16px; color: var(--muted); font-variant-numeric: tabular-nums }
.ends { display: flex; justify-content: space-between; margin: 6px 0 18px 30px }
.curve { flex: 1; min-width: 0; height: 100%; overflow: visible; cursor: crosshair; touch-action: pan-y;
  border: solid var(--line); border-width: 1px 0 }
.curve path { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-linecap: round }
.curve path.area.for { fill: rgb(var(--for) / .25) }
.curve path.area.against { fill: rgb(var(--against) / .28) }
.curve .half { stroke: var(--history); stroke-dasharray: 1 5 }
.curve .line { stroke: var(--ink); stroke-width: 1.75 }
.curve .at { stroke: var(--muted) }
.curve .dot { stroke: var(--accent); stroke-width: 10 }
.text { margin: 0 0 18px; font-size: 17px; line-height: 1.75; white-space: pre-wrap; overflow-wrap: anywhere }
.text span { border-radius: 3px; box-decoration-break: clone; -webkit-box-decoration-break: clone;
  padding-block: 2px; scroll-margin: 40px }
.text span.at, .text span:target, :focus-visible { outline: 2px solid var(--accent); outline-offset: 1px }
.moves { display: flex; flex-wrap: wrap; gap: 6px 8px; margin: 0; padding: 0; list-style: none; font-size: 14px }
.moves li { border: 1px solid var(--line); border-radius: 6px; padding: 3px 9px; overflow-wrap: anywhere }
.moves b { font-weight: 600; font-variant-numeric: tabular-nums; border-radius: 3px; padding: 0 4px }
.moves .for { background: rgb(var(--for) / .2) }
.moves .against { background: rgb(var(--against) / .25) }
.moves:empty::after { content: "No word moved it."; color: var(--muted) }
"""
)

_SCRIPT = r"""
"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const signed = (change, digits) => {
  const size = Math.abs(change).toFixed(digits);
  return (change < 0 && Number(size) ? "−" : "+") + size;
};

// A text: its words and its curve show the same place. The curve's point i + 1 is after word i.
const join = (host, classes) => {
  const get = css => host.querySelector(css), text = get(".text"), curve = get(".curve"), choice = get("select");
  const words = [...text.querySelectorAll("span")];
  const names = words.map(word => word.title.slice(0, word.title.lastIndexOf(": ")));
  let shown = classes[0], at = null;

  const height = p => (100 * (1 - p)).toFixed(1);
  const show = i => {
    if (at !== null) words[at].classList.remove("at");
    at = i;
    if (i !== null) words[i].classList.add("at");
    const x = i !== null && shown.x[i + 1];
    get(".curve .at").setAttribute("d", i === null ? "" : `M${x} 0V100`);
    get(".curve .dot").setAttribute("d", i === null ? "" : `M${x} ${height(shown.score[i + 1])}h0`);
    get(".readout").textContent = i === null ? "" : words[i].title;
  };
  const rest = () => {
    const focused = words.indexOf(document.activeElement);
    show(focused < 0 ? null : focused);
  };
  const choose = () => {
    shown = classes[choice.selectedIndex];
    const line = "M" + shown.x.map((x, i) => `${x} ${height(shown.score[i])}`).join("L");
    get(".line").setAttribute("d", line);
    for (const area of host.querySelectorAll(".area")) area.setAttribute("d", line + "V50H0Z");
    curve.setAttribute("aria-label", shown.about);
    words.forEach((word, i) => {
      const level = shown.level[i];
      word.className = level ? (level > 0 ? "f" : "a") + Math.abs(level) : "";
      word.title = `${names[i]}: ${shown.score[i + 1].toFixed(3)} after it, ${signed(shown.change[i], 2)}`;
    });
    get(".moves").replaceChildren(...shown.moves.map(move));
    rest();
  };
  const move = i => {
    const item = document.createElement("li"), link = document.createElement("a"), change = document.createElement("b");
    link.textContent = names[i];
    link.href = "#" + words[i].id;
    link.dir = "auto";
    change.textContent = signed(shown.change[i], 1);
    change.className = shown.change[i] > 0 ? "for" : "against";
    item.append(link, " ", change);
    return item;
  };
  const nearest = event => {
    const box = curve.getBoundingClientRect(), to = (event.clientX - box.left) / box.width * 1000;
    let low = 1, high = words.length;
    while (high - low > 1) {
      const between = (low + high) >> 1;
      if (shown.x[between] < to) low = between; else high = between;
    }
    return (to - shown.x[low] < shown.x[high] - to ? low : high) - 1;
  };

  if (classes.length > 1) {
    [choice.hidden, get(".name").hidden] = [false, true];
    choice.addEventListener("change", choose);
  }
  if (!words.length) return;
  for (const word of words) word.tabIndex = -1;
  words[0].tabIndex = 0;  // Tab enters the text once; arrows move in it
  const index = event => words.indexOf(event.target.closest("span"));
  text.addEventListener("pointerover", event => { if (index(event) >= 0) show(index(event)); });
  text.addEventListener("pointerleave", rest);
  text.addEventListener("focusin", event => {
    for (const word of words) if (word.tabIndex === 0) word.tabIndex = -1;
    event.target.tabIndex = 0;
    show(index(event));
  });
  text.addEventListener("focusout", () => show(null));
  text.addEventListener("keydown", event => {
    if (event.altKey || event.ctrlKey || event.metaKey || at === null) return;
    const on = getComputedStyle(text).direction === "rtl" ? -1 : 1, last = words.length - 1;
    const from = words.indexOf(document.activeElement);
    const to = {ArrowLeft: from - on, ArrowRight: from + on, Home: 0, End: last}[event.key];
    if (event.key === "Escape") document.activeElement.blur();
    if (to === undefined) return;
    event.preventDefault();
    words[Math.max(0, Math.min(last, to))].focus();
  });
  for (const kind of ["pointermove", "pointerdown"]) curve.addEventListener(kind, event => show(nearest(event)));
  curve.addEventListener("pointerleave", rest);
  curve.addEventListener("click", event => words[nearest(event)].focus());
};
DATA.forEach((classes, t) => join(document.getElementById("t" + t), classes));
"""
