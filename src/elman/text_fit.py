"""The part of the text job that needs PyTorch: what is trained on codes, and how that is measured.

Knows codes and a model; the text they came from and the file they go to are `text`'s.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from elman import __version__
from elman.checkpoint import ModelFile
from elman.corpus import Corpus
from elman.data import Batches, Codes
from elman.model import Model, ModelConfig
from elman.schedule import Settings
from elman.sizes import Sizes
from elman.training import Job, Result, SeededRun
from elman.validation import Measure

_PART = 1_000  # characters to a stream when measuring, until there are _STREAMS
_STREAMS = 64
_WARM_UP = 256  # characters read before a stream's own, uncounted, since its state starts from zero
_LOGITS = 4_000_000  # at a time: bounds the memory


@dataclass(frozen=True)
class TextRun(SeededRun):
    """One run of the text job."""

    corpus: Corpus
    cell: str
    sizes: Sizes
    tied: bool
    settings: Settings
    seed: int
    keep: Callable[[ModelFile], None] | None

    @property
    def config(self) -> ModelConfig:
        """The model's part of the sizes."""
        s = self.sizes
        return ModelConfig(
            self.corpus.codec.size,
            self.cell,
            s.hidden_size,
            s.num_layers,
            s.embedding_size,
            s.dropout,
            self.tied,
        )

    def describe(self) -> dict[str, Any]:
        """What a run must share with another to continue it."""
        about = {"cell": self.cell, "tied": self.tied, "seed": self.seed} | self.settings.as_dict()
        return about | self.sizes.as_dict() | self.corpus.identity()

    def _job(self) -> Job:
        codes, border = self.corpus.codes, self.corpus.border
        model = Model(self.config)
        start_from_frequencies(model, codes[:border])
        batches = Batches(codes[:border], self.sizes.batch_size, self.sizes.chunk_length, self.seed)
        return Job(
            model, mean_nats, batches, measure(codes, border, self.corpus.codec.size), len(codes) - border
        )

    def model_file(self, result: Result) -> ModelFile:
        tensors = result.weights | self.corpus.baseline.to_tensors()
        codec, by = self.corpus.codec.to_config(), __version__
        return ModelFile("text", tensors, asdict(self.config), codec, self._figures(result), by)

    def _figures(self, result: Result) -> dict[str, Any]:
        """The model file's training section. Losses are in nats per character."""
        text = self.corpus.text
        return result.figures(self.settings) | {
            "characters_seen": result.items,
            "characters_per_second": round(result.items / max(result.seconds, 1e-3)),
            "validation_characters": result.validation_items,
            "baselines": self.corpus.to_beat,
            "data": {"name": text.name, "bytes": text.size, "characters": len(self.corpus.codes)},
            "settings": self.settings.as_dict() | self.sizes.as_dict() | {"seed": self.seed},
        }


def mean_nats(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean -log p of targets (T, B) under logits (T * B, V)."""
    return F.cross_entropy(logits, targets.flatten())


def measure(codes: Codes, border: int, vocabulary: int) -> Measure:
    """The measure of the codes from `border` on: nats, by streams side by side, as if read in one.

    A part of them is taken from all over: text differs from place to place.
    """

    def run(model: nn.Module, items: int | None) -> Iterator[tuple[float, int]]:
        whole = len(codes) - border
        count = whole if items is None else min(items, whole)
        streams = min(_STREAMS, max(1, count // _PART))
        length = -(-count // streams)
        spacing = max(length, whole // streams)
        starts = border + spacing * np.arange(streams)
        warm_up, state = min(_WARM_UP, border - 1), None
        if warm_up:
            _, state = model(_rows(codes, starts - warm_up - 1, warm_up, model), state)
        steps = max(16, min(256, _LOGITS // (streams * vocabulary)))
        for at in range(0, length, steps):
            width = min(steps, length - at)
            rows = _rows(codes, starts + at - 1, width + 1, model)
            logits, state = model(rows[:-1], state)
            nats = F.cross_entropy(logits, rows[1:].flatten(), reduction="none").view(width, streams)
            own = at + np.arange(width)[:, None] + length * np.arange(streams) < count
            yield float(nats[torch.from_numpy(own)].sum()), int(own.sum())

    return run


def _rows(codes: Codes, starts: Codes, steps: int, model: nn.Module) -> torch.Tensor:
    """(steps, B) codes from each of starts (B,) on; beyond the end the last one repeats."""
    places = starts + np.arange(steps)[:, None]
    rows = torch.from_numpy(np.take(codes, places, mode="clip").astype(np.int64))
    return rows.to(next(model.parameters()).device)


@torch.no_grad()
def start_from_frequencies(model: Model, codes: Codes) -> None:
    """The head's bias starts as log frequency, so that the first steps need not learn it."""
    sample = codes[:: max(1, len(codes) // 1_000_000)]
    counts = np.bincount(sample, minlength=model.config.vocabulary) + 0.1
    model.head.bias.copy_(torch.from_numpy(np.log(counts / counts.sum())))
