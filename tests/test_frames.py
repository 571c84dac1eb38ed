import datetime
import importlib
import io
import subprocess
import sys
import time as clock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data import ElmanError
from elman.frames import Frequency, forecast_frame, read

pd = pytest.importorskip("pandas")
pytest.importorskip("narwhals")

LIBRARIES = ["pandas", "polars"]


def table(freq="D", n=30, ids=("a", "b"), start="2024-01-01", **more):
    """Series of 0, 1, 2, … that continue from one to the next."""
    stamps = pd.date_range(start, periods=n, freq=freq)
    times = stamps.append([stamps] * (len(ids) - 1))
    frame = {"unique_id": np.repeat(list(ids), n), "ds": times, "y": np.arange(float(n * len(ids)))}
    return pd.DataFrame(frame | more)


def integers(times, values=None):
    return pd.DataFrame({"ds": times, "y": np.arange(float(len(times))) if values is None else values})


def given_in(library, frame):
    if library == "pandas":
        return frame
    polars = pytest.importorskip("polars")
    return polars.DataFrame({name: column_of(polars, frame[name]) for name in frame})


def column_of(polars, column):
    zone = getattr(column.dtype, "tz", None)
    if zone is not None:
        naive = polars.Series(column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy())
        return naive.dt.replace_time_zone("UTC").dt.convert_time_zone(str(zone))
    return polars.Series(
        column.to_numpy() if column.dtype.kind in "Mif" else [None if v != v else v for v in column]
    )


def written(tmp_path, text, name="table.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def zeros(panel, horizon):
    return forecast_frame(panel, horizon, {"elman": np.zeros((len(panel.ids), horizon))})


def times_of(frame):
    return [pd.Timestamp(stamp) for stamp in frame["ds"].to_list()]


def test_importing_is_cheap():
    code = "import sys, elman.frames; print([m for m in ('torch', 'pandas', 'narwhals', 'polars') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("missing", ["pandas", "narwhals"])
def test_missing_packages_are_named(monkeypatch, missing):
    original = importlib.import_module

    def without(name):
        if name.startswith(missing):
            raise ModuleNotFoundError(name)
        return original(name)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ElmanError, match=r'needs pandas and narwhals: pip install "elman\[series\]"'):
        read("table.csv")


@pytest.mark.parametrize(
    ("alias", "seasons"),
    [
        ("s", (60, 3600)),
        ("10s", (6, 360)),
        ("15min", (96, 672)),
        ("30min", (48, 336)),
        ("h", (24, 168)),
        ("12h", (2, 14)),
        ("7h", (24,)),
        ("D", (7,)),
        ("2D", (1,)),
        ("B", (5,)),
        ("W-SUN", (52,)),
        ("2W-SUN", (26,)),
        ("MS", (12,)),
        ("ME", (12,)),
        ("QS", (4,)),
        ("QE", (4,)),
        ("2QS-FEB", (2,)),
        ("YS", (1,)),
        ("YE", (1,)),
        ("1", (1,)),
        ("5", (1,)),
    ],
)
def test_frequencies_and_their_seasons(alias, seasons):
    assert Frequency.parse(alias) == Frequency(alias, seasons)


@pytest.mark.parametrize(
    ("alias", "same"),
    [
        ("60min", "h"),
        ("QS-NOV", "QS-FEB"),
        ("BQE-MAR", "BQE"),
        ("1h", "h"),
        ("W", "W-SUN"),
        ("QS-OCT", "QS"),
        ("QE-DEC", "QE"),
        ("YS-JAN", "YS"),
        (1, "1"),
    ],
)
def test_one_frequency_has_one_name(alias, same):
    assert Frequency.parse(alias).alias == same


@pytest.mark.parametrize(
    ("alias", "message"),
    [
        ("M", "Did you mean ME"),
        ("H", r"Did you mean h\?"),
        ("fortnight", "no frequency. Give a pandas alias"),
        ("-1h", "does not go forward"),
        ("0h", "does not go forward"),
        ("", "no frequency"),
    ],
)
def test_frequencies_that_are_none(alias, message):
    with pytest.raises(ElmanError, match=message):
        Frequency.parse(alias)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    "alias",
    [
        "s",
        "15min",
        "30min",
        "h",
        "6h",
        "D",
        "2D",
        "B",
        "W-SUN",
        "W-WED",
        "2W-MON",
        "MS",
        "ME",
        "2MS",
        "QS",
        "QE",
        "QS-FEB",
        "YS",
        "YE",
        "YS-APR",
        "BMS",
        "BME",
    ],
)
def test_frequencies_are_found_and_continued(library, alias):
    stamps = pd.date_range("2021-03-01", periods=43, freq=alias)
    panel = read(given_in(library, table(alias, 40, start="2021-03-01")))
    assert panel.frequency == Frequency.parse(alias)
    assert panel.ids == ("a", "b")
    assert panel.ends == (stamps[39], stamps[39])
    assert panel.notes == ()
    assert panel.library == library
    assert [values.tolist() for values in panel.values] == [list(range(40)), list(range(40, 80))]
    frame = zeros(panel, 3)
    assert list(frame.columns) == ["unique_id", "ds", "elman"]
    assert frame["unique_id"].to_list() == ["a"] * 3 + ["b"] * 3
    assert times_of(frame) == 2 * stamps[40:].tolist()


@pytest.mark.parametrize(
    "alias", ["15min", "h", "D", "B", "W-TUE", "MS", "ME", "QS-FEB", "QE", "YS", "YE-MAR"]
)
@pytest.mark.parametrize("given", [False, True])
def test_gaps_are_seen_without_a_frequency_too(alias, given):
    frame = table(alias, 45, ids=("a",), start="2020-02-01").drop(index=[20, 33])
    panel = read(frame, frequency=alias if given else None)
    assert panel.frequency == Frequency.parse(alias)
    assert panel.values[0].tolist() == list(range(45))
    assert panel.notes == ("2 missing values in 1 series were filled by linear interpolation.",)


def test_holidays_are_gaps_of_business_days():
    frame = table("B", 60)
    panel = read(frame[frame["ds"] != pd.Timestamp("2024-01-15")])
    assert panel.frequency.alias == "B"
    assert "2 missing values in 2 series" in panel.notes[0]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("step", [1, 10])
def test_integer_times(library, step):
    panel = read(given_in(library, integers(np.arange(20, dtype=np.int32) * step + 1)))
    assert panel.frequency == Frequency(str(step), (1,))
    assert panel.ends == (19 * step + 1,)
    frame = zeros(panel, 2)
    assert frame["ds"].to_list() == [20 * step + 1, 21 * step + 1]
    assert str(frame["ds"].dtype).lower() == "int32"


@pytest.mark.parametrize("library", LIBRARIES)
def test_without_ids_it_is_one_series(library):
    panel = read(given_in(library, table(ids=("a",)).drop(columns="unique_id")))
    assert (panel.ids, panel.has_id) == (("series",), False)
    assert list(zeros(panel, 2).columns) == ["ds", "elman"]
    assert read(table(ids=("a",)), id=None).has_id is False


@pytest.mark.parametrize("library", LIBRARIES)
def test_columns_of_other_names(library):
    frame = table().rename(columns={"unique_id": "shop", "ds": "day", "y": "sales"})
    panel = read(given_in(library, frame), id="shop", time="day", target="sales")
    assert panel.columns == ("shop", "day", "sales")
    assert list(zeros(panel, 2).columns) == ["shop", "day", "elman"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            {"time": "day"},
            r"no column day; it has unique_id, ds, y\. Name the right one with time= \(--time\)",
        ),
        ({"target": "sales"}, r"no column sales; .* target= \(--target\)"),
        ({"id": "shop"}, r"no column shop; .* id= \(--id\)"),
        ({"time": "y"}, "--time, --target, --id must name different columns, not y, y, unique_id"),
    ],
)
def test_missing_columns(names, message):
    with pytest.raises(ElmanError, match=message):
        read(table(), **names)


@pytest.mark.parametrize("library", LIBRARIES)
def test_empty_tables(library):
    with pytest.raises(ElmanError, match="the table is empty"):
        read(given_in(library, table().iloc[:0]))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("ids", [("x", "a"), (7, 3), ("007", "NA")])
def test_ids_keep_their_type_and_order(library, ids):
    panel = read(given_in(library, table(ids=ids)))
    assert panel.ids == ids
    assert [type(id) for id in panel.ids] == [type(id) for id in ids]
    assert zeros(panel, 1)["unique_id"].to_list() == list(ids)


def test_pandas_types_come_back():
    frame = table(ids=("x", "a")).astype({"unique_id": "category", "ds": "datetime64[s]"})
    out = zeros(read(frame), 2)
    assert out["unique_id"].dtype == frame["unique_id"].dtype
    assert out["ds"].dtype == "datetime64[s]"
    frame = table(ids=(1, 2)).astype({"unique_id": "int16", "y": "Float32"})
    assert zeros(read(frame), 2)["unique_id"].dtype == "int16"


def test_polars_types_come_back():
    polars = pytest.importorskip("polars")
    frame = given_in("polars", table(ids=("x", "a")))
    for id in (polars.Categorical, polars.Enum(["a", "x", "z"]), polars.String):
        for time in (polars.Date, polars.Datetime("ms"), polars.Datetime("ns", "Asia/Tokyo")):
            zoned = frame.with_columns(polars.col("unique_id").cast(id))
            stamps = polars.col("ds")
            stamps = stamps.dt.replace_time_zone("Asia/Tokyo") if getattr(time, "time_zone", None) else stamps
            zoned = zoned.with_columns(stamps.cast(time))
            panel = read(zoned)
            assert panel.frequency.alias == "D"
            out = zeros(panel, 2)
            assert [out.schema[name] for name in ("unique_id", "ds")] == [id, time]
            assert out["ds"].dt.day().to_list() == [31, 1] * 2


def test_periods_and_python_dates():
    frame = table("MS", ids=("a",))
    assert read(frame.assign(ds=frame["ds"].dt.to_period("M"))).frequency.alias == "MS"
    assert read(frame.assign(ds=[stamp.date() for stamp in frame["ds"]])).frequency.alias == "MS"


def test_arrow_tables_become_pandas():
    pyarrow = pytest.importorskip("pyarrow")
    panel = read(pyarrow.table({"ds": list(range(9)), "y": [1.0] * 9}))
    assert panel.library == "pandas"
    assert zeros(panel, 1)["ds"].tolist() == [9]


def test_other_things_are_no_tables():
    polars = pytest.importorskip("polars")
    with pytest.raises(ElmanError, match=r"LazyFrame is no table.*Collect it first"):
        read(polars.LazyFrame({"ds": [1]}))
    with pytest.raises(ElmanError, match="a list is no table: give a pandas or polars DataFrame"):
        read([1, 2])
    twice = table()
    twice.columns = ["ds", "ds", "y"]
    with pytest.raises(ElmanError, match="unique column names"):
        read(twice)


@pytest.mark.parametrize("library", LIBRARIES)
def test_time_stamps_as_text(library):
    frame = table(n=20)
    panel = read(given_in(library, frame.assign(ds=frame["ds"].dt.strftime("%Y-%m-%d"))))
    assert panel.frequency.alias == "D"
    assert times_of(zeros(panel, 1)) == [pd.Timestamp("2024-01-21")] * 2


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("bad", ["13/01/2024", "yesterday", ""])
def test_text_that_is_no_time_stamp(library, bad):
    frame = table(n=20)
    texts = frame["ds"].dt.strftime("%Y-%m-%d")
    texts[23] = bad
    with pytest.raises(ElmanError, match=f"row 23: '{bad}' in ds is no time stamp. Write it as 2024-01-31"):
        read(given_in(library, frame.assign(ds=texts)))


@pytest.mark.parametrize("library", LIBRARIES)
def test_time_stamps_and_ids_may_not_be_missing(library):
    frame = table(n=20)
    with pytest.raises(ElmanError, match="row 7 has no time stamp in ds"):
        read(
            given_in(
                library, frame.assign(ds=frame["ds"].dt.strftime("%Y-%m-%d").mask(frame.index == 7, None))
            )
        )
    with pytest.raises(ElmanError, match="row 9 has no unique_id"):
        read(given_in(library, frame.assign(unique_id=frame["unique_id"].mask(frame.index == 9, None))))


def test_other_numbers_are_no_time_stamps():
    assert read(integers(np.arange(9.0))).frequency.alias == "1"
    with pytest.raises(ElmanError, match="ds holds float64, not time stamps"):
        read(integers(np.arange(9) / 2))


@pytest.mark.parametrize(
    "texts", [["2024-01-01T00:00+01:00", "2024-01-02T00:00+02:00"], ["2024-01-01T00Z", "2024-01-02"]]
)
@pytest.mark.parametrize("library", LIBRARIES)
def test_mixed_zones(library, texts):
    with pytest.raises(ElmanError, match="ds are in several time zones, or some have one"):
        read(given_in(library, pd.DataFrame({"ds": texts, "y": [1.0, 2.0]})))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("alias", ["h", "30min", "D", "W-MON", "MS", "B"])
@pytest.mark.parametrize("start", ["2024-03-29", "2024-10-25"])
def test_a_zone_is_kept_where_clocks_change(library, alias, start):
    stamps = pd.date_range(start, periods=103, freq=alias, tz="Europe/Berlin")
    panel = read(given_in(library, integers(stamps[:100])))
    assert panel.frequency.alias == alias
    assert panel.ends == (stamps[99],)
    assert str(panel.ends[0].tz) == "Europe/Berlin"
    frame = zeros(panel, 3)
    assert times_of(frame) == stamps[100:].tolist()
    assert "Europe/Berlin" in str(frame["ds"].dtype)


def test_forecasts_cross_changes_of_the_clock():
    for alias in ("h", "D"):
        stamps = pd.date_range("2024-03-20", periods=300, freq=alias, tz="Europe/Berlin")
        n = 10 if alias == "D" else 250
        assert times_of(zeros(read(integers(stamps[: n - 8])), 20)) == stamps[n - 8 : n + 12].tolist()


@pytest.mark.parametrize("library", LIBRARIES)
def test_offsets_as_text(library):
    texts = [f"2024-01-{day:02}T00:00:00+01:00" for day in range(1, 10)]
    frame = zeros(read(given_in(library, pd.DataFrame({"ds": texts, "y": 1.0}))), 1)
    assert times_of(frame) == [pd.Timestamp("2024-01-10T00:00:00+01:00")]


@pytest.mark.parametrize("library", LIBRARIES)
def test_rows_in_any_order(library):
    frame = table(ids=("x", "a"))
    panel = read(given_in(library, frame.sample(frac=1, random_state=0)))
    expected = read(frame)
    for id, values in zip(panel.ids, panel.values, strict=True):
        assert values.tolist() == expected.values[expected.ids.index(id)].tolist()
    assert panel.notes == ("The rows of 2 series were not in order of time and were sorted.",)
    assert read(frame.sort_values("ds", kind="stable")).notes == ()


@pytest.mark.parametrize("library", LIBRARIES)
def test_duplicates(library):
    frame = table(n=20)
    frame.loc[31, "ds"] = frame.loc[30, "ds"]
    with pytest.raises(
        ElmanError, match=r"series b has 2024-01-11 twice, in row 30 and row 31: keep one of them\.$"
    ):
        read(given_in(library, frame))
    with pytest.raises(ElmanError, match=r"2024-01-01 twice, in row 0 and row 20: .*\(--id\)"):
        read(given_in(library, table(n=20).drop(columns="unique_id")))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_infinite_values(library, bad):
    frame = table(n=20)
    frame.loc[25, "y"] = bad
    with pytest.raises(ElmanError, match=r"series b is infinite at 2024-01-06 \(row 25\)"):
        read(given_in(library, frame))


@pytest.mark.parametrize("library", LIBRARIES)
def test_targets_that_are_no_numbers(library):
    texts = [str(float(i)) for i in range(40)]
    assert read(given_in(library, table(n=20, y=texts))).values[1][0] == 20.0
    texts[17] = "1,5"
    with pytest.raises(ElmanError, match="row 17: '1,5' in y is no number"):
        read(given_in(library, table(n=20, y=texts)))
    with pytest.raises(ElmanError, match=r"the target y holds datetime64\[us\], not numbers"):
        read(given_in(library, table(n=20, y=table(n=20)["ds"])))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", ["int64", "bool", "float32"])
def test_numbers_of_any_kind(library, dtype):
    panel = read(given_in(library, table(n=20).astype({"y": dtype})))
    assert [values.dtype for values in panel.values] == [np.float64] * 2


def test_missing_integers_and_decimals():
    polars = pytest.importorskip("polars")
    y = [0, None, *range(2, 20)]
    for dtype in (polars.Int32, polars.Decimal(10, 2), polars.String):
        column = polars.Series(map(str, range(20)) if dtype == polars.String else y).cast(dtype)
        panel = read(polars.DataFrame({"ds": range(20), "y": column}))
        assert panel.values[0].tolist() == list(range(20))
    assert read(integers(range(20), pd.array(y, "Int32"))).values[0].tolist() == list(range(20))


@pytest.mark.parametrize("library", LIBRARIES)
def test_short_gaps_are_interpolated(library):
    frame = table(n=40)
    frame.loc[[5, 46], "y"] = np.nan
    panel = read(given_in(library, frame.drop(index=[10, 11])))
    assert [values.tolist() for values in panel.values] == [list(range(40)), list(range(40, 80))]
    assert panel.notes == ("4 missing values in 2 series were filled by linear interpolation.",)


def test_one_missing_value_is_one():
    assert read(integers(np.delete(np.arange(20), 7))).notes == (
        "1 missing value in 1 series was filled by linear interpolation.",
    )


@pytest.mark.parametrize("library", LIBRARIES)
def test_too_much_missing(library):
    frame = table(n=20).drop(index=[27, 28, 31])
    with pytest.raises(
        ElmanError,
        match=r"series b has too much missing: 15\.0% of its values, and from 2024-01-08 on 2 steps",
    ):
        read(given_in(library, frame))


@pytest.mark.parametrize(("freq", "longest"), [("D", 24), ("h", 168)])
def test_gaps_of_more_than_a_season(freq, longest):
    frame = table(freq, 4_000, ids=("a",))
    assert len(read(frame.drop(index=range(100, 100 + longest))).values[0]) == 4_000
    with pytest.raises(
        ElmanError, match=rf"on {longest + 1} steps in a row; at most 10% and {longest} in a row"
    ):
        read(frame.drop(index=range(100, 101 + longest)))


@pytest.mark.parametrize("library", LIBRARIES)
def test_missing_values_at_the_ends_are_cut(library):
    frame = table(n=30)
    frame.loc[[0, 1, 29, 30], "y"] = np.nan
    panel = read(given_in(library, frame))
    assert [len(values) for values in panel.values] == [27, 29]
    assert panel.ends == (pd.Timestamp("2024-01-29"), pd.Timestamp("2024-01-30"))
    assert panel.notes == (
        "3 missing values at the start of 2 series were cut.",
        "1 missing value at the end of 1 series was cut.",
    )


@pytest.mark.parametrize("library", LIBRARIES)
def test_series_without_values_are_skipped(library):
    frame = table(n=20, ids=("x", "a", "b"))
    frame.loc[:19, "y"] = np.nan
    frame.loc[20, "y"] = np.nan
    panel = read(given_in(library, frame))
    assert panel.ids == ("a", "b")
    assert [values[0] for values in panel.values] == [21.0, 40.0]
    assert panel.notes == (
        "1 series without any value skipped: x.",
        "1 missing value at the start of 1 series was cut.",
    )
    with pytest.raises(ElmanError, match="no series has a value"):
        read(given_in(library, frame[frame["unique_id"] == "x"]))


def test_many_skipped_series_are_counted():
    frame = table(n=5, ids=range(9))
    frame.loc[frame["unique_id"] < 8, "y"] = np.nan
    assert read(frame).notes == ("8 series without any value skipped: 0, 1, 2, 3, 4 and 3 more.",)


@pytest.mark.parametrize("library", LIBRARIES)
def test_irregular_times(library):
    stamps = pd.Timestamp("2024-01-01") + pd.to_timedelta([0, 3, 4, 9, 11, 18, 31], unit="h")
    with pytest.raises(ElmanError, match=r"no regular frequency: .*frequency='h' \(--frequency h\)"):
        read(given_in(library, integers(stamps)))
    with pytest.raises(ElmanError, match="no regular frequency"):
        read(given_in(library, integers([1, 2, 5, 11, 31])))
    fifteenth = pd.date_range("2024-01-01", periods=20, freq="MS") + pd.Timedelta("14D")
    with pytest.raises(ElmanError, match="no regular frequency"):
        read(given_in(library, integers(fifteenth)))


def test_single_time_stamps_need_a_frequency():
    frame = table(n=1)
    with pytest.raises(ElmanError, match="no series has two time stamps"):
        read(frame)
    assert times_of(zeros(read(frame, frequency="D"), 1)) == [pd.Timestamp("2024-01-02")] * 2


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_series_off_the_frequency_is_named(library):
    frame = table("h", 40)
    frame.loc[70, "ds"] += pd.Timedelta("10min")
    with pytest.raises(
        ElmanError, match=r"series b leaves the frequency h at 2024-01-02 06:10:00 \(Tuesday\), row 70"
    ):
        read(given_in(library, frame))
    frame = table("MS", 40)
    frame.loc[70, "ds"] += pd.Timedelta("1D")
    with pytest.raises(
        ElmanError, match=r"series b leaves the frequency MS at 2026-07-02 \(Thursday\), row 70"
    ):
        read(given_in(library, frame))
    with pytest.raises(
        ElmanError, match=r"series a leaves the frequency W-SUN at 2024-01-02 \(Tuesday\), row 0"
    ):
        read(given_in(library, table("W-TUE")), frequency="W-SUN")


def test_a_week_without_a_day_starts_where_the_data_do():
    assert read(table("W-TUE"), frequency="W").frequency.alias == "W-TUE"


def test_frequencies_must_suit_the_times():
    with pytest.raises(ElmanError, match="times are integers, and the frequency is h: give a number"):
        read(integers(range(9)), frequency="h")
    with pytest.raises(ElmanError, match="times are dates, and the frequency is 1: give an alias"):
        read(table(), frequency=1)
    with pytest.raises(ElmanError, match="finer than the time stamps"):
        read(table(), frequency="ns")


def test_series_may_start_at_different_times():
    frame = pd.concat([table("h", 30, ids=("a",)), table("h", 20, ids=("b",), start="2024-02-01 00:30")])
    panel = read(frame)
    assert panel.ends == (pd.Timestamp("2024-01-02 05:00"), pd.Timestamp("2024-02-01 19:30"))
    assert times_of(zeros(panel, 1)) == [end + pd.Timedelta("1h") for end in panel.ends]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_files(tmp_path, suffix):
    frame, path = table(ids=("x", "NA")), tmp_path / f"table{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    for source in (path, str(path)):
        panel = read(source)
        assert panel.ids == ("x", "NA")
        assert panel.library == "pandas"
        assert [values.tolist() for values in panel.values] == [list(range(30)), list(range(30, 60))]
        assert times_of(zeros(panel, 1)) == [pd.Timestamp("2024-01-31")] * 2


def test_standard_input(monkeypatch):
    text = io.TextIOWrapper(io.BytesIO(b"ds,y\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(9))))
    monkeypatch.setattr(sys, "stdin", text)
    assert read("-").values[0].tolist() == [i * i for i in range(9)]


@pytest.mark.parametrize(("ids", "expected"), [("1 2", (1, 2)), ("01 2", ("01", "2")), ("a NA", ("a", "NA"))])
def test_ids_in_files(tmp_path, ids, expected):
    rows = [f"{id};{day};{day / 2}" for id in ids.split() for day in range(12)]
    panel = read(written(tmp_path, "\n".join(["unique_id;ds;y", *rows])))
    assert panel.ids == expected
    assert panel.values[1].tolist() == [day / 2 for day in range(12)]


@pytest.mark.parametrize("empty", ["", "NA", "nan", "null"])
def test_missing_values_in_files(tmp_path, empty):
    rows = [f"{day},{empty if day == 5 else day}" for day in range(20)]
    panel = read(written(tmp_path, "\n".join(["ds,y", *rows])))
    assert panel.values[0].tolist() == list(range(20))
    assert len(panel.notes) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: there is no table"),
        ("ds,y\n", "the table is empty"),
        ("ds,y\n2024-01-01,1\n2024-01-02,two\n", "line 3: 'two' in y is no number"),
        ("ds,y\n2024-01-01,1\nsoon,2\n", "line 3: 'soon' in ds is no time stamp"),
        ("ds,y\n2024-01-01,1\n,2\n", "line 3 has no time stamp in ds"),
        ("unique_id,ds,y\na,1,1\n,2,2\n", "line 3 has no unique_id"),
        ("ds,y\n1,1\n1,2\n", "has 1 twice, in line 2 and line 3"),
        ("ds,y\n1,1\n2,inf\n", r"is infinite at 2 \(line 3\)"),
        ("ds,y\n1,2,3,4\n2,3,4,5\n", "more fields than its first line names"),
        ("ds,y\n1,2\n2,3,4\n", "is no CSV in UTF-8 that can be read: .*line 3"),
        ("date,y\n1,2\n", "no column ds; it has date, y"),
    ],
)
def test_errors_say_the_line(tmp_path, text, message):
    with pytest.raises(ElmanError, match=message):
        read(written(tmp_path, text))


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.csv"):
        read(tmp_path / "none.csv")
    with pytest.raises(IsADirectoryError, match="is a directory"):
        read(tmp_path)
    with pytest.raises(ElmanError, match=r"give a \.csv, \.tsv or \.parquet file"):
        read(written(tmp_path, "ds,y\n", "table.xlsx"))
    (tmp_path / "latin.csv").write_bytes("ds,y\n1,é\n".encode("latin-1"))
    with pytest.raises(ElmanError, match="no CSV in UTF-8"):
        read(tmp_path / "latin.csv")
    pytest.importorskip("pyarrow")
    with pytest.raises(ElmanError, match="no Parquet file"):
        read(written(tmp_path, "ds,y\n", "table.parquet"))


@pytest.mark.parametrize("library", LIBRARIES)
def test_forecasts_as_a_table(library):
    panel = read(given_in(library, table(ids=("x", "a"))))
    median = np.arange(6.0).reshape(2, 3)
    frame = forecast_frame(panel, 3, {"elman": median, "elman-lo-90": median - 1})
    assert list(frame.columns) == ["unique_id", "ds", "elman", "elman-lo-90"]
    assert type(frame).__module__.startswith(library)
    assert frame["unique_id"].to_list() == ["x"] * 3 + ["a"] * 3
    assert frame["elman"].to_list() == list(range(6))
    assert frame["elman-lo-90"].to_list() == list(range(-1, 5))
    with pytest.raises(ElmanError, match=r"elman is \(2, 3\), not \(2, 4\)"):
        forecast_frame(panel, 4, {"elman": median})
    with pytest.raises(ElmanError, match="column ds has the name of another"):
        forecast_frame(panel, 3, {"ds": median})


@given(st.data())
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_shuffled_table_is_the_same_series(library, data):
    alias = data.draw(st.sampled_from(["15min", "h", "D", "B", "W-THU", "MS", "QE", "YS", "1"]))
    numbers = st.floats(-1e300, 1e300)
    series = data.draw(
        st.dictionaries(
            st.text(max_size=3), st.lists(numbers, min_size=1, max_size=20), min_size=1, max_size=5
        )
    )
    parts = []
    for id, values in series.items():
        late = data.draw(st.integers(0, 9))
        times = range(late, late + len(values))
        if alias != "1":
            times = pd.date_range("2020-01-31", periods=late + len(values), freq=alias)[late:]
        parts.append(pd.DataFrame({"unique_id": id, "ds": times, "y": values}))
    frame = pd.concat(parts)
    order = data.draw(st.permutations(range(len(frame))))
    panel = read(given_in(library, frame.iloc[order]), frequency=alias)
    assert sorted(panel.ids) == sorted(series)
    for id, values, end in zip(panel.ids, panel.values, panel.ends, strict=True):
        assert values.tolist() == series[id]
        assert end == parts[list(series).index(id)]["ds"].iloc[-1]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_hundred_thousand_series(library):
    frame = given_in(library, table("MS", 20, ids=[f"s{i}" for i in range(100_000)]))
    start = clock.perf_counter()
    panel = read(frame)
    assert clock.perf_counter() - start < 5
    assert len(panel.ids) == 100_000
    assert zeros(panel, 2).shape == (200_000, 3)


def test_dates_are_dates():
    polars = pytest.importorskip("polars")
    days = [datetime.date(2024, 1, day) for day in range(1, 20)]
    out = zeros(read(polars.DataFrame({"ds": days, "y": range(19)})), 1)
    assert out["ds"].to_list() == [datetime.date(2024, 1, 20)]
