"""The network of the series job: segments → layers → all of the horizon at once, as quantiles.

After SegRNN (Lin et al., 2023): segments of a season are read instead of single values, and every segment of the
forecast starts from the last state with a position of its own. The middle of a forecast is a mixture of simple
forecasts (`windows.bases`), chosen by the network, and what it adds; the other quantiles lie at positive distances, so
they never cross. Knows tensors; nothing of frames, files or training. Its twin without PyTorch is `series_network`.

Letters: B windows, L values read, H values forecast, S segments read, R segments forecast, E embedding, U hidden units,
K simple forecasts, Q quantiles.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.layers import GRU, LSTM, RNN
from elman.windows import Shape, bases, scaled

CELLS: dict[str, Any] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
NARROW = -1.0  # so that distances between quantiles begin small


@dataclass(frozen=True)
class SeriesConfig:
    """What a series model is made of."""

    shape: Shape
    quantiles: tuple[float, ...]
    cell: str = "gru"
    hidden_size: int = 192
    embedding_size: int = 128
    dropout: float = 0.1


class SeriesModel(nn.Module):
    """Quantiles of the values that follow each window."""

    def __init__(self, config: SeriesConfig) -> None:
        super().__init__()
        self.config = config
        shape, hidden, count = config.shape, config.hidden_size, len(config.quantiles)
        self.embedding = nn.Linear(shape.segment, config.embedding_size)
        self.encoder = CELLS[config.cell](config.embedding_size, hidden)
        self.decoder = CELLS[config.cell](config.embedding_size, hidden)
        self.positions = nn.Parameter(torch.randn(shape.segments, config.embedding_size) * 0.1)
        self.gate = nn.Linear(hidden, shape.bases)
        self.head = nn.Linear(hidden, shape.segment * count)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, None]:
        """x (B, L) → quantiles (B, H, Q), and no state: windows know nothing of each other."""
        shape, count = self.config.shape, len(self.config.quantiles)
        z, level, scale = (torch.from_numpy(a).to(x.device) for a in scaled(x.detach().cpu().numpy(), shape))
        simple = torch.from_numpy(bases(z.cpu().numpy(), shape)).to(x.device)
        batch, segments = len(x), shape.segments
        embedded = F.silu(self.embedding(z.view(batch, -1, shape.segment)))
        _, state = self.encoder(self._dropped(embedded).transpose(0, 1))
        start = (
            tuple(s.repeat(1, segments, 1) for s in state)
            if isinstance(state, tuple)
            else state.repeat(1, segments, 1)
        )
        steps = self.positions.repeat_interleave(batch, 0)[None]
        y = self._dropped(self.decoder(steps, start)[0][0])  # (R * B, U), segment by segment
        chosen = self.gate(y).softmax(-1).view(segments, batch, 1, -1).transpose(0, 1)
        raw = self.head(y).view(segments, batch, shape.segment, count).transpose(0, 1)
        mixed = (simple.view(batch, segments, shape.segment, -1) * chosen).sum(-1)
        found = spread(mixed, raw).reshape(batch, -1, count)[:, : shape.horizon]
        return found * scale[:, :, None] + level[:, :, None], None

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)


def spread(mixed: Tensor, raw: Tensor) -> Tensor:
    """mixed (..., ) and raw (..., Q) → quantiles (..., Q), ascending: the middle one is mixed + raw, and each further
    one lies softplus(raw) beyond its neighbour."""
    middle = raw.shape[-1] // 2
    centre = (mixed + raw[..., middle])[..., None]
    distances = F.softplus(raw + NARROW)
    below = distances[..., :middle].flip(-1).cumsum(-1).flip(-1)
    above = distances[..., middle + 1 :].cumsum(-1)
    return torch.cat((centre - below, centre, centre + above), -1)
