"""Faults planted in networks are named, and sound networks get no false alarm."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import elman
from elman.explanation import explain
from elman.health import health
from elman.report import Finding, Memory, Report, Traced

pytestmark = pytest.mark.usefixtures("one_thread")

HIDDEN = 48
TEXT = "".join(
    f"{who}: {what}, said the {whom} ({where}).\n"
    for who in ("Ada", "Bert", "Cleo")
    for what in ("good day", "come in", "sit down", "not now")
    for whom in ("cook", "guard", "king")
    for where in ("at home", "in the yard", "by the sea")
)


@pytest.fixture(scope="module")
def models() -> dict[str, elman.TextGenerator]:
    """Small generators that have learned the text."""
    return {
        cell: elman.TextGenerator(cell, HIDDEN, 1, 16, batch_size=8, chunk_length=32).fit(
            TEXT * 3, epochs=5, progress=False
        )
        for cell in ("rnn", "gru", "lstm")
    }


def planted(model: elman.TextGenerator, plant: Callable[[dict[str, np.ndarray]], None]) -> Report:
    """The report of a copy whose tensors were changed."""
    from dataclasses import replace

    tensors = {name: value.copy() for name, value in model.file.tensors.items()}
    plant(tensors)
    return explain(elman.TextGenerator.from_file(replace(model.file, tensors=tensors)), TEXT[:1200])


def wrong(report: Report) -> dict[str, Finding]:
    return {one.measure: one for one in report.health if one.verdict != "good"}


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_sound_model_gets_no_alarm(models: dict[str, elman.TextGenerator], cell: str) -> None:
    report = explain(models[cell], TEXT[:1200])
    assert models[cell].info["training"]["validation_loss"] < 1.2
    assert wrong(report) == {}
    assert len(report.health) >= 4
    assert all(one.sentence and one.definition and one.source for one in report.health)


@pytest.mark.parametrize("layer", [nn.RNN, nn.GRU, nn.LSTM, elman.LSTM, elman.MinGRU])
def test_a_fresh_layer_gets_no_alarm(layer: type[nn.Module]) -> None:
    torch.manual_seed(0)
    assert wrong(explain(layer(8, 32), torch.randn(150, 2, 8))) == {}


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_an_exploding_recurrent_matrix_is_named(models: dict[str, elman.TextGenerator], cell: str) -> None:
    def plant(tensors: dict[str, np.ndarray]) -> None:
        tensors["layers.weight_hh_l0"] *= 8

    found = wrong(planted(models[cell], plant))
    assert found["growth of gradients"].verdict == "bad"
    assert found["spectral radius"].verdict == "bad"
    assert "Scale them down" in found["spectral radius"].advice


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_dead_layer_is_named(models: dict[str, elman.TextGenerator], cell: str) -> None:
    def plant(tensors: dict[str, np.ndarray]) -> None:
        for name in tensors:
            if name.startswith("layers."):
                tensors[name] *= 0

    found = wrong(planted(models[cell], plant))
    assert found["dead units"].verdict == "bad"
    assert found["dead units"].value == 1


def test_forget_gates_that_are_shut_are_named(models: dict[str, elman.TextGenerator]) -> None:
    def plant(tensors: dict[str, np.ndarray]) -> None:
        tensors["layers.bias_ih_l0"][HIDDEN : 2 * HIDDEN] = -12

    found = wrong(planted(models["lstm"], plant))
    assert set(found) == {"forget gates shut"}
    assert "forget_bias=1" in found["forget gates shut"].advice


@pytest.mark.parametrize("bias", [-12, 12])
@pytest.mark.parametrize(
    ("cell", "gate", "at"), [("lstm", "input", 0), ("lstm", "output", 3), ("gru", "reset", 0)]
)
def test_saturated_gates_are_named(
    models: dict[str, elman.TextGenerator], cell: str, gate: str, at: int, bias: int
) -> None:
    def plant(tensors: dict[str, np.ndarray]) -> None:
        tensors["layers.bias_ih_l0"][at * HIDDEN : (at + 1) * HIDDEN] += bias

    found = wrong(planted(models[cell], plant))
    assert found[f"stuck {gate} gates"].verdict == "bad"


def test_saturated_units_of_a_plain_network_are_named(models: dict[str, elman.TextGenerator]) -> None:
    def plant(tensors: dict[str, np.ndarray]) -> None:
        tensors["layers.bias_ih_l0"] += 12

    assert wrong(planted(models["rnn"], plant))["saturated units"].verdict == "bad"


def test_a_state_that_grows_is_named() -> None:
    steps, units = 400, 4
    values = {"hidden": np.random.default_rng(0).normal(size=(steps, units)) * np.arange(steps)[:, None]}
    layer = Traced("layer 1", "rnn", values, np.zeros((0, units)))
    memory = Memory(np.ones(3), 1.0, 0.5, 3, (1,), np.ones(1), 1, "nats", 1, "")
    found = {one.measure: one for one in health([layer], [layer], memory)}
    assert found["growth of the state"].verdict == "warning"
    assert found["growth of the state"].value == pytest.approx(0.875 / 0.375, rel=0.1)


def test_the_radius_is_that_of_the_candidate() -> None:
    torch.manual_seed(0)
    layer = elman.CoupledLSTM(4, 8)  # forget gate, candidate, output gate
    found = next(
        one for one in explain(layer, torch.randn(40, 1, 4)).health if one.measure == "spectral radius"
    )
    candidate = layer.weight_hh_l0.detach().numpy()[8:16]
    assert found.value == pytest.approx(np.abs(np.linalg.eigvals(candidate)).max(), rel=1e-5)


def test_gates_of_a_cell_of_ones_own_are_taken_for_no_candidate() -> None:
    def step(gates: Any, states: Any) -> Any:
        z = torch.sigmoid(gates[0])
        return (z * states[0] + (1 - z) * torch.tanh(gates[1]),)

    layer = elman.Recurrent(step, 4, 8, gates=2)
    assert not any(one.measure == "spectral radius" for one in explain(layer, torch.randn(40, 1, 4)).health)


def test_few_steps_are_not_judged() -> None:
    torch.manual_seed(0)
    report = explain(elman.LSTM(3, 8), torch.randn(10, 1, 3))
    assert not any("dead" in one.measure for one in report.health)
    assert any("too few" in note for note in report.notes)
