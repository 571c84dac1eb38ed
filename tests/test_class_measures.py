import numpy as np
import pytest
import sklearn.metrics as sklearn
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.class_measures import (
    confusion,
    fit_scales,
    fit_temperature,
    measures,
    mistakes,
    probabilities,
    reliability,
)


@st.composite
def one_label(draw):
    n, classes = draw(st.integers(1, 40)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = rng.normal(size=(n, classes)) * draw(st.sampled_from([0.1, 1, 10]))
    return probabilities(logits, False), rng.integers(0, draw(st.integers(1, classes)), n)


@st.composite
def several_labels(draw):
    n, classes = draw(st.integers(1, 40)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = rng.normal(size=(n, classes)) * draw(st.sampled_from([0.1, 1, 10]))
    return probabilities(logits, True), rng.random((n, classes)) < draw(st.sampled_from([0, 0.2, 0.7]))


def test_probabilities():
    logits = np.array([[0.0, 1.0, -2.0], [3.0, 3.0, 0.5]])
    e = np.exp(logits)
    assert probabilities(logits, False) == pytest.approx(e / e.sum(1, keepdims=True))
    assert probabilities(logits, True) == pytest.approx(e / (1 + e))
    assert probabilities(logits, False, 4.0) == pytest.approx(probabilities(logits / 4, False))


@pytest.mark.parametrize("several", [False, True])
def test_probabilities_of_huge_logits(several):
    huge = np.array([[1e5, -1e5]], np.float32)
    assert probabilities(huge, several).tolist() == [[1, 0]]
    assert probabilities(-huge, several).tolist() == [[0, 1]]
    assert probabilities(huge[:0], several).shape == (0, 2)


@settings(deadline=None)
@given(one_label())
def test_measures_are_those_of_scikit_learn(case):
    p, truth = case
    found, predicted = measures(p, truth, False), p.argmax(1)
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, predicted))
    assert found["f1"] == pytest.approx(sklearn.f1_score(truth, predicted, average="macro"))
    assert found["log_loss"] == pytest.approx(sklearn.log_loss(truth, p, labels=range(p.shape[1])))
    expected = sklearn.confusion_matrix(truth, predicted, labels=range(p.shape[1]))
    assert confusion(p, truth, False).tolist() == expected.tolist()


@settings(deadline=None)
@given(several_labels())
def test_measures_of_several_labels_are_those_of_scikit_learn(case):
    p, truth = case
    found, predicted = measures(p, truth, True), p > 0.5
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, predicted))
    occurs = np.flatnonzero(truth.any(0) | predicted.any(0))
    f1 = sklearn.f1_score(truth, predicted, average="macro", labels=occurs) if len(occurs) else 0
    assert found["f1"] == pytest.approx(f1)
    each = [sklearn.log_loss(t, q, labels=[False, True]) for t, q in zip(truth.T, p.T, strict=True)]
    assert found["log_loss"] == pytest.approx(np.mean(each))
    assert (
        confusion(p, truth, True).tolist() == sklearn.multilabel_confusion_matrix(truth, predicted).tolist()
    )


def test_f1_without_any_label_is_zero():
    assert measures(np.full((3, 2), 0.1), np.zeros((3, 2), bool), True)["f1"] == 0


def test_a_certain_mistake_costs_finitely_much():
    certain = np.array([[1.0, 0.0]])
    assert measures(certain, np.array([1]), False)["log_loss"] == pytest.approx(36.04, abs=0.01)
    assert measures(certain, np.array([[False, True]]), True)["log_loss"] == pytest.approx(36.04, abs=0.01)


def test_calibration_error_by_hand():
    p = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 5)
    truth = np.array([0] * 7 + [1] * 3 + [1] * 5)
    assert reliability(p, truth, False) == [(pytest.approx(0.6), 1.0, 5), (pytest.approx(0.9), 0.7, 10)]
    assert measures(p, truth, False)["calibration_error"] == pytest.approx((5 * 0.4 + 10 * 0.2) / 15)


def test_calibration_error_of_several_labels_by_hand():
    p = np.array([[0.9, 0.1], [0.9, 0.1]])
    truth = np.array([[True, False], [False, False]])
    assert reliability(p, truth, True) == [(pytest.approx(0.1), 0.0, 2), (pytest.approx(0.9), 0.5, 2)]
    assert measures(p, truth, True)["calibration_error"] == pytest.approx((2 * 0.1 + 2 * 0.4) / 4)


def test_bins_hold_all_and_their_upper_ends():
    p = np.array([[0.0, 1.0, 0.2, 0.21, 1 / 15]])
    assert [count for _, _, count in reliability(p, p > 0.5, True)] == [2, 1, 1, 1]


@settings(deadline=None)
@given(one_label())
def test_bins_add_up(case):
    p, truth = case
    means, shares, counts = map(np.array, zip(*reliability(p, truth, False), strict=True))
    assert counts.sum() == len(p)
    assert (means * counts).sum() == pytest.approx(p.max(1).sum())
    assert (shares * counts).sum() == pytest.approx((p.argmax(1) == truth).sum())
    assert (np.diff(means) > 0).all()


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_a_temperature_is_found_again(several, temperature):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(20_000, 3)) * 2
    p = probabilities(z, several)
    drawn = rng.random(p.shape) < p if several else (rng.random((len(p), 1)) > p.cumsum(1)).sum(1)
    assert fit_temperature(z * temperature, drawn, several) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("several", [False, True])
def test_no_other_temperature_has_less_loss(several):
    rng = np.random.default_rng(1)
    z = rng.normal(size=(20_000, 3)) * 4
    noisy = z + rng.normal(size=z.shape) * 5
    truth = noisy > 0 if several else noisy.argmax(1)
    best = fit_temperature(z, truth, several)

    def loss(temperature):
        return measures(probabilities(z, several, temperature), truth, several)["log_loss"]

    assert 0.06 < best < 19
    assert loss(best) <= min(loss(t) for t in np.geomspace(0.05, 20, 100)) + 1e-6


def test_temperatures_are_bounded():
    z, truth = np.array([[0.0, 1.0], [2.0, 0.0]] * 20) / 1e3, np.array([1, 0] * 20)
    assert fit_temperature(z, truth, False) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(z * 1e5, 1 - truth, False) == pytest.approx(20, rel=1e-3)
    assert fit_temperature(z[:0], truth[:0], False) == 1


def test_mistakes_the_most_confident_first():
    p = np.array([[0.6, 0.4], [0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.8, 0.2]])
    truth = np.array([1, 1, 1, 0, 1])
    assert mistakes(p, truth, False, 10).tolist() == [2, 4, 3, 0]
    assert mistakes(p, truth, False, 2).tolist() == [2, 4]
    assert mistakes(p, p.argmax(1), False, 2).tolist() == []
    equal = np.tile([[0.8, 0.2], [0.7, 0.3]], (100, 1))
    assert mistakes(equal, np.ones(200, int), False, 100).tolist() == list(range(0, 200, 2))


def test_mistakes_of_several_labels():
    p = np.array([[0.6, 0.99], [0.05, 0.6], [0.9, 0.9], [0.5, 0.1]])
    truth = np.array([[False, True], [True, False], [True, True], [True, False]])
    assert mistakes(p, truth, True, 10).tolist() == [1, 0, 3]


@pytest.mark.parametrize("several", [False, True])
def test_few_texts_without_a_mistake_make_nobody_certain(several):
    """As sure as Laplace's rule allows: of n texts of two classes, n + 1 of n + 2 are taken to be right."""
    truth = np.eye(2, dtype=bool)[np.arange(10) % 2] if several else np.arange(10) % 2
    z = np.where(np.eye(2)[np.arange(10) % 2], 1.0, -1.0)
    found = probabilities(z, several, fit_temperature(z, truth, several))
    np.testing.assert_allclose(found.max(1), 11 / 12, atol=1e-3)
    np.testing.assert_allclose(fit_scales([z], truth, several), 1 / fit_temperature(z, truth, several))


def test_scales_find_the_logits_that_tell_something():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 3_000)
    telling, noise = 2 * np.eye(3)[truth] + rng.normal(size=(3_000, 3)), rng.normal(size=(3_000, 3))
    first, second = fit_scales([noise, telling], truth, False)
    assert first < 0.1
    assert 1.5 < second < 2.5
    p = probabilities(first * noise + second * telling, False)
    assert measures(p, truth, False)["calibration_error"] < 0.03
