"""The classifier's network without PyTorch, against its twin in PyTorch."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from elman import class_network
from elman.class_config import POOLINGS, ClassConfig
from elman.class_data import padded
from elman.class_model import ClassModel
from elman.class_network import ClassNetwork
from elman.data import ElmanError


def twins(**sizes):
    config = ClassConfig(50, 3, hidden_size=10, embedding_size=12, **sizes)
    torch.manual_seed(1)
    model = ClassModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.5, 0.5)
    return model, {name: value.numpy() for name, value in model.state_dict().items()}, asdict(config)


def texts(lengths):
    rng = np.random.default_rng(0)
    return [rng.integers(1, 50, n).astype(np.int32) for n in lengths]


def by_torch(model, some):
    with torch.inference_mode():
        return torch.cat([model(torch.from_numpy(padded([text])))[0] for text in some]).numpy()


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_logits_are_those_of_the_model(monkeypatch, cell, pooling, bidirectional, num_layers):
    """Texts of all lengths: one word, the same length twice, and one so long that it is read in parts."""
    monkeypatch.setattr(class_network, "_STEPS", 60)
    monkeypatch.setattr(class_network, "_AT_ONCE", 4)
    model, tensors, described = twins(
        cell=cell, pooling=pooling, bidirectional=bidirectional, num_layers=num_layers
    )
    some = texts([1, 5, 3, 9, 9, 1, 30, 130, 2, 61])
    np.testing.assert_allclose(
        ClassNetwork(described, tensors)(some), by_torch(model, some), rtol=0, atol=3e-6
    )


def test_what_lies_beside_a_text_does_not_matter():
    model, _tensors, _described = twins()
    some = texts([40, 7, 12, 3])
    with torch.inference_mode():
        together = model(torch.from_numpy(padded(some)))[0].numpy()
    np.testing.assert_allclose(together, by_torch(model, some), rtol=0, atol=1e-6)


def test_many_texts_in_several_batches():
    model, tensors, described = twins()
    some = texts(np.random.default_rng(1).integers(1, 40, 300))
    np.testing.assert_allclose(
        ClassNetwork(described, tensors)(some), by_torch(model, some), rtol=0, atol=2e-6
    )


def test_no_texts():
    _, tensors, described = twins()
    assert ClassNetwork(described, tensors)([]).shape == (0, 3)


@pytest.mark.parametrize("name", ["embedding.weight", "layers.weight_hh_l0_reverse", "head.bias"])
def test_tensors_that_do_not_fit(name):
    _, tensors, described = twins()
    with pytest.raises(ElmanError, match=r"do not fit its description: their shapes"):
        ClassNetwork(described, tensors | {name: tensors[name][1:]})
    with pytest.raises(ElmanError, match=rf"there is no '{name}'"):
        ClassNetwork(described, {key: value for key, value in tensors.items() if key != name})
