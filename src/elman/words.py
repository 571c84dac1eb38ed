"""Words ↔ codes: whole words, or pieces of words (byte pairs), of any language.

Built on Hugging Face's `tokenizers`, which is imported when it is needed, not with this module. Knows nothing of
models, classes or torch.
"""

import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, cached_property
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from elman.codec import REPLACEMENT
from elman.data import ElmanError

if TYPE_CHECKING:
    from tokenizers import Tokenizer, normalizers, pre_tokenizers

Kind = Literal["words", "bpe"]
Codes = NDArray[np.int32]

RULES = 1  # what splits a text; a change here would give the codes of older models another meaning
MINIMUM = 10  # codes
BYTES = 256
COVERED = 0.85  # of the words of held-out texts: less, and pieces of words are taken
HELD_OUT = 10  # every tenth text
REMEMBERED = 1 << 18  # chunks whose codes are kept from call to call: tens of megabytes
CAPITALS = "⇧"
_SPECIAL = ("\0", "\1")  # padding and unknown: no text has such words, for control characters separate words
_BLANKS, _NOT_BLANKS = re.compile(r"[\s\0-\x1f\x7f-\x9f]+"), re.compile(r"[^\s\0-\x1f\x7f-\x9f]*")
_SURROGATES = re.compile("[\ud800-\udfff]")

# The rules, as patterns of Oniguruma. What has \p stands in brackets, for _in_ascii.
_BLANK = r"\s\p{Cc}"
# With the joiners that Persian and Indian scripts write within words.
_LETTER = r"[\p{L}\p{M}\x{200c}\x{200d}]"
# Accents, skin tones and the letters in flags of regions go with a sign. (\X would do, but takes blanks too.)
_ADDED = r"[\p{M}\x{1f3fb}-\x{1f3ff}\x{e0020}-\x{e007f}]*"
_SIGN = rf"[\x{{1f1e6}}-\x{{1f1ff}}]{{2}}|[^{_BLANK}]{_ADDED}(?:\x{{200d}}[^{_BLANK}]{_ADDED})*"
_IS_CAPITALS = rf"(?<![\p{{L}}\p{{M}}'{CAPITALS}])(?=(?:[\p{{Lu}}][\p{{M}}]*){{2,}}(?!{_LETTER}))"
# Before pairs of bytes are joined. Their trainer's time goes with the square of a word: Chinese needs no 200 letters.
_CUT = rf"{CAPITALS}|\p{{L}}{{200}}|\p{{N}}{{200}}|[^{_BLANK}\p{{L}}\p{{N}}{CAPITALS}]{{200}}"
# What is of each kind in ASCII, with one that ASCII has none of where brackets would be empty.
_ASCII = {"L": "A-Za-z", "Latin": "A-Za-z", "Lu": "A-Z", "M": "\u0300", "N": "0-9", "Cc": r"\0-\x1f\x7f"}
_WORD = "|".join(
    (
        # l' qu' dell'
        rf"(?:[\p{{Latin}}]{{1,2}}|[\p{{Latin}}]{{0,4}}ll)'(?=[\p{{L}}]{{2}})(?!(?:ll|ve|re)(?!{_LETTER}))",
        rf"[\p{{L}}]{_LETTER}*(?:'(?![sS](?!{_LETTER}))[\p{{L}}]{_LETTER}*)*",  # don't
        rf"'[sS](?!{_LETTER})",
        r"[\p{N}]+(?:[.,][\p{N}]+)*",  # 1,000.5
        r"[:;=][-~^]?(?:[()\[\]|*]{1,3}|[/\\](?![/\\])|[DdPpOo3](?![\p{L}\p{N}]))|<3(?![\p{N}])|\^_*\^|-_+-",
        rf"({_SIGN})\1{{0,2}}",
    )
)


class Words:
    """The vocabulary of a set of texts. Code 0 is padding, code 1 the unknown word, and no text encodes to 0.

    kind "words": a code is a word, a number, a mark or an emoticon. A word keeps its apostrophes (don't, м'яч); 's and
    the elisions of Romance languages (l', qu', dell') are words of their own. A mark that is repeated is one word up to
    three times (!!!), and what the reader sees as one character is one: a flag, a family. Hyphens separate.
    kind "bpe": a code is a sequence of bytes, frequent words are one code, and nothing is unknown.

    In both, blanks and control characters separate words and have no codes, ’ is ', composed and decomposed characters
    are the same (NFC), and a lone surrogate is U+FFFD. Where `lower`, capitals are small letters, and the mark ⇧ goes
    before a word of two or more letters that was all capitals.
    """

    padding = 0
    unknown = 1

    def __init__(self, kind: Kind, entries: Sequence[str], lower: bool = True) -> None:
        """`entries` are the words in order of their codes, from 2, or the merges, "left right", in order."""
        self.kind, self.entries, self.lower = kind, list(entries), lower
        self._codes = _vocabulary(kind, self.entries)
        self.size = len(self._codes)
        self._known = _Known(self._encode_chunk)

    @classmethod
    def fit(
        cls, texts: Iterable[str], size: int = 30_000, kind: Kind | None = None, lower: bool = True
    ) -> "Words":
        """The most frequent words, or pieces of words, of `texts`: `size` codes at most.

        Words seen once are left out, so that the unknown word is met in training. Words of equal frequency are in
        alphabetical order. The same texts give the same codec.

        Without a `kind`, every tenth text is held out, and words are taken where those of the other texts make up
        85 % of the running words in it, or where `size` has no room for 256 bytes; pieces of words otherwise. So
        languages without blanks get pieces, and those that join much to a word, unless there is a lot of text.
        Raises ElmanError where there is nothing to learn from.
        """
        texts = _checked(texts, size, kind)
        if kind != "bpe":
            held, rest = _count(texts[::HELD_OUT], lower), _count(_others(texts), lower)
            if kind or size < len(_SPECIAL) + BYTES or _covered(held, _frequent(rest, size)) >= COVERED:
                return cls("words", _some(_frequent(held + rest, size)), lower)
        return cls("bpe", _merges(texts, size, lower), lower)

    def encode(self, text: str) -> Codes:
        """Codes (n,) of the words of `text`; none for an empty one."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[Codes]:
        """Codes (n,) of each text.

        What stands between blanks is encoded once, however often it occurs, and remembered for later calls. Pieces of
        words are found on as many threads as `tokenizers` takes.
        """
        if len(self._known) > REMEMBERED:
            self._known.clear()
        if self.kind == "bpe":
            self._encode_new(set(chain.from_iterable(map(str.split, texts))).difference(self._known))
        codes_of = self._known.__getitem__
        return [np.frombuffer(bytearray().join(map(codes_of, text.split())), np.int32) for text in texts]

    def pieces(self, text: str) -> list[tuple[str, int, int]]:
        """(text[start:end], start, end) of each code of `text`, in order and without overlap.

        ⇧ is empty. Of several codes within one character, the first has it and the others are empty.
        """
        offsets = self._tokenizer.encode(_clean(text), add_special_tokens=False).offsets
        found, last = [], 0
        for (start, end), (after, _) in pairwise([*offsets, (len(text) + 1, 0)]):
            start, after = max(start - 1, last), after - 1  # without the blank that _clean put first
            last = max(end - 1, start)
            if _BLANKS.match(text, start, last):  # ⇧ counts as what it was put after
                start = last
            # What NFC joined counts as its first character alone: a piece goes on to the next, or to a blank.
            last = cast("re.Match[str]", _NOT_BLANKS.match(text, last, max(after, last))).end()
            found.append((text[start:last], start, last))
        return found

    def decode(self, codes: Sequence[int] | Codes) -> str:
        """Codes (n,) as text to read: without padding, the unknown word as U+FFFD.

        Raises ElmanError for codes that are not of this vocabulary.
        """
        codes = np.asarray(codes, np.int64)
        if len(wrong := codes[(codes < 0) | (codes >= self.size)]):
            raise ElmanError(f"{wrong[0]} is no code: this vocabulary has those from 0 to {self.size - 1:,}.")
        text = self._tokenizer.decode(codes[codes != self.padding].tolist(), skip_special_tokens=False)
        return text.replace(_SPECIAL[1], REPLACEMENT).replace(f"{CAPITALS} ", CAPITALS).strip()

    def to_config(self) -> dict[str, Any]:
        """A JSON-able description, for the model file."""
        return {"kind": self.kind, "rules": RULES, "lower": self.lower, "entries": self.entries}

    @classmethod
    def from_config(cls, found: Mapping[str, Any]) -> "Words":
        """The codec that `to_config` described. Raises ElmanError for anything else, and says what is wrong."""
        if missing := [key for key in ("kind", "rules", "lower", "entries") if key not in found]:
            raise _damaged(f"it has no {', '.join(missing)}")
        if found["rules"] != RULES:
            raise ElmanError(
                f"this vocabulary splits texts by rules {found['rules']}, this elman knows rules {RULES}. "
                "Get a newer one: pip install --upgrade elman"
            )
        kind, lower, entries = found["kind"], found["lower"], found["entries"]
        if kind not in get_args(Kind) or not isinstance(lower, bool):
            raise _damaged(f"its kind is {kind!r} and its lower {lower!r}")
        if not isinstance(entries, list) or not all(isinstance(entry, str) and entry for entry in entries):
            raise _damaged("its entries are not words")
        return cls(kind, entries, lower)

    def _encode_chunk(self, chunk: str) -> Sequence[int]:
        if self.kind == "words":
            return [self._codes.get(word, self.unknown) for word in _split(chunk, self.lower)]
        ids: list[int] = self._tokenizer.encode(_clean(chunk), add_special_tokens=False).ids
        return ids

    def _encode_new(self, chunks: Collection[str]) -> None:
        """Remembers the codes of all chunks at once, which is faster than one after the other."""
        found = self._tokenizer.encode_batch_fast(list(map(_clean, chunks)), add_special_tokens=False)
        self._known.update(zip(chunks, (_packed(encoding.ids) for encoding in found), strict=True))

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        from tokenizers import Tokenizer, decoders, models

        made: Tokenizer
        if self.kind == "words":
            made = Tokenizer(models.WordLevel(self._codes, _SPECIAL[1]))
            made.decoder = decoders.WordPiece(prefix=_SPECIAL[0], cleanup=True)  # no blank before a comma
        else:
            merges = [cast("tuple[str, str]", tuple(entry.split(" "))) for entry in self.entries]
            made = Tokenizer(models.BPE(self._codes, merges))
            made.decoder = decoders.ByteLevel()
        made.normalizer, made.pre_tokenizer = _normalizer(self.lower), _pre_tokenizer(self.kind)
        return made


class _Known(dict[str, bytes]):
    """Chunks, which stand between blanks, and the codes of each as bytes; what is not in it yet, it encodes."""

    def __init__(self, encode: Callable[[str], Sequence[int]]) -> None:
        self._encode = encode

    def __missing__(self, chunk: str) -> bytes:
        codes = self[chunk] = _packed(self._encode(chunk))
        return codes


def _packed(codes: Sequence[int]) -> bytes:
    return array("i", codes).tobytes()


@cache
def _normalizer(lower: bool) -> "normalizers.Sequence":
    from tokenizers import Regex, normalizers

    small = [
        normalizers.Replace(Regex(_IS_CAPITALS), CAPITALS),
        normalizers.Replace("İ", "i"),  # as Turkish has it: otherwise it becomes an i and a mark
        normalizers.Lowercase(),
    ]
    return normalizers.Sequence([normalizers.NFC(), normalizers.Replace("’", "'"), *(small if lower else [])])


@cache
def _pre_tokenizer(kind: Kind) -> "pre_tokenizers.PreTokenizer":
    from tokenizers import Regex, pre_tokenizers

    if kind == "words":
        return pre_tokenizers.Split(Regex(_WORD), "removed", invert=True)
    blanks = pre_tokenizers.Split(Regex(f"[{_BLANK}]+"), "removed")
    cuts = pre_tokenizers.Split(Regex(_CUT), "isolated")
    return pre_tokenizers.Sequence([blanks, cuts, pre_tokenizers.ByteLevel(add_prefix_space=True)])


def _split(chunk: str, lower: bool) -> list[str]:
    """The words of what stands between blanks."""
    if chunk.isascii():  # a short way to the same
        if lower:
            small = chunk.lower()
            no_two_capitals = small[1:] == chunk[1:]
            chunk = small if no_two_capitals else _in_ascii(_IS_CAPITALS).sub(CAPITALS, chunk).lower()
        return [word.group() for word in _in_ascii(_WORD).finditer(chunk)]
    normal = _normalizer(lower).normalize_str(_clean(chunk))
    return [word for word, _ in _pre_tokenizer("words").pre_tokenize_str(normal)]


@cache
def _in_ascii(rule: str) -> re.Pattern[str]:
    """A rule for texts that are ASCII, apart from ⇧, as a pattern of Python's `re`, which has no \\p."""
    for name, members in _ASCII.items():
        rule = rule.replace(rf"\p{{{name}}}", members)
    return re.compile(re.sub(r"\\x\{(\w+)\}", lambda code: chr(int(code[1], 16)), rule))


def _vocabulary(kind: Kind, entries: list[str]) -> dict[str, int]:
    """Every word, or sequence of bytes, and its code. Raises ElmanError where they do not fit together."""
    if kind == "words":
        codes = {word: code for code, word in enumerate([*_SPECIAL, *entries])}
        if len(codes) != len(_SPECIAL) + len(entries):
            raise _damaged("a word of it occurs twice")
        return codes
    from tokenizers.pre_tokenizers import ByteLevel

    codes = {word: code for code, word in enumerate([*_SPECIAL, *sorted(ByteLevel.alphabet())])}
    for entry in entries:
        left, _, right = entry.partition(" ")
        if left not in codes or right not in codes:
            raise _damaged(f"it joins {entry!r}, of which a part is unknown")
        codes.setdefault(left + right, len(codes))  # two pairs may join to the same
    return codes


def _checked(texts: Iterable[str], size: int, kind: Kind | None) -> list[str]:
    if isinstance(texts, str):
        raise ElmanError("a vocabulary is learned from a list of texts, not from one text: give [text].")
    if kind not in (None, *get_args(Kind)):
        raise ElmanError(f'there is no kind of words {kind!r}: take "words", "bpe" or None.')
    least = len(_SPECIAL) + BYTES if kind == "bpe" else MINIMUM
    if size < least:
        raise ElmanError(f"size must be at least {least}, not {size}.")
    texts = list(texts)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ElmanError(f"text {i:,} is {text!r}, no text: leave it out, or write it as one.")
    if not texts:
        raise ElmanError("there are no texts to learn words from: give at least one.")
    if all(not text or text.isspace() for text in texts):
        raise ElmanError("all texts are empty: there are no words to learn from them.")
    return texts


def _clean(text: str) -> str:
    """The text without lone surrogates, and a blank first: `tokenizers` panics where ⇧ is put before everything."""
    return f" {text}" if text.isascii() else f" {_SURROGATES.sub(REPLACEMENT, text)}"


def _others(texts: list[str]) -> list[str]:
    return [text for i, text in enumerate(texts) if i % HELD_OUT]


def _count(texts: Iterable[str], lower: bool) -> Counter[str]:
    """How often each word occurs. What stands between blanks is split once, however often it occurs."""
    chunks, words = Counter[str](), Counter[str]()
    for text in texts:
        chunks.update(text.split())
    for chunk, count in chunks.items():
        for word in _split(chunk, lower):
            words[word] += count
    return words


def _frequent(words: Counter[str], size: int) -> list[str]:
    often = [word for word, count in words.items() if count > 1]
    return sorted(often, key=lambda word: (-words[word], word))[: size - len(_SPECIAL)]


def _covered(words: Counter[str], vocabulary: list[str]) -> float:
    """The share of running words that a vocabulary has. Marks and numbers are not counted: they say little."""
    known = set(vocabulary)
    counts = [(count, word in known) for word, count in words.items() if word[0].isalpha()]
    return sum(count for count, is_known in counts if is_known) / max(1, sum(count for count, _ in counts))


def _some(words: list[str]) -> list[str]:
    if not words:
        raise ElmanError('no word of the texts occurs twice: give more texts, or take kind="bpe".')
    return words


def _merges(texts: list[str], size: int, lower: bool) -> list[str]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.normalizer, made.pre_tokenizer = _normalizer(lower), _pre_tokenizer("bpe")
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(_SPECIAL),
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(map(_clean, texts), trainer)
    return [" ".join(pair) for pair in json.loads(made.to_str())["model"]["merges"]]


def _damaged(how: str) -> ElmanError:
    return ElmanError(
        f"this is not the description of a vocabulary: {how}. Get the file again, or train again."
    )
