"""The classic forecaster, beside Keras: the same numbers as it learns, and a page that shows what runs.

data/keras/forecast.npz holds what Keras 3 computed; make_forecast.py beside it wrote it.
"""

import os
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import elman

ROOT = Path(__file__).parent.parent
KERAS = np.load(ROOT / "tests/data/keras/forecast.npz")
NEAR = {"rtol": 0, "atol": 1e-5}


def blocks() -> list[str]:
    """The page's program in PyTorch and in Keras."""
    page = (ROOT / "docs/forecasting.md").read_text(encoding="utf-8")
    section = page.split("## The classic program\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


class SimpleRNN:
    """What Keras's layer answers."""

    def get_config(self):
        return {"name": "simple_rnn", "units": 64, "activation": "tanh", "use_bias": True}

    def get_weights(self):
        return [KERAS[f"{name}_before"] for name in ("kernel", "recurrent", "bias")]


def model() -> tuple[elman.RNN, torch.nn.Linear]:
    rnn, head = elman.from_keras(SimpleRNN()), torch.nn.Linear(64, 1)
    rnn.bias_hh_l0.requires_grad_(False)  # Keras has one bias
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(KERAS["head_before"].T))
        head.bias.copy_(torch.from_numpy(KERAS["head_bias_before"]))
    return rnn, head


def assert_near(ours: torch.Tensor, theirs: str):
    np.testing.assert_allclose(ours.detach().numpy(), KERAS[theirs], **NEAR)


def test_learns_as_keras_does():
    rnn, head = model()
    x, y = torch.from_numpy(KERAS["x"]), torch.from_numpy(KERAS["y"])
    assert_near(head(rnn(x[0])[1][-1]), "forecast_before")
    optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()])
    losses = []
    for step, (inputs, targets) in enumerate(zip(x, y, strict=True), 1):
        # Keras adds epsilon before the second moment is corrected, torch after.
        optimizer.param_groups[0]["eps"] = 1e-7 / (1 - 0.999**step) ** 0.5
        loss = torch.nn.functional.mse_loss(head(rnn(inputs)[1][-1]), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(losses, KERAS["losses"], **NEAR)
    assert_near(rnn.weight_ih_l0.T, "kernel_after")
    assert_near(rnn.weight_hh_l0.T, "recurrent_after")
    assert_near(rnn.bias_ih_l0, "bias_after")
    assert_near(head.weight.T, "head_after")
    assert_near(head.bias, "head_bias_after")
    assert_near(head(rnn(x[0])[1][-1]), "forecast_after")


def test_keras_has_learned():
    """Else the comparison would be one of weights that stay."""
    for name in ("kernel", "recurrent", "bias", "head", "head_bias"):
        assert np.abs(KERAS[f"{name}_after"] - KERAS[f"{name}_before"]).max() > 100 * NEAR["atol"]
    assert KERAS["losses"].shape == (6,)


def test_the_page_shows_the_example():
    ours, theirs = blocks()
    assert "elman.RNN(" in ours
    assert ours in (ROOT / "examples/forecast.py").read_text(encoding="utf-8")
    assert "#" not in theirs


@pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed")
def test_the_page_s_keras_program_runs():
    """In a process of its own, since what Keras imports stays, with threads."""
    environment = os.environ | {"KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, __file__], env=environment, check=True, timeout=300)


def run_keras():
    """It learns from the example's data: it beats "same as today", by 0.85 to 0.93 as its first weights are drawn."""
    import keras

    example = runpy.run_path(str(ROOT / "examples/forecast.py"))
    x, y, n = (example[name] for name in ("x", "y", "n"))
    names = {"keras": keras, "x": x.numpy(), "y": y.numpy(), "n": n}
    exec(blocks()[1], names)
    forecast = torch.from_numpy(names["model"].predict(names["x"][n:], verbose=0))
    error, naive = ((guess - y[n:]).square().mean().sqrt() for guess in (forecast, x[n:, -1, :1]))
    assert error < naive
    layer = names["model"].layers[0]
    hidden = torch.from_numpy(keras.Sequential([layer]).predict(names["x"][n:], verbose=0))
    torch.testing.assert_close(elman.from_keras(layer)(x[n:])[1][-1], hidden, **NEAR)


if __name__ == "__main__":
    run_keras()
