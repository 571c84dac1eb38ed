"""The door from torch to the native interpreter: runs a traced cell over time, with its gradients.

`run` is to `reference.program` what `ops.recurrence` is to `reference.recurrence`: the same shapes and results, by the
native programs where they apply. It knows nothing of input projections, layers or dropout.

Letters: T steps, B sequences, H hidden units, G gates, N rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from elman import _native, ops, reference
from elman.expression import Graph
from elman.program import Code, Programs, compiled
from elman.reference import Affine

__all__ = ["Cell", "Result", "run"]


class Result(NamedTuple):
    states: list[Tensor]  # each (N, H): its value after every step
    last: list[Tensor]  # each (B, H): after each sequence's last step
    taps: Tensor  # (N, ·*H)


@dataclass(frozen=True)
class Cell:
    """A traced cell as plain text, and which of its states' values at every step are an output."""

    text: str
    given: tuple[bool, ...]

    @property
    def graph(self) -> Graph:
        return Graph.from_json(self.text)

    @property
    def programs(self) -> Programs:
        return compiled(self.text, self.given)


class _Inputs(NamedTuple):
    """Everything a run reads; a flat list of tensors for autograd."""

    x: Tensor
    initial: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    parameters: Tensor | None
    masks: Tensor | None
    noise: Tensor | None
    resets: Tensor | None
    after_reset: tuple[Tensor, ...]

    def flat(self) -> list[Tensor | None]:
        return [
            self.x, self.parameters, self.masks, self.noise, self.resets, *self.initial, *self.weights, *self.biases,
            *self.after_reset,
        ]  # fmt: skip

    @classmethod
    def of(cls, flat: Sequence[Any], states: int, products: int) -> "_Inputs":
        rest = list(flat[5:])
        initial, rest = rest[:states], rest[states:]
        weights, rest = rest[:products], rest[products:]
        biases, after_reset = rest[:products], rest[products:]
        x, parameters, masks, noise, resets = flat[:5]
        return cls(
            x, tuple(initial), tuple(weights), tuple(biases), parameters, masks, noise, resets, tuple(after_reset)
        )  # fmt: skip

    def affine(self) -> Affine:
        return list(zip(self.weights, self.biases, strict=True))


def run(
    cell: Cell,
    x: Tensor,
    initial: Sequence[Tensor],
    weights: Affine,
    parameters: Tensor | None = None,
    masks: Tensor | None = None,
    noise: Tensor | None = None,
    batch_sizes: list[int] | None = None,
    reverse: bool = False,
    resets: Tensor | None = None,
    after_reset: Sequence[Tensor] = (),
) -> Result:
    """`reference.program`, natively where there is a kernel: same shapes and results.

    Of states that are no output (`cell.given`), only the last value may be used.
    """
    w, b = tuple(w for w, _ in weights), tuple(b for _, b in weights)
    after_reset = () if resets is None else tuple(after_reset)
    inputs = _Inputs(x, tuple(initial), w, b, parameters, masks, noise, resets, after_reset)
    flat = inputs.flat()
    floats = [t for t in flat[1:] if t is not None and t.is_floating_point()]
    if not ops.has_kernel(x, floats) or ops.transformed():
        return Result(*_reference(cell, inputs, batch_sizes, reverse))
    states = len(initial)
    if torch.compiler.is_compiling():
        found = _traced(cell, inputs, batch_sizes, reverse)
    elif torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in flat):
        found = list(_Program.apply(cell, batch_sizes, reverse, states, len(w), *flat))  # type: ignore[no-untyped-call]
    else:
        found = _forward(cell, inputs, batch_sizes, reverse, train=False)
    return Result(found[:states], found[states : 2 * states], found[2 * states])


def _reference(
    cell: Cell, inputs: _Inputs, batch_sizes: list[int] | None, reverse: bool
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    return reference.program(
        cell.graph, inputs.x, inputs.initial, inputs.affine(), inputs.parameters, inputs.masks, inputs.noise,
        batch_sizes, reverse, inputs.resets, inputs.after_reset,
    )  # fmt: skip


class _Shape(NamedTuple):
    steps: int
    batch: int
    hidden: int
    sizes: list[int] | tuple[int, ...]
    reverse: bool
    threads: int
    resets: int

    @classmethod
    def of(cls, inputs: _Inputs, batch_sizes: list[int] | None, reverse: bool) -> "_Shape":
        batch, hidden = inputs.initial[0].shape
        steps = len(inputs.x) // batch if batch_sizes is None else len(batch_sizes)
        threads = torch.get_num_threads()
        return cls(steps, batch, hidden, batch_sizes or (), reverse, threads, ops.pointer(inputs.resets))


def _contiguous(inputs: _Inputs) -> _Inputs:
    """For pointers; behind each initial state, the one after a reset."""
    initial = inputs.initial
    if inputs.resets is not None:
        initial = tuple(torch.cat(pair) for pair in zip(initial, inputs.after_reset, strict=True))
    flat = inputs._replace(initial=initial).flat()
    made = [None if t is None else t.contiguous() for t in flat]
    return _Inputs.of(made, len(initial), len(inputs.weights))


def _call(
    code: Code,
    shape: _Shape,
    backward: bool,
    arrays: dict[str, Tensor | None],
    inputs: _Inputs,
    gradients: Sequence[Tensor] = (),
) -> None:
    pointers = [ops.pointer(arrays.get(name)) for name in code.arrays]
    initial = [t.data_ptr() for t in inputs.initial]
    weights = [t.data_ptr() for t in inputs.weights]
    biases = [0 if backward else ops.pointer(t) for t in inputs.biases]
    code.program.run(
        inputs.x.dtype == torch.float64, backward, shape.steps, shape.batch, shape.hidden, shape.sizes, shape.reverse,
        shape.threads, shape.resets, pointers, initial, [t.data_ptr() for t in gradients], weights, biases,
    )  # fmt: skip


def _arrays(
    inputs: _Inputs, states: Sequence[Tensor], taps: Tensor, kept: Tensor
) -> dict[str, Tensor | None]:
    """What both programs read, by the names of `Programs`."""
    named: dict[str, Tensor | None] = {"x": inputs.x, "parameters": inputs.parameters, "masks": inputs.masks}
    named |= {"noise": inputs.noise, "taps": taps, "kept": kept}
    for j, state in enumerate(states):
        named[f"state{j}"] = named[f"new{j}"] = state
    return named


def _forward(
    cell: Cell, inputs: _Inputs, batch_sizes: list[int] | None, reverse: bool, train: bool
) -> list[Tensor]:
    """States, last states, taps; then what the gradient needs: kept (N, ·*H), and each product's input (N, H)."""
    programs = cell.programs
    inputs = _contiguous(inputs)
    shape = _Shape.of(
        inputs._replace(initial=tuple(t[: _batch(inputs)] for t in inputs.initial)), batch_sizes, reverse
    )
    x, rows, hidden = inputs.x, len(inputs.x), shape.hidden
    states = [x.new_empty(rows, hidden) for _ in inputs.initial]
    taps = x.new_empty(rows, programs.taps * hidden)
    kept = ops.pooled(x, rows, programs.kept * hidden) if train else x.new_empty(0)
    lefts = [ops.pooled(x, rows, hidden) if left < 0 else x.new_empty(0) for left in programs.lefts]
    arrays = _arrays(inputs, states, taps, kept) | {f"left{s}": left for s, left in enumerate(lefts)}
    _call(programs.train if train else programs.run, shape, False, arrays, inputs)
    last = [ops.final(state, shape.batch, batch_sizes, reverse) for state in states]
    return [*states, *last, taps, kept, *lefts]


def _batch(inputs: _Inputs) -> int:
    """B of inputs made contiguous."""
    return len(inputs.initial[0]) // (1 if inputs.resets is None else 2)


def _backward(
    cell: Cell,
    inputs: _Inputs,
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    batch_sizes: list[int] | None,
    reverse: bool,
) -> list[Tensor | None]:
    """Gradients in the order of `_Inputs.flat`. outputs: `_forward`'s; gradients: of states, last states and taps."""
    programs = cell.programs
    count = len(inputs.initial)
    states, taps, kept, lefts = (
        outputs[:count],
        outputs[2 * count],
        outputs[2 * count + 1],
        outputs[2 * count + 2 :],
    )
    shape = _Shape.of(inputs, batch_sizes, reverse)
    inputs, x = _contiguous(inputs), inputs.x
    rows, batch, hidden = len(x), shape.batch, shape.hidden
    carried = [ops.zeros_or_copy(x.new_empty(batch, hidden), g) for g in gradients[count : 2 * count]]
    if inputs.resets is not None:
        carried = [torch.cat((c, torch.zeros_like(c))) for c in carried]
    arrays = _arrays(inputs, states, taps, kept)
    for j, g in enumerate(gradients[:count]):
        if cell.given[j]:
            arrays[f"given{j}"] = x.new_zeros(rows, hidden) if g is None else g.contiguous()
    if programs.taps:
        g = gradients[2 * count]
        arrays["given_taps"] = torch.zeros_like(taps) if g is None else g.contiguous()
    arrays |= {f"carried{j}": c for j, c in enumerate(carried)}
    dx = arrays["dx"] = x.new_empty(rows, programs.inputs * hidden)
    du = [
        dx if programs.fused and s == 0 else ops.pooled(x, rows, columns * hidden)
        for s, columns in enumerate(programs.columns)
    ]
    arrays |= {f"du{s}": d for s, d in enumerate(du)}
    dparameters = arrays["dparameters"] = x.new_zeros(batch, programs.parameters * hidden)
    _call(programs.backward, shape, True, arrays, inputs, carried)
    dw, db = [], []
    for s, d in enumerate(du):
        j = programs.lefts[s]
        left = (lefts[s], 0) if j < 0 else (states[j], inputs.initial[j].data_ptr())
        w, b = _outer(shape, d, *left)
        dw.append(w)
        db.append(b if inputs.biases[s] is not None else None)
    dinitial = [c[:batch] for c in carried]
    dreset = [c[batch:] for c in carried] if inputs.resets is not None else []
    of_parameters = None
    if inputs.parameters is not None:
        of_parameters = dparameters.sum(0).view(programs.parameters, hidden)
    return [dx, of_parameters, None, None, None, *dinitial, *dw, *db, *dreset]


def _outer(shape: _Shape, d: Tensor, left: Tensor, initial: int) -> tuple[Tensor, Tensor]:
    """Gradients of a product's weight and bias. initial: not 0 where the product's input is the state before a step."""
    w, b = d.new_empty(d.shape[1], shape.hidden), d.new_empty(d.shape[1])
    _native.outer(
        d.dtype == torch.float64, *shape, initial != 0, d.shape[1], d.data_ptr(), left.data_ptr(), initial,
        w.data_ptr(), b.data_ptr(),
    )  # fmt: skip
    return w, b


class _Program(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cell: Cell, batch_sizes: list[int] | None, reverse: bool, states: int, products: int,
        *flat: Tensor | None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        outputs = _forward(cell, _Inputs.of(flat, states, products), batch_sizes, reverse, True)
        ctx.cell, ctx.batch_sizes, ctx.reverse = cell, batch_sizes, reverse
        ctx.states, ctx.products = states, products
        ctx.save_for_backward(*flat, *outputs)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(s for s, given in zip(outputs, cell.given, strict=False) if not given))
        return tuple(outputs[: 2 * states + 1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        inputs, outputs = _split(ctx.saved_tensors, ctx.states, ctx.products)
        if torch.is_grad_enabled():
            found = _differentiable_gradients(ctx, inputs, gradients)
        else:
            found = _backward(ctx.cell, inputs, outputs, gradients, ctx.batch_sizes, ctx.reverse)
        return None, None, None, None, None, *found


def _split(saved: Sequence[Any], states: int, products: int) -> tuple[_Inputs, Sequence[Tensor]]:
    """Inputs and outputs, of what forward saved."""
    count = 5 + states + 2 * products + (0 if saved[4] is None else states)
    return _Inputs.of(saved[:count], states, products), saved[count:]


def _differentiable_gradients(
    ctx: Any, inputs: _Inputs, gradients: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The same gradients through `reference`, so that they can be differentiated again (`create_graph=True`)."""
    states, last, taps = _reference(ctx.cell, inputs, ctx.batch_sizes, ctx.reverse)
    return ops.differentiable([*states, *last, taps], inputs.flat(), gradients)


# torch's own autograd for operators sees lists of tensors, but none in which some are absent: `there` says which are.
_library: Any = torch.library.Library("elman", "FRAGMENT")  # type: ignore[no-untyped-call]
_HOW = "str graph, bool[] given, int states, int products, bool[] there"
_library.define(f"program({_HOW}, Tensor[] inputs, SymInt[]? batch_sizes, bool reverse) -> Tensor[]")
_library.define(
    f"program_backward({_HOW}, Tensor[] inputs, Tensor[] outputs, Tensor?[] gradients, SymInt[]? batch_sizes, "
    "bool reverse) -> Tensor[]"
)


class _How(NamedTuple):
    """An operator's arguments that are no tensors."""

    graph: str
    given: Sequence[bool]
    states: int
    products: int
    there: Sequence[bool]

    @property
    def cell(self) -> Cell:
        return Cell(self.graph, tuple(self.given))

    def inputs(self, tensors: Sequence[Tensor]) -> _Inputs:
        rest = iter(tensors)
        return _Inputs.of([next(rest) if t else None for t in self.there], self.states, self.products)


def _traced(cell: Cell, inputs: _Inputs, batch_sizes: list[int] | None, reverse: bool) -> list[Tensor]:
    flat = inputs.flat()
    there = [t is not None for t in flat]
    how = _How(cell.text, cell.given, len(inputs.initial), len(inputs.weights), there)
    found: list[Tensor] = torch.ops.elman.program(
        *how, [t for t in flat if t is not None], batch_sizes, reverse
    )
    return found


def _op_forward(*arguments: Any) -> list[Tensor]:
    *how, tensors, batch_sizes, reverse = arguments
    return _forward(_How(*how).cell, _How(*how).inputs(tensors), batch_sizes, reverse, train=True)


def _op_backward(*arguments: Any) -> list[Tensor]:
    *rest, tensors, outputs, gradients, batch_sizes, reverse = arguments
    how = _How(*rest)
    inputs = how.inputs(tensors)
    found = _backward(how.cell, inputs, outputs, gradients, batch_sizes, reverse)
    return [
        inputs.x.new_empty(0) if g is None else g for g, there in zip(found, how.there, strict=True) if there
    ]


def _fake_forward(*arguments: Any) -> list[Tensor]:
    *rest, tensors, _, _ = arguments
    how = _How(*rest)
    inputs, programs = how.inputs(tensors), how.cell.programs
    x, rows = inputs.x, inputs.x.shape[0]
    batch, hidden = inputs.initial[0].shape
    whole = [x.new_empty(rows, hidden) for _ in range(how.states)]
    last = [x.new_empty(batch, hidden) for _ in range(how.states)]
    lefts = [x.new_empty(rows, hidden) if left < 0 else x.new_empty(0) for left in programs.lefts]
    return [
        *whole,
        *last,
        x.new_empty(rows, programs.taps * hidden),
        x.new_empty(rows, programs.kept * hidden),
        *lefts,
    ]


def _fake_backward(*arguments: Any) -> list[Tensor]:
    *rest, tensors, _, _, _, _ = arguments
    how = _How(*rest)
    inputs = how.inputs(tensors)
    kept = inputs._replace(masks=None, noise=None, resets=None).flat()
    found = [inputs.x.new_empty(0) if t is None else t.new_empty(t.shape) for t in kept]
    return [g for g, there in zip(found, how.there, strict=True) if there]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    *how, tensors, ctx.batch_sizes, ctx.reverse = inputs
    ctx.how = _How(*how)
    ctx.save_for_backward(*tensors, *output)


def _op_autograd(ctx: Any, gradients: Sequence[Tensor | None]) -> tuple[Any, ...]:
    count = sum(ctx.how.there)
    tensors, outputs = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
    found = torch.ops.elman.program_backward(
        *ctx.how, tensors, outputs, list(gradients[: 2 * ctx.how.states + 1]), ctx.batch_sizes, ctx.reverse
    )
    wanted = [g if t.is_floating_point() and g.numel() else None for g, t in zip(found, tensors, strict=True)]
    return None, None, None, None, None, wanted, None, None


_library.impl("program", _op_forward, "CPU")
_library.impl("program_backward", _op_backward, "CPU")
torch.library.register_fake("elman::program", _fake_forward, lib=_library)
torch.library.register_fake("elman::program_backward", _fake_backward, lib=_library)
torch.library.register_autograd("elman::program", _op_autograd, setup_context=_setup_context, lib=_library)
