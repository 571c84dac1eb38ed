"""How a model works on an input: what its units follow, how far it remembers, whether it is in order, what moved it.

The one door: `explain` takes a job's model with an input as users give it, or any torch module that contains recurrent
layers with its inputs. Needs PyTorch and captum.
"""

import os
from typing import Any

from elman.attribution import attribute, require_captum
from elman.data import ElmanError
from elman.features import tracked
from elman.health import FEWEST, health
from elman.memory import measure_memory
from elman.report import Report, plural
from elman.subject import Subject


def explain(
    model: Any,
    inputs: Any,
    targets: Any = None,
    *,
    series: str | None = None,
    replace_unknown: bool = False,
) -> Report:
    """A report of a model on an input.

    model: a TextGenerator or TextClassifier, with a text; a Forecaster, with a table, of which `series` names one (the
    first when None); a path to a model file; or a torch module that contains recurrent layers of torch.nn or elman,
    with the tensor that its forward takes, (T, B, …) or (B, T, …) as its layers have it, and perhaps targets (T, B) or
    like its output. The module runs in eval mode and is left as it was. replace_unknown: read characters that a text
    model has never seen as its unknown symbol.

    Raises ElmanError for a module without recurrent layers, an input that is empty, too short, unknown to the model or
    too long for the memory, values that are not finite, and where captum or PyTorch is missing.
    """
    from elman.runs import require_torch

    require_torch("explaining a model")
    require_captum()
    subject = _subject(model, inputs, targets, series, replace_unknown)
    _check_finite(subject)
    trace = subject.trace()
    memory = measure_memory(subject)
    layers, features = subject.units()
    steps = len(next(iter(layers[0].values.values())))
    notes = subject.notes
    if steps < FEWEST:
        notes += (f"{steps} steps are too few to judge units and gates: give a longer input",)
    moved = attribute(subject)
    if moved is not None and len(moved.values) < moved.asked:
        notes += (
            f"attribution is of the last {plural(len(moved.values), subject.step)}, while those before stay as they "
            "are: of more it does not add up",
        )
    return Report(
        subject.title, subject.kind, dict(subject.facts), subject.step, subject.steps, tuple(trace),
        tracked(layers, features), memory, health(layers, trace, memory), moved, subject.guesses(),
        subject.step_losses(), tuple(notes),
    )  # fmt: skip


def _subject(model: Any, inputs: Any, targets: Any, series: str | None, replace_unknown: bool) -> Subject:
    from torch import nn

    from elman.classify import TextClassifier
    from elman.jobs import load
    from elman.series import Forecaster
    from elman.text import TextGenerator

    if isinstance(model, str | os.PathLike):
        model = load(model)
    if isinstance(model, nn.Module):
        from elman.module_subject import ModuleSubject

        return ModuleSubject(model, inputs, targets)
    from elman import subjects

    if targets is not None:
        raise ElmanError("targets are for torch modules: the models of jobs know their own.")
    if isinstance(model, TextGenerator):
        return subjects.TextSubject(model, _text(inputs), replace_unknown)
    if isinstance(model, TextClassifier):
        return subjects.LabelsSubject(model, _text(inputs))
    if isinstance(model, Forecaster):
        return subjects.SeriesSubject(model, inputs, series)
    raise ElmanError(
        "explain takes a model of elman, its file, or a torch module with recurrent layers, not "
        f"{type(model).__name__}."
    )


def _text(inputs: Any) -> str:
    if not isinstance(inputs, str):
        raise ElmanError(f"this model reads text: give a str, not {type(inputs).__name__}.")
    return inputs


def _check_finite(subject: Subject) -> None:
    for name, module in subject.recurrent:
        for parameter, value in module.named_parameters():
            if not value.isfinite().all():
                raise ElmanError(
                    f"{name}{parameter} holds values that are not finite: training has diverged. Train anew "
                    "with a lower learning rate."
                )
