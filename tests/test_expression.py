"""Expressions: what torch's functions record, and the gradients made of it, against torch itself."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from elman import ElmanError, reference
from elman.expression import Expression, Graph, derivative, leaf

UNITS = 5


def recorded(function, inputs: int) -> tuple[Graph, list[int]]:
    """The graph of function(states) and the numbers of its results."""
    graph = Graph()
    result = function(*(leaf(graph, "state", j) for j in range(inputs)))
    results = [result] if isinstance(result, Expression) else list(result)
    graph.states = [r.node for r in results]
    return graph, graph.states


def evaluated(
    graph: Graph, values: list[Tensor], nodes: list[int], more: dict[str, list[Tensor]]
) -> list[Tensor]:
    asked = Graph(graph.nodes, nodes, [], [])
    return reference.graph_step(asked, {"state": values, **more}, [])


def assert_agrees(function, *values: Tensor) -> None:
    """Values and all first derivatives: the recorded graph's, and torch's own of the same function."""
    graph, nodes = recorded(function, len(values))
    values = tuple(v.double().requires_grad_() for v in values)
    expected = function(*values)
    torch.testing.assert_close(evaluated(graph, list(values), nodes, {})[0], expected)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = torch.autograd.grad((expected * weight).sum(), values, allow_unused=True)
    d = derivative(graph, [("carried",)])
    for j, gradient in enumerate(wanted):
        if j not in d.states:
            assert gradient is None or not gradient.any()
            continue
        with torch.no_grad():
            found = evaluated(graph, list(values), [d.states[j]], {"carried": [weight]})[0]
        torch.testing.assert_close(found, torch.zeros_like(found) if gradient is None else gradient)


FUNCTIONS = {
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "exp": torch.exp, "expm1": torch.expm1, "sin": torch.sin,
    "cos": torch.cos, "erf": torch.erf, "abs": torch.abs, "sign": torch.sign, "relu": torch.relu, "F.relu": F.relu,
    "silu": F.silu, "softplus": F.softplus, "softplus beta": lambda a: F.softplus(a, beta=2.0), "elu": F.elu,
    "logsigmoid": F.logsigmoid, "leaky_relu": F.leaky_relu, "gelu": F.gelu,
    "gelu tanh": lambda a: F.gelu(a, approximate="tanh"), "hardtanh": F.hardtanh, "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish, "softsign": F.softsign, "neg": lambda a: -a, "square": torch.square,
    "reciprocal": torch.reciprocal, "power": lambda a: a**2 + a**3 + a**-1, "method": lambda a: a.tanh().mul(2),
    "clamp": lambda a: torch.clamp(a, -0.5, 0.5), "clamp one": lambda a: a.clamp(min=0.1),
    "builtin abs": abs, "numbers": lambda a: (2 - a) * 3 / 4 + 1 - a / 2 + 1 / (a + 10),
    "mean": lambda a: a * a.mean(-1, keepdim=True), "alpha": lambda a: torch.add(a, a, alpha=3),
    "where": lambda a: torch.where(a > 0.2, a * a, torch.zeros_like(a) if isinstance(a, Tensor) else 0),
}  # fmt: skip
POSITIVE = {
    "log": torch.log,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "root": lambda a: a**0.5,
}
OF_TWO = {
    "add": lambda a, b: a + b, "sub": torch.sub, "mul": lambda a, b: a * b, "div": lambda a, b: a / b,
    "maximum": torch.maximum, "minimum": torch.minimum,
    "where": lambda a, b: torch.where(a < b, a * b, b), "gated": lambda a, b: torch.sigmoid(a) * torch.tanh(b) + b,
    "again": lambda a, b: (a + b) * (a + b) - a * a, "means": lambda a, b: (a - b.mean(-1, keepdim=True)) * b,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_one(name: str) -> None:
    torch.manual_seed(1)
    assert_agrees(FUNCTIONS[name], torch.randn(3, UNITS) * 2)


@pytest.mark.parametrize("name", POSITIVE)
def test_functions_of_a_positive_number(name: str) -> None:
    torch.manual_seed(1)
    assert_agrees(POSITIVE[name], torch.rand(3, UNITS) + 0.1)


@pytest.mark.parametrize("name", OF_TWO)
def test_functions_of_two(name: str) -> None:
    torch.manual_seed(1)
    assert_agrees(OF_TWO[name], torch.randn(3, UNITS), torch.randn(3, UNITS) + 0.1)


def test_ties_share_their_gradient_as_in_torch() -> None:
    equal = torch.ones(2, UNITS)
    assert_agrees(torch.maximum, equal, equal.clone())
    assert_agrees(torch.minimum, equal, equal.clone())
    assert_agrees(torch.relu, torch.zeros(2, UNITS))


EXTREMES = torch.tensor([[-100.0, -30.0, 0.0, 30.0, 100.0]])


@pytest.mark.parametrize("name", ["softplus", "logsigmoid", "elu", "silu", "sigmoid", "gelu"])
def test_extremes_do_not_overflow(name: str) -> None:
    assert_agrees(FUNCTIONS[name], EXTREMES)


def step_of(data, depth: int = 3):
    """A random expression of two states, as a function."""
    kind = data.draw(st.sampled_from(["a", "b", "number"] if depth == 0 else ["one", "two", "two", "a", "b"]))
    if kind == "a":
        return lambda a, b: a
    if kind == "b":
        return lambda a, b: b
    if kind == "number":
        value = data.draw(st.sampled_from([0.0, 0.5, 1.0, -2.0]))
        return lambda a, b: a * 0 + value
    if kind == "one":
        outer = FUNCTIONS[
            data.draw(st.sampled_from(["sigmoid", "tanh", "silu", "neg", "sin", "square", "mean"]))
        ]
        inner = step_of(data, depth - 1)
        return lambda a, b: outer(inner(a, b))
    outer2 = OF_TWO[data.draw(st.sampled_from(["add", "sub", "mul", "maximum", "where", "gated"]))]
    left, right = step_of(data, depth - 1), step_of(data, depth - 1)
    return lambda a, b: outer2(left(a, b), right(a, b))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_expression(data) -> None:
    torch.manual_seed(data.draw(st.integers(0, 100)))
    assert_agrees(step_of(data), torch.randn(2, UNITS), torch.randn(2, UNITS))


def test_equal_parts_are_computed_once() -> None:
    graph, _ = recorded(lambda a, b: torch.tanh(a + b) * torch.tanh(b + a), 2)
    assert [n.op for n in graph.nodes].count("tanh") == 1


def test_a_graph_survives_as_text() -> None:
    graph, nodes = recorded(lambda a, b: torch.where(a > 1, b.mean() / 3, a), 2)
    again = Graph.from_json(graph.to_json())
    assert again.nodes == graph.nodes
    assert again.states == nodes
    values = [torch.randn(2, UNITS), torch.randn(2, UNITS)]
    assert torch.equal(evaluated(graph, values, nodes, {})[0], evaluated(again, values, nodes, {})[0])


REFUSED = {
    "matmul": (lambda a: torch.matmul(a, a), "matmul"),
    "softmax": (lambda a: torch.softmax(a, 1), "softmax"),
    "branch": (lambda a: a if a > 0 else -a, "torch.where"),
    "index": (lambda a: a[0], "one hidden unit at a time"),
    "loop": (lambda a: sum(a), "no elements"),
    "shape": (lambda a: a * len(a), "no length"),
    "power": (lambda a: a**1.7, "1.7"),
    "tensor": (lambda a: a * torch.ones(3), "parameter of the cell"),
    "text": (lambda a: a + "1", "str"),
    "mean of time": (lambda a: a.mean(dim=0), "dim=0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_recorded_is_named(name: str) -> None:
    function, words = REFUSED[name]
    with pytest.raises(ElmanError, match=words):
        recorded(function, 1)


def test_unknown_methods_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match=r"\.transpose"):
        recorded(lambda a: a.transpose(0, 1), 1)


def test_infinity_as_a_number() -> None:
    assert_agrees(lambda a: torch.where(a > -math.inf, a, 0 * a), torch.randn(2, UNITS))
