"""The series job: a trained model beats simple rules on what it has not seen, with and without PyTorch."""

import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import elman
from elman import ElmanError
from elman.backtest import RULES
from elman.frames import read
from elman.series import Forecast, joined
from elman.series_fit import SeriesBatches, cut, held_out, loss_of, negative_binomial
from elman.series_loss import LOSSES, found_quantiles, width
from elman.series_model import SeriesConfig, SeriesModel
from elman.series_network import SeriesNetwork
from elman.windows import Series, Shape, quantiles, sensible_shape, window

pytestmark = pytest.mark.usefixtures("one_thread")

pandas = pytest.importorskip("pandas")


def a_table(series: int = 30, length: int = 200, seed: int = 0, level: float = 0.0):
    """Daily series with a week of their own, whose size changes slowly, and noise: a season is worth knowing, and so is
    that its last repetition is noisy."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(series):
        week = rng.normal(size=7) * 10
        size = np.exp(np.cumsum(rng.normal(size=length) * 0.01))
        y = level + 50 + week[np.arange(length) % 7] * size + rng.normal(size=length) * 4
        days = pandas.date_range("2024-01-01", periods=length, freq="D")
        rows.append(pandas.DataFrame({"unique_id": f"s{i:02}", "ds": days, "y": y}))
    return pandas.concat(rows, ignore_index=True)


@pytest.fixture(scope="module")
def table():
    return a_table()


@pytest.fixture(scope="module")
def fitted(table) -> elman.Forecaster:
    small = {"hidden_size": 32, "batch_size": 64, "learning_rate": 5e-3}
    return elman.Forecaster(14, **small).fit(table, epochs=5, progress=False)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ElmanError, match=r"seed must be at least 0, not -1\."):
        elman.Forecaster(14, seed=-1)


def test_it_beats_simple_rules_on_series_it_has_not_seen(fitted) -> None:
    found = fitted.backtest(a_table(seed=1), windows=3)
    rules = found.table
    assert set(rules) == {"elman", *RULES}
    assert rules["elman"]["mase"] < 0.88 * min(rules[rule]["mase"] for rule in RULES)
    assert rules["elman"]["rmse"] < 0.88 * rules["seasonal naive"]["rmse"]
    assert (found.series, found.windows, found.values, found.best) == (30, 90, 90 * 14, "elman")


def test_intervals_cover_what_they_say(fitted) -> None:
    own = fitted.backtest(a_table(seed=2), windows=3).table["elman"]
    assert 73 < own["coverage-80"] < 90
    assert 90 < own["coverage-95"] < 99.5
    assert 0 < own["scaled_quantile_loss"] < 1


def test_the_frame_that_comes_out(fitted, table) -> None:
    found = fitted.predict(table)
    assert list(found.columns) == ["unique_id", "ds", "median", "lo-95", "hi-95", "lo-80", "hi-80"]
    assert len(found) == 30 * 14
    assert found["ds"].min() == pandas.Timestamp("2024-01-01") + pandas.Timedelta(days=200)
    ordered = found[["lo-95", "lo-80", "median", "hi-80", "hi-95"]].to_numpy()
    assert (np.diff(ordered, axis=1) >= 0).all()


def test_levels_and_trends_do_not_matter(fitted) -> None:
    plain, moved = a_table(3), a_table(3)
    moved["y"] = 1000 + 7 * moved["y"]
    one, other = fitted.predict(plain), fitted.predict(moved)
    np.testing.assert_allclose(1000 + 7 * one["median"], other["median"], rtol=2e-3)


def test_longer_and_shorter_horizons(fitted, table) -> None:
    whole = fitted.predict(table, horizon=40)
    assert len(whole) == 30 * 40
    first = whole.groupby("unique_id").head(5).reset_index(drop=True)
    pandas.testing.assert_frame_equal(fitted.predict(table, horizon=5), first)
    last = whole.groupby("unique_id").tail(7)["median"]
    assert last.between(0, 110).all()


def test_polars_in_polars_out(fitted, table) -> None:
    polars = pytest.importorskip("polars")
    found = fitted.predict(polars.from_pandas(table))
    assert isinstance(found, polars.DataFrame)
    np.testing.assert_allclose(found["median"].to_numpy(), fitted.predict(table)["median"].to_numpy())


def test_saved_loaded_and_without_pytorch(fitted, table, tmp_path: Path) -> None:
    fitted.save(tmp_path / "m.elman")
    table.to_csv(tmp_path / "t.csv", index=False)
    again = elman.load(tmp_path / "m.elman")
    pandas.testing.assert_frame_equal(again.predict(table), fitted.predict(table))
    assert again.info["job"] == "series"
    assert again.info["training"]["series"] == 30
    code = (
        "import sys, elman; f = elman.load(sys.argv[1]); f.predict(sys.argv[2]); f.backtest(sys.argv[2], 1); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "m.elman", tmp_path / "t.csv"], check=True)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("cell", "members"), [("rnn", 1), ("gru", 2), ("lstm", 1)])
@pytest.mark.parametrize(("seasons", "known"), [((1,), (0, 0, 0)), ((4,), (2, 0, 1)), ((2, 6), (1, 3, 2))])
def test_the_network_without_pytorch_is_the_model(cell, members, seasons, known, loss) -> None:
    torch.manual_seed(0)
    past, future, static = known
    shape = replace(sensible_shape(5, seasons, [40]), past=past, future=future, static=static)
    config = SeriesConfig(
        shape, tuple(quantiles((50, 90))), loss, members, cell, hidden_size=9, embedding_size=7
    )
    model = SeriesModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    tensors = {name: t.numpy() for name, t in model.state_dict().items()}
    described = asdict(config) | {"shape": shape.as_dict()}  # learned from so much that it needs no caution
    rng = np.random.default_rng(0)
    series = [
        Series(
            rng.normal(size=60) * 10 + 100,
            rng.normal(size=(60, past)).astype(np.float32),
            rng.normal(size=(70, future)).astype(np.float32),
            rng.normal(size=static).astype(np.float32),
        )
        for _ in range(6)
    ]
    x = np.stack([window(one, 50 + i, shape) for i, one in enumerate(series)])
    with torch.no_grad():
        expected, _ = model(torch.from_numpy(x))
    assert expected.shape == (members, 6, 5, width(loss, config.quantiles))
    network = SeriesNetwork(described, tensors)
    np.testing.assert_allclose(network.put_out(x)[0], expected.numpy(), rtol=2e-4, atol=2e-4)
    found, mean, _ = network(x)
    assert found.shape == (6, 5, 5)
    assert (np.diff(found, axis=2) >= 0).all()
    assert (mean is None) == (loss in ("quantile", "mae"))


def test_the_same_seed_trains_the_same_way(table) -> None:
    def trained(seed: int):
        small = {"hidden_size": 8, "batch_size": 32, "seed": seed}
        return elman.Forecaster(7, **small).fit(table, epochs=0.2, progress=False).predict(table)["median"]

    assert trained(1).equals(trained(1))
    assert not trained(1).equals(trained(2))


def test_batches_depend_on_their_step_alone() -> None:
    shape = Shape(14, 7, 7, (7,))
    series = [Series(np.arange(60.0) + 100 * i) for i in range(4)]
    batches = SeriesBatches(series, shape, 16, seed=3)
    first = batches.iterate()
    next(first)
    again, resumed = next(first), next(batches.iterate(1))
    assert np.array_equal(again.inputs, resumed.inputs)
    assert np.array_equal(again.inputs[:, -1] + 1, again.targets[:, 0])
    assert set((again.inputs[:, -1] // 100).astype(int)) == {0, 1, 2, 3}


def test_a_jump_after_a_still_window_does_not_outweigh_all_others() -> None:
    values = np.concatenate((np.zeros(20), np.tile([5.0, 9.0], 20)))
    found = cut([Series(values)], [(0, 20)], Shape(14, 7, 7, (7,)))
    assert 0 < found.targets[0, -1] < 10


SMALL = Shape(2, 1, 1, (1,))
Y = torch.tensor([[3.0, 0.5]])  # the value, and 1 / scale


def test_the_losses() -> None:
    def loss(kind: str, *numbers: float) -> float:
        return float(loss_of(SeriesConfig(SMALL, (0.1, 0.5, 0.9), kind))(torch.tensor([[[numbers]]]), Y))

    assert loss("quantile", 1.0, 2.0, 4.0) == pytest.approx((0.1 * 1.0 + 0.5 * 0.5 + 0.1 * 0.5) / 3)
    assert loss("mse", 1.0) == pytest.approx(1.0)
    assert loss("mae", 2.5) == pytest.approx(0.25)
    # Two degrees of freedom: density (2 + t²)^(-3/2).
    assert loss("student_t", 1.0, 4.0, 2.0) == pytest.approx(1.5 * math.log(2 + 0.25) + math.log(2), rel=1e-5)
    # Dispersion 1 is the geometric distribution: q^y (1 - q), q = mean / (1 + mean).
    assert loss("negative_binomial", 2.0, 1.0) == pytest.approx(-math.log((2 / 3) ** 3 / 3), rel=1e-5)


def test_counts_have_probabilities_that_sum_to_one() -> None:
    y = torch.arange(2000.0, dtype=torch.float64)
    for mean, dispersion in ((0.3, 0.5), (20.0, 0.01), (50.0, 1.5)):
        p = negative_binomial(torch.tensor(mean).double(), torch.tensor(dispersion).double(), y).exp()
        assert float(p.sum()) == pytest.approx(1, abs=1e-6)
        assert float((p * y).sum()) == pytest.approx(mean, rel=1e-4)
        found = found_quantiles("negative_binomial", np.array([[mean, dispersion]]), [0.025, 0.5, 0.9])
        reached = np.cumsum(p.numpy())
        expected = [int(np.argmax(reached >= q)) for q in (0.025, 0.5, 0.9)]
        assert found.tolist() == [expected]


def test_what_follows_a_forecast_carries_its_uncertainty() -> None:
    part = Forecast(np.array([[[-3.0, 0.0, 3.0], [-4.0, 0.0, 4.0]]]), None)
    found = joined([part, part], 3)
    assert found.quantiles[0, :2].tolist() == part.quantiles[0].tolist()
    assert found.quantiles[0, 2].tolist() == [-5.0, 0.0, 5.0]


def test_what_is_held_back() -> None:
    shape = Shape(14, 7, 7, (7,))
    series = [Series(np.arange(60.0)), Series(np.arange(20.0))]
    assert held_out(series, shape, 7) == ((0, 53),)
    assert sorted(held_out(series, shape, 10)) == [(0, 50), (0, 51), (0, 52), (0, 53)]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns(loss) -> None:
    table = a_table(12, 150)
    table["y"] = (table["y"].clip(lower=0)).round()
    small = {"hidden_size": 24, "batch_size": 64, "learning_rate": 5e-3}
    model = elman.Forecaster(7, loss=loss, **small).fit(table, epochs=8, progress=False)
    found = model.predict(table)
    point = [name for name in ("mean", "median") if name in found]
    assert point == {"quantile": ["median"], "mae": ["median"], "mse": ["mean"]}.get(loss, ["mean", "median"])
    ordered = found[["lo-95", "lo-80", point[-1], "hi-80", "hi-95"]].to_numpy()
    assert (np.diff(ordered, axis=1) >= 0).all()
    tested = model.backtest(table, 1).table
    assert tested["elman"]["mase"] < 0.95 * tested["seasonal naive"]["mase"]
    assert 60 < tested["elman"]["coverage-80"] < 99
    assert tested["elman"]["coverage-95"] > 80
    if loss == "negative_binomial":
        assert (found[["lo-95", "median", "hi-95"]] % 1 == 0).all(axis=None)


def test_what_is_no_count_is_refused_by_name(table) -> None:
    counts = elman.Forecaster(7, loss="negative_binomial")
    with pytest.raises(ElmanError, match=r"series s00 holds .* counts"):
        counts.fit(table, epochs=0.01, progress=False)
    negative = table.assign(y=table["y"].round().where(table.index != 450, -3))
    with pytest.raises(ElmanError, match="series s02 holds -3"):
        counts.fit(negative.assign(y=negative["y"].where(negative["y"] > -4, 0)), epochs=0.01, progress=False)


def test_rules() -> None:
    values = np.array([1.0, 5.0, 2.0, 6.0, 3.0])
    assert RULES["seasonal naive"](values, 3, 2).tolist() == [6, 3, 6]
    assert RULES["seasonal naive"](values, 2, 99).tolist() == [3, 3]
    assert RULES["drift"](values, 2, 1).tolist() == [3.5, 4.0]
    assert RULES["naive"](values, 2, 1).tolist() == [3, 3]


@pytest.mark.parametrize("frequency", ["MS", "QS", "W-SUN", "YS"])
def test_thirty_points_are_enough(frequency) -> None:
    rng = np.random.default_rng(0)
    days = pandas.date_range("1990-01-01", periods=30, freq=frequency)
    rows = [
        pandas.DataFrame({"unique_id": i, "ds": days, "y": np.cumsum(rng.normal(size=30)) + 20})
        for i in range(4)
    ]
    table = pandas.concat(rows, ignore_index=True)
    model = elman.Forecaster(4, hidden_size=8, batch_size=16).fit(table, epochs=3, progress=False)
    found = model.predict(table)
    assert len(found) == 16
    assert found["median"].between(-20, 60).all()


def test_constant_series_are_forecast_as_they_are(fitted) -> None:
    table = a_table(2)
    table.loc[table["unique_id"] == "s01", "y"] = 42.0
    found = fitted.predict(table)
    still = found[found["unique_id"] == "s01"]
    np.testing.assert_allclose(still["median"], 42.0, rtol=2e-3)


BAD = {
    "no such column": (lambda t: t.rename(columns={"y": "sales"}), "sales"),
    "too short": (lambda t: t.groupby("unique_id").head(9), "too short"),
    "empty": (lambda t: t.head(0), "."),
    "infinite": (lambda t: t.assign(y=np.where(t.index == 5, np.inf, t["y"])), "s00"),
    "all missing": (lambda t: t.assign(y=np.nan), "."),
}


@pytest.mark.parametrize("bad", BAD)
def test_tables_that_cannot_be_used(bad, table) -> None:
    change, words = BAD[bad]
    with pytest.raises(ElmanError, match=words):
        elman.Forecaster(14).fit(change(table), epochs=0.01, progress=False)


def test_what_cannot_be_is_refused_by_name(fitted, table, tmp_path: Path) -> None:
    with pytest.raises(ElmanError, match="horizon"):
        elman.Forecaster(0)
    with pytest.raises(ElmanError, match="levels"):
        elman.Forecaster(3, levels=[120])
    with pytest.raises(ElmanError, match="no model yet"):
        elman.Forecaster(3).predict(table)
    with pytest.raises(ElmanError, match="minutes or epochs"):
        elman.Forecaster(3).fit(table, minutes=1, epochs=1)
    with pytest.raises(ElmanError, match="directory"):
        elman.Forecaster(3).fit(table, output=tmp_path)
    with pytest.raises(ElmanError, match="too short to forecast"):
        fitted.predict(table.groupby("unique_id").head(5))
    monthly = table.assign(ds=pandas.date_range("1900-01-01", periods=len(table), freq="MS")).head(100)
    with pytest.raises(ElmanError, match="every MS, the model learned from every D"):
        fitted.predict(monthly)
    with pytest.raises(ElmanError, match="long enough"):
        fitted.backtest(table.groupby("unique_id").head(17))


def test_the_frequency_is_kept(table) -> None:
    assert read(table).frequency.alias == "D"


def priced(series: int = 20, length: int = 200, seed: int = 0):
    """Sales that fall when a known price rises."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(series):
        price = rng.choice([1.0, 2.0], size=length)
        kind = ("city", "village")[i % 2]
        y = 60 - 20 * price + rng.normal(size=length)
        days = pandas.date_range("2024-01-01", periods=length, freq="D")
        rows.append(
            pandas.DataFrame({"unique_id": f"s{i}", "ds": days, "y": y, "price": price, "kind": kind})
        )
    return pandas.concat(rows, ignore_index=True)


@pytest.fixture(scope="module")
def knowing() -> elman.Forecaster:
    model = elman.Forecaster(7, future=["price"], static=["kind"], hidden_size=32, learning_rate=5e-3)
    return model.fit(priced(), epochs=20, progress=False)


def test_what_is_known_of_the_future_is_used(knowing, tmp_path: Path) -> None:
    whole = priced(seed=1)
    blind = elman.Forecaster(7, hidden_size=32, learning_rate=5e-3).fit(priced(), epochs=20, progress=False)
    seeing, guessing = (model.backtest(whole, 2).table["elman"]["mae"] for model in (knowing, blind))
    assert seeing < 0.4 * guessing
    last = whole.groupby("unique_id").tail(7)
    known = whole.drop(last.index)
    unknown = whole.assign(y=whole["y"].where(~whole.index.isin(last.index)))
    found = knowing.predict(known, futr_df=last[["unique_id", "ds", "price"]])
    pandas.testing.assert_frame_equal(found, knowing.predict(unknown))
    assert np.abs(found["median"].to_numpy() - last["y"].to_numpy()).mean() < 3
    knowing.save(tmp_path / "m.elman")
    again = elman.load(tmp_path / "m.elman").predict(unknown)
    pandas.testing.assert_frame_equal(again, found)
    with pytest.raises(ElmanError, match=r"s0 has no price for 2024-07-19"):
        knowing.predict(whole)
    with pytest.raises(ElmanError, match="no column price"):
        knowing.predict(whole.drop(columns="price"))


def test_past_covariates_end_the_horizon(table) -> None:
    told = table.assign(visitors=table["y"].shift(-3).fillna(0))
    model = elman.Forecaster(3, past=["visitors"], hidden_size=16, learning_rate=5e-3)
    model.fit(told, epochs=6, progress=False)
    assert model.backtest(told).table["elman"]["mae"] < 4  # visitors are what y will be: less noise of 4
    with pytest.raises(ElmanError, match="at most 3 steps: beyond them its past covariates"):
        model.predict(told, horizon=4)


def test_several_targets(table) -> None:
    wide = table.rename(columns={"y": "load"}).assign(wind=a_table(seed=5)["y"].to_numpy())
    small = {"hidden_size": 16, "batch_size": 64, "learning_rate": 5e-3}
    model = elman.Forecaster(7, [80], target=["load", "wind"], **small).fit(wide, epochs=1, progress=False)
    found = model.predict(wide)
    names = [f"{target}-{part}" for target in ("load", "wind") for part in ("median", "lo-80", "hi-80")]
    assert list(found.columns) == ["unique_id", "ds", *names]
    one = model.predict(wide.assign(wind=wide["load"]))
    pandas.testing.assert_series_equal(one["load-median"], one["wind-median"], check_names=False)
    tested = model.backtest(wide, 1)
    assert tested.series == 60
    assert list(tested.per_series.columns[:3]) == ["unique_id", "target", "model"]
    with pytest.raises(ElmanError, match="load and wind are not known over the same time"):
        model.predict(wide.assign(wind=wide["wind"].where(wide["ds"] > "2024-02-01")))


def test_an_ensemble_is_the_mean_of_its_members(table, tmp_path: Path) -> None:
    small = {"hidden_size": 16, "batch_size": 64, "learning_rate": 5e-3}
    model = elman.Forecaster(7, ensemble=3, **small).fit(table, epochs=0.5, progress=False)
    tensors = model.file.tensors
    first, second = (tensors[f"members.{k}.encoder.weight_hh_l0"] for k in (0, 1))
    assert np.abs(first - second).mean() > 0.05
    model.save(tmp_path / "m.elman")
    pandas.testing.assert_frame_equal(elman.load(tmp_path / "m.elman").predict(table), model.predict(table))


def test_the_backtest_s_tables(fitted, table) -> None:
    found = fitted.backtest(table, 2)
    assert list(found.per_series.columns[:2]) == ["unique_id", "model"]
    assert len(found.per_series) == 30 * 4
    own = found.per_series[found.per_series["model"] == "elman"]
    assert own["mase"].mean() == pytest.approx(found.table["elman"]["mase"])
    assert len(found.forecasts) == 30 * 2 * 14
    error = (found.forecasts["y"] - found.forecasts["elman"]).abs()
    assert error.mean() == pytest.approx(found.table["elman"]["mae"])
    inside = found.forecasts["y"].between(found.forecasts["elman-lo-80"], found.forecasts["elman-hi-80"])
    assert 100 * inside.mean() == pytest.approx(found.table["elman"]["coverage-80"])
    assert found.steps.coverage[80.0].mean() == pytest.approx(found.table["elman"]["coverage-80"])
    assert found.steps.errors["elman"].mean() == pytest.approx(found.table["elman"]["mase"], rel=0.02)
    naive = table.groupby("unique_id")["y"].apply(lambda y: np.abs(y.iloc[-14:] - y.iloc[-15]).mean()).mean()
    one = fitted.backtest(table, 1)
    assert one.table["naive"]["mae"] == pytest.approx(naive)
    assert json.loads(json.dumps(one.as_dict()))["series"] == 30


def test_a_backtest_knows_only_what_came_before(fitted, table) -> None:
    last = table.groupby("unique_id").tail(14).index
    changed = table.assign(y=table["y"].where(~table.index.isin(last), 1e6))
    before, after = (fitted.backtest(t, 1).forecasts["elman"] for t in (table, changed))
    pandas.testing.assert_series_equal(before, after)


def test_pictures(fitted, table, tmp_path: Path) -> None:
    fitted.plot(tmp_path / "f.png", table, series=["s01", "s05"])
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    fitted.backtest(table, 2).plot(tmp_path / "b.html")
    page = (tmp_path / "b.html").read_text()
    assert "s29" in page
    with pytest.raises(ElmanError, match=r"no series s99; it has s00, s01"):
        fitted.plot(tmp_path / "g.png", table, series=["s99"])
    with pytest.raises(ElmanError, match=r"\.png or \.html"):
        fitted.plot(tmp_path / "g.gif", table)


def test_levels_are_chosen_among_those_trained(fitted, table) -> None:
    assert list(fitted.predict(table, levels=[80]).columns) == ["unique_id", "ds", "median", "lo-80", "hi-80"]
    with pytest.raises(ElmanError, match=r"no interval of 90 %: it was trained for 80, 95"):
        fitted.predict(table, levels=[90])


def test_a_killed_run_goes_on(table, tmp_path: Path) -> None:
    small = {"hidden_size": 8, "batch_size": 32}
    code = (
        "import sys, pandas, elman; "
        "elman.Forecaster(7, hidden_size=8, batch_size=32).fit(sys.argv[1], epochs=4, output=sys.argv[2])"
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    model, resume = tmp_path / "m.elman", tmp_path / "m.elman.resume"
    run = subprocess.Popen([sys.executable, "-c", code, tmp_path / "t.csv", model], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not model.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    run.wait(30)
    assert resume.exists()
    done = elman.load(model).info["training"]["steps"]
    again = elman.Forecaster(7, **small).fit(table, epochs=4, output=model, resume=True, progress=False)
    assert again.info["training"]["steps"] > done
    assert not resume.exists()
    whole = elman.Forecaster(7, **small).fit(table, epochs=4, progress=False)
    assert again.info["training"]["steps"] == whole.info["training"]["steps"]


def test_what_little_was_learned_from_is_not_trusted() -> None:
    """Six values a season apart and a model of noise: the forecast stays near the season."""
    days = pandas.date_range("2020-01-01", periods=40, freq="MS")
    y = 100 + 10.0 * np.sin(2 * np.pi * np.arange(40) / 12)
    table = pandas.DataFrame({"ds": days, "y": y})
    model = elman.Forecaster(12, hidden_size=16, learning_rate=0.05).fit(table, epochs=60, progress=False)
    expected = 100 + 10.0 * np.sin(2 * np.pi * np.arange(40, 52) / 12)
    assert np.abs(model.predict(table)["median"].to_numpy() - expected).max() < 3


def test_very_many_series_are_validated_on_some() -> None:
    shape = Shape(2, 1, 1, (1,))
    series = [Series(np.zeros(8)) for _ in range(12_000)]
    held = held_out(series, shape, 1)
    assert len(held) == 10_000
    assert held == held_out(series, shape, 1)
    assert len({i for i, _ in held}) == 10_000


def test_series_that_never_change_have_no_better_rule(fitted, table) -> None:
    found = fitted.backtest(table.assign(y=7.0), 1)
    assert found.best == "elman"
    assert found.as_dict()["table"]["elman"]["mase"] is None
