"""How good the probabilities of a classifier are: measures, calibration, confusions, mistakes.

Arrays in, figures out. Classes are 0 to C-1. Where `several`, a text may have any number of them: its truth is then a
row of bools (C,), else an int. Knows nothing of texts, models or torch.

Letters: N texts, C classes.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data import ElmanError

Floats = NDArray[np.float64]
Truth = NDArray[Any]  # ints (N,); where several, bools (N, C)

THRESHOLD = 0.5  # where several, a class is predicted above it
BINS = 15  # of confidence, of equal width
COLDEST, HOTTEST = 0.05, 20.0  # temperatures
_LEAST = float(np.finfo(np.float64).eps)  # probability in a log loss: a certain mistake costs 36 nats


def probabilities(logits: NDArray[np.floating[Any]], several: bool, temperature: float = 1.0) -> Floats:
    """Logits (N, C) → probabilities (N, C): softmax of each row, or the sigmoid of each logit."""
    z = np.asarray(logits, np.float64) / temperature
    if several:
        return np.exp(-np.logaddexp(0, -z))
    e = np.exp(z - z.max(1, keepdims=True))
    found: Floats = e / e.sum(1, keepdims=True)
    return found


def fit_temperature(logits: NDArray[np.floating[Any]], truth: Truth, several: bool) -> float:
    """The temperature, from 0.05 to 20, that gives the least log loss; 1 for no texts.

    It changes how sure a model is, and no prediction. One more text of each class with even odds is counted in, so that
    few texts without a mistake make nobody certain (after Platt, "Probabilistic outputs for support vector machines",
    1999). Needs SciPy, and raises ElmanError where it is missing.
    Source: Guo et al., "On calibration of modern neural networks", 2017.
    """
    try:
        minimize = import_module("scipy.optimize").minimize_scalar
    except ModuleNotFoundError:
        raise ElmanError('fitting a temperature needs SciPy: pip install "elman[train]"') from None
    z = np.asarray(logits, np.float64)
    if not len(z):
        return 1.0
    # The loss is convex in 1/T, so it has one minimum in log T.
    found = minimize(
        lambda log: _cautious(z / np.exp(log), truth, several),
        bounds=(np.log(COLDEST), np.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return float(np.exp(found.x))


def measures(probabilities: Floats, truth: Truth, several: bool) -> dict[str, float]:
    """{"accuracy", "f1", "log_loss", "calibration_error"} of probabilities (N, C).

    accuracy: the share of texts with the right class; where several, with exactly the right set of them.
    f1: the mean over the classes that occur in the truth or the predictions; 0 where none does.
    log_loss: nats, the mean over texts; where several, over texts and classes.
    calibration_error: the mean over 15 bins, by their counts, of the distance between confidence and the share right.
    """
    return {
        "accuracy": float(_right(probabilities, truth, several).mean()),
        "f1": _f1(probabilities, truth, several),
        "log_loss": _log_loss(probabilities, truth, several),
        "calibration_error": _calibration_error(probabilities, truth, several),
    }


def confusion(probabilities: Floats, truth: Truth, several: bool) -> NDArray[np.int64]:
    """Counts (C, C), a row for each true class and a column for each predicted one; where several, (C, 2, 2): of each
    class, a row for texts without and with it, and a column for predicted without and with it."""
    classes = probabilities.shape[1]
    if several:
        cells = 2 * truth + _predicted(probabilities, several) + 4 * np.arange(classes)
        return np.bincount(cells.ravel(), minlength=4 * classes).reshape(classes, 2, 2)
    cells = truth * classes + _predicted(probabilities, several)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def reliability(probabilities: Floats, truth: Truth, several: bool) -> list[tuple[float, float, int]]:
    """(mean confidence, share right, count) of each of 15 bins of confidence that holds something, in order.

    Confidence is the probability of the predicted class. Where several, every probability counts, and it is right
    where the text has the class.
    """
    if several:
        confidence, right = probabilities.ravel(), truth.ravel()
    else:
        confidence, right = probabilities.max(1), _right(probabilities, truth, several)
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    held = np.flatnonzero(counts)
    means = np.bincount(bins, confidence, BINS)[held] / counts[held]
    shares = np.bincount(bins, right, BINS)[held] / counts[held]
    return list(zip(means.tolist(), shares.tolist(), counts[held].tolist(), strict=True))


def mistakes(probabilities: Floats, truth: Truth, several: bool, count: int) -> NDArray[np.int64]:
    """The indices (≤ count,) of the most confident mistakes, the most confident first; equals in order.

    Where several, a text counts with its most confident wrong decision, for or against a class.
    """
    if several:
        wrong = _predicted(probabilities, several) != truth
        sure = np.where(wrong, np.abs(probabilities - THRESHOLD), -1).max(1)
    else:
        sure = np.where(_right(probabilities, truth, several), -1, probabilities.max(1))
    order = np.argsort(-sure, kind="stable")[:count]
    found: NDArray[np.int64] = order[sure[order] >= 0]
    return found


def _predicted(probabilities: Floats, several: bool) -> Truth:
    return probabilities > THRESHOLD if several else probabilities.argmax(1)


def _right(probabilities: Floats, truth: Truth, several: bool) -> NDArray[np.bool_]:
    right = _predicted(probabilities, several) == truth
    whole: NDArray[np.bool_] = right.all(1) if several else right
    return whole


def _f1(probabilities: Floats, truth: Truth, several: bool) -> float:
    classes, predicted = probabilities.shape[1], _predicted(probabilities, several)
    if several:
        both, either = (predicted & truth).sum(0), predicted.sum(0) + truth.sum(0)
    else:
        both = np.bincount(truth[predicted == truth], minlength=classes)
        either = np.bincount(predicted, minlength=classes) + np.bincount(truth, minlength=classes)
    occurs = either > 0
    return float((2 * both[occurs] / either[occurs]).mean()) if occurs.any() else 0.0


def _log_loss(probabilities: Floats, truth: Truth, several: bool) -> float:
    if several:
        of_truth = np.where(truth, probabilities, 1 - probabilities)
    else:
        of_truth = np.take_along_axis(probabilities, truth[:, None], 1)
    return float(-np.log(np.maximum(of_truth, _LEAST)).mean())


def _calibration_error(probabilities: Floats, truth: Truth, several: bool) -> float:
    bins = reliability(probabilities, truth, several)
    total = sum(count for _, _, count in bins)
    return sum(count * abs(confidence - right) for confidence, right, count in bins) / total


def _cautious(logits: Floats, truth: Truth, several: bool) -> float:
    """The log loss over the texts and, for each class, one more whose class is anybody's guess."""
    n, classes = len(logits), logits.shape[1]
    if several:
        even = float((np.logaddexp(0, logits) - logits / 2).mean())
    else:
        shifted = logits - logits.max(1, keepdims=True)
        even = float((np.log(np.exp(shifted).sum(1)) - shifted.mean(1)).mean())
    return float((n * _nats(logits, truth, several) + classes * even) / (n + classes))


def _nats(logits: Floats, truth: Truth, several: bool) -> float:
    """The log loss, exact for logits of any size."""
    if several:
        return float((np.logaddexp(0, logits) - logits * truth).mean())
    logits = logits - logits.max(1, keepdims=True)
    of_truth = np.take_along_axis(logits, truth[:, None], 1)[:, 0]
    return float((np.log(np.exp(logits).sum(1)) - of_truth).mean())


def fit_scales(parts: Sequence[NDArray[np.floating[Any]]], truth: Truth, several: bool) -> Floats:
    """By what to multiply each of several logits (N, C), so that their sum has the least log loss; 0 or more.

    Of one, 1 / `fit_temperature`. Needs SciPy.
    """
    first = 1 / fit_temperature(parts[0], truth, several)
    if len(parts) == 1 or not len(truth):
        return np.array([first] + [0.0] * (len(parts) - 1))
    stacked = np.stack([np.asarray(part, np.float64) for part in parts])
    found = import_module("scipy.optimize").minimize(
        lambda scales: _cautious(np.tensordot(scales, stacked, 1), truth, several),
        [first] + [0.0] * (len(parts) - 1),
        bounds=[(1 / HOTTEST, 1 / COLDEST)] + [(0.0, 1 / COLDEST)] * (len(parts) - 1),
    )
    return np.asarray(found.x, np.float64)
