"""Modules as they come: in any mode, with any arguments, outputs and targets; what cannot be explained is refused."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import elman
from elman.data import ElmanError
from elman.explanation import explain

pytestmark = pytest.mark.usefixtures("one_thread")


class Made(nn.Module):
    """Parts, and a forward of one's own over them."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.run = forward

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def hidden(report: Any) -> np.ndarray:
    found: np.ndarray = report.layers[0].values["hidden"]
    return found


@pytest.mark.parametrize(
    "make",
    [lambda: elman.LSTM(4, 8, num_layers=2, dropout=0.5), lambda: elman.GRU(4, 8, zoneout=0.3)],
)
def test_layers_are_traced_without_dropout_and_stay_in_training(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    layer, x = make(), torch.randn(30, 1, 4)
    report = explain(layer, x)
    assert layer.training
    with torch.no_grad():
        y = layer.eval()(x)[0]
    assert report.layers[-1].values["hidden"] == pytest.approx(y[:, 0].numpy(), abs=1e-6)


def test_arguments_by_name_reach_the_trace() -> None:
    torch.manual_seed(0)
    start, resets = torch.randn(1, 1, 8), torch.arange(30)[:, None] % 7 == 3
    x = torch.randn(30, 1, 4)
    for layer, given in (
        (nn.GRU(4, 8), lambda n: {"hx": start.expand(-1, n, -1)}),
        (elman.GRU(4, 8), lambda n: {"hx": start.expand(-1, n, -1).contiguous()}),
    ):
        model = Made(lambda m, x, given=given: m.gru(input=x, **given(x.shape[1]))[0], gru=layer)
        assert hidden(explain(model, x)) == pytest.approx(model(x)[:, 0].detach().numpy(), abs=1e-6)
    model = Made(
        lambda m, x: m.gru(x, reset=resets[-len(x) :].expand(-1, x.shape[1]))[0], gru=elman.GRU(4, 8)
    )
    assert hidden(explain(model, x)) == pytest.approx(model(x)[:, 0].detach().numpy(), abs=1e-6)


@pytest.mark.parametrize("batch_first", [False, True])
def test_one_number_a_step_or_at_the_end(batch_first: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 30, 4) if batch_first else torch.randn(30, 3, 4)
    parts: dict[str, Any] = {"rnn": nn.LSTM(4, 8, batch_first=batch_first), "head": nn.Linear(8, 1)}
    each = Made(lambda m, x: m.head(m.rnn(x)[0]).squeeze(-1), **parts)
    whole = Made(lambda m, x: m.head(m.rnn(x)[0]), **parts)
    at_end = Made(lambda m, x: m.head(m.rnn(x)[1][0][-1]).squeeze(-1), **parts)
    found = [explain(model, x).memory.gradient for model in (whole, each, at_end)]
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)
    targets = torch.randn(3, 30) if batch_first else torch.randn(30, 3)
    losses = explain(each, x, targets).losses
    assert losses == pytest.approx(explain(whole, x, targets.unsqueeze(-1)).losses, rel=1e-5)
    output = each(x).detach()
    first = ((output - targets) ** 2 / 2)[0] if batch_first else ((output - targets) ** 2 / 2)[:, 0]
    assert losses == pytest.approx(first.numpy(), rel=1e-4)


def test_double_precision() -> None:
    layer = nn.LSTM(4, 8).double()
    assert explain(layer, torch.randn(30, 1, 4).double()).attribution is not None


def test_a_cell_whose_first_state_has_another_name() -> None:
    def step(gates: Any, states: Any) -> Any:
        return (torch.tanh(gates[0]),)

    layer = elman.Recurrent(step, 4, 8, gates=1, states=("h",))
    x = torch.randn(40, 1, 4)
    report = explain(layer, x)
    assert report.layers[0].output == pytest.approx(layer(x)[0][:, 0].detach().numpy(), abs=1e-6)
    assert any(finding.measure == "dead units" for finding in report.health)


def test_layers_that_do_not_see_every_step_are_left_out_and_named() -> None:
    model = Made(
        lambda m, x: m.second(m.first(x)[0][::2])[1][0][-1], first=nn.LSTM(4, 8), second=nn.LSTM(8, 8)
    )
    report = explain(model, torch.randn(40, 1, 4))
    assert [layer.name for layer in report.layers] == ["first, layer 1"]
    assert any("second" in note for note in report.notes)


def test_codes_in_several_columns_are_features_each() -> None:
    model = Made(
        lambda m, x: m.rnn(m.embedding(x).flatten(-2))[0], embedding=nn.Embedding(3, 4), rnn=nn.RNN(8, 6)
    )
    x = torch.randint(0, 3, (60, 1, 2))
    report = explain(model, x)
    assert {one.feature.split(" is ")[0] for one in report.tracked} >= {"input 0", "input 1"}


def test_inputs_that_require_gradients() -> None:
    x = torch.randn(30, 1, 4, requires_grad=True)
    explain(nn.RNN(4, 6), x)
    assert x.requires_grad
    assert x.grad is None


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda m, x: {"logits": m.rnn(x)[0]}, "this one gives dict"),
        (lambda m, x: m.rnn(x)[0].argmax(-1), "this one gives torch.int64"),
        (lambda m, x: m.rnn(x)[0][None], r"this one gives torch.float32 \(1, 1, 30, 6\)"),
        (lambda m, x: m.rnn(x)[1], r"this one gives \(1, 1, 6\) for 30 steps"),
        (lambda m, x: m.rnn(x)[0].mean(-1).squeeze(), "squeeze"),
    ],
)
def test_outputs_that_are_no_numbers_of_a_step(forward: Callable[[Any, Tensor], Any], message: str) -> None:
    with pytest.raises(ElmanError, match=message):
        explain(Made(forward, rnn=nn.RNN(4, 6, batch_first=True)), torch.randn(1, 30, 4))


@pytest.mark.parametrize("layer", [nn.LSTM(4, 8, proj_size=3), elman.LSTM(4, 8, proj_size=3)])
def test_projections_are_refused(layer: nn.Module) -> None:
    with pytest.raises(ElmanError, match="proj_size"):
        explain(layer, torch.randn(30, 1, 4))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.zeros((24, 1), np.int64), "must be a tensor, not ndarray"),
        (torch.zeros(24, 1, 1), r"like the module's output, \(24, 1, 3\)"),
        (torch.zeros(24, 1, 2), r"like the module's output, \(24, 1, 3\)"),
        (torch.zeros(24, 1, 1, dtype=torch.long), "one for each step"),
        (torch.full((24, 1), 7), "from 0 to 2"),
        (torch.full((24, 1), -1), "from 0 to 2"),
        (torch.full((24, 1), -100), "some must be there"),
    ],
)
def test_targets_that_do_not_fit(targets: Any, message: str) -> None:
    with pytest.raises(ElmanError, match=message):
        explain(nn.RNN(4, 3), torch.randn(24, 1, 4), targets)


def test_targets_of_a_module_with_one_output() -> None:
    model = Made(lambda m, x: m.rnn(x)[1][-1], rnn=nn.RNN(4, 3))
    with pytest.raises(ElmanError, match="an output for each step"):
        explain(model, torch.randn(24, 1, 4), torch.zeros(24, 1, dtype=torch.long))


def test_steps_without_a_target_have_no_loss() -> None:
    torch.manual_seed(0)
    layer, x = nn.RNN(4, 3), torch.randn(40, 2, 4)
    targets = torch.randint(0, 3, (40, 2), dtype=torch.int32)
    whole = explain(layer, x, targets)
    targets[:8] = -100
    targets[30] = -100
    some = explain(layer, x, targets)
    assert some.losses is not None
    assert whole.losses is not None
    assert np.flatnonzero(np.isnan(some.losses)).tolist() == [*range(8), 30]
    assert np.delete(some.losses, [*range(8), 30]) == pytest.approx(np.delete(whole.losses, [*range(8), 30]))
    assert all(math.isfinite(loss) and loss > 0 for loss in some.memory.context)
    targets[:] = -100
    targets[5] = 1
    assert len(explain(layer, x, targets).memory.gradient) <= 6
