"""`Recurrent`: a layer of any cell whose step is written in a few lines of Python, at the speed of the built-in ones;
and the cells of the literature that are written that way.

Takes whole sequences as torch.nn's layers do, and every option that RNN, GRU and LSTM have here. Steps are `steps`',
the loop over layers is `sequences`'.

Letters: T steps, B sequences, I inputs, H hidden units, G gates, L layers, D directions (1 or 2).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from elman import reference
from elman.layout import Layout, Lengths
from elman.options import check_init, initialise
from elman.sequences import Direction, Outcome, Part, Sequenced
from elman.steps import KINDS, Kind, assemble

__all__ = ["CoupledLSTM", "IndRNN", "MinGRU", "MinLSTM", "PeepholeLSTM", "Recurrent"]

_TAKEN = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "norm_ih", "norm_hh")


class Recurrent(nn.Module, Sequenced):
    """Layers of a cell that is given by its step.

        def step(gates, states):
            f, g, o = gates
            h, c = states
            f = torch.sigmoid(f)
            c = f * c + (1 - f) * torch.tanh(g)
            return torch.sigmoid(o) * torch.tanh(c), c

        layer = elman.Recurrent(step, 64, 256, gates=3, states=("hidden", "cell"))

    `step(gates, states)` returns the new states, the first of which is the output. It is not called at every step, but
    once for each way of running it, with expressions: torch's elementwise functions, operators and `.mean()` over the
    hidden units build what then runs natively, forward and backward. A gate is W_ih x + b_ih + W_hh h + b_hh; its two
    halves are `gate.input` and `gate.recurrent`. It may return a dict of named expressions beside the
    states: return_trace shows them.
    """

    _keeping_gates: tuple[int | None, int | None] = (None, None)

    def __init__(
        self,
        step: Callable[..., Any],
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        gates: int,
        states: Sequence[str] = ("hidden",),
        parameters: Mapping[str, float] | None = None,
        recurrent: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **beyond: Any,
    ) -> None:
        """gates: how many. states: their names, the output's first. parameters: the step's further arguments, each a
        learned vector (H,), with the value they begin with. recurrent: whether there is a W_hh; without, gates are of
        the input alone. The rest as torch.nn.LSTM; beyond it, `options.Options` and init.

        Raises ElmanError where the step does what it can't; ValueError or TypeError naming the argument.
        """
        if isinstance(states, str) or not states or len(set(states)) < len(states):
            raise ValueError(f"states must be names, one or more, each another, got {states!r}")
        if not callable(step):
            raise TypeError(f"step must be a function of (gates, states), got {step!r}")
        names = tuple(parameters or {})
        for name in names:
            if not name.isidentifier():
                raise ValueError(f"parameters must have names that are Python's, got {name!r}")
        taken = [name for name in names if name in _TAKEN]
        if taken:
            raise ValueError(f"parameters: {taken[0]!r} is a name of the layer's own weights, choose another")
        kind = Kind(step, gates, tuple(states), (gates,) if recurrent else (), names)
        sizes = (num_layers, bias, batch_first, dropout, bidirectional)
        self._make(kind, input_size, hidden_size, *sizes, parameters or {}, device, dtype, **beyond)

    def _make(
        self,
        kind: Kind,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        parameters: Mapping[str, float],
        device: Any,
        dtype: torch.dtype | None,
        *,
        init: str = "torch",
        forget_bias: float | None = None,
        chrono: int | None = None,
        **options: Any,
    ) -> None:
        nn.Module.__init__(self)
        counts = {
            "input_size": input_size,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "gates": kind.gates,
        }
        for name, value in counts.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if not isinstance(dropout, int | float) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(f"dropout must be a probability from 0 to 1, got {dropout!r}")
        keeps = self._keeping_gates[0] is not None
        check_init(init, forget_bias, chrono, keeps, keeps, type(self).__name__)
        assemble(kind)  # so that a step that can't be is refused here
        self._set_kind(kind)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = (
            bias,
            batch_first,
            dropout,
            bidirectional,
        )
        self._set_options(**options)
        if self.layer_norm and not kind.products:
            raise ValueError("layer_norm=True: the cell has no recurrent product to normalise")
        if self.recurrent_dropout and not kind.products:
            raise ValueError(f"recurrent_dropout={self.recurrent_dropout}: the cell has no recurrent product")
        if self.weight_dropout and not kind.products:
            raise ValueError(f"weight_dropout={self.weight_dropout}: the cell has no recurrent weights")
        self._beginnings = (init, forget_bias, chrono)
        self._values = dict(parameters)
        self._add_parameters({"device": device, "dtype": dtype})
        self.reset_parameters()

    def _set_kind(self, kind: Kind) -> None:
        self._cell = kind

    def _add_parameters(self, made: dict[str, Any]) -> None:
        kind, hidden = self._kind(), self.hidden_size
        recurrent = sum(kind.products) * hidden
        suffixes = ["", "_reverse"] if self.bidirectional else [""]
        for layer in range(self.num_layers):
            inputs = self.input_size if layer == 0 else hidden * len(suffixes)
            shapes: dict[str, tuple[int, ...]] = {"weight_ih": (kind.gates * hidden, inputs)}
            if recurrent:
                shapes["weight_hh"] = (recurrent, hidden)
            if self.bias:
                shapes |= {"bias_ih": (kind.gates * hidden,)} | (
                    {"bias_hh": (recurrent,)} if recurrent else {}
                )
            shapes |= dict.fromkeys(kind.parameters, (hidden,))
            if self.layer_norm:
                shapes |= {"norm_ih": (kind.gates * hidden,), "norm_hh": (recurrent,)}
            for name, shape in shapes.items():
                for suffix in suffixes:
                    parameter = nn.Parameter(torch.empty(shape, **made))
                    self.register_parameter(f"{name}_l{layer}{suffix}", parameter)
        for name in kind.states if self.learn_initial_state else ():
            shape = (self.num_layers * len(suffixes), hidden)
            self.register_parameter(f"initial_{name}", nn.Parameter(torch.empty(shape, **made)))

    def reset_parameters(self) -> None:
        """torch.nn's first weights, uniform within ±1/√H; the step's own parameters as given; then init."""
        bound = 1 / math.sqrt(self.hidden_size)
        for name, parameter in self.named_parameters(recurse=False):
            stem = name.rsplit("_l", 1)[0]
            if stem in self._values:
                nn.init.constant_(parameter, self._values[stem])
            elif stem.startswith(("norm", "initial")):
                nn.init.constant_(parameter, 1.0 if stem.startswith("norm") else 0.0)
            else:
                nn.init.uniform_(parameter, -bound, bound)
        init, forget_bias, chrono = self._beginnings
        if self._beginnings != ("torch", None, None):
            initialise(
                self.named_parameters(), self._kind().gates, init, *self._keeping_gates, forget_bias, chrono
            )

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
        }
        changed = [
            f", {name}={getattr(self, name)}" for name, d in defaults.items() if getattr(self, name) != d
        ]
        return text + "".join(changed) + self._options_repr()

    def forward(
        self,
        input: Any,
        hx: Any = None,
        *,
        lengths: Lengths = None,
        reset: Any = None,
        return_trace: bool = False,
    ) -> Any:
        """As `LSTM.forward`: output, final state, and with return_trace every layer's states and what the step names.

        hx and the final state are a tensor (L*D, B, H), or a tuple of them where the cell has several states.
        """
        given = None if hx is None else [hx] if isinstance(hx, Tensor) else list(hx)
        y, states, trace = self._forward_general(input, given, lengths, reset, return_trace)
        state = states[0] if len(states) == 1 else tuple(states)
        return (y, state, trace) if return_trace else (y, state)

    def _kind(self) -> Kind:
        return self._cell

    def _check_input(self, x: Any, layout: Layout, states: Sequence[Tensor] | None) -> None:
        data = x.data if isinstance(x, PackedSequence) else x
        weight = getattr(self, "weight_ih_l0")  # noqa: B009
        if data.dtype != weight.dtype and not torch._C._is_any_autocast_enabled():
            raise ValueError(
                f"input has dtype {data.dtype} but the weights have {weight.dtype}: convert one of them"
            )
        if data.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {data.shape[-1]}"
            )
        if data.shape[0] == 0 or (self.batch_first and data.dim() == 3 and data.shape[1] == 0):
            raise RuntimeError("Expected sequence length to be larger than 0")
        names = self._kind().states
        if states is None:
            return
        if len(states) != len(names):
            raise RuntimeError(f"expected {len(names)} states ({', '.join(names)}), got {len(states)}")
        outer = self.num_layers * (2 if self.bidirectional else 1)
        batch = () if data.dim() == 2 and not isinstance(x, PackedSequence) else (layout.batch,)
        for name, state in zip(names, states, strict=True):
            if tuple(state.shape) != (outer, *batch, self.hidden_size):
                expected = (outer, *batch, self.hidden_size)
                raise RuntimeError(f"Expected state '{name}' of size {expected}, got {tuple(state.shape)}")
            if state.dtype != data.dtype and not torch._C._is_any_autocast_enabled():
                raise RuntimeError(
                    f"state '{name}' has dtype {state.dtype} but the input has {data.dtype}: convert one"
                )

    def _direction(self, layer: int, suffix: str) -> Direction:
        def there(name: str) -> Any:
            return getattr(self, f"{name}_l{layer}{suffix}", None)

        products: list[tuple[Tensor, Tensor | None]] = []
        if self._kind().products:
            products = [(there("weight_hh"), there("bias_hh"))]
        parameters = [there(name) for name in self._kind().parameters]
        norms = there("norm_ih"), there("norm_hh")
        return Direction(there("weight_ih"), there("bias_ih"), products, parameters, *norms)


class _Named(Recurrent):
    """A cell of the literature, by its name in `steps.KINDS`."""

    _name: str
    _first_values: Mapping[str, float] = {}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **beyond: Any,
    ) -> None:
        """Arguments of `torch.nn.LSTM`; beyond them, `options.Options` and init. Raises as `Recurrent`."""
        sizes = (num_layers, bias, batch_first, dropout, bidirectional)
        self._make(self._kind(), input_size, hidden_size, *sizes, self._first_values, device, dtype, **beyond)

    def _set_kind(self, kind: Kind) -> None:
        pass  # known by its name

    def _kind(self) -> Kind:
        return KINDS[self._name]


class PeepholeLSTM(_Named):
    """LSTM whose gates see the cell state (Gers and Schmidhuber, "Recurrent nets that time and count", 2000).

    i = σ(a_i + p_i * c), f = σ(a_f + p_f * c), g = tanh(a_g), c' = f * c + i * g, o = σ(a_o + p_o * c'),
    h' = o * tanh(c'), with a = W_ih x + b_ih + W_hh h + b_hh in order i, f, g, o. The peepholes p_i, p_f and p_o
    (peephole_i_l0, ..., each (H,)) begin at 0.
    """

    _name = "peephole_lstm"
    _first_values: Mapping[str, float] = {"peephole_i": 0.0, "peephole_f": 0.0, "peephole_o": 0.0}
    _keeping_gates = (1, 0)


class CoupledLSTM(_Named):
    """LSTM whose input gate is 1 - f (CIFG in Greff et al., "LSTM: a search space odyssey", 2017).

    f = σ(a_f), g = tanh(a_g), o = σ(a_o), c' = f * c + (1 - f) * g, h' = o * tanh(c'); gates in order f, g, o: a
    quarter less to compute and to keep than in LSTM.
    """

    _name = "coupled_lstm"
    _keeping_gates = (0, None)


class IndRNN(_Named):
    """Units that see the input and themselves alone (Li et al., "Independently recurrent neural network", 2018).

    h' = f(W_ih x + b_ih + u * h), with a vector u (recurrent_weight_l0, (H,)), which begins uniform on [0, 1], and f
    `nonlinearity`: "relu" (the paper's) or "tanh".
    """

    def __init__(self, *sizes: Any, nonlinearity: str = "relu", **more: Any) -> None:
        """Arguments of `torch.nn.LSTM`, and nonlinearity by name. Raises as `Recurrent`."""
        if nonlinearity not in ("relu", "tanh"):
            raise ValueError(f"nonlinearity must be 'relu' or 'tanh', got {nonlinearity!r}")
        object.__setattr__(
            self, "nonlinearity", nonlinearity
        )  # nn.Module takes none before its constructor has run
        super().__init__(*sizes, **more)

    def _kind(self) -> Kind:
        return KINDS[f"ind_rnn_{self.nonlinearity}"]

    def extra_repr(self) -> str:
        return super().extra_repr() + (
            f", nonlinearity={self.nonlinearity}" if self.nonlinearity != "relu" else ""
        )

    def reset_parameters(self) -> None:
        """As `Recurrent`; the recurrent weights uniform on [0, 1]."""
        super().reset_parameters()
        for name, parameter in self.named_parameters(recurse=False):
            if name.startswith("recurrent_weight"):
                nn.init.uniform_(parameter, 0, 1)


class _Scanned(_Named):
    """A cell that is linear in its state, h' = a * h + b, where a and b see the input alone."""

    def _factors(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        """a and b (N, H) from the projected input (N, G*H)."""
        raise NotImplementedError

    def _plain_run(self, layer: int, suffix: str, w_hh: Tensor | None) -> Any:
        """Where there is no kernel, steps in a Python loop would be slow: a parallel scan over time instead.

        The native program needs none: it shares out the units, which never meet, at half the work of a scan.
        """
        d = self._direction(layer, suffix)
        if d.w_ih.is_cpu or d.w_ih.is_meta:
            return None

        def run(part: Part) -> Outcome:
            a, b = self._factors(F.linear(part.x, d.w_ih, d.b_ih))
            y, last = reference.scan(
                a, b, part.initial[0], part.sizes, suffix != "", part.flags, *part.after_reset
            )
            return Outcome(y, [last], {})

        return run


class MinGRU(_Scanned):
    """Gates that see the input alone (Feng et al., "Were RNNs all we needed?", 2024).

    z = σ(W_z x + b_z), h' = (1 - z) * h + z * (W_h x + b_h); weights in order z, h. No recurrent product.
    """

    _name = "min_gru"

    def _factors(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        z, candidate = gates.chunk(2, dim=1)
        z = torch.sigmoid(z)
        return 1 - z, z * candidate


class MinLSTM(_Scanned):
    """LSTM's gates that see the input alone (Feng et al., "Were RNNs all we needed?", 2024).

    f = σ(W_f x + b_f), i = σ(W_i x + b_i), h' = f / (f + i) * h + i / (f + i) * (W_h x + b_h); weights in order f, i,
    h. No recurrent product.
    """

    _name = "min_lstm"
    _keeping_gates = (0, 1)

    def _factors(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        f, i, candidate = gates.chunk(3, dim=1)
        f = torch.sigmoid(F.softplus(-i) - F.softplus(-f))
        return f, (1 - f) * candidate
