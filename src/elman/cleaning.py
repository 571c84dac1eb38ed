"""Markup, entities and white space out of a text, and texts that two sets share.

Knows nothing of files, labels or models.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from html import unescape
from html.entities import html5

import numpy as np
from numpy.typing import NDArray

_BLOCKS, _OTHERS = (
    frozenset(names.split())
    for names in (
        "address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset figcaption "
        "figure footer form frameset h1 h2 h3 h4 h5 h6 head header hr html legend li main menu nav noscript ol "
        "optgroup option p pre section summary table tbody td tfoot th thead title tr ul",
        "a abbr acronym area audio b base basefont bdi bdo big button canvas cite code col colgroup data datalist "
        "del dfn em embed font frame i iframe img input ins kbd label link map mark meta meter object output "
        "param picture progress q rp rt ruby s samp script select small source span strike strong style sub sup "
        "svg template textarea time track tt u var video wbr",
    )
)
# An attribute without a value must be one that HTML has, else "<b and c>" would be a tag. No part of markup holds a
# "<", so that no search reads far in vain.
_ATTRIBUTE = (
    r"[a-z_:@][\w:.-]*\s*=\s*(?:\"[^\"<]*\"|'[^'<]*'|[^\s\"'<>]+)|(?:async|autofocus|autoplay|checked|compact|controls|defer|"
    r"disabled|hidden|ismap|loop|multiple|muted|noshade|nowrap|open|readonly|required|reversed|selected)"
)
_MARKUP = re.compile(
    rf"[<&](?:(?<=<)/?([a-z][a-z0-9]*)(?:\s+(?:{_ATTRIBUTE}))*\s*/?>|(?<=<)!--[^<]*?-->|(?<=<)!doctype[^<>]*>"
    r"|(?<=&)(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});)",
    re.IGNORECASE | re.ASCII,
)
_HIDDEN = re.compile(  # controls that are no white space; what has no width: joiners, direction marks, soft hyphens, …
    "[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_BREAK = re.compile("[\n\r\v\f\x85\u2028\u2029]")
_DEPTH = 8  # how often markup may hide in markup, as &amp;lt; does


def clean(text: str) -> str:
    """The text without markup: what is learned from and compared. Cleaning twice is cleaning once.

    HTML tags go, those of blocks and <br> become line breaks; only HTML's own tags are tags, so that "a < b and c > d"
    stays. Entities (&amp;) become their characters, Unicode is composed (NFC), control characters and those without
    width go, white space becomes one space, or one line break where it has any. Entities may make up tags again.
    """
    simple = text.replace("<br />", "\n")  # most reviews have no other markup, and need no search for it
    if "<" not in simple and "&" not in simple:
        return _plain(simple)
    for _ in range(_DEPTH):
        before, text = text, _plain(_MARKUP.sub(_without, text))
        if text == before or ("<" not in text and "&" not in text):
            return text
    return _plain(text.replace("<", "").replace("&", ""))  # such depth is an attack: time must stay linear


def fingerprints(texts: Sequence[str]) -> NDArray[np.uint64]:
    """A number for each of cleaned texts (n,): the same for texts that are alike but for case."""
    folded = (text.casefold().encode(errors="surrogatepass") for text in texts)
    found = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in folded)
    return np.frombuffer(found, "<u8").astype(np.uint64)


def duplicates(train: Sequence[str], test: Sequence[str]) -> list[int]:
    """The indices of those texts of `test` that are in `train` too, once cleaned and without case."""
    seen, own = (fingerprints(list(map(clean, texts))) for texts in (train, test))
    found: list[int] = np.flatnonzero(np.isin(own, seen)).tolist()
    return found


def _plain(text: str) -> str:
    if text.isascii() and text.replace("\n", " ").isprintable():  # has nothing to hide or to compose
        lines = text.split("\n")
    else:
        lines = _BREAK.split(unicodedata.normalize("NFC", _HIDDEN.sub("", text)))
    return "\n".join(filter(None, map(" ".join, map(str.split, lines))))


def _without(found: re.Match[str]) -> str:
    markup, name = found.group(), (found.group(1) or "").lower()
    if markup.startswith("&#"):
        return unescape(markup)
    if markup.startswith("&"):
        return html5.get(markup[1:], markup)
    if name in _BLOCKS:
        return "\n"
    return "" if not name or name in _OTHERS else markup
