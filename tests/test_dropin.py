"""elman's layers in torch.nn's place: construction, errors, state dicts and replaced weights."""

import copy
import io
import multiprocessing
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.rnn import pack_padded_sequence

import elman
from elman import layers

pytestmark = pytest.mark.usefixtures("one_thread")

CELLS = ["RNN", "GRU", "LSTM"]
X, H = torch.randn(5, 3, 4), torch.randn(1, 3, 6)
PACKED = pack_padded_sequence(X, [5, 3, 1])


def twins(cell: str, *sizes, **options) -> tuple[nn.Module, nn.Module]:
    made = []
    for namespace in (nn, elman):
        torch.manual_seed(7)
        made.append(getattr(namespace, cell)(*(sizes or (4, 6)), **options))
    return made[0], made[1]


def state(cell: str, h):
    return (h, h) if cell == "LSTM" else h


def outcome(call):
    """What a call returns, or the type of its error and the texts of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = call()
        except Exception as error:
            result = type(error)
    return result, [(w.category, str(w.message)) for w in caught]


CONSTRUCTIONS = {
    "plain": ((3, 4), {}),
    "no sizes": ((), {}),
    "float size": ((3.0, 4), {}),
    "zero input": ((0, 4), {}),
    "zero hidden": ((3, 0), {}),
    "negative hidden": ((3, -1), {}),
    "zero layers": ((3, 4, 0), {}),
    "float layers": ((3, 4, 1.5), {}),
    "text layers": ((3, 4, "2"), {}),
    "integer bias": ((3, 4), {"bias": 1}),
    "integer batch_first": ((3, 4), {"batch_first": 0}),
    "integer bidirectional": ((3, 4), {"bidirectional": 1}),
    "dropout of one layer": ((3, 4), {"dropout": 0.5}),
    "dropout 1": ((3, 4, 2), {"dropout": 1}),
    "bool dropout": ((3, 4, 2), {"dropout": True}),
    "dropout below 0": ((3, 4, 2), {"dropout": -0.1}),
    "dropout above 1": ((3, 4, 2), {"dropout": 1.1}),
    "text dropout": ((3, 4, 2), {"dropout": "a"}),
    "proj_size": ((3, 4), {"proj_size": 2}),
    "proj_size 0": ((3, 4), {"proj_size": 0}),
    "proj_size too large": ((3, 4), {"proj_size": 4}),
    "negative proj_size": ((3, 4), {"proj_size": -1}),
    "unknown keyword": ((3, 4), {"peephole": True}),
    "fourth positional is text": ((3, 4, 1, "relu"), {}),
    "fourth positional is unknown": ((3, 4, 1, "swish"), {}),
    "fourth positional is a bool": ((3, 4, 1, False), {}),
    "nonlinearity": ((3, 4), {"nonlinearity": "relu"}),
    "everything": ((3, 4, 2, False, True, 0.5, True), {}),
    "everything of RNN": ((3, 4, 2, "relu", False, True, 0.5, True), {}),
    "integer dtype": ((3, 4), {"dtype": torch.int64}),
    "float64": ((3, 4), {"dtype": torch.float64}),
    "meta": ((3, 4), {"device": "meta"}),
}


@pytest.mark.parametrize("how", CONSTRUCTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_construction(cell, how):
    args, options = CONSTRUCTIONS[how]
    (theirs, their_warnings), (ours, our_warnings) = (
        outcome(lambda n=n: getattr(n, cell)(*args, **options)) for n in (nn, elman)
    )
    assert our_warnings == their_warnings
    if isinstance(theirs, type):
        assert ours is theirs
        return
    assert repr(ours) == repr(theirs)
    assert [(n, p.shape, p.dtype, p.device) for n, p in ours.named_parameters()] == [
        (n, p.shape, p.dtype, p.device) for n, p in theirs.named_parameters()
    ]
    hidden = {"_flat_weights", "_flat_weight_refs"}
    assert {k for k in vars(ours) if k not in hidden} == {k for k in vars(theirs) if k not in hidden}
    for name in layers.nn.RNNBase.__constants__:
        assert getattr(ours, name) == getattr(theirs, name)


BAD_INPUTS = {
    "1-D": lambda s: (X[0, 0], None),
    "4-D": lambda s: (X[None], None),
    "no tensor": lambda s: (X.numpy(), None),
    "nothing": lambda s: (None, None),
    "wrong size": lambda s: (X[..., :3], None),
    "length 0": lambda s: (X[:0], None),
    "double": lambda s: (X.double(), None),
    "integers": lambda s: (X.long(), None),
    "double on meta": lambda s: (X.double().to("meta"), None),
    "other device": lambda s: (X.to("meta"), None),
    "state of another batch": lambda s: (X, s(H[:, :2])),
    "state of another size": lambda s: (X, s(H[..., :5])),
    "state of too many layers": lambda s: (X, s(H.expand(2, -1, -1))),
    "state without batch": lambda s: (X, s(H[0])),
    "batched state, unbatched input": lambda s: (X[:, 0], s(H)),
    "double state": lambda s: (X, s(H.double())),
    "one state in a tuple": lambda s: (X, (H,)),
    "three states": lambda s: (X, (H, H, H)),
    "packed: wrong size": lambda s: (PACKED._replace(data=PACKED.data[:, :3]), None),
    "packed: double": lambda s: (PACKED.double(), None),
    "packed: 3-D": lambda s: (PACKED._replace(data=PACKED.data[None]), None),
    "packed: state of another batch": lambda s: (PACKED, s(H[:, :2])),
    "packed: rows missing": lambda s: (PACKED._replace(data=PACKED.data[:-1]), None),
    "packed: increasing sizes": lambda s: (PACKED._replace(batch_sizes=PACKED.batch_sizes.flip(0)), None),
}


@pytest.mark.parametrize("bad", BAD_INPUTS)
@pytest.mark.parametrize("cell", CELLS)
def test_errors_are_of_torchs_type(cell, bad):
    x, hx = BAD_INPUTS[bad](lambda h: state(cell, h))
    theirs, ours = (outcome(lambda m=m: m(x, hx))[0] for m in twins(cell))
    assert isinstance(theirs, type)
    assert ours is theirs


def test_lstm_names_the_state_that_is_wrong():
    for module in twins("LSTM"):
        with pytest.raises(RuntimeError, match=r"Expected hidden\[0\] size \(1, 3, 6\), got \[1, 2, 6\]"):
            module(X, (H[:, :2], H))
        with pytest.raises(RuntimeError, match=r"Expected hidden\[1\] size \(1, 3, 6\), got \[1, 2, 6\]"):
            module(X, (H, H[:, :2]))


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_out_of_range_is_refused_when_used(cell):
    for layers_, error in [(1, None), (2, RuntimeError)]:
        for module in twins(cell, 4, 6, layers_):
            module.dropout = 2.0
            assert outcome(lambda m=module: m(X) and None)[0] is error


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}])
@pytest.mark.parametrize("cell", CELLS)
def test_state_dicts_load_both_ways(cell, options):
    theirs, ours = twins(cell, 4, 6, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for a, b in zip(theirs.state_dict().values(), ours.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for source, target in [(theirs, ours), (ours, theirs)]:
        with torch.no_grad():
            for p in source.parameters():
                p.uniform_(-1, 1)
        saved = io.BytesIO()
        torch.save(source.state_dict(), saved)
        saved.seek(0)
        target.load_state_dict(torch.load(saved, weights_only=True), strict=True)
        torch.testing.assert_close(ours(X)[0], theirs(X)[0])
    for a, b in zip(theirs.all_weights, ours.all_weights, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))
    assert ours.flatten_parameters() is None


def test_projections_in_the_state_dict():
    theirs, ours = twins("LSTM", 4, 6, 2, proj_size=3, bidirectional=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    theirs.load_state_dict(ours.state_dict(), strict=True)


def by_setattr(module):
    module.weight_hh_l0 = nn.Parameter(torch.full((module.weight_hh_l0.shape), 0.1))


def by_data(module):
    module.weight_hh_l0.data = torch.full((module.weight_hh_l0.shape), 0.1)


def by_numpy(module):
    module.weight_hh_l0.detach().numpy()[:] = 0.1


def by_plain_tensor(module):
    shape = module.weight_hh_l0.shape
    del module.weight_hh_l0
    module.weight_hh_l0 = torch.full(shape, 0.1)


def by_apply(module):
    module._apply(lambda t: t * 0.5)


def by_double(module):
    module.double().float().apply(lambda m: [nn.init.constant_(p, 0.1) for p in m.parameters()])


def by_pruning(module):
    prune.l1_unstructured(module, "weight_hh_l0", amount=0.5)


def by_weight_norm(module):
    parametrizations.weight_norm(module, "weight_hh_l0")
    with torch.no_grad():
        module.parametrizations.weight_hh_l0.original0.mul_(2)


def by_orthogonality(module):
    parametrizations.orthogonal(module, "weight_hh_l0")


def by_any_parametrization(module):
    class Half(nn.Module):
        def forward(self, w):
            return w / 2

    parametrize.register_parametrization(module, "weight_ih_l0", Half())


def by_sharing_with_a_child(module):
    module.share_memory()
    child = multiprocessing.get_context("fork").Process(target=_halve, args=(module,))
    child.start()
    child.join(30)
    assert child.exitcode == 0


def _halve(module):
    with torch.no_grad():
        module.weight_hh_l0.mul_(0.5)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize("replace", [f for name, f in list(globals().items()) if name.startswith("by_")])
@pytest.mark.parametrize("cell", CELLS)
def test_weights_replaced_behind_its_back_are_used(cell, replace):
    theirs, ours = twins(cell)
    before = ours(X)[0]
    for module in (theirs, ours):
        torch.manual_seed(2)
        replace(module)
    results = []
    for module in (theirs, ours):
        y, _ = module(X)
        loss = y.pow(2).sum()
        results.append([y, *torch.autograd.grad(loss, list(module.parameters()))])
    assert not torch.allclose(results[1][0], before)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_copies_are_independent_and_equal(cell):
    _, ours = twins(cell, 4, 6, 2, bidirectional=True)
    expected = ours(X)[0]
    saved = io.BytesIO()
    torch.save(ours, saved)
    saved.seek(0)
    copies = [copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), torch.load(saved, weights_only=False)]
    ours.weight_hh_l0.data.zero_()
    for other in copies:
        assert type(other) is type(ours)
        assert torch.equal(other(X)[0], expected)
    assert not torch.allclose(ours(X)[0], expected)


@pytest.mark.parametrize("cell", CELLS)
def test_functional_call(cell):
    _, ours = twins(cell)
    other = {name: torch.randn_like(p, requires_grad=True) for name, p in ours.named_parameters()}
    _, target = twins(cell)
    target.load_state_dict(other)
    y = torch.func.functional_call(ours, other, (X,))[0]
    assert torch.equal(y, target(X)[0])
    y.sum().backward()
    assert all(w.grad is not None and w.grad.any() for w in other.values())
    assert ours.weight_hh_l0.grad is None


@pytest.mark.parametrize("which", ["input", "weight_hh_l0", "weight_ih_l0"])
@pytest.mark.parametrize("cell", CELLS)
def test_changes_between_forward_and_backward_raise(cell, which):
    for module in twins(cell):
        x = X.clone().requires_grad_()
        y, _ = module(x)
        with torch.no_grad():
            (x if which == "input" else getattr(module, which)).mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("cell", CELLS)
def test_nan_and_infinity_pass_through(cell, value):
    x = X.clone()
    x[2, 1, 0] = value
    theirs, ours = (m(x)[0] for m in twins(cell))
    torch.testing.assert_close(ours, theirs, equal_nan=True, rtol=1e-5, atol=1e-5)
    assert ours[:2].isfinite().all()
    assert torch.isnan(value * torch.ones(1)).any() == ours[2:, 1].isnan().any()


@pytest.mark.parametrize("cell", CELLS)
def test_kinship(cell):
    """docs/design.md says why RNNBase and not the module itself."""
    theirs, ours = twins(cell)
    assert isinstance(ours, nn.RNNBase)
    assert not isinstance(ours, type(theirs))
    assert ours.mode == theirs.mode
    assert issubclass(getattr(layers, cell + "Cell"), getattr(nn, cell + "Cell"))


def test_sigmoid_is_beyond_torch():
    ours = elman.RNN(4, 6, 1, "sigmoid")
    assert ours.nonlinearity == "sigmoid"
    y, h = ours(X)
    torch.testing.assert_close(h[0], y[-1])
    one = torch.sigmoid(nn.functional.linear(X[0], ours.weight_ih_l0, ours.bias_ih_l0 + ours.bias_hh_l0))
    torch.testing.assert_close(y[0], one)
