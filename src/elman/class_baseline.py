"""What a classifier has to beat: class frequencies, a regression on words and pairs of words, an average of embeddings.

Works on rows of codes: 0 is padding, 1 the unknown word, and neither is a feature. Where `several`, a text may have any
number of labels. Fitting needs scikit-learn, SciPy and PyTorch, imported late; scoring needs NumPy alone. Knows nothing
of words, files or the recurrent model.

Letters: N texts, C classes, V codes, F features (words and pairs of words), E embedding, H hidden units.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.class_measures import Floats, Truth, fit_temperature, measures, probabilities
from elman.data import ElmanError

Codes = NDArray[np.int32]
Ints = NDArray[np.int64]
Float32s = NDArray[np.float32]
Array = NDArray[Any]

MAJORITY, TF_IDF, AVERAGED = "majority", "TF-IDF + logistic regression", "averaged embeddings"
UNKNOWN = 1  # codes up to this are no words
FEATURES = 300_000  # the most frequent
COEFFICIENTS = 2_000_000  # of all classes together: with many of them, fewer features
LIMIT = 1 << 24  # codes: of more, evenly spaced texts are fitted
STRENGTHS = (10.0, 1.0, 100.0)  # of C, the inverse of the penalty; between these the loss hardly changes
ITERATIONS = 100  # at most
EMBEDDING = HIDDEN = 64
WORD_DROPOUT = 0.3
BATCH, RATE = 64, 1e-3
ROUND = (50, 1_000)  # batches between validations: an epoch, but within these
ROUNDS, PATIENCE = 30, 3  # rounds at most, and without a better one
_PIECE = 1 << 16  # codes scored at a time: more no longer fit the cache
_PREFIX = "baseline."


@dataclass(frozen=True)
class TfIdf:
    """Logistic regression on the words and pairs of words of a text.

    The word w has the key w, and the pair (v, w) the key v*V + w: no pair begins with padding. The values of a text are
    (1 + log times) * idf, scaled to length 1.
    """

    keys: Ints  # (F,) sorted
    idf: Float32s  # (F,)
    coefficients: Float32s  # (C, F); (1, F) of the second of two classes
    intercept: Float32s  # (C,) or (1,)

    @classmethod
    def fit(cls, train: "Part", validation: "Part", shape: "Shape") -> "TfIdf":
        """The regression with the penalty that is best on the validation part, at its best temperature."""
        found, values = _features(train.texts, shape)
        best = None
        for strength in STRENGTHS if len(found.keys) else ():
            tried = cls(found.keys, found.idf, *_regressions(values, train.truth, shape, strength))
            loss = _calibrated_loss(*tried.logits(validation.texts, shape), validation.truth, shape)
            if best is None or loss < best[0]:
                best = loss, tried
        return best[1] if best else found

    def logits(self, texts: Sequence[Codes], shape: "Shape") -> tuple[Floats, NDArray[np.bool_]]:
        """(logits (N, C), whether a text has any feature (N,))."""
        z, known = np.empty((len(texts), len(self.intercept))), np.empty(len(texts), np.bool_)
        for piece in _pieces(texts):
            n = piece.stop - piece.start
            rows, at, times = _found(self.keys, *_counted(texts[piece], shape.vocabulary))
            values = _values(rows, self.idf[at], times, n)
            for c, coefficients in enumerate(self.coefficients):
                z[piece, c] = np.bincount(rows, values * coefficients[at], n)
            known[piece] = np.bincount(rows, minlength=n) > 0
        z += self.intercept
        return (z if z.shape[1] == shape.classes else np.hstack((np.zeros_like(z), z))), known


@dataclass(frozen=True)
class Averaged:
    """A deep averaging network: the mean of the words' embeddings → ReLU → logits.

    Source: Iyyer et al., "Deep unordered composition rivals syntactic methods for text classification", 2015.
    """

    embedding: Float32s  # (V, E)
    hidden_weight: Float32s  # (H, E)
    hidden_bias: Float32s  # (H,)
    head_weight: Float32s  # (C, H)
    head_bias: Float32s  # (C,)

    @classmethod
    def start(cls, shape: "Shape", rng: np.random.Generator) -> "Averaged":
        """A network that knows nothing."""

        def normal(*size: int, std: float) -> Float32s:
            return (std * rng.standard_normal(size)).astype(np.float32)

        return cls(
            normal(shape.vocabulary, EMBEDDING, std=0.1),
            normal(HIDDEN, EMBEDDING, std=EMBEDDING**-0.5),
            np.zeros(HIDDEN, np.float32),
            normal(shape.classes, HIDDEN, std=HIDDEN**-0.5),
            np.zeros(shape.classes, np.float32),
        )

    def logits(self, texts: Sequence[Codes]) -> tuple[Floats, NDArray[np.bool_]]:
        """(logits (N, C), whether a text has any word (N,))."""
        known = [text[text > UNKNOWN] for text in texts]
        counts = np.array([len(words) for words in known], np.int64)
        # One text at a time: its embeddings stay in the cache, and those of many do not.
        means = np.array([self.embedding.take(words, 0).sum(0) for words in known]).reshape(-1, EMBEDDING)
        means /= np.maximum(counts, 1)[:, None]
        hidden = np.maximum(means @ self.hidden_weight.T + self.hidden_bias, 0)
        return (hidden @ self.head_weight.T + self.head_bias).astype(np.float64), counts > 0


@dataclass(frozen=True)
class Shape:
    """What all baselines of a data set share. weights (C,): what a text of each class counts for in the losses, 1 where
    None; where several, what having the class counts for, against 1 for not having it."""

    vocabulary: int
    classes: int
    several: bool
    weights: Floats | None = None


@dataclass(frozen=True)
class Part:
    """Texts and the truth about them."""

    texts: Sequence[Codes]
    truth: Truth


@dataclass(frozen=True)
class Baselines:
    """Three classifiers, fitted on the texts that the recurrent model learns from."""

    shape: Shape
    prior: Floats  # (C,) logits of the class frequencies
    tf_idf: TfIdf
    averaged: Averaged
    temperatures: Floats  # (2,) of tf_idf and averaged

    @classmethod
    def fit(
        cls,
        train: Sequence[Codes],
        labels: Truth,
        validation: Sequence[Codes],
        validation_labels: Truth,
        vocabulary: int,
        classes: int,
        several: bool,
        seed: int = 0,
        class_weight: Floats | None = None,
    ) -> "Baselines":
        """Learns from `train`; the validation part, of one text at least, chooses the penalty, the number of rounds and
        the temperatures. labels: ints (N,) below `classes`; where several, bools (N, C). class_weight: as Shape has it;
        the class frequencies stay what they are.

        Of over 17 million codes, evenly spaced texts are fitted. The same seed gives the same baselines, and torch's
        generator stays as it was. Raises ElmanError where scikit-learn, SciPy or PyTorch is missing.
        """
        _check_installed()
        shape = Shape(vocabulary, classes, several, class_weight)
        step = max(1, -(-sum(map(len, train)) // LIMIT))
        part, held = Part(train[::step], labels[::step]), Part(validation, validation_labels)
        # Work in pieces this small gains nothing from threads, and on a busy machine they wait long for each other.
        with import_module("threadpoolctl").threadpool_limits(1):
            tf_idf = TfIdf.fit(part, held, shape)
            averaged = _fit_averaged(part, held, shape, np.random.default_rng(seed))
            each = (tf_idf.logits(validation, shape), averaged.logits(validation))
        temperatures = [fit_temperature(z[known], validation_labels[known], several) for z, known in each]
        return cls(shape, _prior(labels, shape), tf_idf, averaged, np.array(temperatures))

    def logits(self, codes: Sequence[Codes]) -> dict[str, Floats]:
        """Logits (N, C), at the fitted temperatures, of each baseline.

        A text in which a baseline knows no word gets the logits of the class frequencies.
        """
        majority = np.tile(self.prior, (len(codes), 1))
        found = {MAJORITY: majority}
        each = (self.tf_idf.logits(codes, self.shape), self.averaged.logits(codes))
        for name, (z, known), temperature in zip((TF_IDF, AVERAGED), each, self.temperatures, strict=True):
            found[name] = np.where(known[:, None], z / temperature, majority)
        return found

    def to_tensors(self) -> dict[str, Array]:
        """What was fitted, by name, for the model file."""
        parts = {"prior": self.prior, "temperatures": self.temperatures}
        parts |= {field.name: getattr(self.tf_idf, field.name) for field in fields(TfIdf)}
        parts |= {field.name: getattr(self.averaged, field.name) for field in fields(Averaged)}
        return {_PREFIX + name: part for name, part in parts.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array], several: bool) -> "Baselines | None":
        """The baselines among a model file's tensors, or None. Raises ElmanError if they are incomplete."""
        in_both = [field.name for part in (TfIdf, Averaged) for field in fields(part)]
        names = [_PREFIX + name for name in ("prior", "temperatures", *in_both)]
        if not any(name in tensors for name in names):
            return None
        if missing := [name for name in names if name not in tensors]:
            raise ElmanError(f"the model file lacks {', '.join(missing)}: it is damaged.")
        prior, temperatures, *parts = (tensors[name] for name in names)
        averaged = Averaged(*parts[4:])
        shape = Shape(len(averaged.embedding), len(prior), several)
        return cls(shape, prior, TfIdf(*parts[:4]), averaged, temperatures)


def _check_installed() -> None:
    """Raises ElmanError for what is missing. All of it is then loaded, so that a limit of threads applies to it."""
    needed = {"scipy.optimize": "SciPy", "sklearn.linear_model": "scikit-learn", "torch": "PyTorch"}
    for module, name in needed.items():
        try:
            import_module(module)
        except ModuleNotFoundError:
            raise ElmanError(
                f'the baselines of a classifier need {name}: pip install "elman[train]"'
            ) from None


def _prior(labels: Truth, shape: Shape) -> Floats:
    """Logits of the class frequencies, by Laplace's rule: as if each class was seen once more, and missed once more."""
    if shape.several:
        count = labels.sum(0) + 1
        odds: Floats = np.log(count) - np.log(len(labels) + 2 - count)
        return odds
    counts = np.bincount(labels, minlength=shape.classes) + 1
    shares: Floats = np.log(counts / counts.sum())
    return shares


def _calibrated_loss(logits: Floats, known: NDArray[np.bool_], truth: Truth, shape: Shape) -> float:
    """The log loss at the best temperature, over the texts of which something is known; 0 where there are none."""
    z, truth = logits[known], truth[known]
    p = probabilities(z, shape.several, fit_temperature(z, truth, shape.several))
    return measures(p, truth, shape.several)["log_loss"] if len(z) else 0.0


# Features


def _pieces(texts: Sequence[Codes]) -> Iterator[slice]:
    """Runs of texts of about _PIECE codes, one text at least."""
    ends = np.cumsum([len(text) for text in texts])
    start = 0
    while start < len(texts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _PIECE, "right")))
        yield slice(start, stop)
        start = stop


def _row(texts: Sequence[Codes]) -> tuple[Ints, Ints]:
    """(the codes of all texts in order, the text of each)."""
    codes = np.concatenate(texts).astype(np.int64)
    return codes, np.repeat(np.arange(len(texts)), [len(text) for text in texts])


def _counted(texts: Sequence[Codes], vocabulary: int) -> tuple[Ints, Ints, Ints]:
    """(text, key, times) of the words and pairs of words, once for each text that has it, in order of text and key.

    The two words of a pair stand side by side: an unknown one between parts them.
    """
    codes, rows = _row(texts)
    known = codes > UNKNOWN
    pair = known[1:] & known[:-1] & (rows[1:] == rows[:-1])
    keys = np.concatenate((codes[known], codes[:-1][pair] * vocabulary + codes[1:][pair]))
    both = np.sort(np.concatenate((rows[known], rows[1:][pair])) * vocabulary**2 + keys)
    first = np.flatnonzero(np.diff(both, prepend=-1))
    row, key = np.divmod(both[first], vocabulary**2)
    return row, key, np.diff(first, append=len(both))


def _counted_all(texts: Sequence[Codes], vocabulary: int) -> tuple[Codes, Ints, Codes]:
    """`_counted` of any number of texts, in less memory."""
    rows, keys, times = [], [], []
    for piece in _pieces(texts):
        row, key, time = _counted(texts[piece], vocabulary)
        rows.append((piece.start + row).astype(np.int32))
        keys.append(key)
        times.append(time.astype(np.int32))
    return np.concatenate(rows), np.concatenate(keys), np.concatenate(times)


def _found(keys: Ints, rows: Array, wanted: Ints, times: Array) -> tuple[Array, Ints, Array]:
    """(text, position in `keys`, times) of those wanted that are among the sorted keys."""
    if not len(keys):
        return rows[:0], wanted[:0], times[:0]
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    known = keys[at] == wanted
    return rows[known], at[known], times[known]


def _values(rows: Array, idf: Float32s, times: Array, n: int) -> Floats:
    values: Floats = (1 + np.log(times, dtype=np.float64)) * idf.astype(np.float64)
    length = np.sqrt(np.bincount(rows, values * values, n))
    values /= length[rows]
    return values


def _features(texts: Sequence[Codes], shape: Shape) -> tuple[TfIdf, Any]:
    """(the features, with a regression that knows nothing, their values (N, F) as a sparse matrix).

    Features are in two texts at least, and of those the most frequent are kept; of equals, the least key.
    """
    rows, wanted, times = _counted_all(texts, shape.vocabulary)
    keys, texts_with = np.unique(wanted, return_counts=True)
    keys, texts_with = keys[texts_with > 1], texts_with[texts_with > 1]
    columns = 1 if shape.classes == 2 and not shape.several else shape.classes
    kept = np.sort(np.argsort(-texts_with, kind="stable")[: min(FEATURES, COEFFICIENTS // columns)])
    keys, texts_with = keys[kept], texts_with[kept]
    idf = (np.log((1 + len(texts)) / (1 + texts_with)) + 1).astype(np.float32)
    rows, at, times = _found(keys, rows, wanted, times)
    ends = np.searchsorted(rows, np.arange(len(texts) + 1))
    matrix = import_module("scipy.sparse").csr_matrix
    values = matrix((_values(rows, idf[at], times, len(texts)), at, ends), (len(texts), len(keys)))
    nothing = np.zeros((columns, len(keys)), np.float32), np.zeros(columns, np.float32)
    return TfIdf(keys, idf, *nothing), values


# Fitting


def _regressions(values: Any, truth: Truth, shape: Shape, strength: float) -> tuple[Float32s, Float32s]:
    """(coefficients, intercept): one regression of all classes; where several, one of each."""
    weights = np.ones(shape.classes) if shape.weights is None else shape.weights
    if not shape.several:
        return _regression(values, truth, shape.classes, weights[truth], strength)
    found = [
        _regression(values, has.astype(np.int64), 2, np.where(has, weight, 1.0), strength)
        for has, weight in zip(truth.T, weights, strict=True)
    ]
    coefficients, intercepts = zip(*found, strict=True)
    return np.concatenate(coefficients), np.concatenate(intercepts)


def _regression(
    values: Any, truth: Ints, classes: int, weights: Floats, strength: float
) -> tuple[Float32s, Float32s]:
    """lbfgs: as good as liblinear, in half the time, and of more than two classes too.

    A class without texts is given one that has no features.
    """
    linear, sparse = import_module("sklearn.linear_model"), import_module("scipy.sparse")
    missing = np.setdiff1d(np.arange(classes), truth)
    if len(missing):
        values = sparse.vstack((values, sparse.csr_matrix((len(missing), values.shape[1]))), "csr")
        truth, weights = np.append(truth, missing), np.append(weights, np.ones(len(missing)))
    model = linear.LogisticRegression(C=strength, tol=1e-5, max_iter=ITERATIONS)
    with warnings.catch_warnings():  # where the minimum is not reached, it predicts no worse
        warnings.simplefilter("ignore", import_module("sklearn.exceptions").ConvergenceWarning)
        model.fit(values, truth, weights)
    return model.coef_.astype(np.float32), model.intercept_.astype(np.float32)


def _fit_averaged(train: Part, validation: Part, shape: Shape, rng: np.random.Generator) -> Averaged:
    """The network of the round with the least validation loss. Only `rng` is random: torch's generator is not used."""
    import torch

    texts = [text[text > UNKNOWN] for text in train.texts]
    truth, loss = _loss(shape)
    start = Averaged.start(shape, rng)
    weights = [torch.from_numpy(getattr(start, field.name)).requires_grad_() for field in fields(Averaged)]
    optimizer = torch.optim.Adam(weights, RATE, fused=True)
    target, held = truth(train.truth), truth(validation.truth)
    batches = _batches(len(texts), rng)
    best, least, since = start, np.inf, 0
    for _ in range(ROUNDS):
        for _ in range(int(np.clip(-(-len(texts) // BATCH), *ROUND))):
            chosen = next(batches)
            z = _averaged_logits(weights, [texts[i] for i in chosen], rng)
            optimizer.zero_grad()
            loss(z, target[chosen]).backward()
            optimizer.step()
        now = Averaged(*(weight.detach().numpy().copy() for weight in weights))
        validated = loss(torch.from_numpy(now.logits(validation.texts)[0]).float(), held).item()
        best, least, since = (now, validated, 0) if validated < least else (best, least, since + 1)
        if since == PATIENCE:
            break
    return best


def _loss(shape: Shape) -> tuple[Any, Any]:
    """(what makes a tensor of a truth, the loss of logits and such a tensor)."""
    import torch
    import torch.nn.functional as F

    weights = None if shape.weights is None else torch.from_numpy(shape.weights).float()
    if shape.several:
        return (
            lambda truth: torch.from_numpy(truth).float(),
            lambda z, truth: F.binary_cross_entropy_with_logits(z, truth, pos_weight=weights),
        )
    return (
        lambda truth: torch.from_numpy(truth).long(),
        lambda z, truth: F.cross_entropy(z, truth, weight=weights),
    )


def _batches(n: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Indices of texts, epoch after epoch, each in another order."""
    while True:
        order = rng.permutation(n)
        for i in range(0, n, BATCH):
            yield order[i : i + BATCH]


def _averaged_logits(weights: Sequence[Any], texts: Sequence[Codes], rng: np.random.Generator) -> Any:
    """Logits (B, C) of texts of which some words are left out."""
    import torch
    import torch.nn.functional as F

    codes, rows = _row(texts)
    kept = rng.random(len(codes), np.float32) >= WORD_DROPOUT
    counts = np.bincount(rows[kept], minlength=len(texts))
    embedding, hidden_weight, hidden_bias, head_weight, head_bias = weights
    starts = torch.from_numpy(np.cumsum(counts) - counts)
    means = F.embedding_bag(torch.from_numpy(codes[kept]), embedding, starts, mode="mean")
    return F.linear(F.linear(means, hidden_weight, hidden_bias).relu(), head_weight, head_bias)
