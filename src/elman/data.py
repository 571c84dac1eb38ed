"""Text files → characters → training batches.

Reads text of any size by mapping it, and cuts a row of codes into the contiguous streams that training and
evaluation run over. Knows nothing of codecs, models or torch: codes are integers, whoever made them.
"""

import codecs
import io
import mmap
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.integer]

MINIMUM = 1_000  # characters: less leaves no validation part worth the name
_CHUNK = 1 << 22  # bytes decoded at a time
_PROBE = 1 << 16  # bytes looked at to tell text from binary
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_CONTROLS = bytes(c for c in range(32) if c not in b"\t\n\v\f\r\b\x1b")


class ElmanError(ValueError):
    """Input that elman cannot use. The message says what was wrong and what to do about it."""


class TextFile:
    """UTF-8 text, mapped rather than loaded, and decoded chunk by chunk.

    Line ends are normalised as Python's text mode does it: "\\r\\n" and a lone "\\r" become "\\n". A byte
    order mark at the start is dropped. Nothing else changes; in particular there is no Unicode normalisation.

    `path` may be "-" for standard input. Pipes and other files that cannot be mapped are read whole.
    Raises FileNotFoundError, IsADirectoryError or another OSError when the file cannot be read, and
    ElmanError when it is empty or binary. Bytes that are not UTF-8 are met, and reported, by `chunks`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = "standard input" if os.fspath(path) == "-" else os.fspath(path)
        self._data = _contents(path)
        self._start = len(codecs.BOM_UTF8) if self._data[:3] == codecs.BOM_UTF8 else 0
        self._check()

    @classmethod
    def from_string(cls, text: str, name: str = "the text") -> "TextFile":
        """The same over text in memory. Raises ElmanError if it is empty or holds lone surrogates."""
        self = cls.__new__(cls)
        self.name, self._start = name, 0
        try:
            self._data = text.encode()
        except UnicodeEncodeError as error:
            raise ElmanError(
                f"{name} holds a lone surrogate, U+{ord(text[error.start]):04X}, at character "
                f"{error.start:,}: it is no text that can be written down. Replace or remove it."
            ) from None
        self._check()
        return self

    @property
    def size(self) -> int:
        """Bytes of text. There are at most this many characters."""
        return len(self._data) - self._start

    def require(self, characters: int) -> None:
        """Raises ElmanError if the text is certainly shorter than this. Decodes nothing: an early check."""
        if self.size < characters:
            raise too_short(self.size, characters, self.name)

    def chunks(self, size: int = _CHUNK) -> Iterator[str]:
        """The text in order, about `size` bytes (at least 4) at a time.

        Raises ElmanError with the byte offset and the line where the file stops being UTF-8.
        """
        newlines = io.IncrementalNewlineDecoder(None, translate=True)
        position, end = self._start, len(self._data)
        while position < end:
            block = self._data[position : position + size]
            last = position + size >= end
            try:
                text, used = codecs.utf_8_decode(block, "strict", last)
            except UnicodeDecodeError as error:
                raise self._not_utf8(position + error.start) from None
            position += used
            if text := newlines.decode(text, final=last):
                yield text

    def _check(self) -> None:
        if self.size == 0:
            raise ElmanError(f"{self.name} is empty: there is nothing to read in it.")
        probe = bytes(self._data[:_PROBE])
        if probe[:2] in _UTF16:
            raise ElmanError(
                f"{self.name} is UTF-16, not UTF-8. Convert it first: iconv -f UTF-16 -t UTF-8 IN > OUT"
            )
        controls = len(probe) - len(probe.translate(None, _CONTROLS))
        if b"\0" in probe or controls > 0.02 * len(probe):
            raise ElmanError(f"{self.name} is a binary file, not text. Give a plain text file in UTF-8.")

    def _not_utf8(self, offset: int) -> ElmanError:
        lines = returns = 0
        for start in range(0, offset, _CHUNK):
            block = self._data[start : min(start + _CHUNK, offset)]
            lines, returns = lines + block.count(b"\n"), returns + block.count(b"\r")
        return ElmanError(
            f"{self.name} is not UTF-8: byte 0x{self._data[offset]:02x} at offset {offset:,}, line "
            f"{(lines or returns) + 1:,}. If it is text in another encoding, convert it first, "
            "for example: iconv -f LATIN1 -t UTF-8 IN > OUT"
        )


def _contents(path: str | os.PathLike[str]) -> bytes | mmap.mmap:
    if os.fspath(path) == "-":
        return sys.stdin.buffer.read()
    if Path(path).is_dir():
        raise IsADirectoryError(f"{os.fspath(path)} is a directory: give one text file.")
    try:
        with open(path, "rb") as file:
            return _mapped(file)
    except FileNotFoundError:
        missing = f"there is no file {os.fspath(path)}: check the name and the folder."
        raise FileNotFoundError(missing) from None


def _mapped(file: BinaryIO) -> bytes | mmap.mmap:
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (ValueError, OSError):  # empty, or a pipe: neither can be mapped
        return file.read()


def open_text(source: str | os.PathLike[str] | TextFile) -> TextFile:
    """The text behind `source`: a path, or the text itself.

    A str that holds a line break or is longer than 1,000 characters is text; any other str is a path.
    Raises what TextFile raises.
    """
    if isinstance(source, TextFile):
        return source
    if isinstance(source, str) and (len(source) > 1_000 or "\n" in source or "\r" in source):
        return TextFile.from_string(source)
    return TextFile(source)


def too_short(found: int, needed: int, name: str = "the text") -> ElmanError:
    """The error for a text of `found` characters where `needed` are the least that makes sense."""
    return ElmanError(
        f"{name} is too short: {found:,} character{'' if found == 1 else 's'}, and at least {needed:,} are "
        "needed. Give a longer text."
    )


def split(codes: Codes, validation: float = 0.1) -> tuple[Codes, Codes]:
    """(training part, validation part) of codes (n,): views of the first and the last share of one text.

    Raises ElmanError if there are fewer than MINIMUM codes.
    """
    if len(codes) < MINIMUM:
        raise too_short(len(codes), MINIMUM)
    border = len(codes) - round(len(codes) * validation)
    return codes[:border], codes[border:]


@dataclass(frozen=True)
class Batch:
    """One training step's codes: `targets` is what follows each of `inputs`, both (T, B) int64."""

    inputs: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    first: bool  # of its epoch: the streams jump here, so the state starts from zero
    epoch: int


class Batches:
    """B contiguous streams over codes (n,), read T steps at a time; the state carries from batch to batch.

    The text is a ring. In each epoch the B streams start n/B apart from an offset drawn from (seed, epoch),
    so chunk borders fall elsewhere every time. A batch depends on seed and step alone: training can resume
    anywhere.
    """

    def __init__(self, codes: Codes, batch_size: int, chunk_length: int, seed: int = 0) -> None:
        for name, value in (("batch_size", batch_size), ("chunk_length", chunk_length)):
            if value < 1:
                raise ElmanError(f"{name} must be at least 1, not {value}.")
        if len(codes) < 2:
            raise too_short(len(codes), 2)
        self.codes, self.seed = codes, seed
        self.batch_size, self.chunk_length = batch_size, chunk_length
        self._stream = max(1, len(codes) // batch_size)
        # Rounded, since streams may run on into their neighbour's part of the ring: every chunk is T long.
        self.steps_per_epoch = max(1, round(self._stream / chunk_length))

    def batch(self, step: int) -> Batch:
        """The batch of global step `step`, counted from 0 over all epochs."""
        epoch, chunk = divmod(step, self.steps_per_epoch)
        starts = self._offset(epoch) + self._stream * np.arange(self.batch_size) + chunk * self.chunk_length
        positions = starts + np.arange(self.chunk_length + 1)[:, None]
        rows = np.take(self.codes, positions, mode="wrap").astype(np.int64)
        return Batch(rows[:-1], rows[1:], first=chunk == 0, epoch=epoch)

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """Endless batches from global step `start`."""
        while True:
            yield self.batch(start)
            start += 1

    def _offset(self, epoch: int) -> int:
        return int(np.random.default_rng([self.seed % 2**64, epoch]).integers(len(self.codes)))
