"""The classifier's network and the language model it can begin with."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from elman.class_config import ClassConfig
from elman.class_data import padded
from elman.class_model import ClassModel, LanguageModel, _compared, embedded, for_classifier
from elman.data import ElmanError


def config(**sizes):
    return ClassConfig(
        **({"vocabulary": 30, "classes": 2, "hidden_size": 6, "embedding_size": 5, "dropout": 0.0} | sizes)
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"cell": "cnn"}, r"unknown cell 'cnn'"),
        ({"pooling": "sum"}, r"unknown pooling 'sum': choose one of attention, mean, max, last"),
        ({"hidden_size": 0}, r"hidden_size must be at least 1"),
        ({"dropout": 1.0}, r"dropout must be a number from 0 to below 1, not 1\.0"),
        ({"word_dropout": "much"}, r"word_dropout must be a number"),
        ({"bidirectional": 1}, r"bidirectional must be True or False"),
    ],
)
def test_bad_configurations(option, message):
    with pytest.raises(ElmanError, match=message):
        config(**option)


def test_dropout_is_the_same_for_all_steps_of_a_text_and_drops_words_everywhere():
    torch.manual_seed(0)
    own = config(embedding_size=40, embedding_dropout=0.5, word_dropout=0.5)
    embedding = torch.nn.Embedding(30, 40)
    codes = torch.arange(30).repeat(2)[:, None].expand(60, 3)
    e = embedded(embedding, codes, own, training=True)
    kept = e != 0
    words, columns = kept.any(2)[:, 0], kept.any(0)
    assert (words[:30] == words[30:]).all()  # a word is dropped wherever it stands
    assert 5 < int(words[:30].sum()) < 25
    assert (kept == words[:, None, None] & columns).all()
    assert (columns[0] != columns[1]).any()  # and each text has its own columns
    torch.testing.assert_close(e[kept], 4 * embedding(codes)[kept])
    assert torch.equal(embedded(embedding, codes, own, training=False), embedding(codes))


def test_training_reaches_every_parameter():
    for pooling in ("max", "mean", "last", "attention"):
        model = ClassModel(config(pooling=pooling, num_layers=2))
        codes = [np.arange(2, 30, dtype=np.int32), np.arange(2, 8, dtype=np.int32)]
        logits, state = model(torch.from_numpy(padded(codes)))
        assert state is None
        F.cross_entropy(logits, torch.tensor([0, 1])).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters()), pooling


def test_compared_gradients():
    torch.manual_seed(0)
    q, w, bias, own = (
        torch.randn(*size, dtype=torch.double, requires_grad=True) for size in ((5, 3), (4, 3), (4,), (5,))
    )
    place = torch.tensor([-1, 2, -1, 0, -1])
    assert torch.autograd.gradcheck(lambda *given: _compared(*given, place), (q, w, bias, own))


def test_the_estimate_is_exact_where_all_words_are_drawn():
    torch.manual_seed(0)
    own = config(word_dropout=0.0, embedding_dropout=0.0)
    model = LanguageModel(own, torch.arange(1.0, 31))
    with torch.no_grad():
        model.bias.normal_()
    outputs, targets = torch.randn(2, 4, 3, 5), torch.randint(0, 30, (2, 4, 3))
    exact = model.nats(outputs, targets).mean()
    np.testing.assert_allclose(model.loss(outputs, targets).detach(), exact.detach(), rtol=1e-4)


def test_both_ways_predict_what_follows_in_their_direction():
    """After training on 2 3 4 5 in a ring, each is sure of its neighbour, and the classifier takes over both ways."""
    torch.manual_seed(0)
    own = config(vocabulary=6, word_dropout=0.0, embedding_dropout=0.0)
    model = LanguageModel(own, torch.ones(6))
    ring = torch.arange(2, 6).repeat(6)[:, None]
    both = torch.stack((ring, ring.flip(0)))
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(80):
        outputs, _ = model(both[:, :-1])
        loss = model.loss(outputs, both[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    outputs, _ = model.eval()(both[:, :-1])
    assert (model.nats(outputs, both[:, 1:])[:, 4:] < 0.1).all()
    classifier = ClassModel(own)
    wanted = dict(classifier.named_parameters())
    taken = for_classifier(dict(model.named_parameters()))
    assert {name for name in wanted if not name.startswith(("head", "attention"))} == set(taken)
    assert all(wanted[name].shape == value.shape for name, value in taken.items())


def test_the_end_of_a_text_stays_without_an_embedding():
    torch.manual_seed(0)
    model = LanguageModel(config(), torch.ones(30))
    x = torch.randint(0, 30, (2, 40, 8))
    x[:, ::7] = 0
    outputs, _ = model(x)
    model.loss(outputs, x.roll(-1, 1)).backward()
    assert (model.embedding.weight[0] == 0).all()
    assert (model.embedding.weight.grad[0] == 0).all()
    assert (model.embedding.weight.grad[1:].abs().sum(1) > 0).all()


def test_of_one_way_all_layers_are_taken():
    own = config(bidirectional=False, num_layers=2)
    taken = for_classifier(dict(LanguageModel(own, torch.ones(30)).named_parameters()))
    wanted = dict(ClassModel(own).named_parameters())
    assert {name for name in wanted if not name.startswith(("head", "attention"))} == set(taken)
