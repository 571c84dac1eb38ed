"""Explaining models of all jobs and modules of others: what the report says is what the model does."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import elman
from elman import attribution, series_network, subject
from elman.data import ElmanError
from elman.explanation import explain
from elman.module_subject import ModuleSubject
from elman.report import Report

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "the cat sat on the mat. the dog (a big one) ran to the cat!\n" * 60
GOOD = "a wonderful film , i loved every minute of it and the actors are great"
BAD = "a dull film , i hated every minute of it and the actors are not good"


@pytest.fixture(scope="module")
def generator() -> elman.TextGenerator:
    return elman.TextGenerator("lstm", 32, 2, 8, learning_rate=1e-2, batch_size=8, chunk_length=32).fit(
        TEXT, epochs=30, progress=False
    )


@pytest.fixture(scope="module")
def classifier() -> elman.TextClassifier:
    texts = [f"{text} {k}" for k in range(60) for text in (GOOD, BAD)]
    labels = ["good", "bad"] * 60
    made = elman.TextClassifier(hidden_size=16, embedding_size=16, pretrain=False, learning_rate=1e-2)
    return made.fit(texts, labels, epochs=6, progress=False)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    days = pd.date_range("2023-01-01", periods=500, freq="D")
    rng = np.random.default_rng(0)
    weekly = 10 + 3 * (days.day_of_week >= 5) + rng.normal(0, 0.3, len(days))
    return pd.DataFrame(
        {"unique_id": ["a"] * 500 + ["b"] * 500, "ds": [*days, *days], "y": [*weekly, *(weekly * 2)]}
    )


@pytest.fixture(scope="module")
def forecaster(table: pd.DataFrame) -> elman.Forecaster:
    return elman.Forecaster(horizon=7, hidden_size=24, ensemble=2).fit(table, epochs=3, progress=False)


# The three jobs


def test_a_text_model(generator: elman.TextGenerator) -> None:
    text = TEXT[:600]
    report = explain(generator, text)
    assert report.kind == "text"
    assert report.steps == tuple(text)
    assert [layer.name for layer in report.layers] == ["layer 1", "layer 2"]
    assert set(report.layers[0].values) == {
        "hidden", "cell", "input_gate", "forget_gate", "candidate", "output_gate"
    }  # fmt: skip
    assert report.layers[0].values["cell"].shape == (600, 32)
    assert report.losses is not None
    assert math.isnan(report.losses[-1])
    expected = generator.evaluate(text)["nats_per_char"]
    assert np.nanmean(report.losses) == pytest.approx(expected, abs=0.01)
    best = [one[0][0] for one in report.guesses]
    right = np.mean([a == b for a, b in zip(best[:-1], text[1:], strict=True)])
    assert right > 0.7
    assert all(sum(p for _, p in one) <= 1 + 1e-5 for one in report.guesses)
    assert any(one.feature == "inside brackets" and abs(one.correlation) > 0.6 for one in report.tracked)


def test_states_are_those_of_a_stream(generator: elman.TextGenerator) -> None:
    from elman.subjects import TextSubject

    made = TextSubject(generator, TEXT[:100])
    layers: Any = made.model.layers
    stream, embedding = layers.stream(), made.model.embedding.weight.detach().numpy()
    last = [stream.step(embedding[code]).copy() for code in made.codes.tolist()]
    assert made.trace()[-1].values["hidden"] == pytest.approx(np.stack(last), abs=1e-5)


def test_attribution_adds_up_and_points_at_what_matters(generator: elman.TextGenerator) -> None:
    found = explain(generator, TEXT[:58]).attribution  # "... ran to the cat"
    assert found is not None
    assert abs(found.gap) < 0.02 * abs(found.output - found.baseline) + 0.01
    assert found.values.sum() == pytest.approx(found.output - found.baseline, abs=abs(found.gap) + 1e-6)
    assert found.first == 0
    near = np.abs(found.values[-6:]).sum()
    assert near > np.abs(found.values[:20]).sum()


def test_attribution_is_of_as_many_steps_as_add_up() -> None:
    """On the way from zeros a network with large recurrent weights is chaotic: all steps' gradients add to nothing."""
    torch.manual_seed(0)
    layer = nn.RNN(4, 64)
    with torch.no_grad():
        layer.weight_hh_l0.normal_(0, 0.2)
    x = torch.randn(100, 1, 4) * 0.3
    y = layer(x)[0][-1, 0].detach()
    subject = ModuleSubject(layer, x)
    question = subject.question()
    assert question is not None
    of_all = attribution._of_last(subject, question, 100)
    assert abs(of_all.gap) > abs(of_all.output - of_all.baseline)
    report = explain(layer, x)
    found = report.attribution
    assert found is not None
    assert found.first == 100 - len(found.values) >= 50
    assert found.output == pytest.approx(float(y.max()), abs=1e-6)
    changed = x.clone()
    changed[found.first :] = 0
    with torch.no_grad():
        assert found.baseline == pytest.approx(float(layer(changed)[0][-1, 0, y.argmax()]), abs=1e-5)
    assert abs(found.gap) < 0.01 * np.abs(found.values).sum()
    assert any(f"of the last {len(found.values)} step" in note for note in report.notes)


def test_a_classifier(classifier: elman.TextClassifier) -> None:
    report = explain(classifier, BAD)
    assert report.kind == "labels"
    assert " ".join(report.steps) == BAD
    assert [layer.name for layer in report.layers] == ["layer 1", "layer 1, backwards"]
    assert report.guesses[-1][0] == (
        "bad", pytest.approx(float(classifier.predict_proba([BAD])[0, 0]), abs=1e-6)
    )  # fmt: skip
    assert report.attribution is not None
    assert report.attribution.prediction == "bad"
    p = float(classifier.predict_proba([BAD])[0, 0])
    assert report.attribution.output == pytest.approx(math.log(p / (1 - p)), abs=1e-3)
    assert report.memory.context[-1] > 0
    strongest = {report.steps[k] for k in np.argsort(-report.attribution.values)[:4]}
    assert strongest & {"dull", "hated", "not"}
    assert report.losses is None


def test_a_long_text_is_asked_about_as_a_whole(
    classifier: elman.TextClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    from elman import subjects

    text = f"{GOOD} " * 20 + f"{BAD} " * 4
    count, p = len(text.split()), float(classifier.predict_proba([text]).max())
    for words, asked in ((2_000, count), (50, 50)):
        monkeypatch.setattr(subjects, "_WORDS", words)
        subject = subjects.LabelsSubject(classifier, text)
        question = subject.question()
        assert (question.first, len(question.entered)) == (0, count)
        found = attribution.attribute(subject)
        assert found is not None
        assert found.asked == asked
        assert found.first == count - len(found.values) >= count - asked
        with torch.no_grad():
            answer = float(subject.answer(question.entered))
        assert answer == pytest.approx(math.log(p / (1 - p)), abs=1e-3)
        assert any("last 50 words" in note for note in subject.notes) == (asked == 50)


def test_a_forecaster_with_covariates_that_are_known_ahead(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    frame = table.assign(promo=rng.integers(0, 2, len(table)))
    frame["y"] += 4 * frame.promo
    model = elman.Forecaster(horizon=7, hidden_size=16, ensemble=1, future=["promo"]).fit(
        frame, epochs=3, progress=False
    )
    one = frame[frame.unique_id == "a"]
    known = one.copy()
    known.loc[known.index[-7:], "y"] = np.nan
    known.loc[known.index[-7:], "promo"] = [1, 0, 0, 1, 1, 0, 1]
    assert any("nearer to a simple rule" in note for note in explain(model, known).notes)
    monkeypatch.setattr(series_network, "_DOUBT", 0)
    report = explain(model, known)
    assert not any("nearer to a simple rule" in note for note in report.notes)
    (_, first), (_, mean) = report.guesses[-1]
    expected = model.predict(known)["median"]
    assert first == pytest.approx(float(expected.iloc[0]), rel=1e-4)
    assert mean == pytest.approx(float(expected.mean()), rel=1e-4)
    with pytest.raises(ElmanError, match="promo"):
        explain(model, one)


def test_a_forecaster(forecaster: elman.Forecaster, table: pd.DataFrame) -> None:
    report = explain(forecaster, table, series="b")
    assert report.kind == "series"
    assert len(report.steps) == report.layers[0].values["hidden"].shape[0]
    assert report.steps[-1] == str(table.ds.iloc[-7].date())
    assert any("first of the ensemble" in note for note in report.notes)
    (_, after_all), (_, mean) = report.guesses[-1]
    assert 15 < after_all < 30
    assert report.attribution is not None
    assert report.attribution.output == pytest.approx(mean, rel=1e-5)
    assert {one.feature for one in report.tracked}
    default = explain(forecaster, table)
    assert "Series a" in default.title


def test_a_file_is_explained_by_its_name(generator: elman.TextGenerator, tmp_path: Path) -> None:
    path = tmp_path / "model.elman"
    generator.save(path)
    assert explain(path, TEXT[:80]).layers[0].units == 32
    assert explain(str(path), TEXT[:80]).facts["cell"] == "lstm"


# Modules


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.lower = nn.LSTM(6, 10, batch_first=True, bidirectional=True)
        self.upper = elman.GRU(20, 12, batch_first=True)
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(12, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.upper(self.lower(self.embedding(x))[0])[0]))


def test_any_module_with_recurrent_layers() -> None:
    torch.manual_seed(0)
    model = Tagger().train()
    x = torch.randint(0, 7, (3, 50))
    report = explain(model, x, x)
    names = [layer.name for layer in report.layers]
    assert names == ["lower, layer 1", "lower, layer 1, backwards", "upper, layer 1"]
    model.eval()
    with torch.no_grad():
        lower, _ = model.lower(model.embedding(x[:1]))
        upper, _ = model.upper(lower)
    assert report.layers[0].values["hidden"] == pytest.approx(lower[0, :, :10].numpy(), abs=1e-5)
    assert report.layers[2].values["hidden"] == pytest.approx(upper[0].numpy(), abs=1e-5)
    assert report.losses is not None
    expected = nn.functional.cross_entropy(model.head(upper[0]), x[0], reduction="none")
    assert report.losses == pytest.approx(expected.detach().numpy(), abs=1e-5)


def test_the_module_is_left_as_it_was() -> None:
    model = Tagger().train()
    model.head.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    explain(model, torch.randint(0, 7, (1, 40)))
    assert [m.training for m in (model, model.lower, model.dropout, model.head)] == [True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not model.lower._forward_pre_hooks


def peephole(i: int, h: int) -> nn.Module:
    return elman.PeepholeLSTM(i, h)


@pytest.mark.parametrize("make", [nn.RNN, nn.GRU, nn.LSTM, elman.RNN, elman.LSTM, elman.MinGRU, peephole])
@pytest.mark.parametrize("batched", [True, False])
def test_a_bare_layer(make: Any, batched: bool) -> None:
    torch.manual_seed(0)
    layer = make(4, 9)
    x = torch.randn(60, 2, 4) if batched else torch.randn(60, 4)
    report = explain(layer, x)
    with torch.no_grad():
        y, _ = layer(x)
    assert report.layers[0].values["hidden"] == pytest.approx((y[:, 0] if batched else y).numpy(), abs=1e-5)
    assert report.memory.unit == "difference"
    assert report.attribution is not None


def test_targets_that_are_numbers_make_squared_errors() -> None:
    torch.manual_seed(0)
    layer = elman.RNN(2, 3)
    x, y = torch.randn(40, 2, 2), torch.randn(40, 2, 3)
    report = explain(layer, x, y)
    with torch.no_grad():
        expected = ((layer(x)[0] - y) ** 2).sum(-1)[:, 0] / 2
    assert report.losses == pytest.approx(expected.numpy(), abs=1e-5)
    assert report.guesses == ()


def test_the_package_has_it_more_than_once() -> None:
    """Its module has another name: the first import of one of the same name would take its place."""
    assert elman.explain is explain
    assert elman.explain is explain
    names = {name for name in elman.__all__ if not name.startswith("_")}
    assert not names & {path.stem for path in Path(elman.data.__file__).parent.glob("*.py")}


# What comes out


@pytest.fixture(scope="module")
def report(generator: elman.TextGenerator) -> Report:
    return explain(generator, TEXT[:300])


def test_the_frame_holds_the_facts(report: Report) -> None:
    frame = report.to_frame()
    assert list(frame.columns) == ["part", "layer", "name", "position", "value", "text"]
    assert set(frame.part) == {"memory", "health", "units", "steps", "attribution"}
    context = frame[(frame.part == "memory") & (frame.name == "context")]
    assert context.value.tolist() == pytest.approx(report.memory.context.tolist())
    assert context.position.tolist() == list(report.memory.steps_given)
    assert len(frame[frame.part == "health"]) == len(report.health)


def test_figures_are_json(report: Report) -> None:
    import json

    figures = json.loads(json.dumps(report.figures(), allow_nan=False))
    assert figures["steps"] == 300
    assert figures["memory"]["horizon"] == report.memory.horizon


def test_it_is_shown_on_a_terminal(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    report.show()
    shown = capsys.readouterr().out
    for part in ("What its units follow", "How far it remembers", "Health", "What moved the prediction"):
        assert part in shown
    assert report.tracked[0].feature in shown
    assert "\x1b" not in shown  # no colours where there is no terminal


def test_hostile_text_is_harmless_in_a_terminal(generator: elman.TextGenerator) -> None:
    from elman.report_terminal import render

    text = "the cat sat \x1b[31m on\x07 the mat. the \u202e dog ran to the cat!\n" * 3
    shown = render(explain(generator, text, replace_unknown=True), 80, color=False)
    assert not set("\x1b\x07\u202e") & set(shown)


def test_it_is_saved_once(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report.save(path)
    before = path.read_bytes()
    assert before.startswith(b"<!doctype html>")
    with pytest.raises(ElmanError, match="exists"):
        report.save(path)
    report.save(path, force=True)
    with pytest.raises(ElmanError, match=r"\.html"):
        report.save(tmp_path / "report.pdf")


# Bad input


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no text to explain"), ("x", "no text to explain"), ("the cat ☃ sat", "never seen '☃'")],
)
def test_texts_that_cannot_be_read(generator: elman.TextGenerator, text: str, message: str) -> None:
    with pytest.raises(ElmanError, match=message):
        explain(generator, text)


def test_unknown_characters_may_be_read_as_such(generator: elman.TextGenerator) -> None:
    assert explain(generator, "the cat ☃ sat on the mat", replace_unknown=True).steps[8] == "☃"


def test_bad_modules_and_inputs(classifier: elman.TextClassifier) -> None:
    x = torch.randn(20, 2, 4)
    for model, inputs, targets, message in (
        (nn.Linear(4, 4), x, None, "no recurrent layers"),
        (nn.LSTMCell(4, 4), x, None, "no recurrent layers"),
        (nn.LSTM(4, 4), torch.randn(0, 2, 4), None, "at least one step"),
        (nn.LSTM(4, 4), x.numpy(), None, "must be a tensor"),
        (nn.LSTM(5, 4), x, None, "does not take these inputs"),
        (nn.LSTM(4, 4), x, torch.zeros(19, 2, dtype=torch.long), "one for each step"),
        (classifier, "", None, "no words"),
        (classifier, ["a", "b"], None, "reads text"),
        (classifier, "a film", x, "targets are for torch modules"),
        ({}, x, None, "not dict"),
    ):
        with pytest.raises(ElmanError, match=message):
            explain(model, inputs, targets)


def test_weights_that_are_not_finite() -> None:
    layer = nn.GRU(3, 3)
    with torch.no_grad():
        layer.weight_hh_l0[0, 0] = math.nan
    with pytest.raises(ElmanError, match="not finite"):
        explain(layer, torch.randn(20, 1, 3))


def test_bad_tables(forecaster: elman.Forecaster, table: pd.DataFrame) -> None:
    with pytest.raises(ElmanError, match="no series c"):
        explain(forecaster, table, series="c")
    with pytest.raises(ElmanError, match="are needed to explain"):
        explain(forecaster, table.iloc[:14])


def test_an_input_beyond_the_memory_is_refused_with_what_would_fit(
    generator: elman.TextGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_free_memory", lambda: 2 * 100 * 4 * 2 * 32 * 6 * 3)
    with pytest.raises(ElmanError, match="about 100 characters would fit"):
        explain(generator, TEXT[:200])


def test_captum_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "captum" else find(name))
    with pytest.raises(ElmanError, match=r"elman\[explain\]"):
        explain(nn.GRU(3, 3), torch.randn(20, 1, 3))
