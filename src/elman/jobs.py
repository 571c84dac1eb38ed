"""Which job a model file is of."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from elman import checkpoint
from elman.data import ElmanError

if TYPE_CHECKING:
    from elman.classify import TextClassifier
    from elman.series import Forecaster
    from elman.text import TextGenerator

# Where a job's class is, its name, and the command that uses its models.
_HOMES = {
    "text": ("elman.text", "TextGenerator", "generate"),
    "series": ("elman.series", "Forecaster", "forecast"),
    "labels": ("elman.classify", "TextClassifier", "classify"),
}


def load(path: str | os.PathLike[str]) -> "TextGenerator | Forecaster | TextClassifier":
    """The model in a model file, as the class of its job. Needs no PyTorch.

    Raises ElmanError when the file is no model, is damaged, is newer than this elman or of a job it does not know;
    OSError when it cannot be read.
    """
    made: TextGenerator | Forecaster | TextClassifier = _load(path)
    return made


def load_text(path: str | os.PathLike[str]) -> "TextGenerator":
    """The same, of the text job. Raises ElmanError for another."""
    made: TextGenerator = _load(path, "text")
    return made


def load_series(path: str | os.PathLike[str]) -> "Forecaster":
    """The same, of the series job. Raises ElmanError for another."""
    made: Forecaster = _load(path, "series")
    return made


def load_labels(path: str | os.PathLike[str]) -> "TextClassifier":
    """The same, of the job that labels texts. Raises ElmanError for another."""
    made: TextClassifier = _load(path, "labels")
    return made


def _load(path: str | os.PathLike[str], wanted: str | None = None) -> Any:
    file, name = checkpoint.load(path), os.fspath(path)
    if file.job == "language":
        raise ElmanError(
            f"{name} holds what an unfinished training knows of the language, and no labels yet: go on with "
            "elman train labels and --resume."
        )
    if file.job not in _HOMES:
        raise ElmanError(f"{name} holds a model for {file.job}, which this elman does not know.")
    module, kind, command = _HOMES[file.job]
    if wanted not in (None, file.job):
        raise ElmanError(f"{name} holds a model for {file.job}, not for {wanted}: see elman {command} --help")
    return getattr(import_module(module), kind).from_file(file)
