"""Characters ↔ codes.

A character is one Unicode code point. Code 0 is the unknown symbol; the alphabet follows, most frequent
first. Knows nothing of models or torch.
"""

import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.data import Codes, ElmanError, TextFile

UNKNOWN = 0
REPLACEMENT = "\ufffd"  # what the unknown symbol decodes to
KEEP_ALL = 255  # distinct characters: with the unknown symbol they fill a byte
MIN_COUNT = 5
MAX_SYMBOLS = 4_095
_IN_MEMORY = 1 << 28  # bytes of text; beyond, codes go to a mapped temporary file
_CODE_POINTS = 0x110000


class Characters:
    """The alphabet of a text, of any language.

    Rare characters: an alphabet of up to 255 characters is kept whole. Of a larger one, the 255 most frequent
    are kept and then those seen at least 5 times, up to 4,095 in all. What is left shares the unknown symbol,
    code 0, and so does any character never seen. Frequencies that are equal are ordered by code point.
    """

    kind = "characters"

    def __init__(self, symbols: str) -> None:
        if not symbols or len(set(symbols)) != len(symbols):
            raise ElmanError("an alphabet must hold at least one character, and each only once.")
        self.symbols = symbols
        self.size = len(symbols) + 1  # V
        self.dtype = np.min_scalar_type(self.size - 1)
        points = _code_points(symbols).astype(np.uint32)
        self._points = np.concatenate(([ord(REPLACEMENT)], points)).astype("<u4")
        self._table = np.zeros(int(points.max()) + 1, self.dtype)
        self._table[points] = np.arange(1, self.size)

    @classmethod
    def fit(cls, text: TextFile) -> "Characters":
        """The alphabet of `text`, by the rule above. Raises ElmanError where the text is not UTF-8."""
        counts = np.zeros(_CODE_POINTS, np.int64)
        for chunk in text.chunks():
            found = np.bincount(_code_points(chunk))
            counts[: len(found)] += found
        points = np.flatnonzero(counts)
        points = points[np.argsort(-counts[points], kind="stable")]
        kept = int((counts[points] >= MIN_COUNT).sum())
        points = points[: min(max(kept, KEEP_ALL), MAX_SYMBOLS)]
        return cls("".join(map(chr, points)))

    def encode(self, text: str) -> Codes:
        """Codes (n,) of the n characters of `text`, in the smallest unsigned type that holds the alphabet."""
        points = _code_points(text)
        known = points < len(self._table)
        if known.all():
            return self._table[points]
        return np.where(known, self._table[np.where(known, points, 0)], self._table.dtype.type(UNKNOWN))

    def decode(self, codes: Codes) -> str:
        """The characters of codes (n,); the unknown symbol is written as U+FFFD."""
        return self._points[codes].tobytes().decode("utf-32-le", "surrogatepass")

    def unknown(self, text: str) -> str:
        """The distinct characters of `text` outside the alphabet, in order of appearance."""
        places = np.flatnonzero(self.encode(text) == UNKNOWN)
        return "".join(dict.fromkeys(text[i] for i in places))

    def encode_file(self, text: TextFile) -> Codes:
        """Codes (n,) of a whole text, read-only. Those of a text over 256 MiB are memory-mapped.

        The mapped file lies in the directory for temporary files (TMPDIR) and is gone when the array is.
        Raises ElmanError where the text is not UTF-8, OSError when there is no room for the file.
        """
        encoded = (self.encode(chunk) for chunk in text.chunks())
        codes = np.concatenate(list(encoded)) if text.size <= _IN_MEMORY else self._mapped(encoded)
        codes.flags.writeable = False
        return codes

    def _mapped(self, encoded: Iterator[Codes]) -> Codes:
        with tempfile.TemporaryFile(prefix="elman-") as file:
            for codes in encoded:  # written, not stored into a mapping: there a full disk kills the process
                file.write(codes.tobytes())
            file.flush()
            return np.memmap(file, self.dtype, "r")

    def to_config(self) -> dict[str, Any]:
        """A JSON-able description, for the model file."""
        return {"kind": self.kind, "symbols": self.symbols}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Characters":
        """The codec that `to_config` described. Raises ElmanError for anything else."""
        if config.get("kind") != cls.kind or not isinstance(config.get("symbols"), str):
            raise ElmanError("this is not the description of a character codec.")
        return cls(config["symbols"])


def _code_points(text: str) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint32]:
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
