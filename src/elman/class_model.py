"""The network of the classification job: embedding → layers → pooling over true lengths → head; and the language model
whose embedding and layers it can begin with.

Knows tensors; nothing of texts, files or training. The classifier's twin without PyTorch is `class_network`.

Letters: T steps of the longest text, B texts, V symbols, E embedding, H hidden units of a direction, D directions,
C classes.
"""

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.class_config import ClassConfig
from elman.named_layers import make_layers

T = TypeVar("T")

NEGATIVES = 512  # words that a step of the language model is compared with


def _layers(config: ClassConfig, num_layers: int, bidirectional: bool) -> Any:
    """Without recurrence, a step sees its own word alone: with what pools them, a network over averaged words."""
    beyond: dict[str, Any] = {"forget_bias": 1.0} if config.cell == "lstm" else {}
    return make_layers(
        config.cell, config.embedding_size, config.hidden_size, num_layers, config.dropout, bidirectional,
        init="orthogonal", **beyond,
    )  # fmt: skip


def _embedding(config: ClassConfig) -> nn.Embedding:
    embedding = nn.Embedding(config.vocabulary, config.embedding_size, padding_idx=0)
    nn.init.normal_(embedding.weight, std=0.1)
    with torch.no_grad():
        embedding.weight[0] = 0
    return embedding


def embedded(embedding: nn.Embedding, codes: Tensor, config: ClassConfig, training: bool) -> Tensor:
    """codes (T, B) → (T, B, E), with dropout in training."""
    e: Tensor = embedding(codes)
    if not training:
        return e
    if config.word_dropout:
        kept = 1 - config.word_dropout
        rows = torch.empty(config.vocabulary, 1, device=e.device).bernoulli_(kept) / kept
        e = e * F.embedding(codes, rows)
    if config.embedding_dropout:
        e = e * F.dropout(torch.ones_like(e[:1]), config.embedding_dropout)
    return e


class ClassModel(nn.Module):
    """Logits (B, C) of texts."""

    def __init__(self, config: ClassConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = _embedding(config)
        self.layers = _layers(config, config.num_layers, config.bidirectional)
        self.attention = nn.Linear(config.width, 1, bias=False) if config.pooling == "attention" else None
        self.head = nn.Linear(config.width, config.classes)

    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, None]:
        """x (1 + T, B): lengths, and below them codes, padded with 0 → logits (B, C); no state is carried."""
        lengths, codes = x[0], x[1:]
        return self.logits(embedded(self.embedding, codes, self.config, self.training), lengths), None

    def logits(self, e: Tensor, lengths: Tensor) -> Tensor:
        """Embedded texts (T, B, E) of lengths (B,) → (B, C)."""
        y, _ = self.layers(e, lengths=lengths)
        pooled = F.dropout(self._pooled(y, lengths), self.config.dropout, self.training)
        found: Tensor = self.head(pooled)
        return found

    def _pooled(self, y: Tensor, lengths: Tensor) -> Tensor:
        """y (T, B, D H), zero past the ends → (B, D H)."""
        kind, hidden = self.config.pooling, self.config.hidden_size
        if kind == "mean":
            return y.sum(0) / lengths[:, None]
        if kind == "last":  # of each direction
            ends = y[lengths - 1, torch.arange(y.shape[1], device=y.device), :hidden]
            return torch.cat((ends, y[0, :, hidden:]), 1)
        past = (torch.arange(len(y), device=y.device)[:, None] >= lengths)[..., None]
        if kind == "max":
            return y.masked_fill(past, -torch.inf).amax(0)
        assert self.attention is not None
        weights: Tensor = self.attention(y).masked_fill(past, -torch.inf).softmax(0)
        return (weights * y).sum(0)


class LanguageModel(nn.Module):
    """Predicts each word from those before it and, where the classifier reads both ways, from those after it.

    There is no dropout but between layers: texts are read once or twice, too seldom to be memorised.
    The embedding is the output layer's weight too (Press and Wolf 2017). A classifier begins with the embedding and
    with the layers of `directions`: of one that reads both ways the lowest layer, since higher ones see both sides.
    """

    shares: Tensor
    offset: Tensor

    def __init__(self, config: ClassConfig, counts: Tensor) -> None:
        """counts (V,): how often each word occurs in training; words are drawn accordingly."""
        super().__init__()
        self.config = config
        self.embedding = _embedding(config)
        cast(Any, self.embedding.weight).register_hook(_but_padding)  # the layers read the table itself
        number = 1 if config.bidirectional else config.num_layers
        ways = 2 if config.bidirectional else 1
        self.directions = nn.ModuleList(_layers(config, number, False) for _ in range(ways))
        self.projections = nn.ModuleList(
            nn.Linear(config.hidden_size, config.embedding_size) for _ in range(ways)
        )
        shares = (counts + 0.1).double() / (counts + 0.1).double().sum()
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))  # beyond the log of the word's frequency
        self.register_buffer("shares", shares.float(), persistent=False)
        drawn = torch.ones_like(shares)  # the chance to be among those that are compared
        if config.vocabulary > NEGATIVES:
            drawn = -torch.expm1(NEGATIVES * torch.log1p(-shares))
        self.register_buffer("offset", (shares.log() - drawn.log()).float(), persistent=False)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """x (D, T, B) codes, those of the second way in reverse order → what the next words' embeddings are compared
        with (D, T, B, E), and the state."""
        states = [None] * len(self.directions) if state is None else state
        outputs, after = [], []
        ways: Any = zip(self.directions, self.projections, strict=True)
        for way, (layers, project) in enumerate(ways):
            y, next_state = layers.forward_tokens(x[way], self.embedding.weight, states[way])
            outputs.append(project(y))
            after.append(next_state)
        return torch.stack(outputs), tuple(after)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """An estimate of the mean -log p of targets (D, T, B): each is compared with words drawn by their frequency,
        the same for all (sampled softmax; Jean et al., "On using very large target vocabulary", 2015)."""
        q, wanted = outputs.flatten(0, -2), targets.flatten()
        drawn = torch.multinomial(self.shares, min(NEGATIVES, len(self.shares)))
        place = torch.full_like(self.shares, -1, dtype=torch.long)
        place[drawn] = torch.arange(len(drawn), device=drawn.device)
        bias = self.bias + self.offset
        own = (q * self.embedding(wanted)).sum(-1) + bias[wanted]
        found: Tensor = _compared(q, self.embedding(drawn), bias[drawn], own, place[wanted])
        return found

    def nats(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The exact -log p of each of targets (D, T, B)."""
        logits = F.linear(outputs.flatten(0, -2), self.embedding.weight, self.bias + self.shares.log())
        return F.cross_entropy(logits, targets.flatten(), reduction="none").view(targets.shape)


def _but_padding(gradient: Tensor) -> Tensor:
    gradient[0] = 0
    return gradient


def for_classifier(weights: Mapping[str, T]) -> dict[str, T]:
    """Of a `LanguageModel`'s weights those that `ClassModel` has too, by its names."""
    found = {"embedding.weight": weights["embedding.weight"]}
    for name, value in weights.items():
        for way, suffix in enumerate(("", "_reverse")):
            if name.startswith(f"directions.{way}."):
                found[f"layers.{name.split('.', 2)[2]}{suffix}"] = value
    return found


class _Compared(torch.autograd.Function):
    """The mean -log p of n words among k others and themselves: with few passes over the (n, k) logits."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, w: Tensor, bias: Tensor, own: Tensor, place: Tensor) -> Tensor:
        """q (n, E), w (k, E), bias (k,), own logits (n,), place (n,): which of the k others a word is itself, or -1."""
        z = torch.addmm(bias, q, w.T)
        itself = torch.nonzero(place >= 0)[:, 0]
        z[itself, place[itself]] = -torch.inf
        top = torch.maximum(z.amax(1), own)
        total = z.sub_(top[:, None]).exp_().sum(1) + torch.exp(own - top)
        ctx.save_for_backward(q, w, z, total, torch.exp(own - top) / total)
        return (total.log() + top - own).mean()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        q, w, z, total, p = ctx.saved_tensors
        scale = grad / len(q)
        z = z * (scale / total)[:, None]
        return z @ w, z.T @ q, z.sum(0), scale * (p - 1), None


_compared: Any = _Compared.apply
