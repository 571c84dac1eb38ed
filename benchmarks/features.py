"""What the layers' options cost, beside the plain layer; what a cell written in Python costs, beside the built-in one
and beside a loop in torch; how much memory long sequences take.

    python benchmarks/features.py [--seconds 1.0]

Forward and backward of one layer, medians of calls that took turns. Memory: the peak that training steps over 100,000
steps add to a fresh process.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import elman
from peers import Task, take_turns

SHAPES = [(100, 32, 256, 256), (50, 50, 65, 128), (256, 128, 64, 64), (1000, 1, 64, 64)]
SMALL = [(100, 1, 128, 128), (200, 4, 64, 64), (100, 16, 32, 32)]  # where a loop in torch is mostly overhead
OPTIONS: dict[str, dict[str, Any]] = {
    "layer_norm": {"layer_norm": True},
    "recurrent_dropout": {"recurrent_dropout": 0.2},
    "input_dropout": {"input_dropout": 0.1},
    "zoneout": {"zoneout": 0.05},
    "weight_dropout": {"weight_dropout": 0.3},
    "learn_initial_state": {"learn_initial_state": True},
    "checkpoint_every": {"checkpoint_every": 16},
}
LONG = (100_000, 1, 64, 64)


def lstm_step(gates: Any, states: Any) -> Any:
    i, f, g, o = gates
    c = states[1]
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


class Looped(nn.Module):
    """The same step in torch: both products, then the step, in a loop over time."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.w_ih, self.w_hh = nn.Linear(input_size, 4 * hidden_size), nn.Linear(hidden_size, 4 * hidden_size)
        self.hidden_size = hidden_size

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        h = c = x.new_zeros(x.shape[1], self.hidden_size)
        y = []
        for projected in self.w_ih(x):
            h, c = lstm_step((projected + self.w_hh(h)).chunk(4, dim=1), (h, c))
            y.append(h)
        return torch.stack(y), (h, c)


def training(layer: nn.Module, x: Tensor, **arguments: Any) -> Task:
    def step() -> None:
        layer.zero_grad()
        y = layer(x, **arguments)[0]
        y.backward(torch.ones_like(y))

    return step


def medians(tasks: dict[str, Task], seconds: float) -> dict[str, float]:
    for task in tasks.values():
        task()
    return {name: statistics.median(t) for name, t in take_turns(tasks, seconds * len(tasks)).items()}


def over(first: str, tasks: dict[str, Task], seconds: float, width: int) -> list[str]:
    """Each other task's time over the first's, as the cells of a row."""
    times = medians(tasks, seconds)
    found = [f"{t / times[first]:.2f}" for name, t in times.items() if name != first]
    return found + [""] * (width - len(found))


def options(seconds: float) -> Iterator[str]:
    names = [*OPTIONS, "lengths, all T", "reset, 1 %", "return_trace"]
    yield f"| cost over the plain layer | T, B, I, H | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}"
    for cell in ("RNN", "GRU", "LSTM"):
        make: Callable[..., Any] = getattr(elman, cell)
        for T, B, I, H in SHAPES:
            x, plain = torch.randn(T, B, I), make(I, H)
            tasks = {"plain": training(plain, x)}
            tasks |= {name: training(make(I, H, **options), x) for name, options in OPTIONS.items()}
            tasks["lengths"] = training(plain, x, lengths=[T] * B)
            tasks["reset"] = training(plain, x, reset=torch.rand(T, B) < 0.01)
            tasks["trace"] = training(plain, x, return_trace=True)
            yield f"| {cell} | {T}, {B}, {I}, {H} | {' | '.join(over('plain', tasks, seconds, len(names)))} |"


def cells(seconds: float) -> Iterator[str]:
    names = ["Recurrent(lstm step)", "loop in torch", "loop / Recurrent"]
    yield f"| time over elman.LSTM | T, B, I, H | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}"
    for T, B, I, H in [*SHAPES, *SMALL]:
        x = torch.randn(T, B, I)
        custom = elman.Recurrent(lstm_step, I, H, gates=4, states=("hidden", "cell"))
        layers = {"LSTM": elman.LSTM(I, H), "Recurrent": custom, "loop": Looped(I, H)}
        t = medians({name: training(layer, x) for name, layer in layers.items()}, seconds)
        found = t["Recurrent"] / t["LSTM"], t["loop"] / t["LSTM"], t["loop"] / t["Recurrent"]
        yield f"| LSTM | {T}, {B}, {I}, {H} | {' | '.join(f'{value:.2f}' for value in found)} |"


def named(seconds: float) -> Iterator[str]:
    makers: dict[str, Callable[..., Any]] = {
        "GRU": elman.GRU,
        "reset_after=False": lambda *sizes: elman.GRU(*sizes, reset_after=False),
        **{n: getattr(elman, n) for n in ("PeepholeLSTM", "CoupledLSTM", "IndRNN", "MinGRU", "MinLSTM")},
    }
    yield f"| time over elman.LSTM | T, B, I, H | {' | '.join(makers)} |\n|---|---|{'---|' * len(makers)}"
    for T, B, I, H in SHAPES:
        x = torch.randn(T, B, I)
        tasks = {"LSTM": training(elman.LSTM(I, H), x)}
        tasks |= {name: training(make(I, H), x) for name, make in makers.items()}
        yield f"| | {T}, {B}, {I}, {H} | {' | '.join(over('LSTM', tasks, seconds, len(makers)))} |"


def ragged(seconds: float) -> Iterator[str]:
    yield "| lengths= | T, B, I, H | true tokens | cost over the padded batch |\n|---|---|---|---|"
    for cell in ("RNN", "GRU", "LSTM"):
        for T, B, I, H in SHAPES[:3]:
            layer, x = getattr(elman, cell)(I, H), torch.randn(T, B, I)
            lengths = torch.randint(1, T + 1, (B,), generator=torch.Generator().manual_seed(0))
            t = medians(
                {"padded": training(layer, x), "ragged": training(layer, x, lengths=lengths)}, seconds
            )
            share = lengths.sum().item() / (T * B)
            yield f"| {cell} | {T}, {B}, {I}, {H} | {share:.1%} | {t['ragged'] / t['padded']:.1%} |"


def peak(every: int) -> None:
    """Prints the megabytes and seconds of a training step over the long sequence, in this process."""
    T, B, I, H = LONG
    layer, x = elman.LSTM(I, H, checkpoint_every=every or None), torch.randn(T, B, I)
    training(layer, x[:10])()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    training(layer, x)()
    seconds = time.perf_counter() - start
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, seconds)


def memory() -> Iterator[str]:
    yield f"| LSTM, {', '.join(map(str, LONG))} | added MB | seconds |\n|---|---|---|"
    for every in (0, 316):
        command = [sys.executable, __file__, "--peak", str(every)]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        name = f"checkpoint_every={every}" if every else "all kept"
        yield f"| {name} | {float(found[0]):.0f} | {float(found[1]):.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="for each layer in each row")
    parser.add_argument("--peak", type=int, metavar="STEPS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak is not None:
        peak(arguments.peak)
        return
    seconds = arguments.seconds
    # Memory first: a process starts with its parent's peak.
    for part in (memory(), options(seconds), cells(seconds), named(seconds), ragged(seconds)):
        for line in part:
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
