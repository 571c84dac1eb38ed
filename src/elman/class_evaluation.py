"""How well a classifier did on labelled texts, beside the baselines, and what it got most confidently wrong.

Arrays and texts in, figures out; knows nothing of networks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.class_measures import THRESHOLD, confusion, measures, mistakes, probabilities, reliability

COLUMNS = ("accuracy", "f1", "log_loss", "calibration_error")
MISTAKES = 10


@dataclass(frozen=True)
class Mistake:
    """A text that was classified wrongly, and how sure the classifier was."""

    place: str
    text: str
    label: Any
    predicted: Any
    probability: float


@dataclass(frozen=True)
class Evaluation:
    """table: rule → measure → figure: accuracy, f1 (mean over classes), log_loss (nats), calibration_error.

    The first rule is elman.

    confusion: of each class (row), how often each was predicted (column); where there may be several, (C, 2, 2).
    reliability: mean confidence, share right and count of each bin of confidence. seen: how many of the texts were
    among those of training.
    """

    table: dict[str, dict[str, float]]
    texts: int
    classes: tuple[Any, ...]
    several: bool
    confusion: npt.NDArray[np.int64]
    reliability: list[tuple[float, float, int]]
    mistakes: tuple[Mistake, ...]
    seen: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        return {
            "table": self.table,
            "texts": self.texts,
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
            "reliability": [list(row) for row in self.reliability],
            "mistakes": [vars(mistake) for mistake in self.mistakes],
            "seen_in_training": self.seen,
            "notes": list(self.notes),
        }


def evaluation(
    logits: Mapping[str, npt.NDArray[Any]],
    truth: npt.NDArray[Any],
    texts: Sequence[str],
    places: Callable[[int], str],
    classes: tuple[Any, ...],
    several: bool,
    seen: int,
    notes: tuple[str, ...],
) -> Evaluation:
    """Of logits (N, C) by rule, elman's first, and the true classes (N,), or where there may be several (N, C)."""
    found = {name: probabilities(z, several) for name, z in logits.items()}
    own = next(iter(found.values()))
    wrong = tuple(
        Mistake(places(i), texts[i], _named(truth[i], classes), *_said(own[i], truth[i], classes, several))
        for i in mistakes(own, truth, several, MISTAKES)
    )
    return Evaluation(
        {name: measures(p, truth, several) for name, p in found.items()}, len(texts), classes, several,
        confusion(own, truth, several), reliability(own, truth, several), wrong, seen, notes,
    )  # fmt: skip


def _named(truth: Any, classes: tuple[Any, ...]) -> Any:
    return tuple(np.array(classes, object)[truth]) if np.ndim(truth) else classes[truth]


def _said(p: npt.NDArray[Any], truth: Any, classes: tuple[Any, ...], several: bool) -> tuple[Any, float]:
    """(what was predicted, how sure that was); where there may be several, of the surest wrong decision."""
    if not several:
        return classes[p.argmax()], float(p.max())
    predicted = p > THRESHOLD
    return _named(predicted, classes), float(np.where(predicted != truth, np.maximum(p, 1 - p), 0).max())
