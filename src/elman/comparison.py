"""Models side by side: the same data, the same budget, several seeds each; one table, one picture, one conclusion.

Knows runs and their losses; the jobs are `experiment`'s. Needs PyTorch.
"""

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from statistics import mean
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from elman.checkpoint import write_whole
from elman.data import ElmanError
from elman.experiment import Task, carried_out, prepare
from elman.picture import check_picture
from elman.progress import Report
from elman.runs import check_budget
from elman.sizes import COMPARED
from elman.verdict import verdict

if TYPE_CHECKING:
    from elman.training import Check

MINUTES = 10.0
SEEDS = 2
LEAST_SECONDS = 1.0  # of a run
CELLS = ("feedforward", "rnn", "gru", "lstm", "mingru")
COLUMNS = ("validation", "lowest", "highest", "parameters", "items/s", "steps", "seconds", "seeds")
_WIDEST = 4096  # hidden units, where parameters are to be equal
_TRIED = (8, 16, 32)

Equal = Literal["time", "parameters"]


@dataclass(frozen=True)
class Trained:
    """One run. value: its validation loss, NaN where training failed. parameters: all of them. curve: steps, seconds
    and validation loss, from first to last."""

    cell: str
    seed: int
    value: float
    parameters: int
    hidden_size: int
    items: int
    steps: int
    seconds: float
    curve: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True)
class Comparison:
    """What a comparison found. unit: of the losses. baseline: a simple rule's loss by name. seen: what the network
    without recurrence sees. stopped: "finished" or "interrupted"."""

    job: str
    unit: str
    items: str
    equal: Equal
    by_time: bool  # the budget is in seconds, not passes over the data
    budget: float  # of each run: seconds, or passes
    seen: str
    baseline: Mapping[str, float]
    runs: tuple[Trained, ...]
    stopped: Literal["finished", "interrupted"]

    @property
    def losses(self) -> dict[str, list[float]]:
        """cell → the validation loss of each seed; those that failed are left out."""
        found: dict[str, list[float]] = {run.cell: [] for run in self.runs}
        for run in self.runs:
            if math.isfinite(run.value):
                found[run.cell].append(run.value)
        return found

    @property
    def table(self) -> dict[str, dict[str, float]]:
        """cell → `COLUMNS`, means over its seeds, the best first; then the baseline, whose loss alone is known."""
        rows = {cell: self._row(cell) for cell in self.losses}
        best_first = sorted(
            rows, key=lambda cell: (math.isnan(rows[cell]["validation"]), rows[cell]["validation"])
        )
        unknown = dict.fromkeys(COLUMNS, math.nan)
        rules = {name: unknown | {"validation": value} for name, value in self.baseline.items()}
        return {cell: rows[cell] for cell in best_first} | rules

    def _row(self, cell: str) -> dict[str, float]:
        runs = [run for run in self.runs if run.cell == cell]
        learned, values = [run for run in runs if math.isfinite(run.value)], self.losses[cell]
        row = dict.fromkeys(COLUMNS, math.nan) | {"parameters": runs[0].parameters, "seeds": len(learned)}
        if not learned:
            return row
        return row | {
            "validation": mean(values),
            "lowest": min(values),
            "highest": max(values),
            "items/s": sum(run.items for run in learned) / max(1e-9, sum(run.seconds for run in learned)),
            "steps": mean(run.steps for run in learned),
            "seconds": mean(run.seconds for run in learned),
        }

    @property
    def conclusion(self) -> str:
        """What follows, and how sure it is."""
        return verdict(self.losses, self.baseline, self.unit)

    def to_frame(self) -> Any:
        """A row for each run, as a pandas frame: cell, seed, validation loss, sizes, steps, seconds."""
        rows = [{name: value for name, value in asdict(run).items() if name != "curve"} for run in self.runs]
        return import_module("pandas").DataFrame(rows).rename(columns={"value": "validation"})

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw validation loss against training time, or steps: mean and range over seeds, as a .png. Raises ElmanError
        where it cannot be written."""
        from elman.comparison_plot import learning_curves

        check_picture(path, (".png",))
        write_whole(path, learning_curves(self))

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        rows = {name: {k: v for k, v in row.items() if not math.isnan(v)} for name, row in self.table.items()}
        about = {name: getattr(self, name) for name in ("job", "unit", "equal", "budget", "seen", "stopped")}
        runs = [asdict(run) | {"value": run.value if math.isfinite(run.value) else None} for run in self.runs]
        return about | {
            "table": rows,
            "baseline": dict(self.baseline),
            "conclusion": self.conclusion,
            "runs": runs,
        }


def compare(
    estimator: Any,
    source: Any,
    *,
    minutes: float | None = None,
    epochs: float | None = None,
    seeds: int = SEEDS,
    equal: Equal = "time",
    cells: Sequence[str] = CELLS,
    progress: bool = True,
    **reading: Any,
) -> Comparison:
    """Train each of `cells` in the place of an untrained estimator's own, with `seeds` seeds, and compare them.

    minutes: of the whole comparison (10 if no budget is given), shared evenly between all runs; or epochs: passes over
    the data of each run. equal="time": sizes are those that the estimator would choose, so that only the time is the
    same; "parameters": the hidden size of each is chosen so that all have as many parameters as the estimator's own
    cell, without the table of embeddings, and minutes or epochs are the same. Validation is over the same items for
    all. reading: what the estimator's `fit` takes to read its data. No language model is trained before labels.

    Ctrl-C ends it; the runs that are finished are kept. Raises ElmanError for arguments that make no sense and what
    `fit` raises for the data; KeyboardInterrupt where no run is finished.
    """
    minutes = check_comparison(minutes, epochs, seeds, equal, cells)
    report = Report(progress)
    task = prepare(estimator, source, report, **reading)
    report = Report(progress, unit=task.items)
    each = None if minutes is None else minutes / (len(cells) * seeds)
    changes = _matched(task, cells, each, epochs) if equal == "parameters" else {}
    runs: list[Trained] = []
    order = [
        (k, cell) for k in range(seeds) for cell in cells
    ]  # an early end leaves all with about as many seeds
    stopped: Literal["finished", "interrupted"] = "interrupted"
    with suppress(KeyboardInterrupt):
        for k, cell in order:
            one = _trained(task, cell, k, changes.get(cell, {}), each, epochs, report)
            runs.append(one)
        stopped = "finished"
    if not runs:
        raise KeyboardInterrupt("interrupted: no run is finished")
    return Comparison(
        task.job, task.unit, task.items, equal, each is not None, epochs or 60 * (each or 0), task.seen,
        dict([task.baseline] if task.baseline else ()), tuple(runs), stopped,
    )  # fmt: skip


def check_comparison(
    minutes: float | None, epochs: float | None, seeds: int, equal: str, cells: Sequence[str]
) -> float | None:
    """The minutes of the whole comparison. Raises ElmanError for what makes no sense."""
    if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
        raise ElmanError(f"seeds must be a whole number, at least 1, not {seeds!r}.")
    if equal not in ("time", "parameters"):
        raise ElmanError(f"equal must be time or parameters, not {equal!r}.")
    for cell in [cells] if isinstance(cells, str) else cells:
        if cell not in COMPARED:
            raise ElmanError(f"unknown cell {cell!r}: choose among {', '.join(CELLS)}.")
    if isinstance(cells, str) or len(set(cells)) < max(2, len(cells)):
        raise ElmanError("a comparison needs two cells or more, each once.")
    if epochs is not None and equal == "time":
        raise ElmanError(
            "epochs give all the same data, not the same time: add equal parameters, or give minutes."
        )
    check_budget(minutes, epochs, None, False)
    if epochs is not None:
        return None
    minutes, runs = minutes or MINUTES, len(cells) * seeds
    if minutes * 60 / runs < LEAST_SECONDS:
        raise ElmanError(
            f"{minutes:g} minutes are {minutes * 60 / runs:.2g} seconds for each of {runs} runs: give more minutes, or "
            "fewer cells or seeds."
        )
    return minutes


def _trained(
    task: Task,
    cell: str,
    k: int,
    changes: Mapping[str, Any],
    minutes: float | None,
    epochs: float | None,
    report: Report,
) -> Trained:
    """Raises KeyboardInterrupt where the run was interrupted."""
    seed = task.estimator.get_params()["seed"] + k
    run = task.run({**changes, "seed": seed}, minutes, epochs, cell=cell)
    curve: list[tuple[int, float, float]] = []

    def watch(check: "Check") -> bool:
        curve.append((check.step, check.seconds, check.value))
        return False

    network: Any = run.network()
    about = cell, seed
    sizes = sum(p.numel() for p in network.parameters()), network.config.hidden_size
    result = carried_out(run, report, watch)
    if result is None:
        report.line(f"{cell}, seed {seed}: the loss became NaN")
        return Trained(*about, math.nan, *sizes, 0, 0, 0.0, tuple(curve))
    value = result.validation
    seen = f"{result.items:,} {task.items}, {result.seconds:.0f} s"
    report.line(f"{cell}, seed {seed}: {value:.4g} {task.unit}; {seen}")
    return Trained(*about, value, *sizes, result.items, result.steps, result.seconds, tuple(curve))


def _matched(
    task: Task, cells: Sequence[str], minutes: float | None, epochs: float | None
) -> dict[str, dict[str, Any]]:
    """cell → the hidden size with which it has about as many parameters as the estimator's own cell."""

    def count(cell: str | None, settings: Mapping[str, Any]) -> int:
        return _weights(task.run(settings, minutes, epochs, cell=cell).network())

    wanted, sizes = count(None, {}), np.arange(1, _WIDEST + 1)
    found = {}
    for cell in cells:
        counts = [count(cell, {"hidden_size": size}) for size in _TRIED]
        curve = np.polyval(np.polyfit(_TRIED, counts, 2), sizes)  # weights from units to units: a square
        found[cell] = {"hidden_size": int(sizes[np.abs(curve - wanted).argmin()])}
    return found


def _weights(network: Any) -> int:
    """Parameters without the tables of embeddings, which all have alike."""
    from torch.nn import Embedding

    tables = [module for module in network.modules() if isinstance(module, Embedding)]
    whole, without = (sum(p.numel() for m in some for p in m.parameters()) for some in ([network], tables))
    return whole - without
