import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman import codec as codec_file
from elman.codec import MAX_SYMBOLS, UNKNOWN, Characters
from elman.data import ElmanError, TextFile

CHINESE = "".join(chr(0x4E00 + i) for i in range(400))


def fitted(text: str) -> Characters:
    return Characters.fit(TextFile.from_string(text))


@given(st.text(min_size=1, max_size=200))
def test_round_trip_in_any_language(text):
    codec = Characters("".join(dict.fromkeys(text)))
    codes = codec.encode(text)
    assert len(codes) == len(text)
    assert UNKNOWN not in codes
    assert codec.decode(codes) == text
    assert codec.unknown(text) == ""
    assert Characters.from_config(codec.to_config()).symbols == codec.symbols


@given(st.text(min_size=1, max_size=50), st.text(max_size=100))
def test_what_is_unknown_is_said(alphabet, text):
    codec = Characters("".join(dict.fromkeys(alphabet)))
    assert codec.unknown(text) == "".join(dict.fromkeys(c for c in text if c not in alphabet))
    assert codec.decode(codec.encode(text)) == "".join(c if c in alphabet else "\ufffd" for c in text)


def test_symbols_by_frequency_then_code_point():
    codec = fitted("banana\nzy")
    assert codec.symbols == "an\nbyz"
    assert codec.size == 7
    assert codec.encode("an").tolist() == [1, 2]


def test_a_small_alphabet_is_kept_whole():
    text = "".join(map(chr, range(0x400, 0x400 + 255)))
    assert fitted(text).size == 256
    assert fitted(text).dtype == np.uint8


def test_a_large_alphabet_shares_its_rare_characters():
    frequent, rare = CHINESE[:300], CHINESE[300:]
    codec = fitted(frequent * 5 + rare * 4)
    assert set(codec.symbols) == set(frequent)
    assert codec.dtype == np.uint16
    assert codec.unknown(CHINESE) == rare


def test_a_large_alphabet_keeps_at_least_255():
    codec = fitted(CHINESE[:10] * 50 + CHINESE)
    assert codec.symbols == CHINESE[:255]


def test_an_alphabet_has_an_upper_limit():
    assert fitted("".join(chr(0x4E00 + i) for i in range(5_000)) * 5).size == MAX_SYMBOLS + 1


@pytest.mark.parametrize(("size", "dtype"), [(255, np.uint8), (256, np.uint16)])
def test_codes_take_the_smallest_type(size, dtype):
    assert Characters("".join(map(chr, range(0x400, 0x400 + size)))).encode("x").dtype == dtype


@pytest.mark.parametrize("limit", [0, 1 << 28], ids=["mapped", "in memory"])
def test_a_file_is_encoded_chunk_by_chunk(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(codec_file, "_IN_MEMORY", limit)
    monkeypatch.setattr(codec_file.tempfile, "tempdir", str(tmp_path / "temporary"))
    os.mkdir(tmp_path / "temporary")
    (tmp_path / "text.txt").write_bytes("Ünïcode\r\n".encode() * 1_000)
    text = TextFile(tmp_path / "text.txt")
    codec = Characters.fit(text)
    codes = codec.encode_file(text)
    assert codec.decode(codes) == "Ünïcode\n" * 1_000
    assert isinstance(codes, np.memmap) == (limit == 0)
    assert not codes.flags.writeable
    assert os.listdir(tmp_path / "temporary") == []  # gone already, whatever happens to the process


def test_chunks_of_one_character(tmp_path):
    text = TextFile.from_string("aé中😀" * 3)
    codec = Characters.fit(text)
    assert "".join(codec.decode(codec.encode(chunk)) for chunk in text.chunks(4)) == "aé中😀" * 3


@pytest.mark.parametrize(
    "config",
    [{}, {"kind": "words", "symbols": "ab"}, {"kind": "characters"}, {"kind": "characters", "symbols": "aa"}],
)
def test_foreign_descriptions_are_refused(config):
    with pytest.raises(ElmanError):
        Characters.from_config(config)
