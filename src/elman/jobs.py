"""Which job a model file is of."""

import os
from importlib import import_module
from typing import TYPE_CHECKING

from elman import checkpoint
from elman.data import ElmanError

if TYPE_CHECKING:
    from elman.series import Forecaster
    from elman.text import TextGenerator

_HOMES = {"text": ("elman.text", "TextGenerator"), "series": ("elman.series", "Forecaster")}


def load(path: str | os.PathLike[str]) -> "TextGenerator | Forecaster":
    """The model in a model file, as the class of its job. Needs no PyTorch.

    Raises ElmanError when the file is no model, is damaged, is newer than this elman or of a job it does not know;
    OSError when it cannot be read.
    """
    file = checkpoint.load(path)
    if file.job not in _HOMES:
        raise ElmanError(f"{os.fspath(path)} holds a model for {file.job}, which this elman does not know.")
    module, name = _HOMES[file.job]
    made: TextGenerator | Forecaster = getattr(import_module(module), name).from_file(file)
    return made


def load_text(path: str | os.PathLike[str]) -> "TextGenerator":
    """The same, of the text job. Raises ElmanError for another."""
    from elman.text import TextGenerator

    model = load(path)
    if not isinstance(model, TextGenerator):
        raise _another(path, "series", "text", "forecast")
    return model


def load_series(path: str | os.PathLike[str]) -> "Forecaster":
    """The same, of the series job. Raises ElmanError for another."""
    from elman.series import Forecaster

    model = load(path)
    if not isinstance(model, Forecaster):
        raise _another(path, "text", "series", "generate")
    return model


def _another(path: str | os.PathLike[str], held: str, wanted: str, command: str) -> ElmanError:
    return ElmanError(
        f"{os.fspath(path)} holds a model for {held}, not for {wanted}: see elman {command} --help"
    )
