"""How a batch of sequences lies in memory: padded, packed, or padded with lengths; and the way in and out of it.

The recurrences read rows (N, ·), time-major, where step t has `sizes[t]` rows. `Layout` makes such rows of what a user
gives, and gives results back in the user's own form. It knows nothing of layers.

Letters: T steps, B sequences as the user counts them, K of them with at least one step, N rows.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

Lengths = Tensor | Sequence[int] | None


class Layout:
    """batch: B. count: K. sizes: rows of each step, or None: B rows at every step."""

    batch: int
    count: int
    sizes: list[int] | None

    def rows(self, x: Any) -> Tensor:
        """What the user gave, or anything laid out like it, as rows (N, ·)."""
        raise NotImplementedError

    def output(self, y: Tensor) -> Any:
        """Rows (N, ·) as the user gave theirs; 0 past a sequence's end."""
        raise NotImplementedError

    def state_in(self, state: Tensor) -> Tensor:
        """(L, B, ·) as the user has them → (L, K, ·), those with steps, in the rows' order."""
        raise NotImplementedError

    def state_out(self, state: Tensor, initial: Tensor) -> Tensor:
        """(L, K, ·) → (L, B, ·), in the user's order; those without steps as in `initial` (L, B, ·)."""
        raise NotImplementedError


class Padded(Layout):
    """(T, B, ·), (B, T, ·) or, unbatched, (T, ·)."""

    sizes: list[int] | None = None

    def __init__(self, x: Tensor, batch_first: bool) -> None:
        self.single = x.dim() == 2
        self.batch_first = batch_first and not self.single
        self.steps, self.batch = (
            (x.shape[0], 1) if self.single else x.shape[:2] if not batch_first else x.shape[1::-1]
        )
        self.count = self.batch

    def rows(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1) if self.batch_first else x
        return x if self.single else x.flatten(0, 1)

    def output(self, y: Tensor) -> Tensor:
        if self.single:
            return y
        y = y.view(self.steps, self.batch, y.shape[1])
        return y.transpose(0, 1) if self.batch_first else y

    def state_in(self, state: Tensor) -> Tensor:
        return state.unsqueeze(1) if self.single else state

    def state_out(self, state: Tensor, initial: Tensor) -> Tensor:
        return state.squeeze(1) if self.single else state


class Ragged(Padded):
    """Padded, of which each sequence has so many steps. Only those are rows: the cost follows them."""

    def __init__(self, x: Tensor, batch_first: bool, lengths: list[int]) -> None:
        super().__init__(x, batch_first)
        longest_first = sorted(range(self.batch), key=lambda b: -lengths[b])
        self.order = torch.tensor(longest_first, device=x.device)
        self.restore = torch.argsort(self.order)
        sorted_lengths = torch.tensor([lengths[b] for b in longest_first])
        self.count = int((sorted_lengths > 0).sum())
        there = sorted_lengths[None, : self.count] > torch.arange(int(sorted_lengths.max()))[:, None]
        self.sizes = there.sum(1).tolist()
        t, b = there.nonzero().to(x.device).unbind(1)
        b = self.order[b]
        self.index = b * self.steps + t if self.batch_first else t * self.batch + b

    def rows(self, x: Tensor) -> Tensor:
        return (x if self.single else x.flatten(0, 1)).index_select(0, self.index)

    def output(self, y: Tensor) -> Tensor:
        whole = y.new_zeros(self.steps * self.batch, y.shape[1]).index_copy(0, self.index, y)
        if self.single:
            return whole
        outer = (self.batch, self.steps) if self.batch_first else (self.steps, self.batch)
        return whole.view(*outer, y.shape[1])

    def state_in(self, state: Tensor) -> Tensor:
        return super().state_in(state).index_select(1, self.order[: self.count])

    def state_out(self, state: Tensor, initial: Tensor) -> Tensor:
        if self.count < self.batch:
            initial = super().state_in(initial)
            ended = initial.index_select(1, self.order[self.count :]).to(state.dtype)
            state = torch.cat((state, ended), dim=1)
        state = state.index_select(1, self.restore)
        return state.squeeze(1) if self.single else state


class Masked(Padded):
    """Padded, with lengths whose values are not known while a graph is traced: every step is computed, and what lies
    past a sequence's end is left out afterwards."""

    def __init__(self, x: Tensor, batch_first: bool, lengths: Tensor) -> None:
        super().__init__(x, batch_first)
        self.lengths = lengths
        t = torch.arange(self.steps, device=x.device)[:, None]
        self.there = t < lengths
        self.turned = torch.where(self.there, lengths - 1 - t, t)  # (T, B): its own inverse

    def rows(self, x: Tensor) -> Tensor:
        return self._cut(super().rows(x))

    def output(self, y: Tensor) -> Any:
        return super().output(self._cut(y))

    def _cut(self, rows: Tensor) -> Tensor:
        return torch.where(self.there.flatten()[:, None], rows, torch.zeros_like(rows))

    def turn(self, rows: Tensor) -> Tensor:
        """Rows (N, ·), each sequence from its end to its start."""
        index = self.turned * self.batch + torch.arange(self.batch, device=rows.device)
        return rows.index_select(0, index.flatten())

    def last(self, state: Tensor, initial: Tensor) -> Tensor:
        """Of a state at every step (N, H), the one at each sequence's end (B, H)."""
        at = (self.lengths - 1).clamp(min=0) * self.batch + torch.arange(self.batch, device=state.device)
        return torch.where((self.lengths > 0)[:, None], state.index_select(0, at), initial)


class Packed(Layout):
    """torch's PackedSequence."""

    def __init__(self, packed: PackedSequence) -> None:
        self.data, self.batch_sizes, self.order, self.restore = packed
        self.sizes: list[int] | None = self.batch_sizes.tolist()
        assert self.sizes is not None
        if self.data.dim() != 2:
            raise RuntimeError(f"input must have 2 dimensions, got {self.data.dim()}")
        if sum(self.sizes) != len(self.data) or self.sizes != sorted(self.sizes, reverse=True):
            raise RuntimeError(
                f"batch_sizes must not increase and must sum to the {len(self.data)} rows of data, got {self.sizes}; "
                "make packed sequences with torch.nn.utils.rnn.pack_padded_sequence or pack_sequence"
            )
        self.batch = self.count = self.sizes[0]

    def rows(self, x: Any) -> Tensor:
        data: Tensor = x.data
        return data

    def output(self, y: Tensor) -> PackedSequence:
        return PackedSequence(y, self.batch_sizes, self.order, self.restore)

    def state_in(self, state: Tensor) -> Tensor:
        return state if self.order is None else state.index_select(1, self.order)

    def state_out(self, state: Tensor, initial: Tensor) -> Tensor:
        return state if self.restore is None else state.index_select(1, self.restore)


def layout_of(x: Any, batch_first: bool, lengths: Lengths) -> Layout:
    """Of a padded input (2-D or 3-D) or a PackedSequence. Raises TypeError or ValueError for lengths that are none."""
    if isinstance(x, PackedSequence):
        if lengths is not None:
            raise ValueError("lengths: a PackedSequence has its own; give lengths with a padded input alone")
        return Packed(x)
    padded = Padded(x, batch_first)
    if isinstance(lengths, Tensor) and torch.compiler.is_compiling():
        _check_numbers(lengths, padded.batch)
        return Masked(x, batch_first, lengths.reshape(-1).to(x.device, torch.int64))
    found = check_lengths(lengths, padded.steps, padded.batch)
    if found is None:
        return padded
    if torch.compiler.is_compiling():
        return Masked(x, batch_first, torch.tensor(found, device=x.device))
    return Ragged(x, batch_first, found)


def _check_numbers(lengths: Tensor, batch: int) -> None:
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths must be whole numbers, got a tensor of {lengths.dtype}")
    if lengths.dim() > 1 or lengths.numel() != batch:
        raise ValueError(
            f"lengths must be one number a sequence, ({batch},), got the shape {tuple(lengths.shape)}"
        )


def check_lengths(lengths: Lengths, steps: int, batch: int) -> list[int] | None:
    """Raises TypeError or ValueError, naming the argument and the value. None where every sequence has all T steps."""
    if lengths is None:
        return None
    if isinstance(lengths, Tensor):
        _check_numbers(lengths, batch)
        found = lengths.reshape(-1).tolist()
    else:
        found = list(lengths) if isinstance(lengths, Sequence) else [lengths]
        for value in found:
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"lengths must be whole numbers, got {value!r}")
    if len(found) != batch:
        raise ValueError(f"lengths must be one number for each of the {batch} sequences, got {len(found)}")
    for b, length in enumerate(found):
        if length < 0 or length > steps:
            raise ValueError(
                f"lengths must lie between 0 and the {steps} steps of the input, got {length} at {b}"
            )
    return None if all(length == steps for length in found) else found


def reset_flags(reset: Any, layout: Layout, x: Any, batch_first: bool) -> Tensor | None:
    """(N,) uint8 of `reset`, laid out like the input without its features, or None where nothing is reset.

    Raises TypeError or ValueError, naming the argument.
    """
    if reset is None:
        return None
    packed = isinstance(x, PackedSequence)
    flags = reset.data if isinstance(reset, PackedSequence) else reset
    if not isinstance(flags, Tensor) or flags.dtype != torch.bool:
        got = f"a tensor of {flags.dtype}" if isinstance(flags, Tensor) else type(reset).__name__
        raise TypeError(f"reset must be a tensor of torch.bool, got {got}")
    expected = tuple(x.data.shape[:1] if packed else x.shape[:-1])
    if isinstance(reset, PackedSequence) != packed or tuple(flags.shape) != expected:
        kind = "a PackedSequence like the input" if packed else f"of the shape {expected}"
        raise ValueError(f"reset must be {kind}, got the shape {tuple(flags.shape)}")
    if isinstance(reset, PackedSequence) and not torch.equal(reset.batch_sizes, x.batch_sizes):
        raise ValueError("reset must be packed with the lengths of the input, but its batch_sizes are others")
    rows = layout.rows(reset if packed else flags.unsqueeze(-1))
    return rows.reshape(-1).to(torch.uint8)


def backward_flags(flags: Tensor, sizes: list[int] | None, batch: int) -> Tensor:
    """For the direction that reads from the end: a sequence that begins at a step ends, read backwards, one before."""
    if sizes is None:
        return torch.cat((flags[batch:], flags.new_zeros(batch)))
    found = torch.zeros_like(flags)
    at = 0
    for size, later in pairwise(sizes):
        found[at : at + later] = flags[at + size : at + size + later]
        at += size
    return found
