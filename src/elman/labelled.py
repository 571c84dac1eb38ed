"""Labelled texts: read, checked, and what is strange in them said.

Knows nothing of the kinds of files (text_sources), of words or of models.
"""

import itertools
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from elman.data import ElmanError
from elman.tables import EMPTY, counted
from elman.text_sources import Pairs, Place, alone, article, paired, pairs, picked

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")  # not 007: that is a name
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?")  # more digits make a name
_TRUTH = {"True": True, "true": True, "TRUE": True, "False": False, "false": False, "FALSE": False}
_KINDS = (bool, str, int, float)  # bool first: it is an int


@dataclass(frozen=True)
class Labelled:
    """Texts that are not empty, (n,), and the label of each; or a tuple of labels, where there may be several."""

    texts: tuple[str, ...]
    labels: tuple[Any, ...]  # str, int or bool, all the same; or tuples of them
    places: Place  # what the user calls text `i`, for messages
    notes: tuple[str, ...]  # what was done to the data, and what is strange in it, a sentence each
    several: bool = False  # labels are tuples

    @property
    def classes(self) -> tuple[Any, ...]:
        """The labels there are, sorted."""
        return tuple(sorted(set(_flat(self.labels) if self.several else self.labels)))


@dataclass(frozen=True)
class Texts:
    """Texts that are not empty, (n,)."""

    texts: tuple[str, ...]
    rows: tuple[int, ...]  # of the source, from 0: what was skipped is missing here
    places: Place
    notes: tuple[str, ...]


def read_labelled(
    source: Any,
    text: str = "text",
    label: str = "label",
    separator: str | None = None,
    *,
    classes: Sequence[Any] | None = None,
) -> Labelled:
    """The texts and labels of a table with the columns `text` and `label`, or of a folder.

    `source` is the path of a .csv, .tsv, .jsonl (each also .gz) or .parquet file, or a pandas or polars DataFrame; "-"
    is CSV from standard input; a folder has one folder of .txt files for each class; a tuple of two is taken by
    `from_lists`. With a `separator`, a label cell holds several labels, as "a|b" does, or none; so do cells that are
    lists.

    Empty texts are skipped. Labels are text, whole numbers or truth values, all of one type; those of CSV are numbers
    or truth values where all of them are. `classes` are those of a model that is to be evaluated: labels are then read
    as these are, must be among them, and may be as few as they like; else two classes and two texts in each are needed.

    Raises OSError when a file cannot be read, and ElmanError for what are no labelled texts.
    """
    if isinstance(source, tuple) and len(source) == 2:
        return from_lists(*source, classes=classes)
    return _checked(pairs(source, text, label), separator, classes)


def read_texts(source: Any, text: str = "text") -> Texts:
    """Texts alone, from what `read_labelled` takes, a list, or a .txt file, one text a line.

    Of a folder, all .txt files in it, however deep. Raises what `read_labelled` raises.
    """
    cells, place, notes = alone(source, text)
    rows = present(cells, place, notes)
    return Texts(tuple(cells[i] for i in rows), tuple(rows), picked(place, rows), tuple(notes))


def from_lists(texts: Any, labels: Any, *, classes: Sequence[Any] | None = None) -> Labelled:
    """The same from two lists, arrays or columns (n,); labels may be lists themselves. Raises ElmanError."""
    return _checked(paired(texts, labels), None, classes)


# Texts


def _checked(found: Pairs, separator: str | None, classes: Sequence[Any] | None) -> Labelled:
    notes = found.notes
    rows = present(found.texts, found.place, notes)
    place = picked(found.place, rows)
    texts = tuple(found.texts[i] for i in rows)
    groups, several = _groups([found.labels[i] for i in rows], separator, place)
    labels = _labels(groups, place, found.plain, classes, notes)
    if classes is None:
        _check_classes(labels, place)
    else:
        _check_known(labels, classes, place)
    if several:
        _note_several(groups, labels, place, notes)
    _note_repeats(texts, labels, place, notes)
    given = tuple(labels) if several else tuple(_flat(labels))
    return Labelled(texts, given, place, tuple(notes), several)


def present(cells: list[Any], place: Place, notes: list[str]) -> list[int]:
    """The indices of texts that are not empty. Raises ElmanError for what is no text."""
    rows = []
    for i, cell in enumerate(cells):
        if _missing(cell):
            continue
        if not isinstance(cell, str):
            raise ElmanError(
                f"{place(i)}: {reprlib.repr(cell)} is {article(cell)}, not text: name the column of the texts with "
                "text= (--text), or write it as text."
            )
        _check_writable(cell, place, i)
        rows.append(i)
    if not rows:
        raise ElmanError("there is no text: " + ("all texts are empty." if cells else "there are no rows."))
    if len(rows) < len(cells):
        first = next((i for i, row in enumerate(rows) if i != row), len(rows))
        _note(notes, len(cells) - len(rows), "empty text", "skipped", place(first))
    return rows


def _missing(value: Any, plain: bool = False) -> bool:
    if isinstance(value, str):
        return not value or value.isspace() or (plain and value.strip() in EMPTY)
    return value is None or (isinstance(value, (float, np.floating)) and bool(value != value))


def _check_writable(text: str, place: Place, i: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ElmanError(
            f"{place(i)} holds a lone surrogate, U+{ord(text[error.start]):04X}: it is no text that can be written "
            "down. Replace or remove it."
        ) from None


def _note(notes: list[str], number: int, noun: str, done: str, first: str) -> None:
    verb, which = ("was", "it is") if number == 1 else ("were", "the first is")
    notes.append(f"{counted(number, noun)} {verb} {done}; {which} {first}.")


def _flat(groups: Iterable[tuple[Any, ...]]) -> Iterable[Any]:
    return itertools.chain.from_iterable(groups)


# Labels


def _groups(cells: list[Any], separator: str | None, place: Place) -> tuple[list[list[Any]], bool]:
    """(the labels in each cell, whether there may be several)."""
    if separator == "":
        raise ElmanError(
            "the separator of labels is empty: give the character between them, as separator='|'."
        )
    lists = (list, tuple, np.ndarray)
    if separator is None and not any(isinstance(cell, lists) for cell in cells):
        return [[cell] for cell in cells], False
    groups: list[list[Any]] = []
    for i, cell in enumerate(cells):
        if isinstance(cell, lists):
            groups.append(list(cell))
        elif separator is None and not _missing(cell):
            raise ElmanError(
                f"{place(i)} has {reprlib.repr(cell)} for a label, where others have lists: write lists everywhere."
            )
        elif separator is not None and isinstance(cell, str):
            groups.append(cell.split(separator) if cell.strip() else [])
        else:
            groups.append([cell])
    return groups, True


def _labels(
    groups: list[list[Any]], place: Place, plain: bool, classes: Sequence[Any] | None, notes: list[str]
) -> list[tuple[Any, ...]]:
    """The groups with labels of one type, none of them twice."""
    where = picked(place, [i for i, group in enumerate(groups) for _ in group])
    cells = itertools.chain.from_iterable(groups)
    values = _stripped(
        [cell.item() if isinstance(cell, np.generic) else cell for cell in cells], where, plain, notes
    )
    if plain:
        values = _typed(values) if classes is None else [_typed_as(classes[0], value) for value in values]
    _check_kinds(values := _whole(values, where, notes), where, mixed=classes is not None)
    following = iter(values)
    return [tuple(dict.fromkeys(itertools.islice(following, len(group)))) for group in groups]


def _stripped(values: list[Any], place: Place, plain: bool, notes: list[str]) -> list[Any]:
    """Without white space around text. Raises ElmanError where a label is missing."""
    for i, value in enumerate(values):
        if _missing(value, plain):
            written = f" but {value.strip()!r}" if isinstance(value, str) and value.strip() else ""
            what = ", or rename the class" if written else ""
            raise ElmanError(f"{place(i)} has no label{written}: fill it in, or remove the row{what}.")
    wide = [i for i, value in enumerate(values) if isinstance(value, str) and value != value.strip()]
    if wide:
        _note(notes, len(wide), "label", "cut free of white space around", place(wide[0]))
    return [value.strip() if isinstance(value, str) else value for value in values]


def _typed(values: list[str]) -> list[Any]:
    """A file's plain text as what all of it is: whole numbers, truth values, other numbers, or text."""
    if all(map(_WHOLE.fullmatch, values)):
        return list(map(int, values))
    if all(value in _TRUTH for value in values):
        return [_TRUTH[value] for value in values]
    return list(map(float, values)) if all(map(_NUMBER.fullmatch, values)) else list(values)


def _typed_as(known: Any, value: str) -> Any:
    """A file's plain text as what `known` is; as text where it is nothing of that type."""
    kinds = {int: (int, float), bool: (bool,)}.get(_kind(known), ())
    [typed] = _typed([value])
    return typed if _kind(typed) in kinds else value


def _whole(values: list[Any], place: Place, notes: list[str]) -> list[Any]:
    """Whole numbers as int. Raises ElmanError for other numbers."""
    floats = [i for i, value in enumerate(values) if isinstance(value, float)]
    for i in floats:
        if not values[i].is_integer():
            raise ElmanError(
                f"{place(i)}: the label {values[i]!r} is a measure, no class. Bin them, for example "
                'into "low" and "high".'
            )
    if floats:
        _note(notes, len(floats), "label", f"made whole, as {values[floats[0]]!r}", place(floats[0]))
    return [int(value) if isinstance(value, float) else value for value in values]


def _kind(value: Any) -> Any:
    return next((kind for kind in _KINDS if isinstance(value, kind)), None)


def _check_kinds(values: list[Any], place: Place, mixed: bool) -> None:
    """Raises ElmanError for labels of types that are none of classes and, unless they may be `mixed`, of mixed type."""
    for i, value in enumerate(values):
        kind = _kind(value)
        if kind is None:
            raise ElmanError(
                f"{place(i)}: the label {reprlib.repr(value)} is {article(value)}: labels are text, whole numbers, "
                "or True and False."
            )
        if kind is str:
            _check_writable(value, place, i)
        if not mixed and kind is not _kind(values[0]):
            raise ElmanError(
                f"the labels are of mixed type: {values[0]!r} in {place(0)}, {value!r} in {place(i)}. Write all of "
                "them as text, or all as numbers."
            )


def _check_classes(labels: list[tuple[Any, ...]], place: Place) -> None:
    """Raises ElmanError unless there are two classes, and two texts in each."""
    counts = Counter(_flat(labels))
    if len(counts) < 2:
        there = f"is only one class, {next(iter(counts))!r}" if counts else "are no labels"
        raise ElmanError(f"there {there}: give texts of two classes at least.")
    few = [name for name in sorted(counts) if counts[name] == 1]
    if few:
        names = ", ".join(map(repr, few[:5])) + (f" and {len(few) - 5:,} more" if len(few) > 5 else "")
        first = place(next(i for i, group in enumerate(labels) if few[0] in group))
        raise ElmanError(
            f"{names} {'has' if len(few) == 1 else 'have'} only one text ({first}), and a class needs two at least: "
            "add texts, merge classes, or remove them."
        )


def _check_known(labels: list[tuple[Any, ...]], classes: Sequence[Any], place: Place) -> None:
    known = {(_kind(name), name) for name in classes}  # since True == 1
    for i, group in enumerate(labels):
        for name in group:
            if (_kind(name), name) not in known:
                some = ", ".join(map(repr, classes[:10])) + (", …" if len(classes) > 10 else "")
                raise ElmanError(
                    f"{place(i)}: the label {name!r} is none of the model's classes, {some}: correct or remove it."
                )


def _note_several(
    groups: list[list[Any]], labels: list[tuple[Any, ...]], place: Place, notes: list[str]
) -> None:
    without = [i for i, group in enumerate(labels) if not group]
    if without:
        _note(notes, len(without), "text", "taken to have none of the labels", place(without[0]))
    twice = [i for i, group in enumerate(labels) if len(group) < len(groups[i])]
    if twice:
        _note(notes, len(twice), "text", "given a label twice, which counts once", place(twice[0]))


def _note_repeats(
    texts: tuple[str, ...], labels: list[tuple[Any, ...]], place: Place, notes: list[str]
) -> None:
    """Says how many texts are exactly as another one, and how many such have another label."""
    first: dict[str, int] = {}
    again = [i for i, text in enumerate(texts) if first.setdefault(text, i) != i]
    if again:
        i, j = again[0], first[texts[again[0]]]
        notes.append(
            f"{counted(len(again), 'text')} of {len(texts):,} repeat another exactly and were kept: "
            f"{place(i)} is {place(j)}{' again' if len(again) == 1 else ' again, and so on'}."
        )
    other = {texts[i]: i for i in reversed(again) if set(labels[i]) != set(labels[first[texts[i]]])}
    if other:
        i = min(other.values())
        j = first[texts[i]]
        notes.append(
            f"{counted(len(other), 'text')} with different labels in different places: {place(j)} says "
            f"{_said(labels[j])}, {place(i)} {_said(labels[i])}."
        )


def _said(group: tuple[Any, ...]) -> str:
    return ", ".join(map(repr, group)) or "none"
