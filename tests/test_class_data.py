"""Labelled texts as codes: the split, and batches of texts of like lengths."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman import class_data
from elman.class_data import Coded, TextBatches, filled, padded, split


def coded(lengths, seed=0):
    rng = np.random.default_rng(seed)
    texts = tuple(rng.integers(2, 100, n).astype(np.int32) for n in lengths)
    return Coded(texts, np.arange(len(texts)) % 2)


def epoch(batches, number=0):
    return list(itertools.islice(batches.iterate(number * batches.steps_per_epoch), batches.steps_per_epoch))


def read(batch):
    """The texts in a batch, and the class of each."""
    lengths = batch.inputs[0]
    return [(tuple(batch.inputs[1 : 1 + n, b]), batch.targets[b]) for b, n in enumerate(lengths)]


def test_padded_has_lengths_first():
    rows = padded([np.array([5, 6], np.int32), np.array([7], np.int32)])
    assert rows.tolist() == [[2, 1], [5, 7], [6, 0]]
    assert rows.dtype == np.int64


def test_a_text_without_words_is_one_unknown_word():
    assert [text.tolist() for text in filled([np.zeros(0, np.int32), np.array([3], np.int32)])] == [[1], [3]]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(1, 20), st.integers(0, 3))
def test_every_text_comes_once_in_an_epoch(lengths, batch_size, number):
    data = coded(lengths)
    found = [text for batch in epoch(TextBatches(data, batch_size, 7), number) for text in read(batch)]
    wanted = [(tuple(codes), label) for codes, label in zip(data.codes, data.classes, strict=True)]
    assert sorted(found) == sorted(wanted)


def test_batches_depend_on_seed_and_step_alone():
    batches = TextBatches(coded(range(1, 90)), 8, 3)
    whole = list(itertools.islice(batches.iterate(), 30))
    for start in (0, 5, batches.steps_per_epoch, 17):
        again = next(batches.iterate(start))
        np.testing.assert_array_equal(again.inputs, whole[start].inputs)
        np.testing.assert_array_equal(again.targets, whole[start].targets)
    other = next(TextBatches(coded(range(1, 90)), 8, 4).iterate())
    assert other.inputs.shape != whole[0].inputs.shape or (other.inputs != whole[0].inputs).any()


def test_the_order_changes_from_epoch_to_epoch():
    batches = TextBatches(coded([5] * 64), 8, 0)
    first, second = ([read(batch) for batch in epoch(batches, number)] for number in (0, 1))
    assert first != second


def test_padding_is_little():
    rng = np.random.default_rng(0)
    data = coded(rng.lognormal(5, 0.7, 2_000).astype(int).clip(1, 1_000))
    words = sum(map(len, data.codes))
    room = sum(batch.inputs[1:].size for batch in epoch(TextBatches(data, 32, 0)))
    assert room < 1.1 * words


def test_long_texts_make_small_batches_and_are_read_in_stretches(monkeypatch):
    monkeypatch.setattr(class_data, "LONGEST", 50)
    monkeypatch.setattr(class_data, "AT_ONCE", 100)
    data = Coded((np.arange(2, 1_002, dtype=np.int32), *coded([50] * 9).codes), np.zeros(10, np.int64))
    batches = TextBatches(data, 8, 0)
    assert all(batch.inputs[1:].size <= 100 for batch in epoch(batches))
    begins = set()
    for number in range(20):
        for batch in epoch(batches, number):
            begins |= {text[0] for text, _ in read(batch) if text == tuple(range(text[0], text[0] + 50))}
    assert len(begins) > 15
    assert min(begins) < 300
    assert max(begins) > 650


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 2)), min_size=1, max_size=60))
def test_split_keeps_same_texts_together_and_every_class_on_both_sides(pairs):
    texts, labels = [text for text, _ in pairs], np.array([label for _, label in pairs])
    rows, held = split(texts, labels, 0)
    assert sorted([*rows, *held]) == list(range(len(texts)))
    assert not {texts[i] for i in rows} & {texts[i] for i in held}
    assert len(held) < len(texts)


@pytest.mark.parametrize(("count", "held"), [(20, 2), (1_000, 100), (200_000, 5_000)])
def test_a_tenth_is_held_out_and_5_000_at_most(count, held):
    rows, measuring = split(list(map(str, range(count))), np.arange(count) % 2, 0)
    assert len(measuring) == held
    assert np.bincount(measuring % 2).tolist() == [held // 2] * 2
    assert len(rows) == count - held


def test_of_few_classes_each_is_held_out_and_of_many_a_tenth_of_all():
    for classes in (2, 10):
        _, held = split(range(2 * classes), np.arange(2 * classes) // 2, 0)
        assert sorted(held // 2) == list(range(classes))
    for each in (2, 3, 5):
        rows, held = split(range(600 * each), np.arange(600 * each) // each, 0)
        assert len(held) == 60 * each
        assert len(set(held // each)) == len(held)
        assert len(set(rows // each)) == 600
    classes = np.append(np.zeros(800, np.int64), 1 + np.arange(200) // 2)
    _, held = split(range(1_000), classes, 0)
    assert len(held) == 100
    assert (classes[held] > 0).sum() == 20


def test_every_label_is_in_training_and_rare_sets_of_labels_are_held_out_too():
    rng = np.random.default_rng(0)
    sets = np.unpackbits(np.arange(1, 401, dtype=">u2").view(np.uint8).reshape(400, 2), axis=1).astype(bool)
    rows, held = split(range(400), sets[:, 7:], 0)
    assert len(held) == 40
    assert sets[rows].any(0).sum() == 9
    often = rng.random((300, 1)) < 0.5
    rare = np.hstack((np.tile(often, (1, 2)), np.zeros((300, 100), bool)))
    rare[np.arange(100), 2 + np.arange(100)] = True  # of each of these labels there is one text
    rare[100:140, 2:] = rng.random((40, 100)) < 0.5
    rows, held = split(range(300), rare, 0)
    assert 25 < len(held) < 35
    assert rare[held][:, 2:].any()
    assert rare[rows].any(0).all()


def test_a_text_that_alone_has_a_label_trains():
    classes = np.array([[True, False], [True, True], [True, False]])
    for seed in range(10):
        rows, held = split("abc", classes, seed)
        assert len(held) == 1
        assert 1 in rows
    assert not len(split("aab", np.array([0, 0, 1]), 0)[1])


def test_split_of_several_labels():
    classes = np.array([[True, False], [False, True], [True, True], [False, False]] * 20)
    _, held = split(list(map(str, range(80))), classes, 0)
    assert len(held) == 8
    assert len({tuple(row) for row in classes[held]}) == 4
