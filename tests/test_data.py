import os
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data import MINIMUM, Batches, ElmanError, TextFile, open_text, split


def written(tmp_path, data: bytes):
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    return path


def whole(text: TextFile, size: int = 1 << 22) -> str:
    return "".join(text.chunks(size))


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*book\.txt"):
        TextFile(tmp_path / "book.txt")


def test_directory(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a directory"):
        TextFile(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
def test_empty(tmp_path, data):
    with pytest.raises(ElmanError, match="is empty"):
        TextFile(written(tmp_path, data))


@pytest.mark.parametrize(
    "data",
    [b"\x7fELF\x02\x01\x01\0\0\0", b"text\0text", bytes(range(1, 256)) * 20],
    ids=["elf", "nul", "controls"],
)
def test_binary(tmp_path, data):
    with pytest.raises(ElmanError, match="binary"):
        TextFile(written(tmp_path, data))


def test_utf16_is_named(tmp_path):
    with pytest.raises(ElmanError, match="is UTF-16"):
        TextFile(written(tmp_path, "hello".encode("utf-16")))


def test_too_short(tmp_path):
    text = TextFile(written(tmp_path, b"short"))
    with pytest.raises(ElmanError, match="5 characters, and at least 1,000"):
        text.require(MINIMUM)
    with pytest.raises(ElmanError, match="too short"):
        split(np.zeros(MINIMUM - 1, np.uint8))


@pytest.mark.parametrize(
    ("data", "offset", "line"),
    [
        ("caf\xe9 noir".encode("latin-1"), "3", "1"),
        (b"one\ntwo\r\nthree \xff", "15", "3"),
        (b"a\rb\rc\x80", "5", "3"),
        ("ends inside é".encode()[:-1], "12", "1"),
        (b"\xef\xbb\xbfafter a mark \xc0", "16", "1"),
        (b"x" * 9_999 + b"\n\xfe", "10,000", "2"),
    ],
)
@pytest.mark.parametrize("size", [4, 7, 1 << 22])
def test_not_utf8_says_where(tmp_path, data, offset, line, size):
    with pytest.raises(ElmanError, match=rf"is not UTF-8: byte 0x\w\w at offset {offset}, line {line}\."):
        whole(TextFile(written(tmp_path, data)), size)


@given(st.text(min_size=1).filter(lambda s: "\0" not in s), st.integers(4, 40))
def test_chunks_are_the_text_with_newlines_normalised(text, size):
    if sum(c < " " for c in text) > 0.01 * len(text):
        text += "x" * 3_000  # not binary
    expected = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    source = TextFile.from_string(text)
    assert whole(source, size).removeprefix("\ufeff") == expected
    assert whole(source, size) == whole(source)


def test_byte_order_mark_and_windows_lines(tmp_path):
    assert whole(TextFile(written(tmp_path, b"\xef\xbb\xbfa\r\nb\rc\n"))) == "a\nb\nc\n"


def test_surrogates_are_refused():
    with pytest.raises(ElmanError, match=r"U\+D800, at character 2"):
        TextFile.from_string("ab\ud800")


def test_open_text_tells_text_from_paths(tmp_path):
    path = written(tmp_path, b"from the file")
    assert whole(open_text(str(path))) == whole(open_text(path)) == "from the file"
    assert whole(open_text("one line\n")) == "one line\n"
    assert whole(open_text("x" * 1_001)) == "x" * 1_001
    assert open_text(source := TextFile(path)) is source


def test_a_pipe_is_read_whole(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"through a pipe",))
    writer.start()
    assert whole(TextFile(pipe)) == "through a pipe"
    writer.join()


def test_split_is_nine_tenths_and_a_tenth():
    train, validation = split(codes := np.arange(12_345))
    assert len(validation) == 1_234
    assert np.array_equal(np.concatenate((train, validation)), codes)
    assert np.shares_memory(train, codes)


@given(st.integers(2, 300), st.integers(1, 7), st.integers(1, 40), st.integers(-5, 5))
def test_batches_follow_the_text(n, batch_size, chunk_length, seed):
    batches = Batches(np.arange(n), batch_size, chunk_length, seed)
    previous = None
    for step in range(2 * batches.steps_per_epoch):
        batch = batches.batch(step)
        assert batch.inputs.shape == batch.targets.shape == (chunk_length, batch_size)
        assert batch.inputs.dtype == batch.targets.dtype == np.int64
        assert np.array_equal(batch.targets, (batch.inputs + 1) % n)
        assert batch.first == (step % batches.steps_per_epoch == 0)
        assert batch.epoch == step // batches.steps_per_epoch
        if not batch.first:
            assert np.array_equal(batch.inputs[0], previous.targets[-1])
        previous = batch


def test_an_epoch_reads_the_whole_text():
    batches = Batches(np.arange(1_000), batch_size=4, chunk_length=25)
    seen = np.concatenate([batches.batch(step).inputs.ravel() for step in range(batches.steps_per_epoch)])
    assert batches.steps_per_epoch == 10
    assert np.array_equal(np.sort(seen), np.arange(1_000))


def test_epochs_start_elsewhere_and_repeat_with_the_seed():
    def starts(seed):
        batches = Batches(np.arange(10_000), 4, 25, seed)
        return [batches.batch(epoch * batches.steps_per_epoch).inputs[0, 0] for epoch in range(4)]

    assert starts(1) == starts(1)
    assert len(set(starts(1))) == 4
    assert starts(1) != starts(2)


def test_resuming_continues_where_it_stopped():
    batches = Batches(np.arange(1_000) % 97, 3, 20, seed=5)
    straight = batches.iterate()
    for step in range(40):
        expected = next(straight)
        if step % 13 == 0:
            resumed = Batches(batches.codes, 3, 20, seed=5).iterate(step)
        assert np.array_equal(next(resumed).inputs, expected.inputs)


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (-1, 5)])
def test_batches_refuse_sizes(sizes):
    with pytest.raises(ElmanError, match="must be at least 1"):
        Batches(np.arange(100), *sizes)


def test_batches_refuse_a_single_code():
    with pytest.raises(ElmanError, match="too short"):
        Batches(np.arange(1), 1, 1)
