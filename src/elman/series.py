"""The series job: learn from a table of series, forecast what follows with intervals, say how good that is.

Data, model, loss and measure of one job behind `fit`, `predict` and `backtest`. Needs PyTorch in `fit` alone.
"""

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from elman import checkpoint, series_data
from elman.checkpoint import ModelFile
from elman.covariates import Encoding, listed
from elman.data import ElmanError
from elman.picture import check_picture
from elman.progress import Report
from elman.runs import carry_out, check_budget
from elman.schedule import Settings
from elman.series_data import Columns, Data
from elman.series_loss import POINT, check_counts, check_loss
from elman.series_plot import draw
from elman.sizes import check_sizes
from elman.windows import (
    LONGEST_SEGMENT,
    Floats,
    Series,
    Shape,
    bounds,
    check_horizon,
    check_levels,
    least_length,
    quantiles,
    sensible_shape,
    window,
)

if TYPE_CHECKING:
    from elman.backtest import Backtest
    from elman.series_fit import SeriesRun
    from elman.series_network import SeriesNetwork

LEVELS = (80.0, 95.0)


class Forecaster:
    """A forecaster of series, trained over all of them at once.

    horizon: steps to forecast. levels: prediction intervals, in percent. id, time, target: columns of the table, in
    long format; several targets are forecast side by side. frequency: pandas' name of the time step; found in the data
    when None. past, future, static: columns of covariates, numbers or categories, that are known up to now, also of the
    time ahead, or of a series as a whole (Nixtla's hist_exog, futr_exog, stat_exog). calendar: whether hour, weekday
    and time of year are told; when None, those of which the table shows two rounds.

    loss: "quantile", "mse", "mae", "student_t" or "negative_binomial" (counts). ensemble: networks that are trained
    side by side and averaged. cell "gru", "lstm" or "rnn"; hidden_size: its units; input_length: values read, chosen
    from frequency and lengths when None. seed: training repeats exactly for the same. Raises ElmanError for values that
    make no sense.
    """

    def __init__(
        self,
        horizon: int,
        levels: Sequence[float] = LEVELS,
        *,
        id: str = "unique_id",
        time: str = "ds",
        target: str | Sequence[str] = "y",
        frequency: str | None = None,
        past: Sequence[str] = (),
        future: Sequence[str] = (),
        static: Sequence[str] = (),
        calendar: bool | None = None,
        loss: str = "quantile",
        ensemble: int = 1,
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
        self.input_length = None if input_length is None else check_horizon(input_length, "input_length")
        self.loss, self.ensemble = check_loss(loss), check_horizon(ensemble, "ensemble")
        self.columns = Columns(id, time, listed(target), listed(past), listed(future), listed(static))
        self.frequency, self.calendar = frequency, calendar
        self.cell, self.hidden_size, self.dropout = cell, hidden_size, dropout
        self.learning_rate, self.batch_size, self.seed = learning_rate, batch_size, seed
        self.notes: tuple[str, ...] = ()
        self._file: ModelFile | None = None
        self._made: SeriesNetwork | None = None

    # Training

    def fit(
        self,
        source: Any,
        *,
        minutes: float | None = None,
        epochs: float | None = None,
        val_size: int | None = None,
        output: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: bool = True,
        log: Literal["csv", "tensorboard"] | None = None,
    ) -> Self:
        """Learn from a table: a pandas or polars frame, or a CSV or Parquet file, for so many minutes (3 if no budget
        is given) or epochs.

        The last val_size values of every series (a horizon of them when None) are held back to choose the best weights
        and to set the intervals' width. With `output` the best model is saved there whenever it improves and a killed
        run can be continued with resume=True. Ctrl-C stops early and keeps the best model.

        Raises ElmanError for a table that cannot be used, an output that cannot be written, a run that cannot be
        resumed, PyTorch missing, or a loss that becomes NaN (the best model is kept); OSError for the file.
        """
        minutes = check_budget(minutes, epochs, output, resume)
        val_size = self.check_val_size(val_size)
        if output is not None:
            checkpoint.check_writable(output)
        report = Report(progress, unit="values")

        def keep(file: ModelFile) -> None:
            self._file, self._made = file, None
            if output is not None:
                self.save(output)

        run = self.training_run(self.training_data(source, report), val_size, minutes, epochs, report, keep)
        carry_out(run, report, output, resume, log)
        return self

    def check_val_size(self, val_size: int | None) -> int:
        """The horizon when None. Raises ElmanError for one that holds no whole horizon."""
        val_size = self.horizon if val_size is None else check_horizon(val_size, "val_size")
        if val_size < self.horizon:
            raise ElmanError(f"val_size {val_size} holds no whole horizon: give at least {self.horizon}.")
        return val_size

    def training_data(self, source: Any, report: Report) -> Data:
        """What `fit` reads of a table. Raises what that raises of one."""
        data = series_data.read(source, self.columns, self.frequency, 0, self._beyond, None, self.calendar)
        for note in data.notes:
            report.line(note)
        check_counts(self.loss, data.names, data.series)
        return data

    @property
    def _beyond(self) -> int:
        """Whole horizons of whole segments are forecast, of which the calendar is read."""
        return self.horizon + LONGEST_SEGMENT

    def prepare(self, data: Data, report: Report) -> tuple[Shape, tuple[Series, ...]]:
        """What to read, and the series that are long enough."""
        lengths = list(map(len, data.series))
        shape = sensible_shape(self.horizon, data.frequency.seasons, lengths)
        if self.input_length is not None:
            whole = max(1, round(self.input_length / shape.segment)) * shape.segment
            shape = replace(shape, input_length=whole)
        past, future, static = data.encoding.sizes
        shape = replace(shape, past=past, future=future, static=static)
        least = least_length(shape) + shape.horizon
        short = [name for name, n in zip(data.names, lengths, strict=True) if n < least]
        if len(short) == len(lengths):
            raise ElmanError(
                f"all {len(lengths):,} series are too short: a horizon of {self.horizon} needs at least {least} "
                f"values, and the longest has {max(lengths)}. Choose a shorter horizon."
            )
        if short:
            report.line(f"Not trained on {_named(short)}: fewer than {least} values")
        seasons = ", ".join(map(str, shape.seasons))
        calendar = data.encoding.calendar
        report.line(
            f"{len(lengths):,} series, {sum(lengths):,} values, frequency {data.frequency.alias}, seasons {seasons}"
            + (f", calendar {', '.join(calendar)}" if calendar else "")
            + f". Reading {shape.input_length} values to forecast {shape.horizon}"
        )
        return shape, tuple(one for one in data.series if len(one) >= least)

    def training_run(
        self,
        data: Data,
        val_size: int,
        minutes: float | None,
        epochs: float | None,
        report: Report,
        keep: Callable[[ModelFile], None] | None,
        cell: str | None = None,
    ) -> "SeriesRun":
        """What `fit` carries out. cell: in place of this forecaster's own; one that cannot be saved, too."""
        shape, series = self.prepare(data, report)
        from elman.series_fit import SeriesRun, held_out
        from elman.series_model import SeriesConfig

        held = held_out(series, shape, val_size)
        if not held:
            report.line(
                "No series is long enough to hold anything back: validation is over what is trained on"
            )
        places = held or tuple((i, len(one) - shape.horizon) for i, one in enumerate(series))
        config = SeriesConfig(
            shape, tuple(quantiles(self.levels)), self.loss, self.ensemble, cell or self.cell, self.hidden_size,
            dropout=self.dropout, horizons=sum(map(len, series)) / shape.horizon,
        )  # fmt: skip
        about = self.columns.as_dict() | {
            "frequency": data.frequency.alias,
            "levels": list(self.levels),
            "covariates": data.encoding.as_dict(),
        }
        return SeriesRun(
            series, places, val_size if held else 0, config, self.batch_size,
            Settings(self.learning_rate, minutes, epochs), self.seed, about, keep,
        )  # fmt: skip

    def get_params(self) -> dict[str, Any]:
        """The arguments it was made with, by name."""
        own = {name: getattr(self, name) for name in _PARAMETERS if hasattr(self, name)}
        columns = self.columns.as_dict()
        return own | {"target": columns.pop("targets")} | columns

    # Use

    def predict(
        self,
        source: Any,
        horizon: int | None = None,
        futr_df: Any = None,
        levels: Sequence[float] | None = None,
    ) -> Any:
        """What follows each series: id, time, median (or mean, or both, by loss), lo-95, hi-95, lo-80, hi-80, ... in
        the same kind of frame as came in (pandas for a file). With several targets, each column's name begins with one.

        horizon: steps, by default those of training; beyond them the forecast goes on from its own middle. Known-future
        covariates come from rows of the table after a series' last value, or from futr_df (id, time, covariates).
        levels: some of those trained. `notes` says afterwards what was done to the table. Series that the model has not
        seen are forecast as well. Raises ElmanError for a table that cannot be used, a series that is too short, or
        covariates that are missing.
        """
        steps = self.horizon if horizon is None else check_horizon(horizon)
        data = self.read(source, steps, futr_df)
        ends = list(map(len, data.series))
        return data.frame(steps, self._columns(self._ahead(data.names, data.series, ends, steps), levels))

    def plot(
        self,
        path: str | os.PathLike[str],
        source: Any,
        horizon: int | None = None,
        futr_df: Any = None,
        levels: Sequence[float] | None = None,
        series: Sequence[str] | None = None,
    ) -> None:
        """Draw the forecast of each series, or of those whose ids are given, with history and intervals: a .png, or a
        self-contained .html page. Raises as `predict` does, and ElmanError for what cannot be drawn."""
        check_picture(path)
        steps = self.horizon if horizon is None else check_horizon(horizon)
        data = self.read(source, steps, futr_df)
        numbers = data.chosen(series)
        chosen = [data.series[k] for k in numbers]
        ends = list(map(len, chosen))
        found = self._columns(self._ahead([data.names[k] for k in numbers], chosen, ends, steps), levels)
        draw(path, [
            data.drawing(k, end, {name: values[j] for name, values in found.items()}, came=False)
            for j, (k, end) in enumerate(zip(numbers, ends, strict=True))
        ])  # fmt: skip

    def read(self, source: Any, ahead: int = 0, futr_df: Any = None) -> Data:
        """The series of a table of the model's frequency, covariates of `ahead` more steps. Raises as `predict`."""
        codec = self.file.codec
        encoding = Encoding.from_dict(codec["covariates"])
        data = series_data.read(
            source, self.columns, self.frequency, ahead, self._beyond, encoding, futr_df=futr_df
        )
        if data.frequency.alias != codec["frequency"]:
            raise ElmanError(
                f"these series come every {data.frequency.alias}, the model learned from every {codec['frequency']}. "
                "Bring them to that frequency, or train another model."
            )
        check_counts(self.loss, data.names, data.series)
        self.notes = data.notes
        return data

    def _ahead(
        self, names: Sequence[str], series: Sequence[Series], ends: Sequence[int], steps: int
    ) -> "Forecast":
        """What follows value `end` of each, rolling on beyond the trained horizon."""
        network = self._network()
        shape, least = network.shape, least_length(network.shape)
        short = [name for name, end in zip(names, ends, strict=True) if end < least]
        if short:
            raise ElmanError(
                f"{_named(short)}: too short to forecast from, {least} values are needed. Leave them out."
            )
        if steps > shape.horizon and shape.past:
            raise ElmanError(
                f"this model forecasts at most {shape.horizon} steps: beyond them its past covariates are not known. "
                "Train one with a longer horizon."
            )
        known, places, found = list(series), list(ends), []
        for _ in range(-(-steps // shape.horizon)):
            x = np.stack([window(one, end, shape) for one, end in zip(known, places, strict=True)])
            found.append(self._calibrated(*network(x)))
            if len(found) * shape.horizon < steps:
                middle = found[-1].middle
                known = [
                    one.before(end).followed_by(m) for one, end, m in zip(known, places, middle, strict=True)
                ]
                places = [end + shape.horizon for end in places]
        whole = joined(found, steps)
        return whole.as_counts() if self.loss == "negative_binomial" else whole

    def _calibrated(self, found: Floats, mean: Floats | None, scale: Floats) -> "Forecast":
        factors, middle = self.file.tensors["calibration"], found.shape[-1] // 2
        median = found[..., middle : middle + 1]
        distance = scale[:, :, None] if self.loss in POINT else found - median
        found = median + factors * distance
        return Forecast(np.sort(found, axis=-1), mean)

    def _columns(self, found: "Forecast", levels: Sequence[float] | None = None) -> dict[str, Floats]:
        """By name, each (series, steps)."""
        wanted = self.levels if levels is None else check_levels(levels)
        if absent := [f"{level:g}" for level in wanted if level not in self.levels]:
            have = ", ".join(f"{level:g}" for level in self.levels) or "none"
            raise ElmanError(
                f"the model has no interval of {', '.join(absent)} %: it was trained for {have}. Choose among "
                "them, or train a model with others."
            )
        quantiles, middle = found.quantiles, found.quantiles.shape[-1] // 2
        columns = {} if found.mean is None else {"mean": found.mean}
        if self.loss != "mse":
            columns["median"] = quantiles[..., middle]
        for level, lower, upper in bounds(self.levels):
            if level in wanted:
                columns[f"lo-{level:g}"] = quantiles[..., lower]
                columns[f"hi-{level:g}"] = quantiles[..., upper]
        return columns

    def backtest(self, source: Any, windows: int = 4) -> "Backtest":
        """How good forecasts of the last `windows` horizons of each series would have been, beside simple rules:
        seasonal naive, drift and the last value.

        Each forecast sees only what came before it; the model itself may have been trained on these values. Raises
        ElmanError for a table that cannot be used or where no series is long enough.
        """
        from elman.backtest import backtest

        windows = check_horizon(windows, "windows")
        data = self.read(source, 0)
        return backtest(data, windows, self._network().shape, self.levels, self._ahead, self._columns)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file, whole or not at all. Raises ElmanError when it cannot be written."""
        checkpoint.save_file(path, self.file)

    @property
    def info(self) -> dict[str, Any]:
        """What the model is and how it was trained, JSON-able."""
        file = self.file
        parameters = sum(t.size for t in file.tensors.values())
        about = {"job": file.job, "elman": file.written_by, **file.codec, **file.model}
        return {**about, "parameters": int(parameters), "training": file.training}

    @classmethod
    def from_file(cls, file: ModelFile) -> Self:
        """The forecaster in a model file. Needs no PyTorch."""
        codec, model = file.codec, file.model
        made = cls(
            model["shape"]["horizon"], codec["levels"], loss=model["loss"], ensemble=model["members"],
            cell=model["cell"], hidden_size=model["hidden_size"],
        )  # fmt: skip
        made.columns, made._file = Columns.from_dict(codec), file
        return made

    @property
    def file(self) -> ModelFile:
        """The trained model as it is saved. Raises ElmanError before there is one."""
        if self._file is None:
            raise ElmanError("there is no model yet: call fit first, or elman.load a model file.")
        return self._file

    def _network(self) -> "SeriesNetwork":
        if self._made is None:
            from elman.series_network import SeriesNetwork

            file = self.file
            self._made = SeriesNetwork(file.model, file.tensors)
        return self._made


_PARAMETERS = tuple(name for name in inspect.signature(Forecaster.__init__).parameters if name != "self")


@dataclass(frozen=True)
class Forecast:
    """quantiles (series, steps, Q), and mean (series, steps) where the loss is for one."""

    quantiles: Floats
    mean: Floats | None

    def as_counts(self) -> "Forecast":
        """Whole numbers of at least 0; a mean of at least 0."""
        mean = None if self.mean is None else self.mean.clip(min=0)
        return Forecast(self.quantiles.round().clip(min=0), mean)

    @property
    def middle(self) -> Floats:
        """The point forecast (series, steps): the median, but for a loss that is for the mean alone."""
        result: Floats = self.quantiles[..., self.quantiles.shape[-1] // 2]
        return result


def joined(parts: Sequence[Forecast], steps: int) -> Forecast:
    """Forecasts one after the other. Where each starts from the middle of the one before, its errors come on top of
    those at the end of that one: independent ones, so that squares of distances add up."""
    quantiles, before = [], np.zeros(1)
    for part in parts:
        middle = part.middle[..., None]
        distance = part.quantiles - middle
        quantiles.append(middle + np.sign(distance) * np.hypot(distance, before))
        before = np.abs(quantiles[-1] - middle)[:, -1:]
    means = (
        None if parts[0].mean is None else np.concatenate([p.mean for p in parts if p.mean is not None], 1)
    )
    return Forecast(np.concatenate(quantiles, axis=1)[:, :steps], None if means is None else means[:, :steps])


def _named(names: Sequence[str]) -> str:
    """Some of many names."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ("series " if len(names) > 1 else "the series ") + ", ".join(names[:3]) + more
