"""From labelled texts to what a classifier is trained on: words, codes, class numbers, the split, and what to beat.

Torch-free but for the baselines, which say so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from elman.class_baseline import Baselines
from elman.class_data import Coded, Codes, filled, split
from elman.class_measures import measures, probabilities
from elman.cleaning import clean, fingerprints
from elman.data import ElmanError
from elman.labelled import Labelled
from elman.words import Words

ClassWeight = Mapping[Any, float] | Literal["balanced"] | None


@dataclass(frozen=True)
class Corpus:
    """Texts as numbers. held: the part that measures. weights (C,): of classes."""

    words: Words
    classes: tuple[Any, ...]
    several: bool
    training: Coded
    held: Coded
    unlabelled: tuple[Codes, ...]
    weights: npt.NDArray[np.float64] | None
    baselines: Baselines
    seen: npt.NDArray[np.uint64]  # fingerprints of all labelled texts

    @classmethod
    def read(
        cls,
        data: Labelled,
        unlabelled: Sequence[str],
        kind: Literal["words", "bpe"] | None,
        size: int,
        class_weight: ClassWeight,
        seed: int,
    ) -> "Corpus":
        """Cleans, splits, learns the words of what is trained on, encodes, and fits the baselines.

        Of the unlabelled texts, those that are held back among the labelled ones are left out. Raises ElmanError where
        the classes cannot be learned or weighted, and where what the baselines need is missing.
        """
        texts, more = list(map(clean, data.texts)), list(map(clean, unlabelled))
        classes = data.classes
        targets = class_numbers(data.labels, classes, data.several)
        weights = class_weights(class_weight, targets, classes, data.several)
        seen = fingerprints(texts)
        rows, held = split(seen.tolist(), targets, seed)
        if not len(held):
            raise ElmanError(
                "no text can be held back to measure: each is the only one of a class, however often it comes. Give "
                "different texts."
            )
        more = [more[i] for i in np.flatnonzero(~np.isin(fingerprints(more), seen[held]))]
        words = Words.fit([*(texts[i] for i in rows), *more], size, kind)
        coded = Coded(tuple(filled(words.encode_all(texts))), targets)
        training, measuring = coded.pick(rows), coded.pick(held)
        baselines = Baselines.fit(
            training.codes, training.classes, measuring.codes, measuring.classes, words.size, len(classes),
            data.several, seed, weights,
        )  # fmt: skip
        return cls(
            words, classes, data.several, training, measuring, tuple(filled(words.encode_all(more))), weights,
            baselines, seen,
        )  # fmt: skip

    @cached_property
    def held_logits(self) -> dict[str, npt.NDArray[np.float64]]:
        """The baselines' logits of the held part."""
        return self.baselines.logits(self.held.codes)

    @cached_property
    def to_beat(self) -> dict[str, dict[str, float]]:
        """Their measures."""
        return {
            name: measures(probabilities(logits, self.several), self.held.classes, self.several)
            for name, logits in self.held_logits.items()
        }

    def codec(self) -> dict[str, Any]:
        """What the model file needs to read texts and to name classes."""
        return {"kind": "labels", "classes": list(self.classes), "words": self.words.to_config()}


def class_numbers(labels: Sequence[Any], classes: Sequence[Any], several: bool) -> npt.NDArray[Any]:
    """(N,) int64, or where there may be several (N, C) bool."""
    number = {name: i for i, name in enumerate(classes)}
    if not several:
        return np.array([number[label] for label in labels], np.int64)
    found = np.zeros((len(labels), len(classes)), bool)
    for row, group in enumerate(labels):
        found[row, [number[label] for label in group]] = True
    return found


def class_weights(
    wanted: ClassWeight, targets: npt.NDArray[Any], classes: Sequence[Any], several: bool
) -> npt.NDArray[np.float64] | None:
    """(C,): "balanced" is N / (C · count) as in scikit-learn; of several labels, texts without by texts with, and 1 for
    a label that all have. Raises ElmanError for weights that are not above 0, and for names that are no classes."""
    if wanted is None:
        return None
    if isinstance(wanted, Mapping):
        strange = [name for name in wanted if name not in classes]
        if strange:
            raise ElmanError(
                f"class_weight has {strange[0]!r}, which is no class: they are {', '.join(map(repr, classes))}."
            )
        weights = np.array([wanted.get(name, 1.0) for name in classes], np.float64)
        if not (weights > 0).all() or not np.isfinite(weights).all():
            raise ElmanError("class_weight must be above 0 for every class.")
        return weights
    if wanted != "balanced":
        raise ElmanError(f'class_weight must be None, "balanced" or a dictionary, not {wanted!r}.')
    n = len(targets)
    found: npt.NDArray[np.float64]
    if several:
        counts = targets.sum(0)
        found = np.where(counts < n, (n - counts) / counts, 1.0)
    else:
        found = n / (len(classes) * np.bincount(targets, minlength=len(classes)))
    return found
