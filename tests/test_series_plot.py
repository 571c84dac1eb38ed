import json
import re
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from elman import series_plot
from elman.data import ElmanError
from elman.page import DARK, LIGHT
from elman.series_plot import DPI, LEGEND, LINE, ROW, ROWS, STEPS, WIDTH, Drawing, Steps, check_picture, draw

EVIL = "</script><img src=x onerror=alert(1)>"
DAY, HOUR = np.timedelta64(1, "D"), np.timedelta64(1, "h")


def drawing(name="a", n=200, horizon=14, step=DAY, scale=100.0, seed=0, actual=True, integer=False):
    rng = np.random.default_rng(seed)
    times = (
        np.arange(n + horizon)
        if integer
        else np.datetime64("2024-01-01T00", "ns") + step * np.arange(n + horizon)
    )
    y = scale * (
        1 + 0.3 * np.sin(np.arange(n + horizon) * 2 * np.pi / 7) + 0.05 * rng.standard_normal(n + horizon)
    )
    middle = y[n:] + 0.03 * scale * rng.standard_normal(horizon)
    intervals = {level: (middle - z * scale, middle + z * scale) for level, z in ((80, 0.1), (95, 0.2))}
    return Drawing(name, times[:n], y[:n], times[n:], middle, "median", intervals, y[n:] if actual else None)


def steps(horizon=14):
    x = np.linspace(0, 1, horizon)
    errors = {
        "elman": 0.6 + 0.2 * x,
        "seasonal naive": 0.9 + 0.3 * x,
        "drift": 1.1 + x,
        "naive": 1.1 + 0.9 * x,
    }
    return Steps(horizon, errors, {80: 80 - 5 * x, 95: 96 - 3 * x})


def broken():
    """Whatever a table and a model can come up with."""
    holes = drawing("holes")
    for values, bad in ((holes.values, np.nan), (holes.middle, np.inf), (holes.actual, -np.inf)):
        values[[0, 5, -1]] = bad
    empty, nothing = drawing("no history", n=0), np.full(14, np.nan)
    return [
        holes, empty, drawing("one of each", n=1, horizon=1), drawing("$x^{ 東京\n\x00" * 30),
        Drawing("nothing known", empty.ahead, nothing, empty.ahead + 14 * DAY, nothing, "mean", {}),
        Drawing("constant", empty.ahead, np.ones(14), empty.ahead + 14 * DAY, np.ones(14), "mean", {}),
        Drawing("zero", np.zeros(1, int), np.zeros(1), np.ones(1, int), np.zeros(1), "mean", {}),
        drawing("huge", scale=1e200), drawing("tiny", scale=1e-200), drawing("integers", integer=True),
    ]  # fmt: skip


def size(path):
    return struct.unpack(">II", path.read_bytes()[16:24])


def data(path):
    """The JSON in a page."""
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text())[1]
    )


class TestPng:
    @pytest.mark.parametrize(
        ("count", "with_steps", "title", "lines"),
        [(1, False, "", 0), (3, True, "Sales", 1), (ROWS, False, "Sales", 1), (ROWS + 9, True, "Sales", 2)],
    )
    def test_rows_and_panels_give_its_size_and_something_is_drawn(
        self, tmp_path, count, with_steps, title, lines
    ):
        image = pytest.importorskip("matplotlib.image")
        path = tmp_path / "a.png"
        draw(path, [drawing(str(i)) for i in range(count)], steps() if with_steps else None, title)
        height = LEGEND + LINE * lines + ROW * min(count, ROWS) + STEPS * with_steps
        assert size(path) == (WIDTH * DPI, int(height * DPI))
        pixels = image.imread(path)[..., :3]
        for row in np.array_split(pixels, min(count, ROWS)):  # every part of it has the accent colour
            accent = np.array([int(LIGHT["accent"][i : i + 2], 16) for i in (1, 3, 5)]) / 255
            assert (np.abs(row - accent).max(axis=-1) < 0.02).sum() > 100
        assert [p.name for p in tmp_path.iterdir()] == ["a.png"]

    def test_the_same_data_give_the_same_bytes_whatever_the_users_settings(self, tmp_path):
        matplotlib = pytest.importorskip("matplotlib")
        draw(tmp_path / "a.png", [drawing()], steps(), "Sales")
        with matplotlib.rc_context(
            {"axes.grid": False, "font.size": 30, "lines.linewidth": 9, "savefig.dpi": 20}
        ):
            draw(tmp_path / "b.png", [drawing()], steps(), "Sales")
            assert matplotlib.rcParams["font.size"] == 30
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

    def test_draws_whatever_there_is(self, tmp_path):
        pytest.importorskip("matplotlib")
        one = Steps(1, {"elman": np.array([np.nan])}, {80: np.array([np.nan])})
        for i, each in enumerate(broken()):
            draw(tmp_path / f"{i}.png", [each], one)

    def test_pyplot_is_left_alone(self, tmp_path):
        pytest.importorskip("matplotlib")
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_series_plot import *\n"
            f"assert 'matplotlib' not in sys.modules; draw({str(tmp_path / 'a.html')!r}, [drawing()])\n"
            f"assert 'matplotlib' not in sys.modules; draw({str(tmp_path / 'a.png')!r}, [drawing()])\n"
            "assert 'matplotlib.pyplot' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestChecks:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("a.svg", r"must end in \.png or \.html"),
            ("a", r"must end in \.png or \.html"),
            ("nowhere/a.png", "there is no directory"),
            ("folder.html", "is a directory"),
        ],
    )
    def test_a_picture_that_cannot_be_made_is_refused_before_the_work(self, tmp_path, name, message):
        (tmp_path / "folder.html").mkdir()
        with pytest.raises(ElmanError, match=message):
            check_picture(tmp_path / name)
        with pytest.raises(ElmanError, match=message):
            draw(tmp_path / name, [drawing()])
        assert [p.name for p in tmp_path.iterdir()] == ["folder.html"]

    def test_without_matplotlib_a_png_is_refused_and_a_page_is_made(self, tmp_path, monkeypatch):
        monkeypatch.setattr(series_plot.importlib.util, "find_spec", lambda name: None)
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ElmanError, match=r'pip install "elman\[series\]"'):
            check_picture(tmp_path / "a.PNG")
        check_picture(tmp_path / "a.HTML")
        draw(tmp_path / "a.HTML", [drawing()], steps())

    def test_arrays_that_do_not_fit_are_named(self, tmp_path):
        good = drawing("bread")
        short = Drawing("bread", good.times, good.values, good.ahead, good.middle[1:], "median", {})
        text = Drawing(
            "bread", good.times.astype(str), good.values, good.ahead.astype(str), good.middle, "median", {}
        )
        for bad, message in ((short, "bread.*same length"), (text, "bread.*datetime64")):
            with pytest.raises(ElmanError, match=message):
                draw(tmp_path / "a.html", [good, bad])
        with pytest.raises(ElmanError, match="nothing to draw"):
            draw(tmp_path / "a.html", [])


class TestPage:
    def test_loads_nothing_and_lets_no_name_out_of_the_data(self, tmp_path):
        path = tmp_path / "a.html"
        draw(path, [drawing(EVIL), drawing("<!--\u2028\ud800")], steps(), title=EVIL)
        text = path.read_text()
        assert not re.search(r"https?:|url\(|@import|<img|<link(?! rel=\"icon\" href=\"data:,\")", text)
        assert text.lower().count("</script") == 2
        assert [s["name"] for s in data(path)["series"]] == [EVIL, "<!--\u2028\ud800"]

    def test_holds_every_value_and_no_nan(self, tmp_path):
        path, holes = tmp_path / "a.html", broken()[0]
        draw(path, [holes])
        found = data(path)["series"][0]
        for values, kept in ((holes.values, found["values"]), (holes.middle, found["middle"])):
            kept = np.array([np.nan if v is None else v for v in kept])
            np.testing.assert_allclose(kept, np.where(np.isfinite(values), values, np.nan), rtol=1e-7)
        assert found["values"][5] is None

    def test_times_are_exact(self, tmp_path):
        months = np.arange("2020-01", "2024-01", dtype="datetime64[M]").astype("datetime64[ns]")
        plain = drawing(n=34)
        irregular = Drawing("m", months[:34], plain.values, months[34:], plain.middle, "mean", {})
        for each in (irregular, drawing(), drawing(step=HOUR), drawing(integer=True)):
            draw(tmp_path / "a.html", [each])
            times = data(tmp_path / "a.html")["series"][0]["times"]
            moved = np.broadcast_to(times["steps"], times["count"] - 1) * times["unit"]
            found = times["start"] + np.concatenate(([0], np.cumsum(moved)))
            given = np.concatenate((each.times, each.ahead))
            assert (found.astype("datetime64[us]" if times["dates"] else int) == given).all()


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    driver = shutil.which("chromedriver")
    assert driver, "Chromium is here but its driver is not: apt-get install chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, Service(driver)) as made:
        yield made


def opened(browser, path):
    browser.get(path.as_uri())
    return browser


def one(browser, css):
    return browser.find_element("css selector", css)


def many(browser, css):
    return browser.find_elements("css selector", css)


def readout(browser, figure="forecast"):
    """What it says, by name; "95 %" and the like as pairs."""
    names, texts = (many(browser, f"#{figure} .readout {tag}") for tag in ("dt", "dd"))
    return {name.text: text.text for name, text in zip(names, texts, strict=True)}


def value(text):
    found = [float(part.replace(",", "")) for part in text.split(" to ")]
    return found if len(found) > 1 else found[0]


def press(browser, *keys, figure="forecast"):
    from selenium.webdriver.common.keys import Keys

    over = one(browser, f"#{figure} .over")
    for key in keys:
        over.send_keys(getattr(Keys, key))


def point(browser, share, figure="forecast"):
    """Moves the pointer to a share of a figure's width."""
    from selenium.webdriver import ActionChains

    over = one(browser, f"#{figure} .over")
    away = int((share - 0.5) * over.size["width"])
    ActionChains(browser, duration=0).move_to_element_with_offset(over, away, 0).perform()


def check_shown(found, given, i):
    """The readout says what the drawing has at step `i` of the forecast."""
    near = 1e-4 * np.abs(given.values).max()
    assert value(found["median"]) == pytest.approx(given.middle[i], abs=near)
    assert value(found["actual"]) == pytest.approx(given.actual[i], abs=near)
    for level, (low, high) in given.intervals.items():
        assert value(found[f"{level} %"]) == pytest.approx([low[i], high[i]], abs=near)
    assert found["history"] == "–"


class TestInABrowser:
    @pytest.mark.parametrize("theme", [("light", LIGHT), ("dark", DARK)], ids=["light", "dark"])
    def test_opens_from_a_file_in_either_theme_without_a_complaint(self, browser, tmp_path, theme):
        name, colours = theme
        features = [{"name": "prefers-color-scheme", "value": name}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        draw(tmp_path / "a.html", [drawing(), *broken()], steps(), "Sales & more")
        opened(browser, tmp_path / "a.html")
        rgb = [int(colours["paper"][i : i + 2], 16) for i in (1, 3, 5)]
        assert (
            one(browser, "body")
            .value_of_css_property("background-color")
            .startswith(f"rgba({rgb[0]}, {rgb[1]}, ")
        )
        assert browser.title == one(browser, "h1").text == "Sales & more"
        one(browser, "summary").click()
        for _ in range(len(broken()) + 1):
            press(browser, "HOME", "END", "ARROW_LEFT")
            assert (
                "NaN" not in one(browser, ".plot svg").get_attribute("outerHTML") + one(browser, "main").text
            )
            one(browser, "#next").click()
        assert browser.get_log("browser") == []

    def test_a_name_is_only_ever_text(self, browser, tmp_path):
        draw(tmp_path / "a.html", [drawing(EVIL), drawing("b")], title=EVIL)
        opened(browser, tmp_path / "a.html")
        assert one(browser, "option").text == one(browser, "h1").text == one(browser, "h2").text == EVIL
        assert many(browser, "img") == []
        assert browser.get_log("browser") == []  # an alert would have raised above

    def test_another_series_is_drawn_when_it_is_chosen(self, browser, tmp_path):
        from selenium.webdriver.support.select import Select

        given = [drawing(name, seed=i, scale=10.0**i) for i, name in enumerate("abc")]
        draw(tmp_path / "a.html", given)
        opened(browser, tmp_path / "a.html")

        def shown():
            return one(browser, "#forecast .plot path.ours").get_attribute("d"), one(
                browser, "#forecast h2"
            ).text

        first = shown()
        Select(one(browser, "#series")).select_by_visible_text("c")
        assert (shown()[1], one(browser, "#count").text) == ("c", "3 of 3")
        assert shown()[0] != first[0]
        press(browser, "END")
        check_shown(readout(browser), given[2], -1)
        one(browser, "#next").click()
        assert shown() == first
        one(browser, "#previous").click()
        assert shown()[1] == "c"

    @pytest.mark.parametrize("scale", [0.002, 0.7, 100, 45_678, 3.2e8])
    def test_the_readout_says_the_values_of_the_step(self, browser, tmp_path, scale):
        given = drawing(scale=scale, step=HOUR)
        draw(tmp_path / "a.html", [given])
        opened(browser, tmp_path / "a.html")
        for i in range(14):
            press(browser, "ARROW_RIGHT")
            found = readout(browser)
            check_shown(found, given, i)
            when = given.ahead[i].astype("datetime64[s]").item()
            assert found["time"] == f"{when:%a} {when.day} {when:%b %Y, %H:%M}"
        assert found["median"] in one(browser, "#forecast .over").get_attribute("aria-valuetext")
        press(browser, "HOME")
        assert value(readout(browser)["history"]) == pytest.approx(given.values[-100], rel=1e-3)
        press(browser, "ESCAPE")
        assert readout(browser)["median"] == ""

    def test_the_pointer_chooses_the_nearest_step(self, browser, tmp_path):
        given = drawing(n=100, horizon=14)
        draw(tmp_path / "a.html", [given], steps())
        opened(browser, tmp_path / "a.html")
        point(browser, 0.995)
        check_shown(readout(browser), given, -1)
        marked = one(browser, "#forecast line.at").get_attribute("x1")
        drawn = one(browser, "#forecast .plot path.ours").get_attribute("d")
        assert float(marked) == pytest.approx(float(re.split("[ML ]", drawn)[-2]), abs=0.1)
        point(browser, 0.5)
        assert readout(browser)["median"] == "–"
        point(browser, 0.01, "errors")
        assert readout(browser)["history"] == ""  # left
        found = readout(browser, "errors")
        assert found == {
            "step": "1",
            "elman": "0.600",
            "seasonal naive": "0.900",
            "drift": "1.100",
            "naive": "1.100",
        }
        point(browser, 0.01, "coverage")
        assert readout(browser, "coverage") == {"step": "1", "80 %": "80", "95 %": "96"}

    def test_a_missing_value_is_a_dash(self, browser, tmp_path):
        draw(tmp_path / "a.html", broken()[:1])
        press(opened(browser, tmp_path / "a.html"), "END")
        assert (readout(browser)["median"], readout(browser)["actual"]) == ("–", "–")

    def test_all_of_a_long_history_is_a_click_away(self, browser, tmp_path):
        given = drawing(n=50_000, step=HOUR)
        draw(tmp_path / "a.html", [given, drawing("short", n=50)])
        press(opened(browser, tmp_path / "a.html"), "HOME")
        assert value(readout(browser)["history"]) == pytest.approx(given.values[-100], rel=1e-3)
        one(browser, "#all").click()
        press(browser, "HOME")
        assert value(readout(browser)["history"]) == pytest.approx(given.values[0], rel=1e-3)
        assert len(one(browser, "#forecast .plot path.history").get_attribute("d")) < 100_000  # thinned
        one(browser, "#next").click()
        assert not one(browser, "#all").is_displayed()  # there is no more of the short one

    def test_the_table_has_every_step(self, browser, tmp_path):
        from selenium.webdriver.support.wait import WebDriverWait

        given = drawing()
        draw(tmp_path / "a.html", [given])
        one(opened(browser, tmp_path / "a.html"), "summary").click()
        WebDriverWait(browser, 10).until(lambda _: many(browser, "tbody tr"))
        rows = [
            [cell.text for cell in row.find_elements("css selector", "td")]
            for row in many(browser, "tbody tr")
        ]
        assert len(rows) == 14
        found = [float(cell) for cell in rows[3][1:]]
        expected = [given.middle[3], *(bound[3] for level in (95, 80) for bound in given.intervals[level])]
        assert found == pytest.approx([*expected, given.actual[3]], abs=0.006)

    def test_hundreds_of_series_stay_small_and_fast(self, browser, tmp_path):
        given = [drawing(f"series {i}", n=300, seed=i) for i in range(300)]
        start = time.perf_counter()
        draw(tmp_path / "a.html", given)
        assert time.perf_counter() - start < 5
        assert (tmp_path / "a.html").stat().st_size < 2_000_000
        opened(browser, tmp_path / "a.html")
        took = browser.execute_script("""
            const start = performance.now();
            for (let i = 0; i < 300; i++) document.getElementById("next").click();
            return performance.now() - start;""")
        assert took < 10_000
        assert (
            browser.execute_script("return performance.timing.domComplete - performance.timing.fetchStart")
            < 5000
        )
