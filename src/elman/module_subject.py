"""Any torch module that contains recurrent layers, elman's or torch.nn's, as a `Subject`: a bare layer too.

The module is run as it is; hooks see what enters its first recurrent layer. With targets its loss is the usual one,
cross-entropy for whole numbers and half the squared error for others; without, the output is followed along a direction
drawn at random.

Letters as in `subject`; B sequences, O numbers of an output.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

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
    evaluating,
    is_recurrent,
    longest_of,
    run_traced,
    top,
)

_COLUMNS = 32  # of an input whose features are looked at
_SYMBOLS = 16
_QUESTION = 256
_OUTPUTS = (
    "explain needs a module whose output, or its first part, is a tensor of numbers for each step, (steps, batch, "
    "numbers) or (batch, steps, numbers), or of the last, (batch, numbers): this one gives {}. Wrap it in a module "
    "that does."
)
_NONE = -100  # torch's own for a step without a class


class _Call(NamedTuple):
    """What a layer was called with: its name, what entered (T, N, E), and what else by name."""

    name: str
    entered: Tensor
    rest: dict[str, Any]


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The input of a recurrent layer, and the rest of its arguments by name."""
    named = dict(zip(("input", "hx"), args, strict=False)) | kwargs
    return named.pop("input"), named


class ModuleSubject:
    """inputs: what the module's forward takes, a tensor of whole sequences laid out as its recurrent layers are (T, B,
    …), or (B, T, …) with batch_first, or (T, …). targets: (T, B) whole numbers, -100 for none; or like the output;
    laid out alike.

    Raises ElmanError for a module without recurrent layers or whose output is no tensor of numbers for each step or for
    the last, layers with proj_size, inputs that are empty or not laid out so, and targets that do not fit.
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
        if any(getattr(m, "proj_size", 0) for _, m in found):
            raise ElmanError("layers with proj_size are not traced: explain a module without.")
        self.module, self.first = module, found[0][1]
        self.batch_first: bool = bool(getattr(self.first, "batch_first", False))
        self.inputs = self._time_first(inputs.detach(), self._plain_dims(inputs))
        self.count, self.batch = self.inputs.shape[:2]
        Room.of(found).check(self.count * self.batch, self.step)
        self._flat = False
        self._calls = self._checked_calls(found)
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
        self.notes: tuple[str, ...] = (
            ("the first sequence is shown; means are over all",) if self.batch > 1 else ()
        )
        if left := [n or type(m).__name__ for n, m in found if m not in self._calls]:
            self.notes += (
                f"not shown, since they do not see one step for each of the input's: {', '.join(left)}",
            )

    def _plain_dims(self, inputs: Tensor) -> int:
        """Dimensions of one sequence: 2 where numbers enter the layer itself, 1 where codes do."""
        return 2 if inputs.is_floating_point() else 1

    def _time_first(self, values: Tensor, single: int) -> Tensor:
        """(T, B, …)."""
        if values.dim() == single:
            return values.unsqueeze(1)
        return values.transpose(0, 1) if self.batch_first else values

    def _checked_calls(self, found: Sequence[tuple[str, nn.Module]]) -> "dict[nn.Module, _Call]":
        """The first call of each layer that sees the input step by step. Raises ElmanError where the module cannot be
        run, or its first layer does not."""
        one = self.inputs[:, :1]
        try:
            with torch.no_grad():
                calls, out = self._seen(found, one)
                shorter = self._run(one[1:]) if self.count > 1 else out[1:] if out.dim() == 3 else out
        except ElmanError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise ElmanError(
                f"the module does not take these inputs {tuple(self.inputs.shape)}: {reason}"
            ) from error
        steps = len(calls[self.first].entered) if self.first in calls else None
        if steps != self.count:
            raise ElmanError(
                "the module's recurrent layers must see one step for each of the input's, in its layout: "
                f"{'(batch, steps, …)' if self.batch_first else '(steps, batch, …)'}; the input has {self.count} steps"
                + (", and the layer saw none." if steps is None else f", the layer saw {steps}.")
            )
        # Flat: one number a step, without a dimension of its own.
        self._flat = out.dim() == 2 and shorter.shape != out.shape
        sequences = 0 if self.batch_first else 1
        if self._flat and shorter.shape[sequences] != out.shape[sequences]:
            raise ElmanError("the module's output has lost the dimension of sequences: squeeze(-1) keeps it.")
        self._by_step = self._flat or (len(out), len(shorter)) == (self.count, self.count - 1)
        if out.dim() == 3 and not self._by_step:
            raise ElmanError(_OUTPUTS.format(f"{tuple(out.shape)} for {self.count} steps"))
        return {m: call for m, call in calls.items() if len(call.entered) == self.count}

    def _seen(
        self, found: Sequence[tuple[str, nn.Module]], inputs: Tensor
    ) -> "tuple[dict[nn.Module, _Call], Tensor]":
        """The first call of each layer, in the order of calls, and the output."""
        names = {m: f"{name}, " if name else "" for name, m in found}
        calls: dict[nn.Module, _Call] = {}

        def see(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x, rest = _arguments(args, kwargs)
            if isinstance(x, Tensor) and module not in calls:
                entered = x.transpose(0, 1) if getattr(module, "batch_first", False) and x.dim() == 3 else x
                calls[module] = _Call(names[module], entered, rest)

        hooks = [m.register_forward_pre_hook(see, with_kwargs=True) for m in names]
        try:
            return calls, self._run(inputs)
        finally:
            for hook in hooks:
                hook.remove()

    def _checked_targets(self, targets: Tensor) -> Tensor:
        if not isinstance(targets, Tensor):
            raise ElmanError(f"targets must be a tensor, not {type(targets).__name__}.")
        wanted = (self.count, self.batch)
        if not self._by_step:
            raise ElmanError("targets need a module with an output for each step; this one has one in all.")
        size = self._outputs.shape[-1]
        if not targets.is_floating_point():
            found = self._time_first(targets, 1)
            if tuple(found.shape) != wanted:
                raise ElmanError(
                    f"targets in whole numbers are classes, one for each step, {wanted} in steps and sequences: these "
                    f"have {tuple(targets.shape)}."
                )
            known = found[found != _NONE]
            if not len(known) or known.min() < 0 or known.max() >= size:
                raise ElmanError(
                    f"targets must be classes from 0 to {size - 1}, as many as the module has outputs, or {_NONE} "
                    "for a step without one; some must be there."
                )
            return found.long()
        found = self._time_first(targets, 1 if self._flat else 2)
        found = found.unsqueeze(-1) if self._flat else found
        if tuple(found.shape) != (*wanted, size):
            raise ElmanError(
                f"targets must be like the module's output, {(*wanted, size)[: 2 if self._flat else 3]} in steps, "
                f"sequences and numbers: these have {tuple(targets.shape)}."
            )
        return found.to(self._outputs.dtype)

    @property
    def _classes(self) -> bool:
        return self.targets is not None and not self.targets.is_floating_point()

    @property
    def recurrent(self) -> list[tuple[str, nn.Module]]:
        return [(call.name, m) for m, call in self._calls.items()]

    # Running it

    @contextmanager
    def _watched(self, given: Tensor | None) -> Iterator[None]:
        """In eval mode, with what enters the first recurrent layer kept in `_entered`, or replaced by `given`."""
        self._entered: list[Tensor] = []

        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            x, rest = _arguments(args, kwargs)
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
            return (x,), rest

        hook = self.first.register_forward_pre_hook(enter, with_kwargs=True)
        try:
            with evaluating(self.module):
                yield
        finally:
            hook.remove()

    def _run(self, inputs: Tensor, given: Tensor | None = None) -> Tensor:
        """The output (T, N, O), or (N, O) of a module with one, for inputs (T, N, …)."""
        with self._watched(given):
            out = self.module(inputs.transpose(0, 1) if self.batch_first else inputs)
        while isinstance(out, tuple | list) and out:
            out = out[0]
        if not isinstance(out, Tensor) or not 1 <= out.dim() <= 3 or not out.is_floating_point():
            what = f"{out.dtype} {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
            raise ElmanError(_OUTPUTS.format(what))
        if out.dim() == 1:
            out = out.unsqueeze(1)
        found: Tensor = out.transpose(0, 1) if self.batch_first and (out.dim() == 3 or self._flat) else out
        return found.unsqueeze(-1) if self._flat else found

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
        found = []
        for module, (name, entered, rest) in self._calls.items():
            found += run_traced(name, module, entered, **rest)[2]
        return found

    def guesses(self) -> tuple[Guesses, ...]:
        if not self._classes:
            return ()
        return top(self._outputs[:, 0].softmax(-1), str)

    def step_losses(self) -> Floats | None:
        if self.targets is None:
            return None
        found: Floats = self._losses(self._outputs[:, 0], self.targets[:, 0]).double().numpy()
        found[~self._known[:, 0].numpy()] = np.nan
        return found

    @property
    def _known(self) -> Tensor:
        """(T, B) where there is a target."""
        assert self.targets is not None
        return (
            self.targets != _NONE if self._classes else torch.ones(self.count, self.batch, dtype=torch.bool)
        )

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
            columns = x.reshape(self.count, -1).numpy()
            for k, column in enumerate(columns.T[:_COLUMNS]):
                name = "the input" if columns.shape[1] == 1 else f"input {k}"
                symbols, counts = np.unique(column, return_counts=True)
                for symbol in symbols[np.argsort(-counts, kind="stable")][:_SYMBOLS].tolist():
                    found[f"{name} is {symbol}"] = (column == symbol).astype(np.float64)
        return self.trace(), found

    def ends(self) -> Ints:
        """Step t of sequence b is t * B + b."""
        if self.targets is None:
            return np.arange(self.count * self.batch)
        return np.flatnonzero(self._known.numpy())

    def places(self, ends: Ints) -> Ints:
        return ends // self.batch

    def longest(self) -> int:
        places = self.places(self.ends())
        if len(places) == self.count * self.batch:
            return longest_of(self.count)
        return int(places[longest_of(len(places)) - 1]) + 1

    def windowed(self, ends: Ints, length: int) -> Windowed:
        t, b = torch.from_numpy(ends // self.batch), torch.from_numpy(ends % self.batch)
        places = t[None] - torch.arange(length - 1, -1, -1)[:, None]
        outputs = self._last(self.inputs[places, b[None]])
        if self.targets is None:
            along = torch.randn(outputs.shape[-1], generator=torch.Generator().manual_seed(0)).to(
                outputs.dtype
            )
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
