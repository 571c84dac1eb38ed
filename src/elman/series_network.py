"""A trained series model without PyTorch: the native layers, and NumPy for what stands around them.

The twin of `series_model`, equation by equation, from the tensors of a model file. Letters as there.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from elman import _native
from elman.series_loss import found_mean, found_quantiles
from elman.stream import cores, layer_weights
from elman.windows import Floats, Shape, bases, scaled, unpacked

_NARROW, _LEAST = np.float32(-1.0), np.float32(1e-3)
_DOUBT = 20  # horizons
_AT_ONCE = 4_096  # windows, to bound the memory


class SeriesNetwork:
    """Forecasts from windows (B, ·), as `windows.window` makes them, by all members of the ensemble."""

    def __init__(self, model: dict[str, Any], tensors: dict[str, npt.NDArray[Any]]) -> None:
        self.shape = Shape.from_dict(model["shape"])
        self.loss, self.quantiles, self.horizons = model["loss"], model["quantiles"], model["horizons"]
        self.members = [
            _Member(model, self.shape, _below(tensors, f"members.{k}.")) for k in range(model["members"])
        ]

    def __call__(self, x: npt.NDArray[np.float32]) -> tuple[Floats, Floats | None, Floats]:
        """→ quantiles (B, H, Q), means (B, H) where the loss is for them, and the windows' scale (B, 1).

        A network that has seen a handful of horizons knows nothing better than `Shape.cautious`: its forecast is moved
        towards that, and its intervals are widened, the more the less was learned from.
        """
        if len(x) > _AT_ONCE:
            parts = [self(x[i : i + _AT_ONCE]) for i in range(0, len(x), _AT_ONCE)]
            q, m, s = zip(*parts, strict=True)
            return np.concatenate(q), None if m[0] is None else np.concatenate(m), np.concatenate(s)
        found, guess, scale = self.put_out(x)
        quantiles: Floats = np.mean([found_quantiles(self.loss, f, self.quantiles) for f in found], axis=0)
        means = [mean for f in found if (mean := found_mean(self.loss, f)) is not None]
        middle = quantiles[..., len(self.quantiles) // 2]
        doubt = doubt_after(self.horizons)
        moved = doubt * (guess - middle)
        spread = (1 + doubt) * (quantiles - middle[..., None])
        return (middle + moved)[..., None] + spread, np.mean(means, axis=0) + moved if means else None, scale

    def put_out(self, x: npt.NDArray[np.float32]) -> tuple[Floats, Floats, Floats]:
        """→ (M, B, H, C), what `Shape.cautious` forecasts (B, H), and the windows' scale (B, 1)."""
        shape = self.shape
        values, past, future, static = unpacked(x, shape)
        z, level, scale = scaled(values, shape)
        read = np.concatenate((z[..., None], past, future[:, : shape.input_length]), axis=-1)
        read = read.reshape(len(x), -1, shape.segment * read.shape[-1])
        ahead = future[:, shape.input_length :].reshape(len(x), shape.segments, shape.segment * shape.future)
        simple = bases(z, shape)
        found = np.stack([member(read, ahead, static, simple) for member in self.members])
        guess = simple[:, : shape.horizon, list(shape.cautious)].mean(axis=-1) * scale + level
        return _put_out(self.loss, found, level[:, :, None], scale[:, :, None]), guess, scale


def doubt_after(horizons: float) -> float:
    """The share of the cautious forecast in that of a network which has seen so many horizons."""
    return _DOUBT / (_DOUBT + horizons)


class _Member:
    def __init__(self, model: dict[str, Any], shape: Shape, tensors: dict[str, npt.NDArray[Any]]) -> None:
        self.shape, self.tensors = shape, tensors
        self.parts = 2 if model["cell"] == "lstm" else 1
        self.hidden = model["hidden_size"]
        cell = {"rnn": "rnn_tanh"}.get(model["cell"], model["cell"])
        self.encoder, self.decoder = (
            _native.Stack(cell, [layer_weights(tensors, 0, f"{name}.")]) for name in ("encoder", "decoder")
        )

    def _linear(self, name: str, x: Floats) -> Floats:
        result: Floats = x @ self.tensors[f"{name}.weight"].T + self.tensors.get(f"{name}.bias", 0)
        return result

    def __call__(self, read: Floats, ahead: Floats, static: Floats, simple: Floats) -> Floats:
        shape, batch, count = self.shape, len(read), self.shape.segments
        embedded = self._linear("embedding", read)
        steps: Floats = np.repeat(self.tensors["positions"].astype(np.float32)[:, None], batch, axis=1)
        if shape.future:
            steps = steps + self._linear("future", ahead).transpose(1, 0, 2)
        if shape.static:
            about = self._linear("static", static)
            embedded, steps = embedded + about[:, None], steps + about
        state = np.zeros((batch, self.parts * self.hidden), np.float32)
        self.encoder.feed(_rows(_silu(embedded).transpose(1, 0, 2)), state, cores())
        y = self.decoder.feed(
            _rows(steps.reshape(1, count * batch, -1)), np.tile(state, (count, 1)), cores()
        )[0]
        chosen = _softmax(self._linear("gate", y)).reshape(count, batch, 1, -1).transpose(1, 0, 2, 3)
        raw = self._linear("head", y).reshape(count, batch, shape.segment, -1).transpose(1, 0, 2, 3)
        mixed = (simple.reshape(batch, count, shape.segment, -1) * chosen).sum(-1, keepdims=True)
        found = np.concatenate((mixed, raw), axis=-1)
        return found.reshape(batch, count * shape.segment, -1)[:, : shape.horizon]


def _below(tensors: dict[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _rows(x: Floats) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(x, np.float32)


def _put_out(loss: str, found: Floats, level: Floats, scale: Floats) -> Floats:
    mixed, raw = found[..., :1], found[..., 1:]
    if loss == "quantile":
        return _spread(mixed, raw) * scale + level
    middle = (mixed + raw[..., :1]) * scale + level
    if loss == "student_t":
        width = (np.logaddexp(0, raw[..., 1:2] + _NARROW) + _LEAST) * scale
        return np.concatenate((middle, width, 2 + np.logaddexp(0, raw[..., 2:])), -1)
    if loss == "negative_binomial":
        mean = scale * np.logaddexp(0, middle / scale) + _LEAST
        return np.concatenate((mean, np.logaddexp(0, raw[..., 1:] + _NARROW) + _LEAST), -1)
    return np.asarray(middle)


def _silu(x: Floats) -> Floats:
    result: Floats = x * (0.5 + 0.5 * np.tanh(0.5 * x))
    return result


def _softmax(x: Floats) -> Floats:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    result: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return result


def _spread(mixed: Floats, raw: Floats) -> Floats:
    middle = raw.shape[-1] // 2
    centre = mixed + raw[..., middle : middle + 1]
    distances = np.logaddexp(0, raw + _NARROW)
    below = distances[..., :middle][..., ::-1].cumsum(-1)[..., ::-1]
    above = distances[..., middle + 1 :].cumsum(-1)
    return np.concatenate((centre - below, centre, centre + above), -1)
