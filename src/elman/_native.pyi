from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32]
_Tokens = NDArray[np.int64]

def cpu_level() -> str: ...
def cpu_levels() -> list[str]: ...
def use_cpu_level(level: str) -> None: ...
def forward(
    cell: int,
    f64: bool,
    steps: int,
    batch: int,
    hidden: int,
    sizes: Sequence[int],
    reverse: bool,
    threads: int,
    resets: int,
    input_size: int,
    x: int,
    w_ih: int,
    bias: int,
    tokens: int,
    table: int,
    projected: int,
    w_hh: int,
    product: int,
    b_hn: int,
    h0: int,
    c0: int,
    y: int,
    c: int,
    gates: int,
    hidden_n: int,
    /,
) -> None: ...
def backward(
    cell: int,
    f64: bool,
    steps: int,
    batch: int,
    hidden: int,
    sizes: Sequence[int],
    reverse: bool,
    threads: int,
    resets: int,
    input_size: int,
    w_hh: int,
    y: int,
    c: int,
    gates: int,
    hidden_n: int,
    h0: int,
    c0: int,
    dy: int,
    dgates: int,
    dhidden_n: int,
    dh: int,
    dc: int,
    x: int,
    dw_ih: int,
    dbias: int,
    dw_hh: int,
    db_hn: int,
    /,
) -> None: ...
def one_step(
    cell: int,
    f64: bool,
    batch: int,
    input_size: int,
    hidden: int,
    threads: int,
    x: int,
    w_ih: int,
    b_ih: int,
    w_hh: int,
    b_hh: int,
    h0: int,
    h: int,
    c: int,
    /,
) -> None: ...
def outer(
    f64: bool,
    steps: int,
    batch: int,
    hidden: int,
    sizes: Sequence[int],
    reverse: bool,
    threads: int,
    resets: int,
    before: bool,
    left: int,
    a: int,
    b: int,
    b0: int,
    out: int,
    sums: int,
    /,
) -> None: ...
def operations() -> list[str]: ...

class Program:
    def __init__(
        self,
        arrays: Sequence[tuple[int, int, int]],
        constants: Sequence[float],
        segments: Sequence[tuple[int, int, int, Sequence[tuple[int, ...]]]],
        registers: int,
        states: int,
    ) -> None: ...
    def run(
        self,
        f64: bool,
        backward: bool,
        steps: int,
        batch: int,
        hidden: int,
        sizes: Sequence[int],
        reverse: bool,
        threads: int,
        resets: int,
        arrays: Sequence[int],
        initial: Sequence[int],
        gradients: Sequence[int],
        weights: Sequence[int],
        bias: Sequence[int],
        /,
    ) -> None: ...

def add_rows(
    f64: bool, rows: int, columns: int, threads: int, index: int, rows_from: int, rows_to: int, /
) -> None: ...
def attend(
    steps: int, batch: int, hidden: int, sizes: Sequence[int], scores: int, y: int, out: int, /
) -> None: ...
def linear(
    f64: bool,
    rows: int,
    inputs: int,
    outputs: int,
    transposed: bool,
    threads: int,
    x: int,
    w: int,
    bias: int,
    y: int,
) -> None: ...

class Stack:
    def __init__(
        self,
        cell: str,
        layers: Sequence[tuple[_Floats, _Floats, _Floats | None, _Floats | None]],
        narrow: bool = False,
    ) -> None: ...
    @property
    def state_size(self) -> int: ...
    @property
    def input_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    def feed(self, x: _Floats, state: _Floats, threads: int = 1) -> _Floats: ...
    def step(self, x: _Floats, state: _Floats) -> _Floats: ...

class Network:
    def __init__(
        self,
        cell: str,
        embedding: _Floats,
        layers: Sequence[tuple[_Floats, _Floats, _Floats | None, _Floats | None]],
        head_weight: _Floats,
        head_bias: _Floats,
    ) -> None: ...
    @property
    def state_size(self) -> int: ...
    @property
    def symbols(self) -> int: ...
    def feed(self, tokens: _Tokens, state: _Floats, threads: int = 1) -> _Floats: ...
    def score(self, tokens: _Tokens, state: _Floats, threads: int = 1) -> _Floats: ...
    def step(self, token: int, state: _Floats) -> _Floats: ...
    def sample(
        self, logits: _Floats, temperature: float, top_k: int, top_p: float, rng: NDArray[np.uint64]
    ) -> int: ...
    def generate(
        self,
        token: int,
        count: int,
        state: _Floats,
        temperature: float,
        top_k: int,
        top_p: float,
        rng: NDArray[np.uint64],
    ) -> _Tokens: ...
