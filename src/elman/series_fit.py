"""The part of the series job that needs PyTorch: what is trained on windows, and how that is measured.

Knows arrays and a model; the table they came from and the file they go to are `series`'.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.distributions import StudentT

from elman import __version__
from elman.checkpoint import ModelFile
from elman.schedule import Settings
from elman.series_loss import POINT
from elman.series_model import SeriesConfig, SeriesModel
from elman.series_network import SeriesNetwork
from elman.training import Job, Result, SeededRun
from elman.validation import Measure
from elman.windows import Series, Shape, checksum, least_length, scaled, window

_AT_ONCE = 1_024  # windows measured at a time
_LEAST_SCALE = 0.1
_TOLERANCE = 0.05  # one horizon of each series is a sample of few days or months
_EACH, _ALL = 50, 10_000  # validation windows of a series, of all
_ENOUGH = 8  # validation values to move a quantile by


Loss = Callable[[Tensor, Tensor], Tensor]


class Windows(NamedTuple):
    """One step's data: inputs (B, ·), as `windows.window` makes them; targets (B, H + 1), the values that follow and,
    last, 1 / their scale."""

    inputs: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]
    first: bool = True


def cut(series: Sequence[Series], places: Sequence[tuple[int, int]], shape: Shape) -> Windows:
    """The windows of series i before value `end` for each (i, end), with the horizon that follows.

    The scale that errors are divided by is at least a share of the whole series' own: a window that did not move
    before a jump must not outweigh all others.
    """
    x = np.stack([window(series[i], end, shape) for i, end in places])
    y = np.stack([series[i].values[end : end + shape.horizon] for i, end in places]).astype(np.float32)
    _, _, scale = scaled(x[:, : shape.input_length], shape)
    least = np.array([[_LEAST_SCALE * series[i].deviation] for i, _ in places])
    return Windows(x, np.concatenate((y, 1 / np.maximum(scale, least)), axis=1).astype(np.float32))


class SeriesBatches:
    """Endless random windows: a series, each as often as the others, and a place in it."""

    def __init__(self, series: Sequence[Series], shape: Shape, batch_size: int, seed: int) -> None:
        self.series, self.shape, self.batch_size, self.seed = series, shape, batch_size, seed
        least = least_length(shape)
        self.places = np.array([len(one) - shape.horizon - least + 1 for one in series])
        self.least = least
        self.steps_per_epoch = max(1, round(int(self.places.sum()) / batch_size))

    def iterate(self, start: int = 0) -> Iterator[Windows]:
        """Batches from step `start` on, always the same for the same step."""
        step = start
        while True:
            rng = np.random.default_rng((self.seed, step))
            series = rng.integers(len(self.series), size=self.batch_size)
            ends = self.least + (rng.random(self.batch_size) * self.places[series]).astype(int)
            yield cut(self.series, list(zip(series, ends, strict=True)), self.shape)
            step += 1


def loss_of(config: SeriesConfig) -> Loss:
    """What a model is trained for: the mean over what it puts out (M, B, H, C), in units of each window's scale."""
    levels = torch.tensor(config.quantiles)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        y, inverse = targets[:, :-1, None], targets[:, -1:, None]
        if config.loss == "negative_binomial":
            mean, dispersion = outputs[..., :1], outputs[..., 1:]
            return -negative_binomial(mean, dispersion, y).mean()
        if config.loss == "student_t":
            location, scale, freedom = (outputs[..., k : k + 1] for k in range(3))
            spread: Any = StudentT(freedom, location * inverse, scale * inverse)
            found: Tensor = -spread.log_prob(y * inverse).mean()
            return found
        difference = (y - outputs) * inverse
        if config.loss in POINT:
            return (difference**2 if config.loss == "mse" else difference.abs()).mean()
        q = levels.to(outputs.device)
        return torch.maximum(q * difference, (q - 1) * difference).mean()

    return loss


def negative_binomial(mean: Tensor, dispersion: Tensor, y: Tensor) -> Tensor:
    """The log probability of counts y, of variance mean + dispersion * mean² (as in Salinas et al., "DeepAR", 2020)."""
    number = 1 / dispersion
    ways = torch.lgamma(y + number) - torch.lgamma(number) - torch.lgamma(y + 1)
    ratio = dispersion * mean
    return ways - number * torch.log1p(ratio) + y * (torch.log(ratio) - torch.log1p(ratio))


def measure(windows: Windows, loss: Loss, horizon: int) -> Measure:
    """The same loss over validation windows."""

    def run(model: nn.Module, items: int | None) -> Iterator[tuple[float, int]]:
        count = len(windows.inputs) if items is None else min(len(windows.inputs), -(-items // horizon))
        for at in range(0, count, _AT_ONCE):
            end = min(at + _AT_ONCE, count)
            outputs, _ = model(torch.from_numpy(windows.inputs[at:end]))
            values = (end - at) * horizon
            yield float(loss(outputs, torch.from_numpy(windows.targets[at:end]))) * values, values

    return run


def naive_loss(config: SeriesConfig, windows: Windows) -> float | None:
    """The same loss of the seasonal naive rule: the last of the longest seasons that a window holds, again and again.

    Its quantiles are those of the errors that it makes within the window, and grow with the root of the seasons ahead.
    None for losses of distributions, which the rule has none of.
    """
    if config.loss not in (*POINT, "quantile"):
        return None
    shape = config.shape
    x, ahead = windows.inputs[:, : shape.input_length], np.arange(shape.horizon)
    period = max(m for m in (1, *shape.seasons) if m <= shape.input_length)
    found = x[:, shape.input_length - period + ahead % period][..., None]  # (B, H, 1)
    lag = period if 2 * period <= shape.input_length else 1
    if config.loss == "quantile" and shape.input_length > lag:
        errors = np.quantile(x[:, lag:] - x[:, :-lag], config.quantiles, axis=1).T[:, None]  # (B, 1, Q)
        errors[..., len(config.quantiles) // 2] = 0
        found = found + errors * np.sqrt(1 + ahead // period)[:, None]
    elif config.loss == "quantile":
        found = found.repeat(len(config.quantiles), -1)
    outputs = torch.from_numpy(np.asarray(found, np.float32))[None]
    return float(loss_of(config)(outputs, torch.from_numpy(windows.targets)))


@dataclass(frozen=True)
class SeriesRun(SeededRun):
    """One run of the series job. `held` are the windows that measure, in the last `val_size` values of a series, on
    which nothing is trained; 0 when no series is long enough for that. scaled_by: by whose windows' scales their errors
    are divided, where runs that read windows of several lengths are compared; their own when None."""

    series: tuple[Series, ...]
    held: tuple[tuple[int, int], ...]
    val_size: int
    config: SeriesConfig
    batch_size: int
    settings: Settings
    seed: int
    about: dict[str, Any]  # the codec of the model file
    keep: Callable[[ModelFile], None] | None
    scaled_by: Shape | None = None

    def describe(self) -> dict[str, Any]:
        """What a run must share with another to continue it."""
        about = {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "checksum of the series": checksum(self.series),
        }
        return about | self.settings.as_dict() | _model_dict(self.config)

    @cached_property
    def validation(self) -> Windows:
        own = cut(self.series, self.held, self.config.shape)
        if self.scaled_by is None:
            return own
        inverse = cut(self.series, self.held, self.scaled_by).targets[:, -1:]
        return own._replace(targets=np.concatenate((own.targets[:, :-1], inverse), axis=1))

    def _job(self) -> Job:
        shape = self.config.shape
        measured = {i for i, _ in self.held}
        training = [
            one.before(len(one) - self.val_size) if i in measured else one
            for i, one in enumerate(self.series)
        ]
        least = least_length(shape) + shape.horizon
        batches = SeriesBatches(
            [one for one in training if len(one) >= least], shape, self.batch_size, self.seed
        )
        loss = loss_of(self.config)
        windows = self.validation
        items = len(windows.inputs) * shape.horizon
        return Job(
            SeriesModel(self.config), loss, batches, measure(windows, loss, shape.horizon), items, _TOLERANCE
        )

    def model_file(self, result: Result) -> ModelFile:
        tensors = dict(result.weights)
        tensors["calibration"] = self._calibration(result.weights)
        figures = self._figures(result)
        return ModelFile("series", tensors, _model_dict(self.config), self.about, figures, __version__)

    def _calibration(self, weights: dict[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """What makes quantiles cover their share of the validation values: by what to multiply the distance of each
        from the median (after Romano et al., "Conformalized quantile regression", 2019), never narrower, since a calm
        validation period promises nothing. For a point forecast: how far each lies from it, in the scale of windows."""
        config, windows = self.config, self.validation
        levels, middle = config.quantiles, len(config.quantiles) // 2
        y = windows.targets[:, :-1]
        point = config.loss in POINT
        factors = np.zeros(len(levels), np.float32) if point else np.ones(len(levels), np.float32)
        if config.loss == "negative_binomial" or (y.size < _ENOUGH and not point):
            return factors
        found, _, scale = SeriesNetwork(_model_dict(config), weights)(windows.inputs)
        for k, level in enumerate(levels):
            if k != middle and point:
                bound = np.quantile((y - found[..., k]) / scale, level)
                factors[k] = min(0.0, bound) if k < middle else max(0.0, bound)
            elif k != middle:
                ratio = (y - found[..., middle]) / (found[..., k] - found[..., middle])
                factors[k] = max(1.0, float(np.quantile(ratio, max(level, 1 - level))))
        return factors

    def _figures(self, result: Result) -> dict[str, Any]:
        return result.figures(self.settings) | {
            "validation_values": result.validation_items,
            "series": len(self.series),
            "values": int(sum(map(len, self.series))),
            "settings": self.settings.as_dict() | {"seed": self.seed, "batch_size": self.batch_size},
        }


def _model_dict(config: SeriesConfig) -> dict[str, Any]:
    return asdict(config) | {"shape": config.shape.as_dict(), "quantiles": list(config.quantiles)}


def held_out(series: Sequence[Series], shape: Shape, val_size: int) -> tuple[tuple[int, int], ...]:
    """(series, place) of windows in the last values of every series that is long enough to train on what lies before.

    One for each series when val_size is the horizon, else about _EACH, one step or more apart; of very many series, a
    random part.
    """
    least = least_length(shape) + shape.horizon + val_size
    room = val_size - shape.horizon
    found = [
        (i, len(one) - val_size + k)
        for i, one in enumerate(series)
        if len(one) >= least
        for k in range(0, room + 1, max(1, room // _EACH))
    ]
    order = np.random.default_rng(0).permutation(len(found))  # so that a part of them is of all kinds
    return tuple(found[k] for k in order[:_ALL])
