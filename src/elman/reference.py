"""Every recurrence in plain PyTorch, one equation a line.

The twin of the native kernels: the tests' oracle, the path for devices and dtypes the kernels do not have,
and what second derivatives recompute through. Any device, any floating dtype, differentiable to any order. It
knows nothing of layers, dropout or input projections: those belong to `layers`.

Letters: T steps, B sequences, H hidden units, G gates, N rows (T * B, or the sum of all lengths when packed).
In the cells, `x` and `u` are a step's two products, biased: x = W_ih input + b_ih and u = W_hh h + b_hh.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

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
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run `cell` over every step of a batch of sequences.

    xproj (N, G*H): time-major rows of x @ w_ih.T + b_ih, plus b_hh for RNN and LSTM, plus [b_hr, b_hz, 0] for
    GRU, whose b_hn (H,) stays apart because the reset gate multiplies it. h0 (B, H); c0 (B, H) for LSTM, else
    None; w_hh (G*H, H). batch_sizes None: N = T * B rows. Otherwise, as in PyTorch's PackedSequence, step t
    holds batch_sizes[t] rows, never more than the step before. reverse: each sequence is read from its end to
    its start.

    Returns y (N, H), each output at its input's row; h_n (B, H) and c_n (B, H) (None unless LSTM), the state
    after each sequence's last processed step.
    """
    h, c = h0, c0
    b_hh = None if b_hn is None else F.pad(b_hn, (2 * len(b_hn), 0))
    # An empty batch has no rows to count steps by; one empty step gives the empty result.
    steps = torch.split(xproj, batch_sizes if batch_sizes is not None else len(h0))
    y: list[Tensor] = []
    for x in reversed(steps) if reverse else steps:
        b = len(x)  # rows b: have ended (forwards) or have not begun (backwards)
        u = F.linear(h[:b], w_hh, b_hh)
        h_new, c_new = step(cell, x, u, h[:b], None if c is None else c[:b])
        y.append(h_new)
        h = _first_rows(h_new, h)
        c = None if c is None or c_new is None else _first_rows(c_new, c)
    return torch.cat(y[::-1] if reverse else y), h, c
