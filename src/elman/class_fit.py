"""The part of the classification job that needs PyTorch: what is trained on codes, and how that is measured.

Two runs of one shape: the language of texts, without labels, and their classes. Knows codes and a model; the texts they
came from and the file they go to are `classify`'s.
"""

import math
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman import __version__
from elman.checkpoint import ModelFile, load
from elman.class_config import ClassConfig
from elman.class_data import AT_ONCE, Coded, Codes, TextBatches, borders, padded
from elman.class_measures import fit_scales
from elman.class_model import ClassModel, LanguageModel, for_classifier
from elman.class_network import ClassNetwork
from elman.data import Batches
from elman.schedule import Settings
from elman.sizes import CELLS
from elman.training import Job, Result, SeededRun

Tensors = Mapping[str, npt.NDArray[Any]]
Found = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]  # logits (n, C), of which texts (n,)

_MEASURED_AT_ONCE = 64  # texts, at most
_STREAMS, _CHUNK = 64, 64  # of the language model: texts read side by side, words between two updates
_MEASURED = 5_000  # words that tell how well the language is known: exactly, which is dear
_LEAST = 600  # texts that tell which weights are best
_BETWEEN = np.zeros(1, np.int32)  # between two texts


@dataclass(frozen=True)
class ClassRun(SeededRun):
    """One run that learns classes.

    initial: tensors to begin with, by the model's names. weights (C,): of the classes in the loss. beside (n, C):
    logits of another classifier on the held part, to be added to. tensors: what else the model file holds.
    """

    training: Coded
    held: Coded
    config: ClassConfig
    batch_size: int
    smoothing: float
    weights: npt.NDArray[np.float64] | None
    beside: npt.NDArray[Any] | None
    settings: Settings
    seed: int
    initial: Tensors
    tensors: Tensors
    codec: dict[str, Any]
    about: dict[str, Any]
    keep: Callable[[ModelFile], None] | None

    def describe(self) -> dict[str, Any]:
        """What a run must share with another to continue it."""
        about: dict[str, Any] = {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "label smoothing": self.smoothing,
        }
        about |= {"class weights": None if self.weights is None else self.weights.tolist()}
        about |= {"checksum of the texts": self.training.checksum(), "begins with": _checksum(self.initial)}
        return about | self.settings.as_dict() | asdict(self.config)

    @cached_property
    def _measure(self) -> "ClassMeasure":
        return ClassMeasure(self.held, self.config.several)

    def _job(self) -> Job:
        model = ClassModel(self.config)
        _begin_with(model, self.initial)
        batches = TextBatches(self.training, self.batch_size, self.seed)
        loss = loss_of(self.config, self.smoothing, self.weights)
        return Job(model, loss, batches, self._measure, len(self.held), least=_LEAST, count=len)

    def model_file(self, result: Result) -> ModelFile:
        logits, rows = self._measure.found(result.validation) or self._judged(result)
        parts = [logits] if self.beside is None else [logits, self.beside[rows]]
        scales = fit_scales(parts, self.held.classes[rows], self.config.several)
        tensors = dict(result.weights) | dict(self.tensors) | {"scales": scales.astype(np.float32)}
        training = result.figures(self.settings) | {"validation_texts": result.validation_items} | self.about
        return ModelFile("labels", tensors, asdict(self.config), self.codec, training, __version__)

    def _judged(self, result: Result) -> Found:
        """Of weights that were measured too long ago: those kept when Ctrl-C came, or before a run was resumed."""
        codes = self.held.codes[: result.validation_items]
        return ClassNetwork(asdict(self.config), result.weights)(codes), np.arange(len(codes))


def loss_of(
    config: ClassConfig, smoothing: float, weights: npt.NDArray[np.float64] | None
) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean -log p of the targets, with label smoothing (Szegedy et al. 2016) and weights of classes (C,)."""
    scale = None if weights is None else torch.from_numpy(weights).float()

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        own = None if scale is None else scale.to(logits.device)
        if config.several:
            wanted = targets.to(logits.dtype) * (1 - smoothing) + smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=own)
        return F.cross_entropy(logits, targets, own, label_smoothing=smoothing)

    return loss


class ClassMeasure:
    """The -log p of the texts that measure, as `validation.Measure` has it. Remembers the logits of the last two times
    that were not broken off: of the weights and of their average."""

    def __init__(self, held: Coded, several: bool) -> None:
        self.held, self.several = held, several
        self._last: deque[tuple[float, Found]] = deque(maxlen=2)

    def __call__(self, model: nn.Module, items: int | None) -> Iterator[tuple[float, int]]:
        assert isinstance(model, ClassModel)
        lengths = np.array([len(codes) for codes in self.held.codes[:items]])
        rows = np.argsort(lengths, kind="stable")
        found: list[npt.NDArray[np.float32]] = []
        total, left = 0.0, len(rows)
        for some in np.split(rows, borders(lengths[rows], _MEASURED_AT_ONCE)):
            logits = _logits(model, [self.held.codes[i] for i in some])
            loss = float(nats(logits, torch.from_numpy(self.held.classes[some]), self.several).sum())
            found.append(logits.numpy())
            total, left = total + loss, left - len(some)
            if not left:
                self._last.append((total / len(rows), (np.concatenate(found), rows)))
            yield loss, len(some)

    def found(self, loss: float) -> Found | None:
        """Of the time whose mean loss that was; None where it is forgotten."""
        return next((found for mean, found in self._last if mean == loss), None)


def _logits(model: ClassModel, codes: Sequence[Codes]) -> Tensor:
    """Logits (B, C) of texts. A text that is longer than a batch may be is read in parts."""
    if len(codes[0]) > AT_ONCE and model.config.cell in CELLS:
        tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        return torch.from_numpy(ClassNetwork(asdict(model.config), tensors)(codes))
    logits: Tensor = model(torch.from_numpy(padded(codes)))[0]
    return logits


def nats(logits: Tensor, targets: Tensor, several: bool) -> Tensor:
    """The -log p of each text (B,); of several labels, the mean over classes."""
    if several:
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none").mean(1)
    return F.cross_entropy(logits, targets, reduction="none")


class Chunk(NamedTuple):
    """One step of the language model: both (D, T, B), the second way backwards; targets follow inputs."""

    inputs: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    first: bool


class LanguageBatches:
    """Streams over all texts, one after the other, and over the same in reverse where both ways are read."""

    def __init__(self, codes: Codes, ways: int, seed: int) -> None:
        streams = max(1, min(_STREAMS, len(codes) // (4 * _CHUNK)))
        self.ways = [Batches(line, streams, _CHUNK, seed) for line in (codes, codes[::-1])[:ways]]
        self.steps_per_epoch = self.ways[0].steps_per_epoch

    def iterate(self, start: int = 0) -> Iterator[Chunk]:
        """Batches from global step `start` on."""
        for batches in zip(*(way.iterate(start) for way in self.ways), strict=True):
            inputs, targets = (
                np.stack(rows) for rows in zip(*((b.inputs, b.targets) for b in batches), strict=True)
            )
            yield Chunk(inputs, targets, batches[0].first)


@dataclass(frozen=True)
class LanguageRun(SeededRun):
    """One run that learns the language of texts, for a classifier of `config` to begin with.

    initial: tensors to begin with, by the classifier's names. `keep` is given its tensors whenever they are better.
    """

    texts: Sequence[Codes]
    config: ClassConfig
    settings: Settings
    seed: int
    initial: Tensors
    keep: Callable[[ModelFile], None] | None

    def describe(self) -> dict[str, Any]:
        """What a run must share with another to continue it."""
        return dict(self._about)

    @cached_property
    def _about(self) -> dict[str, Any]:
        checksum = 0
        for text in self.texts:
            checksum = zlib.crc32(text.tobytes(), checksum)
        about: dict[str, Any] = {"seed": self.seed, "checksum of the texts": f"{checksum:08x}"}
        about |= {"begins with": _checksum(self.initial)}
        return about | self.settings.as_dict() | asdict(self.config)

    def _job(self) -> Job:
        order = np.random.default_rng(self.seed).permutation(len(self.texts))
        line = np.concatenate([part for i in order for part in (self.texts[i], _BETWEEN)])
        held = min(_MEASURED, len(line) // 20)
        training, measuring = line[:-held], line[-held:]
        counts = torch.from_numpy(np.bincount(training, minlength=self.config.vocabulary)).float()
        model = LanguageModel(self.config, counts)
        _begin_with(model, self.initial)
        ways = len(model.directions)
        measure = LanguageMeasure(measuring, ways)
        return Job(model, model.loss, LanguageBatches(training, ways, self.seed), measure, measure.items)

    def model_file(self, result: Result) -> ModelFile:
        about = result.figures(self.settings) | {
            "validation_items": result.validation_items,
            "run": self._about,
        }
        tensors = for_classifier(result.weights)
        return ModelFile("language", tensors, asdict(self.config), {}, about, __version__)


def finished(path: Path, run: Mapping[str, Any]) -> ModelFile | None:
    """What the run that describes itself so left at `path` when it was over; None where there is no such thing."""
    if not path.exists():
        return None
    file = load(path)
    same = file.training.get("run") == run and file.training["stopped"] == "finished"
    return file if same else None


class LanguageMeasure:
    """The exact -log p of words that were not trained on, both ways, as `validation.Measure` has it."""

    def __init__(self, codes: Codes, ways: int) -> None:
        streams = max(1, min(16, (len(codes) - 1) // _CHUNK))
        length = (len(codes) - 1) // streams
        columns = [codes[i * length : (i + 1) * length + 1] for i in range(streams)]
        both = np.stack(columns, axis=1).astype(np.int64)  # (length + 1, streams)
        self.rows = torch.from_numpy(np.stack((both, both[::-1])[:ways]))
        self.items = ways * length * streams

    def __call__(self, model: nn.Module, items: int | None) -> Iterator[tuple[float, int]]:
        assert isinstance(model, LanguageModel)
        rows, state = self.rows.to(model.bias.device), None
        ways, length, streams = rows.shape
        steps = length - 1 if items is None else min(length - 1, math.ceil(items / (ways * streams)))
        for at in range(0, steps, _CHUNK):
            end = min(at + _CHUNK, steps)
            outputs, state = model(rows[:, at:end], state)
            found = model.nats(outputs, rows[:, at + 1 : end + 1])
            yield float(found.sum()), found.numel()


@torch.no_grad()
def _begin_with(model: nn.Module, initial: Tensors) -> None:
    parameters = dict(model.named_parameters())
    for name, value in initial.items():
        parameters[name].copy_(torch.from_numpy(value))


def _checksum(tensors: Tensors) -> str:
    found = 0
    for name in sorted(tensors):
        found = zlib.crc32(np.ascontiguousarray(tensors[name]).tobytes(), found)
    return f"{found:08x}"
