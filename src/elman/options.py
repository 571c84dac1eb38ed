"""What the layers take beyond torch.nn's arguments: the options, their checks, and how weights begin.

Each option is an attribute of its layer and may be changed between calls. It knows nothing of how they are carried
out.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

PROBABILITIES = ("recurrent_dropout", "input_dropout", "zoneout", "weight_dropout")
INITS = ("torch", "orthogonal", "glorot")
_OWN = ("weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l")


class Options:
    """A layer's options, as attributes of the layer itself. Mixed into `nn.Module`s.

    layer_norm: on the gates' two products and, in LSTM, on the cell state where it leaves (Ba et al. 2016).
    recurrent_dropout: of the state that enters the recurrent product, one mask for all steps (Gal and Ghahramani 2016).
    input_dropout: of every layer's input, one mask for all steps (the same paper).
    zoneout: share of units that keep their old state at a step (Krueger et al. 2017).
    weight_dropout: of the recurrent weights, drawn at each call (Merity et al., "Regularizing and optimizing LSTM
    language models", 2018).
    residual: adds a layer's input to its output wherever they are of one size (He et al. 2016).
    learn_initial_state: sequences begin with a state that is trained, where they are given none.
    checkpoint_every: keep the state of every so many steps and compute the rest again for the gradient.
    """

    layer_norm = False
    recurrent_dropout = 0.0
    input_dropout = 0.0
    zoneout = 0.0
    weight_dropout = 0.0
    residual = False
    learn_initial_state = False
    checkpoint_every: int | None = None
    training: bool

    def _set_options(
        self,
        layer_norm: bool = False,
        recurrent_dropout: float = 0.0,
        input_dropout: float = 0.0,
        zoneout: float = 0.0,
        weight_dropout: float = 0.0,
        residual: bool = False,
        learn_initial_state: bool = False,
        checkpoint_every: int | None = None,
    ) -> None:
        flags = {"layer_norm": layer_norm, "residual": residual, "learn_initial_state": learn_initial_state}
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise TypeError(f"{name} must be True or False, got {flag!r}")
        values = (recurrent_dropout, input_dropout, zoneout, weight_dropout)
        for name, value in zip(PROBABILITIES, values, strict=True):
            check_probability(name, value)
        every = 1 if checkpoint_every is None else checkpoint_every
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(
                f"checkpoint_every must be a number of steps, at least 1, or None, got {checkpoint_every!r}"
            )
        given = {
            **flags,
            **dict(zip(PROBABILITIES, values, strict=True)),
            "checkpoint_every": checkpoint_every,
        }
        for name, option in given.items():
            if option != getattr(Options, name):  # what is as torch.nn has it leaves no trace in the layer
                setattr(self, name, option)

    def _has_options(self) -> bool:
        """Whether anything here goes beyond what torch.nn's layers do."""
        return bool(
            self.layer_norm
            or self.zoneout
            or self.residual
            or self.checkpoint_every
            or self.learn_initial_state
            or (self.training and (self.recurrent_dropout or self.input_dropout or self.weight_dropout))
        )

    def _options_repr(self) -> str:
        names = ("layer_norm", *PROBABILITIES, "residual", "learn_initial_state", "checkpoint_every")
        return "".join(f", {name}={getattr(self, name)}" for name in names if getattr(self, name))


def check_probability(name: str, value: Any) -> None:
    """Raises TypeError or ValueError, naming the argument, unless 0 ≤ value < 1."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a probability, a number from 0 up to but below 1, got {value!r}")
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be a probability from 0 up to but below 1, got {value!r}")


def check_init(
    init: str, forget_bias: float | None, chrono: int | None, keeps: bool, forgets: bool, kind: str
) -> None:
    """Raises ValueError or TypeError, naming the argument, for what `initialise` cannot do.

    keeps: whether a gate keeps the state; forgets: whether that is a forget gate (GRU's is its update gate).
    """
    if init not in INITS:
        raise ValueError(f"init must be one of {', '.join(map(repr, INITS))}, got {init!r}")
    if forget_bias is not None and chrono is not None:
        raise ValueError("forget_bias and chrono both set the forget gate's bias: give one of them")
    if forget_bias is not None and (
        not isinstance(forget_bias, int | float) or isinstance(forget_bias, bool)
    ):
        raise TypeError(f"forget_bias must be a number, got {forget_bias!r}")
    if forget_bias is not None and not forgets:
        raise ValueError(f"forget_bias={forget_bias!r}: {kind} has no forget gate")
    if chrono is not None and not keeps:
        raise ValueError(f"chrono={chrono!r}: {kind} has no gate that keeps its state")
    if chrono is not None and (not isinstance(chrono, int) or chrono < 2):
        raise ValueError(f"chrono must be the longest time to remember, in steps, at least 2, got {chrono!r}")


@torch.no_grad()
def initialise(
    named: Iterable[tuple[str, Tensor]],
    gates: int,
    init: str,
    keep: int | None,
    opposite: int | None,
    forget_bias: float | None,
    chrono: int | None,
) -> None:
    """Sets weights and biases of the layers, by torch.nn's names.

    init: "torch" leaves what is there; "orthogonal" makes every gate's recurrent matrix orthogonal (Saxe et al. 2014)
    and "glorot" uniform as in Glorot and Bengio (2010); both make the input's weights Glorot's and biases 0.
    keep: the gate that is open where the state is kept, with a bias of `forget_bias`; or, with `chrono`, log(u), u
    uniform on [1, chrono - 1], and `opposite`, where there is such a gate, with its negative (Tallec and Ollivier,
    "Can recurrent neural networks warp time?", 2018).
    """
    own = {name: parameter for name, parameter in named if name.startswith(_OWN)}
    if not any(name.startswith("bias") for name in own) and (forget_bias is not None or chrono is not None):
        option = f"chrono={chrono!r}" if forget_bias is None else f"forget_bias={forget_bias!r}"
        raise ValueError(f"{option} with bias=False: there is no bias to set")
    for name, parameter in own.items():
        hidden = len(parameter) // gates
        if name.startswith("weight_hh") and init != "torch" and parameter.dim() == 2:
            for gate in torch.split(parameter, hidden):
                nn.init.orthogonal_(gate) if init == "orthogonal" else nn.init.xavier_uniform_(gate)
        elif name.startswith("weight_ih") and init != "torch":
            for gate in torch.split(parameter, hidden):
                nn.init.xavier_uniform_(gate)
        elif name.startswith("bias") and init != "torch":
            nn.init.zeros_(parameter)
        if not name.startswith("bias") or keep is None or (forget_bias is None and chrono is None):
            continue
        gate = parameter[keep * hidden : (keep + 1) * hidden]
        if name.startswith("bias_hh"):
            gate.zero_()
        elif forget_bias is not None:
            gate.fill_(forget_bias)
        elif chrono is not None:
            gate.uniform_(1, max(chrono - 1, 1 + 1e-6)).log_()
        if chrono is not None and opposite is not None:
            other = parameter[opposite * hidden : (opposite + 1) * hidden]
            other.zero_() if name.startswith("bias_hh") else other.copy_(-gate)
