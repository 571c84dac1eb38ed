"""Layers by the names that users give them: the recurrent ones, and the one they are compared with."""

from typing import Any

from elman.feedforward import FeedForward
from elman.layers import GRU, LSTM, RNN
from elman.recurrent import MinGRU

_RECURRENT: dict[str, Any] = {"rnn": RNN, "gru": GRU, "lstm": LSTM, "mingru": MinGRU}


def make_layers(
    cell: str,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    dropout: float = 0.0,
    bidirectional: bool = False,
    window: int = 1,
    **beyond: Any,
) -> Any:
    """The layers that `cell`, one of `sizes.COMPARED`, names: x (T, B, I) and a state → y (T, B, D H) and a state.

    dropout: between layers. window: inputs that a step of "feedforward" sees. beyond: options of recurrent layers.
    """
    between = dropout if num_layers > 1 else 0.0  # torch warns of it with one layer
    if cell == "feedforward":
        return FeedForward(input_size, hidden_size, num_layers, between, bidirectional, window)
    return _RECURRENT[cell](
        input_size, hidden_size, num_layers, dropout=between, bidirectional=bidirectional, **beyond
    )
