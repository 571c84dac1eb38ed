"""The training loop of every job, on Lightning's Trainer.

A job declares its model, loss, batches and measure; this file runs them to the end of a budget and hands back
the best weights. It does not know what the batches mean.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from elman.checkpoint import ModelFile
from elman.data import ElmanError
from elman.progress import Report, Snapshot
from elman.resume import ResumeIO, check_resumable
from elman.schedule import Budget, Settings
from elman.trainer import interruptible, make_logger, make_trainer, quiet, stop_on_signals
from elman.validation import CHEAPER, FINAL_SHARE, LEAST, Average, Measure, Validation

MOST = 0.1  # of the time for validations, where `validation.LEAST` items or the job's least would take more
GRACE = 0.25  # seconds that the last validation may take after Ctrl-C
LOGGED = 200  # points of a training curve
LOG = Path("elman.log")

FINAL_ALIKE = 100  # times `least`: validation items of the measure at the end, where runs are compared

Stopped = Literal["finished", "interrupted", "nan", "pruned"]


class Batch(Protocol):
    """One step's data. `first`: the carried state starts from zero."""

    @property
    def inputs(self) -> npt.NDArray[Any]: ...
    @property
    def targets(self) -> npt.NDArray[Any]: ...
    @property
    def first(self) -> bool: ...


class Batches(Protocol):
    """Training data: endless batches from a global step on, always the same for the same step."""

    steps_per_epoch: int

    def iterate(self, start: int = 0) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Job:
    """What one kind of training declares.

    model(inputs, state) returns outputs and the next state; loss(outputs, targets) is a mean over the
    targets. measure(model, items) yields (sum of losses, count) over the first `items` of validation_items.
    tolerance, least: as `Validation` has them. count: how many items a step's targets are.
    """

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    batches: Batches
    measure: Measure
    validation_items: int
    tolerance: float = 0.0
    least: int = LEAST
    count: Callable[[Tensor], int] = Tensor.numel


@dataclass(frozen=True)
class Resume:
    """Where a run is saved every so many seconds.

    `go_on`: continue what is there. `run` says which run it is.
    """

    path: Path
    run: dict[str, Any]
    go_on: bool = False
    every: float = 30.0


@dataclass(frozen=True)
class Result:
    """The best weights by validation loss, and what happened. Losses are means per item."""

    weights: dict[str, npt.NDArray[np.float32]]
    stopped: Stopped
    validation: float
    validation_items: int
    loss: float
    steps: int
    best_step: int
    items: int
    seconds: float
    history: list[tuple[int, float, float]]  # step, training loss since the last check, validation loss

    def figures(self, settings: Settings) -> dict[str, Any]:
        """What every job's model file says of its training, JSON-able."""
        return {
            "minutes": settings.minutes,
            "epochs": settings.epochs,
            "stopped": self.stopped,
            "seconds": round(self.seconds, 1),
            "steps": self.steps,
            "best_step": self.best_step,
            "training_loss": _finite(self.loss),
            "validation_loss": self.validation,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "curve": [[step, _finite(loss), value] for step, loss, value in self.history],
        }


def alike(job: Job, settings: Settings) -> int:
    """Validation items of each check where runs are compared: by budget and data, whatever the speed of a model."""
    times = 5 if settings.minutes is None else round(max(1, min(50, 5 * settings.minutes)))
    return min(job.validation_items, max(job.least, min(times * job.least, job.validation_items // 5)))


@dataclass(frozen=True)
class Check:
    """One validation of a run: at which of its places, 20 or more in a long one, and at which share of the budget; the
    steps and seconds of training before it, and its loss."""

    number: int
    share: float
    step: int
    seconds: float
    value: float


class NothingLearned(ElmanError):
    """A run that ended without a model."""

    def __init__(self, stopped: "Stopped") -> None:
        super().__init__(_NO_MODEL[stopped == "nan"])
        self.stopped = stopped


OnBest = Callable[[Result], None]
Watch = Callable[[Check], bool]  # whether the run is to end there
LogKind = Literal["csv", "tensorboard"] | None


class Training(pl.LightningModule):
    """A job under training: one step after another, validation at intervals, and the stop."""

    _COUNTERS = (
        "steps", "items", "checked", "checked_at", "check_seconds", "checked_steps", "checked_items", "loss",
    )  # fmt: skip

    def __init__(
        self,
        job: Job,
        settings: Settings,
        report: Report,
        resume: Resume | None = None,
        on_best: OnBest | None = None,
        watch: Watch | None = None,
    ) -> None:
        super().__init__()
        # Manual: a step costs half of what Lightning's own optimisation loop costs.
        self.automatic_optimization = False
        self.model, self.job, self.settings = job.model, job, settings
        self.report, self.resume, self.on_best, self.watch = report, resume, on_best, watch
        self.budget = Budget(settings, job.batches.steps_per_epoch)
        self.average = Average(job.model, settings.averaging) if settings.averaging > 0 else None
        self.validation = Validation(
            job.model, job.measure, job.validation_items, self.average, job.tolerance, job.least
        )
        if watch is not None:
            self.validation.part = alike(job, settings)
        self.stopped: Stopped | None = None
        self.interrupted = False
        self.steps = self.items = 0
        # The last validation: at which place, when, how long it took; and the steps and items before it.
        self.checked = self.checked_steps = self.checked_items = 0
        self.checked_at = self.check_seconds = 0.0
        self.loss = math.nan  # mean training loss before the last validation
        self.final: tuple[float, int] | None = None
        self.carried: Any = None
        self.loss_sum = torch.zeros(())  # since the last validation
        self._recent: Tensor | None = None
        self._rng: Tensor | None = None
        self._session = (0, 0.0)  # items and seconds when this process began
        self._next_save = 0.0
        self._logged = 0

    # What Lightning calls

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW, with weight decay on matrices only (Loshchilov and Hutter 2019)."""
        s, parameters = self.settings, list(self.model.parameters())
        matrices = {"params": [p for p in parameters if p.dim() > 1], "weight_decay": s.weight_decay}
        vectors = {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0}
        return torch.optim.AdamW([matrices, vectors], lr=s.learning_rate, betas=s.betas, fused=True)

    def train_dataloader(self) -> "_Loader":
        """The batches from the current step on."""
        return _Loader(self.job.batches, self.steps)

    def on_train_start(self) -> None:
        """The clock starts; a resumed run takes up torch's random numbers where they were."""
        stop_on_signals(self)
        if self._rng is not None:
            torch.set_rng_state(self._rng)
        self._session = self.items, self.budget.before
        self.budget.start()
        self._next_save = self.budget.elapsed + (self.resume.every if self.resume else math.inf)

    def training_step(self, batch: tuple[Tensor, Tensor, bool], index: int) -> None:
        """Forward, backward, update; the state is carried on, cut from the graph."""
        inputs, targets, first = batch
        optimizer = self._optimizer()
        outputs, state = self.model(inputs, None if first else self.carried)
        loss = self.job.loss(outputs, targets)
        optimizer.zero_grad()
        self.manual_backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        optimizer.step()
        self.steps += 1
        self.items += self.job.count(targets)
        self.carried = _detached(state)
        self._note(loss.detach())

    def on_train_batch_end(self, *_: Any) -> None:
        """Between two steps: stop, validate, show, save."""
        progress = self.budget.progress(self.steps)
        place = int(progress * self.budget.checks)
        if not self._is_finite():
            self._stop("nan")
        elif progress >= 1:
            self._stop("finished")
        elif place > self.checked and not self.interrupted:
            self._check_at(place)
        self._show(progress)
        if self.interrupted and self.stopped is None:
            self._stop("interrupted")
        self._save()

    def on_train_end(self) -> None:
        """The last validation, then the measure of the best weights over all the data that time allows."""
        validation, end = self.validation, time.monotonic() + GRACE
        if self.stopped == "pruned":
            return
        if self.stopped != "nan":
            self.checked = self.budget.checks
            stop = (lambda: time.monotonic() > end) if self.interrupted else (lambda: self.interrupted)
            self._check(stop)
        if validation.best is None:
            return
        self.model.load_state_dict(validation.best)
        if not self.interrupted:
            self.final = validation.total(self._final_items(), lambda: self.interrupted)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds to Lightning's checkpoint what is ours."""
        checkpoint["elman"] = {name: getattr(self, name) for name in self._COUNTERS} | {
            "seconds": self.budget.elapsed,
            "reserve": self.budget.reserve,
            "carried": self.carried,
            "loss_sum": self.loss_sum,
            "random": torch.get_rng_state(),
            "average": self.average and self.average.weights,
            "validation": self.validation.state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes it back."""
        saved = checkpoint["elman"]
        for name in self._COUNTERS:
            setattr(self, name, saved[name])
        self.budget.before, self.budget.reserve = saved["seconds"], saved["reserve"]
        self.carried = saved["carried"]
        self.loss_sum, self._rng = saved["loss_sum"], saved["random"]
        if self.average is not None:
            self.average.weights = saved["average"]
        self.validation.restore(saved["validation"])

    # Between two steps

    def _optimizer(self) -> Any:
        optimizer = cast(Any, self.optimizers())
        rate = self.settings.rate(self.budget.progress(self.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        return optimizer

    def _note(self, loss: Tensor) -> None:
        self.loss_sum += loss
        self._recent = loss if self._recent is None else self._recent.lerp(loss, 0.02)
        if self.average is not None:
            self.average.update(self.steps)

    def _is_finite(self) -> bool:
        return math.isfinite(self.loss_sum.item())

    def _stop(self, how: Stopped) -> None:
        self.stopped = how
        self.trainer.should_stop = True

    def _check_at(self, place: int) -> None:
        """Validate, unless that is too soon: then a run that is compared leaves the place out, another waits."""
        soon = self._too_soon()
        if self.watch is not None or not soon:
            self.checked = place
        if not soon:
            self._check(lambda: self.interrupted)

    def _too_soon(self) -> bool:
        """Whether validating now would take more of the minutes than it may."""
        if self.budget.seconds is None:
            return False
        return self.budget.elapsed - self.checked_at < self.check_seconds / MOST

    def _check(self, stop: Callable[[], bool]) -> None:
        """Validate. The time it takes says how much to reserve for the end."""
        steps, items = self.steps - self.checked_steps, self.items - self.checked_items
        if steps:
            self.loss = self.loss_sum.item() / steps
        begun, known = time.monotonic(), len(self.validation.history)
        improved = self.validation.check(self.steps, max(items, 1), self.loss, stop)
        whole = self._final_items() / CHEAPER / max(1.0, self.rate)
        self.checked_at, self.check_seconds = self.budget.elapsed, time.monotonic() - begun
        self.budget.reserve = 1.2 * (self.check_seconds + whole)
        self.checked_steps, self.checked_items = self.steps, self.items
        self.loss_sum = torch.zeros_like(self.loss_sum)
        if improved and self.on_best is not None:
            self.on_best(self.result("interrupted"))
        if self.watch is None and self.validation.memorises():
            self._warn_of_memorising()
        value = self.validation.history[-1][2] if len(self.validation.history) > known else None
        self._log(loss=self.loss, validation=value)
        if value is not None and self.watch is not None and not self.interrupted:
            share = self.checked / self.budget.checks
            ends = self.watch(Check(self.checked, share, self.steps, self.budget.elapsed, value))
            if ends and not self.stopped:
                self._stop("pruned")

    def _final_items(self) -> int:
        if self.watch is not None:
            return min(self.job.validation_items, FINAL_ALIKE * self.job.least)
        return self.validation.share(self.items, FINAL_SHARE)

    def _warn_of_memorising(self) -> None:
        validation = self.validation
        best, now = validation.best_value, validation.history[-1][2]
        self.report.line(
            f"The model has begun to memorise: validation loss {best:.3f} → {now:.3f} while training loss "
            f"falls to {self.loss:.3f}. The best weights, of step {validation.best_step:,}, are kept. More "
            "data, more dropout, a smaller model or a shorter run would help."
        )

    def _show(self, progress: float) -> None:
        if int(progress * LOGGED) > self._logged and self._recent is not None:
            self._logged = int(progress * LOGGED)
            self._log(loss=self._recent.item(), learning_rate=self.settings.rate(progress), rate=self.rate)
        if self.report.due():
            loss = None if self._recent is None else self._recent.item()
            best = self.validation.best_value if self.validation.best else None
            left = self.budget.left(self.steps)
            self.report.show(Snapshot(min(1.0, progress), loss, best, self.rate, left))

    @property
    def rate(self) -> float:
        """Items a second since this process began to train, validation included."""
        items, seconds = self._session
        return (self.items - items) / max(1e-9, self.budget.elapsed - seconds)

    def _log(self, **figures: float | None) -> None:
        if self.logger is not None:
            known = {name: value for name, value in figures.items() if value is not None}
            self.logger.log_metrics(known, self.steps)

    def _save(self) -> None:
        """Write the resume file if it is time to, or if Ctrl-C ends this run here."""
        resume = self.resume
        if resume is None or (self.budget.elapsed < self._next_save and self.stopped != "interrupted"):
            return
        if self.stopped == "nan":
            return
        begun = self.budget.elapsed
        self.trainer.save_checkpoint(resume.path, weights_only=False)
        seconds = self.budget.elapsed - begun
        self._next_save = self.budget.elapsed + max(resume.every, 100 * seconds)  # at most 1 % of the time

    @property
    def ended(self) -> Stopped:
        """How. A run that nobody stopped and that has no model had no finite loss."""
        if self.interrupted:
            return "interrupted"
        if self.validation.best is None:
            return "nan"
        return self.stopped or "finished"

    def result(self, stopped: Stopped) -> Result:
        """The best so far. Raises ElmanError if there is none."""
        validation = self.validation
        if validation.best is None:
            raise NothingLearned(stopped)
        value, items = self.final or (validation.best_value, validation.part or 0)
        weights = {name: tensor.numpy() for name, tensor in validation.best.items()}
        loss = self.loss if math.isfinite(self.loss) else math.nan
        history, seconds = list(validation.history), self.budget.elapsed
        best = validation.best_step
        return Result(weights, stopped, value, items, loss, self.steps, best, self.items, seconds, history)


_NO_MODEL = (
    "stopped before there was a model to keep. Train for longer.",
    "the loss became NaN before there was a model to keep. Try a lower learning rate, a tenth say.",
)


class _Loader:
    """Batches as torch tensors. It has no length: the budget says when training ends, not the data."""

    def __init__(self, batches: Batches, start: int) -> None:
        self.batches, self.start = batches, start

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, bool]]:
        for batch in self.batches.iterate(self.start):
            yield torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets), batch.first


def train(
    job: Job,
    settings: Settings,
    report: Report | None = None,
    resume: Resume | None = None,
    log: LogKind = None,
    log_path: Path = LOG,
    on_best: OnBest | None = None,
    watch: Watch | None = None,
) -> Result:
    """Train until the budget is used, Ctrl-C, or a loss that is not a number; the best weights are kept.

    on_best is called after each validation that finds a new best, and with what is returned. watch sees every
    validation and may end the run; with it, validation is over the same items however fast a model is, and at the same
    shares of the budget, of which it leaves out some where it would take more than a tenth of the minutes: so runs can
    be compared. The resume file is deleted after all of that, unless Ctrl-C ended the training. Raises ElmanError when
    the run to resume is another one, a logger is missing, or nothing was kept.
    """
    logger = make_logger(log, log_path)
    report = report or Report(on=False)
    training = Training(job, settings, report, resume, on_best, watch)
    plugin = ResumeIO(resume.run if resume else {})
    path = None
    if resume is not None and resume.go_on:
        check_resumable(resume.path, resume.run)
        path = resume.path
    with quiet(), interruptible():
        trainer = make_trainer(plugin, logger)
        with report:
            trainer.fit(training, ckpt_path=path, weights_only=False if path else None)
    result = training.result(training.ended)
    if on_best is not None:
        on_best(result)
    if resume is not None and result.stopped != "interrupted":
        plugin.remove_checkpoint(resume.path)
    return result


class SeededRun:
    """One run of a job: trains what `_job` makes. `keep`, where there is one, is given every model worth saving, the
    last of which is the result.

    Torch's random numbers are seeded, and left as they were found.
    """

    settings: Settings
    seed: int
    keep: Callable[[ModelFile], None] | None

    def _job(self) -> Job:
        raise NotImplementedError

    def model_file(self, result: Result) -> ModelFile:
        """What is saved of a result."""
        raise NotImplementedError

    def _kept(self, result: Result) -> None:
        if self.keep is not None:
            self.keep(self.model_file(result))

    def network(self) -> nn.Module:
        """What is trained, with some first weights."""
        with torch.random.fork_rng([]):
            return self._job().model

    def train(
        self,
        report: Report,
        resume: Resume | None = None,
        log: LogKind = None,
        log_path: Path = LOG,
        watch: Watch | None = None,
    ) -> Result:
        """Trains to the end of the budget. Raises what `train` raises."""
        with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
            torch.manual_seed(self.seed)
            return train(self._job(), self.settings, report, resume, log, log_path, self._kept, watch)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN


def _detached(state: Any) -> Any:
    if isinstance(state, tuple):
        return tuple(map(_detached, state))
    return state.detach() if isinstance(state, Tensor) else state
