"""The products that are parallel in time: projections, gradients of inputs and of weights, over levels and sizes."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence

import elman
from elman import _native, ops

LEVELS = _native.cpu_levels()
SIZES = [
    (1, 1, 1),
    (2, 3, 5),
    (7, 65, 16),
    (33, 17, 40),
    (300, 64, 33),
    (70, 600, 31),
    (9, 512, 80),
    (1000, 5, 130),
]


@pytest.fixture(autouse=True)
def _restore():
    level, threads = _native.cpu_level(), torch.get_num_threads()
    yield
    _native.use_cpu_level(level)
    torch.set_num_threads(threads)


def close(found, expected):
    """To within rounding of the largest sums."""
    scale = 3e-6 if found.dtype == torch.float32 else 1e-14
    assert (found - expected).abs().max() <= scale * max(1.0, expected.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("level", LEVELS)
def test_linear(level, dtype):
    _native.use_cpu_level(level)
    for rows, inputs, outputs in SIZES:
        x, w, b = (
            torch.randn(*shape, dtype=dtype) for shape in ((rows, inputs), (outputs, inputs), (outputs,))
        )
        close(ops._linear(x, w, b), torch.nn.functional.linear(x.double(), w.double(), b.double()))
        close(ops._linear(x @ w.t(), w, transposed=True), (x @ w.t()).double() @ w.double())


def layer_gradients(layer, x, make_input=lambda x: x):
    x = x.clone().requires_grad_()
    y = layer(make_input(x))[0]
    y = y.data if isinstance(y, torch.nn.utils.rnn.PackedSequence) else y
    weight = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(5))
    tensors = [x, *layer.parameters()]
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), tensors)]


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= (5e-5 if a.dtype == torch.float32 else 1e-12) * b.norm() + 1e-7


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
def test_layers_of_many_sizes(cell, level):
    _native.use_cpu_level(level)
    for (steps, batch, inputs, hidden), dtype in product(
        [(70, 9, 3, 5), (40, 33, 65, 17), (12, 40, 130, 64), (5, 17, 16, 256)], [torch.float32, torch.float64]
    ):
        theirs = getattr(torch.nn, cell)(inputs, hidden, dtype=dtype)
        ours = getattr(elman, cell)(inputs, hidden, dtype=dtype)
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(steps, batch, inputs, dtype=dtype)
        same(layer_gradients(ours, x), layer_gradients(theirs, x))


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
def test_an_input_of_several_chunks(cell, packed):
    """Both directions, long enough that the projection is made in more than one piece."""
    steps, batch, inputs, hidden = {"RNN": 420, "GRU": 140, "LSTM": 105}[cell], 40, 3, 128
    theirs = getattr(torch.nn, cell)(inputs, hidden, bidirectional=True)
    ours = getattr(elman, cell)(inputs, hidden, bidirectional=True)
    ours.load_state_dict(theirs.state_dict())
    lengths = torch.linspace(steps, steps // 2, batch).long()
    assert lengths.sum() * {"RNN": 1, "GRU": 3, "LSTM": 4}[cell] * hidden > 1 << 20
    pack = (lambda x: pack_padded_sequence(x, lengths)) if packed else (lambda x: x)
    x = torch.randn(steps, batch, inputs)
    same(layer_gradients(ours, x, pack), layer_gradients(theirs, x, pack))
    with torch.no_grad():
        given, expected = ours(pack(x)), theirs(pack(x))
    torch.testing.assert_close(given[0].data, expected[0].data, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
def test_threads_change_nothing(cell):
    layer, x = getattr(elman, cell)(70, 96), torch.randn(60, 21, 70)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(layer_gradients(layer, x))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a, b)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 70), st.integers(1, 40))
def test_any_size(steps, batch, inputs, hidden):
    theirs, ours = torch.nn.GRU(inputs, hidden), elman.GRU(inputs, hidden)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(steps, batch, inputs)
    same(layer_gradients(ours, x), layer_gradients(theirs, x))


def test_memory_that_is_used_again_belongs_to_one_call():
    """Two calls before either backward, the first one's backward last."""
    ours, theirs = elman.LSTM(16, 64), torch.nn.LSTM(16, 64)
    theirs.load_state_dict(ours.state_dict())
    first, second = torch.randn(50, 20, 16), torch.randn(50, 20, 16)
    y1, y2 = ours(first)[0], ours(second)[0]
    kept = y1.detach().clone()
    g2 = torch.autograd.grad(y2.square().sum(), ours.weight_hh_l0, retain_graph=True)[0]
    ours(second)[0].sum().backward()
    g1 = torch.autograd.grad(y1.square().sum(), ours.weight_hh_l0)[0]
    again = torch.autograd.grad(y2.square().sum(), ours.weight_hh_l0)[0]
    torch.testing.assert_close(y1.detach(), kept, rtol=0, atol=0)
    assert torch.equal(g2, again)
    expected = torch.autograd.grad(theirs(first)[0].square().sum(), theirs.weight_hh_l0)[0]
    same([g1], [expected])
