"""elman's layers under other regimes: narrow dtypes, transforms, meta, inference mode, compilation and export."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import elman
from test_dropin import CELLS, H, X, state, twins

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("cell", CELLS)
def test_narrow_types(cell):
    theirs, ours = twins(cell)
    expected = theirs(X, state(cell, H))[0].detach()
    for steps in (1, 5):
        with torch.autocast("cpu", torch.bfloat16):
            y, final = ours(X[:steps], state(cell, H))
            assert y.dtype == (torch.bfloat16 if cell == "RNN" else torch.float32)  # as torch.nn's
            assert (final[0] if cell == "LSTM" else final).dtype == y.dtype
            assert ours(X.bfloat16())[0].dtype == torch.bfloat16
        y.float().sum().backward()
        torch.testing.assert_close(y.float(), expected[:steps], rtol=0.03, atol=0.03)
    assert ours.weight_hh_l0.grad.dtype == torch.float32
    for dtype in (torch.bfloat16, torch.float16):
        ours.to(dtype)
        y, _ = ours(X.to(dtype), state(cell, H.to(dtype)))
        assert y.dtype == dtype
        torch.testing.assert_close(y.float(), expected, rtol=0.03, atol=0.03)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("cell", CELLS)
def test_transforms(cell):
    _, ours = twins(cell, dtype=torch.float64)
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    weights = dict(ours.named_parameters())

    def loss(weights, x):
        return torch.func.functional_call(ours, weights, (x,))[0].pow(2).sum()

    together = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x)
    for k in range(2):
        apart = torch.autograd.grad(loss(weights, x[k]), list(weights.values()))
        for a, b in zip(together.values(), apart, strict=True):
            torch.testing.assert_close(a[k], b)
    tangent = torch.func.jvp(lambda x: ours(x)[0], (x[0],), (x[1],))[1]
    step = 1e-6
    difference = (ours(x[0] + step * x[1])[0] - ours(x[0] - step * x[1])[0]) / (2 * step)
    torch.testing.assert_close(tangent, difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("cell", CELLS)
def test_meta_and_inference_mode(cell):
    _, ours = twins(cell, 4, 6, 2, device="meta")
    y, final = ours(X.to("meta"))
    assert y.shape == (5, 3, 6)
    assert y.is_meta
    assert (final[0] if cell == "LSTM" else final).shape == (2, 3, 6)
    _, ours = twins(cell)
    with torch.inference_mode():
        assert torch.equal(ours(X)[0], ours(X.clone())[0])
        assert ours(X)[0].is_inference()


@pytest.mark.parametrize("cell", CELLS)
def test_fused_kernels_of_other_devices_are_called_right(cell, monkeypatch):
    """Their calls also work on the CPU, which lets them be tested here."""
    options = {"bidirectional": True, "batch_first": True, "dropout": 0.3}
    _, ours = twins(cell, 4, 6, 2, **options)
    hx = state(cell, torch.randn(4, 3, 6))
    packed = pack_padded_sequence(X.transpose(0, 1), [5, 3, 1], batch_first=True)
    tokens, embedding = torch.randint(9, (5, 3)), torch.randn(9, 4)
    calls = [lambda x=x, s=s: ours(x, s) for x in (X.transpose(0, 1), packed) for s in (None, hx)]
    calls += [lambda: ours(X[0]), lambda: ours.forward_tokens(tokens, embedding, hx)]
    for call in calls:
        results = []
        for fused in (False, True):
            monkeypatch.setattr(ours, "_is_fused", lambda x, fused=fused: fused)
            torch.manual_seed(1)
            y, final = call()
            y = y.data if isinstance(y, PackedSequence) else y
            results.append([y, *(final if cell == "LSTM" else [final])])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)


class Tagger(nn.Module):
    """A layer inside a module, with a state, a slice and a loss around it."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.layer = getattr(elman, cell)(4, 6, bidirectional=True, batch_first=True)
        self.head = nn.Linear(12, 2)

    def forward(self, x):
        return self.head(self.layer(x)[0].relu())


@pytest.mark.parametrize("cell", CELLS)
def test_compiles_without_a_break(cell):
    torch._dynamo.reset()
    tagger = Tagger(cell)
    compiled = torch.compile(tagger, fullgraph=True, backend="aot_eager")
    results = [
        (y, *torch.autograd.grad(y.pow(2).sum(), tagger.parameters())) for y in (tagger(X), compiled(X))
    ]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a)


@pytest.mark.parametrize("cell", CELLS)
def test_exports(cell):
    tagger = Tagger(cell)
    batch, steps = torch.export.Dim("batch"), torch.export.Dim("steps")
    program = torch.export.export(tagger, (X,), dynamic_shapes={"x": {0: batch, 1: steps}})
    names = {str(node.target) for node in program.graph.nodes}
    assert "elman.recurrence.default" in names
    for x in (X, torch.randn(2, 9, 4)):
        torch.testing.assert_close(program.module()(x), tagger(x))
