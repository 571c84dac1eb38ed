"""RNN, GRU and LSTM: `torch.nn`'s recurrent layers, and what each of them has beyond `rnn_base.Layers`."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from elman.cells import GRUCell, LSTMCell, RNNCell
from elman.rnn_base import Layers
from elman.sequences import Part
from elman.steps import KINDS, Kind

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


class RNN(Layers):
    """Elman's network, `torch.nn.RNN`'s drop-in: h[t] = f(W_ih x[t] + b_ih + W_hh h[t-1] + b_hh).

    f is `nonlinearity`: "tanh", "relu", or, beyond torch.nn, "sigmoid".
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        proj_size: int | None = None,
        **beyond: Any,
    ) -> None:
        """Arguments of `torch.nn.RNN`; beyond them, `options.Options` and init.

        Raises ValueError or TypeError as torch.nn does, or naming the option and its value.
        """
        _refuse_projection(proj_size)
        if nonlinearity not in ("tanh", "relu", "sigmoid"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}': use 'tanh', 'relu' or 'sigmoid'.")
        super().__init__(
            "RNN_RELU" if nonlinearity == "relu" else "RNN_TANH",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
        )
        self.nonlinearity = nonlinearity
        self.mode = f"RNN_{nonlinearity.upper()}"
        self._begin(**beyond)


class GRU(Layers):
    """Gated recurrent units, `torch.nn.GRU`'s drop-in; equations in `reference.gru_cell`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        proj_size: int | None = None,
        reset_after: bool = True,
        **beyond: Any,
    ) -> None:
        """Arguments of `torch.nn.GRU`; beyond them, `options.Options`, init, chrono (of the update gate), and
        reset_after: False for the equation as first published, n = tanh(W_in x + b_in + W_hn (r * h) + b_hn).

        Raises ValueError or TypeError as torch.nn does, or naming the option and its value.
        """
        _refuse_projection(proj_size)
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
        )
        if not isinstance(reset_after, bool):
            raise TypeError(f"reset_after must be True or False, got {reset_after!r}")
        if not reset_after:
            self.reset_after = False
        self._begin(**beyond)

    reset_after = True

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")

    _keeping_gates = (1, None)

    def _kind(self) -> Kind:
        return KINDS["gru" if self.reset_after else "gru_reset_before"]

    def _has_options(self) -> bool:
        return not self.reset_after or super()._has_options()

    def _plain_run(self, layer: int, suffix: str, w_hh: Tensor | None) -> Any:
        return super()._plain_run(layer, suffix, w_hh) if self.reset_after else None

    def _traced_run(self, layer: int, suffix: str, part: Part) -> Any:
        return super()._traced_run(layer, suffix, part) if self.reset_after else None


class LSTM(Layers):
    """Long short-term memory, `torch.nn.LSTM`'s drop-in; equations in `reference.lstm_cell`.

    With proj_size P > 0, the output and the recurrent state are W_hr h, of P units.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **beyond: Any,
    ) -> None:
        """Arguments of `torch.nn.LSTM`; beyond them, `options.Options`, init, forget_bias and chrono.

        Raises ValueError or TypeError as torch.nn does, or naming the option and its value.
        """
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )
        self._begin(**beyond)

    _keeping_gates = (1, 0)

    def _kind(self) -> Kind:
        return KINDS["lstm_layer_norm" if self.layer_norm else "lstm"]

    # What subclasses written for torch.nn.LSTM call.
    get_expected_cell_size = nn.LSTM.get_expected_cell_size
    check_forward_args = nn.LSTM.check_forward_args  # type: ignore[assignment]
    permute_hidden = nn.LSTM.permute_hidden  # type: ignore[assignment]

    def _split_state(self, hx: Any) -> tuple[Tensor | None, Tensor | None]:
        if hx is None:
            return None, None
        h0, c0 = hx[0], hx[1]
        if len(hx) != 2:
            raise RuntimeError("lstm expects two hidden states")
        return h0, c0

    def _join_state(self, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        return h, cast(Tensor, c)


def _refuse_projection(proj_size: int | None) -> None:
    if proj_size is not None:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
