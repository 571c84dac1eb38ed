"""A trained classifier without PyTorch: the native layers, and NumPy for what stands around them.

The twin of `class_model`, from the tensors of a model file. Letters as there; N: words of all texts of a batch, packed
step by step, the longest text first.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman import _native
from elman.data import ElmanError

Codes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

_CELLS = {"rnn": 0, "gru": 3, "lstm": 4}
_AT_ONCE = 128  # texts of like lengths
_WORDS = 65_536  # in a batch: bounds the memory, except of a single text
_STEPS = 4_096  # a longer text is read in parts, the state carried over
_GRU_RESET_UPDATE = 2  # gates whose two biases are one


class _Layer(NamedTuple):
    """One direction: w_ih (G H, I), w_hh (G H, H), bias (G H,), b_hn (H,) of GRU."""

    w_ih: Floats
    w_hh: Floats
    bias: Floats
    b_hn: Floats | None
    reverse: bool


class _Packed(NamedTuple):
    """Texts side by side: their codes (N,) int64 and how many texts each step has."""

    codes: npt.NDArray[np.int64]
    sizes: list[int]

    @property
    def batch(self) -> int:
        return self.sizes[0]


class ClassNetwork:
    """Logits of texts that are given as codes. Raises ElmanError where tensors do not fit the description."""

    def __init__(self, model: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        self.classes, self.pooling = model["classes"], model["pooling"]
        self.cell, self.hidden = model["cell"], model["hidden_size"]
        try:
            ways = ("", "_reverse") if model["bidirectional"] else ("",)
            self.layers = [[self._layer(tensors, i, way) for way in ways] for i in range(model["num_layers"])]
            self.embedding = _floats(tensors["embedding.weight"])
            self.head, self.bias = _floats(tensors["head.weight"]), _floats(tensors["head.bias"])
            self.attention = _floats(tensors["attention.weight"])[0] if self.pooling == "attention" else None
        except KeyError as error:
            raise ElmanError(
                f"the model's tensors do not fit its description: there is no {error}."
            ) from None
        self._check(model)

    def _layer(self, tensors: Mapping[str, npt.NDArray[Any]], i: int, way: str) -> _Layer:
        w_ih, w_hh, b_ih, b_hh = (
            _floats(tensors[f"layers.{kind}_l{i}{way}"])
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        if self.cell != "gru":
            return _Layer(w_ih, w_hh, b_ih + b_hh, None, bool(way))
        gates = _GRU_RESET_UPDATE * self.hidden
        bias = np.concatenate((b_ih[:gates] + b_hh[:gates], b_ih[gates:]))
        return _Layer(w_ih, w_hh, bias, b_hh[gates:].copy(), bool(way))

    def _check(self, model: Mapping[str, Any]) -> None:
        """Kernels are given pointers, so that sizes must be right."""
        inputs, width = model["embedding_size"], self.hidden * len(self.layers[0])
        gates = {"rnn": 1, "gru": 3, "lstm": 4}[self.cell] * self.hidden
        fits = self.embedding.shape == (model["vocabulary"], inputs)
        fits &= self.head.shape == (self.classes, width) and self.bias.shape == (self.classes,)
        fits &= self.attention is None or self.attention.shape == (width,)
        for layer in self.layers:
            for one in layer:
                fits &= one.w_ih.shape == (gates, inputs) and one.w_hh.shape == (gates, self.hidden)
                fits &= one.bias.shape == (gates,)
            inputs = width
        if not fits:
            raise ElmanError(
                "the model's tensors do not fit its description: their shapes are not those described."
            )

    def __call__(self, texts: Sequence[Codes]) -> Floats:
        """Logits (len(texts), C) of codes (t,), t ≥ 1."""
        lengths = np.array([len(codes) for codes in texts], np.int64)
        found = np.empty((len(texts), self.classes), np.float32)
        if not len(texts):
            return found
        words, tables = self._tables(texts)
        groups = _groups(lengths)

        def run(rows: npt.NDArray[np.int64]) -> None:
            found[rows] = self._batch([words[texts[i]] for i in rows], tables)

        threads = min(len(groups), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
        if threads == 1:
            for rows in groups:
                run(rows)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, groups))
        return found

    def _tables(self, texts: Sequence[Codes]) -> tuple[npt.NDArray[np.int64], list[Floats]]:
        """(what number each code has among those that occur (V,), for each direction of the first layer the projection
        of these (·, G H))."""
        occurs = np.zeros(len(self.embedding), bool)
        for codes in texts:
            occurs[codes] = True
        words = np.cumsum(occurs, dtype=np.int64) - 1
        e = np.ascontiguousarray(self.embedding[occurs])
        return words, [_linear(e, one.w_ih, one.bias) for one in self.layers[0]]

    def _batch(self, texts: list[npt.NDArray[np.int64]], tables: list[Floats]) -> Floats:
        """Logits of texts (B, C), the longest first."""
        packed = _pack(texts)
        ys: list[Floats] = []
        for i, layer in enumerate(self.layers):
            x = np.concatenate(ys, axis=1) if ys else None
            ys = [self._states(one, packed, tables[k] if i == 0 else None, x) for k, one in enumerate(layer)]
        return self._pooled(ys, packed.sizes) @ self.head.T + self.bias

    def _states(self, layer: _Layer, packed: _Packed, table: Floats | None, x: Floats | None) -> Floats:
        """y (N, H) of words of the table, or of x (N, I); of a long text, in parts."""
        if packed.batch > 1 or len(packed.sizes) <= _STEPS:
            return self._run(layer, packed, table, x)[0]
        y, state = np.empty((len(packed.codes), self.hidden), np.float32), None
        begins = range(0, len(packed.codes), _STEPS)
        for begin in reversed(begins) if layer.reverse else begins:
            part = slice(begin, begin + _STEPS)
            some = _Packed(packed.codes[part], packed.sizes[part])
            y[part], state = self._run(layer, some, table, None if x is None else x[part], state)
        return y

    def _run(
        self,
        layer: _Layer,
        packed: _Packed,
        table: Floats | None,
        x: Floats | None,
        state: tuple[Floats, Floats] | None = None,
    ) -> tuple[Floats, tuple[Floats, Floats]]:
        """y (N, H) and the last state (B, H), (B, H): of words of the table, or of x (N, I)."""
        batch, hidden = packed.batch, self.hidden
        h, c = state or (np.zeros((batch, hidden), np.float32), np.zeros((batch, hidden), np.float32))
        y, c = np.empty((len(packed.codes), hidden), np.float32), c.copy()
        source: tuple[int, ...]
        if table is not None:
            source = (0, 0, 0, 0, _at(packed.codes), _at(table), 0)
        else:
            assert x is not None
            source = (x.shape[1], _at(x), _at(layer.w_ih), _at(layer.bias), 0, 0, 0)
        same = packed.sizes[-1] == batch
        product = None
        if len(packed.sizes) == 1:
            product = h @ layer.w_hh.T
        _native.forward(
            _CELLS[self.cell], False, len(packed.sizes), batch, hidden, () if same else packed.sizes, layer.reverse, 1,
            0, *source, 0 if product is not None else _at(layer.w_hh), _at(product), _at(layer.b_hn), _at(h), _at(c),
            _at(y), _at(c), 0, 0,
        )  # fmt: skip
        return y, (y[:batch] if layer.reverse else y[-batch:], c)

    def _pooled(self, ys: list[Floats], sizes: list[int]) -> Floats:
        """The last layer's y (N, H) of each direction → (B, D H)."""
        lengths = _lengths(sizes)
        if self.pooling == "last":
            starts = np.array([0, *accumulate(sizes)])
            forward = ys[0][starts[lengths - 1] + np.arange(sizes[0])]
            return np.concatenate([forward, *(y[: sizes[0]] for y in ys[1:])], axis=1)
        if self.pooling == "mean":
            means: Floats = np.concatenate([_over_steps(np.add, y, sizes) for y in ys], axis=1)
            means /= lengths[:, None].astype(np.float32)
            return means
        if self.pooling == "max":
            return np.concatenate([_over_steps(np.maximum, y, sizes) for y in ys], axis=1)
        assert self.attention is not None
        scores = sum(y @ part for y, part in zip(ys, np.split(self.attention, len(ys)), strict=True))
        return np.concatenate([_attended(scores, y, sizes) for y in ys], axis=1)


def _floats(array: npt.NDArray[Any]) -> Floats:
    return np.ascontiguousarray(array, np.float32)


def _at(array: npt.NDArray[Any] | None) -> int:
    return 0 if array is None else array.ctypes.data


def _linear(x: Floats, w: Floats, bias: Floats) -> Floats:
    y = np.empty((len(x), len(w)), np.float32)
    _native.linear(False, len(x), x.shape[1], len(w), False, 1, _at(x), _at(w), _at(bias), _at(y))
    return y


def _groups(lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """The texts of each batch, the longest first. A text of more than _STEPS words is alone."""
    order = np.argsort(-lengths, kind="stable")
    borders, begun = [], 0
    for i in range(1, len(order)):
        longest = lengths[order[begun]]
        if i - begun == _AT_ONCE or longest > _STEPS or (i - begun + 1) * longest > _WORDS:
            borders.append(i)
            begun = i
    return np.split(order, borders)


def _pack(texts: list[npt.NDArray[np.int64]]) -> _Packed:
    lengths = np.array([len(codes) for codes in texts])
    rows = np.zeros((lengths[0], len(texts)), np.int64)
    for column, codes in enumerate(texts):
        rows[: len(codes), column] = codes
    there = np.arange(lengths[0])[:, None] < lengths
    return _Packed(rows[there], there.sum(1).tolist())


def _lengths(sizes: list[int]) -> npt.NDArray[np.int64]:
    """How many steps each text has."""
    ends = np.bincount(np.array(sizes), minlength=sizes[0] + 1)
    found: npt.NDArray[np.int64] = ends[::-1].cumsum()[::-1][1:]
    return found


def _over_steps(join: np.ufunc, y: Floats, sizes: list[int]) -> Floats:
    """The sum or the largest of y (N, ·) over the steps of each text (B, ·)."""
    if sizes[0] == 1:
        whole: Floats = join.reduce(y, axis=0, keepdims=True)
        return whole
    found, at = y[: sizes[0]].copy(), sizes[0]
    for size in sizes[1:]:
        join(found[:size], y[at : at + size], out=found[:size])
        at += size
    return found


def _attended(scores: Floats, y: Floats, sizes: list[int]) -> Floats:
    """The mean of y (N, H) over the steps of each text, weighted by the softmax of scores (N,): (B, H)."""
    found = np.empty((sizes[0], y.shape[1]), np.float32)
    same = sizes[-1] == sizes[0]
    _native.attend(
        len(sizes), sizes[0], y.shape[1], () if same else sizes, _at(scores), _at(y), _at(found)
    )  # fmt: skip
    return found
