"""Layers made of torch.nn's and of Keras's: the same numbers, the same configuration, and clear refusals.

data/keras holds files written by Keras 3 and what Keras computed with them; its make.py wrote them.
"""

import io
import json
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import elman
from elman.convert import from_keras, from_torch
from elman.data import ElmanError

CONFIGURATIONS = {
    "plain": {},
    "deep": {"num_layers": 3, "dropout": 0.25},
    "batch first": {"batch_first": True},
    "both": {"bidirectional": True, "num_layers": 2},
    "no bias": {"bias": False},
    "double": {"dtype": torch.float64},
}
CELLS = ["RNNCell", "GRUCell", "LSTMCell"]
X = torch.randn(7, 2, 4, generator=torch.Generator().manual_seed(11))


def everything(outcome) -> list[torch.Tensor]:
    """The tensors in an output and a state, nested as they may be."""
    if isinstance(outcome, torch.Tensor):
        return [outcome]
    return [tensor for part in outcome for tensor in everything(part)]


def assert_same(ours, theirs, x):
    assert type(ours).__module__.startswith("elman.")
    assert repr(ours) == repr(theirs)
    assert ours.training == theirs.training
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert (p.dtype, p.device, p.requires_grad) == (q.dtype, q.device, q.requires_grad)
        assert p.data_ptr() != q.data_ptr()
        torch.testing.assert_close(p, q, rtol=0, atol=0)
    ours.eval(), theirs.eval()
    for a, b in zip(everything(ours(x)), everything(theirs(x)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", CONFIGURATIONS)
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_layers_of_torch(kind, how):
    theirs = getattr(nn, kind)(4, 6, **CONFIGURATIONS[how])
    ours = from_torch(theirs, getattr(elman, kind))
    assert ours.dropout == theirs.dropout
    assert_same(ours, theirs, X.to(theirs.weight_ih_l0.dtype))


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"dtype": torch.float64}], ids=str)
@pytest.mark.parametrize("kind", CELLS)
def test_cells_of_torch(kind, options):
    theirs = getattr(nn, kind)(4, 6, **options)
    assert_same(from_torch(theirs, getattr(elman, kind)), theirs, X[0].to(theirs.weight_ih.dtype))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_options_of_one_kind_only():
    projected = nn.LSTM(4, 6, 2, proj_size=3, bidirectional=True)
    assert_same(from_torch(projected), projected, X)
    for theirs, x in [(nn.RNN(4, 6, nonlinearity="relu"), X), (nn.RNNCell(4, 6, nonlinearity="relu"), X[0])]:
        ours = from_torch(theirs)
        assert ours.nonlinearity == "relu"
        assert_same(ours, theirs, x)


def test_mode_and_frozen_parameters_of_torch():
    theirs = nn.GRU(4, 6).eval()
    theirs.weight_hh_l0.requires_grad_(False)
    assert_same(from_torch(theirs), theirs, X)
    assert from_torch(nn.GRU(4, 6)).training


def test_the_device_of_torch():
    ours = from_torch(nn.LSTM(4, 6, device="meta"))
    assert {p.device.type for p in ours.parameters()} == {"meta"}


def test_random_numbers_are_left_alone():
    theirs, before = nn.LSTM(4, 6), torch.get_rng_state()
    from_torch(theirs)
    from_keras(DATA / "lstm.keras")
    assert torch.equal(torch.get_rng_state(), before)


def test_torch_has_warned_of_dropout_and_we_do_not_again():
    with pytest.warns(UserWarning, match="dropout"):
        theirs = nn.LSTM(4, 6, dropout=0.5)
    assert from_torch(theirs).dropout == 0.5


@pytest.mark.parametrize("change", [prune.identity, prune.random_unstructured, parametrizations.weight_norm])
def test_changed_weights_are_copied_as_they_are(change):
    theirs = nn.LSTM(4, 6)
    change(theirs, "weight_hh_l0", **({"amount": 0.5} if change is prune.random_unstructured else {}))
    ours = from_torch(theirs)
    assert list(ours.state_dict()) == list(nn.LSTM(4, 6).state_dict())
    torch.testing.assert_close(ours(X)[0], theirs(X)[0])


def test_subclasses_on_both_sides():
    class Theirs(nn.LSTM):
        pass

    class Ours(elman.LSTM):
        pass

    assert type(from_torch(Theirs(4, 6))) is elman.LSTM
    assert type(from_torch(nn.LSTM(4, 6), Ours)) is Ours


def test_other_modules_are_refused():
    with pytest.raises(TypeError, match=r"one of torch\.nn\.RNN, .*torch\.nn\.LSTMCell, not torch.*\.Linear"):
        from_torch(nn.Linear(2, 3))
    with pytest.raises(TypeError, match=r"rnn\.GRU becomes an elman\.GRU, not an elman\.LSTM"):
        from_torch(nn.GRU(4, 6), elman.LSTM)
    with pytest.raises(TypeError, match=r"rnn\.LSTM becomes an elman\.LSTM, not an elman\.LSTMCell"):
        from_torch(nn.LSTM(4, 6), elman.LSTMCell)


DATA = Path(__file__).parent / "data" / "keras"
EXPECTED = dict(np.load(DATA / "expected.npz"))
SINGLE = sorted(name for name in EXPECTED if name != "x" and "/" not in name)
ALONE = sorted(p.name.removesuffix(".weights.h5") for p in DATA.glob("*.weights.h5") if p.name[:3] != "two")
CLASSES = {"rnn": elman.RNN, "gru": elman.GRU, "lstm": elman.LSTM}


def assert_computes(layer, name):
    with torch.no_grad():
        y, _ = layer(torch.from_numpy(EXPECTED["x"]))
    np.testing.assert_allclose(y.numpy(), EXPECTED[name], atol=1e-5)


def parts(name: str) -> tuple[dict, list[np.ndarray]]:
    """What config.json says of a fixture's only layer, and that layer's arrays in Keras's order."""
    with zipfile.ZipFile(DATA / f"{name}.keras") as archive:
        description = json.loads(archive.read("config.json"))["config"]["layers"][-1]
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            found: dict[str, np.ndarray] = {}
            file.visititems(lambda p, n: found.update({p: n[()]} if isinstance(n, h5py.Dataset) else {}))
    order = sorted(found, key=lambda path: ("backward" in path, path))
    return description, [found[path] for path in order if "/cell/vars/" in path]


def live(kind: str, weights: list, **config):
    """An object that answers as a live Keras layer of that class does."""
    answers = {"get_config": lambda self: {"name": "it", **config}, "get_weights": lambda self: weights}
    return type(kind, (), answers)()


def repacked(target: Path, source: str = "lstm", config=None, weights: bytes | None = None) -> Path:
    """A .keras file with another config.json or other weights."""
    with zipfile.ZipFile(DATA / f"{source}.keras") as old, zipfile.ZipFile(target, "w") as new:
        text = old.read("config.json") if config is None else config
        new.writestr("config.json", text if isinstance(text, bytes | str) else json.dumps(text))
        new.writestr("model.weights.h5", old.read("model.weights.h5") if weights is None else weights)
    return target


def stored(path: Path, arrays: dict) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


@pytest.mark.parametrize("name", SINGLE)
def test_keras_files(name):
    layer = from_keras(DATA / f"{name}.keras")
    assert type(layer) is CLASSES[name.split("_")[0]]
    assert (layer.input_size, layer.hidden_size, layer.num_layers, layer.batch_first) == (3, 5, 1, True)
    assert layer.bidirectional == name.endswith("both")
    assert layer.bias == (name != "lstm_no_bias")
    assert_computes(layer, name)


@pytest.mark.parametrize("name", ALONE)
def test_weights_alone(name):
    assert_computes(from_keras(str(DATA / f"{name}.weights.h5")), name)


@pytest.mark.parametrize("name", SINGLE)
def test_live_layers(name):
    description, arrays = parts(name)
    assert_computes(from_keras(live(description["class_name"], arrays, **description["config"])), name)


@pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed")
def test_live_layers_of_keras_itself():
    """In a process of its own, since what Keras imports stays, with threads."""
    subprocess.run([sys.executable, __file__], env=os.environ | {"KERAS_BACKEND": "torch"}, check=True)


def compare_with_keras():
    import keras

    for name in SINGLE:
        description, arrays = parts(name)
        layer = keras.layers.deserialize(description)
        layer.set_weights(arrays)
        assert_computes(from_keras(layer), name)
    layer = keras.layers.GRU(5, stateful=True, return_state=True, recurrent_dropout=0.5, trainable=False)
    with pytest.raises(ElmanError, match=r"'gru.*' has no weights yet"):
        from_keras(layer)
    _, h = layer(EXPECTED["x"])
    ours = from_keras(layer)(torch.from_numpy(EXPECTED["x"]))[1][0]
    torch.testing.assert_close(ours, h.cpu(), atol=1e-5, rtol=0)


def test_sigmoid_and_what_does_not_change_results():
    rng = np.random.default_rng(0)
    kernel, recurrent, bias = (rng.normal(size=shape) for shape in [(3, 5), (5, 5), (5,)])
    ignored = {"stateful": True, "return_state": True, "return_sequences": False, "unroll": True}
    training = {"dropout": 0.5, "recurrent_dropout": 0.5, "trainable": False, "zero_output_for_mask": True}
    layer = from_keras(
        live("SimpleRNN", [kernel, recurrent, bias], units=5, activation="sigmoid", **ignored, **training)
    )
    h = np.zeros((2, 5))
    x = torch.from_numpy(EXPECTED["x"]).double()
    for step in range(7):
        h = 1 / (1 + np.exp(-(x[:, step].numpy() @ kernel + h @ recurrent + bias)))
    np.testing.assert_allclose(layer(x)[1][0].detach().numpy(), h, atol=1e-12)


def test_a_file_with_several_layers():
    for path in (DATA / "two.keras", DATA / "two.weights.h5"):
        for name in ("lower", "upper"):
            assert_computes(from_keras(path, name=name), f"two/{name}")
        with pytest.raises(ElmanError, match=r"several recurrent layers.*name=: 'lower', 'upper'"):
            from_keras(path)
        with pytest.raises(ElmanError, match=r"no recurrent layer 'middle'. It has: 'lower', 'upper'"):
            from_keras(path, name="middle")


def test_models_within_models():
    path = DATA / "nested.keras"
    names = "'shared', 'layers/lstm', 'layers/sequential/layers/lstm', 'back'"
    with pytest.raises(ElmanError, match=names):
        from_keras(path)
    assert_computes(from_keras(path, "shared"), "nested/shared")
    assert_computes(from_keras(path, "layers/lstm"), "nested/twin")
    assert_computes(from_keras(path, "layers/sequential/layers/lstm"), "nested/inner/twin")
    with pytest.raises(ElmanError, match=r"'back' of .*go_backwards=True"):
        from_keras(path, "back")


def test_dtypes():
    description, arrays = parts("lstm")
    for dtype, ours in [(np.float16, torch.float32), (">f4", torch.float32), (np.float64, torch.float64)]:
        layer = from_keras(live("LSTM", [a.astype(dtype) for a in arrays], **description["config"]))
        assert {p.dtype for p in layer.parameters()} == {ours}
    with pytest.raises(ElmanError, match=r"'it' has weights that are not floating-point numbers, but int8"):
        from_keras(live("LSTM", [a.astype(np.int8) for a in arrays], units=5))


def test_bfloat16_in_a_file(tmp_path):
    _, arrays = parts("lstm")
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        for k, array in enumerate(arrays):
            narrow = torch.from_numpy(array).bfloat16().view(torch.int16).numpy()
            file[f"layers/lstm/cell/vars/{k}"] = narrow.view("V2")
            file[f"layers/lstm/cell/vars/{k}"].attrs["dtype"] = "bfloat16"
    layer = from_keras(tmp_path / "a.weights.h5")
    torch.testing.assert_close(layer.weight_ih_l0.T, torch.from_numpy(arrays[0]).bfloat16().float())


def test_weights_of_unnamed_layers_go_by_their_groups(tmp_path):
    arrays = dict(zip("012", parts("lstm")[1], strict=True))
    paths = ["layers/lstm", "layers/lstm_1", "encoder"]
    path = stored(tmp_path / "a.h5", {f"{p}/cell/vars/{k}": a for p in paths for k, a in arrays.items()})
    with pytest.raises(ElmanError, match="'encoder', 'lstm', 'lstm_1'"):
        from_keras(path)
    assert_computes(from_keras(path, "encoder"), "lstm")


LAMBDA = {"class_name": "__lambda__", "config": {"value": "4wEA"}}
REFUSED = [
    ("lstm", {"go_backwards": True}, r"go_backwards=True"),
    ("lstm", {"time_major": True}, r"time_major=True"),
    ("lstm", {"activation": "relu"}, r"'it', a LSTM, has activation='relu': elman computes 'tanh'"),
    ("lstm", {"activation": {"class_name": "function", "config": "mine>f"}}, r"activation='mine>f'"),
    ("lstm", {"activation": LAMBDA}, r"activation='__lambda__'"),
    ("lstm", {"units": None}, r"units=None: that must be a whole number"),
    ("lstm", {"units": 6}, r"a LSTM of 6 units, must have weights of shapes .*\(3, 24\)"),
    ("lstm", {"use_bias": False}, r"must have weights of shapes \[\(3, 20\), \(5, 20\)\], not"),
    ("gru_after", {"activation": "relu"}, r"'it', a GRU, has activation='relu'"),
    ("gru_after", {"recurrent_activation": "hard_sigmoid"}, r"recurrent_activation='hard_sigmoid'"),
    ("gru_after", {"reset_after": False}, r"must have weights of shapes .*\(15,\)\], not .*\(2, 15\)\]"),
    ("rnn_tanh", {"activation": "linear"}, r"'linear': elman computes 'tanh' or 'relu' or 'sigmoid'"),
    ("rnn_tanh", {"activation": None}, r"activation=None"),
    ("lstm_both", {"merge_mode": "sum"}, r"merge_mode='sum'.*'concat'"),
    ("lstm_both", {"merge_mode": None}, r"merge_mode=None"),
    ("lstm_both", {"layer": 3}, r"description that is damaged"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_settings_that_elman_does_not_compute(name, changes, message):
    description, arrays = parts(name)
    config = description["config"] | {"name": "it"} | changes
    with pytest.raises(ElmanError, match=message):
        from_keras(live(description["class_name"], arrays, **config))


def test_directions_that_elman_does_not_compute():
    description, arrays = parts("lstm_both")
    forward, backward = (description["config"][part] for part in ("layer", "backward_layer"))
    narrow = backward | {"config": backward["config"] | {"units": 4}}
    for layers, message in [
        ((backward, forward), r"go_backwards=True"),
        ((forward, forward), r"go_backwards=False"),
        ((forward, narrow), r"units=5 forwards and 4 backwards"),
        ((forward, backward | {"class_name": "GRU"}), r"class_name='LSTM' forwards and 'GRU' backwards"),
        ((forward | {"class_name": "RNN"}, backward), r"is made of a RNN"),
    ]:
        with pytest.raises(ElmanError, match=message):
            from_keras(live("Bidirectional", arrays, layer=layers[0], backward_layer=layers[1]))


def test_one_array_short():
    for name in ("lstm", "lstm_both"):
        description, arrays = parts(name)
        with pytest.raises(ElmanError, match=r"must have weights of shapes"):
            from_keras(live(description["class_name"], arrays[:-1], **description["config"]))


@pytest.mark.parametrize(
    "what",
    [None, 3, nn.LSTM(3, 5), live("Dense", []), live("Sequential", [])],
    ids=lambda what: type(what).__name__,
)
def test_what_is_no_layer(what):
    with pytest.raises(
        ElmanError, match=r"from_keras takes a Keras layer, SimpleRNN.*not .*model\.get_layer"
    ):
        from_keras(what)


def test_a_name_is_for_files():
    with pytest.raises(ElmanError, match=r"name='a' chooses a layer in a file"):
        from_keras(live("LSTM", []), name="a")
    with pytest.raises(ElmanError, match=r"'it' has no weights yet"):
        from_keras(live("LSTM", []))


UNREADABLE = r"cannot be read as \.keras \(zip\) or \.weights\.h5 \(HDF5\)"
NO_LAYER = r"describes no recurrent layer with weights"


@pytest.mark.parametrize(
    ("source", "length"),
    [
        ("lstm.keras", 0),
        ("lstm.keras", 9_000),
        ("gru_after.weights.h5", 9_000),
        ("gru_after.weights.h5", 100),
    ],
)
def test_half_a_file(tmp_path, source, length):
    path = tmp_path / source
    path.write_bytes((DATA / source).read_bytes()[:length])
    with pytest.raises(ElmanError, match=UNREADABLE):
        from_keras(path)


def test_no_file(tmp_path):
    with pytest.raises(ElmanError, match=r"cannot read .*none.keras: No such file"):
        from_keras(tmp_path / "none.keras")
    with pytest.raises(ElmanError, match=r"cannot read .*directory"):
        from_keras(tmp_path)


DENSE = {"config": {"layers": [{"class_name": "Dense", "config": {"name": "d"}}]}}
OWN = {"class_name": "Mine", "config": {"layers": [64, 32]}, "registered_name": "Mine"}
CUSTOM = {"config": {"layers": [{"class_name": "LSTM", "registered_name": "mine>LSTM", "config": {}}]}}


@pytest.mark.parametrize("config", ["{", b"\xff\xfe\xfa", "[" * 99_999], ids=["cut", "bytes", "deep"])
def test_a_config_that_cannot_be_read(tmp_path, config):
    with pytest.raises(ElmanError, match=UNREADABLE):
        from_keras(repacked(tmp_path / "a.keras", config=config))


@pytest.mark.parametrize("config", ["null", [1], {"config": 3}, DENSE, OWN, CUSTOM], ids=str)
def test_a_config_without_recurrent_layers(tmp_path, config):
    with pytest.raises(ElmanError, match=rf"{NO_LAYER}.*model\.save_weights"):
        from_keras(repacked(tmp_path / "a.keras", config=config))


def test_weights_of_another_layer(tmp_path):
    with zipfile.ZipFile(DATA / "gru_both.keras") as archive:
        weights = archive.read("model.weights.h5")
    with pytest.raises(ElmanError, match=r"a LSTM of 5 units, must have weights of shapes"):
        from_keras(repacked(tmp_path / "a.keras", "lstm_both", weights=weights))
    with pytest.raises(ElmanError, match=NO_LAYER):
        from_keras(repacked(tmp_path / "b.keras", "lstm", weights=weights))
    with pytest.raises(ElmanError, match=UNREADABLE):
        from_keras(repacked(tmp_path / "c.keras", "lstm", weights=b"none"))


WRONG = {"a/cell/vars/0": np.ones((3, 4)), "a/cell/vars/1": np.ones((5, 4))}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"layers/dense/vars/0": np.ones((3, 4))}, NO_LAYER),
        (WRONG, r"'a' of .*shapes \[\(3, 4\), \(5, 4\)\]: they are not those of SimpleRNN"),
        ({"cell/vars/0": 1.0}, r"the layer 'cell' of .* has weights of shapes \[\(\)\]"),
        ({"a/cell/vars/0": "text"}, r"not floating-point numbers"),
        ({"a/cell/vars/0": h5py.Empty("f")}, r"not floating-point numbers"),
        ({"model_weights/lstm/lstm/kernel:0": np.ones((3, 20))}, r"old HDF5 format"),
    ],
    ids=["dense", "shapes", "scalar", "text", "empty", "old"],
)
def test_weights_that_are_not_those_of_a_layer(tmp_path, arrays, message):
    with pytest.raises(ElmanError, match=message):
        from_keras(stored(tmp_path / "a.weights.h5", arrays))


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
def test_a_zip_that_lacks_something(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr(member, b"{}")
    with pytest.raises(ElmanError, match=r"is no \.keras file: it has no (config|model)"):
        from_keras(tmp_path / "a.keras")


def test_a_damaged_member(tmp_path):
    data = bytearray((DATA / "lstm.keras").read_bytes())
    start = data.index(b'"class_name": "LSTM"')
    data[start : start + 5] = b"#####"
    (tmp_path / "a.keras").write_bytes(data)
    with pytest.raises(ElmanError, match=UNREADABLE):
        from_keras(tmp_path / "a.keras")


def test_numbers_outside_the_file_are_not_read(tmp_path):
    secret = stored(tmp_path / "secret.h5", {"a": np.ones((5, 20), np.float32)})
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["a/cell/vars/0"] = h5py.ExternalLink("secret.h5", "a")
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("a/cell/vars/0", (5, 20), "f4", external=[(str(secret), 0, 400)])
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((5, 20), "f4")
        layout[:] = h5py.VirtualSource(secret, "a", (5, 20))
        file.create_virtual_dataset("a/cell/vars/0", layout)
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("a/cell/vars/0", (1 << 20, 1 << 20), "f4", chunks=(64, 64))
    with pytest.raises(ElmanError, match=NO_LAYER):
        from_keras(tmp_path / "link.h5")
    for name in ("external", "virtual", "huge"):
        with pytest.raises(ElmanError, match=r"a/cell/vars/0 of .* has no numbers in the file itself"):
            from_keras(tmp_path / f"{name}.h5")


def test_h5py_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ElmanError, match=r'pip install "elman\[keras\]"'):
        from_keras(DATA / "lstm.keras")


if __name__ == "__main__":
    compare_with_keras()
