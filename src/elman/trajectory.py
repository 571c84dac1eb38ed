"""How a classifier's opinion of a text forms, word by word: its probabilities after each, and a view for terminals.

Knows nothing of models and files: someone else computes the probabilities. The view for browsers is `class_page`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.codec import REPLACEMENT
from elman.data import ElmanError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Floats = NDArray[np.floating[Any]]

CLIP = 1e-6  # probabilities nearer to 0 and 1 count as this
LINES = 40  # of the text at most, in a terminal
NARROWEST = 20  # columns
_AROUND = 2  # lines shown before and after a move in a long text
_STYLES = ("", "{}", "bold {}", "bold reverse {}")  # by strength
_FOR, _AGAINST = "color(33)", "color(166)"  # blue and orange, to be read on black and on white
BLOCKS = " ▁▂▃▄▅▆▇█"
# What a terminal would obey or a reader be misled by: control characters, changes of direction, half characters.
_UNSAFE = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Move(NamedTuple):
    """What reading text[start:end] did to a class."""

    text: str
    start: int
    end: int
    change: float  # of log-odds


class Stretch(NamedTuple):
    """text[start:end], a word where every word has a point, and the point that follows it."""

    start: int
    end: int
    point: int


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a classifier with C classes thought of a text at K points.

    A point that has read nothing may come first; without one, the opinion is taken to begin at even odds. Pieces may be
    empty: what one of them changed counts for the word before it or, where capitals follow, for those.
    """

    text: str
    classes: tuple[Any, ...]  # labels, (C,): str, int or bool
    pieces: tuple[tuple[int, int], ...]  # start and end in `text` of each word or piece, in order
    read: NDArray[np.integer[Any]]  # (K,) pieces read at each point, increasing; all of them at the last
    probabilities: Floats  # (K, C)
    several: bool = False  # a text may have several labels, or none

    def __post_init__(self) -> None:
        if problem := self._problem():
            raise ElmanError(f"these are not the probabilities of a text word by word: {problem}.")

    def _problem(self) -> str:
        read, shape = [-1, *self.read.tolist()], (len(self.read), len(self.classes))
        edges = [0, *(edge for piece in self.pieces for edge in piece), len(self.text)]
        if 0 in shape or self.probabilities.shape != shape:
            return (
                f"their shape is {self.probabilities.shape}, that of its points and classes {shape}; "
                "there must be one of each at least"
            )
        if read[-1] != len(self.pieces) or any(a >= b for a, b in pairwise(read)):
            return f"the counts of pieces read must increase and end at {len(self.pieces)}"
        if any(a > b for a, b in pairwise(edges)):
            return "its pieces must be in order, in the text and without overlap"
        if not ((self.probabilities > -CLIP) & (self.probabilities < 1 + CLIP)).all():
            return "some are not between 0 and 1"
        return ""

    @property
    def final(self) -> Floats:
        """(C,) probabilities after the last word."""
        last: Floats = self.probabilities[-1]
        return last

    @property
    def label(self) -> Any:
        """The predicted class; a tuple of those above 0.5 where there may be several."""
        if self.several:
            return tuple(self.classes[i] for i in np.flatnonzero(self.final > 0.5))
        return self.classes[int(self.final.argmax())]

    @property
    def shown(self) -> Any:
        """The class whose probability is shown unless another is asked for: of two the second, else the likeliest."""
        return self.classes[1 if len(self.classes) == 2 and not self.several else int(self.final.argmax())]

    @cached_property
    def stretches(self) -> tuple[Stretch, ...]:
        """The parts of the text that changes are known of, in order: none is empty."""
        found: list[Stretch] = []
        first = 0
        for point, after in enumerate(self.read.tolist()):
            if after == first:
                continue
            start, end = self.pieces[first][0], self.pieces[after - 1][1]
            if start < end:
                found.append(Stretch(start, end, point))
            elif found and not self.text[end : end + 1].isupper():
                found[-1] = found[-1]._replace(point=point)
            else:
                continue  # it counts for the next
            first = after
        return tuple(found)

    def score(self, cls: Any = None) -> Floats:
        """(K,) the probability of a class at each point; of the one that `shown` names by default."""
        cls = self.shown if cls is None else cls
        if cls not in self.classes:
            raise ElmanError(
                f"there is no class {cls!r}: the classes are {', '.join(map(repr, self.classes))}."
            )
        return self.probabilities[:, self.classes.index(cls)].astype(np.float64)

    def before(self, cls: Any = None) -> float:
        """The probability before the first word: even odds where it is not known."""
        even = 0.5 if self.several else 1 / len(self.classes)
        return float(self.score(cls)[0]) if self.read[0] == 0 else even

    def changes(self, cls: Any = None) -> Floats:
        """(S,) how each of the stretches moved a class's log-odds."""
        after = self.score(cls)[[stretch.point for stretch in self.stretches]]
        p = np.clip(np.concatenate(([self.before(cls)], after)), CLIP, 1 - CLIP)
        return np.diff(np.log(p / (1 - p)))

    def moves(self, count: int = 8, cls: Any = None) -> list[Move]:
        """What moved a class's log-odds most, largest first: words, or stretches where not each word has a point."""
        changes = self.changes(cls)
        order = np.argsort(-np.abs(changes), kind="stable")[:count]
        best = [(self.stretches[i], float(changes[i])) for i in order if changes[i]]
        return [Move(self.text[s.start : s.end], s.start, s.end, change) for s, change in best]

    def to_rows(self) -> list[dict[str, Any]]:
        """For JSON: each stretch, where it is, and the probabilities after it."""
        return [
            {
                "word": self.text[start:end],
                "start": start,
                "end": end,
                "probabilities": {
                    cls: round(p, 6)
                    for cls, p in zip(self.classes, self.probabilities[point].tolist(), strict=True)
                },
            }
            for start, end, point in self.stretches
        ]


def strengths(changes: Floats) -> Floats:
    """Changes as shares of the strongest colour, −1 to 1. The largest has it, unless it is small."""
    scale = min(max(1.0, float(np.abs(changes).max(initial=0))), 4.0)  # one large change hides no others
    shares: Floats = np.clip(changes / scale, -1, 1)
    return shares


def percent(p: float) -> str:
    """A probability for people."""
    return "<0.1 %" if p < 0.0005 else ">99.9 %" if p > 0.9995 else f"{100 * p:.1f} %"


def signed(change: float, digits: int = 1) -> str:
    """A change with its sign; one that rounds to zero has a plus."""
    return f"{change:+z.{digits}f}".replace("-", "−")


def verdict(trajectory: Trajectory) -> str:
    """The predicted classes and their probabilities."""
    found = trajectory.label if trajectory.several else (trajectory.label,)
    named = {cls: f"{cls} {percent(p)}" for cls, p in zip(trajectory.classes, trajectory.final, strict=True)}
    return " · ".join(named[cls] for cls in found) or f"none (the likeliest: {named[trajectory.shown]})"


def short(text: str, length: int = 32) -> str:
    """In one line; of a longer text the middle is left out, between words where it has blanks."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    half = length // 2 - 1
    first, last = text[: half + 1].rpartition(" ")[0], text[-half - 1 :].partition(" ")[2]
    return f"{first or text[:half]} … {last or text[-half:]}"


def render(trajectory: Trajectory, width: int, color: bool) -> str:
    """For a terminal: the label, the probability's curve, the text in colours, the words that moved it most.

    Blue words raised the probability, orange ones lowered it; none is coloured where `color` is False or the terminal
    has no colours. Of a long text, the lines around the largest moves are shown. Nothing in the text is obeyed.
    """
    from rich.text import Text

    width = max(width, NARROWEST)
    console = terminal(width, color)
    color = console.color_system is not None and not console.no_color
    # Without control characters, that Text would drop: places in the text stay what they are.
    name, shown = safe(str(trajectory.shown)), safe(trajectory.text)
    about = f"Probability of {name} after each word, from 0 to 1; the rows meet at 0.5."
    if color:
        about += " Blue words raised it, orange ones lowered it."
    lines = [
        Text(safe(verdict(trajectory)), "bold" if color else ""),
        *_folded(Text(about), width),
        *_curve(trajectory, width, color),
        Text(""),
        *_marked(trajectory, _excerpt(trajectory, shown, width), color),
        Text(""),
        *_most(trajectory, width, color),
    ]
    with console.capture() as capture:
        for line in lines:
            console.print(line, no_wrap=True, overflow="ignore", crop=False)
    return capture.get().removesuffix("\n")


def terminal(width: int, color: bool) -> "Console":
    """What renders for a terminal of so many columns."""
    from rich.console import Console

    system: Any = "auto" if color else None
    return Console(
        width=width, force_terminal=color, color_system=system, legacy_windows=False, force_jupyter=False,
        highlight=False, markup=False, emoji=False,
    )  # fmt: skip


def safe(text: str) -> str:
    """Of the same length, and harmless in a terminal."""
    return _UNSAFE.sub(REPLACEMENT, text.replace("\t", " "))


def style(strength: float) -> str:
    """How a word looks: strength −1 to 1."""
    style = _STYLES[round(abs(strength) * (len(_STYLES) - 1))]
    return style.format(_FOR if strength > 0 else _AGAINST)


def _folded(text: "Text", width: int) -> "list[Text]":
    from rich.console import Console

    return list(text.wrap(Console(width=width), width, overflow="fold"))


def _curve(trajectory: Trajectory, width: int, color: bool) -> "Iterable[Text]":
    """Two rows, a column for each piece or, where they are many, for some of them: the probability after the last."""
    from rich.text import Text

    pieces = len(trajectory.pieces)
    columns = min(width - 2, pieces)
    ends = np.arange(1, columns + 1) * pieces // max(1, columns)
    scores = trajectory.score()[np.searchsorted(trajectory.read, ends)]
    heights = np.maximum(1, np.rint(16 * scores)).astype(int)
    styles = [(_FOR if score > 0.5 else _AGAINST) if color else "" for score in scores]
    for name, row in (("1 ", heights - 8), ("0 ", heights)):
        line = Text(name)
        for style, run in groupby(zip(styles, row.clip(0, 8), strict=True), itemgetter(0)):
            line.append("".join(BLOCKS[height] for _, height in run), style)
        line.rstrip()
        yield line


def _lines(text: str, width: int) -> list[tuple[int, str]]:
    """The lines of a text at a width, and where each begins in it."""
    from rich.text import Text

    found, after = [], 0
    for line in _folded(Text(text), width):
        plain = line.plain.rstrip()
        start = text.index(plain, after)  # only blanks are between two lines
        after = start + len(plain)
        found.append((start, plain))
    return found


def _excerpt(trajectory: Trajectory, text: str, width: int) -> list[tuple[int, str]]:
    """The lines to show, and where each begins; what is said of those left out begins at −1."""
    lines = _lines(text, width)
    if len(lines) <= LINES:
        return lines
    kept = _kept(trajectory, [start for start, _ in lines])
    found: list[tuple[int, str]] = []
    for before, after in pairwise([-1, *kept, len(lines)]):
        if left_out := len(" ".join(line for _, line in lines[before + 1 : after]).split()):
            found.append((-1, f"… {left_out:,} word{'s' * (left_out != 1)} …"))
        found += lines[after : after + 1]
    return found


def _kept(trajectory: Trajectory, starts: list[int]) -> list[int]:
    """Which lines of a long text are shown: those around the largest moves."""
    largest = np.zeros(len(starts))
    places = np.array([stretch.start for stretch in trajectory.stretches], dtype=np.int64)
    np.maximum.at(largest, np.searchsorted(starts, places, "right") - 1, np.abs(trajectory.changes()))
    kept: set[int] = set()
    for line in np.argsort(-largest, kind="stable").tolist():
        more = kept | set(range(max(0, line - _AROUND), min(len(starts), line + _AROUND + 1)))
        if len(more) > LINES:
            break
        kept = more
    return sorted(kept)


def _marked(trajectory: Trajectory, lines: list[tuple[int, str]], color: bool) -> "Iterable[Text]":
    from rich.text import Text

    stretches, styles = trajectory.stretches, list(map(style, strengths(trajectory.changes()).tolist()))
    ends = [stretch.end for stretch in stretches]
    for begin, plain in lines:
        line = Text(plain, "dim" if color and begin < 0 else "")
        first = int(np.searchsorted(ends, begin, "right"))
        for (start, end, _), look in zip(stretches[first:], styles[first:], strict=True):
            if not color or begin < 0 or start >= begin + len(plain):
                break
            line.stylize(look, max(0, start - begin), min(len(plain), end - begin))
        yield line


def _most(trajectory: Trajectory, width: int, color: bool) -> "Iterable[Text]":
    """What moved it most, as many to a line as there is room for."""
    from rich.text import Text

    moves = [move for move in trajectory.moves() if abs(move.change) >= 0.05]  # else it says +0.0
    line = Text("moved it most:" if moves else "No word moved it.")
    for i, move in enumerate(moves):
        item = Text(safe(short(move.text, min(32, width - 10))))
        item.append(f" {signed(move.change)}", (_FOR if move.change > 0 else _AGAINST) if color else "")
        if line.cell_len + item.cell_len + 3 > width:
            yield line
            line = Text("  ").append_text(item)
        else:
            line = line.append(" · " if i else " ").append_text(item)
    yield line
