import re
import time as clock
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.cleaning import clean, duplicates


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < b and c > d", "a < b and c > d"),
        ("a <b and c> d", "a <b and c> d"),
        ("x<3 <unk> <me@x.org> &c. AT&T R&D; 1 << 2", "x<3 <unk> <me@x.org> &c. AT&T R&D; 1 << 2"),
        ("one<br />two<BR>three", "one\ntwo\nthree"),
        ("<p>one</p>\n\n<p class='x y' id=z hidden>two</p>", "one\ntwo"),
        ('w<b>or</b>d <a href="http://x.y/?a=1&amp;b=2" target=_blank>link</a>!', "word link!"),
        ("<td>1</td><td>2</td>", "1\n2"),
        ("<!DOCTYPE html>a<!-- a comment\n > of two lines -->b", "ab"),
        ("fish &amp; chips&nbsp;&#8364;&#x20AC; &nosuch; &notit;", "fish & chips €€ &nosuch; &notit;"),
        ("&lt;b&gt;bold&lt;/b&gt; &amp;lt; 1", "bold < 1"),
        ("e\u0301 ﬁ", "é ﬁ"),
        ("a\u200bb\x00c\x07 soft\u00adly \ufeffe\u200d\u0301", "abc softly é"),
        (" \t a \u00a0\u3000 b \n \r\n\u2028 c\x1fd\x85", "a b\nc d"),
        ("K\u212am <\u017fpan>", "KKm <\u017fpan>"),
        ("", ""),
        ("<br>", ""),
    ],
)
def test_clean(text, expected):
    assert clean(text) == expected


MARKUP = (
    "< > & ; / b br p = \" ' <b> </p> <br/> &amp; &lt; lt; amp; &#60; &#x3c; # x3c <!-- --> doctype <! hidden"
)
ODD = "\u037e\u200b\u0301\u0338e\r\n\x85\x1c\u2028\u212a\u017f\x07\ufe0f \t"
HIDDEN = "\u00ad\u034f\u061c\u180e\u200b\u200d\u200f\u202a\u2060\ufe0f\ufeff"
UNMARKED = st.text("ab.é " + ODD + HIDDEN, max_size=3)
PIECES = st.sampled_from([*MARKUP.split(), *ODD])


@given(st.lists(PIECES | st.text(max_size=3), max_size=30).map("".join) | st.text())
def test_cleaning_twice_is_cleaning_once(text):
    once = clean(text)
    assert clean(once) == once
    assert once == once.strip()
    assert "  " not in once
    assert "\n\n" not in once


@given(st.lists(st.just("<br />") | PIECES | st.text(max_size=3), max_size=30).map("".join))
def test_the_most_frequent_line_break_is_one_like_others(text):
    assert clean(text) == clean(text.replace("<br />", "<br>"))


@given(st.lists(st.sampled_from(["a", "b,", *ODD]) | UNMARKED, max_size=20).map("".join))
def test_white_space_without_markup(text):
    """Cleaned run by run, as the docstring has it."""
    shown = unicodedata.normalize("NFC", "".join(c for c in text if not hidden(c)))
    runs = re.sub(r"\s+", lambda run: "\n" if re.search("[\n\r\v\f\x85\u2028\u2029]", run[0]) else " ", shown)
    assert clean(text) == runs.strip()


def hidden(c):
    return (unicodedata.category(c) == "Cc" and not c.isspace()) or c in HIDDEN


@pytest.mark.parametrize(
    "text",
    [
        "&amp;" + "amp;" * 200_000 + "lt;",
        "<b" * 200_000 + ">" * 200_000,
        '<a b="' * 200_000,
        "<a b=\"<a b=' " * 100_000,
        "<!--" * 200_000 + "-->",
        "<p" + " " * 500_000,
        "<a " + "hidden " * 100_000,
        " \n" * 500_000,
        "e" + "\u0301\u0300" * 1_000,
    ],
)
def test_cleaning_is_linear_whatever_comes(text):
    start = clock.perf_counter()
    once = clean(text)
    assert clock.perf_counter() - start < 10
    assert clean(once) == once


def test_cleaning_a_million_words():
    assert clean("word, " * 1_000_000) == "word, " * 999_999 + "word,"


def test_duplicates_between_parts():
    train = ["A <b>good</b> film", "bad", "Stra\u00dfe"]
    test = ["bad film", "a GOOD  film\n", "STRASSE", "", "Bad"]
    assert duplicates(train, test) == [1, 2, 4]
    assert duplicates([], test) == duplicates(train, []) == []


def test_duplicates_are_found_fast():
    train = [f"text {i} of <i>many</i>" for i in range(100_000)]
    start = clock.perf_counter()
    assert duplicates(train, [f"Text {i} of many" for i in range(99_990, 100_010)]) == list(range(10))
    assert clock.perf_counter() - start < 20
