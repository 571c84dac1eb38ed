"""Which weights to keep: an average of recent ones, validation at intervals, and the best so far.

Knows a model's weights and a job's way to measure them; not how they are trained.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor, nn

SHARE = 0.02  # of the training time for validation: about 3 % with the warm-up of its streams
FINAL_SHARE = 0.05  # and the measure of the kept weights at the end
CHEAPER = 3  # measuring an item costs a third of training on it: no backward pass
LEAST = 2_000  # items in a validation part, if there are as many
PATIENCE = 3  # validations in a row that are worse before memorisation is warned of
WORSE = 1.01  # by how much

# Sums of losses and their counts, piece by piece, over the first `items` validation items (None: all).
Measure = Callable[[nn.Module, int | None], Iterator[tuple[float, int]]]


class Average:
    """An exponential moving average of a model's weights, over about 1 / (1 - decay) steps.

    It ramps up, min(decay, (1 + n) / (10 + n)) at step n, so that it forgets the random start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = model
        self.weights = [parameter.detach().clone() for parameter in model.parameters()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.weights, list(self.model.parameters()), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with averaged weights, inside a with statement."""
        trained = [parameter.detach().clone() for parameter in self.model.parameters()]
        self._set(self.weights)
        try:
            yield
        finally:
            self._set(trained)

    @torch.no_grad()
    def _set(self, weights: list[Tensor]) -> None:
        torch._foreach_copy_(list(self.model.parameters()), weights)


class Validation:
    """Measures weights on a part of the validation data and keeps the best.

    The part is fixed at the first check, so large that all checks together take about SHARE of the time. tolerance: by
    what share later weights may be worse than the best and still be kept, where the measure itself is uncertain.
    """

    def __init__(
        self,
        model: nn.Module,
        measure: Measure,
        items: int,
        average: Average | None,
        tolerance: float = 0.0,
        least: int = LEAST,
    ) -> None:
        self.model, self.measure, self.items, self.average = model, measure, items, average
        self.tolerance, self.least = tolerance, least
        self.part: int | None = None
        self.best: dict[str, Tensor] | None = None
        self.history: list[
            tuple[int, float, float]
        ] = []  # step, training loss since the last check, best nats
        self.best_value = inf  # of the weights that are kept
        self.lowest = inf
        self.best_step = 0
        self.worse = 0
        self.warned = False

    def check(self, step: int, trained: int, loss: float, stop: Callable[[], bool]) -> bool:
        """Measure the weights and their average after `step`, and keep the better if it is the best so far.

        trained: items trained on since the last check. loss: the mean training loss over them.
        Returns whether there is a new best. When `stop` turns true, the unfinished measure is forgotten; a loss that is
        not finite is too.
        """
        if self.part is None:
            self.part = self.share(trained, SHARE / (1 if self.average is None else 2))
        value, found = self._measured(stop), False
        if self.average is not None and not stop():
            with self.average.in_place():
                averaged = self._measured(stop)
                found = averaged < value and self._offer(step, averaged)
            value = min(value, averaged)
        if not found:
            found = self._offer(step, value)
        if value < inf:
            self.worse = self.worse + 1 if value > WORSE * self.best_value else 0
            self.history.append((step, loss, value))
        return found

    def share(self, trained: int, share: float) -> int:
        """As many validation items as cost `share` of training on `trained`; not under `least`, if there
        are."""
        return min(self.items, max(self.least, int(trained * share * CHEAPER)))

    def total(self, items: int | None, stop: Callable[[], bool]) -> tuple[float, int]:
        """(mean loss, count) of the model as it is, over `items`; over less when `stop` turns true."""
        training = self.model.training
        self.model.eval()
        sum_, count = 0.0, 0
        try:
            with torch.inference_mode():
                for loss, n in self.measure(self.model, items):
                    sum_, count = sum_ + loss, count + n
                    if stop():
                        break
        finally:
            self.model.train(training)
        return sum_ / max(1, count), count

    def memorises(self) -> bool:
        """Whether validation has got worse for a while and training better. True once only."""
        if self.warned or self.worse < PATIENCE or len(self.history) <= PATIENCE:
            return False
        self.warned = self.history[-1][1] < self.history[-1 - PATIENCE][1]
        return self.warned

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        names = ("part", "best", "history", "best_value", "lowest", "best_step", "worse", "warned")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave."""
        for name, value in state.items():
            setattr(self, name, value)

    def _measured(self, stop: Callable[[], bool]) -> float:
        value, _ = self.total(self.part, stop)
        return value if isfinite(value) and not stop() else inf

    def _offer(self, step: int, value: float) -> bool:
        """Keep the weights now in the model, if they are the best."""
        self.lowest = min(self.lowest, value)
        near = self.tolerance > 0 and value <= (1 + self.tolerance) * self.lowest
        if value == inf or not (value < self.best_value or near):
            return False
        self.best_value, self.best_step = value, step
        self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
        return True
