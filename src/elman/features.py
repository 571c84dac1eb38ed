"""What a unit may follow: features of the input, a number for each step, and correlations of units with them.

Knows texts, words and dates as they stand; nothing of models. Names say what a high value means.
"""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from importlib import import_module
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.report import Floats, Traced, Tracked

_OPENING, _CLOSING = "([{", ")]}"
_QUOTES = '"“”«»'
_NEGATIONS = frozenset(
    {"not", "no", "never", "n't", "without", "hardly", "nothing", "nobody", "neither", "nor"}
)
_REACH = 3  # words that a negation is taken to hold for
_CHANCE = 0.01  # of a list with one unit in it that follows nothing
_LISTED = 40
_EACH = 5  # units listed of a feature
_FEWEST = 20  # steps


def of_characters(text: str) -> dict[str, Floats]:
    """Features of each character of a text (T,)."""
    quoted, brackets, in_line, in_word, indent = _nesting(text)
    flags = {
        "inside quotes": quoted,
        "inside brackets": brackets,
        "position in the line": in_line,
        "position in the word": in_word,
        "indentation of the line": indent,
        "a word ends here": [_ends_word(text, i) for i in range(len(text))],
        "a new line": [c == "\n" for c in text],
        "space": [c.isspace() for c in text],
        "capital letter": [c.isupper() for c in text],
        "vowel": [c.lower() in "aeiou" for c in text],
        "digit": [c.isdigit() for c in text],
        "punctuation": [unicodedata.category(c).startswith("P") for c in text],
        "position in the text": range(len(text)),
    }
    return {name: np.asarray(values, np.float64) for name, values in flags.items()}


def _nesting(text: str) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Inside quotes, depth of brackets, position in the line and in the word, and indentation, at each character."""
    quoted, depth, column, letters, indent = 0, 0, 0, 0, 0
    found: list[tuple[int, int, int, int, int]] = []
    for c in text:
        if c in _QUOTES:
            quoted = 1 - quoted
        depth = max(0, depth + (c in _OPENING) - (c in _CLOSING))
        letters = letters + 1 if c.isalnum() else 0
        indent = column + 1 if c in " \t" and indent == column else indent
        found.append((quoted, depth, column, letters, indent))
        column += 1
        if c == "\n":
            column, indent = 0, 0
    a, b, d, e, f = (list(row) for row in zip(*found, strict=True)) if found else ([], [], [], [], [])
    return a, b, d, e, f


def _ends_word(text: str, i: int) -> bool:
    return text[i].isalnum() and not text[i + 1 : i + 2].isalnum()


def of_words(words: Sequence[str], score: Floats) -> dict[str, Floats]:
    """Features of each word of a text (T,). score: the classifier's opinion after each, as log-odds."""
    lower = [word.lower() for word in words]
    negated = [any(w in _NEGATIONS for w in lower[max(0, i - _REACH) : i + 1]) for i in range(len(lower))]
    marks = [not any(map(str.isalnum, word)) for word in words]
    values: dict[str, Any] = {
        "the opinion so far": score,
        "sign of the opinion so far": np.sign(score),
        "change of the opinion by this word": np.diff(score, prepend=score[:1]),
        "after a negation": negated,
        "capital letter": [word[:1].isupper() for word in words],
        "punctuation": marks,
        "the sentence ends": [word in {".", "!", "?", "..."} for word in words],
        "length of the word": list(map(len, words)),
        "position in the text": range(len(words)),
    }
    return {name: np.asarray(found, np.float64) for name, found in values.items()}


def of_times(times: Any) -> dict[str, Floats]:
    """Features of time steps (N,); none of plain numbers. Times of day and year go round: each has a cosine and a sine,
    which are high at midnight and at six, in January and in April."""
    if times.dtype.kind != "M":
        return {}
    index = import_module("pandas").DatetimeIndex(times)
    day, year = index.hour + index.minute / 60, index.day_of_year - 1
    found = {f"{name}": (index.day_of_week == k) for k, name in enumerate(_DAYS)}
    found |= {"weekend": index.day_of_week >= 5}
    found |= _round("time of day", day / 24, "at midnight", "at six in the morning")
    found |= _round("time of year", year / 365.25, "in January", "in April")
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _round(name: str, share: Any, first: str, quarter: str) -> dict[str, Any]:
    angle = 2 * math.pi * np.asarray(share, np.float64)
    return {f"{name}, high {first}": np.cos(angle), f"{name}, high {quarter}": np.sin(angle)}


def tracked(layers: Sequence[Traced], features: Mapping[str, Floats]) -> tuple[Tracked, ...]:
    """The units whose value follows a feature beyond chance, strongest first: |r| > z / √n, with n the steps and z so
    large that among all pairs of units and features that follow nothing one in a hundred lists would hold one
    (Bonferroni; steps count as independent, which flatters slow units in short inputs)."""
    varying = [name for name, values in features.items() if np.ptp(values) > 0]
    first = {features[name].tobytes(): name for name in reversed(varying)}  # of those that are the same here
    names = [name for name in varying if name in first.values()]
    steps = len(next(iter(features.values()))) if features else 0
    if steps < _FEWEST or not names:
        return ()
    wanted = _standardised(np.stack([features[name] for name in names], axis=1))
    found: list[Tracked] = []
    pairs = sum(layer.units * len(layer.values) for layer in layers) * len(names)
    least = _normal_quantile(1 - _CHANCE / (2 * pairs)) / math.sqrt(steps)
    for layer in layers:
        for quantity, values in layer.values.items():
            r = _standardised(values).T @ wanted / steps  # (H, features)
            for unit, feature in zip(*np.nonzero(np.abs(r) > least), strict=True):
                found.append(
                    Tracked(layer.name, quantity, int(unit), names[feature], float(r[unit, feature]))
                )
    return _strongest(found)


def _strongest(found: list[Tracked]) -> tuple[Tracked, ...]:
    """A unit once for each feature, by the quantity that follows it best; few units of each feature."""
    found.sort(key=lambda one: -abs(one.correlation))
    seen: set[tuple[str, int, str]] = set()
    count: dict[str, int] = {}
    kept = []
    for one in found:
        key = one.layer, one.unit, one.feature
        if key not in seen and count.get(one.feature, 0) < _EACH:
            seen.add(key)
            count[one.feature] = count.get(one.feature, 0) + 1
            kept.append(one)
    return tuple(kept[:_LISTED])


def _standardised(values: Floats) -> npt.NDArray[np.float32]:
    """Columns of mean 0 and variance 1; 0 where nothing varies. In float32: traces are long."""
    mean = values.mean(axis=0, dtype=np.float64).astype(values.dtype)
    centred: npt.NDArray[np.float32] = (values - mean).astype(np.float32)
    deviation = np.sqrt(np.einsum("th,th->h", centred, centred) / len(centred))
    centred /= np.where(deviation > 1e-7, deviation, np.inf)
    return centred


def _normal_quantile(p: float) -> float:
    return NormalDist().inv_cdf(min(p, 1 - 1e-15))
