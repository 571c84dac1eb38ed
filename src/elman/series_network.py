"""A trained series model without PyTorch: the native layers, and NumPy for what stands around them.

The twin of `series_model`, equation by equation, from the tensors of a model file. Letters as there.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from elman import _native
from elman.stream import cores
from elman.windows import Floats, Shape, bases, scaled

_NARROW = np.float32(-1.0)
_AT_ONCE = 4_096  # windows, to bound the memory


class SeriesNetwork:
    """Quantiles (B, H, Q) of the values that follow windows (B, L)."""

    def __init__(self, model: dict[str, Any], tensors: dict[str, npt.NDArray[Any]]) -> None:
        self.shape = Shape.from_dict(model["shape"])
        self.count = len(model["quantiles"])
        self.parts = 2 if model["cell"] == "lstm" else 1
        self.hidden = model["hidden_size"]
        self.tensors = tensors
        cell = {"rnn": "rnn_tanh"}.get(model["cell"], model["cell"])
        self.encoder, self.decoder = (self._stack(cell, name) for name in ("encoder", "decoder"))

    def _stack(self, cell: str, name: str) -> _native.Stack:
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        w_ih, w_hh, b_ih, b_hh = (self.tensors[f"{name}.{part}"].astype(np.float32) for part in names)
        return _native.Stack(cell, [(w_ih, w_hh, b_ih, b_hh)])

    def _linear(self, name: str, x: Floats) -> Floats:
        result: Floats = x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]
        return result

    def __call__(self, x: npt.NDArray[np.float32]) -> Floats:
        if len(x) > _AT_ONCE:
            return np.concatenate([self(x[i : i + _AT_ONCE]) for i in range(0, len(x), _AT_ONCE)])
        shape, batch, segments = self.shape, len(x), self.shape.segments
        z, level, scale = scaled(x, shape)
        embedded = _silu(self._linear("embedding", z.reshape(batch, -1, shape.segment)))
        state = np.zeros((batch, self.parts * self.hidden), np.float32)
        self.encoder.feed(np.ascontiguousarray(embedded.transpose(1, 0, 2), np.float32), state, cores())
        steps = np.repeat(self.tensors["positions"].astype(np.float32), batch, axis=0)[None]
        y = self.decoder.feed(steps, np.tile(state, (segments, 1)), cores())[0]
        chosen = _softmax(self._linear("gate", y)).reshape(segments, batch, 1, -1).transpose(1, 0, 2, 3)
        raw = (
            self._linear("head", y).reshape(segments, batch, shape.segment, self.count).transpose(1, 0, 2, 3)
        )
        simple = bases(z, shape).reshape(batch, segments, shape.segment, -1)
        found = _spread((simple * chosen).sum(-1), raw).reshape(batch, -1, self.count)[:, : shape.horizon]
        result: Floats = found * scale[:, :, None] + level[:, :, None]
        return result


def _silu(x: Floats) -> Floats:
    result: Floats = x * (0.5 + 0.5 * np.tanh(0.5 * x))
    return result


def _softmax(x: Floats) -> Floats:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    result: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return result


def _spread(mixed: Floats, raw: Floats) -> Floats:
    middle = raw.shape[-1] // 2
    centre = (mixed + raw[..., middle])[..., None]
    distances = np.logaddexp(0, raw + _NARROW)
    below = distances[..., :middle][..., ::-1].cumsum(-1)[..., ::-1]
    above = distances[..., middle + 1 :].cumsum(-1)
    return np.concatenate((centre - below, centre, centre + above), -1)
