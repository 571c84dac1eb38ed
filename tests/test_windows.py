"""Windows of series: what is read, how it is scaled, and what simple rules forecast from it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman import ElmanError
from elman.windows import (
    Series,
    Shape,
    bases,
    check_horizon,
    check_levels,
    error_scale,
    least_length,
    quantiles,
    scaled,
    sensible_shape,
    window,
)

HOURLY = Shape(336, 48, 24, (24, 168))


@pytest.mark.parametrize(
    ("horizon", "seasons", "length", "expected"),
    [
        (48, (24, 168), 900, (336, 24, (24, 168))),
        (18, (12,), 120, (36, 12, (12,))),
        (8, (4,), 60, (16, 4, (4,))),
        (14, (7,), 400, (28, 7, (7,))),
        (13, (52,), 200, (104, 13, (52,))),
        (6, (1,), 30, (12, 1, (1,))),
        (6, (12,), 20, (12, 1, (1,))),  # too short for a season of twelve
    ],
)
def test_shapes_follow_season_and_length(horizon, seasons, length, expected) -> None:
    shape = sensible_shape(horizon, seasons, [length] * 5)
    assert (shape.input_length, shape.segment, shape.seasons) == expected
    assert shape.input_length % shape.segment == 0
    assert Shape.from_dict(shape.as_dict()) == shape


@settings(deadline=None)
@given(
    st.integers(1, 200), st.sampled_from([(1,), (4,), (7,), (12,), (24, 168), (52,)]), st.integers(3, 2000)
)
def test_any_shape_holds_together(horizon, seasons, length) -> None:
    shape = sensible_shape(horizon, seasons, [length])
    assert shape.input_length >= 1
    assert shape.input_length % shape.segment == 0
    assert shape.segments * shape.segment >= horizon
    assert all(lag <= shape.input_length for lag, _ in shape.lags)
    z = np.random.default_rng(0).normal(size=(3, shape.input_length)).astype(np.float32)
    assert bases(z, shape).shape == (3, shape.segments * shape.segment, shape.bases)
    assert least_length(shape) >= 2


def test_a_window_is_what_lies_before_and_short_series_repeat_their_first_season() -> None:
    shape = Shape(8, 2, 2, (2, 4))
    values = Series(np.arange(20.0))
    assert window(values, 15, shape).tolist() == list(range(7, 15))
    assert window(values, 5, shape).tolist() == [1, 2, 3, 0, 1, 2, 3, 4]
    assert window(values, 3, shape).tolist() == [1, 0, 1, 0, 1, 0, 1, 2]
    assert window(values, 1, shape).tolist() == [0] * 8


def test_scaling_takes_level_and_scale_away() -> None:
    x = np.random.default_rng(1).normal(size=(4, 336))
    z, level, scale = scaled(x, HOURLY)
    moved, moved_level, moved_scale = scaled(1000 + 50 * x, HOURLY)
    np.testing.assert_allclose(moved_level, 1000 + 50 * level)
    np.testing.assert_allclose(z * scale + level, x)
    np.testing.assert_allclose(moved * moved_scale + moved_level, 1000 + 50 * x)
    still, _, _ = scaled(np.full((1, 336), 7.0), HOURLY)
    assert not still.any()


def test_simple_forecasts() -> None:
    shape = Shape(8, 4, 2, (4,))
    z = np.array([[0, 1, 2, 3, 4, 5, 6, 7]], np.float32)
    found = bases(z, shape)[0]
    assert found[:, 0].tolist() == [4, 5, 6, 7]  # the last season
    assert found[:, 1].tolist() == [0, 1, 2, 3]  # the one before
    assert found[:, 2].tolist() == [7] * 4  # the last value
    assert found[:, 3].tolist() == [0] * 4  # the level
    assert found[:, 4].tolist() == [8, 9, 10, 11]  # the line


def test_error_scale_is_mases() -> None:
    assert error_scale(np.array([1.0, 2, 4, 7]), 1) == pytest.approx(2.0)
    assert error_scale(np.array([1.0, 2, 4, 7]), 2) == pytest.approx(4.0)
    assert error_scale(np.array([1.0, 2, 1, 2]), 2) == 0.0
    assert error_scale(np.array([3.0]), 12) == 0.0


def test_levels_become_quantiles() -> None:
    assert check_levels([95, 80, 80]) == (80.0, 95.0)
    assert quantiles((80, 95)) == pytest.approx([0.025, 0.1, 0.5, 0.9, 0.975])
    assert quantiles(()) == [0.5]


@pytest.mark.parametrize("horizon", [0, -3, 2.5, True, "7"])
def test_bad_horizons_are_named(horizon) -> None:
    with pytest.raises(ElmanError, match="horizon"):
        check_horizon(horizon)


@pytest.mark.parametrize("level", [0, 100, -5, "80", True])
def test_bad_levels_are_named(level) -> None:
    with pytest.raises(ElmanError, match="levels"):
        check_levels([level])
