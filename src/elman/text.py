"""The text job: learn characters from a text, write more of it, say how well other text is predicted.

Codec, model, loss and measure of one job behind `fit`, `generate` and `evaluate`. Needs PyTorch in `fit`
alone.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from elman import checkpoint, stream
from elman.baseline import Baseline
from elman.checkpoint import ModelFile
from elman.codec import Characters
from elman.corpus import Corpus
from elman.data import MINIMUM, ElmanError, TextFile, open_text
from elman.progress import Report
from elman.runs import carry_out, check_budget
from elman.schedule import Settings
from elman.sizes import Sizes, check_sizes, sensible_sizes

if TYPE_CHECKING:
    from elman.text_fit import TextRun

Source = str | os.PathLike[str] | TextFile


class TextGenerator:
    """A character-level model of text. What is None is chosen from the text and the budget.

    cell "lstm", "gru" or "rnn"; hidden_size, num_layers, embedding_size: its sizes; dropout from 0 to below
    1; batch_size streams are read chunk_length characters at a step; seed: training repeats exactly for the
    same. averaging: decay of the moving average of weights, 0 for none. Raises ElmanError for values that
    make no sense.
    """

    def __init__(
        self,
        cell: str = "lstm",
        hidden_size: int | None = None,
        num_layers: int | None = None,
        embedding_size: int | None = None,
        dropout: float | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        chunk_length: int | None = None,
        seed: int = 0,
        tied: bool = False,
        averaging: float | None = None,
    ) -> None:
        self._chosen = {
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "embedding_size": embedding_size,
            "dropout": dropout,
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "chunk_length": chunk_length,
        }
        check_sizes(cell, seed=seed, averaging=averaging, **self._chosen)
        self.cell, self.seed, self.tied, self.averaging = cell, seed, tied, averaging
        self._file: ModelFile | None = None
        self._codec: Characters | None = None
        self._networks: dict[bool, Any] = {}

    # Training

    def fit(
        self,
        source: Source,
        *,
        minutes: float | None = None,
        epochs: float | None = None,
        output: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: bool = True,
        log: Literal["csv", "tensorboard"] | None = None,
    ) -> Self:
        """Learn from a text file, or from text itself, for so many minutes (3 if no budget is given) or
        epochs.

        The first 90 % of the text train the model, the last 10 % choose its best weights. With `output` the
        best model is saved there whenever it improves, a killed run can be continued with resume=True, and
        `log` writes curves beside it, in `output`.log. `progress` shows what happens on stderr. Ctrl-C stops
        early and keeps the best model.

        Raises ElmanError for text that cannot be used, an output that cannot be written, a run that cannot be
        resumed, PyTorch missing, or a loss that becomes NaN (the best model is kept); OSError for the file.
        """
        minutes = check_budget(minutes, epochs, output, resume)
        if output is not None:
            checkpoint.check_writable(output)
        report = Report(progress)
        corpus = self.training_data(source, report)
        report.line(_introduction(corpus, self.sizes(corpus, minutes, epochs), self.cell))

        def keep(file: ModelFile) -> None:
            self._file, self._codec, self._networks = file, None, {}
            if output is not None:
                self.save(output)

        run = self.training_run(corpus, minutes, epochs, keep)
        carry_out(run, report, output, resume, log, " nats per character")
        return self

    def training_data(self, source: Source, report: Report) -> Corpus:
        """What `fit` reads, ready to train on. Raises what that raises of a text."""
        text = open_text(source)
        text.require(MINIMUM)
        report.line(f"Reading {text.name} ({text.size:,} bytes)")
        return Corpus.read(text)

    def sizes(self, corpus: Corpus, minutes: float | None, epochs: float | None) -> Sizes:
        """Those given, and for the others what suits the text and the budget."""
        return sensible_sizes(corpus.border, corpus.codec.size, minutes, epochs).override(**self._chosen)

    def training_run(
        self,
        corpus: Corpus,
        minutes: float | None,
        epochs: float | None,
        keep: Callable[[ModelFile], None] | None,
        cell: str | None = None,
    ) -> "TextRun":
        """What `fit` carries out. cell: in place of this generator's own; one that cannot be saved, too."""
        from elman.text_fit import TextRun

        sizes = self.sizes(corpus, minutes, epochs)
        settings = Settings(sizes.learning_rate, minutes, epochs)
        if self.averaging is not None:
            settings = replace(settings, averaging=self.averaging)
        return TextRun(corpus, cell or self.cell, sizes, self.tied, settings, self.seed, keep)

    def get_params(self) -> dict[str, Any]:
        """The arguments it was made with, by name."""
        own = {name: getattr(self, name) for name in ("cell", "seed", "tied", "averaging")}
        return own | self._chosen

    # Use

    def generate(
        self,
        prompt: str = "",
        length: int = 500,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        greedy: bool = False,
        on_unknown: Literal["error", "replace"] = "error",
    ) -> str:
        """Up to `length` characters that follow `prompt`, as `stream` writes them."""
        how: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "greedy": greedy}
        return "".join(self.stream(prompt, length, **how, stop=stop, seed=seed, on_unknown=on_unknown))

    def stream(
        self,
        prompt: str = "",
        length: int = 500,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        greedy: bool = False,
        on_unknown: Literal["error", "replace"] = "error",
    ) -> Iterator[str]:
        """The characters that follow `prompt`, in pieces as they are written; the prompt is not among them.

        Each is drawn at `temperature` from the `top_k` likeliest and the fewest that reach `top_p`; `greedy`
        takes the likeliest. Ends after `length`, or before a `stop` string. The same seed writes the same.
        Raises ElmanError for values that make no sense, and for characters of the prompt that the model has
        never seen; on_unknown="replace" reads them as the unknown symbol.
        """
        sampling = stream.Sampling(temperature, top_k, top_p, greedy)
        network = self._network(writes=True)
        return stream.generate(
            network, self._fitted_codec(), prompt, length, sampling, seed, stop, on_unknown
        )

    def evaluate(self, source: Source) -> dict[str, Any]:
        """How well the model predicts a text file, or text itself: the whole of it, the state carried along.

        Returns nats_per_char, bits_per_char, perplexity, characters (predicted), unknown (how many of the
        text are outside the alphabet) and baselines, in nats per character. Raises what reading the text
        raises.
        """
        codes = self._fitted_codec().encode_file(open_text(source))
        total, count = stream.score(self._network(writes=False), codes)
        nats = total / count
        baseline = Baseline.from_tensors(self.file.tensors)
        return {
            "nats_per_char": nats,
            "bits_per_char": nats / math.log(2),
            "perplexity": math.exp(nats),
            "characters": count,
            "unknown": len(codes) - int(np.count_nonzero(codes)),  # UNKNOWN is 0
            "baselines": {} if baseline is None else baseline.nats(codes),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file, whole or not at all. Raises ElmanError when it cannot be written."""
        checkpoint.save_file(path, self.file)

    @classmethod
    def from_file(cls, file: ModelFile) -> Self:
        """The text generator in a model file. Needs no PyTorch."""
        model = file.model
        made = cls(model["cell"], model["hidden_size"], model["num_layers"], model["embedding_size"])
        made._file = file
        return made

    @property
    def info(self) -> dict[str, Any]:
        """What the model is and how it was trained, JSON-able."""
        file = self.file
        weights = [tensor.size for name, tensor in file.tensors.items() if not name.startswith("baseline.")]
        about = {"job": file.job, "elman": file.written_by, **file.model, "parameters": int(sum(weights))}
        return {**about, "training": file.training}

    @property
    def file(self) -> ModelFile:
        """The trained model as it is saved. Raises ElmanError before there is one."""
        if self._file is None:
            raise ElmanError("there is no model yet: call fit first, or elman.load a model file.")
        return self._file

    def _fitted_codec(self) -> Characters:
        if self._codec is None:
            self._codec = Characters.from_config(self.file.codec)
        return self._codec

    def _network(self, writes: bool) -> Any:
        """The native network, for writing or for scoring; made once."""
        file = self.file
        if writes not in self._networks:
            self._networks[writes] = stream.build_network(file.model, file.tensors, writes_unknown=not writes)
        return self._networks[writes]


def _introduction(corpus: Corpus, sizes: Sizes, cell: str) -> str:
    beat = ", ".join(f"{name} {nats:.3f}" for name, nats in corpus.to_beat.items())
    layers = f"{sizes.num_layers} × " if sizes.num_layers > 1 else ""
    return (
        f"{len(corpus.codes):,} characters, {len(corpus.codec.symbols):,} different; the last "
        f"{len(corpus.codes) - corpus.border:,} validate. To beat, in nats per character: {beat}\n"
        f"Training {layers}{cell} of {sizes.hidden_size} units"
    )
