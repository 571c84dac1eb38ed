"""The classic programs run as a reader would run them, and learn."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
WORDS = ["elephant", "umbrella", "mosquito", "sandwich", "backpack", "dinosaur"]


def test_each_is_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 25, path


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_character_rnn_learns_words(tmp_path, cell):
    """Whole words of eight letters come from a model that remembers: by letter frequency not one would."""
    chance = random.Random(0)
    file = tmp_path / "words.txt"
    file.write_text(" ".join(chance.choice(WORDS) for _ in range(2000)))
    command = [sys.executable, str(EXAMPLES / "character_rnn.py"), cell, str(file), "200"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
    }  # sizes at which a second thread, if busy, only costs
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    written = run.stdout.split()[1:-1]  # the first and the last may be cut
    assert len(run.stdout) == 500
    assert "step 200: loss" in run.stderr
    assert sum(word in WORDS for word in written) > 0.5 * len(written)
    assert len(set(WORDS) & set(written)) > 3  # the program draws at random: all six are not certain


def test_forecast_beats_the_same_as_today():
    """Of models that are broken, one that repeats today has a ratio of 1, one that sees the last day alone 0.91."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / "forecast.py")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    error, naive = (float(figure) for figure in re.findall(r"off by (\S+) °C", run.stdout))
    assert error < 0.89 * naive


def test_sentiment_is_learned_by_both_networks():
    """Two fifths of the reviews: a model that is broken is right about half of them, of a fifth so are some LSTMs."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / "sentiment.py"), "0.4"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    found = re.findall(r"(\S+): (\S+)% of 2,675 reviews", run.stdout)
    assert [name for name, _ in found] == ["LSTM", "mean"]
    assert all(float(share) > 60 for _, share in found)
