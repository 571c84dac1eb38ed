"""The classification job: learn, predict, explain, evaluate, save; and what scikit-learn asks of an estimator."""

import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import elman
from elman import class_corpus, class_course, class_data, class_fit, teaching
from elman.class_baseline import TF_IDF, Baselines
from elman.class_config import ClassConfig
from elman.class_corpus import Corpus, class_weights
from elman.class_data import Coded
from elman.class_fit import ClassMeasure, ClassRun
from elman.class_measures import fit_scales
from elman.class_model import ClassModel
from elman.class_network import ClassNetwork
from elman.classify import TextClassifier
from elman.data import ElmanError
from elman.labelled import from_lists
from elman.progress import Report
from elman.schedule import Settings
from elman.training import Result

pytestmark = pytest.mark.usefixtures("one_thread")

GOOD, BAD = ("good", "lovely", "splendid"), ("bad", "awful", "boring")
FILLER = ("the film", "was", "a story", "with", "much", "of it", "and then", "some", "people", "said")
SMALL = {
    "hidden_size": 16,
    "embedding_size": 16,
    "word_dropout": 0.0,
    "embedding_dropout": 0.0,
    "learning_rate": 1e-2,
}


def opinions(count, seed=0):
    """Texts that praise and blame, far apart: what was said last counts. Words and pairs of words tell nothing."""
    rng = np.random.default_rng(seed)

    def some():
        return " ".join(rng.choice(FILLER, rng.integers(3, 8)))

    texts, labels = [], []
    for i in range(count):
        first, last = (rng.choice(GOOD), rng.choice(BAD))[:: 1 if i % 2 else -1]
        texts.append(f"{some()} {first} {some()} {last} {some()}")
        labels.append("blame" if i % 2 else "praise")
    return texts, labels


def coloured(count, *colours):
    """Texts of which one word tells the class."""
    rng = np.random.default_rng(1)
    return [f"{colours[i % len(colours)]} film {' '.join(rng.choice(FILLER, 4))}" for i in range(count)]


@pytest.fixture(scope="module")
def trained():
    return TextClassifier(**SMALL).fit(*opinions(600), epochs=12, progress=False)


def test_it_learns_what_bags_of_words_cannot(trained):
    texts, labels = opinions(300, seed=1)
    table = trained.evaluate(texts, labels).table
    assert table["elman"]["accuracy"] > 0.95
    assert trained.score(texts, labels) == table["elman"]["accuracy"]
    assert all(figures["accuracy"] < 0.65 for name, figures in table.items() if name != "elman")
    assert set(table) == {"elman", "TF-IDF + logistic regression", "averaged embeddings", "majority"}
    assert table["elman"]["calibration_error"] < 0.05


def test_predictions_fit_together(trained):
    texts, _ = opinions(20, seed=2)
    p = trained.predict_proba(texts)
    assert trained.classes_.tolist() == ["blame", "praise"]
    np.testing.assert_allclose(p.sum(1), 1)
    assert trained.predict(texts).tolist() == trained.classes_[p.argmax(1)].tolist()
    np.testing.assert_allclose(trained.predict_proba(np.array(texts, object)), p)
    np.testing.assert_allclose(trained.predict_proba(texts[:1]), p[:1], atol=1e-6)


def test_markup_and_case_do_not_matter(trained):
    plain, marked = "the film was good", "<p>The  film&nbsp;was <b>good</b></p>\n"
    np.testing.assert_allclose(trained.predict_proba([plain]), trained.predict_proba([marked]))


def test_trajectory_ends_at_the_prediction_and_turns_at_the_last_word(trained):
    text = "the film was awful and then people said it was lovely"
    path = trained.trajectory(text)
    np.testing.assert_allclose(path.final, trained.predict_proba([text])[0], atol=1e-6)
    assert path.label == "praise"
    assert path.read.tolist() == list(range(12))
    middle = path.text.index("and then")
    before = [point for (start, _), point in zip(path.pieces, range(1, 12), strict=True) if start < middle][
        -1
    ]
    np.testing.assert_allclose(
        path.probabilities[before], trained.predict_proba([text[:middle]])[0], atol=1e-6
    )
    assert path.probabilities[before, 0] > 0.5 > path.final[0]
    assert path.moves(1)[0].text == "lovely"


def test_trajectory_of_a_long_text_has_some_points(trained):
    path = trained.trajectory("good film " * 40_000)
    assert 16 <= len(path.read) < 100
    assert path.read[-1] == 80_000


def test_trajectory_of_nothing(trained):
    path = trained.trajectory(" <br> ")
    np.testing.assert_allclose(path.final, trained.predict_proba([""])[0], atol=1e-6)


def test_a_text_of_a_million_words_is_read_whole(trained):
    filler = "the film was a story " * 200_000
    praise, blame = trained.predict_proba([f"{filler} lovely", f"{filler} awful"])
    assert praise[1] > blame[1] + 0.5


def test_saved_and_loaded(trained, tmp_path):
    texts, _ = opinions(20, seed=3)
    trained.save(tmp_path / "a.elman")
    again = elman.load(tmp_path / "a.elman")
    assert isinstance(again, TextClassifier)
    np.testing.assert_array_equal(again.predict_proba(texts), trained.predict_proba(texts))
    assert again.info["training"]["texts"] == 600
    assert again.info["labels"] == ["blame", "praise"]
    json.dumps(again.info)
    code = (
        "import sys\nfor name in ('torch', 'sklearn', 'scipy', 'pandas'): sys.modules[name] = None\n"
        f"import elman; model = elman.load({str(tmp_path / 'a.elman')!r})\n"
        "print(model.predict(['the film was good'])[0], model.evaluate(['good', 'bad'], ['praise', 'blame']).texts)\n"
        "model.trajectory('good')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == "praise 2\n"


def test_evaluation_names_mistakes_and_what_was_seen(trained):
    texts, labels = opinions(50, seed=4)
    seen, _ = opinions(600)
    wrong = ["praise" if label == "blame" else "blame" for label in labels[:3]]
    found = trained.evaluate([*texts, *seen[:7]], [*wrong, *labels[3:], *opinions(600)[1][:7]])
    assert found.seen == 7
    assert found.texts == 57
    assert {mistake.text for mistake in found.mistakes} >= set(texts[:3])
    assert all(mistake.label != mistake.predicted for mistake in found.mistakes)
    assert [m.probability for m in found.mistakes] == sorted(
        (m.probability for m in found.mistakes), reverse=True
    )
    assert found.confusion.sum() == 57
    json.dumps(found.to_dict())


def test_one_label_a_text_may_stand_in_a_list(trained):
    texts, labels = opinions(20, seed=4)
    listed = trained.evaluate(texts, [(label,) for label in labels])
    assert listed.table == trained.evaluate(texts, labels).table
    assert listed.confusion.shape == (2, 2)


def test_the_same_seed_trains_the_same():
    texts, labels = opinions(100)
    p, q, r = (
        TextClassifier(**SMALL, seed=seed).fit(texts, labels, epochs=1, progress=False).predict_proba(texts)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(p, q)
    assert abs(p - r).max() > 1e-3


def test_several_labels(tmp_path):
    rng = np.random.default_rng(0)
    words = np.array(["red", "green", "blue"])
    there = rng.random((400, 3)) < 0.4
    texts = [" ".join(rng.permutation([*words[row], *rng.choice(FILLER, 4)])) for row in there]
    labels = [tuple(words[row]) for row in there]
    model = TextClassifier(**SMALL).fit(texts, labels, epochs=15, progress=False)
    assert model.score(texts, labels) > 0.95
    assert model.predict(["red and then blue", "the film was"]) == [("blue", "red"), ()]
    found = model.evaluate(texts, labels)
    assert found.confusion.shape == (3, 2, 2)
    assert found.table["elman"]["accuracy"] > 0.95
    assert found.table["majority"]["accuracy"] < 0.5
    model.save(tmp_path / "m.elman")
    assert elman.load(tmp_path / "m.elman").predict(["green"]) == [("green",)]
    assert model.trajectory("red and blue").label == ("blue", "red")


def test_numbers_truth_values_and_three_classes_keep_their_type():
    texts = coloured(60, "red", "green", "blue")
    numbers = TextClassifier(**SMALL).fit(texts, [3, 1, 2] * 20, epochs=25, progress=False)
    assert numbers.predict(["a blue film", "red"]).tolist() == [2, 3]
    truths = TextClassifier(**SMALL).fit(
        coloured(40, "red", "green"), [True, False] * 20, epochs=25, progress=False
    )
    assert truths.predict(["green film"]).tolist() == [False]
    assert truths.classes_.dtype == bool


def test_class_weights():
    targets = np.array([0] * 90 + [1] * 10)
    np.testing.assert_allclose(class_weights("balanced", targets, ["a", "b"], False), [100 / 180, 5])
    np.testing.assert_allclose(class_weights({"b": 3}, targets, ["a", "b"], False), [1, 3])
    several = np.array([[True, False]] * 9 + [[False, True]])
    np.testing.assert_allclose(class_weights("balanced", several, ["a", "b"], True), [1 / 9, 9])
    for wrong in ({"c": 1}, {"a": 0}, {"a": np.nan}, "even"):
        with pytest.raises(ElmanError, match=r"class_weight"):
            class_weights(wrong, targets, ["a", "b"], False)


def test_a_label_that_all_texts_have_weighs_as_much_as_none():
    several = np.array([[True, True]] * 3 + [[True, False]])
    np.testing.assert_allclose(class_weights("balanced", several, ["a", "b"], True), [1, 1 / 3])


def test_balanced_weights_find_the_rare_class():
    rng = np.random.default_rng(0)
    rare = rng.random(500) < 0.08
    texts = [f"{'odd' if r ^ (rng.random() < 0.25) else 'even'} {rng.choice(FILLER)}" for r in rare]
    labels = np.where(rare, "rare", "usual").tolist()
    share = []
    for weight in (None, "balanced"):
        model = TextClassifier(**SMALL, class_weight=weight).fit(texts, labels, epochs=6, progress=False)
        share.append((model.predict(["odd film"] * 1)[0] == "rare", model.predict_proba(["odd film"])[0, 0]))
    assert share[0][1] < share[1][1]
    assert [bool(found) for found, _ in share] == [False, True]


def read(texts, labels, unlabelled=()):
    return Corpus.read(from_lists(texts, labels), unlabelled, "words", 100, None, 0)


def test_texts_alike_but_for_case_are_on_one_side(monkeypatch):
    parts = []
    monkeypatch.setattr(class_corpus, "split", lambda *given: parts.extend(class_data.split(*given)) or parts)
    read([f"{text} {i}" for i in range(30) for text in ("The film", "the FILM")], [0, 0, 1, 1] * 15)
    assert sorted(parts[1]) == sorted({i for row in parts[1] for i in (row, row ^ 1)})
    assert len(parts[1]) == 8


def test_texts_that_measure_are_not_among_the_unlabelled_ones(capsys):
    texts, labels = coloured(40, "red", "green"), [0, 1] * 20
    corpus = TextClassifier(words="words").training_data(
        texts, labels, Report(), unlabelled=[*map(str.upper, texts), "one more"]
    )
    assert len(corpus.held) == 4
    assert len(corpus.unlabelled) == 37
    assert capsys.readouterr().err.endswith(
        "\n4 unlabelled texts left out, being among those held back to measure.\n"
    )


class Rules:
    """Baselines that say nothing."""

    def logits(self, codes):
        return {TF_IDF: np.zeros((len(codes), 2))}


@pytest.mark.parametrize("several", [False, True])
def test_a_teacher_of_weighted_classes_labels_as_if_they_were_not(monkeypatch, several):
    """What the pupil's loss makes of its labels, with the weights, is what the teacher thought."""
    said = np.array([[1.0, -0.5], [0.2, 0.3]])
    monkeypatch.setattr(teaching, "fit_scales", lambda *_: (1.0, 0.0))
    own = Coded((np.array([2]),), np.array([[True, False]]) if several else np.array([0]))
    weights, texts = np.array([4.0, 0.5]), (np.array([2]), np.array([3]))
    corpus = Corpus(None, ("a", "b"), several, own, own, texts, weights, Rules(), None)
    labels = teaching.taught(corpus, lambda codes: said, said).training.classes[1:]
    pupil = torch.tensor(said, requires_grad=True)
    loss = class_fit.loss_of(ClassConfig(9, 2, several), 0.0, weights)
    loss(pupil, torch.from_numpy(labels).double()).backward()
    np.testing.assert_allclose(pupil.grad, 0, atol=1e-6)


def test_language_first(tmp_path, capsys):
    """What was learned without labels is where learning labels begins, and its file is gone in the end."""
    texts, labels = opinions(60)
    more, _ = opinions(300, seed=5)
    output = tmp_path / "l.elman"
    model = TextClassifier(**SMALL).fit(texts, labels, unlabelled=more, epochs=2, output=output)
    heard = capsys.readouterr().err
    assert (
        heard.index("Learning the language first")
        < heard.index("nats per word")
        < heard.index("nats per text")
    )
    assert [path.name for path in tmp_path.iterdir()] == ["l.elman"]
    assert model.info["training"]["unlabelled_texts"] == 300


def test_a_run_that_was_killed_between_language_and_labels_goes_on_with_the_labels(
    tmp_path, monkeypatch, capsys
):
    texts, labels = opinions(60)
    output = tmp_path / "l.elman"
    how = {"epochs": 2, "output": output}
    whole = TextClassifier(**SMALL, pretrain=True).fit(texts, labels, **how).predict_proba(texts)
    original = class_course.carry_out

    def until_labels(run, *others):
        if isinstance(run, ClassRun):
            raise KeyboardInterrupt
        original(run, *others)

    output.unlink()
    monkeypatch.setattr(class_course, "carry_out", until_labels)
    with pytest.raises(KeyboardInterrupt):
        TextClassifier(**SMALL, pretrain=True).fit(texts, labels, **how)
    assert [path.name for path in tmp_path.iterdir()] == ["l.elman.language"]
    with pytest.raises(ElmanError, match=r"no labels yet: go on with elman train labels and --resume"):
        elman.load(tmp_path / "l.elman.language")
    monkeypatch.setattr(class_course, "carry_out", original)
    capsys.readouterr()
    again = TextClassifier(**SMALL, pretrain=True).fit(texts, labels, **how, resume=True)
    heard = capsys.readouterr().err
    assert "The language is known already" in heard
    assert "nats per word" not in heard
    np.testing.assert_array_equal(again.predict_proba(texts), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["l.elman"]
    with pytest.raises(ElmanError, match=r"nothing to resume"):
        TextClassifier(**SMALL, pretrain=True).fit(texts, labels, **how, resume=True)


def test_a_second_classifier_learns_words_of_the_unlabelled_texts_from_the_first():
    chance = np.random.default_rng(0)
    asides = ("a film about", "one more of", "this is", "we saw", "it has")
    pairs = {"good": ("fine", "superb"), "bad": ("dull", "dire")}

    def texts(count, *which):
        labels = ["good", "bad"] * count
        return [
            f"{chance.choice(asides)} {' '.join(pairs[y][k] for k in which)} {i}"
            for i, y in enumerate(labels)
        ], labels

    labelled, labels = texts(60, 0)
    more, _ = texts(150, 0, 1)
    unseen, truth = texts(40, 1)
    how = {"pretrain": False, "learning_rate": 1e-2, "hidden_size": 16, "embedding_size": 16}
    first, second = (
        TextClassifier(**how, self_training=taught).fit(
            labelled, labels, unlabelled=more, epochs=4, progress=False
        )
        for taught in (False, True)
    )
    assert second.score(unseen, truth) > 0.9 > 0.75 > first.score(unseen, truth)


def test_a_run_that_was_killed_after_its_teacher_goes_on_with_the_labels(tmp_path, monkeypatch, capsys):
    texts, labels = opinions(60)
    output = tmp_path / "l.elman"
    how = {"epochs": 2, "output": output, "unlabelled": opinions(40)[0]}
    whole = TextClassifier(**SMALL, pretrain=False).fit(texts, labels, **how).predict_proba(texts)
    original, runs = class_course.carry_out, []

    def until_second(run, *others):
        runs.append(run)
        if len(runs) == 2:
            raise KeyboardInterrupt
        original(run, *others)

    output.unlink()
    monkeypatch.setattr(class_course, "carry_out", until_second)
    with pytest.raises(KeyboardInterrupt):
        TextClassifier(**SMALL, pretrain=False).fit(texts, labels, **how)
    assert {path.name for path in tmp_path.iterdir()} == {"l.elman", "l.elman.teacher"}
    monkeypatch.setattr(class_course, "carry_out", original)
    capsys.readouterr()
    again = TextClassifier(**SMALL, pretrain=False).fit(texts, labels, **how, resume=True)
    assert "The teacher is known already" in capsys.readouterr().err
    np.testing.assert_array_equal(again.predict_proba(texts), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["l.elman"]


def test_ngrams_help_where_words_tell_all(monkeypatch):
    texts, labels = coloured(200, "red", "green"), [0, 1] * 100
    plain, beside = (
        TextClassifier(**SMALL, ngrams=ngrams).fit(texts, labels, epochs=0.2, progress=False)
        for ngrams in (False, True)
    )
    assert beside.evaluate(texts, labels).table["elman"]["log_loss"] < 0.1
    assert plain.evaluate(texts, labels).table["elman"]["log_loss"] > 0.2
    logits, times = Baselines.logits, []
    monkeypatch.setattr(Baselines, "logits", lambda *given: times.append(1) or logits(*given))
    assert beside.evaluate(texts, labels).table["elman"]["accuracy"] == beside.score(texts, labels)
    assert len(times) == 2  # once for each of the two


def some_texts(*lengths):
    rng = np.random.default_rng(0)
    return tuple(rng.integers(2, 9, n).astype(np.int32) for n in lengths)


def some_model(seed, **sizes):
    model = ClassModel(ClassConfig(9, 2, hidden_size=3, embedding_size=4, **sizes)).eval()
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1, generator=rng)
    return model


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_model_is_calibrated_by_its_own_logits(after):
    """However often other weights were measured since, and where that was broken off."""
    kept, other = some_model(0), some_model(1)
    codes = some_texts(*[5, 1, 30, 2] * 25)
    tensors = {name: tensor.numpy() for name, tensor in kept.state_dict().items()}
    logits = ClassNetwork(asdict(kept.config), tensors)(codes)
    classes = logits.argmax(1) ^ (np.arange(100) % 5 == 0)
    part = Coded(codes, classes)
    run = ClassRun(
        part, part, kept.config, 8, 0.0, None, None, Settings(1e-3, None, 1.0), 0, {}, {}, {}, {}, None
    )
    with torch.inference_mode():
        loss = sum(loss for loss, _ in run._measure(kept, 90)) / 90
        for _ in range(after):
            list(run._measure(other, 90))
        next(run._measure(other, None))
    file = run.model_file(Result(tensors, "interrupted", loss, 90, 0.0, 1, 1, 1, 1.0, []))
    expected = fit_scales([logits[:90]], classes[:90], False)
    assert 0.1 < expected[0] < 10
    np.testing.assert_allclose(file.tensors["scales"], expected, rtol=1e-3)


@pytest.mark.parametrize("cell", ["lstm", "feedforward"])
def test_measuring_is_by_so_many_words_and_long_texts_are_read_in_parts(monkeypatch, cell):
    """The same losses, whatever lies beside a text; and no more words at once than fit, but of one text alone."""
    part = Coded(some_texts(*[1] * 50, 90, 400, 30, 31), np.arange(54) % 2)
    model, sizes = some_model(0, cell=cell), []

    def losses():
        with torch.inference_mode():
            return sum(loss for loss, _ in ClassMeasure(part, False)(model, None))

    whole, forward = losses(), model.forward
    monkeypatch.setattr(model, "forward", lambda x: sizes.append(x[1:].numel()) or forward(x))
    for module in (class_data, class_fit):
        monkeypatch.setattr(module, "AT_ONCE", 64)
    assert losses() == pytest.approx(whole, abs=1e-4)
    assert sizes == [50, 62] + [90, 400] * (cell == "feedforward")


def test_vectors(tmp_path):
    vectors = tmp_path / "v.txt"
    vectors.write_text("red 1 0 0.5\ngreen -1 0 0.5\nfilm 0 1 0\n")
    texts, labels = coloured(100, "red", "green"), [0, 1] * 50
    model = TextClassifier(hidden_size=8, vectors=vectors, learning_rate=1e-6).fit(
        texts, labels, epochs=1, progress=False
    )
    assert model.info["embedding_size"] == 3
    codes = model._words.encode("red green film")
    np.testing.assert_allclose(
        model._file.tensors["embedding.weight"][codes], [[1, 0, 0.5], [-1, 0, 0.5], [0, 1, 0]], atol=1e-3
    )
    with pytest.raises(ElmanError, match=r"the vectors have 3 numbers: embedding_size must be that, not 5"):
        TextClassifier(embedding_size=5, vectors=vectors).fit(texts, labels, epochs=1, progress=False)


def test_frames_and_files_and_folders(tmp_path):
    import pandas
    import polars

    texts, labels = opinions(40)
    small = TextClassifier(**SMALL)
    frame = pandas.DataFrame({"review": texts, "mood": labels})
    frame.to_csv(tmp_path / "t.csv", index=False)
    for folder in set(labels):
        (tmp_path / "t" / folder).mkdir(parents=True)
    for i, (text, label) in enumerate(zip(texts, labels, strict=True)):
        (tmp_path / "t" / label / f"{i}.txt").write_text(text)
    how = {"text": "review", "label": "mood", "epochs": 1, "progress": False}
    for source in (frame, polars.from_pandas(frame), tmp_path / "t.csv", tmp_path / "t"):
        assert clone(small).fit(source, **how).classes_.tolist() == ["blame", "praise"]


# scikit-learn's protocol


def test_parameters():
    model = TextClassifier(cell="gru", dropout=0.2)
    assert model.get_params()["cell"] == "gru"
    again = clone(model)
    assert again is not model
    assert again.get_params() == model.get_params()
    assert model.set_params(hidden_size=7).hidden_size == 7
    with pytest.raises(ElmanError, match=r"TextClassifier has no parameter 'units'"):
        model.set_params(units=3)
    assert is_classifier(model)


def test_cross_validation_and_pipelines():
    texts, labels = coloured(80, "red", "green"), [0, 1] * 40
    scores = cross_val_score(
        TextClassifier(**SMALL), texts, labels, cv=2, params={"progress": False, "epochs": 25}
    )
    assert scores.tolist() == [1, 1]
    piped = make_pipeline(
        FunctionTransformer(lambda some: [text.upper() for text in some]), TextClassifier(**SMALL)
    )
    piped.fit(texts, labels, textclassifier__epochs=25, textclassifier__progress=False)
    assert piped.score(texts, labels) == 1


# Bad input


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["a b", "a c"], ["x", "x"], r"only one class, 'x'"),
        (["a b", "a c", "b c"], ["x", "x", "y"], r"'y' has only one text"),
        (["a", "b"], ["x"], r"2 texts and 1 label"),
        (["a", 3, "b", "c"], [0, 0, 1, 1], r"row 1: 3 is an int, not text"),
        (["a", "b", "c", "d"], ["x", "x", 1, 1], r"mixed type"),
        (["a", "b", "c", "d"], [0.5, 0.5, 1.0, 1.0], r"is a measure, no class"),
        (["a", "b", "c", "d"], [0, float("nan"), 1, 1], r"row 1 has no label"),
        (["", " ", "", ""], [0, 0, 1, 1], r"all texts are empty"),
        (["a", "a", "b", "b"], [0, 0, 1, 1], r"each is the only one of a class, however"),
    ],
)
def test_data_that_cannot_be_used(texts, labels, message):
    with pytest.raises(ElmanError, match=message):
        TextClassifier().fit(texts, labels, epochs=1, progress=False)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"cell": "cnn"}, r"unknown cell"),
        ({"label_smoothing": 1}, r"label_smoothing must be"),
        ({"vocabulary_size": 3}, r"size must be at least"),
        ({"words": "letters"}, r"no kind of words 'letters'"),
        ({"learning_rate": 0}, r"learning_rate must be above 0"),
        ({"class_weight": {"z": 1}}, r"class_weight has 'z', which is no class"),
    ],
)
def test_parameters_that_make_no_sense(option, message):
    with pytest.raises(ElmanError, match=message):
        TextClassifier(**option).fit(*opinions(20), epochs=1, progress=False)


def test_unfitted_and_unseen(trained):
    with pytest.raises(ElmanError, match=r"there is no model yet: call fit first"):
        TextClassifier().predict(["a"])
    with pytest.raises(ElmanError, match=r"the label 'meh' is none of the model's classes"):
        trained.evaluate(["a"], ["meh"])
    with pytest.raises(ElmanError, match=r"^row 1 has 2 labels, and the model gives each text one: leave"):
        trained.evaluate(["good", "bad"], [("praise",), ("blame", "praise")])
    with pytest.raises(ElmanError, match=r"^row 1 has 0 labels"):
        trained.evaluate(["good", "bad"], [["praise"], []])
    with pytest.raises(ElmanError, match=r"a list of labels, not of lists"):
        trained.score(["good", "bad"], [("praise",), ("blame",)])
    with pytest.raises(ElmanError, match=r"row 0 is 3, not text"):
        trained.predict([3])
    with pytest.raises(ElmanError, match=r"texts must be a list"):
        trained.predict("a text")
    with pytest.raises(ElmanError, match=r"trajectory takes one text, not list"):
        trained.trajectory(["a"])
