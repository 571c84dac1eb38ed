import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.data import ElmanError
from elman.words import CAPITALS, Words, _split

ENGLISH = [
    "The play was good, and the actors were very good!",
    "The play was long, and I don't like it at all...",
    "A good evening: the music, the light, the actors :-)",
    "It's not a bad play, but the second half is too long.",
    "NEVER AGAIN!!! The second half was bad, the music was worse.",
]
FINNISH = ["Näytelmä oli hyvä.", "Näytelmässä oli hyvää musiikkia.", "Näyttelijöillekin näytelmä oli pitkä."]
ARABIC = ["كانت المسرحية جميلة جدا", "المسرحية طويلة، والموسيقى جميلة", "الموسيقى في المسرحية جميلة!"]
CHINESE = ["这部戏很好看，音乐也很好听。", "这部戏太长了，音乐不好听。", "音乐很好听！😀😀"]
EVERYTHING = [*ENGLISH, *FINNISH, *ARABIC, *CHINESE]


def text():
    """Anything, with more of what is special here than chance would give."""
    special = st.sampled_from(
        ["GREAT", "don’t", " ", "\n", CAPITALS, "é", "e\u0301", "😀", "ΣΑΣ", "İ", "\0", "!!!!"]
    )
    return st.lists(special | st.text(max_size=4), max_size=12).map("".join)


@pytest.fixture(scope="module")
def words():
    return Words.fit(EVERYTHING * 2, kind="words")


@pytest.fixture(scope="module")
def bpe():
    return Words.fit(EVERYTHING, size=400, kind="bpe")


@pytest.fixture(params=["words", "bpe"])
def codec(request):
    return request.getfixturevalue(request.param)


def surfaces(line: str, **options) -> list[str]:
    """What the words of a text look like in a vocabulary that has them all."""
    codec = Words.fit([line] * 2, kind="words", **options)
    names = ["padding", "unknown", *codec.entries]
    return [names[code] for code in codec.encode(line)]


def docstrings() -> list[str]:
    """English prose that is everywhere: what the standard library says about itself."""
    import argparse
    import collections
    import datetime
    import decimal
    import logging
    import statistics

    found = [argparse, collections, datetime, decimal, logging, statistics]
    found += [value for module in found for value in vars(module).values() if isinstance(value, type)]
    found += [value for owner in found for value in vars(owner).values() if callable(value)]
    texts = sorted({value.__doc__ for value in found if isinstance(value.__doc__, str)})
    return [paragraph for text in texts for paragraph in text.split("\n\n")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("I don't, I don’t.", "i don't , i don't ."),
        ("It's Ann's o'clock", "it 's ann 's o' clock"),
        ("we'll I've you're rock'n'roll", "we'll i've you're rock'n'roll"),
        ("l'homme qu'il j’ai dell'arte", "l' homme qu' il j' ai dell' arte"),
        ("м'яч п'ять", "м'яч п'ять"),
        ("well-made foo_bar", "well - made foo _ bar"),
        ("3.5 of 1,000 in 1990s, 10/10.", "3.5 of 1,000 in 1990 s , 10 / 10 ."),
        ("No!!!!! Why?! ...", "no !!! !! why ? ! ..."),
        ("good:-) bad ;( :D <3 ^_^", "good :-) bad ;( :d <3 ^_^"),
        ("http://a.b", "http : // a . b"),
        ("😀😀 👨‍👩‍👧 🇫🇮 ❤️", "😀😀 👨‍👩‍👧 🇫🇮 ❤️"),
        ("ARE you OK, I AM. DVDs É", "⇧ are you ⇧ ok , i ⇧ am . dvds é"),
        ("CAN'T *GOOD* USA-made", "⇧ can't * ⇧ good * ⇧ usa - made"),
        ("می‌خواهم", "می‌خواهم"),
        ("très tre\u0300s", "très très"),
        ("a\0b\x1fc\u3000d", "a b c d"),
    ],
)
def test_what_is_a_word(line, expected):
    assert surfaces(line) == expected.split(" ")


def test_capitals_are_kept_if_asked():
    assert surfaces("GREAT Great great, it'S", lower=False) == ["GREAT", "Great", "great", ",", "it", "'S"]


def test_words_by_frequency_then_alphabet():
    codec = Words.fit(["c b a b a b rare"], kind="words")
    assert codec.entries == ["b", "a"]
    assert codec.encode("a b c rare").tolist() == [3, 2, codec.unknown, codec.unknown]
    assert codec.decode(codec.encode("a b rare")) == "a b �"
    assert Words.fit(["z y x w v u t s r q p"] * 2, size=10, kind="words").entries == list("pqrstuvw")


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_size_is_an_upper_limit(kind):
    codec = Words.fit(docstrings(), size=500, kind=kind)
    assert codec.size == 500
    assert max(map(max, filter(len, codec.encode_all(docstrings())))) < 500


def test_words_where_they_suffice():
    simple = [f"the {a} was {b}" for a in ("play", "music", "light") for b in ("good", "bad", "long")] * 3
    assert Words.fit(simple).kind == "words"
    assert Words.fit(simple, size=300).kind == "words"


@pytest.mark.parametrize("texts", [FINNISH, ARABIC, CHINESE, ENGLISH[:1]], ids=["fi", "ar", "zh", "one text"])
def test_pieces_of_words_where_words_do_not_suffice(texts):
    assert Words.fit(texts).kind == "bpe"


def test_a_size_too_small_for_bytes_is_for_words():
    assert Words.fit(CHINESE, size=50).kind == "words"


def test_nothing_is_unknown_to_pieces(bpe):
    line = "Ξένη γλώσσα, 未知, 🦜, \U0010fffd"
    assert bpe.unknown not in bpe.encode(line)
    assert bpe.decode(bpe.encode(line)) == line.lower()


def test_frequent_words_are_one_piece():
    assert len(Words.fit(docstrings(), size=2_000, kind="bpe").encode("return the object")) == 3


def test_capitals_in_pieces(bpe):
    assert (
        bpe.decode(bpe.encode("The play was (VERY) GOOD")) == f"the play was ( {CAPITALS}very) {CAPITALS}good"
    )


def test_to_read(words):
    assert words.decode(words.encode("The play was  good, and the\nACTORS too!")) == (
        f"the play was good, and the {CAPITALS}actors too!"
    )
    assert words.decode([0, 0, *words.encode("good"), 1, 0]) == "good �"
    assert words.decode([]) == ""


@given(lines=st.lists(text(), max_size=4))
@settings(deadline=None)
@pytest.mark.parametrize("name", ["words", "bpe"])
def test_texts_together_and_alone(name, lines, request):
    codec = request.getfixturevalue(name)
    together = codec.encode_all(lines)
    assert len(together) == len(lines)
    for line, codes in zip(lines, together, strict=True):
        whole = codec._tokenizer.encode(" " + line, add_special_tokens=False).ids
        assert codes.tolist() == whole == codec.encode(line).tolist()
        assert codes.dtype == np.int32
        assert codec.padding not in codes


@given(chunks=st.lists(st.text("aBCdlLsSveOPp'’19.,:;=-~^_()[]|*/\\<3!?\0\x7f", max_size=12), max_size=6))
@pytest.mark.parametrize("lower", [True, False])
def test_ascii_is_split_as_the_rules_say(chunks, lower):
    """Python's patterns for ASCII find what those of `tokenizers` find, whose way a letter that is not forces."""
    for chunk in chunks:
        assert _split(chunk, lower) == _split(f"{chunk} é", lower)[:-1]


def test_what_was_encoded_before_is_remembered_up_to_a_limit(codec, monkeypatch):
    again = type(codec).from_config(codec.to_config())
    lines = ["The play was good", "the MUSIC was good, too; é"]
    expected = [codec.encode(line).tolist() for line in lines]
    monkeypatch.setattr("elman.words.REMEMBERED", 3)
    for _ in range(3):
        assert [codes.tolist() for codes in again.encode_all(lines)] == expected
        assert len(again._known) == 9
    assert again.encode("good").tolist() == codec.encode("good").tolist()
    assert len(again._known) == 1


def test_codes_can_be_written_to(codec):
    first = codec.encode("good good")
    first[:] = 7
    assert codec.encode("good good").tolist() != first.tolist()


def test_texts_in_many_threads(codec):
    lines = [f"the play {i} was good, the actors {i}, {i}" for i in range(500)]
    expected = [codes.tolist() for codes in type(codec).from_config(codec.to_config()).encode_all(lines)]
    with ThreadPoolExecutor(8) as pool:
        assert [codes.tolist() for codes in pool.map(codec.encode, lines)] == expected


@given(line=text())
@settings(deadline=None)
@pytest.mark.parametrize("name", ["words", "bpe"])
def test_pieces_are_slices(name, line, request):
    codec = request.getfixturevalue(name)
    pieces = codec.pieces(line)
    assert len(pieces) == len(codec.encode(line))
    assert all(line[start:end] == piece for piece, start, end in pieces)
    assert all(end <= start for (_, _, end), (_, start, _) in pairwise(pieces))
    seen = {i for _, start, end in pieces for i in range(start, end)}
    assert all(
        i in seen for i, character in enumerate(line) if not re.match(r"[\s\0-\x1f\x7f-\x9f]", character)
    )


@given(line=text())
@settings(deadline=None)
def test_pieces_of_words_read_again(line, bpe):
    codes = bpe.encode(line)
    assert bpe.encode(bpe.decode(codes)).tolist() == codes.tolist()


def test_pieces_for_colouring(words, bpe):
    line = "GOOD  plays don’t\tend :-)"
    expected = [
        ("", 0, 0),
        ("GOOD", 0, 4),
        ("plays", 6, 11),
        ("don’t", 12, 17),
        ("end", 18, 21),
        (":-)", 22, 25),
    ]
    assert words.pieces(line) == expected
    assert bpe.pieces("(GOOD) 🦜")[-4:] == [("🦜", 7, 8), ("", 8, 8), ("", 8, 8), ("", 8, 8)]
    assert "".join(piece for piece, _, _ in bpe.pieces(line)) == line.replace(" ", "").replace("\t", "")


def test_empty_texts(codec):
    assert [len(codes) for codes in codec.encode_all(["", " \n\u3000", "\0", "good"])] == [0, 0, 0, 1]
    assert codec.encode_all([]) == []
    assert codec.pieces("") == []


def test_lone_surrogates_are_replaced(codec):
    assert codec.encode("good \ud83d good").tolist() == codec.encode("good \ufffd good").tolist()
    assert ("\ud83d", 1, 2) in codec.pieces("a\ud83d")
    assert Words.fit(["a \ud83d b \ud83d"] * 2, kind="words").entries == ["\ufffd", "a", "b"]


def test_a_long_text(words):
    line = "the play was good, " * 50_000
    assert len(words.encode(line)) == 250_000


@pytest.mark.parametrize("run", ["这部戏很好看", "A", "-", "1"])
def test_a_long_text_without_blanks(run, codec):
    line = run * (100_000 // len(run))
    assert codec.pieces(line)[-1][2] == len(line)
    assert Words.fit([line], size=300, kind="bpe").pieces(line)[-1][2] == len(line)


def test_round_trip(codec):
    kept = json.loads(json.dumps(codec.to_config()))
    again = Words.from_config(kept)
    assert (again.kind, again.size, again.lower) == (codec.kind, codec.size, codec.lower)
    for one, other in zip(codec.encode_all(EVERYTHING), again.encode_all(EVERYTHING), strict=True):
        assert one.tolist() == other.tolist()
    assert again.to_config() == codec.to_config()


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_the_same_texts_give_the_same_codec(kind):
    script = "import json, sys, tests.test_words as t; from elman.words import Words; "
    script += f"print(json.dumps(Words.fit(t.docstrings(), 3000, {kind!r}).to_config()))"
    found = set()
    for threads, seed in (("1", "0"), ("2", "1"), ("5", "2")):
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": seed}
        found.add(subprocess.check_output([sys.executable, "-c", script], env=environment, text=True))
    assert len(found) == 1


def test_the_library_is_imported_when_used():
    script = "import sys, elman.words; elman.words.Words('words', ['a']).encode('A b'); "
    script += "sys.exit('tokenizers' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "no texts"),
        (["", " \n"], {}, "all texts are empty"),
        ("a text", {}, "not from one text"),
        (["a", float("nan")], {}, "text 1 is nan"),
        (["a a"], {"size": 9}, "at least 10, not 9"),
        (["a a"], {"size": 200, "kind": "bpe"}, "at least 258, not 200"),
        (["a a"], {"kind": "letters"}, "no kind of words 'letters'"),
        (["each word once"], {"kind": "words"}, "occurs twice"),
    ],
)
def test_what_cannot_be_learned_from(texts, options, message):
    with pytest.raises(ElmanError, match=message):
        Words.fit(texts, **options)


@pytest.mark.parametrize("codes", [[-1], [2, 1_000_000]])
def test_foreign_codes(codec, codes):
    with pytest.raises(ElmanError, match="is no code"):
        codec.decode(codes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entries": None}, "no entries"),
        ({"kind": None, "lower": None}, "no kind, lower"),
        ({"kind": "letters"}, "kind is 'letters'"),
        ({"lower": "yes"}, "lower 'yes'"),
        ({"entries": ["a", 1]}, "not words"),
        ({"entries": ["a", "a"]}, "occurs twice"),
        ({"kind": "bpe", "entries": ["a b", "ab cd"]}, "joins 'ab cd'"),
        ({"rules": 2}, "by rules 2"),
    ],
)
def test_damaged_descriptions(change, message):
    found = Words("words", ["a", "b"]).to_config() | change
    with pytest.raises(ElmanError, match=message):
        Words.from_config({key: value for key, value in found.items() if value is not None})
