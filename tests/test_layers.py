"""RNN, GRU and LSTM agree with torch.nn in values and in all gradients, over every argument and odd sizes."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from elman import layers

CELLS = ["RNN", "ReLU", "GRU", "LSTM"]
TOLERANCE = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.float64: {"rtol": 1e-10, "atol": 1e-10},
}
# torch.nn's, once a process.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]
INPUT = 4
FLAGS = list(product([False, True], repeat=2))


def twins(cell: str, *sizes, **options) -> tuple[nn.Module, nn.Module]:
    """torch's module and ours, made under the same seed and therefore expected to hold the same weights."""
    if cell == "ReLU":
        options["nonlinearity"] = "relu"
    name = "RNN" if cell == "ReLU" else cell
    made = []
    for namespace in (nn, layers):
        torch.manual_seed(7)
        made.append(getattr(namespace, name)(*sizes, **options))
    return made[0], made[1]


def tensors_in(value) -> list[Tensor]:
    """The floating-point tensors of a nested result, in order."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, PackedSequence):
        return [value.data]
    return [t for v in value for t in tensors_in(v)]


def results_and_gradients(module: nn.Module, *inputs) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, and gradients of all inputs and parameters for a sum in which every element has its weight."""
    leaves = tensors_in(inputs)
    outputs = tensors_in(module(*inputs))
    torch.manual_seed(99)
    loss = sum((o * torch.randn(o.shape, dtype=o.dtype)).sum() for o in outputs)
    return outputs, list(torch.autograd.grad(loss, [*leaves, *module.parameters()]))


def assert_twins_agree(torch_module: nn.Module, ours: nn.Module, *inputs) -> None:
    dtype = next(ours.parameters()).dtype
    expected, got = results_and_gradients(torch_module, *inputs), results_and_gradients(ours, *inputs)
    for a, b in zip(expected, got, strict=True):
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(y, x, **TOLERANCE[dtype])


def an_input(
    module: nn.RNNBase, batch: int, steps: int = 5, packed: bool = False, state: bool = True
) -> list:
    """Input (and state), ending at different lengths when packed, not sorted by them."""
    torch.manual_seed(3)
    dtype = module.weight_ih_l0.dtype

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=dtype, requires_grad=True)

    x = leaf(*((batch, steps) if module.batch_first else (steps, batch)), module.input_size)
    if packed:
        lengths = [1 + (3 * b + 2) % steps for b in range(batch)]
        x = pack_padded_sequence(x, lengths, module.batch_first, enforce_sorted=False)
        x = x._replace(data=x.data.detach().requires_grad_())
    if not state:
        return [x]
    outer = module.num_layers * (2 if module.bidirectional else 1)
    h = leaf(outer, batch, module.proj_size or module.hidden_size)
    return [x, (h, leaf(outer, batch, module.hidden_size)) if module.mode == "LSTM" else h]


@pytest.mark.parametrize(("batch_first", "packed"), FLAGS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_every_argument(cell, num_layers, bidirectional, bias, batch_first, packed):
    options = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
    for dtype, state in [(torch.float32, True), (torch.float64, False)]:
        theirs, ours = twins(cell, INPUT, 7, num_layers, dtype=dtype, **options)
        assert_twins_agree(theirs, ours, *an_input(ours, 3, packed=packed, state=state))


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
@pytest.mark.parametrize("hidden", [1, 7, 9, 33])
@pytest.mark.parametrize("cell", CELLS)
def test_odd_sizes(cell, hidden, batch):
    for dtype, packed in product(TOLERANCE, [False, True]):
        theirs, ours = twins(cell, INPUT, hidden, 2, bidirectional=True, dtype=dtype)
        assert_twins_agree(theirs, ours, *an_input(ours, batch, packed=packed))


@pytest.mark.parametrize(("bidirectional", "bias"), FLAGS)
@pytest.mark.parametrize("packed", [False, True])
def test_projections(packed, bidirectional, bias):
    for dtype, state in product(TOLERANCE, [False, True]):
        options = {"bidirectional": bidirectional, "bias": bias, "proj_size": 3, "dtype": dtype}
        theirs, ours = twins("LSTM", INPUT, 9, 2, batch_first=True, **options)
        assert_twins_agree(theirs, ours, *an_input(ours, 3, packed=packed, state=state))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_unbatched(cell, batch_first):
    theirs, ours = twins(cell, INPUT, 7, 2, bidirectional=True, batch_first=batch_first)
    x, h, c = torch.randn(5, INPUT), torch.randn(4, 7), torch.randn(4, 7)
    for inputs in ([x], [x, (h, c) if cell == "LSTM" else h]):
        assert_twins_agree(theirs, ours, *[_leaves(i) for i in inputs])
        for a, b in zip(tensors_in(theirs(*inputs)), tensors_in(ours(*inputs)), strict=True):
            assert a.shape == b.shape


def _leaves(value):
    return tuple(map(_leaves, value)) if isinstance(value, tuple) else value.clone().requires_grad_()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_layouts_of_the_input_do_not_matter(cell, packed):
    """Transposed, strided, expanded and sliced inputs and states."""
    theirs, ours = twins(cell, INPUT, 7, batch_first=True)
    x = torch.randn(6, 2 * INPUT, 10).transpose(1, 2)[::2, 1:, 1::2].expand(3, -1, -1)
    h = torch.randn(7, 3, 1).transpose(0, 2)
    x = pack_padded_sequence(x, [9, 4, 1], batch_first=True) if packed else x
    state = (h, h.flip(2)) if cell == "LSTM" else h
    for a, b in zip(tensors_in(theirs(x, state)), tensors_in(ours(x, state)), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("enforce_sorted", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_packed_sequence_comes_out_as_it_went_in(cell, enforce_sorted):
    theirs, ours = twins(cell, INPUT, 7, 2, bidirectional=True)
    lengths = [5, 3, 1] if enforce_sorted else [3, 1, 5]
    x = pack_padded_sequence(torch.randn(5, 3, INPUT), lengths, enforce_sorted=enforce_sorted)
    for a, b in zip(theirs(x)[0], ours(x)[0], strict=True):
        assert (a is None and b is None) or torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_an_empty_batch_works_through_backward(cell):
    theirs, ours = twins(cell, INPUT, 7, 2, bidirectional=True)
    for state in (False, True):
        assert_twins_agree(theirs, ours, *an_input(ours, 0, state=state))
        for a, b in zip(
            tensors_in(theirs(*an_input(ours, 0))), tensors_in(ours(*an_input(ours, 0))), strict=True
        ):
            assert a.shape == b.shape


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("bidirectional", "batch_first"), FLAGS)
@pytest.mark.parametrize("cell", CELLS)
def test_dropout_draws_what_torch_draws(cell, bidirectional, batch_first, packed):
    options = {"dropout": 0.4, "bidirectional": bidirectional, "batch_first": batch_first}
    theirs, ours = twins(cell, INPUT, 7, 3, **options)
    for p in (0.4, 0.0, 1.0, 0.7):
        theirs.dropout = ours.dropout = p
        results = []
        for module in (theirs, ours):
            inputs = an_input(ours, 3, packed=packed)
            torch.manual_seed(5)
            results.append([*tensors_in(module(*inputs)), torch.rand(1)])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)
    assert torch.equal(*(ours.eval()(*an_input(ours, 3, packed=False))[0] for _ in range(2)))


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "sigmoid"])
def test_the_recurrence_is_elmans(nonlinearity):
    """h[t] = f(W_xh x[t] + W_hh h[t-1] + b_h) from a zero state, written with plain loops."""
    torch.manual_seed(1)
    rnn = layers.RNN(3, 4, nonlinearity=nonlinearity, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    f = {"tanh": torch.tanh, "relu": lambda v: max(v, 0 * v), "sigmoid": lambda v: 1 / (1 + (-v).exp())}
    b_h = rnn.bias_ih_l0 + rnn.bias_hh_l0
    y, h_n = rnn(x)
    for b in range(2):
        h = [torch.zeros((), dtype=torch.float64) for _ in range(4)]
        for t in range(6):
            before = h
            h = []
            for j in range(4):
                a = b_h[j]
                for i in range(3):
                    a = a + rnn.weight_ih_l0[j, i] * x[t, b, i]
                for i in range(4):
                    a = a + rnn.weight_hh_l0[j, i] * before[i]
                h.append(f[nonlinearity](a))
            torch.testing.assert_close(y[t, b], torch.stack(h), rtol=0, atol=1e-12)
        torch.testing.assert_close(h_n[0, b], torch.stack(h), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_tokens_equal_embedded_inputs(cell, bidirectional):
    _, ours = twins(cell, INPUT, 7, 2, bidirectional=bidirectional, dtype=torch.float64)
    embedding = torch.randn(6, INPUT, dtype=torch.float64, requires_grad=True)
    for steps, state in product([1, 4], [False, True]):  # fewer tokens than symbols, and more
        tokens = torch.randint(6, (steps, 3))
        hx = an_input(ours, 3)[1] if state else None
        expected = ours(nn.functional.embedding(tokens, embedding), hx)
        for a, b in zip(
            tensors_in(expected), tensors_in(ours.forward_tokens(tokens, embedding, hx)), strict=True
        ):
            torch.testing.assert_close(b, a, rtol=0, atol=1e-12)
            grads = [torch.autograd.grad(o.pow(2).sum(), embedding, retain_graph=True)[0] for o in (a, b)]
            torch.testing.assert_close(*grads, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="tokens must be"):
        ours.forward_tokens(tokens[0], embedding)
    with pytest.raises(RuntimeError, match="length"):
        ours.forward_tokens(tokens[:0], embedding)
    torch.testing.assert_close(
        ours.forward_tokens(tokens.int(), embedding)[0], ours.forward_tokens(tokens, embedding)[0]
    )
    for wrong in (6, -1):
        tokens[2, 1] = wrong
        for t in (tokens, tokens[2:]):
            with pytest.raises(IndexError, match=r"symbols|out of range"):
                ours.forward_tokens(t, embedding)


@pytest.mark.parametrize(
    "symbols", [300, 5000, 100_000]
)  # each projected once; those that occur; each token by itself
@pytest.mark.parametrize("cell", CELLS)
def test_tokens_of_large_vocabularies_equal_embedded_inputs(cell, symbols):
    _, ours = twins(cell, INPUT, 5, dtype=torch.float64)
    embedding = torch.randn(symbols, INPUT, dtype=torch.float64, requires_grad=True)
    some = torch.randint(symbols, (400,)) if symbols < 100_000 else torch.arange(3000)
    tokens = some[torch.randint(len(some), (60, 40))]
    expected, found = (
        ours(nn.functional.embedding(tokens, embedding))[0],
        ours.forward_tokens(tokens, embedding)[0],
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(expected)
    grads = [
        torch.autograd.grad((y * weights).sum(), [embedding, *ours.parameters()]) for y in (expected, found)
    ]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-10)
    tokens[3, 3] = symbols
    with pytest.raises(IndexError, match=r"symbols|out of range"):
        ours.forward_tokens(tokens, embedding)


@pytest.mark.parametrize("cell", [*CELLS, "sigmoid"])
def test_first_and_second_derivatives(cell):
    if cell == "sigmoid":
        ours = layers.RNN(2, 3, nonlinearity="sigmoid", bidirectional=True, dtype=torch.float64)
    else:
        _, ours = twins(cell, 2, 3, bidirectional=True, dtype=torch.float64)
    names, weights = zip(*ours.named_parameters(), strict=True)
    for packed in (False, True):
        inputs = an_input(ours, 2, steps=2, packed=packed)

        def run(x, h, c, *weights, inputs=inputs, packed=packed):
            x = inputs[0]._replace(data=x) if packed else x
            state = (h, c) if cell == "LSTM" else h
            call = torch.func.functional_call(ours, dict(zip(names, weights, strict=True)), (x, state))
            return tuple(tensors_in(call))

        x, h, *c = tensors_in(inputs)
        leaves = [x, h, c[0] if c else None, *weights]
        assert torch.autograd.gradcheck(run, leaves, fast_mode=True)
        assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_shape(data):
    draw = data.draw
    cell = draw(st.sampled_from(CELLS))
    options = {name: draw(st.booleans()) for name in ("bias", "batch_first", "bidirectional")}
    hidden = draw(st.integers(1, 20))
    if cell == "LSTM":
        options["proj_size"] = draw(st.integers(0, hidden - 1))
    theirs, ours = twins(
        cell, draw(st.integers(1, 9)), hidden, draw(st.integers(1, 3)), dtype=torch.float64, **options
    )
    batch, steps = draw(st.integers(0, 6)), draw(st.integers(1, 7))
    packed, state = draw(st.booleans()) and batch > 0, draw(st.booleans())
    assert_twins_agree(theirs, ours, *an_input(ours, batch, steps, packed, state))


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"batch_first": True}], ids=str)
@pytest.mark.parametrize("hidden", [1, 7, 33, 64, 256])
@pytest.mark.parametrize("cell", [*CELLS, "sigmoid"])
def test_one_step_at_inference(cell, hidden, options):
    """The way without a product of packed weights, beside the way with gradients."""
    if cell in ("ReLU", "sigmoid"):
        layer = layers.RNN(INPUT, hidden, nonlinearity=cell.lower(), **options)
    else:
        layer = getattr(layers, cell)(INPUT, hidden, **options)
    for batch, dtype in product([1, 3, 5], [torch.float32, torch.float64]):
        layer.to(dtype)
        x = torch.randn((batch, 1, INPUT) if options.get("batch_first") else (1, batch, INPUT), dtype=dtype)
        state = layer(torch.randn_like(x))[1]
        for inputs, hx in ((x, None), (x, state), (x.reshape(batch, INPUT)[:1], None)):
            expected = tensors_in(layer(inputs, hx))
            with torch.no_grad():
                found = tensors_in(layer(inputs, hx))
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(
                    a, b.detach(), rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12
                )
            assert len({t.data_ptr() for t in found}) == len(
                found
            )  # the output shares no memory with the state
