"""Labelled texts as codes: what trains and what measures, and batches of texts of like lengths.

Knows codes and class numbers; neither the texts they came from nor torch.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int32]

UNKNOWN = 1  # what a text without words is read as
HELD_OUT = 0.1
MOST_HELD_OUT = 5_000
FEW = 10  # classes, of which one text each may be held out where that is more than the share
LONGEST = 1_024  # words of a text that one training step reads: of longer texts, another stretch each time
AT_ONCE = 32_768  # words in a batch, padding included: bounds the memory


@dataclass(frozen=True)
class Coded:
    """Codes (t,), t ≥ 1, of N texts, and their classes: (N,) int64, or where there may be several (N, C) bool."""

    codes: tuple[Codes, ...]
    classes: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.codes)

    def pick(self, rows: npt.NDArray[np.int64]) -> "Coded":
        return Coded(tuple(self.codes[i] for i in rows), self.classes[rows])

    def checksum(self) -> str:
        found = zlib.crc32(np.ascontiguousarray(self.classes).tobytes())
        for codes in self.codes:
            found = zlib.crc32(codes.tobytes(), found)
        return f"{found:08x}"


class Texts(NamedTuple):
    """One step's data: inputs (1 + T, B) int64, lengths and below them codes, padded with 0; targets (B,) or (B, C)."""

    inputs: npt.NDArray[np.int64]
    targets: npt.NDArray[Any]
    first: bool = True


def filled(codes: Sequence[Codes]) -> list[Codes]:
    """The same, a text without words being one unknown word."""
    return [text if len(text) else np.array([UNKNOWN], np.int32) for text in codes]


def padded(codes: Sequence[Codes]) -> npt.NDArray[np.int64]:
    """(1 + T, B): lengths and below them codes, padded with 0."""
    lengths = [len(text) for text in codes]
    rows = np.zeros((1 + max(lengths), len(codes)), np.int64)
    rows[0] = lengths
    for column, text in enumerate(codes):
        rows[1 : 1 + len(text), column] = text
    return rows


def split(
    same: Sequence[Any], classes: npt.NDArray[Any], seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(rows that train, rows that measure): a tenth of every class, 5,000 at most in all.

    `same` (N,) has equal values for texts that are the same: these stay together, so that what measures was not trained
    on. Of a class too small for a tenth, one text measures; where such classes are many, only of some, drawn at random,
    until there is a tenth of all texts. Where texts may have several labels, those with the same ones are a class, and
    all such classes that are too small are one together. What trains has every label.
    """
    rng = np.random.default_rng(seed)
    share = min(HELD_OUT, MOST_HELD_OUT / max(1, len(same)))
    strata = _strata(same, classes, share)
    quotas = [round(share * len(stratum)) for stratum in strata]
    small = [k for k, quota in enumerate(quotas) if not quota]
    room = max(FEW, round(share * sum(map(len, strata))) - sum(quotas))
    order = list(range(len(strata)))
    if len(small) > room:
        order = [*np.flatnonzero(quotas), *rng.permutation(small)]
    left = _counts(classes)
    held: list[int] = []
    for k in order:
        wanted = quotas[k] or min(1, room)
        for i in rng.permutation(len(strata[k])):
            if not wanted:
                break
            own = _counts(classes[strata[k][i]], len(left))
            if (left > own)[own > 0].all():
                held += strata[k][i]
                left, wanted, room = left - own, wanted - 1, room - (not quotas[k])
    measuring = rng.permutation(np.array(held, np.int64))
    return np.setdiff1d(np.arange(len(same)), measuring), measuring


def _strata(same: Sequence[Any], classes: npt.NDArray[Any], share: float) -> list[list[list[int]]]:
    """Of each class, the rows of each text: of one that comes with several classes, all are in the first."""
    keys: list[Any] = list(map(bytes, classes)) if classes.ndim > 1 else classes.tolist()
    first: dict[Any, int] = {}
    groups: dict[Any, dict[int, list[int]]] = {}
    for i, text in enumerate(same):
        root = first.setdefault(text, i)
        groups.setdefault(keys[root], {}).setdefault(root, []).append(i)
    strata = [list(group.values()) for group in groups.values()]
    if classes.ndim == 1:
        return strata
    small = [stratum for stratum in strata if not round(share * len(stratum))]
    large = [stratum for stratum in strata if round(share * len(stratum))]
    return [*large, list(chain.from_iterable(small))] if small else large


def _counts(classes: npt.NDArray[Any], least: int = 0) -> npt.NDArray[np.int64]:
    """How many texts have each class (C,)."""
    several = classes.ndim > 1
    found: npt.NDArray[np.int64] = classes.sum(0) if several else np.bincount(classes, minlength=least)
    return found


class TextBatches:
    """Endless batches: texts of like lengths side by side, in an order drawn anew for each epoch.

    A batch depends on seed and step alone: training can resume anywhere.
    """

    def __init__(self, data: Coded, batch_size: int, seed: int) -> None:
        self.data, self.seed = data, seed
        self.lengths = np.array([min(len(codes), LONGEST) for codes in data.codes])
        self.borders = borders(np.sort(self.lengths), batch_size)
        self.steps_per_epoch = len(self.borders) + 1

    def iterate(self, start: int = 0) -> Iterator[Texts]:
        """Batches from global step `start` on."""
        epoch, step = divmod(start, self.steps_per_epoch)
        while True:
            rng = np.random.default_rng((self.seed % 2**64, epoch))
            order = np.argsort(self.lengths * rng.uniform(0.95, 1.05, len(self.lengths)), kind="stable")
            groups = np.split(order, self.borders)
            places = rng.permutation(self.steps_per_epoch)
            begins = rng.random(len(order))
            for place in places[step:]:
                yield self._batch(groups[place], begins)
            epoch, step = epoch + 1, 0

    def _batch(self, rows: npt.NDArray[np.int64], begins: npt.NDArray[np.float64]) -> Texts:
        stretches = []
        for i in rows:
            codes = self.data.codes[i]
            begin = int(begins[i] * (len(codes) - self.lengths[i] + 1))
            stretches.append(codes[begin : begin + self.lengths[i]])
        return Texts(padded(stretches), self.data.classes[rows])


def borders(lengths: npt.NDArray[np.int64], batch_size: int) -> list[int]:
    """Where batches of texts, sorted by length, end: at batch_size texts or AT_ONCE words."""
    found, begun = [], 0
    for i, length in enumerate(lengths):
        if i > begun and (i - begun == batch_size or (i - begun + 1) * length > AT_ONCE):
            found.append(i)
            begun = i
    return found
