"""The series job: learn from a table of series, forecast what follows with intervals, say how good that is.

Data, model, loss and measure of one job behind `fit`, `predict` and `backtest`. Needs PyTorch in `fit` alone.
"""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from elman import checkpoint, frames
from elman.checkpoint import ModelFile
from elman.data import ElmanError
from elman.progress import Report, clock
from elman.schedule import Settings
from elman.sizes import check_sizes
from elman.windows import (
    Floats,
    Shape,
    check_horizon,
    check_levels,
    least_length,
    quantiles,
    sensible_shape,
    window,
)

if TYPE_CHECKING:
    from elman.series_network import SeriesNetwork
    from elman.training import Result

MINUTES = 3.0
LEVELS = (80.0, 95.0)


class Forecaster:
    """A forecaster of series, trained over all of them at once.

    horizon: steps to forecast. levels: prediction intervals, in percent. id, time, target: columns of the table, in
    long format. frequency: pandas' name of the time step; found in the data when None. cell "gru", "lstm" or "rnn";
    hidden_size: its units; input_length: values read, chosen from frequency and lengths when None. seed: training
    repeats exactly for the same. Raises ElmanError for values that make no sense.
    """

    def __init__(
        self,
        horizon: int,
        levels: Sequence[float] = LEVELS,
        *,
        id: str = "unique_id",
        time: str = "ds",
        target: str = "y",
        frequency: str | None = None,
        cell: str = "gru",
        hidden_size: int = 192,
        input_length: int | None = None,
        dropout: float = 0.1,
        learning_rate: float = 2e-3,
        batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        check_sizes(
            cell, hidden_size=hidden_size, dropout=dropout, learning_rate=learning_rate, batch_size=batch_size,
            seed=seed,
        )  # fmt: skip
        self.horizon, self.levels = check_horizon(horizon), check_levels(levels)
        self.input_length = None if input_length is None else check_horizon(input_length)
        self.id, self.time, self.target, self.frequency = id, time, target, frequency
        self.cell, self.hidden_size, self.dropout = cell, hidden_size, dropout
        self.learning_rate, self.batch_size, self.seed = learning_rate, batch_size, seed
        self._file: ModelFile | None = None
        self._made: SeriesNetwork | None = None

    # Training

    def fit(
        self,
        source: Any,
        *,
        minutes: float | None = None,
        epochs: float | None = None,
        output: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: bool = True,
        log: Literal["csv", "tensorboard"] | None = None,
    ) -> Self:
        """Learn from a table: a pandas or polars frame, or a CSV or Parquet file, for so many minutes (3 if no budget
        is given) or epochs.

        The last horizon of every series is held back to choose the best weights and to set the intervals' width. With
        `output` the best model is saved there whenever it improves and a killed run can be continued with resume=True.
        Ctrl-C stops early and keeps the best model.

        Raises ElmanError for a table that cannot be used, an output that cannot be written, a run that cannot be
        resumed, PyTorch missing, or a loss that becomes NaN (the best model is kept); OSError for the file.
        """
        minutes = _check_budget(minutes, epochs, output, resume)
        if output is not None:
            checkpoint.check_writable(output)
        report = Report(progress, unit="values")
        panel = self._read(source)
        for note in panel.notes:
            report.line(note)
        shape, values = self._prepare(panel, report)
        self._train(
            panel, shape, values, Settings(self.learning_rate, minutes, epochs), report, output, resume, log
        )
        return self

    def _read(self, source: Any) -> frames.Panel:
        return frames.read(source, self.id, self.time, self.target, self.frequency)

    def _prepare(self, panel: frames.Panel, report: Report) -> tuple[Shape, tuple[Floats, ...]]:
        """What to read, and the series that are long enough."""
        lengths = [len(v) for v in panel.values]
        shape = sensible_shape(self.horizon, panel.frequency.seasons, lengths)
        if self.input_length is not None:
            whole = max(1, round(self.input_length / shape.segment)) * shape.segment
            shape = Shape(whole, shape.horizon, shape.segment, shape.seasons)
        least = least_length(shape) + shape.horizon
        short = [str(name) for name, n in zip(panel.ids, lengths, strict=True) if n < least]
        if len(short) == len(lengths):
            raise ElmanError(
                f"all {len(lengths):,} series are too short: a horizon of {self.horizon} needs at least {least} "
                f"values, and the longest has {max(lengths)}. Choose a shorter horizon."
            )
        if short:
            report.line(f"Not trained on {_named(short)}: fewer than {least} values")
        seasons = ", ".join(map(str, shape.seasons))
        report.line(
            f"{len(lengths):,} series, {sum(lengths):,} values, frequency {panel.frequency.alias}, seasons {seasons}. "
            f"Reading {shape.input_length} values to forecast {shape.horizon}"
        )
        return shape, tuple(v for v in panel.values if len(v) >= least)

    def _train(
        self,
        panel: frames.Panel,
        shape: Shape,
        values: tuple[Floats, ...],
        settings: Settings,
        report: Report,
        output: str | os.PathLike[str] | None,
        go_on: bool,
        log: Literal["csv", "tensorboard"] | None,
    ) -> None:
        from elman.series_fit import SeriesRun, held_out
        from elman.series_model import SeriesConfig
        from elman.training import Resume

        def keep(file: ModelFile) -> None:
            self._file, self._made = file, None
            if output is not None:
                self.save(output)

        held = held_out(values, shape)
        if not held:
            report.line(
                "No series is long enough to hold anything back: validation is over what is trained on"
            )
        places = held or tuple((i, len(v) - shape.horizon) for i, v in enumerate(values))
        config = SeriesConfig(
            shape, tuple(quantiles(self.levels)), self.cell, self.hidden_size, dropout=self.dropout
        )
        about = {
            "id": self.id, "time": self.time, "target": self.target,
            "frequency": panel.frequency.alias, "levels": list(self.levels),
        }  # fmt: skip
        run = SeriesRun(values, places, bool(held), config, self.batch_size, settings, self.seed, about, keep)
        beside = Path("elman" if output is None else output)
        resume = None
        if output is not None:
            resume = Resume(beside.with_name(beside.name + ".resume"), run.describe(), go_on)
        result = run.train(report, resume, log, beside.with_name(beside.name + ".log"))
        report.line(_summary(result, output))
        if result.stopped == "nan":
            raise ElmanError(
                "the loss became NaN, so training stopped; the best model so far is kept. Try a lower learning rate: "
                f"it was {self.learning_rate:g}."
            )

    # Use

    def predict(self, source: Any, horizon: int | None = None) -> Any:
        """What follows each series: id, time, median, lo-95, lo-80, hi-80, hi-95, ... in the same kind of frame as
        came in (pandas for a file).

        horizon: steps, by default those of training; beyond them the forecast goes on from its own medians. Series
        that the model has not seen are forecast as well. Raises ElmanError for a table that cannot be used or a series
        that is too short.
        """
        panel = self._read(source)
        steps = self.horizon if horizon is None else check_horizon(horizon)
        found = self._ahead(self._ids(panel), panel.values, steps)
        return frames.forecast_frame(panel, steps, self._columns(found))

    def _ids(self, panel: frames.Panel) -> Sequence[Any]:
        alias = self._fitted().codec["frequency"]
        if panel.frequency.alias != alias:
            raise ElmanError(
                f"these series come every {panel.frequency.alias}, the model learned from every {alias}. Bring them to "
                "that frequency, or train another model."
            )
        return panel.ids

    def _ahead(self, ids: Sequence[Any], values: Sequence[Floats], steps: int) -> Floats:
        """Quantiles (series, steps, Q) of what follows, rolling on beyond the trained horizon."""
        network = self._network()
        least = least_length(network.shape)
        short = [str(name) for name, v in zip(ids, values, strict=True) if len(v) < least]
        if short:
            raise ElmanError(
                f"{_named(short)}: too short to forecast from, {least} values are needed. Leave them out."
            )
        known, found = list(values), []
        for _ in range(-(-steps // network.shape.horizon)):
            x = np.stack([window(v, len(v), network.shape) for v in known])
            found.append(self._calibrated(network(x)))
            middle = found[-1][..., found[-1].shape[-1] // 2]
            known = [np.concatenate((v, m)) for v, m in zip(known, middle, strict=True)]
        return np.concatenate(found, axis=1)[:, :steps]

    def _calibrated(self, found: Floats) -> Floats:
        middle = found.shape[-1] // 2
        median = found[..., middle : middle + 1]
        result: Floats = median + (found - median) * self._fitted().tensors["calibration"]
        return np.sort(result, axis=-1)

    def _columns(self, found: Floats) -> dict[str, npt.NDArray[np.float64]]:
        """By name, each (series, steps)."""
        levels, middle = self._fitted().codec["levels"], found.shape[-1] // 2
        names = {"median": middle}
        for k, level in enumerate(sorted(levels, reverse=True)):
            names |= {f"lo-{level:g}": k, f"hi-{level:g}": found.shape[-1] - 1 - k}
        return {name: found[..., k].astype(np.float64) for name, k in names.items()}

    def backtest(self, source: Any, windows: int = 4) -> dict[str, Any]:
        """How good forecasts of the last `windows` horizons of each series would have been, beside simple rules.

        Each forecast sees only what came before it; the model itself may have been trained on these values. Returns by
        name of the rule ("elman", "seasonal naive", "drift", "naive") its mase, smape (percent), mae, rmse and, for
        elman, coverage of each interval (percent) and scaled quantile loss; and windows, series, values.
        """
        from elman.backtest import backtest

        panel = self._read(source)
        return backtest(self._ids(panel), panel.values, check_horizon(windows), self._network().shape, self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file, whole or not at all. Raises ElmanError when it cannot be written."""
        file = self._fitted()
        checkpoint.check_writable(path)
        checkpoint.save(path, file.job, file.tensors, file.model, file.codec, file.training)

    @property
    def info(self) -> dict[str, Any]:
        """What the model is and how it was trained, JSON-able."""
        file = self._fitted()
        parameters = sum(t.size for t in file.tensors.values())
        about = {"job": file.job, "elman": file.written_by, **file.codec, **file.model}
        return {**about, "parameters": int(parameters), "training": file.training}

    @classmethod
    def from_file(cls, file: ModelFile) -> Self:
        """The forecaster in a model file. Needs no PyTorch."""
        codec, model = file.codec, file.model
        columns = {name: codec[name] for name in ("id", "time", "target")}
        made = cls(model["shape"]["horizon"], codec["levels"], **columns, cell=model["cell"])
        made._file = file
        return made

    def _fitted(self) -> ModelFile:
        if self._file is None:
            raise ElmanError("there is no model yet: call fit first, or elman.load a model file.")
        return self._file

    def _network(self) -> "SeriesNetwork":
        if self._made is None:
            from elman.series_network import SeriesNetwork

            file = self._fitted()
            self._made = SeriesNetwork(file.model, file.tensors)
        return self._made


def _check_budget(minutes: float | None, epochs: float | None, output: object, resume: bool) -> float | None:
    if minutes is not None and epochs is not None:
        raise ElmanError("give minutes or epochs, not both.")
    check_sizes("gru", minutes=minutes, epochs=epochs)
    if resume and output is None:
        raise ElmanError("resume needs the output of the run to continue: its resume file lies beside it.")
    missing = [name for name in ("torch", "pytorch_lightning") if importlib.util.find_spec(name) is None]
    if missing:
        raise ElmanError(f'training needs {" and ".join(missing)}: pip install "elman[train]"')
    return MINUTES if minutes is None and epochs is None else minutes


def _named(names: Sequence[str]) -> str:
    """Some of many names."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ("series " if len(names) > 1 else "the series ") + ", ".join(names[:3]) + more


def _summary(result: "Result", output: object) -> str:
    how = {"finished": "Trained", "interrupted": "Interrupted after", "nan": "Stopped after"}[result.stopped]
    return (
        f"{how} {clock(result.seconds)}, {result.steps:,} steps. Validation loss {result.validation:.4f}"
        + (f". Best model kept in {output}" if output else "")
    )
