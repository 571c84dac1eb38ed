"""Writes forecast.npz beside it: what Keras 3 computes for the model of docs/forecasting.md, as it learns.

Needs Keras 3 and a backend of it: KERAS_BACKEND=tensorflow python tests/data/keras/make_forecast.py
"""

from pathlib import Path

import keras
import numpy as np

BATCHES, ROWS, DAYS, FEATURES = 6, 8, 7, 4


def main() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(BATCHES, ROWS, DAYS, FEATURES)).astype(np.float32)
    y = rng.normal(size=(BATCHES, ROWS, 1)).astype(np.float32)
    model = keras.Sequential([keras.layers.SimpleRNN(64, activation="tanh"), keras.layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    model.build((None, DAYS, FEATURES))
    # Biases too: Keras begins with zeros, which would hide where they go.
    model.set_weights([w + rng.normal(0, 0.1, w.shape).astype(w.dtype) for w in model.get_weights()])
    names = ("kernel", "recurrent", "bias", "head", "head_bias")
    before = {f"{name}_before": w for name, w in zip(names, model.get_weights(), strict=True)}
    before["forecast_before"] = model.predict_on_batch(x[0])
    losses = []
    for inputs, targets in zip(x, y, strict=True):
        losses.append(float(np.square(model.predict_on_batch(inputs) - targets).mean()))
        model.train_on_batch(inputs, targets)
    after = {f"{name}_after": w for name, w in zip(names, model.get_weights(), strict=True)}
    after["forecast_after"] = model.predict_on_batch(x[0])
    np.savez_compressed(Path(__file__).parent / "forecast.npz", x=x, y=y, losses=losses, **before, **after)


if __name__ == "__main__":
    main()
