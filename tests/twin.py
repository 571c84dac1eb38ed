"""The native Network's plain twin: NumPy in float64, one equation a line. Oracle of the tests, and slow."""

from typing import Any

import numpy as np

GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def rnn(x, h, c, w_hh, b_hh):
    return np.tanh(x + h @ w_hh.T + b_hh), c


def gru(x, h, c, w_hh, b_hh):
    xr, xz, xn = np.split(x, 3, axis=-1)
    hr, hz, hn = np.split(h @ w_hh.T + b_hh, 3, axis=-1)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    n = np.tanh(xn + r * hn)
    return (1 - z) * n + z * h, c


def lstm(x, h, c, w_hh, b_hh):
    i, f, g, o = np.split(x + h @ w_hh.T + b_hh, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


CELLS = {"rnn": rnn, "gru": gru, "lstm": lstm}


class Network:
    """The interface of elman._native.Network, for one cell name of the user's."""

    def __init__(self, model: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        wide = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
        self.cell, self.hidden, self.depth = CELLS[model["cell"]], model["hidden_size"], model["num_layers"]
        self.parts = 2 if model["cell"] == "lstm" else 1
        self.state_size = self.depth * self.parts * self.hidden
        self.embedding = wide["embedding.weight"]
        self.layers = [
            [wide[f"layers.{name}_l{i}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            for i in range(self.depth)
        ]
        self.head = self.embedding if model["tied"] else wide["head.weight"]
        self.head_bias = wide["head.bias"]

    def feed(self, tokens, state, threads=1):
        return np.stack([self._step(column, state) for column in tokens.T], axis=1)

    def step(self, token, state):
        return self._step(np.array([token]), state)[0]

    def score(self, tokens, state, threads=1):
        logits = self.feed(tokens[:, :-1], state)
        logits = logits - logits.max(axis=-1, keepdims=True)
        picked = np.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
        return (np.log(np.exp(logits).sum(axis=-1)) - picked).astype(np.float32)

    def sample(self, logits, temperature, top_k, top_p, rng):
        if temperature == 0:
            return int(np.argmax(logits))
        p = np.exp((logits - logits.max()) / temperature)
        order = np.argsort(-p, kind="stable")[: top_k or None]
        p = p[order] / p[order].sum()
        kept = int((np.cumsum(p) < top_p).sum()) + 1 if top_p < 1 else len(p)
        draw = uniform(rng)
        order, p = order[:kept], p[:kept]
        if not top_k and top_p == 1:  # then the native one goes through the symbols in their own order
            back = np.argsort(order)
            order, p = order[back], p[back]
        return int(order[min(np.searchsorted(np.cumsum(p / p.sum()), draw, "right"), kept - 1)])

    def generate(self, token, count, state, temperature, top_k, top_p, rng):
        codes = []
        for _ in range(count):
            token = self.sample(self.step(token, state), temperature, top_k, top_p, rng)
            codes.append(token)
        return np.array(codes, np.int64)

    def _step(self, tokens, state):
        x = self.embedding[tokens]
        memory = state.reshape(len(state), self.depth, self.parts, self.hidden)
        for i, (w_ih, w_hh, b_ih, b_hh) in enumerate(self.layers):
            x, c = self.cell(x @ w_ih.T + b_ih, memory[:, i, 0], memory[:, i, -1], w_hh, b_hh)
            memory[:, i, -1], memory[:, i, 0] = c, x
            if self.parts == 1:
                memory[:, i, 0] = x
        return (x @ self.head.T + self.head_bias).astype(np.float32)


def uniform(rng: np.ndarray) -> float:
    """xoshiro256++ (Blackman and Vigna, 2019), the upper 53 bits as a number in [0, 1)."""
    mask = 2**64 - 1
    s = [int(word) for word in rng]

    def rotated(x: int, k: int) -> int:
        return (x << k | x >> (64 - k)) & mask

    result, t = (rotated((s[0] + s[3]) & mask, 23) + s[0]) & mask, s[1] << 17 & mask
    s[2] ^= s[0]
    s[3] ^= s[1]
    s[1] ^= s[2]
    s[0] ^= s[3]
    s[2] ^= t
    s[3] = rotated(s[3], 45)
    rng[:] = s
    return (result >> 11) * 2.0**-53


def random_model(
    cell: str = "lstm",
    vocabulary: int = 11,
    hidden: int = 9,
    layers: int = 1,
    tied: bool = False,
    seed: int = 0,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(description, tensors) of an untrained model, as a model file would hold them."""
    rng = np.random.default_rng(seed)
    embedding, rows = hidden if tied else 5, GATES[cell] * hidden
    shapes = {"embedding.weight": (vocabulary, embedding), "head.bias": (vocabulary,)}
    for i in range(layers):
        shapes[f"layers.weight_ih_l{i}"] = (rows, embedding if i == 0 else hidden)
        shapes[f"layers.weight_hh_l{i}"] = (rows, hidden)
        shapes[f"layers.bias_ih_l{i}"] = shapes[f"layers.bias_hh_l{i}"] = (rows,)
    if not tied:
        shapes["head.weight"] = (vocabulary, hidden)
    tensors = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    model = {"vocabulary": vocabulary, "cell": cell, "hidden_size": hidden, "num_layers": layers}
    return model | {"embedding_size": embedding, "dropout": 0.0, "tied": tied}, tensors
