"""The classification job: learn from labelled texts, say what others are and how sure that is, and how well it goes.

Codec, model, loss and measure of one job behind scikit-learn's protocol. Needs PyTorch in `fit` alone.
"""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from elman import checkpoint
from elman.checkpoint import ModelFile
from elman.class_baseline import TF_IDF, Baselines
from elman.class_config import ClassConfig
from elman.class_corpus import Corpus, class_numbers
from elman.class_course import Budget, Course, Keep, Tensors
from elman.class_data import filled
from elman.class_evaluation import Evaluation, evaluation
from elman.class_measures import THRESHOLD, probabilities
from elman.class_network import ClassNetwork
from elman.cleaning import clean, fingerprints
from elman.data import ElmanError
from elman.labelled import Labelled, from_lists, read_labelled, read_texts
from elman.progress import Report
from elman.runs import check_budget
from elman.schedule import Settings
from elman.sizes import check_sizes
from elman.tables import counted
from elman.text_sources import listed
from elman.trajectory import Trajectory
from elman.vectors import read_vectors
from elman.words import Words

if TYPE_CHECKING:
    from elman.class_fit import ClassRun

EPOCHS = 40.0  # at most, when no budget is given
MUCH = 500_000  # words from which on that pays, without unlabelled texts too
# Hidden units of a direction and the embedding's size, without unlabelled texts and with. The smaller ones classify
# about 2,000 reviews a second on two cores.
SMALL, LARGE = (96, 128), (256, 256)
_POINTS, _WORDS = 16, 800_000  # of a trajectory: points at least, and words read for it, about


class TextClassifier:
    """A recurrent classifier of texts, of two or more classes, or several labels a text: an estimator of scikit-learn's
    protocol.

    cell "lstm", "gru" or "rnn"; hidden_size units in each of num_layers layers, that read both ways where
    bidirectional; embedding_size numbers for a word; pooling "attention", "mean", "max" or "last" over the steps of a
    text. Sizes that are None are chosen: 96 and 128, or 256 where there are unlabelled texts. dropout,
    embedding_dropout, word_dropout: as `ClassConfig` has them. label_smoothing: share of the target spread over all
    classes. class_weight: None, "balanced" or a dictionary, as in scikit-learn. vectors: pretrained word vectors, as
    `read_vectors` takes them. pretrain: whether the language of the texts is learned before their labels; None for
    where there are unlabelled texts, or half a million words. words: "words" or "bpe", None for what suits the texts;
    vocabulary_size: of them at most. self_training: whether a first classifier labels the unlabelled texts and the
    second learns from all; None for yes. ngrams: add the regression on words and pairs of words to the network's
    logits. averaging: decay of the moving average of weights, 0 for none. seed: training repeats exactly for the same.

    Parameters are checked by `fit`, as is the custom in scikit-learn. classes_ are the labels, sorted.
    """

    def __init__(
        self,
        *,
        cell: str = "lstm",
        hidden_size: int | None = None,
        num_layers: int = 1,
        embedding_size: int | None = None,
        bidirectional: bool = True,
        pooling: str = "attention",
        dropout: float = 0.5,
        embedding_dropout: float = 0.3,
        word_dropout: float = 0.2,
        label_smoothing: float = 0.0,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        vectors: str | os.PathLike[str] | None = None,
        pretrain: bool | None = None,
        words: Literal["words", "bpe"] | None = None,
        vocabulary_size: int = 30_000,
        ngrams: bool = False,
        self_training: bool | None = None,
        learning_rate: float = 2e-3,
        batch_size: int = 32,
        averaging: float = 0.998,
        seed: int = 0,
    ) -> None:
        self.cell, self.hidden_size, self.num_layers = cell, hidden_size, num_layers
        self.embedding_size, self.bidirectional, self.pooling = embedding_size, bidirectional, pooling
        self.dropout, self.embedding_dropout, self.word_dropout = dropout, embedding_dropout, word_dropout
        self.label_smoothing, self.class_weight, self.vectors = label_smoothing, class_weight, vectors
        self.words, self.vocabulary_size, self.ngrams = words, vocabulary_size, ngrams
        self.pretrain, self.self_training = pretrain, self_training
        self.learning_rate, self.batch_size, self.averaging, self.seed = (
            learning_rate,
            batch_size,
            averaging,
            seed,
        )
        self._file: ModelFile | None = None

    # Training

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        unlabelled: Any = None,
        text: str = "text",
        label: str = "label",
        separator: str | None = None,
        minutes: float | None = None,
        epochs: float | None = None,
        output: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: bool = True,
        log: Literal["csv", "tensorboard"] | None = None,
    ) -> Self:
        """Learn from texts X and labels y; or, without y, from a table or folder X, as `read_labelled` reads it.

        For so many minutes or epochs; 3 minutes if no budget is given, or 40 epochs where these are over sooner. Where
        the language is learned first, of `unlabelled` texts too (what `read_texts` takes), that has 60 % of the
        minutes, or as many epochs again; unlabelled texts are then labelled by a first classifier, from which, with
        self_training, a second one learns. A tenth of the texts chooses the best weights and calibrates them. With
        `output` the best model is saved there whenever it improves and a killed run can be continued with resume=True.
        Ctrl-C stops early and keeps the best model.

        Raises ElmanError for texts, labels or parameters that cannot be used, an output that cannot be written, a run
        that cannot be resumed, PyTorch missing, or a loss that becomes NaN (the best model is kept); OSError for files.
        """
        brief = minutes is None and epochs is None
        minutes = check_budget(minutes, epochs, output, resume)
        if output is not None:
            checkpoint.check_writable(output)
        report = Report(progress, unit="texts")
        corpus = self.training_data(
            X, y, report, unlabelled=unlabelled, text=text, label=label, separator=separator
        )
        initial = self.beginning(corpus)
        config = self.configured(corpus, initial)
        report.line(_introduction(corpus, config))
        self._train(
            corpus, config, initial, minutes, EPOCHS if brief else epochs, report, output, resume, log
        )
        return self

    def training_data(
        self,
        X: Any,
        y: Any,
        report: Report,
        *,
        unlabelled: Any = None,
        text: str = "text",
        label: str = "label",
        separator: str | None = None,
    ) -> Corpus:
        """What `fit` reads, ready to train on, with the baselines' results. Raises what that raises of texts, and of
        parameters before any is read."""
        self._config(2, 2, False, unlabelled is not None)
        data = read_labelled(X, text, label, separator) if y is None else from_lists(X, y)
        more = None if unlabelled is None else read_texts(unlabelled, text)
        for note in (*data.notes, *(more.notes if more else ())):
            report.line(note)
        report.line(
            f"{len(data.texts):,} texts, {len(data.classes)} classes: learning their words, and what is to beat"
        )
        texts = more.texts if more else ()
        corpus = Corpus.read(data, texts, self.words, self.vocabulary_size, self.class_weight, self.seed)
        if held := len(texts) - len(corpus.unlabelled):
            report.line(
                f"{counted(held, 'unlabelled text')} left out, being among those held back to measure."
            )
        return corpus

    def beginning(self, corpus: Corpus) -> dict[str, npt.NDArray[Any]]:
        """Tensors that the network begins with: an embedding of pretrained vectors, with random ones for words without.
        Raises ElmanError for vectors that cannot be used."""
        words = corpus.words
        if self.vectors is None:
            return {}
        if words.kind != "words":
            raise ElmanError(
                'vectors are of words, and these texts are read in pieces of words: add words="words".'
            )
        rows, found = read_vectors(self.vectors, words.entries)
        size = self.embedding_size or rows.shape[1]
        if size != rows.shape[1]:
            raise ElmanError(
                f"the vectors have {rows.shape[1]} numbers: embedding_size must be that, not {size}."
            )
        rng = np.random.default_rng(self.seed)
        rows[~found] = rng.normal(0, rows[found].std(), (int((~found).sum()), size))
        special = np.stack((np.zeros(size), rows.mean(0)))  # padding, the unknown word
        return {"embedding.weight": np.concatenate((special, rows)).astype(np.float32)}

    def configured(self, corpus: Corpus, initial: Mapping[str, npt.NDArray[Any]]) -> ClassConfig:
        """What the network is made of. Raises ElmanError for parameters that make no sense."""
        config = self._config(corpus.words.size, len(corpus.classes), corpus.several, bool(corpus.unlabelled))
        if initial:
            config = replace(config, embedding_size=initial["embedding.weight"].shape[1])
        return config

    def _config(self, vocabulary: int, classes: int, several: bool, much: bool) -> ClassConfig:
        """Raises ElmanError for parameters that make no sense."""
        check_sizes(
            self.cell, hidden_size=self.hidden_size, embedding_size=self.embedding_size,
            learning_rate=self.learning_rate, batch_size=self.batch_size, averaging=self.averaging, seed=self.seed,
        )  # fmt: skip
        smoothing = self.label_smoothing
        if isinstance(smoothing, bool) or not isinstance(smoothing, int | float) or not 0 <= smoothing < 1:
            raise ElmanError(f"label_smoothing must be a number from 0 to below 1, not {smoothing!r}.")
        hidden_size, embedding_size = LARGE if much else SMALL
        return ClassConfig(
            vocabulary, classes, several, self.cell, self.hidden_size or hidden_size, self.num_layers,
            self.embedding_size or embedding_size, self.bidirectional, self.pooling, self.dropout,
            self.embedding_dropout, self.word_dropout,
        )  # fmt: skip

    def _train(
        self,
        corpus: Corpus,
        config: ClassConfig,
        initial: dict[str, npt.NDArray[Any]],
        minutes: float | None,
        epochs: float | None,
        report: Report,
        output: str | os.PathLike[str] | None,
        go_on: bool,
        log: Literal["csv", "tensorboard"] | None,
    ) -> None:
        def take(file: ModelFile) -> None:
            self._take(file)
            if output is not None:
                self.save(output)

        def make(corpus: Corpus, initial: Tensors, budget: Budget, keep: Keep) -> "ClassRun":
            return self.training_run(corpus, config, initial, *budget, keep)

        Course(
            corpus, config, initial, (minutes, epochs), self._pretrains(corpus), self._self_trains(corpus), self.seed,
            report, output, go_on, log, make, take,
        ).run()  # fmt: skip

    def training_run(
        self,
        corpus: Corpus,
        config: ClassConfig,
        initial: Mapping[str, npt.NDArray[Any]],
        minutes: float | None,
        epochs: float | None,
        keep: Callable[[ModelFile], None] | None,
    ) -> "ClassRun":
        """The run that learns labels; the language is not learned in it."""
        from elman.class_fit import ClassRun

        settings = Settings(self.learning_rate, minutes, epochs, averaging=self.averaging)
        beside = corpus.held_logits[TF_IDF] if self.ngrams else None
        return ClassRun(
            corpus.training, corpus.held, config, self.batch_size, self.label_smoothing, corpus.weights, beside,
            settings, self.seed, initial, corpus.baselines.to_tensors() | {"seen": corpus.seen}, corpus.codec(),
            {"texts": len(corpus.seen), "unlabelled_texts": len(corpus.unlabelled), "baselines": corpus.to_beat},
            keep,
        )  # fmt: skip

    def _pretrains(self, corpus: Corpus) -> bool:
        if self.pretrain is not None:
            return self.pretrain
        return bool(corpus.unlabelled) or sum(map(len, corpus.training.codes)) >= MUCH

    def _self_trains(self, corpus: Corpus) -> bool:
        return (
            bool(corpus.unlabelled)
            if self.self_training is None
            else self.self_training and bool(corpus.unlabelled)
        )

    # Use

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """The labels, sorted (C,)."""
        return np.array(self._classes)

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Calibrated probabilities (N, C) of texts X (N,), in the order of classes_; of several labels, each by itself.

        An empty text is read as one unknown word. Raises ElmanError for what are no texts.
        """
        return probabilities(self._logits(self.encode(_texts(X))), self._several)

    def predict(self, X: Any) -> Any:
        """The likeliest label of each of texts X (N,); where there may be several, a tuple of those above one half."""
        found = self.predict_proba(X)
        if not self._several:
            return self.classes_[found.argmax(1)]
        return [
            tuple(name for name, p in zip(self._classes, row, strict=True) if p > THRESHOLD) for row in found
        ]

    def score(self, X: Any, y: Any) -> float:
        """The share of texts X whose label is that in y; where there may be several, whose labels are just those."""
        predicted = self.predict(X)
        if len(predicted) != len(y):
            raise ElmanError(
                f"there are {len(predicted):,} texts and {len(y):,} labels: give one label for each text."
            )
        if self._several:
            return float(np.mean([set(a) == set(b) for a, b in zip(predicted, y, strict=True)]))
        truth = np.asarray(y)
        if truth.ndim != 1:
            raise ElmanError(
                "the classifier gives each text one label: y must be a list of labels, not of lists."
            )
        return float(np.mean(predicted == truth))

    def trajectory(self, text: str) -> Trajectory:
        """The probabilities after each word of a text: of the text that ends there, as the classifier sees it.

        Of a text of more than about 1,200 words, after some of the words, evenly spaced; 16 points at least.
        """
        if not isinstance(text, str):
            raise ElmanError(f"trajectory takes one text, not {type(text).__name__}.")
        text = clean(text)
        words = self._words
        pieces = tuple((start, end) for _, start, end in words.pieces(text))
        codes = words.encode_all([text])[0]
        ends = np.array([0, *(i + 1 for i, (start, end) in enumerate(pieces) if end > start)])
        ends[-1] = len(codes)  # what a last piece leaves behind counts for it
        count = max(_POINTS, 2 * _WORDS // max(1, len(codes)))
        if len(ends) > count:
            ends = ends[np.linspace(0, len(ends) - 1, count).round().astype(int)]
        found = probabilities(self._logits(filled([codes[:end] for end in ends])), self._several)
        return Trajectory(text, self._classes, pieces, ends, found, self._several)

    def evaluate(
        self, X: Any, y: Any = None, *, text: str = "text", label: str = "label", separator: str | None = None
    ) -> Evaluation:
        """Accuracy, F1, log loss, calibration and the most confident mistakes on labelled texts, beside the baselines.

        Takes what `fit` takes. Raises ElmanError for a label that is not among the classes, for several labels a text
        where the classifier gives one, and what reading raises.
        """
        classes = self._classes
        data = (
            read_labelled(X, text, label, separator, classes=classes)
            if y is None
            else from_lists(X, y, classes=classes)
        )
        truth = class_numbers(self._fitting(data), classes, self._several)
        texts = list(map(clean, data.texts))
        codes = filled(self._words.encode_all(texts))
        rules = self._rules.logits(codes) if self._rules else {}
        logits = {"elman": self._logits(codes, rules.get(TF_IDF))} | rules
        seen = int(np.isin(fingerprints(texts), self.file.tensors["seen"]).sum())
        return evaluation(logits, truth, data.texts, data.places, classes, self._several, seen, data.notes)

    def _fitting(self, data: Labelled) -> Sequence[Any]:
        """The labels, in tuples where there may be several. Raises ElmanError for a text that has not just one, where
        there may not."""
        if data.several == self._several:
            return data.labels
        if self._several:
            return [(one,) for one in data.labels]
        for i, group in enumerate(data.labels):
            if len(group) != 1:
                raise ElmanError(
                    f"{data.places(i)} has {counted(len(group), 'label')}, and the model gives each text one: leave "
                    "such rows out, or train a model on several labels a text."
                )
        return [one for (one,) in data.labels]

    # scikit-learn's protocol

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name."""
        return {name: getattr(self, name) for name in _PARAMETERS}

    def set_params(self, **params: Any) -> Self:
        """Sets parameters. Raises ElmanError for names that are none."""
        for name, value in params.items():
            if name not in _PARAMETERS:
                raise ElmanError(
                    f"TextClassifier has no parameter {name!r}: it has {', '.join(_PARAMETERS)}."
                )
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        utils = import_module("sklearn.utils")
        return utils.Tags(
            estimator_type="classifier",
            target_tags=utils.TargetTags(required=True),
            classifier_tags=utils.ClassifierTags(),
            input_tags=utils.InputTags(string=True, two_d_array=False),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return self._file is not None

    # Files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file, whole or not at all. Raises ElmanError when it cannot be written."""
        checkpoint.save_file(path, self.file)

    @classmethod
    def from_file(cls, file: ModelFile) -> Self:
        """The classifier in a model file. Needs no PyTorch."""
        kept = {name: file.model[name] for name in _PARAMETERS if name in file.model}
        made = cls(**kept)
        made._take(file)
        return made

    @property
    def info(self) -> dict[str, Any]:
        """What the model is and how it was trained, JSON-able."""
        file = self.file
        weights = [
            tensor.size
            for name, tensor in file.tensors.items()
            if not name.startswith("baseline.") and name != "seen"
        ]
        about = {"job": file.job, "elman": file.written_by, **file.model, "parameters": int(sum(weights))}
        return {**about, "labels": list(self._classes), "training": file.training}

    def _take(self, file: ModelFile) -> None:
        self._file = file
        self._classes, self._several = tuple(file.codec["classes"]), file.model["several"]
        for made in ("_words", "_network", "_rules"):
            self.__dict__.pop(made, None)

    @property
    def file(self) -> ModelFile:
        """The trained model as it is saved. Raises ElmanError before there is one."""
        if self._file is None:
            raise ElmanError("there is no model yet: call fit first, or elman.load a model file.")
        return self._file

    @cached_property
    def _words(self) -> Words:
        return Words.from_config(self.file.codec["words"])

    @cached_property
    def _network(self) -> ClassNetwork:
        file = self.file
        return ClassNetwork(file.model, file.tensors)

    @cached_property
    def _rules(self) -> Baselines | None:
        return Baselines.from_tensors(self.file.tensors, self._several)

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        """Codes of the words of each text; of one without any, that of an unknown word."""
        return filled(self._words.encode_all(list(map(clean, texts))))

    def _logits(
        self, codes: Sequence[npt.NDArray[np.int32]], ngrams: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float64]:
        """Calibrated logits (N, C): the network's, and where the model has n-grams, theirs, known or not."""
        tensors = self.file.tensors
        scales = tensors["scales"].astype(np.float64)
        found: npt.NDArray[np.float64] = scales[0] * self._network(codes)
        if len(scales) > 1:
            if ngrams is None:
                assert self._rules is not None
                ngrams = self._rules.logits(codes)[TF_IDF]
            found = found + scales[1] * ngrams
        return found


_PARAMETERS = tuple(name for name in inspect.signature(TextClassifier.__init__).parameters if name != "self")


def _texts(X: Any) -> list[str]:
    """A list, an array or a column of texts. Raises ElmanError for anything else."""
    texts = listed(X, "texts")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ElmanError(f"row {i} is {text!r}, not text: leave it out, or write it as text.")
    return texts


def _introduction(corpus: Corpus, config: ClassConfig) -> str:
    beat = ", ".join(f"{name} {figures['accuracy']:.1%}" for name, figures in corpus.to_beat.items())
    ways = ", both ways" if config.bidirectional else ""
    layers = f"{config.num_layers} × " if config.num_layers > 1 else ""
    return (
        f"{corpus.words.size:,} {'words' if corpus.words.kind == 'words' else 'pieces of words'}; {len(corpus.held):,} "
        f"texts validate. To beat there, in accuracy: {beat}\n"
        f"Training {layers}{config.cell} of {config.hidden_size} units{ways}"
    )
