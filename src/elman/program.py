"""A step's `Graph` as programs for the native interpreter: one that runs it, one that also keeps what its gradient
needs, and the gradient. Decides what is kept, what is computed again, and where every number lies. It knows nothing
of torch's tensors.

Letters as in native/program.h: T steps, B sequences, H hidden units, N rows, S products.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from elman import _native
from elman.expression import LEAVES, Derivative, Graph, derivative

_NOW, _SEQUENCE, _ALL, _LOCAL, _BEFORE = range(5)  # native/program.h: Span
_REGISTER, _CONSTANT = -1, -2
_CODES = {name: code for code, name in enumerate(_native.operations())}
_CHEAP = {"add", "sub", "mul", "div", "neg", "abs", "sign", "max", "min", "less", "where", "relu", "constant"}

Operand = tuple[int, int]
_NOWHERE: Operand = (_REGISTER, 0)


class Code(NamedTuple):
    """A native program and the names of its arrays, in the order of its pointers."""

    program: _native.Program
    arrays: tuple[str, ...]


@dataclass(frozen=True)
class Programs:
    """What a graph became.

    Arrays by name, (rows, columns * H): x (N, inputs), noise (N, ·), masks (B, ·), parameters (1, ·), state0.. (N, 1),
    taps (N, ·), kept (N, ·), left0.. (N, 1) where a product's input is not a state; backward also given0.. (N, 1) and
    given_taps of outputs, carried0.. (B, 1), dx (N, inputs), du0.. (N, ·), dparameters (B, ·).
    """

    run: Code
    train: Code
    backward: Code
    kept: int  # columns
    fused: bool  # du0 is dx
    columns: tuple[int, ...]  # of each product
    lefts: tuple[int, ...]  # of each product: the state that goes in, or -1: computed
    inputs: int
    states: int
    taps: int
    parameters: int
    masks: int
    noise: int


@dataclass
class _Layout:
    """The arrays of one program, as they are asked for."""

    graph: Graph
    names: list[str] = field(default_factory=list)
    specs: list[tuple[int, int, int]] = field(default_factory=list)
    places: dict[int, Operand] = field(default_factory=dict)  # where a node's value lies
    constants: list[float] = field(default_factory=list)

    def array(self, name: str, rows: int, columns: int, state: int = 0) -> int:
        if name not in self.names:
            self.names.append(name)
            self.specs.append((rows, columns, state))
        return self.names.index(name)

    def place_leaves(self, kind: str, name: str, rows: int, columns: int) -> None:
        """Every leaf of this kind is a column of one array."""
        for i, node in enumerate(self.graph.nodes):
            if node.op == kind:
                self.places[i] = (self.array(name, rows, columns), int(node.value))

    def place_each(self, kind: str, name: str, rows: int, columns: int = 1) -> None:
        """Every leaf of this kind has an array of its own."""
        for i, node in enumerate(self.graph.nodes):
            if node.op == kind:
                number = int(node.value)
                state = number if rows == _BEFORE else 0
                self.places[i] = (self.array(f"{name}{number}", rows, columns, state), 0)

    def constant(self, value: float) -> Operand:
        if value not in self.constants:
            self.constants.append(value)
        return _CONSTANT, self.constants.index(value)


@dataclass
class _Segment:
    """The instructions between two products, with registers that are numbered as if there were no end of them."""

    layout: _Layout
    instructions: list[tuple[str, Operand, list[Operand]]] = field(default_factory=list)
    registers: dict[int, Operand] = field(default_factory=dict)
    uses: dict[int, int] = field(default_factory=dict)
    targets: dict[int, Operand] = field(default_factory=dict)

    def fill(
        self,
        stores: list[tuple[int, Operand]],
        late: list[tuple[int, Operand]],
        sums: list[tuple[int, Operand]],
    ) -> None:
        """Stores each node where it belongs; the late ones when nothing is read any more; adds up the sums."""
        nodes = [node for node, _ in (*stores, *late, *sums)]
        self._count_uses(nodes)
        for node, target in stores:
            self.targets.setdefault(node, target)
        for node in nodes:
            self.operand(node)
        for node, target in stores:
            if self.layout.places[node] != target:
                self.emit("copy", target, [self.operand(node)])
        for node, target in sums:
            self.emit("add", target, [target, self.operand(node)])
        overwritten = {target for _, target in late}
        for node, target in late:
            if self.operand(node) in overwritten - {target}:
                self._move_to_register(node)
        for node, target in late:
            if self.operand(node) != target:
                self.emit("copy", target, [self.operand(node)])

    def operand(self, node: int) -> Operand:
        """Where the node's value is; computes it first where it is nowhere."""
        value = self.layout.graph.number(node)
        if value is not None:
            place = self.layout.constant(value)
            if node in self.targets and node not in self.layout.places:
                self.emit("copy", self.targets[node], [place])
                self.layout.places[node] = self.targets[node]
            return place
        if node in self.layout.places:
            return self.layout.places[node]
        if node in self.registers:
            return self.registers[node]
        op, arguments = self._fused(node)
        operands = [self.operand(a) for a in arguments]
        if node in self.targets:
            target = self.layout.places[node] = self.targets[node]
        else:
            target = self.registers[node] = (_REGISTER, len(self.registers))
        self.emit(op, target, operands)
        return target

    def _move_to_register(self, node: int) -> None:
        place = self.layout.places.pop(node)
        self.registers[node] = (_REGISTER, len(self.registers))
        self.emit("copy", self.registers[node], [place])

    def emit(self, op: str, target: Operand, operands: list[Operand]) -> None:
        self.instructions.append((op, target, operands))

    def _fused(self, node: int) -> tuple[str, tuple[int, ...]]:
        """A product that only this sum uses is part of it."""
        op, args, _ = self.layout.graph.nodes[node]
        if op == "add":
            for product, other in (args, args[::-1]):
                inner = self.layout.graph.nodes[product]
                alone = self.uses.get(product) == 1 and product not in self.targets
                if inner.op == "mul" and alone and product not in self.layout.places:
                    return "fma", (*inner.args, other)
        return op, args

    def _count_uses(self, nodes: Iterable[int]) -> None:
        waiting, seen = list(nodes), set()
        for node in waiting:
            self.uses[node] = self.uses.get(node, 0) + 1
        while waiting:
            node = waiting.pop()
            if node in seen or node in self.layout.places:
                continue
            seen.add(node)
            for argument in self.layout.graph.nodes[node].args:
                self.uses[argument] = self.uses.get(argument, 0) + 1
                waiting.append(argument)

    def native(self) -> tuple[list[tuple[int, ...]], int]:
        """The instructions as numbers, and how many registers they need."""
        last = {o: i for i, (_, _, operands) in enumerate(self.instructions) for o in operands}
        real: dict[Operand, Operand] = {}
        free: list[Operand] = []
        count, code = 0, []
        for i, (op, target, operands) in enumerate(self.instructions):
            found = [real.get(o, o) for o in operands]
            free += [real[o] for o in dict.fromkeys(operands) if o in real and last[o] == i]
            if target[0] == _REGISTER:
                if not free:
                    free.append((_REGISTER, count))
                    count += 1
                real[target] = free.pop()
            # An operation takes three operands: those it has no use for repeat the first.
            found += [found[0]] * (3 - len(found))
            code.append((_CODES[op], *real.get(target, target), *(n for o in found for n in o)))
        return code, count


def _build(
    layout: _Layout,
    segments: list[tuple[int, int, int, _Segment]],
    states: int,
) -> Code:
    lowered = [(left, weights, out, *segment.native()) for left, weights, out, segment in segments]
    program = _native.Program(
        layout.specs,
        layout.constants,
        [(left, weights, out, code) for left, weights, out, code, _ in lowered],
        max(count for *_, count in lowered),
        states,
    )
    return Code(program, tuple(layout.names))


def _stages(graph: Graph, first: int = 0) -> list[int]:
    """After how many products each node from `first` on can be computed; those before it are there."""
    found = [0] * first
    for node in graph.nodes[first:]:
        stage = max((found[a] for a in node.args), default=0)
        if node.op == "column":
            stage = int(graph.nodes[node.args[0]].value) + 1
        elif node.op == "back":
            stage = len(graph.products) - int(node.value)
        found.append(stage)
    return found[first:]


def _place_step(layout: _Layout, graph: Graph) -> None:
    layout.place_leaves("x", "x", _NOW, graph.count("x"))
    layout.place_leaves("noise", "noise", _NOW, graph.count("noise"))
    layout.place_leaves("mask", "masks", _SEQUENCE, graph.count("mask"))
    layout.place_leaves("parameter", "parameters", _ALL, graph.count("parameter"))
    layout.place_each("state", "state", _BEFORE)


def _forward(graph: Graph, kept: list[int]) -> Code:
    """States, taps and the kept nodes of a step."""
    layout = _Layout(graph)
    _place_step(layout, graph)
    # The array of a state before the step is that of the new states, which instructions write through its own name.
    for j in range(len(graph.states)):
        layout.array(f"state{j}", _BEFORE, 1, j)
    stores = [(node, (layout.array(f"new{j}", _NOW, 1), 0)) for j, node in enumerate(graph.states)]
    stores += [(node, (layout.array("taps", _NOW, len(graph.taps)), k)) for k, node in enumerate(graph.taps)]
    stores += [(node, (layout.array("kept", _NOW, len(kept)), k)) for k, node in enumerate(kept)]
    lefts = []
    for s, (left, _) in enumerate(graph.products):
        if graph.nodes[left].op == "state":
            lefts.append(layout.places[left][0])
        else:
            lefts.append(layout.array(f"left{s}", _NOW, 1))
            stores.append((left, (lefts[s], 0)))
    stages = _stages(graph)
    segments = []
    for stage in range(len(graph.products) + 1):
        product = (-1, 0, 0)
        if stage > 0:
            out = layout.array(f"u{stage - 1}", _LOCAL, graph.products[stage - 1][1])
            product = (lefts[stage - 1], stage - 1, out)
            for i, node in enumerate(graph.nodes):
                if node.op == "column" and stages[i] == stage:
                    layout.places[i] = (out, int(node.value))
        segment = _Segment(layout)
        segment.fill([(node, to) for node, to in stores if stages[node] == stage], [], [])
        segments.append((*product, segment))
    return _build(layout, segments, len(graph.states))


def _kept(graph: Graph, d: Derivative, outputs: list[int]) -> list[int]:
    """Which nodes of the step its gradient needs and cannot have again for little."""
    waiting, gradients, needed = outputs[:], set(), set()
    while waiting:
        node = waiting.pop()
        if node < d.forward:
            needed.add(node)
        elif node not in gradients:
            gradients.add(node)
            waiting += graph.nodes[node].args
    there = set(graph.states) | set(graph.taps)
    there |= {i for i, node in enumerate(graph.nodes) if node.op in LEAVES}
    kept: list[int] = []
    cheap: dict[int, bool] = {}

    def is_cheap(node: int) -> bool:
        if node not in cheap:
            op, args, _ = graph.nodes[node]
            cheap[node] = node in there or (op in _CHEAP and all(map(is_cheap, args)))
        return cheap[node]

    for node in sorted(needed):
        if not is_cheap(node):
            kept.append(node)
            cheap[node] = True
    return kept


def _backward(graph: Graph, d: Derivative, kept: list[int], fused: bool) -> Code:
    layout = _Layout(graph)
    _place_step(layout, graph)
    states, taps, products = len(graph.states), len(graph.taps), len(graph.products)
    for k, node in enumerate(kept):
        layout.places[node] = (layout.array("kept", _NOW, len(kept)), k)
    for k, node in enumerate(graph.taps):
        layout.places.setdefault(node, (layout.array("taps", _NOW, taps), k))
    for j, node in enumerate(graph.states):
        layout.places.setdefault(node, (layout.array(f"new{j}", _NOW, 1), 0))
    layout.place_each("carried", "carried", _SEQUENCE)
    layout.place_each("back", "back", _LOCAL)
    for i, leaf in enumerate(graph.nodes):
        if leaf.op == "given":
            k = int(leaf.value)
            name, columns = (f"given{k}", 1) if k < states else ("given_taps", taps)
            layout.places[i] = (layout.array(name, _NOW, columns), max(0, k - states))
    zero = graph.constant(0)
    inputs = graph.count("x")
    stores = [(d.x.get(k, zero), (layout.array("dx", _NOW, inputs), k)) for k in range(inputs)]
    names = ["dx" if fused and s == 0 else f"du{s}" for s in range(products)]
    for s, (_, columns) in enumerate(graph.products):
        if names[s] != "dx":
            array = layout.array(names[s], _NOW, columns)
            stores += [(d.columns[s].get(k, zero), (array, k)) for k in range(columns)]
    late = [(d.states.get(j, zero), (layout.array(f"carried{j}", _SEQUENCE, 1), 0)) for j in range(states)]
    width = graph.count("parameter")
    sums = [(node, (layout.array("dparameters", _SEQUENCE, width), k)) for k, node in d.parameters.items()]
    stages = [0] * d.forward + _stages(graph, d.forward)
    segments = []
    for stage in range(products + 1):
        product = (-1, 0, 0)
        if stage > 0:
            s = products - stage
            product = (layout.names.index(names[s]), s, layout.array(f"back{s}", _LOCAL, 1))
        segment = _Segment(layout)
        last = stage == products
        segment.fill(
            [(node, to) for node, to in stores if stages[node] == stage],
            late if last else [],
            sums if last else [],
        )
        segments.append((*product, segment))
    return _build(layout, segments, states)


@lru_cache(maxsize=256)
def compiled(text: str, given: tuple[bool, ...]) -> Programs:
    """The programs of a graph (its JSON). given: for each state, whether its values at all steps are an output."""
    graph = Graph.from_json(text)
    run = _forward(graph, [])
    kinds = [("carried", "given") if g else ("carried",) for g in given] + [("given",)] * len(graph.taps)
    d = derivative(graph, kinds)
    outputs = [*d.x.values(), *d.states.values(), *d.parameters.values()]
    outputs += [node for columns in d.columns for node in columns.values()]
    kept = _kept(graph, d, outputs)
    inputs = graph.count("x")
    fused = bool(graph.products) and graph.products[0][1] == inputs and d.x == d.columns[0]
    backward = _backward(graph, d, kept, fused)
    train = _forward(Graph.from_json(text), kept)
    return Programs(
        run,
        train,
        backward,
        len(kept),
        fused,
        tuple(columns for _, columns in graph.products),
        tuple(
            int(graph.nodes[left].value) if graph.nodes[left].op == "state" else -1
            for left, _ in graph.products
        ),
        inputs,
        len(graph.states),
        len(graph.taps),
        graph.count("parameter"),
        graph.count("mask"),
        graph.count("noise"),
    )
