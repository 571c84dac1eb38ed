import json
import re
import time

import numpy as np
import pytest

import test_series_plot
from elman.class_page import CHOICES, DARK, LEVELS, LIGHT, opacity, write_page
from elman.data import ElmanError
from elman.trajectory import Trajectory
from test_series_plot import many, one, opened
from test_trajectory import REVIEW, given_by, pieces_of, review, topics

browser = test_series_plot.browser  # the fixture

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)> \" ' & <!-- $title"
QUOTE = '"><img src=x onerror=alert(1)'
ARABIC = "أحببت هذا الفيلم كثيرا، لكن النهاية كانت مملة جدا. الممثلون رائعون!"


def page(tmp_path, *trajectories, title="Reviews"):
    write_page(tmp_path / "a.html", trajectories, title)
    return tmp_path / "a.html"


def data(path):
    """The JSON in a page."""
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text())[1]
    )


def odd():
    """Whatever a table and a model can come up with."""
    return [
        Trajectory("\n", ("a", "b"), (), np.array([0]), np.array([[0.7, 0.3]])),
        given_by("one", [(0, 3)], [1.0]), given_by("\x00\x1b\ud800 x", [(0, 3), (4, 5)], [0.0, 1.0]), review(EVIL),
        topics(ARABIC), topics("a " * 30, (1, 2, 3, 4), several=True), review("word: 0.5: dull"),
        Trajectory("x", ("only",), ((0, 1),), np.array([1]), np.array([[1.0]])),
    ]  # fmt: skip


class TestFile:
    def test_loads_nothing_and_lets_no_text_out(self, tmp_path):
        found = page(tmp_path, review(EVIL, (EVIL, EVIL + "2")), topics(EVIL, (EVIL, "b", "c")), title=EVIL)
        text = found.read_text()
        assert not re.search(r"https?:|url\(|@import|<img|<!--|<link(?! rel=\"icon\" href=\"data:,\")", text)
        assert text.count("<script") == text.count("</script") == 2
        assert text.count(" style=") == 0  # the policy forbids it
        assert data(found)[1][0]["name"] in (EVIL, "b", "c")

    def test_is_read_without_its_script(self, tmp_path):
        text = page(tmp_path, review()).read_text()
        found = re.findall(r'<span id="t0w(\d+)"(?: class=([fa]\d))? title="(.*?)">(.*?)</span>', text)
        assert [word for *_, word in found] == [REVIEW[a:b] for a, b in pieces_of(REVIEW)]
        assert next(each[1:3] for each in found if each[3] == "brilliant") == (
            "f5", "brilliant: 0.269 after it, +2.00",
        )  # fmt: skip
        assert next(each[1] for each in found if each[3] == "dull") == "a4"
        assert text.count("<path") == 6
        links = re.findall(r'<li><a href="#t0w(\d+)" dir="auto">(.*?)</a>', text)
        assert [word for _, word in links] == [move.text for move in review().moves()]
        assert all(found[int(i)][3] == word for i, word in links)

    def test_the_curve_begins_before_the_first_word_and_ends_at_the_last(self, tmp_path):
        found = data(
            page(tmp_path, given_by("a b c d", [(0, 1), (2, 3), (4, 5), (6, 7)], [0.2, 0.9], [1, 4]))
        )
        assert found[0][0]["x"] == [0, 250, 1000]
        assert found[0][0]["score"] == [0.5, 0.2, 0.9]

    def test_of_many_classes_the_likeliest_can_be_chosen_and_of_two_the_second_is_shown(self, tmp_path):
        everything = topics(classes=tuple(range(40)))
        found, two = data(page(tmp_path, everything, review("dull")))
        peaks = np.argsort(-everything.probabilities.max(axis=0))
        assert len(found) == CHOICES
        assert [found[0]["name"], len(two), two[0]["name"]] == [str(everything.label), 1, "positive"]
        assert {each["name"] for each in found} <= {str(cls) for cls in (everything.label, *peaks[:CHOICES])}

    def test_is_whole_or_not_there(self, tmp_path):
        with pytest.raises(ElmanError, match="nothing to show"):
            page(tmp_path)
        with pytest.raises(ElmanError, match="could not save"):
            write_page(tmp_path / "nowhere" / "a.html", [review()], "")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
    @pytest.mark.parametrize("name", ["for", "against"])
    def test_words_stay_readable_on_the_strongest_colour(self, colours, name):
        paper, ink = (np.array([int(colours[k][i : i + 2], 16) for i in (1, 3, 5)]) for k in ("paper", "ink"))
        tint = np.array([int(part) for part in colours[name].split()])
        share = opacity(LEVELS)
        lights = sorted(luminance(c) for c in (ink, paper + share * (tint - paper)))
        assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5  # WCAG 2, level AA


def luminance(colour):
    """Relative luminance of an sRGB colour, as WCAG 2 defines it."""
    c = colour / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def hover(browser, css, share=0.5):
    """Moves the pointer to a share of an element's width."""
    from selenium.webdriver import ActionChains

    place = one(browser, css)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", place)
    away = int((share - 0.5) * place.rect["width"])
    ActionChains(browser, duration=0).move_to_element_with_offset(place, away, 0).perform()


def press(browser, *names):
    """Keys, to whatever has the focus."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    for name in names:
        ActionChains(browser, duration=0).send_keys(getattr(Keys, name)).perform()


def focused(browser):
    return browser.switch_to.active_element.get_attribute("id")


def marked(browser):
    """The words that are marked, what is said of them, and where the dot is on the curve."""
    dot = re.findall(r"[\d.]+", one(browser, "#t0 .dot").get_attribute("d") or "")
    found = [word.get_attribute("id") for word in many(browser, ".text span.at")]
    return found, one(browser, "#t0 .readout").text, [float(part) for part in dot[:2]]


class TestInABrowser:
    @pytest.mark.parametrize("theme", [("light", LIGHT), ("dark", DARK)], ids=["light", "dark"])
    def test_opens_from_a_file_in_either_theme_without_a_complaint(self, browser, tmp_path, theme):
        name, colours = theme
        features = [{"name": "prefers-color-scheme", "value": name}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        opened(browser, page(tmp_path, review(), topics(), *odd(), title="Sales & more"))
        rgb = ", ".join(str(int(colours["paper"][i : i + 2], 16)) for i in (1, 3, 5))
        assert one(browser, "body").value_of_css_property("background-color").startswith(f"rgba({rgb}, ")
        assert browser.title == one(browser, "h1").text == "Sales & more"
        tint = f"rgba({colours['for'].replace(' ', ', ')}, {opacity(5)})"
        assert one(browser, "#t0 .text .f5").value_of_css_property("background-color") == tint
        assert len(many(browser, "nav a")) == len(many(browser, "article")) == 2 + len(odd())
        assert "NaN" not in browser.page_source.split("<script")[0]
        assert browser.get_log("browser") == []

    def test_a_text_is_only_ever_text(self, browser, tmp_path):
        given = [review(EVIL, ("no", EVIL)), topics(EVIL, (EVIL, "b", "c")), review(QUOTE, every=99)]
        opened(browser, page(tmp_path, *given, title=EVIL))
        assert one(browser, "h1").text == EVIL
        assert one(browser, "#t0 .text").text == EVIL
        assert one(browser, "#t0 .name").text == EVIL
        assert EVIL in [option.text for option in many(browser, "#t1 option")]
        for choice in (0, 1):
            choose(browser, "#t1", choice)
            assert many(browser, "img, article script, nav script") == []
        assert one(browser, "#t2w0").get_attribute("title") == f"{QUOTE}: 0.500 after it, +0.00"
        assert browser.get_log("browser") == []  # an alert would have raised above

    def test_a_word_under_the_pointer_marks_its_point_on_the_curve(self, browser, tmp_path):
        given = review()
        opened(browser, page(tmp_path, given))
        for move in given.moves(3):
            i = [stretch.start for stretch in given.stretches].index(move.start)
            hover(browser, f"#t0w{i}")
            found, said, (x, y) = marked(browser)
            assert found == [f"t0w{i}"]
            assert said.startswith(f"{move.text}: {given.score()[i]:.3f} after it, ")
            assert x == pytest.approx(1000 * (i + 1) / len(given.pieces), abs=0.1)
            assert y == pytest.approx(100 * (1 - given.score()[i]), abs=0.1)
        hover(browser, "h1")
        assert marked(browser) == ([], "", [])

    def test_the_curve_under_the_pointer_marks_its_word(self, browser, tmp_path):
        given = review()
        opened(browser, page(tmp_path, given))
        last = len(given.stretches) - 1
        for share, word in ((0.002, 0), (0.5, round(0.5 * len(given.pieces)) - 1), (0.998, last)):
            hover(browser, "#t0 .curve", share)
            assert marked(browser)[0] == [f"t0w{word}"]
        one(browser, "#t0 .curve").click()
        assert focused(browser) == f"t0w{round(0.5 * len(given.pieces)) - 1}"

    def test_arrow_keys_move_along_the_words_and_tab_enters_and_leaves_them(self, browser, tmp_path):
        opened(browser, page(tmp_path, review()))
        last = len(review().stretches) - 1
        press(browser, "TAB")
        assert marked(browser)[0] == [focused(browser)] == ["t0w0"]
        expected = (("ARROW_RIGHT", 1), ("ARROW_RIGHT", 2), ("ARROW_LEFT", 1), ("END", last), ("ARROW_RIGHT", last),
                    ("HOME", 0), ("ARROW_LEFT", 0), ("ARROW_RIGHT", 1))  # fmt: skip
        for key, word in expected:
            press(browser, key)
            assert marked(browser)[0] == [focused(browser)] == [f"t0w{word}"]
        assert marked(browser)[1].startswith("wanted: ")
        press(browser, "TAB")
        assert browser.switch_to.active_element.text == "wonderful"  # the first of the list
        assert marked(browser)[0] == []
        press(browser, "ENTER")
        assert marked(browser)[0] == [focused(browser)]
        assert browser.switch_to.active_element.text == "wonderful"
        press(browser, "ESCAPE")
        assert marked(browser) == ([], "", [])

    def test_where_texts_run_from_right_to_left_the_arrows_do_too(self, browser, tmp_path):
        opened(browser, page(tmp_path, review(ARABIC)))
        assert one(browser, ".text").value_of_css_property("direction") == "rtl"
        press(browser, "TAB")
        for key, word in (("ARROW_LEFT", 1), ("ARROW_LEFT", 2), ("ARROW_RIGHT", 1)):
            press(browser, key)
            assert focused(browser) == f"t0w{word}"
        first, second = (one(browser, f"#t0w{i}").rect["x"] for i in (0, 1))
        assert first > second

    def test_another_class_is_shown_when_it_is_chosen(self, browser, tmp_path):
        given = topics()
        opened(browser, page(tmp_path, given))
        assert not one(browser, "#t0 .name").is_displayed()
        names = [option.text for option in many(browser, "option")]
        assert sorted(names) == sorted(given.classes)
        assert names[0] == given.label

        def shown():
            words = [
                (w.get_attribute("class"), w.get_attribute("title")) for w in many(browser, ".text span")
            ]
            curves = [p.get_attribute("d") for p in many(browser, ".line, .area")]
            return words, curves, one(browser, ".curve").get_attribute("aria-label"), moves(browser)

        first = shown()
        for k in (1, 2):
            choose(browser, "#t0", k)
            words, curves, about, _ = shown()
            score = given.score(names[k])
            assert [float(t.split(": ")[-1].split()[0]) for _, t in words] == pytest.approx(score, abs=6e-4)
            assert float(re.findall(r"[\d.]+", curves[2])[-1]) == pytest.approx(
                100 * (1 - score[-1]), abs=0.06
            )
            assert about.startswith(f"Probability of {names[k]} ")
            assert [word for word, _ in moves(browser)] == [m.text for m in given.moves(cls=names[k])]
        choose(browser, "#t0", 0)
        assert shown() == first

    def test_one_of_two_classes_cannot_be_chosen(self, browser, tmp_path):
        opened(browser, page(tmp_path, review()))
        assert not one(browser, "select").is_displayed()
        assert one(browser, "figcaption").get_property("innerText") == "Probability of positive, word by word"
        assert many(browser, "nav") == []

    def test_a_list_leads_to_each_of_many_texts(self, browser, tmp_path):
        opened(browser, page(tmp_path, *(review(noise=0.1, seed=i) for i in range(9))))
        many(browser, "nav a")[7].click()
        assert (
            browser.execute_script("return document.querySelector('#t7').getBoundingClientRect().top") < 100
        )

    def test_fits_a_telephone(self, browser, tmp_path):
        size = {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
        opened(
            browser, page(tmp_path, review("x" * 500), topics(classes=("y" * 200, "b c " * 60, "z")), *odd())
        )
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            assert browser.execute_script("return document.documentElement.scrollWidth") == 360
        finally:
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def test_hundreds_of_texts_stay_small_and_fast(self, browser, tmp_path):
        given = [review(" ".join([REVIEW] * 4), noise=0.1, seed=i) for i in range(300)]
        start = time.perf_counter()
        path = page(tmp_path, *given)
        assert time.perf_counter() - start < 10
        assert path.stat().st_size < 150 * sum(len(each.pieces) for each in given)
        opened(browser, path)
        took = "return performance.timing.domComplete - performance.timing.fetchStart"
        assert browser.execute_script(took) < 10_000


def choose(browser, text, k):
    from selenium.webdriver.support.select import Select

    Select(one(browser, f"{text} select")).select_by_index(k)


def moves(browser):
    """What the list says, word and change."""
    return [
        tuple(part.text for part in item.find_elements("css selector", "a, b"))
        for item in many(browser, ".moves li")
    ]
