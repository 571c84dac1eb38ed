"""How a classifier was measured, in words for a terminal. Results on stdout, what is to be said of them on stderr."""

import unicodedata
from typing import Any

import numpy as np

from elman import console
from elman.class_evaluation import COLUMNS, Evaluation
from elman.tables import counted

MOST = 12  # classes in a matrix; of more, so many pairs
_NAME = 32  # columns of a class's name at most
_BEGINNING = 100  # characters of a text


def show_evaluation(found: Evaluation) -> None:
    """Figures beside the baselines, what is confused with what, the most confident mistakes, and who wins."""
    for note in found.notes:
        console.news(note)
    console.table(found.table, COLUMNS)
    print()
    if found.several:
        _show_classes(found)
    elif len(found.classes) > MOST:
        _show_pairs(found)
    else:
        _show_matrix(found)
    if found.mistakes:
        print("\nmost confident mistakes: label → predicted")
    for mistake in found.mistakes:
        names = f"{_named(mistake.label)} → {_named(mistake.predicted)}"
        print(f"  {names} {mistake.probability:.4f}, {mistake.place}\n    {_beginning(mistake.text)}")
    if found.seen:
        console.news(f"\n{found.seen:,} of these {counted(found.texts, 'text')} were among those of training")
    best = max(
        found.table, key=lambda name: found.table[name]["accuracy"]
    )  # elman comes first, and wins a tie
    if best != "elman":
        console.news(f"\n{best} is better here: use it, or train for longer")


def _show_matrix(found: Evaluation) -> None:
    """A row for each true class, a column for each predicted one."""
    digits = len(f"{found.confusion.max():,}")
    room = max(6, 72 // len(found.classes))
    names = [_cut(_named(name), _NAME) for name in found.classes]
    heads = [_cut(name, room) for name in names]
    side, widths = max(map(_width, names)), [max(digits, _width(head)) for head in heads]
    print("confusion: truth in rows, predictions in columns")
    print(" " * side, *(_right(head, width) for head, width in zip(heads, widths, strict=True)))
    for name, row in zip(names, found.confusion.tolist(), strict=True):
        print(_left(name, side), *(f"{count:>{width},}" for count, width in zip(row, widths, strict=True)))


def _show_pairs(found: Evaluation) -> None:
    """The classes that are taken for another most often."""
    wrong = found.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST]
    pairs = [(*divmod(int(i), len(found.classes)), int(wrong.flat[i])) for i in order if wrong.flat[i]]
    if not pairs:
        return print("no class was confused with another")
    print("most confused: truth → predicted, texts")
    cut = [_cut(_named(name), _NAME) for name in found.classes]
    names = [f"{cut[truth]} → {cut[predicted]}" for truth, predicted, _ in pairs]
    side = max(map(_width, names))
    for name, (_, _, count) in zip(names, pairs, strict=True):
        print(f"{_left(name, side)} {count:>6,}")


def _show_classes(found: Evaluation) -> None:
    """Precision and recall of each class, where a text may have several."""
    names = [_cut(_named(name), _NAME) for name in found.classes]
    side = max(map(_width, names))
    print(" " * side, "precision   recall    texts")
    for name, ((_, wrong), (missed, right)) in zip(names, found.confusion.tolist(), strict=True):
        shares = f"{_share(right, right + wrong):>9} {_share(right, right + missed):>8}"
        print(f"{_left(name, side)} {shares} {right + missed:>8,}")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.4f}" if whole else "-"


def _named(label: Any) -> str:
    """A label, or labels, in one harmless line."""
    names = ("|".join(map(str, label)) or "none") if isinstance(label, tuple) else str(label)
    return console.plain(names)


def _beginning(text: str) -> str:
    text = console.plain(text[: 8 * _BEGINNING])
    if len(text) <= _BEGINNING:
        return text
    return (
        text[:_BEGINNING].rpartition(" ")[0] + " …" if " " in text[:_BEGINNING] else text[:_BEGINNING] + "…"
    )


def _cut(name: str, room: int) -> str:
    while _width(name) > room:
        name = name.removesuffix("…")[:-1] + "…"
    return name


def _left(name: str, width: int) -> str:
    return name + " " * (width - _width(name))


def _right(name: str, width: int) -> str:
    return " " * (width - _width(name)) + name


def _width(name: str) -> int:
    """Columns of a terminal: letters of East Asia take two."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in name)
