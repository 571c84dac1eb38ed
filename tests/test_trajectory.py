import json
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from elman.data import ElmanError
from elman.trajectory import CLIP, LINES, NARROWEST, Trajectory, percent, render, short, signed, strengths
from elman.words import Words

REVIEW = """I wanted to love this film. The opening is slow, the first half hour dull and badly lit, and I almost left.
Then the sister arrives, and everything changes: a brilliant, funny, heartbreaking performance. The script still has
holes (why does nobody call the police?), and I felt let down by the ending, but the last song is wonderful. Go and
see it!"""
EFFECTS = {
    "love": 0.7, "slow": -0.6, "dull": -1.6, "badly": -1.2, "left": -0.3, "brilliant": 2.0, "funny": 0.8,
    "heartbreaking": 1.1, "holes": -0.5, "down": -1.3, "wonderful": 2.2, "see": 0.25,
}  # fmt: skip
BLUE, ORANGE = "38;5;33m", "38;5;166m"


def pieces_of(text):
    return tuple(found.span() for found in re.finditer(r"\w+|[^\w\s]", text))


def review(text=REVIEW, classes=("negative", "positive"), every=1, noise=0.0, seed=0):
    """A walk of the log-odds over a text: some words have an effect, the others little or none."""
    pieces, rng = pieces_of(text), np.random.default_rng(seed)
    moves = [EFFECTS.get(text[a:b].lower(), noise * rng.standard_normal()) for a, b in pieces]
    p = 1 / (1 + np.exp(-np.cumsum(moves)))
    at = np.unique([*range(every - 1, len(pieces), every), len(pieces) - 1])
    return Trajectory(text, classes, pieces, at + 1, np.stack([1 - p, p], 1)[at])


def topics(text=REVIEW, classes=("film", "music", "sport"), seed=0, several=False):
    """A walk over several classes."""
    pieces, rng = pieces_of(text), np.random.default_rng(seed)
    z = np.cumsum(rng.standard_normal((len(pieces), len(classes))) * rng.random((len(pieces), 1)), 0)
    p = 1 / (1 + np.exp(-z)) if several else np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return Trajectory(text, classes, pieces, np.arange(1, len(pieces) + 1), p, several)


def given_by(text, pieces, scores, read=None):
    """Two classes, False and True, and the probabilities of True."""
    p = np.array(scores, dtype=float)
    counts = np.arange(1, len(p) + 1) if read is None else np.array(read)
    return Trajectory(text, (False, True), tuple(pieces), counts, np.stack([1 - p, p], 1))


def words(trajectory, cls=None):
    return [move.text for move in trajectory.moves(cls=cls)]


def logit(p):
    p = np.clip(p, CLIP, 1 - CLIP)
    return np.log(p / (1 - p))


class TestOpinion:
    def test_of_two_classes_the_second_is_shown_and_of_more_the_predicted_one(self):
        two, three = review(), topics()
        assert (two.label, two.shown) == ("positive", "positive")
        assert review("dull").label == "negative"
        assert review("dull").shown == "positive"
        assert three.label == three.shown == three.classes[int(three.probabilities[-1].argmax())]
        np.testing.assert_array_equal(two.score(), two.probabilities[:, 1])
        np.testing.assert_array_equal(two.score("negative"), two.probabilities[:, 0])
        np.testing.assert_array_equal(two.final, two.probabilities[-1])

    def test_several_labels_are_those_above_a_half_and_the_likeliest_is_shown(self):
        for p, label, shown in (([0.6, 0.9], ("a", "b"), "b"), ([0.5, 0.2], (), "a")):
            found = Trajectory("x", ("a", "b"), ((0, 1),), np.array([1]), np.array([p]), several=True)
            assert (found.label, found.shown) == (label, shown)

    def test_a_class_may_be_false(self):
        assert given_by("so so", [(0, 2), (3, 5)], [0.4, 0.2]).score(False)[-1] == 0.8

    def test_another_class_is_refused(self):
        with pytest.raises(
            ElmanError, match=r"there is no class 'neutral': the classes are 'negative', 'posit"
        ):
            review().moves(cls="neutral")


class TestMoves:
    def test_are_the_words_that_moved_it_largest_first(self):
        found = review().moves(5)
        assert [move.text for move in found] == ["wonderful", "brilliant", "dull", "down", "badly"]
        np.testing.assert_allclose([move.change for move in found], [2.2, 2.0, -1.6, -1.3, -1.2])
        assert all(REVIEW[move.start : move.end] == move.text for move in found)

    def test_of_the_other_class_are_the_opposite(self):
        ours, others = review().moves(), review().moves(cls="negative")
        np.testing.assert_allclose([m.change for m in ours], [-m.change for m in others])

    def test_leave_out_what_moved_nothing(self):
        assert len(review("a dull film").moves()) == 1
        assert given_by("a b", [(0, 1), (2, 3)], [0.5, 0.5]).moves() == []

    def test_where_points_are_few_are_stretches_of_text(self):
        found = review(every=7)
        assert words(found)[:2] == [
            "a brilliant, funny, heartbreaking performance",
            "half hour dull and badly lit,",
        ]
        np.testing.assert_allclose([m.change for m in found.moves(2)], [3.9, -2.8])
        assert "".join(found.text[s.start : s.end] for s in found.stretches).split()[-1] == "seeit!"

    def test_begin_at_even_odds_or_at_a_point_that_has_read_nothing(self):
        pieces = [(0, 4), (5, 9)]
        even, known = (
            given_by("very good", pieces, [0.9, 0.9]),
            given_by("very good", pieces, [0.9] * 3, [0, 1, 2]),
        )
        assert (even.before(), known.before()) == (0.5, 0.9)
        assert words(even) == ["very"]
        assert words(known) == []
        assert topics().before() == pytest.approx(1 / 3)
        assert topics(several=True).before() == 0.5

    def test_what_an_empty_piece_moved_is_the_word_befores_or_that_of_the_capitals_after_it(self):
        text = "so 🙂 GREAT"  # the sign is two pieces, and there is one before the capitals
        found = given_by(text, [(0, 2), (3, 4), (4, 4), (5, 5), (5, 10)], [0.5, 0.6, 0.7, 0.8, 0.9])
        assert words(found) == ["GREAT", "🙂"]
        np.testing.assert_allclose([m.change for m in found.moves()], [logit(0.9) - logit(0.7), logit(0.7)])
        only = given_by("🙂", [(0, 0), (0, 1), (1, 1)], [0.6, 0.7, 0.8])
        np.testing.assert_allclose([m.change for m in only.moves()], [logit(0.8)])

    def test_a_sure_model_moves_are_finite(self):
        found = given_by("no yes", [(0, 2), (3, 6)], [0, 1]).moves()
        np.testing.assert_allclose([m.change for m in found], [2 * logit(1), -logit(1)])

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 5))
    def test_add_up_to_the_way_from_the_beginning_to_the_end(self, scores, size):
        pieces = [(3 * i, 3 * i + 2) for i in range(size * len(scores))]
        read = size * np.arange(1, len(scores) + 1)
        found = given_by("ab " * len(pieces), pieces, scores, read)
        assert found.changes().sum() == pytest.approx(logit(scores[-1]) - logit(0.5), abs=1e-9)
        assert len(found.changes()) == len(found.stretches) == len(scores)

    def test_the_pieces_that_words_finds_make_a_trajectory(self):
        text = "So GREAT!!! 🙂👍🏽 Ḱ naïve ’tis 東京"
        for kind in ("words", "bpe"):
            pieces = [(a, b) for _, a, b in Words.fit([REVIEW, REVIEW], 300, kind).pieces(text)]
            found = given_by(text, pieces, np.linspace(0.1, 0.9, len(pieces)))
            assert found.stretches[-1].point == len(pieces) - 1
            assert found.changes().sum() == pytest.approx(logit(0.9))


class TestChecks:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"read": np.array([1, 1, 3])}, r"pieces read must increase and end at 3"),
            ({"read": np.array([1, 2, 4])}, r"end at 3"),
            ({"read": np.array([2, 3])}, r"shape is \(3, 2\), that of its points and classes \(2, 2\)"),
            ({"classes": ("a",)}, r"points and classes \(3, 1\)"),
            ({"pieces": ((0, 2), (1, 3), (4, 5))}, r"without overlap"),
            ({"pieces": ((0, 1), (2, 3), (4, 6))}, r"in the text"),
            ({"probabilities": np.full((3, 2), np.nan)}, r"not between 0 and 1"),
            ({"probabilities": np.full((3, 2), 1.1)}, r"not between 0 and 1"),
            (
                {"read": np.zeros(0, int), "probabilities": np.zeros((0, 2)), "pieces": ()},
                r"one of each at least",
            ),
        ],
    )
    def test_what_does_not_fit_is_named(self, change, message):
        fits = {
            "text": "a b c", "classes": (0, 1), "pieces": ((0, 1), (2, 3), (4, 5)), "read": np.array([1, 2, 3]),
            "probabilities": np.full((3, 2), 0.5),
        }  # fmt: skip
        Trajectory(**fits)
        with pytest.raises(ElmanError, match=message):
            Trajectory(**fits | change)

    def test_single_precision_may_be_a_little_above_one(self):
        assert given_by("a", [(0, 1)], [np.nextafter(np.float32(1), np.float32(2))]).label is True


class TestRows:
    def test_are_json_and_have_every_word(self):
        found = json.loads(json.dumps(review().to_rows()))
        assert [row["word"] for row in found] == [REVIEW[a:b] for a, b in pieces_of(REVIEW)]
        assert [row["probabilities"]["positive"] for row in found] == pytest.approx(
            review().score(), abs=1e-6
        )
        assert (found[3]["start"], found[3]["end"]) == (12, 16)

    def test_labels_that_are_no_texts_are_keys(self):
        assert (
            json.dumps(given_by("a", [(0, 1)], [0.25]).to_rows()[0]["probabilities"])
            == '{"false": 0.75, "true": 0.25}'
        )


def parts(shown):
    """The paragraphs: label and curve, text, moves."""
    head, *text, moves = shown.split("\n\n")
    return head.split("\n"), "\n\n".join(text).split("\n"), moves.split("\n")


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "COLORTERM", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


class TestRender:
    def test_says_the_label_draws_the_curve_wraps_the_text_and_lists_the_words(self):
        head, text, moves = parts(render(review(), 60, False))
        assert head[0] == "positive 82.5 %"  # 1 / (1 + exp(-1.55))
        assert [line[:2] for line in head[-2:]] == ["1 ", "0 "]
        assert " ".join(text).split() == REVIEW.split()
        assert moves[0] == "moved it most: wonderful +2.2 · brilliant +2.0 · dull −1.6"
        assert " · ".join(line.strip() for line in moves).count(" · ") == 7

    def test_the_curve_has_a_column_for_each_word_and_sixteen_heights(self):
        scores = [0, 1 / 16, 0.25, 0.5, 9 / 16, 0.75, 1]
        found = given_by("a b c d e f g", [(2 * i, 2 * i + 1) for i in range(7)], scores)
        assert parts(render(found, 80, False))[0][-2:] == ["1     ▁▄█", "0 ▁▁▄████"]

    def test_a_long_curve_has_the_width_and_ends_where_the_opinion_ends(self):
        pieces = [(2 * i, 2 * i + 1) for i in range(1000)]
        found = given_by("a " * 1000, pieces, [0.25] * 9 + [1], [*range(1, 1000, 111), 1000])
        assert parts(render(found, 40, False))[0][-2:] == [
            "1 " + " " * 33 + "█" * 5,
            "0 " + "▄" * 33 + "█" * 5,
        ]

    def test_words_that_raised_it_are_blue_and_those_that_lowered_it_orange_and_stronger_ones_bolder(
        self, terminal
    ):
        shown = render(review(), 80, True)
        assert f"\x1b[1;7;{BLUE}wonderful\x1b[0m" in shown
        assert f"\x1b[1;{ORANGE}dull\x1b[0m" in shown
        assert f"\x1b[{BLUE}funny\x1b[0m" in shown
        coloured = re.findall(r"\x1b\[[\d;]+m(\w+)\x1b", shown.split("\n\n")[1])
        assert coloured == [word for word in re.findall(r"\w+", REVIEW) if abs(EFFECTS.get(word, 0)) > 0.4]
        assert "Blue" in shown
        assert parts(re.sub(r"\x1b\[[\d;]*m", "", shown))[1:] == parts(render(review(), 80, False))[1:]

    @pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
    def test_a_terminal_without_colours_gets_none(self, terminal, monkeypatch, name, value):
        monkeypatch.setenv(name, value)
        assert render(review(), 80, True) == render(review(), 80, False)

    def test_nothing_in_a_text_or_a_label_is_obeyed(self, terminal):
        evil = "\x1b[2J\x9b31m [bold]so[/bold] :smile: \x07\x08\u202egood\ttab \ud800 \x1b]8;;x\x1b\\"
        for color in (True, False):
            shown = render(review(evil, ("\x1b[31mno", "\x1b[2Jyes")), 80, color)
            assert "[bold]so[/bold] :smile:" in shown
            assert not re.search(
                "[\0-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", re.sub(r"\x1b\[[\d;]+m", "", shown)
            )
            assert shown.encode()

    @settings(deadline=None)
    @given(
        st.text(st.characters() | st.sampled_from("ab \n\x1b東é\u0301👍🏽\u200d"), max_size=300),
        st.integers(0, 90),
    )
    def test_every_text_fits_and_none_of_it_is_lost(self, text, width):
        pieces = pieces_of(text)
        found = given_by(text, pieces, np.linspace(0, 1, len(pieces) + 1), range(len(pieces) + 1))
        shown = render(found, width, False)
        assert all(cell_len(line) <= max(width, NARROWEST) for line in shown.split("\n"))
        assert not re.search("[\0-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", shown)
        everything = "".join(shown.split())
        assert all(
            "".join(text[a:b].split()) in everything for a, b in pieces if text[a:b].isalpha() and b - a < 4
        )

    def test_of_a_long_text_the_lines_around_the_largest_moves_are_shown(self):
        filler = " ".join(f"w{i}" for i in range(3000))
        text = f"{filler} brilliant {filler} dull {filler}"
        lines = parts(render(review(text), 80, False))[1]
        left_out = [int(line.split()[1].replace(",", "")) for line in lines if line.startswith("…")]
        kept = [line for line in lines if not line.startswith("…")]
        assert len(kept) <= LINES
        assert {"brilliant", "dull"} <= set(" ".join(kept).split())
        assert sum(left_out) + len(" ".join(kept).split()) == len(text.split())
        assert all(line in text for line in kept)

    def test_a_text_without_a_word_is_shown(self):
        empty = Trajectory("\n", ("a", "b"), (), np.array([0]), np.array([[0.7, 0.3]]))
        assert render(empty, 80, False).startswith("a 70.0 %\n")
        assert render(empty, 80, False).endswith("No word moved it.")

    def test_several_labels_or_none_are_said(self):
        for p, said in (
            ([0.6, 0.9, 0.1], "a 60.0 % · b 90.0 %"),
            ([0.2, 0.1, 0], "none (the likeliest: a 20.0 %)"),
        ):
            found = Trajectory("x", ("a", "b", "c"), ((0, 1),), np.array([1]), np.array([p]), several=True)
            assert render(found, 80, False).split("\n")[0] == said


class TestSaying:
    def test_a_probability_is_never_said_to_be_certain(self):
        assert [percent(p) for p in (0, 0.0006, 0.5, 0.9994, 1)] == [
            "<0.1 %",
            "0.1 %",
            "50.0 %",
            "99.9 %",
            ">99.9 %",
        ]

    def test_a_change_has_its_sign_unless_it_rounds_to_zero(self):
        assert [signed(x) for x in (2.14, -0.5, 0, -0.04)] == ["+2.1", "−0.5", "+0.0", "+0.0"]
        assert signed(-0.04, 2) == "−0.04"

    def test_a_long_stretch_is_cut_between_words(self):
        assert short("a  b\nc") == "a b c"
        assert short("one two three four five six seven", 20) == "one two … six seven"
        assert short("x" * 40, 20) == "x" * 9 + " … " + "x" * 9

    def test_small_changes_are_not_blown_up_and_one_large_one_hides_no_others(self):
        np.testing.assert_allclose(strengths(np.array([0.1, -0.2])), [0.1, -0.2])
        np.testing.assert_allclose(strengths(np.array([9.0, -3.0])), [1, -0.75])
        assert strengths(np.zeros(0)).shape == (0,)


def test_neither_torch_nor_rich_is_needed_to_hold_one():
    code = "import sys, elman.trajectory; assert not {'torch', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
