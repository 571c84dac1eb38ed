"""The layer without recurrence: what it puts out is of a fixed window of its input alone.

What recurrent layers are compared with; it has their interface, so that it can stand in their place. Knows tensors.

Letters: T steps, B sequences, I inputs, H hidden units, D directions (1 or 2), k inputs in a window.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.layout import Lengths


class FeedForward(nn.Module):
    """y[t] = tanh(W [x[t-k+1] … x[t]] + b), with zeros before the first input (Bengio et al., "A neural probabilistic
    language model", 2003).

    Further layers see one step of the layer below them, so that the window stays k. The backward direction's is
    x[t] … x[t+k-1]. Dropout is between layers. First weights are Glorot's, biases 0.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
        window: int = 1,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.dropout, self.bidirectional, self.window = dropout, bidirectional, window
        self._suffixes = ("", "_reverse") if bidirectional else ("",)
        inputs = window * input_size
        for layer in range(num_layers):
            for suffix in self._suffixes:
                weight = nn.init.xavier_uniform_(torch.empty(hidden_size, inputs))
                self.register_parameter(f"weight_l{layer}{suffix}", nn.Parameter(weight))
                self.register_parameter(f"bias_l{layer}{suffix}", nn.Parameter(torch.zeros(hidden_size)))
            inputs = hidden_size * len(self._suffixes)

    def forward(
        self, x: Tensor, state: Tensor | None = None, *, lengths: Lengths = None
    ) -> tuple[Tensor, Tensor]:
        """x (T, B, I) and the state, the k - 1 inputs before it (k - 1, B, I), None for zeros → y (T, B, D H), the
        next state. lengths (B,): y is 0 past a sequence's end, and what x holds there is not seen."""
        there = None
        if lengths is not None:
            ends = torch.as_tensor(lengths, device=x.device)
            there = (torch.arange(len(x), device=x.device)[:, None] < ends)[..., None]
            x = x * there
        beyond = x.new_zeros(self.window - 1, *x.shape[1:])
        seen = torch.cat((beyond if state is None else state, x))
        inputs = [self._windows(seen)]
        if self.bidirectional:
            inputs.append(self._windows(torch.cat((x, beyond))))
        y = self._layer(0, inputs)
        for layer in range(1, self.num_layers):
            y = F.dropout(y, self.dropout, self.training)
            y = self._layer(layer, [y] * len(self._suffixes))
        return y if there is None else y * there, seen[len(x) :]

    def forward_tokens(
        self, tokens: Tensor, embedding: Tensor, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`forward(F.embedding(tokens, embedding), state)`. tokens (T, B) integers; embedding (V, I)."""
        return self(F.embedding(tokens, embedding), state)  # type: ignore[no-any-return]

    def _windows(self, x: Tensor) -> Tensor:
        """x (T + k - 1, B, I) → (T, B, k I)."""
        steps = len(x) - self.window + 1
        return torch.cat([x[j : j + steps] for j in range(self.window)], -1) if self.window > 1 else x

    def _layer(self, layer: int, inputs: Sequence[Tensor]) -> Tensor:
        """What each direction sees → (T, B, D H)."""
        found = []
        for x, suffix in zip(inputs, self._suffixes, strict=True):
            weight, bias = (getattr(self, f"{name}_l{layer}{suffix}") for name in ("weight", "bias"))
            found.append(torch.tanh(F.linear(x, weight, bias)))
        return torch.cat(found, -1)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, window={self.window}"
