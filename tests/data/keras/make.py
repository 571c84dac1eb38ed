"""Writes the files beside it: small Keras 3 models with random weights, and what Keras computes with them.

Needs Keras 3 and a backend of it: KERAS_BACKEND=tensorflow python tests/data/keras/make.py
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers

HERE = Path(__file__).parent
FEATURES, UNITS = 3, 5
WHOLE = {"return_sequences": True}

SINGLE = {
    "rnn_tanh": lambda: layers.SimpleRNN(UNITS, **WHOLE),
    "rnn_relu": lambda: layers.SimpleRNN(UNITS, activation="relu", **WHOLE),
    "gru_after": lambda: layers.GRU(UNITS, **WHOLE),
    "gru_before": lambda: layers.GRU(UNITS, reset_after=False, **WHOLE),
    "lstm": lambda: layers.LSTM(UNITS, dropout=0.2, recurrent_dropout=0.1, **WHOLE),
    "lstm_no_bias": lambda: layers.LSTM(UNITS, use_bias=False, **WHOLE),
    "lstm_both": lambda: layers.Bidirectional(layers.LSTM(UNITS, **WHOLE)),
    "gru_both": lambda: layers.Bidirectional(layers.GRU(UNITS, **WHOLE)),
}
WEIGHTS_ALONE = ("rnn_tanh", "gru_after", "gru_before", "lstm_no_bias", "gru_both")


def single(name: str) -> keras.Model:
    return keras.Sequential([layers.Input((None, FEATURES)), SINGLE[name]()])


def two() -> keras.Model:
    lower, upper = (layers.LSTM(UNITS, name=name, **WHOLE) for name in ("lower", "upper"))
    return keras.Sequential([layers.Input((None, FEATURES)), lower, layers.Dense(FEATURES), upper])


def nested() -> keras.Model:
    """A model in another, with a layer of the same name; one layer that is shared; one that runs backwards."""
    twin = layers.LSTM(UNITS, name="twin", **WHOLE)
    inner = keras.Sequential([layers.Input((None, UNITS)), layers.Dense(FEATURES), twin], name="inner")
    x = layers.Input((None, FEATURES))
    other = layers.LSTM(UNITS, name="twin", **WHOLE)
    shared = layers.GRU(FEATURES, name="shared", **WHOLE)
    back = layers.LSTM(UNITS, name="back", go_backwards=True, **WHOLE)
    return keras.Model(x, back(inner(other(shared(shared(x))))))


def write(name: str, model: keras.Model, rng: np.random.Generator, alone: bool) -> None:
    """Random weights: Keras's own biases are zeros and ones, which would hide where they go."""
    model.set_weights([rng.normal(0, 0.5, w.shape).astype(w.dtype) for w in model.get_weights()])
    model.save(HERE / f"{name}.keras")
    if alone:
        model.save_weights(HERE / f"{name}.weights.h5")


def outputs(model: keras.Model, x: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
    """Each recurrent layer's output for x itself, by the layer's name."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found |= outputs(layer, x, f"{prefix}{layer.name}/")
        elif isinstance(layer, layers.RNN) and layer.cell.kernel.shape[0] == x.shape[-1]:
            found[prefix + layer.name] = np.asarray(layer(x))
    return found


def main() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 7, FEATURES)).astype(np.float32)
    expected = {"x": x}
    for name in SINGLE:
        keras.utils.clear_session()
        model = single(name)
        write(name, model, rng, name in WEIGHTS_ALONE)
        expected[name] = np.asarray(model(x))
    for make, alone in ((two, True), (nested, False)):
        keras.utils.clear_session()
        model = make()
        write(make.__name__, model, rng, alone)
        expected |= outputs(model, x, f"{make.__name__}/")
    np.savez_compressed(HERE / "expected.npz", **expected)


if __name__ == "__main__":
    main()
