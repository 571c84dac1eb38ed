"""One network of another library: a table of the past in, its forecast out. `series.py` runs it, in a Python with them:

    pip install torch==2.13.0 neuralforecast==3.3.0 darts==0.48.1

    python benchmarks/series_peers.py MODEL PAST.csv FORECAST.csv --horizon 48 --season 24 --frequency h --minutes 3

Both tables have the columns unique_id and ds; the first has y, the second median and, of some models, intervals. A
model has its library's defaults, but trains until the minutes are over. Where a library has no default, the input is a
week of hours, else three seasons. The last line printed is JSON: seconds, and how many steps were trained.
"""

import argparse
import datetime
import json
import logging
import time
from typing import Any

import numpy as np
import pandas
from pytorch_lightning import Callback

NEVER = 10**9  # steps or epochs: the clock ends training


class Steps(Callback):
    """Counts, for all its copies: libraries copy what they are given, and forget a trainer's count."""

    trained = 0

    def on_train_batch_end(self, *_: Any) -> None:
        Steps.trained += 1


def trainer(minutes: float) -> dict[str, Any]:
    """Options of Lightning's Trainer."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    limit = {"max_time": datetime.timedelta(minutes=minutes), "accelerator": "cpu"}
    return {**limit, **quiet, "callbacks": [Steps()]}


def input_length(options: argparse.Namespace) -> int:
    return 168 if options.season == 24 else 3 * options.season


def neuralforecast(frame: pandas.DataFrame, options: argparse.Namespace) -> tuple[Any, Any]:
    """(train, predict)."""
    from neuralforecast import NeuralForecast, models
    from neuralforecast.losses.pytorch import MQLoss

    kind, _, intervals = options.model.removeprefix("neuralforecast ").partition(" ")
    loss = {"loss": MQLoss(level=[80, 95])} if intervals else {}
    size = {"h": options.horizon, "max_steps": NEVER, "enable_checkpointing": False}
    model = getattr(models, kind)(**size, **loss, **trainer(options.minutes))
    job = NeuralForecast(models=[model], freq=options.frequency)

    def predict() -> pandas.DataFrame:
        found = job.predict()
        names = {kind: "median", f"{kind}-median": "median"}
        names |= {f"{kind}-{side}-{level}": f"{side}-{level}" for side in ("lo", "hi") for level in (80, 95)}
        return found.rename(columns=names)

    return lambda: job.fit(frame), predict


def darts(frame: pandas.DataFrame, options: argparse.Namespace) -> tuple[Any, Any]:
    """(train, predict)."""
    from darts import TimeSeries, models
    from darts.dataprocessing.transformers import Scaler

    length, kind = input_length(options), options.model.removeprefix("darts ")
    how = {"n_epochs": NEVER, "random_state": 1, "pl_trainer_kwargs": trainer(options.minutes)}
    if kind == "RNNModel":
        model = models.RNNModel(length, model="LSTM", training_length=length + options.horizon, **how)
    else:
        model = models.BlockRNNModel(length, options.horizon, model="LSTM", **how)
    groups = frame.astype({"y": np.float32}).groupby("unique_id", sort=False)
    names = [name for name, _ in groups]
    series = [TimeSeries.from_dataframe(g, "ds", "y", freq=options.frequency) for _, g in groups]
    scaler = Scaler()
    scaled = scaler.fit_transform(series)

    def predict() -> pandas.DataFrame:
        found = scaler.inverse_transform(model.predict(options.horizon, scaled, verbose=False))
        columns = [
            {"unique_id": k, "ds": f.time_index, "median": f.values()[:, 0]}
            for k, f in zip(names, found, strict=True)
        ]
        return pandas.concat([pandas.DataFrame(c) for c in columns])

    return lambda: model.fit(scaled, verbose=False), predict


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = [f"neuralforecast {kind}{how}" for kind in ("LSTM", "GRU") for how in ("", " with intervals")]
    parser.add_argument("model", choices=[*kinds, "darts BlockRNNModel", "darts RNNModel"])
    parser.add_argument("past")
    parser.add_argument("forecast")
    parser.add_argument("--horizon", type=int, required=True)
    parser.add_argument("--season", type=int, required=True)
    parser.add_argument("--frequency", required=True)
    parser.add_argument("--minutes", type=float, required=True)
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    frame = pandas.read_csv(options.past, dtype={"unique_id": str}, parse_dates=["ds"])
    library = neuralforecast if options.model.startswith("neuralforecast") else darts
    train, predict = library(frame, options)
    start = time.perf_counter()
    train()
    trained = time.perf_counter()
    found = predict()
    seconds = {"training": trained - start, "prediction": time.perf_counter() - trained}
    found.to_csv(options.forecast, index=False)
    print(json.dumps(seconds | {"about": f"{Steps.trained:,} steps"}))


if __name__ == "__main__":
    main()
