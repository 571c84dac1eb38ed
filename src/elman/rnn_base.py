"""What RNN, GRU and LSTM share: `torch.nn`'s recurrent layers, argument by argument, on the kernels behind `ops`.

Parameters, their names, order, initialisation, checks of arguments and `repr` are those of
`torch.nn.RNNBase`, which the layers inherit; docs/design.md says why it is not `torch.nn.LSTM`. Weights are
read from the attributes at every call and never cached. It knows nothing of gates and gradients; one
direction of one layer is in `cells`.

Letters: T steps, B sequences, I inputs, H hidden units, P outputs (proj_size, or H), L layers, D directions
(1 or 2), N rows (T * B, or the sum of all lengths when packed), V symbols.
"""

from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from elman import ops
from elman.cells import Weights, run_direction, trace_direction
from elman.data import ElmanError
from elman.layout import Layout, Lengths
from elman.options import check_init, initialise
from elman.sequences import Direction, Outcome, Part, Sequenced
from elman.steps import KINDS, Kind
from elman.stream import LayerStream

_MANY = 1_024  # tokens from which on it pays to find out which symbols occur


class Layers(nn.RNNBase, Sequenced):
    """What RNN, GRU and LSTM share: everything but the cell's name and the shape of its state.

    Beyond torch.nn's arguments: the options of `options.Options`; init, forget_bias and chrono, as
    `options.initialise` explains them.
    """

    def _begin(
        self,
        init: str = "torch",
        forget_bias: float | None = None,
        chrono: int | None = None,
        **options: Any,
    ) -> None:
        """After torch.nn's constructor: the options, their parameters, the first weights."""
        keep, _ = self._keeping_gates
        check_init(init, forget_bias, chrono, keep is not None, self.mode == "LSTM", type(self).__name__)
        self._set_options(**options)
        if self.proj_size and (
            self.layer_norm or self.zoneout or self.recurrent_dropout or self.learn_initial_state
        ):
            raise ValueError(
                "proj_size goes with none of layer_norm, zoneout, recurrent_dropout, learn_initial_state"
            )
        if (init, forget_bias, chrono) != self._beginnings:
            self._beginnings = (init, forget_bias, chrono)
        self._add_parameters()
        self._initialise()

    _beginnings: tuple[str, float | None, int | None] = ("torch", None, None)
    _keeping_gates: tuple[int | None, int | None] = (None, None)
    """The gate that is open where the state is kept, and the one that is then shut, if they are two."""

    def _add_parameters(self) -> None:
        like = cast(Tensor, self.weight_ih_l0)
        directions = ["", "_reverse"] if self.bidirectional else [""]
        sizes = {"norm_ih": len(like), "norm_hh": len(like)}
        if self.mode == "LSTM":
            sizes |= {"norm_c": self.hidden_size, "norm_c_bias": self.hidden_size}
        for layer in range(self.num_layers if self.layer_norm else 0):
            for suffix in directions:
                for name, size in sizes.items():
                    parameter = nn.Parameter(like.new_empty(size))
                    self.register_parameter(f"{name}_l{layer}{suffix}", parameter)
        for name in self._kind().states if self.learn_initial_state else ():
            shape = (self.num_layers * len(directions), self.hidden_size)
            self.register_parameter(f"initial_{name}", nn.Parameter(like.new_empty(shape)))

    @classmethod
    def from_torch(cls, module: nn.Module) -> Self:
        """`torch.nn`'s layer of this kind as elman's: the same configuration, a copy of its weights.

        Raises TypeError for another kind of module.
        """
        from elman.convert import from_torch

        return cast(Self, from_torch(module, cls))

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters(recurse=False):
            if name.startswith(("norm", "initial")):
                nn.init.constant_(parameter, 1.0 if name.startswith("norm") and "bias" not in name else 0.0)
        init, forget_bias, chrono = self._beginnings
        gates = len(cast(Tensor, self.weight_ih_l0)) // self.hidden_size if self.hidden_size else 0
        if gates and (init != "torch" or forget_bias is not None or chrono is not None):
            initialise(self.named_parameters(), gates, init, *self._keeping_gates, forget_bias, chrono)

    def reset_parameters(self) -> None:
        """torch.nn's, then what the options ask for."""
        super().reset_parameters()
        self._initialise()

    def extra_repr(self) -> str:
        return super().extra_repr() + self._options_repr()

    # RNNBase keeps a list of its weights, which goes stale when one is replaced: ours is made when asked for.
    @property
    def _flat_weights(self) -> list[Any]:
        return [getattr(self, name, None) for name in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, value: object) -> None:
        pass

    def forward(
        self,
        input: Any,
        hx: Any = None,
        *,
        lengths: Lengths = None,
        reset: Any = None,
        return_trace: bool = False,
    ) -> Any:
        """Run the layers over whole sequences.

        input (T, B, I), or (B, T, I) with batch_first, or (T, I), or a PackedSequence. hx, the initial state,
        zeros (or what was learned) when None: h (L*D, B, P); for LSTM (h, c) with c (L*D, B, H); without B when the
        input has none.
        lengths: of each sequence, B whole numbers from 0 to T, in any order. The output is 0 past a sequence's end,
        the state is the one at its end, and the backward direction starts there: what a PackedSequence gives.
        reset: torch.bool, laid out like the input without its features: where True, a sequence begins anew at that
        step, and no gradient passes; the backward direction begins anew one step before. The initial state given
        with hx is for the first step alone: after a reset it is zeros, or what was learned.
        Returns the output (T, B, D*P), laid out like the input, and the final state, shaped like hx; with
        return_trace also a dict of every layer's states and gates at every step, laid out like the output and
        differentiable: "hidden_l0", for LSTM "cell_l0", "input_gate_l0", "forget_gate_l0", "candidate_l0",
        "output_gate_l0", for GRU "reset_gate_l0", "update_gate_l0", "candidate_l0", and with "_reverse" behind them.
        Raises ValueError for a wrong dtype or number of input dimensions, RuntimeError for wrong sizes; TypeError or
        ValueError for lengths or reset that are none.
        """
        if lengths is not None or reset is not None or return_trace or self._has_options():
            return self._forward_beyond(input, hx, lengths, reset, return_trace)
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        dims = input.dim()
        if dims != 3 and dims != 2:
            raise ValueError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {dims}D instead")
        h0, c0 = self._split_state(hx)
        self._check_state_dims(dims, h0, c0)
        if dims == 2:
            x = input.unsqueeze(1)
            h0, c0 = None if h0 is None else h0.unsqueeze(1), None if c0 is None else c0.unsqueeze(1)
        else:
            x = input.transpose(0, 1) if self.batch_first else input
        weights = self._weights()
        steps, batch, _ = x.shape
        self._check(x, batch, h0, c0, weights[0].w_ih)
        _check_steps(steps)
        if steps == 1 and len(weights) == 1 and weights[0].w_hr is None:
            stepped = ops.one_step(self.mode.lower(), x, weights[0][:4], h0, c0)
            if stepped is not None:
                h, c = stepped
                return self._one_step_result(h, c, dims)
        y, h, c = self._run(x, weights, h0, c0, batch)
        if dims == 2:
            return y, self._join_state(h.squeeze(1), None if c is None else c.squeeze(1))
        y = y.view(steps, batch, y.shape[1])
        return y.transpose(0, 1) if self.batch_first else y, self._join_state(h, c)

    def _forward_beyond(self, input: Any, hx: Any, lengths: Lengths, reset: Any, return_trace: bool) -> Any:
        if self.proj_size and (
            return_trace or reset is not None or self.checkpoint_every or self.weight_dropout
        ):
            raise ValueError(
                "proj_size goes with none of reset, return_trace, checkpoint_every, weight_dropout"
            )
        h0, c0 = self._split_state(hx)
        given = None if h0 is None else [h0] if c0 is None else [h0, c0]
        y, states, trace = self._forward_general(input, given, lengths, reset, return_trace)
        state = self._join_state(states[0], states[1] if len(states) > 1 else None)
        return (y, state, trace) if return_trace else (y, state)

    def _check_input(self, x: Any, layout: Layout, states: Any) -> None:
        h0, c0 = (*(states or ()), None, None)[:2]
        data = x.data if isinstance(x, PackedSequence) else x
        if not isinstance(x, PackedSequence):
            self._check_state_dims(x.dim(), h0, c0)
            _check_steps(x.shape[1] if self.batch_first and x.dim() == 3 else x.shape[0])
        if data.dim() == 2 and h0 is not None and not isinstance(x, PackedSequence):
            h0, c0 = h0.unsqueeze(1), None if c0 is None else c0.unsqueeze(1)
        self._check(data, layout.batch, h0, c0, self._weights()[0].w_ih)

    def _kind(self) -> Kind:
        return KINDS[self.mode.lower()]

    def _direction(self, layer: int, suffix: str) -> Direction:
        def there(name: str) -> Any:
            return getattr(self, f"{name}_l{layer}{suffix}", None)

        w_hh, b_hh = there("weight_hh"), there("bias_hh")
        kind = self._kind()
        sizes = [columns * self.hidden_size for columns in kind.products]
        biases = [None] * len(sizes) if b_hh is None else b_hh.split(sizes)
        products = list(zip(w_hh.split(sizes), biases, strict=True))
        parameters = [there(name) for name in kind.parameters]
        return Direction(
            there("weight_ih"), there("bias_ih"), products, parameters, there("norm_ih"), there("norm_hh")
        )  # fmt: skip

    def _plain_run(self, layer: int, suffix: str, w_hh: Tensor | None) -> Any:
        weights = self._weights_of(layer, suffix)
        weights = weights if w_hh is None else weights._replace(w_hh=w_hh)
        cell, reverse = self.mode.lower(), suffix != ""

        def run(part: Part) -> Outcome:
            h0, c0 = (*part.initial, None)[:2]
            y, h, c = run_direction(
                cell, part.x, weights, h0, c0, len(part.initial[0]), part.sizes, reverse, resets=_resets(part)
            )
            return Outcome(y, [h] if c is None else [h, c], {})

        return run

    def _traced_run(self, layer: int, suffix: str, part: Part) -> Any:
        weights = self._weights_of(layer, suffix)
        if not ops.can_trace(part.x, (*weights, *part.initial, *part.after_reset)):
            return None
        cell, reverse = self.mode.lower(), suffix != ""
        names = (*self._kind().states, *self._assembled(part, True)[0].taps)

        def run(part: Part) -> Outcome:
            h0, *rest = part.initial
            (y, h, c), kept = trace_direction(
                cell, part.x, weights, h0, rest[0] if rest else None, part.sizes, reverse, _resets(part)
            )
            shown = dict(zip(names, (y, *kept), strict=True))
            return Outcome(y, [h] if c is None else [h, c], shown)

        return run

    def _weights_of(self, layer: int, suffix: str) -> Weights:
        return self._weights()[2 * layer + (suffix != "") if self.bidirectional else layer]

    def _beginning(self, like: Tensor) -> list[Tensor]:
        found = super()._beginning(like)
        if self.proj_size:
            found[0] = like.new_zeros(len(found[0]), self.proj_size)
        return found

    def _one_step_result(self, h: Tensor, c: Tensor | None, dims: int) -> Any:
        """Of the new state (1, B, H): output and state, which share no memory."""
        if dims == 2:
            return h[0], self._join_state(h[0].clone(), None if c is None else c[0])
        return h.transpose(0, 1) if self.batch_first else h, self._join_state(h.clone(), c)

    def _forward_packed(self, packed: PackedSequence, hx: Any) -> Any:
        x, batch_sizes, order, restore = packed
        h0, c0 = self._split_state(hx)
        if order is not None:
            h0, c0 = _permute(h0, order), _permute(c0, order)
        sizes: list[int] = batch_sizes.tolist()
        if x.dim() != 2:
            raise RuntimeError(f"input must have 2 dimensions, got {x.dim()}")
        weights = self._weights()
        # torch.nn.LSTM leaves the dtype of a packed input to its matrix product, which raises RuntimeError.
        self._check(x, sizes[0], h0, c0, weights[0].w_ih, RuntimeError if self.mode == "LSTM" else ValueError)
        if sum(sizes) != len(x) or sizes != sorted(sizes, reverse=True):
            raise RuntimeError(
                f"batch_sizes must not increase and must sum to the {len(x)} rows of data, got {sizes}; "
                "make packed sequences with torch.nn.utils.rnn.pack_padded_sequence or pack_sequence"
            )
        y, h, c = self._run(x, weights, h0, c0, sizes[0], batch_sizes, sizes)
        if restore is not None:
            h, c = h.index_select(1, restore), _permute(c, restore)
        return PackedSequence(y, batch_sizes, order, restore), self._join_state(h, c)

    def forward_tokens(self, tokens: Tensor, embedding: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """`forward(F.embedding(tokens, embedding), state)`, projecting each symbol once, not each token.

        tokens (T, B) integers, time-major whatever batch_first says; embedding (V, I).
        Returns the output (T, B, D*P) and the final state. Raises as `forward` does, and IndexError for a token
        outside 0..V-1.
        """
        if tokens.dim() != 2:
            raise ValueError(f"tokens must be (T, B), got {tokens.dim()} dimensions")
        if self._has_options():
            return super().forward_tokens(tokens, embedding, state)
        steps, batch = tokens.shape
        _check_steps(steps)
        h0, c0 = self._split_state(state)
        self._check_state_dims(3, h0, c0)
        weights = self._weights()
        self._check(embedding, batch, h0, c0, weights[0].w_ih)
        found = None if self._is_fused(embedding) else _each_once(tokens, embedding)
        if found is None:
            y, h, c = self._run(F.embedding(tokens, embedding), weights, h0, c0, batch)
        else:
            tokens, table = found
            y, h, c = self._run(table, weights, h0, c0, batch, tokens=tokens.flatten().long())
        return y.view(steps, batch, y.shape[1]), self._join_state(h, c)

    def stream(self, batch: int | None = None, weights: str = "float32") -> LayerStream:
        """These layers as they are now, to be fed step by step at inference: weights are copied.

        One stream, or `batch` of them at once. weights: "float32" or "bfloat16", half the memory, as `LayerStream`
        explains. Raises ElmanError for both directions, proj_size, or options that change what is computed.
        """
        changed = [
            n for n in ("layer_norm", "zoneout", "residual", "learn_initial_state") if getattr(self, n)
        ]
        if changed or not getattr(self, "reset_after", True):
            raise ElmanError(
                f"a stream has no {changed[0] if changed else 'reset_after=False'} yet: only plain layers"
            )
        tensors = {
            name: getattr(self, name) for name in self._flat_weights_names if getattr(self, name) is not None
        }
        arrays = {name: t.detach().float().cpu().numpy() for name, t in tensors.items()}
        return LayerStream(self.mode.lower(), arrays, batch, weights)

    def _run(
        self,
        x: Tensor,
        weights: list[Weights],
        h0: Tensor | None,
        c0: Tensor | None,
        batch: int,
        packed_sizes: Tensor | None = None,
        batch_sizes: list[int] | None = None,
        tokens: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """x (T, B, I), or packed (N, I), or (V, I) beside tokens (N,) -> y (N, D*P), h_n (L*D, B, P), c_n."""
        if self._is_fused(x):
            return self._run_fused(x, weights, h0, c0, batch, packed_sizes)
        cell = self.mode.lower()
        x = x.flatten(0, 1) if x.dim() == 3 else x
        directions = 2 if self.bidirectional else 1
        h0s = [None] * len(weights) if h0 is None else h0.unbind()
        c0s = [None] * len(weights) if c0 is None else c0.unbind()
        h_n: list[Tensor] = []
        c_n: list[Tensor] = []
        y: list[Tensor] = []
        for k, weight in enumerate(weights):
            reverse = k % directions == 1
            y_k, h, c = run_direction(cell, x, weight, h0s[k], c0s[k], batch, batch_sizes, reverse, tokens)
            y.append(y_k)
            h_n.append(h)
            if c is not None:
                c_n.append(c)
            if len(y) == directions:  # the layer is complete
                x = y[0] if directions == 1 else torch.cat(y, dim=1)
                if self.training and self.dropout != 0 and k + 1 < len(weights):
                    x = torch.dropout(x, self.dropout, True)
                y, tokens = [], None
        return x, _stack(h_n), _stack(c_n) if c_n else None

    def _is_fused(self, x: Tensor) -> bool:
        """Whether torch's own fused kernels serve: on other devices than the CPU, for the cells torch has."""
        return not (x.is_cpu or x.is_meta or self.mode == "RNN_SIGMOID")

    def _run_fused(
        self,
        x: Tensor,
        weights: list[Weights],
        h0: Tensor | None,
        c0: Tensor | None,
        batch: int,
        packed_sizes: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The same as `_run`, without tokens, by torch.lstm, torch.gru, torch.rnn_tanh or torch.rnn_relu."""
        if h0 is None:
            h0 = x.new_zeros(len(weights), batch, self.proj_size or self.hidden_size)
        state: Any = h0
        if self.mode == "LSTM":
            state = (h0, x.new_zeros(len(weights), batch, self.hidden_size) if c0 is None else c0)
        flat = [w for weight in weights for w in weight if w is not None]
        options = (flat, self.bias, self.num_layers, self.dropout, self.training, self.bidirectional)
        kernel = getattr(torch, self.mode.lower())
        if packed_sizes is not None:
            y, h, *c = kernel(x, packed_sizes, state, *options)
        else:
            y, h, *c = kernel(x, state, *options, False)
            y = y.flatten(0, 1)
        return y, h, c[0] if c else None

    def _weights(self) -> list[Weights]:
        """Each layer's directions in turn, as the attributes have them now."""
        parameters = self._parameters  # what the attributes give, but found faster
        found: list[list[Any]] = [
            [parameters[name] if name in parameters else getattr(self, name) for name in names]
            for names in self._all_weights
        ]
        if self.bias:
            return [Weights(*w) for w in found]
        return [Weights(w[0], w[1], None, None, *w[2:]) for w in found]

    def _split_state(self, hx: Any) -> tuple[Tensor | None, Tensor | None]:
        return hx, None

    def _join_state(self, h: Tensor, c: Tensor | None) -> Any:
        return h

    def _check_state_dims(self, dims: int, h0: Tensor | None, c0: Tensor | None) -> None:
        if h0 is None or (h0.dim() == dims and (c0 is None or c0.dim() == dims)):
            return
        kind = "batched 3-D" if dims == 3 else "unbatched 2-D"
        if c0 is None:
            raise RuntimeError(f"For {kind} input, hx should also be {dims}-D but got {h0.dim()}-D tensor")
        got = f"({h0.dim()}-D, {c0.dim()}-D) tensors"
        raise RuntimeError(f"For {kind} input, hx and cx should also be {dims}-D but got {got}")

    def _check(
        self,
        x: Tensor,
        batch: int,
        h0: Tensor | None,
        c0: Tensor | None,
        weight: Tensor,
        wrong_dtype: type[Exception] = ValueError,
    ) -> None:
        if x.dtype != weight.dtype and not torch._C._is_any_autocast_enabled():
            raise wrong_dtype(
                f"RNN input dtype ({x.dtype}) does not match weight dtype ({weight.dtype}). "
                f"Convert input: input.to({weight.dtype}), or convert model: model.to({x.dtype})"
            )
        if x.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.shape[-1]}"
            )
        _check_device(x, "parameter", weight)
        if h0 is not None:
            outer = self.num_layers * (2 if self.bidirectional else 1)
            name = "hidden" if c0 is None else "hidden[0]"
            _check_state(name, h0, (outer, batch, self.proj_size or self.hidden_size), x)
            if c0 is not None:
                _check_state("hidden[1]", c0, (outer, batch, self.hidden_size), x)


def _each_once(tokens: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor] | None:
    """(tokens, table): rows of the symbols that are projected, and where each token finds its own. None where that
    would be about as many rows as there are tokens."""
    count = tokens.numel()
    if 2 * len(embedding) <= count:
        return tokens, embedding
    if count < _MANY or torch.compiler.is_compiling() or ops.transformed():
        return (tokens, embedding) if len(embedding) <= count else None
    occurring, places = torch.unique(tokens, return_inverse=True)
    return (places, F.embedding(occurring, embedding)) if 2 * len(occurring) <= count else None


def _check_steps(steps: int) -> None:
    if steps == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")


def _check_device(x: Tensor, kind: str, other: Tensor) -> None:
    if other.device != x.device:
        raise RuntimeError(
            f"Input and {kind} tensors are not at the same device, "
            f"found input tensor at {x.device} and {kind} tensor at {other.device}"
        )


def _check_state(name: str, state: Tensor, expected: tuple[int, int, int], x: Tensor) -> None:
    if state.shape != expected:
        raise RuntimeError(f"Expected {name} size {expected}, got {list(state.shape)}")
    if state.dtype != x.dtype and not torch._C._is_any_autocast_enabled():
        raise RuntimeError(f"{name} has dtype {state.dtype} but the input has {x.dtype}: convert one of them")
    _check_device(x, "hidden", state)


def _permute(state: Tensor | None, order: Tensor) -> Tensor | None:
    return None if state is None else state.index_select(1, order)


def _stack(states: list[Tensor]) -> Tensor:
    return states[0].unsqueeze(0) if len(states) == 1 else torch.stack(states)


def _resets(part: Part) -> ops.Resets | None:
    return None if part.flags is None else ops.Resets(part.flags, *(*part.after_reset, None)[:2])  # type: ignore[arg-type]
