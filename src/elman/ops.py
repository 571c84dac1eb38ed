"""The only door from torch to the native kernels.

`recurrence` runs one layer's recurrence in one direction. It chooses the cheapest way that is right:

- nothing needs a gradient: the kernel, called directly;
- eager training: an `autograd.Function`, cheaper per call than a dispatched operator;
- tracing (`torch.compile`, `torch.export`): operators of the `elman` library, so that a trace holds one node;
- second derivatives, forward-mode, `vmap`, other devices and dtypes: `reference`, in plain PyTorch.

It knows nothing of input projections, layers or dropout. Letters and shapes as in `reference` and native/kernels.h.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from elman import _native, reference

__all__ = ["recurrence"]

_CELLS = {"rnn_tanh": 0, "rnn_relu": 1, "rnn_sigmoid": 2, "gru": 3, "lstm": 4}
_GATES = reference.GATES
_DTYPES = (torch.float32, torch.float64)

State = tuple[Tensor, Tensor, Tensor | None]
"""y (N, H), h_n (B, H), c_n (B, H) or None."""


def recurrence(
    cell: str,
    xproj: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    w_hh: Tensor,
    b_hn: Tensor | None,
    batch_sizes: list[int] | None,
    reverse: bool,
) -> State:
    """`reference.recurrence`, by the native kernels where they apply: same arguments, shapes and results."""
    inputs = (xproj, h0, c0, w_hh, b_hn)
    if not _has_kernel(inputs):
        return reference.recurrence(cell, xproj, h0, c0, w_hh, b_hn, batch_sizes, reverse)
    if torch.compiler.is_compiling():
        y, h_n, c_n, *_ = torch.ops.elman.recurrence(cell, *inputs, batch_sizes, reverse)
    elif _transformed():
        return reference.recurrence(cell, xproj, h0, c0, w_hh, b_hn, batch_sizes, reverse)
    elif torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        y, h_n, c_n = _Recurrence.apply(cell, *inputs, batch_sizes, reverse)
    else:
        y, h_n, c_n, *_ = _forward(cell, *inputs, batch_sizes, reverse, False)
    return y, h_n, c_n if cell == "lstm" else None


def _has_kernel(inputs: Sequence[Tensor | None]) -> bool:
    first = inputs[0]
    assert first is not None
    if first.dtype not in _DTYPES or first.numel() == 0:
        return False
    return all(t is None or (t.device.type == "cpu" and t.dtype == first.dtype) for t in inputs)


def _transformed() -> bool:
    """Inside `torch.func` transforms or forward-mode differentiation, which see through tensors, not pointers."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def _pointer(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


def _contiguous(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.contiguous()


def _steps(xproj: Tensor, h0: Tensor, batch_sizes: list[int] | None) -> int:
    return len(xproj) // len(h0) if batch_sizes is None else len(batch_sizes)


def _last_rows(batch_sizes: list[int], reverse: bool) -> Tensor:
    """The row of each sequence's last processed step in packed data."""
    if reverse:
        return torch.arange(batch_sizes[0])
    sizes = torch.tensor(batch_sizes)
    lengths = (sizes[:, None] > torch.arange(batch_sizes[0])).sum(0)
    return (sizes.cumsum(0) - sizes)[lengths - 1] + torch.arange(batch_sizes[0])


def _final(y: Tensor, batch: int, batch_sizes: list[int] | None, reverse: bool) -> Tensor:
    if batch_sizes is not None:
        return y.index_select(0, _last_rows(batch_sizes, reverse))
    return (y[:batch] if reverse else y[-batch:]).clone()


def _forward(
    cell: str,
    xproj: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    w_hh: Tensor,
    b_hn: Tensor | None,
    batch_sizes: list[int] | None,
    reverse: bool,
    train: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """y, h_n, c_n, and what backward needs: c (N, H), gates (N, G*H), hidden_n (N, H). Absent ones are empty."""
    steps, (batch, hidden) = _steps(xproj, h0, batch_sizes), h0.shape
    inputs = [_contiguous(t) for t in (xproj, h0, c0, w_hh, b_hn)]
    x, h, c_first, w, b = inputs
    assert x is not None and h is not None and w is not None
    rows = len(x)
    product = F.linear(h, w) if steps == 1 else None
    y = x.new_empty(rows, hidden)
    c = x.new_empty(0) if c_first is None else x.new_empty(rows, hidden) if train else c_first.clone()
    gates = torch.empty_like(x) if train and _GATES[cell] > 1 else x.new_empty(0)
    hidden_n = x.new_empty(rows, hidden) if train and cell == "gru" else x.new_empty(0)
    _native.forward(
        _CELLS[cell], x.dtype == torch.float64, steps, batch, hidden, batch_sizes or (), reverse,
        torch.get_num_threads(), x.data_ptr(), 0 if steps == 1 else w.data_ptr(), _pointer(product), _pointer(b),
        h.data_ptr(), _pointer(c_first), y.data_ptr(), c.data_ptr(), gates.data_ptr(), hidden_n.data_ptr(),
    )  # fmt: skip
    c_n = x.new_empty(0) if c_first is None else _final(c, batch, batch_sizes, reverse) if train else c
    return y, _final(y, batch, batch_sizes, reverse), c_n, c, gates, hidden_n


def _backward(
    cell: str,
    h0: Tensor,
    c0: Tensor | None,
    w_hh: Tensor,
    y: Tensor,
    c: Tensor,
    gates: Tensor,
    hidden_n: Tensor,
    dy: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    batch_sizes: list[int] | None,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of xproj, h0, c0, w_hh and b_hn. Those that do not exist are empty."""
    steps, (batch, hidden) = _steps(y, h0, batch_sizes), h0.shape
    h, c_first, w, dy = h0.contiguous(), _contiguous(c0), w_hh.contiguous(), _contiguous(dy)
    dgates = y.new_empty(len(y), _GATES[cell] * hidden)
    dhidden_n = torch.empty_like(y) if cell == "gru" else y.new_empty(0)
    dh = torch.zeros_like(h) if dh_n is None else dh_n.clone(memory_format=torch.contiguous_format)
    dc = y.new_empty(0)
    if cell == "lstm":
        dc = torch.zeros_like(h) if dc_n is None else dc_n.clone(memory_format=torch.contiguous_format)
    _native.backward(
        _CELLS[cell], y.dtype == torch.float64, steps, batch, hidden, batch_sizes or (), reverse,
        torch.get_num_threads(), 0 if steps == 1 else w.data_ptr(), y.data_ptr(), c.data_ptr(), gates.data_ptr(),
        hidden_n.data_ptr(), h.data_ptr(), _pointer(c_first), _pointer(dy), dgates.data_ptr(), dhidden_n.data_ptr(),
        dh.data_ptr(), dc.data_ptr(),
    )  # fmt: skip
    pieces = _product_gradients(dgates, dhidden_n, hidden)
    if steps == 1:
        for gradient, rows in pieces:
            dh.addmm_(gradient, w[rows])
    dw = torch.empty_like(w)
    for gradient, rows in pieces:
        _weight_gradient(gradient, h, y, batch_sizes, reverse, dw[rows])
    return dgates, dh, dc, dw, dhidden_n.sum(0) if cell == "gru" else y.new_empty(0)


def _product_gradients(dgates: Tensor, dhidden_n: Tensor, hidden: int) -> list[tuple[Tensor, slice]]:
    """The gradient of h·W_hhᵀ in pieces, each with its rows of W_hh: the GRU's n has one of its own."""
    if dhidden_n.numel() == 0:
        return [(dgates, slice(None))]
    return [(dgates[:, : 2 * hidden], slice(0, 2 * hidden)), (dhidden_n, slice(2 * hidden, 3 * hidden))]


def _weight_gradient(
    gradient: Tensor, h0: Tensor, y: Tensor, batch_sizes: list[int] | None, reverse: bool, out: Tensor
) -> None:
    """out = Σ over rows of gradientᵀ · the hidden state before that row."""
    batch = len(h0)
    if batch_sizes is not None:
        torch.mm(gradient.t(), _states_before(h0, y, batch_sizes, reverse), out=out)
    elif reverse:
        torch.mm(gradient[-batch:].t(), h0, out=out).addmm_(gradient[:-batch].t(), y[batch:])
    else:
        torch.mm(gradient[:batch].t(), h0, out=out).addmm_(gradient[batch:].t(), y[:-batch])


def _states_before(h0: Tensor, y: Tensor, batch_sizes: list[int], reverse: bool) -> Tensor:
    """(N, H): for each row of packed data, the hidden state that the recurrence had before it."""
    starts = [0]
    for size in batch_sizes:
        starts.append(starts[-1] + size)
    pieces = []
    for t, size in enumerate(batch_sizes):
        before = t + 1 if reverse else t - 1
        known = min(size, batch_sizes[before]) if 0 <= before < len(batch_sizes) else 0
        if known:
            pieces.append(y[starts[before] : starts[before] + known])
        pieces.append(h0[known:size])
    return torch.cat(pieces)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cell: str, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
        outputs = _forward(cell, *args, True)
        _save(ctx, (cell, *args), outputs)
        ctx.set_materialize_grads(False)
        return outputs[:3]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return _gradients(ctx, *grads)


def _save(ctx: Any, inputs: tuple[Any, ...], outputs: Sequence[Tensor]) -> None:
    ctx.cell, ctx.batch_sizes, ctx.reverse = inputs[0], inputs[6], inputs[7]
    y, _, _, c, gates, hidden_n = outputs
    ctx.save_for_backward(*inputs[1:6], y, c, gates, hidden_n)


def _gradients(
    ctx: Any, dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None, *_: Tensor | None
) -> tuple[Tensor | None, ...]:
    xproj, h0, c0, w_hh, b_hn, y, c, gates, hidden_n = ctx.saved_tensors
    if ctx.cell != "lstm":
        dc_n = None
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return (None, *_differentiable_gradients(ctx, (xproj, h0, c0, w_hh, b_hn), (dy, dh_n, dc_n)), None, None)
    call = torch.ops.elman.recurrence_backward if torch.compiler.is_compiling() else _backward
    dx, dh, dc, dw, db = call(
        ctx.cell, h0, c0, w_hh, y, c, gates, hidden_n, dy, dh_n, dc_n, ctx.batch_sizes, ctx.reverse
    )
    return None, dx, dh, None if c0 is None else dc, dw, None if b_hn is None else db, None, None


def _differentiable_gradients(
    ctx: Any, inputs: Sequence[Tensor | None], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The same gradients through `reference`, so that they can be differentiated again (`create_graph=True`)."""
    outputs = reference.recurrence(ctx.cell, *inputs, ctx.batch_sizes, ctx.reverse)
    pairs = [(out, g) for out, g in zip(outputs, grads, strict=True) if out is not None and g is not None]
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    found = iter(
        torch.autograd.grad(
            [out for out, _ in pairs], wanted, [g for _, g in pairs], create_graph=True, allow_unused=True
        )
    )
    return [next(found) if t is not None and t.requires_grad else None for t in inputs]


_library = torch.library.Library("elman", "DEF")
_library.define(
    "recurrence(str cell, Tensor xproj, Tensor h0, Tensor? c0, Tensor w_hh, Tensor? b_hn, SymInt[]? batch_sizes, "
    "bool reverse) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_library.define(
    "recurrence_backward(str cell, Tensor h0, Tensor? c0, Tensor w_hh, Tensor y, Tensor c, Tensor gates, "
    "Tensor hidden_n, Tensor? dy, Tensor? dh_n, Tensor? dc_n, SymInt[]? batch_sizes, bool reverse) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _traced_forward(cell: str, *args: Any) -> tuple[Tensor, ...]:
    return _forward(cell, *args, True)


def _fake_forward(
    cell: str, xproj: Tensor, h0: Tensor, c0: Tensor | None, w_hh: Tensor, b_hn: Tensor | None,
    batch_sizes: list[int] | None, reverse: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    rows = (xproj.shape[0], h0.shape[1])
    lstm = cell == "lstm"
    return (
        xproj.new_empty(rows),
        xproj.new_empty(h0.shape),
        xproj.new_empty(h0.shape) if lstm else xproj.new_empty(0),
        xproj.new_empty(rows) if lstm else xproj.new_empty(0),
        xproj.new_empty(xproj.shape) if _GATES[cell] > 1 else xproj.new_empty(0),
        xproj.new_empty(rows) if cell == "gru" else xproj.new_empty(0),
    )


def _fake_backward(
    cell: str, h0: Tensor, c0: Tensor | None, w_hh: Tensor, y: Tensor, c: Tensor, gates: Tensor, hidden_n: Tensor,
    dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None, batch_sizes: list[int] | None, reverse: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    hidden = h0.shape[1]
    return (
        y.new_empty(y.shape[0], _GATES[cell] * hidden),
        h0.new_empty(h0.shape),
        h0.new_empty(h0.shape if cell == "lstm" else 0),
        w_hh.new_empty(w_hh.shape),
        h0.new_empty(hidden if cell == "gru" else 0),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _save(ctx, inputs, output)


_library.impl("recurrence", _traced_forward, "CPU")
_library.impl("recurrence_backward", _backward, "CPU")
torch.library.register_fake("elman::recurrence", _fake_forward, lib=_library)
torch.library.register_fake("elman::recurrence_backward", _fake_backward, lib=_library)
torch.library.register_autograd("elman::recurrence", _gradients, setup_context=_setup_context, lib=_library)
