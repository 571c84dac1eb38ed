"""The steps of an explained input as text to be read: in blocks, each step's name, and what stands around it."""

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise

from elman.report import Report

BLOCK, LONGEST = 300, 1500  # steps of a block: it ends at a line's end when it can
CELLS = 840  # of a block of cells: whole rows of 1 to 8, 10 or 12
AROUND = {"character": 9, "word": 2, "cells": 0}  # steps shown beside one
_NAMED = {" ": "space", "\n": "line break", "\t": "tab", "": "nothing"}
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def kind_of(report: Report) -> str:
    """How the steps are set: "character", "word", or "cells" for what is a label rather than text."""
    return report.step if report.step in ("character", "word") else "cells"


def written(raw: str) -> str:
    """A step as it stands in the text: what has no shape of its own, or could turn others around, gets one."""
    return raw if raw in ("\n", "\t") else "".join(map(_visible, raw))


def spoken(raw: str) -> str:
    """A step as a name."""
    if raw in _NAMED:
        return _NAMED[raw]
    if len(raw) == 1 and (
        _visible(raw) != raw or not raw.isprintable() or raw.isspace() or unicodedata.combining(raw)
    ):
        return f"{unicodedata.name(raw, 'control').lower()}, U+{ord(raw):04X}"
    return "".join(map(_visible, raw))


def _visible(letter: str) -> str:
    code = ord(letter)
    if code < 0x20:
        return "↵" if letter == "\n" else chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    unseen = letter in _BIDI or unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")
    return "\ufffd" if unseen else letter


def names(steps: Iterable[str]) -> list[tuple[str, tuple[str, str]]]:
    """How steps are written and spoken, of those that are not so as they are."""
    found = ((raw, (written(raw), spoken(raw))) for raw in sorted(set(steps)))
    return [(raw, (shape, name)) for raw, (shape, name) in found if not shape == name == raw]


def blocks(report: Report) -> Iterator[tuple[int, str]]:
    """Where each block starts, and its text."""
    kind = kind_of(report)
    between = {"character": "", "word": " ", "cells": " · "}[kind]
    starts = list(_starts(report.steps, kind))
    for start, end in pairwise([*starts, len(report.steps)]):
        yield start, between.join(map(written, report.steps[start:end]))


def _starts(steps: tuple[str, ...], kind: str) -> Iterator[int]:
    start = 0
    yield start
    for i, raw in enumerate(steps[:-1]):
        size = i + 1 - start
        if kind == "cells":
            ends = size == CELLS
        else:
            line = size >= BLOCK and raw.endswith("\n")
            ends = line or (size >= LONGEST and (raw.isspace() or kind == "word")) or size >= 2 * LONGEST
        if ends:
            start = i + 1
            yield start


def stretches(report: Report, first: int) -> Iterator[tuple[str, str]]:
    """Steps from `first` on as they are written, and what comes between each and the next."""
    after = "" if kind_of(report) == "character" else " "
    for raw in report.steps[first:]:
        yield written(raw), after


def surroundings(report: Report, step: int) -> tuple[str, str, str]:
    """What stands before a step, it, and what stands after it, in one line."""
    kind = kind_of(report)
    around, between = AROUND[kind], "" if kind == "character" else " "
    before, after = report.steps[max(0, step - around) : step], report.steps[step + 1 : step + 1 + around]
    one = (between.join("".join(map(_visible, raw)) for raw in part) for part in (before, after))
    left, right = one
    alone = spoken(report.steps[step]) if not around else "".join(map(_visible, report.steps[step]))
    return (
        left + between * bool(left),
        alone.replace(" ", "␣") if kind == "character" else alone,
        between * bool(right) + right,
    )
