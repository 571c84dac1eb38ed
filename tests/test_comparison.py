"""Comparisons: what is the same for all, what is found, and what is refused."""

import math
import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest

import elman
from elman import comparison
from elman.comparison import COLUMNS, Comparison, Trained, compare
from elman.comparison_plot import learning_curves, mean_and_range
from elman.data import ElmanError
from elman.experiment import prepare
from elman.progress import Report

pytestmark = pytest.mark.usefixtures("one_thread")

QUIET = Report(on=False)


def opened_and_closed(length=20_000):
    """Brackets of three kinds, ten deep, closed in order: what closes follows from what was opened long before."""
    rng, text, stack = np.random.default_rng(0), [], []
    while len(text) < length:
        if len(stack) < 10 and (not stack or rng.random() < 0.5):
            stack.append(int(rng.integers(3)))
            text.append("([{"[stack[-1]])
        else:
            text.append(")]}"[stack.pop()])
    return "".join(text)


def a_table(series=12, length=160):
    """A week's rhythm and noise."""
    pandas = pytest.importorskip("pandas")
    rng, t = np.random.default_rng(0), np.arange(length)
    values = [10 + 3 * np.sin(2 * np.pi * (t + k) / 7) + rng.normal(0, 1, length) for k in range(series)]
    days = np.tile(pandas.date_range("2024-01-01", periods=length), series)
    names = np.repeat([f"s{k}" for k in range(series)], length)
    return pandas.DataFrame({"unique_id": names, "ds": days, "y": np.concatenate(values)})


SMALL = {"hidden_size": 24, "embedding_size": 8, "batch_size": 8, "chunk_length": 32, "learning_rate": 0.02}


def generator(**changes):
    return elman.TextGenerator(**(SMALL | changes))


@pytest.fixture(scope="module")
def found():
    return compare(
        generator(), opened_and_closed(), epochs=1.0, equal="parameters", seeds=2, progress=False,
        cells=("feedforward", "gru", "mingru"),
    )  # fmt: skip


def test_every_cell_is_trained_with_every_seed_on_the_same_items(found):
    assert [(run.cell, run.seed) for run in found.runs] == [
        *(("feedforward", 0), ("gru", 0), ("mingru", 0)),
        *(("feedforward", 1), ("gru", 1), ("mingru", 1)),
    ]
    assert len({(run.items, run.steps) for run in found.runs}) == 1
    assert found.stopped == "finished"


def test_losses_are_those_of_networks_that_learned(found):
    # log 6 = 1.79 without learning
    assert all(run.value < 1.6 for run in found.runs)
    assert found.baseline == {"trigram": pytest.approx(1.49, abs=0.05)}
    for run in found.runs:
        steps, seconds, values = zip(*run.curve, strict=True)
        assert list(steps) == sorted(steps)
        assert list(seconds) == sorted(seconds)
        assert len(run.curve) >= 18
        assert values[-1] < values[0]


def test_parameters_agree(found):
    own = prepare(generator(), opened_and_closed(), QUIET).run({}, None, 1.0).network()
    wanted = sum(p.numel() for p in own.parameters())
    assert all(abs(run.parameters - wanted) / wanted < 0.05 for run in found.runs)
    assert len({run.hidden_size for run in found.runs}) == 3


def test_the_table_has_means_and_ranges_best_first_and_the_baseline_last(found):
    *cells, last = found.table
    assert last == "trigram"
    values = [found.table[cell]["validation"] for cell in cells]
    assert values == sorted(values)
    for cell in cells:
        row, losses = found.table[cell], [run.value for run in found.runs if run.cell == cell]
        assert tuple(row) == COLUMNS
        assert row["validation"] == pytest.approx(np.mean(losses))
        assert (row["lowest"], row["highest"]) == (min(losses), max(losses))
        assert row["seeds"] == 2
    assert "is ahead of" in found.conclusion


def test_a_frame_has_a_row_for_each_run(found):
    frame = found.to_frame()
    assert list(frame["cell"]) == [run.cell for run in found.runs]
    assert list(frame["validation"]) == [run.value for run in found.runs]


def test_the_same_seed_compares_the_same_and_torch_is_left_alone(found):
    import torch

    before = torch.get_rng_state()
    again = compare(
        generator(), opened_and_closed(), epochs=1.0, equal="parameters", seeds=1, progress=False,
        cells=("gru", "feedforward"),
    )  # fmt: skip
    assert torch.equal(torch.get_rng_state(), before)
    first = {run.cell: run.value for run in found.runs if run.seed == 0}
    assert {run.cell: run.value for run in again.runs} == {
        cell: first[cell] for cell in ("gru", "feedforward")
    }


def test_minutes_are_shared_evenly():
    found = compare(
        generator(), opened_and_closed(), minutes=0.07, seeds=1, progress=False, cells=("rnn", "lstm", "gru")
    )
    assert found.budget == pytest.approx(1.4)
    assert all(0.9 * 1.4 <= run.seconds < 3 for run in found.runs)
    assert {run.hidden_size for run in found.runs} == {24}  # sizes as given


def test_series_stand_beside_seasonal_naive():
    found = compare(
        elman.Forecaster(7, hidden_size=32, batch_size=64), a_table(), epochs=3, equal="parameters", seeds=1,
        progress=False, cells=("feedforward", "gru", "mingru"),
    )  # fmt: skip
    assert list(found.baseline) == ["seasonal naive"]
    assert all(run.value < 1.1 * found.baseline["seasonal naive"] for run in found.runs)
    weights = [run.parameters for run in found.runs]
    assert max(weights) < 1.05 * min(weights)


def test_the_naive_loss_is_its_own():
    from elman.series_fit import Windows, naive_loss
    from elman.series_model import SeriesConfig
    from elman.windows import Shape

    shape = Shape(4, 3, 1, (2,))
    windows = Windows(np.array([[1, 5, 1, 5]], np.float32), np.array([[2, 5, 4, 0.5]], np.float32))
    # 1, 5, 1 against 2, 5, 4: errors 1, 0, 3 at a scale of 2; and the rule made no error within the window.
    assert naive_loss(SeriesConfig(shape, (0.5,), "mae"), windows) == pytest.approx((0.5 + 0 + 1.5) / 3)
    assert naive_loss(SeriesConfig(shape, (0.1, 0.5, 0.9)), windows) == pytest.approx(2 / 3 / 2)
    assert naive_loss(SeriesConfig(shape, (0.5,), "student_t"), windows) is None
    moving = Windows(np.array([[1, 5, 3, 5]], np.float32), np.array([[3, 5, 3, 1.0]], np.float32))
    # Errors 2 and 0 within the window: the quantile 0.9 of the first season is 1.8 above, where nothing came.
    expected = (0.1 * 1.8 * (1 + 1 + 2**0.5) + 0 + 0.1 * (0 - 0.2) * -0) / 3
    low = 0.9 * 0.2 * (1 + 1 + 2**0.5) / 3  # the quantile 0.1 is 0.2 above as well
    assert naive_loss(SeriesConfig(shape, (0.1, 0.5, 0.9)), moving) == pytest.approx((expected + low) / 3)


def test_labels_are_read_once(monkeypatch):
    from elman.class_corpus import Corpus

    read, times = Corpus.read, []
    monkeypatch.setattr(Corpus, "read", lambda *given: times.append(1) or read(*given))
    words = "good fine great lovely", "bad poor awful dull"
    rng = np.random.default_rng(0)
    labels = [int(k) for k in rng.integers(2, size=200)]
    texts = [f"{rng.choice(words[k].split())} thing number {i % 7} {i}" for i, k in enumerate(labels)]
    found = compare(
        elman.TextClassifier(hidden_size=8, embedding_size=8, dropout=0.1, learning_rate=0.03), texts, y=labels,
        epochs=8, equal="parameters", seeds=1, progress=False, cells=("feedforward", "gru"),
    )  # fmt: skip
    assert times == [1]
    assert list(found.baseline) == ["TF-IDF + logistic regression"]
    assert all(run.value < 0.5 for run in found.runs)  # log 2 = 0.69 without learning


def test_ctrl_c_keeps_what_is_finished(monkeypatch):
    trained, count = comparison._trained, []

    def once(*given):
        count.append(1)
        if len(count) == 2:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        return trained(*given)

    monkeypatch.setattr(comparison, "_trained", once)
    found = compare(
        generator(), opened_and_closed(), minutes=0.1, seeds=2, progress=False, cells=("rnn", "gru")
    )
    assert found.stopped == "interrupted"
    assert [run.cell for run in found.runs] == ["rnn"]
    assert found.conclusion
    assert learning_curves(found)


def test_ctrl_c_before_anything_is_finished(monkeypatch):
    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "_trained", interrupted)
    with pytest.raises(KeyboardInterrupt, match="no run is finished"):
        compare(generator(), opened_and_closed(), minutes=1, progress=False)


def test_a_loss_that_becomes_nan_is_said_and_the_others_go_on():
    found = compare(
        generator(learning_rate=1e38), opened_and_closed(4_000), epochs=1, equal="parameters", seeds=1,
        progress=False, cells=("rnn", "gru"),
    )  # fmt: skip
    assert all(math.isnan(run.value) for run in found.runs)
    assert found.conclusion == "No model came of rnn, gru: the loss became NaN."
    assert "validation" not in found.as_dict()["table"]["rnn"]
    assert found.as_dict()["runs"][0]["value"] is None
    assert learning_curves(found)


def test_a_loss_that_becomes_nan_late_leaves_its_cell_without_that_seed(monkeypatch):
    from elman.training import SeededRun

    train, count = SeededRun.train, []

    def failing(*given, **how):
        count.append(1)
        return replace(train(*given, **how), stopped="nan" if len(count) == 1 else "finished")

    monkeypatch.setattr(SeededRun, "train", failing)
    found = compare(
        generator(), opened_and_closed(4_000), epochs=0.2, equal="parameters", seeds=1, progress=False,
        cells=("rnn", "gru"),
    )  # fmt: skip
    assert [math.isfinite(run.value) for run in found.runs] == [False, True]
    assert found.conclusion.startswith("No model came of rnn: the loss became NaN.")


def test_runs_without_a_finite_loss_are_left_out_of_means_and_picture():
    nan = replace(made().runs[0], seed=2, value=math.nan, items=0, steps=0, seconds=0.0)
    found = made(runs=(*made().runs, nan))
    assert found.table == made().table
    assert learning_curves(found) == learning_curves(made())
    assert "validation" not in made(runs=(nan,)).as_dict()["table"]["lstm"]
    assert learning_curves(made(runs=(nan,), baseline={}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, r"seeds must be a whole number, at least 1, not 0"),
        ({"cells": ("lstm",)}, r"needs two cells or more"),
        ({"cells": ("lstm", "lstm")}, r"needs two cells or more, each once"),
        ({"cells": ("lstm", "cnn")}, r"unknown cell 'cnn': choose among feedforward, rnn"),
        ({"cells": "lstm"}, r"needs two cells or more"),
        ({"equal": "size"}, r"equal must be time or parameters, not 'size'"),
        ({"epochs": 1}, r"epochs give all the same data, not the same time"),
        ({"minutes": 0.01}, r"0\.01 minutes are 0\.06 seconds for each of 10 runs"),
        ({"minutes": -1}, r"minutes must be above 0"),
        ({"minutes": 1, "epochs": 1, "equal": "parameters"}, r"give minutes or epochs, not both"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_read(options, message):
    with pytest.raises(ElmanError, match=message):
        compare(generator(), "nowhere.txt", **options)


def test_what_is_no_estimator_is_refused():
    with pytest.raises(ElmanError, match=r"give an elman\.TextGenerator, .* not str"):
        compare("text", "nowhere.txt", minutes=1)


def test_no_language_is_learned_first():
    with pytest.raises(ElmanError, match=r"pretrain: runs that are compared learn from labels alone"):
        compare(elman.TextClassifier(pretrain=True), "nowhere.csv", minutes=1)


@pytest.mark.parametrize("cell", ["mingru", "feedforward"])
def test_no_model_file_can_hold_the_cells_that_are_only_compared(cell):
    for made in (
        lambda: elman.TextGenerator(cell=cell),
        lambda: elman.Forecaster(7, cell=cell),
        lambda: elman.TextClassifier(cell=cell).fit(["a b", "c d"], [0, 1], minutes=1),
    ):
        with pytest.raises(
            ElmanError, match=rf"no model file can hold the cell '{cell}': choose one of lstm"
        ):
            made()


def test_the_mean_of_curves_is_over_what_all_of_them_reach():
    x, (middle, low, high) = mean_and_range([
        (np.array([0.0, 2.0]), np.array([2.0, 0.0])),
        (np.array([1.0, 3.0]), np.array([5.0, 3.0])),
    ])  # fmt: skip
    assert (x[0], x[-1]) == (1, 2)
    assert (middle[0], low[0], high[0]) == (3, 1, 5)
    assert (middle[-1], low[-1], high[-1]) == (2, 0, 4)


def made(**changes):
    def run(cell, seed, level):
        curve = tuple((10 * k, float(k), level + 1 / k) for k in range(1, 21))
        return Trained(cell, seed, level, 1000, 10, 50_000, 200, 20.0, curve)

    runs = (
        run("lstm", 0, 1.5),
        run("lstm", 1, 1.52),
        run("feedforward", 0, 1.8),
        run("feedforward", 1, 1.85),
    )
    given = {"runs": runs, "baseline": {"trigram": 2.0}, "by_time": True, "stopped": "finished"} | changes
    return Comparison("text", "nats per character", "chars", "time", budget=20.0, seen="the last 16", **given)


def test_a_picture_is_written_whole_and_is_the_same_each_time(tmp_path):
    made().plot(tmp_path / "a.png")
    made().plot(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert data == learning_curves(made())
    assert data != learning_curves(made(by_time=False))
    with pytest.raises(ElmanError, match=r"must end in \.png"):
        made().plot(tmp_path / "a.html")
    with pytest.raises(
        ElmanError, match=r"cannot write /proc/a\.png"
    ):  # root may write there, the system lets nobody
        made().plot("/proc/a.png")


def test_compare_and_its_result_are_elmans():
    assert elman.compare is compare
    assert elman.compare is compare  # and stays so
    assert elman.Comparison is Comparison
