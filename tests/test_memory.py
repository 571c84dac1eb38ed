"""How far back a network's input matters: against autograd through the reference, and on tasks with a known answer."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import elman
from elman import reference
from elman.data import ElmanError
from elman.health import exploding
from elman.memory import gradient_norms, measure_memory, slope
from elman.module_subject import ModuleSubject

pytestmark = pytest.mark.usefixtures("one_thread")


class Recall(nn.Module):
    """Codes (T, B) → logits (T, B, 2)."""

    def __init__(self, make: Callable[[int, int], nn.Module], seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding, self.layer, self.head = nn.Embedding(2, 8), make(8, 32), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embedding(x))[0])


def recall(make: Callable[[int, int], nn.Module], delay: int, updates: int) -> Recall:
    """A network that was trained to give back the code it read `delay` steps before."""
    model = Recall(make)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(updates):
        x = torch.randint(0, 2, (80, 16))
        loss = F.cross_entropy(model(x)[delay:].flatten(0, 1), x[:-delay].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


def subject_of(model: nn.Module, delay: int, batch: int = 8) -> ModuleSubject:
    torch.manual_seed(9)
    x = torch.randint(0, 2, (120, batch))
    return ModuleSubject(model, x[delay:], x[:-delay])


def by_reference(model: Recall, subject: ModuleSubject, ends: np.ndarray, length: int) -> np.ndarray:
    """The same norms by autograd through reference.py, layer by layer."""
    t, b = torch.from_numpy(ends // subject.batch), torch.from_numpy(ends % subject.batch)
    places = t[None] - torch.arange(length - 1, -1, -1)[:, None]
    entered = model.embedding(subject.inputs[places, b[None]]).detach().requires_grad_()
    layer, y = model.layer, entered.flatten(0, 1)
    cell = layer.mode.lower()
    for k in range(layer.num_layers):
        w_ih, w_hh, b_ih, b_hh = (
            getattr(layer, f"{n}_l{k}") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        hidden = layer.hidden_size
        apart = cell == "gru"
        folded = torch.cat((b_hh[: 2 * hidden], b_hh.new_zeros(hidden))) if apart else b_hh
        h0 = torch.zeros(len(ends), hidden)
        c0 = h0 if cell == "lstm" else None
        y, _, _ = reference.recurrence(
            cell,
            F.linear(y, w_ih, b_ih + folded),
            h0,
            c0,
            w_hh,
            b_hh[2 * hidden :] if apart else None,
            None,
            False,
        )
    logits = model.head(y.view(length, len(ends), -1)[-1])
    loss = F.cross_entropy(logits, subject.targets[t, b], reduction="sum")
    (gradient,) = torch.autograd.grad(loss, entered)
    return gradient.double().norm(dim=2).mean(dim=1).flip(0).numpy()


@pytest.mark.parametrize(
    "make", [elman.RNN, elman.GRU, elman.LSTM, nn.LSTM], ids=lambda make: make.__module__
)
@pytest.mark.parametrize("layers", [1, 2])
def test_reach_of_the_gradient_is_that_through_the_reference(make: type[nn.Module], layers: int) -> None:
    model = Recall(lambda i, h: make(i, h, layers)).eval()
    subject = subject_of(model, 3)
    ends = np.array([50 * 8 + 1, 70 * 8 + 5, 111 * 8])
    found = gradient_norms(subject, ends, 40)
    assert found == pytest.approx(by_reference(model, subject, ends, 40), rel=2e-4, abs=1e-9)
    assert found[0] > 0


def test_the_horizon_is_the_delay_and_a_plain_network_forgets_where_an_lstm_remembers() -> None:
    delay = 20
    lstm = measure_memory(
        subject_of(recall(lambda i, h: elman.LSTM(i, h, forget_bias=3.0), delay, 1000), delay)
    )
    rnn = measure_memory(subject_of(recall(elman.RNN, delay, 300), delay))
    assert delay < lstm.horizon <= delay + 3  # the step itself counts, and the search ends at a tenth
    assert lstm.gradient_horizon > delay
    assert rnn.horizon == 1
    assert "remembers about" in lstm.sentence
    assert "remembers nothing that helps" in rnn.sentence


@pytest.mark.parametrize("delay", [4, 9])
def test_the_horizon_is_exact_for_short_delays(delay: int) -> None:
    memory = measure_memory(subject_of(recall(elman.GRU, delay, 400), delay))
    assert memory.horizon == delay + 1
    assert (
        memory.context[memory.steps_given.index(delay + 1)]
        < 0.1
        < memory.context[memory.steps_given.index(delay)]
    )
    assert memory.unit == "nats"


def test_exploding_gradients_are_told_even_where_they_overflow() -> None:
    model = Recall(elman.RNN)
    subject = subject_of(model, 3)
    assert not exploding(measure_memory(subject))
    with torch.no_grad():
        model.layer.weight_hh_l0.copy_(3 * nn.init.orthogonal_(torch.empty(32, 32)))
        model.layer.weight_ih_l0.mul_(0.01)
    memory = measure_memory(subject)
    assert exploding(memory)
    assert "explodes" in memory.sentence
    relu = Recall(lambda i, h: elman.RNN(i, h, nonlinearity="relu"))
    with torch.no_grad():
        relu.layer.weight_hh_l0.copy_(30 * torch.rand(32, 32))
    overflowing = measure_memory(subject_of(relu, 3))
    assert exploding(overflowing)
    assert np.isfinite(overflowing.gradient).all()


def test_without_targets_the_output_takes_the_place_of_a_loss() -> None:
    torch.manual_seed(0)
    memory = measure_memory(ModuleSubject(elman.GRU(3, 16), torch.randn(90, 2, 3)))
    assert memory.unit == "difference"
    assert memory.context[-1] == 0
    assert memory.context[0] > 0.1
    assert 1 < memory.horizon < 30


@given(st.floats(0.5, 1.5), st.integers(3, 60))
def test_slope_of_an_exponential(factor: float, steps: int) -> None:
    curve = np.array([factor**k for k in range(steps)])
    assert slope(curve) == pytest.approx(factor, rel=0.02)


def test_slope_of_what_is_nothing() -> None:
    assert slope(np.zeros(5)) == 0
    assert slope(np.zeros(1)) == 0


def test_a_single_step_tells_nothing_of_the_gradient() -> None:
    assert math.isnan(slope(np.array([1.0])))
    assert slope(np.array([1.0, 1e-9, 0.0])) == pytest.approx(1e-9)
    assert slope(np.array([1.0, 0.0])) == 0
    memory = measure_memory(ModuleSubject(nn.RNN(3, 4), torch.randn(1, 1, 3)))
    assert math.isnan(memory.growth)
    assert math.isnan(memory.half_life)
    assert memory.sentence == (
        "There are too few steps to tell what context is worth. "
        "There are too few steps to tell how far the gradient reaches."
    )
    assert not exploding(memory)


class ReadAtTheStart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 16, bidirectional=True), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.lstm(x)[1][0][-1])  # of the layer that reads backwards
        return found


def test_a_gradient_that_is_read_at_the_first_step_does_not_explode() -> None:
    torch.manual_seed(0)
    memory = measure_memory(ModuleSubject(ReadAtTheStart(), torch.randn(80, 4, 4)))
    assert memory.turned
    assert memory.growth < 1
    assert not exploding(memory)
    assert "Counted from the first" in memory.sentence
    assert memory.gradient_horizon < 20


def test_both_ends_of_a_layer_that_reads_both_ways_are_not_a_flat_gradient() -> None:
    class BothEnds(ReadAtTheStart):
        def forward(self, x: Tensor) -> Tensor:
            ends = self.lstm(x)[1][0]
            found: Tensor = self.head(ends[0] + ends[1])
            return found

    torch.manual_seed(0)
    memory = measure_memory(ModuleSubject(BothEnds(), torch.randn(80, 4, 4)))
    assert memory.growth < 0.9
    assert not exploding(memory)


def test_half_life_of_an_exponential_network() -> None:
    """h' = 0.9 h + x: the gradient halves every ln 2 / -ln 0.9 steps."""
    layer = elman.RNN(1, 1, nonlinearity="relu")
    with torch.no_grad():
        for name, value in (
            ("weight_ih_l0", 1.0),
            ("weight_hh_l0", 0.9),
            ("bias_ih_l0", 0.0),
            ("bias_hh_l0", 0.0),
        ):
            getattr(layer, name).fill_(value)
    memory = measure_memory(ModuleSubject(layer, torch.rand(200, 1, 1)))
    assert memory.half_life == pytest.approx(math.log(2) / -math.log(0.9), rel=1e-3)
    assert memory.growth == pytest.approx(0.9, rel=1e-3)


def test_gradients_that_are_not_finite_are_refused() -> None:
    model = Recall(elman.LSTM)
    with torch.no_grad():
        model.head.weight.fill_(math.nan)
    with pytest.raises(ElmanError, match="not finite"):
        measure_memory(subject_of(model, 3))
