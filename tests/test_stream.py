import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import twin
from elman import stream as stream_file
from elman.codec import Characters
from elman.data import ElmanError
from elman.stream import Sampling, Stream, build_network, generate, random_state, score, until

CODEC = Characters("\nabcdefghi")  # 11 symbols with the unknown one
MODELS = list(itertools.product(["rnn", "gru", "lstm"], [(1, False), (2, False), (3, True)]))
HOWS = [(0.0, 0, 1.0), (0.8, 0, 1.0), (1.3, 4, 1.0), (1.0, 0, 0.7), (0.7, 5, 0.9), (1.0, 1, 1.0)]


def network(**options):
    return build_network(*twin.random_model(**options), writes_unknown=False)


def written(prompt="abc", length=50, sampling=None, net=None, **options):
    return "".join(generate(net or network(), CODEC, prompt, length, sampling or Sampling(), **options))


# The native network against its twin


@pytest.fixture(params=MODELS, ids=lambda p: f"{p[0]}{p[1][0]}{'-tied' * p[1][1]}")
def pair(request):
    cell, (layers, tied) = request.param
    model, tensors = twin.random_model(cell, layers=layers, tied=tied)
    return build_network(model, tensors), twin.Network(model, tensors)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_feed_agrees_with_the_twin(pair, batch):
    tokens = np.random.default_rng(1).integers(0, 11, (batch, 37))
    states = [np.zeros((batch, net.state_size), np.float32) for net in pair]
    for _ in range(2):  # the second time from a state that is not zero
        native, expected = (net.feed(tokens, state) for net, state in zip(pair, states, strict=True))
        np.testing.assert_allclose(native, expected, atol=1e-4)
        np.testing.assert_allclose(*states, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_score_agrees_with_the_twin(pair, batch):
    tokens = np.random.default_rng(2).integers(0, 11, (batch, 30))
    states = [np.zeros((batch, net.state_size), np.float32) for net in pair]
    native, expected = (net.score(tokens, state) for net, state in zip(pair, states, strict=True))
    np.testing.assert_allclose(native, expected, atol=1e-4)
    np.testing.assert_allclose(*states, atol=1e-5)


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_generate_agrees_with_the_twin(pair, how):
    states = [np.zeros((1, net.state_size), np.float32) for net in pair]
    rngs = [random_state(7), random_state(7)]
    native, expected = (
        net.generate(3, 200, state, *how, rng) for net, state, rng in zip(pair, states, rngs, strict=True)
    )
    np.testing.assert_array_equal(native, expected)
    np.testing.assert_array_equal(*rngs)
    np.testing.assert_allclose(*states, atol=1e-4)


# Streams


def test_a_chunk_is_its_steps(pair):
    codes = np.random.default_rng(3).integers(0, 11, 40).astype(np.uint8)
    stepped, fed, split = (Stream(pair[0]) for _ in range(3))
    steps = np.stack([stepped.step(int(code)) for code in codes])
    np.testing.assert_allclose(fed.feed(codes), steps, atol=1e-5)
    np.testing.assert_allclose(
        np.concatenate((split.feed(codes[:13]), split.feed(codes[13:]))), steps, atol=1e-5
    )
    np.testing.assert_allclose(fed.state, stepped.state, atol=1e-5)


def test_state_is_saved_moved_and_reset():
    one, other = Stream(network()), Stream(network())
    one.feed([1, 2, 3])
    saved = one.save()
    expected = one.feed([4, 5])
    other.restore(saved)
    np.testing.assert_array_equal(other.feed([4, 5]), expected)
    assert not np.array_equal(saved, one.state)
    one.reset()
    np.testing.assert_array_equal(one.feed([1, 2, 3]), Stream(network()).feed([1, 2, 3]))


def test_a_foreign_state_is_refused():
    with pytest.raises(ElmanError, match=r"shape \(1, 18\), not \(18,\)"):
        Stream(network()).restore(np.zeros(18))


def test_tensors_that_do_not_fit():
    model, tensors = twin.random_model()
    with pytest.raises(ElmanError, match=r"there is no 'head\.bias'"):
        build_network(model, {k: v for k, v in tensors.items() if k != "head.bias"})
    for changes in (
        {"cell": "transformer"},
        {"vocabulary": 12},
        {"hidden_size": 8},
        {"num_layers": 2},
        {"num_layers": 0},
    ):
        with pytest.raises(ElmanError, match="do not fit"):
            build_network(model | changes, tensors)
    for name, tensor in tensors.items():
        with pytest.raises(ElmanError, match="do not fit"):
            build_network(model, tensors | {name: tensor[:-1]})


# Writing


def test_length_and_seed():
    assert len(written(length=123)) == 123
    assert written(seed=1) == written(seed=1) != written(seed=2)
    assert written(seed=-1) == written(seed=-1)
    assert written() != written()  # no seed: another text each time


def test_blocks_do_not_show(monkeypatch):
    expected = written(length=100, seed=3)
    monkeypatch.setattr(stream_file, "_BLOCK", 7)
    assert written(length=100, seed=3) == expected


def test_greedy_needs_no_seed():
    assert written(sampling=Sampling(greedy=True)) == written(sampling=Sampling(top_k=1))


def test_a_long_prompt_is_read_in_chunks(monkeypatch):
    prompt = "abcdefghi" * 200
    expected = written(prompt, seed=1)
    monkeypatch.setattr(stream_file, "_CHUNK", 11)
    assert written(prompt, seed=1) == expected
    assert written(prompt[:-9] + "ihgfedcba", seed=1) != expected


def test_what_was_fed_decides(pair):
    net = pair[0]
    how = Sampling(greedy=True)
    codes = CODEC.encode("abcabcabd").tolist()
    for _ in range(20):
        codes.append(int(np.argmax(Stream(net).feed(codes)[-1])))
    assert CODEC.decode(np.array(codes[9:])) == written("abcabcabd", 20, how, net)


def test_an_empty_prompt_starts_a_line():
    assert written("", seed=1) == written("\n", seed=1) == written("\r\n", seed=1)
    assert "".join(generate(network(vocabulary=4), Characters("xyz"), "", 5, Sampling(), seed=1))


def test_the_unknown_symbol_is_never_written():
    model, tensors = twin.random_model()
    tensors["head.bias"][0] = 50.0
    assert "\ufffd" in written(net=build_network(model, tensors))
    for sampling in (Sampling(), Sampling(greedy=True), Sampling(temperature=100.0, top_p=1.0)):
        assert "\ufffd" not in written(
            length=500, net=build_network(model, tensors, False), sampling=sampling
        )


def test_unknown_characters_in_the_prompt():
    with pytest.raises(ElmanError, match=r"holds 'Z' \(U\+005A\), 'é' \(U\+00E9\), which"):
        generate(network(), CODEC, "aZbéZ", 10, Sampling())
    assert written("aZbéZ", seed=1, on_unknown="replace") == written("aXbXX", seed=1, on_unknown="replace")
    with pytest.raises(ElmanError, match="and 12 more characters"):
        generate(network(), CODEC, "QWERTYUIOPASDFGHJKLZ", 10, Sampling())
    with pytest.raises(ElmanError, match="on_unknown must be"):
        generate(network(), CODEC, "a", 10, Sampling(), on_unknown="drop")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature must be above 0.*greedy"),
        ({"temperature": -1.0}, "temperature must be above 0"),
        ({"temperature": float("nan")}, "temperature must be above 0"),
        ({"temperature": float("inf")}, "temperature must be above 0"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": 1.1}, "top_p must be above 0"),
        ({"top_p": float("nan")}, "top_p must be above 0"),
    ],
)
def test_sampling_refuses(options, message):
    with pytest.raises(ElmanError, match=message):
        Sampling(**options)


def test_generate_refuses_at_once():
    with pytest.raises(ElmanError, match="length must be at least 1"):
        generate(network(), CODEC, "a", 0, Sampling())
    with pytest.raises(ElmanError, match="stop string must not be empty"):
        generate(network(), CODEC, "a", 5, Sampling(), stop=["x", ""])


def test_stop_strings():
    text = written(length=300, seed=5)
    for stop in (text[40:43], text[100:120], [text[50:60], text[70:72]]):
        ends = [text.find(s) for s in ([stop] if isinstance(stop, str) else stop)]
        assert written(length=300, seed=5, stop=stop) == text[: min(ends)]
    assert written(length=300, seed=5, stop="zebra") == text


@given(
    st.text("ab", max_size=40),
    st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3),
    st.data(),
)
def test_until_is_the_text_before_the_first_stop(text, stops, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    found = [at for at in map(text.find, stops) if at >= 0]
    assert "".join(until(iter(pieces), stops)) == text[: min(found, default=len(text))]


def test_until_waits_for_a_longer_stop_that_started_earlier():
    assert "".join(until(iter(["ab", "a"]), ["b", "aba"])) == ""
    assert "".join(until(iter(["ab", "c"]), ["b", "aba"])) == "a"


def test_until_holds_back_no_more_than_it_must():
    pieces = until(iter(["hello w", "or", "ld STO", "re, STOP it"]), ["STOP"])
    assert list(pieces) == ["hello w", "or", "ld ", "STOre, "]


# Scoring


def exactly(net, codes):
    state = np.zeros((1, net.state_size), np.float32)
    return float(net.score(np.asarray(codes, np.int64)[None], state).sum(dtype=np.float64))


@pytest.mark.parametrize("n", [2, 3, 255, 256, 257, 3_000])
def test_a_short_text_is_scored_in_one_go(pair, n):
    codes = np.random.default_rng(4).integers(0, 11, n).astype(np.uint8)
    total, count = score(pair[0], codes)
    assert count == n - 1
    assert total == pytest.approx(exactly(pair[0], codes), rel=1e-5)


@pytest.mark.parametrize("n", [8_001, 30_011, 70_000])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_long_text_in_parts_is_scored_the_same(cell, n):
    model, tensors = twin.random_model(cell)
    calm = {name: tensor / 2 for name, tensor in tensors.items()}  # forgets, as trained networks do
    codes = np.random.default_rng(5).integers(0, 11, n).astype(np.uint8)
    net = build_network(model, calm)
    total, count = score(net, codes)
    assert count == n - 1
    assert total == pytest.approx(exactly(net, codes), rel=1e-6)


@pytest.mark.parametrize("n", [0, 1])
def test_too_short_to_score(n):
    with pytest.raises(ElmanError, match="too short"):
        score(network(), np.zeros(n, np.uint8))


# Speed


def test_writing_is_fast():
    net = build_network(*twin.random_model("lstm", vocabulary=100, hidden=256), writes_unknown=False)
    codec = Characters("".join(map(chr, range(32, 131))))
    start = time.perf_counter()
    for _ in generate(net, codec, "a", 5_000, Sampling(top_p=0.95)):
        pass
    assert 5_000 / (time.perf_counter() - start) > 3_000  # on a quiet machine, over 15,000
