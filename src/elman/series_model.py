"""The network of the series job: segments → layers → all of the horizon at once.

After SegRNN (Lin et al., 2023): segments of a season are read instead of single values, and every segment of the
forecast starts from the last state with a position of its own, and with what is known of its time. The middle of a
forecast is a mixture of simple forecasts (`windows.bases`), chosen by the network, and what it adds; quantiles lie at
positive distances from it, so they never cross. Knows tensors; nothing of frames, files or training. Its twin without
PyTorch is `series_network`.

Letters: M members, B windows, L values read, H values forecast, S segments read, R segments forecast, E embedding,
U hidden units, K simple forecasts, C numbers put out a step (`series_loss`).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.feedforward import FeedForward
from elman.named_layers import make_layers
from elman.series_loss import width
from elman.windows import Shape, bases, scaled, unpacked

NARROW = -1.0  # so that distances between quantiles begin small
LEAST = 1e-3  # of a window's scale: how narrow a distribution may be


@dataclass(frozen=True)
class SeriesConfig:
    """What a series model is made of."""

    shape: Shape
    quantiles: tuple[float, ...]
    loss: str = "quantile"
    members: int = 1
    cell: str = "gru"
    hidden_size: int = 192
    embedding_size: int = 128
    dropout: float = 0.1
    horizons: float = math.inf  # how many it learned from: values / horizon


class SeriesModel(nn.Module):
    """An ensemble of `members` networks that differ in where they start; each learns as if it were alone."""

    def __init__(self, config: SeriesConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(Member(config) for _ in range(config.members))

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, None]:
        """x (B, ·), as `windows.window` makes it → (M, B, H, C), and no state: windows know nothing of each other."""
        shape = self.config.shape
        values, past, future, static = unpacked(x, shape)
        z, level, scale = (
            torch.from_numpy(a).to(x.device) for a in scaled(values.detach().cpu().numpy(), shape)
        )
        simple = torch.from_numpy(bases(z.cpu().numpy(), shape)).to(x.device)
        read, ahead = segments(z[..., None], past, future, shape)
        found = torch.stack([member(read, ahead, static, simple) for member in self.members])
        return put_out(self.config.loss, found, level[:, :, None], scale[:, :, None]), None


class Member(nn.Module):
    """One network of an ensemble, in the scale of its windows."""

    def __init__(self, config: SeriesConfig) -> None:
        super().__init__()
        self.config = config
        shape, hidden, embedding = config.shape, config.hidden_size, config.embedding_size
        self.embedding = nn.Linear(shape.segment * (1 + shape.past + shape.future), embedding)
        # One step of an RNN has no recurrence: it is a feed-forward layer of what it reads and what it starts from.
        whole, cell = config.cell == "feedforward", config.cell
        self.encoder = Whole(shape, embedding, hidden) if whole else make_layers(cell, embedding, hidden)
        self.decoder = make_layers("rnn" if whole else cell, embedding, hidden)
        self.positions = nn.Parameter(torch.randn(shape.segments, embedding) * 0.1)
        self.future = nn.Linear(shape.segment * shape.future, embedding, bias=False) if shape.future else None
        self.static = nn.Linear(shape.static, embedding, bias=False) if shape.static else None
        self.gate = nn.Linear(hidden, shape.bases)
        self.head = nn.Linear(hidden, shape.segment * width(config.loss, config.quantiles))

    def forward(self, read: Tensor, ahead: Tensor, static: Tensor, simple: Tensor) -> Tensor:
        """read (B, S, ·), ahead (B, R, ·), static (B, ·), simple (B, A, K) → mixture + raw numbers, (B, H, 1 + C)."""
        return self.decode(self.encoder(self.embedded(read, static))[1], ahead, static, simple)

    def embedded(self, read: Tensor, static: Tensor) -> Tensor:
        """What enters the encoder (S, B, E)."""
        found = self.embedding(read)
        if self.static is not None:
            found = found + self.static(static)[:, None]
        return self._dropped(F.silu(found)).transpose(0, 1)

    def decode(self, state: Any, ahead: Tensor, static: Tensor, simple: Tensor) -> Tensor:
        """The encoder's last state → mixture + raw numbers, (B, H, 1 + C)."""
        shape, batch = self.config.shape, len(ahead)
        steps = self.positions[:, None].expand(-1, batch, -1)
        if self.future is not None:
            steps = steps + self.future(ahead).transpose(0, 1)
        if self.static is not None:
            steps = steps + self.static(static)
        start = (
            tuple(s.repeat(1, shape.segments, 1) for s in state)
            if isinstance(state, tuple)
            else state.repeat(1, shape.segments, 1)
        )
        y = self._dropped(
            self.decoder(steps.reshape(1, shape.segments * batch, -1), start)[0][0]
        )  # (R * B, U)
        chosen = self.gate(y).softmax(-1).view(shape.segments, batch, 1, -1).transpose(0, 1)
        raw = self.head(y).view(shape.segments, batch, shape.segment, -1).transpose(0, 1)
        mixed = (simple.view(batch, shape.segments, shape.segment, -1) * chosen).sum(-1, keepdim=True)
        found = torch.cat((mixed.expand(*raw.shape[:-1], 1), raw), -1)
        return found.reshape(batch, shape.segments * shape.segment, -1)[:, : shape.horizon]

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)


class Whole(nn.Module):
    """Without recurrence: a feed-forward layer that sees all segments at once."""

    def __init__(self, shape: Shape, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.layer = FeedForward(input_size, hidden_size, window=shape.input_length // shape.segment)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (S, B, E) → the output of the last step (1, B, U), twice: it is what the decoder starts from, too."""
        y, _ = self.layer(x[-1:], x[:-1])
        return y, y


def segments(z: Any, past: Any, future: Any, shape: Shape) -> tuple[Any, Any]:
    """z (B, L, 1), past (B, L, P), future (B, L + A, F) → what is read (B, S, segment * (1 + P + F)) and what is known
    of the time ahead (B, R, segment * F)."""
    batch, length = len(z), shape.input_length
    read = torch.cat((z, past, future[:, :length]), -1)
    return (
        read.reshape(batch, -1, shape.segment * read.shape[-1]),
        future[:, length:].reshape(batch, shape.segments, shape.segment * shape.future),
    )


def put_out(loss: str, found: Tensor, level: Tensor, scale: Tensor) -> Tensor:
    """Mixtures and raw numbers (..., 1 + C) in the scale of windows → what `series_loss` says, in the values' own."""
    mixed, raw = found[..., :1], found[..., 1:]
    if loss == "quantile":
        return spread(mixed, raw) * scale + level
    middle = (mixed + raw[..., :1]) * scale + level
    if loss == "student_t":
        width = (F.softplus(raw[..., 1:2] + NARROW) + LEAST) * scale
        return torch.cat((middle, width, 2 + F.softplus(raw[..., 2:])), -1)
    if loss == "negative_binomial":
        mean = scale * F.softplus(middle / scale) + LEAST
        return torch.cat((mean, F.softplus(raw[..., 1:] + NARROW) + LEAST), -1)
    return middle


def spread(mixed: Tensor, raw: Tensor) -> Tensor:
    """mixed (..., 1) and raw (..., Q) → quantiles (..., Q), ascending: the middle one is mixed + raw, and each further
    one lies softplus(raw) beyond its neighbour."""
    middle = raw.shape[-1] // 2
    centre = mixed + raw[..., middle : middle + 1]
    distances = F.softplus(raw + NARROW)
    below = distances[..., :middle].flip(-1).cumsum(-1).flip(-1)
    above = distances[..., middle + 1 :].cumsum(-1)
    return torch.cat((centre - below, centre, centre + above), -1)
