"""How many characters a second a text model learns from, with elman's layers and with torch.nn's in the same loop.

    python benchmarks/training.py FILE [--minutes 3] [--seconds 15] [--rounds 3]

Sizes are those that `elman train text FILE --minutes …` would choose. The two take turns; medians over the rounds.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from elman.corpus import Corpus
from elman.data import Batches, TextFile
from elman.model import Model, ModelConfig
from elman.sizes import Sizes, sensible_sizes
from elman.text_fit import mean_nats


class TorchLSTM(nn.LSTM):
    """torch.nn's layer under the interface that the model uses."""

    def forward_tokens(self, tokens: torch.Tensor, embedding: torch.Tensor, state: Any = None) -> Any:
        return self(nn.functional.embedding(tokens, embedding), state)


def loop(corpus: Corpus, sizes: Sizes, theirs: bool) -> Any:
    """Endless training steps; yields the characters of each."""
    model = Model(
        ModelConfig(
            corpus.codec.size,
            hidden_size=sizes.hidden_size,
            embedding_size=sizes.embedding_size,
            dropout=sizes.dropout,
        )
    )
    if theirs:
        model.layers = TorchLSTM(sizes.embedding_size, sizes.hidden_size)  # type: ignore[assignment]
    optimizer = torch.optim.AdamW(model.parameters(), lr=sizes.learning_rate, fused=True)
    state = None
    for batch in Batches(corpus.codes[: corpus.border], sizes.batch_size, sizes.chunk_length, 0).iterate():
        targets = torch.from_numpy(batch.targets)
        logits, (h, c) = model(torch.from_numpy(batch.inputs), state)
        state = h.detach(), c.detach()
        optimizer.zero_grad()
        mean_nats(logits, targets).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield targets.numel()


def rate(steps: Any, seconds: float) -> float:
    start, characters = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        characters += next(steps)
    return characters / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--minutes", type=float, default=3.0, help="the budget that sizes are chosen for")
    parser.add_argument("--seconds", type=float, default=15.0, help="for each turn")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    corpus = Corpus.read(TextFile(arguments.file))
    sizes = sensible_sizes(corpus.border, corpus.codec.size, minutes=arguments.minutes)
    loops = {"torch.nn": loop(corpus, sizes, theirs=True), "elman": loop(corpus, sizes, theirs=False)}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for steps in loops.values():
        rate(steps, 1.0)
    for _ in range(arguments.rounds):
        for name, steps in loops.items():
            rates[name].append(rate(steps, arguments.seconds))
    found = {name: statistics.median(r) for name, r in rates.items()}
    print(
        f"LSTM of {sizes.hidden_size} units, {sizes.batch_size} streams, {sizes.chunk_length} characters a step"
    )
    theirs, ours = found["torch.nn"], found["elman"]
    print(f"torch.nn {theirs:,.0f} chars/s, elman {ours:,.0f}, ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
