"""Any torch module that contains recurrent layers, elman's or torch.nn's, as a `Subject`: a bare layer too.

The module is run as it is; hooks see what enters its first recurrent layer. With targets its loss is the usual one,
cross-entropy for whole numbers and half the squared error for others; without, the output is followed along a direction
drawn at random.

Letters as in `subject`; B sequences, O numbers of an output.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from elman.data import ElmanError
from elman.report import Floats, Guesses, Traced
from elman.subject import (
    Ints,
    Kind,
    Question,
    Room,
    Windowed,
    cell_of,
    is_recurrent,
    longest_of,
    run_traced,
    top,
)

_COLUMNS = 32  # of an input whose features are looked at
_SYMBOLS = 16
_QUESTION = 256


class ModuleSubject:
    """inputs: what the module's forward takes, a tensor of whole sequences laid out as its recurrent layers are (T, B,
    …), or (B, T, …) with batch_first, or (T, …). targets: (T, B) whole numbers, or like the output, laid out alike.

    Raises ElmanError for a module without recurrent layers, inputs that are empty or not laid out so, and targets that
    do not fit.
    """

    kind: Kind = "layer"
    step = "step"

    def __init__(self, module: nn.Module, inputs: Tensor, targets: Tensor | None = None) -> None:
        found = [(name, m) for name, m in module.named_modules() if is_recurrent(m)]
        if not found:
            raise ElmanError(
                f"{type(module).__name__} has no recurrent layers: explain takes modules that contain RNN, GRU or "
                "LSTM of torch.nn or elman, or elman.Recurrent."
            )
        if not isinstance(inputs, Tensor) or inputs.dim() == 0 or inputs.numel() == 0:
            raise ElmanError("inputs must be a tensor of sequences with at least one step.")
        self.module, self.first = module, found[0][1]
        self.batch_first: bool = bool(getattr(self.first, "batch_first", False))
        self.inputs = self._time_first(inputs, self._plain_dims(inputs))
        self.count, self.batch = self.inputs.shape[:2]
        Room.of(found).check(self.count * self.batch, self.step)
        self.names = {m: f"{name}, " if name else "" for name, m in found}
        self._check_run()
        self.targets = None if targets is None else self._checked_targets(targets)
        self.unit = "difference" if targets is None else "nats" if self._classes else "loss"
        self.steps = tuple(map(str, range(1, self.count + 1)))
        sequences = f"{self.batch:,} sequences of " if self.batch > 1 else ""
        self.title = f"{sequences}{self.count:,} steps through {type(module).__name__}"
        parameters = sum(p.numel() for p in module.parameters())
        self.facts: Mapping[str, str] = {
            "recurrent layers": ", ".join(f"{n or type(m).__name__} ({cell_of(m)}, {m.hidden_size})" for n, m in found),
            "parameters": f"{parameters:,}",
        }  # fmt: skip
        self.notes = ("the first sequence is shown; means are over all",) if self.batch > 1 else ()

    def _plain_dims(self, inputs: Tensor) -> int:
        """Dimensions of one sequence: 2 where numbers enter the layer itself, 1 where codes do."""
        return 2 if inputs.is_floating_point() else 1

    def _time_first(self, values: Tensor, single: int) -> Tensor:
        """(T, B, …)."""
        if values.dim() == single:
            return values.unsqueeze(1)
        return values.transpose(0, 1) if self.batch_first else values

    def _check_run(self) -> None:
        try:
            found = self._run(self.inputs[:, :1])
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise ElmanError(
                f"the module does not take these inputs {tuple(self.inputs.shape)}: {reason}"
            ) from error
        if not self._entered or len(self._entered[0]) != self.count:
            raise ElmanError(
                "the module's recurrent layers must see one step for each of the input's, in its layout: "
                f"{'(batch, steps, …)' if self.batch_first else '(steps, batch, …)'}; the input has {self.count} steps"
                + (
                    f", the layer saw {len(self._entered[0])}."
                    if self._entered
                    else ", and the layer saw none."
                )
            )
        self._by_step = found.dim() == 3 and len(found) == self.count

    def _checked_targets(self, targets: Tensor) -> Tensor:
        found = self._time_first(targets, 1 if not targets.is_floating_point() else 2)
        wanted = (self.count, self.batch)
        if not self._by_step or tuple(found.shape[:2]) != wanted:
            raise ElmanError(
                f"targets must have a value for each step, {wanted} in steps and sequences, and the module an output: "
                f"targets have {tuple(targets.shape)}."
            )
        return found

    @property
    def _classes(self) -> bool:
        return self.targets is not None and not self.targets.is_floating_point()

    @property
    def recurrent(self) -> list[tuple[str, nn.Module]]:
        return [(name, m) for m, name in self.names.items()]

    # Running it

    @contextmanager
    def _watched(self, given: Tensor | None) -> Iterator[None]:
        """In eval mode, with what enters the first recurrent layer kept in `_entered`, or replaced by `given`."""
        self._entered: list[Tensor] = []

        def enter(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            x = args[0]
            if isinstance(x, PackedSequence):
                raise ElmanError(
                    "packed sequences cannot be explained: give one sequence, or several of one length."
                )
            if x.dim() == 2:
                raise ElmanError("the recurrent layers must see batches: give them (steps, batch, numbers).")
            if not self._entered:
                own = x.transpose(0, 1) if self.batch_first else x
                if given is not None:
                    own = given
                elif torch.is_grad_enabled():
                    own = own.detach().requires_grad_()
                self._entered.append(own)
                x = own.transpose(0, 1) if self.batch_first else own
            return (x, *args[1:])

        modes = {m: m.training for m in self.module.modules()}
        hook = self.first.register_forward_pre_hook(enter)
        self.module.eval()
        try:
            yield
        finally:
            hook.remove()
            for m, mode in modes.items():
                m.training = mode

    def _run(self, inputs: Tensor, given: Tensor | None = None) -> Tensor:
        """The output (T, N, O), or (N, O) of a module with one, for inputs (T, N, …)."""
        with self._watched(given):
            out = self.module(inputs.transpose(0, 1) if self.batch_first else inputs)
        while isinstance(out, tuple | list):
            out = out[0]
        found: Tensor = out.transpose(0, 1) if self.batch_first and out.dim() == 3 else out
        return found

    def _last(self, inputs: Tensor, given: Tensor | None = None) -> Tensor:
        """(N, O) after the last step."""
        found = self._run(inputs, given)
        return found[-1] if self._by_step else found

    @cached_property
    @torch.no_grad()
    def _outputs(self) -> Tensor:
        return self._run(self.inputs[:, :1])

    # What a subject does

    def trace(self) -> list[Traced]:
        calls: dict[nn.Module, tuple[Tensor, Any]] = {}

        def see(module: nn.Module, args: tuple[Any, ...]) -> None:
            calls.setdefault(module, (args[0], args[1] if len(args) > 1 else None))

        hooks = [m.register_forward_pre_hook(see) for m in self.names]
        try:
            with torch.no_grad():
                self._run(self.inputs[:, :1])
        finally:
            for hook in hooks:
                hook.remove()
        found = []
        for module, (x, state) in calls.items():
            entered = x.transpose(0, 1) if getattr(module, "batch_first", False) else x
            found += run_traced(self.names[module], module, entered, state)[2]
        return found

    def guesses(self) -> tuple[Guesses, ...]:
        if not self._classes:
            return ()
        return top(self._outputs[:, 0].softmax(-1), str)

    def step_losses(self) -> Floats | None:
        if self.targets is None:
            return None
        found: Floats = self._losses(self._outputs[:, 0], self.targets[:, 0]).numpy()
        return found

    def _losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self._classes:
            return F.cross_entropy(outputs, targets, reduction="none")
        return ((outputs - targets) ** 2).flatten(1).sum(1) / 2

    def units(self) -> tuple[list[Traced], Mapping[str, Floats]]:
        x = self.inputs[:, 0]
        found: dict[str, Floats] = {"position": np.arange(self.count, dtype=np.float64)}
        if x.is_floating_point():
            flat = x.flatten(1)[:, :_COLUMNS].double().numpy()
            found |= {f"input {k}": column for k, column in enumerate(flat.T)}
        else:
            symbols, counts = np.unique(x.flatten().numpy(), return_counts=True)
            for symbol in symbols[np.argsort(-counts, kind="stable")][:_SYMBOLS].tolist():
                found[f"the input is {symbol}"] = (x == symbol).double().numpy().reshape(self.count)
        return self.trace(), found

    def ends(self) -> Ints:
        """Step t of sequence b is t * B + b."""
        return np.arange(self.count * self.batch)

    def places(self, ends: Ints) -> Ints:
        return ends // self.batch

    def longest(self) -> int:
        return longest_of(self.count)

    def windowed(self, ends: Ints, length: int) -> Windowed:
        t, b = torch.from_numpy(ends // self.batch), torch.from_numpy(ends % self.batch)
        places = t[None] - torch.arange(length - 1, -1, -1)[:, None]
        outputs = self._last(self.inputs[places, b[None]])
        if self.targets is None:
            along = torch.randn(outputs.shape[-1], generator=torch.Generator().manual_seed(0))
            return Windowed(outputs @ (along / along.norm()), self._entered[0], outputs)
        return Windowed(self._losses(outputs, self.targets[t, b]), self._entered[0])

    def question(self) -> Question | None:
        first = max(0, self.count - _QUESTION)
        with torch.no_grad():
            self._asked_of = self.inputs[first:, :1]
            self._asked = int(self._last(self._asked_of)[0].argmax())
        name = f"output {self._asked}, the largest after the last step"
        return Question(name, self._entered[0].detach(), first, "the output")

    def answer(self, entered: Tensor) -> Tensor:
        repeated = self._asked_of.expand(-1, entered.shape[1], *self._asked_of.shape[2:])
        return self._last(repeated, entered)[:, self._asked]
