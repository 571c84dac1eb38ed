"""The network of the classification job: embedding → layers → pooling over true lengths → head.

Knows tensors; nothing of texts, files or training. Its twin without PyTorch is `class_network`.

Letters: T steps of the longest text, B texts, V symbols, E embedding, H hidden units of a direction, D directions, C classes.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.data import ElmanError
from elman.layers import GRU, LSTM, RNN

CELLS: dict[str, Any] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
POOLINGS = ("last", "mean", "max", "attention")


@dataclass(frozen=True)
class ClassConfig:
    """What a classifier is made of. `several`: a text may have any number of labels.

    dropout: of embeddings and of what is pooled; word_dropout: share of the vocabulary that a step does without (Gal and
    Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016).
    """

    vocabulary: int
    classes: int
    several: bool = False
    cell: str = "lstm"
    hidden_size: int = 128
    num_layers: int = 1
    embedding_size: int = 128
    bidirectional: bool = True
    pooling: str = "max"
    dropout: float = 0.4
    word_dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ElmanError(f"unknown pooling {self.pooling!r}: choose {', '.join(POOLINGS)}.")


class ClassModel(nn.Module):
    """Logits (B, C) of texts."""

    def __init__(self, config: ClassConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size * (1 + config.bidirectional)
        self.embedding = nn.Embedding(config.vocabulary, config.embedding_size, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=0.1)
        between = config.dropout if config.num_layers > 1 else 0.0
        self.layers = CELLS[config.cell](
            config.embedding_size, config.hidden_size, config.num_layers, dropout=between,
            bidirectional=config.bidirectional,
        )  # fmt: skip
        self.attention = nn.Linear(width, 1, bias=False) if config.pooling == "attention" else None
        self.head = nn.Linear(width, config.classes)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, None]:
        """x (1 + T, B): lengths, and below them codes, padded with 0 → logits (B, C), and no state."""
        lengths, codes = x[0].long(), x[1:].long()
        y, state = self.layers(self._embedded(codes), lengths=lengths)
        pooled = self.pooled(y, state, lengths)
        return self.head(F.dropout(pooled, self.config.dropout, self.training)), None

    def _embedded(self, codes: Tensor) -> Tensor:
        e = self.embedding(codes)
        if not self.training:
            return e
        kept = 1 - self.config.word_dropout
        rows = torch.empty(len(self.embedding.weight), 1, device=e.device).bernoulli_(kept) / kept
        columns = F.dropout(torch.ones_like(e[:1]), self.config.dropout)  # the same for all steps of a text
        return e * F.embedding(codes, rows) * columns

    def pooled(self, y: Tensor, state: Any, lengths: Tensor) -> Tensor:
        """y (T, B, D H), zero past the ends → (B, D H)."""
        kind = self.config.pooling
        if kind == "mean":
            return y.sum(0) / lengths[:, None]
        if kind == "last":
            h = state[0] if isinstance(state, tuple) else state
            return h[-2:].transpose(0, 1).flatten(1) if self.config.bidirectional else h[-1]
        past = torch.arange(len(y), device=y.device)[:, None] >= lengths
        if kind == "max":
            return y.masked_fill(past[..., None], -torch.inf).amax(0)
        assert self.attention is not None
        weights = self.attention(y).masked_fill(past[..., None], -torch.inf).softmax(0)
        return (weights * y).sum(0)
