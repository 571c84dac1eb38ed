"""The commands of the series job: flags → calls."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elman import cli_options as common
from elman import console

if TYPE_CHECKING:
    from elman.backtest import Backtest
    from elman.series import Forecaster

TableArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="CSV or Parquet, long format; - for standard input.")
]


def train_series(
    file: TableArgument,
    horizon: Annotated[int, typer.Option(help="Steps to forecast.", show_default=False)],
    output: common.Output = None,
    minutes: common.Minutes = None,
    epochs: Annotated[float | None, typer.Option(help="Train for so many passes over all windows.")] = None,
    levels: Annotated[
        list[float] | None, typer.Option(help="Interval in percent. May be repeated. Default: 80 and 95.")
    ] = None,
    id: Annotated[str, typer.Option(help="Column that names the series.")] = "unique_id",
    time: Annotated[str, typer.Option(help="Column of time stamps.")] = "ds",
    target: Annotated[list[str] | None, typer.Option(help="Column of values. May be repeated. [y]")] = None,
    past: Annotated[
        list[str] | None, typer.Option(help="Covariate known up to now. May be repeated.")
    ] = None,
    future: Annotated[
        list[str] | None, typer.Option(help="Covariate known of the time ahead. May be repeated.")
    ] = None,
    static: Annotated[
        list[str] | None, typer.Option(help="Covariate of a series as a whole. May be repeated.")
    ] = None,
    calendar: Annotated[
        bool | None, typer.Option(help="Tell hour, weekday and time of year. Default: by length.")
    ] = None,
    frequency: Annotated[str | None, typer.Option(help="Time step: h, D, MS, ... Default: found.")] = None,
    loss: Annotated[
        str, typer.Option(help="quantile, mse, mae, student_t or negative_binomial.")
    ] = "quantile",
    ensemble: Annotated[int, typer.Option(help="Networks to train side by side and to average.")] = 1,
    cell: Annotated[str, typer.Option(help="gru, lstm or rnn.")] = "gru",
    hidden_size: Annotated[int, typer.Option(help="Units in a layer.")] = 192,
    input_length: Annotated[
        int | None, typer.Option(help="Values read. Default: by season and length.")
    ] = None,
    val_size: Annotated[
        int | None, typer.Option(help="Values of each series to hold back. Default: the horizon.")
    ] = None,
    seed: common.Seed = 0,
    resume: common.Resume = False,
    log: common.Log = None,
    json: common.Json = False,
) -> None:
    """Train a forecaster on a table of series: columns unique_id, ds, y.

    Learns from all series at once; the last horizon of each is held back to choose the best weights. Keeps the best
    model, even on Ctrl-C.

    Example: elman train series sales.csv --horizon 28 -o sales.elman --minutes 5
    """
    output = common.beside(file, output, "table")
    common.check_not_input(file, output, "table")
    model = untrained(
        horizon=horizon, levels=levels, id=id, time=time, target=target, frequency=frequency, past=past, future=future,
        static=static, calendar=calendar, loss=loss, ensemble=ensemble, cell=cell, hidden_size=hidden_size,
        input_length=input_length, seed=seed,
    )  # fmt: skip
    common.budget(minutes, epochs)
    model.fit(file, minutes=minutes, epochs=epochs, val_size=val_size, output=output, resume=resume, log=log)
    if json:
        console.as_json(model.info)
    else:
        console.news(f"\nelman evaluate {output} {file}\nelman forecast {output} {file} > forecast.csv")
    common.end_of(model.info["training"])


def untrained(**options: Any) -> "Forecaster":
    """The forecaster that options of `train_series` ask for. Raises ElmanError for values that make no sense."""
    from elman.series import Forecaster

    lists = ("levels", "target", "past", "future", "static")
    return Forecaster(**{name: value for name, value in options.items() if value or name not in lists})


def forecast(
    model: common.ModelArgument,
    file: TableArgument,
    horizon: Annotated[int | None, typer.Option(help="Steps. Default: those of training.")] = None,
    levels: Annotated[
        list[float] | None, typer.Option(help="Interval in percent, of those trained. Default: all.")
    ] = None,
    futr: Annotated[
        Path | None, typer.Option(help="Table of the known-future covariates.", show_default=False)
    ] = None,
    plot: common.Plot = None,
    series: common.Drawn = None,
) -> None:
    """Forecast what follows each series, with intervals, as CSV. Needs no PyTorch.

    Example: elman forecast sales.elman sales.csv --plot forecast.png > forecast.csv
    """
    from elman.frames import open_table
    from elman.jobs import load_series
    from elman.picture import check_picture

    if plot is not None:
        check_picture(plot)
    forecaster = load_series(model)
    table = open_table(file, forecaster.columns.id, forecaster.columns.time)
    found = forecaster.predict(table, horizon, futr, levels)
    for note in forecaster.notes:
        console.news(note)
    if plot is not None:
        forecaster.plot(plot, table, horizon, futr, levels, series)
    found.to_csv(sys.stdout, index=False)


def demo_series(
    minutes: common.DemoMinutes = 1.0,
    output: common.DemoOutput = Path("weather.elman"),
    plot: Annotated[Path, typer.Option(help="The picture: a .png, or an .html page.")] = Path("weather.html"),
    seed: common.Seed = 0,
    json: common.Json = False,
) -> None:
    """Learn four years of daily weather in Seattle, then forecast two months of it that the model never saw.

    Example: elman demo series --minutes 1
    """
    from elman.demo import weather
    from elman.picture import check_picture
    from elman.series import Forecaster
    from elman.series_data import write_csv

    check_picture(plot)
    frame = weather()
    common.budget(minutes, None)
    table, windows, horizon = output.with_suffix(".csv"), 4, 14
    common.check_demo(output, table, lambda path: write_csv(path, frame))
    model = Forecaster(horizon, seed=seed)
    model.fit(frame.groupby("unique_id").head(-windows * horizon), output=output, minutes=minutes)
    write_csv(table, frame)
    found = model.backtest(frame, windows)
    _show_backtest(found, json)
    found.plot(plot)
    if not json:
        console.news(
            f"\n{plot} shows the last forecast beside what came. Go on with:\n"
            f"elman evaluate {output} {table} --windows {windows}\nelman forecast {output} {table} --levels 80"
        )


def evaluate(
    forecaster: "Forecaster",
    file: str,
    windows: int,
    per_series: Path | None,
    plot: Path | None,
    series: list[str] | None,
    json: bool,
) -> None:
    """What `elman evaluate` does with a model of series."""
    found = forecaster.backtest(file, windows)
    _show_backtest(found, json)
    if per_series is not None:
        from elman.series_data import write_csv

        write_csv(per_series, found.per_series)
    if plot is not None:
        found.plot(plot, series)


def _show_backtest(found: "Backtest", json: bool) -> None:
    if json:
        return console.as_json(found.as_dict())
    from elman.backtest import POINT as columns

    console.table(found.table, columns)
    console.rows({name: round(v, 4) for name, v in found.table["elman"].items() if name not in columns})
    console.rows({"series": found.series, "windows": found.windows, "values": found.values})
    if 1 < found.series <= 20:
        print("\nmase of each series")
        console.table(found.by_series("mase"), tuple(found.table))
    if found.best != "elman":
        console.news(f"{found.best} is better than the model here: use it, or train for longer.")
    return None
