"""How fast the layers are, beside every peer that is installed and beside the sgemm ceiling of the same moment.

    python benchmarks/layers.py [--all] [--peers all] [--seconds 1.0] [--json FILE] [--picture FILE]

Prints GFLOP/s of useful work (see `Case.flops`),
medians of calls that took turns; ratios; geometric means and worst rows. `pip install -r benchmarks/requirements.txt`
brings the peers.
"""

import argparse
import itertools
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from peers import GATES, NEEDS, PROCESSES, SGEMM_FLOPS, Case

FEW = ["elman", "elman stream", "torch.nn", "sgemm"]
ROUNDS = 5
SHAPES: list[tuple[int, ...]] = [  # T, B, I, H, layers, directions
    (50, 50, 65, 128),
    (100, 32, 128, 256),
    (100, 64, 512, 512),
    (200, 16, 100, 128),
    (256, 128, 64, 64),
    (1000, 1, 64, 64),
]
MORE: list[tuple[int, ...]] = [
    (100, 1, 256, 256),
    (100, 4, 256, 256),
    (100, 8, 256, 256),
    (50, 256, 256, 256),
    (100, 32, 32, 32),
    (100, 32, 96, 96),
    (100, 32, 200, 200),
    (50, 32, 384, 384),
    (20, 32, 768, 768),
    (20, 32, 1024, 1024),
    (1, 32, 256, 256),
    (10, 32, 256, 256),
    (4000, 1, 128, 128),
    (4000, 8, 64, 64),
    (100, 32, 128, 128, 2),
    (50, 32, 256, 256, 3),
    (100, 32, 128, 128, 1, 2),
    (100, 4, 256, 256, 1, 2),
    (50, 32, 200, 200, 2, 2),
]
MODES = {False: "forward", True: "forward+backward"}


class Worker:
    """A process that prepares peers and times them when asked."""

    def __init__(self, peers: list[str]) -> None:
        self.peers = peers
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("peers.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def installed(peers: Iterable[str]) -> list[str]:
    return [peer for peer in peers if all(find_spec(package) for package in NEEDS.get(peer, ()))]


def measure(workers: list[Worker], case: Case, backward: bool, seconds: float) -> dict[str, Any]:
    """Median seconds of each peer that can run the case, and why others can't."""
    times: dict[str, list[float]] = {}
    errors: dict[str, str] = {}
    for worker in workers:
        errors |= worker.ask(peers=worker.peers, case=case.as_dict(), backward=backward)["errors"]
    for _ in range(ROUNDS):
        for worker in workers:
            share = seconds * len(worker.peers) / ROUNDS
            for peer, found in worker.ask(seconds=share).items():
                times.setdefault(peer, []).extend(found)
    return {
        "case": case.as_dict(),
        "name": case.name(),
        "mode": MODES[backward],
        "flops": case.flops(backward),
        "seconds": {peer: statistics.median(found) for peer, found in times.items()},
        "errors": errors,
    }


def geometric_mean(values: Iterable[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def others(row: dict[str, Any]) -> dict[str, float]:
    return {peer: s for peer, s in row["seconds"].items() if peer not in ("elman", "elman stream", "sgemm")}


def ratio(row: dict[str, Any], peer: str) -> float:
    """How many times as long the peer takes as elman."""
    return float(row["seconds"][peer] / row["seconds"]["elman"])


def stream_ratio(row: dict[str, Any], peer: str) -> float:
    return float(row["seconds"][peer] / row["seconds"]["elman stream"])


def rate(row: dict[str, Any], peer: str) -> float:
    """GFLOP/s."""
    return float((SGEMM_FLOPS if peer == "sgemm" else row["flops"]) / row["seconds"][peer] / 1e9)


def ceiling_share(row: dict[str, Any]) -> float:
    return rate(row, "elman") / rate(row, "sgemm")


def table(rows: list[dict[str, Any]], peers: list[str]) -> Iterable[str]:
    """Markdown: GFLOP/s of each peer, elman's ratio to torch.nn and to the best of all, its share of sgemm."""
    columns = [*peers, "to torch.nn", "to best", "of sgemm"]
    yield f"| T, B, I, H | cell | mode | {' | '.join(columns)} |"
    yield "|---" * (3 + len(columns)) + "|"
    for row in rows:
        rates = [f"{rate(row, p):.1f}" if p in row["seconds"] else "" for p in peers]
        found = [f"{ratio(row, 'torch.nn'):.2f}", f"{min(ratio(row, p) for p in others(row)):.2f}"]
        cells = [row["name"], row["case"]["cell"], row["mode"], *rates, *found, f"{ceiling_share(row):.0%}"]
        yield f"| {' | '.join(cells)} |"


def summary(rows: list[dict[str, Any]]) -> Iterable[str]:
    def line(name: str, rows: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> str:
        if not rows:
            return f"{name}: no rows"
        worst = min(rows, key=value)
        mean = geometric_mean(map(value, rows))
        where = f"{worst['case']['cell']} {worst['name']}"
        return f"{name}: geometric mean {mean:.2f}, worst {value(worst):.2f} ({where}), {len(rows)} rows"

    for mode in MODES.values():
        part = [row for row in rows if row["mode"] == mode]
        yield line(f"{mode} to torch.nn", part, lambda row: ratio(row, "torch.nn"))
        for cell in GATES:
            of_cell = [row for row in part if row["case"]["cell"] == cell]
            yield line(f"  {cell}", of_cell, lambda row: ratio(row, "torch.nn"))
        if any(len(others(row)) > 1 for row in part):
            yield line(f"{mode} to the best peer", part, lambda row: min(ratio(row, p) for p in others(row)))
        with_onnx = [row for row in part if "onnxruntime" in row["seconds"]]
        if with_onnx:
            yield line(f"{mode} to onnxruntime", with_onnx, lambda row: ratio(row, "onnxruntime"))
            deployed = [row for row in with_onnx if "elman stream" in row["seconds"]]
            yield line(
                "  weights packed once, as there", deployed, lambda row: stream_ratio(row, "onnxruntime")
            )
        large = [row for row in part if row["case"]["B"] >= 32 and row["case"]["H"] >= 256]
        yield line(f"{mode}, share of sgemm at B ≥ 32, H ≥ 256", large, ceiling_share)


def draw(rows: list[dict[str, Any]], peers: list[str], path: Path) -> None:
    """Ratios to elman by row, a dot for each peer; left of 1 the peer is faster."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(14, 2 + 0.1 * len(rows)), sharex=True, layout="constrained")
    for ax, mode in zip(axes, MODES.values(), strict=True):
        part = [row for row in rows if row["mode"] == mode]
        for peer in peers:
            dots = [(ratio(row, peer), i) for i, row in enumerate(part) if peer in others(row)]
            if dots:
                ax.scatter(*zip(*dots, strict=True), label=peer, s=18, alpha=0.8)
        ax.axvline(1, color="black", linewidth=1)
        ax.set(xscale="log", title=mode, xlabel="time of the peer / time of elman", ylim=(len(part), -1))
        ax.set_yticks(range(len(part)), [f"{row['case']['cell']} {row['name']}" for row in part], fontsize=6)
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="every shape, not the first six alone")
    parser.add_argument(
        "--peers",
        nargs="+",
        default=[],
        help="these too, beside elman, its streams, torch.nn and sgemm; or: all",
    )
    parser.add_argument("--cells", nargs="+", default=list(GATES))
    parser.add_argument("--seconds", type=float, default=1.0, help="for each peer in each row")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE")
    arguments = parser.parse_args()

    every = list(itertools.chain(*PROCESSES))
    wanted = [p for p in every if p in FEW or p in (every if arguments.peers == ["all"] else arguments.peers)]
    peers = installed(wanted)
    for peer in sorted(set(wanted) - set(peers)):
        print(f"not installed, left out: {peer}", file=sys.stderr)
    groups = [[peer for peer in group if peer in peers] for group in PROCESSES]
    workers = [Worker(group) for group in groups if group]
    rows = []
    for shape, cell, backward in itertools.product(
        SHAPES + (MORE if arguments.all else []), arguments.cells, MODES
    ):
        case = Case(cell, *shape)
        rows.append(measure(workers, case, backward, arguments.seconds))
        print(f"{case.cell} {case.name()} {MODES[backward]}", rows[-1]["errors"] or "", file=sys.stderr)
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1))
    for worker in workers:
        worker.close()
    shown = [peer for peer in every if peer in peers]
    print("\n".join(table(rows, shown)), "\n".join(summary(rows)), sep="\n\n")
    if arguments.picture:
        draw(rows, shown, arguments.picture)


if __name__ == "__main__":
    main()
