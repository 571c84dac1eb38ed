"""Covariates: each value lands at its step, as what was learned from training; what cannot be used is named."""

import io
import json
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.covariates import Encoding, encode, learn
from elman.data import ElmanError
from elman.frames import open_table, read

pd = pytest.importorskip("pandas")
pytest.importorskip("narwhals")

LIBRARIES = ["pandas", "polars"]
COLUMNS = {"past": ["visits"], "future": ["price", "promo"], "static": ["region", "size"]}


def shops(n=30, ids=("a", "b", "c"), freq="D", start="2024-01-01", ahead=0, seed=0):
    """Sales of shops; of the `ahead` steps after each, sales and visits are missing."""
    rng = np.random.default_rng(seed)
    parts = []
    for k, id in enumerate(ids):
        rows = n + ahead
        part = {
            "unique_id": id,
            "ds": pd.date_range(start, periods=rows, freq=freq),
            "y": rng.normal(size=rows),
        }
        part |= {"visits": rng.integers(0, 50, rows) * 1.0, "price": rng.normal(5, 2, rows)}
        part |= {"promo": rng.choice(["none", "leaflet", "radio"], rows)}
        part |= {"region": ["north", "south"][k % 2], "size": 100 + k}
        parts.append(pd.DataFrame(part))
        parts[-1].loc[n:, ["y", "visits"]] = np.nan
    return pd.concat(parts, ignore_index=True)


def given_in(library, frame):
    if library == "pandas":
        return frame
    polars = pytest.importorskip("polars")
    columns = {}
    for name, column in frame.items():
        text = column.dtype.kind == "O"
        columns[name] = [x if x == x else None for x in column] if text else column.to_numpy()
    return polars.DataFrame(columns)


def both(frame, ahead=0, future_table=None, calendar=False, **columns):
    table = open_table(frame)
    panel = read(table)
    encoding = learn(table, panel, **(columns or COLUMNS), calendar=calendar)
    return encoding, encode(table, panel, encoding, ahead, future_table)


def refused(match, frame, **more):
    with pytest.raises(ElmanError, match=match):
        both(frame, **more)


def alike(first, second):
    for role in ("past", "future", "static"):
        for x, y in zip(getattr(first, role), getattr(second, role), strict=True):
            np.testing.assert_array_equal(x, y)
    assert first.notes == second.notes


@pytest.mark.parametrize("library", LIBRARIES)
def test_columns_become_numbers(library) -> None:
    frame = shops()
    encoding, found = both(given_in(library, frame))
    assert encoding.sizes == (1, 4, 3)
    standard = (frame["visits"] - frame["visits"].mean()) / frame["visits"].std(ddof=0)
    np.testing.assert_allclose(np.concatenate(found.past)[:, 0], standard, rtol=1e-5, atol=1e-6)
    names = list(dict.fromkeys(frame["promo"]))
    assert encoding.future[1].names == tuple(names)
    assert np.concatenate(found.future)[:, 1:].tolist() == [
        [p == name for name in names] for p in frame["promo"]
    ]
    np.testing.assert_allclose(found.static, [[1, 0, -(1.5**0.5)], [0, 1, 0], [1, 0, 1.5**0.5]], rtol=1e-6)
    assert (found.notes, found.static.dtype, found.past[0].dtype) == ((), np.float32, np.float32)


def test_pandas_polars_and_files_give_the_same(tmp_path) -> None:
    frame = shops(ahead=4)
    encoding, expected = both(frame, 4, calendar=True)
    frame.to_csv(tmp_path / "table.csv", index=False)
    sources = [given_in("polars", frame), tmp_path / "table.csv"]
    if importable("pyarrow"):
        frame.to_parquet(tmp_path / "table.parquet")
        sources.append(tmp_path / "table.parquet")
    for source in sources:
        other, found = both(source, 4, calendar=True)
        assert other == encoding
        alike(found, expected)


def importable(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def test_standard_input_is_read_once(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(shops().to_csv(index=False).encode())))
    table = open_table("-")
    panels = [read(table, target=target) for target in ("y", "visits")]
    encoding = learn(table, panels[0], past=["visits"])
    np.testing.assert_allclose(
        encode(table, panels[0], encoding, 0).past[2][:, 0] * encoding.past[0].std + encoding.past[0].mean,
        panels[1].values[2],
        atol=1e-4,
    )


def test_an_open_table_keeps_its_columns() -> None:
    table = open_table(shops().rename(columns={"unique_id": "shop", "ds": "day"}), "shop", "day")
    panel = read(table, target="price")
    assert (panel.ids, panel.columns) == (("a", "b", "c"), ("shop", "day", "price"))
    assert (panel.starts[0], panel.ends[0]) == (pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-30"))
    assert open_table(table) is table


@settings(deadline=None, max_examples=40)
@given(st.data())
@pytest.mark.parametrize("freq", ["h", "D", "B", "2W-SUN", "MS", "1"])
def test_values_land_at_their_step_whatever_the_order_of_rows(freq, data) -> None:
    """Each row's covariate is its number; gaps repeat what came before."""
    late = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))
    parts, expected, ahead = [], {}, data.draw(st.integers(0, 3))
    for k, start in enumerate(late):
        n = data.draw(st.integers(12, 25))
        stop = start + n + ahead
        times = range(7, 7 + stop) if freq == "1" else pd.date_range("2023-12-29", periods=stop, freq=freq)
        part = pd.DataFrame(
            {"unique_id": f"s{k}", "ds": times[start:], "y": 1.0, "x": np.arange(n + ahead) + 100.0 * k}
        )
        part.loc[n:, "y"] = np.nan
        gap = data.draw(st.integers(1, n - 2))
        parts.append(part.drop(index=gap))
        expected[f"s{k}"] = part["x"].mask(part.index == gap, gap - 1 + 100.0 * k).to_numpy()
    frame = pd.concat(parts, ignore_index=True)
    table = open_table(frame.iloc[data.draw(st.permutations(range(len(frame))))])
    panel = read(table, frequency=freq)
    encoding = learn(table, panel, past=["x"], calendar=False)
    encoding = Encoding(encoding.past, encoding.past)
    found = encode(table, panel, encoding, ahead)
    column = encoding.past[0]
    for k, id in enumerate(panel.ids):
        n = len(panel.values[k])
        values = found.future[k][:, 0] * column.std + column.mean
        np.testing.assert_allclose(values, expected[id], atol=1e-3)
        assert found.past[k].tolist() == found.future[k][:n].tolist()
    steps = len(late)
    noun = f"{steps} step{'s' if steps > 1 else ''} without a row, in {steps} series"
    assert found.notes == (f"Over {noun}, the last known covariates were carried forward.",)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(-1e300, 1e300), min_size=6, max_size=6),
    st.lists(st.text(max_size=3), min_size=6, max_size=6),
    st.booleans(),
)
def test_what_is_learned_survives_json(numbers, names, calendar) -> None:
    frame = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=6), "y": 1.0, "x": numbers, "z": names})
    encoding, found = both(frame, past=["x"], future=["z"], calendar=calendar)
    again = Encoding.from_dict(json.loads(json.dumps(encoding.as_dict())))
    assert again == encoding
    table = open_table(frame)
    alike(encode(table, read(table), again, 0), found)
    assert all(np.isfinite(x).all() for x in (*found.past, *found.future))


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_future_is_in_later_rows_or_in_its_own_table(library) -> None:
    frame = shops(ahead=5)
    encoding, expected = both(given_in(library, frame), 5, calendar=True)
    assert [len(x) for x in (*expected.past, *expected.future)] == [30] * 3 + [35] * 3
    known, future = frame[frame["y"].notna()], frame.drop(columns=["y", "visits", "size"])
    later = future[frame["y"].isna()]
    for table in (later, later.sample(frac=1, random_state=0), future):
        other, found = both(given_in(library, known), 5, given_in(library, table), calendar=True)
        assert other == encoding
        alike(found, expected)


def test_the_future_of_numbers_as_ids_in_a_file(tmp_path) -> None:
    frame = shops(ids=("1", "2"), ahead=2)
    frame[frame["y"].isna()].to_csv(tmp_path / "future.csv", index=False)
    alike(both(frame[frame["y"].notna()], 2, tmp_path / "future.csv")[1], both(frame, 2)[1])


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_future_that_is_not_there_is_named(library) -> None:
    frame = shops(ahead=5)
    message = r"series b has no price, promo for 2024-02-02, step 3 of 5 ahead: add a row"
    refused(message, given_in(library, frame.drop(index=[35 + 32, 35 + 33])), ahead=5)
    later = frame[frame["y"].isna()]
    refused(message, frame[frame["y"].notna()], ahead=5, future_table=given_in(library, later.drop(index=67)))
    refused(r"series a has no .* for 2024-02-05, step 6 of 6", given_in(library, frame), ahead=6)
    refused(r"series a has no .* for 2024-01-31, step 1 of 1", shops(), ahead=1)


def test_futures_that_do_not_fit() -> None:
    frame = shops(ahead=2)
    known, later = frame[frame["y"].notna()], frame[frame["y"].isna()]
    more = pd.concat([later, later.replace({"unique_id": {"a": "x", "b": "y", "c": "z"}})])
    refused(r"series that the table has not: x, y, z\. Remove them", known, ahead=2, future_table=more)
    refused(
        r"the table of the future has no column promo; it has",
        known,
        ahead=2,
        future_table=later.drop(columns="promo"),
    )
    refused(
        r"the table of the future has no column unique_id",
        known,
        ahead=2,
        future_table=later[:2].drop(columns="unique_id"),
    )
    refused(r"dates and numbers", known, ahead=2, future_table=later.assign(ds=range(6)))
    zoned = later.assign(ds=later["ds"].dt.tz_localize("UTC"))
    refused(r"one has a time zone and the other has none", known, ahead=2, future_table=zoned)
    odd = later.assign(ds=later["ds"] + pd.Timedelta("1h"))
    refused(r"series a leaves the frequency D at 2024-01-31 01:00", known, ahead=2, future_table=odd)
    refused(
        r"series c has no price at 2024-02-01 \(row 5\)",
        known,
        ahead=2,
        future_table=later.assign(price=[*range(5), np.nan]),
    )
    refused(r"leave their table out", known, ahead=2, future_table=later, past=["visits"])


def test_other_zones_are_the_same_instants() -> None:
    frame = shops(80, freq="h", ahead=3)
    frame["ds"] = frame["ds"].dt.tz_localize("Europe/Berlin")
    later = frame[frame["y"].isna()].assign(ds=frame["ds"].dt.tz_convert("Asia/Tokyo"))
    alike(both(frame[frame["y"].notna()], 3, later)[1], both(frame, 3)[1])


def test_rows_without_a_target_at_the_ends_are_not_used() -> None:
    frame = shops()
    odd = frame.copy()
    odd.loc[[0, 29], "y"] = np.nan
    odd.loc[[0, 29], ["visits", "price", "promo", "region"]] = [1e9, np.nan, "tv", "moon"]
    _, found = both(odd)
    kept = frame.drop(index=[0, 29])
    alike(found, both(kept)[1])
    assert len(found.past[0]) == 28


def test_series_without_a_target_are_skipped() -> None:
    frame = shops()
    frame.loc[frame["unique_id"] == "a", ["y", "visits"]] = np.nan
    _, found = both(frame)
    assert len(found.past) == len(found.static) == 2
    alike(found, both(frame[frame["unique_id"] != "a"])[1])


def test_names_that_training_did_not_see_have_no_effect() -> None:
    encoding, _ = both(shops())
    frame = shops(seed=1, ahead=1)
    frame.loc[3, "promo"], frame.loc[30, "promo"] = "tv", "cinema"
    frame.loc[frame["unique_id"] == "c", "region"] = "west"
    table = open_table(frame)
    found = encode(table, read(table), encoding, 1)
    assert found.future[0][[3, 30], 1:].tolist() == [[0, 0, 0]] * 2
    assert found.static[2, :2].tolist() == [0, 0]
    what = "has names that were not there in training and have no effect"
    assert found.notes == (f"promo {what}: tv.", f"region {what}: west.", f"promo {what}: cinema.")


@pytest.mark.parametrize("library", LIBRARIES)
def test_whole_numbers_are_the_names_they_were(library) -> None:
    frame = shops()
    encoding, _ = both(frame.assign(promo=["x", *["1"] * 89]))
    table = open_table(given_in(library, frame.assign(promo=1)))
    assert encode(table, read(table), encoding, 0).future[0][:, 1:].tolist() == [[0, 1]] * 30


def test_kinds_of_columns() -> None:
    polars = pytest.importorskip("polars")
    base = {"ds": list(range(6)), "y": [1.0] * 6}
    flags, texts = [True, False] * 3, ["a", "b", "b"] * 2
    for column in (polars.Series(flags), polars.Series([1, 0] * 3).cast(polars.Decimal(9, 2))):
        assert both(polars.DataFrame(base | {"x": column}), past=["x"])[1].past[0].tolist() == [[1], [-1]] * 3
    for kind in (polars.Categorical, polars.Enum(["b", "a"]), polars.String):
        assert both(polars.DataFrame(base | {"x": polars.Series(texts).cast(kind)}), past=["x"])[0].past[
            0
        ].names == ("a", "b")
    for values in (
        flags,
        pd.array(flags, "boolean"),
        pd.array([1, 0] * 3, "Int8"),
        np.array([1, 0] * 3, object),
    ):
        assert both(pd.DataFrame(base | {"x": values}), past=["x"])[1].past[0].tolist() == [[1], [-1]] * 3
    for kind in ("category", "string", object):
        assert both(pd.DataFrame(base | {"x": pd.Series(texts, dtype=kind)}), past=["x"])[0].past[
            0
        ].names == ("a", "b")
    refused(
        r"x holds datetime64.*, not numbers or names", pd.DataFrame(base | {"x": pd.Timestamp(0)}), past=["x"]
    )


def test_constant_columns_are_zeros_for_good() -> None:
    encoding, found = both(shops().assign(visits=0.1))
    assert not np.concatenate(found.past).any()
    table = open_table(shops())
    assert not np.concatenate(encode(table, read(table), encoding, 0).past).any()


@pytest.mark.parametrize("library", LIBRARIES)
def test_values_that_cannot_be_used(library) -> None:
    for name, role in (("visits", "past"), ("price", "future"), ("size", "static"), ("promo", "past")):
        frame = shops().astype({"size": float})
        frame.loc[44, name] = None if name == "promo" else np.nan
        refused(
            rf"series b has no {name} at 2024-01-15 \(row 44\): fill it in",
            given_in(library, frame),
            **{role: [name]},
        )
        if name in ("visits", "price"):
            frame.loc[44, name] = np.inf
            refused(
                rf"series b: {name} is infinite.* at 2024-01-15 \(row 44\)",
                given_in(library, frame),
                **{role: [name]},
            )
    many = shops(50).assign(promo=[f"p{i}" for i in range(150)])
    refused(
        r"promo has 150 different names, and at most 100.*leave it out, or group",
        given_in(library, many),
        future=["promo"],
    )
    many = shops(3, ids=range(101)).assign(region=lambda frame: frame["unique_id"].astype(str) + "r")
    refused(r"region has 101 different names", given_in(library, many), static=["region"])
    refused(
        r"price varies in series a: it is .* in row 0 and .* in row 1\.",
        given_in(library, shops()),
        static=["price"],
    )


def test_numbers_stay_numbers(tmp_path) -> None:
    encoding, _ = both(shops())
    frame = shops().astype({"price": object})
    frame.loc[4, "price"] = "cheap"
    frame.to_csv(tmp_path / "table.csv", index=False)
    table = open_table(tmp_path / "table.csv")
    with pytest.raises(ElmanError, match=r"line 6: 'cheap' in price is no number\. Write it as 1234\.5\.$"):
        encode(table, read(table), encoding, 0)
    table = open_table(shops().assign(price=1e300))
    with pytest.raises(ElmanError, match=r"price is too far from .* at 2024-01-01 \(row 0\)"):
        encode(table, read(table), encoding, 0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"past": ["rain"]},
            r"no column rain; it has unique_id, .*\. Name the right one with past= \(--past\)",
        ),
        ({"past": ["price"], "future": ["price"]}, r"price is named in --past and in --future: name it once"),
        ({"static": ["size", "size"]}, r"size is named in --static and in --static"),
        ({"past": ["unique_id"]}, r"unique_id is the column of ids, which is no covariate"),
        ({"future": ["ds"]}, r"ds is the column of times"),
        ({"future": ["y"]}, r"y is the target, which is not known ahead"),
    ],
)
def test_columns_that_cannot_be_covariates(columns, message) -> None:
    refused(message, shops(), **columns)


def test_targets_may_be_past_covariates() -> None:
    table = open_table(shops())
    panel = read(table)
    encoding = learn(table, panel, past="y")
    np.testing.assert_allclose(
        encode(table, panel, encoding, 0).past[1][:, 0] * encoding.past[0].std + encoding.past[0].mean,
        panel.values[1],
        rtol=1e-5,
        atol=1e-6,
    )


def test_columns_that_a_later_table_lacks() -> None:
    encoding, _ = both(shops())
    table = open_table(shops().drop(columns="region"))
    with pytest.raises(ElmanError, match=r"no column region; .*\(--static\)"):
        encode(table, read(table), encoding, 0)
    with pytest.raises(ElmanError, match=r"the panel was not read from this table"):
        encode(shops(ids=("x",)), read(shops()), encoding, 0)


HOUR, WEEK, MONTH, YEAR = "hour of day", "day of week", "day of month", "day of year"


@pytest.mark.parametrize(
    ("freq", "n", "automatic", "every"),
    [
        ("15min", 2 * 96 - 1, [], [HOUR, WEEK, YEAR]),
        ("15min", 2 * 96, [], [HOUR, WEEK, YEAR]),
        ("h", 400, [], [HOUR, WEEK, YEAR]),
        ("D", 60, [], [WEEK, MONTH, YEAR]),
        ("D", 731, [YEAR], [WEEK, MONTH, YEAR]),
        ("B", 42, [], [WEEK, MONTH, YEAR]),
        ("W-SUN", 103, [], [YEAR]),
        ("W-SUN", 104, [], [YEAR]),
        ("MS", 24, [], ["month of year"]),
        ("QE", 7, [], ["month of year"]),
        ("QE", 8, [], ["month of year"]),
        ("YS", 50, [], []),
    ],
)
def test_what_the_calendar_tells(freq, n, automatic, every) -> None:
    frame = pd.concat([shops(n, ("a",), freq), shops(4, ("b",), freq)])
    panel = read(frame)
    for wanted, cycles in ((None, automatic), (True, every), (False, [])):
        names = tuple(f"{cycle} {wave}" for cycle in cycles for wave in ("sin", "cos"))
        assert learn(frame, panel, calendar=wanted).calendar == names


@pytest.mark.parametrize("freq", ["15min", "h", "7h", "D", "3D", "B", "2W-MON", "MS", "2QS", "SMS"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_the_calendar_is_that_of_each_time_stamp(freq, zone) -> None:
    parts = []
    for id, start, n in (
        ("a", "2024-03-25", 50),
        ("b", "2024-03-28", 90),
        ("c", "2023-01-02", 40),
        ("d", "2024-03-25", 60),
    ):
        times = pd.date_range(start, periods=100, freq=freq, tz=zone)
        times = times[times >= pd.Timestamp(start, tz=zone)][:n]
        late = pd.Timedelta(7 if id == "d" and freq == "15min" else 0, "min")
        parts.append(pd.DataFrame({"unique_id": id, "ds": times + late, "y": 1.0}))
    if freq in ("2W-MON", "2QS"):  # of these, series share their steps
        parts = parts[:1]
    frame, ahead = pd.concat(parts), 6
    panel = read(frame, frequency=freq)
    encoding = learn(frame, panel, calendar=True)
    found = encode(frame, panel, encoding, ahead)
    for k, part in enumerate(parts):
        whole = pd.date_range(part["ds"].iloc[0], periods=len(part) + ahead, freq=freq)
        fractions = {
            HOUR: (whole.hour + whole.minute / 60) / 24,
            WEEK: whole.day_of_week / 7,
            MONTH: (whole.day - 1) / whole.days_in_month,
            YEAR: (whole.day_of_year - 1) / np.where(whole.is_leap_year, 366, 365),
            "month of year": (whole.month - 1) / 12,
        }
        expected = [
            getattr(np, name[-3:])(2 * np.pi * np.asarray(fractions[name[:-4]])) for name in encoding.calendar
        ]
        np.testing.assert_allclose(found.future[k], np.stack(expected, axis=1), atol=1e-6)


def test_whole_numbers_have_no_calendar() -> None:
    frame = pd.DataFrame({"ds": range(50), "y": 1.0})
    assert learn(frame, read(frame)).calendar == ()
    with pytest.raises(ElmanError, match=r"whole numbers, which have no calendar"):
        learn(frame, read(frame), calendar=True)


def test_nothing_costs_nothing() -> None:
    panel = read(shops())
    encoding = learn(None, panel, calendar=False)  # the table is not touched
    found = encode(None, panel, encoding, 7)
    assert encoding.sizes == (0, 0, 0)
    assert [x.shape for x in (*found.past, *found.future, found.static)] == [(30, 0)] * 3 + [(37, 0)] * 3 + [
        (3, 0)
    ]


def test_series_share_their_calendar() -> None:
    frame = shops(500, ids=range(400), freq="h").drop(columns=["visits", "price", "promo", "region", "size"])
    table = open_table(frame)
    panel = read(table)
    encoding = learn(table, panel, calendar=True)
    tracemalloc.start()
    found = encode(table, panel, encoding, 48)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4e6  # one series' worth, and tables of 400; 400 series would be 5e6
    assert np.shares_memory(found.future[0], found.future[399])


def test_a_million_rows() -> None:
    frame = pd.concat([shops(500, freq="h")] * 667, ignore_index=True)
    frame["unique_id"] = [f"s{i // 500}" for i in range(len(frame))]
    table = open_table(frame)
    panel = read(table)
    found = encode(table, panel, learn(table, panel, **COLUMNS), 0)
    assert (len(found.past), found.future[-1].shape) == (2_001, (500, 4))


def test_none_is_a_name_in_files_and_no_number(tmp_path) -> None:
    frame = shops(20).astype({"y": object})
    frame.loc[[3, 4], "y"] = ["none", "NA"]
    frame.to_csv(tmp_path / "table.csv", index=False)
    encoding, _ = both(tmp_path / "table.csv", future=["promo"])
    assert set(encoding.future[0].names or ()) == {"none", "leaflet", "radio"}
    assert len(read(tmp_path / "table.csv").notes) == 1


def test_series_that_lie_years_apart_do_not_fill_the_years_between() -> None:
    starts = {"a": "2000-01-01", "b": "2024-01-01", "c": "2000-01-01 00:00:30"}
    frame = pd.concat([shops(50, (id,), "s", start) for id, start in starts.items()])
    panel = read(frame)
    found = encode(frame, panel, learn(frame, panel, calendar=True), 3).future
    assert [x.shape for x in found] == [(53, 6)] * 3
    np.testing.assert_array_equal(found[0][30:], found[2][:23])
    assert np.shares_memory(found[0], found[2])
