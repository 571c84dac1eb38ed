"""Every library's recurrent layers behind one function: a peer and a case in, something to time out.

As a script it is a worker: it answers requests on standard input, one JSON object a line, so that libraries that do
not get on in one process can still take turns.

    {"peers": ["elman", "torch.nn"], "case": {...}, "backward": true}   → {"error": null}
    {"seconds": 0.2}                                                    → {"elman": [0.01, ...], "torch.nn": [...]}

Within a worker the peers are timed in turn, call by call.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

Task = Callable[[], object]

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@dataclass(frozen=True)
class Case:
    """A layer and its input: T steps of B sequences of I numbers; H hidden units."""

    cell: str
    T: int
    B: int
    I: int
    H: int
    layers: int = 1
    directions: int = 1

    def flops(self, backward: bool) -> float:
        """Multiply-adds of the matrix products, counted twice; backward costs two forwards."""
        inputs = [self.I] + [self.H * self.directions] * (self.layers - 1)
        once = sum(
            2.0 * self.T * self.B * self.directions * GATES[self.cell] * self.H * (i + self.H) for i in inputs
        )
        return (3 if backward else 1) * once

    def name(self) -> str:
        shape = f"{self.T}, {self.B}, {self.I}, {self.H}"
        return (
            shape + (f" ×{self.layers}" if self.layers > 1 else "") + (" bi" if self.directions == 2 else "")
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def torch_task(case: Case, backward: bool, make: Callable[[Any], Any]) -> Task:
    import torch

    layer = make(case)
    x = torch.randn(case.T, case.B, case.I, requires_grad=backward)

    def forward() -> object:
        with torch.no_grad():
            return layer(x)

    def both() -> None:
        layer.zero_grad()
        x.grad = None
        layer(x)[0].sum().backward()

    return both if backward else forward


def torch_nn(case: Case) -> Any:
    import torch

    return getattr(torch.nn, case.cell)(case.I, case.H, case.layers, bidirectional=case.directions == 2)


def elman_layer(case: Case) -> Any:
    import elman

    return getattr(elman, case.cell)(case.I, case.H, case.layers, bidirectional=case.directions == 2)


def elman_stream(case: Case, backward: bool) -> Task:
    """The same layers as deployed: weights packed once."""
    if backward:
        raise NotImplementedError("streams only run forward")
    import torch

    if case.directions == 2:
        raise NotImplementedError("streams run in one direction")
    stream, x = elman_layer(case).stream(case.B), torch.randn(case.T, case.B, case.I).numpy()
    return lambda: stream.feed(x, threads=torch.get_num_threads())


def torch_compiled(case: Case) -> Any:
    import torch

    return torch.compile(torch_nn(case))


def sgemm(case: Case, backward: bool) -> Task:
    """The ceiling: 1024³, whatever the case."""
    import torch

    a, b, out = torch.randn(1024, 1024), torch.randn(1024, 1024), torch.empty(1024, 1024)
    return lambda: torch.mm(a, b, out=out)


SGEMM_FLOPS = 2.0 * 1024**3
TURN = 0.01  # seconds that a peer runs before the next has its turn


def keras_task(case: Case, backward: bool, backend: str, jit: bool = True) -> Task:
    os.environ["KERAS_BACKEND"] = backend
    import keras

    layer_type = {"RNN": keras.layers.SimpleRNN, "GRU": keras.layers.GRU, "LSTM": keras.layers.LSTM}[
        case.cell
    ]

    def layer() -> Any:
        one = layer_type(case.H, return_sequences=True)
        return one if case.directions == 1 else keras.layers.Bidirectional(one)

    model = keras.Sequential(
        [keras.Input((case.T, case.I), batch_size=case.B), *(layer() for _ in range(case.layers))]
    )
    return (keras_tensorflow if backend == "tensorflow" else keras_jax)(model, case, backward, jit)


def keras_tensorflow(model: Any, case: Case, backward: bool, jit: bool) -> Task:
    import tensorflow as tf

    x = tf.random.normal((case.B, case.T, case.I))

    def both(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(model(x))
        return tape.gradient(loss, [x, *model.trainable_variables])

    return partial(tf.function(both if backward else model, jit_compile=jit), x)


def keras_jax(model: Any, case: Case, backward: bool, jit: bool) -> Task:
    import jax

    x = jax.random.normal(jax.random.key(0), (case.B, case.T, case.I))
    weights = [v.value for v in model.trainable_variables]
    rest = [v.value for v in model.non_trainable_variables]

    def forward(weights: Any, x: Any) -> Any:
        return model.stateless_call(weights, rest, x)[0]

    def loss(weights: Any, x: Any) -> Any:
        return forward(weights, x).sum()

    run = jax.jit(jax.grad(loss, (0, 1)) if backward else forward)
    return lambda: jax.block_until_ready(run(weights, x))


def jax_scan(case: Case, backward: bool) -> Task:
    """What a JAX user writes: the projection of all steps at once, then lax.scan over the recurrence."""
    import jax
    import jax.numpy as jnp

    G, H = GATES[case.cell], case.H
    key = jax.random.key(0)

    def step(weights: Any, state: Any, p: Any) -> Any:
        h, c = state
        if case.cell == "RNN":
            h = jnp.tanh(p + h @ weights["hh"])
        elif case.cell == "GRU":
            q = h @ weights["hh"] + weights["b"]
            r, z = jnp.split(jax.nn.sigmoid(p[:, : 2 * H] + q[:, : 2 * H]), 2, 1)
            n = jnp.tanh(p[:, 2 * H :] + r * q[:, 2 * H :])
            h = n + z * (h - n)
        else:
            i, f, g, o = jnp.split(p + h @ weights["hh"], 4, 1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def direction(weights: Any, x: Any, reverse: bool) -> Any:
        zero = jnp.zeros((case.B, H))
        return jax.lax.scan(
            partial(step, weights), (zero, zero), x @ weights["ih"] + weights["b"], reverse=reverse
        )[1]

    def forward(layers: Any, x: Any) -> Any:
        for both in layers:
            x = jnp.concatenate([direction(w, x, reverse=i == 1) for i, w in enumerate(both)], -1)
        return x

    def weights(inputs: int) -> Any:
        shapes = {"ih": (inputs, G * H), "hh": (H, G * H), "b": (G * H,)}
        return {
            name: jax.random.uniform(key, shape, minval=-1, maxval=1) / H**0.5
            for name, shape in shapes.items()
        }

    sizes = [case.I] + [H * case.directions] * (case.layers - 1)
    layers = [[weights(size) for _ in range(case.directions)] for size in sizes]
    x = jax.random.normal(key, (case.T, case.B, case.I))
    run = jax.jit(jax.grad(lambda w, x: forward(w, x).sum(), (0, 1)) if backward else forward)
    return lambda: jax.block_until_ready(run(layers, x))


def onnxruntime_task(case: Case, backward: bool) -> Task:
    if backward:
        raise NotImplementedError("ONNX Runtime only runs forward")
    import numpy as np

    session = onnxruntime_session(case)
    feed = {"x": np.random.default_rng(0).standard_normal((case.T, case.B, case.I), np.float32)}
    return lambda: session.run(["y"], feed)


def onnxruntime_session(case: Case, carries_state: bool = False, threads: int = 0) -> Any:
    """A session of x (T, B, I) → y; with carries_state also h0, c0 → h1, c1 (one layer, one direction)."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    G, H, D = GATES[case.cell], case.H, case.directions
    rng, nodes, weights, x = np.random.default_rng(0), [], [], "x"
    state = (["h0", "c0"] if case.cell == "LSTM" else ["h0"]) if carries_state else []
    finals = [name[0] + "1" for name in state]
    for k in range(case.layers):
        inputs = case.I if k == 0 else H * D
        for name, shape in {"w": (D, G * H, inputs), "r": (D, G * H, H), "b": (D, 2 * G * H)}.items():
            value = rng.uniform(-1, 1, shape) / H**0.5
            weights.append(numpy_helper.from_array(value.astype(np.float32), f"{name}{k}"))
        options: dict[str, Any] = {"hidden_size": H, "direction": "bidirectional" if D == 2 else "forward"}
        if case.cell == "GRU":
            options["linear_before_reset"] = 1
        given = [x, f"w{k}", f"r{k}", f"b{k}", *(["", *state] if state else [])]
        nodes += [
            helper.make_node(case.cell, given, [f"s{k}", *finals], **options),
            helper.make_node("Transpose", [f"s{k}"], [f"t{k}"], perm=[0, 2, 1, 3]),
            helper.make_node(
                "Reshape", [f"t{k}", "shape"], [x := "y" if k + 1 == case.layers else f"x{k + 1}"]
            ),
        ]
    weights.append(numpy_helper.from_array(np.array([0, 0, -1], np.int64), "shape"))

    def info(name: str, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    given = [info("x", [case.T, case.B, case.I]), *(info(name, [1, case.B, H]) for name in state)]
    made = [info("y", [None, None, None]), *(info(name, [1, case.B, H]) for name in finals)]
    graph = helper.make_graph(nodes, "layers", given, made, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


PEERS: dict[str, Callable[[Case, bool], Task]] = {
    "elman": lambda case, backward: torch_task(case, backward, elman_layer),
    "elman stream": elman_stream,
    "torch.nn": lambda case, backward: torch_task(case, backward, torch_nn),
    "torch.compile": lambda case, backward: torch_task(case, backward, torch_compiled),
    "sgemm": sgemm,
    "keras tf": lambda case, backward: keras_task(case, backward, "tensorflow", jit=False),
    "keras tf jit": lambda case, backward: keras_task(case, backward, "tensorflow"),
    "keras jax": lambda case, backward: keras_task(case, backward, "jax"),
    "jax scan": jax_scan,
    "onnxruntime": onnxruntime_task,
}
PROCESSES = [
    ["elman", "elman stream", "torch.nn", "torch.compile", "sgemm"],
    ["keras tf", "keras tf jit"],
    ["keras jax", "jax scan"],
    ["onnxruntime"],
]
NEEDS = {  # packages
    "keras tf": ("keras", "tensorflow"),
    "keras tf jit": ("keras", "tensorflow"),
    "keras jax": ("keras", "jax"),
    "jax scan": ("jax",),
    "onnxruntime": ("onnxruntime", "onnx"),
}


def take_turns(tasks: dict[str, Task], seconds: float) -> dict[str, list[float]]:
    """Seconds of each call, the tasks in turn, until every task has had its turn and `seconds` are over.

    A turn is one call that is not counted, since it finds the caches full of another's data, and calls for TURN
    seconds: that is how a peer with a process to itself runs.
    """
    time.sleep(0.05)  # the threads of other processes may still spin
    times: dict[str, list[float]] = {name: [] for name in tasks}
    end = time.perf_counter() + seconds
    while True:
        for name, task in tasks.items():
            task()
            turn_end = (before := time.perf_counter()) + TURN
            while before < turn_end:
                task()
                now = time.perf_counter()
                times[name].append(now - before)
                before = now
        if time.perf_counter() >= end:
            return times


def prepare(peers: list[str], case: Case, backward: bool) -> tuple[dict[str, Task], dict[str, str]]:
    """The tasks, each run twice already, and why others could not be made."""
    tasks, errors = {}, {}
    for peer in peers:
        try:
            task = PEERS[peer](case, backward)
            task()
            task()
            tasks[peer] = task
        except Exception as error:
            errors[peer] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return tasks, errors


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print must not answer
    tasks: dict[str, Task] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "case" in request:
            tasks.clear()
            tasks, errors = prepare(request["peers"], Case(**request["case"]), request["backward"])
            answer: Any = {"errors": errors}
        else:
            answer = take_turns(tasks, request["seconds"]) if tasks else {}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
