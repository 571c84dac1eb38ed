"""Which steps moved a prediction: integrated gradients, by captum, over what enters the recurrent layers.

On the way from zeros to the input a network that reads many steps may be chaotic, and no number of points adds the
gradients up. Then only the last steps go that way, while those before stay as they are.
"""

import importlib.util
from dataclasses import replace
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from elman.data import ElmanError
from elman.report import Attribution
from elman.subject import Question, Subject

_POINTS = (32, 256)  # on the way from zero to the input: of long windows and of short ones
_STEPS = 8_192  # of all points' windows
_GAP = 0.05  # of the output's change that may be missing, at most
_ROUNDING = 0.005  # and of all that moved it
_AT_ONCE = 4_096  # steps of windows, to bound the memory


def require_captum() -> None:
    """Raises ElmanError where captum is missing."""
    if importlib.util.find_spec("captum") is None:
        raise ElmanError('explaining a prediction needs captum: pip install "elman[explain]"')


def attribute(subject: Subject) -> Attribution | None:
    """Of as many of the question's last steps as add up to the change of the output; None where the subject has no
    prediction to explain."""
    question = subject.question()
    if question is None:
        return None
    asked = count = min(len(question.entered), question.most or len(question.entered))
    found = _of_last(subject, question, count)
    while count > 1 and not _adds_up(found):
        count = (count + 1) // 2
        found = _of_last(subject, question, count)
    return replace(found, asked=asked)


def _adds_up(found: Attribution) -> bool:
    change = abs(found.output - found.baseline)
    return abs(found.gap) <= _GAP * change + _ROUNDING * float(np.abs(found.values).sum())


def _of_last(subject: Subject, question: Question, count: int) -> Attribution:
    """Of the last `count` steps, while those before stay as they are."""
    # captum wants the batch first.
    entered = question.entered.detach().transpose(0, 1)
    before, last = entered[:, :-count], entered[:, -count:].contiguous()

    def answer(x: Tensor) -> Tensor:
        return subject.answer(torch.cat((before.expand(len(x), -1, -1), x), 1).transpose(0, 1))

    steps = entered.shape[1]
    method = import_module("captum.attr").IntegratedGradients(answer)
    values = method.attribute(
        last,
        n_steps=min(max(_POINTS[0], _STEPS // steps), _POINTS[1]),
        internal_batch_size=max(1, _AT_ONCE // steps),
    )
    with torch.no_grad():
        output, baseline = (float(answer(x)) for x in (last, torch.zeros_like(last)))
    by_step = values[0].sum(-1).double().numpy()
    gap = float(by_step.sum() - (output - baseline))
    first = question.first + steps - count
    return Attribution(question.name, first, by_step, output, baseline, gap, question.unit)
