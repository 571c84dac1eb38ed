"""What a model has to beat: character frequencies, and a trigram interpolated by Witten and Bell's rule.

Works on rows of codes (n,) from a codec of V symbols. Knows nothing of networks or torch.
Source: Witten and Bell, "The zero-frequency problem", IEEE Trans. Information Theory 37 (1991), method C.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.data import Codes, ElmanError, too_short

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

KEPT = 200_000  # pairs, and triples, stored in the model file: the most frequent
_PIECE = 1 << 22  # codes counted at a time
_SAMPLES = 8  # pieces counted of a very long text, evenly spaced
_PREFIX = "baseline."


@dataclass(frozen=True)
class Baseline:
    """Counts of symbols, pairs and triples. (a, b) has the key a*V + b, and (a, b, c) (a*V + b)*V + c."""

    counts: Ints  # (V,) of each symbol
    followers: Ints  # (V,) distinct symbols seen after each symbol
    pairs: Ints  # (P,) sorted keys
    pair_counts: Ints  # (P,)
    pair_followers: Ints  # (P,) distinct symbols seen after each pair
    triples: Ints  # (Q,) sorted keys
    triple_counts: Ints  # (Q,)

    @classmethod
    def fit(cls, codes: Codes, vocabulary: int) -> "Baseline":
        """Counts codes (n,), all below `vocabulary`. Of over 33 million, evenly spaced pieces are counted."""
        symbols, times = _count(codes, 1, vocabulary, sample=True)
        pairs, pair_counts = _count(codes, 2, vocabulary, sample=True)
        triples, triple_counts = _count(codes, 3, vocabulary, sample=True)
        counts = np.zeros(vocabulary, np.int64)
        counts[symbols] = times
        contexts, distinct = np.unique(triples // vocabulary, return_counts=True)
        pair_followers = _lookup(contexts, distinct, pairs)
        followers = np.bincount(pairs // vocabulary, minlength=vocabulary)
        kept = _most_frequent(pair_counts)
        pairs, pair_counts, pair_followers = pairs[kept], pair_counts[kept], pair_followers[kept]
        kept = _most_frequent(np.where(np.isin(triples // vocabulary, pairs), triple_counts, 0))
        triples, triple_counts = triples[kept], triple_counts[kept]
        return cls(counts, followers, pairs, pair_counts, pair_followers, triples, triple_counts)

    def nats(self, codes: Codes) -> dict[str, float]:
        """Nats per character of codes[1:] under each baseline: {"frequency", "trigram"}.

        The first code only serves as context, as it does for a network that starts from a zero state.
        Raises ElmanError for fewer than two codes.
        """
        if len(codes) < 2:
            raise too_short(len(codes), 2)
        vocabulary = len(self.counts)
        symbols, times = _count(codes[1:], 1, vocabulary)
        frequency = -np.log(self._symbol(symbols)) @ times
        triples, times = _count(codes, 3, vocabulary)
        trigram = -np.log(self._triple(triples)) @ times
        second = np.array([int(codes[0]) * vocabulary + int(codes[1])])
        trigram -= np.log(self._pair(second))[0]
        n = len(codes) - 1
        return {"frequency": float(frequency / n), "trigram": float(trigram / n)}

    def to_tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The counts by name, for the model file."""
        return {_PREFIX + field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> "Baseline | None":
        """The baseline among a model file's tensors, or None. Raises ElmanError if it is incomplete."""
        names = [_PREFIX + field.name for field in fields(cls)]
        if not any(name in tensors for name in names):
            return None
        if missing := [name for name in names if name not in tensors]:
            raise ElmanError(f"the model file lacks {', '.join(missing)}: it is damaged.")
        return cls(*(np.asarray(tensors[name], np.int64) for name in names))

    # Each level is p = N(context, c) / (N + T) + rest * p(c | shorter context): N is the context's count, T
    # its distinct followers, and rest what makes it sum to 1: T / (N + T) if every follower is stored.

    def _symbol(self, symbols: Ints) -> Floats:
        distinct = np.count_nonzero(self.counts)
        smoothed: Floats = self.counts[symbols] + distinct / len(self.counts)
        return smoothed / (int(self.counts.sum()) + distinct)

    def _pair(self, pairs: Ints) -> Floats:
        context, symbol = np.divmod(pairs, len(self.counts))
        total = self.counts[context] + self.followers[context]
        stored = np.bincount(self.pairs // len(self.counts), self.pair_counts, len(self.counts))[context]
        return _level(_lookup(self.pairs, self.pair_counts, pairs), stored, total, self._symbol(symbol))

    def _triple(self, triples: Ints) -> Floats:
        context = triples // len(self.counts)
        total = _lookup(self.pairs, self.pair_counts + self.pair_followers, context)
        contexts, where = np.unique(self.triples // len(self.counts), return_inverse=True)
        stored = _lookup(contexts, np.bincount(where, self.triple_counts), context)
        shorter = self._pair(triples % len(self.counts) ** 2)
        return _level(_lookup(self.triples, self.triple_counts, triples), stored, total, shorter)


def _level(times: Ints, stored: npt.NDArray[Any], total: Ints, shorter: Floats) -> Floats:
    total = np.maximum(total, 1)  # a context never seen leaves all to the shorter one
    p: Floats = times / total + (1 - stored / total) * shorter
    return p


def _lookup(keys: Ints, values: npt.NDArray[Any], wanted: Ints) -> npt.NDArray[Any]:
    """values of the wanted among sorted keys; 0 where there is none."""
    if not len(keys):
        return np.zeros(len(wanted), values.dtype)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)


def _count(codes: Codes, length: int, vocabulary: int, sample: bool = False) -> tuple[Ints, Ints]:
    """(sorted keys, times) of the runs of `length` codes."""
    keys, times = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for piece in _pieces(codes, length, sample):
        run = piece[: len(piece) - length + 1].astype(np.int64)
        for i in range(1, length):
            run = run * vocabulary + piece[i : len(piece) - length + 1 + i]
        found, found_times = np.unique(run, return_counts=True)
        keys, where = np.unique(np.concatenate((keys, found)), return_inverse=True)
        times = np.bincount(where, np.concatenate((times, found_times))).astype(np.int64)
    return keys, times


def _pieces(codes: Codes, length: int, sample: bool) -> Iterator[Codes]:
    starts = range(0, len(codes) - length + 1, _PIECE)
    step = max(1, len(starts) // _SAMPLES) if sample else 1
    for start in starts[::step]:
        yield codes[start : start + _PIECE + length - 1]


def _most_frequent(times: Ints) -> npt.NDArray[np.intp]:
    """Positions, ascending, of the KEPT largest."""
    return np.sort(np.argsort(-times, kind="stable")[:KEPT])
