"""What a classifier is made of. Torch-free, so that a bad value is refused before anything slow is imported."""

from dataclasses import dataclass

from elman.data import ElmanError
from elman.sizes import COMPARED, check_sizes

POOLINGS = ("attention", "mean", "max", "last")
_SHARES = ("dropout", "embedding_dropout", "word_dropout")


@dataclass(frozen=True)
class ClassConfig:
    """Sizes and dropouts of a classifier's network. several: a text may have any number of labels.

    pooling: what the head sees of all steps: a weighted mean whose weights are learned, the mean or the largest of each
    hidden unit, or the last state of each direction. dropout: of what is pooled; embedding_dropout: of the
    numbers of an embedding, one mask for all steps of a text; word_dropout: share of the vocabulary that a step does
    without (both: Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks",
    2016).

    Raises ElmanError for an unknown cell or pooling, sizes below 1, and dropouts outside [0, 1).
    """

    vocabulary: int
    classes: int
    several: bool = False
    cell: str = "lstm"
    hidden_size: int = 128
    num_layers: int = 1
    embedding_size: int = 128
    bidirectional: bool = True
    pooling: str = "attention"
    dropout: float = 0.5
    embedding_dropout: float = 0.3
    word_dropout: float = 0.2

    def __post_init__(self) -> None:
        check_sizes(
            self.cell, COMPARED, hidden_size=self.hidden_size, num_layers=self.num_layers,
            embedding_size=self.embedding_size,
        )  # fmt: skip
        for name in _SHARES:
            share = getattr(self, name)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
                raise ElmanError(f"{name} must be a number from 0 to below 1, not {share!r}.")
        if self.pooling not in POOLINGS:
            raise ElmanError(f"unknown pooling {self.pooling!r}: choose one of {', '.join(POOLINGS)}.")
        if not isinstance(self.bidirectional, bool):
            raise ElmanError(f"bidirectional must be True or False, not {self.bidirectional!r}.")

    @property
    def width(self) -> int:
        """Hidden units of all directions."""
        return self.hidden_size * (2 if self.bidirectional else 1)
