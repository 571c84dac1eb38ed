"""Options are checked by name, leave plain layers as torch.nn's, and first weights are what the papers say."""

import math

import pytest
import torch
from torch import nn

import elman

I, H = 4, 16
BAD = {
    "layer_norm": ("LSTM", {"layer_norm": 1}, TypeError, "layer_norm.*1"),
    "residual": ("RNN", {"residual": "yes"}, TypeError, "residual.*'yes'"),
    "learn_initial_state": ("GRU", {"learn_initial_state": 0.5}, TypeError, "learn_initial_state.*0.5"),
    "recurrent_dropout": ("LSTM", {"recurrent_dropout": 1.0}, ValueError, r"recurrent_dropout.*1\.0"),
    "input_dropout": ("LSTM", {"input_dropout": -0.1}, ValueError, "input_dropout.*-0.1"),
    "zoneout": ("GRU", {"zoneout": 2}, ValueError, "zoneout.*2"),
    "zoneout is NaN": ("GRU", {"zoneout": math.nan}, ValueError, "zoneout.*nan"),
    "weight_dropout": ("RNN", {"weight_dropout": True}, TypeError, "weight_dropout.*True"),
    "text as a probability": ("RNN", {"zoneout": "0.1"}, TypeError, "zoneout.*'0.1'"),
    "checkpoint_every": ("LSTM", {"checkpoint_every": 0}, ValueError, "checkpoint_every.*0"),
    "checkpoint_every float": ("LSTM", {"checkpoint_every": 1.5}, ValueError, "checkpoint_every.*1.5"),
    "init": ("LSTM", {"init": "xavier"}, ValueError, "init.*'xavier'"),
    "forget_bias": ("GRU", {"forget_bias": 1.0, "chrono": 9}, ValueError, "forget_bias and chrono"),
    "forget_bias of RNN": ("RNN", {"forget_bias": 1.0}, ValueError, "forget_bias=1.0.*RNN"),
    "chrono of RNN": ("RNN", {"chrono": 9}, ValueError, "chrono=9.*RNN"),
    "chrono": ("LSTM", {"chrono": 1}, ValueError, "chrono.*1"),
    "reset_after": ("GRU", {"reset_after": None}, TypeError, "reset_after.*None"),
    "projection": ("LSTM", {"proj_size": 2, "layer_norm": True}, ValueError, "proj_size.*layer_norm"),
    "an unknown one": ("LSTM", {"peepholes": True}, TypeError, "peepholes"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_options_are_named(bad) -> None:
    cell, options, error, words = BAD[bad]
    with pytest.raises(error, match=words):
        getattr(elman, cell)(I, H, **options)


@pytest.mark.parametrize("call", [{"return_trace": True}, {"reset": torch.zeros(5, 2, dtype=torch.bool)}])
def test_projections_refuse_what_they_cannot_do(call) -> None:
    with pytest.raises(ValueError, match="proj_size"):
        elman.LSTM(I, H, proj_size=2)(torch.randn(5, 2, I), **call)


@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
def test_plain_layers_hold_what_torchs_do(cell) -> None:
    torch.manual_seed(1)
    theirs = getattr(nn, cell)(I, H)
    torch.manual_seed(1)
    ours = getattr(elman, cell)(I, H)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert repr(ours) == repr(theirs)


def test_the_representation_shows_what_was_chosen() -> None:
    layer = elman.LSTM(I, H, layer_norm=True, zoneout=0.1, learn_initial_state=True)
    assert repr(layer) == "LSTM(4, 16, layer_norm=True, zoneout=0.1, learn_initial_state=True)"


def test_parameters_of_options() -> None:
    layer = elman.LSTM(I, H, 2, bidirectional=True, layer_norm=True, learn_initial_state=True)
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert shapes["norm_ih_l1_reverse"] == shapes["norm_hh_l0"] == (4 * H,)
    assert shapes["norm_c_l0"] == shapes["norm_c_bias_l1"] == (H,)
    assert shapes["initial_hidden"] == shapes["initial_cell"] == (4, H)
    assert bool((layer.norm_hh_l0 == 1).all())
    assert not layer.initial_cell.any()


@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
def test_orthogonal(cell) -> None:
    layer = getattr(elman, cell)(I, H, init="orthogonal")
    for gate in torch.split(layer.weight_hh_l0, H):
        torch.testing.assert_close(gate @ gate.T, torch.eye(H), rtol=0, atol=1e-5)
    bound = math.sqrt(6 / (I + H))
    assert bound / 2 < float(layer.weight_ih_l0.detach().abs().max()) <= bound
    assert not layer.bias_ih_l0.any()


def test_glorot() -> None:
    layer = elman.LSTM(I, H, 2, init="glorot")
    bound = math.sqrt(6 / (H + H))
    assert bound / 2 < float(layer.weight_hh_l1.detach().abs().max()) <= bound
    assert float(layer.weight_hh_l1.detach().abs().max()) > 1 / math.sqrt(H)  # torch's bound


def test_forget_bias() -> None:
    layer = elman.LSTM(I, H, 2, bidirectional=True, forget_bias=1.5)
    for suffix in ("l0", "l1_reverse"):
        forget = getattr(layer, f"bias_ih_{suffix}") + getattr(layer, f"bias_hh_{suffix}")
        assert bool((forget[H : 2 * H] == 1.5).all())
        assert float(forget[:H].detach().abs().max()) < 1
    with pytest.raises(ValueError, match=r"forget_bias=1\.0.*bias=False"):
        elman.LSTM(I, H, bias=False, forget_bias=1.0)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "PeepholeLSTM", "MinLSTM"])
def test_chrono(cell) -> None:
    torch.manual_seed(0)
    layer = getattr(elman, cell)(I, 400, chrono=100)
    bias = layer.bias_ih_l0.detach() + (layer.bias_hh_l0.detach() if hasattr(layer, "bias_hh_l0") else 0)
    keep, opposite = layer._keeping_gates
    kept = torch.split(bias, 400)[keep]
    assert 0 <= float(kept.min()) < 1.5
    assert math.log(90) < float(kept.max()) <= math.log(99)
    if opposite is not None:
        assert torch.equal(torch.split(bias, 400)[opposite], -kept)


def test_first_weights_come_back() -> None:
    layer = elman.LSTM(I, H, forget_bias=1.0, init="orthogonal", layer_norm=True, learn_initial_state=True)
    for parameter in layer.parameters():
        nn.init.constant_(parameter, 7.0)
    layer.reset_parameters()
    assert bool((layer.bias_ih_l0[H : 2 * H] == 1).all())
    assert bool((layer.norm_c_l0 == 1).all())
    assert not layer.norm_c_bias_l0.any()
    assert not layer.initial_hidden.any()
    gate = layer.weight_hh_l0[:H]
    torch.testing.assert_close(gate @ gate.T, torch.eye(H), rtol=0, atol=1e-5)
