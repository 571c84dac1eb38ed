"""How long one step takes, batch 1, called from Python, one core: a step of a layer, and a character of a text model.

    python benchmarks/stream.py [--json]

Layers have as many inputs as units; peers are torch.nn's module and cell, elman's (as modules, without gradients)
and ONNX Runtime where installed, which carries its state out and in. Medians of blocks of calls that took turns.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

import elman
from peers import GATES, Case, Task, onnxruntime_session

SIZES = [32, 64, 128, 256, 512]
BLOCK, ROUNDS = 50, 25


def modules(cell: str, H: int) -> dict[str, Task]:
    """One step of torch.nn's and elman's modules and cells."""

    def task(library: Any, name: str) -> Task:
        module = getattr(library, name)(H, H)
        x, state = (torch.randn(1, H), None) if name.endswith("Cell") else (torch.randn(1, 1, H), None)
        kept: list[Any] = [state]

        def step() -> None:
            found = module(x, kept[0])
            kept[0] = found if name.endswith("Cell") else found[1]

        return step

    libraries = {"torch.nn": torch.nn, "elman": elman}
    return {
        f"{name}.{kind}": task(library, kind)
        for name, library in libraries.items()
        for kind in (cell, cell + "Cell")
    }


def stream(cell: str, H: int, weights: str) -> Task:
    step, x = (
        getattr(elman, cell)(H, H).stream(weights=weights).step,
        np.random.default_rng(0).standard_normal(H, np.float32),
    )
    return lambda: step(x)


def onnxruntime(cell: str, H: int) -> Task:
    session = onnxruntime_session(Case(cell, 1, 1, H, H), carries_state=True, threads=1)
    names = [i.name for i in session.get_inputs()]
    feed = {name: np.zeros((1, 1, H), np.float32) for name in names}

    def step() -> None:
        _, *state = session.run(None, feed)
        feed.update(zip(names[1:], state, strict=True))

    return step


def microseconds(tasks: dict[str, Task]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(ROUNDS):
        for name, task in tasks.items():
            task()
            start = time.perf_counter()
            for _ in range(BLOCK):
                task()
            times[name].append((time.perf_counter() - start) / BLOCK)
    return {name: statistics.median(found) * 1e6 for name, found in times.items()}


def steps(cell: str, H: int) -> dict[str, float]:
    tasks = modules(cell, H)
    tasks[f"elman.{cell}.stream"] = stream(cell, H, "float32")
    tasks[f"elman.{cell}.stream bfloat16"] = stream(cell, H, "bfloat16")
    if find_spec("onnxruntime") and find_spec("onnx"):
        tasks["onnxruntime"] = onnxruntime(cell, H)
    with torch.no_grad():
        found = microseconds(tasks)
    return {name.replace(cell, "layer"): value for name, value in found.items()}


def writing(H: int, symbols: int = 66, embedding_size: int = 64) -> dict[str, float]:
    """Microseconds a character of an LSTM that writes, the same weights in torch.nn and in elman."""
    embedding, head = torch.nn.Embedding(symbols, embedding_size), torch.nn.Linear(H, symbols)
    lstm = torch.nn.LSTM(embedding_size, H)
    kept: list[Any] = [torch.zeros(1, dtype=torch.int64), None]

    @torch.inference_mode()
    def torch_writes() -> None:
        y, kept[1] = lstm(embedding(kept[0]), kept[1])
        kept[0] = torch.multinomial((head(y[-1:]) / 0.8).softmax(-1), 1)[0]

    def array(parameter: torch.Tensor) -> Any:
        return parameter.detach().numpy()

    layer: Any = tuple(array(p) for p in lstm.parameters())
    network = elman._native.Network(
        "lstm", array(embedding.weight), [layer], array(head.weight), array(head.bias)
    )
    state, rng = np.zeros((1, network.state_size), np.float32), np.array([1, 2, 3, 4], np.uint64)
    elman_writes: Callable[[], object] = lambda: network.generate(0, 16, state, 0.8, 0, 1.0, rng)  # noqa: E731
    found = microseconds({"torch.nn": torch_writes, "elman": elman_writes})
    return {"torch.nn": found["torch.nn"], "elman": found["elman"] / 16}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [{"cell": cell, "hidden": H, **steps(cell, H)} for H in SIZES for cell in GATES]
    written = [{"hidden": H, **writing(H)} for H in (128, 256, 384, 512)]
    if arguments.json:
        print(json.dumps({"steps": rows, "characters": written}))
        return
    if "onnxruntime" not in rows[0]:
        print("not installed, left out: onnxruntime\n")
    names = [name for name in rows[0] if name not in ("cell", "hidden")]
    print(f"| µs a step | cell | {' | '.join(names)} |\n{'|---' * (2 + len(names))}|")
    for row in rows:
        print(f"| {row['hidden']} | {row['cell']} | {' | '.join(f'{row[name]:.1f}' for name in names)} |")
    print("\n| LSTM | torch.nn, chars/s | elman, chars/s | ratio |\n|---|---|---|---|")
    for w in written:
        rates = [1e6 / w[name] for name in ("torch.nn", "elman")]
        print(f"| {w['hidden']} | {rates[0]:,.0f} | {rates[1]:,.0f} | {rates[1] / rates[0]:.1f} |")


if __name__ == "__main__":
    main()
