"""The options against their papers' equations, written here as plain loops; what they refuse; how weights begin."""

import copy
import math
import pickle
from itertools import chain

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import elman
from test_dropin import CELLS
from test_layers import tensors_in

pytestmark = pytest.mark.usefixtures("one_thread")

INPUT, HIDDEN, STEPS, BATCH = 3, 4, 6, 5
ALL = [elman.RNN, elman.GRU, elman.LSTM, elman.PeepholeLSTM, elman.MinGRU]


def made(cell: str, *sizes: int, **options) -> nn.Module:
    """float64, with no parameter at a value that hides something, as 0 or 1 do."""
    torch.manual_seed(5)
    layer = getattr(elman, cell)(*(sizes or (INPUT, HIDDEN)), dtype=torch.float64, **options)
    with torch.no_grad():
        for p in layer.parameters():
            p.uniform_(-1, 1)
    return layer


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def layer_norm(a: Tensor, gain: Tensor | None) -> Tensor:
    """Ba, Kiros and Hinton (2016), equation 4, over all that a row holds."""
    if gain is None:
        return a
    mean = a.mean(-1, keepdim=True)
    variance = ((a - mean) ** 2).mean(-1, keepdim=True)
    return (a - mean) / torch.sqrt(variance + 1e-5) * gain


def equations(cell: str, a: Tensor, u: Tensor, h: Tensor, c: Tensor | None, norm_c) -> list[Tensor]:
    """The new states. a and u: the input's and the state's product, biased."""
    if cell == "RNN":
        return [torch.tanh(a + u)]
    if cell == "GRU":
        (a_r, a_z, a_n), (u_r, u_z, u_n) = a.chunk(3, -1), u.chunk(3, -1)
        r, z = torch.sigmoid(a_r + u_r), torch.sigmoid(a_z + u_z)
        n = torch.tanh(a_n + r * u_n)
        return [(1 - z) * n + z * h]
    i, f, g, o = (a + u).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    shown = c if norm_c is None else layer_norm(c, norm_c[0]) + norm_c[1]
    return [torch.sigmoid(o) * torch.tanh(shown), c]


def loop(
    layer: nn.Module,
    x: Tensor,
    state: list[Tensor] | None = None,
    state_mask: Tensor | float = 1.0,
    input_masks=(1.0, 1.0, 1.0),
    keep=None,
    w_hh: Tensor | None = None,
):
    """A layer with its options, step by step. state_mask (B, H); input_masks of each layer (B, ·); keep, of each state
    (T, B, H): what zoneout keeps, or else in evaluation, its share."""
    cell = type(layer).__name__
    count = 2 if cell == "LSTM" else 1
    last: list[list[Tensor]] = []
    for k in range(layer.num_layers):
        outputs = []
        inputs = x * input_masks[k]
        for suffix in ("", "_reverse") if layer.bidirectional else ("",):

            def there(name, k=k, suffix=suffix):
                return getattr(layer, f"{name}_l{k}{suffix}", None)

            hidden = w_hh if w_hh is not None else there("weight_hh")
            b_ih, b_hh = (
                b if b is not None else torch.zeros((), dtype=x.dtype)
                for b in map(there, ("bias_ih", "bias_hh"))
            )
            norm_c = None if there("norm_c") is None else (there("norm_c"), there("norm_c_bias"))
            if state is not None:
                states = [s[len(last)] for s in state]
            elif layer.learn_initial_state:
                learned = [layer.initial_hidden, *([layer.initial_cell] if count == 2 else [])]
                states = [s[len(last)].expand(x.shape[1], -1) for s in learned]
            else:
                states = [x.new_zeros(x.shape[1], layer.hidden_size)] * count
            ys: list[Tensor] = []
            times = range(len(x))
            for t in reversed(times) if suffix else times:
                a = layer_norm(F.linear(inputs[t], there("weight_ih")), there("norm_ih")) + b_ih
                u = layer_norm(F.linear(states[0] * state_mask, hidden), there("norm_hh")) + b_hh
                new = equations(cell, a, u, states[0], states[1] if count == 2 else None, norm_c)
                shares = [layer.zoneout if keep is None else share[t] for share in keep or [None] * count]
                states = [p * old + (1 - p) * n for p, old, n in zip(shares, states, new, strict=True)]
                ys.append(states[0])
            outputs.append(torch.stack(ys[::-1] if suffix else ys))
            last.append(states)
        y = torch.cat(outputs, -1)
        x = y + x if layer.residual and y.shape == x.shape else y
    ended = [torch.stack(s) for s in zip(*last, strict=True)]
    return x, tuple(ended) if count == 2 else ended[0]


def gradients(results, leaves: list[Tensor]) -> list[Tensor]:
    torch.manual_seed(9)
    loss = sum((t * torch.randn(t.shape, dtype=t.dtype)).sum() for t in tensors_in(results))
    return list(torch.autograd.grad(loss, leaves, retain_graph=True))


def assert_agree(found, expected, leaves: list[Tensor]) -> None:
    for a, b in zip(tensors_in(found), tensors_in(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    for a, b in zip(gradients(found, leaves), gradients(expected, leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def seeded(layer: nn.Module, *arguments, **more):
    torch.manual_seed(11)
    return layer(*arguments, **more)


DETERMINISTIC = {
    "layer norm": {"layer_norm": True},
    "layer norm without biases": {"layer_norm": True, "bias": False},
    "zoneout": {"zoneout": 0.3},
    "residual": {"residual": True},
    "learned state": {"learn_initial_state": True},
    "random ones in evaluation": {"recurrent_dropout": 0.5, "input_dropout": 0.5, "weight_dropout": 0.5},
    "all": {
        "layer_norm": True,
        "zoneout": 0.2,
        "residual": True,
        "learn_initial_state": True,
        "weight_dropout": 0.1,
    },
}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("option", DETERMINISTIC)
@pytest.mark.parametrize("cell", CELLS)
def test_in_evaluation(cell, option, bidirectional):
    layer = made(cell, INPUT, HIDDEN, 2, bidirectional=bidirectional, **DETERMINISTIC[option]).eval()
    x = draw(STEPS, BATCH, INPUT)
    state = [draw(4 if bidirectional else 2, BATCH, HIDDEN) for _ in range(2 if cell == "LSTM" else 1)]
    for given in (None, state):
        leaves = [
            x,
            *(given or []),
            *(p for n, p in layer.named_parameters() if given is None or "initial" not in n),
        ]
        found = layer(x, None if given is None else tuple(given) if cell == "LSTM" else given[0])
        assert_agree(found, loop(layer, x, given), leaves)


@pytest.mark.parametrize("cell", CELLS)
def test_layer_norm_takes_no_notice_of_the_scale_of_weights(cell):
    layer, x = made(cell, layer_norm=True), draw(STEPS, BATCH, INPUT) * 100
    before = layer(x)[0]
    with torch.no_grad():
        layer.weight_ih_l0.mul_(2)
        layer.weight_hh_l0.mul_(1 + 1e-3)
    assert (layer(x)[0] - before).abs().max() < 1e-2
    assert [tuple(layer.get_parameter(f"norm_{p}_l0").shape) for p in ("ih", "hh")] == [
        (len(layer.weight_ih_l0),)
    ] * 2
    assert hasattr(layer, "norm_c_l0") == (cell == "LSTM")


def shown_mask(layer: nn.Module) -> Tensor:
    """The recurrent dropout's mask of the seed, (B, H): what reaches a candidate that sees the state through 1s."""
    probe = copy.deepcopy(layer)
    with torch.no_grad():
        for p in probe.parameters():
            p.zero_()
        probe.weight_hh_l0[-HIDDEN:] = torch.eye(HIDDEN)
        if isinstance(layer, elman.LSTM):
            probe.weight_hh_l0.zero_()[2 * HIDDEN : 3 * HIDDEN] = torch.eye(HIDDEN)
    h = torch.full((1, BATCH, HIDDEN), 0.25, dtype=torch.float64)
    zeros = torch.zeros(1, BATCH, INPUT, dtype=torch.float64)
    name = "hidden_l0" if isinstance(layer, elman.RNN) else "candidate_l0"
    candidate = seeded(probe, zeros, (h, h) if isinstance(layer, elman.LSTM) else h, return_trace=True)[2][
        name
    ]
    return torch.atanh(candidate[0]) / 0.25 * (2 if isinstance(layer, elman.GRU) else 1)  # r is a half


@pytest.mark.parametrize(
    "around", [{}, {"layer_norm": True}, {"residual": True, "learn_initial_state": True}], ids=str
)
@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_dropout_is_one_mask_for_all_steps(cell, around):
    layer = made(cell, recurrent_dropout=0.4, **around)
    plain = made(cell, recurrent_dropout=0.4)
    mask = shown_mask(plain)
    kept = mask > 0.5
    torch.testing.assert_close(mask, kept.double() / 0.6, rtol=1e-9, atol=1e-9)
    assert 0 < kept.sum() < kept.numel()
    x = draw(STEPS, BATCH, INPUT)
    assert_agree(seeded(layer, x), loop(layer, x, state_mask=mask), [x, *layer.parameters()])


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_dropout_has_its_rate(cell):
    layer = getattr(elman, cell)(1, 400, recurrent_dropout=0.25, dtype=torch.float64)
    h = torch.ones(1, 50, 400, dtype=torch.float64, requires_grad=True)
    if cell == "GRU":  # without the way around the product
        layer.bias_ih_l0.data[400:800] = -1e9
    y, _ = layer(torch.zeros(1, 50, 1, dtype=torch.float64), (h, h.detach()) if cell == "LSTM" else h)
    (g,) = torch.autograd.grad(y.sum(), h)
    assert float((g == 0).double().mean()) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("cell", CELLS)
def test_input_dropout_is_one_mask_of_each_sequence_for_all_steps(cell):
    layer = made(cell, 8, HIDDEN, input_dropout=0.4)
    x = draw(STEPS, BATCH, 8)
    found = seeded(layer, x)
    (g,) = torch.autograd.grad(found[0].sum(), x, retain_graph=True)
    kept = (g != 0).any(0)
    assert torch.equal(g != 0, kept.expand_as(g))
    assert 0 < kept.sum() < kept.numel()
    assert not torch.equal(kept, kept[:1].expand_as(kept))
    assert_agree(found, loop(layer, x, input_masks=[kept.double() / 0.6]), [x, *layer.parameters()])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_input_dropout_of_every_layer_and_of_both_directions(cell, bidirectional):
    layer = made(cell, 6, HIDDEN, 3, input_dropout=0.4, residual=True, bidirectional=bidirectional)
    x = draw(STEPS, 1, 6)
    found = seeded(layer, x)
    masks = []
    for k in range(3):
        names = [f"weight_ih_l{k}", *([f"weight_ih_l{k}_reverse"] if bidirectional else [])]
        weights = [layer.get_parameter(name) for name in names]
        seen = [g.any(0) for g in torch.autograd.grad(found[0].sum(), weights, retain_graph=True)]
        assert torch.equal(seen[0], seen[-1])
        masks.append(seen[0].double()[None] / 0.6)
    assert any(float(m.min()) == 0 for m in masks)
    assert_agree(found, loop(layer, x, input_masks=masks), [x, *layer.parameters()])


@pytest.mark.parametrize("around", [{}, {"layer_norm": True, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_zoneout_keeps_old_values_in_training(cell, around):
    layer = made(cell, zoneout=0.4, **around)
    x = draw(STEPS, BATCH, INPUT)
    y, state, trace = seeded(layer, x, return_trace=True)
    keep = []
    for name in ("hidden", "cell") if cell == "LSTM" else ("hidden",):
        before = F.pad(trace[f"{name}_l0"][:-1], (0, 0, 0, 0, 1, 0))
        keep.append(((trace[f"{name}_l0"] - before).abs() < 1e-13).double())
    if layer.bidirectional:  # the loop takes one direction's alone
        forward = made(cell, zoneout=0.4, **(around | {"bidirectional": False}))
        with torch.no_grad():
            for name, p in forward.named_parameters():
                p.copy_(layer.get_parameter(name))
        expected = loop(forward, x, keep=keep)[0]
        torch.testing.assert_close(y[..., :HIDDEN], expected, rtol=1e-10, atol=1e-10)
        return
    if cell == "LSTM":
        assert not torch.equal(*keep)
    assert_agree([y, state], loop(layer, x, keep=keep), [x, *layer.parameters()])


@pytest.mark.parametrize("cell", CELLS)
def test_zoneout_has_its_rate_at_every_step_anew(cell):
    layer = getattr(elman, cell)(2, 100, zoneout=0.3)
    _, _, trace = layer(torch.randn(30, 8, 2), return_trace=True)
    for name in ("hidden_l0", "cell_l0") if cell == "LSTM" else ("hidden_l0",):
        kept = (trace[name][1:] - trace[name][:-1]).abs() < 1e-6
        for dim in ((0, 1), (0, 2), (1, 2)):
            rates = kept.float().mean(dim)
            assert 0.2 < float(rates.min()) <= float(rates.mean()) < 0.33
            assert float(rates.max()) < 0.45
        assert not torch.equal(kept[0], kept[1])


@pytest.mark.parametrize("around", [{}, {"layer_norm": True}, {"recurrent_dropout": 1e-14}], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_weight_dropout_zeroes_recurrent_weights_for_a_call(cell, around):
    layer = made(cell, INPUT, HIDDEN, weight_dropout=0.4, **around)
    x = draw(STEPS, BATCH, INPUT)
    found = seeded(layer, x)
    (g,) = torch.autograd.grad(found[0].sum(), layer.weight_hh_l0, retain_graph=True)
    kept = g != 0
    assert 0 < kept.sum() < kept.numel()
    dropped = layer.weight_hh_l0 * kept.double() / 0.6
    assert_agree(found, loop(layer, x, w_hh=dropped), [x, *layer.parameters()])


@pytest.mark.parametrize("reset_after", [False, True])
def test_weight_dropout_has_its_rate_in_every_gate(reset_after):
    layer = elman.GRU(3, 100, weight_dropout=0.25, reset_after=reset_after)
    layer(torch.randn(3, 2, 3))[0].pow(2).sum().backward()
    for gate in layer.weight_hh_l0.grad.chunk(3):
        assert float((gate == 0).float().mean()) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("cell", [*CELLS, "PeepholeLSTM"])
@pytest.mark.parametrize("option", ["recurrent_dropout", "input_dropout", "zoneout", "weight_dropout"])
def test_draws_follow_the_seed_and_differ_from_call_to_call(cell, option):
    layer = made(cell, INPUT, 30, 2, bidirectional=True, **{option: 0.5})
    x = draw(STEPS, BATCH, INPUT)
    first, second = seeded(layer, x)[0], layer(x)[0]
    assert not torch.equal(first, second)
    assert torch.equal(seeded(layer, x)[0], first)
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])
    plain = made(cell, INPUT, 30, 2, bidirectional=True)
    if option != "zoneout":  # which mixes in evaluation
        assert torch.equal(layer(x)[0], plain(x)[0])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("option", ["recurrent_dropout", "zoneout", "weight_dropout"])
def test_layers_and_directions_draw_apart(cell, option):
    layer = made(cell, 30, 30, 2, bidirectional=True, **{option: 0.5})
    for name, p in layer.named_parameters():
        if "l0" in name:
            p.data.copy_(layer.get_parameter(name.removesuffix("_reverse")))
    x = draw(1, BATCH, 30).expand(STEPS, -1, -1)  # the same from both ends
    y = layer(x)[0]
    assert not torch.allclose(layer.eval()(x)[0], y)
    _, _, trace = layer.train()(x, return_trace=True)
    assert not torch.allclose(trace["hidden_l0"], trace["hidden_l0_reverse"].flip(0))


@pytest.mark.parametrize(
    ("sizes", "bidirectional", "added"),
    [((4, 4, 2), False, [0, 1]), ((3, 4, 2), False, [1]), ((8, 4, 2), True, [0, 1]), ((4, 4, 2), True, [1])],
)
@pytest.mark.parametrize("cell", [*CELLS, "CoupledLSTM"])
def test_residual_where_sizes_agree(cell, sizes, bidirectional, added):
    layer = made(cell, *sizes, bidirectional=bidirectional, residual=True)
    x = draw(STEPS, BATCH, sizes[0])
    y, _, trace = layer(x, return_trace=True)
    for k in range(2):
        names = [f"hidden_l{k}", *([f"hidden_l{k}_reverse"] if bidirectional else [])]
        hidden = torch.cat([trace[name] for name in names], -1)
        x = hidden + x if k in added else hidden
    torch.testing.assert_close(y, x, rtol=0, atol=1e-14)


@pytest.mark.parametrize("cell", CELLS)
def test_options_may_be_changed_between_calls(cell):
    layer, x = made(cell), draw(STEPS, BATCH, INPUT)
    plain = layer(x)[0]
    for name in ("zoneout", "recurrent_dropout", "input_dropout", "weight_dropout"):
        setattr(layer, name, 0.5)
        assert not torch.allclose(layer(x)[0], plain)
        setattr(layer, name, 0.0)
    layer.checkpoint_every = 2
    torch.testing.assert_close(layer(x)[0], plain)
    layer.checkpoint_every = None
    assert torch.equal(layer(x)[0], plain)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_tokens_go_the_same_way(cell, batch_first):
    layer = made(cell, layer_norm=True, residual=True, learn_initial_state=True, batch_first=batch_first)
    tokens, embedding = torch.randint(9, (STEPS, BATCH)), draw(9, INPUT)
    x = F.embedding(tokens, embedding)
    found = layer.forward_tokens(tokens, embedding)
    layer.batch_first = False
    assert_agree(found, layer(x), [embedding, *layer.parameters()])


@pytest.mark.parametrize(
    "option", ["layer_norm", "residual", "learn_initial_state", "zoneout", "reset_after"]
)
def test_a_stream_refuses_what_it_cannot_compute(option):
    value = {"zoneout": 0.1, "reset_after": False}.get(option, True)
    layer = elman.GRU(INPUT, HIDDEN, **{option: value})
    with pytest.raises(elman.ElmanError, match=option):
        layer.stream()


def test_a_stream_takes_options_of_training():
    layer = elman.GRU(
        INPUT, HIDDEN, recurrent_dropout=0.5, input_dropout=0.5, weight_dropout=0.5, checkpoint_every=2
    )
    x = torch.randn(1, INPUT)
    expected = layer.eval()(x)[0][0]
    torch.testing.assert_close(
        torch.from_numpy(layer.stream().step(x[0].numpy())), expected, rtol=1e-5, atol=1e-6
    )


EVERY = {
    "layer_norm": True,
    "recurrent_dropout": 0.1,
    "input_dropout": 0.2,
    "zoneout": 0.3,
    "weight_dropout": 0.4,
    "residual": True,
    "learn_initial_state": True,
    "checkpoint_every": 2,
}


@pytest.mark.parametrize("cell", [*CELLS, "PeepholeLSTM", "CoupledLSTM"])
def test_options_are_shown_copied_pickled_and_saved(cell):
    layer = made(cell, INPUT, HIDDEN, 2, bidirectional=True, **EVERY)
    assert all(f"{name}={value}" in repr(layer) for name, value in EVERY.items())
    x = draw(STEPS, BATCH, INPUT)
    expected = seeded(layer, x)[0]
    other = made(cell, INPUT, HIDDEN, 2, bidirectional=True, **EVERY)
    other.reset_parameters()
    other.load_state_dict(layer.state_dict(), strict=True)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), other):
        assert repr(twin) == repr(layer)
        assert torch.equal(seeded(twin, x)[0], expected)


@pytest.mark.parametrize("cls", ALL)
def test_no_option_leaves_no_trace(cls):
    plain = cls(INPUT, HIDDEN)
    off = cls(
        INPUT, HIDDEN, layer_norm=False, zoneout=0.0, residual=False, checkpoint_every=None, init="torch"
    )
    assert repr(off) == repr(plain) == f"{cls.__name__}({INPUT}, {HIDDEN})"
    assert list(off.state_dict()) == list(plain.state_dict())
    assert vars(off).keys() == vars(plain).keys()


PROBABILITIES = ["recurrent_dropout", "input_dropout", "zoneout", "weight_dropout"]


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("name", PROBABILITIES)
def test_probabilities_are_numbers_from_0_to_below_1(cls, name):
    for value in (-0.1, 1, 1.0, 2, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"{name}.*{value}"):
            cls(INPUT, HIDDEN, **{name: value})
    for value in (True, False, "0.5", None, [0.5], torch.tensor(0.5)):
        with pytest.raises(TypeError, match=name) as caught:
            cls(INPUT, HIDDEN, **{name: value})
        assert repr(value) in str(caught.value)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("name", ["layer_norm", "residual", "learn_initial_state"])
def test_flags_are_bools(cls, name):
    for value in (1, 0, "yes", None, 0.5):
        with pytest.raises(TypeError, match=f"{name}.*{value!r}"):
            cls(INPUT, HIDDEN, **{name: value})


@pytest.mark.parametrize("cls", ALL)
def test_checkpoints_are_whole_numbers_of_steps(cls):
    for value in (0, -1, 1.5, 2.0, "2", True, False):
        with pytest.raises((TypeError, ValueError), match=f"checkpoint_every.*{value!r}"):
            cls(INPUT, HIDDEN, checkpoint_every=value)


REFUSED = {
    "unknown init": (elman.LSTM, {"init": "xavier"}, "init.*'xavier'"),
    "init None": (elman.LSTM, {"init": None}, "init.*None"),
    "init of a custom cell": (elman.MinGRU, {"init": "he"}, "init.*'he'"),
    "forget_bias of RNN": (elman.RNN, {"forget_bias": 1.0}, "forget_bias=1.0.*RNN"),
    "forget_bias of GRU": (elman.GRU, {"forget_bias": 1.0}, "forget_bias=1.0.*GRU"),
    "forget_bias of IndRNN": (elman.IndRNN, {"forget_bias": 1.0}, "forget_bias=1.0.*IndRNN"),
    "forget_bias as text": (elman.LSTM, {"forget_bias": "1"}, "forget_bias.*'1'"),
    "forget_bias as a bool": (elman.LSTM, {"forget_bias": True}, "forget_bias.*True"),
    "forget_bias without biases": (
        elman.LSTM,
        {"forget_bias": 1.0, "bias": False},
        "forget_bias=1.0.*bias=False",
    ),
    "chrono without biases": (elman.PeepholeLSTM, {"chrono": 9, "bias": False}, "chrono=9.*bias=False"),
    "chrono of RNN": (elman.RNN, {"chrono": 9}, "chrono=9.*RNN"),
    "chrono and forget_bias": (elman.LSTM, {"chrono": 9, "forget_bias": 1.0}, "forget_bias and chrono"),
    "chrono 1": (elman.LSTM, {"chrono": 1}, "chrono.*1"),
    "chrono 2.5": (elman.LSTM, {"chrono": 2.5}, "chrono.*2.5"),
    "chrono as a bool": (elman.LSTM, {"chrono": True}, "chrono.*True"),
    "layer_norm with proj_size": (elman.LSTM, {"proj_size": 2, "layer_norm": True}, "proj_size.*layer_norm"),
    "zoneout with proj_size": (elman.LSTM, {"proj_size": 2, "zoneout": 0.1}, "proj_size.*zoneout"),
    "recurrent_dropout with proj_size": (
        elman.LSTM,
        {"proj_size": 2, "recurrent_dropout": 0.1},
        "recurrent_dropout",
    ),
    "learned state with proj_size": (
        elman.LSTM,
        {"proj_size": 2, "learn_initial_state": True},
        "learn_initial_state",
    ),
    "reset_after as a number": (elman.GRU, {"reset_after": 1}, "reset_after.*1"),
    "unknown option": (elman.LSTM, {"peephole": True}, "peephole"),
    "unknown option of a custom cell": (elman.MinGRU, {"peephole": True}, "peephole"),
    "layer_norm without a product": (elman.MinGRU, {"layer_norm": True}, "layer_norm=True"),
    "recurrent_dropout without a product": (
        elman.IndRNN,
        {"recurrent_dropout": 0.1},
        "recurrent_dropout=0.1",
    ),
    "weight_dropout without a product": (elman.MinLSTM, {"weight_dropout": 0.1}, "weight_dropout=0.1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case):
    cls, options, message = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=message):
        cls(INPUT, HIDDEN, **options)


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({"checkpoint_every": 2}, {}),
        ({"weight_dropout": 0.1}, {}),
        ({}, {"return_trace": True}),
        ({}, {"reset": torch.zeros(STEPS, BATCH, dtype=torch.bool)}),
    ],
    ids=str,
)
def test_what_a_projection_does_not_go_with_is_refused_when_used(options, call):
    layer = elman.LSTM(INPUT, HIDDEN, proj_size=2, **options)
    with pytest.raises(ValueError, match="proj_size"):
        layer(torch.randn(STEPS, BATCH, INPUT), **call)


@pytest.mark.parametrize("option", [{"residual": True}, {"input_dropout": 0.4}], ids=str)
def test_a_projection_goes_with_the_others(option):
    torch.manual_seed(0)
    layer = elman.LSTM(2, HIDDEN, 2, proj_size=2, bidirectional=True, dtype=torch.float64, **option)
    plain = nn.LSTM(2, HIDDEN, 1, proj_size=2, bidirectional=True, dtype=torch.float64)
    x = draw(STEPS, BATCH, 2)
    y, (h, c) = layer(x)
    assert (y.shape, h.shape, c.shape) == ((STEPS, BATCH, 4), (4, BATCH, 2), (4, BATCH, HIDDEN))
    if "residual" in option:
        plain.load_state_dict({n: p for n, p in layer.state_dict().items() if "_l0" in n})
        first = plain(x)[0]  # 4 wide, of 2 inputs
        second = elman.LSTM(4, HIDDEN, proj_size=2, bidirectional=True, dtype=torch.float64)
        second.load_state_dict(
            {n.replace("_l1", "_l0"): p for n, p in layer.state_dict().items() if "_l1" in n}
        )
        torch.testing.assert_close(y, second(first)[0] + first)


SUFFIXES = ["l0", "l0_reverse", "l1", "l1_reverse"]


def gates_of(layer: nn.Module, name: str) -> list[list[Tensor]]:
    """Of each layer and direction, the parameter's rows by gate."""
    return [list(layer.get_parameter(f"{name}_{s}").detach().split(layer.hidden_size)) for s in SUFFIXES]


def scribbled(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        for p in layer.parameters():
            p.fill_(7)
    layer.reset_parameters()
    return layer


INITS = [elman.RNN, elman.GRU, elman.LSTM, elman.CoupledLSTM, elman.PeepholeLSTM]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("init", ["orthogonal", "glorot"])
@pytest.mark.parametrize("cls", INITS)
def test_init(cls, init, again):
    layer = cls(20, 30, 2, bidirectional=True, init=init, dtype=torch.float64)
    layer = scribbled(layer) if again else layer
    eye = torch.eye(30, dtype=torch.float64)
    for gate in chain(*gates_of(layer, "weight_hh")):
        assert gate.shape == (30, 30)
        if init == "orthogonal":
            torch.testing.assert_close(gate @ gate.T, eye)
        else:
            bound = math.sqrt(6 / 60)
            assert 0.9 * bound < gate.abs().max() <= bound
    for k, gates in enumerate(gates_of(layer, "weight_ih")):
        bound = math.sqrt(6 / (30 + (20 if k < 2 else 60)))
        assert all(0.9 * bound < g.abs().max() <= bound for g in gates)
    for name in ("bias_ih", "bias_hh"):
        assert not any(g.any() for g in chain(*gates_of(layer, name)))
    every = [g for name in ("weight_ih", "weight_hh") for gates in gates_of(layer, name) for g in gates]
    assert len({float(g[0, 0]) for g in every}) == len(every)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("init", ["torch", "orthogonal"])
@pytest.mark.parametrize(
    ("cls", "forget"), [(elman.LSTM, 1), (elman.PeepholeLSTM, 1), (elman.CoupledLSTM, 0)]
)
def test_forget_bias(cls, forget, init, again):
    layer = cls(INPUT, 30, 2, bidirectional=True, forget_bias=2.5, init=init)
    layer = scribbled(layer) if again else layer
    for gates in gates_of(layer, "bias_ih"):
        assert bool((gates.pop(forget) == 2.5).all())
        assert all(bool(g.any()) == (init == "torch") for g in gates)
    for gates in gates_of(layer, "bias_hh"):
        assert not gates.pop(forget).any()
        assert all(bool(g.any()) == (init == "torch") for g in gates)


def test_forget_bias_leaves_the_rest_as_torch_draws_it():
    made_ = []
    for cls, more in ((nn.LSTM, {}), (elman.LSTM, {"forget_bias": 1.0}), (elman.LSTM, {"zoneout": 0.1})):
        torch.manual_seed(3)
        made_.append(cls(INPUT, HIDDEN, 2, bidirectional=True, **more))
    theirs, ours, zoned = (m.state_dict() for m in made_)
    for name, expected in theirs.items():
        rest = torch.ones(len(expected), dtype=torch.bool)
        if "bias" in name:
            rest[HIDDEN : 2 * HIDDEN] = False
        assert torch.equal(ours[name][rest], expected[rest])
        assert torch.equal(zoned[name], expected)


CHRONO = [(elman.LSTM, 1, 0), (elman.PeepholeLSTM, 1, 0), (elman.GRU, 1, None), (elman.CoupledLSTM, 0, None)]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("steps", [2, 3, 1000])
@pytest.mark.parametrize(("cls", "keep", "opposite"), [*CHRONO, (elman.MinLSTM, 0, 1)])
def test_chrono(cls, keep, opposite, steps, again):
    layer = cls(INPUT, 250, 2, bidirectional=True, chrono=steps)
    layer = scribbled(layer) if again else layer
    biases = gates_of(layer, "bias_ih")
    for gates in biases:
        u = gates[keep].exp()
        assert float(u.min()) > 1 - 1e-5
        assert float(u.max()) < steps - 1 + 1e-3 * steps
        assert float(u.mean()) == pytest.approx(steps / 2, rel=0.1)  # uniform on [1, T - 1]
        assert float(u.std()) == pytest.approx((steps - 2) / math.sqrt(12), rel=0.1, abs=1e-5)
        if opposite is not None:
            assert torch.equal(gates[opposite], -gates[keep])
    if steps > 2:
        assert not torch.equal(biases[0][keep], biases[1][keep])
    if cls is not elman.MinLSTM:
        for gates in gates_of(layer, "bias_hh"):
            assert not gates[keep].any()
            assert opposite is None or not gates[opposite].any()


@pytest.mark.parametrize("cell", [*CELLS, "PeepholeLSTM"])
def test_gains_begin_at_1_and_learned_states_at_0(cell):
    layer = getattr(elman, cell)(
        INPUT, HIDDEN, 2, bidirectional=True, layer_norm=True, learn_initial_state=True
    )
    for _ in range(2):
        values = {n: p for n, p in layer.named_parameters() if n.startswith(("norm", "initial", "peephole"))}
        assert len(values) >= 9
        for name, p in values.items():
            one = name.startswith("norm") and "bias" not in name
            assert bool((p == (1 if one else 0)).all()), name
        layer = scribbled(layer)
    assert layer.initial_hidden.shape == (4, HIDDEN)
