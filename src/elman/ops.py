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
        x, w_ih, bias, tokens = (pointer(t) for t in self)
        if self.tokens is not None:
            return 0, 0, 0, 0, tokens, x, 0
        if self.w_ih is None:
            return 0, 0, 0, 0, 0, 0, x
        return self.x.shape[1], x, w_ih, bias, 0, 0, 0


class Resets(NamedTuple):
    """Where rows are set anew before their step, and to what."""

    flags: Tensor  # (N,) uint8: 0 or 1
    h: Tensor  # (B, H)
    c: Tensor | None  # (B, H), LSTM


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
    resets: Resets | None = None,
) -> State:
    """`reference.recurrence`, by the native kernels where they apply: same shapes and results.

    x is the projected input (N, G*H); or, with w_ih (G*H, I) and bias (G*H,) or None, the input (N, I) to project;
    or, with tokens (N,), a table (V, G*H) of projected symbols. In the last two cases neither the projection nor
    its gradient is ever kept whole.
    """
    source = Source(x, w_ih, bias, tokens)
    flags, h_reset, c_reset = resets or (None, None, None)
    inputs = (*source, h0, c0, w_hh, b_hn, flags, h_reset, c_reset)
    if not has_kernel(x, (w_ih, bias, h0, c0, w_hh, b_hn, h_reset, c_reset)) or transformed():
        return reference.recurrence(
            cell, source.project(), *inputs[4:8], batch_sizes, reverse, flags, h_reset, c_reset
        )
    if torch.compiler.is_compiling():
        y, h_n, c_n, *_ = torch.ops.elman.recurrence(
            cell, source.project(), *inputs[4:], batch_sizes, reverse
        )
    elif torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        y, h_n, c_n = _Recurrence.apply(cell, batch_sizes, reverse, *inputs)  # type: ignore[no-untyped-call]
    else:
        y, h_n, c_n, *_ = _forward(cell, source, *inputs[4:8], resets, batch_sizes, reverse, train=False)
    return y, h_n, c_n if cell == "lstm" else None


def traced(
    cell: str,
    source: Source,
    h0: Tensor,
    c0: Tensor | None,
    w_hh: Tensor,
    b_hn: Tensor | None,
    batch_sizes: list[int] | None,
    reverse: bool,
    resets: Resets | None = None,
) -> tuple[State, list[Tensor]]:
    """What `recurrence` returns, and of every step LSTM's c and the activated gates (N, H) each, in PyTorch's order:
    what the kernel keeps for backward. Only where `can_trace` says so."""
    y, h_n, c_n, c, gates, _ = _forward(
        cell, source, h0, c0, w_hh, b_hn, resets, batch_sizes, reverse, train=True
    )
    kept = [c] if cell == "lstm" else []
    kept += torch.split(gates, h0.shape[1], 1) if gates.numel() else []
    return (y, h_n, c_n if cell == "lstm" else None), kept


def can_trace(x: Tensor, others: Sequence[Tensor | None]) -> bool:
    """Whether the kernels can show every step: they apply, and nothing has to be differentiated or compiled."""
    if not has_kernel(x, others) or transformed() or torch.compiler.is_compiling():
        return False
    if torch._C._is_any_autocast_enabled():
        return False
    return not (torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *others)))


MOST_ROWS = 4  # that one_step reads the weights for, one after another


def one_step(
    cell: str, x: Tensor, weights: Sequence[Tensor | None], h0: Tensor | None, c0: Tensor | None
) -> tuple[Tensor, Tensor | None] | None:
    """h' and c', shaped like the state, of one step at inference; None where another way is needed or cheaper.

    x (..., B, I) and weights w_ih, w_hh, b_ih, b_hh, already checked; h0 and c0 (..., B, H), zeros when None.
    """
    batch, inputs = x.shape[-2:]
    given = (*weights, h0, c0)
    if batch > MOST_ROWS or torch.is_grad_enabled() or not has_kernel(x, given):
        return None
    if not (x.is_contiguous() and all(t is None or t.is_contiguous() for t in given)):
        return None
    if torch.compiler.is_compiling() or transformed() or torch._C._is_any_autocast_enabled():
        return None
    w_ih, w_hh, b_ih, b_hh = weights
    assert w_hh is not None
    hidden = w_hh.shape[1]
    h = x.new_empty(*x.shape[:-1], hidden)
    c = None if cell != "lstm" else torch.zeros_like(h) if c0 is None else c0.clone()
    _native.one_step(
        _CELLS[cell], x.dtype == torch.float64, batch, inputs, hidden, torch.get_num_threads(), x.data_ptr(),
        pointer(w_ih), pointer(b_ih), w_hh.data_ptr(), pointer(b_hh), pointer(h0), h.data_ptr(), pointer(c),
    )  # fmt: skip
    return h, c


def step(cell: str, x: Tensor, u: Tensor, h0: Tensor, c0: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """`reference.step`, by the native kernel where it applies: same shapes and results.

    With both products given, autograd's own linear differentiates them, and nothing is left here but the gates.
    """
    inputs = (x, u, h0, c0)
    if not has_kernel(x, inputs[1:]) or torch.compiler.is_compiling() or transformed():
        return reference.step(cell, *inputs)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        h, c = _Step.apply(cell, *inputs)  # type: ignore[no-untyped-call]
    else:
        h, c, *_ = _step_forward(cell, *inputs, False)
    return h, c


def has_kernel(x: Tensor, others: Sequence[Tensor | None]) -> bool:
    dtype = x.dtype
    if dtype not in _DTYPES or not x.is_cpu or x.numel() == 0:
        return False
    return all(t is None or (t.dtype == dtype and t.is_cpu) for t in others)


def transformed() -> bool:
    """Inside `torch.func` transforms or forward-mode differentiation, which see through tensors, not pointers."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def pointer(t: Tensor | None) -> int:
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
        w.data_ptr(), pointer(bias), y.data_ptr(),
    )  # fmt: skip
    return y


def _last_rows(batch_sizes: list[int], reverse: bool) -> Tensor:
    """The row of each sequence's last processed step in packed data."""
    if reverse:
        return torch.arange(batch_sizes[0])
    sizes = torch.tensor(batch_sizes)
    lengths = (sizes[:, None] > torch.arange(batch_sizes[0])).sum(0)
    return (sizes.cumsum(0) - sizes)[lengths - 1] + torch.arange(batch_sizes[0])


def final(y: Tensor, batch: int, batch_sizes: list[int] | None, reverse: bool) -> Tensor:
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
pooled = _pool.empty


def _forward(
    cell: str,
    source: Source,
    h0: Tensor,
    c0: Tensor | None,
    w_hh: Tensor,
    b_hn: Tensor | None,
    resets: Resets | None,
    batch_sizes: list[int] | None,
    reverse: bool,
    train: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """y, h_n, c_n, and what backward needs: c (N, H), gates (N, G*H), hidden_n (N, H). Absent ones are empty."""
    source, w, b = source.checked(), w_hh.contiguous(), _contiguous(b_hn)
    rows, (batch, hidden) = source.rows, h0.shape
    h, c_first = _with_resets(h0, c0, resets)
    steps = rows // batch if batch_sizes is None else len(batch_sizes)
    single = steps == 1 and resets is None
    product = F.linear(h, w) if single else None
    columns = _GATES[cell] * hidden
    y = pooled(h, rows, hidden) if train else h.new_empty(rows, hidden)
    c = h.new_empty(0) if c_first is None else pooled(h, rows, hidden) if train else c_first[:batch].clone()
    gates = pooled(h, rows, columns) if train and columns > hidden else h.new_empty(0)
    hidden_n = pooled(h, rows, hidden) if train and cell == "gru" else h.new_empty(0)
    _native.forward(
        _CELLS[cell], h.dtype == torch.float64, steps, batch, hidden, batch_sizes or (), reverse,
        torch.get_num_threads(), pointer(resets and resets.flags), *source.pointers(), 0 if single else w.data_ptr(),
        pointer(product), pointer(b),
        h.data_ptr(), pointer(c_first), y.data_ptr(), c.data_ptr(), gates.data_ptr(), hidden_n.data_ptr(),
    )  # fmt: skip
    c_n = h.new_empty(0) if c_first is None else final(c, batch, batch_sizes, reverse) if train else c
    return y, final(y, batch, batch_sizes, reverse), c_n, c, gates, hidden_n


def _with_resets(h0: Tensor, c0: Tensor | None, resets: Resets | None) -> tuple[Tensor, Tensor | None]:
    """Initial states (B, H), or with resets (2B, H): behind them, the states that resets set."""
    if resets is None:
        return h0.contiguous(), _contiguous(c0)
    return torch.cat((h0, resets.h)), None if c0 is None or resets.c is None else torch.cat((c0, resets.c))


class Gradients(NamedTuple):
    """Absent ones are None."""

    dgates: Tensor  # (N, G*H), of the projected input
    h0: Tensor
    c0: Tensor | None
    w_hh: Tensor
    b_hn: Tensor | None
    w_ih: Tensor | None
    bias: Tensor | None
    h_reset: Tensor | None
    c_reset: Tensor | None


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
    resets: Resets | None = None,
    dgates: Tensor | None = None,
    x: Tensor | None = None,
) -> Gradients:
    """Fills `dgates` where given. w_ih and bias have gradients where x (N, I) is given."""
    batch, hidden = h0.shape
    steps = len(y) // batch if batch_sizes is None else len(batch_sizes)
    single = steps == 1 and resets is None
    (h, c_first), w, x = _with_resets(h0, c0, resets), w_hh.contiguous(), _contiguous(x)
    columns = _GATES[cell] * hidden
    if dgates is None:
        dgates = y.new_empty(len(y), columns)
    if dy is not None and not dy.is_contiguous():
        # A one-gate cell reads a row of dy just before it writes that row of dgates: the copy needs no memory.
        dy = dgates.copy_(dy) if columns == hidden else dy.contiguous()
    dhidden_n = pooled(y, *y.shape) if cell == "gru" else None
    dh = _carried(h0, dh_n, resets)
    dc = None if c0 is None else _carried(h0, dc_n, resets)
    dw, db_hn = torch.empty_like(w), None if dhidden_n is None else y.new_empty(hidden)
    dw_ih, dbias = (None, None) if x is None else (y.new_empty(columns, x.shape[1]), y.new_empty(columns))
    _native.backward(
        _CELLS[cell], y.dtype == torch.float64, steps, batch, hidden, batch_sizes or (), reverse,
        torch.get_num_threads(), pointer(resets and resets.flags), 0 if x is None else x.shape[1],
        0 if single else w.data_ptr(), y.data_ptr(), c.data_ptr(), gates.data_ptr(), hidden_n.data_ptr(),
        h.data_ptr(), pointer(c_first), pointer(dy), dgates.data_ptr(), pointer(dhidden_n),
        dh.data_ptr(), pointer(dc), pointer(x), pointer(dw_ih), pointer(dbias), dw.data_ptr(), pointer(db_hn),
    )  # fmt: skip
    if single:
        if dhidden_n is None:
            dh.addmm_(dgates, w)
        else:
            dh.addmm_(dgates[:, : 2 * hidden], w[: 2 * hidden]).addmm_(dhidden_n, w[2 * hidden :])
    if resets is None:
        return Gradients(dgates, dh, dc, dw, db_hn, dw_ih, dbias, None, None)
    (dh, dh_reset), (dc, dc_reset) = dh.chunk(2), (None, None) if dc is None else dc.chunk(2)
    return Gradients(dgates, dh, dc, dw, db_hn, dw_ih, dbias, dh_reset, dc_reset)


def _carried(like: Tensor, gradient: Tensor | None, resets: Resets | None) -> Tensor:
    """What backward starts from (B, H), and with resets zeros (B, H) to collect the gradient of what they set."""
    found = zeros_or_copy(like, gradient)
    return found if resets is None else torch.cat((found, torch.zeros_like(found)))


def zeros_or_copy(like: Tensor, t: Tensor | None) -> Tensor:
    return torch.zeros_like(like) if t is None else t.clone(memory_format=torch.contiguous_format)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cell: str, batch_sizes: list[int] | None, reverse: bool, *inputs: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, w_ih, bias, tokens, h0, c0, w_hh, b_hn, *resets = inputs
        source = Source(cast(Tensor, x), w_ih, bias, tokens)
        outputs = _forward(
            cell, source, cast(Tensor, h0), c0, cast(Tensor, w_hh), b_hn, _resets(*resets), batch_sizes, reverse,
            train=True,
        )  # fmt: skip
        ctx.cell, ctx.batch_sizes, ctx.reverse = cell, batch_sizes, reverse
        ctx.save_for_backward(*inputs, outputs[0], *outputs[3:])
        ctx.set_materialize_grads(False)
        return outputs[:3]

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        source, (h0, c0, w_hh, b_hn, *resets, y, c, gates, hidden_n) = Source(*saved[:4]), saved[4:]
        if ctx.cell != "lstm":
            dc_n = None
        if torch.is_grad_enabled():
            return None, None, None, *_differentiable_gradients(ctx, saved[:11], (dy, dh_n, dc_n))
        projects = source.tokens is not None or source.w_ih is not None
        space = pooled(y, len(y), _GATES[ctx.cell] * y.shape[1]) if projects else None
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
            _resets(*resets),
            space,
            x,
        )
        dx = _input_gradient(source, found.dgates) if ctx.needs_input_grad[3] else None
        bias = found.bias if source.bias is not None else None
        rest = (found.h0, found.c0, found.w_hh, None if b_hn is None else found.b_hn)
        return None, None, None, dx, found.w_ih, bias, None, *rest, None, found.h_reset, found.c_reset


def _resets(flags: Tensor | None, h: Tensor | None, c: Tensor | None) -> Resets | None:
    return None if flags is None else Resets(flags, cast(Tensor, h), c)


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
    xproj = Source(*inputs[:4]).project()
    h0, c0, w_hh, b_hn, *resets = inputs[4:]
    outputs = reference.recurrence(ctx.cell, xproj, h0, c0, w_hh, b_hn, ctx.batch_sizes, ctx.reverse, *resets)
    return differentiable(outputs, inputs, grads)


def differentiable(
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
        _CELLS[cell], x.dtype == torch.float64, 1, batch, hidden, (), False, torch.get_num_threads(), 0,
        *Source(x).pointers(), 0, u.data_ptr(), 0, h0.data_ptr(), pointer(c), h.data_ptr(), pointer(c),
        pointer(gates), pointer(hidden_n),
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
            return None, *differentiable(reference.step(ctx.cell, x, u, h0, c0), (x, u, h0, c0), (dh, dc))
        h0, c0, dh = h0.contiguous(), _contiguous(c0), _contiguous(dh)
        batch, hidden = h0.shape
        dx, dh0, dhidden_n = torch.empty_like(u), torch.zeros_like(h0), None
        if ctx.cell == "gru":
            dhidden_n = torch.empty_like(h0)
        dc0 = None
        if c0 is not None:
            dc0 = torch.zeros_like(c0) if dc is None else dc.clone(memory_format=torch.contiguous_format)
        _native.backward(
            _CELLS[ctx.cell], h.dtype == torch.float64, 1, batch, hidden, (), False, torch.get_num_threads(), 0, 0, 0,
            h.data_ptr(), pointer(c), pointer(gates), pointer(hidden_n), h0.data_ptr(), pointer(c0),
            pointer(dh), dx.data_ptr(), pointer(dhidden_n), dh0.data_ptr(), pointer(dc0), 0, 0, 0, 0, 0,
        )  # fmt: skip
        if dhidden_n is None:
            return None, dx, dx, None, dc0  # h0 acts through u alone
        return None, dx, torch.cat((dx[:, : 2 * hidden], dhidden_n), 1), dh0, None


_library: Any = torch.library.Library("elman", "DEF")  # type: ignore[no-untyped-call]
_library.define(
    "recurrence(str cell, Tensor xproj, Tensor h0, Tensor? c0, Tensor w_hh, Tensor? b_hn, Tensor? flags, "
    "Tensor? h_reset, Tensor? c_reset, SymInt[]? batch_sizes, bool reverse) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_library.define(
    "recurrence_backward(str cell, Tensor h0, Tensor? c0, Tensor w_hh, Tensor y, Tensor c, Tensor gates, "
    "Tensor hidden_n, Tensor? dy, Tensor? dh_n, Tensor? dc_n, Tensor? flags, Tensor? h_reset, Tensor? c_reset, "
    "SymInt[]? batch_sizes, bool reverse) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _fake_forward(
    cell: str, xproj: Tensor, h0: Tensor, c0: Tensor | None, w_hh: Tensor, b_hn: Tensor | None,
    flags: Tensor | None, h_reset: Tensor | None, c_reset: Tensor | None, batch_sizes: list[int] | None, reverse: bool,
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
    dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None, flags: Tensor | None, h_reset: Tensor | None,
    c_reset: Tensor | None, batch_sizes: list[int] | None, reverse: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    hidden = h0.shape[1]
    return (
        y.new_empty(y.shape[0], _GATES[cell] * hidden),
        h0.new_empty(h0.shape),
        h0.new_empty(h0.shape if cell == "lstm" else 0),
        w_hh.new_empty(w_hh.shape),
        h0.new_empty(hidden if cell == "gru" else 0),
        h0.new_empty(0 if h_reset is None else h_reset.shape),
        h0.new_empty(0 if c_reset is None else c_reset.shape),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.cell, ctx.batch_sizes, ctx.reverse = inputs[0], inputs[9], inputs[10]
    ctx.save_for_backward(*inputs[1:9], output[0], *output[3:])


def _traced_backward(
    ctx: Any, dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None, *_: Tensor | None
) -> tuple[Any, ...]:
    _, h0, c0, w_hh, b_hn, flags, h_reset, c_reset, *kept = ctx.saved_tensors
    if ctx.cell != "lstm":
        dc_n = None
    dx, dh, dc, dw, db, dh_reset, dc_reset = torch.ops.elman.recurrence_backward(
        ctx.cell, h0, c0, w_hh, *kept, dy, dh_n, dc_n, flags, h_reset, c_reset, ctx.batch_sizes, ctx.reverse
    )
    of_bias, of_cells = None if b_hn is None else db, None if c0 is None else dc
    of_resets = None if h_reset is None else dh_reset, None if c_reset is None else dc_reset
    return None, dx, dh, of_cells, dw, of_bias, None, *of_resets, None, None


def _traced_forward(
    cell: str, xproj: Tensor, h0: Tensor, c0: Tensor | None, w_hh: Tensor, b_hn: Tensor | None,
    flags: Tensor | None, h_reset: Tensor | None, c_reset: Tensor | None, batch_sizes: list[int] | None, reverse: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    resets = _resets(flags, h_reset, c_reset)
    return _forward(cell, Source(xproj), h0, c0, w_hh, b_hn, resets, batch_sizes, reverse, train=True)


_library.impl("recurrence", _traced_forward, "CPU")


def _traced_backward_kernel(
    cell: str, h0: Tensor, c0: Tensor | None, w_hh: Tensor, y: Tensor, c: Tensor, gates: Tensor, hidden_n: Tensor,
    dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None, flags: Tensor | None, h_reset: Tensor | None,
    c_reset: Tensor | None, batch_sizes: list[int] | None, reverse: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    resets = _resets(flags, h_reset, c_reset)
    found = _backward(cell, h0, c0, w_hh, y, c, gates, hidden_n, dy, dh_n, dc_n, batch_sizes, reverse, resets)
    wanted = (*found[:5], found.h_reset, found.c_reset)
    return tuple(found.dgates.new_empty(0) if t is None else t for t in wanted)


_library.impl("recurrence_backward", _traced_backward_kernel, "CPU")
torch.library.register_fake("elman::recurrence", _fake_forward, lib=_library)
torch.library.register_fake("elman::recurrence_backward", _fake_backward, lib=_library)
torch.library.register_autograd(
    "elman::recurrence", _traced_backward, setup_context=_setup_context, lib=_library
)
