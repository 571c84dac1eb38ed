"""One direction of one layer, from input to output; and the single-step RNNCell, GRUCell and LSTMCell.

The modules inherit `torch.nn`'s constructors, parameters and `repr`, and replace `forward`. Weights are read
from the attributes at every call and never cached. It knows nothing of depth, of dropout, or of how input was
packed.

Letters: T steps, B sequences, I inputs, H hidden units, G gates, P outputs (proj_size, or H),
N rows (T * B, or the sum of all lengths when packed), V symbols.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman import ops


class Weights(NamedTuple):
    """One direction of one layer, in torch.nn's order."""

    w_ih: Tensor  # (G*H, I)
    w_hh: Tensor  # (G*H, P)
    b_ih: Tensor | None = None  # (G*H,)
    b_hh: Tensor | None = None  # (G*H,)
    w_hr: Tensor | None = None  # (P, H), with proj_size


# Of two products and a function, with nothing to fuse, each node of the graph costs more than the arithmetic.
_TORCH_STEPS = {"rnn_tanh": torch.rnn_tanh_cell, "rnn_relu": torch.rnn_relu_cell}


def run_direction(
    cell: str,
    x: Tensor,
    weights: Weights,
    h0: Tensor | None,
    c0: Tensor | None,
    batch: int,
    batch_sizes: list[int] | None = None,
    reverse: bool = False,
    tokens: Tensor | None = None,
    resets: ops.Resets | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Project the input, run the cell over time, project the output where there is a w_hr.

    x (N, I), or (V, I) beside tokens (N,), which are then looked up among V projected symbols.
    h0 (B, P) and c0 (B, H), zeros when None. batch_sizes and reverse as in `reference.recurrence`.
    Returns y (N, P), h_n (B, P), c_n (B, H) or None.
    """
    w_ih, w_hh, b_ih, b_hh, w_hr = weights
    if w_hr is not None or torch._C._is_any_autocast_enabled():
        return _run_projected(cell, x, weights, h0, c0, batch, batch_sizes, reverse, tokens, resets)
    from_zeros = h0 is None
    if h0 is None:
        h0 = x.new_zeros(batch, w_hh.shape[1])
    if c0 is None and cell == "lstm":
        c0 = x.new_zeros(batch, w_hh.shape[1])
    if (
        batch_sizes is None
        and tokens is None
        and resets is None
        and not torch.compiler.is_compiling()
        and x.shape[0] == batch
    ):
        # vmap would run torch's steps one by one.
        if (
            cell in _TORCH_STEPS
            and torch.is_grad_enabled()
            and not torch._C._are_functorch_transforms_active()
        ):
            h = _TORCH_STEPS[cell](x, h0, w_ih, w_hh, b_ih, b_hh)
            return h.clone(), h, None
        if from_zeros and not torch.is_grad_enabled():  # with gradients, w_hh needs one, of zeros
            u = x.new_zeros(batch, len(w_hh)) if b_hh is None else b_hh.expand(batch, -1)
        else:
            u = F.linear(h0, w_hh, b_hh)
        h, c = ops.step(cell, F.linear(x, w_ih, b_ih), u, h0, c0)
        return h.clone(), h, c  # one step: both products at once, each with its own bias
    bias, b_hn = _fold_biases(cell, b_ih, b_hh)
    if tokens is not None:
        table = F.linear(x, w_ih, bias)
        return ops.recurrence(cell, table, h0, c0, w_hh, b_hn, batch_sizes, reverse, tokens=tokens)
    return ops.recurrence(
        cell, x, h0, c0, w_hh, b_hn, batch_sizes, reverse, w_ih=w_ih, bias=bias, resets=resets
    )


def trace_direction(
    cell: str,
    x: Tensor,
    weights: Weights,
    h0: Tensor,
    c0: Tensor | None,
    batch_sizes: list[int] | None,
    reverse: bool,
    resets: ops.Resets | None,
) -> tuple[ops.State, list[Tensor]]:
    """As `run_direction`, and of every step what `ops.traced` shows. Where `ops.can_trace`, without w_hr."""
    bias, b_hn = _fold_biases(cell, weights.b_ih, weights.b_hh)
    source = ops.Source(x, weights.w_ih, bias, None)
    return ops.traced(cell, source, h0, c0, weights.w_hh, b_hn, batch_sizes, reverse, resets)


def _run_projected(
    cell: str,
    x: Tensor,
    weights: Weights,
    h0: Tensor | None,
    c0: Tensor | None,
    batch: int,
    batch_sizes: list[int] | None,
    reverse: bool,
    tokens: Tensor | None,
    resets: ops.Resets | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The same in separate operations: for a w_hr, and under autocast, which mixes dtypes."""
    w_ih, w_hh, b_ih, b_hh, w_hr = weights
    bias, b_hn = _fold_biases(cell, b_ih, b_hh)
    xproj = F.linear(x, w_ih, bias)
    if tokens is not None:
        xproj = F.embedding(tokens, xproj)
    # Under autocast the product came out narrow; the recurrence runs in the weights' own dtype. As in torch,
    # RNN's output comes out narrow too; the others' follows x.
    dtype, narrow = w_ih.dtype, xproj.dtype if cell.startswith("rnn") else x.dtype
    if w_hr is not None:
        # h[t] = W_hr h'[t]: recur on the unprojected h' with W_hh W_hr, and let h0 in beside the inputs.
        if h0 is not None:
            begin = _first_rows(batch, len(xproj), batch_sizes, reverse).to(x.device)
            xproj = xproj.index_add(0, begin, F.linear(h0, w_hh).to(xproj.dtype))
        h0, w_hh = None, (w_hh @ w_hr).to(dtype)
    if h0 is None:
        h0 = w_hh.new_zeros(batch, w_hh.shape[1])
    if c0 is None and cell == "lstm":
        c0 = w_hh.new_zeros(batch, w_hh.shape[1])
    if xproj.dtype == h0.dtype == dtype:
        y, h, c = ops.recurrence(cell, xproj, h0, c0, w_hh, b_hn, batch_sizes, reverse, resets=resets)
    else:
        xproj, h0, c0 = xproj.to(dtype), h0.to(dtype), None if c0 is None else c0.to(dtype)
        if resets is not None:
            cells = None if resets.c is None else resets.c.to(dtype)
            resets = ops.Resets(resets.flags, resets.h.to(dtype), cells)
        with torch.autocast(x.device.type, enabled=False):
            y, h, c = ops.recurrence(cell, xproj, h0, c0, w_hh, b_hn, batch_sizes, reverse, resets=resets)
    if w_hr is not None:
        y, h = F.linear(y, w_hr), F.linear(h, w_hr)
    if y.dtype != narrow:
        return y.to(narrow), h.to(narrow), None if c is None else c.to(narrow)
    return y, h, c


def _fold_biases(cell: str, b_ih: Tensor | None, b_hh: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """The bias of the input projection (G*H,), and GRU's b_hn (H,), which its reset gate keeps apart."""
    if b_ih is None or b_hh is None:
        return None, None
    if cell != "gru":
        return b_ih + b_hh, None
    hidden = len(b_hh) // 3
    return b_ih + F.pad(b_hh[: 2 * hidden], (0, hidden)), b_hh[2 * hidden :]


def _first_rows(batch: int, rows: int, batch_sizes: list[int] | None, reverse: bool) -> Tensor:
    """Which of the N rows is the first that each of the B sequences reads (B,)."""
    if not reverse:
        return torch.arange(batch)
    if batch_sizes is None:
        return torch.arange(rows - batch, rows)
    last = [0] * batch
    row = 0
    for size in batch_sizes:
        last[:size] = range(row, row + size)
        row += size
    return torch.tensor(last)


def _run_cell(
    module: nn.RNNCellBase, cell: str, x: Tensor, h: Tensor | None, c: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """One step, for an input (B, I) or (I,) and states alike, with the errors of torch.nn's cells."""
    dims = x.dim()
    if dims == 1:
        x = x.unsqueeze(0)
        h, c = None if h is None else h.unsqueeze(0), None if c is None else c.unsqueeze(0)
    batch, inputs = x.shape
    if inputs != module.input_size:
        raise RuntimeError(f"input has inconsistent input_size: got {inputs} expected {module.input_size}")
    _check_state(x, (batch, module.hidden_size), h, "hidden0")
    _check_state(x, (batch, module.hidden_size), c, "hidden1")
    weights = Weights(module.weight_ih, module.weight_hh, module.bias_ih, module.bias_hh)
    stepped = ops.one_step(cell, x, weights[:4], h, c)
    if stepped is not None:
        h, c = stepped
        return (h.squeeze(0), None if c is None else c.squeeze(0)) if dims == 1 else (h, c)
    _, h, c = run_direction(cell, x, weights, h, c, batch)
    if dims == 1:
        return h.squeeze(0), None if c is None else c.squeeze(0)
    return h, c


def _check_dims(kind: str, name: str, value: Tensor) -> None:
    if value.dim() != 2 and value.dim() != 1:
        raise ValueError(f"{kind}: Expected {name} to be 1D or 2D, got {value.dim()}D instead")


def _check_state(x: Tensor, expected: tuple[int, int], state: Tensor | None, name: str) -> None:
    """RuntimeError unless state (B, H) is as expected and of the dtype of x."""
    if state is None:
        return
    if state.shape != expected:
        if state.shape[0] != expected[0]:
            sizes = f"batch size {expected[0]} doesn't match {name} batch size {state.shape[0]}"
            raise RuntimeError(f"Input {sizes}")
        sizes = f"got {state.shape[1]}, expected {expected[1]}"
        raise RuntimeError(f"{name} has inconsistent hidden_size: {sizes}")
    if state.dtype != x.dtype and not torch._C._is_any_autocast_enabled():
        raise RuntimeError(f"{name} has dtype {state.dtype} but the input has {x.dtype}: convert one of them")


def _is_elsewhere(x: Tensor) -> bool:
    """On a device whose fused kernels are torch's own."""
    return not (x.is_cpu or x.is_meta)


class RNNCell(nn.RNNCell):
    """One step of Elman's recurrence, `torch.nn.RNNCell`'s drop-in: h' = f(W_ih x + b_ih + W_hh h + b_hh).

    f is `nonlinearity`: "tanh", "relu", or, beyond torch.nn, "sigmoid".
    """

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """input (B, I) or (I,), hx (B, H) or (H,), zeros when None -> h' like hx.

        Raises ValueError for a wrong number of dimensions, RuntimeError for wrong sizes or dtypes.
        """
        if self.nonlinearity not in ("tanh", "relu", "sigmoid"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        # torch's own is two products and a tanh, with nothing to fuse; but vmap would run it one by one.
        if self.nonlinearity != "sigmoid" and not torch._C._are_functorch_transforms_active():
            return super().forward(input, hx)
        _check_dims("RNNCell", "input", input)
        if hx is not None:
            _check_dims("RNNCell", "hidden", hx)
        return _run_cell(self, f"rnn_{self.nonlinearity}", input, hx, None)[0]


class GRUCell(nn.GRUCell):
    """One step of a gated recurrent unit, `torch.nn.GRUCell`'s drop-in; equations in `reference.gru_cell`."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """input (B, I) or (I,), hx (B, H) or (H,), zeros when None -> h' like hx. Raises as `RNNCell`."""
        _check_dims("GRUCell", "input", input)
        if hx is not None:
            _check_dims("GRUCell", "hidden", hx)
        if _is_elsewhere(input):
            return super().forward(input, hx)
        return _run_cell(self, "gru", input, hx, None)[0]


class LSTMCell(nn.LSTMCell):
    """One step of long short-term memory, `torch.nn.LSTMCell`'s drop-in; equations in `reference.lstm_cell`.

    State goes in and comes out as the pair (h, c).
    """

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """input (B, I) or (I,); hx (h, c), each (B, H) or (H,), zeros when None -> (h', c').

        Raises as `RNNCell`.
        """
        _check_dims("LSTMCell", "input", input)
        h = c = None
        if hx is not None:
            if len(hx) != 2:
                raise RuntimeError("lstm_cell expects two hidden states")
            h, c = hx
            _check_dims("LSTMCell", "hx[0]", h)
            _check_dims("LSTMCell", "hx[1]", c)
        if _is_elsewhere(input):
            return super().forward(input, hx)
        h, c = _run_cell(self, "lstm", input, h, c)
        assert c is not None
        return h, c
