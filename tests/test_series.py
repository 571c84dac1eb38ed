"""The series job: a trained model beats simple rules on what it has not seen, with and without PyTorch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import elman
from elman import ElmanError
from elman.backtest import RULES, measures
from elman.frames import read
from elman.series_fit import SeriesBatches, cut, pinball
from elman.series_model import SeriesConfig, SeriesModel
from elman.series_network import SeriesNetwork
from elman.windows import Shape, quantiles, sensible_shape

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
    rules = found["table"]
    assert set(rules) == {"elman", *RULES}
    assert rules["elman"]["mase"] < 0.85 * min(rules[rule]["mase"] for rule in RULES)
    assert rules["elman"]["rmse"] < 0.85 * rules["seasonal naive"]["rmse"]
    assert (found["series"], found["windows"], found["values"]) == (30, 90, 90 * 14)


def test_intervals_cover_what_they_say(fitted) -> None:
    own = fitted.backtest(a_table(seed=2), windows=3)["table"]["elman"]
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


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("seasons", [(1,), (4,), (2, 6)])
def test_the_network_without_pytorch_is_the_model(cell, seasons) -> None:
    torch.manual_seed(0)
    shape = sensible_shape(5, seasons, [40])
    config = SeriesConfig(shape, tuple(quantiles((50, 90))), cell, hidden_size=9, embedding_size=7)
    model = SeriesModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    tensors = {name: t.numpy() for name, t in model.state_dict().items()}
    described = {"shape": shape.as_dict(), "quantiles": config.quantiles, "cell": cell, "hidden_size": 9}
    x = np.random.default_rng(0).normal(size=(6, shape.input_length)).astype(np.float32) * 10 + 100
    with torch.no_grad():
        expected, _ = model(torch.from_numpy(x))
    assert expected.shape == (6, 5, 5)
    assert (expected.diff(dim=2) > 0).all()
    np.testing.assert_allclose(SeriesNetwork(described, tensors)(x), expected.numpy(), rtol=1e-4, atol=1e-4)


def test_the_same_seed_trains_the_same_way(table) -> None:
    def trained(seed: int):
        small = {"hidden_size": 8, "batch_size": 32, "seed": seed}
        return elman.Forecaster(7, **small).fit(table, epochs=0.2, progress=False).predict(table)["median"]

    assert trained(1).equals(trained(1))
    assert not trained(1).equals(trained(2))


def test_batches_depend_on_their_step_alone() -> None:
    shape = Shape(14, 7, 7, (7,))
    values = [np.arange(60.0) + 100 * i for i in range(4)]
    batches = SeriesBatches(values, shape, 16, seed=3)
    first = batches.iterate()
    next(first)
    again, resumed = next(first), next(batches.iterate(1))
    assert np.array_equal(again.inputs, resumed.inputs)
    assert np.array_equal(again.inputs[:, -1] + 1, again.targets[:, 0])
    assert set((again.inputs[:, -1] // 100).astype(int)) == {0, 1, 2, 3}


def test_a_jump_after_a_still_window_does_not_outweigh_all_others() -> None:
    values = np.concatenate((np.zeros(20), np.tile([5.0, 9.0], 20)))
    found = cut([values], [(0, 20)], Shape(14, 7, 7, (7,)))
    assert 0 < found.targets[0, -1] < 10


def test_the_loss_is_the_pinball_loss() -> None:
    outputs = torch.tensor([[[1.0, 2.0, 4.0]]])
    targets = torch.tensor([[3.0, 0.5]])  # the value, and 1 / scale
    expected = (0.1 * 1.0 + 0.5 * 0.5 + 0.1 * 0.5) / 3
    assert float(pinball([0.1, 0.5, 0.9])(outputs, targets)) == pytest.approx(expected)


def test_measures() -> None:
    actual, found = np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 2.0])
    values = measures(actual, found, scale=0.5)
    assert values["mae"] == pytest.approx(1.0)
    assert values["mase"] == pytest.approx(2.0)
    assert values["rmse"] == pytest.approx((5 / 3) ** 0.5)
    assert values["smape"] == pytest.approx(200 * (1 / 3 + 0 + 2 / 6) / 3)
    assert measures(np.zeros(2), np.zeros(2), 0.0)["smape"] == 0


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
