"""Weights from elsewhere: a layer or cell of torch.nn, a layer or file of Keras 3 -> elman's own.

Keras is never imported. A live layer is asked for its settings and weights; a file is read as JSON and HDF5 by
h5py, and nothing in it is executed.

Letters: I inputs, H hidden units, G gates. Keras stores matrices as (I, G*H), torch.nn as (G*H, I). Its gates
are z, r, h in GRU, where torch.nn has r, z, n, and i, f, c, o in LSTM, where torch.nn has i, f, g, o.
"""

import io
import json
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from elman.cells import GRUCell, LSTMCell, RNNCell
from elman.data import ElmanError
from elman.layers import GRU, LSTM, RNN

Array = npt.NDArray[np.floating]
Description = dict[str, Any]  # Keras's own form: {"class_name": ..., "config": {...}}

_OURS: dict[type[nn.Module], Any] = {
    getattr(nn, ours.__name__): ours for ours in (RNN, GRU, LSTM, RNNCell, GRUCell, LSTMCell)
}
_OPTIONS = ("num_layers", "nonlinearity", "batch_first", "bidirectional", "proj_size")

_CLASSES: dict[str, Any] = {"SimpleRNN": RNN, "GRU": GRU, "LSTM": LSTM}
_GATES = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}
_GATED: dict[str, tuple[str, ...]] = {"activation": ("tanh",), "recurrent_activation": ("sigmoid",)}
_ACTIVATIONS: dict[str, dict[str, tuple[str, ...]]] = {  # what elman computes, Keras's default first
    "SimpleRNN": {"activation": ("tanh", "relu", "sigmoid")},
    "GRU": _GATED,
    "LSTM": _GATED,
}
_KINDS = "SimpleRNN, GRU, LSTM or Bidirectional of these"
_WEIGHTS = "model.weights.h5"
_CELL = re.compile(r"((?:.*/)?cell)/vars/(\d+)")
_DIRECTIONS = ("forward_layer", "backward_layer")  # the groups in a Bidirectional's
_EXPANSION = 1_000  # times its size on disk: what compression may make of an array, and no more


def from_torch(module: nn.Module, kind: Any = None) -> Any:
    """The elman layer or cell of the same configuration as one of torch.nn, with a copy of its weights.

    module: torch.nn.RNN, GRU, LSTM, RNNCell, GRUCell or LSTMCell. Options, dtype, device, training mode and each
    parameter's requires_grad are kept; a weight that is pruned or parametrized is copied as it is now. Hooks
    stay behind. Random numbers are not consumed. kind: the elman class that is wanted, or a subclass of it.
    Raises TypeError for another module, or for one that does not become a `kind`.
    """
    name = f"{type(module).__module__}.{type(module).__qualname__}"
    ours = next((ours for theirs, ours in _OURS.items() if isinstance(module, theirs)), None)
    if ours is None:
        accepted = ", ".join(f"torch.nn.{theirs.__name__}" for theirs in _OURS)
        raise TypeError(f"from_torch takes one of {accepted}, not {name}")
    if kind is not None and not issubclass(kind, ours):
        raise TypeError(f"{name} becomes an elman.{ours.__name__}, not an elman.{kind.__name__}")
    return _copy(module, kind or ours)


def _copy(module: Any, kind: Any) -> Any:
    options = {option: getattr(module, option) for option in _OPTIONS if getattr(module, option, False)}
    weight = getattr(module, "weight_ih_l0" if isinstance(module, nn.RNNBase) else "weight_ih")
    sizes, bias = (module.input_size, module.hidden_size), module.bias
    made = _empty(kind, sizes, weight.dtype, weight.device, bias=bias, **options)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            source = getattr(module, name)
            parameter.copy_(source)
            parameter.requires_grad_(source.requires_grad)
    if isinstance(module, nn.RNNBase):
        made.dropout = module.dropout  # the constructor would warn again of what torch.nn has warned of
        made.flatten_parameters()
    return made.train(module.training)


def _empty(kind: Any, sizes: tuple[int, int], dtype: torch.dtype, device: Any, **options: Any) -> Any:
    """A layer of sizes (I, H) whose weights hold anything, made without drawing random numbers."""
    return kind(*sizes, dtype=dtype, device="meta", **options).to_empty(device=device)


def from_keras(layer: Any, name: str | None = None) -> RNN | GRU | LSTM:
    """The elman layer that computes what a Keras 3 layer computes at inference, with batch_first=True.

    layer: a live SimpleRNN, GRU, LSTM, or Bidirectional of one of them with merge_mode "concat"; or the path of a
    .keras or .weights.h5 file with such a layer. Of several in a file, `name` chooses one. As in torch.nn,
    the whole sequence and the final state come out, whatever return_sequences and return_state say.

    A .weights.h5 holds arrays only. Their shapes tell the layer's kind, sizes, biases and directions; what they
    do not tell is taken to be Keras's default: tanh and sigmoid, merge_mode "concat", and for a GRU without
    bias reset_after=True. For a layer with other settings, give the .keras file or the layer itself.

    Settings of training (dropout, recurrent_dropout, regularizers, trainable), stateful, unroll and
    implementation have no effect on the result. Masks belong to the call, not to the layer: pack sequences
    of different lengths, as for torch.nn. Weights in float64 stay so, others become float32.
    Raises ElmanError for a layer that elman cannot compute, naming the setting, for a file that cannot be read
    or has no such layer, and where h5py is needed and missing.
    """
    if isinstance(layer, str | os.PathLike):
        return _from_file(os.fsdecode(layer), name)
    kind = type(layer).__name__
    if kind not in (*_GATES, "Bidirectional") or not hasattr(layer, "get_config"):
        taken = f"a Keras layer, {_KINDS}, or the path of a .keras or .weights.h5 file"
        advice = "Of a model, give one layer: model.get_layer(...)"
        raise ElmanError(f"from_keras takes {taken}, not {type(layer).__module__}.{kind}. {advice}")
    if name is not None:
        raise ElmanError(f"name={name!r} chooses a layer in a file; here the layer itself was given.")
    config = layer.get_config()
    where = f"the Keras layer {config.get('name')!r}"
    weights = [_floats(weight, where) for weight in layer.get_weights()]
    if not weights:
        raise ElmanError(f"{where} has no weights yet: call it on data once, or build it.")
    return _build({"class_name": kind, "config": config}, weights, where)


class _Entry(NamedTuple):
    """A recurrent layer in a file. Its arrays are the forward ones, then the backward ones."""

    name: str
    path: str  # of its group
    arrays: list[Array]
    description: Description | None  # None in a .weights.h5


def _from_file(path: str, name: str | None) -> RNN | GRU | LSTM:
    source, model = _read(path)
    cells, names = _stored(source, path)
    entries = _undescribed(cells, names) if model is None else _described(model, cells)
    entry = _choose([entry for entry in entries if entry.arrays], name, path)
    where = f"the layer {entry.name!r} of {path}"
    return _build(entry.description or _infer(entry.arrays, where), entry.arrays, where)


def _choose(entries: list[_Entry], name: str | None, path: str) -> _Entry:
    """The one of that name, or the only one. Layers that share a name go by their paths in the file."""
    if not entries:
        own = (
            "For a model of your own class, give the file that model.save_weights('some.weights.h5') writes."
        )
        raise ElmanError(f"{path} describes no recurrent layer with weights: {_KINDS}. {own}")
    times = Counter(entry.name for entry in entries)
    shown = [entry.name if times[entry.name] == 1 else entry.path for entry in entries]
    found = entries if name is None else [e for e, s in zip(entries, shown, strict=True) if name == s]
    if len(found) == 1:
        return found[0]
    names = ", ".join(map(repr, shown))
    if name is None:
        raise ElmanError(f"{path} has several recurrent layers. Choose one by name=: {names}")
    raise ElmanError(f"{path} has no recurrent layer {name!r}. It has: {names}")


def _read(path: str) -> tuple[io.BytesIO | str, Any]:
    """What h5py shall open, and the model's description: None for a .weights.h5, which has none."""
    try:
        open(path, "rb").close()
        if not zipfile.is_zipfile(path):
            return path, None
        with zipfile.ZipFile(path) as archive:
            missing = {"config.json", _WEIGHTS} - set(archive.namelist())
            if missing:
                raise ElmanError(f"{path} is no .keras file: it has no {' and no '.join(sorted(missing))}.")
            return io.BytesIO(archive.read(_WEIGHTS)), json.loads(archive.read("config.json")) or {}
    except ElmanError:
        raise
    except OSError as error:
        raise ElmanError(f"cannot read {path}: {error.strerror or error}. Check the name.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise _unreadable(path) from error


def _unreadable(path: str) -> ElmanError:
    kinds = ".keras (zip) or .weights.h5 (HDF5)"
    return ElmanError(f"{path} cannot be read as {kinds}: it is another kind of file, or damaged.")


def _stored(source: io.BytesIO | str, path: str) -> tuple[dict[str, list[Array]], dict[str, str]]:
    """Every cell's arrays in order, by the cell's path, and the layers' names as far as told, by theirs.

    Links to other places or files are not followed.
    """
    h5py = _h5py()
    cells: dict[str, dict[int, Array]] = {}
    names: dict[str, str] = {}

    def visit(where: str, node: Any) -> None:
        if (match := _CELL.fullmatch(where)) and isinstance(node, h5py.Dataset):
            cells.setdefault(match[1], {})[int(match[2])] = _load(node, f"{where} of {path}")
        elif where.endswith("/vars") and "name" in node.attrs:
            names[where.removesuffix("/vars")] = str(node.attrs["name"])

    try:
        with h5py.File(source, "r") as file:
            if "layer_names" in file.attrs or "model_weights" in file:
                raise ElmanError(f"{path} is in Keras's old HDF5 format: load it there, and save as .keras.")
            file.visititems(visit)
    except ElmanError:
        raise
    except Exception as error:  # damaged bytes make HDF5 raise nearly any type
        raise _unreadable(path) from error
    return {cell: [arrays[i] for i in sorted(arrays)] for cell, arrays in cells.items()}, names


def _h5py() -> Any:
    try:
        return import_module("h5py")
    except ImportError:
        raise ElmanError('reading Keras files needs h5py: pip install "elman[keras]"') from None


def _load(dataset: Any, where: str) -> Array:
    """An HDF5 dataset's numbers. Raises ElmanError when they are not in the file itself."""
    if dataset.external or dataset.nbytes > _EXPANSION * dataset.id.get_storage_size():
        raise ElmanError(f"{where} has no numbers in the file itself, and was not read.")
    return _floats(dataset[()], where)


def _floats(numbers: Any, where: str) -> Array:
    """A copy in float64 if they are that, else in float32. bfloat16, which NumPy takes for raw bytes, too."""
    array = np.asarray(numbers)
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if array.dtype.kind != "f":
        raise ElmanError(f"{where} has weights that are not floating-point numbers, but {array.dtype}.")
    return array.astype(np.float64 if array.dtype == np.float64 else np.float32)


def _described(model: Any, cells: dict[str, list[Array]], prefix: str = "") -> Iterator[_Entry]:
    """The recurrent layers in a model's config, those of models within it included.

    A group is named after its layer's class, and numbered from the second on: lstm, lstm_1.
    """
    used: Counter[str] = Counter()
    for layer in _sublayers(model):
        kind, config = str(layer.get("class_name")), layer.get("config")
        group = _snake(kind)
        path = f"{prefix}layers/{group}_{used[group]}" if used[group] else f"{prefix}layers/{group}"
        used[group] += 1
        if kind in (*_GATES, "Bidirectional") and layer.get("registered_name") is None:
            name = config.get("name") if isinstance(config, dict) else None
            yield _Entry(str(name or path), path, _arrays(cells, path, kind == "Bidirectional"), layer)
        else:
            yield from _described(layer, cells, f"{path}/")


def _sublayers(model: Any) -> list[Description]:
    config = model.get("config") if isinstance(model, dict) else None
    layers = config.get("layers") if isinstance(config, dict) else None
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def _snake(name: str) -> str:
    """SimpleRNN -> simple_rnn, LSTM -> lstm, as Keras names groups."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _arrays(cells: dict[str, list[Array]], path: str, both: bool) -> list[Array]:
    parts = [f"{path}/{part}/cell" for part in _DIRECTIONS] if both else [f"{path}/cell"]
    return [array for part in parts for array in cells.get(part, [])]


def _undescribed(cells: dict[str, list[Array]], names: dict[str, str]) -> Iterator[_Entry]:
    """The recurrent layers in a file without config: a group with a cell, or with two for both directions."""
    for cell, arrays in cells.items():
        path = cell.removesuffix("cell").rstrip("/")
        base, _, direction = path.rpartition("/")
        if direction in _DIRECTIONS and all(f"{base}/{part}/cell" in cells for part in _DIRECTIONS):
            if direction == "backward_layer":
                continue
            path, arrays = base, _arrays(cells, base, True)
        yield _Entry(names.get(path, path.rpartition("/")[2] or cell), path or cell, arrays, None)


def _infer(arrays: list[Array], where: str) -> Description:
    """The description that Keras would give of a layer with these arrays."""
    shapes = [array.shape for array in arrays]
    units, width = shapes[1] if len(shapes) > 1 and len(shapes[1]) == 2 else (0, 0)
    kind = next((kind for kind, gates in _GATES.items() if units and width == gates * units), None)
    if kind is None:
        raise ElmanError(f"{where} has weights of shapes {shapes}: they are not those of {_KINDS}.")
    both = len(arrays) > 3
    bias = arrays[2 : len(arrays) // 2] if both else arrays[2:]
    config = {"units": units, "use_bias": bool(bias), "reset_after": not bias or bias[0].ndim == 2}
    forward = {"class_name": kind, "config": config}
    backward = {"class_name": kind, "config": config | {"go_backwards": True}}
    if not both:
        return forward
    return {"class_name": "Bidirectional", "config": {"layer": forward, "backward_layer": backward}}


def _build(description: Description, arrays: list[Array], where: str) -> RNN | GRU | LSTM:
    directions = _directions(description, where)
    config = directions[0]
    half = len(arrays) // 2
    parts = [arrays] if len(directions) == 1 else [arrays[:half], arrays[half:]]
    weights = [weight for part in parts for weight in _translate(config, part, where)]
    kind, options = config["class_name"], {}
    if kind == "SimpleRNN":
        options = {"nonlinearity": config.get("activation", "tanh")}
    if kind == "GRU" and not config.get("reset_after", True):
        options = {"reset_after": False}
    options |= {"bias": bool(config.get("use_bias", True)), "bidirectional": len(directions) == 2}
    sizes, dtype = (weights[0].shape[1], config["units"]), torch.from_numpy(weights[0]).dtype
    made: RNN | GRU | LSTM = _empty(_CLASSES[kind], sizes, dtype, "cpu", batch_first=True, **options)
    with torch.no_grad():
        for parameter, weight in zip(made.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(weight))
    return made


def _directions(description: Description, where: str) -> list[dict[str, Any]]:
    """The config and class_name of the forward layer, and of the backward one if there is one; both checked."""
    try:
        parts = [description]
        if description["class_name"] == "Bidirectional":
            config = description["config"]
            if config.get("merge_mode", "concat") != "concat":
                mode = f"{where} has merge_mode={config['merge_mode']!r}"
                raise ElmanError(f"{mode}: elman's layers put both directions side by side, 'concat'.")
            parts = [config["layer"], config["backward_layer"]]
        found = [part["config"] | {"class_name": str(part["class_name"])} for part in parts]
    except (KeyError, TypeError, AttributeError) as error:
        raise ElmanError(f"{where} has a description that is damaged or not Keras 3's: {error!r}") from error
    for k, config in enumerate(found):
        _check_settings(config, k == 1, where)
    for setting in ("class_name", "units", "activation", "use_bias", "reset_after"):
        forward, backward = found[0].get(setting), found[-1].get(setting)
        if forward != backward:
            differ = f"{setting}={forward!r} forwards and {backward!r} backwards"
            raise ElmanError(f"{where} has {differ}: elman's layers have one for both.")
    return found


def _check_settings(config: dict[str, Any], backward: bool, where: str) -> None:
    kind = config["class_name"]
    if kind not in _GATES:
        raise ElmanError(f"{where} is made of a {kind}: elman takes {_KINDS}.")
    if not isinstance(config.get("units"), int):
        raise ElmanError(f"{where} has units={config.get('units')!r}: that must be a whole number.")
    for setting, value in {"go_backwards": backward, "time_major": False}.items():
        if bool(config.get(setting, False)) != value:
            raise ElmanError(f"{where} has {setting}={not value}, which elman's layers do not have.")
    for setting, accepted in _ACTIVATIONS[kind].items():
        value = config.get(setting, accepted[0])
        if value not in accepted:
            choice = " or ".join(map(repr, accepted))
            raise ElmanError(f"{where}, a {kind}, has {setting}={_spoken(value)}: elman computes {choice}.")


def _spoken(value: Any) -> str:
    """An activation for a message: of one that Keras describes by a dict, its name."""
    if not isinstance(value, dict):
        return repr(value)
    config = value.get("config")
    return repr(config if isinstance(config, str) else value.get("class_name"))


def _translate(config: dict[str, Any], arrays: list[Array], where: str) -> list[Array]:
    """One direction's kernel (I, G*H), recurrent kernel (H, G*H) and bias (G*H,) or (2, G*H), if there is one
    -> w_ih (G*H, I), w_hh (G*H, H), b_ih and b_hh (G*H,).

    Raises ElmanError for other shapes. The equations of GRU agree: h' = (1 - z) * n + z * h in both.
    """
    kind, units = config["class_name"], config["units"]
    width = _GATES[kind] * units
    shapes = [array.shape for array in arrays]
    inputs = shapes[0][0] if shapes and shapes[0] else 0
    expected: list[tuple[int, ...]] = [(inputs, width), (units, width)]
    if config.get("use_bias", True):
        expected.append((2, width) if kind == "GRU" and config.get("reset_after", True) else (width,))
    if shapes != expected or not inputs or not units:
        what = f"{where}, a {kind} of {units} units"
        raise ElmanError(f"{what}, must have weights of shapes {expected}, not {shapes}.")
    kernel, recurrent, *biases = arrays
    rows = [kernel.T, recurrent.T]
    for bias in biases:
        rows += [*bias] if bias.ndim == 2 else [bias, np.zeros_like(bias)]
    if kind == "GRU":  # z, r, h -> r, z, n
        return [row.reshape(3, units, -1)[[1, 0, 2]].reshape(row.shape) for row in rows]
    return rows
