"""The models of the three jobs as `Subject`s, on an input as users give it.

Letters as in `subject`; V symbols, C classes, S segments of a window of a series.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman import features
from elman.checkpoint import ModelFile
from elman.class_config import ClassConfig
from elman.class_model import ClassModel
from elman.classify import TextClassifier
from elman.codec import Characters
from elman.data import ElmanError
from elman.model import Model, ModelConfig
from elman.report import Floats, Guesses, Traced
from elman.series import Forecaster
from elman.series_fit import cut, loss_of
from elman.series_model import SeriesConfig, SeriesModel, put_out, segments
from elman.series_network import doubt_after
from elman.subject import Ints, Kind, Question, Room, Windowed, longest_of, run_traced, spread, top
from elman.text import TextGenerator
from elman.windows import Shape, bases, least_length, scaled, unpacked

_QUESTION = 256  # steps before a prediction that attribution looks at
_WORDS = 2_000  # and of a text that is classified
_TOLD = 0.01  # share of a simple rule in a forecast that is worth a note
_WINDOWS = 400  # of a series, whose units are looked at
_FEWEST = 2  # steps


def _loaded(network: nn.Module, file: ModelFile) -> Any:
    own = network.state_dict()
    network.load_state_dict({name: torch.from_numpy(file.tensors[name].copy()) for name in own})
    return network.eval()


def _facts(info: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, str]:
    found = {name.replace("_", " "): f"{info[name]:,}" if type(info[name]) is int else str(info[name])
             for name in names if name in info}  # fmt: skip
    loss = info["training"].get("validation_loss")
    return found | ({} if loss is None else {"validation loss": f"{loss:.4g}"})


class TextSubject:
    """A text generator on a text. Raises ElmanError for a text that is too short or has unknown characters."""

    kind: Kind = "text"
    step, unit = "character", "nats"
    notes: tuple[str, ...] = ()

    def __init__(self, generator: TextGenerator, text: str, replace_unknown: bool = False) -> None:
        codec = Characters.from_config(generator.file.codec)
        if len(text) < _FEWEST:
            raise ElmanError("there is no text to explain the model on: give some sentences of it.")
        if (unknown := codec.unknown(text)) and not replace_unknown:
            raise ElmanError(
                f"the model has never seen {unknown[:20]!r}: leave these characters out, or read them as the unknown "
                "symbol (--replace-unknown; replace_unknown=True)."
            )
        self.model: Model = _loaded(Model(ModelConfig(**generator.file.model)), generator.file)
        Room.of(self.recurrent).check(len(text), self.step)
        self.text, self.codec, self.steps = text, codec, tuple(text)
        self.title = f"{len(text):,} characters through a model of text"
        names = ("cell", "hidden_size", "num_layers", "embedding_size", "vocabulary", "parameters")
        self.facts = _facts(generator.info, names)
        self.codes = torch.from_numpy(codec.encode(text).astype(np.int64))

    @property
    def recurrent(self) -> list[tuple[str, nn.Module]]:
        return [("", self.model.layers)]

    @cached_property
    def _run(self) -> tuple[Tensor, list[Traced]]:
        """log p after each character (T, V), and the trace."""
        y, _, trace = run_traced("", self.model.layers, self._embedded(self.codes[:, None]))
        with torch.no_grad():
            return F.log_softmax(self.model.logits(y[:, 0]), dim=1), trace

    @torch.no_grad()
    def _embedded(self, codes: Tensor) -> Tensor:
        found: Tensor = self.model.embedding(codes)
        return found

    def trace(self) -> list[Traced]:
        return self._run[1]

    def guesses(self) -> tuple[Guesses, ...]:
        return top(self._run[0].exp(), self._symbol)

    def _symbol(self, code: int) -> str:
        return self.codec.decode(np.array([code]))

    def step_losses(self) -> Floats | None:
        found = np.full(len(self.codes), np.nan)
        found[:-1] = -self._run[0][:-1].gather(1, self.codes[1:, None])[:, 0].numpy()
        return found

    def units(self) -> tuple[list[Traced], Mapping[str, Floats]]:
        return self.trace(), features.of_characters(self.text)

    def ends(self) -> Ints:
        return np.arange(len(self.codes) - 1)

    def places(self, ends: Ints) -> Ints:
        return ends

    def longest(self) -> int:
        return longest_of(len(self.codes) - 1)

    def windowed(self, ends: Ints, length: int) -> Windowed:
        places = torch.from_numpy(ends)[None] - torch.arange(length - 1, -1, -1)[:, None]
        entered = self._embedded(self.codes[places]).requires_grad_(torch.is_grad_enabled())
        losses = F.cross_entropy(
            self._last(entered), self.codes[torch.from_numpy(ends) + 1], reduction="none"
        )
        return Windowed(losses, entered)

    def _last(self, entered: Tensor) -> Tensor:
        y, _ = self.model.layers(entered)
        return self.model.logits(y[-1])

    def question(self) -> Question | None:
        first = max(0, len(self.codes) - _QUESTION)
        self._asked = int(self._run[0][-1].argmax())
        name = f"{self._symbol(self._asked)!r} as the next character"
        return Question(name, self._embedded(self.codes[first:, None]), first, "nats")

    def answer(self, entered: Tensor) -> Tensor:
        """log p of the character in question."""
        return F.log_softmax(self._last(entered), dim=1)[:, self._asked]


class LabelsSubject:
    """A text classifier on one text. Raises ElmanError for one without words."""

    kind: Kind = "labels"
    step, unit = "word", "nats"

    def __init__(self, classifier: TextClassifier, text: str) -> None:
        file = classifier.file
        self.trajectory = classifier.trajectory(text)
        opinion = self.trajectory
        count = int(opinion.read[-1])
        if not opinion.pieces or count < _FEWEST:
            raise ElmanError("there are no words to explain the model on: give a text of some sentences.")
        self.model: ClassModel = _loaded(ClassModel(ClassConfig(**file.model)), file)
        Room.of(self.recurrent).check(count, self.step)
        self.codes = torch.from_numpy(classifier.encode([opinion.text])[0].astype(np.int64))
        shown = [opinion.text[start:end] for start, end in opinion.pieces]
        self.steps = tuple((shown + [""] * count)[:count])
        self.scale = float(file.tensors["scales"][0])  # of calibration
        self.several, self.asked = file.model["several"], opinion.classes.index(self._label(opinion))
        self.title = f"A text of {count:,} words: {self._label(opinion)}"
        names = (
            "cell",
            "hidden_size",
            "num_layers",
            "embedding_size",
            "pooling",
            "bidirectional",
            "parameters",
        )
        self.facts = _facts(classifier.info, names)
        self.notes: tuple[str, ...] = (
            ("the network alone is explained, without its n-grams",)
            if len(file.tensors["scales"]) > 1
            else ()
        )
        if count > _WORDS:
            self.notes += (f"attribution is of the last {_WORDS:,} words: those before stay as they are",)

    def _label(self, opinion: Any) -> Any:
        return opinion.classes[int(opinion.final.argmax())]

    @property
    def recurrent(self) -> list[tuple[str, nn.Module]]:
        return [("", self.model.layers)]

    @torch.no_grad()
    def _embedded(self, codes: Tensor) -> Tensor:
        found: Tensor = self.model.embedding(codes)
        return found

    @cached_property
    def _trace(self) -> list[Traced]:
        return run_traced("", self.model.layers, self._embedded(self.codes[:, None]))[2]

    def trace(self) -> list[Traced]:
        return self._trace

    @cached_property
    def _points(self) -> Ints:
        """After each word the point of the trajectory that has read it, or the last before it."""
        read = self.trajectory.read
        return np.maximum(0, np.searchsorted(read, np.arange(1, len(self.steps) + 1), side="right") - 1)

    def guesses(self) -> tuple[Guesses, ...]:
        p = torch.from_numpy(np.asarray(self.trajectory.probabilities, np.float64))[self._points]
        return top(p, lambda code: str(self.trajectory.classes[code]))

    def step_losses(self) -> Floats | None:
        return None

    def units(self) -> tuple[list[Traced], Mapping[str, Floats]]:
        p = self.trajectory.probabilities[self._points, self.asked].astype(np.float64).clip(1e-6, 1 - 1e-6)
        return self.trace(), features.of_words(self.steps, np.log(p / (1 - p)))

    def ends(self) -> Ints:
        return np.arange(len(self.codes))

    def places(self, ends: Ints) -> Ints:
        return ends

    def longest(self) -> int:
        return longest_of(len(self.codes))

    def windowed(self, ends: Ints, length: int) -> Windowed:
        """The loss is -log p of the label that the whole text is given."""
        places = torch.from_numpy(ends)[None] - torch.arange(length - 1, -1, -1)[:, None]
        entered = self._embedded(self.codes[places]).requires_grad_(torch.is_grad_enabled())
        return Windowed(-self._log_p(entered), entered)

    def _logits(self, entered: Tensor) -> Tensor:
        """Calibrated (N, C)."""
        return self.scale * self.model.logits(entered, torch.full((entered.shape[1],), len(entered)))

    def _log_p(self, entered: Tensor) -> Tensor:
        logits = self._logits(entered)
        return (F.logsigmoid(logits) if self.several else F.log_softmax(logits, dim=1))[:, self.asked]

    def question(self) -> Question | None:
        name = str(self.trajectory.classes[self.asked])
        return Question(name, self._embedded(self.codes[:, None]), 0, "log-odds", _WORDS)

    def answer(self, entered: Tensor) -> Tensor:
        """The log-odds of the label."""
        logits = self._logits(entered)
        own = logits[:, self.asked]
        if self.several:
            return own
        others = torch.arange(logits.shape[1]) != self.asked
        return own - logits[:, others].logsumexp(1)


def _labels(times: Any) -> tuple[str, ...]:
    """Times as text, to the minute; to the day where all are midnights."""
    found = [str(t)[:16].replace("T", " ") for t in times]
    return (
        tuple(t.removesuffix(" 00:00") for t in found)
        if all(t.endswith(" 00:00") for t in found)
        else tuple(found)
    )


@dataclass(frozen=True)
class _Window:
    """Some windows of a series as a member of the ensemble reads them."""

    entered: Tensor  # (S, N, E)
    rest: tuple[Tensor, Tensor, Tensor]  # what the decoder takes
    level: Tensor
    scale: Tensor
    targets: Tensor | None


@dataclass
class SeriesSubject:
    """A forecaster on one series of a table: the first, or the one that is named. Steps are segments of the last
    window.

    Raises ElmanError for a table that cannot be used, an unknown series, or one that is too short.
    """

    forecaster: Forecaster
    source: Any
    series: str | None = None
    kind: Kind = field(default="series", init=False)
    step, unit = "segment", "loss"

    def __post_init__(self) -> None:
        file = self.forecaster.file
        data = self.forecaster.read(self.source, self.forecaster.horizon)
        k = data.chosen(None if self.series is None else [self.series])[0]
        self.one, self.shape = data.series[k], Shape.from_dict(file.model["shape"])
        least = least_length(self.shape)
        if len(self.one) < least + self.shape.horizon:
            raise ElmanError(
                f"series {data.names[k]} has {len(self.one)} values: {least + self.shape.horizon} are needed to "
                "explain a forecast and its error. Give a longer one (--series)."
            )
        config = file.model | {"shape": self.shape, "quantiles": tuple(file.model["quantiles"])}
        self.model: SeriesModel = _loaded(SeriesModel(SeriesConfig(**config)), file)
        self.member: Any = self.model.members[0]
        self.times = data.times(k, len(self.one))
        self.steps = _labels(self._starts(np.array([len(self.one)]))[:, 0])
        self.title = (
            f"Series {data.names[k]}: the last {self.shape.input_length} values, from which the next "
        )
        self.title += f"{self.shape.horizon} are forecast"
        names = ("cell", "hidden_size", "horizon", "loss", "members", "frequency", "parameters")
        self.facts = _facts(self.forecaster.info, names) | {"values in a segment": str(self.shape.segment)}
        self.notes = data.notes
        if len(self.model.members) > 1:
            self.notes += (f"the first of the ensemble's {len(self.model.members)} networks is shown",)
        if (doubt := doubt_after(file.model["horizons"])) >= _TOLD:
            self.notes += (
                f"the network alone is explained: forecasts lie {doubt:.0%} nearer to a simple rule, the more so the "
                "less a network has learned from",
            )
        self.loss = loss_of(self.model.config)

    @property
    def recurrent(self) -> list[tuple[str, nn.Module]]:
        return [("encoder, ", self.member.encoder)]

    def _starts(self, ends: Ints) -> Any:
        """(S, N) the time at which each segment begins; of those before the series, its first."""
        count = self.shape.input_length // self.shape.segment
        places = ends[None] - self.shape.input_length + self.shape.segment * np.arange(count)[:, None]
        return self.times[places.clip(0)]

    @torch.no_grad()
    def _window(self, ends: Ints, came: bool) -> _Window:
        shape = self.shape
        if came:
            cut_out = cut((self.one,), [(0, int(end)) for end in ends], shape)
            x, targets = torch.from_numpy(cut_out.inputs), torch.from_numpy(cut_out.targets)
        else:
            from elman.windows import window

            x, targets = torch.from_numpy(np.stack([window(self.one, int(end), shape) for end in ends])), None
        values, past, future, static = unpacked(x, shape)
        z, level, scale = (torch.from_numpy(a) for a in scaled(values.numpy(), shape))
        read, ahead = segments(z[..., None], past, future, shape)
        simple = torch.from_numpy(bases(z.numpy(), shape))
        rest = (ahead, static, simple)
        return _Window(
            self.member.embedded(read, static), rest, level[:, :, None], scale[:, :, None], targets
        )

    def _outputs(self, entered: Tensor, w: _Window) -> Tensor:
        """(1, N, horizon, ·) from what enters the encoder (≤ S, N, E)."""
        raw = self.member.decode(self.member.encoder(entered)[1], *w.rest)
        return put_out(self.model.config.loss, raw[None], w.level, w.scale)

    @cached_property
    def _last(self) -> _Window:
        return self._window(np.array([len(self.one)]), came=False)

    def trace(self) -> list[Traced]:
        return run_traced("encoder, ", self.member.encoder, self._last.entered)[2]

    @torch.no_grad()
    def guesses(self) -> tuple[Guesses, ...]:
        """The forecast when no more than the segments up to each were read."""
        found = []
        for k in range(len(self.steps)):
            middle = self._middle(self._outputs(self._last.entered[: k + 1], self._last))[0]
            found.append((("next value", float(middle[0])), ("mean over the horizon", float(middle.mean()))))
        return tuple(found)

    def _middle(self, outputs: Tensor) -> Tensor:
        """(N, horizon)."""
        config = self.model.config
        if config.loss != "quantile":
            return outputs[0, ..., 0]
        return outputs[0, ..., len(config.quantiles) // 2]

    def step_losses(self) -> Floats | None:
        return None

    def units(self) -> tuple[list[Traced], Mapping[str, Floats]]:
        """Over windows all through the series, (S * N,)."""
        ends = self.ends()
        some = ends[spread(len(ends), _WINDOWS)]
        w = self._window(some, came=False)
        trace = run_traced("encoder, ", self.member.encoder, w.entered)[2]
        values = unpacked(
            torch.from_numpy(cut((self.one,), [(0, int(e)) for e in some], self.shape).inputs), self.shape
        )[0]
        z = scaled(values.numpy(), self.shape)[0].reshape(len(some), len(self.steps), -1).transpose(1, 0, 2)
        level = z.mean(axis=2)
        about = {
            "level of the segment": level,
            "rise since the segment before": np.diff(level, axis=0, prepend=level[:1]),
            "spread within the segment": z.std(axis=2),
            "position in the window": np.repeat(np.arange(len(self.steps))[:, None], len(some), axis=1),
        }
        found = {name: np.asarray(v, np.float64).reshape(-1) for name, v in about.items()}
        return trace, found | features.of_times(self._starts(some).reshape(-1))

    def ends(self) -> Ints:
        return np.arange(least_length(self.shape), len(self.one) - self.shape.horizon + 1)

    def places(self, ends: Ints) -> Ints:
        return np.full(len(ends), len(self.steps) - 1)

    def longest(self) -> int:
        return len(self.steps)

    def windowed(self, ends: Ints, length: int) -> Windowed:
        """The loss is the one that the model was trained for, of each window's horizon."""
        w = self._window(ends, came=True)
        entered = w.entered[-length:].requires_grad_(torch.is_grad_enabled())
        outputs = self._outputs(entered, w)
        assert w.targets is not None
        losses = [self.loss(outputs[:, i : i + 1], w.targets[i : i + 1]) for i in range(len(ends))]
        return Windowed(torch.stack(losses), entered)

    def question(self) -> Question | None:
        return Question("the mean of the forecast", self._last.entered, 0, "the series' unit")

    def answer(self, entered: Tensor) -> Tensor:
        n = entered.shape[1]
        w = self._last
        many = _Window(w.entered, tuple(t.expand(n, *t.shape[1:]) for t in w.rest), w.level, w.scale, None)  # type: ignore[arg-type]
        return self._middle(self._outputs(entered, many)).mean(dim=1)
