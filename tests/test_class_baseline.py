import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression

from elman import class_baseline
from elman.class_baseline import AVERAGED, MAJORITY, TF_IDF, Averaged, Baselines, Part, Shape, TfIdf
from elman.class_measures import fit_temperature, measures, probabilities
from elman.data import ElmanError

V = 26  # 24 words: as many for each of 2, 3 or 4 classes


def texts_of(rng, labels, classes):
    """Texts of 0 to 25 codes, with words that are frequent in one class, unknown ones and padding."""
    own = np.arange(2, V).reshape(classes, -1)[labels]
    return [
        np.where(rng.random(n) < 0.4, rng.choice(words, n), rng.integers(0, V, n)).astype(np.int32)
        for words, n in zip(own, rng.integers(0, 26, len(labels)), strict=True)
    ]


def data(classes=2, n=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return texts_of(rng, labels, classes), labels


def ordered(n, seed):
    """Class 1 has the words 2 3 side by side, class 0 the words 3 2: only pairs tell them apart."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    pairs = np.where(labels[:, None] == 1, [2, 3], [3, 2])
    noise = rng.integers(4, V, (n, 2, 5))
    return list(np.hstack((noise[:, 0], pairs, noise[:, 1])).astype(np.int32)), labels


def fit(train, validation, classes=2, several=False, **options):
    return Baselines.fit(*train, *validation, V, classes, several, **options)


def accuracies(baselines, texts, truth, several=False):
    logits = baselines.logits(texts)
    return {
        name: measures(probabilities(z, several), truth, several)["accuracy"] for name, z in logits.items()
    }


@pytest.fixture(scope="module")
def fitted():
    return fit(data(), data(n=150, seed=1))


def as_text(codes, names=itertools.count()):  # noqa: B008 - a new name for each word that is no feature
    return " ".join(f"w{code}" if code > 1 else f"u{next(names)}" for code in codes.tolist())


def scikit_learn(train, test):
    """(values of the training texts, of others), by its own counter: words seen in one text alone are no features."""
    counter = CountVectorizer(ngram_range=(1, 2), min_df=2)
    tf_idf = TfidfTransformer(sublinear_tf=True)
    values = tf_idf.fit_transform(counter.fit_transform(map(as_text, train)))
    return values, tf_idf.transform(counter.transform(map(as_text, test)))


@pytest.mark.parametrize("classes", [2, 4])
def test_the_regression_is_that_of_scikit_learn(classes, monkeypatch):
    monkeypatch.setattr(class_baseline, "STRENGTHS", (7.0,))
    (texts, labels), (others, _) = data(classes), data(classes, seed=1)
    values, other_values = scikit_learn(texts, others)
    model = LogisticRegression(C=7.0, tol=1e-8, max_iter=5_000).fit(values, labels)
    shape = Shape(V, classes, False)
    tf_idf = TfIdf.fit(Part(texts, labels), Part(others, labels), shape)
    z, known = tf_idf.logits(others, shape)
    assert len(tf_idf.keys) == values.shape[1]
    assert known.tolist() == (other_values.getnnz(1) > 0).tolist()
    assert not known.all()
    assert probabilities(z, False) == pytest.approx(model.predict_proba(other_values), abs=2e-3)


def test_the_values_are_those_of_scikit_learn():
    (texts, _), (others, _) = data(3), data(3, seed=1)
    _, values = scikit_learn(texts, others)
    tf_idf, _ = class_baseline._features(texts, Shape(V, 3, False))
    rows, at, times = class_baseline._found(tf_idf.keys, *class_baseline._counted(others, V))
    found = np.zeros(values.shape)
    found[rows, at] = class_baseline._values(rows, tf_idf.idf[at], times, len(others))
    # The columns are in another order.
    assert np.sort(found, 1) == pytest.approx(np.sort(values.toarray(), 1), abs=1e-6)
    assert sorted(found.sum(0)) == pytest.approx(sorted(values.toarray().sum(0)), abs=1e-5)


def test_the_most_frequent_features_are_kept(monkeypatch):
    texts = [np.array(codes, np.int32) for codes in ([2, 3], [2, 3], [2, 4], [5, 2], [5, 6])]
    expected = {1: [2], 3: [2, 3, 5], 9: [2, 3, 5, 2 * V + 3]}
    for kept, keys in expected.items():
        monkeypatch.setattr(class_baseline, "FEATURES", kept)
        assert class_baseline._features(texts, Shape(V, 2, False))[0].keys.tolist() == keys
    monkeypatch.setattr(class_baseline, "COEFFICIENTS", 12)
    assert len(class_baseline._features(texts, Shape(V, 6, False))[0].keys) == 2


def test_pairs_matter():
    found = accuracies(fit(ordered(300, 0), ordered(150, 1)), *ordered(500, 2))
    assert found[TF_IDF] > 0.98
    assert found[AVERAGED] < 0.6


@pytest.mark.parametrize("classes", [2, 4])
def test_both_beat_the_majority(classes):
    found = accuracies(fit(data(classes), data(classes, 150, 1), classes), *data(classes, 600, 2))
    assert found[MAJORITY] < 1 / classes + 0.1
    assert min(found[TF_IDF], found[AVERAGED]) > 0.82 - 0.02 * classes


def test_several_labels():
    def of(n, seed):
        rng = np.random.default_rng(seed)
        texts = [rng.integers(0, V, rng.integers(0, 20)).astype(np.int32) for _ in range(n)]
        has = [[2 in text, False, 5 in text] for text in texts]
        return texts, np.array(has, bool)

    baselines = fit(of(600, 0), of(200, 1), 3, True)
    texts, truth = of(500, 2)
    found = accuracies(baselines, texts, truth, True)
    assert min(found[TF_IDF], found[AVERAGED]) > 0.9 > found[MAJORITY]
    never = [probabilities(z, True)[:, 1].max() for z in baselines.logits(texts).values()]
    assert max(never) < 0.1
    again = Baselines.from_tensors(baselines.to_tensors(), True)
    assert again.logits(texts)[TF_IDF].tolist() == baselines.logits(texts)[TF_IDF].tolist()


def test_the_majority_is_constant():
    texts, _ = data()
    labels = np.array([0] * 200 + [1] * 100)
    found = fit((texts, labels), (texts, labels), 3).logits(texts[:7])[MAJORITY]
    assert probabilities(found, False) == pytest.approx(np.tile(np.array([201, 101, 1]) / 303, (7, 1)))


def test_a_text_without_a_known_word_gets_the_class_frequencies(fitted):
    none = [np.zeros(0, np.int32), np.ones(3, np.int32), np.zeros(4, np.int32)]
    found = fitted.logits([*none, np.array([5, 6], np.int32)])
    for name in (TF_IDF, AVERAGED):
        assert found[name][:3].tolist() == found[MAJORITY][:3].tolist()
        assert (found[name][3] != found[MAJORITY][3]).any()
    assert all(z.shape == (0, 2) for z in fitted.logits([]).values())


def test_padding_and_unknown_words_do_not_count(fitted):
    texts = [np.array(codes, np.int32) for codes in ([7, 8, 9], [0, 7, 8, 9, 0, 0], [7, 8, 9, 1])]
    for z in fitted.logits(texts).values():
        assert z == pytest.approx(np.tile(z[0], (3, 1)))


def test_classes_that_only_training_lacks():
    texts, labels = data(4)
    some = labels < 3
    train = [text for text, kept in zip(texts, some, strict=True) if kept], labels[some]
    found = fit(train, (texts, labels), 4).logits(texts)
    p = probabilities(found[TF_IDF], False)
    assert np.isfinite(p).all()
    assert p[:, 3].mean() < p[:, :3].mean() / 3


def test_nothing_in_common():
    """Without any word in two texts there are no features, and a regression falls back to the frequencies."""
    texts = [np.array([code], np.int32) for code in range(2, 10)]
    labels = np.array([0, 1] * 4)
    baselines = fit((texts, labels), (texts, labels))
    found = baselines.logits(texts)
    assert found[TF_IDF].tolist() == found[MAJORITY].tolist()
    assert baselines.temperatures[0] == 1


def test_no_known_word_at_all():
    texts, labels = [np.ones(3, np.int32)] * 8, np.array([0, 1] * 4)
    for z in fit((texts, labels), (texts, labels)).logits(texts).values():
        assert probabilities(z, False) == pytest.approx(np.full((8, 2), 0.5))


def test_pieces_add_up(fitted, monkeypatch):
    texts, _ = data(n=100, seed=3)
    whole = fitted.logits(texts)
    monkeypatch.setattr(class_baseline, "_PIECE", 40)
    for name, z in fitted.logits(texts).items():
        assert z == pytest.approx(whole[name])


def test_evenly_spaced_texts_of_very_many(monkeypatch):
    texts, labels = data()
    monkeypatch.setattr(class_baseline, "LIMIT", sum(map(len, texts)) // 3)
    some = Part(texts[::4], labels[::4])
    held = data(n=150, seed=1)
    shape = Shape(V, 2, False)
    expected = TfIdf.fit(some, Part(*held), shape).logits(texts, shape)
    found = fit((texts, labels), held)
    assert found.tf_idf.logits(texts, shape)[0].tolist() == expected[0].tolist()


def test_temperatures_are_fitted_on_the_validation_part(fitted):
    texts, labels = data(n=150, seed=1)
    known = np.array([(text > 1).any() for text in texts])
    for name in (TF_IDF, AVERAGED):
        logits = fitted.logits(texts)[name]
        assert fit_temperature(logits[known], labels[known], False) == pytest.approx(1, abs=0.01)
    assert (fitted.temperatures != 1).all()


@pytest.mark.parametrize("several", [False, True])
def test_a_weight_favours_its_class(several):
    texts, labels = data(n=200)
    held, held_labels = data(n=100, seed=1)
    if several:
        labels, held_labels = np.eye(2, dtype=bool)[labels], np.eye(2, dtype=bool)[held_labels]
    plain, weighted = (
        fit((texts, labels), (held, held_labels), 2, several, class_weight=weight).logits(held)
        for weight in (None, np.array([1.0, 20.0]))
    )
    for name in (TF_IDF, AVERAGED):
        before, after = (probabilities(z[name], several)[:, 1].mean() for z in (plain, weighted))
        assert after > before + 0.02
    assert plain[MAJORITY].tolist() == weighted[MAJORITY].tolist()


def test_the_network_is_what_torch_computes(monkeypatch):
    monkeypatch.setattr(class_baseline, "WORD_DROPOUT", 0.0)
    rng = np.random.default_rng(0)
    network = Averaged.start(Shape(V, 3, False), rng)
    texts, _ = data(n=50)
    weights = [torch.from_numpy(weight) for weight in vars(network).values()]
    known = [text[text > 1] for text in texts]
    expected = class_baseline._averaged_logits(weights, known, rng).numpy()
    assert network.logits(texts)[0] == pytest.approx(expected, abs=1e-5)


def test_a_seed_gives_the_same_and_torchs_generator_stays(fitted):
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    again, other = fit(data(), data(n=150, seed=1)), fit(data(), data(n=150, seed=1), seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads
    for name, tensor in fitted.to_tensors().items():
        assert tensor.tolist() == again.to_tensors()[name].tolist()
    assert (other.averaged.embedding != fitted.averaged.embedding).any()


def test_through_tensors_and_back(fitted):
    tensors, (texts, _) = fitted.to_tensors(), data(n=50, seed=4)
    assert all(name.startswith("baseline.") for name in tensors)
    again = Baselines.from_tensors(tensors | {"head.bias": np.zeros(3)}, False)
    for name, z in fitted.logits(texts).items():
        assert again.logits(texts)[name].tolist() == z.tolist()
    assert Baselines.from_tensors({"head.bias": np.zeros(3)}, False) is None
    with pytest.raises(ElmanError, match=r"lacks baseline\.keys: it is damaged"):
        Baselines.from_tensors({k: v for k, v in tensors.items() if k != "baseline.keys"}, False)


def test_scoring_needs_numpy_alone(fitted, tmp_path):
    path = tmp_path / "tensors"
    save_file(fitted.to_tensors(), path)
    code = f"""
import sys
sys.modules |= dict.fromkeys(["torch", "sklearn", "scipy", "pandas"])
import numpy as np
from safetensors.numpy import load_file
from elman.class_baseline import Baselines
found = Baselines.from_tensors(load_file({str(path)!r}), False)
print(found.logits([np.array([5, 6, 7], np.int32)])[{AVERAGED!r}][0, 1])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = fitted.logits([np.array([5, 6, 7], np.int32)])[AVERAGED][0, 1]
    assert float(run.stdout) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("module", "name"),
    [("sklearn.linear_model", "scikit-learn"), ("scipy.optimize", "SciPy"), ("torch", "PyTorch")],
)
def test_a_missing_library_is_named(module, name, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ElmanError, match=rf"need {name}: pip install \"elman\[train\]\""):
        fit(data(n=20), data(n=20))
