"""How fast the layers are: elman and torch.nn on the same shapes, interleaved in one process, beside the sgemm ceiling.

    python benchmarks/layers.py [--seconds 1.0] [--json]

Prints medians as GFLOP/s of useful work (multiply-adds of the matrix products, counted twice; backward counts two
forwards), the ratio elman / torch.nn, its geometric mean and its worst case.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable

import torch

import elman

SHAPES = [  # T, B, I, H
    (50, 50, 65, 128),
    (100, 32, 128, 256),
    (100, 64, 512, 512),
    (200, 16, 100, 128),
    (256, 128, 64, 64),
    (1000, 1, 64, 64),
]
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def work(cell: str, shape: tuple[int, int, int, int], backward: bool) -> float:
    T, B, I, H = shape
    return (3 if backward else 1) * 2.0 * T * B * GATES[cell] * H * (I + H)


def once(layer: torch.nn.Module, x: torch.Tensor, backward: bool) -> None:
    if not backward:
        with torch.no_grad():
            layer(x)
        return
    layer.zero_grad()
    y, _ = layer(x)
    y.backward(torch.ones_like(y))


def interleaved(tasks: dict[str, Callable[[], None]], seconds: float) -> dict[str, float]:
    """Median seconds of each task, run in turn until `seconds` have passed for each."""
    for task in tasks.values():
        task()
        task()
    times: dict[str, list[float]] = {name: [] for name in tasks}
    end = time.perf_counter() + seconds * len(tasks)
    while time.perf_counter() < end or min(map(len, times.values())) < 5:
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def sgemm() -> Callable[[], None]:
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return lambda: torch.mm(a, b).sum()  # type: ignore[return-value,func-returns-value]


def measure(cell: str, shape: tuple[int, int, int, int], backward: bool, seconds: float) -> dict[str, object]:
    T, B, I, H = shape
    theirs, ours = getattr(torch.nn, cell)(I, H), getattr(elman, cell)(I, H)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(T, B, I, requires_grad=backward)
    tasks = {
        "torch.nn": lambda: once(theirs, x, backward),
        "elman": lambda: once(ours, x, backward),
        "sgemm": sgemm(),
    }
    found = interleaved(tasks, seconds)
    flops = work(cell, shape, backward)
    return {
        "cell": cell,
        "shape": shape,
        "mode": "forward+backward" if backward else "forward",
        "torch.nn": flops / found["torch.nn"] / 1e9,
        "elman": flops / found["elman"] / 1e9,
        "sgemm": 2 * 1024**3 / found["sgemm"] / 1e9,
        "ratio": found["torch.nn"] / found["elman"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each of the three, in each row")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [
        measure(cell, shape, backward, arguments.seconds)
        for shape in SHAPES
        for cell in GATES
        for backward in (False, True)
    ]
    if arguments.json:
        print(json.dumps(rows))
        return
    print(
        f"{'T, B, I, H':>20} {'cell':5} {'mode':17} {'torch.nn':>9} {'elman':>7} {'ratio':>6} {'of sgemm':>8}"
    )
    for r in rows:
        print(
            f"{', '.join(map(str, r['shape'])):>20} {r['cell']:5} {r['mode']:17} {r['torch.nn']:9.1f} "  # type: ignore[call-overload]
            f"{r['elman']:7.1f} {r['ratio']:6.2f} {r['elman'] / r['sgemm']:8.0%}"  # type: ignore[operator]
        )
    for mode in ("forward", "forward+backward"):
        ratios = [float(r["ratio"]) for r in rows if r["mode"] == mode]  # type: ignore[arg-type]
        mean = math.exp(statistics.fmean(map(math.log, ratios)))
        print(f"{mode}: geometric mean {mean:.2f}, worst {min(ratios):.2f}")


if __name__ == "__main__":
    main()
