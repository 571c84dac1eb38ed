"""How good forecasts are and how long they take, beside simple rules and, if asked, beside other libraries' networks.

    python benchmarks/series.py m4 --folder FOLDER [--minutes 3] [--peers --python PYTHON]
    python benchmarks/series.py ett --file ETTh1.csv [--horizon 96 192 336 720]
    python benchmarks/series.py other --folder FOLDER [NAME ...] [--minutes 1]

m4: FOLDER holds the M4 competition's Hourly-train.csv and Hourly-test.csv. sMAPE, MASE and OWA by its definitions
(Makridakis et al., "The M4 competition", 2020). The files have no time stamps: all series are said to begin together.

other: FOLDER holds tables in long format, NAME.csv with the columns unique_id, ds, y. The last horizon of every series
is held out; MASE by its usual definition.

elman.Forecaster has its defaults and is given what is trained on, nothing else. Peers have theirs, as much time, and a
process of the Python PYTHON (`series_peers.py`), since they need other versions than elman does.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

import elman

Floats = NDArray[np.float64]

NAIVE2 = {"sMAPE": 18.383, "MASE": 2.395}  # of M4's hourly series: what OWA divides by
BEGIN = "2000-01-01"
# By pandas' alias: the horizon, a longer one for series of 60 values or more, the season.
HORIZONS = {
    "30min": (48, 48, 48), "h": (48, 48, 24), "D": (14, 14, 7), "B": (10, 10, 5), "W": (13, 13, 52),
    "MS": (12, 12, 12), "ME": (12, 12, 12), "QS": (4, 8, 4), "QE": (4, 8, 4), "YS": (4, 4, 1), "YE": (4, 4, 1),
}  # fmt: skip
PEERS = Path(__file__).with_name("series_peers.py")


# Simple rules and measures, written here once more so that the library does not grade itself


def seasonal_naive(past: Floats, steps: int, season: int) -> Floats:
    return past[len(past) - season + np.arange(steps) % season]


def drift(past: Floats, steps: int, season: int) -> Floats:
    return past[-1] + (past[-1] - past[0]) / (len(past) - 1) * np.arange(1, steps + 1)


def naive(past: Floats, steps: int, season: int) -> Floats:
    return np.full(steps, past[-1])


RULES = {"seasonal naive": seasonal_naive, "drift": drift, "naive": naive}


def smape(actual: Floats, forecast: Floats) -> float:
    size = np.abs(actual) + np.abs(forecast)
    return float(200 * np.mean(np.abs(actual - forecast) / np.where(size > 0, size, 1)))


def mase(actual: Floats, forecast: Floats, past: Floats, season: int) -> float:
    """NaN where the past repeats itself."""
    scale = np.abs(past[season:] - past[:-season]).mean()
    return float(np.abs(actual - forecast).mean() / scale) if scale > 0 else float("nan")


# Series, and what is forecast of them


@dataclass(frozen=True)
class Task:
    """Series to learn from, what follows each, and the season that rules and measures take."""

    name: str
    past: dict[str, pandas.Series]  # indexed by time stamps
    future: dict[str, Floats]
    horizon: int
    season: int
    frequency: str

    def frame(self) -> pandas.DataFrame:
        parts = [
            pandas.DataFrame({"unique_id": k, "ds": v.index, "y": v.to_numpy()}) for k, v in self.past.items()
        ]
        return pandas.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class Forecast:
    """By column (median, lo-95, ...) and series; seconds of training and of prediction."""

    columns: dict[str, dict[str, Floats]]
    training: float = 0.0
    prediction: float = 0.0
    about: str = ""

    @property
    def median(self) -> dict[str, Floats]:
        return self.columns["median"]


def by_series(frame: pandas.DataFrame) -> dict[str, dict[str, Floats]]:
    """A forecast's table, by column and series."""
    groups = {str(name): rows.sort_values("ds") for name, rows in frame.groupby("unique_id", sort=False)}
    names = [c for c in frame.columns if c == "median" or c.startswith(("lo-", "hi-"))]
    return {c: {k: rows[c].to_numpy(np.float64) for k, rows in groups.items()} for c in names}


def rule(task: Task, name: str) -> Forecast:
    start = time.perf_counter()
    found = {k: RULES[name](v.to_numpy(), task.horizon, task.season) for k, v in task.past.items()}
    return Forecast({"median": found}, 0.0, time.perf_counter() - start)


def ours(task: Task, minutes: float, progress: bool) -> Forecast:
    import_module("pytorch_lightning")  # the peers' imports are not timed either
    frame, start = task.frame(), time.perf_counter()
    model = elman.Forecaster(task.horizon).fit(frame, minutes=minutes, progress=progress)
    trained = time.perf_counter()
    found = model.predict(frame)
    return Forecast(by_series(found), trained - start, time.perf_counter() - trained)


def theirs(task: Task, minutes: float, python: str, names: list[str]) -> Iterator[tuple[str, Forecast]]:
    """Each peer in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "past.csv"), Path(folder, "forecast.csv")
        task.frame().to_csv(source, index=False)
        for name in names:
            size = [
                "--horizon",
                str(task.horizon),
                "--season",
                str(task.season),
                "--frequency",
                task.frequency,
            ]
            command = [python, str(PEERS), name, str(source), str(target), *size, "--minutes", str(minutes)]
            run = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
            if run.returncode:
                print(f"{name}: failed", file=sys.stderr)
                continue
            seconds = json.loads(run.stdout.splitlines()[-1])
            frame = pandas.read_csv(target, dtype={"unique_id": str})
            yield name, Forecast(by_series(frame), **seconds)


def measure(task: Task, found: dict[str, Floats]) -> dict[str, float]:
    """Means over series."""
    pairs = {k: (actual, found[k]) for k, actual in task.future.items()}
    scaled = [mase(a, f, task.past[k].to_numpy(), task.season) for k, (a, f) in pairs.items()]
    return {
        "sMAPE": statistics.fmean(smape(a, f) for a, f in pairs.values()),
        "MASE": float(np.nanmean(scaled)),
    }


def coverage(task: Task, forecast: Forecast, level: int) -> float:
    """Percent of the values that lie in the interval; NaN without one."""
    low, high = forecast.columns.get(f"lo-{level}"), forecast.columns.get(f"hi-{level}")
    if low is None or high is None:
        return float("nan")
    return 100 * float(np.mean([(low[k] <= a) & (a <= high[k]) for k, a in task.future.items()]))


def table(rows: list[list[str]]) -> None:
    """The first column to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def number(value: float, digits: int) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


# m4


def m4_task(folder: Path) -> Task:
    past, future = {}, {}
    for file, kept in ((folder / "Hourly-train.csv", past), (folder / "Hourly-test.csv", future)):
        for row in pandas.read_csv(file).itertuples(index=False):
            values = np.array(row[1:], np.float64)
            kept[row[0]] = values[~np.isnan(values)]
    stamped = {
        k: pandas.Series(v, pandas.date_range(BEGIN, periods=len(v), freq="h")) for k, v in past.items()
    }
    return Task("M4 hourly", stamped, future, 48, 24, "h")


def m4_row(task: Task, name: str, forecast: Forecast) -> list[str]:
    found = measure(task, forecast.median)
    owa = statistics.fmean(found[key] / NAIVE2[key] for key in NAIVE2)
    covered = [number(coverage(task, forecast, level), 1) for level in (80, 95)]
    seconds = [f"{forecast.training:.1f}", f"{forecast.prediction:.2f}"]
    return [
        name,
        f"{found['sMAPE']:.3f}",
        f"{found['MASE']:.3f}",
        f"{owa:.3f}",
        *covered,
        *seconds,
        forecast.about,
    ]


def m4(options: argparse.Namespace) -> None:
    task = m4_task(options.folder)
    forecasts = {"seasonal naive": rule(task, "seasonal naive"), "elman": ours(task, options.minutes, True)}
    if options.peers:
        forecasts |= theirs(task, options.minutes, options.python, options.names)
    rows = [["", "sMAPE", "MASE", "OWA", "in 80 %", "in 95 %", "training s", "prediction s", ""]]
    table(rows + [m4_row(task, name, forecast) for name, forecast in forecasts.items()])


def m4_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has the peers")
    known = ["neuralforecast LSTM", "neuralforecast GRU", "darts BlockRNNModel", "darts RNNModel"]
    parser.add_argument("--names", nargs="+", default=known, help=f"peers: {', '.join(known)}")


# other


def alias(stamps: pandas.DatetimeIndex) -> str:
    """pandas' name of the step between time stamps, some of which may be missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a later pandas returns an offset, not its name
        for i in range(0, len(stamps) - 4, 4):
            if found := pandas.infer_freq(stamps[i : i + 12]):
                return str(getattr(found, "freqstr", found))
    raise ValueError("no regular frequency")


def split(file: Path) -> Task:
    """Gaps are filled by interpolation. Series need more than two horizons, and more than a season and a horizon."""
    frame = pandas.read_csv(file, dtype={"unique_id": str}, parse_dates=["ds"])
    series = {
        k: rows.set_index("ds")["y"].astype(float) for k, rows in frame.groupby("unique_id", sort=False)
    }
    step = alias(max(series.values(), key=len).index)
    horizon, long, season = HORIZONS[step.split("-")[0]]
    if statistics.median(map(len, series.values())) >= 60:
        horizon = long
    past, future = {}, {}
    for k, v in series.items():
        v = v.asfreq(step)
        if len(v) > max(2 * horizon, season + horizon):
            past[k] = v[:-horizon].interpolate()  # without what follows, should it end in a gap
            future[k] = v.interpolate()[-horizon:].to_numpy()
    return Task(file.stem, past, future, horizon, season, step)


def other(options: argparse.Namespace) -> None:
    """A line as soon as there is one: the whole takes long."""
    print(
        f"{'':32} {'step':>8} {'steps':>5} {'series':>6} {'elman':>8} {'seasonal':>8} {'drift':>8} {'naive':>8}"
    )
    ratios: list[tuple[float, float]] = []
    files = sorted(options.folder.glob("*.csv"))
    for file in files:
        if options.names and file.stem not in options.names:
            continue
        task = split(file)
        beside = [measure(task, rule(task, name).median)["MASE"] for name in RULES]
        try:
            found = measure(task, ours(task, options.minutes, False).median)["MASE"]
            if min(beside) > 0:  # a rule that is exact leaves nothing to compare
                ratios.append((found / beside[0], found / min(beside)))
        except elman.ElmanError as error:
            print(f"{task.name}: {error}", file=sys.stderr)
            found = float("nan")
        figures = " ".join(f"{number(value, 3):>8}" for value in (found, *beside))
        about = f"{task.frequency:>8} {task.horizon:5} {len(task.past):6}"
        print(f"{task.name:32} {about} {figures}", flush=True)
    if ratios:
        seasonal, best = (statistics.geometric_mean(column) for column in zip(*ratios, strict=True))
        wins = [sum(ratio < 1 for ratio in column) for column in zip(*ratios, strict=True)]
        print(
            f"elman's MASE: {seasonal:.3f} of seasonal naive's (better in {wins[0]} of {len(ratios)} data sets), "
            f"{best:.3f} of the best rule's (better in {wins[1]}); geometric means"
        )


def other_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="of files in the folder; all of them if none is given"
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=1.0)


# ETTh1: all seven values are targets, of a scale that the training part gives


HOURS = 30 * 24
ETT = {  # MSE at 96, 192, 336 and 720 hours as Nie et al. and Zeng et al. (both 2023) give them
    "DLinear (published)": (0.375, 0.405, 0.439, 0.472),
    "PatchTST/64 (published)": (0.370, 0.413, 0.422, 0.447),
}


def ett(options: argparse.Namespace) -> None:
    """12 months to learn from, 4 to choose by, 4 to measure on: every window of these, MSE and MAE over all values."""
    frame = pandas.read_csv(options.file, parse_dates=["date"]).iloc[: 20 * HOURS]
    targets = list(frame.columns[1:])
    known = frame[targets][: 12 * HOURS]
    frame[targets] = (frame[targets] - known.mean()) / known.std(ddof=0)
    rows = []
    for horizon in options.horizon:
        names = ("loss", "dropout", "input_length", "ensemble")
        settings = {name: getattr(options, name) for name in names}
        model = elman.Forecaster(horizon, time="date", target=targets, **settings)
        start = time.perf_counter()
        model.fit(frame[: 16 * HOURS], epochs=options.epochs, val_size=4 * HOURS, progress=options.progress)
        seconds = time.perf_counter() - start
        parts = (frame[: 16 * HOURS], 12 * HOURS), (frame, 16 * HOURS)
        (chosen, _), (mse, mae) = (every_window(model, part, begin, horizon) for part, begin in parts)
        published = {name: figures[(96, 192, 336, 720).index(horizon)] for name, figures in ETT.items()}
        found = [f"{mse:.3f}", f"{mae:.3f}", f"{chosen:.3f}", f"{seconds:.0f} s"]
        rows.append([str(horizon), *found, *(f"{value:.3f}" for value in published.values())])
    table([["hours", "MSE", "MAE", "validation MSE", "training", *ETT], *rows])


def every_window(
    model: elman.Forecaster, frame: pandas.DataFrame, begin: int, horizon: int
) -> tuple[float, float]:
    """(MSE, MAE) of forecasts from every hour on, from `begin` to a horizon before the frame's end."""
    data = model.read(frame, 0)  # a backtest's table of a million windows would not fit into memory
    ends = list(range(begin, len(frame) - horizon + 1))
    errors = []
    for name, series in zip(data.names, data.series, strict=True):
        found = model._ahead([name] * len(ends), [series] * len(ends), ends, horizon).middle
        errors.append(found - np.lib.stride_tricks.sliding_window_view(series.values[begin:], horizon))
    whole = np.stack(errors)
    return float((whole**2).mean()), float(np.abs(whole).mean())


def ett_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", type=Path, required=True, help="ETTh1.csv")
    parser.add_argument("--horizon", type=int, nargs="+", default=[96, 192, 336, 720])
    parser.add_argument("--loss", default="mae")
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--input-length", type=int, default=720)
    parser.add_argument("--ensemble", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=0.7)
    parser.add_argument("--progress", action="store_true")


COMMANDS: dict[str, tuple[Callable[[Any], None], Callable[[Any], None]]] = {
    "m4": (m4_options, m4),
    "ett": (ett_options, ett),
    "other": (other_options, other),
}


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (add_options, _) in COMMANDS.items():
        add_options(commands.add_parser(name))
    options = parser.parse_args()
    COMMANDS[options.command][1](options)


if __name__ == "__main__":
    main()
