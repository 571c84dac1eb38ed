"""The training engine with a job of its own: schedule, validation, averages, logs, NaN, resume files."""

import csv
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from elman.data import ElmanError
from elman.progress import Report, Snapshot, clock
from elman.resume import ResumeIO, check_resumable, pack, unpack
from elman.schedule import Budget, Settings
from elman.trainer import make_trainer
from elman.training import Check, Job, NothingLearned, Resume, SeededRun, Training, alike, train
from elman.validation import Average, Validation

BATCH = 16


class Line(nn.Module):
    """y = a x + b, with a state that counts its calls since the last reset."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.states: list[int] = []

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        state = torch.zeros(1) if state is None else state
        if self.training:
            self.states.append(int(state.item()))
        return self.linear(x) + 0.0 * state, state + 1 + 0.0 * self.linear.bias.nan_to_num()


class Points:
    """Points on y = 2 x + 1, BATCH of them a step."""

    steps_per_epoch = 10

    def __init__(self, poison: int | None = None, pause: float = 0.0) -> None:
        self.poison, self.pause = poison, pause

    def iterate(self, start: int = 0) -> Iterator[Any]:
        step = start
        while True:
            x = np.random.default_rng(step).normal(size=(BATCH, 1)).astype(np.float32)
            y = 2 * x + 1 if step != self.poison else x * np.float32(np.nan)
            time.sleep(self.pause)
            yield SimpleNamespace(inputs=x, targets=y, first=step % 10 == 0)
            step += 1


def measure(model: nn.Module, items: int | None) -> Iterator[tuple[float, int]]:
    x = torch.linspace(-1, 1, 50)[:, None]
    for part in x.split(10):
        yield float(((model(part)[0] - 2 * part - 1) ** 2).sum()), len(part)


def job(model: nn.Module | None = None, **points: Any) -> Job:
    return Job(model or Line(), nn.functional.mse_loss, Points(**points), measure, 50)


SETTINGS = Settings(0.05, epochs=20, averaging=0.9)


def test_learns_and_keeps_the_best() -> None:
    torch.manual_seed(0)
    result = train(job(), SETTINGS)
    assert result.stopped == "finished"
    assert (result.steps, result.items) == (200, 200 * BATCH)
    assert result.validation < 0.01
    assert result.validation_items == 50
    values = [value for _, _, value in result.history]
    assert len(values) >= 20
    assert min(values) == pytest.approx(result.validation)
    assert result.weights["linear.weight"] == pytest.approx(2, abs=0.2)


def test_the_same_seed_trains_the_same() -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(train(job(), SETTINGS).weights["linear.weight"])
    assert weights[0] == weights[1]


def test_state_is_carried_detached_and_reset_at_the_epoch() -> None:
    model = Line()
    train(job(model), Settings(0.01, epochs=3))
    assert model.states == [*range(10)] * 3


def test_rate_warms_up_and_decays_to_zero() -> None:
    for schedule in ("cosine", "linear"):
        settings = Settings(0.1, epochs=1, warmup=0.1, schedule=schedule)  # type: ignore[arg-type]
        rates = [settings.rate(progress / 1000) for progress in range(1001)]
        assert 0 < rates[0] < 0.002
        assert max(rates) == pytest.approx(0.1)
        assert np.argmax(rates) == 100
        assert np.all(np.diff(rates[100:]) <= 0)
        assert rates[-1] == pytest.approx(0, abs=1e-12)
        assert settings.rate(1.5) == pytest.approx(0, abs=1e-12)


def test_minutes_are_kept_and_the_schedule_ends_with_them() -> None:
    rates: list[float] = []

    class Spy(Report):
        def due(self) -> bool:
            rates.append(training[0].optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
            return False

    training: list[Training] = []
    original = Training.on_train_start

    def remember(self: Training) -> None:
        training.append(self)
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "on_train_start", remember)
        begun = time.monotonic()
        result = train(job(pause=0.001), Settings(0.05, minutes=2 / 60), Spy(on=False))
    assert 1.5 < result.seconds < 2.5
    assert time.monotonic() - begun < 3.5
    assert max(rates) > 0.045
    assert rates[-1] < 0.005


def test_budget_counts_earlier_seconds_and_whole_epochs() -> None:
    budget = Budget(Settings(0.1, minutes=1), 10)
    budget.before = 30
    assert budget.progress(0) == pytest.approx(0.5, abs=0.01)
    budget.reserve = 3
    assert budget.progress(0) == pytest.approx(30 / 57, abs=0.01)
    assert budget.left(0) == pytest.approx(30, abs=0.1)
    assert Budget(Settings(0.1, epochs=2.5), 10).progress(25) == 1
    assert Budget(Settings(0.1, minutes=200), 10).checks == 40


def test_nan_stops_with_the_best_model() -> None:
    result = train(job(poison=100), SETTINGS)
    assert result.stopped == "nan"
    assert 100 < result.steps <= 109
    assert math.isfinite(result.validation)
    assert np.isfinite(result.weights["linear.weight"]).all()


def test_nan_before_any_model_is_an_error() -> None:
    with pytest.raises(ElmanError, match="learning rate"):
        train(job(poison=0), Settings(0.05, epochs=200))


def test_nan_in_the_last_steps_of_a_short_run_is_noticed() -> None:
    result = train(replace(job(poison=5), tolerance=0.05), Settings(0.05, epochs=0.6))
    assert (result.stopped, result.steps) == ("nan", 6)
    assert math.isfinite(result.validation)
    assert np.isfinite(result.weights["linear.weight"]).all()


def test_an_update_that_ruins_the_weights_leaves_no_model() -> None:
    with pytest.raises(NothingLearned, match="learning rate"):
        train(replace(job(), tolerance=0.05), Settings(1e38, epochs=0.1, averaging=0, warmup=0))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("tolerance", [0.0, 0.05])
def test_weights_whose_loss_is_not_finite_are_never_the_best(value: float, tolerance: float) -> None:
    values = iter([value, 1.0, value])

    def some(model: nn.Module, items: int | None) -> Iterator[tuple[float, int]]:
        yield next(values), 1

    validation = Validation(Line(), some, 50, None, tolerance)
    assert [validation.check(step, 1_000, 0.1, lambda: False) for step in range(3)] == [False, True, False]
    assert (validation.best_step, validation.best_value) == (1, 1.0)
    assert validation.history == [(1, 0.1, 1.0)]


def test_training_is_on_the_cpu_even_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert make_trainer(ResumeIO({}), None).strategy.root_device == torch.device("cpu")


def test_a_job_says_how_many_items_its_targets_are() -> None:
    assert train(replace(job(), count=lambda targets: 2), Settings(0.05, epochs=0.1)).items == 2


def test_average_is_of_recent_weights_and_leaves_the_model() -> None:
    model = Line()
    average = Average(model, 0.5)
    before = model.linear.weight.item()
    with torch.no_grad():
        model.linear.weight += 1
    average.update(0)  # early: (1 + 0) / (10 + 0) of the old
    expected = 0.1 * before + 0.9 * (before + 1)
    with average.in_place():
        assert model.linear.weight.item() == pytest.approx(expected)
    assert model.linear.weight.item() == pytest.approx(before + 1)
    average.update(1_000)
    assert average.weights[0].item() == pytest.approx((expected + before + 1) / 2)


def test_validation_keeps_the_average_where_it_is_better() -> None:
    model = Line()
    with torch.no_grad():
        model.linear.weight.fill_(2.0)
        model.linear.bias.fill_(1.0)
    average = Average(model, 0.99)
    with torch.no_grad():
        model.linear.weight.fill_(5.0)
    validation = Validation(model, measure, 50, average)
    assert validation.check(1, 1_000, 0.1, lambda: False)
    assert validation.best is not None
    assert validation.best["linear.weight"].item() == 2.0
    assert model.linear.weight.item() == 5.0
    assert not validation.check(2, 1_000, 0.1, lambda: True)  # interrupted: nothing changes
    assert validation.best_step == 1


def test_memorising_is_noticed_once() -> None:
    values = iter([1.0, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4])

    def worse(model: nn.Module, items: int | None) -> Iterator[tuple[float, int]]:
        yield next(values), 1

    validation = Validation(Line(), worse, 50, None)
    seen = []
    for step in range(7):
        validation.check(step, 1_000, 1.0 - 0.1 * step, lambda: False)
        seen.append(validation.memorises())
    assert seen == [False, False, False, False, True, False, False]
    assert validation.best_value == 0.9


def test_pack_round_trips_what_a_checkpoint_holds() -> None:
    value = {
        "a": [1, 2.5, None, True, "x", float("inf")],
        3: (torch.tensor(2.0), {"nested": torch.arange(3)}),
        "b": torch.zeros(0),
    }
    tensors: dict[str, Any] = {}
    back = unpack(json.loads(json.dumps(pack(value, tensors))), tensors)
    assert back["a"] == value["a"]
    assert isinstance(back[3], tuple)
    assert back[3][0].shape == ()
    torch.testing.assert_close(back[3][1]["nested"], torch.arange(3))
    with pytest.raises(TypeError):
        pack(object(), {})


def test_resume_file_of_another_run_or_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.resume"
    with pytest.raises(ElmanError, match="nothing to resume"):
        check_resumable(path, {})
    ResumeIO({"hidden_size": 8, "seed": 0}).save_checkpoint({"a": torch.ones(2)}, path)
    check_resumable(path, {"hidden_size": 8, "seed": 0})
    with pytest.raises(ElmanError, match="hidden_size was 8, now 16"):
        check_resumable(path, {"hidden_size": 16, "seed": 0})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ElmanError, match="damaged"):
        check_resumable(path, {"hidden_size": 8, "seed": 0})


def test_a_resume_file_of_an_older_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.resume"
    with monkeypatch.context() as older:
        older.setattr("elman.resume._KEY", "elman.resume")
        ResumeIO({}).save_checkpoint({}, path)
    with pytest.raises(ElmanError, match="is no resume file of this version of elman"):
        check_resumable(path, {})


def test_a_resumed_run_knows_when_it_validated_and_what_to_reserve() -> None:
    first, again = (Training(job(), Settings(0.1, minutes=1), Report(on=False)) for _ in range(2))
    first.checked_at, first.check_seconds, first.budget.reserve = 20.0, 3.0, 4.0
    saved: dict[str, Any] = {}
    first.on_save_checkpoint(saved)
    again.on_load_checkpoint(saved)
    assert (again.checked_at, again.check_seconds, again.budget.reserve) == (20.0, 3.0, 4.0)


def test_csv_log_has_the_curves(tmp_path: Path) -> None:
    train(job(), SETTINGS, log="csv", log_path=tmp_path / "x.log")
    with open(tmp_path / "x.log" / "version_0" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["validation"]) for row in rows) >= 20
    assert {"step", "loss", "learning_rate", "rate"} <= set(rows[0])


def test_tensorboard_log_is_written_or_named_when_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("tensorboard")

    monkeypatch.setattr("elman.trainer.TensorBoardLogger", missing)
    with pytest.raises(ElmanError, match="pip install tensorboard"):
        train(job(), SETTINGS, log="tensorboard", log_path=tmp_path / "x.log")


def test_best_is_reported_and_the_resume_file_is_gone_at_the_end(tmp_path: Path) -> None:
    bests = []
    resume = Resume(tmp_path / "x.resume", {}, every=0.0)
    train(job(), SETTINGS, resume=resume, on_best=lambda result: bests.append(result.validation))
    assert bests == sorted(bests, reverse=True)
    assert list(tmp_path.iterdir()) == []


def test_the_resume_file_outlives_a_final_model_that_cannot_be_written(tmp_path: Path) -> None:
    @dataclass
    class Run(SeededRun):
        settings: Settings
        seed: int = 0
        keep: Any = None

        def _job(self) -> Job:
            return job()

        def model_file(self, result: Any) -> Any:
            return result

    def keep(result: Any) -> None:
        if result.stopped == "finished":
            raise OSError("no space left")

    resume = Resume(tmp_path / "x.resume", {}, every=0.0)
    with pytest.raises(OSError, match="no space left"):
        Run(Settings(0.05, epochs=1), keep=keep).train(Report(on=False), resume)
    assert resume.path.exists()


def test_plain_report_prints_lines_on_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    with Report() as report:
        report.line("reading")
        report.show(Snapshot(0.5, 1.5, None, 12_345.6, 61))
        assert not report.due()
    with Report(on=False) as report:
        report.line("nothing")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "reading\n 50%  loss 1.500  12,346 chars/s  1:01 left\n"
    assert clock(3_725) == "1:02:05"


# Runs that are watched


def test_a_watched_run_shows_every_validation() -> None:
    seen: list[Check] = []
    result = train(job(), SETTINGS, watch=lambda check: bool(seen.append(check)))
    assert [check.number for check in seen] == list(range(1, 21))
    assert [(check.step, check.value) for check in seen] == [
        (step, value) for step, _, value in result.history
    ]
    assert [check.seconds for check in seen] == sorted(check.seconds for check in seen)
    assert result.stopped == "finished"


def test_a_watched_run_ends_where_it_is_told_to() -> None:
    result = train(job(), SETTINGS, watch=lambda check: check.number == 6)
    assert result.stopped == "pruned"
    assert (len(result.history), result.steps) == (6, 60)
    assert result.validation == min(value for _, _, value in result.history)
    told_last = train(job(), SETTINGS, watch=lambda check: check.number == 20)
    assert told_last.stopped == "finished"


def test_watched_runs_are_measured_on_the_same_items_however_fast_they_are() -> None:
    asked: list[list[int | None]] = []

    def counting(model: nn.Module, items: int | None) -> Iterator[tuple[float, int]]:
        asked[-1].append(items)
        yield from measure(model, items)

    for pause in (0.0, 0.01):
        asked.append([])
        one = Job(Line(), nn.functional.mse_loss, Points(pause=pause), counting, 1_000, least=3)
        train(one, SETTINGS, watch=lambda check: False)
    assert asked[0] == asked[1] == [15] * 40 + [300]


def test_more_budget_is_measured_on_more_but_not_on_all() -> None:
    def items(minutes: float, whole: int) -> int:
        return alike(
            Job(Line(), nn.functional.mse_loss, Points(), measure, whole, least=100), Settings(0.1, minutes)
        )

    assert [items(minutes, 100_000) for minutes in (0.1, 1, 4, 60)] == [100, 500, 2_000, 5_000]
    assert [items(60, whole) for whole in (50, 400, 2_000)] == [50, 100, 400]


def test_a_run_without_a_model_says_how_it_ended() -> None:
    with pytest.raises(NothingLearned) as raised:
        train(job(poison=0), SETTINGS)
    assert raised.value.stopped == "nan"


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes in sleep alone, and at once."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])


def slow(seconds: float) -> Job:
    """A job whose steps take 0.1 s and whose validation takes so long."""

    def measure_slowly(model: nn.Module, items: int | None) -> Iterator[tuple[float, int]]:
        time.sleep(seconds)
        yield from measure(model, items)

    return replace(job(pause=0.1), measure=measure_slowly)


@pytest.mark.parametrize(
    ("seconds", "places"),
    [(0.01, [*range(1, 21)]), (0.5, [1, 4, 7, 10, 13, 16, 19, 20]), (3.5, [1, 18, 20])],
)
def test_a_watched_run_validates_for_a_tenth_of_its_minutes_at_most(
    no_waiting: None, seconds: float, places: list[int]
) -> None:
    seen: list[Check] = []
    settings = Settings(0.05, minutes=50 / 60, averaging=0)
    result = train(slow(seconds), settings, watch=lambda check: bool(seen.append(check)))
    assert [check.number for check in seen] == places
    assert [check.share for check in seen] == [place / 20 for place in places]
    for check in seen[:-1]:  # the budget ends a little earlier than the minutes
        assert check.share == pytest.approx((check.seconds - seconds) / 50, abs=0.1)
    assert result.steps > 350


# Ctrl-C at the end


def interrupting(at: Callable[[int], bool]) -> Job:
    """Its job gets Ctrl-C in the measures that `at` tells by their number, from 1 on."""
    count = [0]

    def measure_and_stop(model: nn.Module, items: int | None) -> Iterator[tuple[float, int]]:
        count[0] += 1
        for part in measure(model, items):
            if at(count[0]):
                signal.raise_signal(signal.SIGINT)
                count[0] += 1_000
            yield part

    return replace(job(), measure=measure_and_stop)


PLAIN = Settings(0.05, epochs=2, averaging=0)  # 20 steps, a measure at each; then the final one


@pytest.mark.parametrize("number", [20, 21])
def test_ctrl_c_in_the_last_measures_is_an_interruption(number: int) -> None:
    seen: list[Check] = []
    result = train(interrupting(lambda k: k == number), PLAIN, watch=lambda check: bool(seen.append(check)))
    assert (result.stopped, result.steps) == ("interrupted", 20)
    assert len(seen) == number - 1


def test_a_check_that_ctrl_c_ends_cuts_nothing_short() -> None:
    seen: list[Check] = []

    def watch(check: Check) -> bool:
        seen.append(check)
        return check.number >= 5

    result = train(interrupting(lambda k: k == 5), PLAIN, watch=watch)
    assert result.stopped == "interrupted"
    assert [check.number for check in seen] == [1, 2, 3, 4]


def test_ctrl_c_wins_over_being_cut_short() -> None:
    def watch(check: Check) -> bool:
        signal.raise_signal(signal.SIGINT)
        return True

    assert train(job(), PLAIN, watch=watch).stopped == "interrupted"


def test_a_check_without_a_finite_loss_is_not_shown_to_who_watches() -> None:
    count = [0]

    def measure_once(model: nn.Module, items: int | None) -> Iterator[tuple[float, int]]:
        count[0] += 1
        yield (math.nan if count[0] == 3 else 1.0 / count[0]), 1

    seen: list[Check] = []
    train(replace(job(), measure=measure_once), PLAIN, watch=lambda check: bool(seen.append(check)))
    assert [check.number for check in seen] == [1, 2, *range(4, 21)]
