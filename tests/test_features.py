"""Features of inputs, and which units follow them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman import features
from elman.features import tracked
from elman.report import Traced


def test_features_of_characters() -> None:
    text = 'He (Tom) said "no".\n  Ay!'
    found = features.of_characters(text)
    assert all(len(values) == len(text) for values in found.values())
    inside = "".join(c for c, x in zip(text, found["inside quotes"], strict=True) if x)
    assert inside == '"no'
    assert "".join(c for c, x in zip(text, found["inside brackets"], strict=True) if x) == "(Tom"
    assert found["position in the line"][text.index("\n") + 1] == 0
    assert found["indentation of the line"][-1] == 2
    assert found["indentation of the line"][0] == 0
    ends = [i for i, x in enumerate(found["a word ends here"]) if x]
    assert "".join(text[i] for i in ends) == "emdoy"
    assert [text[i] for i, x in enumerate(found["capital letter"]) if x] == ["H", "T", "A"]


@given(st.text(max_size=80))
def test_any_text_has_features_of_its_length(text: str) -> None:
    assert {len(values) for values in features.of_characters(text).values()} == {len(text)}


def test_features_of_words() -> None:
    words = ["I", "did", "not", "like", "it", "."]
    score = np.array([0.0, 0.0, -1.0, -2.0, -2.0, -2.5])
    found = features.of_words(words, score)
    assert found["after a negation"].tolist() == [0, 0, 1, 1, 1, 1]
    assert found["change of the opinion by this word"].tolist() == [0, 0, -1, -1, 0, -0.5]
    assert found["the sentence ends"].tolist() == [0, 0, 0, 0, 0, 1]


def test_features_of_times() -> None:
    times = np.arange("2024-01-01", "2024-01-15", dtype="datetime64[D]").astype("datetime64[ns]")
    found = features.of_times(times)
    assert found["weekend"].tolist() == [0, 0, 0, 0, 0, 1, 1] * 2
    assert found["Monday"].sum() == 2
    assert found["time of year, high in January"][0] == 1
    assert features.of_times(np.arange(5)) == {}


def layer_of(values: np.ndarray) -> Traced:
    return Traced("layer 1", "rnn", {"hidden": values}, np.zeros((0, values.shape[1])))


def test_units_that_follow_a_feature_are_found_and_no_others() -> None:
    rng = np.random.default_rng(0)
    feature = rng.normal(size=500)
    values = rng.normal(size=(500, 20))
    values[:, 7] = -2 * feature + rng.normal(size=500)
    found = tracked([layer_of(values)], {"x": feature, "constant": np.ones(500)})
    assert [(one.unit, one.feature) for one in found] == [(7, "x")]
    assert found[0].correlation == pytest.approx(np.corrcoef(values[:, 7], feature)[0, 1])


@pytest.mark.parametrize("steps", [30, 300])
def test_chance_is_no_finding(steps: int) -> None:
    lists = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        made = {str(k): rng.normal(size=steps) for k in range(8)}
        lists.append(tracked([layer_of(rng.normal(size=(steps, 64)))], made))
    assert (
        sum(map(bool, lists)) <= 4
    )  # one list in a hundred, by its definition; a normal r has thin tails in short ones


def test_few_steps_and_still_units_follow_nothing() -> None:
    ramp = np.arange(10.0)
    assert tracked([layer_of(ramp[:, None])], {"x": ramp}) == ()
    assert tracked([layer_of(np.ones((50, 3)))], {"x": np.arange(50.0)}) == ()


def test_a_feature_lists_few_units() -> None:
    ramp = np.arange(100.0)
    found = tracked([layer_of(np.repeat(ramp[:, None], 30, axis=1))], {"x": ramp, "y": ramp**2})
    assert sum(one.feature == "x" for one in found) == 5
    assert [one.feature for one in found[:5]] == ["x"] * 5


def test_features_that_are_the_same_here_are_one() -> None:
    text = "a line and no other, of some length"
    values = np.arange(len(text), dtype=np.float64)
    found = tracked([layer_of(values[:, None])], features.of_characters(text))
    assert [one.feature for one in found] == ["position in the line"]
