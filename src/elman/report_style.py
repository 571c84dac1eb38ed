"""How the page of an explanation looks: its colours, light and dark, and its style sheet."""

from elman import page
from elman.page import palette

LEVELS = 16  # of a colour
STRONGEST = 0.68  # opacity: what stands on it stays readable
TINTS = ("up", "down", "gate")  # above zero, below zero, open
LIGHT = page.LIGHT | {
    "up": "24 110 200", "down": "226 112 8", "gate": "16 138 118",
    "good": "#1a7f37", "warning": "#8a5d00", "bad": "#c11f2b", "soft": "#f5f7f9",
}  # fmt: skip
DARK = page.DARK | {
    "up": "62 132 220", "down": "212 106 16", "gate": "22 146 124",
    "good": "#4cc162", "warning": "#d9a32b", "bad": "#ff7b72", "soft": "#1b1f25",
}  # fmt: skip


def opacity(level: int) -> float:
    """Of a tint."""
    return round(STRONGEST * level / LEVELS, 3)


def _tints() -> str:
    levels = [(name, level) for name in TINTS for level in range(1, LEVELS + 1)]
    each = (
        f".{name}{level} {{ background: rgb(var(--{name}) / {opacity(level)}) }}" for name, level in levels
    )
    return "\n".join(each)


def _scales() -> str:
    """The legends: both sides of zero, and from shut to open."""
    down, up, gate = (f"rgb(var(--{name}) / {STRONGEST})" for name in ("down", "up", "gate"))
    return f"""
.legend i {{ background: linear-gradient(to right, {down}, transparent, {up}) }}
.legend.gate i {{ background: linear-gradient(to right, transparent, {gate}) }}
"""


STYLE = (
    palette(LIGHT, DARK)
    + _tints()
    + _scales()
    + """
* { box-sizing: border-box }
html { scroll-padding-top: 12px }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1180px; margin: 0 auto; padding: 28px clamp(14px, 3vw, 36px) 48px }
h1 { margin: 0; font-size: 25px; font-weight: 650; letter-spacing: -.01em; line-height: 1.25;
  overflow-wrap: anywhere }
h2 { margin: 0 0 4px; font-size: 19px; font-weight: 650; letter-spacing: -.005em }
h3 { margin: 0 0 6px; font-size: 14px; font-weight: 600 }
p { margin: 0; max-width: 78ch; overflow-wrap: anywhere }
a { color: var(--accent); text-underline-offset: 2px }
[hidden] { display: none !important }
section { margin-top: 32px; padding-top: 26px; border-top: 1px solid var(--line) }
.quiet, .facts, .notes, .chart text { color: var(--muted); fill: var(--muted) }
.quiet { font-size: 13px }
.said { margin-bottom: 14px }
.facts { display: flex; flex-wrap: wrap; gap: 2px 22px; margin: 8px 0 0; font-size: 13.5px }
.facts div { display: flex; gap: 6px; position: relative; max-width: 100%; overflow-wrap: anywhere }
.facts dd { margin: 0; color: var(--ink); min-width: 0 }
.notes { margin: 10px 0 0; padding: 0; list-style: none; font-size: 13.5px }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; margin-top: 16px; font-size: 14px }
nav span { color: var(--muted); white-space: nowrap }

.term { position: relative; display: inline-block }
.term button { all: unset; cursor: help; text-decoration: underline dotted var(--history) 1px;
  text-underline-offset: 3px }
.term button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px }
.tip { position: absolute; z-index: 9; left: 0; top: calc(100% + 5px); width: max-content;
  max-width: min(330px, 84vw);
  padding: 9px 12px; border: 1px solid var(--line); border-radius: 8px; background: var(--paper); color: var(--ink);
  box-shadow: 0 4px 18px rgb(0 0 0 / .16); font-size: 13px; font-weight: 400; line-height: 1.45; text-align: left;
  letter-spacing: 0; white-space: normal; display: none }
.tip cite { display: block; margin-top: 5px; color: var(--muted); font-style: normal; font-size: 12px }
.term:hover > .tip, .term:focus-within > .tip { display: block }
.term.shut > .tip { display: none }

.tools { display: flex; flex-wrap: wrap; align-items: end; gap: 10px 18px; margin: 16px 0 8px }
.tools > label, .unit, .legend { display: grid; gap: 3px; font-size: 12.5px; color: var(--muted) }
.tools > .same { display: flex; align-items: center; gap: 7px; min-height: 34px; color: var(--ink); font-size: 13.5px;
  cursor: pointer }
select, input[type=text], .unit > div button { height: 34px; font: inherit; font-size: 14.5px; color: var(--ink);
  background: var(--paper); border: 1px solid var(--history); border-radius: 7px; padding: 0 9px; min-width: 0;
  max-width: min(320px, 86vw); text-overflow: ellipsis }
select:hover, input[type=text]:hover, .unit > div button:hover { border-color: var(--accent) }
input[type=checkbox] { accent-color: var(--accent); width: 16px; height: 16px; margin: 0 }
.unit div { display: flex; align-items: center; gap: 4px }
.unit input { width: 64px; text-align: center; font-variant-numeric: tabular-nums }
.unit > div button { width: 34px; padding: 0; font-size: 18px; line-height: 1; cursor: pointer }
.legend i { display: block; width: 176px; height: 14px; border-radius: 3px; box-shadow: inset 0 0 0 1px var(--line) }
.legend div { display: flex; justify-content: space-between; font-size: 12px; font-variant-numeric: tabular-nums }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px }
.tracks { margin: 2px 0 12px; min-height: 22px }

.view { display: grid; grid-template-columns: minmax(0, 1fr) 320px; gap: 10px 28px; align-items: start }
.wave { position: relative; height: 46px; margin-bottom: 8px; border: solid var(--line); border-width: 1px 0;
  cursor: crosshair; touch-action: pan-y }
.wave canvas { display: block; width: 100%; height: 100% }
.wave i { position: absolute; inset: 0 auto 0 0; width: 2px; margin-left: -1px; background: var(--ink) }
#text { max-height: min(68vh, 640px); overflow-y: auto; border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; overscroll-behavior: auto; scrollbar-width: thin; position: relative }
.character, .word { font-size: 16px; line-height: 1.72; white-space: pre-wrap; overflow-wrap: anywhere }
.character { font: 14px/1.72 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; tab-size: 4;
  font-variant-ligatures: none }
.block { contain: layout style }
.block > span { padding-block: 2px; cursor: default }
.word .block > span { padding-inline: 3px; margin-inline: -3px; border-radius: 3px;
  box-decoration-break: clone; -webkit-box-decoration-break: clone }
.word .block { line-height: 1.9; word-spacing: 3px }
[data-break]::before { content: "↵"; color: var(--muted); opacity: .75; font-size: .8em }
.missing { background: repeating-linear-gradient(45deg, var(--line) 0 2px, transparent 2px 5px) }
[data-at] { outline: 2px solid var(--ink); outline-offset: 0; border-radius: 2px }
.cells .block { display: grid; grid-template-columns: repeat(auto-fill, minmax(var(--cell), 1fr)); gap: 4px;
  margin-bottom: 4px; font-size: 13px }
.cells .block > span { display: grid; min-width: 0; padding: 5px 8px; border-radius: 6px;
  box-shadow: inset 0 0 0 1px var(--line) }
.narrow { --cell: 66px } .middle { --cell: 118px } .wide { --cell: 186px }
.cells small { font-size: 12px; line-height: 1.3; overflow-wrap: anywhere }
.cells b { font-weight: 600; font-variant-numeric: tabular-nums }

aside { display: grid; gap: 20px; min-width: 0 }
.readout { border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px 14px; background: var(--soft) }
.readout .place { display: flex; justify-content: space-between; gap: 10px; font-size: 13px; color: var(--muted);
  font-variant-numeric: tabular-nums }
.stands { margin: 2px 0 6px; font-size: 21px; font-weight: 600; line-height: 1.35; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap }
.readout dl { display: grid; grid-template-columns: auto 1fr; gap: 1px 12px; margin: 0; font-size: 14px }
.readout dt { color: var(--muted); position: static }
.readout dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; font-weight: 600 }
.guesses { margin: 10px 0 0; font-size: 13px; color: var(--muted) }
.guesses ol { margin: 4px 0 0; padding: 0; list-style: none; color: var(--ink); min-height: var(--guesses, 0) }
.guesses li { display: grid; grid-template-columns: minmax(0, 1fr) 90px 52px; gap: 10px; align-items: center;
  height: 24px }
.guesses .values li { grid-template-columns: minmax(0, 1fr) auto }
.guesses .values i { display: none }
.guesses .values li > span { white-space: normal }
.guesses ol.values li { height: auto; align-items: baseline }
.guesses li > span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.guesses li.came > span { font-weight: 650 }
.guesses small { color: var(--good); font-weight: 500; font-size: 12px }
.guesses i { display: block; height: 8px; border-radius: 3px; background: var(--line); overflow: hidden }
.guesses i::before { content: ""; display: block; height: 100%; width: var(--share); background: var(--history) }
.guesses .came i::before { background: var(--accent) }
.guesses b { font-weight: 500; text-align: right; font-variant-numeric: tabular-nums }

.ranking header { margin-bottom: 8px }
.ranking select { height: 30px; font-size: 13px; width: 100%; max-width: none }
.ranked { margin: 0; padding: 0; list-style: none; max-height: 320px; overflow-y: auto; border: 1px solid var(--line);
  border-radius: 10px; scrollbar-width: thin }
.ranked li + li { border-top: 1px solid var(--line) }
.ranked button { all: unset; box-sizing: border-box; width: 100%; display: grid;
  grid-template-columns: minmax(0, 1fr) auto;
  gap: 0 10px; padding: 6px 14px; cursor: pointer; font-size: 13.5px; line-height: 1.4 }
.ranked button:hover { background: var(--soft) }
.ranked button:focus-visible { outline: 2px solid var(--accent); outline-offset: -2px; border-radius: 10px }
.ranked [aria-pressed=true] { background: var(--soft); box-shadow: inset 3px 0 var(--accent) }
.ranked span { overflow-wrap: anywhere }
.ranked small { grid-column: 1 / -1; color: var(--muted); font-size: 12px }
.ranked b { font-weight: 600; font-variant-numeric: tabular-nums }

.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 22px 40px;
  margin-top: 18px }
figure { margin: 0; min-width: 0 }
figcaption { font-size: 14px; font-weight: 600; position: relative }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 150px), 1fr)); gap: 12px 24px;
  margin: 14px 0 0 }
.figures dt { color: var(--muted); font-size: 13px }
.figures dd { margin: 0; font-size: 21px; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3 }
.figures dd small { font-size: 13px; font-weight: 400; color: var(--muted) }
.chart { display: block; width: 100%; height: auto; margin-top: 6px; overflow: visible }
.chart text { font-size: 12.5px; font-variant-numeric: tabular-nums }
.chart path { fill: none; stroke-linejoin: round; stroke-linecap: round }
.chart .grid { stroke: var(--line) }
.chart .line { stroke: var(--accent); stroke-width: 2 }
.chart .dot { fill: var(--accent); stroke: var(--paper); stroke-width: 1.5 }
.chart .spot { fill: transparent }
.chart .spot:hover { fill: var(--accent) }
.chart .within { fill: var(--accent); opacity: .07 }
.chart path.horizon { stroke: var(--muted); stroke-dasharray: 2 4 }
.chart text.horizon { fill: var(--ink) }
.chart path.fit { stroke: rgb(var(--down)); stroke-dasharray: 6 5; stroke-width: 1.75 }
.chart text.fit { fill: var(--ink) }
.chart tspan { fill: rgb(var(--down)); font-weight: 700 }

details { margin-top: 10px; font-size: 13.5px }
summary { cursor: pointer; color: var(--muted); width: fit-content }
.scroll { overflow-x: auto; max-height: 320px; margin-top: 8px }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; width: 100% }
th { color: var(--muted); font-weight: 500; font-size: 13px; text-align: left; vertical-align: bottom }
th:last-child, td:last-child { padding-right: 0 }
th, td { padding: 7px 18px 7px 0; border-bottom: 1px solid var(--line) }
td { vertical-align: top; overflow-wrap: anywhere }
.number { text-align: right; white-space: nowrap }
.verdict { white-space: nowrap; font-weight: 600 }
.good { color: var(--good) } .warning { color: var(--warning) } .bad { color: var(--bad) }
.problems { display: grid; gap: 12px; margin: 14px 0 18px; padding: 0; list-style: none }
.problems li { border: 1px solid var(--line); border-left: 4px solid currentcolor; border-radius: 8px;
  padding: 10px 16px 12px }
.problems li > * { color: var(--ink) }
.problems .what { display: flex; flex-wrap: wrap; gap: 2px 12px; font-size: 13.5px; margin-bottom: 3px;
  align-items: baseline }
.problems .what > .verdict { color: inherit }
.problems .what > .quiet { color: var(--muted) }
.problems .try { margin-top: 3px }

.moved { display: grid; grid-template-columns: minmax(0, 1fr) 320px; gap: 16px 28px; margin-top: 14px;
  align-items: start }
.moved > div { min-width: 0 }
.read { max-height: 360px; overflow-y: auto; border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px;
  scrollbar-width: thin }
.read.cells { white-space: normal; line-height: 2; font-size: 13.5px }
.read.cells span { display: inline-block; max-width: 100%; padding: 0 7px; border-radius: 5px; line-height: 1.75;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; vertical-align: top }
.cells + div strong { font-weight: 500 }
#what { max-width: none }
.read.word span { padding: 2px 3px; margin: 0 -3px; border-radius: 3px; box-decoration-break: clone;
  -webkit-box-decoration-break: clone }
.read.character span { padding-block: 2px }
.key { display: inline-block; padding: 0 6px; border-radius: 3px; color: var(--ink) }
.chip { padding: 1px 6px; border-radius: 4px }
.moved table { font-size: 13px }
.character + div td:nth-child(2) { white-space: nowrap } .moved td { padding-block: 5px }
.moved th:not(:last-child), .moved td:not(:last-child) { padding-right: 10px }
dl.glossary { font-size: 13.5px; display: grid; grid-template-columns: minmax(90px, max-content) minmax(0, 1fr);
  gap: 6px 20px }
dl.glossary dd { margin: 0 } dl.glossary cite { color: var(--muted); font-style: normal }
.heard { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }

@media (min-width: 800px) { .health td:nth-child(-n+3) { white-space: nowrap } }
@media (max-width: 860px) {
  .view { display: block } .moved { grid-template-columns: minmax(0, 1fr) }
  aside { display: contents }
  .ranking { margin-top: 20px }
  .readout { position: sticky; bottom: 8px; z-index: 2; display: grid; grid-template: auto auto 1fr / 1fr 1.1fr;
    gap: 0 18px;
    margin-top: 10px; padding: 8px 14px 10px; box-shadow: 0 2px 14px rgb(0 0 0 / .14) }
  .readout .guesses { grid-area: 1 / 2 / 4 / 3; margin: 0 }
  .readout dl { align-content: start }
  .guesses li { grid-template-columns: minmax(0, 1fr) 30px 46px; height: 20px; gap: 6px }
  .stands { font-size: 18px; margin: 0 0 2px }
}
@media (max-width: 560px) {
  .chart text { font-size: 15px }
  .health thead { position: absolute; clip-path: inset(50%) }
  .health tr { display: grid; grid-template-columns: auto 1fr auto; gap: 0 12px; padding: 8px 0;
    border-bottom: 1px solid var(--line) }
  .health td { border: 0; padding: 0 }
  .health td:nth-child(3) { order: 1; grid-column: 1 / -1 }
  .health td:last-child { order: 2; grid-column: 1 / -1 }
}
"""
)
