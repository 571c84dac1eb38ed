"""The course of a classifier's training within one budget: the language, a teacher, the labels; what of it is wanted.

Each part is a run of its own, that leaves a file beside the model while the rest is not over, so that a killed training
goes on where it was. Knows runs, files and budgets; what the runs learn from is `class_corpus`'s, how `class_fit`'s.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from elman import checkpoint
from elman.checkpoint import ModelFile
from elman.class_config import ClassConfig
from elman.class_corpus import Corpus
from elman.class_data import Codes
from elman.class_network import ClassNetwork
from elman.progress import Report
from elman.runs import carry_out
from elman.schedule import Settings
from elman.teaching import taught

if TYPE_CHECKING:
    from elman.class_fit import ClassRun

Tensors = Mapping[str, npt.NDArray[Any]]
Budget = tuple[float | None, float | None]  # minutes, epochs
Keep = Callable[[ModelFile], None]

LANGUAGE_SHARE = 0.6  # of the minutes, where the language is learned first
LANGUAGE_RATE = 3e-3
# Of the minutes that are left when the language is known: what a teacher has at most, and what its labelling takes.
TEACHER_SHARE, LABELLING_SHARE = 0.3, 0.1
# Epochs at most, where there are minutes and the language is known: a network then begins to memorise soon. A teacher
# that has begun to is too sure of itself.
FINE_TUNING, TEACHING = 3.0, 1.5


@dataclass
class Course:
    """One training.

    language: whether it is learned first. self_training: whether a teacher labels the unlabelled texts. make: the run
    that learns labels, of a corpus, tensors to begin with, a budget, and what keeps its model. take: is given every
    model that is better than those before.
    """

    corpus: Corpus
    config: ClassConfig
    initial: Tensors
    budget: Budget
    language: bool
    self_training: bool
    seed: int
    report: Report
    output: str | os.PathLike[str] | None
    resume: bool
    log: Literal["csv", "tensorboard"] | None
    make: Callable[[Corpus, Tensors, Budget, Keep], "ClassRun"]
    take: Keep

    def run(self) -> None:
        """To the end of the budget. Raises what `runs.carry_out` raises, and KeyboardInterrupt where Ctrl-C comes
        before there is a model."""
        self.kept: ModelFile | None = None
        self.teacher: ModelFile | None = None
        self.alone = not (self.language or self.self_training)
        if self.language:
            self._learn_language()
        if self.self_training and not self._learn_from_teacher():
            return
        if self._learn_labels(self.budget) == "finished":
            for path in (self._beside("language"), self._beside("teacher")):
                if path is not None:
                    path.unlink(missing_ok=True)

    def _beside(self, ending: str) -> Path | None:
        return None if self.output is None else Path(f"{os.fspath(self.output)}.{ending}")

    def _learn_language(self) -> None:
        from elman.class_fit import LanguageRun, finished

        minutes, epochs = self.budget
        share = None if minutes is None else minutes * LANGUAGE_SHARE
        path, found = self._beside("language"), list[ModelFile]()

        def keep(file: ModelFile) -> None:
            found[:] = [file]
            if path is not None:
                checkpoint.save_file(path, file)

        texts = (*self.corpus.training.codes, *self.corpus.unlabelled)
        settings = Settings(LANGUAGE_RATE, share, epochs)
        run = LanguageRun(texts, self.config, settings, self.seed, self.initial, keep)
        known = finished(path, run.describe()) if self.resume and path is not None else None
        if known is None:
            if path is not None:
                checkpoint.check_writable(path)
            self.report.line("Learning the language first")
            words = Report(self.report.on, unit="words")
            carry_out(run, words, path, self.resume, self.log, " nats per word")
            self.resume, known = False, found[0]
        else:
            self.report.line(f"The language is known already, from {path}")
        if known.training["stopped"] == "interrupted":
            again = ": --resume goes on from here" if path is not None else ""
            self.report.line(f"No labels were learned yet{again}.")
            raise KeyboardInterrupt
        self.initial = known.tensors
        if minutes is not None:
            self.budget = minutes * (1 - LANGUAGE_SHARE), FINE_TUNING

    def _learn_from_teacher(self) -> bool:
        """Adds the unlabelled texts, with what a teacher thinks of them. Returns False where Ctrl-C came before."""
        from elman.class_fit import finished

        minutes, epochs = self.budget
        budget = (None, epochs) if minutes is None else (minutes * TEACHER_SHARE, TEACHING)
        run = self._labels_run(budget)
        path, about = self._beside("teacher"), run.describe()
        known = finished(path, about) if self.resume and path is not None else None
        if known is not None:
            self.report.line(f"The teacher is known already, from {path}")
            if not self._begun():
                self.take(known)
        elif self._learn_labels(budget) != "finished":
            return False
        teacher = self.kept if known is None else known
        assert teacher is not None
        if known is None and path is not None:
            checkpoint.save_file(path, replace(teacher, training=teacher.training | {"run": about}))
        if minutes is not None:
            left = (1 - LABELLING_SHARE) * minutes - teacher.training["seconds"] / 60
            self.budget = max(LABELLING_SHARE * minutes, left), epochs
        rate = run.batch_size * teacher.training["steps"] / max(1.0, teacher.training["seconds"])
        texts = self._as_many_as_are_read(rate)
        self.report.line(f"Labelling {len(texts):,} texts, to learn from all of them")
        network = ClassNetwork(teacher.model, teacher.tensors)
        judged = network(self.corpus.held.codes)
        self.corpus = taught(replace(self.corpus, unlabelled=texts), network, judged)
        self.teacher, self.losses = teacher, self._losses(judged)
        return True

    def _begun(self) -> bool:
        """Whether a run that learns labels was killed or interrupted."""
        path = self._beside("resume")
        return path is not None and path.exists()

    def _losses(self, judged: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
        """Of each text that is held back, in nats (N,), by logits (N, C)."""
        from torch import from_numpy

        from elman.class_fit import nats

        found: npt.NDArray[np.floating[Any]] = nats(
            from_numpy(judged), from_numpy(self.corpus.held.classes), self.corpus.several
        ).numpy()
        return found

    def _as_many_as_are_read(self, rate: float) -> tuple[Codes, ...]:
        """The unlabelled texts; of more than can be read once in the minutes that are left, at so many a second, a
        choice."""
        texts, (minutes, _) = self.corpus.unlabelled, self.budget
        if minutes is None:
            return texts
        count = min(len(texts), math.ceil(minutes * 60 * rate))
        chosen = np.random.default_rng(self.seed).permutation(len(texts))[:count]
        return tuple(texts[i] for i in np.sort(chosen))

    def _labels_run(self, budget: Budget) -> "ClassRun":
        return self.make(self.corpus, self.initial, budget, self._keep)

    def _learn_labels(self, budget: Budget) -> str:
        """How it stopped."""
        # A run that is one of several may not have begun; one that is alone says that there is nothing to go on with.
        go_on = self.resume and (self.alone or self._begun())
        self.resume = self.resume and go_on
        carry_out(self._labels_run(budget), self.report, self.output, go_on, self.log, " nats per text")
        return str(self.offered)

    def _keep(self, file: ModelFile) -> None:
        """Takes a model, or the teacher while that is better on the texts that measured this one; it then tells how
        this run ended."""
        self.offered = file.training["stopped"]
        if self.teacher is not None:
            measured = self.losses[: file.training["validation_texts"]]
            if file.training["validation_loss"] >= measured.mean():
                file = replace(self.teacher, training=self.teacher.training | {"stopped": self.offered})
        self.kept = file
        self.take(file)
