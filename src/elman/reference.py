"""Every recurrence in plain PyTorch, one equation a line.

The twin of the native kernels: the tests' oracle, the path for devices and dtypes the kernels do not have,
and what second derivatives recompute through. Any device, any floating dtype, differentiable to any order. It
knows nothing of layers, dropout or input projections: those belong to `layers`.

Letters: T steps, B sequences, H hidden units, G gates, N rows (T * B, or the sum of all lengths when packed).
In the cells, `x` and `u` are a step's two products, biased: x = W_ih input + b_ih and u = W_hh h + b_hh.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from elman.expression import Graph

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "rnn_sigmoid": 1, "gru": 3, "lstm": 4}

_ACTIVATIONS = {"rnn_tanh": torch.tanh, "rnn_relu": torch.relu, "rnn_sigmoid": torch.sigmoid}


def rnn_cell(cell: str, x: Tensor, u: Tensor) -> Tensor:
    """Elman's recurrence ("Finding structure in time", Cognitive Science 14, 1990): h' = f(x + u).

    x (B, H), u (B, H) -> h' (B, H); f is tanh, relu or sigmoid, as `cell` names it.
    """
    f = _ACTIVATIONS[cell]
    return f(x + u)


def gru_cell(x: Tensor, u: Tensor, h: Tensor) -> Tensor:
    """Gated recurrent unit (Cho et al., "Learning phrase representations", EMNLP 2014), in order r, z, n.

    x (B, 3H), u (B, 3H), h (B, H) -> h' (B, H).
    As in cuDNN and PyTorch, the reset gate acts after the product with W_hn, so that one product serves all
    gates. An open update gate z keeps the old state, as in that paper.
    """
    x_r, x_z, x_n = x.chunk(3, dim=1)
    u_r, u_z, u_n = u.chunk(3, dim=1)
    r = torch.sigmoid(x_r + u_r)
    z = torch.sigmoid(x_z + u_z)
    n = torch.tanh(x_n + r * u_n)
    return (1 - z) * n + z * h


def lstm_cell(x: Tensor, u: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Long short-term memory (Hochreiter & Schmidhuber, Neural Computation 9, 1997), in order i, f, g, o.

    x (B, 4H), u (B, 4H), c (B, H) -> h' (B, H), c' (B, H).
    With the forget gate of Gers, Schmidhuber & Cummins ("Learning to forget", Neural Computation 12, 2000).
    """
    i, f, g, o = (x + u).chunk(4, dim=1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c + i * g
    h = o * torch.tanh(c)
    return h, c


def step(cell: str, x: Tensor, u: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """One step of any cell, its products made: x (B, G*H), u (B, G*H), h (B, H), c (B, H) or None -> h', c'."""
    if cell == "lstm":
        assert c is not None
        return lstm_cell(x, u, c)
    if cell == "gru":
        return gru_cell(x, u, h), None
    return rnn_cell(cell, x, u), None


def _first_rows(new: Tensor, old: Tensor) -> Tensor:
    """`old` (B, H) with its first rows replaced by `new` (b, H), b <= B."""
    return new if len(new) == len(old) else torch.cat((new, old[len(new) :]))


def recurrence(
    cell: str,
    xproj: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    w_hh: Tensor,
    b_hn: Tensor | None,
    batch_sizes: list[int] | None,
    reverse: bool,
    resets: Tensor | None = None,
    h_reset: Tensor | None = None,
    c_reset: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run `cell` over every step of a batch of sequences.

    xproj (N, G*H): time-major rows of x @ w_ih.T + b_ih, plus b_hh for RNN and LSTM, plus [b_hr, b_hz, 0] for
    GRU, whose b_hn (H,) stays apart because the reset gate multiplies it. h0 (B, H); c0 (B, H) for LSTM, else
    None; w_hh (G*H, H). batch_sizes None: N = T * B rows. Otherwise, as in PyTorch's PackedSequence, step t
    holds batch_sizes[t] rows, never more than the step before. reverse: each sequence is read from its end to
    its start.

    resets (N,) booleans: where True, the row's state is set to h_reset (B, H) and c_reset (B, H) before its step.

    Returns y (N, H), each output at its input's row; h_n (B, H) and c_n (B, H) (None unless LSTM), the state
    after each sequence's last processed step.
    """
    h, c = h0, c0
    b_hh = None if b_hn is None else F.pad(b_hn, (2 * len(b_hn), 0))
    steps = _steps(batch_sizes, len(xproj), len(h0), reverse)
    y: list[Tensor] = []
    for rows in steps:
        x = xproj[rows]
        b = len(x)  # rows b: have ended (forwards) or have not begun (backwards)
        if resets is not None:
            assert h_reset is not None
            h = _reset(h, h_reset, resets[rows])
            c = None if c is None or c_reset is None else _reset(c, c_reset, resets[rows])
        u = F.linear(h[:b], w_hh, b_hh)
        h_new, c_new = step(cell, x, u, h[:b], None if c is None else c[:b])
        y.append(h_new)
        h = _first_rows(h_new, h)
        c = None if c is None or c_new is None else _first_rows(c_new, c)
    return torch.cat(y[::-1] if reverse else y), h, c


def _steps(batch_sizes: list[int] | None, rows: int, batch: int, reverse: bool) -> list[slice]:
    """Each step's rows of the data, in the order of the recurrence."""
    # An empty batch has no rows to count steps by; one empty step gives the empty result.
    sizes = batch_sizes if batch_sizes is not None else [batch] * (rows // batch if batch else 1)
    found, at = [], 0
    for size in sizes:
        found.append(slice(at, at + size))
        at += size
    return found[::-1] if reverse else found


def _reset(state: Tensor, initial: Tensor, flags: Tensor) -> Tensor:
    """`state` (B, H), with those of its first rows that are flagged as `initial` has them."""
    flags = F.pad(flags.bool(), (0, len(state) - len(flags)))
    return torch.where(flags[:, None], initial, state)


_OPERATIONS: dict[str, Callable[..., Tensor]] = {
    **{op: getattr(torch, op) for op in ("neg", "tanh", "sigmoid", "exp", "expm1", "log", "log1p", "sqrt")},
    **{
        op: getattr(torch, op)
        for op in ("abs", "sign", "relu", "sin", "cos", "erf", "add", "sub", "mul", "div")
    },
    "max": torch.maximum,
    "min": torch.minimum,
    "less": lambda a, b: (a < b).to(a.dtype),
    "where": lambda condition, a, b: torch.where(condition != 0, a, b),
    "mean": lambda a: a.mean(dim=-1, keepdim=True).expand_as(a),
    "dtanh": lambda g, y: g * (1 - y * y),  # these two in derivatives alone
    "dsigmoid": lambda g, y: g * y * (1 - y),
}


Affine = Sequence[tuple[Tensor, Tensor | None]]
"""A cell's products: weight (G*H, H) and bias (G*H,) or None of each."""


def graph_step(graph: Graph, leaves: dict[str, Sequence[Tensor]], weights: Affine) -> list[Tensor]:
    """One step of a traced cell, node by node: its new states, then its taps, each (B, H).

    leaves: by kind, each (B, H), or (H,) of parameters.
    """
    like = leaves["state"][0]
    values: list[Tensor] = []
    for node in graph.nodes:
        arguments = [values[a] for a in node.args]
        if node.op in leaves:
            value = leaves[node.op][int(node.value)]
        elif node.op == "constant":
            value = torch.full_like(like, node.value)
        elif node.op == "product":
            value = F.linear(arguments[0], *weights[int(node.value)])
        elif node.op == "column":
            value = torch.split(arguments[0], like.shape[1], dim=1)[int(node.value)]
        else:
            value = _OPERATIONS[node.op](*arguments)
        values.append(value)
    return [values[i].expand_as(like) for i in (*graph.states, *graph.taps)]


def program(
    graph: Graph,
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
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Run a traced cell over every step of a batch of sequences, as `recurrence` does with a built-in one.

    x (N, ·*H) its inputs; initial, each (B, H); parameters (·, H); masks (B, ·*H); noise (N, ·*H); resets (N,)
    and after_reset, each (B, H), as in `recurrence`.
    Returns each state at every row (N, H); each state after its sequence's last step (B, H); taps (N, ·*H).
    """
    hidden = initial[0].shape[1]

    def columns(t: Tensor | None, rows: slice) -> list[Tensor]:
        return [] if t is None else list(torch.split(t[rows], hidden, dim=1))

    state = list(initial)
    found: list[list[Tensor]] = []
    for rows in _steps(batch_sizes, len(x), len(initial[0]), reverse):
        if resets is not None:
            state = [_reset(s, i, resets[rows]) for s, i in zip(state, after_reset, strict=True)]
        b = rows.stop - rows.start
        leaves: dict[str, Sequence[Tensor]] = {
            "x": columns(x, rows),
            "noise": columns(noise, rows),
            "mask": columns(masks, slice(b)),
            "parameter": [] if parameters is None else list(parameters),
            "state": [s[:b] for s in state],
        }
        found.append(graph_step(graph, leaves, weights))
        state = [_first_rows(new, old) for new, old in zip(found[-1], state, strict=False)]
    whole = [torch.cat(step) for step in zip(*(found[::-1] if reverse else found), strict=True)]
    states, taps = whole[: len(initial)], whole[len(initial) :]
    return states, state, torch.cat(taps, dim=1) if taps else x.new_empty(len(x), 0)


def scan(
    a: Tensor,
    b: Tensor,
    h0: Tensor,
    batch_sizes: list[int] | None = None,
    reverse: bool = False,
    resets: Tensor | None = None,
    h_reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """h[t] = a[t] h[t-1] + b[t] for all t in log2(T) rounds of torch operations: a parallel scan (Blelloch, "Prefix
    sums and their applications", 1990).

    a, b (N, H), h0 (B, H); the rest as in `recurrence`. Returns h (N, H) and each sequence's last (B, H).
    """
    batch = len(h0)
    if batch_sizes is not None:  # padded at the end, where a = 1 and b = 0 leave the state as it is
        there = torch.tensor(batch_sizes, device=a.device)[:, None] > torch.arange(batch, device=a.device)
        index = there.flatten().nonzero().squeeze(1)
        ones, zeros = a.new_ones(there.numel(), a.shape[1]), a.new_zeros(there.numel(), a.shape[1])
        flags = None if resets is None else resets.new_zeros(there.numel()).index_copy(0, index, resets)
        padded = ones.index_copy(0, index, a), zeros.index_copy(0, index, b)
        h, last = scan(*padded, h0, None, reverse, flags, h_reset)
        return h.index_select(0, index), last
    if resets is not None:
        assert h_reset is not None
        begins = resets.bool()[:, None]
        b = torch.where(begins, b + a * h_reset.repeat(len(b) // batch, 1), b)
        a = a.masked_fill(begins, 0)
    a, b = (t.reshape(-1, batch, t.shape[1]) for t in (a, b))
    if reverse:
        a, b = a.flip(0), b.flip(0)
    b = torch.cat((b[:1] + a[:1] * h0, b[1:]))
    step = 1
    while step < len(
        b
    ):  # now b[t] holds the last `step` terms of h[t], and a[t] the product of as many factors
        b = torch.cat((b[:step], b[step:] + a[step:] * b[:-step]))
        a = torch.cat((a[:step], a[step:] * a[:-step]))
        step *= 2
    last = b[-1]
    return (b.flip(0) if reverse else b).flatten(0, 1), last
