"""Options at work, traces and checkpointing, each against plain loops written from the equations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import elman

T, B, I, H = 6, 3, 4, 5
CELLS = ["RNN", "GRU", "LSTM"]
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture(autouse=True, scope="module")
def in_float64():
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)


def an_input() -> Tensor:
    torch.manual_seed(5)
    return torch.randn(T, B, I, requires_grad=True)


def random_parameters(layer: nn.Module) -> nn.Module:
    torch.manual_seed(2)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def layer_normed(x: Tensor, gain: Tensor) -> Tensor:
    x = x - x.mean(-1, keepdim=True)
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * gain


def looped(
    layer, x, mask=None, zoneout=0.0, keep=None, w_hh=None, trace=None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One layer in one direction, written out. mask: of the state that enters the product; keep[t]: kept units."""
    w_hh = layer.weight_hh_l0 if w_hh is None else w_hh
    h = c = x.new_zeros(x.shape[1], layer.hidden_size)
    if layer.learn_initial_state:
        h = layer.initial_hidden.expand_as(h)
        c = layer.initial_cell.expand_as(c) if layer.mode == "LSTM" else c
    y = []
    for t, now in enumerate(x):
        a, u = F.linear(now, layer.weight_ih_l0), F.linear(h if mask is None else h * mask, w_hh)
        if layer.layer_norm:
            a, u = layer_normed(a, layer.norm_ih_l0), layer_normed(u, layer.norm_hh_l0)
        a, u = a + layer.bias_ih_l0, u + layer.bias_hh_l0
        new_c, gates = c, {}
        if layer.mode == "LSTM":
            i, f, g, o = (a + u).chunk(4, dim=1)
            i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
            new_c = f * c + i * g
            shown = layer_normed(new_c, layer.norm_c_l0) + layer.norm_c_bias_l0 if layer.layer_norm else new_c
            new_h = o * shown.tanh()
            gates = {"input_gate": i, "forget_gate": f, "candidate": g, "output_gate": o}
        elif layer.mode == "GRU":
            (ar, az, an), (ur, uz, un) = a.chunk(3, dim=1), u.chunk(3, dim=1)
            r, z = (ar + ur).sigmoid(), (az + uz).sigmoid()
            n = (an + r * un).tanh()
            new_h = (1 - z) * n + z * h
            gates = {"reset_gate": r, "update_gate": z, "candidate": n}
        else:
            new_h = (a + u).tanh()
        share = zoneout if keep is None else keep[t]
        h, c = share * h + (1 - share) * new_h, share * c + (1 - share) * new_c
        y.append(h)
        if trace is not None:
            states = {"hidden": h} | ({"cell": c} if layer.mode == "LSTM" else {})
            for name, value in (states | gates).items():
                trace.setdefault(name, []).append(value)
    return torch.stack(y), (h, c)


def assert_same(y: Tensor, expected: Tensor, layer: nn.Module, x: Tensor) -> None:
    torch.testing.assert_close(y, expected, **CLOSE)
    wanted = [x, *layer.parameters()]
    found = torch.autograd.grad((y**2).sum(), wanted, allow_unused=True)
    for a, b in zip(found, torch.autograd.grad((expected**2).sum(), wanted, allow_unused=True), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_layer_norm_is_the_papers(cell, learned) -> None:
    layer = random_parameters(getattr(elman, cell)(I, H, layer_norm=True, learn_initial_state=learned))
    x = an_input()
    y, state = layer(x)
    expected, (h, c) = looped(layer, x)
    assert_same(y, expected, layer, x)
    torch.testing.assert_close(state, (h[None], c[None]) if cell == "LSTM" else h[None], **CLOSE)


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_dropout_is_one_mask_for_all_steps(cell, monkeypatch) -> None:
    layer, x = random_parameters(getattr(elman, cell)(I, H, recurrent_dropout=0.4)), an_input()
    torch.manual_seed(9)
    mask = F.dropout(torch.ones(B, H), 0.4)
    torch.manual_seed(9)
    assert_same(layer(x)[0], looped(layer, x, mask)[0], layer, x)
    assert set(mask.unique().tolist()) == {0.0, 1 / 0.6}
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert_same(layer(x)[0], looped(layer, x)[0], layer, x)


@pytest.mark.parametrize("cell", CELLS)
def test_input_dropout_is_one_mask_for_all_steps_of_a_sequence(cell) -> None:
    layer, x = random_parameters(getattr(elman, cell)(I, H, input_dropout=0.4)), an_input()
    torch.manual_seed(9)
    mask = F.dropout(torch.ones(B, I), 0.4)
    torch.manual_seed(9)
    assert_same(layer(x)[0], looped(layer, x * mask)[0], layer, x)
    torch.manual_seed(9)
    ragged = layer(x, lengths=[2, 6, 4])[0]
    torch.manual_seed(9)
    assert F.dropout(torch.ones(B, I), 0.4).any()
    assert ragged.isfinite().all()
    layer.eval()
    assert_same(layer(x)[0], looped(layer, x)[0], layer, x)


@pytest.mark.parametrize("cell", CELLS)
def test_zoneout_keeps_old_values(cell) -> None:
    layer, x = random_parameters(getattr(elman, cell)(I, H, zoneout=0.3)), an_input()
    layer.eval()
    assert_same(layer(x)[0], looped(layer, x, zoneout=0.3)[0], layer, x)
    layer.train()
    wide = getattr(elman, cell)(I, 100, zoneout=0.3)
    with torch.no_grad():
        y, _ = wide(torch.randn(40, 5, I))
    kept = (y[1:] == y[:-1]).double().mean()
    assert 0.27 < float(kept) < 0.33
    torch.manual_seed(1)
    first = layer(x)[0]
    torch.manual_seed(1)
    assert torch.equal(layer(x)[0], first)


@pytest.mark.parametrize("cell", CELLS)
def test_weight_dropout_drops_recurrent_weights(cell) -> None:
    layer, x = random_parameters(getattr(elman, cell)(I, H, weight_dropout=0.5)), an_input()
    torch.manual_seed(9)
    dropped = F.dropout(layer.weight_hh_l0, 0.5)
    torch.manual_seed(9)
    assert_same(layer(x)[0], looped(layer, x, w_hh=dropped)[0], layer, x)
    layer.eval()
    assert_same(layer(x)[0], looped(layer, x)[0], layer, x)


def test_residual_adds_the_input_where_sizes_agree() -> None:
    layer, x = elman.LSTM(I, H, 2, residual=True), an_input()
    first, second = elman.LSTM(I, H), elman.LSTM(H, H)
    for k, single in enumerate((first, second)):
        single.load_state_dict(
            {n.replace("_l0", "_l0"): getattr(layer, n.replace("_l0", f"_l{k}")) for n in single.state_dict()}
        )
    middle = first(x)[0]
    torch.testing.assert_close(layer(x)[0], second(middle)[0] + middle, **CLOSE)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_trace_shows_states_and_gates(cell, batch_first) -> None:
    layer, x = random_parameters(getattr(elman, cell)(I, H, batch_first=batch_first)), an_input()
    expected: dict = {}
    y, _ = looped(layer, x, trace=expected)
    given = x.transpose(0, 1) if batch_first else x
    found, state, trace = layer(given, return_trace=True)
    assert list(trace) == [f"{name}_l0" for name in expected]
    for name, values in expected.items():
        value = trace[f"{name}_l0"]
        torch.testing.assert_close(
            value.transpose(0, 1) if batch_first else value, torch.stack(values), **CLOSE
        )
    assert torch.equal(trace["hidden_l0"], found)
    torch.testing.assert_close(found.transpose(0, 1) if batch_first else found, y, **CLOSE)
    loss = sum((v * (k + 1)).sum() for k, v in enumerate(trace.values()))
    wanted = sum((torch.stack(v) * (k + 1)).sum() for k, v in enumerate(expected.values()))
    for a, b in zip(
        torch.autograd.grad(loss, layer.parameters()),
        torch.autograd.grad(wanted, layer.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(a, b, **CLOSE)
    assert len(layer(given)) == 2
    assert len(state) if cell == "LSTM" else state.shape == (1, B, H)


def test_a_trace_of_layers_directions_and_ragged_sequences() -> None:
    layer, x = elman.LSTM(I, H, 2, bidirectional=True, batch_first=True), an_input().transpose(0, 1)
    y, _, trace = layer(x, lengths=[2, 6, 4], return_trace=True)
    assert {name for name in trace if "forget" in name} == {
        f"forget_gate_l{k}{suffix}" for k in (0, 1) for suffix in ("", "_reverse")
    }
    assert torch.equal(torch.cat((trace["hidden_l1"], trace["hidden_l1_reverse"]), dim=2), y)
    assert not trace["forget_gate_l0"][0, 2:].any()
    assert trace["forget_gate_l0"][1].all()


def saved_bytes(layer: nn.Module, x: Tensor) -> int:
    seen: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        kept = layer(x)
    assert kept[0].requires_grad
    return sum(seen.values())


@pytest.mark.parametrize(
    "options", [{}, {"layer_norm": True, "zoneout": 0.1}, {"bidirectional": True, "num_layers": 2}], ids=str
)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("every", [1, 2, 4, 100])
def test_checkpoints_change_nothing_but_memory(cell, every, options) -> None:
    layer = random_parameters(getattr(elman, cell)(I, H, **options)).eval()
    x = an_input()
    reset = torch.rand(T, B) < 0.3
    for call in ({}, {"lengths": [2, 6, 4]}, {"reset": reset}, {"lengths": [2, 0, 4], "reset": reset}):
        layer.checkpoint_every = None
        expected, state = layer(x, **call)
        layer.checkpoint_every = every
        found, state2 = layer(x, **call)
        assert_same(found, expected, layer, x)
        torch.testing.assert_close(state2, state, **CLOSE)


def test_checkpoints_save_memory() -> None:
    x = torch.randn(400, 2, 8, requires_grad=True)
    layer = elman.LSTM(8, 32)
    whole = saved_bytes(layer, x)
    layer.checkpoint_every = 20
    assert saved_bytes(layer, x) < whole / 5


TRACED = {
    "reset": ("LSTM", {"num_layers": 2, "bidirectional": True}, {"reset": torch.rand(T, B) < 0.3}),
    "lengths": ("GRU", {"num_layers": 2, "bidirectional": True}, {"lengths": [2, 6, 0]}),
    "lengths and resets": (
        "LSTM",
        {"bidirectional": True},
        {"lengths": [2, 6, 4], "reset": torch.rand(T, B) < 0.3},
    ),
    "trace": ("LSTM", {}, {"return_trace": True}),
    "options": (
        "LSTM",
        {"layer_norm": True, "zoneout": 0.1, "residual": True, "learn_initial_state": True},
        {},
    ),
    "reset_after": ("GRU", {"reset_after": False}, {}),
    "checkpoint_every": ("RNN", {"checkpoint_every": 2}, {}),
    **{
        name: (name, {"num_layers": 2}, {})
        for name in ("PeepholeLSTM", "CoupledLSTM", "IndRNN", "MinGRU", "MinLSTM")
    },
}


class Output(nn.Module):
    def __init__(self, layer: nn.Module, call: dict) -> None:
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, **self.call)[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", TRACED)
def test_compiled_exported_and_transformed(name) -> None:
    torch.manual_seed(0)
    cell, options, call = TRACED[name]
    module, x = Output(getattr(elman, cell)(I, H, **options).eval(), call), an_input()
    y = module(x)
    (gradient,) = torch.autograd.grad((y**2).sum(), x)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(compiled, y, **CLOSE)
    torch.testing.assert_close(torch.autograd.grad((compiled**2).sum(), x)[0], gradient, **CLOSE)
    exported = torch.export.export(module, (x.detach(),)).module()
    torch.testing.assert_close(exported(x.detach()), y.detach(), **CLOSE)
    found = torch.func.grad(lambda x: (module(x) ** 2).sum())(x.detach())
    torch.testing.assert_close(found, gradient, **CLOSE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_one_compiled_graph_serves_all_lengths() -> None:
    layer, x = elman.LSTM(I, H, 2, bidirectional=True), an_input()
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, n: layer(x, lengths=n), fullgraph=True, backend="aot_eager")
    for lengths in ([2, 6, 4], [1, 1, 0], [6, 6, 6]):
        y, (h, c) = compiled(x, torch.tensor(lengths))
        y2, (h2, c2) = layer(x, lengths=lengths)
        torch.testing.assert_close((y, h, c), (y2, h2, c2), **CLOSE)


@pytest.mark.parametrize(
    "options", [{"layer_norm": True}, {"zoneout": 0.1}, {"recurrent_dropout": 0.2}], ids=str
)
def test_autocast(options) -> None:
    layer = elman.GRU(I, H, dtype=torch.float32, **options).eval()
    x = an_input().detach().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = layer(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, layer(x)[0], rtol=0, atol=0.05)
    y.sum().backward()
    assert layer.weight_hh_l0.grad.isfinite().all()


def test_inference_mode_and_embedded_symbols() -> None:
    layer = elman.LSTM(I, H, layer_norm=True)
    table, tokens = torch.randn(11, I), torch.randint(11, (T, B))
    expected = layer(table[tokens])[0]
    with torch.inference_mode():
        torch.testing.assert_close(layer.forward_tokens(tokens, table)[0], expected.detach(), **CLOSE)
