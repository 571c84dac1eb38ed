"""The text job from end to end: quality, files, resume after SIGKILL, Ctrl-C, silence, and errors."""

import argparse
import inspect
import io
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman
from elman.codec import Characters
from elman.corpus import Corpus
from elman.data import Batches, ElmanError, TextFile
from elman.jobs import load
from elman.model import Model, ModelConfig
from elman.progress import Report, Snapshot
from elman.sizes import sensible_sizes
from elman.text import TextGenerator
from elman.text_fit import measure

TEXT = "".join(inspect.getsource(module) for module in (argparse, tarfile, shutil, subprocess))[:160_000]
SHORT = TEXT[:20_000]
SMALL: dict[str, Any] = {"hidden_size": 16, "embedding_size": 8, "batch_size": 4, "chunk_length": 16}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TextGenerator, Path]:
    path = tmp_path_factory.mktemp("model") / "source.elman"
    sizes = {"hidden_size": 64, "embedding_size": 32, "batch_size": 16, "chunk_length": 32}
    generator = TextGenerator(**sizes, learning_rate=0.01, dropout=0.0)  # type: ignore[arg-type]
    return generator.fit(TEXT, epochs=2, output=path, progress=False), path


def test_beats_the_baselines_on_text_held_out(trained: tuple[TextGenerator, Path]) -> None:
    generator, path = trained
    figures = generator.info["training"]
    assert figures["validation_loss"] < figures["baselines"]["trigram"] < figures["baselines"]["frequency"]
    assert figures["validation_characters"] == len(TEXT) // 10
    assert figures["stopped"] == "finished"
    assert [file.name for file in path.parent.iterdir()] == ["source.elman"]
    held_out = generator.evaluate(TextFile.from_string(TEXT[-len(TEXT) // 10 :]))
    assert held_out["nats_per_char"] == pytest.approx(figures["validation_loss"], abs=0.01)
    assert held_out["nats_per_char"] < held_out["baselines"]["trigram"]
    assert held_out["bits_per_char"] == pytest.approx(held_out["nats_per_char"] / np.log(2))
    assert held_out["characters"] == len(TEXT) // 10 - 1


def test_a_loaded_model_writes_the_same(trained: tuple[TextGenerator, Path]) -> None:
    generator, path = trained
    again = load(path)
    text = generator.generate("def ", 100, seed=1)
    assert len(text) == 100
    assert again.generate("def ", 100, seed=1) == text
    assert "".join(again.stream("def ", 100, seed=1)) == text
    assert again.info == generator.info
    assert again.generate("def ", 20, greedy=True) == again.generate("def ", 20, greedy=True, seed=2)
    assert isinstance(elman.load(path), TextGenerator)


def test_info_describes_the_model(trained: tuple[TextGenerator, Path]) -> None:
    info = trained[0].info
    vocabulary = len(set(TEXT)) + 1
    assert (info["job"], info["cell"], info["hidden_size"]) == ("text", "lstm", 64)
    assert info["parameters"] == vocabulary * 32 + 4 * 64 * (32 + 64 + 2) + (64 + 1) * vocabulary
    assert info["training"]["data"]["characters"] == len(TEXT)


@torch.no_grad()
def test_measure_by_streams_is_that_of_one_stream() -> None:
    torch.manual_seed(0)
    model = Model(ModelConfig(50, hidden_size=8, embedding_size=8))
    codes = np.random.default_rng(0).integers(50, size=6_000).astype(np.uint8)
    pieces = list(measure(codes, 1_000, 50)(model, None))
    logits, _ = model(torch.from_numpy(codes[:-1, None].astype(np.int64)))
    targets = torch.from_numpy(codes[1:].astype(np.int64))
    exact = torch.nn.functional.cross_entropy(logits, targets, reduction="none")[999:]
    assert sum(count for _, count in pieces) == 5_000
    assert sum(nats for nats, _ in pieces) == pytest.approx(exact.sum().item(), rel=1e-4)
    assert sum(count for _, count in measure(codes, 1_000, 50)(model, 1_234)) == 1_234


def test_text_larger_than_memory_is_mapped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("elman.codec._IN_MEMORY", 1_000)
    (tmp_path / "big.txt").write_text(SHORT)
    seen = []
    original = Batches.__init__

    def spy(self: Batches, codes: Any, *rest: Any) -> None:
        seen.append(codes)
        original(self, codes, *rest)

    monkeypatch.setattr(Batches, "__init__", spy)
    TextGenerator(**SMALL).fit(tmp_path / "big.txt", epochs=0.2, progress=False)
    assert isinstance(seen[0], np.memmap)


def test_resumed_after_sigkill_equals_uninterrupted(tmp_path: Path) -> None:
    whole = TextGenerator("gru", **SMALL, dropout=0.2).fit(SHORT, epochs=1.5, progress=False)
    (tmp_path / "text.txt").write_text(SHORT)
    output = tmp_path / "text.elman"
    script = f"""
import os, signal
from elman.text import TextGenerator
from elman.training import Training
save = Training._save
def save_or_die(self):
    self._next_save = 0.0 if self.steps % 100 == 0 else 1e9
    save(self)
    if self.steps == 337:
        os.kill(os.getpid(), signal.SIGKILL)
Training._save = save_or_die
TextGenerator("gru", **{SMALL}, dropout=0.2).fit("text.txt", epochs=1.5, output="text.elman")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["text.elman", "text.elman.resume", "text.txt"]
    with pytest.raises(ElmanError, match=r"dropout was 0\.2, now 0\.3"):
        TextGenerator("gru", **SMALL, dropout=0.3).fit(
            SHORT, epochs=1.5, output=output, resume=True, progress=False
        )
    with pytest.raises(ElmanError, match="checksum of the text"):
        TextGenerator("gru", **SMALL, dropout=0.2).fit(
            SHORT[1:] + "x", epochs=1.5, output=output, resume=True, progress=False
        )
    resumed = TextGenerator("gru", **SMALL, dropout=0.2)
    resumed.fit(SHORT, epochs=1.5, output=output, resume=True, progress=False)
    a, b = whole.file, resumed.file
    assert a.training["curve"] == b.training["curve"]
    assert a.training["validation_loss"] == b.training["validation_loss"]
    for name, tensor in a.tensors.items():
        np.testing.assert_array_equal(tensor, b.tensors[name], err_msg=name)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["text.elman", "text.txt"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_the_best_model_at_once_and_the_console_is_ours(number: int, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(SHORT)
    script = f"""
import sys
from elman.text import TextGenerator
print("torch" in sys.modules, flush=True)
generator = TextGenerator(**{SMALL}).fit("text.txt", minutes=1, output="text.elman")
print(generator.info["training"]["stopped"], flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "False\n"
    until = time.monotonic() + 60
    while not (tmp_path / "text.elman").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(number)
    begun = time.monotonic()
    assert process.stdout.readline() == "interrupted\n"
    assert time.monotonic() - begun < 1.5
    assert process.wait(20) == 0
    assert load(tmp_path / "text.elman").info["training"]["stopped"] == "interrupted"
    assert (tmp_path / "text.elman.resume").exists()
    lines = process.stderr.read().splitlines()
    process.stdout.close()
    process.stderr.close()
    expected = ["Reading text.txt", "20,000 characters", "Training lstm", "  0%  loss", "Interrupted after"]
    assert [line[: len(start)] for line, start in zip(lines, expected, strict=True)] == expected


def test_the_bar_on_a_terminal_shows_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Report() as report:
        report.show(Snapshot(0.25, 1.5, 1.6, 20_000, 75))
        report.line("[a line] beside it")
        assert not report.due()
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "25%" in shown
    assert "loss 1.500  validation 1.600  20,000 chars/s  1:15 left" in shown
    assert "[a line] beside it" in shown


def test_nan_keeps_the_best_model_and_says_what_to_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from elman import text_fit

    original, calls = text_fit.mean_nats, iter(range(10_000))

    def poisoned(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return original(logits, targets) * (1.0 if next(calls) < 100 else float("nan"))

    monkeypatch.setattr(text_fit, "mean_nats", poisoned)
    generator = TextGenerator(**SMALL, learning_rate=0.002)
    with pytest.raises(ElmanError, match=r"lower learning rate: it was 0\.002"):
        generator.fit(SHORT, epochs=1, output=tmp_path / "x.elman", progress=False)
    assert load(tmp_path / "x.elman").info["training"]["stopped"] == "nan"
    assert len(generator.generate(length=10)) == 10


def test_fit_leaves_torch_random_numbers_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    TextGenerator(**SMALL, seed=1).fit(SHORT, epochs=0.1, progress=False)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "transformer"}, "unknown cell"),
        ({"hidden_size": -1}, "hidden_size must be at least 1"),
        ({"num_layers": 1.5}, "whole number"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"dropout": 2}, "dropout"),
        ({"averaging": 1}, "averaging"),
    ],
)
def test_bad_sizes_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ElmanError, match=message):
        TextGenerator(**arguments)


def test_bad_calls_of_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = TextGenerator(**SMALL)
    for arguments, message in [
        ({"minutes": 1, "epochs": 1}, "not both"),
        ({"minutes": 0}, "minutes must be above 0"),
        ({"epochs": 1, "resume": True}, "resume needs the output"),
        ({"epochs": 1, "output": tmp_path / "no" / "x.elman"}, "no directory"),
        ({"epochs": 1, "output": tmp_path / "x.elman", "resume": True}, "nothing to resume"),
        ({"epochs": 1, "log": "wandb"}, "unknown log"),
    ]:
        with pytest.raises(ElmanError, match=message):
            generator.fit(SHORT, progress=False, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ElmanError, match="too short"):
        generator.fit("a\n", progress=False)
    with pytest.raises(FileNotFoundError):
        generator.fit(tmp_path / "missing.txt", progress=False)
    for use in (generator.generate, lambda: generator.info, lambda: generator.save(tmp_path / "x.elman")):
        with pytest.raises(ElmanError, match="no model yet"):
            use()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ElmanError, match=r"elman\[train\]"):
        generator.fit(SHORT, progress=False)


def test_sizes_grow_with_text_and_budget() -> None:
    by_text = [
        sensible_sizes(n, 65, minutes=20).hidden_size for n in (10_000, 100_000, 1_000_000, 10_000_000)
    ]
    by_time = [sensible_sizes(1_000_000, 65, minutes=minutes).hidden_size for minutes in (0.2, 1, 3, 10)]
    assert by_text == sorted(by_text)
    assert by_time == sorted(by_time)
    assert by_text[0] < by_text[-1]
    little, much = (sensible_sizes(n, 65, minutes=3).dropout for n in (50_000, 5_000_000))
    assert little > much
    assert sensible_sizes(1_000, 30, epochs=1).batch_size >= 1
    assert sensible_sizes(1_000_000, 65).override(hidden_size=7, dropout=None).hidden_size == 7


def test_corpus_tells_texts_apart() -> None:
    text = TextFile.from_string(SHORT)
    corpus = Corpus.read(text)
    assert corpus.identity() == Corpus.read(text).identity()
    assert corpus.identity() != Corpus.read(TextFile.from_string(SHORT[:-1] + "é")).identity()
    assert isinstance(corpus.codec, Characters)
    assert len(corpus.codes) == len(SHORT)
