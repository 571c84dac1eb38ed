"""A search for settings: trials that learn from those before, hopeless ones cut short, the best kept.

Knows trials and their losses; jobs are `experiment`'s, what is searched `search_space`'s, a study's file `study`'s.
Needs PyTorch and Optuna.
"""

import math
import os
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from elman import checkpoint
from elman.checkpoint import ModelFile
from elman.data import ElmanError
from elman.experiment import Task, carried_out, prepare
from elman.picture import check_picture
from elman.progress import Report
from elman.runs import check_budget
from elman.search_space import Choice, Space, search_space
from elman.study import check_study, fingerprint, locked, opened, require_optuna

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from elman.training import Check

TRIALS = 30
MINUTES = 1.0  # of a trial
ENOUGH = 10  # finished trials that tell how important settings are
EARLIEST = 0.25  # of its budget: before that no trial is cut short
LEFT_OVER = timedelta(days=1)  # a trial that has been running for longer was killed

How = Literal["finished", "pruned", "failed", "running"]
Path_ = str | os.PathLike[str]


@dataclass(frozen=True)
class Tried:
    """One trial. value: its validation loss, or the last that is known; None without any. failed: interrupted, or the
    loss became NaN."""

    number: int
    how: How
    value: float | None
    settings: dict[str, Any]
    validations: int


@dataclass(frozen=True)
class Tuned:
    """What a study knows: all its trials, also those of earlier and of other processes.

    unit: of the losses. searched: setting → its range. baseline: a simple rule's loss by name. importance: setting →
    share of what decides the loss, from 0 to 1; empty before 10 trials are finished. output: where the best model is;
    None where this call did not write it. stopped: "finished" or "interrupted".
    """

    job: str
    unit: str
    searched: dict[str, str]
    baseline: dict[str, float]
    trials: tuple[Tried, ...]
    importance: dict[str, float]
    study: str | None
    output: str | None
    stopped: Literal["finished", "interrupted"]

    @property
    def best(self) -> Tried:
        """The finished trial of the least loss. Raises ElmanError where none is finished."""
        finished = [trial for trial in self.trials if trial.how == "finished"]
        if not finished:
            raise ElmanError("no trial is finished yet: give more trials.")
        return min(finished, key=lambda trial: (trial.value, trial.number))

    def count(self, how: How) -> int:
        """How many trials ended so."""
        return sum(trial.how == how for trial in self.trials)

    def to_frame(self) -> Any:
        """A row for each trial, as a pandas frame: number, how, value, and each setting."""
        rows = [{"number": t.number, "how": t.how, "value": t.value, **t.settings} for t in self.trials]
        return import_module("pandas").DataFrame(rows)

    def plot(self, path: Path_) -> None:
        """Draw the trials in their order, and the importance of each setting, as a .png. Raises ElmanError where it
        cannot be written."""
        from elman.tuning_plot import history

        check_picture(path, (".png",))
        checkpoint.write_whole(path, history(self))

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        about = asdict(self) | {"trials": [asdict(trial) for trial in self.trials]}
        finished = self.count("finished")
        return about | {"best": asdict(self.best) if finished else None}


def tune(
    estimator: Any,
    source: Any,
    *,
    trials: int = TRIALS,
    minutes: float | None = None,
    epochs: float | None = None,
    study: Path_ | None = None,
    output: Path_ | None = None,
    fixed: Sequence[str] = (),
    progress: bool = True,
    **reading: Any,
) -> Tuned:
    """Search the settings of an untrained estimator with `trials` more trials of so many minutes (1 if no budget is
    given) or epochs each.

    The first trial of a study is the estimator as it is; then Optuna's TPE chooses, and a trial that is worse than the
    median of the others at the same place is cut short. study: a file that is made or continued, and that several
    processes can share; kept in memory when None. output: where the model of a trial goes that is better than all
    others of the study; a better one of the same data and budget that lies there is never replaced. fixed: settings
    that stay as the estimator has them. reading: what the estimator's `fit` takes to read its data. No language model
    is trained before labels.

    Ctrl-C ends it; what is finished is kept. Raises ElmanError for arguments that make no sense, a file that is no
    study, a study of other data or settings, and what `fit` raises for the data.
    """
    minutes = check_tuning(trials, minutes, epochs, study, output)
    report = Report(progress)
    task = prepare(estimator, source, report, **reading)
    space = search_space(task, minutes, epochs, fixed)
    measured = {"job": task.job, "minutes": minutes, "epochs": epochs} | task.identity
    identity = measured | _shared(task, space)
    search = _Search(
        task, space, minutes, epochs, fingerprint(measured), output, Report(progress, unit=task.items)
    )
    stopped: Literal["finished", "interrupted"] = "finished"
    seed = task.estimator.get_params()["seed"]
    with opened(study, identity, seed) as found:
        _begin(found, space, study)
        try:
            for _ in range(trials):
                search.one(found)
        except KeyboardInterrupt:
            stopped = "interrupted"
        return search.tuned(found, None if study is None else os.fspath(study), stopped)


def _begin(found: "Study", space: Space, path: Path_ | None) -> None:
    """The first trial of a study is the estimator as it is: once, though two processes may begin at the same time, and
    again where it failed."""
    own = {name: one.own for name, one in space.items()}
    with nullcontext() if path is None else locked(f"{os.fspath(path)}.first"):
        same = [t for t in found.get_trials(deepcopy=False) if t.system_attrs.get("fixed_params") == own]
        if all(map(_failed, same)):
            found.enqueue_trial(own)


def _failed(trial: "FrozenTrial") -> bool:
    """Whether a trial failed, or was killed long ago."""
    if trial.state.name != "RUNNING" or trial.datetime_start is None:
        return trial.state.name == "FAIL"
    return datetime.now() - trial.datetime_start > LEFT_OVER


def check_tuning(
    trials: int, minutes: float | None, epochs: float | None, study: Path_ | None, output: Path_ | None
) -> float | None:
    """The minutes of a trial. Raises ElmanError for what makes no sense or cannot be written."""
    if not isinstance(trials, int) or isinstance(trials, bool) or trials < 1:
        raise ElmanError(f"trials must be a whole number, at least 1, not {trials!r}.")
    check_budget(minutes, epochs, None, False)
    require_optuna()
    if output is not None:
        checkpoint.check_writable(output)
    if study is not None:
        check_study(study)
    return MINUTES if minutes is None and epochs is None else minutes


def _shared(task: Task, space: Space) -> dict[str, Any]:
    """What all trials of a study share, beside data and budget: what is searched, and the settings that are not."""
    settings = {name: value for name, value in task.estimator.get_params().items() if name not in space}
    plain = {
        name: value if isinstance(value, int | float | str | list | None) else str(value)
        for name, value in settings.items()
    }
    choices = {f"choices of {name}": one.options for name, one in space.items() if isinstance(one, Choice)}
    return {"searched": sorted(space)} | choices | plain


@dataclass
class _Search:
    """The trials of one call. mark: what a model's loss must share with another's to be compared."""

    task: Task
    space: Space
    minutes: float | None
    epochs: float | None
    mark: str
    output: Path_ | None
    report: Report

    def one(self, study: "Study") -> None:
        """One trial more. Raises KeyboardInterrupt where it is interrupted; whatever ends it, the study knows."""
        from optuna.trial import TrialState

        trial = study.ask()
        try:
            settings = {name: one.suggest(name, trial) for name, one in self.space.items()}
            value = self._train(study, trial, settings)
        except BaseException:
            study.tell(trial, state=TrialState.FAIL)
            raise
        if value is None:
            study.tell(trial, state=TrialState.PRUNED)
        elif math.isfinite(value):
            study.tell(trial, value)
        else:
            study.tell(trial, state=TrialState.FAIL)

    def _train(self, study: "Study", trial: "Trial", settings: Mapping[str, Any]) -> float | None:
        """The loss of a model with these settings; None where it was cut short, NaN where it failed."""
        models: deque[ModelFile] = deque(maxlen=1)
        run = self.task.run(settings, self.minutes, self.epochs, models.append)

        def watch(check: "Check") -> bool:
            trial.report(check.value, check.number)
            return check.share >= EARLIEST and bool(trial.should_prune())

        shown = ", ".join(f"{name} {_short(value)}" for name, value in settings.items())
        result = carried_out(run, self.report, watch)
        if result is None:
            self.report.line(f"trial {trial.number}: the loss became NaN. {shown}")
            return math.nan
        if result.stopped == "pruned":
            self.report.line(f"trial {trial.number}: cut short at {result.validation:.4g}. {shown}")
            return None
        best = self._keep(study, trial.number, result.validation, models[0])
        news = ", the best so far" if best else ""
        self.report.line(f"trial {trial.number}: {result.validation:.4g} {self.task.unit}{news}. {shown}")
        return result.validation

    def _keep(self, study: "Study", number: int, value: float, file: ModelFile) -> bool:
        """Writes the model if no trial of the study, whoever ran it, is as good, and no other of the same data and
        budget that lies there. Returns whether it is the best."""
        from optuna.trial import TrialState

        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        others = [trial.value for trial in finished if trial.value is not None]
        if not value < min(others, default=math.inf):
            return False
        if self.output is None:
            return True
        training = file.training | {"study": {"mark": self.mark, "trial": number, "value": value}}
        with locked(self.output):
            there = _kept(self.output)
            if there.get("mark") == self.mark and there["value"] <= value:
                return False
            checkpoint.save_file(self.output, replace(file, training=training))
        return True

    def tuned(self, study: "Study", path: str | None, stopped: Literal["finished", "interrupted"]) -> Tuned:
        """What the study knows now."""
        tried = tuple(_tried(trial) for trial in study.get_trials(deepcopy=False))
        searched = {name: str(one) for name, one in self.space.items()}
        baseline = dict([self.task.baseline] if self.task.baseline else ())
        found = Tuned(
            self.task.job, self.task.unit, searched, baseline, tried, _importance(study), path, None, stopped
        )
        if self.output is None or not found.count("finished"):
            return found
        best = {"mark": self.mark, "trial": found.best.number, "value": found.best.value}
        ours = _kept(self.output) == best
        return replace(found, output=os.fspath(self.output) if ours else None)


def _kept(path: Path_) -> dict[str, Any]:
    """Which trial the model at `path` is of; empty where it is of none."""
    if not Path(path).exists():
        return {}
    try:
        found: dict[str, Any] = checkpoint.load(path).training.get("study", {})
    except ElmanError:  # damaged: nothing worth keeping
        return {}
    return found


def _tried(trial: Any) -> Tried:
    hows: dict[str, How] = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
    seen = trial.intermediate_values
    value = trial.value if trial.value is not None else seen[max(seen)] if seen else None
    return Tried(trial.number, hows.get(trial.state.name, "running"), value, dict(trial.params), len(seen))


def _importance(study: "Study") -> dict[str, float]:
    """Optuna's PED-ANOVA (Watanabe et al., 2023): how much each setting tells good trials from others."""
    from optuna.importance import get_param_importances
    from optuna.trial import TrialState

    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < ENOUGH:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(get_param_importances(study))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
