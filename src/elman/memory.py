"""How far back a network's input matters: by the gradient, and by what context is worth.

Measured on any `Subject`. Pascanu et al. (2013) for the first, Khandelwal et al., "Sharp nearby, fuzzy far away"
(2018), for the second; definitions in `report.DEFINITIONS`.
"""

import math

import numpy as np
import torch

from elman.data import ElmanError
from elman.report import Floats, Memory, plural
from elman.subject import Ints, Subject, Windowed, spread

LAGS = 256  # at most
GROWS = 1.02  # a step: beyond what an uncertain slope shows of a network that keeps its gradients
_GRADIENTS = 32  # places that the gradient's mean is taken over
_LOSSES, _MOST_LOSSES = 32, 512  # and the losses', of large networks and of small ones
_WORK = 6e10  # multiply-adds for losses
_SHARE = 0.95  # of the gradient within the gradient horizon, of the gain within the horizon
_SURE = 2.0  # standard errors
_LEAST = 0.005  # of the loss: a smaller gain is none
_FEW = 4  # steps, in which nothing can be told of growth
_GROWN = 2.0  # how much larger an exploding gradient is in a window of twice the length, at least
_NOISE = 1e-6  # of the largest gradient: below that it is float32's rounding
_LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def measure_memory(subject: Subject) -> Memory:
    """Raises ElmanError where losses are not finite."""
    length = min(LAGS, subject.longest())
    ends = subject.ends()
    ends = ends[subject.places(ends) >= length - 1]
    near = ends[spread(len(ends), _GRADIENTS)]
    gradient = gradient_norms(subject, near, length)
    turned = _from_the_other_end(subject, near, gradient)
    curve = gradient[::-1] if turned else gradient
    fitted = (len(curve) + 1) // 2 if _both_ways(subject) else len(curve)
    growth = slope(curve[:fitted])
    given = tuple(sorted({*(k for k in _LADDER if k < length), length}))
    some = ends[spread(len(ends), _places(subject, given))]
    losses = context_losses(subject, some, given)
    horizon, gains = _horizon(given, losses)
    if gains:
        given, losses, horizon = _refined(subject, some, given, losses, horizon)
    within = min(len(curve), int(np.searchsorted(np.cumsum(curve), _SHARE * curve.sum())) + 1)
    half_life = _half_life(growth)
    mean = losses.mean(axis=1)
    told = _context(subject, given, mean, horizon, gains)
    sentence = f"{told} {_reach(subject.step, curve, half_life, growth, within, turned)}"
    return Memory(
        gradient, half_life, growth, within, given, mean, horizon, subject.unit, len(some), sentence, fitted, turned,
    )  # fmt: skip


def _half_life(growth: float) -> float:
    if growth <= 0:
        return 0.0
    return math.inf if growth >= 1 else math.log(2) / -math.log(growth)  # NaN of NaN


def _both_ways(subject: Subject) -> bool:
    return any(getattr(module, "bidirectional", False) for _, module in subject.recurrent)


def _from_the_other_end(subject: Subject, ends: Ints, gradient: Floats) -> bool:
    """Whether the gradient is largest far back because the output is read there, as of the layers that read backwards:
    a gradient that explodes grows with the window, this one does not."""
    length = len(gradient)
    if length < _FEW or gradient.argmax() < length // 2:
        return False
    shorter = gradient_norms(subject, ends, length // 2)
    return bool(gradient.max() < _GROWN * shorter.max())


def _places(subject: Subject, given: tuple[int, ...]) -> int:
    weights = sum(p.numel() for _, module in subject.recurrent for p in module.parameters())
    return int(np.clip(_WORK / (weights * sum(given)), _LOSSES, _MOST_LOSSES))


def gradient_norms(subject: Subject, ends: Ints, length: int) -> Floats:
    """(K,) the mean norm of the gradient of the losses at `ends` with respect to what entered k steps before, for as
    many of `length` steps as it does not overflow. Raises ElmanError where it does at once."""
    while length:
        with torch.enable_grad():
            found = subject.windowed(ends, length)
            (gradient,) = torch.autograd.grad(found.losses.sum(), found.entered)
        norms: Floats = gradient.double().norm(dim=2).mean(dim=1).flip(0).cpu().numpy()
        if np.isfinite(norms).all():
            return norms
        length //= 2
    raise ElmanError(
        "the model's gradients are not finite: its weights are too large or hold NaN. Train it anew."
    )


def context_losses(subject: Subject, ends: Ints, given: tuple[int, ...]) -> Floats:
    """(len(given), N) the losses at `ends` with so many steps; of a subject without a loss, how far the output is from
    that with all of them, relatively."""
    with torch.no_grad():
        runs = [subject.windowed(ends, steps) for steps in given]
    if subject.unit == "difference":
        whole = runs[-1].outputs
        assert whole is not None
        return np.stack([_distance(run, whole) for run in runs])
    return np.stack([run.losses.double().cpu().numpy() for run in runs])


def _distance(run: Windowed, whole: torch.Tensor) -> Floats:
    assert run.outputs is not None
    found = (run.outputs - whole).norm(dim=1) / whole.norm(dim=1).clamp(min=1e-12)
    result: Floats = found.double().cpu().numpy()
    return result


def slope(gradient: Floats) -> float:
    """By what factor a gradient norm changes with each step back: least squares on its logarithm, from its largest on
    down to rounding. NaN where there is a single step."""
    first = int(gradient.argmax())
    if gradient[first] <= 0:
        return 0.0
    if len(gradient) < 2:
        return math.nan
    tail = gradient[first:] if first < len(gradient) // 2 else gradient
    there = np.flatnonzero(tail > _NOISE * gradient[first])
    if len(there) < 2:
        return float(tail[1] / tail[0])
    return float(np.exp(np.polyfit(there, np.log(tail[there]), 1)[0]))


def _horizon(given: tuple[int, ...], losses: Floats) -> tuple[int, bool]:
    """(steps, whether context gains anything beyond chance)."""
    differences = losses[0] - losses[-1]
    gain = differences.mean()
    error = differences.std() / math.sqrt(max(1, len(differences) - 1))
    if len(given) < 2 or gain <= max(_SURE * error, _LEAST * abs(losses[0].mean())):
        return 1, False
    left = losses.mean(axis=1) - losses[-1].mean()
    near = left <= (1 - _SHARE) * gain
    for k in range(len(given)):  # and stays so near
        if near[k:].all():
            return given[k], True
    return given[-1], True


def _refined(
    subject: Subject, ends: Ints, given: tuple[int, ...], losses: Floats, horizon: int
) -> tuple[tuple[int, ...], Floats, int]:
    """The same with more numbers of steps, until the horizon is known to the step or to a tenth."""
    while True:
        at = given.index(horizon)
        below = given[at - 1] if at else horizon
        if horizon - below <= max(1, horizon // 10):
            return given, losses, horizon
        middle = (below + horizon) // 2
        (found,) = context_losses(
            subject, ends, (middle,) if subject.unit != "difference" else (middle, given[-1])
        )[:1]
        given, losses = (*given[:at], middle, *given[at:]), np.insert(losses, at, found, axis=0)
        horizon, _ = _horizon(given, losses)


def _context(subject: Subject, given: tuple[int, ...], mean: Floats, horizon: int, gains: bool) -> str:
    """What context is worth, in a sentence."""
    s = subject.step
    if len(given) < 2:
        return f"There are too few {s}s to tell what context is worth."
    if not gains:
        return f"More than the last {s} makes no difference that could be measured: it remembers nothing that helps."
    if subject.unit == "difference":
        return (
            f"The output depends on about the last {plural(horizon, s)}: with them it is within 5 % of what one {s} "
            "leaves open."
        )
    nats = " nats" if subject.unit == "nats" else ""
    return (
        f"It remembers about {plural(horizon, s)}: with so many the loss is {mean[given.index(horizon)]:.3f}, "
        f"with one {mean[0]:.3f}, with {given[-1]} {mean[-1]:.3f}{nats}."
    )


def _reach(step: str, curve: Floats, half_life: float, growth: float, within: int, turned: bool) -> str:
    """How far the gradient reaches, in a sentence. turned: `curve` begins at the window's first step."""
    where = "Counted from the first, where the gradient is largest, it" if turned else "The gradient"
    if math.isnan(growth):
        return f"There are too few {step}s to tell how far the gradient reaches."
    if not curve.any():
        return f"No gradient reaches any {step}."
    if half_life == 0:
        return f"{where} reaches no more than one {step}."
    if growth > GROWS:
        return f"{where} grows by {growth:.2f} with every {step} back: it explodes."
    if math.isinf(half_life) or half_life > 2 * len(curve):
        return f"{where} hardly shrinks over {plural(len(curve), step)}."
    return f"{where} halves every {half_life:.1f} {step}s, and 95 % of it lie within {plural(within, step)}."
