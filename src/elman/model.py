"""The model of every job that writes symbols: embedding → layers → head.

Knows sizes and tensors, (T, B) time-major; nothing of text, training or files.

Letters: T steps, B sequences, V symbols, E embedding, H hidden units.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.data import ElmanError
from elman.named_layers import make_layers
from elman.sizes import COMPARED, check_sizes

WINDOW = 16  # symbols that a step of "feedforward" sees


@dataclass(frozen=True)
class ModelConfig:
    """What a model is made of. `tied`: the head's weight is the embedding's, which needs E == H.

    Raises ElmanError for an unknown cell, sizes below 1, dropout outside [0, 1), or tied with E != H.
    """

    vocabulary: int
    cell: str = "lstm"
    hidden_size: int = 384
    num_layers: int = 1
    embedding_size: int = 64
    dropout: float = 0.0
    tied: bool = False

    def __post_init__(self) -> None:
        check_sizes(
            self.cell,
            COMPARED,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            embedding_size=self.embedding_size,
            dropout=self.dropout,
        )
        if self.tied and self.embedding_size != self.hidden_size:
            raise ElmanError(
                f"a tied head needs embedding_size == hidden_size, not {self.embedding_size} and "
                f"{self.hidden_size}. Make them equal, or leave the head separate."
            )


class Model(nn.Module):
    """Logits of the symbol that follows each symbol.

    Dropout is locked: one mask for all steps of a chunk, on the last layer's output; between layers it is the
    layers' own. Recurrent weights start orthogonal, gate by gate (Saxe et al. 2014), and the forget gate open
    (bias 1; Jozefowicz et al. 2015).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.embedding_size)
        sizes = config.embedding_size, config.hidden_size, config.num_layers
        self.layers = make_layers(config.cell, *sizes, config.dropout, window=WINDOW)
        self.head = nn.Linear(config.hidden_size, config.vocabulary)
        if config.tied:
            nn.init.normal_(self.embedding.weight, std=config.embedding_size**-0.5)
            del self.head.weight  # so that neither parameters() nor state_dict() holds it twice
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        hidden = self.config.hidden_size
        for name, parameter in self.layers.named_parameters():
            if name.startswith("weight_hh"):
                for gate in parameter.view(-1, hidden, hidden):
                    nn.init.orthogonal_(gate)
            elif name.startswith("bias"):
                nn.init.zeros_(parameter)
                if self.config.cell == "lstm" and name.startswith("bias_ih"):
                    parameter[hidden : 2 * hidden] = 1.0
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """tokens (T, B) integers and the layers' state, None for zeros -> logits (T * B, V), the next
        state."""
        y, state = self.layers.forward_tokens(tokens, self.embedding.weight, state)
        if self.training and self.config.dropout > 0:
            y = y * F.dropout(torch.ones_like(y[0]), self.config.dropout)
        return self.logits(y.flatten(0, 1)), state

    def logits(self, y: Tensor) -> Tensor:
        """(N, H) of the last layer -> (N, V)."""
        weight = self.embedding.weight if self.config.tied else self.head.weight
        return F.linear(y, weight, self.head.bias)
