"""What the user sees while a job trains, all of it on stderr: lines, and a bar where there is a terminal.

Knows nothing of models or torch. Elsewhere than on a terminal the bar becomes a plain line now and then.
"""

import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress

_BAR_SECONDS = 0.5  # drawing the bar costs some milliseconds
_LINE_SECONDS = 15.0


@dataclass(frozen=True)
class Snapshot:
    """How far training is. `share` is between 0 and 1; losses are None before they are known."""

    share: float
    loss: float | None
    validation: float | None
    rate: float  # units a second
    seconds_left: float


class Report:
    """Lines and a progress bar on stderr; nothing at all with `on` False.

    A context manager: the bar ends with it.
    """

    def __init__(self, on: bool = True, unit: str = "chars") -> None:
        self.on, self.unit = on, unit
        self._bar: Progress | None = None
        self._next = 0.0

    def __enter__(self) -> Self:
        if self.on and sys.stderr.isatty():
            self._bar = _make_bar()
            self._bar.start()
            self._bar.add_task("training", total=1.0, figures="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def line(self, text: str) -> None:
        """One line for the user."""
        if not self.on:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def due(self) -> bool:
        """Whether it is time for another `show`: a clock reading, cheap enough for every step."""
        return self.on and time.monotonic() >= self._next

    def show(self, now: Snapshot) -> None:
        """Draw the bar anew, or print a plain line."""
        if not self.on:
            return
        self._next = time.monotonic() + (_LINE_SECONDS if self._bar is None else _BAR_SECONDS)
        if self._bar is None:
            self.line(f"{now.share:4.0%}  {self._figures(now)}")
        else:
            self._bar.update(
                self._bar.task_ids[0], completed=now.share, figures=self._figures(now), refresh=True
            )

    def _figures(self, now: Snapshot) -> str:
        figures = [
            f"{name} {value:.3f}"
            for name, value in (("loss", now.loss), ("validation", now.validation))
            if value
        ]
        return "  ".join([*figures, f"{now.rate:,.0f} {self.unit}/s", f"{clock(now.seconds_left)} left"])


def clock(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _make_bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = BarColumn(bar_width=24), TaskProgressColumn(), TextColumn("{task.fields[figures]}")
    return Progress(*columns, console=Console(stderr=True), auto_refresh=False)
