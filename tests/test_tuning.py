"""Studies: what is searched, what is kept, who shares them, and what is refused."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

import elman
from elman import checkpoint
from elman.data import ElmanError
from elman.experiment import prepare
from elman.progress import Report
from elman.search_space import Choice, Range, search_space
from elman.training import Check
from elman.tuning import Tried, Tuned, _Search, tune
from elman.tuning_plot import history
from test_comparison import a_table, generator, opened_and_closed

pytestmark = pytest.mark.usefixtures("one_thread")

pytest.importorskip("optuna")
QUIET = Report(on=False)
FIXED = ("embedding_size", "chunk_length", "num_layers")


def tuned(trials=1, source=None, estimator=None, **options):
    given = {"epochs": 0.3, "progress": False, "fixed": FIXED} | options
    return tune(estimator or generator(), source or opened_and_closed(), trials=trials, **given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def found(folder):
    return tuned(11, study=folder / "a.study", output=folder / "a.elman")


def test_the_first_trial_is_the_estimator_as_it_is(found):
    own = generator().get_params()
    assert found.trials[0].settings == {
        name: own[name] if own[name] is not None else 0.0 for name in found.searched
    }
    assert not set(FIXED) & set(found.searched)


def test_the_best_is_better_than_the_first_and_its_model_is_kept(found, folder):
    assert found.best.value < found.trials[0].value - 0.02
    assert found.best.value == min(t.value for t in found.trials if t.how == "finished")
    model = elman.load(folder / "a.elman")
    assert found.output == str(folder / "a.elman")
    assert model.info["training"]["validation_loss"] == found.best.value
    for name in ("cell", "hidden_size"):
        assert model.info[name] == found.best.settings[name]
    assert model.generate("([{", length=20)


def test_every_setting_is_one_of_the_estimator_and_within_its_range(found):
    task = prepare(generator(), opened_and_closed(), QUIET)
    space = search_space(task, None, 0.3, FIXED)
    for trial in found.trials:
        elman.TextGenerator(**trial.settings)  # raises for any that is not
        for name, one in space.items():
            value = trial.settings[name]
            assert value in one.options if isinstance(one, Choice) else one.low <= value <= one.high


def test_hopeless_trials_are_cut_short(found):
    cut = [trial for trial in found.trials if trial.how == "pruned"]
    assert cut
    assert all(0 < trial.validations < 20 and trial.value > found.best.value for trial in cut)
    assert sum(trial.how == "finished" for trial in found.trials) > 5


def test_a_study_is_text_that_goes_on(found, folder):
    entries = [json.loads(line) for line in (folder / "a.study").read_text().splitlines()]
    assert all("op_code" in entry for entry in entries)
    more = tuned(1, study=folder / "a.study")
    assert len(more.trials) == len(found.trials) + 1
    assert more.trials[:-1] == found.trials
    assert more.best.value <= found.best.value


def test_the_same_seed_tries_the_same():
    first, again = tuned(3), tuned(3)
    assert [(t.settings, t.value) for t in first.trials] == [(t.settings, t.value) for t in again.trials]
    other = tuned(3, estimator=generator(seed=1))
    assert other.trials[1].settings != first.trials[1].settings


def test_importance_is_told_from_ten_trials_on():
    assert tuned(2).importance == {}
    found = tuned(20, epochs=0.05, fixed=[*FIXED, "dropout", "batch_size", "cell"])
    assert set(found.importance) == {"hidden_size", "learning_rate"}
    assert sum(found.importance.values()) == pytest.approx(1)


def test_a_better_model_of_the_same_study_is_never_replaced(folder, found):
    """Even by a call that does not know of it: a study of its own, on the same data."""
    path = folder / "kept.elman"
    file = checkpoint.load(folder / "a.elman")
    better = file.training | {"study": file.training["study"] | {"value": 0.1}}
    checkpoint.save_file(path, replace(file, training=better))
    before = path.read_bytes()
    assert tuned(1, output=path).output is None
    assert path.read_bytes() == before
    worse = file.training | {"study": file.training["study"] | {"value": 9.0}}
    checkpoint.save_file(path, replace(file, training=worse))
    assert tuned(1, output=path).output == str(path)
    assert checkpoint.load(path).training["study"]["value"] < 9


@pytest.mark.parametrize(
    "changed",
    [{"cell": "gru", "fixed": [*FIXED, "cell"]}, {"seed": 3}, {"hidden_size": 20}, {"averaging": 0.9}],
)
def test_a_better_model_of_the_same_data_stays_whatever_the_settings(folder, found, tmp_path, changed):
    fixed = changed.get("fixed", FIXED)
    estimator = generator(**{name: value for name, value in changed.items() if name != "fixed"})
    path, file = tmp_path / "kept.elman", checkpoint.load(folder / "a.elman")
    better = {**file.training, "study": {**file.training["study"], "trial": 0, "value": 0.1}}
    checkpoint.save_file(path, replace(file, training=better))
    before = path.read_bytes()
    assert tuned(1, estimator=estimator, fixed=fixed, output=path).output is None
    assert path.read_bytes() == before


def test_a_model_of_another_budget_is_replaced(folder, found, tmp_path):
    path = tmp_path / "a.elman"
    path.write_bytes((folder / "a.elman").read_bytes())
    assert tuned(1, epochs=0.2, output=path).output == str(path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_without_a_finite_loss_is_never_kept(tmp_path, folder, found, value):
    import optuna

    path = tmp_path / "a.elman"
    search = _Search(prepare(generator(), opened_and_closed(), QUIET), {}, None, 0.3, "mark", path, QUIET)
    assert not search._keep(optuna.create_study(), 0, value, checkpoint.load(folder / "a.elman"))
    assert not path.exists()


def trial_of(result, prunes=False):
    """(a search, a study, a trial of it) whose training is over at once with `result` of who watches."""
    import optuna

    run = SimpleNamespace(train=lambda report, watch: result(watch))
    task = SimpleNamespace(run=lambda *given: given[3]("model") or run, unit="nats")
    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    trial = study.ask()
    trial.should_prune = lambda: prunes
    return _Search(task, {}, None, 40.0, "mark", None, QUIET), study, trial


def test_a_loss_that_becomes_nan_late_is_a_failure():
    search, study, trial = trial_of(lambda watch: SimpleNamespace(stopped="nan", validation=0.5))
    assert math.isnan(search._train(study, trial, {}))


def test_no_trial_is_cut_short_before_a_quarter_of_its_budget():
    cut = []

    def forty_checks(watch):
        cut.extend(k for k in range(1, 41) if watch(Check(k, k / 40, k, float(k), 1.0)))
        return SimpleNamespace(stopped="pruned", validation=1.0)

    search, study, trial = trial_of(forty_checks, prunes=True)
    assert search._train(study, trial, {}) is None
    assert cut == [*range(10, 41)]
    assert study.trials[0].intermediate_values.keys() == {*range(1, 41)}


def untrained(monkeypatch, *values):
    """Trials are over at once: with a loss, or with the error that is to be raised."""
    values = iter(values)

    def train(*given):
        value = next(values)
        if isinstance(value, float):
            return value
        raise value

    monkeypatch.setattr(_Search, "_train", train)


def test_the_estimator_as_it_is_comes_again_where_it_was_interrupted(tmp_path, monkeypatch):
    untrained(monkeypatch, KeyboardInterrupt(), 1.0, 0.9, 0.8)
    study = tmp_path / "a.study"
    assert [trial.how for trial in tuned(1, study=study).trials] == ["failed"]
    tuned(2, study=study)
    first, again, *others = tuned(1, study=study).trials
    assert again.settings == first.settings
    assert first.settings not in [other.settings for other in others]


def test_a_first_trial_that_runs_elsewhere_is_not_tried_twice_unless_it_was_killed(monkeypatch):
    import optuna

    from elman import tuning

    study, space = optuna.create_study(), {"hidden_size": Range(8, 4, 16)}
    tuning._begin(study, space, None)
    study.ask()
    tuning._begin(study, space, None)
    assert [trial.state.name for trial in study.trials] == ["RUNNING"]
    monkeypatch.setattr(tuning, "LEFT_OVER", timedelta(0))
    tuning._begin(study, space, None)
    tuning._begin(study, space, None)
    assert [trial.state.name for trial in study.trials] == ["RUNNING", "WAITING"]


def test_a_study_of_other_choices_is_refused(tmp_path, monkeypatch):
    untrained(monkeypatch, 1.0)
    study = tmp_path / "a.study"
    tuned(1, study=study, estimator=generator(chunk_length=48), fixed=())
    with pytest.raises(
        ElmanError, match=r"choices of chunk_length was \[32, 64, 128, 48\], now \[32, 64, 128\]"
    ):
        tuned(1, study=study, fixed=())


def test_a_study_of_series_that_are_measured_otherwise_is_refused(tmp_path, monkeypatch):
    untrained(monkeypatch, 1.0)
    study, small = tmp_path / "a.study", {"hidden_size": 16, "batch_size": 64}
    how = {"trials": 1, "epochs": 1, "study": study, "progress": False}
    tune(elman.Forecaster(7, **small), a_table(4), **how)
    other = elman.Forecaster(7, **small, input_length=21)
    with pytest.raises(ElmanError, match=r"input_length was 14, now 21"):
        tune(other, a_table(4), **how)


def test_series_with_a_loss_of_nan_do_not_replace_the_best_model(tmp_path):
    path, small = tmp_path / "a.elman", {"hidden_size": 16, "batch_size": 64}
    how = {"trials": 1, "epochs": 0.2, "output": path, "progress": False}
    tune(elman.Forecaster(7, **small), a_table(4), **how)
    before = path.read_bytes()
    found = tune(elman.Forecaster(7, **small, learning_rate=1e38), a_table(4), **how)
    assert [trial.how for trial in found.trials] == ["failed"]
    assert path.read_bytes() == before


def test_a_worse_trial_does_not_write_where_the_study_has_a_better(folder, found):
    more = tuned(1, study=folder / "a.study", output=folder / "late.elman")
    if more.best.number < len(more.trials) - 1:
        assert not (folder / "late.elman").exists()
        assert more.output is None


def test_two_processes_share_a_study(tmp_path):
    text = tmp_path / "brackets.txt"
    text.write_text(opened_and_closed(4_000))
    study, model = tmp_path / "both.study", tmp_path / "best.elman"
    command = [
        *(sys.executable, "-m", "elman", "tune", "text", text, "--trials", "3", "--epochs", "0.5", "--json"),
        *("--hidden-size", "16", "--layers", "1", "--study", study, "-o", model),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    found = [json.loads(out)["trials"] for out, _ in outputs]
    trials = max(found, key=lambda one: sum(trial["how"] != "running" for trial in one))  # of who ended last
    assert [trial["number"] for trial in trials] == list(range(6))
    drawn = [json.dumps(trial["settings"]) for trial in trials]
    assert len(set(drawn)) == 6
    best = min(trial["value"] for trial in trials if trial["how"] == "finished")
    assert elman.load(model).info["training"]["validation_loss"] == best
    assert not list(tmp_path.glob("*.lock"))


def test_series_are_measured_alike_however_much_is_read():
    estimator = elman.Forecaster(7, hidden_size=16, batch_size=64)
    task = prepare(estimator, a_table(4), QUIET)
    space = search_space(task, None, 1.0)
    read = space["input_length"]
    assert isinstance(read, Range)
    short, own, long = (
        task.run({"input_length": n}, None, 1.0).validation.targets for n in (read.low, read.own, read.high)
    )
    assert read.low <= read.own < read.high
    assert (short == own).all()
    assert (long == own).all()


def test_series_are_tuned(tmp_path):
    found = tune(
        elman.Forecaster(7, hidden_size=16, batch_size=64), a_table(4), trials=2, epochs=0.5, progress=False,
        output=tmp_path / "a.elman", val_size=14,
    )  # fmt: skip
    assert {"cell", "hidden_size", "input_length", "learning_rate"} <= set(found.searched)
    assert len(elman.load(tmp_path / "a.elman").predict(a_table(4))) == 28


def test_labels_are_tuned(tmp_path):
    texts = [f"{word} thing {i}" for i in range(60) for word in ("good", "bad")]
    found = tune(
        elman.TextClassifier(hidden_size=8, embedding_size=8), texts, y=["+", "-"] * 60, trials=2, epochs=2,
        progress=False, output=tmp_path / "a.elman", fixed=("pooling",),
    )  # fmt: skip
    assert {"bidirectional", "dropout", "word_dropout", "batch_size"} <= set(found.searched)
    assert "pooling" not in found.searched
    assert elman.load(tmp_path / "a.elman").predict(["a good thing"]) in (["+"], ["-"])


def test_ctrl_c_keeps_what_is_finished(tmp_path, monkeypatch):
    from elman import tuning

    one, count = tuning._Search.one, []

    def watched(*given):
        count.append(1)
        if len(count) == 3:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        return one(*given)

    monkeypatch.setattr(tuning._Search, "one", watched)
    found = tuned(9, epochs=None, minutes=0.03, study=tmp_path / "a.study", output=tmp_path / "a.elman")
    assert found.stopped == "interrupted"
    assert [trial.how for trial in found.trials] == ["finished", "finished", "failed"]
    assert (tmp_path / "a.elman").exists()


def test_a_loss_that_becomes_nan_is_a_failed_trial():
    found = tuned(1, estimator=generator(learning_rate=1e38), fixed=[*FIXED, "learning_rate"])
    assert [trial.how for trial in found.trials] == ["failed"]
    with pytest.raises(ElmanError, match=r"no trial is finished yet"):
        _ = found.best
    assert found.as_dict()["best"] is None
    json.dumps(found.as_dict())


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, r"trials must be a whole number, at least 1, not 0"),
        ({"trials": 1.5}, r"trials must be a whole number"),
        ({"minutes": -1, "epochs": None}, r"minutes must be above 0"),
        ({"minutes": 1}, r"give minutes or epochs, not both"),
        ({"study": "nowhere/a.study"}, r"no directory .*nowhere"),
        ({"output": "nowhere/a.elman"}, r"no directory .*nowhere"),
        ({"study": "."}, r"\. is a directory"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_read(options, message):
    with pytest.raises(ElmanError, match=message):
        tuned(**({"trials": 1, "source": "nowhere.txt"} | options))


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        (["width"], r"fixed has 'width', which is no setting: they are .*hidden_size"),
        ([*generator().get_params()], r"every setting is fixed: there is nothing to search"),
    ],
)
def test_bad_settings_are_refused(fixed, message):
    with pytest.raises(ElmanError, match=message):
        tuned(fixed=fixed)


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"\x80\x04\x95", b"[1]\n", b'{"op": 1}\n'])
def test_a_file_that_is_no_study_is_left_alone(tmp_path, content):
    path = tmp_path / "a.study"
    path.write_bytes(content)
    with pytest.raises(ElmanError, match=r"a\.study is no study: give the file of an earlier elman tune"):
        tuned(study=path)
    assert path.read_bytes() == content


def test_a_damaged_study_is_refused(tmp_path, found, folder):
    path = tmp_path / "a.study"
    lines = (folder / "a.study").read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]) + b"{broken\n" + b"".join(lines[5:]))
    with pytest.raises(ElmanError, match=r"a\.study is damaged: line 6 is no entry\. Delete that line"):
        tuned(study=path)


def test_a_study_whose_beginning_is_gone_is_refused(tmp_path, found, folder):
    lines = (folder / "a.study").read_bytes().splitlines(keepends=True)
    (tmp_path / "a.study").write_bytes(b"".join(lines[3:]))
    with pytest.raises(ElmanError, match=r"a\.study is damaged: its entries do not fit together"):
        tuned(study=tmp_path / "a.study")


def test_a_study_of_something_else_is_refused(tmp_path):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    path = str(tmp_path / "a.study")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna.create_study(storage=optuna.storages.JournalStorage(JournalFileBackend(path)), study_name="other")
    with pytest.raises(ElmanError, match=r"is a study of something else, other"):
        tuned(study=path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": opened_and_closed(19_000)}, r"characters was 20000, now 19000; checksum of the text"),
        ({"epochs": 0.4}, r"other data or settings.*: epochs was 0\.3, now 0\.4"),
        ({"estimator": generator(seed=3)}, r"seed was 0, now 3"),
        ({"fixed": ["chunk_length"]}, r"searched was \[.*now \["),
    ],
)
def test_a_study_of_other_data_is_refused(found, folder, options, message):
    before = (folder / "a.study").read_bytes()
    with pytest.raises(ElmanError, match=message):
        tuned(study=folder / "a.study", **options)
    assert (folder / "a.study").read_bytes() == before


# What is shown


def made(trials, importance=None):
    return Tuned(
        "text",
        "nats per character",
        {"cell": "lstm"},
        {"trigram": 2.0},
        trials,
        importance or {},
        None,
        None,
        "finished",
    )


def test_a_picture_of_trials_and_importance(tmp_path):
    trials = tuple(
        Tried(k, "pruned" if k % 4 == 3 else "finished", 2 - 0.05 * k + 0.3 * (k % 3), {"cell": "lstm"}, 20)
        for k in range(12)
    )
    plain, whole = history(made(trials)), history(made(trials, {"cell": 0.7, "dropout": 0.3}))
    assert plain != whole
    made(trials).plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == plain
    assert history(made(())).startswith(b"\x89PNG")
    with pytest.raises(ElmanError, match=r"must end in \.png"):
        made(trials).plot(tmp_path / "a.svg")


def test_a_frame_has_a_row_for_each_trial(found):
    frame = found.to_frame()
    assert list(frame["number"]) == [trial.number for trial in found.trials]
    assert frame.loc[frame["how"] == "finished", "value"].min() == found.best.value
    assert set(found.searched) < set(frame.columns)


def test_tune_and_its_result_are_elmans():
    assert elman.tune is tune
    assert elman.tune is tune  # and stays so
    assert elman.Tuned is Tuned
