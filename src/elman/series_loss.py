"""What a forecaster can be trained for, and what its network puts out for that. NumPy alone; SciPy for distributions.

| loss | the network puts out at each step | forecast |
|---|---|---|
| quantile | Q quantiles | median |
| mse, mae | one number; intervals come from the errors on validation data | mean, median |
| student_t | location, scale, degrees of freedom (over 2) | mean, median |
| negative_binomial | mean, dispersion: the variance is mean + dispersion * mean² | mean, median |

A mean is not robust, a median is: of counts or skewed values the two differ.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.data import ElmanError
from elman.windows import Floats, Series

LOSSES = ("quantile", "mse", "mae", "student_t", "negative_binomial")
POINT = ("mse", "mae")
_WIDTHS = {"mse": 1, "mae": 1, "student_t": 3, "negative_binomial": 2}


def check_loss(loss: Any) -> str:
    """Raises ElmanError unless it is one of LOSSES."""
    if loss not in LOSSES:
        raise ElmanError(f"unknown loss {loss!r}: choose {', '.join(LOSSES)}.")
    return str(loss)


def width(loss: str, quantiles: Sequence[float]) -> int:
    """How many numbers a step the network puts out."""
    return _WIDTHS.get(loss, len(quantiles))


def check_counts(loss: str, names: Sequence[str], series: Sequence[Series]) -> None:
    """Raises ElmanError, naming the series, where a loss for counts meets values that are none."""
    if loss != "negative_binomial":
        return
    for name, one in zip(names, series, strict=True):
        bad = (one.values < 0) | (one.values % 1 != 0)
        if bad.any():
            raise ElmanError(
                f"series {name} holds {one.values[np.argmax(bad)]:g}, and negative_binomial forecasts counts: whole "
                "numbers of at least 0. Choose another loss: quantile takes any values."
            )


def found_quantiles(loss: str, found: Floats, levels: Sequence[float]) -> Floats:
    """What the network put out (..., width) → quantiles (..., Q). A point forecast is each of them."""
    if loss == "quantile":
        return found
    if loss in POINT:
        return np.repeat(found, len(levels), axis=-1)
    special, q = _special(), np.array(levels)
    if loss == "student_t":
        location, scale, freedom = (found[..., k : k + 1].astype(float) for k in range(3))
        return np.asarray(location + scale * special.stdtrit(freedom, q))
    return _count_quantiles(special, found[..., :1].astype(float), found[..., 1:].astype(float), q)


def found_mean(loss: str, found: Floats) -> Floats | None:
    """The mean (...) that the network put out, where the loss is for one."""
    return found[..., 0] if loss in ("mse", "student_t", "negative_binomial") else None


def _count_quantiles(special: Any, mean: Floats, dispersion: Floats, q: npt.NDArray[np.float64]) -> Floats:
    """The least count whose cumulative probability reaches q. nbdtrik solves for a real number: its neighbours are
    tried too."""
    number = 1 / dispersion
    probability = number / (number + mean)

    def reaches(k: Floats) -> npt.NDArray[np.bool_]:
        result: npt.NDArray[np.bool_] = special.betainc(number, k + 1, probability) >= q
        return result

    near = np.ceil(np.nan_to_num(special.nbdtrik(q, number, probability)))
    near = np.where(reaches(np.maximum(near - 1, 0)), np.maximum(near - 1, 0), near)
    return np.asarray(np.where(reaches(near), near, near + 1))


def _special() -> Any:
    try:
        return import_module("scipy.special")
    except ModuleNotFoundError:
        raise ElmanError('forecasts from a distribution need SciPy: pip install "elman[series]"') from None
