"""A text made ready for training: its alphabet, its codes, and the baselines a model has to beat.

Torch-free; knows nothing of models.
"""

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from elman.baseline import Baseline
from elman.codec import Characters
from elman.data import Codes, TextFile, split

_ENDS = 1 << 20  # codes at either end, and in the middle, that tell one text from another


@dataclass(frozen=True)
class Corpus:
    """A text as codes (n,): those before `border` are for training, the rest for validation."""

    text: TextFile
    codec: Characters
    codes: Codes
    border: int

    @classmethod
    def read(cls, text: TextFile) -> Self:
        """Reads all of it. Raises ElmanError for text that is too short or not UTF-8."""
        codec = Characters.fit(text)
        codes = codec.encode_file(text)
        return cls(text, codec, codes, len(split(codes)[0]))

    @cached_property
    def baseline(self) -> Baseline:
        """Of the training part."""
        return Baseline.fit(self.codes[: self.border], self.codec.size)

    @cached_property
    def to_beat(self) -> dict[str, float]:
        """The baselines' nats per character on the validation part."""
        return self.baseline.nats(self.codes[self.border :])

    def identity(self) -> dict[str, Any]:
        """What tells this text from another."""
        middle = max(0, len(self.codes) - _ENDS) // 2
        parts = self.codes[:_ENDS], self.codes[middle : middle + _ENDS], self.codes[-_ENDS:]
        checksum = zlib.crc32(self.codec.symbols.encode())
        for part in parts:
            checksum = zlib.crc32(part.tobytes(), checksum)
        return {"characters": len(self.codes), "checksum of the text": f"{checksum:08x}"}
