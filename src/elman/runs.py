"""From a call of `fit` to a run: its budget, its files, and what it says at the end. All jobs share it.

Needs PyTorch in `carry_out` alone, and says so before that.
"""

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from elman.data import ElmanError
from elman.progress import Report, clock
from elman.schedule import Settings
from elman.sizes import check_sizes

if TYPE_CHECKING:
    from elman.training import Result, Resume

MINUTES = 3.0  # of training, when no budget is given
LogKind = Literal["csv", "tensorboard"] | None


class Run(Protocol):
    """What a job trains."""

    @property
    def settings(self) -> Settings: ...
    def describe(self) -> dict[str, Any]: ...
    def train(self, report: Report, resume: "Resume | None", log: LogKind, log_path: Path) -> "Result": ...


def check_budget(minutes: float | None, epochs: float | None, output: object, resume: bool) -> float | None:
    """The minutes to train, MINUTES where nothing is given. Raises ElmanError for a budget or a resumption that makes
    no sense, and where PyTorch is missing."""
    if minutes is not None and epochs is not None:
        raise ElmanError("give minutes or epochs, not both.")
    check_sizes("lstm", minutes=minutes, epochs=epochs)
    if resume and output is None:
        raise ElmanError("resume needs the output of the run to continue: its resume file lies beside it.")
    require_torch("training")
    return MINUTES if minutes is None and epochs is None else minutes


def require_torch(what: str) -> None:
    """Raises ElmanError where PyTorch or Lightning is missing."""
    missing = [name for name in ("torch", "pytorch_lightning") if importlib.util.find_spec(name) is None]
    if missing:
        raise ElmanError(f'{what} needs {" and ".join(missing)}: pip install "elman[train]"')


def carry_out(
    run: Run, report: Report, output: str | os.PathLike[str] | None, go_on: bool, log: LogKind, per: str = ""
) -> None:
    """Train to the end of the budget, with the resume file and the curves beside `output`. per: unit of the loss.

    Raises ElmanError where the run to continue is another one, or the loss becomes NaN.
    """
    from elman.training import Resume

    beside = Path("elman" if output is None else output)
    resume = None
    if output is not None:
        resume = Resume(beside.with_name(beside.name + ".resume"), run.describe(), go_on)
        if resume.path.exists() and not go_on:
            report.line(f"{resume.path}, of an interrupted run, will be replaced; --resume would continue it")
    result = run.train(report, resume, log, beside.with_name(beside.name + ".log"))
    report.line(_summary(result, report.unit, per, output))
    if result.stopped == "nan":
        raise ElmanError(
            "the loss became NaN, so training stopped; the best model so far is kept. Try a lower learning rate: "
            f"it was {run.settings.learning_rate:g}."
        )


def _summary(result: "Result", unit: str, per: str, output: object) -> str:
    how = {"finished": "Trained", "interrupted": "Interrupted after", "nan": "Stopped after"}[result.stopped]
    return (
        f"{how} {clock(result.seconds)}, {result.items:,} {unit}. Validation loss {result.validation:.4g}{per} "
        f"over {result.validation_items:,}" + (f". Best model kept in {output}" if output else "")
    )
