"""What follows from the losses of several models with several seeds each, in sentences, and how sure it is.

Knows names and numbers.
"""

from collections.abc import Mapping, Sequence
from math import comb
from statistics import mean

WITHOUT = "feedforward"


def verdict(losses: Mapping[str, Sequence[float]], baseline: Mapping[str, float], unit: str) -> str:
    """cell → losses of its seeds, in `unit` → lines: whether recurrence helps, which model is best, and whether that is
    better than the baseline."""
    known = {cell: values for cell, values in losses.items() if values}
    failed = [cell for cell in losses if cell not in known]
    said = [f"No model came of {', '.join(failed)}: the loss became NaN."] if failed else []
    ranked = sorted(known, key=lambda cell: mean(known[cell]))
    recurrent = [cell for cell in ranked if cell != WITHOUT]
    if WITHOUT in known and recurrent:
        said.append(_pair(recurrent[0], WITHOUT, known, unit))
    if len(recurrent) > 1:
        said.append(_pair(recurrent[0], recurrent[1], known, unit))
    for name, value in baseline.items():
        if ranked:
            best = mean(known[ranked[0]])
            if best < value:
                said.append(f"{ranked[0]} is ahead of {name} by {_by(value - best, value, unit)}.")
            else:
                said.append(f"{name} is better than every model here: use it, or train for longer.")
    return "\n".join(said)


def _pair(one: str, other: str, known: Mapping[str, Sequence[float]], unit: str) -> str:
    """Which of two is ahead, by how much, and what that is worth."""
    first, second = sorted((one, other), key=lambda cell: mean(known[cell]))
    a, b = known[first], known[second]
    difference, spread = mean(b) - mean(a), max(max(v) - min(v) for v in (a, b))
    ahead = f"{first} is ahead of {second} by {_by(difference, mean(b), unit)}"
    if len(a) == 1 or len(b) == 1:
        return f"{ahead}, with one seed: how far seeds differ is not known. Give two --seeds or more."
    if max(a) >= min(b) or difference <= spread:
        within = f"within the spread between seeds ({spread:.2g})"
        return f"{ahead}, {within}: no conclusion. Give more --seeds or --minutes."
    if WITHOUT not in (one, other):
        sense = ""
    elif first == WITHOUT:
        sense = ": recurrence does not pay here"
    else:
        sense = ": recurrence helps"
    return f"{ahead}, more than the spread between seeds ({spread:.2g}){sense}. {_chance(len(a), len(b))}"


def _chance(n: int, m: int) -> str:
    """How often all of one would be ahead of all of the other without any difference (the exact test of ranks)."""
    times = comb(n + m, n) // 2
    return f"(By chance alone, all seeds of one are ahead of all of the other 1 time in {times}.)"


def _by(difference: float, whole: float, unit: str) -> str:
    share = f"{difference / abs(whole):.1%} " if whole else ""
    return f"{share}({difference:.3g} {unit})"
