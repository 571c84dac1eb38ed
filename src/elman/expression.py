"""A cell's step as an expression: written once in Python, in torch's own functions, and kept as a list of operations.

The step is called with `Expression`s in place of tensors, which record what it does with them. The result, a
`Graph`, is what everything else needs: `derivative` extends it by the gradients, `reference` evaluates it in plain
PyTorch, `program` turns it into instructions for the native interpreter. A graph is plain data (`to_json`). It knows
nothing of time, memory or layers.

Letters: H hidden units.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from elman.data import ElmanError

LEAVES = ("x", "state", "parameter", "mask", "noise", "constant")
"""What an expression starts from, each with its number: projected inputs, states before the step, parameters (H,),
masks that a sequence keeps for all steps, noise that is new at each step; and numbers."""


class Node(NamedTuple):
    """One operation: on which earlier nodes; which leaf, which column of a product, or which number."""

    op: str
    args: tuple[int, ...] = ()
    value: float | int = 0


@dataclass
class Graph:
    """A step. `states` and `taps` (what a trace shows) are nodes; `products` says of each product which node goes in
    and how many columns (of H units) come out."""

    nodes: list[Node] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    taps: list[int] = field(default_factory=list)
    products: list[tuple[int, int]] = field(default_factory=list)
    _known: dict[Node, int] = field(default_factory=dict)

    def add(self, op: str, *args: int, value: float | int = 0) -> int:
        """The node's number; equal nodes are one."""
        node = self._simplified(Node(op, args, value))
        if isinstance(node, int):
            return node
        if node not in self._known:
            self._known[node] = len(self.nodes)
            self.nodes.append(node)
        return self._known[node]

    def constant(self, value: float) -> int:
        return self.add("constant", value=float(value))

    def product(self, left: int, columns: int) -> list[int]:
        """W v of a node v: the next product's columns."""
        number = len(self.products)
        self.products.append((left, columns))
        through = self.add("product", left, value=number)
        return [self.add("column", through, value=k) for k in range(columns)]

    def number(self, node: int) -> float | None:
        """The value of a constant, or None."""
        return float(self.nodes[node].value) if self.nodes[node].op == "constant" else None

    def _simplified(self, node: Node) -> Node | int:
        """x + 0, x * 1, x * 0 and the like, which derivatives are full of; sums and products in one order."""
        if node.op in ("add", "mul") and node.args[0] > node.args[1]:
            node = Node(node.op, (node.args[1], node.args[0]), node.value)
        numbers = [self.number(a) for a in node.args]
        for i, number in enumerate(numbers[:2]):
            other = node.args[1 - i] if len(node.args) == 2 else None
            if (number == 0 and node.op == "add") or (number == 1 and node.op == "mul"):
                assert other is not None
                return other
            if number == 0 and node.op in ("mul", "dtanh", "dsigmoid") and (node.op == "mul" or i == 0):
                return self.constant(0)
        if node.op == "sub" and numbers[1] == 0:
            return node.args[0]
        if node.op == "sub" and numbers[0] == 0:
            return self.add("neg", node.args[1])
        if node.op == "neg" and numbers[0] is not None:
            return self.constant(-numbers[0])
        return node

    def to_json(self) -> str:
        return json.dumps([self.nodes, self.states, self.taps, self.products], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Graph":
        nodes, states, taps, products = json.loads(text)
        graph = cls([Node(op, tuple(args), value) for op, args, value in nodes], states, taps)
        graph.products = [(left, columns) for left, columns in products]
        graph._known = {node: i for i, node in enumerate(graph.nodes)}
        return graph

    def count(self, leaf: str) -> int:
        """How many leaves of this kind there may be: one more than the highest number in use."""
        return max((int(n.value) + 1 for n in self.nodes if n.op == leaf), default=0)


class Expression:
    """A number for every hidden unit, not known yet. Takes torch's elementwise functions and Python's operators."""

    def __init__(self, graph: Graph, node: int) -> None:
        self.graph, self.node = graph, node

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> "Expression":
        found = _FUNCTIONS.get(function)
        if found is None:
            name = getattr(function, "__name__", str(function))
            raise ElmanError(
                f"a cell's step cannot use {name}: it takes elementwise functions alone ({', '.join(sorted(_NAMES))}), "
                "operators, and mean over the hidden units"
            )
        return found(*args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name in _NAMES:
            return lambda *args, **kwargs: _NAMES[name](self, *args, **kwargs)
        raise AttributeError(
            f"a cell's step cannot use .{name}: it works on numbers of one hidden unit at a time"
        )

    def _binary(self, op: str, other: Any, swapped: bool = False) -> "Expression":
        a, b = self, _lift(self, other)
        return _node(op, b, a) if swapped else _node(op, a, b)

    def __add__(self, other: Any) -> "Expression":
        return self._binary("add", other)

    def __radd__(self, other: Any) -> "Expression":
        return self._binary("add", other)

    def __sub__(self, other: Any) -> "Expression":
        return self._binary("sub", other)

    def __rsub__(self, other: Any) -> "Expression":
        return self._binary("sub", other, True)

    def __mul__(self, other: Any) -> "Expression":
        return self._binary("mul", other)

    def __rmul__(self, other: Any) -> "Expression":
        return self._binary("mul", other)

    def __truediv__(self, other: Any) -> "Expression":
        return self._binary("div", other)

    def __rtruediv__(self, other: Any) -> "Expression":
        return self._binary("div", other, True)

    def __neg__(self) -> "Expression":
        return _node("neg", self)

    def __abs__(self) -> "Expression":
        return _node("abs", self)

    def __pow__(self, power: Any) -> "Expression":
        return _power(self, power)

    def __lt__(self, other: Any) -> "Expression":
        return self._binary("less", other)

    def __gt__(self, other: Any) -> "Expression":
        return self._binary("less", other, True)

    def __le__(self, other: Any) -> "Expression":
        return _lift(self, 1) - self.__gt__(other)

    def __ge__(self, other: Any) -> "Expression":
        return _lift(self, 1) - self.__lt__(other)

    def __eq__(self, other: object) -> Any:
        raise ElmanError("a cell's step cannot compare by == or !=: use < or > in torch.where")

    __ne__ = __eq__
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise ElmanError(
            "a cell's step cannot branch on a value, which differs from unit to unit: use torch.where"
        )

    def __iter__(self) -> Any:
        raise ElmanError("a cell's step sees one hidden unit at a time: an expression has no elements")

    def __len__(self) -> int:
        raise ElmanError("a cell's step sees one hidden unit at a time: an expression has no length or shape")

    def __getitem__(self, index: Any) -> Any:
        raise ElmanError("a cell's step sees one hidden unit at a time: an expression cannot be indexed")


class Gate(Expression):
    """A gate's pre-activation, input + recurrent: W_ih x + b_ih and W_hh h + b_hh, which may also be used apart."""

    def __init__(self, input: Expression, recurrent: Expression) -> None:
        total = input + recurrent
        super().__init__(total.graph, total.node)
        self.input, self.recurrent = input, recurrent


def _node(op: str, *args: Expression) -> Expression:
    graph = args[0].graph
    return Expression(graph, graph.add(op, *(a.node for a in args)))


def _lift(like: Expression, value: Any) -> Expression:
    """A number as an expression."""
    if isinstance(value, Expression):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Expression(like.graph, like.graph.constant(value))
    raise ElmanError(
        f"a cell's step combines expressions with numbers, not with a {type(value).__name__}: "
        "what is learned or varies by unit must be a parameter of the cell"
    )


def _first(*values: Any) -> Expression:
    return next(v for v in values if isinstance(v, Expression))


def _binary(op: str, swapped: bool = False) -> Callable[..., Expression]:
    def make(a: Any, b: Any, *, alpha: float = 1) -> Expression:
        like = _first(a, b)
        left, right = _lift(like, a), _lift(like, b)
        right = right if alpha == 1 else right * alpha
        return _node(op, right, left) if swapped else _node(op, left, right)

    return make


def _unary(op: str) -> Callable[..., Expression]:
    return lambda a: _node(op, a)


def _mean(a: Expression, dim: Any = -1, keepdim: bool = True) -> Expression:
    if dim not in (-1, (-1,), [-1]):
        raise ElmanError(f"a cell's step takes means over the hidden units alone (dim=-1), not dim={dim}")
    return _node("mean", a)


def _power(a: Expression, power: Any) -> Expression:
    simple: dict[float, Callable[[], Expression]] = {
        1: lambda: a,
        2: lambda: a * a,
        3: lambda: a * a * a,
        0.5: lambda: _node("sqrt", a),
        -0.5: lambda: 1 / _node("sqrt", a),
        -1: lambda: 1 / a,
        -2: lambda: 1 / (a * a),
    }
    if isinstance(power, Expression) or power not in simple:
        raise ElmanError(f"a cell's step takes the powers {', '.join(map(str, simple))}, not {power}")
    return simple[power]()


def _where(condition: Any, a: Any, b: Any) -> Expression:
    like = _first(condition, a, b)
    return _node("where", *(_lift(like, v) for v in (condition, a, b)))


def _clamp(a: Expression, min: Any = None, max: Any = None) -> Expression:
    if min is not None:
        a = _where(a < min, min, a)
    return a if max is None else _where(a > max, max, a)


def _relu(a: Expression, inplace: bool = False) -> Expression:
    return _node("relu", a)


def _silu(a: Expression, inplace: bool = False) -> Expression:
    return a * _node("sigmoid", a)


def _softplus(a: Expression, beta: float = 1.0, threshold: float = 20.0) -> Expression:
    scaled = a * beta
    # max, not relu, whose slope at 0 is 0: the halves of a tie make softplus' slope there, 1/2.
    soft = _NAMES["maximum"](scaled, 0) + _node("log1p", _node("exp", -abs(scaled)))
    return _where(scaled > threshold, a, soft * (1 / beta))


def _log_sigmoid(a: Expression) -> Expression:
    return -_softplus(-a, threshold=math.inf)


def _elu(a: Expression, alpha: float = 1.0, inplace: bool = False) -> Expression:
    return _where(a > 0, a, _node("expm1", _where(a > 0, 0, a)) * alpha)


def _leaky_relu(a: Expression, negative_slope: float = 0.01, inplace: bool = False) -> Expression:
    return _where(a > 0, a, a * negative_slope)


def _gelu(a: Expression, approximate: str = "none") -> Expression:
    if approximate == "tanh":
        return a * 0.5 * (1 + _node("tanh", (a + 0.044715 * a * a * a) * math.sqrt(2 / math.pi)))
    return a * 0.5 * (1 + _node("erf", a * math.sqrt(0.5)))


def _hardtanh(
    a: Expression, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Expression:
    return _clamp(a, min_val, max_val)


def _hard_sigmoid(a: Expression, inplace: bool = False) -> Expression:
    return _clamp(a / 6 + 0.5, 0, 1)


def _hard_swish(a: Expression, inplace: bool = False) -> Expression:
    return a * _hard_sigmoid(a)


_NAMES: dict[str, Callable[..., Expression]] = {
    **{n: _unary(n) for n in ("neg", "tanh", "sigmoid", "exp", "expm1", "log", "log1p", "sqrt", "abs")},
    **{n: _unary(n) for n in ("sign", "sin", "cos", "erf")},
    **{n: _binary(n) for n in ("add", "sub", "mul", "div")},
    "true_divide": _binary("div"),
    "rsub": _binary("sub", swapped=True),
    "maximum": _binary("max"),
    "minimum": _binary("min"),
    "less": _binary("less"),
    "lt": _binary("less"),
    "greater": _binary("less", swapped=True),
    "gt": _binary("less", swapped=True),
    "mean": _mean,
    "pow": _power,
    "square": lambda a: a * a,
    "reciprocal": lambda a: 1 / a,
    "rsqrt": lambda a: 1 / _node("sqrt", a),
    "where": _where,
    "clamp": _clamp,
    "relu": _relu,
    "silu": _silu,
    "softplus": _softplus,
    "logsigmoid": _log_sigmoid,
    "elu": _elu,
    "leaky_relu": _leaky_relu,
    "gelu": _gelu,
    "hardtanh": _hardtanh,
    "hardsigmoid": _hard_sigmoid,
    "hardswish": _hard_swish,
    "softsign": lambda a: a / (1 + abs(a)),
}
_FUNCTIONS: dict[Any, Callable[..., Expression]] = {
    getattr(home, name): make
    for name, make in _NAMES.items()
    for home in (torch, F, torch.Tensor)
    if hasattr(home, name)
}


def leaf(graph: Graph, kind: str, number: int) -> Expression:
    return Expression(graph, graph.add(kind, value=number))


def tie_weight(graph: Graph, a: int, b: int) -> int:
    """max(a, b)'s derivative to a: 1, 0, or a half where they are equal, as torch has it."""
    greater, smaller = graph.add("less", b, a), graph.add("less", a, b)
    half = graph.constant(0.5)
    return graph.add("mul", half, graph.add("add", graph.constant(1), graph.add("sub", greater, smaller)))


def partials(graph: Graph, i: int, g: int) -> list[tuple[int, int]]:
    """(argument, its gradient) for each argument of node i, whose own gradient is node g."""
    op, args, _ = graph.nodes[i]
    a, b = (*args, *args)[:2] if args else (-1, -1)

    def one_minus(node: int) -> int:
        return graph.add("sub", graph.constant(1), node)

    def times(*nodes: int) -> int:
        found = g
        for node in nodes:
            found = graph.add("mul", found, node)
        return found

    zero = graph.constant(0)
    rules: dict[str, Callable[[], list[tuple[int, int]]]] = {
        "add": lambda: [(a, g), (b, g)],
        "sub": lambda: [(a, g), (b, graph.add("neg", g))],
        "mul": lambda: [(a, times(b)), (b, times(a))],
        "div": lambda: [
            (a, graph.add("div", g, b)),
            (b, graph.add("neg", graph.add("div", times(i), b))),
        ],
        "neg": lambda: [(a, graph.add("neg", g))],
        "tanh": lambda: [(a, graph.add("dtanh", g, i))],
        "sigmoid": lambda: [(a, graph.add("dsigmoid", g, i))],
        "exp": lambda: [(a, times(i))],
        "expm1": lambda: [(a, times(graph.add("add", i, graph.constant(1))))],
        "log": lambda: [(a, graph.add("div", g, a))],
        "log1p": lambda: [(a, graph.add("div", g, graph.add("add", a, graph.constant(1))))],
        "sqrt": lambda: [(a, graph.add("div", times(graph.constant(0.5)), i))],
        "abs": lambda: [(a, times(graph.add("sign", a)))],
        "relu": lambda: [(a, graph.add("where", graph.add("less", zero, i), g, zero))],
        "sin": lambda: [(a, times(graph.add("cos", a)))],
        "cos": lambda: [(a, graph.add("neg", times(graph.add("sin", a))))],
        "erf": lambda: [
            (
                a,
                times(
                    graph.constant(2 / math.sqrt(math.pi)),
                    graph.add("exp", graph.add("neg", graph.add("mul", a, a))),
                ),
            )
        ],
        "mean": lambda: [(a, graph.add("mean", g))],
        "max": lambda: [
            (a, times(tie_weight(graph, a, b))),
            (b, times(one_minus(tie_weight(graph, a, b)))),
        ],
        "min": lambda: [
            (a, times(one_minus(tie_weight(graph, a, b)))),
            (b, times(tie_weight(graph, a, b))),
        ],
        "where": lambda: [
            (args[1], graph.add("where", a, g, zero)),
            (args[2], graph.add("where", a, zero, g)),
        ],
    }
    return rules[op]() if op in rules else []  # less and sign have no slope; leaves have no arguments


@dataclass
class Derivative:
    """Nodes, in the graph that they extend: the gradients of inputs, products' columns, states, parameters."""

    x: dict[int, int]
    columns: list[dict[int, int]]  # of each product
    states: dict[int, int]
    parameters: dict[int, int]
    forward: int  # nodes below this number are the step's own


def derivative(graph: Graph, gradients: Sequence[Sequence[str]]) -> Derivative:
    """Extends the graph by the gradients of one step.

    gradients: of each state, then of each tap, the leaves that make up its gradient, by kind: "carried" from the
    step after, "given" from outside. A product's input gets the leaf "back", its gradient once the columns' are known.
    """
    forward = len(graph.nodes)
    found: dict[int, int] = {}

    def add(node: int, gradient: int) -> None:
        found[node] = graph.add("add", found[node], gradient) if node in found else gradient

    for k, (output, kinds) in enumerate(zip([*graph.states, *graph.taps], gradients, strict=True)):
        for kind in kinds:
            add(output, graph.add(kind, value=k))
    for i in range(forward - 1, -1, -1):
        if i not in found or graph.number(found[i]) == 0:
            continue
        if graph.nodes[i].op == "product":
            add(graph.nodes[i].args[0], graph.add("back", value=graph.nodes[i].value))
        elif graph.nodes[i].op == "column":
            found.setdefault(graph.nodes[i].args[0], found[i])  # so that the product is seen
        else:
            for argument, gradient in partials(graph, i, found[i]):
                add(argument, gradient)

    def of(kind: str) -> dict[int, int]:
        return {
            int(n.value): found[i] for i, n in enumerate(graph.nodes[:forward]) if n.op == kind and i in found
        }

    columns: list[dict[int, int]] = [{} for _ in graph.products]
    for i, node in enumerate(graph.nodes[:forward]):
        if node.op == "column" and i in found:
            columns[int(graph.nodes[node.args[0]].value)][int(node.value)] = found[i]
    return Derivative(of("x"), columns, of("state"), of("parameter"), forward)
