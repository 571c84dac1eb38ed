"""How long to train and how fast to learn: the budget, its clock, and the learning rate along it.

Torch-free; knows nothing of what is trained.
"""

import math
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

CHECKS = 20  # validations in a run, or more in a long one
CHECK_MINUTES = 5.0
LEAST_TRAINED = 0.9  # of the minutes: the rest may go to the last validation and the final measure


@dataclass(frozen=True)
class Settings:
    """How to train. minutes or epochs are the budget; of both, what is over first.

    warmup: share of the budget. averaging: decay of the weights' moving average, 0 for none. clip: the
    largest norm of the gradient. weight_decay is decoupled and on matrices only.
    """

    learning_rate: float
    minutes: float | None = None
    epochs: float | None = None
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup: float = 0.03
    schedule: Literal["cosine", "linear"] = "cosine"
    averaging: float = 0.998

    def as_dict(self) -> dict[str, Any]:
        """The settings by name, JSON-able."""
        return asdict(self) | {"betas": list(self.betas)}

    def rate(self, progress: float) -> float:
        """The learning rate at `progress`, 0 to 1, of the budget: linear warm-up, then decay to 0."""
        if progress < self.warmup:
            return self.learning_rate * max(0.01, progress / self.warmup)
        left = 1 - min(1.0, (progress - self.warmup) / (1 - self.warmup))
        return self.learning_rate * (
            left if self.schedule == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)
        )


class Budget:
    """Progress through minutes, which the clock counts over a resume too, through epochs, counted in steps, or through
    both."""

    def __init__(self, settings: Settings, steps_per_epoch: int) -> None:
        self.seconds = None if settings.minutes is None else settings.minutes * 60
        self.total_steps = (
            math.inf if settings.epochs is None else max(1, round(settings.epochs * steps_per_epoch))
        )
        self.before = 0.0  # seconds of earlier runs
        self.reserve = 0.0  # seconds kept for what comes after the last step
        self._begun = time.monotonic()
        longest = settings.epochs if settings.minutes is None else settings.minutes / CHECK_MINUTES
        self.checks = max(CHECKS, math.ceil(longest or 1))

    def start(self) -> None:
        """The clock starts."""
        self._begun = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of training so far."""
        return self.before + time.monotonic() - self._begun

    def progress(self, steps: int) -> float:
        """Share of the budget that is used after `steps`: 1 or more when training ends."""
        by_steps = steps / self.total_steps
        if self.seconds is None:
            return by_steps
        return max(by_steps, self.elapsed / max(LEAST_TRAINED * self.seconds, self.seconds - self.reserve))

    def left(self, steps: int) -> float:
        """Seconds to the end, an estimate when epochs are the budget."""
        by_clock = math.inf if self.seconds is None else self.seconds - self.elapsed
        return min(by_clock, self.elapsed * (self.total_steps / max(1, steps) - 1) + self.reserve)
