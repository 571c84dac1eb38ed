"""What runs that are compared share: a job's data, read once, and how to train on them with other settings.

Knows the three jobs; nothing of what their runs are compared for. Needs PyTorch once a run is made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from elman.checkpoint import ModelFile
from elman.class_baseline import TF_IDF
from elman.classify import TextClassifier
from elman.data import ElmanError
from elman.progress import Report
from elman.series import Forecaster
from elman.text import TextGenerator
from elman.windows import checksum

if TYPE_CHECKING:
    from elman.training import Result, SeededRun, Watch

Estimator = TextGenerator | Forecaster | TextClassifier
Keep = Callable[[ModelFile], None] | None
# An estimator, minutes, epochs, who keeps its models, and a cell in place of its own → what trains.
Make = Callable[[Any, float | None, float | None, Keep, str | None], "SeededRun"]


@dataclass(frozen=True)
class Task:
    """A job and its data. baseline: a simple rule and its validation loss, in `unit`. seen: what a network without
    recurrence sees at a step. identity: what losses must share to be compared, but for the budget: the data, and how
    they are measured; JSON-able."""

    job: str
    estimator: Estimator
    unit: str
    items: str
    baseline: tuple[str, float] | None
    seen: str
    identity: dict[str, Any]
    data: Any
    make: Make

    def run(
        self,
        settings: Mapping[str, Any],
        minutes: float | None,
        epochs: float | None,
        keep: Keep = None,
        cell: str | None = None,
    ) -> "SeededRun":
        """A run of the estimator with some settings changed. Raises ElmanError for those that make no sense."""
        changed = type(self.estimator)(**{**self.estimator.get_params(), **settings})
        return self.make(changed, minutes, epochs, keep, cell)


def prepare(estimator: Any, source: Any, report: Report, **reading: Any) -> Task:
    """Reads the data. reading: what the estimator's `fit` takes for that: val_size; y, text, label, separator.

    Raises ElmanError for what is no estimator or learns a language first, and what `fit` raises for the data.
    """
    if isinstance(estimator, TextGenerator):
        return _text(estimator, source, report, **reading)
    if isinstance(estimator, Forecaster):
        return _series(estimator, source, report, **reading)
    if isinstance(estimator, TextClassifier):
        return _labels(estimator, source, report, **reading)
    raise ElmanError(
        f"give an elman.TextGenerator, elman.Forecaster or elman.TextClassifier, not {type(estimator).__name__}."
    )


def _text(estimator: TextGenerator, source: Any, report: Report) -> Task:
    corpus = estimator.training_data(source, report)

    def make(one: Any, minutes: Any, epochs: Any, keep: Keep, cell: str | None) -> "SeededRun":
        run: SeededRun = one.training_run(corpus, minutes, epochs, keep, cell)
        return run

    from elman.model import WINDOW

    return Task(
        "text", estimator, "nats per character", "chars", ("trigram", corpus.to_beat["trigram"]),
        f"the last {WINDOW} characters", corpus.identity(), corpus, make,
    )  # fmt: skip


def _series(estimator: Forecaster, source: Any, report: Report, val_size: int | None = None) -> Task:
    val_size = estimator.check_val_size(val_size)
    data = estimator.training_data(source, report)

    from elman.series_fit import naive_loss

    first = estimator.training_run(data, val_size, None, 1.0, report, None)

    def make(one: Any, minutes: Any, epochs: Any, keep: Keep, cell: str | None) -> "SeededRun":
        run = one.training_run(data, val_size, minutes, epochs, Report(on=False), keep, cell)
        found: SeededRun = replace(run, scaled_by=first.config.shape)
        return found

    naive, shape = naive_loss(first.config, first.validation), first.config.shape
    identity = {
        "series": len(data.series), "checksum of the series": checksum(data.series), "val_size": val_size,
        "horizon": estimator.horizon, "levels": list(estimator.levels), "loss": estimator.loss,
        "input_length": shape.input_length, "seasons": list(shape.seasons),
    }  # fmt: skip
    return Task(
        "series", estimator, f"{estimator.loss} loss".replace("_", " "), "values",
        None if naive is None else ("seasonal naive", naive),
        f"all {shape.input_length} values at once", identity, data, make,
    )  # fmt: skip


def _labels(
    estimator: TextClassifier,
    source: Any,
    report: Report,
    y: Any = None,
    text: str = "text",
    label: str = "label",
    separator: str | None = None,
) -> Task:
    if estimator.pretrain:
        raise ElmanError(
            "pretrain: runs that are compared learn from labels alone. Leave it out, and pretrain in fit."
        )
    corpus = estimator.training_data(source, y, report, text=text, label=label, separator=separator)
    initial = estimator.beginning(corpus)  # word vectors are read once

    def make(one: Any, minutes: Any, epochs: Any, keep: Keep, cell: str | None) -> "SeededRun":
        config = one.configured(corpus, initial)
        run: SeededRun = one.training_run(
            corpus, replace(config, cell=cell or config.cell), initial, minutes, epochs, keep
        )
        return run

    return Task(
        "labels", estimator, "nats per text", "texts", (TF_IDF, corpus.to_beat[TF_IDF]["log_loss"]),
        "one word, before all are pooled",
        {"texts": len(corpus.seen), "checksum of the texts": corpus.training.checksum() + corpus.held.checksum()},
        corpus, make,
    )  # fmt: skip


def carried_out(run: "SeededRun", report: Report, watch: "Watch") -> "Result | None":
    """What a run has learned; None where its loss became NaN, however late. Raises KeyboardInterrupt where the run was
    interrupted."""
    from elman.training import NothingLearned

    try:
        result = run.train(report, watch=watch)
    except NothingLearned as error:
        if error.stopped == "interrupted":
            raise KeyboardInterrupt from None
        return None
    if result.stopped == "interrupted":
        raise KeyboardInterrupt
    return None if result.stopped == "nan" else result
