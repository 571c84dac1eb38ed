"""Programs run natively against `reference.program`: values and every gradient, over cells, what surrounds them,
shapes, dtypes and CPU levels."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from elman import _native, program_ops, reference
from elman.steps import KINDS, Assembled, Kind, assemble

TOLERANCE = {torch.float32: 3e-5, torch.float64: 1e-12}
AROUND = {
    "plain": {},
    "layer norm": {"layer_norm": True},
    "recurrent dropout": {"recurrent_dropout": True},
    "zoneout": {"zoneout": 0.2},
    "zoneout in training": {"zoneout": 0.2, "training": True},
    "shown": {"show": True},
    "all": {"layer_norm": True, "recurrent_dropout": True, "zoneout": 0.1, "training": True, "show": True},
}


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    level, threads = _native.cpu_level(), torch.get_num_threads()
    yield
    _native.use_cpu_level(level)
    torch.set_num_threads(threads)


def assembled(name: str, around: str) -> Assembled:
    options = dict(AROUND[around])
    if not KINDS[name].products:
        options.pop("layer_norm", None)
        options.pop("recurrent_dropout", None)
    return assemble(KINDS[name], **options)


def problem(
    found: Assembled,
    steps: int,
    batch: int,
    hidden: int,
    dtype: torch.dtype = torch.float64,
    sizes: list[int] | None = None,
    resets: bool = False,
    biased: bool = True,
) -> dict:
    """Arguments of `run` but the cell."""
    g = torch.Generator().manual_seed(hidden * 100 + batch)
    programs, rows = found.cell.programs, sum(sizes) if sizes else steps * batch

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=g, dtype=torch.float64) * scale).to(dtype).requires_grad_()

    def chosen(share: float, *shape: int) -> Tensor:
        return (torch.rand(shape, generator=g) < share).to(dtype)

    scale = 0.7 / hidden**0.5
    return {
        "x": draw(rows, programs.inputs * hidden),
        "initial": [draw(batch, hidden) for _ in range(programs.states)],
        "weights": [
            (draw(c * hidden, hidden, scale=scale), draw(c * hidden) if biased else None)
            for c in programs.columns
        ],
        "parameters": draw(programs.parameters, hidden) if programs.parameters else None,
        "masks": chosen(0.7, batch, programs.masks * hidden) if programs.masks else None,
        "noise": chosen(0.3, rows, programs.noise * hidden) if programs.noise else None,
        "batch_sizes": sizes,
        "resets": chosen(0.4, rows).to(torch.uint8) if resets else None,
        "after_reset": [draw(batch, hidden) for _ in range(programs.states)] if resets else (),
    }


def leaves(arguments: dict) -> list[Tensor]:
    weights = [t for pair in arguments["weights"] for t in pair]
    every = [
        arguments["x"],
        *arguments["initial"],
        *weights,
        arguments["parameters"],
        *arguments["after_reset"],
    ]
    return [t for t in every if t is not None]


def outputs(cell: program_ops.Cell, result) -> list[Tensor]:
    states, last, taps = result
    given = [state for state, is_output in zip(states, cell.given, strict=True) if is_output]
    return [*given, *last, *([taps] if taps.numel() else [])]


def loss_of(found: list[Tensor]) -> Tensor:
    g = torch.Generator().manual_seed(1)
    weights = [torch.randn(o.shape, generator=g, dtype=torch.float64).to(o.dtype) for o in found]
    return sum((o * w).sum() for o, w in zip(found, weights, strict=True))


def assert_same(found: Assembled, arguments: dict, reverse: bool = False) -> None:
    wanted = leaves(arguments)
    results = []
    for run, cell in ((reference.program, found.cell.graph), (program_ops.run, found.cell)):
        values = outputs(found.cell, run(cell, reverse=reverse, **arguments))
        gradients = torch.autograd.grad(loss_of(values), wanted, allow_unused=True)
        results.append(
            [
                *values,
                *(torch.zeros_like(w) if g is None else g for w, g in zip(wanted, gradients, strict=True)),
            ]
        )
    tolerance = TOLERANCE[arguments["x"].dtype]
    for expected, actual in zip(*results, strict=True):
        scale = max(1.0, float(expected.detach().abs().max()))
        torch.testing.assert_close(actual / scale, expected / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", KINDS)
def test_every_cell_with_all_around_it(name: str, around: str) -> None:
    found = assembled(name, around)
    biased = not AROUND[around].get("layer_norm")
    for steps, batch, hidden, sizes, reverse, resets in (
        (4, 3, 7, None, False, False),
        (1, 1, 1, None, False, True),
        (4, 3, 33, None, True, True),
        (3, 5, 9, [5, 3, 1], False, True),
        (3, 5, 16, [5, 3, 1], True, True),
    ):
        assert_same(
            found, problem(found, steps, batch, hidden, sizes=sizes, resets=resets, biased=biased), reverse
        )


@pytest.mark.parametrize("level", _native.cpu_levels())
@pytest.mark.parametrize("name", ["lstm_layer_norm", "gru_reset_before", "ind_rnn_relu"])
def test_float32_on_every_level(name: str, level: str) -> None:
    _native.use_cpu_level(level)
    for around in ("plain", "all"):
        found = assembled(name, around)
        for hidden in (1, 7, 16, 33, 70, 600):
            assert_same(found, problem(found, 3, 2 if hidden > 100 else 5, hidden, torch.float32))


@pytest.mark.parametrize("name", ["lstm", "lstm_layer_norm", "ind_rnn_tanh", "min_gru"])
@pytest.mark.parametrize(("steps", "batch", "hidden"), [(40, 64, 48), (200, 1, 300), (60, 3, 200)])
def test_result_does_not_depend_on_threads(name: str, steps: int, batch: int, hidden: int) -> None:
    """Large enough for rows (many sequences), or units that do not meet, to be shared out."""
    found = assembled(name, "plain")
    arguments = problem(found, steps, batch, hidden, torch.float32)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        values = outputs(found.cell, program_ops.run(found.cell, **arguments))
        results.append([*values, *torch.autograd.grad(loss_of(values), leaves(arguments))])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_packed_work_is_shared_out_too() -> None:
    torch.set_num_threads(2)
    found = assembled("peephole_lstm", "plain")
    sizes = [60 - 2 * t for t in range(28)]
    for reverse in (False, True):
        assert_same(found, problem(found, 0, 60, 64, torch.float32, sizes, resets=True), reverse)


@pytest.mark.parametrize("name", ["lstm_layer_norm", "gru_reset_before", "min_lstm"])
def test_first_and_second_derivatives(name: str) -> None:
    found = assembled(name, "plain")
    arguments = problem(found, 3, 2, 3, resets=True)
    wanted = leaves(arguments)

    def run(*tensors: Tensor):
        replaced = {id(old): new for old, new in zip(wanted, tensors, strict=True)}

        def swap(value):
            if isinstance(value, list | tuple):
                return type(value)(map(swap, value))
            return replaced.get(id(value), value)

        return tuple(
            outputs(found.cell, program_ops.run(found.cell, **{k: swap(v) for k, v in arguments.items()}))
        )

    assert torch.autograd.gradcheck(run, wanted)
    assert torch.autograd.gradgradcheck(run, wanted)


def swap_states(gates, states):
    """Each state goes where the other was: what is stored must not be overwritten before it is read."""
    h, c = states
    return torch.tanh(gates[0]) + c, h


def keep_all(gates, states):
    return states[0], states[1]


def forget_all(gates, states):
    return torch.tanh(gates[0]), gates[0].input


def of_constants(gates, states):
    return torch.tanh(gates[0].recurrent * 0.5 + 2) - 1, states[1] * 0 + 0.25


def halves_apart(gates, states):
    c = states[1]
    return torch.tanh(gates[0].input * c) + gates[0].recurrent, torch.relu(gates[0].recurrent)


@pytest.mark.parametrize("step", [swap_states, keep_all, forget_all, of_constants, halves_apart])
def test_steps_that_are_easy_to_get_wrong(step) -> None:
    found = assemble(Kind(step, 1, ("hidden", "other"), (1,)), show=True)
    for resets in (False, True):
        assert_same(found, problem(found, 5, 3, 9, resets=resets))


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_any_shape(data) -> None:
    found = assembled(
        data.draw(st.sampled_from(sorted(KINDS))), data.draw(st.sampled_from(["plain", "shown"]))
    )
    sizes = data.draw(st.none() | st.lists(st.integers(1, 6), min_size=1, max_size=6))
    sizes = None if sizes is None else sorted(sizes, reverse=True)
    batch = sizes[0] if sizes else data.draw(st.integers(1, 5))
    hidden, steps = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 6))
    arguments = problem(found, steps, batch, hidden, sizes=sizes, resets=data.draw(st.booleans()))
    assert_same(found, arguments, data.draw(st.booleans()))


def test_a_program_that_does_not_hold_together_is_refused() -> None:
    def made(**changes):
        arguments = {
            "arrays": [(0, 1, 0)],
            "constants": [],
            "segments": [(-1, 0, 0, [])],
            "registers": 1,
            "states": 1,
        }
        return _native.Program(**(arguments | changes))

    made()
    copy = (0, 0, 0, 0, 0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="operand"):
        made(segments=[(-1, 0, 0, [(0, 7, 0, *copy[3:])])])
    with pytest.raises(ValueError, match="instruction"):
        made(segments=[(-1, 0, 0, [(99, *copy[1:])])])
    with pytest.raises(ValueError, match="product"):
        made(segments=[(0, 5, 0, [copy])])
    with pytest.raises(ValueError, match="array"):
        made(arrays=[(4, 1, 3)])
    with pytest.raises(ValueError, match="write"):
        made(arrays=[(2, 1, 0)], segments=[(-1, 0, 0, [copy])])
    with pytest.raises(ValueError, match="32"):
        made(arrays=[(0, 1, 0)] * 33)


SPECIAL = [
    0.0,
    -0.0,
    1.0,
    torch.inf,
    -torch.inf,
    torch.nan,
    1e-40,
    -1.0,
    88.0,
    100.0,
    -200.0,
    3e38,
    1e-8,
    -1e-8,
    2.0,
    -0.5,
]
RANGES = {torch.exp: (-86, 88), torch.expm1: (-20, 20), torch.log: (1e-30, 1e4), torch.log1p: (-0.999, 50)}


@pytest.mark.parametrize("level", _native.cpu_levels())
@pytest.mark.parametrize("function", RANGES, ids=lambda f: f.__name__)
def test_float32_functions_are_as_exact_as_stated(function, level: str) -> None:
    _native.use_cpu_level(level)
    found = assemble(Kind(lambda gates, states: function(gates[0]), 1))

    def run(x: Tensor) -> Tensor:
        x = x.view(-1, 16)
        return program_ops.run(found.cell, x, [torch.zeros(len(x), 16)], []).states[0].flatten()

    low, high = RANGES[function]
    for x in (torch.linspace(low, high, 80_000), torch.linspace(max(low, -1e-3), 1e-3, 80_000)):
        expected = function(x.double())
        error = (run(x) - expected).abs() / expected.abs().clamp(min=1.0 if function is torch.log else 1e-37)
        assert float(error.max()) < 3e-7
    torch.testing.assert_close(run(torch.tensor(SPECIAL)), function(torch.tensor(SPECIAL)), equal_nan=True)
