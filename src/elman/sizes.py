"""Model and training sizes that suit a text and a budget, and the checks of those a user gives instead.

Torch-free, so that a bad size is refused before anything slow is imported.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from elman.data import ElmanError

CELLS = ("lstm", "gru", "rnn")
COMPARED = (*CELLS, "mingru", "feedforward")  # the last two train, but nothing runs them without PyTorch

_WHOLE = {
    "hidden_size": 1,
    "num_layers": 1,
    "embedding_size": 1,
    "batch_size": 1,
    "chunk_length": 1,
    "seed": 0,
}


@dataclass(frozen=True)
class Sizes:
    """What `sensible_sizes` chooses. batch_size counts streams, chunk_length counts steps."""

    hidden_size: int
    num_layers: int
    embedding_size: int
    dropout: float
    learning_rate: float
    batch_size: int
    chunk_length: int

    def override(self, **chosen: Any) -> "Sizes":
        """The same with every value in `chosen` that is not None put in its place."""
        return replace(self, **{name: value for name, value in chosen.items() if value is not None})

    def as_dict(self) -> dict[str, float]:
        """The sizes by name, JSON-able."""
        return asdict(self)


def sensible_sizes(
    characters: int, vocabulary: int, minutes: float | None = None, epochs: float | None = None
) -> Sizes:
    """Sizes for a training text of `characters`, `vocabulary` symbols, and a budget: minutes or epochs.

    Less text asks for a smaller model and more dropout, a longer budget for a larger model: it then passes
    over the text more often, so dropout grows with the number of passes too.
    """
    minutes = minutes if minutes is not None else (epochs or 1) * characters / 4e6
    by_text = 16 * characters ** (1 / 4.4)  # 384 at a million characters
    by_time = 384 * (max(minutes, 0.05) / 3) ** 0.3
    hidden = _round_to(32, min(max(64, min(by_text * 1.4, by_time)), 1024))
    passes = minutes * 60 * 60_000 * (384 / hidden) ** 1.5 / characters
    dropout = min(0.5, max(0.0, 0.15 * math.log2(max(1.0, passes / 5))))
    return Sizes(
        hidden_size=hidden,
        num_layers=1,
        embedding_size=min(128, _round_to(8, max(16, 2 * math.sqrt(vocabulary) * 4))),
        dropout=round(dropout, 2),
        learning_rate=4e-3 * min(1.0, (384 / hidden) ** 0.5),
        batch_size=max(1, min(32, characters // 500)),
        chunk_length=64,
    )


def check_sizes(cell: str, cells: Sequence[str] = CELLS, /, **values: float | None) -> None:
    """Raises ElmanError for a cell that is not among `cells`, or a size that makes no sense. None means: to be
    chosen."""
    if cell not in cells:
        why = "no model file can hold the" if cell in COMPARED else "unknown"
        raise ElmanError(f"{why} cell {cell!r}: choose one of {', '.join(cells)}.")
    for name, value in values.items():
        if value is not None:
            _check_value(name, value)


def _check_value(name: str, value: float) -> None:
    whole = name in _WHOLE
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ElmanError(f"{name} must be a {'whole ' if whole else ''}number, not {value!r}.")
    if whole and value < _WHOLE[name]:
        raise ElmanError(f"{name} must be at least {_WHOLE[name]}, not {value}.")
    if name == "dropout" and not 0 <= value < 1:
        raise ElmanError(f"dropout must be at least 0 and below 1, not {value}.")
    if name == "averaging" and not 0 <= value < 1:
        raise ElmanError(f"averaging must be at least 0 and below 1, not {value}.")
    if name in ("learning_rate", "minutes", "epochs") and not 0 < value < math.inf:
        raise ElmanError(f"{name} must be above 0, not {value}.")


def _round_to(multiple: int, value: float) -> int:
    return max(multiple, multiple * round(value / multiple))
