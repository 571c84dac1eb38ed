"""Which steps moved a prediction: integrated gradients, by captum, over what enters the recurrent layers."""

import importlib.util
from importlib import import_module

import torch

from elman.data import ElmanError
from elman.report import Attribution
from elman.subject import Subject

_POINTS = (32, 256)  # on the way from zero to the input: of long windows and of short ones
_STEPS = 8_192  # of all points' windows
_AT_ONCE = 4_096  # steps of windows, to bound the memory


def require_captum() -> None:
    """Raises ElmanError where captum is missing."""
    if importlib.util.find_spec("captum") is None:
        raise ElmanError('explaining a prediction needs captum: pip install "elman[explain]"')


def attribute(subject: Subject) -> Attribution | None:
    """None where the subject has no prediction to explain."""
    question = subject.question()
    if question is None:
        return None
    # captum wants the batch first.
    entered = question.entered.detach().transpose(0, 1).contiguous()
    method = import_module("captum.attr").IntegratedGradients(lambda x: subject.answer(x.transpose(0, 1)))
    at_once = max(1, _AT_ONCE // question.read)
    values = method.attribute(
        entered,
        n_steps=min(max(_POINTS[0], _STEPS // entered.shape[1]), _POINTS[1]),
        internal_batch_size=at_once,
    )
    with torch.no_grad():
        output, baseline = (
            float(subject.answer(x.transpose(0, 1))) for x in (entered, torch.zeros_like(entered))
        )
    by_step = values[0].sum(-1).double().numpy()
    gap = float(by_step.sum() - (output - baseline))
    return Attribution(question.name, question.first, by_step, output, baseline, gap, question.unit)
