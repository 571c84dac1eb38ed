"""Cells of the user's own, and those of the literature, against loops that spell out their equations; the scan."""

import copy
import io
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import elman
from elman import reference
from test_layers import tensors_in

pytestmark = pytest.mark.usefixtures("one_thread")

INPUT, HIDDEN, STEPS, BATCH = 3, 4, 6, 5


def randomised(layer: nn.Module) -> nn.Module:
    """With no parameter at a value that hides something, as 0 or 1 do."""
    torch.manual_seed(5)
    with torch.no_grad():
        for p in layer.parameters():
            p.uniform_(-1, 1)
    return layer


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def gradients(results, leaves: list[Tensor]) -> list[Tensor]:
    torch.manual_seed(9)
    loss = sum((t * torch.randn(t.shape, dtype=t.dtype)).sum() for t in tensors_in(results))
    return list(torch.autograd.grad(loss, leaves, retain_graph=True))


def assert_agree(found, expected, leaves: list[Tensor]) -> None:
    for a, b in zip(tensors_in(found), tensors_in(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    for a, b in zip(gradients(found, leaves), gradients(expected, leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


# Steps, at module level as pickle wants them.


def lstm(gates, states):
    i, f, g, o = gates
    c = states[1]
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru(gates, states):
    r, z = torch.sigmoid(gates[0]), torch.sigmoid(gates[1])
    n = torch.tanh(gates[2].input + r * gates[2].recurrent)
    return (1 - z) * n + z * states[0]


def leaky(gates, states, rate, shift):
    """Of one state, with parameters, and values that a trace shows."""
    new = torch.tanh(gates[0]) + shift
    return states[0] + torch.sigmoid(rate) * (new - states[0]), {"new": new, "rate": torch.sigmoid(rate)}


def three(gates, states):
    """Three states, of which each is moved by another."""
    h, fast, slow = states
    fast = 0.5 * fast + torch.tanh(gates[0])
    slow = 0.9 * slow + 0.1 * fast.abs()
    return F.softplus(fast - slow) * torch.sigmoid(gates[1]) - 0.3 * h, fast, slow


def centred(gates, states):
    """Means over the hidden units."""
    a = torch.tanh(gates[0])
    return a - a.mean() + 0.1 * states[0]


def alone(gates, states, weight):
    """Without a recurrent product."""
    return torch.relu(gates[0] + weight * states[0]) - gates[1]


def custom(step, *sizes, **options) -> elman.Recurrent:
    return randomised(elman.Recurrent(step, *(sizes or (INPUT, HIDDEN)), dtype=torch.float64, **options))


def loop(layer: nn.Module, x: Tensor, cell, states: list[Tensor] | None = None, count: int = 1):
    """x (T, B, I). cell(a, u, states, there) → new states, from a and u, the input's and the state's biased products;
    there(name) gives a parameter of the layer and direction."""
    last: list[list[Tensor]] = []
    for k in range(layer.num_layers):
        outputs = []
        for suffix in ("", "_reverse") if layer.bidirectional else ("",):

            def there(name, k=k, suffix=suffix):
                return getattr(layer, f"{name}_l{k}{suffix}", None)

            zeros = x.new_zeros(x.shape[1], layer.hidden_size)
            state = [zeros] * count if states is None else [s[len(last)] for s in states]
            ys = []
            for t in reversed(range(len(x))) if suffix else range(len(x)):
                a = F.linear(x[t], there("weight_ih"), there("bias_ih"))
                w = there("weight_hh")
                u = None if w is None else F.linear(state[0], w, there("bias_hh"))
                state = list(cell(a, u, state, there))
                ys.append(state[0])
            outputs.append(torch.stack(ys[::-1] if suffix else ys))
            last.append(state)
        x = torch.cat(outputs, 2)
    ended = [torch.stack(s) for s in zip(*last, strict=True)]
    return x, tuple(ended) if count > 1 else ended[0]


def peephole_lstm(a, u, states, there):
    """Gers and Schmidhuber (2000)."""
    i, f, g, o = (a + u).chunk(4, 1)
    c = states[1]
    i, f = torch.sigmoid(i + there("peephole_i") * c), torch.sigmoid(f + there("peephole_f") * c)
    c = f * c + i * torch.tanh(g)
    return torch.sigmoid(o + there("peephole_o") * c) * torch.tanh(c), c


def coupled_lstm(a, u, states, there):
    """Greff et al. (2017), CIFG."""
    f, g, o = (a + u).chunk(3, 1)
    f = torch.sigmoid(f)
    c = f * states[1] + (1 - f) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def ind_rnn(activation):
    """Li et al. (2018)."""
    return lambda a, u, states, there: (activation(a + there("recurrent_weight") * states[0]),)


def min_gru(a, u, states, there):
    """Feng et al. (2024), section 3.1."""
    z, candidate = a.chunk(2, 1)
    z = torch.sigmoid(z)
    return ((1 - z) * states[0] + z * candidate,)


def min_lstm(a, u, states, there):
    """Feng et al. (2024), section 3.2."""
    f, i, candidate = a.chunk(3, 1)
    f, i = torch.sigmoid(f), torch.sigmoid(i)
    return (f / (f + i) * states[0] + i / (f + i) * candidate,)


def gru_reset_before(a, u, states, there):
    """Cho et al. (2014)."""
    h = states[0]
    (a_r, a_z, a_n), (u_r, u_z, _) = a.chunk(3, 1), u.chunk(3, 1)
    r, z = torch.sigmoid(a_r + u_r), torch.sigmoid(a_z + u_z)
    b_hh = there("bias_hh")
    u_n = F.linear(r * h, there("weight_hh")[2 * HIDDEN :], None if b_hh is None else b_hh[2 * HIDDEN :])
    return ((1 - z) * torch.tanh(a_n + u_n) + z * h,)


NAMED = {
    "PeepholeLSTM": (elman.PeepholeLSTM, {}, peephole_lstm, 2),
    "CoupledLSTM": (elman.CoupledLSTM, {}, coupled_lstm, 2),
    "IndRNN": (elman.IndRNN, {}, ind_rnn(torch.relu), 1),
    "IndRNN of tanh": (elman.IndRNN, {"nonlinearity": "tanh"}, ind_rnn(torch.tanh), 1),
    "MinGRU": (elman.MinGRU, {}, min_gru, 1),
    "MinLSTM": (elman.MinLSTM, {}, min_lstm, 1),
    "GRU, reset before": (elman.GRU, {"reset_after": False}, gru_reset_before, 1),
}


def named(name: str, *sizes: int, **more) -> nn.Module:
    cls, options, *_ = NAMED[name]
    return randomised(cls(*(sizes or (INPUT, HIDDEN)), dtype=torch.float64, **(options | more)))


def given_states(layer: nn.Module, count: int) -> list[Tensor]:
    outer = layer.num_layers * (2 if layer.bidirectional else 1)
    return [draw(outer, BATCH, HIDDEN) for _ in range(count)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("name", NAMED)
def test_cells_of_the_literature(name, num_layers, bidirectional, bias):
    *_, cell, count = NAMED[name]
    layer = named(name, INPUT, HIDDEN, num_layers, bias=bias, bidirectional=bidirectional)
    x = draw(STEPS, BATCH, INPUT)
    for states in (None, given_states(layer, count)):
        expected = loop(layer, x, cell, states, count)
        hx = None if states is None else tuple(states) if count > 1 else states[0]
        assert_agree(layer(x, hx), expected, [x, *(states or []), *layer.parameters()])
    layer.batch_first = True
    y, state = layer(x.transpose(0, 1), hx)
    assert_agree((y.transpose(0, 1), state), expected, [x, *states, *layer.parameters()])
    unbatched = layer(x[:, 0], tuple(s[:, 0] for s in states) if count > 1 else states[0][:, 0])
    for a, b in zip(tensors_in(unbatched), tensors_in(expected), strict=True):
        torch.testing.assert_close(a, b[:, 0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NAMED)
def test_chunks_are_the_whole(name):
    layer, x = named(name, INPUT, HIDDEN, 2), draw(STEPS, BATCH, INPUT)
    expected, end = layer(x)
    state, ys = None, []
    for part in x.split([1, 2, 3]):
        y, state = layer(part, state)
        ys.append(y)
    assert_agree([torch.cat(ys), state], [expected, end], [x, *layer.parameters()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("hidden", [1, 17, 64])
@pytest.mark.parametrize("name", [n for n in NAMED if n != "GRU, reset before"])
def test_cells_of_any_size(name, hidden, dtype):
    *_, cell, count = NAMED[name]
    layer = named(name, INPUT, hidden).to(dtype)
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(0.3)
    x = torch.randn(STEPS, 3, INPUT, dtype=dtype, requires_grad=True)
    results = layer(x), loop(layer, x, cell, None, count)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    leaves = [x, *layer.parameters()]
    for a, b in zip(*([*tensors_in(r), *gradients(r, leaves)] for r in results), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NAMED)
def test_layer_norm_around_cells_of_the_literature(name):
    *_, cell, count = NAMED[name]
    if not named(name)._kind().products:
        return
    layer, x = named(name, layer_norm=True), draw(STEPS, BATCH, INPUT)

    def norm(a, gain):
        return F.layer_norm(a, a.shape[-1:]) * gain

    def there(name):
        return layer.get_parameter(f"{name}_l0")

    state = [x.new_zeros(BATCH, HIDDEN)] * count
    ys = []
    for t in range(STEPS):
        a = norm(F.linear(x[t], there("weight_ih")), there("norm_ih")) + there("bias_ih")
        if count == 2:
            u = norm(F.linear(state[0], there("weight_hh")), there("norm_hh")) + there("bias_hh")
            state = list(cell(a, u, state, there))
        else:  # each product by itself, the second of what the first has made
            h, two = state[0], 2 * HIDDEN
            gates, gains, bias = there("weight_hh"), there("norm_hh"), there("bias_hh")
            u = norm(F.linear(h, gates[:two]), gains[:two]) + bias[:two]
            r, z = torch.sigmoid(a[:, :two] + u).chunk(2, 1)
            u_n = norm(F.linear(r * h, gates[two:]), gains[two:]) + bias[two:]
            state = [(1 - z) * torch.tanh(a[:, two:] + u_n) + z * h]
        ys.append(state[0])
    assert_agree(layer(x)[0], torch.stack(ys), [x, *layer.parameters()])


def test_extreme_gates_of_min_lstm():
    layer = elman.MinLSTM(1, 1)
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
        layer.weight_ih_l0[:2] = 1
        layer.bias_ih_l0[2] = 3
    x = torch.tensor([-1e4, -200.0, 0.0, 200.0, 1e4])[:, None].requires_grad_()
    y, _ = layer(x)
    torch.testing.assert_close(y[:, 0], 3 * (1 - 0.5 ** torch.arange(1, 6)))  # f and i alike: halves
    y.sum().backward()
    assert x.grad.isfinite().all()


def test_parameters_of_the_literatures_cells_begin_as_they_should():
    assert not any(
        p.any() for n, p in elman.PeepholeLSTM(3, 9).named_parameters() if n.startswith("peephole")
    )
    for layer in (elman.IndRNN(3, 500), elman.IndRNN(3, 500, nonlinearity="tanh", init="glorot")):
        for _ in range(2):
            u = layer.recurrent_weight_l0.detach()
            assert 0 <= float(u.min()) < 0.02
            assert 0.98 < float(u.max()) <= 1
            nn.init.zeros_(u)
            layer.reset_parameters()
    for name in ("MinGRU", "MinLSTM", "IndRNN"):
        names = dict(named(name).named_parameters())
        assert not any(n.startswith(("weight_hh", "bias_hh")) for n in names)


def test_nonlinearity_of_ind_rnn():
    assert "tanh" in repr(elman.IndRNN(3, 4, nonlinearity="tanh"))
    for value in ("sigmoid", None):
        with pytest.raises(ValueError, match=f"nonlinearity.*{value!r}"):
            elman.IndRNN(3, 4, nonlinearity=value)


def sequential(a, b, h0, sizes, reverse, resets, h_reset):
    """h = a h + b, row by row."""
    steps, at = [], 0
    for size in sizes:
        steps.append((at, size))
        at += size
    rows: list[Tensor] = [None] * at
    state = list(h0)
    for at, size in reversed(steps) if reverse else steps:
        for k in range(size):
            before = h_reset[k] if resets is not None and resets[at + k] else state[k]
            rows[at + k] = state[k] = a[at + k] * before + b[at + k]
    return torch.stack(rows), torch.stack(state)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_scan_is_the_recurrence(data):
    choose = data.draw
    sizes = sorted(choose(st.lists(st.integers(1, 4), min_size=1, max_size=9)), reverse=True)
    ragged, reverse, resetting = (choose(st.booleans()) for _ in range(3))
    sizes = sizes if ragged else [sizes[0]] * len(sizes)
    torch.manual_seed(choose(st.integers(0, 99)))
    a, b = draw(sum(sizes), 2), draw(sum(sizes), 2)
    h0, h_reset = draw(sizes[0], 2), draw(sizes[0], 2)
    resets = (torch.rand(sum(sizes)) < 0.3).to(torch.uint8) if resetting else None
    expected = sequential(a, b, h0, sizes, reverse, resets, h_reset)
    found = reference.scan(
        a, b, h0, sizes if ragged else None, reverse, resets, h_reset if resetting else None
    )
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)
    torch.manual_seed(0)
    weights = [torch.randn_like(t) for t in expected]
    leaves = [a, b, h0, h_reset]
    grads = [
        torch.autograd.grad(
            sum((t * w).sum() for t, w in zip(r, weights, strict=True)), leaves, allow_unused=True
        )
        for r in (found, expected)
    ]
    for x, y in zip(*grads, strict=True):
        x, y = (torch.zeros(1, dtype=torch.float64) if g is None else g for g in (x, y))
        torch.testing.assert_close(x, y.expand_as(x) if y.numel() == 1 else y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["MinGRU", "MinLSTM"])
def test_factors_with_the_scan_are_the_cell(name, monkeypatch):
    """What runs where there is no kernel, run here: by layer, direction, lengths and resets."""
    plain = named(name, INPUT, HIDDEN, 2, bidirectional=True, learn_initial_state=True)
    scanned = copy.deepcopy(plain)
    scanned._plain_run = lambda layer, suffix, w_hh: _elsewhere(scanned, layer, suffix, monkeypatch)
    x, hx = draw(STEPS, BATCH, INPUT), draw(4, BATCH, HIDDEN)
    reset = torch.rand(STEPS, BATCH) < 0.3
    for more in (
        {},
        {"reset": reset},
        {"lengths": [3, 6, 0, 1, 5]},
        {"lengths": [3, 6, 0, 1, 5], "reset": reset},
    ):
        found, expected = scanned(x, hx, **more), plain(x, hx, **more)
        for a, b in zip(tensors_in(found), tensors_in(expected), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
        for module, result in ((scanned, found), (plain, expected)):
            module.grads = gradients(
                result, [x, hx, *(p for n, p in module.named_parameters() if "initial" not in n)]
            )
        for a, b in zip(scanned.grads, plain.grads, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def _elsewhere(layer, k, suffix, monkeypatch):
    """`_plain_run` as if the weights were on another device, which have no numbers that a test could see."""
    d = layer._direction(k, suffix)

    class Elsewhere:
        is_cpu = is_meta = False

    with monkeypatch.context() as patch:
        patch.setattr(layer, "_direction", lambda *_: d._replace(w_ih=Elsewhere()))
        run = type(layer)._plain_run(layer, k, suffix, None)
    cell = next(c for c in run.__closure__ if hasattr(c.cell_contents, "w_ih"))
    cell.cell_contents = d
    return run


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("step", "cls", "gates"), [(lstm, elman.LSTM, 4), (gru, elman.GRU, 3)])
def test_a_users_cell_is_the_built_in_one(step, cls, gates, bidirectional):
    states = ("hidden", "cell") if cls is elman.LSTM else ("hidden",)
    more = {"bidirectional": bidirectional}
    ours = custom(step, INPUT, HIDDEN, 2, gates=gates, states=states, **more)
    builtin = cls(INPUT, HIDDEN, 2, dtype=torch.float64, **more)
    assert set(ours.state_dict()) == set(builtin.state_dict())
    builtin.load_state_dict(ours.state_dict())
    x, hx = draw(STEPS, BATCH, INPUT), tuple(given_states(ours, len(states)))
    results = [m(x, hx if len(hx) > 1 else hx[0]) for m in (ours, builtin)]
    for a, b in zip(*(tensors_in(r) for r in results), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    names = list(ours.state_dict())
    grads = [
        gradients(r, [x, *hx, *(m.get_parameter(n) for n in names)])
        for r, m in zip(results, (ours, builtin), strict=True)
    ]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


CUSTOM = {
    "lstm": (lstm, {"gates": 4, "states": ("hidden", "cell")}),
    "gru": (gru, {"gates": 3}),
    "leaky": (leaky, {"gates": 1, "parameters": {"rate": -1.0, "shift": 0.5}}),
    "three": (three, {"gates": 2, "states": ["out", "fast", "slow"]}),
    "centred": (centred, {"gates": 1}),
    "alone": (alone, {"gates": 2, "parameters": {"weight": 0.5}, "recurrent": False}),
}


class Pair:
    """What a step sees as a gate, of tensors."""

    def __init__(self, a, u):
        self.input, self.recurrent = a, u

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return function(
            *(a.input + a.recurrent if isinstance(a, Pair) else a for a in args), **(kwargs or {})
        )


def eagerly(step, parameters=()):
    """A step on tensors, for `loop`."""

    def cell(a, u, states, there):
        count = a.shape[1] // states[0].shape[1]
        gates = a.chunk(count, 1)
        if u is not None:
            gates = [Pair(*pair) for pair in zip(gates, u.chunk(count, 1), strict=True)]
        found = step(tuple(gates), tuple(states), **{name: there(name) for name in parameters})
        found = found[0] if isinstance(found, tuple) and isinstance(found[-1], dict) else found
        return [found] if isinstance(found, Tensor) else found

    return cell


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", [n for n in CUSTOM if n != "centred"])
def test_a_step_computes_what_it_computes_on_tensors(name, bidirectional):
    step, options = CUSTOM[name]
    layer = custom(step, INPUT, HIDDEN, 2, bidirectional=bidirectional, **options)
    x, states = draw(STEPS, BATCH, INPUT), options.get("states", ("hidden",))
    expected = loop(layer, x, eagerly(step, options.get("parameters", ())), None, len(states))
    assert_agree(layer(x), expected, [x, *layer.parameters()])


def test_a_mean_is_over_the_hidden_units():
    layer, x = custom(centred, **CUSTOM["centred"][1]), draw(STEPS, BATCH, INPUT)

    def cell(a, u, states, there):
        a = torch.tanh(a + u)
        return (a - a.mean(1, keepdim=True) + 0.1 * states[0],)

    assert_agree(layer(x), loop(layer, x, cell), [x, *layer.parameters()])


def test_parameters_of_a_step():
    layer = elman.Recurrent(leaky, 3, 4, 2, bidirectional=True, **CUSTOM["leaky"][1])
    for _ in range(2):
        for k in ("l0", "l0_reverse", "l1", "l1_reverse"):
            assert torch.equal(layer.get_parameter(f"rate_{k}"), torch.full((4,), -1.0))
            assert torch.equal(layer.get_parameter(f"shift_{k}"), torch.full((4,), 0.5))
        for p in layer.parameters():
            nn.init.constant_(p, 7)
        layer.reset_parameters()
    layer(torch.randn(5, 2, 3))[0].sum().backward()
    assert all(p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize("name", ["bias_f", "weight_ih_scale", "norm", "initial", "bias", "weight_low"])
@pytest.mark.parametrize("init", ["torch", "orthogonal"])
def test_parameters_begin_as_given_whatever_their_names(name, init):
    def step(gates, states, **own):
        return torch.tanh(gates[0]) * own[name]

    layer = elman.Recurrent(
        step, 3, 4, 2, gates=1, parameters={name: 0.25}, init=init, learn_initial_state=True
    )
    assert torch.equal(layer.get_parameter(f"{name}_l1"), torch.full((4,), 0.25))
    assert not layer.initial_hidden.any()
    assert layer.weight_hh_l0.any()


def test_first_weights_are_torchs():
    torch.manual_seed(0)
    layer = elman.Recurrent(lstm, 3, 25, 2, bidirectional=True, gates=4, states=("hidden", "cell"))
    for p in layer.parameters():
        assert 0.17 < float(p.detach().abs().max()) <= 0.2  # 1 / sqrt(H)
        assert float(p.detach().min()) < 0 < float(p.detach().max())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", CUSTOM)
def test_trace_shows_states_and_what_a_step_names(name, batch_first):
    step, options = CUSTOM[name]
    layer = custom(step, INPUT, HIDDEN, 2, bidirectional=True, batch_first=batch_first, **options)
    x = draw(STEPS, BATCH, INPUT)
    y, _, trace = layer(x.transpose(0, 1) if batch_first else x, return_trace=True)
    names = [*options.get("states", ("hidden",)), *(["new", "rate"] if step is leaky else [])]
    assert set(trace) == {f"{n}_l{k}{s}" for n in names for k in range(2) for s in ("", "_reverse")}
    for value in trace.values():
        assert value.shape == (*y.shape[:2], HIDDEN)
    output = torch.cat([trace[f"{names[0]}_l1"], trace[f"{names[0]}_l1_reverse"]], 2)
    assert torch.equal(output, y)
    if step is leaky:
        torch.testing.assert_close(trace["rate_l1"], torch.sigmoid(layer.rate_l1).expand_as(trace["rate_l1"]))
        moved = torch.sigmoid(layer.rate_l0) * trace["new_l0"]
        first = moved[:, 0] if batch_first else moved[0]
        torch.testing.assert_close(
            (trace["hidden_l0"].transpose(0, 1) if batch_first else trace["hidden_l0"])[0], first
        )


ALL = {
    "layer_norm": True,
    "recurrent_dropout": 0.2,
    "input_dropout": 0.2,
    "zoneout": 0.2,
    "weight_dropout": 0.2,
    "residual": True,
    "learn_initial_state": True,
    "checkpoint_every": 4,
    "dropout": 0.2,
    "init": "orthogonal",
}


@pytest.mark.parametrize("name", CUSTOM)
def test_all_options_at_once(name):
    step, options = CUSTOM[name]
    more = dict(ALL)
    if not options.get("recurrent", True):
        more = {
            n: v for n, v in ALL.items() if n not in ("layer_norm", "recurrent_dropout", "weight_dropout")
        }
    layer = custom(step, INPUT, HIDDEN, 2, bidirectional=True, **options, **more)
    twin = custom(
        step, INPUT, HIDDEN, 2, bidirectional=True, **options, **(more | {"checkpoint_every": None})
    )
    x = draw(STEPS, BATCH, INPUT)
    call = {"lengths": [3, 6, 0, 1, 5], "reset": torch.rand(STEPS, BATCH) < 0.3, "return_trace": True}
    results = []
    for module in (layer, twin):
        torch.manual_seed(1)
        y, state, trace = module(x, **call)
        results.append([y, state, *trace.values()])
    for a, b in zip(*(tensors_in(r) for r in results), strict=True):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    grads = [gradients(r, [x, *m.parameters()]) for r, m in zip(results, (layer, twin), strict=True)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    assert all(g.any() for g in grads[0])


@pytest.mark.parametrize("name", CUSTOM)
def test_copies_pickles_and_state_dicts(name):
    step, options = CUSTOM[name]
    layer = custom(step, INPUT, HIDDEN, 2, bidirectional=True, learn_initial_state=True, **options)
    x = draw(STEPS, BATCH, INPUT)
    expected = tensors_in(layer(x))
    saved = io.BytesIO()
    torch.save(layer.state_dict(), saved)
    saved.seek(0)
    other = elman.Recurrent(
        step, INPUT, HIDDEN, 2, bidirectional=True, learn_initial_state=True, dtype=torch.float64, **options
    )
    other.load_state_dict(torch.load(saved, weights_only=True), strict=True)
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), other]
    for p in layer.parameters():
        nn.init.zeros_(p)
    for twin in copies:
        for a, b in zip(tensors_in(twin(x)), expected, strict=True):
            assert torch.equal(a, b)
        twin.reset_parameters()  # which knows what parameters begin with
        for parameter, value in options.get("parameters", {}).items():
            assert bool((twin.get_parameter(f"{parameter}_l0") == value).all())


@pytest.mark.parametrize("name", NAMED)
def test_named_cells_are_pickled(name):
    layer = named(name, INPUT, HIDDEN, 2, learn_initial_state=True)
    x = draw(STEPS, BATCH, INPUT)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x)[0], layer(x)[0])
        assert repr(twin) == repr(layer)


def test_repr():
    layer = elman.Recurrent(
        gru, 3, 4, 2, gates=3, bias=False, batch_first=True, bidirectional=True, zoneout=0.1
    )
    assert repr(layer) == (
        "Recurrent(3, 4, num_layers=2, bias=False, batch_first=True, bidirectional=True, zoneout=0.1)"
    )
    assert repr(elman.Recurrent(gru, 3, 4, gates=3)) == "Recurrent(3, 4)"
    assert "reset_after=False" in repr(elman.GRU(3, 4, reset_after=False))


def test_dropout_between_layers():
    layer = elman.Recurrent(gru, 3, 200, 2, gates=3, dropout=0.3)
    _, _, trace = layer(torch.randn(5, 4, 3), return_trace=True)
    layer.zero_grad()
    y, _ = layer(torch.randn(1, 1, 3))
    y.sum().backward()
    dropped = (layer.weight_ih_l1.grad == 0).all(0)
    assert float(dropped.float().mean()) == pytest.approx(0.3, abs=0.12)
    assert trace["hidden_l0"].all()  # shown as it leaves the cell
    layer.eval()
    x = torch.randn(5, 4, 3)
    assert torch.equal(layer(x)[0], layer(x)[0])


def two_of_one(gates, states):
    return gates[0], gates[0]


def none_of_one(gates, states):
    return ()


def a_tensor(gates, states):
    return torch.zeros(4)


def a_number_shown(gates, states):
    return gates[0], {"one": 1.0}


def names_a_state(gates, states):
    return gates[0], {"hidden": gates[0]}


def unsupported(gates, states):
    return torch.cumsum(gates[0], 0)


def unsupported_method(gates, states):
    return gates[0].cumsum(0)


def of_two(gates, states):
    return torch.softmax(gates[0], -1)


def branches(gates, states):
    return gates[0] if gates[0] > 0 else states[0]


def branches_on_equality(gates, states):
    return gates[0] if gates[0] == 0 else states[0]


def branches_on_difference(gates, states):
    return gates[0] if states[0] != 0 else states[0]


def loops(gates, states):
    return sum(unit for unit in gates[0])


def measures(gates, states):
    return gates[0] * len(gates[0])


def indexes(gates, states):
    return gates[0][0]


def reads_the_shape(gates, states):
    return gates[0] / gates[0].shape[1]


def with_a_tensor(gates, states):
    return gates[0] + torch.ones(4)


def with_a_bool(gates, states):
    return gates[0] + True


def mean_of_the_batch(gates, states):
    return gates[0].mean(0)


def to_a_power(gates, states):
    return gates[0] ** 2.5


def to_a_float(gates, states):
    return states[0] * math.tanh(gates[0])


UNFIT = {
    two_of_one: r"new states \(hidden\)",
    none_of_one: r"new states \(hidden\)",
    a_tensor: "new states",
    a_number_shown: "named expressions",
    names_a_state: "'hidden'",
    unsupported: "cumsum",
    unsupported_method: "cumsum",
    of_two: "softmax",
    branches: "branch.*torch.where",
    branches_on_equality: "branch.*torch.where|==",
    branches_on_difference: "branch.*torch.where|!=",
    loops: "elements",
    measures: "length",
    indexes: "indexed",
    reads_the_shape: "shape",
    with_a_tensor: "Tensor",
    with_a_bool: "bool",
    mean_of_the_batch: "dim=0",
    to_a_power: "2.5",
}


@pytest.mark.parametrize("step", UNFIT, ids=lambda s: s.__name__)
def test_steps_that_cannot_be_are_refused(step):
    error = AttributeError if step in (unsupported_method, reads_the_shape) else elman.ElmanError
    with pytest.raises(error, match=UNFIT[step]):
        elman.Recurrent(step, 3, 4, gates=1)


def test_steps_that_python_refuses():
    with pytest.raises(TypeError):
        elman.Recurrent(to_a_float, 3, 4, gates=1)
    with pytest.raises(TypeError, match="positional argument"):
        elman.Recurrent(leaky, 3, 4, gates=1)  # without its parameters
    with pytest.raises(TypeError, match="other"):
        elman.Recurrent(gru, 3, 4, gates=3, parameters={"other": 1.0})
    with pytest.raises(ValueError, match="unpack"):
        elman.Recurrent(lstm, 3, 4, gates=3, states=("hidden", "cell"))


BAD = {
    "input_size 0": ({"input_size": 0}, "input_size.*0"),
    "hidden_size 0": ({"hidden_size": 0}, "hidden_size.*0"),
    "negative hidden_size": ({"hidden_size": -4}, "hidden_size.*-4"),
    "hidden_size 4.0": ({"hidden_size": 4.0}, "hidden_size.*4.0"),
    "hidden_size as text": ({"hidden_size": "4"}, "hidden_size.*'4'"),
    "num_layers 0": ({"num_layers": 0}, "num_layers.*0"),
    "num_layers as a bool": ({"num_layers": True}, "num_layers.*True"),
    "gates 0": ({"gates": 0}, "gates.*0"),
    "gates 1.0": ({"gates": 1.0}, "gates.*1.0"),
    "dropout 1.5": ({"dropout": 1.5}, "dropout.*1.5"),
    "dropout as a bool": ({"dropout": True}, "dropout.*True"),
    "dropout as text": ({"dropout": "a"}, "dropout.*'a'"),
    "no states": ({"states": ()}, r"states.*\(\)"),
    "states as text": ({"states": "hidden"}, "states.*'hidden'"),
    "two states of one name": ({"states": ("h", "h")}, "states.*'h'"),
    "a parameter of a weight's name": ({"parameters": {"weight_hh": 1.0}}, "parameters.*'weight_hh'"),
    "a parameter of a gain's name": ({"parameters": {"norm_ih": 1.0}}, "parameters.*'norm_ih'"),
    "layer_norm without a product": ({"recurrent": False, "layer_norm": True}, "layer_norm=True"),
    "forget_bias": ({"forget_bias": 1.0}, "forget_bias=1.0"),
    "chrono": ({"chrono": 10}, "chrono=10"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_refused(case):
    def step(gates, states, **own):
        return torch.tanh(gates[0])

    changed, message = BAD[case]
    with pytest.raises((ValueError, TypeError), match=message):
        elman.Recurrent(step, **({"input_size": 3, "hidden_size": 4, "gates": 1} | changed))


@pytest.mark.parametrize("name", ["lstm", "three"])
def test_states_that_do_not_fit_are_refused(name):
    step, options = CUSTOM[name]
    layer = custom(step, INPUT, HIDDEN, 2, **options)
    x = draw(STEPS, BATCH, INPUT)
    h = torch.zeros(2, BATCH, HIDDEN, dtype=torch.float64)
    count, names = len(options["states"]), list(options["states"])
    for wrong in (h, (h,), (h,) * (count + 1)):
        with pytest.raises(RuntimeError, match=f"expected {count} states .*{names[1]}"):
            layer(x, wrong)
    for shape in (h[:1], h[:, :4], h[..., :3], h[:, 0], h.float()):
        with pytest.raises(RuntimeError, match=f"'{names[1]}'"):
            layer(x, (h, shape, *(h,) * (count - 2)))
    with pytest.raises(RuntimeError, match=r"hidden|out"):
        layer(x[:, 0], (h,) * count)
    for good in ((h,) * count, [h] * count):
        assert layer(x, good)[0].shape == (STEPS, BATCH, HIDDEN)
    assert layer(x[:, 0], (h[:, 0],) * count)[0].shape == (STEPS, HIDDEN)


def test_inputs_that_do_not_fit_are_refused():
    layer = custom(gru, gates=3)
    x = draw(STEPS, BATCH, INPUT)
    with pytest.raises(ValueError, match=r"float32.*float64"):
        layer(x.float())
    with pytest.raises(RuntimeError, match=r"input_size.*3.*2"):
        layer(x[..., :2])
    with pytest.raises(RuntimeError, match="sequence length"):
        layer(x[:0])
    for bad in (x[0, 0], x[None]):
        with pytest.raises(ValueError, match="2D or 3D"):
            layer(bad)


def test_a_step_is_not_called_at_every_step():
    calls = []

    def step(gates, states):
        calls.append(1)
        return torch.tanh(gates[0])

    layer = elman.Recurrent(step, 3, 4, gates=1)
    for training in (True, False, True):
        layer.train(training)(torch.randn(5, 2, 3))[0].sum().backward()
    assert len(calls) == 1
    for _ in range(2):
        layer(torch.randn(5, 2, 3), return_trace=True)
    assert len(calls) == 2


def test_cells_of_one_code_are_not_taken_for_each_other():
    def scaled(by):
        return lambda gates, states: torch.tanh(gates[0]) * by

    x = torch.randn(5, 2, 3)
    one, two = (elman.Recurrent(scaled(by), 3, 4, gates=1, recurrent=False) for by in (1.0, 2.0))
    two.load_state_dict(one.state_dict())
    torch.testing.assert_close(two(x)[0], 2 * one(x)[0])


@pytest.mark.parametrize("name", CUSTOM)
def test_a_custom_cell_learns(name):
    """To carry the first input to the end."""
    step, options = CUSTOM[name]
    torch.manual_seed(0)
    layer, head = elman.Recurrent(step, 1, 16, **options), nn.Linear(16, 1)
    optimiser = torch.optim.Adam([*layer.parameters(), *head.parameters()], 0.02)
    losses = []
    for _ in range(60):
        x = torch.randn(3, 32, 1)
        loss = F.mse_loss(head(layer(x)[0][-1]), x[0])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


@pytest.mark.parametrize("cls", [elman.PeepholeLSTM, elman.MinGRU])
def test_functional_call_and_replaced_weights(cls):
    layer, x = cls(3, 4), torch.randn(5, 2, 3)
    before = layer(x)[0]
    other = {n: torch.randn_like(p, requires_grad=True) for n, p in layer.named_parameters()}
    y = torch.func.functional_call(layer, other, (x,))[0]
    y.sum().backward()
    assert all(w.grad.any() for w in other.values())
    assert layer.weight_ih_l0.grad is None
    assert torch.equal(layer(x)[0], before)
    layer.load_state_dict(other)
    assert torch.equal(layer(x)[0], y)
    nn.utils.parametrizations.weight_norm(layer, "weight_ih_l0")
    torch.testing.assert_close(layer(x)[0], y)


def test_what_is_no_step_is_named():
    with pytest.raises(TypeError, match=r"step.*'tanh'"):
        elman.Recurrent("tanh", 3, 4, gates=1)
    with pytest.raises(ValueError, match=r"parameters.*'a b'"):
        elman.Recurrent(gru, 3, 4, gates=3, parameters={"a b": 1.0})
