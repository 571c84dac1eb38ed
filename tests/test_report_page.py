import base64
import html
import json
import math
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest

import test_series_plot
from elman import report_page
from elman.data import ElmanError
from elman.report import DEFINITIONS, Attribution, Finding, Memory, Report, Traced, Tracked
from elman.report_charts import context_chart, gradient_chart
from elman.report_page import check_page, page, write_page
from elman.report_parts import OWN, VERDICTS
from elman.report_steps import blocks, spoken, surroundings, written
from elman.report_style import DARK, LEVELS, LIGHT, STRONGEST, TINTS, opacity
from elman.report_values import encode, encode_guesses, pack
from test_class_page import luminance
from test_series_plot import many, one

browser = test_series_plot.browser  # the fixture

STEPS = "[...document.querySelectorAll('#text .block > span')]"
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)> \" ' & <!-- $title"
GATES = ("input_gate", "forget_gate", "output_gate")
TEXT = 'He said: "I know, I know."\n\tShe said nothing.\n\n' * 12
NOTHING = np.zeros((0, 8), np.float32)


def walk(steps, units, seed=0):
    """(steps, units) numbers that wander, each unit at its own speed."""
    rng = np.random.default_rng(seed)
    x, keep = np.zeros(units, np.float32), rng.uniform(0, 0.95, units).astype(np.float32)
    found = rng.standard_normal((steps, units)).astype(np.float32)
    for t in range(steps):
        x = found[t] = keep * x + found[t]
    return found


def traced(steps, units, name="layer 1", seed=0):
    inner = walk(steps + 5, units, seed)
    hidden, gate = np.tanh(inner), 1 / (1 + np.exp(-2 * inner))
    values = {"hidden": hidden[:steps], "cell": inner[1 : steps + 1]}
    values |= {name: gate[k : steps + k] for k, name in enumerate(GATES, 2)}
    return Traced(name, "lstm", values | {"candidate": hidden[5:]}, NOTHING)


def memory(**changes):
    steps, k = (1, 2, 4, 8, 16, 32, 64), np.arange(40)
    context = 1.5 + 1 / np.array(steps)
    found = Memory(
        np.exp(-0.1 * k), 6.93, 0.905, 29, steps, context, 16, "nats", 50, "It remembers about 16 steps."
    )
    return replace(found, **changes)


def finding(verdict="good", **changes):
    advice = "" if verdict == "good" else "Lower the learning rate."
    found = Finding("layer 1", "dead units", 0.25, "25 %", verdict, "Share of units that never move.", "Some source",
                    "25 % of the units never move.", advice)  # fmt: skip
    return replace(found, **changes)


def report(steps=tuple(TEXT), units=8, **changes):
    count, rng = len(steps), np.random.default_rng(0)
    alphabet = sorted(set(steps))[:5]
    guesses = tuple(tuple((s, float(p)) for s, p in zip(alphabet, (0.5, 0.25, 0.125, 0.06, 0.001), strict=False))
                    for _ in steps)  # fmt: skip
    found = Report(
        "A text", "text", {"cell": "LSTM", "units": str(units)}, "character", tuple(steps),
        tuple(traced(count, units, name, k) for k, name in enumerate(("layer 1", "layer 2"))),
        (Tracked("layer 1", "cell", 3, "inside quotes", -0.83), Tracked("layer 1", "hidden", 5, "vowel", 0.4)),
        memory(), (finding(), finding("warning", measure="stuck gates"), finding("bad", measure="growth")),
        Attribution("e after “…th”", 0, rng.standard_normal(count) ** 3, 2.5, 0.25, -0.001, "logit"),
        guesses, np.append(rng.exponential(1, count - 1), np.nan), ("The first network is shown.",),
    )  # fmt: skip
    return replace(found, **changes)


def words(**changes):
    some = ["I", "expected", "nothing", "and", "was", "still", "let", "down", "by", "it", "."] * 12
    return report(tuple(some), kind="labels", step="word", guesses=(), losses=None, **changes)


def segments(count=30, **changes):
    days = np.datetime64("2024-01-01") + 14 * np.arange(count)
    guesses = ((("next value", -5.36), ("mean", 1234.5)),) * count
    return report(tuple(f"{d} – {d + 13}" for d in days), kind="series", step="segment", guesses=guesses, losses=None,
                  memory=memory(unit="difference"), **changes)  # fmt: skip


def hostile():
    steps = (*"a\x00\x1b\ud800\u202eb\r\n\u0645\u0631\u062d", "<", "&", EVIL, "__proto__", "")
    evil = traced(len(steps), 8, EVIL)
    odd = Traced("__proto__", "Cell" + EVIL, {"hidden": evil.values["hidden"], EVIL: evil.values["cell"],
                                              "__proto__": evil.values["cell"]}, NOTHING)  # fmt: skip
    return report(
        steps, title=EVIL, facts={EVIL: EVIL}, layers=(evil, odd), notes=(EVIL,), memory=memory(sentence=EVIL),
        tracked=(Tracked(EVIL, "cell", 1, EVIL, 0.9), Tracked("__proto__", EVIL, 2, "constructor", 0.5)),
        health=(Finding(EVIL, EVIL, 1.0, EVIL, "bad", EVIL, EVIL, EVIL, EVIL),),
        attribution=Attribution(EVIL, 0, np.arange(len(steps)) - 5.0, 1, 0, 0, EVIL),
        guesses=(((EVIL, 0.5), ("\ud800", 0.25), ("__proto__", 0.1)),) * len(steps),
    )  # fmt: skip


def bare():
    """As little as there can be."""
    lone = memory(gradient=np.zeros(1), half_life=np.inf, growth=1.0, gradient_horizon=0, steps_given=(1,),
                  context=np.array([np.nan]), horizon=1, places=1)  # fmt: skip
    one_step = {"hidden": np.array([[np.nan, 0.5]], np.float32)}
    return report(("x",), layers=(Traced("layer 1", "rnn", one_step, NOTHING),), tracked=(), memory=lone, health=(),
                  attribution=None, guesses=(), losses=None, facts={}, notes=())  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """20,000 characters through two layers of 512 units: the report and its page."""
    text = (TEXT * 42)[:20_000]
    found = report(tuple(text), 512)
    strongest = np.linspace(0.9, 0.2, 40)
    tracked = tuple(Tracked(f"layer {1 + k % 2}", ("hidden", "cell")[k % 3 % 2], 7 * k, f"feature {k // 5}", float(r))
                    for k, r in enumerate(strongest))  # fmt: skip
    path, found = tmp_path_factory.mktemp("large") / "a.html", replace(found, tracked=tracked)
    write_page(path, found)
    return path, found


def decoded(low, high, text, bits=8):
    codes = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u2" if bits > 8 else "u1").astype(float)
    return np.where(codes > 0, low + (codes - 1) * (high - low) / (2**bits - 2), np.nan)


def data(text):
    """The JSON in a page."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])


class TestValues:
    @pytest.mark.parametrize(("bits", "error"), [(8, 1 / 508), (6, 1 / 124), (16, 1 / 131_000)])
    def test_are_as_exact_as_is_said(self, bits, error):
        values = walk(500, 1)[:, 0]
        values[[0, 7, -1]] = np.nan, np.inf, -np.inf
        found = decoded(*encode(values, bits), bits)
        known = np.isfinite(values)
        assert (np.isfinite(found) == known).all()
        assert np.abs(found - values)[known].max() <= 1.001 * error * np.ptp(values[known])
        assert decoded(*encode(np.full(3, 0.25), bits), bits).tolist() == [0.25] * 3
        assert np.isnan(decoded(*encode(np.full(3, np.nan), bits), bits)).all()

    def test_all_units_where_there_is_room(self):
        given = report()
        found = pack(given, 10**6)
        assert (
            found.sentence()
            == "This page holds all 16 units. Values are within 0.2 % of a unit's range (8 bits)."
        )
        assert len(found.series) == 2 * 6 * 8
        for (place, quantity, unit), series in found.series.items():
            values = given.layers[place].values[quantity][:, unit]
            np.testing.assert_allclose(decoded(*series), values, atol=np.ptp(values) / 500)

    def test_where_there_is_not_what_tracks_something_is_first_then_what_varies_most(self):
        given = report()
        for layer, unit in zip(given.layers, (6, 2), strict=True):
            layer.values["hidden"][:, unit] *= 2  # the widest of its layer
        one_unit = sum(len(encode(v[:, 0], 6)[2]) + 40 for v in given.layers[0].values.values())
        found = pack(given, int(4.5 * one_unit))
        order = list(found.series)
        assert order[:2] == [(0, "cell", 3), (0, "hidden", 5)]
        assert [each[::2] for each in order[2:12:5]] == [(0, 3), (0, 5)]
        assert list(dict.fromkeys(each[::2] for each in order[12:])) == [(0, 6), (1, 2)]  # by turns
        assert (found.bits, found.whole, found.tracked, found.parts) == (6, 4, 2, 0)
        assert (
            "holds 4 of 16 units: the 2 that track something most clearly, then the 2 whose"
            in found.sentence()
        )
        small = pack(given, one_unit // 3)
        assert list(small.series) == [(0, "cell", 3), (0, "hidden", 5)]
        assert "0 of 16 units. Of 2 others it holds the values that track something." in small.sentence()
        assert list(pack(given, -1).series) == [(0, "cell", 3)]

    def test_guesses_keep_their_words_and_their_numbers(self):
        few = ((("a", 0.5), ("b", 0.031), ("c", 0.0)), (), (("b", 1.0),))
        found = encode_guesses(few, True)
        codes = np.frombuffer(zlib.decompress(base64.b64decode(found["codes"])), "<u2").reshape(3, 3)
        numbers = np.frombuffer(zlib.decompress(base64.b64decode(found["numbers"])), "<u2").reshape(3, 3)
        assert [[found["words"][c - 1] for c in row if c] for row in codes] == [["a", "b", "c"], [], ["b"]]
        np.testing.assert_allclose((numbers / 1023) ** 2, [[0.5, 0.031, 0], [0, 0, 0], [1, 0, 0]], atol=0.001)
        values = encode_guesses(((("median", 0.5),),), False)
        assert not values["chances"]
        assert np.frombuffer(zlib.decompress(base64.b64decode(values["numbers"])), "<f4") == [0.5]


class TestLongInputs:
    def test_only_the_last_steps_are_shown_and_it_is_said(self, monkeypatch):
        monkeypatch.setattr(report_page, "MOST", 100)
        given = report()
        whole = page(given).decode()
        assert f"this page shows the last 100 characters; its figures are of all {len(TEXT)}" in whole
        data = json.loads(
            re.search(r'<script type="application/json" id="data">(.*?)</script>', whole, re.S)[1]
        )
        assert data["steps"] == list(TEXT[-100:])
        codes = zlib.decompress(base64.b64decode(data["losses"][2]))
        assert len(codes) == 200

    @pytest.mark.parametrize("letter", ["é", "字"])
    def test_a_page_of_very_many_steps_stays_small(self, letter):
        count = report_page.MOST + 1
        rng = np.random.default_rng(0)
        guesses = tuple(
            tuple((f"{letter}{j}", float(p)) for j, p in enumerate(row)) for row in rng.random((count, 5))
        )
        given = report(tuple(letter * count), guesses=guesses)
        assert len(page(given)) < 5_000_000


class TestSteps:
    def test_blocks_hold_the_text_and_end_with_lines(self):
        lines = report(tuple(TEXT))
        found = list(blocks(lines))
        assert "".join(text for _, text in found) == TEXT
        assert all(text.endswith("\n") for _, text in found)
        assert [start for start, _ in found] == np.cumsum([0, *(len(text) for _, text in found)]).tolist()[
            :-1
        ]
        assert max(len(text) for _, text in found) < 400
        unbroken = list(blocks(report(tuple("ab " * 3000))))
        assert len(unbroken) == 6
        assert all(text.endswith(" ") for _, text in unbroken)
        assert [len(text) for _, text in blocks(report(tuple("x" * 7000)))] == [3000, 3000, 1000]

    @pytest.mark.parametrize(
        ("raw", "shape", "name"),
        [
            ("\n", "\n", "line break"), ("\t", "\t", "tab"), (" ", " ", "space"), ("\x00", "␀", "control, U+0000"),
            ("\u202e", "\ufffd", "right-to-left override, U+202E"), ("\ud800", "\ufffd", "control, U+D800"),
            ("", "", "nothing"),
            ("\u00a0", "\u00a0", "no-break space, U+00A0"), ("e", "e", "e"), ("a\nb", "a↵b", "a↵b"), ("東", "東", "東"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_seen_has_a_shape_and_a_name(self, raw, shape, name):
        assert (written(raw), spoken(raw)) == (shape, name)

    def test_what_stands_around(self):
        assert surroundings(report(tuple("one two\nthree")), 7) == ("one two", "↵", "three")
        assert surroundings(report(tuple("one two")), 3) == ("one", "␣", "two")
        assert surroundings(words(), 3) == ("expected nothing ", "and", " was still")
        assert surroundings(segments(), 1) == ("", "2024-01-15 – 2024-01-28", "")


class TestCharts:
    def test_the_norms_fall_on_a_logarithmic_scale_beside_their_line(self):
        found = gradient_chart(memory())
        line = np.array(
            re.findall(r"[\d.]+", re.search(r'class="line" d="M(.*?)"', found)[1]), float
        ).reshape(-1, 2)
        assert len(line) == 40
        assert np.ptp(np.diff(line[:, 1])) < 0.3  # straight
        fit = np.array(re.findall(r"[\d.]+", re.search(r'class="fit" d="M(.*?)"', found)[1]), float).reshape(
            -1, 2
        )
        np.testing.assert_allclose(fit, line[[0, -1]], atol=2)
        assert "halves in 6.93 steps" in found
        assert "95 % within 29" in found
        assert re.search(r'class="horizon" d="M([\d.]+) ', found)[1] == str(line[29, 0])
        assert found.count("<title>") == 40

    def test_the_context_is_on_a_logarithmic_scale_and_its_horizon_marked(self):
        found = context_chart(memory())
        line = np.array(
            re.findall(r"[\d.]+", re.search(r'class="line" d="M(.*?)"', found)[1]), float
        ).reshape(-1, 2)
        assert np.ptp(np.diff(line[:, 0])) < 0.3  # each twice the one before
        assert (np.diff(line[:, 1]) > 0).all()  # falls, y counts down
        assert f'class="horizon" d="M{line[4, 0]} ' in found
        assert "horizon 16" in found
        assert all(f">{k}</text>" in found for k in memory().steps_given)

    @pytest.mark.parametrize(
        "changes",
        [
            {"gradient": np.ones(30), "half_life": np.inf, "growth": 1.0, "context": np.ones(7)},
            {"gradient": np.r_[1.0, np.zeros(20)], "context": np.full(7, np.nan)},
            {"half_life": np.nan, "growth": np.nan},
            {"gradient": np.r_[1e-300, 1e300, np.nan, np.inf], "context": np.r_[1e300, 1, 2, np.inf, 0, 0, -1e300]},
            {"gradient": 1.2 ** np.arange(200), "growth": 1.2, "half_life": np.inf, "gradient_horizon": 199},
            {"steps_given": (0, 1), "context": np.array([2.0, 1.0]), "horizon": 1}, {"horizon": 10**6},
        ],
    )  # fmt: skip
    def test_whatever_was_measured_is_drawn_or_left_out(self, changes):
        found = memory(**changes)
        for chart in (gradient_chart(found), context_chart(found)):
            assert not re.search(r"\b(nan|inf)\b", chart)
            places = [float(v) for v in re.findall(r' c?[xy]="([-\d.]+)"', chart)]
            assert all(0 <= v <= 480 for v in places)
        assert b"too few numbers" in page(report(memory=memory(gradient=np.zeros(9))))


class TestFile:
    def test_loads_nothing_and_lets_no_text_out(self):
        text = page(hostile()).decode()
        assert not re.search(r"https?:|url\(|@import|<img|<!--|<link(?! rel=\"icon\" href=\"data:,\")", text)
        assert text.count("<script") == text.count("</script") == 2
        assert text.count(" style=") == text.count(" onerror=alert(1)>") == 0  # the policy forbids the first
        found = data(text)
        assert found["steps"][-3:] == [EVIL, "__proto__", ""]
        assert found["tracked"][0]["feature"] == EVIL

    def test_is_read_without_its_script(self):
        given = report()
        text = page(given).decode().split('<script type="application/json"')[0]
        for part in (
            given.title,
            given.memory.sentence,
            given.notes[0],
            "horizon",
            "6.93 <small>steps",
            "Lower the learning",
        ):
            assert part in text
        assert text.count('<svg class="chart"') == 2
        assert [text.count(f">{words}</span>") for words in VERDICTS.values()] == [1, 1, 1]
        assert text.index(VERDICTS["bad"]) < text.index(VERDICTS["warning"]) < text.index(VERDICTS["good"])
        strongest = np.argsort(-np.abs(given.attribution.values))[:10]
        rows = re.findall(
            r'<tr><td class="number">([\d,]+)</td><td dir=auto>.*?<span class="chip (\w+?)\d+">([^<]+)<',
            text,
        )
        assert [int(row[0].replace(",", "")) - 1 for row in rows] == strongest.tolist()
        for (_, kind, shown), k in zip(rows, strongest, strict=True):
            value = given.attribution.values[k]
            assert float(shown.replace("−", "-")) == pytest.approx(value, abs=0.06)
            assert kind == ("up" if value > 0 else "down")
        assert "He said" in text.split('id="text"')[1]

    def test_every_number_has_its_definition_and_source(self):
        text = page(report()).decode()
        tips = re.findall(r'role="tooltip" id="(tip\d+)">(.*?)<cite>(.*?)</cite>', text)
        described = re.findall(r'aria-describedby="(tip\d+)"', text)
        assert [tip for tip, *_ in tips] == described
        assert len(set(described)) == len(described)
        shown = {tuple(map(html.unescape, tip[1:])) for tip in tips}
        states = ("hidden", "cell", "candidate", *GATES, "reset_gate", "update_gate")
        named = {name: known for name, known in {**DEFINITIONS, **OWN}.items() if name not in states}
        assert {("Share of units that never move.", "Some source"), *named.values()} == shown
        about = [q["about"] for q in data(text)["layers"][0]["values"]]
        assert about == [" ".join(DEFINITIONS[q]) + "." for q in report().layers[0].values]

    def test_what_is_not_there_is_said(self):
        text = page(bare()).decode()
        for sentence in (
            "No unit tracks",
            "too few numbers",
            "Nothing was measured",
            "No prediction was explained",
            "at the end alone",
        ):
            assert sentence in text
        assert "A layer by itself predicts nothing." in page(report(kind="layer", guesses=())).decode()
        assert "Nothing is wrong." in page(report(health=(finding(),))).decode()
        still = Attribution("a", 3, np.zeros(5), 0.0, 0.0, 0.0, "logit")
        assert "No step moved it." in page(report(attribution=still)).decode()

    def test_is_under_5_mb_at_20_000_characters_and_1024_units(self, large):
        path, given = large
        found = data(path.read_text())
        assert 4_000_000 < path.stat().st_size < 5_000_000
        held = {
            (place, q["name"], unit)
            for place, layer in enumerate(found["layers"])
            for q in layer["values"]
            for unit in q["order"]
        }
        assert {(int(t.layer[-1]) - 1, t.quantity, t.unit) for t in given.tracked} <= held
        assert len({(place, unit) for place, _, unit in held}) >= 40
        assert re.search(r"This page holds \d+ of 1,024 units: the \d+ that track", path.read_text())
        assert found["bits"] == 6

    def test_is_written_whole_and_over_nothing_unless_it_is_forced(self, tmp_path):
        path = tmp_path / "a.html"
        write_page(path, bare())
        with pytest.raises(ElmanError, match=r"exists: choose another name"):
            write_page(path, report())
        before = path.read_bytes()
        write_page(path, report(), force=True)
        assert path.read_bytes() != before
        for bad, message in (
            ("a.txt", r"must end in \.html"),
            ("none/a.html", "no directory"),
            (".", "must end|directory"),
        ):
            with pytest.raises(ElmanError, match=message):
                check_page(tmp_path / bad)
        assert [each.name for each in tmp_path.iterdir()] == ["a.html"]

    @pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
    def test_can_be_read_on_every_colour(self, colours):
        def rgb(name):
            text = colours[name]
            return np.array(
                [int(text[i : i + 2], 16) for i in (1, 3, 5)] if text[0] == "#" else text.split(), float
            )

        def contrast(a, b):
            lights = sorted((luminance(a), luminance(b)))
            return (lights[1] + 0.05) / (lights[0] + 0.05)

        for name in TINTS:
            assert (
                contrast(rgb("ink"), rgb("paper") + STRONGEST * (rgb(name) - rgb("paper"))) >= 4.5
            )  # WCAG 2, AA
            assert contrast(rgb(name), rgb("paper")) >= 3
        for name in ("muted", "good", "warning", "bad", "accent"):
            assert contrast(rgb(name), rgb("paper")) >= 4.5
        assert contrast(rgb("muted"), rgb("soft")) >= 4.5


def opened(browser, tmp_path, given, width=1200):
    """The page of a report, or a page, ready."""
    from selenium.webdriver.support.wait import WebDriverWait

    path = tmp_path if isinstance(given, str) else tmp_path / "a.html"
    if not isinstance(given, str):
        path.write_bytes(page(given))
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(path.as_uri())
    WebDriverWait(browser, 10, 0.02).until(
        lambda b: b.execute_script("return 'ready' in document.documentElement.dataset")
    )


def settled(browser, unit):
    """Waits until a unit is shown."""
    from selenium.webdriver.support.wait import WebDriverWait

    shown = "return unit.value === arguments[0] && value.textContent"
    WebDriverWait(browser, 10, 0.02).until(lambda b: b.execute_script(shown, str(unit)))


def colours(browser):
    """Of the steps that are elements by now: their number → colour as numbers."""
    found = browser.execute_script(
        f"return {STEPS}.map(step => [step.at, getComputedStyle(step).backgroundColor])"
    )
    return {at: [float(v) for v in re.findall(r"[\d.]+", colour)] for at, colour in found}


def check_colours(browser, values, theme=LIGHT, gate=False, near=0.1):
    scale = 1 if gate else np.sort(np.abs(values))[math.ceil(0.99 * len(values)) - 1]
    found = colours(browser)
    for at, shown in found.items():
        share = LEVELS * np.clip(values[at] / scale, -1, 1)
        expected = {round(share + d) for d in (-near, 0, near)}  # values are rounded
        names = {"gate" if gate else "up" if level > 0 else "down" for level in expected}
        kinds = [
            [float(v) for v in theme[name].split()] + [opacity(abs(level))]
            for name in names
            for level in expected
        ]
        kinds += [[0, 0, 0, 0]] * (0 in expected)
        assert any(np.allclose(shown, kind, atol=0.005) for kind in kinds), (at, values[at], shown, kinds)
    return found


def readout(browser):
    script = "return [...document.querySelectorAll('.readout dt')].map(d => [d.innerText, d.nextSibling.textContent])"
    found = {key.split(",")[0]: text for key, text in browser.execute_script(script)}
    guesses = browser.execute_script(
        "return [...document.querySelectorAll('#guesses li')].map(l => l.innerText.split(/\\s+/))"
    )
    return one(browser, "#place").text, one(browser, "#stands").text, found, guesses


def number(text):
    return float(text.replace("−", "-"))


def point(browser, at):
    from selenium.webdriver import ActionChains

    place = browser.execute_script(f"return {STEPS}.find(step => step.at === arguments[0])", at)
    ActionChains(browser, duration=0).move_to_element(place).perform()


def press(browser, css, *keys):
    from selenium.webdriver.common.keys import Keys

    for key in keys:
        one(browser, css).send_keys(getattr(Keys, key, key))


def select(browser, css, text):
    from selenium.webdriver.support.select import Select

    Select(one(browser, css)).select_by_visible_text(text)


def emulate(browser, theme):
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


class TestInABrowser:
    @pytest.mark.parametrize("theme", [("light", LIGHT), ("dark", DARK)], ids=["light", "dark"])
    def test_each_step_has_its_values_colour_in_either_theme(self, browser, tmp_path, theme):
        name, palette = theme
        emulate(browser, name)
        given = report()
        opened(browser, tmp_path, given)
        paper = [int(palette["paper"][i : i + 2], 16) for i in (1, 3, 5)]
        assert (
            one(browser, "body")
            .value_of_css_property("background-color")
            .startswith(f"rgba({paper[0]}, {paper[1]}, ")
        )
        first, values = (
            check_colours(browser, given.layers[0].values["cell"][:, 3], palette),
            given.layers[1].values,
        )
        assert len(first) > 400
        select(browser, "#layer", "layer 2")
        settled(browser, 3)
        check_colours(browser, values["cell"][:, 3], palette)
        select(browser, "#quantity", "forget gate")
        settled(browser, 3)
        check_colours(browser, values["forget_gate"][:, 3], palette, gate=True)
        press(browser, "#unit", "ARROW_UP")
        settled(browser, 4)
        assert check_colours(browser, values["forget_gate"][:, 4], palette, gate=True) != first
        emulate(browser, "light")
        assert browser.get_log("browser") == []

    def test_a_unit_is_chosen_by_number_by_steps_and_from_the_list(self, browser, tmp_path):
        opened(browser, tmp_path, report())
        assert one(browser, "#tracks").text == "Unit 3 tracks: inside quotes (cell, r −0.83)."
        one(browser, "#next").click()
        settled(browser, 4)
        assert one(browser, "#tracks").text == "No feature is listed for unit 4."
        one(browser, "#previous").click()
        settled(browser, 3)
        press(browser, "#unit", "BACKSPACE", "7", "ENTER")
        settled(browser, 7)
        press(browser, "#unit", "ARROW_UP")
        settled(browser, 0)  # round
        press(browser, "#unit", "BACKSPACE", "99", "ENTER")
        settled(browser, 7)
        assert one(browser, "#tracks").text.startswith("Unit 99 is not held here")
        many(browser, ".ranked button")[1].click()
        settled(browser, 5)
        pressed = [button.get_attribute("aria-pressed") for button in many(browser, ".ranked button")]
        assert pressed == ["false", "true"]
        assert (one(browser, "#label").text, one(browser, "#what").text) == (
            "hidden",
            " ".join(DEFINITIONS["hidden"]) + ".",
        )
        select(browser, "#feature", "vowel")
        assert [button.is_displayed() for button in many(browser, ".ranked button")] == [False, True]
        legend = one(browser, "#legend").text.split()
        one(browser, "#same").click()
        assert number(one(browser, "#legend").text.split()[2]) >= number(legend[2])
        assert browser.get_log("browser") == []

    def test_a_step_says_what_it_holds_to_the_pointer_and_to_keys(self, browser, tmp_path):
        given = report()
        opened(browser, tmp_path, given)
        values = given.layers[0].values["cell"][:, 3]

        def check(at):
            place, stands, found, guesses = readout(browser)
            assert place == f"Character {at + 1} of {len(TEXT)}"
            assert stands == spoken(TEXT[at])
            assert number(found["cell"]) == pytest.approx(values[at], abs=0.03)
            assert number(found["loss"]) == pytest.approx(given.losses[at], abs=0.006)
            shown = [" ".join(g) for g in guesses]
            assert len(shown) == 5
            assert all(
                p in text for p, text in zip(("50 %", "25 %", "13 %", "6.0 %", "0.1 %"), shown, strict=True)
            )
            came = [TEXT[at + 1] == word for word, _ in given.guesses[at]]
            assert ["came" in text for text in shown] == came

        for at in (4, 9, 26, TEXT.index("t")):
            point(browser, at)
            check(at)
        press(browser, "#text", "HOME", *["ARROW_RIGHT"] * 8)
        check(8)
        assert "Character 9 of" in one(browser, "#heard").get_attribute("textContent")
        press(browser, "#wave", "PAGE_DOWN", "ARROW_LEFT")
        at = 8 + round(len(TEXT) / 20) - 1
        check(at)
        assert one(browser, "#wave").get_attribute("aria-valuenow") == str(at + 1)
        assert spoken(TEXT[at]) in one(browser, "#wave").get_attribute("aria-valuetext")
        assert [step.text for step in many(browser, "#text [data-at]")] == [TEXT[at].strip()]
        assert browser.get_log("browser") == []

    def test_20_000_steps_are_coloured_where_they_are_seen(self, browser, large):
        path, given = large
        opened(browser, path, "")
        first = colours(browser)
        assert 500 < len(first) < 5000
        check_colours(browser, given.layers[0].values["hidden"][:, 0], near=0.6)
        browser.execute_script(
            "window.touched = 0; new MutationObserver(found => { window.touched += found.length; }).observe("
            "document.getElementById('text'), {subtree: true, attributes: true, childList: true, characterData: true})"
        )
        many(browser, ".ranked button")[1].click()
        settled(browser, 7)
        assert 500 < browser.execute_script("return window.touched") < 5000
        press(browser, "#wave", "END")
        assert readout(browser)[0] == "Character 20,000 of 20,000"
        box, step = one(browser, "#text").rect, one(browser, "#text [data-at]").rect
        assert box["y"] < step["y"] < box["y"] + box["height"]
        seen = check_colours(browser, given.layers[1].values["cell"][:, 7], near=0.6)
        assert 19_999 in seen
        assert len(seen) < 10_000
        assert browser.get_log("browser") == []

    def test_names_and_texts_are_only_ever_text(self, browser, tmp_path):
        opened(browser, tmp_path, hostile())
        assert one(browser, "h1").text == EVIL
        assert many(browser, "img") == []
        for button, label in zip(many(browser, ".ranked button"), ("cell", EVIL), strict=True):
            button.click()
            settled(browser, 1 if label == "cell" else 2)
            assert one(browser, "#label").text == label
        select(browser, "#quantity", "proto")
        settled(browser, 2)
        press(browser, "#text", "HOME", *["ARROW_RIGHT"] * 5)
        assert readout(browser)[1] == "b"
        shown = browser.execute_script("return document.getElementById('text').textContent")
        assert EVIL in shown
        assert not set("\x00\x1b\u202e") & set(shown)
        assert browser.get_log("browser") == []  # an alert would have raised above

    @pytest.mark.parametrize(
        "made", [report, words, segments, bare], ids=["text", "words", "segments", "bare"]
    )
    def test_every_kind_fits_a_narrow_window(self, browser, tmp_path, made):
        given = made()
        opened(browser, tmp_path, given, 400)
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        values = (
            next(iter(given.layers[0].values.values()))
            if not given.tracked
            else given.layers[0].values["cell"]
        )
        unit = int(one(browser, "#unit").get_attribute("value"))
        if given.step == "segment":
            cells = [cell.text.split("\n") for cell in many(browser, "#text .block > span")]
            assert [label for label, _ in cells] == list(given.steps)
            assert readout(browser)[3] == [["next", "value", "−5.36"], ["mean", "1,234.5"]]
            np.testing.assert_allclose([number(v) for _, v in cells], values[:, unit], atol=0.02)
        if given.step == "word":
            check_colours(browser, values[:, unit])
            assert one(browser, "#text").text.split() == list(given.steps)
        tips = browser.execute_script(
            "return [...document.querySelectorAll('.term button')].map(term => { term.focus(); const tip = document."
            "getElementById(term.getAttribute('aria-describedby')), box = tip.getBoundingClientRect();"
            "return [tip.checkVisibility(), box.left, box.right]; })"
        )
        assert len(tips) >= 6
        assert all(seen and left >= 0 and right <= 400 for seen, left, right in tips)
        press(browser, "body", "ESCAPE")
        assert not any(tip.is_displayed() for tip in many(browser, ".tip"))
        assert browser.get_log("browser") == []
