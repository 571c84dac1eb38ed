"""The native kernels against `reference`: values and every gradient, over cells, shapes, dtypes and CPU levels."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from elman import _native, ops, reference

CELLS = list(reference.GATES)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    level, threads = _native.cpu_level(), torch.get_num_threads()
    yield
    _native.use_cpu_level(level)
    torch.set_num_threads(threads)


def problem(
    cell: str,
    steps: int,
    batch: int,
    hidden: int,
    dtype: torch.dtype,
    sizes: list[int] | None = None,
    seed: int = 0,
) -> list[Tensor | None]:
    """Arguments of `recurrence`, in order, that need gradients."""
    g = torch.Generator().manual_seed(seed)
    gates, rows = reference.GATES[cell], sum(sizes) if sizes else steps * batch

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=g, dtype=torch.float64) * scale).to(dtype).requires_grad_()

    return [
        draw(rows, gates * hidden),
        draw(batch, hidden),
        draw(batch, hidden) if cell == "lstm" else None,
        draw(gates * hidden, hidden, scale=0.7 / hidden**0.5),
        draw(hidden) if cell == "gru" else None,
    ]


def values_and_gradients(run, cell, inputs, sizes, reverse, need=("y", "h", "c")):  # type: ignore[no-untyped-def]
    y, h_n, c_n = run(cell, *inputs, sizes, reverse)
    outputs = {"y": y, "h": h_n, "c": c_n}
    g = torch.Generator().manual_seed(1)
    loss = torch.zeros((), dtype=y.dtype)
    for name, out in outputs.items():
        if out is not None:
            weight = torch.randn(out.shape, generator=g, dtype=torch.float64).to(out.dtype)
            if name in need:
                loss = loss + (out * weight).sum()
    wanted = [t for t in inputs if t is not None]
    grads = torch.autograd.grad(loss, wanted, allow_unused=True)
    found = [torch.zeros_like(t) if gr is None else gr for t, gr in zip(wanted, grads, strict=True)]
    return [o.detach() for o in outputs.values() if o is not None] + found


def assert_same(cell, inputs, sizes, reverse, tolerance, need=("y", "h", "c")):  # type: ignore[no-untyped-def]
    exact = [None if t is None else t.detach().double().requires_grad_() for t in inputs]
    expected = values_and_gradients(reference.recurrence, cell, exact, sizes, reverse, need)
    actual = values_and_gradients(ops.recurrence, cell, inputs, sizes, reverse, need)
    for a, e in zip(actual, expected, strict=True):
        scale = max(1.0, float(e.abs().max()))
        torch.testing.assert_close(a.double() / scale, e / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("level", _native.cpu_levels())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cell", CELLS)
def test_every_size_agrees_with_reference(cell: str, dtype: torch.dtype, level: str) -> None:
    _native.use_cpu_level(level)
    for hidden in (1, 7, 8, 9, 16, 33, 70):
        for batch in (1, 2, 3, 5, 13):
            for steps, reverse in ((1, False), (4, False), (4, True)):
                inputs = problem(cell, steps, batch, hidden, dtype, seed=hidden * 100 + batch)
                assert_same(cell, inputs, None, reverse, TOLERANCE[dtype])


@pytest.mark.parametrize("level", _native.cpu_levels())
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_packed_sequences_agree_with_reference(cell: str, reverse: bool, level: str) -> None:
    _native.use_cpu_level(level)
    for sizes in ([3, 3, 2, 1], [5, 1], [1, 1, 1], [7, 7, 7, 2], [4]):
        inputs = problem(cell, 0, sizes[0], 19, torch.float32, sizes)
        assert_same(cell, inputs, sizes, reverse, 1e-5)


@pytest.mark.parametrize("need", ["y", "h", "c"])
def test_gradient_of_each_output_alone(need: str) -> None:
    for cell in CELLS:
        if need == "c" and cell != "lstm":
            continue
        assert_same(cell, problem(cell, 5, 3, 9, torch.float32), None, False, 1e-5, need)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("steps", "batch", "hidden"), [(40, 64, 48), (20, 1, 300), (20, 5, 200)])
def test_result_does_not_depend_on_threads(cell: str, steps: int, batch: int, hidden: int) -> None:
    """Large enough for rows (many sequences) and hidden units (few) to be shared out."""
    inputs = problem(cell, steps, batch, hidden, torch.float32)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        y, h_n, _ = ops.recurrence(cell, *inputs, None, False)
        h0 = inputs[1]
        results.append([y.detach(), *torch.autograd.grad((y * y).sum() + h_n.sum(), [inputs[0], h0])])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("cell", CELLS)
def test_packed_work_is_shared_out_too(cell: str) -> None:
    sizes = [60 - 2 * t for t in range(28)]
    inputs = problem(cell, 0, 60, 64, torch.float32, sizes)
    torch.set_num_threads(2)
    assert_same(cell, inputs, sizes, False, 2e-5)
    assert_same(cell, inputs, sizes, True, 2e-5)


@pytest.mark.parametrize("level", _native.cpu_levels())
@pytest.mark.parametrize("cell", CELLS)
def test_large_and_non_finite_inputs(cell: str, level: str) -> None:
    _native.use_cpu_level(level)
    inputs = problem(cell, 3, 4, 24, torch.float32)
    x = inputs[0].detach().clone()  # type: ignore[union-attr]
    x[0], x[5, 3], x[6, 1], x[7, 2] = 1e4, float("nan"), float("inf"), float("-inf")
    arguments = [cell, x, *(None if t is None else t.detach() for t in inputs[1:]), None, False]
    expected, actual = reference.recurrence(*arguments)[0], ops.recurrence(*arguments)[0]
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-5, equal_nan=True)


@pytest.mark.parametrize("level", _native.cpu_levels())
def test_activations_hold_their_stated_error(level: str) -> None:
    _native.use_cpu_level(level)
    x = torch.cat(
        [torch.linspace(-12, 12, 20_001), torch.logspace(-30, 1, 500), -torch.logspace(-30, 1, 500)]
    )
    zero = torch.zeros(1, len(x))
    weight = torch.zeros(len(x), 1).expand(-1, 1)
    for cell, exact in (("rnn_tanh", torch.tanh), ("rnn_sigmoid", torch.sigmoid)):
        y = ops.recurrence(
            cell, x[:, None], zero[0, :1].expand(len(x), 1), None, weight[:1], None, None, False
        )[0]
        e = exact(x.double())
        assert float((y[:, 0].double() - e).abs().max()) < 4e-7
        if cell == "rnn_tanh":
            assert float((y[:, 0].double() / e - 1).abs().max()) < 5e-7


def test_chunked_equals_whole() -> None:
    for cell in CELLS:
        inputs = [None if t is None else t.detach() for t in problem(cell, 12, 3, 17, torch.float32)]
        x, h, c, w, b = inputs
        whole, h_n, _ = ops.recurrence(cell, x, h, c, w, b, None, False)
        pieces = []
        for chunk in x.split(3 * 4):  # type: ignore[union-attr]
            y, h, c = ops.recurrence(cell, chunk, h, c, w, b, None, False)
            pieces.append(y)
        assert torch.equal(torch.cat(pieces), whole)
        assert torch.equal(h, h_n)


@settings(max_examples=60, deadline=None)
@given(
    cell=st.sampled_from(CELLS),
    hidden=st.integers(1, 40),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=9),
    reverse=st.booleans(),
    double=st.booleans(),
)
def test_any_shape(cell: str, hidden: int, lengths: list[int], reverse: bool, double: bool) -> None:
    sizes = [sum(n > t for n in lengths) for t in range(max(lengths))]
    dtype = torch.float64 if double else torch.float32
    inputs = problem(cell, 0, len(lengths), hidden, dtype, sizes)
    assert_same(cell, inputs, sizes, reverse, TOLERANCE[dtype] * 2)


@pytest.mark.parametrize("cell", CELLS)
def test_gradcheck_and_gradgradcheck(cell: str) -> None:
    inputs = problem(cell, 3, 2, 3, torch.float64)
    present = [t for t in inputs if t is not None]

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = iter(tensors)
        arguments = [None if t is None else next(given) for t in inputs]
        return tuple(out for out in ops.recurrence(cell, *arguments, None, False) if out is not None)

    assert torch.autograd.gradcheck(run, present)
    assert torch.autograd.gradgradcheck(run, present)


def test_in_place_change_between_forward_and_backward_raises() -> None:
    inputs = problem("lstm", 3, 2, 4, torch.float32)
    y, _, _ = ops.recurrence("lstm", *inputs, None, False)
    with torch.no_grad():
        inputs[3].mul_(2)  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("by_table", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_projection_within_the_node(cell: str, by_table: bool) -> None:
    """The input projected inside, from x and w_ih or from a table: the same as projected outside, twice in a row."""
    inputs = problem(cell, 6, 4, 17, torch.float64)
    _, *rest = inputs
    g = torch.Generator().manual_seed(3)
    columns = reference.GATES[cell] * 17
    tokens = torch.randint(5, (24,), generator=g)
    x = torch.randn(24 if not by_table else 5, 9, generator=g, dtype=torch.float64, requires_grad=True)
    w_ih = torch.randn(columns, 9, generator=g, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(columns, generator=g, dtype=torch.float64, requires_grad=True)
    leaves = [x, w_ih, bias, *(t for t in rest if t is not None)]

    def inside() -> tuple[Tensor, ...]:
        if by_table:
            table = torch.nn.functional.linear(x, w_ih, bias)
            return ops.recurrence(cell, table, *rest, None, False, tokens=tokens)
        return ops.recurrence(cell, x, *rest, None, False, w_ih=w_ih, bias=bias)

    def outside() -> tuple[Tensor, ...]:
        xproj = torch.nn.functional.linear(x, w_ih, bias)
        return reference.recurrence(
            cell, torch.nn.functional.embedding(tokens, xproj) if by_table else xproj, *rest, None, False
        )

    def gradients(outputs: tuple[Tensor, ...], create_graph: bool = False) -> list[Tensor]:
        loss = sum((out * out).sum() for out in outputs if out is not None)
        return list(torch.autograd.grad(loss, leaves, create_graph=create_graph, retain_graph=True))

    expected = gradients(outside())
    outputs = inside()
    for found in (gradients(outputs), gradients(outputs), gradients(outputs, create_graph=True)):
        for a, e in zip(found, expected, strict=True):
            torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(inside()[0], outside()[0], rtol=1e-10, atol=1e-11)


def test_frozen_inputs_get_no_gradient() -> None:
    inputs = problem("gru", 3, 2, 5, torch.float32)
    inputs[0] = inputs[0].detach()  # type: ignore[union-attr]
    y, h_n, _ = ops.recurrence("gru", *inputs, None, False)
    (y.sum() + h_n.sum()).backward()
    assert inputs[0].grad is None
    assert all(t.grad is not None for t in inputs[1:] if t is not None)
