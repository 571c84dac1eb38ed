"""A trained network at work without PyTorch: streams that are fed and remember, text written, text scored.

Builds the native network from a model's tensors and drives it; a stream's state is an array of its own. Knows
codecs only by `encode` and `decode`, and neither files nor training.
"""

import copy
import math
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from elman._native import Network, Stack
from elman.codec import UNKNOWN, Characters
from elman.data import Codes, ElmanError, too_short

Floats = npt.NDArray[np.float32]

SEGMENTS = 16  # parts of a long text that are scored side by side
WARM_UP = 1_000  # characters read, and not counted, before each part but the first
_SHORTEST = 4 * WARM_UP  # characters in a part: shorter parts would mostly warm up
_CHUNK = 256  # steps fed at a time: bounds the memory
_BLOCK = 16  # characters written at a time: a millisecond or less, so output still flows
KERNELS = ("rnn_tanh", "rnn_relu", "rnn_sigmoid", "gru", "lstm")
_NEVER = -1e30  # a logit that no sampling picks


def build_network(
    model: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], writes_unknown: bool = True
) -> Network:
    """The native network of a model file's description and tensors, all float32.

    With `writes_unknown` False the unknown symbol has no probability: right for writing, wrong for scoring.
    Raises ElmanError where tensors are missing or do not fit each other or the description.
    """
    try:
        layers = [layer_weights(tensors, i) for i in range(model["num_layers"])]
        embedding = _floats(tensors["embedding.weight"])
        head = embedding if model["tied"] else _floats(tensors["head.weight"])
        bias = _floats(tensors["head.bias"]).copy()
        if embedding.shape[0] != model["vocabulary"] or head.shape[1] != model["hidden_size"]:
            raise ValueError("their shapes are not those described")
        if not writes_unknown:
            bias[UNKNOWN] = _NEVER
        cell = "rnn_tanh" if model["cell"] == "rnn" else model["cell"]
        return Network(cell, embedding, layers, head, bias)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        problem = f"there is no {error}" if isinstance(error, KeyError) else error
        raise ElmanError(f"the model's tensors do not fit its description: {problem}.") from error


def layer_weights(
    tensors: Mapping[str, npt.NDArray[Any]], i: int, prefix: str = "layers."
) -> tuple[Any, ...]:
    """Layer i's input and recurrent weights and its two biases, float32, as the native classes take them."""
    weights = (_floats(tensors[f"{prefix}weight_{kind}_l{i}"]) for kind in ("ih", "hh"))
    biases = (tensors.get(f"{prefix}bias_{kind}_l{i}") for kind in ("ih", "hh"))
    return (*weights, *(None if bias is None else _floats(bias) for bias in biases))


def _floats(array: npt.NDArray[Any]) -> Floats:
    return np.ascontiguousarray(array, np.float32)


class _State:
    """What all streams share: `state` (streams, state_size) float32, advanced in place by every step."""

    state: Floats

    def save(self) -> Floats:
        """A copy of the state, to keep or move. Any stream of the same model can `restore` it."""
        return self.state.copy()

    def restore(self, state: npt.ArrayLike) -> None:
        """Continues from a saved state. Raises ElmanError if it is not of the same shape."""
        given = np.asarray(state, np.float32)
        if given.shape != self.state.shape:
            raise ElmanError(f"this model's state has shape {self.state.shape}, not {given.shape}.")
        self.state[:] = given

    def reset(self) -> None:
        """Forgets everything: the state is zero again."""
        self.state[:] = 0


class Stream(_State):
    """A network and one state: what it was fed so far. Streams of one network do not disturb each other."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.state = np.zeros((1, network.state_size), np.float32)

    def step(self, code: int) -> Floats:
        """Feeds one code; logits (V,) of the next."""
        logits: Floats = self.network.step(code, self.state)
        return logits

    def feed(self, codes: npt.ArrayLike) -> Floats:
        """Feeds codes (T,) as one chunk; logits (T, V), row t being those of what follows code t."""
        tokens = np.ascontiguousarray(codes, np.int64)
        logits: Floats = self.network.feed(tokens[None], self.state)[0]
        return logits


class LayerStream(_State):
    """RNN, GRU or LSTM layers fed one step or one chunk at a time, a few microseconds a step, without PyTorch.

    One stream, or `batch` of them side by side. Those made by `fork` share their weights and have states of their own.
    """

    def __init__(
        self,
        cell: str,
        tensors: Mapping[str, npt.NDArray[Any]],
        batch: int | None = None,
        weights: str = "float32",
    ) -> None:
        """cell: rnn_tanh, rnn_relu, rnn_sigmoid, gru or lstm. tensors: arrays by torch.nn's names: weight_ih_l0,
        weight_hh_l0, bias_ih_l0, bias_hh_l0, and so on for more layers. Weights are copied. batch: B streams at once,
        whose inputs and outputs have a B before their last dimension. weights: how they are kept, "float32" or
        "bfloat16", which rounds each to 8 significant bits (relative error up to 2^-8, all else in float32) for half
        the memory, and steps that take about half the time where reading the weights is the limit.

        Raises ElmanError for an unknown cell, another kind of weights, for both directions (the backward one starts at
        the end), for proj_size, for batch < 1, and for weights that are missing or do not fit each other.
        """
        if cell not in KERNELS:
            raise ElmanError(f"unknown cell {cell!r}: choose one of {', '.join(KERNELS)}.")
        if weights not in ("float32", "bfloat16"):
            raise ElmanError(f'weights must be kept as "float32" or "bfloat16", not {weights!r}.')
        if batch is not None and batch < 1:
            raise ElmanError(f"batch must be at least 1, not {batch}.")
        if odd := [name for name in tensors if name.endswith("_reverse") or name.startswith("weight_hr")]:
            raise ElmanError(f"a stream runs forward and has no proj_size, but there is {odd[0]!r}.")
        count = max(1, sum(name.startswith("weight_hh_l") for name in tensors))
        try:
            self._stack = Stack(
                cell, [layer_weights(tensors, i, "") for i in range(count)], weights == "bfloat16"
            )
        except (KeyError, ValueError, TypeError, IndexError) as error:
            problem = f"there is no {error}" if isinstance(error, KeyError) else error
            raise ElmanError(f"these are not the weights of {cell} layers: {problem}.") from error
        self.batch = batch
        self.state = np.zeros((batch or 1, self._stack.state_size), np.float32)

    @property
    def input_size(self) -> int:
        """I, the numbers in one step's input."""
        return self._stack.input_size

    @property
    def hidden_size(self) -> int:
        """H, the numbers in one step's output."""
        return self._stack.hidden_size

    def step(self, x: npt.ArrayLike) -> Floats:
        """Feeds one step x (I,) or (B, I), fastest as float32; the last layer's hidden state (H,) or (B, H).

        Raises ElmanError for numbers of another shape, and for what is not numbers.
        """
        if self.batch is not None:
            rows: Floats = self._stack.feed(self._numbers(x)[None], self.state)[0]
            return rows
        try:
            return self._stack.step(x, self.state)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return self._stack.step(self._numbers(x), self.state)

    def feed(self, x: npt.ArrayLike, threads: int = 1) -> Floats:
        """Feeds a chunk x (T, I) or (T, B, I); the hidden states (T, H) or (T, B, H). Raises as `step`."""
        rows = self._numbers(x, "T")
        if self.batch is not None:
            return self._stack.feed(rows, self.state, threads)
        hidden: Floats = self._stack.feed(rows[:, None], self.state, threads)[:, 0]
        return hidden

    def fork(self) -> "LayerStream":
        """A stream with the same weights, in shared memory, and a copy of the state."""
        other = copy.copy(self)
        other.state = self.save()
        return other

    def _numbers(self, x: npt.ArrayLike, *letters: str) -> Floats:
        """x as float32. Raises ElmanError unless its shape is `letters`, B where there is one, I."""
        names = [*letters, *([] if self.batch is None else ["B"]), "I"]
        wanted = f"x ({', '.join(names)}{',' if len(names) == 1 else ''})"
        try:
            array = np.ascontiguousarray(x, np.float32)
        except (TypeError, ValueError):
            raise ElmanError(f"{wanted} must be numbers, not {type(x).__name__}.") from None
        fixed = (self.input_size,) if self.batch is None else (self.batch, self.input_size)
        if array.ndim != len(names) or array.shape[len(letters) :] != fixed:
            sizes = f"I = {self.input_size}" + ("" if self.batch is None else f" and B = {self.batch}")
            raise ElmanError(f"{wanted} must have {sizes}, but its shape is {np.shape(x)}.")
        return array


@dataclass(frozen=True)
class Sampling:
    """How the next symbol is drawn: temperature, the `top_k` likeliest, the fewest that reach `top_p`.

    `greedy` takes the likeliest and ignores the rest. Raises ElmanError for values that make no sense.
    """

    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    greedy: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ElmanError(
                f"temperature must be above 0, not {self.temperature}. For the likeliest character at every "
                "step, ask for greedy instead."
            )
        if self.top_k is not None and self.top_k < 1:
            raise ElmanError(f"top_k must be at least 1, not {self.top_k}.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ElmanError(f"top_p must be above 0 and at most 1, not {self.top_p}.")

    def arguments(self) -> tuple[float, int, float]:
        """(temperature, top_k, top_p) as the native network takes them, where 0, 0 and 1 are none."""
        temperature = 0.0 if self.greedy else float(self.temperature)
        return temperature, self.top_k or 0, 1.0 if self.top_p is None else float(self.top_p)


def generate(
    network: Network,
    codec: Characters,
    prompt: str,
    length: int,
    sampling: Sampling,
    seed: int | None = None,
    stop: str | Sequence[str] | None = None,
    on_unknown: Literal["error", "replace"] = "error",
) -> Iterator[str]:
    """Up to `length` characters that follow `prompt`, in pieces as they are written, from a zero state.

    Ends before the first of the `stop` strings. An empty prompt starts like a new line. The same seed writes
    the same text. Characters of the prompt outside the alphabet raise ElmanError, which names them; with
    on_unknown="replace" they are read as the unknown symbol. Everything is checked before the first piece.
    """
    if length < 1:
        raise ElmanError(f"length must be at least 1, not {length}.")
    if on_unknown not in ("error", "replace"):
        raise ElmanError(f'on_unknown must be "error" or "replace", not {on_unknown!r}.')
    stops = [stop] if isinstance(stop, str) else list(stop or ())
    if "" in stops:
        raise ElmanError("a stop string must not be empty: everything would end before it starts.")
    codes = _prompt_codes(codec, prompt, on_unknown)
    pieces = _write(Stream(network), codec, codes, length, sampling.arguments(), random_state(seed))
    return until(pieces, stops) if stops else pieces


def _prompt_codes(codec: Characters, prompt: str, on_unknown: str) -> Codes:
    prompt = prompt.replace("\r\n", "\n").replace("\r", "\n")  # as texts are read
    if on_unknown == "error" and (unknown := codec.unknown(prompt)):
        raise ElmanError(
            f"the prompt holds {listed(unknown)}, which the model has never seen. Leave "
            f"{'it' if len(unknown) == 1 else 'them'} out, or have the unknown symbol stand in."
        )
    if not prompt:
        prompt = "\n" if "\n" in codec.symbols else codec.symbols[0]
    return codec.encode(prompt)


def listed(characters: str, most: int = 8) -> str:
    """Characters as a reader can recognise them: 'é' (U+00E9), and so on."""
    named = [f"{c!r} (U+{ord(c):04X})" for c in characters[:most]]
    more = f" and {len(characters) - most:,} more characters" if len(characters) > most else ""
    return ", ".join(named) + more


def _write(
    stream: Stream, codec: Characters, prompt: Codes, length: int, how: tuple[float, int, float], rng: Any
) -> Iterator[str]:
    for start in range(0, len(prompt) - 1, _CHUNK):
        stream.feed(prompt[start : min(start + _CHUNK, len(prompt) - 1)])
    code, generate, state = int(prompt[-1]), stream.network.generate, stream.state
    while length > 0:
        codes = generate(code, min(length, _BLOCK), state, *how, rng)
        code, length = int(codes[-1]), length - len(codes)
        yield codec.decode(codes)


def until(pieces: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """`pieces` up to the first of the stop strings, which may span pieces and is itself left out."""
    held = ""  # the end of what has come, as long as it may turn out to be the start of a stop string
    for piece in pieces:
        held += piece
        free = len(held) - max(_overlap(held, stop) for stop in stops)
        first = _first(held, stops)
        if first <= min(free, len(held) - 1):  # no stop string that starts earlier can still come
            held = held[:first]
            break
        free = min(free, first)
        if free:
            yield held[:free]
            held = held[free:]
    if held := held[: _first(held, stops)]:
        yield held


def _first(text: str, stops: Sequence[str]) -> int:
    """Where the first of the stop strings starts; the length of the text if there is none."""
    return min((at for at in map(text.find, stops) if at >= 0), default=len(text))


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a start of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


def random_state(seed: int | None) -> npt.NDArray[np.uint64]:
    """The random generator's four words: from any integer by SplitMix64 (Vigna), or from entropy for None."""
    x = int.from_bytes(os.urandom(8), "little") if seed is None else operator.index(seed)
    words, mask = [], 2**64 - 1
    for _ in range(4):
        x = (x + 0x9E3779B97F4A7C15) & mask
        z = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        words.append(z ^ (z >> 31))
    return np.array(words, np.uint64)


def score(network: Network, codes: Codes) -> tuple[float, int]:
    """(nats, count): the summed -log p of codes[1:], count of them, each given all before it.

    A long text is cut into up to 16 parts that run side by side. All but the first start from a zero state
    1,000 characters before their own, which is where a trained network has forgotten that it was zero.
    Raises ElmanError for fewer than two codes.
    """
    count = len(codes) - 1
    if count < 1:
        raise too_short(len(codes), 2)
    parts = min(SEGMENTS, max(1, count // _SHORTEST))
    part = -(-count // parts)
    state: Floats = np.zeros((parts, network.state_size), np.float32)
    starts = part * np.arange(parts)
    if parts > 1:
        for _ in _nats(network, codes, starts[1:] - WARM_UP, WARM_UP, state[1:]):
            pass
    counted = np.minimum(count - starts, part)  # the last part may be shorter
    total = done = 0.0
    for nats in _nats(network, codes, starts, part, state):
        columns = done + np.arange(nats.shape[1])
        total += nats.sum(where=columns < counted[:, None], dtype=np.float64)
        done += nats.shape[1]
    return float(total), count


def _nats(network: Network, codes: Codes, starts: Codes, steps: int, state: Floats) -> Iterator[Floats]:
    """Scores `steps` codes after each of starts (B,), by chunks. Past the end the last code repeats."""
    for at in range(0, steps, _CHUNK):
        width = min(_CHUNK, steps - at)
        places = starts[:, None] + at + np.arange(width + 1)
        tokens = np.take(codes, places, mode="clip").astype(np.int64)
        yield network.score(tokens, state, threads=cores())


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
