"""Layers over whole sequences with everything that goes beyond torch.nn: lengths, resets, traces and the options.

`Sequenced` is the loop over layers and directions that `layers` and `recurrent` share. One direction of one layer runs
as an assembled cell (`steps`), or, where nothing but the rows differs from torch.nn, by `cells.run_direction`. Memory
layouts are `layout`'s, equations those of `steps`.

Letters: T steps, B sequences, K of them with at least one step, I inputs, H hidden units, G gates, L layers,
D directions (1 or 2), N rows.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.checkpoint import checkpoint

from elman import ops, program_ops
from elman.layout import Layout, Lengths, Masked, Padded, backward_flags, layout_of, reset_flags
from elman.options import Options
from elman.reference import Affine
from elman.steps import EPSILON, Assembled, Kind, assemble

Trace = dict[str, Any]
"""By name and layer ("hidden_l0", "forget_gate_l1_reverse"): values at every step, laid out like the output."""


class Direction(NamedTuple):
    """The weights of one direction of one layer."""

    w_ih: Tensor  # (G*H, I)
    b_ih: Tensor | None  # (G*H,)
    products: Affine  # recurrent weights and biases, (·*H, H) and (·*H,)
    parameters: Sequence[Tensor] = ()  # the cell's own, each (H,)
    norm_ih: Tensor | None = None  # (G*H,) gains of layer norm
    norm_hh: Tensor | None = None  # (·*H,)


class Part(NamedTuple):
    """Some steps of a batch, to be run in one direction."""

    x: Tensor  # (N, I)
    initial: tuple[Tensor, ...]  # each (K, H)
    sizes: list[int] | None
    flags: Tensor | None  # (N,)
    after_reset: tuple[Tensor, ...]  # each (K, H)
    masks: Tensor | None  # (K, H)
    noise: Tensor | None  # (N, ·*H)


class Outcome(NamedTuple):
    y: Tensor  # (N, H)
    last: list[Tensor]  # each state (K, H)
    shown: dict[str, Tensor]  # each (N, H)


def run_assembled(found: Assembled, names: Sequence[str], d: Direction, part: Part, reverse: bool) -> Outcome:
    """A cell over its rows: project the input, normalise where there are gains, recur."""
    x = part.x
    if d.norm_ih is None or d.norm_hh is None:
        projected, products, parameters = F.linear(x, d.w_ih, d.b_ih), d.products, list(d.parameters)
    else:
        projected = F.layer_norm(F.linear(x, d.w_ih), (len(d.w_ih),), d.norm_ih, eps=EPSILON)
        projected = projected if d.b_ih is None else projected + d.b_ih
        hidden = part.initial[0].shape[1]
        biases = [d.norm_hh.new_zeros(len(w)) if b is None else b for w, b in d.products]
        products = [(w, None) for w, _ in d.products]
        parameters = [*d.parameters, *torch.split(d.norm_hh, hidden), *torch.split(torch.cat(biases), hidden)]
    dtype = d.w_ih.dtype
    # Under autocast the product came out narrow; the recurrence runs in the weights' own dtype.
    initial, after_reset = ([t.to(dtype) for t in states] for states in (part.initial, part.after_reset))
    with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
        result = program_ops.run(
            found.cell,
            projected.to(dtype),
            initial,
            products,
            torch.stack(parameters) if parameters else None,
            part.masks,
            part.noise,
            part.sizes,
            reverse,
            part.flags,
            after_reset,
        )
    shown = {}
    if found.taps:
        shown = dict(zip(found.taps, result.taps.chunk(len(found.taps), dim=1), strict=True))
    if all(found.cell.given):
        shown = dict(zip(names, result.states, strict=True)) | shown
    return Outcome(result.states[0].to(x.dtype), [t.to(x.dtype) for t in result.last], shown)


def in_chunks(run: Callable[[Part], Outcome], part: Part, steps: int, reverse: bool) -> Outcome:
    """The same in chunks of so many steps, of which only the input and the first state are kept for the gradient."""
    count = len(part.initial[0])
    sizes = part.sizes or [count] * (len(part.x) // count)
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    state, found = list(part.initial), []
    firsts = range(0, len(sizes), steps)
    for first in reversed(firsts) if reverse else firsts:
        end, here = min(first + steps, len(sizes)), sizes[first]
        rows = slice(starts[first], starts[end])
        chunk = part._replace(
            x=part.x[rows],
            initial=tuple(s[:here] for s in state),
            sizes=None if part.sizes is None else sizes[first:end],
            flags=None if part.flags is None else part.flags[rows],
            after_reset=tuple(s[:here] for s in part.after_reset),
            masks=None if part.masks is None else part.masks[:here],
            noise=None if part.noise is None else part.noise[rows],
        )
        outcome = checkpoint(run, chunk, use_reentrant=False, preserve_rng_state=False)
        state = [torch.cat((new, old[here:])) for new, old in zip(outcome.last, state, strict=True)]
        found.append(outcome)
    found = found[::-1] if reverse else found
    shown = {name: torch.cat([o.shown[name] for o in found]) for name in found[0].shown}
    return Outcome(torch.cat([o.y for o in found]), state, shown)


class Sequenced(Options):
    """The loop over layers and directions, for a module that has their weights. Mixed into `nn.Module`s."""

    num_layers: int
    bidirectional: bool
    batch_first: bool
    dropout: float
    hidden_size: int

    def _kind(self) -> Kind:
        raise NotImplementedError

    def _direction(self, layer: int, suffix: str) -> Direction:
        """The weights, as the attributes have them now; suffix "" or "_reverse"."""
        raise NotImplementedError

    def _plain_run(self, layer: int, suffix: str, w_hh: Tensor | None) -> Callable[[Part], Outcome] | None:
        """The direction by a built-in kernel, where the cell has one. w_hh: in place of its own recurrent weights."""
        return None

    def _traced_run(self, layer: int, suffix: str, part: Part) -> Callable[[Part], Outcome] | None:
        """The same with every state and gate, where the kernel can show them."""
        return None

    def _check_input(self, x: Any, layout: Layout, states: Sequence[Tensor] | None) -> None:
        raise NotImplementedError

    def forward_tokens(self, tokens: Tensor, embedding: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """`forward(F.embedding(tokens, embedding), state)`: the output (T, B, D*H) and the final state.

        tokens (T, B) integers, time-major whatever batch_first says; embedding (V, I).
        """
        embedded = F.embedding(tokens, embedding)
        y, state = cast(Any, self)(embedded.transpose(0, 1) if self.batch_first else embedded, state)
        return y.transpose(0, 1) if self.batch_first else y, state

    def _forward_general(
        self, x: Any, states: Sequence[Tensor] | None, lengths: Lengths, reset: Any, show: bool
    ) -> tuple[Any, list[Tensor], Trace]:
        """Output, last states (each L*D, B, H), trace. states: the initial ones, shaped alike, or None."""
        if not isinstance(x, PackedSequence) and x.dim() not in (2, 3):
            raise ValueError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {x.dim()}D instead")
        layout = layout_of(x, self.batch_first, lengths)
        self._check_input(x, layout, states)
        flags = reset_flags(reset, layout, x, self.batch_first)
        y = layout.rows(x)
        beginning = self._beginning(y)
        given = states or [
            b if isinstance(layout, Padded) and layout.single else b[:, None].expand(-1, layout.batch, -1)
            for b in beginning
        ]
        initial = [layout.state_in(s) for s in given]
        after_reset = [b[:, None].expand(-1, layout.count, -1) for b in beginning]
        last: list[list[Tensor]] = []
        trace: Trace = {}
        for layer in range(self.num_layers):
            outcomes = []
            inputs = self._dropped_input(y, layout)
            for reverse in (False, True) if self.bidirectional else (False,):
                k = len(last)
                part = Part(
                    inputs,
                    tuple(s[k] for s in initial),
                    layout.sizes,
                    flags,
                    tuple(s[k] for s in after_reset),
                    None,
                    None,
                )
                suffix = "_reverse" if reverse else ""
                if isinstance(layout, Masked):
                    outcome = self._run_masked(layer, suffix, part, reverse, layout)
                else:
                    outcome = self._run_direction(layer, suffix, part, reverse, show)
                if show:
                    shown = outcome.shown.items()
                    trace |= {f"{name}_l{layer}{suffix}": layout.output(value) for name, value in shown}
                outcomes.append(outcome.y)
                last.append(outcome.last)
            new = outcomes[0] if len(outcomes) == 1 else torch.cat(outcomes, dim=1)
            y = new + y if self.residual and new.shape == y.shape else new
            if self.training and self.dropout != 0 and layer + 1 < self.num_layers:
                y = torch.dropout(y, self.dropout, True)
        stacked = [torch.stack(states) for states in zip(*last, strict=True)]
        ended = [layout.state_out(s, g) for s, g in zip(stacked, given, strict=True)]
        return layout.output(y), ended, trace

    def _beginning(self, like: Tensor) -> list[Tensor]:
        """What a sequence begins with where it is given no state, each (L*D, H)."""
        directions = self.num_layers * (2 if self.bidirectional else 1)
        if self.learn_initial_state:
            return [getattr(self, f"initial_{name}").to(like.dtype) for name in self._kind().states]
        return [like.new_zeros(directions, self.hidden_size) for _ in self._kind().states]

    def _dropped_input(self, y: Tensor, layout: Layout) -> Tensor:
        """One mask of each sequence for all its steps."""
        if not (self.training and self.input_dropout):
            return y
        mask = F.dropout(y.new_ones(layout.count, y.shape[1]), self.input_dropout)
        if layout.sizes is None:
            return (y.view(-1, layout.count, y.shape[1]) * mask).flatten(0, 1)
        return y * torch.cat([mask[:0], *(mask[:size] for size in layout.sizes)])

    def _run_masked(self, layer: int, suffix: str, part: Part, reverse: bool, layout: Masked) -> Outcome:
        """Both directions from left to right, the backward one over sequences that were turned around."""
        if getattr(self, "proj_size", 0):
            raise ValueError("proj_size with lengths cannot be compiled or exported")
        if part.flags is not None:
            flags = part.flags * layout.there.flatten()
            flags = layout.turn(backward_flags(flags, None, layout.batch)) if reverse else flags
            part = part._replace(flags=flags)
        if reverse:
            part = part._replace(x=layout.turn(part.x))
        shown = self._run_direction(layer, suffix, part, False, True).shown
        last = [layout.last(shown[n], i) for n, i in zip(self._kind().states, part.initial, strict=True)]
        if reverse:
            shown = {name: layout.turn(value) for name, value in shown.items()}
        y = shown[self._kind().states[0]].to(part.x.dtype)
        return Outcome(y, [t.to(y.dtype) for t in last], shown)

    def _run_direction(self, layer: int, suffix: str, part: Part, reverse: bool, show: bool) -> Outcome:
        if part.x.shape[0] == 0:  # no sequence has a step
            return self._without_rows(layer, suffix, part, show)
        if part.flags is not None and reverse:
            part = part._replace(flags=backward_flags(part.flags, part.sizes, part.initial[0].shape[0]))
        drops = self.training and self.weight_dropout
        if not (self.layer_norm or self.zoneout or (self.training and self.recurrent_dropout)):
            if show:
                run = None if drops else self._traced_run(layer, suffix, part)
            else:
                w_hh = None
                if drops:
                    w_hh = F.dropout(self._direction(layer, suffix).products[0][0], self.weight_dropout)
                run = self._plain_run(layer, suffix, w_hh)
            if run is not None:
                return self._run_part(run, part, reverse)
        direction = self._direction(layer, suffix)
        if drops:
            dropped = [(F.dropout(w, self.weight_dropout), b) for w, b in direction.products]
            direction = direction._replace(products=dropped)
        found, part = self._assembled(part, show)
        names = self._kind().states
        return self._run_part(lambda p: run_assembled(found, names, direction, p, reverse), part, reverse)

    def _without_rows(self, layer: int, suffix: str, part: Part, show: bool) -> Outcome:
        d = self._direction(layer, suffix)
        y = F.linear(part.x, d.w_ih, d.b_ih).to(part.x.dtype)[
            :, : part.initial[0].shape[1]
        ]  # autograd sees it
        names = (*self._kind().states, *self._assembled(part, show)[0].taps) if show else ()
        return Outcome(y, list(part.initial), dict.fromkeys(names, y))

    def _run_part(self, run: Callable[[Part], Outcome], part: Part, reverse: bool) -> Outcome:
        # Transforms of torch.func see no saved tensors that could be computed again.
        if self.checkpoint_every and torch.is_grad_enabled() and not ops.transformed():
            return in_chunks(run, part, self.checkpoint_every, reverse)
        return run(part)

    def _assembled(self, part: Part, show: bool) -> tuple[Assembled, Part]:
        """The cell with its options, and the rows with what those draw at random."""
        kind, hidden = self._kind(), self.hidden_size
        like = part.initial[0]
        if self.training and self.recurrent_dropout and kind.products:
            part = part._replace(
                masks=F.dropout(like.new_ones(like.shape[0], hidden), self.recurrent_dropout)
            )
        if self.training and self.zoneout:
            noise = like.new_empty(part.x.shape[0], len(kind.states) * hidden).bernoulli_(self.zoneout)
            part = part._replace(noise=noise)
        found = assemble(
            kind,
            layer_norm=self.layer_norm,
            recurrent_dropout=part.masks is not None,
            zoneout=self.zoneout,
            training=self.training,
            show=show,
        )
        return found, part
