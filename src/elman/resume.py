"""The resume file: everything a killed run needs to go on, as safetensors + JSON. No pickle.

A plug-in for Lightning, which hands over and takes back its nested checkpoint dictionary. Knows how to store
nested Python values and tensors, not what they mean.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from torch import Tensor

from elman.checkpoint import write_whole
from elman.data import ElmanError

_KEY = "elman.resume.2"  # another number where other things are kept
_RUN = "elman.run"


class ResumeIO(CheckpointIO):
    """Reads and writes checkpoints for Lightning.

    `run` describes the run, so that only its like resumes it.
    """

    def __init__(self, run: Mapping[str, Any]) -> None:
        self.run = dict(run)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Writes the checkpoint whole or not at all. Raises ElmanError when it cannot be written."""
        tensors: dict[str, np.ndarray[Any, Any]] = {}
        text = json.dumps(pack(checkpoint, tensors))
        write_whole(Path(path), save_arrays(tensors, {_KEY: text, _RUN: json.dumps(self.run)}))

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The checkpoint that `save_checkpoint` wrote.

        Raises ElmanError for another run's, or a damaged one.
        """
        check_resumable(path, self.run)
        metadata = _metadata(path)
        arrays = load_arrays(Path(path).read_bytes())
        loaded: dict[str, Any] = unpack(json.loads(metadata[_KEY]), arrays)
        return loaded

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Deletes the file, if it is there."""
        Path(path).unlink(missing_ok=True)


def check_resumable(path: str | os.PathLike[str], run: Mapping[str, Any]) -> None:
    """Raises ElmanError unless the file at `path` continues the run that `run` describes."""
    if not Path(path).exists():
        raise ElmanError(f"nothing to resume: there is no {path}. Train without --resume.")
    saved = json.loads(_metadata(path)[_RUN])
    different = [name for name in {**run, **saved} if run.get(name) != saved.get(name)]
    if different:
        lines = "; ".join(f"{name} was {saved.get(name)}, now {run.get(name)}" for name in different)
        raise ElmanError(
            f"{path} is from another run: {lines}. Use the same text and settings, or don't resume."
        )


def pack(value: Any, tensors: dict[str, np.ndarray[Any, Any]]) -> Any:
    """A nested value as JSON; its tensors go into `tensors`, a number in their place.

    Every container becomes [kind, contents], so that tuples and keys that are no strings survive.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Tensor():
            name = str(len(tensors))
            tensors[name] = value.detach().cpu().contiguous().numpy()
            return ["tensor", name]
        case dict():
            return ["dict", [[pack(k, tensors), pack(v, tensors)] for k, v in value.items()]]
        case list() | tuple():
            return ["list" if isinstance(value, list) else "tuple", [pack(v, tensors) for v in value]]
    raise TypeError(f"a resume file cannot hold a {type(value).__name__}")


def unpack(value: Any, tensors: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    """What `pack` packed."""
    if not isinstance(value, list):
        return value
    kind, contents = value
    match kind:
        case "tensor":
            return torch.from_numpy(tensors[contents].copy())
        case "dict":
            return {unpack(k, tensors): unpack(v, tensors) for k, v in contents}
        case "list":
            return [unpack(v, tensors) for v in contents]
    return tuple(unpack(v, tensors) for v in contents)


def _metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ElmanError(f"{path} is damaged and cannot be resumed. Delete it and train anew.") from error
    if _KEY not in metadata or _RUN not in metadata:
        raise ElmanError(f"{path} is no resume file of this version of elman. Delete it and train anew.")
    return dict(metadata)
