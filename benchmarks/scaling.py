"""How time and memory grow: with steps, batch and units, with ragged lengths, with threads.

    python benchmarks/scaling.py [--seconds 0.5]

Forward and backward of one layer, elman beside torch.nn, medians of calls that took turns. Ragged: lengths uniform
in 1..T as a PackedSequence, its cost as a share of the padded batch's, beside the share of true tokens. Memory: the
peak that one training step adds to a fresh process.
"""

import argparse
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator

import torch
from torch.nn.utils.rnn import pack_padded_sequence

from peers import GATES, Case, Task, elman_layer, take_turns, torch_nn, torch_task

GROWTH = {
    "T": [Case("LSTM", T, 16, 128, 128) for T in (10, 100, 1000, 4000)],
    "B": [Case("LSTM", 100, B, 256, 256) for B in (1, 4, 16, 64, 256)],
    "H": [Case("LSTM", 50, 32, H, H) for H in (32, 64, 128, 256, 512, 1024)],
}
LARGE = Case("LSTM", 500, 64, 256, 256)
LIBRARIES = {"torch.nn": torch_nn, "elman": elman_layer}


def medians(tasks: dict[str, Task], seconds: float) -> dict[str, float]:
    for task in tasks.values():
        task()
    return {name: statistics.median(t) for name, t in take_turns(tasks, seconds * len(tasks)).items()}


def both(case: Case, seconds: float) -> dict[str, float]:
    return medians({name: torch_task(case, True, make) for name, make in LIBRARIES.items()}, seconds)


def growth(seconds: float) -> Iterator[str]:
    yield "| grows | LSTM T, B, I, H | torch.nn ms | elman ms | ratio |\n|---|---|---|---|---|"
    for letter, cases in GROWTH.items():
        for case in cases:
            t = both(case, seconds)
            ratio = t["torch.nn"] / t["elman"]
            yield f"| {letter} | {case.name()} | {t['torch.nn'] * 1e3:.2f} | {t['elman'] * 1e3:.2f} | {ratio:.2f} |"


def ragged_task(case: Case, lengths: torch.Tensor, layer: torch.nn.Module) -> Task:
    x = pack_padded_sequence(torch.randn(case.T, case.B, case.I), lengths, enforce_sorted=False)

    def step() -> None:
        layer.zero_grad()
        layer(x)[0].data.sum().backward()

    return step


def ragged(seconds: float) -> Iterator[str]:
    yield "| cell | T, B, I, H | true tokens | torch.nn cost | elman cost |\n|---|---|---|---|---|"
    for cell in GATES:
        for shape in ((100, 32, 256, 256), (200, 64, 64, 64), (100, 8, 256, 256)):
            case = Case(cell, *shape)
            lengths = torch.randint(1, case.T + 1, (case.B,), generator=torch.Generator().manual_seed(0))
            lengths[0] = case.T
            tasks: dict[str, Task] = {}
            for name, make in LIBRARIES.items():
                layer = make(case)
                tasks[name] = ragged_task(case, lengths, layer)
                tasks[f"{name} padded"] = ragged_task(case, torch.full_like(lengths, case.T), layer)
            t = medians(tasks, seconds)
            share = lengths.sum().item() / (case.T * case.B)
            costs = " | ".join(f"{t[name] / t[f'{name} padded']:.1%}" for name in LIBRARIES)
            yield f"| {cell} | {case.name()} | {share:.1%} | {costs} |"


def threads(seconds: float) -> Iterator[str]:
    yield "| cell | T, B, I, H | torch.nn, 2 threads over 1 | elman, 2 threads over 1 |\n|---|---|---|---|"
    for cell in GATES:
        for shape in ((100, 32, 256, 256), (256, 128, 64, 64), (100, 4, 256, 256), (1000, 1, 64, 64)):
            times = {}
            for count in (1, 2):
                torch.set_num_threads(count)
                times[count] = both(Case(cell, *shape), seconds)
            gains = " | ".join(f"{times[1][name] / times[2][name]:.2f}" for name in LIBRARIES)
            yield f"| {cell} | {Case(cell, *shape).name()} | {gains} |"


def peak(library: str, cell: str) -> float:
    """Megabytes that one training step adds, in this process."""
    case = Case(cell, LARGE.T, LARGE.B, LARGE.I, LARGE.H)
    torch_task(Case(cell, 2, 2, 8, 8), True, LIBRARIES[library])()
    step = torch_task(case, True, LIBRARIES[library])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def memory() -> Iterator[str]:
    yield f"| cell, {LARGE.name()} | torch.nn MB | elman MB | elman / torch.nn |\n|---|---|---|---|"
    for cell in GATES:
        found = {}
        for library in LIBRARIES:
            command = [sys.executable, __file__, "--peak", library, cell]
            found[library] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        ratio = found["elman"] / found["torch.nn"]
        yield f"| {cell} | {found['torch.nn']:.0f} | {found['elman']:.0f} | {ratio:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=0.5, help="for each library in each row")
    parser.add_argument("--peak", nargs=2, metavar=("LIBRARY", "CELL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak(*arguments.peak))
        return
    for part in (memory(), ragged(arguments.seconds), threads(arguments.seconds), growth(arguments.seconds)):
        for line in part:
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
