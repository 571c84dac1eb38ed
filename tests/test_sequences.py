"""Traces, checkpoints, and everything beyond torch.nn under compilation, export, transforms and narrow types."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import elman
from test_dropin import CELLS
from test_layers import FLAGS, tensors_in
from test_layout import (
    HIDDEN,
    INPUT,
    KINDS,
    LENGTHS,
    RANDOM,
    STEPS,
    draw,
    given_as,
    gradients,
    made,
    states_of,
)

pytestmark = pytest.mark.usefixtures("one_thread")

GATES = {
    "RNN": [],
    "GRU": ["reset_gate", "update_gate", "candidate"],
    "LSTM": ["input_gate", "forget_gate", "candidate", "output_gate"],
}
RESET = torch.rand(STEPS, 4, generator=torch.Generator().manual_seed(11)) < 0.4
STATES = {"RNN": ["hidden"], "GRU": ["hidden"], "LSTM": ["hidden", "cell"]}


def assert_all_close(found, expected, tolerance: float = 1e-10) -> None:
    for a, b in zip(tensors_in(found), tensors_in(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def step_by_step(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The trace, from torch.nn's cells for the states and plain equations for the gates; x (T, B, I)."""
    cell, trace = type(layer).__name__, {}
    for k in range(layer.num_layers):
        outputs = []
        for suffix in ("", "_reverse") if layer.bidirectional else ("",):
            stepper = getattr(nn, f"{cell}Cell")(x.shape[2], HIDDEN, dtype=x.dtype)
            weights = [
                layer.get_parameter(f"{n}_l{k}{suffix}")
                for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            for p, w in zip(stepper.parameters(), weights, strict=True):
                p.data.copy_(w)
            h = c = x.new_zeros(x.shape[1], HIDDEN)
            rows = []
            for t in reversed(range(len(x))) if suffix else range(len(x)):
                a, u = F.linear(x[t], weights[0], weights[2]), F.linear(h, weights[1], weights[3])
                if cell == "RNN":
                    h, gates = stepper(x[t], h), []
                elif cell == "GRU":
                    r, z = torch.sigmoid(a + u)[:, : 2 * HIDDEN].chunk(2, 1)
                    n = torch.tanh(a[:, 2 * HIDDEN :] + r * u[:, 2 * HIDDEN :])
                    h, gates = stepper(x[t], h), [r, z, n]
                else:
                    i, f, g, o = (a + u).chunk(4, 1)
                    h, c = stepper(x[t], (h, c))
                    gates = [torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)]
                rows.append([h, *([c] if cell == "LSTM" else []), *gates])
            rows = rows[::-1] if suffix else rows
            for name, values in zip(STATES[cell] + GATES[cell], zip(*rows, strict=True), strict=True):
                trace[f"{name}_l{k}{suffix}"] = torch.stack(values)
            outputs.append(trace[f"hidden_l{k}{suffix}"])
        x = torch.cat(outputs, 2)
    return trace


@pytest.mark.parametrize(("batch_first", "bidirectional"), FLAGS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("with_gradients", [True, False])
def test_trace_is_every_state_and_gate(with_gradients, cell, bidirectional, batch_first):
    layer = made(cell, bidirectional=bidirectional, batch_first=batch_first)
    x = draw(STEPS, 4, INPUT)
    turn = (lambda t: t.transpose(0, 1)) if batch_first else (lambda t: t)
    with torch.set_grad_enabled(with_gradients):  # without, the kernels themselves show what they keep
        y, state, trace = layer(turn(x), return_trace=True)
    expected = step_by_step(layer, x)
    assert trace.keys() == expected.keys()
    for name, value in expected.items():
        assert trace[name].shape == (*y.shape[:2], HIDDEN)
        torch.testing.assert_close(turn(trace[name]), value, rtol=1e-10, atol=1e-10)
    last = ["hidden_l1", "hidden_l1_reverse"] if bidirectional else ["hidden_l1"]
    assert torch.equal(torch.cat([trace[name] for name in last], 2), y)
    names = [f"_l{k}{s}" for k in range(2) for s in (["", "_reverse"] if bidirectional else [""])]
    for found, of in zip(tensors_in(state), STATES[cell], strict=True):
        ends = [turn(trace[of + name])[0 if "reverse" in name else -1] for name in names]
        assert torch.equal(found, torch.stack(ends))


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("reset", [None, RESET])
@pytest.mark.parametrize("kind", KINDS)
def test_trace_is_the_same_without_gradients(kind, reset, lengths):
    layer = made(kind, bidirectional=True)
    x, states = draw(STEPS, 4, INPUT), states_of(layer, 4)
    expected = layer(x, given_as(states), lengths=lengths, reset=reset, return_trace=True)
    with torch.no_grad():
        found = layer(x, given_as(states), lengths=lengths, reset=reset, return_trace=True)
    assert list(found[2]) == list(expected[2])
    assert_all_close(found[:2], expected[:2])
    for name, value in found[2].items():
        torch.testing.assert_close(value, expected[2][name], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_trace_changes_nothing_else(kind):
    layer = made(kind, bidirectional=True)
    x, states = draw(STEPS, 4, INPUT), states_of(layer, 4)
    plain = layer(x, given_as(states))
    assert isinstance(plain, tuple)
    assert len(plain) == 2
    y, state, _ = layer(x, given_as(states), return_trace=True)
    assert_all_close((y, state), plain)
    leaves = [x, *states]
    assert_all_close(gradients((y, state), leaves), gradients(plain, leaves))


@pytest.mark.parametrize("kind", KINDS)
def test_trace_with_lengths_is_each_sequences_own(kind):
    layer = made(kind, bidirectional=True)
    x = draw(STEPS, 4, INPUT)
    _, _, trace = layer(x, lengths=LENGTHS, return_trace=True)
    packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    _, _, of_packed = layer(packed, return_trace=True)
    _, _, unbatched = layer(x[:, 0], lengths=LENGTHS[:1], return_trace=True)
    assert trace.keys() == of_packed.keys() == unbatched.keys()
    for name, value in trace.items():
        for b, n in enumerate(LENGTHS):
            alone = layer(x[:n, b], return_trace=True)[2][name]
            torch.testing.assert_close(value[:n, b], alone, rtol=1e-10, atol=1e-10)
            assert not value[n:, b].any()
        assert isinstance(of_packed[name], PackedSequence)
        assert torch.equal(pad_packed_sequence(of_packed[name], total_length=STEPS)[0], value)
        torch.testing.assert_close(unbatched[name], value[:, 0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["forget_gate_l1", "cell_l0_reverse"])
def test_trace_is_differentiable(name):
    layer = made("LSTM", bidirectional=True)
    x, weight = draw(3, 2, INPUT), layer.weight_hh_l0

    def run(x: Tensor, weight: Tensor) -> Tensor:
        more = {"return_trace": True, "lengths": [2, 3]}
        return torch.func.functional_call(layer, {"weight_hh_l0": weight}, (x,), more)[2][name]

    assert torch.autograd.gradcheck(run, (x, weight.detach().requires_grad_()))
    assert torch.autograd.gradgradcheck(run, (x, weight.detach().requires_grad_()), fast_mode=True)


def test_trace_sees_what_a_reset_does():
    layer, x = made("LSTM", 1), draw(STEPS, 2, INPUT)
    reset = torch.zeros(STEPS, 2, dtype=torch.bool)
    reset[3] = True
    trace = layer(x, reset=reset, return_trace=True)[2]
    after = layer(x[3:], return_trace=True)[2]
    for name, value in after.items():
        torch.testing.assert_close(trace[name][3:], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [*((kind, torch.float64) for kind in KINDS), *((kind, torch.float32) for kind in [*CELLS, "peepholes"])],
)
def test_checkpoints_change_nothing(kind, dtype):
    """Whatever the size of a chunk; with ends and beginnings inside, given states, traces, and random draws."""
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    drawn = dict(RANDOM)
    if not made(kind)._kind().products:
        del drawn["recurrent_dropout"], drawn["weight_dropout"]
    layer = made(kind, 1, bidirectional=True, **drawn).to(dtype).train()
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(0.5)  # so that float32 tells a wrong result from rounding
    x = draw(STEPS, 4, INPUT).to(dtype).detach().requires_grad_()
    states = [s.to(dtype).detach().requires_grad_() for s in states_of(layer, 4)]
    reset = torch.rand(STEPS, 4) < 0.4
    leaves = [x, *states, *layer.parameters()]

    def run(every: int | None, training: bool, **more):
        layer.checkpoint_every = every
        torch.manual_seed(2)
        y, state, *trace = layer.train(training)(x, given_as(states), **more)
        results = [y, state, *(trace[0].values() if trace else [])]
        return tensors_in(results), torch.autograd.grad(
            sum(t.pow(2).mean() for t in tensors_in(results)), leaves, allow_unused=True
        )

    calls = [
        (False, {}),
        (True, {"return_trace": True}),
        (True, {"lengths": [3, 6, 0, 5], "reset": reset}),
    ]
    for training, more in calls:
        expected, of_expected = run(None, training, **more)
        for every in (1, 2, 3, 5, STEPS, STEPS + 1):
            found, of_found = run(every, training, **more)
            for a, b in zip([*found, *of_found], [*expected, *of_expected], strict=True):
                if b is None:
                    assert a is None or not a.any()
                else:
                    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def saved_bytes(layer: nn.Module, x: Tensor) -> int:
    """What autograd keeps between forward and backward, the layer's own weights and input included."""
    sizes: dict[int, int] = {}

    def count(t: Tensor) -> Tensor:
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
        y = layer(x)[0]
    assert y.requires_grad
    return sum(sizes.values())


@pytest.mark.parametrize("cls", [elman.LSTM, elman.PeepholeLSTM])
def test_checkpoints_save_memory(cls):
    x, layer = torch.randn(400, 4, 16), cls(16, 64)
    whole = saved_bytes(layer, x)
    layer.checkpoint_every = 20
    assert saved_bytes(layer, x) < whole / 4


AROUND = {"layer_norm": True, "zoneout": 0.2, "residual": True, "learn_initial_state": True}
TENSOR = torch.tensor([3, 0, 6, 2])
BOTH = {"bidirectional": True}
CASES = {
    "reset": ("LSTM", {}, {"reset": RESET}),
    "lengths": ("GRU", {}, {"lengths": LENGTHS}),
    "lengths as a tensor": ("LSTM", {}, {"lengths": TENSOR}),
    "lengths and resets": (
        "RNN",
        BOTH,
        {"lengths": TENSOR, "reset": RESET},
    ),
    "trace and lengths": ("GRU", {}, {"return_trace": True, "lengths": TENSOR}),
    "around a cell, all": ("LSTM", AROUND, {"lengths": LENGTHS, "reset": RESET, "return_trace": True}),
    "reset before": ("reset before", {}, {"reset": RESET}),
    "checkpointed": ("LSTM", {"checkpoint_every": 4}, {}),
    "checkpointed, all": (
        "LSTM",
        AROUND | {"checkpoint_every": 4},
        {"lengths": TENSOR, "reset": RESET},
    ),
    "peepholes": ("peepholes", {}, {}),
    "coupled": ("coupled", {}, {"reset": RESET}),
    "independent": ("independent", {"checkpoint_every": None}, {"lengths": LENGTHS}),
    "MinGRU": ("MinGRU", {}, {"lengths": TENSOR}),
    "MinLSTM": ("MinLSTM", {}, {"return_trace": True}),
    "custom": ("custom", AROUND, {"lengths": TENSOR}),
}


def case(name: str) -> tuple[nn.Module, dict]:
    kind, options, call = CASES[name]
    return made(kind, **({"num_layers": 1} | options)), call


def values_of(result) -> list[Tensor]:
    y, state, *trace = result
    return tensors_in([y, state, *(trace[0].values() if trace else [])])


def outcome(layer, call, x: Tensor, parameters) -> list[Tensor]:
    results = values_of(layer(x, **call))
    return [*results, *gradients(results, [x, *parameters])]


@pytest.mark.parametrize("name", CASES)
def test_compiles_without_a_break(name):
    torch._dynamo.reset()
    layer, call = case(name)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = draw(STEPS, 4, INPUT)
    assert_all_close(
        outcome(compiled, call, x, layer.parameters()), outcome(layer, call, x, layer.parameters())
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])  # whose sums and products of lengths overflow
def test_a_compiled_graph_serves_any_lengths_and_resets(dtype):
    """And what lies past the ends has no influence there either."""
    torch._dynamo.reset()
    layer = made("layer norm", 1, bidirectional=dtype == torch.int8)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    clean = draw(40, 4, INPUT)
    for lengths in ([40, 39, 33, 1], [0, 7, 40, 2], [0, 0, 0, 0], [40, 40, 40, 40]):
        reset = torch.rand(40, 4) < 0.2
        past = (torch.arange(40)[:, None] >= torch.tensor(lengths))[..., None]
        dirty = clean.detach().masked_fill(past, float("nan")).requires_grad_()
        expected = outcome(layer, {"lengths": lengths, "reset": reset}, clean, layer.parameters())
        call = {"lengths": torch.tensor(lengths, dtype=dtype), "reset": reset}
        assert_all_close(outcome(compiled, call, dirty, layer.parameters()), expected, 1e-9)
    assert counter.frame_count == 1


def test_unbatched_when_compiled():
    torch._dynamo.reset()
    layer = made("GRU", 1)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x, reset = draw(STEPS, INPUT), torch.arange(STEPS) == 2
    for n in (0, 4):
        call = {"lengths": torch.tensor([n]), "reset": reset}
        assert_all_close(
            outcome(compiled, call, x, layer.parameters()), outcome(layer, call, x, layer.parameters())
        )


def test_random_draws_when_compiled():
    torch._dynamo.reset()
    layer = made("GRU", 1, zoneout=0.4, recurrent_dropout=0.4, weight_dropout=0.4, input_dropout=0.4).train()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = draw(STEPS, 4, INPUT)
    ys = [compiled(x)[0] for _ in range(3)]
    assert not torch.equal(ys[1], ys[2])
    torch.manual_seed(1)
    first = compiled(x)[0]
    torch.manual_seed(1)
    assert torch.equal(compiled(x)[0], first)
    torch.manual_seed(1)
    torch.testing.assert_close(layer(x)[0], first)


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # dynamo's, at a break
def test_options_changed_after_compilation():
    torch._dynamo.reset()
    layer = made("LSTM", 1, zoneout=0.1).train()
    compiled = torch.compile(layer, backend="aot_eager")
    x = draw(STEPS, 4, INPUT)
    for value, training in ((0.1, True), (0.6, True), (0.3, False)):
        layer.train(training)
        layer.zoneout = value
        ys = []
        for module in (compiled, layer):
            torch.manual_seed(1)
            ys.append(module(x)[0])
        torch.testing.assert_close(*ys, rtol=1e-12, atol=1e-12)


def test_a_projection_with_lengths_says_that_it_cannot_be_compiled():
    torch._dynamo.reset()
    layer = elman.LSTM(INPUT, HIDDEN, proj_size=2)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match="proj_size"):
        compiled(torch.randn(STEPS, 4, INPUT), lengths=torch.tensor(LENGTHS))


@pytest.mark.parametrize(
    "wrong", [torch.tensor([1, 2]), torch.ones(4), torch.ones(4, dtype=torch.bool)], ids=str
)
def test_wrong_lengths_are_refused_when_compiled(wrong):
    torch._dynamo.reset()
    compiled = torch.compile(made("LSTM", 1), fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match="lengths"):
        compiled(torch.randn(STEPS, 4, INPUT, dtype=torch.float64), lengths=wrong)


class Caller(nn.Module):
    """Hands on its arguments by their places, and the results that are tensors."""

    def __init__(self, layer: nn.Module, names: list[str], more: dict) -> None:
        super().__init__()
        self.layer, self.names, self.more = layer, names, more

    def forward(self, x, *tensors):
        result = self.layer(x, **dict(zip(self.names, tensors, strict=True)), **self.more)
        return result[0], result[1]


@pytest.mark.parametrize("name", CASES)
def test_exports(name):
    layer, call = case(name)
    tensors = {n: v for n, v in call.items() if isinstance(v, Tensor)}
    caller = Caller(layer, list(tensors), {n: v for n, v in call.items() if n not in tensors})
    x = torch.randn(STEPS, 4, INPUT, dtype=torch.float64)
    with torch.no_grad():
        program = torch.export.export(caller, (x, *tensors.values())).module()
        others = [t.flip(-1) for t in tensors.values()]
        for arguments in ((x, *tensors.values()), (x * 2, *others)):
            assert_all_close(program(*arguments), caller(*arguments))


@pytest.mark.parametrize("kind", ["LSTM", "layer norm"])
def test_exports_any_number_of_steps_and_sequences(kind):
    caller = Caller(made(kind, 1, bidirectional=True), ["lengths", "reset"], {})
    steps, batch = torch.export.Dim("steps", min=2), torch.export.Dim("batch", min=2)
    x = torch.randn(STEPS, 4, INPUT, dtype=torch.float64)
    shapes = {"x": {0: steps, 1: batch}, "tensors": ({0: batch}, {0: steps, 1: batch})}
    with torch.no_grad():
        program = torch.export.export(
            caller, (x, torch.tensor(LENGTHS), RESET), dynamic_shapes=shapes
        ).module()
        other = torch.randn(9, 2, INPUT, dtype=torch.float64), torch.tensor([9, 4]), torch.rand(9, 2) < 0.3
        for arguments in ((x, torch.tensor(LENGTHS), RESET), other):
            assert_all_close(program(*arguments), caller(*arguments))


def static(call: dict) -> dict:
    """Lengths as a list: transforms see no numbers in tensors."""
    return {n: v.tolist() if n == "lengths" and isinstance(v, Tensor) else v for n, v in call.items()}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("name", CASES)
def test_transforms(name):
    layer, call = case(name)
    call = static(call)
    weights = dict(layer.named_parameters())
    xs = torch.randn(2, STEPS, 4, INPUT, dtype=torch.float64)

    def loss(weights, x):
        return sum(t.pow(2).sum() for t in values_of(torch.func.functional_call(layer, weights, (x,), call)))

    together = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, xs)
    for k in range(2):
        apart = torch.autograd.grad(loss(weights, xs[k]), list(weights.values()))
        assert_all_close([t[k] for t in together.values()], apart)
    tangent = torch.func.jvp(lambda x: loss(weights, x), (xs[0],), (xs[1],))[1]
    step = 1e-6
    difference = (loss(weights, xs[0] + step * xs[1]) - loss(weights, xs[0] - step * xs[1])) / (2 * step)
    torch.testing.assert_close(tangent, difference, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_resets_and_states_of_each_sample():
    layer = made("layer norm", 1)
    xs, resets = torch.randn(3, STEPS, 4, INPUT, dtype=torch.float64), torch.rand(3, STEPS, 4) < 0.4
    hs = torch.randn(3, 1, 4, HIDDEN, dtype=torch.float64)
    found = torch.func.vmap(lambda x, h, r: layer(x, (h, h), reset=r)[0])(xs, hs, resets)
    for k in range(3):
        torch.testing.assert_close(found[k], layer(xs[k], (hs[k], hs[k]), reset=resets[k])[0])


@pytest.mark.parametrize("name", CASES)
def test_autocast(name):
    layer, call = case(name)
    layer.float()
    x = torch.randn(STEPS, 4, INPUT)
    expected = values_of(layer(x, **call))
    with torch.autocast("cpu", torch.bfloat16):
        found = values_of(layer(x, **call))
        of_narrow = values_of(layer(x.bfloat16(), **call))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.float(), b, rtol=0.05, atol=0.05)
    assert of_narrow[0].dtype == torch.bfloat16
    sum(t.float().pow(2).sum() for t in found).backward()
    for p in layer.parameters():
        assert p.grad.dtype == torch.float32
        assert p.grad.isfinite().all()


@pytest.mark.parametrize("cell", CELLS)
def test_lengths_keep_the_types_under_autocast(cell):
    layer, x = made(cell).float(), torch.randn(STEPS, 4, INPUT)
    with torch.autocast("cpu", torch.bfloat16):
        expected = [t.dtype for t in values_of(layer(x))]
        assert [t.dtype for t in values_of(layer(x, lengths=LENGTHS))] == expected
        assert [t.dtype for t in values_of(layer(x, lengths=[3, 0, 6, 1]))] == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CASES)
def test_narrow_weights(name, dtype):
    layer, call = case(name)
    x = torch.randn(STEPS, 4, INPUT, dtype=torch.float64)
    expected = values_of(layer(x, **call))
    found = values_of(layer.to(dtype)(x.to(dtype), **call))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.double(), b, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives(name):
    layer, call = case(name)
    call = static(call)
    call = {n: v[:3] if n == "reset" else [3, 0, 2, 1] if n == "lengths" else v for n, v in call.items()}
    x = draw(3, 4, INPUT)
    names = [n for n, _ in layer.named_parameters()]
    weights = [p.detach().requires_grad_() for p in layer.parameters()]

    def run(x, *weights):
        more = dict(zip(names, weights, strict=True))
        return tuple(values_of(torch.func.functional_call(layer, more, (x,), call)))

    assert torch.autograd.gradcheck(run, (x, *weights), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, *weights), fast_mode=True)


@pytest.mark.parametrize("name", CASES)
def test_inference_mode_and_meta(name):
    layer, call = case(name)
    x = torch.randn(STEPS, 4, INPUT, dtype=torch.float64)
    expected = values_of(layer(x, **call))
    with torch.inference_mode():
        found = values_of(layer(x, **call))
    assert all(t.is_inference() for t in found)
    assert_all_close(found, expected)
    on_meta = {n: v.to("meta") if n == "reset" else v for n, v in static(call).items()}
    shapes = [(t.shape, t.is_meta) for t in values_of(layer.to("meta")(x.to("meta"), **on_meta))]
    assert shapes == [(t.shape, True) for t in expected]


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "initial_cell"])
def test_changes_between_forward_and_backward_raise(name):
    layer = made("layer norm", 1)
    y, _ = layer(draw(STEPS, 4, INPUT))
    with torch.no_grad():
        layer.get_parameter(name).mul_(2)
    with pytest.raises(RuntimeError, match=r"modified .*in-?place"):
        y.sum().backward()


@pytest.mark.parametrize(("lengths", "reset"), list(product([None, LENGTHS], [None, RESET])))
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_is_given_is_changed(kind, lengths, reset):
    layer = made(kind, bidirectional=True, zoneout=0.2).train()
    x, states = draw(STEPS, 4, INPUT), states_of(layer, 4)
    given = [x, *states, *layer.parameters(), *([] if reset is None else [reset])]
    before = [t.detach().clone() for t in given]
    y, state = layer(x, given_as(states), lengths=lengths, reset=reset)
    memory = {t.untyped_storage().data_ptr() for t in given}
    for t in tensors_in([y, state]):
        assert t.untyped_storage().data_ptr() not in memory
    y.detach().zero_()
    assert not any(torch.equal(t, torch.zeros_like(t)) for t in tensors_in(state))
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
