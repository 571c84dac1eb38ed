"""RNNCell, GRUCell and LSTMCell agree with torch.nn's in values, all gradients and errors."""

import pytest
import torch
from torch import Tensor, nn

from elman import cells

pytestmark = pytest.mark.usefixtures("one_thread")

CELLS = ["RNNCell", "ReLUCell", "GRUCell", "LSTMCell"]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def twins(cell: str, *sizes, **options) -> tuple[nn.Module, nn.Module]:
    if cell == "ReLUCell":
        options["nonlinearity"] = "relu"
    made = []
    for namespace in (nn, cells):
        torch.manual_seed(7)
        made.append(getattr(namespace, cell.replace("ReLU", "RNN"))(*sizes, **options))
    return made[0], made[1]


def state(cell: str, h: Tensor, c: Tensor):
    return (h, c) if cell == "LSTMCell" else h


def tensors_in(value) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [t for v in value for t in tensors_in(v)]


def assert_twins_agree(theirs, ours, *inputs):
    results = []
    for module in (theirs, ours):
        outputs = tensors_in(module(*inputs))
        torch.manual_seed(99)
        loss = sum((o * torch.randn(o.shape, dtype=o.dtype)).sum() for o in outputs)
        leaves = [t for t in tensors_in(inputs) if t.requires_grad]
        results.append([*outputs, *torch.autograd.grad(loss, [*leaves, *module.parameters()])])
    for a, b in zip(*results, strict=True):
        tolerance = TOLERANCE[a.dtype]
        torch.testing.assert_close(b, a, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", [None, 0, 1, 2, 3, 5])
@pytest.mark.parametrize("cell", CELLS)
def test_values_and_gradients(cell, batch, bias):
    rows = () if batch is None else (batch,)
    for hidden, dtype in [(1, torch.float32), (7, torch.float64), (9, torch.float32), (33, torch.float64)]:
        theirs, ours = twins(cell, 4, hidden, bias, dtype=dtype)
        torch.manual_seed(3)
        x, h, c = (torch.randn(*rows, n, dtype=dtype, requires_grad=True) for n in (4, hidden, hidden))
        assert_twins_agree(theirs, ours, x)
        assert_twins_agree(theirs, ours, x, state(cell, h, c))


@pytest.mark.parametrize("cell", [*CELLS, "sigmoid"])
def test_first_and_second_derivatives(cell):
    if cell == "sigmoid":
        ours = cells.RNNCell(2, 3, nonlinearity="sigmoid", dtype=torch.float64)
    else:
        _, ours = twins(cell, 2, 3, dtype=torch.float64)
    names, weights = zip(*ours.named_parameters(), strict=True)

    def run(x, h, c, *weights):
        given = dict(zip(names, weights, strict=True))
        return tuple(tensors_in(torch.func.functional_call(ours, given, (x, state(cell, h, c)))))

    x, h, c = (torch.randn(2, n, dtype=torch.float64, requires_grad=True) for n in (2, 3, 3))
    leaves = [x, h, c if cell == "LSTMCell" else None, *weights]
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)


@pytest.mark.parametrize("cell", CELLS)
def test_sizes_of_zero(cell):
    for sizes in [(4, 0), (0, 4), (0, 0)]:
        theirs, ours = twins(cell, *sizes)
        for x in (torch.randn(3, sizes[0]), torch.randn(0, sizes[0])):
            for a, b in zip(tensors_in(theirs(x)), tensors_in(ours(x)), strict=True):
                torch.testing.assert_close(b, a)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "sigmoid"])
def test_steps_of_a_cell_are_a_layer(nonlinearity):
    from elman.layers import RNN

    torch.manual_seed(1)
    layer, cell = RNN(3, 5, nonlinearity=nonlinearity), cells.RNNCell(3, 5, nonlinearity=nonlinearity)
    cell.load_state_dict({name.removesuffix("_l0"): w for name, w in layer.state_dict().items()})
    x, h = torch.randn(4, 2, 3), torch.randn(2, 5)
    y, _ = layer(x, h[None])
    for t in range(4):
        h = cell(x[t], h)
        torch.testing.assert_close(h, y[t])


FIXED = torch.Generator().manual_seed(11)
X, H = torch.randn(3, 4, generator=FIXED), torch.randn(3, 6, generator=FIXED)
BAD = {
    "0-D input": (X[0, 0], None),
    "3-D input": (X[None], None),
    "3-D state": (X, H[None]),
    "wrong input size": (X[:, :3], None),
    "wrong hidden size": (X, H[:, :5]),
    "wrong batch of the state": (X, H[:2]),
    "batch of one beside many": (X, H[:1]),
    "unbatched input, batched state": (X[0], H),
    "batched input, unbatched state": (X, H[0]),
    "double state": (X, H.double()),
    "double input": (X.double(), None),
    "double input and state": (X.double(), H.double()),
    "integers": (X.long(), None),
    "no tensor": (X.numpy(), None),
    "no input": (None, None),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("cell", CELLS)
def test_errors_are_of_torchs_type(cell, bad):
    x, h = BAD[bad]
    errors = []
    for module in twins(cell, 4, 6):
        with pytest.raises(Exception) as error:  # noqa: PT011
            module(x, None if h is None else state(cell, h, h))
        errors.append(error.type)
    assert errors[0] is errors[1]


def test_states_of_an_lstm_come_in_pairs():
    for module in twins("LSTMCell", 4, 6):
        for hx in [(H,), (H, H, H)]:
            with pytest.raises(RuntimeError, match="expects two hidden states"):
                module(X, hx)
        assert torch.equal(module(X, [H, H])[0], module(X, (H, H))[0])
        with pytest.raises(RuntimeError, match="batch size 3 doesn't match hidden1 batch size 2"):
            module(X, (H, H[:2]))


def test_an_unknown_nonlinearity_is_refused_when_called():
    for module in twins("RNNCell", 4, 6, nonlinearity="swish"):
        with pytest.raises(RuntimeError, match="Unknown nonlinearity: swish"):
            module(X)


@pytest.mark.parametrize("cell", CELLS)
def test_is_a_torch_cell(cell):
    theirs, ours = twins(cell, 4, 6, bias=False)
    assert isinstance(ours, type(theirs))
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("cell", CELLS)
def test_narrow_types(cell):
    theirs, ours = twins(cell, 4, 6)
    expected = tensors_in(theirs(X, state(cell, H, H)))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = zip(tensors_in(theirs(X)), tensors_in(ours(X)), strict=True)
        assert all(a.dtype == b.dtype for a, b in outputs)
        for a, b in zip(expected, tensors_in(ours(X, state(cell, H, H))), strict=True):
            torch.testing.assert_close(b.float(), a, rtol=0.05, atol=0.05)
    for dtype in (torch.bfloat16, torch.float16):
        narrow = H.to(dtype)
        got = tensors_in(ours.to(dtype)(X.to(dtype), state(cell, narrow, narrow)))
        for a, b in zip(expected, got, strict=True):
            assert b.dtype == dtype
            torch.testing.assert_close(b.float(), a, rtol=0.05, atol=0.05)


# Raised inside torch when forward-mode differentiation is first used.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("cell", CELLS)
def test_transforms(cell):
    _, ours = twins(cell, 4, 6)
    x = torch.randn(5, 3, 4)
    together = tensors_in(torch.func.vmap(ours)(x))
    for k in range(5):
        for a, b in zip(together, tensors_in(ours(x[k])), strict=True):
            torch.testing.assert_close(a[k], b)
    tangent = torch.func.jvp(lambda x: tensors_in(ours(x))[0], (X,), (X,))[1]
    ahead, behind = (tensors_in(ours(X * k))[0].detach().double() for k in (1 + 1e-3, 1 - 1e-3))
    torch.testing.assert_close(tangent.double(), (ahead - behind) / 2e-3, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("cell", ["GRUCell", "LSTMCell"])
def test_compiles_without_a_break(cell):
    torch._dynamo.reset()
    _, ours = twins(cell, 4, 6)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for a, b in zip(tensors_in(ours(X)), tensors_in(compiled(X)), strict=True):
        torch.testing.assert_close(b, a)
        torch.testing.assert_close(
            *(torch.autograd.grad(o.sum(), ours.weight_hh, retain_graph=True)[0] for o in (a, b))
        )
