"""What is searched of a job's settings, and within which ranges, by the size of the data.

Each setting is one that the estimator has. Knows estimators and their data; nothing of who searches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from elman.data import ElmanError
from elman.experiment import Task
from elman.progress import Report
from elman.sizes import CELLS

_READ = 768  # values of a window at most
_FEW_TEXTS, _FEW_VALUES = 5_000, 20_000  # below them networks are small


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`: whole ones, in steps of `step`, where `own` is; log: drawn by their logarithm. own:
    what the estimator would take, which always lies within."""

    own: float
    low: float
    high: float
    log: bool = True
    step: int = 1

    def suggest(self, name: str, trial: Any) -> float:
        """What Optuna's `trial` tries."""
        if isinstance(self.own, int):
            step = 1 if self.log else self.step
            whole: int = trial.suggest_int(name, self.low, self.high, log=self.log, step=step)
            return whole
        number: float = trial.suggest_float(name, self.low, self.high, log=self.log)
        return number

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Choice:
    """One of several values. own: what the estimator would take."""

    own: Any
    options: tuple[Any, ...]

    def suggest(self, name: str, trial: Any) -> Any:
        """What Optuna's `trial` tries."""
        return trial.suggest_categorical(name, self.options)

    def __str__(self) -> str:
        return ", ".join(map(str, self.options))


Space = dict[str, Range | Choice]


def search_space(task: Task, minutes: float | None, epochs: float | None, fixed: Sequence[str] = ()) -> Space:
    """The settings of a task's estimator that are searched, by name, but for those in `fixed`.

    Raises ElmanError for a name in `fixed` that is no setting, and where nothing is left to search.
    """
    known = task.estimator.get_params()
    if strange := [name for name in fixed if name not in known]:
        raise ElmanError(f"fixed has {strange[0]!r}, which is no setting: they are {', '.join(known)}.")
    found = {"text": _text, "series": _series, "labels": _labels}[task.job](task, minutes, epochs)
    left = {name: _with_own(one) for name, one in found.items() if name not in fixed}
    if not left:
        raise ElmanError("every setting is fixed: there is nothing to search.")
    return left


def _with_own(one: Range | Choice) -> Range | Choice:
    if isinstance(one, Range):
        return replace(one, low=min(one.low, one.own), high=max(one.high, one.own))
    return one if one.own in one.options else replace(one, options=(*one.options, one.own))


def _around(own: int, low: int, high: int) -> Range:
    """From a quarter of what suits the data to twice that."""
    return Range(own, max(low, own // 4), min(high, 2 * own))


def _text(task: Task, minutes: float | None, epochs: float | None) -> Space:
    estimator: Any = task.estimator
    own = estimator.sizes(task.data, minutes, epochs)
    space: Space = {
        "cell": Choice(estimator.cell, CELLS),
        "hidden_size": _around(own.hidden_size, 16, 1024),
        "num_layers": Range(own.num_layers, 1, 2, log=False),
        "embedding_size": _around(own.embedding_size, 8, 256),
        "dropout": Range(float(own.dropout), 0.0, 0.5, log=False),
        "learning_rate": Range(own.learning_rate, 5e-4, 2e-2),
        "batch_size": _around(own.batch_size, 1, max(1, task.data.border // 500)),
        "chunk_length": Choice(own.chunk_length, (32, 64, 128)),
    }
    if estimator.tied:  # both sizes are one
        del space["hidden_size"], space["embedding_size"]
    return space


def _series(task: Task, minutes: float | None, epochs: float | None) -> Space:
    estimator: Any = task.estimator
    values = sum(map(len, task.data.series))
    space: Space = {
        "cell": Choice(estimator.cell, CELLS),
        "hidden_size": Range(estimator.hidden_size, 32, 192 if values < _FEW_VALUES else 384),
        "dropout": Range(float(estimator.dropout), 0.0, 0.4, log=False),
        "learning_rate": Range(estimator.learning_rate, 3e-4, 1e-2),
        "batch_size": Range(estimator.batch_size, 32, 512),
    }
    shape, series = estimator.prepare(task.data, Report(on=False))
    # Not so short that more series would be long enough: all trials have the same validation windows.
    segment, least = shape.segment, shape.seasons[0] + 1
    low = segment * -(-least // segment)
    typical = min(_READ, 3 * shape.input_length, int(np.median(list(map(len, series)))) - shape.horizon)
    high = segment * (typical // segment)
    if low <= shape.input_length <= high and low < high:
        space["input_length"] = Range(shape.input_length, low, high, log=False, step=segment)
    return space


def _labels(task: Task, minutes: float | None, epochs: float | None) -> Space:
    estimator: Any = task.estimator
    network: Any = task.run({}, minutes, epochs).network()
    config, few = network.config, len(task.data.training) < _FEW_TEXTS
    space: Space = {
        "cell": Choice(config.cell, CELLS),
        "hidden_size": Range(config.hidden_size, 16, 128 if few else 256),
        "num_layers": Range(config.num_layers, 1, 2, log=False),
        "embedding_size": Range(config.embedding_size, 32, 128 if few else 256),
        "bidirectional": Choice(config.bidirectional, (True, False)),
        "pooling": Choice(config.pooling, ("attention", "mean", "max", "last")),
        "dropout": Range(float(config.dropout), 0.1, 0.7, log=False),
        "embedding_dropout": Range(float(config.embedding_dropout), 0.0, 0.5, log=False),
        "word_dropout": Range(float(config.word_dropout), 0.0, 0.4, log=False),
        "learning_rate": Range(estimator.learning_rate, 5e-4, 1e-2),
        "batch_size": Range(estimator.batch_size, 16, 64),
    }
    if estimator.vectors is not None:
        del space["embedding_size"]
    return space
