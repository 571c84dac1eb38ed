"""One model in one safetensors file: tensors, and in its header a JSON description. No pickle, no torch.

Header key "elman": JSON {"format", "elman" (version), "job", "model", "codec", "training"}; header key
"elman.crc32" guards it and the tensors. Knows what a file must look like, not what a model computes.
"""

import errno
import json
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as _load_tensors
from safetensors.numpy import save as _save_tensors

from elman import __version__
from elman.data import ElmanError

FORMAT = 1
_KEY, _CRC = "elman", "elman.crc32"
_PARTS = ("model", "codec", "training")
_HEADER_LIMIT = 100_000_000  # bytes; safetensors' own
_PICKLES = (b"PK\x03\x04", *(bytes((0x80, protocol)) for protocol in range(2, 6)))

Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds. `written_by` is the elman version that wrote it."""

    job: str
    tensors: Tensors
    model: dict[str, Any]
    codec: dict[str, Any]
    training: dict[str, Any]
    written_by: str


def save(
    path: str | os.PathLike[str],
    job: str,
    tensors: Mapping[str, npt.NDArray[Any]],
    model: Mapping[str, Any],
    codec: Mapping[str, Any],
    training: Mapping[str, Any],
) -> None:
    """Writes a model file, whole or not at all: what is at `path` stays until the new one is on disk.

    The mappings must be JSON-able. Raises ElmanError when the disk is full or the place cannot be written.
    """
    about = {"format": FORMAT, "elman": __version__, "job": job}
    about |= {"model": dict(model), "codec": dict(codec), "training": dict(training)}
    text = json.dumps(about)
    arrays = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    write_whole(path, _save_tensors(arrays, {_KEY: text, _CRC: _checksum(text, arrays)}))


def save_file(path: str | os.PathLike[str], file: ModelFile) -> None:
    """The same of what a job made. Raises ElmanError, before anything is written, where `path` may not be replaced."""
    check_writable(path)
    save(path, file.job, file.tensors, file.model, file.codec, file.training)


def load(path: str | os.PathLike[str]) -> ModelFile:
    """Reads a model file. Executes nothing that is in it.

    Raises FileNotFoundError or another OSError when it cannot be read, and ElmanError when it is not an elman
    model, is damaged, or was written by a newer elman.
    """
    data, name = _read(path), os.fspath(path)
    header = _header(data, name)
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or _KEY not in metadata:
        raise ElmanError(f"{name} is a safetensors file, but not a model that elman wrote.")
    about = _about(metadata[_KEY], name)
    try:
        tensors = _load_tensors(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise _damaged(name, "its tensors do not fit their description") from error
    if metadata.get(_CRC) != _checksum(metadata[_KEY], tensors):
        raise _damaged(name, "its checksum does not match its contents")
    parts = {part: about[part] for part in _PARTS}
    return ModelFile(about["job"], tensors, **parts, written_by=about["elman"])


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises ElmanError if a model could not be saved at `path`. Called before training rather than after.

    A file that is there already must itself be an elman model: nothing else is ever overwritten.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_dir():
        _check_replaceable(target, path)
    check_place(path)


def check_place(path: str | os.PathLike[str]) -> None:
    """Raises ElmanError for a directory, and where no file could be written beside `path`, as `write_whole` does."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise ElmanError(f"{path} is a directory: give the name of a file in it.")
    if not target.parent.is_dir():
        raise ElmanError(f"cannot write {path}: there is no directory {target.parent}. Create it first.")
    probe = _temporary(target)
    try:
        probe.unlink(missing_ok=True)
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.unlink(probe)
    except OSError as error:
        raise ElmanError(f"cannot write {path}: {error.strerror}. Choose another place.") from error


def _check_replaceable(target: Path, path: str | os.PathLike[str]) -> None:
    if not target.is_file():
        raise ElmanError(f"cannot write {path}: it is not a regular file. Choose another name for the model.")
    if not os.access(target, os.W_OK):
        raise ElmanError(f"cannot write {path}: it is read-only. Choose another name for the model.")
    if target.stat().st_size and not _is_model(target):
        raise ElmanError(f"{path} exists and is not an elman model. Choose another name, or remove it.")


def _is_model(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(8)
        length = min(int.from_bytes(start, "little"), _HEADER_LIMIT)
        return len(start) == 8 and f'"{_KEY}"'.encode() in file.read(length)


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Replaces the file at `path` by `data` in one go: at no time is there a part of it.

    Raises ElmanError when that fails, the disk being full perhaps; the file that was there is unchanged.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    temporary = _temporary(target)
    try:
        temporary.unlink(missing_ok=True)  # of a process that was killed and had our number
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        kept = "; the file that was there is unchanged" if target.exists() else ""
        remedy = " Free some space." if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise ElmanError(f"could not save {path}: {error.strerror}{kept}.{remedy}") from error
    except BaseException:  # Ctrl-C, say: leave nothing behind
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    """Makes the rename itself durable, where the system has a way to (Windows has none)."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def _read(path: str | os.PathLike[str]) -> bytes:
    if Path(path).is_dir():
        raise IsADirectoryError(f"{os.fspath(path)} is a directory: give a model file.")
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no model {os.fspath(path)}: check the name and the folder."
        ) from None


def _header(data: bytes, name: str) -> dict[str, Any]:
    """The JSON header of a safetensors file: 8 bytes of length, the header, then the tensors."""
    if not data:
        raise ElmanError(f"{name} is empty: it is no model file.")
    if data.startswith(_PICKLES):
        raise ElmanError(f"{name} is a zip or pickle file, not an elman model, and was not opened.")
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    if not 2 <= length <= _HEADER_LIMIT or data[8:9] != b"{":
        raise ElmanError(f"{name} is not an elman model. Make one with: elman train text FILE -o {name}")
    if len(data) < 8 + length:
        raise _damaged(name, f"it ends after {len(data):,} bytes, inside its header")
    try:
        header = json.loads(data[8 : 8 + length])
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise _damaged(name, "its header cannot be read") from error
    if len(data) != expected:
        raise _damaged(name, f"it has {len(data):,} bytes where its header promises {expected:,}")
    return dict(header)


def _about(text: Any, name: str) -> dict[str, Any]:
    """The elman part of the header, checked for format and completeness."""
    try:
        about = json.loads(text)
        number, by = about["format"], about["elman"]
        if number == FORMAT and not (about["job"] and all(isinstance(about[part], dict) for part in _PARTS)):
            raise TypeError
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(name, "its description cannot be read") from error
    if number != FORMAT:
        raise ElmanError(
            f"{name} was written by elman {by} in format {number}; this is elman {__version__}, which "
            f"reads format {FORMAT}. Get a newer one: pip install --upgrade elman"
        )
    return dict(about)


def _damaged(name: str, how: str) -> ElmanError:
    return ElmanError(f"{name} is damaged: {how}. Copy it again from where it came, or train it again.")


def _checksum(text: str, tensors: Mapping[str, npt.NDArray[Any]]) -> str:
    """CRC-32 over the description and, in order of name, each tensor's name, type, shape and bytes."""
    crc = zlib.crc32(text.encode())
    for name, tensor in sorted(tensors.items()):
        crc = zlib.crc32(f"{name} {tensor.dtype.str} {tensor.shape}".encode(), crc)
        crc = zlib.crc32(np.ascontiguousarray(tensor).data.cast("B") if tensor.size else b"", crc)
    return f"{crc:08x}"
