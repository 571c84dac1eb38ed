"""Whether a network's layers are in order: dead units, stuck gates, forget gates that are shut, weights and gradients
that explode, states that grow.

Works on traces, recurrent weights and a measured memory; knows nothing of models. What counts as wrong was set on
trained networks of all three jobs, none of which comes near, and on the same networks with each fault planted
(docs/design.md).
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from elman.memory import GROWS
from elman.report import Finding, Floats, Memory, Traced

Verdict = Literal["good", "warning", "bad"]
FEWEST = 20  # steps on which shares of steps are looked at

_STILL = 1e-3  # the deviation of a unit that never moves
_SHUT, _OPEN = 0.05, 0.95  # a gate below or above is shut or open; a state beyond it is saturated
_ALWAYS = 0.95  # of the steps
_SHORT = 0.1  # the mean forget gate of a unit that keeps nothing: after one step a tenth is left
_TENFOLD = 10.0  # a gradient must have grown so much in all to be called exploding
_LONG = 100  # steps from which on growth of the state is looked at
_SATURATION = "after Karpathy, Johnson and Fei-Fei, Visualizing and understanding recurrent networks, 2015"
_PASCANU = "Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks, 2013"
_JOZEFOWICZ = "Jozefowicz, Zaremba and Sutskever, An empirical exploration of recurrent networks, 2015"
_GERS = "Gers et al., Learning to forget, 2000; Tallec and Ollivier, Can recurrent neural networks warp time?, 2018"
_SHUT_SHARES = {
    "forget_gate": (0.5, 0.8),
    "update_gate": (0.8, 0.95),
}  # a GRU can hand on what it holds by the candidate
_CANDIDATES = {"lstm": 2, "gru": 2, "PeepholeLSTM": 2, "CoupledLSTM": 1}  # which part of W_hh
_MIN = {"MinGRU"}  # z is the share of the new, not of the old


def health(layers: Sequence[Traced], in_order: Sequence[Traced], memory: Memory) -> tuple[Finding, ...]:
    """Findings layer by layer. layers: traces of as many steps as there are; in_order: of one sequence."""
    found = [] if math.isnan(memory.growth) else [_gradient(memory)]
    for layer, sequence in zip(layers, in_order, strict=True):
        if len(layer.output) >= FEWEST:
            found += [_dead(layer), *_stuck(layer), *_keeping(layer)]
        found += [*_weights(layer, memory), *_growth(sequence)]
    return tuple(found)


def _verdict(value: float, warning: float, bad: float) -> Verdict:
    return "bad" if value > bad else "warning" if value > warning else "good"


def exploding(memory: Memory) -> bool:
    """Whether gradients grow with every step back, and by more than chance makes them."""
    return memory.growth > GROWS and memory.growth ** (len(memory.gradient) - 1) > _TENFOLD


def _gradient(memory: Memory) -> Finding:
    factor = memory.growth
    wrong = exploding(memory)
    sentence = (
        f"Gradients grow by {factor:.2f} with every step back: they explode, and training will be unstable."
        if wrong
        else f"Gradients change by the factor {factor:.2f} with every step back: they do not explode."
    )
    advice = (
        "Clip gradients, start from orthogonal recurrent weights, lower the learning rate." if wrong else ""
    )
    definition = (
        "The factor by which the norm of a loss's gradient changes with each step back, by least squares."
    )
    return Finding("all layers", "growth of gradients", factor, f"{factor:.3g}", "bad" if wrong else "good", definition,
                   _PASCANU, sentence, advice)  # fmt: skip


def _share(
    layer: Traced, measure: str, share: float, verdict: Verdict, texts: tuple[str, str, str, str], source: str
) -> Finding:
    """A finding about a share of units. texts: definition, what is so of the share, what follows, what to try."""
    definition, what, so, advice = texts
    sentence = f"{share:.0%} of the units {what}" + (f": {so}." if verdict != "good" else ".")
    return Finding(layer.name, measure, share, f"{share:.0%}", verdict, definition, source, sentence,
                   "" if verdict == "good" else advice)  # fmt: skip


def _dead(layer: Traced) -> Finding:
    still = layer.output.std(axis=0) < _STILL
    return _share(layer, "dead units", float(still.mean()), _verdict(still.mean(), 0.1, 0.5), (
        f"Share of units whose hidden value deviates less than {_STILL:g} from its mean over all steps.",
        "never move on this input", "the layer carries little or nothing",
        "Use fewer units, a lower learning rate or another start. See whether gates are shut.",
    ), "elman")  # fmt: skip


def _stuck(layer: Traced) -> list[Finding]:
    found = []
    gates = [name for name in layer.values if name.endswith("_gate") and name != "forget_gate"]
    for name in gates:
        value = layer.values[name]
        shut, open_ = _always(value < _SHUT).mean(), _always(value > _OPEN).mean()
        label = name.replace("_", " ")
        found.append(_share(layer, f"stuck {label}s", float(shut + open_), _gates(float(shut), float(open_)), (
            f"Share of units whose {label} is below {_SHUT:g}, or above {_OPEN:g}, at {_ALWAYS:.0%} of the steps.",
            f"have {_article(label)} that is saturated at almost every step", "these gates no longer decide anything",
            "Lower the learning rate, clip gradients, scale the input, or add weight decay or layer norm.",
        ), _SATURATION))  # fmt: skip
    hidden = layer.output
    if layer.cell == "rnn" and np.abs(hidden).max() <= 1:
        stuck = _always(np.abs(hidden) > _OPEN)
        found.append(_share(layer, "saturated units", float(stuck.mean()), _verdict(stuck.mean(), 0.3, 0.5), (
            f"Share of units with |h| above {_OPEN:g} at {_ALWAYS:.0%} of the steps or more.",
            "are saturated at almost every step", "no gradient passes through them",
            "Start with smaller weights, lower the learning rate, scale the input.",
        ), _SATURATION))  # fmt: skip
    return found


def _gates(shut: float, open_: float) -> Verdict:
    """Gates that stay shut cut a unit off. Those that stay open do no harm by themselves: networks that work have up to
    three quarters of them, of a kind; where it is nearly all, they have lost their say."""
    return max(
        _verdict(shut, 0.3, 0.5), _verdict(shut + open_, 0.85, 0.95), key=("good", "warning", "bad").index
    )


def _keeping(layer: Traced) -> list[Finding]:
    """Forget gates, and GRU's update gates, which do the same."""
    name = next((n for n in _SHUT_SHARES if n in layer.values and layer.cell not in _MIN), None)
    if name is None:
        return []
    label = name.replace("_", " ")
    mean = layer.values[name].mean(axis=0, dtype=np.float64)
    shut = float((mean < _SHORT).mean())
    finding = _share(layer, f"{label}s shut", shut, _verdict(shut, *_SHUT_SHARES[name]), (
        f"Share of units whose mean {label} is below {_SHORT:g}.",
        f"have a {label} that is shut: of what they held, less than a tenth is left after one step",
        "the layer cannot remember",
        "Start with an open gate (forget_bias=1, or chrono=… for long memories) and train anew.",
    ), _JOZEFOWICZ)  # fmt: skip
    low, middle, high = np.quantile(mean, (0.1, 0.5, 0.9))
    spread = Finding(layer.name, f"mean {label}", float(middle), f"{low:.2f} – {middle:.2f} – {high:.2f}", "good",
                     f"Mean over the steps of each unit's {label}: the 10 %, 50 % and 90 % quantiles over units. A "
                     "unit with mean f forgets half in about ln 2 / -ln f steps.",
                     _GERS,
                     f"A unit in the middle forgets half of what it holds in {_half_life(float(middle))}, one of the "
                     f"slowest tenth in {_half_life(float(high))} or more.")  # fmt: skip
    return [finding, spread]


def _half_life(kept: float) -> str:
    if kept >= 0.9999:
        return "thousands of steps"
    return f"{np.log(2) / -np.log(max(kept, 1e-6)):.2g} steps"


def _weights(layer: Traced, memory: Memory) -> list[Finding]:
    weights, units = layer.recurrent, layer.units
    if not len(weights) or weights.shape[1] != units:
        return []
    blocks = weights.reshape(-1, units, units)
    if len(blocks) > 1 and layer.cell not in _CANDIDATES:
        return []
    candidate = blocks[_CANDIDATES.get(layer.cell, 0)]
    radius = float(np.abs(np.linalg.eigvals(candidate.astype(np.float64))).max())
    norm = float(np.linalg.norm(candidate, 2))
    wrong = exploding(memory) and radius > 1
    which = "The recurrent weights" if len(blocks) == 1 else "The candidate's recurrent weights"
    sentence = f"{which} have spectral radius {radius:.2f} and norm {norm:.2f}"
    sentence += (
        ": too large, since gradients explode."
        if wrong
        else "; gates and saturation keep gradients from growing."
    )
    if radius <= 1 and not wrong:
        sentence = (
            f"{which} have spectral radius {radius:.2f} and norm {norm:.2f}: alone they shrink the state."
        )
    advice = (
        "Scale them down, to a radius of about 1 (init='orthogonal'), and clip gradients." if wrong else ""
    )
    return [Finding(
        layer.name, "spectral radius", radius, f"{radius:.2f}", "bad" if wrong else "good",
        "The largest absolute eigenvalue of W_hh (of LSTM and GRU: its part for the candidate), and its largest "
        "singular value, the norm. Above 1 a linear recurrence explodes; squashing and gates pull it back.",
        _PASCANU, sentence, advice,
    )]  # fmt: skip


def _growth(layer: Traced) -> list[Finding]:
    state = layer.values.get("cell", layer.output)
    quarter = len(state) // 4
    if len(state) < _LONG:
        return []
    early, late = _rms(state[quarter : 2 * quarter]), _rms(state[-quarter:])
    ratio = late / early if early > 0 else 1.0
    verdict = _verdict(ratio, 2.0, 4.0)
    what = "cell" if "cell" in layer.values else "hidden state"
    advice = (
        "Train on longer chunks with the state carried over, add layer norm, or reset the state now and then."
    )
    return [Finding(
        layer.name, "growth of the state", ratio, f"{ratio:.2f}", verdict,
        f"Root mean square of the {what} in the last quarter of the steps, divided by that in the second quarter.",
        "elman", f"The {what} is {ratio:.2f} times as large in the last quarter as in the second"
        + (": it keeps growing, into ranges that training never saw." if verdict != "good" else "."),
        "" if verdict == "good" else advice,
    )]  # fmt: skip


def _rms(values: Floats) -> float:
    return float(np.sqrt((values.astype(np.float64) ** 2).mean()))


def _always(flags: np.ndarray) -> np.ndarray:
    """(H,) whether so at almost all steps."""
    result: np.ndarray = flags.mean(axis=0) >= _ALWAYS
    return result


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"
