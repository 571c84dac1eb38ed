"""The reference against torch.nn, against plain loops over numbers, and against finite differences."""

import math

import pytest
import torch
from torch import Tensor, nn

from elman import reference

pytestmark = pytest.mark.usefixtures("one_thread")

TORCH = {
    "rnn_tanh": lambda i, h: nn.RNN(i, h, nonlinearity="tanh"),
    "rnn_relu": lambda i, h: nn.RNN(i, h, nonlinearity="relu"),
    "gru": nn.GRU,
    "lstm": nn.LSTM,
}
LENGTHS = {1: [4], 2: [4, 1], 3: [5, 3, 3], 5: [6, 6, 4, 2, 1]}
CELLS = list(reference.GATES)


def arguments(cell: str, hidden: int, batch: int, packed: bool, seed: int = 0) -> list:
    """Random arguments of `recurrence` up to `batch_sizes`, in float64, all requiring gradients."""
    torch.manual_seed(seed)
    gates = reference.GATES[cell]
    lengths = LENGTHS[batch]
    sizes = [sum(n > t for n in lengths) for t in range(lengths[0])] if packed else None
    rows = sum(lengths) if packed else lengths[0] * batch
    shapes = [(rows, gates * hidden), (batch, hidden), (batch, hidden), (gates * hidden, hidden), (hidden,)]
    xproj, h0, c0, w_hh, b_hn = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes)
    return [
        cell,
        xproj,
        h0,
        c0 if cell == "lstm" else None,
        w_hh,
        b_hn if cell == "gru" else None,
        sizes,
    ]


def with_torch(cell, xproj, h0, c0, w_hh, b_hn, sizes, reverse):
    """The same recurrence by torch.nn: an identity as input weight hands it xproj."""
    gates, hidden = len(w_hh), w_hh.shape[1]
    module = TORCH[cell](gates, hidden).double()
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    b_ih = torch.zeros(gates, dtype=torch.float64)
    b_hh = b_ih if b_hn is None else torch.cat((b_ih[: 2 * hidden], b_hn))
    weights = dict(zip(names, (torch.eye(gates, dtype=torch.float64), w_hh, b_ih, b_hh), strict=True))
    lengths = (
        [sum(n > b for n in sizes) for b in range(len(h0))] if sizes else [len(xproj) // len(h0)] * len(h0)
    )
    order = reversed_rows(lengths) if reverse else torch.arange(len(xproj))
    batch_sizes = torch.tensor([sum(n > t for n in lengths) for t in range(lengths[0])])
    x = nn.utils.rnn.PackedSequence(xproj[order], batch_sizes)
    state = h0[None] if c0 is None else (h0[None], c0[None])
    y, state = torch.func.functional_call(module, weights, (x, state))
    h, c = (state, None) if c0 is None else state
    return y.data[order], h[0], None if c is None else c[0]


def reversed_rows(lengths: list[int]) -> Tensor:
    """The packed row of (t, b) with each sequence back to front; its own inverse."""
    row = {}
    for t in range(lengths[0]):
        for b in range(len(lengths)):
            if t < lengths[b]:
                row[t, b] = len(row)
    return torch.tensor([row[lengths[b] - 1 - t, b] for t, b in row])


def gradients(outputs, inputs) -> list[Tensor]:
    """Of a sum of all outputs in which every element has its own weight."""
    torch.manual_seed(99)
    loss = sum((o * torch.randn_like(o)).sum() for o in outputs if o is not None)
    return list(torch.autograd.grad(loss, [x for x in inputs if isinstance(x, Tensor)]))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("cell", list(TORCH))
def test_values_and_all_gradients_equal_torch(cell, packed, reverse):
    for hidden, batch in [(1, 1), (7, 2), (9, 3), (33, 5), (1, 5)]:
        inputs = arguments(cell, hidden, batch, packed)
        ours = reference.recurrence(*inputs, reverse)
        theirs = with_torch(*inputs, reverse)
        assert (ours[2] is None) == (cell != "lstm")
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
        for a, b in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_first_and_second_derivatives(cell):
    for packed, reverse in [(False, True), (True, False), (True, True)]:
        inputs = arguments(cell, 2, 2, packed)
        tensors = [x for x in inputs if isinstance(x, Tensor)]

        def run(*tensors, inputs=inputs, reverse=reverse):
            given = iter(tensors)
            outputs = reference.recurrence(
                *[next(given) if isinstance(x, Tensor) else x for x in inputs], reverse
            )
            return tuple(o for o in outputs if o is not None)

        assert torch.autograd.gradcheck(run, tensors)
        assert torch.autograd.gradgradcheck(run, tensors, fast_mode=True)


def sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v))


@pytest.mark.parametrize("cell", CELLS)
def test_equals_plain_loops_over_numbers(cell):
    """Every equation once more, one number at a time and independent of torch's matrix products."""
    hidden, batch = 3, 2
    inputs = arguments(cell, hidden, batch, packed=False)
    _, xproj, h0, c0, w_hh, b_hn, _ = (x.tolist() if isinstance(x, Tensor) else x for x in inputs)
    y = []
    for b in range(batch):
        h, c = h0[b], c0[b] if c0 else None
        outputs = []
        for x in xproj[b::batch]:
            wh = [sum(w * v for w, v in zip(row, h, strict=True)) for row in w_hh]
            g = [[wh[k * hidden + j] for k in range(len(wh) // hidden)] for j in range(hidden)]
            a = [[x[k * hidden + j] for k in range(len(wh) // hidden)] for j in range(hidden)]
            new = []
            for j in range(hidden):
                if cell == "lstm":
                    i, f, u, o = (p + q for p, q in zip(a[j], g[j], strict=True))
                    c = [*c[:j], sigmoid(f) * c[j] + sigmoid(i) * math.tanh(u), *c[j + 1 :]]
                    new.append(sigmoid(o) * math.tanh(c[j]))
                elif cell == "gru":
                    r, z = sigmoid(a[j][0] + g[j][0]), sigmoid(a[j][1] + g[j][1])
                    n = math.tanh(a[j][2] + r * (g[j][2] + b_hn[j]))
                    new.append((1 - z) * n + z * h[j])
                else:
                    f = {"rnn_tanh": math.tanh, "rnn_relu": lambda v: max(v, 0.0), "rnn_sigmoid": sigmoid}[
                        cell
                    ]
                    new.append(f(a[j][0] + g[j][0]))
            h = new
            outputs.append(h)
        y.append(outputs)
    out, h_n, c_n = reference.recurrence(*inputs, False)
    torch.testing.assert_close(
        out.view(-1, batch, hidden).transpose(0, 1), torch.tensor(y, dtype=torch.float64)
    )
    torch.testing.assert_close(h_n, torch.tensor([o[-1] for o in y], dtype=torch.float64))
    assert (c_n is None) == (c0 is None)


@pytest.mark.parametrize("cell", CELLS)
def test_chunks_with_the_state_carried_equal_the_whole(cell):
    _, xproj, h, c, w_hh, b_hn, _ = arguments(cell, 5, 3, packed=False)
    y, h_n, c_n = reference.recurrence(cell, xproj, h, c, w_hh, b_hn, None, False)
    pieces = []
    for chunk in xproj.split([3, 6, 6]):
        piece, h, c = reference.recurrence(cell, chunk, h, c, w_hh, b_hn, None, False)
        pieces.append(piece)
    assert torch.equal(torch.cat(pieces), y)
    assert torch.equal(h, h_n)
    assert c is None or torch.equal(c, c_n)


@pytest.mark.parametrize("cell", CELLS)
def test_an_empty_batch_gives_empty_results(cell):
    _, xproj, h, c, w_hh, b_hn, _ = arguments(cell, 5, 3, packed=False)
    c = None if c is None else c[:0]
    y, h_n, c_n = reference.recurrence(cell, xproj[:0], h[:0], c, w_hh, b_hn, None, False)
    assert y.shape == h_n.shape == (0, 5)
    assert c is None or c_n.shape == (0, 5)
    y.sum().backward()
    assert torch.equal(w_hh.grad, torch.zeros_like(w_hh))
