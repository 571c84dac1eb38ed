"""The series job: a trained model beats simple rules on what it has not seen, with and without PyTorch."""

import math
import subprocess
import sys
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

pandas = pytest.importorskip("pandas")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


def test_it_beats_simple_rules_on_series_it_has_not_seen(fitted) -> None:
    found = fitted.backtest(a_table(seed=1), windows=3)
    rules = found.table
    assert set(rules) == {"elman", *RULES}
    assert rules["elman"]["mase"] < 0.85 * min(rules[rule]["mase"] for rule in RULES)
    assert rules["elman"]["rmse"] < 0.85 * rules["seasonal naive"]["rmse"]
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
    described = asdict(config) | {"shape": shape.as_dict()}
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
