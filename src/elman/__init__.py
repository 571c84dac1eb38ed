"""Recurrent networks, fast on any CPU. This file is the table of contents; everything is imported when first used."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "ElmanError": "data",
    "Characters": "codec",
    "Words": "words",
    "Stream": "stream",
    "LayerStream": "stream",
    "RNN": "layers",
    "GRU": "layers",
    "LSTM": "layers",
    "RNNCell": "cells",
    "GRUCell": "cells",
    "LSTMCell": "cells",
    "Recurrent": "recurrent",
    "PeepholeLSTM": "recurrent",
    "CoupledLSTM": "recurrent",
    "IndRNN": "recurrent",
    "MinGRU": "recurrent",
    "MinLSTM": "recurrent",
    "from_keras": "convert",
    "Model": "model",
    "ModelConfig": "model",
    "TextGenerator": "text",
    "Forecaster": "series",
    "TextClassifier": "classify",
    "load": "jobs",
    "explain": "explanation",
    "compare": "comparison",
    "Comparison": "comparison",
    "tune": "tuning",
    "Tuned": "tuning",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'elman' has no attribute {name!r}")
    return getattr(import_module(f"elman.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
