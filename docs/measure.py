"""What the figures of how-it-works.md show, measured on models that are trained here.

A memory task made of random symbols, and Shakespeare's plays (`elman.demo`): three text models learn from the first
part of them and are looked at on a later one. Seeds are fixed. Knows nothing of pictures and pages.

Letters: T steps, B sequences, H hidden units, E numbers of an input, S symbols.
"""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

import elman
from elman import checkpoint, demo
from elman.codec import Characters
from elman.corpus import Corpus
from elman.data import Codes, TextFile

Floats = NDArray[np.floating[Any]]

# The text: models learn from the first part of the plays, and are looked at on what comes after it.
LEARNED, EPOCHS, HIDDEN = 1_500_000, 1.5, 128
LINE = "DUKE ORSINO:\nIf music be the food of love, play on;\nGive me excess of it, that, surfeiting,\n"
BEFORE = 400  # characters that are read before it

# How far gradients reach
STEPS = 100

# The memory task
SYMBOLS, UNITS, BATCH, UPDATES, SEEDS = 8, 32, 64, 400, 3
DELAYS = (5, 10, 20, 40, 80)


# Gradients


def reach(gradients: Tensor) -> Floats:
    """Gradients of the last step's loss, (T, B, E) → their norms, a mean over sequences, last step first (T,)."""
    norms: Floats = gradients.norm(dim=2).mean(dim=1).flip(0).numpy()
    return norms


def untrained() -> dict[str, Floats]:
    """How far gradients reach in new layers that read faint noise: norms (T,), relative to the last step's."""
    layers: dict[str, Callable[[], nn.Module]] = {
        "RNN, radius 0.9": lambda: _orthogonal(0.9),
        "RNN, radius 1": lambda: _orthogonal(1.0),
        "RNN, radius 1.2": lambda: _orthogonal(1.2),
        "GRU": lambda: elman.GRU(8, 64, dtype=torch.float64),
        "LSTM, forget bias 1": lambda: elman.LSTM(8, 64, forget_bias=1.0, dtype=torch.float64),
        "LSTM, chrono": lambda: elman.LSTM(8, 64, chrono=STEPS, dtype=torch.float64),
    }
    found = {}
    for name, make in layers.items():
        torch.manual_seed(0)
        norms = np.mean([_noise_reach(make()) for _ in range(8)], axis=0)
        found[name] = norms / norms[0]
    return found


def _orthogonal(radius: float) -> elman.RNN:
    """An RNN whose recurrent matrix is a rotation times `radius`: every one of its eigenvalues has that modulus."""
    layer = elman.RNN(8, 64, init="orthogonal", dtype=torch.float64)
    layer.weight_hh_l0.data.mul_(radius)
    return layer


def _noise_reach(layer: nn.Module) -> Floats:
    x = (0.1 * torch.randn(STEPS, 16, 8, dtype=torch.float64)).requires_grad_()
    y, _ = layer(x)
    (gradient,) = torch.autograd.grad((y[-1] @ torch.randn(64, dtype=torch.float64)).sum(), x)
    return reach(gradient)


def trained() -> dict[str, Floats]:
    """The same for the three text models, of the last character's loss with respect to embeddings (T,); and for such
    models before training, named "GRU, new"."""
    rows = torch.from_numpy(_windows(held_out(), 256, STEPS + 1).T)  # (T + 1, B)
    found = {}
    for name, model in text_models().items():
        torch.manual_seed(1)
        found[f"{name}, new"] = _text_reach(elman.Model(model.config), rows)
        found[name] = _text_reach(model, rows)
    return found


def _text_reach(model: elman.Model, rows: Tensor) -> Floats:
    embedded = model.embedding(rows[:-1]).detach().requires_grad_()
    y, _ = model.layers(embedded)
    (gradient,) = torch.autograd.grad(F.cross_entropy(model.head(y[-1]), rows[-1], reduction="sum"), embedded)
    norms = reach(gradient)
    result: Floats = norms / norms[0]
    return result


def truncations(lengths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)) -> dict[str, Floats]:
    """Cosine between the recurrent weights' gradient when gradients are cut every so many steps, and uncut."""
    rows = torch.from_numpy(_windows(held_out(), 64, 257).T)
    found = {}
    for name, model in text_models().items():
        whole = _cut_gradient(model, rows, len(rows) - 1)
        cut = [_cut_gradient(model, rows, length) for length in lengths]
        found[name] = np.array([float(F.cosine_similarity(g, whole, dim=0)) for g in cut])
    return found


def _cut_gradient(model: elman.Model, rows: Tensor, length: int) -> Tensor:
    """Backpropagation through time, truncated: the state is carried on, its gradient is not."""
    weights = model.layers.weight_hh_l0
    total, state = torch.zeros_like(weights), None
    for at in range(0, len(rows) - 1, length):
        logits, state = model(rows[at : at + length], state)
        loss = F.cross_entropy(logits, rows[at + 1 : at + length + 1].flatten(), reduction="sum")
        total += torch.autograd.grad(loss, weights)[0]
        state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
    return total.flatten()


# Text


@cache
def plays() -> str:
    """All of them."""
    return "".join(demo.plays().chunks())


@cache
def corpus() -> Corpus:
    """What the models learn from."""
    return Corpus.read(TextFile.from_string(plays()[:LEARNED]))


def held_out(characters: int = 200_000) -> Codes:
    """What they never saw."""
    return corpus().codec.encode(plays()[LEARNED : LEARNED + characters])


def _windows(codes: Codes, count: int, width: int) -> NDArray[np.int64]:
    """(count, width), from all over the text."""
    starts = np.linspace(0, len(codes) - width, count).astype(int)
    return codes[starts[:, None] + np.arange(width)].astype(np.int64)


@cache
def text_models() -> dict[str, elman.Model]:
    """An RNN, a GRU and an LSTM that have learned from the plays, alike in all but the cell."""
    return {cell.upper(): _text_model(cell) for cell in ("rnn", "gru", "lstm")}


def _text_model(cell: str) -> elman.Model:
    """Trained as `elman train text` does, then read from its file into a module that has gradients and traces."""
    writer = elman.TextGenerator(cell, HIDDEN, embedding_size=32, dropout=0.0, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.elman")
        writer.fit(corpus().text, epochs=EPOCHS, output=path, progress=False)
        return from_file(path)[0]


def from_file(path: Path) -> tuple[elman.Model, Characters]:
    """A text model's file as a module, with its codec."""
    file = checkpoint.load(path)
    model = elman.Model(elman.ModelConfig(**file.model))
    weights = {n: torch.from_numpy(t) for n, t in file.tensors.items() if not n.startswith("baseline.")}
    model.load_state_dict(weights)
    return model.eval(), Characters.from_config(file.codec)


@torch.no_grad()
def trace(model: elman.Model, codes: Codes) -> dict[str, Floats]:
    """States and gates by name, each (T, H), of one text."""
    embedded = model.embedding(torch.from_numpy(codes.astype(np.int64)))
    _, _, found = model.layers(embedded, return_trace=True)
    return {name.removesuffix("_l0"): value.numpy() for name, value in found.items()}


@dataclass(frozen=True)
class Reading:
    """The LSTM reads a line. T characters."""

    text: str
    gates: dict[str, Floats]  # name → (T, H)
    units: dict[str, tuple[int, float, Floats]]  # what a unit follows → which, correlation, cell state (T,)


def reading() -> Reading:
    """Gates and telling units of the LSTM on the line that the page shows.

    For each thing known of a place in a text, the unit whose cell state follows it best on other held-out text.
    """
    model, codec = text_models()["LSTM"], corpus().codec
    other = plays()[LEARNED : LEARNED + 50_000]
    cells = trace(model, codec.encode(other))["cell"]
    at = plays().index(LINE, LEARNED)
    shown = trace(model, codec.encode(plays()[at - BEFORE : at + len(LINE)]))
    shown = {name: value[BEFORE:] for name, value in shown.items()}
    units = {}
    for name, feature in _features(other).items():
        correlations = np.nan_to_num(np.corrcoef(cells.T, feature)[-1, :-1])
        unit = int(np.abs(correlations).argmax())
        units[name] = unit, float(correlations[unit]), shown["cell"][:, unit]
    return Reading(LINE, shown, units)


def _features(text: str) -> dict[str, Floats]:
    """What is known of each place (T,)."""
    ends = np.array([c == "\n" for c in text])
    places = np.arange(len(text))
    since = places - np.maximum.accumulate(np.where(ends, places, 0))
    lines = text.split("\n")
    names = [line.isupper() and line.endswith(":") for line in lines]
    speaker = [flag for line, flag in zip(lines, names, strict=True) for flag in [flag] * (len(line) + 1)]
    return {
        "characters since the line began": since,
        "in a speaker's name": np.array(speaker[: len(text)], float),
    }


def half_lives(forget: Floats) -> Floats:
    """Steps until half of a cell state is left, by unit (H,), from forget gates (T, H).

    What is left after k steps is the product of k gates, here a mean over all places; between steps it is
    interpolated. A gate that is always f gives ln 2 / -ln f.
    """
    decay = -np.log(forget, dtype=np.float64)
    total = np.concatenate((np.zeros((1, forget.shape[1])), decay.cumsum(axis=0)))
    found = np.full(forget.shape[1], np.inf)
    before = np.zeros(forget.shape[1])  # -ln of what is left after k - 1 steps
    for k in range(1, len(total)):
        after = -np.log(np.exp(total[:-k] - total[k:]).mean(axis=0))
        crossed = np.isinf(found) & (after >= math.log(2))
        share = (math.log(2) - before) / np.maximum(after - before, 1e-12)
        found = np.where(crossed, k - 1 + share, found)
        before = after
        if np.isfinite(found).all():
            break
    return found


@dataclass(frozen=True)
class Forgetting:
    """Forget gates on held-out text, (T, H), of a new model and of the trained one."""

    before: Floats
    after: Floats


def forgetting() -> Forgetting:
    """Of the LSTM."""
    codes, model = held_out(50_000), text_models()["LSTM"]
    torch.manual_seed(1)
    before, after = (trace(m, codes)["forget_gate"] for m in (elman.Model(model.config), model))
    return Forgetting(before, after)


CONTEXTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


@torch.no_grad()
def context_losses() -> dict[str, Floats]:
    """Nats per character of the same held-out characters, by how many before them are read from a zero state."""
    rows = torch.from_numpy(_windows(held_out(), 4_000, CONTEXTS[-1] + 1).T)
    found = {}
    for name, model in text_models().items():
        losses = []
        for length in CONTEXTS:
            y, _ = model.layers(model.embedding(rows[-1 - length : -1]))
            losses.append(float(F.cross_entropy(model.head(y[-1]), rows[-1])))
        found[name] = np.array(losses)
    return found


def trigram() -> float:
    """Its nats per character on the held-out text."""
    return float(corpus().baseline.nats(held_out())["trigram"])


# Memory


def memory_batch(delay: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences (delay + 1, B, S + 1) and what to answer at their end (B,): the symbol each began with.

    It alone is marked, by the last input; other symbols follow, which do not matter.
    """
    symbols = torch.randint(SYMBOLS, (delay + 1, BATCH), generator=chance)
    x = F.pad(F.one_hot(symbols, SYMBOLS).float(), (0, 1))
    x[0, :, -1] = 1
    return x, symbols[0]


def memory() -> dict[str, Floats]:
    """Share of right answers after 400 updates, by delay, a mean over seeds; chance is 1 / S."""
    size = SYMBOLS + 1, UNITS
    layers: dict[str, Callable[[int], nn.Module]] = {
        "RNN": lambda delay: elman.RNN(*size),
        "RNN, orthogonal": lambda delay: elman.RNN(*size, init="orthogonal"),
        "GRU": lambda delay: elman.GRU(*size),
        "LSTM, forget bias 1": lambda delay: elman.LSTM(*size, forget_bias=1.0),
        "LSTM, chrono": lambda delay: elman.LSTM(*size, chrono=delay + 1),
    }
    return {
        name: np.array([np.mean([_remember(make, d, seed) for seed in range(SEEDS)]) for d in DELAYS])
        for name, make in layers.items()
    }


def _remember(make: Callable[[int], nn.Module], delay: int, seed: int) -> float:
    """Trains one layer and a linear head at the last state; returns the share of right answers to 1,024 new ones."""
    torch.manual_seed(seed)
    chance = torch.Generator().manual_seed(seed)
    layer, head = make(delay), nn.Linear(UNITS, SYMBOLS)
    parameters = [*layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    for _ in range(UPDATES):
        x, answer = memory_batch(delay, chance)
        loss = F.cross_entropy(head(layer(x)[0][-1]), answer)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    with torch.no_grad():
        tests = [memory_batch(delay, chance) for _ in range(16)]
        return float(np.mean([(head(layer(x)[0][-1]).argmax(1) == a).float().mean() for x, a in tests]))


def crossing(steps: tuple[int, ...], values: Floats, level: float) -> int:
    """The first of `steps` from which on values stay below `level`; the last one if they never do."""
    above = np.flatnonzero(values >= level)
    at = int(above[-1]) + 1 if len(above) else 0
    return steps[min(at, len(steps) - 1)]
