import json
import os
import pickle
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from elman import __version__, checkpoint
from elman.checkpoint import check_writable, load, save
from elman.data import ElmanError

PARTS = {
    "job": "text",
    "tensors": {
        "head.bias": np.arange(5, dtype=np.float32),
        "baseline.counts": np.array([[1, 2], [3, 4]]),
        "baseline.triples": np.zeros(0, np.int64),
    },
    "model": {"cell": "lstm", "hidden_size": 9},
    "codec": {"kind": "characters", "symbols": 'a"ü\n中😀\x01'},
    "training": {"nats": 1.5, "steps": 10},
}


@pytest.fixture
def path(tmp_path):
    save(tmp_path / "a.elman", **PARTS)
    return tmp_path / "a.elman"


def with_about(path, **changes):
    """The same file with another description, the checksum being right."""
    about = {"format": 1, "elman": "9.9", "job": "text", "model": {}, "codec": {}, "training": {}} | changes
    text = json.dumps({key: value for key, value in about.items() if value is not ...})
    tensors = PARTS["tensors"]
    save_file(tensors, path, {"elman": text, "elman.crc32": checkpoint._checksum(text, tensors)})


def test_what_goes_in_comes_out(path):
    model = load(path)
    assert (model.job, model.model, model.codec) == (PARTS["job"], PARTS["model"], PARTS["codec"])
    assert (model.training, model.written_by) == (PARTS["training"], __version__)
    assert model.tensors.keys() == PARTS["tensors"].keys()
    for name, tensor in PARTS["tensors"].items():
        assert model.tensors[name].dtype == tensor.dtype
        np.testing.assert_array_equal(model.tensors[name], tensor)


def test_views_are_stored_as_they_look(tmp_path):
    tensor = np.arange(12, dtype=np.float32).reshape(3, 4)
    save(tmp_path / "a.elman", **PARTS | {"tensors": {"a": tensor.T, "b": tensor[:, ::2]}})
    np.testing.assert_array_equal(load(tmp_path / "a.elman").tensors["a"], tensor.T)
    np.testing.assert_array_equal(load(tmp_path / "a.elman").tensors["b"], tensor[:, ::2])


def test_missing_and_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model .*b\.elman"):
        load(tmp_path / "b.elman")
    with pytest.raises(IsADirectoryError, match="is a directory"):
        load(tmp_path)


@pytest.mark.parametrize("kept", [0, 4, 8, 9, 100, 0.5, -1])
def test_truncated(path, kept):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(ElmanError, match=r"damaged|is empty|not an elman model"):
        load(path)


def test_longer_than_it_should_be(path):
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ElmanError, match="is damaged: it has"):
        load(path)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_flipped_bit_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("model") / "a.elman"
    save(path, **PARTS)
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    try:
        same = load(path)
    except ElmanError:
        return
    # Only where JSON does not care: white space that pads the header.
    assert same.model == PARTS["model"]
    assert all(np.array_equal(same.tensors[name], tensor) for name, tensor in PARTS["tensors"].items())


@given(st.binary(min_size=1, max_size=300))
def test_random_bytes_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("model") / "a.elman"
    path.write_bytes(data)
    with pytest.raises(ElmanError, match=r"not an elman model|damaged"):
        load(path)


def test_foreign_files(tmp_path):
    path = tmp_path / "a"
    path.write_text("Once upon a time, there was a text.\n" * 100)
    with pytest.raises(ElmanError, match="is not an elman model"):
        load(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ElmanError, match="zip or pickle"):
        load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", "x")
    with pytest.raises(ElmanError, match="zip or pickle"):
        load(path)
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": np.zeros(3, np.float32)}, path, metadata)
        with pytest.raises(ElmanError, match="safetensors file, but not a model that elman wrote"):
            load(path)


def test_a_newer_format_says_so(path):
    with_about(path, format=2, model=..., something=1)
    with pytest.raises(ElmanError, match=r"by elman 9\.9 in format 2.*pip install --upgrade elman"):
        load(path)


@pytest.mark.parametrize("changes", [{"model": ...}, {"codec": 3}, {"job": ...}, {"format": ...}])
def test_incomplete_descriptions(path, changes):
    with_about(path, **changes)
    with pytest.raises(ElmanError, match="is damaged: its description cannot be read"):
        load(path)


def test_a_description_that_is_no_json(path):
    save_file(PARTS["tensors"], path, {"elman": "{"})
    with pytest.raises(ElmanError, match="its description cannot be read"):
        load(path)


FILL = """
import numpy, resource, signal, sys
from elman.checkpoint import save
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
save(sys.argv[1], "text", {"big": numpy.zeros(100_000)}, {}, {}, {})
"""


def test_a_full_disk_leaves_the_old_file_whole(path):
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", FILL, path], capture_output=True, text=True, check=False)
    assert "the file that was there is unchanged" in done.stderr
    assert "ElmanError" in done.stderr
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_full_disk_says_what_to_do(path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ElmanError, match=r"No space left on device; the file .* unchanged\. Free some space"):
        save(path, **PARTS)
    path.unlink()
    with pytest.raises(ElmanError, match=r"No space left on device\. Free"):
        save(path, **PARTS)
    assert os.listdir(path.parent) == []


def test_an_interrupt_leaves_nothing_behind(path, monkeypatch):
    def interrupt(_):
        signal.raise_signal(signal.SIGINT)

    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(path, **PARTS)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_what_a_killed_process_left_is_in_nobodys_way(path):
    left = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    for use in (lambda: save(path, **PARTS), lambda: check_writable(path)):
        left.write_bytes(b"half a model")
        use()
        assert os.listdir(path.parent) == [path.name]


def test_a_link_stays_a_link(path):
    link = path.with_name("link.elman")
    link.symlink_to(path)
    save(link, **PARTS | {"training": {"nats": 1.0}})
    assert link.is_symlink()
    assert load(path).training == {"nats": 1.0}


def test_the_usual_permissions(path):
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_check_writable(path, tmp_path):
    check_writable(path)
    check_writable(tmp_path / "new.elman")
    assert os.listdir(tmp_path) == [path.name]


def test_check_writable_refuses(tmp_path, monkeypatch):
    with pytest.raises(ElmanError, match=r"there is no directory .*nowhere"):
        check_writable(tmp_path / "nowhere" / "a.elman")
    with pytest.raises(ElmanError, match="is a directory"):
        check_writable(tmp_path)
    with pytest.raises(ElmanError, match="not a regular file"):
        check_writable("/dev/null")
    (tmp_path / "notes.txt").write_text("do not lose me")
    with pytest.raises(ElmanError, match="exists and is not an elman model"):
        check_writable(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "do not lose me"


def test_check_writable_where_the_system_says_no(path, monkeypatch):
    def no(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", no)
    with pytest.raises(ElmanError, match=r"cannot write .*: Permission denied"):
        check_writable(path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ElmanError, match="is read-only"):
        check_writable(path)
