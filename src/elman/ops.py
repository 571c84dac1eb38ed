"""The only door from torch to the native kernels.

`recurrence` runs one layer's recurrence in one direction. It chooses the cheapest way that is right:

- nothing needs a gradient: the kernel, called directly;
- eager training: an `autograd.Function`, cheaper per call than a dispatched operator;
- tracing (`torch.compile`, `torch.export`): operators of the `elman` library, so that a trace holds one node;
- second derivatives, forward-mode, `vmap`, other devices and dtypes: `reference`, in plain PyTorch.

It knows nothing of input projections, layers or dropout. Letters and shapes as in `reference` and native/kernels.h.
"""

import threading
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from elman import _native, reference

__all__ = ["recurrence", "step"]

_CELLS = {"rnn_tanh": 0, "rnn_relu": 1, "rnn_sigmoid": 2, "gru": 3, "lstm": 4}
_GATES = reference.GATES
_DTYPES = (torch.float32, torch.float64)

State = tuple[Tensor, Tensor, Tensor | None]
"""y (N, H), h_n (B, H), c_n (B, H) or None."""


class Source(NamedTuple):
    """Where a layer's projected input (N, G*H) comes from. All but x may be None."""

    x: Tensor  # (N, I) with w_ih; a table (V, G*H) of projected symbols with tokens; else (N, G*H), projected
    w_ih: Tensor | None = None  # (G*H, I)
    bias: Tensor | None = None  # (G*H,)
    tokens: Tensor | None = None  # (N,) int64

    def project(self) -> Tensor:
        if self.tokens is not None:
            return F.embedding(self.tokens, self.x)
        return self.x if self.w_ih is None else F.linear(self.x, self.w_ih, self.bias)

    def checked(self) -> "Source":
        """The same for pointers: contiguous, and IndexError for a token that has no row in the table."""
        if self.tokens is not None:
            least, most = (int(t) for t in self.tokens.aminmax())
            if least < 0 or most >= len(self.x):
                wrong = least if least < 0 else most
                raise IndexError(f"token {wrong} is not among the {len(self.x)} symbols of the embedding")
        return Source(*(_contiguous(t) for t in self))  # type: ignore[arg-type]

    @property
    def rows(self) -> int:
        """N."""
        return len(self.x if self.tokens is None else self.tokens)

    def pointers(self) -> tuple[int, int, int, int, int, int, int]:
        """input_size, x, w_ih, bias, tokens, table and projected, as the native forward takes them."""
        x, w_ih, bias, tokens = (_pointer(t) for t in self)
        if self.tokens is not None:
            return 0, 0, 0, 0, tokens, x, 0
        if self.w_ih is None:
            return 0, 0, 0, 0, 0, 0, x
        return self.x.shape[1], x, w_ih, bias, 0, 0, 0


def recurrence(
    cell: str,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    w_hh: Tensor,
    b_hn: Tensor | None,
    batch_sizes: list[int] | None,
    reverse: bool,
    *,
    w_ih: Tensor | None = None,
    bias: Tensor | None = None,
    tokens: Tensor | None = None,
) -> State:
    """`reference.recurrence`, by the native kernels where they apply: same shapes and results.

    x is the projected input (N, G*H); or, with w_ih (G*H, I) and bias (G*H,) or None, the input (N, I) to project;
    or, with tokens (N,), a table (V, G*H) of projected symbols. In the last two cases neither the projection nor
    its gradient is ever kept whole.
    """
    source = Source(x, w_ih, bias, tokens)
    inputs = (*source, h0, c0, w_hh, b_hn)
    if not _has_kernel(x, (w_ih, bias, h0, c0, w_hh, b_hn)) or _transformed():
        return reference.recurrence(cell, source.project(), h0, c0, w_hh, b_hn, batch_sizes, reverse)
    if torch.compiler.is_compiling():
        y, h_n, c_n, *_ = torch.ops.elman.recurrence(
            cell, source.project(), *inputs[4:], batch_sizes, reverse
        )
    elif torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        y, h_n, c_n = _Recurrence.apply(cell, batch_sizes, reverse, *inputs)  # type: ignore[no-untyped-call]
    else:
        y, h_n, c_n, *_ = _forward(cell, source, *inputs[4:], batch_sizes, reverse, train=False)
    return y, h_n, c_n if cell == "lstm" else None


MOST_ROWS = 4  # that one_step reads the weights for, one after another


def one_step(
    cell: str, x: Tensor, weights: Sequence[Tensor | None], h0: Tensor | None, c0: Tensor | None
) -> tuple[Tensor, Tensor | None] | None:
    """h' and c', shaped like the state, of one step at inference; None where another way is needed or cheaper.

    x (..., B, I) and weights w_ih, w_hh, b_ih, b_hh, already checked; h0 and c0 (..., B, H), zeros when None.
    """
    batch, inputs = x.shape[-2:]
    given = (*weights, h0, c0)
    if batch > MOST_ROWS or torch.is_grad_enabled() or not _has_kernel(x, given):
        return None
    if not (x.is_contiguous() and all(t is None or t.is_contiguous() for t in given)):
        return None
    if torch.compiler.is_compiling() or _transformed() or torch._C._is_any_autocast_enabled():
        return None
    w_ih, w_hh, b_ih, b_hh = weights
    assert w_hh is not None
    hidden = w_hh.shape[1]
    h = x.new_empty(*x.shape[:-1], hidden)
    c = None if cell != "lstm" else torch.zeros_like(h) if c0 is None else c0.clone()
    _native.one_step(
        _CELLS[cell], x.dtype == torch.float64, batch, inputs, hidden, torch.get_num_threads(), x.data_ptr(),
        _pointer(w_ih), _pointer(b_ih), w_hh.data_ptr(), _pointer(b_hh), _pointer(h0), h.data_ptr(), _pointer(c),
    )  # fmt: skip
    return h, c


def step(cell: str, x: Tensor, u: Tensor, h0: Tensor, c0: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """`reference.step`, by the native kernel where it applies: same shapes and results.

    With both products given, autograd's own linear differentiates them, and nothing is left here but the gates.
    """
    inputs = (x, u, h0, c0)
    if not _has_kernel(x, inputs[1:]) or torch.compiler.is_compiling() or _transformed():
        return reference.step(cell, *inputs)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        h, c = _Step.apply(cell, *inputs)  # type: ignore[no-untyped-call]
    else:
        h, c, *_ = _step_forward(cell, *inputs, False)
    return h, c


def _has_kernel(x: Tensor, others: Sequence[Tensor | None]) -> bool:
    dtype = x.dtype
    if dtype not in _DTYPES or not x.is_cpu or x.numel() == 0:
        return False
    return all(t is None or (t.dtype == dtype and t.is_cpu) for t in others)


def _transformed() -> bool:
    """Inside `torch.func` transforms or forward-mode differentiation, which see through tensors, not pointers."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def _pointer(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


def _contiguous(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.contiguous()


def _linear(x: Tensor, w: Tensor, bias: Tensor | None = None, transposed: bool = False) -> Tensor:
    """x (N, I) times wᵀ, w (O, I), plus bias (O,); transposed: x (N, O) times w. Not differentiable."""
    x, w, bias = x.contiguous(), w.contiguous(), _contiguous(bias)
    inputs, outputs = w.shape if transposed else w.shape[::-1]
    y = x.new_empty(len(x), outputs)
    _native.linear(
        x.dtype == torch.float64, len(x), inputs, outputs, transposed, torch.get_num_threads(), x.data_ptr(),
        w.data_ptr(), _pointer(bias), y.data_ptr(),
    )  # fmt: skip
    return y


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


class _Pool:
    """Memory for what only forward and backward see, kept when it is freed: new memory for it at every call costs
    more time in page faults than small layers do in arithmetic. Large arrays get large pages instead."""

    SIZES = range(1 << 14, 1 << 23)  # numbers in an array
    FREE = 1 << 25  # numbers kept at most

    def __init__(self) -> None:
        self._free: list[np.ndarray[tuple[int], Any]] = []
        self._lock = threading.RLock()  # arrays may be given back while one is taken

    def empty(self, like: Tensor, rows: int, columns: int) -> Tensor:
        """(rows, columns) of the dtype of `like`, given back when nothing refers to it any more."""
        count = rows * columns
        if count not in self.SIZES:
            return like.new_empty(rows, columns)
        block = self._take(count, np.dtype("f4" if like.dtype == torch.float32 else "f8"))
        part = block[:count]
        weakref.finalize(part, self._give_back, block).atexit = False
        return torch.from_numpy(part).view(rows, columns)

    def _take(self, count: int, dtype: np.dtype[Any]) -> np.ndarray[tuple[int], Any]:
        for block in list(self._free):
            if block.dtype == dtype and count <= block.size <= 2 * count:
                with self._lock:
                    found = [i for i, other in enumerate(self._free) if other is block]
                    if found:
                        return self._free.pop(found[0])
        return np.empty(count, dtype)

    def _give_back(self, block: np.ndarray[tuple[int], Any]) -> None:
        with self._lock:
            self._free.insert(0, block)
            while sum(b.size for b in self._free) > self.FREE:
                self._free.pop()


_pool = _Pool()


def _forward(
    cell: str,
    source: Source,
    h0: Tensor,
    c0: Tensor | None,
    w_hh: Tensor,
    b_hn: Tensor | None,
    batch_sizes: list[int] | None,
    reverse: bool,
    train: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """y, h_n, c_n, and what backward needs: c (N, H), gates (N, G*H), hidden_n (N, H). Absent ones are empty."""
    source, h, c_first = source.checked(), h0.contiguous(), _contiguous(c0)
    w, b = w_hh.contiguous(), _contiguous(b_hn)
    rows, (batch, hidden) = source.rows, h.shape
    steps = rows // batch if batch_sizes is None else len(batch_sizes)
    product = F.linear(h, w) if steps == 1 else None
    columns = _GATES[cell] * hidden
    y = _pool.empty(h, rows, hidden) if train else h.new_empty(rows, hidden)
    c = h.new_empty(0) if c_first is None else _pool.empty(h, rows, hidden) if train else c_first.clone()
    gates = _pool.empty(h, rows, columns) if train and columns > hidden else h.new_empty(0)
    hidden_n = _pool.empty(h, rows, hidden) if train and cell == "gru" else h.new_empty(0)
    _native.forward(
        _CELLS[cell], h.dtype == torch.float64, steps, batch, hidden, batch_sizes or (), reverse,
        torch.get_num_threads(), *source.pointers(), 0 if steps == 1 else w.data_ptr(), _pointer(product), _pointer(b),
        h.data_ptr(), _pointer(c_first), y.data_ptr(), c.data_ptr(), gates.data_ptr(), hidden_n.data_ptr(),
    )  # fmt: skip
    c_n = h.new_empty(0) if c_first is None else _final(c, batch, batch_sizes, reverse) if train else c
    return y, _final(y, batch, batch_sizes, reverse), c_n, c, gates, hidden_n


class Gradients(NamedTuple):
    """Absent ones are None."""

    dgates: Tensor  # (N, G*H), of the projected input
    h0: Tensor
    c0: Tensor | None
    w_hh: Tensor
    b_hn: Tensor | None
    w_ih: Tensor | None
    bias: Tensor | None


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
    dgates: Tensor | None = None,
    x: Tensor | None = None,
) -> Gradients:
    """Fills `dgates` where given. w_ih and bias have gradients where x (N, I) is given."""
    batch, hidden = h0.shape
    steps = len(y) // batch if batch_sizes is None else len(batch_sizes)
    h, c_first, w, x = h0.contiguous(), _contiguous(c0), w_hh.contiguous(), _contiguous(x)
    columns = _GATES[cell] * hidden
    if dgates is None:
        dgates = y.new_empty(len(y), columns)
    if dy is not None and not dy.is_contiguous():
        # A one-gate cell reads a row of dy just before it writes that row of dgates: the copy needs no memory.
        dy = dgates.copy_(dy) if columns == hidden else dy.contiguous()
    dhidden_n = _pool.empty(y, *y.shape) if cell == "gru" else None
    dh = _zeros_or_copy(h, dh_n)
    dc = None if c0 is None else _zeros_or_copy(h, dc_n)
    dw, db_hn = torch.empty_like(w), None if dhidden_n is None else y.new_empty(hidden)
    dw_ih, dbias = (None, None) if x is None else (y.new_empty(columns, x.shape[1]), y.new_empty(columns))
    _native.backward(
        _CELLS[cell], y.dtype == torch.float64, steps, batch, hidden, batch_sizes or (), reverse,
        torch.get_num_threads(), 0 if x is None else x.shape[1], 0 if steps == 1 else w.data_ptr(), y.data_ptr(),
        c.data_ptr(), gates.data_ptr(), hidden_n.data_ptr(), h.data_ptr(), _pointer(c_first), _pointer(dy),
        dgates.data_ptr(), _pointer(dhidden_n), dh.data_ptr(), _pointer(dc), _pointer(x), _pointer(dw_ih),
        _pointer(dbias), dw.data_ptr(), _pointer(db_hn),
    )  # fmt: skip
    if steps == 1:
        if dhidden_n is None:
            dh.addmm_(dgates, w)
        else:
            dh.addmm_(dgates[:, : 2 * hidden], w[: 2 * hidden]).addmm_(dhidden_n, w[2 * hidden :])
    return Gradients(dgates, dh, dc, dw, db_hn, dw_ih, dbias)


def _zeros_or_copy(like: Tensor, t: Tensor | None) -> Tensor:
    return torch.zeros_like(like) if t is None else t.clone(memory_format=torch.contiguous_format)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cell: str, batch_sizes: list[int] | None, reverse: bool, *inputs: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, w_ih, bias, tokens, h0, c0, w_hh, b_hn = inputs
        source = Source(cast(Tensor, x), w_ih, bias, tokens)
        outputs = _forward(
            cell, source, cast(Tensor, h0), c0, cast(Tensor, w_hh), b_hn, batch_sizes, reverse, train=True
        )
        ctx.cell, ctx.batch_sizes, ctx.reverse = cell, batch_sizes, reverse
        ctx.save_for_backward(*inputs, outputs[0], *outputs[3:])
        ctx.set_materialize_grads(False)
        return outputs[:3]

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        source, (h0, c0, w_hh, b_hn, y, c, gates, hidden_n) = Source(*saved[:4]), saved[4:]
        if ctx.cell != "lstm":
            dc_n = None
        if torch.is_grad_enabled():
            return None, None, None, *_differentiable_gradients(ctx, saved[:8], (dy, dh_n, dc_n))
        projects = source.tokens is not None or source.w_ih is not None
        space = _pool.empty(y, len(y), _GATES[ctx.cell] * y.shape[1]) if projects else None
        x = source.x if source.w_ih is not None and any(ctx.needs_input_grad[4:6]) else None
        found = _backward(
            ctx.cell,
            h0,
            c0,
            w_hh,
            y,
            c,
            gates,
            hidden_n,
            dy,
            dh_n,
            dc_n,
            ctx.batch_sizes,
            ctx.reverse,
            space,
            x,
        )
        dx = _input_gradient(source, found.dgates) if ctx.needs_input_grad[3] else None
        bias = found.bias if source.bias is not None else None
        rest = (found.h0, found.c0, found.w_hh, None if b_hn is None else found.b_hn)
        return None, None, None, dx, found.w_ih, bias, None, *rest


def _input_gradient(source: Source, dgates: Tensor) -> Tensor:
    if source.tokens is not None:
        table = torch.zeros_like(source.x, memory_format=torch.contiguous_format)
        rows, columns = dgates.shape
        _native.add_rows(
            dgates.dtype == torch.float64, rows, columns, torch.get_num_threads(), source.tokens.data_ptr(),
            dgates.data_ptr(), table.data_ptr(),
        )  # fmt: skip
        return table
    return dgates if source.w_ih is None else _linear(dgates, source.w_ih, transposed=True)


def _differentiable_gradients(
    ctx: Any, inputs: Sequence[Any], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The same gradients through `reference`, so that they can be differentiated again (`create_graph=True`)."""
    xproj, (h0, c0, w_hh, b_hn) = Source(*inputs[:4]).project(), inputs[4:]
    outputs = reference.recurrence(ctx.cell, xproj, h0, c0, w_hh, b_hn, ctx.batch_sizes, ctx.reverse)
    return _differentiable(outputs, inputs, grads)


def _differentiable(
    outputs: Sequence[Tensor | None], inputs: Sequence[Any], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    pairs = [(out, g) for out, g in zip(outputs, grads, strict=True) if out is not None and g is not None]
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    found = iter(
        torch.autograd.grad(
            [out for out, _ in pairs], wanted, [g for _, g in pairs], create_graph=True, allow_unused=True
        )
    )
    return [next(found) if t is not None and t.requires_grad else None for t in inputs]


def _step_forward(
    cell: str, x: Tensor, u: Tensor, h0: Tensor, c0: Tensor | None, train: bool
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """h' and c', and what backward needs: gates (B, G*H) and hidden_n (B, H)."""
    x, u, h0 = x.contiguous(), u.contiguous(), h0.contiguous()
    batch, hidden = h0.shape
    h = torch.empty_like(h0)
    c = None if c0 is None else c0.clone(memory_format=torch.contiguous_format)
    gates = torch.empty_like(x) if train and _GATES[cell] > 1 else None
    hidden_n = torch.empty_like(h0) if train and cell == "gru" else None
    _native.forward(
        _CELLS[cell], x.dtype == torch.float64, 1, batch, hidden, (), False, torch.get_num_threads(),
        *Source(x).pointers(), 0, u.data_ptr(), 0, h0.data_ptr(), _pointer(c), h.data_ptr(), _pointer(c),
        _pointer(gates), _pointer(hidden_n),
    )  # fmt: skip
    return h, c, gates, hidden_n


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cell: str, *inputs: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x, u, h0, c0 = inputs
        outputs = _step_forward(cell, cast(Tensor, x), cast(Tensor, u), cast(Tensor, h0), c0, True)
        ctx.cell = cell
        ctx.save_for_backward(*inputs, *outputs)
        ctx.set_materialize_grads(False)
        return outputs[:2]

    @staticmethod
    def backward(ctx: Any, dh: Tensor | None, dc: Tensor | None) -> tuple[Tensor | None, ...]:
        x, u, h0, c0, h, c, gates, hidden_n = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, *_differentiable(reference.step(ctx.cell, x, u, h0, c0), (x, u, h0, c0), (dh, dc))
        h0, c0, dh = h0.contiguous(), _contiguous(c0), _contiguous(dh)
        batch, hidden = h0.shape
        dx, dh0, dhidden_n = torch.empty_like(u), torch.zeros_like(h0), None
        if ctx.cell == "gru":
            dhidden_n = torch.empty_like(h0)
        dc0 = None
        if c0 is not None:
            dc0 = torch.zeros_like(c0) if dc is None else dc.clone(memory_format=torch.contiguous_format)
        _native.backward(
            _CELLS[ctx.cell], h.dtype == torch.float64, 1, batch, hidden, (), False, torch.get_num_threads(), 0, 0,
            h.data_ptr(), _pointer(c), _pointer(gates), _pointer(hidden_n), h0.data_ptr(), _pointer(c0),
            _pointer(dh), dx.data_ptr(), _pointer(dhidden_n), dh0.data_ptr(), _pointer(dc0), 0, 0, 0, 0, 0,
        )  # fmt: skip
        if dhidden_n is None:
            return None, dx, dx, None, dc0  # h0 acts through u alone
        return None, dx, torch.cat((dx[:, : 2 * hidden], dhidden_n), 1), dh0, None


_library: Any = torch.library.Library("elman", "DEF")  # type: ignore[no-untyped-call]
_library.define(
    "recurrence(str cell, Tensor xproj, Tensor h0, Tensor? c0, Tensor w_hh, Tensor? b_hn, SymInt[]? batch_sizes, "
    "bool reverse) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_library.define(
    "recurrence_backward(str cell, Tensor h0, Tensor? c0, Tensor w_hh, Tensor y, Tensor c, Tensor gates, "
    "Tensor hidden_n, Tensor? dy, Tensor? dh_n, Tensor? dc_n, SymInt[]? batch_sizes, bool reverse) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


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
    ctx.cell, ctx.batch_sizes, ctx.reverse = inputs[0], inputs[6], inputs[7]
    ctx.save_for_backward(*inputs[1:6], output[0], *output[3:])


def _traced_backward(
    ctx: Any, dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None, *_: Tensor | None
) -> tuple[Any, ...]:
    _, h0, c0, w_hh, b_hn, *kept = ctx.saved_tensors
    if ctx.cell != "lstm":
        dc_n = None
    dx, dh, dc, dw, db = torch.ops.elman.recurrence_backward(
        ctx.cell, h0, c0, w_hh, *kept, dy, dh_n, dc_n, ctx.batch_sizes, ctx.reverse
    )
    return None, dx, dh, None if c0 is None else dc, dw, None if b_hn is None else db, None, None


def _traced_forward(
    cell: str, xproj: Tensor, h0: Tensor, c0: Tensor | None, w_hh: Tensor, b_hn: Tensor | None,
    batch_sizes: list[int] | None, reverse: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    return _forward(cell, Source(xproj), h0, c0, w_hh, b_hn, batch_sizes, reverse, train=True)


_library.impl("recurrence", _traced_forward, "CPU")


def _traced_backward_kernel(*arguments: Any) -> tuple[Tensor, ...]:
    dgates, *rest = _backward(*arguments)
    return dgates, *(dgates.new_empty(0) if t is None else t for t in rest[:4])


_library.impl("recurrence_backward", _traced_backward_kernel, "CPU")
torch.library.register_fake("elman::recurrence", _fake_forward, lib=_library)
torch.library.register_fake("elman::recurrence_backward", _fake_backward, lib=_library)
torch.library.register_autograd(
    "elman::recurrence", _traced_backward, setup_context=_setup_context, lib=_library
)
