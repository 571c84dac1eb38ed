"""The layer without recurrence: its equation, its window, and that it can stand in the place of recurrent layers."""

import pytest
import torch
import torch.nn.functional as F

from elman.class_config import ClassConfig
from elman.class_data import padded
from elman.class_model import ClassModel
from elman.feedforward import FeedForward
from elman.model import WINDOW, Model, ModelConfig
from elman.recurrent import MinGRU
from elman.series_model import Whole
from elman.windows import Shape


def test_a_step_is_its_window_through_one_layer() -> None:
    torch.manual_seed(0)
    layer = FeedForward(3, 5, window=4)
    x = torch.randn(9, 2, 3)
    y, state = layer(x)
    at = 6
    seen = torch.cat([x[at - 3], x[at - 2], x[at - 1], x[at]], 1)
    torch.testing.assert_close(y[at], torch.tanh(seen @ layer.weight_l0.T + layer.bias_l0))
    first = torch.cat([torch.zeros(2, 9), x[0]], 1)  # zeros before the first input
    torch.testing.assert_close(y[0], torch.tanh(first @ layer.weight_l0.T + layer.bias_l0))
    torch.testing.assert_close(state, x[-3:])


@pytest.mark.parametrize("window", [1, 2, 7])
@pytest.mark.parametrize("layers", [1, 2])
def test_streaming_equals_whole(window: int, layers: int) -> None:
    torch.manual_seed(0)
    layer = FeedForward(3, 5, layers, window=window)
    x = torch.randn(20, 2, 3)
    whole, last = layer(x)
    state, parts = None, []
    for chunk in x.split([1, 1, 5, 11, 2]):
        y, state = layer(chunk, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts), whole)
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize("layers", [1, 3])
def test_nothing_outside_the_window_is_seen(layers: int) -> None:
    torch.manual_seed(0)
    layer = FeedForward(3, 5, layers, bidirectional=True, window=3)
    x = torch.randn(12, 1, 3, requires_grad=True)
    y, _ = layer(x)
    (seen,) = torch.autograd.grad(y[6].sum(), x)
    steps = seen.abs().sum((1, 2)).nonzero().flatten().tolist()
    assert steps == [4, 5, 6, 7, 8]  # both ways


def test_lengths_are_as_if_each_sequence_were_alone() -> None:
    torch.manual_seed(0)
    layer = FeedForward(3, 5, 2, bidirectional=True, window=3)
    x = torch.randn(9, 3, 3)
    y, _ = layer(x, lengths=[9, 4, 1])
    for b, length in enumerate((9, 4, 1)):
        alone, _ = layer(x[:length, b : b + 1])
        torch.testing.assert_close(y[:length, b : b + 1], alone)
        assert (y[length:, b] == 0).all()


def test_tokens_are_embedded() -> None:
    layer, tokens, table = FeedForward(3, 5, window=2), torch.randint(7, (6, 2)), torch.randn(7, 3)
    torch.testing.assert_close(layer.forward_tokens(tokens, table)[0], layer(F.embedding(tokens, table))[0])


@pytest.mark.parametrize("batch_first", [False, True])
def test_tokens_of_other_cells_are_embedded(batch_first: bool) -> None:
    layer = MinGRU(3, 5, 2, batch_first=batch_first)
    tokens, table = torch.randint(7, (6, 2)), torch.randn(7, 3)
    y, state = layer.forward_tokens(tokens, table)
    x = F.embedding(tokens, table)
    expected, last = layer(x.transpose(0, 1) if batch_first else x)
    torch.testing.assert_close(y, expected.transpose(0, 1) if batch_first else expected)
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize("cell", ["mingru", "feedforward"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_text_model_streams(cell: str, layers: int) -> None:
    torch.manual_seed(0)
    model = Model(ModelConfig(7, cell, 8, layers, 5)).eval()
    tokens = torch.randint(7, (2 * WINDOW, 3))
    whole, _ = model(tokens)
    state, parts = None, []
    for chunk in tokens.split([1, WINDOW, WINDOW - 1]):
        logits, state = model(chunk, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts), whole)


def test_a_text_model_without_recurrence_forgets_what_its_window_has_left() -> None:
    model = Model(ModelConfig(7, "feedforward", 8, 1, 5)).eval()
    tokens = torch.randint(7, (WINDOW + 5, 1))
    other = torch.cat([(tokens[:5] + 1) % 7, tokens[5:]])
    last, changed = model(tokens)[0].view(-1, 7), model(other)[0].view(-1, 7)
    torch.testing.assert_close(last[-1], changed[-1])
    assert not torch.allclose(last[-2], changed[-2])


@pytest.mark.parametrize("pooling", ["mean", "last", "max", "attention"])
@pytest.mark.parametrize("cell", ["mingru", "feedforward"])
def test_a_classifier_reads_texts_of_any_length(cell: str, pooling: str) -> None:
    torch.manual_seed(0)
    config = ClassConfig(30, 3, cell=cell, hidden_size=6, embedding_size=5, num_layers=2, pooling=pooling)
    model = ClassModel(config).eval()
    texts = [torch.arange(2, 14).int().numpy(), torch.arange(5, 8).int().numpy()]
    both = model(torch.from_numpy(padded(texts)))[0]
    each = torch.cat([model(torch.from_numpy(padded([text])))[0] for text in texts])
    torch.testing.assert_close(both, each)


def test_averaged_words_know_no_order_and_a_recurrent_network_does() -> None:
    torch.manual_seed(0)
    for cell, same in (("feedforward", True), ("mingru", False)):
        config = ClassConfig(30, 3, cell=cell, hidden_size=6, embedding_size=5, pooling="mean")
        model = ClassModel(config).eval()
        words = torch.arange(2, 9).int()
        one, other = (model(torch.from_numpy(padded([w.numpy()])))[0] for w in (words, words.flip(0)))
        assert torch.allclose(one, other, atol=1e-6) == same


def test_a_forecaster_without_recurrence_sees_all_segments_at_once() -> None:
    encoder = Whole(Shape(28, 7, 7, (7,)), 5, 6)
    x = torch.randn(4, 2, 5, requires_grad=True)
    y, start = encoder(x)
    assert y.shape == start.shape == (1, 2, 6)
    (seen,) = torch.autograd.grad(y.sum(), x)
    assert (seen.abs().sum((1, 2)) > 0).all()
