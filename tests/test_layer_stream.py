"""Layers fed step by step without PyTorch, against the same layers over the whole sequence."""

import numpy as np
import pytest
import torch

import elman
from elman import ElmanError, LayerStream

LAYERS = {
    "rnn": lambda *sizes, **options: elman.RNN(*sizes, **options),
    "relu": lambda *sizes, **options: elman.RNN(*sizes, nonlinearity="relu", **options),
    "sigmoid": lambda *sizes, **options: elman.RNN(*sizes, nonlinearity="sigmoid", **options),
    "gru": lambda *sizes, **options: elman.GRU(*sizes, **options),
    "lstm": lambda *sizes, **options: elman.LSTM(*sizes, **options),
}


@pytest.fixture(params=LAYERS)
def make(request):
    torch.manual_seed(0)
    return LAYERS[request.param]


def whole(layer, x):
    with torch.no_grad():
        return layer(torch.from_numpy(x)[:, None])[0][:, 0].numpy()


def inputs(steps, size):
    return np.random.default_rng(1).standard_normal((steps, size), np.float32)


@pytest.mark.parametrize("sizes", [(3, 5), (1, 1), (7, 33, 2), (64, 64), (10, 24, 3, False)], ids=str)
def test_steps_and_chunks_are_the_layer(make, sizes):
    bias = {"bias": False} if len(sizes) == 4 else {}
    layer = make(*sizes[:3], **bias)
    x = inputs(40, sizes[0])
    stepped, fed = layer.stream(), layer.stream()
    np.testing.assert_allclose(np.stack([stepped.step(row) for row in x]), whole(layer, x), atol=1e-5)
    np.testing.assert_allclose(
        np.concatenate((fed.feed(x[:17]), fed.feed(x[17:]))), whole(layer, x), atol=1e-5
    )
    np.testing.assert_allclose(fed.state, stepped.state, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_streams_side_by_side(make, batch):
    layer = make(5, 20, 2)
    x = np.random.default_rng(2).standard_normal((30, batch, 5), np.float32)
    with torch.no_grad():
        expected = layer(torch.from_numpy(x))[0].numpy()
    stepped, fed = layer.stream(batch), layer.stream(batch)
    np.testing.assert_allclose(np.stack([stepped.step(rows) for rows in x]), expected, atol=1e-5)
    np.testing.assert_allclose(np.concatenate((fed.feed(x[:7]), fed.feed(x[7:]))), expected, atol=1e-5)
    assert fed.state.shape[0] == batch
    with pytest.raises(ElmanError, match=rf"x \(B, I\) must have I = 5 and B = {batch}"):
        fed.step(x[0, :, :4])
    with pytest.raises(ElmanError, match=r"x \(T, B, I\) must"):
        fed.feed(x[:, 0])


def rounded(layer):
    """The layer with its matrices rounded to bfloat16 by torch."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith("weight"):
                parameter.copy_(parameter.bfloat16())
    return layer


@pytest.mark.parametrize("sizes", [(3, 5), (1, 1), (7, 33, 2), (64, 64), (16, 129)], ids=str)
def test_narrow_weights_are_the_rounded_ones(make, sizes):
    layer = make(*sizes)
    x = inputs(24, sizes[0])
    narrow = layer.stream(weights="bfloat16")
    many = layer.stream(batch=3, weights="bfloat16").feed(np.stack([x, x, x], 1))
    expected = whole(rounded(layer), x)
    np.testing.assert_allclose(np.stack([narrow.step(row) for row in x]), expected, atol=1e-5)
    np.testing.assert_allclose(many, np.stack([expected] * 3, 1), atol=1e-5)


def test_narrow_weights_that_are_not_numbers_stay_so():
    layer = elman.RNN(2, 3)
    with torch.no_grad():
        layer.weight_ih_l0[0, 0] = float("nan")
        layer.weight_ih_l0[1, 0] = float("inf")
    h = layer.stream(weights="bfloat16").step([1.0, 0.0])
    assert np.isnan(h[0])
    assert h[1] == pytest.approx(1, abs=1e-6)
    with pytest.raises(ElmanError, match="bfloat16"):
        layer.stream(weights="int3")


def test_threads_do_not_change_a_chunk(make):
    layer, x = make(96, 160), inputs(300, 96)
    np.testing.assert_array_equal(layer.stream().feed(x, threads=1), layer.stream().feed(x, threads=2))


def test_a_fork_goes_its_own_way(make):
    layer, x = make(4, 6), inputs(20, 4)
    stream = layer.stream()
    stream.feed(x[:10])
    fork = stream.fork()
    fork.feed(-x[:5])
    np.testing.assert_allclose(stream.feed(x[10:]), whole(layer, x)[10:], atol=1e-6)


def test_weights_are_copied(make):
    layer, x = make(4, 6), inputs(20, 4)
    stream, expected = layer.stream(), whole(layer, x)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    np.testing.assert_allclose(stream.feed(x), expected, atol=1e-6)


def test_save_restore_and_reset():
    stream, x = elman.GRU(4, 6).stream(), inputs(20, 4)
    first = stream.feed(x[:10])
    kept = stream.save()
    second = stream.feed(x[10:])
    stream.restore(kept)
    np.testing.assert_array_equal(stream.feed(x[10:]), second)
    stream.reset()
    np.testing.assert_array_equal(stream.feed(x[:10]), first)


@pytest.mark.parametrize("kind", ["float64", "strided", "list", "int"])
def test_any_array_of_numbers_will_do(kind):
    x = np.arange(4, dtype=np.float32)
    other = {
        "float64": x.astype(float),
        "strided": np.repeat(x, 2)[::2],
        "list": list(x),
        "int": x.astype(int),
    }[kind]
    a = elman.LSTM(4, 6).stream()
    b = a.fork()
    np.testing.assert_array_equal(a.step(x), b.step(other))
    np.testing.assert_array_equal(a.feed(x[None]), b.feed([other]))


@pytest.mark.parametrize(
    "x",
    [np.zeros(5), np.zeros((1, 4)), 1.0, [1.0, 2.0], ["a", "b", "c", "d"], None],
    ids=lambda x: str(x)[:9],
)
def test_a_wrong_step_is_refused_and_changes_nothing(x):
    stream = elman.LSTM(4, 6).stream()
    stream.step(np.ones(4, np.float32))
    before = stream.save()
    with pytest.raises(ElmanError, match=r"x \(I,\) must"):
        stream.step(x)
    np.testing.assert_array_equal(stream.state, before)


@pytest.mark.parametrize("x", [np.zeros((3, 5)), np.zeros(4), np.zeros((2, 3, 4)), "text", [None]])
def test_a_wrong_chunk_is_refused(x):
    with pytest.raises(ElmanError, match=r"x \(T, I\) must"):
        elman.LSTM(4, 6).stream().feed(x)


def test_layers_that_cannot_be_streamed_say_why():
    with pytest.raises(ElmanError, match=r"runs forward.*_reverse"):
        elman.LSTM(4, 6, bidirectional=True).stream()
    with pytest.raises(ElmanError, match=r"batch must be at least 1, not 0"):
        elman.LSTM(4, 6).stream(batch=0)
    with pytest.raises(ElmanError, match=r"no proj_size.*weight_hr_l0"):
        elman.LSTM(4, 6, proj_size=2).stream()


def test_weights_that_do_not_fit_say_so():
    good = {name: t.detach().numpy() for name, t in elman.GRU(4, 6).named_parameters()}
    with pytest.raises(ElmanError, match=r"unknown cell 'lst': choose one of rnn_tanh"):
        LayerStream("lst", good)
    with pytest.raises(ElmanError, match=r"not the weights of lstm layers: .*wrong size"):
        LayerStream("lstm", good)
    with pytest.raises(ElmanError, match=r"there is no 'weight_hh_l0'"):
        LayerStream("gru", {"weight_ih_l0": good["weight_ih_l0"]})
