"""A model on an input as `explain` sees it: its recurrent layers, what they did, and its loss after any window.

`Subject` is what memory, health, units and attribution are measured on; the models of the three jobs become one in
`subjects`, other modules in `module_subject`. Knows tensors, nothing of reports.

Letters: T steps of the input, L of a window, N windows, E numbers of a step that enter the layers, H hidden units.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from elman.data import ElmanError
from elman.layers import GRU, LSTM, RNN
from elman.recurrent import Recurrent
from elman.report import Floats, Guesses, Traced

Ints = npt.NDArray[np.integer[Any]]
Kind = Literal["text", "labels", "series", "layer"]
_TORCH: tuple[tuple[type[nn.Module], type[RNN] | type[GRU] | type[LSTM]], ...] = (
    (nn.LSTM, LSTM),
    (nn.GRU, GRU),
    (nn.RNN, RNN),
)
TOP = 5  # predictions shown
_PLACES = 32  # that a window's length must leave for means
_COPIES = 3  # of a trace at a time: as computed, by layer, as arrays


class Windowed(NamedTuple):
    """Windows of L steps, read from a zero state: losses of the last step (N,), what entered the layers (L, N, E), of
    which gradients are known where they were asked for, and, where there is no loss, the last output (N, ·)."""

    losses: Tensor
    entered: Tensor
    outputs: Tensor | None = None


class Question(NamedTuple):
    """One prediction to be explained: its name, what entered the layers (L, 1, E) from step `first` on, the unit of
    what `Subject.answer` gives, and of how many of the last steps it is asked, where not of all."""

    name: str
    entered: Tensor
    first: int
    unit: str
    most: int | None = None


class Subject(Protocol):
    """A model in eval mode, on one input."""

    @property
    def kind(self) -> Kind: ...
    @property
    def title(self) -> str: ...
    @property
    def facts(self) -> Mapping[str, str]:
        """What the model is."""
        ...

    @property
    def step(self) -> str:
        """What a step is: "character"."""
        ...

    @property
    def steps(self) -> tuple[str, ...]:
        """What stands at each."""
        ...

    @property
    def unit(self) -> str:
        """Of the losses: "nats", "difference"."""
        ...

    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def recurrent(self) -> Sequence[tuple[str, nn.Module]]:
        """The recurrent layers by name, elman's own or torch.nn's."""
        ...

    def trace(self) -> list[Traced]:
        """What every layer did at every step (T,)."""
        ...

    def guesses(self) -> tuple[Guesses, ...]:
        """After each step the likeliest predictions; () where there are none."""
        ...

    def step_losses(self) -> Floats | None:
        """(T,) the loss of what came after each step, NaN where that is not known."""
        ...

    def units(self) -> tuple[list[Traced], Mapping[str, Floats]]:
        """What units did at some steps, and features of the input at the same ones."""
        ...

    def ends(self) -> Ints:
        """The steps, or windows, after which there is a loss, ascending."""
        ...

    def places(self, ends: Ints) -> Ints:
        """(N,) how many steps lie before each."""
        ...

    def longest(self) -> int:
        """The most steps a window can have."""
        ...

    def windowed(self, ends: Ints, length: int) -> Windowed:
        """Windows that end at `ends` (N,), of `length` steps. Under torch.no_grad without gradients."""
        ...

    def question(self) -> Question | None:
        """The prediction to be explained; None where there is none."""
        ...

    def answer(self, entered: Tensor) -> Tensor:
        """The number that is explained, for (L, N, E): (N,)."""
        ...


def is_recurrent(module: nn.Module) -> bool:
    """Whether a module is a recurrent layer that can be traced."""
    return isinstance(module, nn.RNNBase | Recurrent)


def traceable(module: nn.Module) -> Any:
    """The layer itself, or elman's copy of a layer of torch.nn."""
    if isinstance(module, RNN | GRU | LSTM | Recurrent):
        return module
    for theirs, own in _TORCH:
        if isinstance(module, theirs):
            return own.from_torch(module)
    raise ElmanError(f"{type(module).__name__} is no recurrent layer: give one of torch.nn or elman.")


def cell_of(module: nn.Module) -> str:
    """ "lstm", "gru", "rnn", or the class of another cell."""
    return next(
        (own.__name__.lower() for theirs, own in _TORCH if isinstance(module, theirs | own)),
        type(module).__name__,
    )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module and all in it in eval mode; afterwards each in the mode that it had."""
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for m, mode in modes.items():
            m.training = mode


@torch.no_grad()
def run_traced(
    name: str, module: nn.Module, entered: Tensor, **given: Any
) -> tuple[Tensor, Any, list[Traced]]:
    """The output of a layer in eval mode for (T, N, E), its last state, and what it did (T * N, H), direction by
    direction. given: what else its forward takes.

    Time comes first, whatever the layer's own layout.
    """
    layer = traceable(module)
    x = entered.transpose(0, 1) if layer.batch_first else entered
    with evaluating(layer):
        y, last, trace = layer(x, **given | {"return_trace": True})
    if layer.batch_first:
        y, trace = y.transpose(0, 1), {key: value.transpose(0, 1) for key, value in trace.items()}
    return y, last, _by_direction(name, layer, trace)


def _by_direction(name: str, layer: Any, trace: Mapping[str, Tensor]) -> list[Traced]:
    found = []
    for k in range(layer.num_layers):
        for suffix, way in (("", ""), ("_reverse", ", backwards")) if layer.bidirectional else (("", ""),):
            ending = f"_l{k}{suffix}"
            values = {
                key.removesuffix(ending): value.flatten(0, 1).float().cpu().numpy()
                for key, value in trace.items()
                if key.endswith(ending)
            }
            found.append(
                Traced(f"{name}layer {k + 1}{way}", cell_of(layer), values, _weights(layer, k, suffix))
            )
    return found


def _weights(layer: Any, k: int, suffix: str) -> Floats:
    weight = getattr(layer, f"weight_hh_l{k}{suffix}", None)
    return (
        np.zeros((0, layer.hidden_size), np.float32)
        if weight is None
        else weight.detach().float().cpu().numpy()
    )


@dataclass(frozen=True)
class Room:
    """What a trace needs for each step, in bytes."""

    each: int

    @classmethod
    def of(cls, modules: Sequence[tuple[str, nn.Module]]) -> "Room":
        """Of all quantities of all layers."""
        quantities = {"lstm": 6, "gru": 4, "rnn": 1}
        units = 0
        for _, module in modules:
            layer: Any = module
            directions = layer.num_layers * (2 if layer.bidirectional else 1)
            units += layer.hidden_size * directions * quantities.get(cell_of(layer), 6)
        return cls(4 * units * _COPIES)

    def check(self, steps: int, what: str) -> None:
        """Raises ElmanError where a trace of so many steps would take more than half of the free memory."""
        fit = _free_memory() // 2 // max(1, self.each)
        if steps > fit:
            raise ElmanError(
                f"a trace of {steps:,} {what}s would take {steps * self.each / 1e9:.1f} GB, more than half of the "
                f"memory that is free: about {fit:,} {what}s would fit. Give a part of the input."
            )


def _free_memory() -> int:
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return int(
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    )  # macOS does not say what is free


def spread(count: int, most: int) -> Ints:
    """At most so many of the numbers below `count`, evenly spaced, the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def longest_of(ends: int) -> int:
    """The most steps of a window that leaves enough places to take means over."""
    return max(1, ends - min(_PLACES, ends // 2))


def top(probabilities: Tensor, name: Callable[[int], str]) -> tuple[Guesses, ...]:
    """The likeliest of probabilities (T, V) at each step, by name."""
    values, codes = probabilities.topk(min(TOP, probabilities.shape[1]), dim=1)
    return tuple(
        tuple((name(code), value) for code, value in zip(row, p, strict=True))
        for row, p in zip(codes.tolist(), values.tolist(), strict=True)
    )
