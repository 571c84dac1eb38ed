"""Lengths and resets: a batch with ends and beginnings inside gives what its pieces give, each run on its own."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import elman
from test_dropin import CELLS
from test_layers import FLAGS, tensors_in

# torch.nn's, once a process.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]


def leaky(gates, states, rate):
    """A user's cell, of two states, a parameter, and a named value."""
    h, mean = states
    new = torch.tanh(gates[0]) * torch.sigmoid(gates[1].input - gates[1].recurrent)
    mean = mean + torch.sigmoid(rate) * (new - mean)
    return (new - 0.5 * mean + 0.1 * h, mean), {"new": new}


INPUT, HIDDEN, STEPS, LENGTHS = 3, 4, 6, [3, 6, 1, 5]
KINDS = {
    "RNN": (elman.RNN, {}),
    "GRU": (elman.GRU, {}),
    "LSTM": (elman.LSTM, {}),
    "learned": (elman.GRU, {"learn_initial_state": True}),
    "layer norm": (elman.LSTM, {"layer_norm": True, "learn_initial_state": True}),
    "zoneout": (elman.LSTM, {"zoneout": 0.3}),
    "residual": (elman.RNN, {"residual": True}),
    "checkpointed": (elman.LSTM, {"checkpoint_every": 2, "learn_initial_state": True}),
    "reset before": (elman.GRU, {"reset_after": False}),
    "peepholes": (elman.PeepholeLSTM, {"learn_initial_state": True}),
    "coupled": (elman.CoupledLSTM, {}),
    "independent": (elman.IndRNN, {"checkpoint_every": 3}),
    "MinGRU": (elman.MinGRU, {"learn_initial_state": True}),
    "MinLSTM": (elman.MinLSTM, {"zoneout": 0.2, "residual": True}),
    "custom": (
        partial(elman.Recurrent, leaky),
        {"gates": 2, "states": ("hidden", "mean"), "parameters": {"rate": 0.0}, "learn_initial_state": True},
    ),
}
RANDOM = {"recurrent_dropout": 0.3, "input_dropout": 0.3, "zoneout": 0.3, "weight_dropout": 0.3}


def made(kind: str, num_layers: int = 2, **more) -> nn.Module:
    """float64, in evaluation, with no parameter at a value that hides something, as 0 or 1 do."""
    torch.manual_seed(5)
    cls, options = KINDS[kind]
    layer = cls(INPUT, HIDDEN, num_layers, dtype=torch.float64, **(options | more))
    with torch.no_grad():
        for p in layer.parameters():
            p.uniform_(-1, 1)
    return layer.eval()


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def state_names(layer: nn.Module) -> tuple[str, ...]:
    return layer._kind().states


def states_of(layer: nn.Module, *batch: int) -> list[Tensor]:
    outer = layer.num_layers * (2 if layer.bidirectional else 1)
    return [draw(outer, *batch, HIDDEN) for _ in state_names(layer)]


def given_as(states: list[Tensor] | None):
    """As the layer takes them."""
    return None if states is None else states[0] if len(states) == 1 else tuple(states)


def beginning(layer: nn.Module, batch: int) -> list[Tensor]:
    outer = layer.num_layers * (2 if layer.bidirectional else 1)
    learned = [getattr(layer, f"initial_{name}", None) for name in state_names(layer)]
    zeros = torch.zeros(outer, HIDDEN, dtype=torch.float64)
    return [(zeros if s is None else s)[:, None].expand(-1, batch, -1) for s in learned]


def gradients(results, leaves: list[Tensor]) -> list[Tensor]:
    torch.manual_seed(9)
    loss = sum((t * torch.randn(t.shape, dtype=t.dtype)).sum() for t in tensors_in(results))
    found = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(leaves, found, strict=True)]


def assert_agree(layer: nn.Module, found, expected, leaves: list[Tensor]) -> None:
    for a, b in zip(tensors_in(found), tensors_in(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    every = [*leaves, *layer.parameters()]
    for a, b in zip(gradients(found, every), gradients(expected, every), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def apart(layer: nn.Module, x: Tensor, lengths: list[int], reset: Tensor, states: list[Tensor] | None):
    """x (T, B, I), reset (T, B): every piece of every sequence as a batch of its own, without lengths or resets."""
    forward = torch.arange(len(beginning(layer, 1)[0])) % (2 if layer.bidirectional else 1) == 0
    forward = forward[:, None, None]
    outputs, ends = [], []
    width = HIDDEN * (2 if layer.bidirectional else 1)
    for b, length in enumerate(lengths):
        begin = beginning(layer, 1)
        given = begin if states is None else [s[:, b : b + 1] for s in states]
        if length == 0:
            outputs.append(x.new_zeros(len(x), 1, width) + 0 * x.sum())
            ends.append(given)
            continue
        starts = [0, *(t for t in range(1, length) if reset[t, b])]
        pieces, lasts = [], []
        for start, end in zip(starts, [*starts[1:], length], strict=True):
            first, last = start == 0 and not reset[0, b], end == length
            hx = [
                torch.where(forward, g if first else i, g if last else i)
                for g, i in zip(given, begin, strict=True)
            ]
            y, state = layer(x[start:end, b : b + 1], given_as(hx))
            pieces.append(y)
            lasts.append([state] if isinstance(state, Tensor) else list(state))
        outputs.append(torch.cat([*pieces, x.new_zeros(len(x) - length, 1, width)]))
        ends.append([torch.where(forward, z, a) for a, z in zip(lasts[0], lasts[-1], strict=True)])
    return torch.cat(outputs, 1), [torch.cat(parts, 1) for parts in zip(*ends, strict=True)]


@pytest.mark.parametrize(("batch_first", "bidirectional"), FLAGS)
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", [*CELLS, "projected"])
def test_lengths_give_what_a_packed_sequence_gives(cell, num_layers, bidirectional, batch_first):
    options = {"batch_first": batch_first, "bidirectional": bidirectional, "dtype": torch.float64}
    options |= {"proj_size": 2} if cell == "projected" else {}
    name = "LSTM" if cell == "projected" else cell
    theirs = getattr(nn, name)(INPUT, HIDDEN, num_layers, **options)
    ours = getattr(elman, name)(INPUT, HIDDEN, num_layers, **options)
    ours.load_state_dict(theirs.state_dict())
    x = draw(4, STEPS, INPUT) if batch_first else draw(STEPS, 4, INPUT)
    outer = num_layers * (2 if bidirectional else 1)
    hx = draw(outer, 4, 2 if cell == "projected" else HIDDEN)
    hx = (hx, draw(outer, 4, HIDDEN)) if name == "LSTM" else hx
    for begin in (None, hx):
        packed = pack_padded_sequence(x, LENGTHS, batch_first, enforce_sorted=False)
        y, state = theirs(packed, begin)
        expected = pad_packed_sequence(y, batch_first, total_length=STEPS)[0], state
        found = ours(x, begin, lengths=LENGTHS)
        for a, b in zip(tensors_in(found), tensors_in(expected), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
        leaves = [x, *tensors_in([] if begin is None else begin)]
        apart_ = gradients(expected, [*leaves, *theirs.parameters()])
        for a, b in zip(gradients(found, [*leaves, *ours.parameters()]), apart_, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


@pytest.mark.parametrize(
    "lengths", [tuple(LENGTHS), *(torch.tensor(LENGTHS, dtype=d) for d in INTEGERS)], ids=str
)
def test_lengths_are_any_whole_numbers(lengths):
    layer, x = made("GRU", bidirectional=True), draw(STEPS, 4, INPUT)
    for a, b in zip(layer(x, lengths=lengths), layer(x, lengths=LENGTHS), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_sequences_without_steps_return_the_state_they_begin_with(kind, bidirectional):
    layer = made(kind, bidirectional=bidirectional)
    x = draw(STEPS, 5, INPUT)
    lengths = [0, 4, 0, 6, 0]
    none = torch.zeros(STEPS, 5, dtype=torch.bool)
    for states in (None, states_of(layer, 5)):
        found = layer(x, given_as(states), lengths=lengths)
        assert_agree(layer, found, apart(layer, x, lengths, none, states), [x, *(states or [])])
        assert not found[0][:, ::2].any()
        for end, first in zip(tensors_in(found[1]), states or beginning(layer, 5), strict=True):
            assert torch.equal(end[:, ::2], first[:, ::2])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_no_sequence_has_a_step(kind, batch_first, training):
    more = {"input_dropout": 0.3, "dropout": 0.3}
    layer = made(kind, bidirectional=True, batch_first=batch_first, **more).train(training)
    x = draw(3, STEPS, INPUT) if batch_first else draw(STEPS, 3, INPUT)
    for states in (None, states_of(layer, 3)):
        y, state, trace = layer(x, given_as(states), lengths=[0, 0, 0], return_trace=True)
        assert y.shape == (*x.shape[:2], 2 * HIDDEN)
        assert not y.any()
        for end, first in zip(tensors_in(state), states or beginning(layer, 3), strict=True):
            assert torch.equal(end, first)
        assert set(trace) == set(layer(x, return_trace=True)[2])
        assert all(t.shape == (*x.shape[:2], HIDDEN) and not t.any() for t in trace.values())
        y.sum().backward()
        assert not x.grad.any()


def test_no_sequence_has_a_step_with_a_projection():
    layer = elman.LSTM(INPUT, HIDDEN, 2, proj_size=2, bidirectional=True)
    y, (h, c) = layer(torch.randn(STEPS, 3, INPUT), lengths=[0, 0, 0])
    assert y.shape == (STEPS, 3, 4)
    assert (h.shape, c.shape) == ((4, 3, 2), (4, 3, HIDDEN))


@pytest.mark.parametrize("kind", KINDS)
def test_no_sequences_at_all(kind):
    layer = made(kind, bidirectional=True)
    y, state, trace = layer(draw(STEPS, 0, INPUT), lengths=[], return_trace=True)
    assert y.shape == (STEPS, 0, 2 * HIDDEN)
    assert all(t.shape == (4, 0, HIDDEN) for t in tensors_in(state))
    assert all(t.shape == (STEPS, 0, HIDDEN) for t in trace.values())
    y.sum().backward()


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_of_all_steps_change_nothing(kind):
    layer, x = made(kind, bidirectional=True), draw(STEPS, 3, INPUT)
    for a, b in zip(tensors_in(layer(x, lengths=[STEPS] * 3)), tensors_in(layer(x)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_unbatched(kind, batch_first):
    layer, x = made(kind, bidirectional=True, batch_first=batch_first), draw(STEPS, INPUT)
    reset = torch.tensor([False, False, True, False, True, True])
    for states in (None, states_of(layer)):
        whole = None if states is None else [s[:, None] for s in states]
        batched = x[None] if batch_first else x[:, None]
        flags = reset[None] if batch_first else reset[:, None]
        for n in (0, 1, 4, STEPS):
            for lengths in ([n], torch.tensor(n)):
                y, state = layer(x, given_as(states), lengths=lengths, reset=reset)
                expected, end = layer(batched, given_as(whole), lengths=[n], reset=flags)
                assert torch.equal(y, expected.squeeze(0 if batch_first else 1))
                for a, b in zip(tensors_in(state), tensors_in(end), strict=True):
                    assert torch.equal(a, b.squeeze(1))


@pytest.mark.parametrize("garbage", [1e30, float("inf"), float("nan")])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_has_no_influence(kind, garbage):
    layer = made(kind, bidirectional=True, **({} if kind == "zoneout" else {"zoneout": 0.1}))
    clean = draw(STEPS, 4, INPUT)
    past = torch.arange(STEPS)[:, None] >= torch.tensor(LENGTHS)
    dirty = clean.detach().masked_fill(past[..., None], garbage).requires_grad_()
    reset = torch.rand(STEPS, 4) < 0.3
    results = [layer(x, lengths=LENGTHS, reset=r) for x, r in ((clean, reset & ~past), (dirty, reset | past))]
    grads = [gradients(r, [x, *layer.parameters()]) for r, x in zip(results, (clean, dirty), strict=True)]
    for a, b in zip([*tensors_in(results[0]), *grads[0]], [*tensors_in(results[1]), *grads[1]], strict=True):
        assert torch.equal(a, b)
    assert not grads[1][0][past].any()


@pytest.mark.parametrize("kind", KINDS)
def test_packed_and_padded_with_lengths_are_one(kind):
    """Options drawn at random included: both sort sequences alike, and draw for their rows in one order."""
    _, options = KINDS[kind]
    drawn = dict(RANDOM)
    if not made(kind)._kind().products:
        del drawn["recurrent_dropout"], drawn["weight_dropout"]
    layer = made(kind, bidirectional=True, dropout=0.2, **(options | drawn)).train()
    x = draw(STEPS, 4, INPUT)
    reset = torch.rand(STEPS, 4) < 0.4
    packed, flags = (pack_padded_sequence(t, LENGTHS, enforce_sorted=False) for t in (x, reset))
    states = states_of(layer, 4)
    results = []
    for arguments in ((packed, None, flags), (x, LENGTHS, reset)):
        torch.manual_seed(1)
        y, state, trace = layer(
            arguments[0], given_as(states), lengths=arguments[1], reset=arguments[2], return_trace=True
        )
        results.append([y, state, *trace.values()])
    assert isinstance(results[0][0], PackedSequence)
    padded = [
        pad_packed_sequence(t, total_length=STEPS)[0] if isinstance(t, PackedSequence) else t
        for t in results[0]
    ]
    assert_agree(layer, results[1], padded, [x, *states])


@pytest.mark.parametrize("kind", KINDS)
def test_resets_are_pieces_run_apart(kind):
    for bidirectional, batch_first in ((False, True), (True, False), (True, True)):
        layer = made(kind, bidirectional=bidirectional)
        x = draw(STEPS, 3, INPUT)
        reset = torch.zeros(STEPS, 3, dtype=torch.bool)
        reset[[0, 2, 5], [0, 0, 0]] = True
        reset[:, 1] = True
        for states in (None, states_of(layer, 3))[int(batch_first) :]:
            expected = apart(layer, x, [STEPS] * 3, reset, states)
            layer.batch_first = batch_first
            turn = (lambda t: t.transpose(0, 1)) if batch_first else (lambda t: t)
            y, state = layer(turn(x), given_as(states), reset=turn(reset))
            layer.batch_first = False
            assert_agree(layer, [turn(y), state], expected, [x, *(states or [])])


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_lengths_and_resets(data):
    choose = data.draw
    kind = choose(st.sampled_from(sorted(KINDS)))
    layer = made(kind, choose(st.integers(1, 2)), bidirectional=choose(st.booleans()))
    steps, batch = choose(st.integers(1, 7)), choose(st.integers(1, 4))
    lengths = choose(st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    flags = choose(st.lists(st.booleans(), min_size=steps * batch, max_size=steps * batch))
    reset = torch.tensor(flags).view(steps, batch)
    x = draw(steps, batch, INPUT)
    states = states_of(layer, batch) if choose(st.booleans()) else None
    found = layer(x, given_as(states), lengths=lengths, reset=reset)
    assert_agree(layer, found, apart(layer, x, lengths, reset, states), [x, *(states or [])])


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_crosses_a_reset(kind):
    layer = made(kind, bidirectional=True, num_layers=2)
    x, states = draw(STEPS, 2, INPUT), states_of(layer, 2)
    reset = torch.zeros(STEPS, 2, dtype=torch.bool)
    reset[3] = True
    y, state = layer(x, given_as(states), reset=reset)
    before, after = (torch.autograd.grad(part.sum(), x, retain_graph=True)[0] for part in (y[:3], y[3:]))
    assert before[:3].all()
    assert not before[3:].any()
    assert after[3:].all()
    assert not after[:3].any()
    first = torch.autograd.grad(y[3:].sum() + tensors_in(state)[0][::2].sum(), states, retain_graph=True)
    assert all(not g[::2].any() for g in first)  # of the forward directions
    last = torch.autograd.grad(y[:3].sum() + tensors_in(state)[0][1::2].sum(), states)
    assert all(not g[1::2].any() for g in last)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_at_the_first_step_discards_the_given_state(kind):
    layer = made(kind)
    x, states = draw(STEPS, 2, INPUT), states_of(layer, 2)
    reset = torch.zeros(STEPS, 2, dtype=torch.bool)
    reset[0] = True
    found = layer(x, given_as(states), reset=reset)
    assert_agree(layer, found, layer(x), [x])
    assert not any(g.any() for g in gradients(found, states))


@pytest.mark.parametrize("kind", ["learned", "layer norm", "peepholes", "MinGRU", "checkpointed"])
def test_learned_state_gets_its_gradient_through_resets(kind):
    layer = made(kind, 1, bidirectional=True)
    x = torch.randn(4, 3, INPUT, dtype=torch.float64)
    reset = torch.rand(4, 3) < 0.6
    names = [f"initial_{name}" for name in state_names(layer)]
    initial = [getattr(layer, name).detach().clone().requires_grad_() for name in names]

    def run(*tensors: Tensor):
        weights = dict(zip(names, tensors, strict=True))
        more = {"reset": reset, "lengths": [4, 0, 3]}
        return tuple(tensors_in(torch.func.functional_call(layer, weights, (x,), more)))

    assert torch.autograd.gradcheck(run, initial)


@pytest.mark.parametrize("reset_at", [0, 2])
def test_given_state_counts_before_a_reset_and_the_learned_one_after_it(reset_at):
    layer = made("learned", 1)
    x, h = draw(3, 1, INPUT), draw(1, 1, HIDDEN)
    reset = torch.arange(3)[:, None] == reset_at
    of_given, of_learned = torch.autograd.grad(layer(x, h, reset=reset)[0].sum(), (h, layer.initial_hidden))
    assert bool(of_given.any()) == (reset_at > 0)
    assert of_learned.any()


@pytest.mark.parametrize("kind", KINDS)
def test_memory_may_lie_in_any_order(kind):
    layer = made(kind, bidirectional=True)
    x = draw(4, INPUT, STEPS).permute(2, 0, 1)
    states = [s.transpose(1, 2) for s in states_of(layer, 4)]  # as many sequences as units
    reset = (torch.rand(4, STEPS, 2) < 0.3)[..., 1].T
    tight = [t.detach().contiguous() for t in (x, reset, *states)]
    found = layer(x, given_as(states), reset=reset, lengths=LENGTHS)
    expected = layer(tight[0], given_as(tight[2:]), reset=tight[1], lengths=LENGTHS)
    for a, b in zip(tensors_in(found), tensors_in(expected), strict=True):
        assert torch.equal(a, b)
    wide = [s[:, :1].expand(-1, 4, -1) for s in states]  # one state for all
    found = layer(x[:, :1].expand(-1, 4, -1), given_as(wide), reset=reset[:, :1].expand(-1, 4))
    alone = layer(x[:, :1], given_as([s[:, :1] for s in states]), reset=reset[:, :1])
    for a, b in zip(tensors_in(found), tensors_in(alone), strict=True):
        torch.testing.assert_close(a, b.expand_as(a), rtol=1e-12, atol=1e-12)


X = torch.randn(STEPS, 4, INPUT, dtype=torch.float64, generator=torch.Generator().manual_seed(11))
NONE = torch.zeros(STEPS, 4, dtype=torch.bool)
BAD_LENGTHS = {
    "too long": ([1, 7, 2, 3], ValueError, "lengths.* 6 .*7"),
    "negative": ([1, -2, 2, 3], ValueError, "lengths.*-2"),
    "too few": ([1, 2, 3], ValueError, "lengths.* 4 .*3"),
    "too many": ([1, 2, 3, 4, 5], ValueError, "lengths.* 4 .*5"),
    "no sequence": (3, ValueError, "lengths.* 4 .*1"),
    "fractions": ([1, 2.0, 3, 4], TypeError, "lengths.*2.0"),
    "a bool": ([1, True, 3, 4], TypeError, "lengths.*True"),
    "text": ("6666", TypeError, "lengths.*'6'"),
    "None inside": ([1, None, 3, 4], TypeError, "lengths.*None"),
    "tensor too long": (torch.tensor([1, 7, 2, 3]), ValueError, "lengths.* 6 .*7"),
    "tensor negative": (torch.tensor([1, -2, 2, 3]), ValueError, "lengths.*-2"),
    "tensor too few": (torch.tensor([1, 2, 3]), ValueError, r"lengths.*\(3,\)"),
    "2-D tensor": (torch.ones(2, 2, dtype=torch.int64), ValueError, r"lengths.*\(2, 2\)"),
    "tensor of fractions": (torch.ones(4), TypeError, "lengths.*float32"),
    "tensor of bools": (torch.ones(4, dtype=torch.bool), TypeError, "lengths.*bool"),
    "tensor of complex numbers": (torch.ones(4, dtype=torch.complex64), TypeError, "lengths.*complex64"),
}


@pytest.mark.parametrize("bad", BAD_LENGTHS)
@pytest.mark.parametrize("kind", ["LSTM", "MinGRU"])
def test_lengths_that_are_none_are_refused(kind, bad):
    lengths, error, message = BAD_LENGTHS[bad]
    with pytest.raises(error, match=message):
        made(kind)(X, lengths=lengths)


BAD_RESETS = {
    "numbers": (NONE.long(), TypeError, "reset.*int64"),
    "bytes": (NONE.byte(), TypeError, "reset.*uint8"),
    "fractions": (NONE.double(), TypeError, "reset.*float64"),
    "a list": (NONE.tolist(), TypeError, "reset.*list"),
    "a bool": (True, TypeError, "reset.*bool"),
    "transposed": (NONE.T, ValueError, r"reset.*\(6, 4\).*\(4, 6\)"),
    "of one sequence": (NONE[:, 0], ValueError, r"reset.*\(6,\)"),
    "with features": (NONE[..., None], ValueError, r"reset.*\(6, 4, 1\)"),
    "too few steps": (NONE[:5], ValueError, r"reset.*\(5, 4\)"),
    "packed": (pack_padded_sequence(NONE, LENGTHS, enforce_sorted=False), ValueError, "reset"),
}


@pytest.mark.parametrize("bad", BAD_RESETS)
@pytest.mark.parametrize("kind", ["LSTM", "MinGRU"])
def test_resets_that_are_none_are_refused(kind, bad):
    reset, error, message = BAD_RESETS[bad]
    with pytest.raises(error, match=message):
        made(kind)(X, reset=reset)


PACKED = pack_padded_sequence(X, LENGTHS, enforce_sorted=False)


@pytest.mark.parametrize("kind", ["LSTM", "MinGRU"])
def test_packed_resets_that_are_none_are_refused(kind):
    layer = made(kind)
    other = pack_padded_sequence(NONE, [6, 5, 2, 2], enforce_sorted=False)  # as many rows
    assert len(other.data) == len(PACKED.data)
    for reset in (NONE, other, pack_padded_sequence(NONE, [6, 5, 2, 1], enforce_sorted=False)):
        with pytest.raises(ValueError, match="reset"):
            layer(PACKED, reset=reset)
    with pytest.raises(TypeError, match=r"reset.*int64"):
        layer(PACKED, reset=pack_padded_sequence(NONE.long(), LENGTHS, enforce_sorted=False))
    with pytest.raises(ValueError, match="lengths"):
        layer(PACKED, lengths=LENGTHS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p._replace(data=p.data[:-1]), "batch_sizes"),
        (lambda p: p._replace(data=torch.cat((p.data, p.data))), "batch_sizes"),
        (lambda p: p._replace(batch_sizes=p.batch_sizes.flip(0)), "batch_sizes"),
        (lambda p: p._replace(data=p.data[None]), "dimensions"),
    ],
)
@pytest.mark.parametrize("kind", ["layer norm", "checkpointed", "MinGRU"])
def test_packed_sequences_that_do_not_hold_together_are_refused(kind, change, message):
    with pytest.raises(RuntimeError, match=message):
        made(kind)(change(PACKED))


@pytest.mark.parametrize("kind", ["LSTM", "layer norm", "MinGRU"])
def test_inputs_and_states_that_do_not_fit_are_refused_with_lengths_too(kind):
    layer = made(kind)
    good = given_as(states_of(layer, 4))
    for x in (X[0, 0], X[None]):
        with pytest.raises(ValueError, match="2D or 3D"):
            layer(x, lengths=LENGTHS)
    with pytest.raises(ValueError, match="float32"):
        layer(X.float(), good, lengths=LENGTHS)
    with pytest.raises(RuntimeError, match="sequence length"):
        layer(X[:0], lengths=[0] * 4)
    with pytest.raises(RuntimeError, match="input_size"):
        layer(X[..., :2], lengths=LENGTHS)
    for cut in (
        lambda s: s[:, :3],
        lambda s: s[..., :3],
        lambda s: s[:1],
        lambda s: s[:, 0],
        lambda s: s.float(),
    ):
        bad = cut(good) if isinstance(good, Tensor) else tuple(map(cut, good))
        with pytest.raises(RuntimeError, match=r"hidden|hx"):
            layer(X, bad, lengths=LENGTHS)
