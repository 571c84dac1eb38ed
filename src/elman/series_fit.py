"""The part of the series job that needs PyTorch: what is trained on windows, and how that is measured.

Knows arrays and a model; the table they came from and the file they go to are `series`'.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from elman import __version__
from elman.checkpoint import ModelFile
from elman.progress import Report
from elman.schedule import Settings
from elman.series_model import SeriesConfig, SeriesModel
from elman.training import Job, LogKind, Result, Resume, train
from elman.validation import Measure
from elman.windows import Floats, Shape, least_length, scaled, window

_AT_ONCE = 1_024  # windows measured at a time
_LEAST_SCALE = 0.1
_TOLERANCE = 0.05  # one horizon of each series is a sample of few days or months
_ENOUGH = 300  # validation values to move a quantile by


class Windows(NamedTuple):
    """One step's data: inputs (B, L); targets (B, H + 1), the values that follow and, last, 1 / their scale."""

    inputs: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]
    first: bool = True


def cut(values: Sequence[Floats], places: Sequence[tuple[int, int]], shape: Shape) -> Windows:
    """The windows of series i before value `end` for each (i, end), with the horizon that follows.

    The scale that errors are divided by is at least a share of the whole series' own: a window that did not move
    before a jump must not outweigh all others.
    """
    x = np.stack([window(values[i], end, shape) for i, end in places])
    y = np.stack([values[i][end : end + shape.horizon] for i, end in places]).astype(np.float32)
    _, _, scale = scaled(x, shape)
    least = np.array([[_LEAST_SCALE * np.abs(values[i] - values[i].mean()).mean()] for i, _ in places])
    return Windows(x, np.concatenate((y, 1 / np.maximum(scale, least)), axis=1).astype(np.float32))


class SeriesBatches:
    """Endless random windows: a series, each as often as the others, and a place in it."""

    def __init__(self, values: Sequence[Floats], shape: Shape, batch_size: int, seed: int) -> None:
        self.values, self.shape, self.batch_size, self.seed = values, shape, batch_size, seed
        least = least_length(shape)
        self.places = np.array([len(v) - shape.horizon - least + 1 for v in values])
        self.least = least
        self.steps_per_epoch = max(1, round(int(self.places.sum()) / batch_size))

    def iterate(self, start: int = 0) -> Iterator[Windows]:
        """Batches from step `start` on, always the same for the same step."""
        step = start
        while True:
            rng = np.random.default_rng((self.seed, step))
            series = rng.integers(len(self.values), size=self.batch_size)
            ends = self.least + (rng.random(self.batch_size) * self.places[series]).astype(int)
            yield cut(self.values, list(zip(series, ends, strict=True)), self.shape)
            step += 1


def pinball(quantiles: Sequence[float]) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean quantile loss (Koenker and Bassett, "Regression quantiles", 1978) in units of each window's scale."""
    levels = torch.tensor(quantiles)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        y, inverse = targets[:, :-1, None], targets[:, -1:, None]
        q = levels.to(outputs.device)
        difference = (y - outputs) * inverse
        return torch.maximum(q * difference, (q - 1) * difference).mean()

    return loss


def measure(windows: Windows, loss: Callable[[Tensor, Tensor], Tensor], horizon: int) -> Measure:
    """The same loss over validation windows."""

    def run(model: nn.Module, items: int | None) -> Iterator[tuple[float, int]]:
        count = len(windows.inputs) if items is None else min(len(windows.inputs), -(-items // horizon))
        for at in range(0, count, _AT_ONCE):
            end = min(at + _AT_ONCE, count)
            outputs, _ = model(torch.from_numpy(windows.inputs[at:end]))
            values = (end - at) * horizon
            yield float(loss(outputs, torch.from_numpy(windows.targets[at:end]))) * values, values

    return run


@dataclass(frozen=True)
class SeriesRun:
    """One run of the series job. `held` are the windows that measure; `holds_back`: nothing is trained on what follows
    them."""

    values: tuple[Floats, ...]
    held: tuple[tuple[int, int], ...]
    holds_back: bool
    config: SeriesConfig
    batch_size: int
    settings: Settings
    seed: int
    about: dict[str, Any]  # the codec of the model file
    keep: Callable[[ModelFile], None]

    def train(self, report: Report, resume: Resume | None, log: LogKind, log_path: Path) -> Result:
        """Trains to the end of the budget. Raises what `training.train` raises."""
        with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
            torch.manual_seed(self.seed)
            result = train(self._job(), self.settings, report, resume, log, log_path, self._keep)
        self._keep(result)
        return result

    def describe(self) -> dict[str, Any]:
        """What a run must share with another to continue it."""
        checksum = 0
        for values in self.values:
            checksum = zlib.crc32(values.tobytes(), checksum)
        about = {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "checksum of the series": f"{checksum:08x}",
        }
        return about | self.settings.as_dict() | _model_dict(self.config)

    @property
    def validation(self) -> Windows:
        return cut(self.values, self.held, self.config.shape)

    def _job(self) -> Job:
        shape = self.config.shape
        kept = dict(self.held) if self.holds_back else {}
        training = [v[: kept.get(i, len(v))] for i, v in enumerate(self.values)]
        least = least_length(shape) + shape.horizon
        batches = SeriesBatches([v for v in training if len(v) >= least], shape, self.batch_size, self.seed)
        loss = pinball(self.config.quantiles)
        windows = self.validation
        items = len(windows.inputs) * shape.horizon
        return Job(
            SeriesModel(self.config), loss, batches, measure(windows, loss, shape.horizon), items, _TOLERANCE
        )

    def _keep(self, result: Result) -> None:
        tensors = dict(result.weights)
        tensors["calibration"] = self._calibration(result.weights)
        figures = self._figures(result)
        self.keep(ModelFile("series", tensors, _model_dict(self.config), self.about, figures, __version__))

    @torch.no_grad()
    def _calibration(self, weights: dict[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """By what to multiply each quantile's distance from the median, so that it covers its share of the
        validation values (after Romano et al., "Conformalized quantile regression", 2019). Never narrower: a calm
        validation period promises nothing."""
        model = SeriesModel(self.config).eval()
        model.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
        windows, levels = self.validation, self.config.quantiles
        factors = np.ones(len(levels), np.float32)
        if windows.targets[:, :-1].size < _ENOUGH:
            return factors
        found = model(torch.from_numpy(windows.inputs))[0].numpy()
        middle = len(levels) // 2
        y, median = windows.targets[:, :-1], found[..., middle]
        for k, level in enumerate(levels):
            if k == middle:
                continue
            ratio = (y - median) / (found[..., k] - median)
            factors[k] = max(1.0, float(np.quantile(ratio, max(level, 1 - level))))
        return factors

    def _figures(self, result: Result) -> dict[str, Any]:
        return {
            "minutes": self.settings.minutes,
            "epochs": self.settings.epochs,
            "stopped": result.stopped,
            "seconds": round(result.seconds, 1),
            "steps": result.steps,
            "best_step": result.best_step,
            "training_loss": result.loss if math.isfinite(result.loss) else None,
            "validation_loss": result.validation,
            "validation_values": result.validation_items,
            "series": len(self.values),
            "values": int(sum(map(len, self.values))),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": self.settings.as_dict() | {"seed": self.seed, "batch_size": self.batch_size},
            "curve": [[s, l if math.isfinite(l) else None, v] for s, l, v in result.history],
        }


def _model_dict(config: SeriesConfig) -> dict[str, Any]:
    return asdict(config) | {"shape": config.shape.as_dict(), "quantiles": list(config.quantiles)}


def held_out(values: Sequence[Floats], shape: Shape) -> tuple[tuple[int, int], ...]:
    """(series, place) of the last horizon of every series that is long enough to train on what lies before."""
    least = least_length(shape) + 2 * shape.horizon
    found = [(i, len(v) - shape.horizon) for i, v in enumerate(values) if len(v) >= least]
    order = np.random.default_rng(0).permutation(len(found))  # so that a part of them is of all kinds
    return tuple(found[k] for k in order)
