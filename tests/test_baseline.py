import itertools
import math
from collections import Counter

import numpy as np
import pytest

from elman import baseline as baseline_file
from elman.baseline import Baseline
from elman.data import ElmanError

VOCABULARY = 7


@pytest.fixture
def codes():
    rng = np.random.default_rng(0)
    text = rng.integers(0, VOCABULARY - 1, 3_000)  # the last symbol never occurs
    text[1::2] = (text[::2] * 2) % (VOCABULARY - 1)
    return text.astype(np.uint8)


def textbook(train, code, context):
    """Witten-Bell, straight from its definition, for a context of 0, 1 or 2 codes."""
    n = len(context)
    runs = Counter(tuple(train[i : i + n + 1]) for i in range(len(train) - n))
    after = {run: times for run, times in runs.items() if run[:n] == context}
    shorter = textbook(train, code, context[1:]) if n else 1 / VOCABULARY
    # A context at the very end of the text counts too, followed by nothing.
    total = sum(after.values()) + (n > 0 and tuple(train[len(train) - n :]) == context)
    if not after:
        return shorter
    weight = 1 - sum(after.values()) / (total + len(after))
    return after.get((*context, code), 0) / (total + len(after)) + weight * shorter


def test_probabilities_are_the_textbook_ones(codes):
    train, test = codes[:400], codes[400:440]
    baseline = Baseline.fit(train, VOCABULARY)
    train, test = train.tolist(), test.tolist()
    frequency = [textbook(train, c, ()) for c in test[1:]]
    trigram = [textbook(train, test[i], tuple(test[max(0, i - 2) : i])) for i in range(1, len(test))]
    nats = baseline.nats(np.array(test))
    assert nats["frequency"] == pytest.approx(-sum(map(math.log, frequency)) / 39)
    assert nats["trigram"] == pytest.approx(-sum(map(math.log, trigram)) / 39)


@pytest.mark.parametrize("kept", [5, 200_000])
def test_each_context_sums_to_one(codes, monkeypatch, kept):
    monkeypatch.setattr(baseline_file, "KEPT", kept)
    baseline = Baseline.fit(codes, VOCABULARY)
    assert len(baseline.triples) <= kept
    for a, b in itertools.product(range(VOCABULARY), repeat=2):
        nexts = (a * VOCABULARY + b) * VOCABULARY + np.arange(VOCABULARY)
        assert baseline._triple(nexts).sum() == pytest.approx(1)


def test_it_predicts_what_it_has_seen(codes):
    nats = Baseline.fit(codes[:2_500], VOCABULARY).nats(codes[2_500:])
    assert nats["trigram"] < nats["frequency"] < math.log(VOCABULARY)


def test_a_symbol_never_seen_is_finite(codes):
    assert math.isfinite(Baseline.fit(codes, VOCABULARY).nats(np.array([6, 6, 6, 0, 6]))["trigram"])


def test_pieces_add_up(codes, monkeypatch):
    expected = Baseline.fit(codes, VOCABULARY)
    nats = expected.nats(codes)
    monkeypatch.setattr(baseline_file, "_PIECE", 400)
    pieces = Baseline.fit(codes, VOCABULARY)
    assert pieces.triple_counts.sum() == expected.triple_counts.sum() == len(codes) - 2
    assert pieces.nats(codes) == pytest.approx(nats)


def test_a_very_long_text_is_sampled(codes, monkeypatch):
    monkeypatch.setattr(baseline_file, "_PIECE", 50)
    assert Baseline.fit(codes, VOCABULARY).counts.sum() < len(codes) / 4


def test_through_tensors_and_back(codes):
    baseline = Baseline.fit(codes, VOCABULARY)
    tensors = baseline.to_tensors()
    assert Baseline.from_tensors(tensors | {"head.bias": np.zeros(3)}).nats(codes) == baseline.nats(codes)
    assert Baseline.from_tensors({"head.bias": np.zeros(3)}) is None
    with pytest.raises(ElmanError, match=r"lacks baseline\.pairs"):
        Baseline.from_tensors({k: v for k, v in tensors.items() if k != "baseline.pairs"})


@pytest.mark.parametrize("length", [0, 1])
def test_too_short(codes, length):
    with pytest.raises(ElmanError, match="too short"):
        Baseline.fit(codes, VOCABULARY).nats(codes[:length])


def test_two_codes_suffice(codes):
    assert math.isfinite(Baseline.fit(codes[:2], VOCABULARY).nats(codes[:2])["trigram"])
