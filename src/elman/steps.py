"""The steps of recurrent cells as expressions, and what may be built around any of them: layer norm on the products,
dropout on the recurrent state, zoneout. `assemble` makes a `Cell` of it all, ready to run.

A step is what a user of `Recurrent` writes too: `step(gates, states, **parameters)` returns the new states, or the new
states and a dict of named values that a trace shows. Here they read as their equations; `reference` spells out the
three cells of torch.nn. It knows nothing of tensors, time or layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch

from elman.data import ElmanError
from elman.expression import Expression, Gate, Graph, leaf
from elman.program_ops import Cell

EPSILON = 1e-5  # torch.nn.LayerNorm's

Values = Sequence[Any]
"""Expressions; typed as anything, since torch's functions are typed for tensors."""

Product = Callable[[Any, int], list[Any]]
"""(what goes in, columns) → the columns of a further product with recurrent weights."""


@dataclass(frozen=True)
class Kind:
    """A cell: its step and what the step is called with.

    gates: columns of the input's projection. products: columns of each recurrent product, the first of the output
    before the step; () of none. A step of several products takes `product`, which makes the next one.
    """

    step: Callable[..., Any]
    gates: int
    states: tuple[str, ...] = ("hidden",)
    products: tuple[int, ...] = ()
    parameters: tuple[str, ...] = ()


def rnn(activation: Callable[[Any], Any]) -> Callable[..., Any]:
    """Elman (1990): h' = f(a)."""
    return lambda gates, states: activation(gates[0])


def gru(gates: Values, states: Values) -> Any:
    """Cho et al. (2014), as cuDNN and PyTorch have it: the reset gate acts after the product."""
    r, z = torch.sigmoid(gates[0]), torch.sigmoid(gates[1])
    n = torch.tanh(gates[2].input + r * gates[2].recurrent)
    return _gru_result(r, z, n, states[0])


def gru_reset_before(gates: Values, states: Values, product: Product) -> Any:
    """Cho et al. (2014) as published: n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)."""
    r, z = torch.sigmoid(gates[0]), torch.sigmoid(gates[1])
    (u_n,) = product(r * states[0], 1)
    return _gru_result(r, z, torch.tanh(gates[2] + u_n), states[0])


def _gru_result(r: Any, z: Any, n: Any, h: Any) -> Any:
    return (n + z * (h - n),), {"reset_gate": r, "update_gate": z, "candidate": n}


def _lstm_result(i: Any, f: Any, g: Any, o: Any, c: Any, shown: Any) -> Any:
    h = o * torch.tanh(shown)
    return (h, c), {"input_gate": i, "forget_gate": f, "candidate": g, "output_gate": o}


def lstm(gates: Values, states: Values) -> Any:
    """Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000)."""
    i, f, o = (torch.sigmoid(gates[k]) for k in (0, 1, 3))
    g = torch.tanh(gates[2])
    c = f * states[1] + i * g
    return _lstm_result(i, f, g, o, c, c)


def layer_norm_lstm(gates: Values, states: Values, norm_c: Any, norm_c_bias: Any) -> Any:
    """Ba, Kiros and Hinton, "Layer normalization" (2016), equations 20 to 22: h' = o tanh(LN(c'))."""
    i, f, o = (torch.sigmoid(gates[k]) for k in (0, 1, 3))
    g = torch.tanh(gates[2])
    c = f * states[1] + i * g
    return _lstm_result(i, f, g, o, c, normalised([c])[0] * norm_c + norm_c_bias)


def peephole_lstm(gates: Values, states: Values, peephole_i: Any, peephole_f: Any, peephole_o: Any) -> Any:
    """Gers and Schmidhuber, "Recurrent nets that time and count" (2000): gates see the cell state,
    i = σ(a_i + p_i c), f = σ(a_f + p_f c), and o the new one, o = σ(a_o + p_o c')."""
    c = states[1]
    i, f = torch.sigmoid(gates[0] + peephole_i * c), torch.sigmoid(gates[1] + peephole_f * c)
    g = torch.tanh(gates[2])
    c = f * c + i * g
    return _lstm_result(i, f, g, torch.sigmoid(gates[3] + peephole_o * c), c, c)


def coupled_lstm(gates: Values, states: Values) -> Any:
    """Coupled input and forget gates (CIFG in Greff et al., "LSTM: a search space odyssey", 2017): i = 1 - f."""
    f, g, o = torch.sigmoid(gates[0]), torch.tanh(gates[1]), torch.sigmoid(gates[2])
    i = 1 - f
    c = f * states[1] + i * g
    return _lstm_result(i, f, g, o, c, c)


def ind_rnn(activation: Callable[[Any], Any]) -> Callable[..., Any]:
    """Li et al., "Independently recurrent neural network" (2018): h' = f(W x + b + u * h), u a vector."""
    return lambda gates, states, recurrent_weight: activation(gates[0] + recurrent_weight * states[0])


def min_gru(gates: Values, states: Values) -> Any:
    """Feng et al., "Were RNNs all we needed?" (2024): z and the candidate see the input alone,
    h' = (1 - z) h + z h~ with z = σ(a_z) and h~ = a_h."""
    z, candidate = torch.sigmoid(gates[0]), gates[1]
    return (states[0] + z * (candidate - states[0]),), {"update_gate": z, "candidate": candidate}


def min_lstm(gates: Values, states: Values) -> Any:
    """Feng et al. (2024): h' = f' h + i' h~ with f' = f / (f + i) and i' = i / (f + i), which see the input alone.

    f' is computed as σ(softplus(-a_i) - softplus(-a_f)), the same number, which cannot become 0 / 0.
    """
    f = torch.sigmoid(torch.nn.functional.softplus(-gates[1]) - torch.nn.functional.softplus(-gates[0]))
    candidate = gates[2]
    return (candidate + f * (states[0] - candidate),), {"forget_gate": f, "candidate": candidate}


KINDS = {
    "rnn_tanh": Kind(rnn(torch.tanh), 1, products=(1,)),
    "rnn_relu": Kind(rnn(torch.relu), 1, products=(1,)),
    "rnn_sigmoid": Kind(rnn(torch.sigmoid), 1, products=(1,)),
    "gru": Kind(gru, 3, products=(3,)),
    "gru_reset_before": Kind(gru_reset_before, 3, products=(2, 1)),
    "lstm": Kind(lstm, 4, ("hidden", "cell"), (4,)),
    "lstm_layer_norm": Kind(layer_norm_lstm, 4, ("hidden", "cell"), (4,), ("norm_c", "norm_c_bias")),
    "peephole_lstm": Kind(
        peephole_lstm, 4, ("hidden", "cell"), (4,), ("peephole_i", "peephole_f", "peephole_o")
    ),
    "coupled_lstm": Kind(coupled_lstm, 3, ("hidden", "cell"), (3,)),
    "ind_rnn_tanh": Kind(ind_rnn(torch.tanh), 1, parameters=("recurrent_weight",)),
    "ind_rnn_relu": Kind(ind_rnn(torch.relu), 1, parameters=("recurrent_weight",)),
    "min_gru": Kind(min_gru, 2),
    "min_lstm": Kind(min_lstm, 3),
}


def normalised(values: Sequence[Any]) -> list[Any]:
    """All of these together to mean 0 and variance 1 over the hidden units."""

    def mean(terms: list[Any]) -> Any:
        total = terms[0].mean()
        for term in terms[1:]:
            total = total + term.mean()
        return total * (1 / len(terms)) if len(terms) > 1 else total

    middle = mean(list(values))
    centred = [v - middle for v in values]
    scale = 1 / torch.sqrt(mean([v * v for v in centred]) + EPSILON)
    return [v * scale for v in centred]


@dataclass(frozen=True)
class Assembled:
    """A cell ready to run, and the names of its taps."""

    cell: Cell
    taps: tuple[str, ...]


@dataclass
class _Builder:
    """The graph of one step, with what surrounds it."""

    kind: Kind
    layer_norm: bool
    recurrent_dropout: bool
    graph: Graph = field(default_factory=Graph)
    made: int = 0  # columns of products so far

    def parameter(self, number: int) -> Expression:
        return leaf(self.graph, "parameter", number)

    def product(self, left: Any, columns: int) -> list[Any]:
        """The next product. With layer norm: LN(W v) * gain + bias, its 2G parameters behind the cell's own."""
        if self.recurrent_dropout:
            left = left * leaf(self.graph, "mask", 0)
        found: list[Any] = [Expression(self.graph, u) for u in self.graph.product(left.node, columns)]
        if self.layer_norm:
            own, total = len(self.kind.parameters), sum(self.kind.products)
            at = own + self.made
            found = [
                u * self.parameter(at + k) + self.parameter(at + k + total)
                for k, u in enumerate(normalised(found))
            ]
        self.made += columns
        return found

    def build(self) -> tuple[list[Expression], list[Any], dict[str, Any]]:
        """States before the step, states after it, and named values."""
        before = [leaf(self.graph, "state", j) for j in range(len(self.kind.states))]
        x = [leaf(self.graph, "x", k) for k in range(self.kind.gates)]
        u = self.product(before[0], self.kind.products[0]) if self.kind.products else []
        gates = [Gate(x[k], u[k]) if k < len(u) else x[k] for k in range(len(x))]
        more = {"product": self.product} if len(self.kind.products) > 1 else {}
        parameters = {name: self.parameter(k) for k, name in enumerate(self.kind.parameters)}
        return before, *self._checked(self.kind.step(tuple(gates), tuple(before), **parameters, **more))

    def _checked(self, result: Any) -> tuple[list[Any], dict[str, Any]]:
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict):
            result, shown = result
        else:
            shown = {}
        after = [result] if isinstance(result, Expression) else list(result)
        names = self.kind.states
        if len(after) != len(names) or not all(isinstance(e, Expression) for e in (*after, *shown.values())):
            raise ElmanError(
                f"a cell's step must return its new states ({', '.join(names)}), each an expression, and may add a "
                f"dict of named expressions; got {result!r}"
            )
        taken = [name for name in shown if name in names]
        if taken:
            raise ElmanError(
                f"a cell's step names a value {taken[0]!r}, as a state is named: choose another name"
            )
        return after, shown


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def assemble(
    kind: Kind,
    *,
    layer_norm: bool = False,
    recurrent_dropout: bool = False,
    zoneout: float = 0.0,
    training: bool = False,
    show: bool = False,
) -> Assembled:
    """The cell with what is built around it.

    recurrent_dropout: the state that enters a product is multiplied by mask 0 (Gal and Ghahramani, "A theoretically
    grounded application of dropout in recurrent neural networks", 2016). zoneout (Krueger et al., "Zoneout", 2017):
    in training, noise j (1: keep) chooses the old value of state j; else the new value is moved to the old one by that
    share. show: all states and the step's named values are outputs.
    """
    return _assemble(kind, layer_norm, recurrent_dropout, zoneout, training and zoneout > 0, show)


@lru_cache(maxsize=256)
def _assemble(
    kind: Kind, layer_norm: bool, recurrent_dropout: bool, zoneout: float, training: bool, show: bool
) -> Assembled:
    builder = _Builder(kind, layer_norm, recurrent_dropout)
    before, after, shown = builder.build()
    if zoneout > 0:
        for j, (old, new) in enumerate(zip(before, after, strict=True)):
            if training:  # chosen, not mixed: a kept value stays the same to the last bit
                after[j] = torch.where(leaf(builder.graph, "noise", j), old, new)  # type: ignore[call-overload]
            else:
                after[j] = new + zoneout * (old - new)
    graph = builder.graph
    graph.states = [e.node for e in after]
    if show:
        graph.taps = [e.node for e in shown.values()]
    given = tuple(show or j == 0 for j in range(len(after)))
    return Assembled(Cell(graph.to_json(), given), tuple(shown) if show else ())
