"""What an explanation costs: of 20,000 characters through two layers of 512 LSTM units, untrained.

    python benchmarks/explain.py [--characters 20000] [--hidden 512] [--layers 2]

Prints the seconds of the plain forward, of the trace, of the whole report and of the page, and the page's size. The
forward and the trace are timed by turns, medians of three.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

import elman
from elman.checkpoint import ModelFile
from elman.codec import Characters
from elman.explanation import explain
from elman.model import Model, ModelConfig
from elman.subjects import TextSubject

_SYMBOLS = "abcdefghijklmnopqrstuvwxyz \n"


def generator(hidden: int, layers: int) -> elman.TextGenerator:
    """A model with random weights: what it costs does not depend on them."""
    codec = Characters(_SYMBOLS)
    config = ModelConfig(codec.size, "lstm", hidden, layers, 64)
    torch.manual_seed(0)
    tensors = {name: value.numpy() for name, value in Model(config).state_dict().items()}
    file = ModelFile("text", tensors, asdict(config), codec.to_config(), {"validation_loss": None}, "")
    return elman.TextGenerator.from_file(file)


def seconds(work: object) -> float:
    begun = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("characters", 20_000), ("hidden", 512), ("layers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    model = generator(args.hidden, args.layers)
    text = "".join(np.random.default_rng(0).choice(list(_SYMBOLS), args.characters))
    forward, trace = [], []
    for _ in range(3):
        subject = TextSubject(model, text)
        with torch.no_grad():
            entered = subject.model.embedding(subject.codes[:, None])
            forward.append(seconds(lambda x=entered, s=subject: s.model.layers(x)))
            trace.append(seconds(lambda x=entered, s=subject: s.model.layers(x, return_trace=True)))
    a, b = statistics.median(forward), statistics.median(trace)
    print(f"forward {a:.2f} s, trace {b:.2f} s: {b / a:.2f} times")
    begun = time.perf_counter()
    report = explain(model, text)
    print(f"report {time.perf_counter() - begun:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.html")
        print(f"page {seconds(lambda: report.save(path)):.2f} s, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
