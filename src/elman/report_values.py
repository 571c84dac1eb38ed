"""Values of units as text that fits into a page: few bits a value, compressed, and where not all fit, the most telling.

A series is one quantity of one unit over all steps. Knows nothing of how it is shown.
"""

import base64
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.report import Floats, Guesses, Report, Traced, plural

BITS = (8, 6)  # of a value: the second where the first does not hold all units
FINE = 16  # bits of a loss
MISSING = 0  # the code of what is no number
Series = tuple[int, str, int]
"""Layer by place, quantity, unit."""


@dataclass(frozen=True)
class Packed:
    """What a page holds. `series`: lowest and highest value and the codes of the steps, as `encode` gives them."""

    series: dict[Series, list[Any]]
    bits: int
    units: int  # in all
    whole: int  # units of which it holds every quantity
    tracked: int  # of those, units that track something
    parts: int  # further units, held in the values that track something

    def sentence(self) -> str:
        """Which units these are, and how exact."""
        exact = f"Values are within {50 / (2**self.bits - 2):.1f} % of a unit's range ({self.bits} bits)."
        if self.whole == self.units:
            return f"This page holds all {plural(self.units, 'unit')}. {exact}"
        rest = self.whole - self.tracked
        which = [f"the {self.tracked:,} that track something most clearly"] * (self.tracked > 0)
        which += [f"{'then ' * bool(which)}the {rest:,} whose state varies most"] * (rest > 0)
        held = f"This page holds {self.whole:,} of {plural(self.units, 'unit')}"
        held += f": {', '.join(which)}." if which else "."
        more = (
            f" Of {plural(self.parts, 'other')} it holds the values that track something."
            if self.parts
            else ""
        )
        return f"{held}{more} {exact}"


def pack(report: Report, budget: int) -> Packed:
    """The series that fit into `budget` bytes of a page, in the order of their weight, but one at least."""
    for bits in BITS:
        found, full = _fill(report, budget, bits)
        if full:
            break
    return _counted(report, found, bits)


def _fill(report: Report, budget: int, bits: int) -> tuple[dict[Series, list[Any]], bool]:
    """Series until the budget is spent, and whether that was all of them."""
    found: dict[Series, list[Any]] = {}
    for group in _groups(report):
        added = {each: _encoded(report, each, bits) for each in group if each not in found}
        budget -= sum(len(text) + 40 for *_, text in added.values())  # 40: the numbers beside it
        if budget < 0 and found:
            return found, False
        found |= added
    return found, True


def _groups(report: Report) -> Iterator[list[Series]]:
    """What enters together, by weight: what tracks something; those units whole; of each layer by turns the unit whose
    state varies most."""
    places = {layer.name: place for place, layer in enumerate(report.layers)}
    ranked = sorted(report.tracked, key=lambda t: -abs(t.correlation))
    tracked = [(places[t.layer], t.quantity, t.unit) for t in ranked]
    for each in tracked:
        yield [each]
    order = [[(place, unit) for unit in _by_variance(layer)] for place, layer in enumerate(report.layers)]
    rest = (each for row in zip_longest(*order) for each in row if each is not None)
    for place, unit in dict.fromkeys([*((place, unit) for place, _, unit in tracked), *rest]):
        yield [(place, quantity, unit) for quantity in report.layers[place].values]


def _by_variance(layer: Traced) -> list[int]:
    values = layer.output
    known = np.where(np.isfinite(values), values, 0)
    order: list[int] = np.argsort(-known.var(axis=0, dtype=np.float64), kind="stable").tolist()
    return order


def _encoded(report: Report, series: Series, bits: int) -> list[Any]:
    place, quantity, unit = series
    return encode(report.layers[place].values[quantity][:, unit], bits)


def _counted(report: Report, found: dict[Series, list[Any]], bits: int) -> Packed:
    held: dict[tuple[int, int], int] = {}
    for place, _, unit in found:
        held[place, unit] = held.get((place, unit), 0) + 1
    whole = {each for each, count in held.items() if count == len(report.layers[each[0]].values)}
    places = {layer.name: place for place, layer in enumerate(report.layers)}
    tracked = {(places[t.layer], t.unit) for t in report.tracked}
    units = sum(layer.units for layer in report.layers)
    return Packed(found, bits, units, len(whole), len(whole & tracked), len(held) - len(whole))


def encode(values: Floats, bits: int) -> list[Any]:
    """(T,) → lowest, highest, codes as base64 of zlib. A code c > 0 says lowest + (c - 1) * (highest - lowest) /
    (2**bits - 2), 0 that there is no number; codes of more than 8 bits are two bytes, the low one first."""
    values = np.asarray(values, dtype=np.float64)
    known = np.isfinite(values)
    low = float(values.min(initial=np.inf, where=known)) if known.any() else 0.0
    high = float(values.max(initial=-np.inf, where=known)) if known.any() else 0.0
    share = (np.where(known, values, low) - low) / ((high - low) or 1.0)
    codes = np.where(known, 1 + np.rint(share * (2**bits - 2)), MISSING)
    return [float(f"{low:.7g}"), float(f"{high:.7g}"), _text(codes.astype("<u2" if bits > 8 else "u1"))]


def encode_guesses(guesses: Sequence[Guesses], chances: bool) -> dict[str, Any]:
    """Predictions as numbers in a list of all that occur, counted from 1, and what the model gives to each: where these
    are chances, a probability p as two bytes, the nearest to 1023 √p; else 4 bytes."""
    most = max(map(len, guesses))
    words: dict[str, int] = {}
    codes, numbers = np.zeros((len(guesses), most), dtype="<u4"), np.zeros((len(guesses), most))
    for t, step in enumerate(guesses):
        for rank, (word, number) in enumerate(step):
            codes[t, rank] = words.setdefault(word, len(words) + 1)
            numbers[t, rank] = number
    kept = np.rint(1023 * np.sqrt(numbers)).astype("<u2") if chances else numbers.astype("<f4")
    narrow = codes.astype("<u2") if len(words) < 2**16 else codes
    return {
        "words": list(words), "most": most, "chances": chances, "width": narrow.itemsize, "codes": _text(narrow),
        "numbers": _text(kept),
    }  # fmt: skip


def _text(codes: npt.NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(codes.tobytes(), 9)).decode()
