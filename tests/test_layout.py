"""Lengths and resets: what PackedSequence gives, and what the pieces give when they are run apart."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import elman

CELLS = ["RNN", "GRU", "LSTM"]
LENGTHS = [3, 0, 5, 1, 5, 2]
T, B, I, H = 5, 6, 4, 7


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def parts(state) -> list[Tensor]:
    return list(state) if isinstance(state, tuple) else [state]


def an_input(batch_first: bool) -> Tensor:
    torch.manual_seed(3)
    return torch.randn(*((B, T) if batch_first else (T, B)), I, requires_grad=True)


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_lengths_give_what_torchs_packed_sequence_gives(cell, batch_first, bidirectional, as_tensor) -> None:
    theirs = getattr(nn, cell)(I, H, 2, batch_first=batch_first, bidirectional=bidirectional)
    ours = getattr(elman, cell).from_torch(theirs)
    x = an_input(batch_first)
    there = [b for b in range(B) if LENGTHS[b]]
    some = x[there] if batch_first else x[:, there]
    packed = pack_padded_sequence(some, [LENGTHS[b] for b in there], batch_first, enforce_sorted=False)
    y, state = theirs(packed)
    y, _ = pad_packed_sequence(y, batch_first, total_length=T)
    y2, state2 = ours(x, lengths=torch.tensor(LENGTHS) if as_tensor else LENGTHS)
    torch.testing.assert_close(y2[there] if batch_first else y2[:, there], y, rtol=1e-5, atol=1e-5)
    past = torch.arange(T)[:, None] >= torch.tensor(LENGTHS)
    assert not y2[past.T if batch_first else past].any()
    for a, b in zip(parts(state2), parts(state), strict=True):
        torch.testing.assert_close(a[:, there], b, rtol=1e-5, atol=1e-5)
        assert not a[:, LENGTHS.index(0)].any()
    expected = torch.autograd.grad((y**2).sum() + sum(s.sum() for s in parts(state)), [x, *theirs.parameters()])
    loss = (y2**2).sum() + sum(s[:, there].sum() for s in parts(state2))
    for a, b in zip(torch.autograd.grad(loss, [x, *ours.parameters()]), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_without_steps_keeps_the_state_it_was_given(cell) -> None:
    layer = getattr(elman, cell)(I, H, bidirectional=True)
    h = torch.randn(2, B, H)
    state = (h, h + 1) if cell == "LSTM" else h
    x = an_input(False)
    for lengths in (LENGTHS, [0] * B):
        y, last = layer(x, state, lengths=lengths)
        empty = [b for b in range(B) if lengths[b] == 0]
        for a, b in zip(parts(last), parts(state), strict=True):
            assert torch.equal(a[:, empty], b[:, empty])
        assert not y[:, empty].any()
    assert y.shape == (T, B, 2 * H)


def test_full_lengths_are_no_lengths() -> None:
    layer, x = elman.GRU(I, H), an_input(False)
    assert torch.equal(layer(x, lengths=[T] * B)[0], layer(x)[0])


def test_unbatched() -> None:
    layer, x = elman.LSTM(I, H, bidirectional=True), torch.randn(T, I)
    y, (h, c) = layer(x, lengths=[3])
    y2, (h2, c2) = layer(x[:3])
    torch.testing.assert_close(y[:3], y2)
    assert not y[3:].any()
    torch.testing.assert_close((h, c), (h2, c2))


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"zoneout": 0.1}, {"checkpoint_every": 2}])
def test_what_lies_past_the_end_has_no_influence(options) -> None:
    layer = elman.LSTM(I, H, 2, bidirectional=True, **options).eval()
    x = an_input(False)
    past = torch.arange(T)[:, None] >= torch.tensor(LENGTHS)
    y, _ = layer(x, lengths=LENGTHS)
    poisoned = x.detach().masked_fill(past[:, :, None], float("nan")).requires_grad_()
    y2, _ = layer(poisoned, lengths=LENGTHS)
    assert torch.equal(y, y2)
    (gradient,) = torch.autograd.grad(y2.sum(), poisoned)
    assert not gradient[past].any()
    assert gradient[~past].isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(layer(poisoned, lengths=LENGTHS)[0].sum(), layer.parameters()))


OPTIONS = [{}, {"layer_norm": True}, {"zoneout": 0.2}, {"checkpoint_every": 2}, {"learn_initial_state": True}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_reset_begins_a_new_sequence(cell, bidirectional, options) -> None:
    layer = getattr(elman, cell)(I, H, 2, bidirectional=bidirectional, **options).eval()
    for name, parameter in layer.named_parameters():
        if name.startswith("initial"):
            nn.init.normal_(parameter)
    x = an_input(False)
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[2] = True
    y, last = layer(x, reset=reset)
    (first, _), (second, last2) = layer(x[:2]), layer(x[2:])
    apart = torch.cat((first, second))
    torch.testing.assert_close(y, apart)
    if not bidirectional:
        for a, b in zip(parts(last), parts(last2), strict=True):
            torch.testing.assert_close(a, b)
    wanted = [x, *layer.parameters()]
    for a, b in zip(
        torch.autograd.grad((y**2).sum(), wanted), torch.autograd.grad((apart**2).sum(), wanted), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}])
def test_no_gradient_crosses_a_reset_and_the_state_given_is_for_the_first_step(options) -> None:
    layer, x = elman.LSTM(I, H, **options), an_input(False)
    h = torch.randn(1, B, H, requires_grad=True)
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[3, 1] = True
    y, _ = layer(x, (h, h), reset=reset)
    gx, gh = torch.autograd.grad(y[3:, 1].sum(), [x, h])
    assert not gx[:3].any()
    assert not gh.any()
    torch.testing.assert_close(y[3:, 1], layer(x[3:, 1])[0])
    reset[0] = True
    torch.testing.assert_close(layer(x, (h, h), reset=reset)[0][0], layer(x[:1])[0][0])


@pytest.mark.parametrize("cell", [*CELLS, "reset before"])
def test_gradients_through_resets_to_the_state_they_set(cell) -> None:
    more = {"reset_after": False} if cell == "reset before" else {}
    make = elman.GRU if more else getattr(elman, cell)
    layer = make(2, 3, bidirectional=True, learn_initial_state=True, dtype=torch.float64, **more)
    names = [name for name, _ in layer.named_parameters()]
    x = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
    reset = torch.tensor([[0, 0], [0, 1], [1, 0], [0, 1]]).bool()

    def run(x, *values):
        kwargs = {"lengths": [4, 2], "reset": reset}
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,), kwargs)[0]

    values = [p.detach().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(run, (x, *values))
    assert torch.autograd.gradgradcheck(run, (x, *values))


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_any_lengths_and_resets_equal_the_pieces_run_apart(data) -> None:
    cell, norm = data.draw(st.sampled_from(CELLS)), data.draw(st.booleans())
    batch, steps = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 7))
    both = data.draw(st.booleans())
    lengths = data.draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    flags = data.draw(st.lists(st.booleans(), min_size=batch * steps, max_size=batch * steps))
    reset = torch.tensor(flags).view(steps, batch)
    layer = getattr(elman, cell)(I, H, bidirectional=both, layer_norm=norm, dtype=torch.float64)
    x = torch.randn(steps, batch, I, dtype=torch.float64)
    y, last = layer(x, lengths=lengths, reset=reset)
    for b, length in enumerate(lengths):
        starts = [0, *(t for t in range(1, length) if reset[t, b]), length]
        for begin, end in zip(starts, starts[1:], strict=False):
            if begin < end:
                piece, state = layer(x[begin:end, b])
                torch.testing.assert_close(y[begin:end, b], piece)
                if end == length:
                    for whole, one in zip(parts(last), parts(state), strict=True):
                        torch.testing.assert_close(whole[0, b], one[0])
        assert not y[length:, b].any()


def test_resets_of_a_packed_sequence() -> None:
    layer, x = elman.GRU(I, H), an_input(False)
    lengths = [3, 5, 4, 1, 5, 2]
    reset = torch.rand(T, B) < 0.4
    packed, flags = (pack_padded_sequence(t, lengths, enforce_sorted=False) for t in (x, reset))
    y, h = layer(packed, reset=flags)
    y2, h2 = layer(x, lengths=lengths, reset=reset)
    torch.testing.assert_close(pad_packed_sequence(y)[0], y2)
    torch.testing.assert_close(h, h2)


X = torch.randn(T, 2, I)
BAD = {
    "too long": ({"lengths": [3, 6]}, ValueError, "lengths.* got 6"),
    "negative": ({"lengths": torch.tensor([3, -1])}, ValueError, "lengths.* got -1"),
    "too few": ({"lengths": [3]}, ValueError, "lengths.*2 sequences, got 1"),
    "matrix": ({"lengths": torch.ones(2, 2, dtype=torch.long)}, ValueError, r"lengths.*\(2, 2\)"),
    "floats": ({"lengths": torch.tensor([1.0, 2.0])}, TypeError, "lengths.*float32"),
    "a float": ({"lengths": [1, 2.5]}, TypeError, "lengths.*2.5"),
    "a bool": ({"lengths": [1, True]}, TypeError, "lengths.*True"),
    "reset of numbers": ({"reset": torch.zeros(T, 2)}, TypeError, "reset.*float32"),
    "reset as a list": ({"reset": [[True]]}, TypeError, "reset.*list"),
    "reset of another shape": ({"reset": torch.zeros(2, T, dtype=torch.bool)}, ValueError, r"reset.*\(5, 2\).*\(2, 5\)"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_lengths_and_resets_are_named(bad) -> None:
    arguments, error, words = BAD[bad]
    with pytest.raises(error, match=words):
        elman.LSTM(I, H)(X, **arguments)


def test_a_packed_sequence_has_its_own_lengths() -> None:
    with pytest.raises(ValueError, match="lengths"):
        elman.LSTM(I, H)(pack_padded_sequence(X, [5, 3]), lengths=[5, 3])
