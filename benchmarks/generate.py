"""How fast a trained LSTM writes, on one core: elman's network, and the same weights in a loop over torch.nn.

    python benchmarks/generate.py [--hidden 384 512] [--json]

Temperature 0.8; the weights are random, since only the speed matters. Prints characters per second and microseconds
a character (medians), and the ratio.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from elman._native import Network

SYMBOLS, EMBEDDING = 66, 64
COUNT = 300  # characters a turn


def torch_writer(
    embedding: torch.nn.Embedding, lstm: torch.nn.LSTM, head: torch.nn.Linear
) -> Callable[[], object]:
    @torch.inference_mode()
    def write() -> None:
        code, state = torch.zeros(1, dtype=torch.int64), None
        for _ in range(COUNT):
            y, state = lstm(embedding(code), state)
            code = torch.multinomial((head(y[-1:]) / 0.8).softmax(-1), 1)[0]

    return write


def elman_writer(
    embedding: torch.nn.Embedding, lstm: torch.nn.LSTM, head: torch.nn.Linear
) -> Callable[[], object]:
    def array(parameter: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return parameter.detach().numpy()

    layer = tuple(array(p) for p in lstm.parameters())
    network = Network("lstm", array(embedding.weight), [layer], array(head.weight), array(head.bias))  # type: ignore[list-item]
    state = np.zeros((1, network.state_size), np.float32)
    rng = np.array([1, 2, 3, 4], np.uint64)
    return lambda: network.generate(0, COUNT, state, 0.8, 0, 1.0, rng)


def measure(hidden: int, turns: int = 15) -> dict[str, float]:
    parts = (
        torch.nn.Embedding(SYMBOLS, EMBEDDING),
        torch.nn.LSTM(EMBEDDING, hidden),
        torch.nn.Linear(hidden, SYMBOLS),
    )
    writers = {"torch.nn": torch_writer(*parts), "elman": elman_writer(*parts)}
    seconds: dict[str, list[float]] = {name: [] for name in writers}
    for _ in range(turns):
        for name, write in writers.items():
            start = time.perf_counter()
            write()
            seconds[name].append((time.perf_counter() - start) / COUNT)
    rates = {name: 1 / statistics.median(s) for name, s in seconds.items()}
    return {"hidden": hidden, **rates, "ratio": rates["elman"] / rates["torch.nn"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 256, 384, 512])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(hidden) for hidden in arguments.hidden]
    if arguments.json:
        print(json.dumps(rows))
        return
    print(f"{'LSTM':>6} {'torch.nn chars/s':>17} {'elman chars/s':>14} {'µs':>7} {'ratio':>6}")
    for r in rows:
        print(
            f"{r['hidden']:6} {r['torch.nn']:17,.0f} {r['elman']:14,.0f} {1e6 / r['elman']:7.1f} {r['ratio']:6.1f}"
        )


if __name__ == "__main__":
    main()
