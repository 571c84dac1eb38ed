"""The model: shapes, state_dict, tying, dropout locked over time, and a state that carries."""

import numpy as np
import pytest
import torch

from elman import stream
from elman.data import ElmanError
from elman.model import Model, ModelConfig


def make(cell: str = "lstm", layers: int = 1, dropout: float = 0.0, tied: bool = False) -> Model:
    torch.manual_seed(0)
    config = ModelConfig(7, cell, 8, layers, 8 if tied else 5, dropout, tied)
    return Model(config)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("layers", [1, 2])
def test_state_carries_from_chunk_to_chunk_as_if_it_were_one(cell: str, layers: int) -> None:
    model = make(cell, layers).eval()
    tokens = torch.randint(7, (30, 3))
    whole, last = model(tokens)
    state, parts = None, []
    for chunk in tokens.split([11, 1, 18]):
        logits, state = model(chunk, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts), whole)
    torch.testing.assert_close(state, last)
    assert whole.shape == (90, 7)


def test_state_dict_has_the_names_of_the_model_file() -> None:
    names = [
        "embedding.weight",
        *(f"layers.{kind}_l0" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
    ]
    assert list(make().state_dict()) == [*names, "head.weight", "head.bias"]
    assert list(make(tied=True).state_dict()) == [*names, "head.bias"]


def test_tied_head_is_the_embedding() -> None:
    model = make(tied=True)
    logits, _ = model(torch.randint(7, (4, 2)))
    logits.sum().backward()
    y, _ = model.layers.forward_tokens(torch.zeros(1, 1, dtype=torch.long), model.embedding.weight)
    torch.testing.assert_close(
        model(torch.zeros(1, 1, dtype=torch.long))[0], y[0] @ model.embedding.weight.T + model.head.bias
    )
    assert sum(parameter.numel() for parameter in model.parameters()) < 7 * 8 + 4 * 8 * 18 + 8


def test_dropout_is_locked_over_time_and_off_in_eval() -> None:
    model = make(dropout=0.5)
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(7, 8))
    tokens = torch.randint(7, (6, 4))
    silenced = model(tokens)[0].view(6, 4, 7) == model.head.bias
    assert silenced.any()
    assert (silenced == silenced[0]).all()  # the same units at every step
    model.eval()
    torch.testing.assert_close(model(tokens)[0], model(tokens)[0])


def test_initialisation_is_orthogonal_with_an_open_forget_gate() -> None:
    model = make()
    for gate in model.layers.weight_hh_l0.view(4, 8, 8):
        torch.testing.assert_close(gate @ gate.T, torch.eye(8))
    assert model.layers.bias_ih_l0[8:16].eq(1).all()
    assert model.layers.bias_hh_l0.eq(0).all()


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("tied", [False, True])
def test_native_network_computes_the_same(cell: str, tied: bool) -> None:
    model = make(cell, 2, tied=tied).eval()
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    from dataclasses import asdict

    network = stream.build_network(asdict(model.config), tensors)
    tokens = np.random.default_rng(0).integers(7, size=(2, 20))
    native = network.feed(tokens, np.zeros((2, network.state_size), np.float32))
    ours = model(torch.from_numpy(tokens.T.copy()))[0].detach().view(20, 2, 7).transpose(0, 1)
    np.testing.assert_allclose(native, ours.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "lstn"}, "lstm, gru, rnn"),
        ({"hidden_size": 0}, "hidden_size must be at least 1"),
        ({"num_layers": -1}, "num_layers must be at least 1"),
        ({"dropout": 1.0}, "below 1"),
        ({"hidden_size": True}, "whole number"),
        ({"tied": True}, "embedding_size == hidden_size"),
    ],
)
def test_bad_configurations_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ElmanError, match=message):
        ModelConfig(7, **arguments)  # type: ignore[arg-type]
