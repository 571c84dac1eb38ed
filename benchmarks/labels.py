"""How good a classifier of texts is, how fast it trains and classifies.

    python benchmarks/labels.py quality FILE --group COLUMN [--minutes 10] [--unlabelled FILE] [--ngrams] [--output OUT]
    python benchmarks/labels.py speed MODEL FILE
    python benchmarks/labels.py training FILE [--keras PYTHON] [--rounds 3]

FILE holds texts and labels, in the columns text and label. quality: a tenth of the groups is held out, so that no text
of a film, say, that was trained on is judged; elman has its defaults, and the baselines are those of `elman evaluate`.
speed: words a second without PyTorch, and the time from the command to a first answer. training: the model of the usual
tutorial, Embedding(10,000, 100) → LSTM(128) → sigmoid over the first 100 words, batches of 64, Adam, in reviews a
second, beside Keras in a process of its own, by turns.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import elman

VOCABULARY, WORDS, EMBEDDING, UNITS, BATCH = 10_000, 100, 100, 128, 64

KERAS = f"""
import os, sys, time
os.environ["KERAS_BACKEND"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = "tensorflow", "3"
import keras, numpy as np
with np.load(sys.argv[1]) as data:
    x, y = data["x"], data["y"]
first, middle = keras.layers.Embedding({VOCABULARY}, {EMBEDDING}), keras.layers.LSTM({UNITS})
model = keras.Sequential([first, middle, keras.layers.Dense(1, activation="sigmoid")])
model.compile("adam", "binary_crossentropy")
model.fit(x[:640], y[:640], batch_size={BATCH}, verbose=0)
begun = time.perf_counter()
model.fit(x, y, batch_size={BATCH}, verbose=0)
print(len(x) / (time.perf_counter() - begun))
"""


def read(file: str, group: str) -> list[dict[str, Any]]:
    from elman.labelled import read_labelled, read_texts

    data, groups = read_labelled(file), read_texts(file, group)
    if len(data.texts) != len(groups.texts):
        sys.exit(f"every row of {file} needs a text and a {group}")
    rows = zip(data.texts, data.labels, groups.texts, strict=True)
    return [{"text": text, "label": label, "group": name} for text, label, name in rows]


def is_held(group: str) -> bool:
    return int(hashlib.md5(group.encode(), usedforsecurity=False).hexdigest(), 16) % 10 == 0


def quality(args: argparse.Namespace) -> None:
    rows = read(args.file, args.group)
    train, test = ([row for row in rows if is_held(row["group"]) == held] for held in (False, True))
    begun = time.perf_counter()
    model = elman.TextClassifier(ngrams=args.ngrams).fit(
        [row["text"] for row in train], [row["label"] for row in train], unlabelled=args.unlabelled,
        minutes=args.minutes, output=args.output,
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    found = model.evaluate([row["text"] for row in test], [row["label"] for row in test])
    print(
        f"{len(train):,} texts trained, {len(test):,} held out by {args.group}; {seconds / 60:.1f} minutes in all"
    )
    for name, figures in found.table.items():
        print(f"{name:28}", *(f"{key} {value:.4f}" for key, value in figures.items()))


def speed(args: argparse.Namespace) -> None:
    from elman.cleaning import clean
    from elman.labelled import read_labelled

    texts = list(read_labelled(args.file).texts[:10_000])
    model = elman.load(args.model)
    words = sum(len(codes) for codes in model._words.encode_all(list(map(clean, texts))))
    model.predict(texts[:200])
    rates = []
    for _ in range(5):
        model = elman.load(args.model)  # nothing remembered from the last time
        begun = time.perf_counter()
        model.predict(texts)
        rates.append(words / (time.perf_counter() - begun))
    rate = statistics.median(rates)
    print(
        f"{rate:,.0f} words a second, {rate / 230:,.0f} reviews of 230 words ({min(rates) / 230:,.0f} to",
        end=" ",
    )
    print(f"{max(rates) / 230:,.0f}), PyTorch {'loaded' if 'torch' in sys.modules else 'not loaded'}")
    command = [
        sys.executable,
        "-m",
        "elman",
        "classify",
        args.model,
        "I expected nothing and was still let down.",
    ]
    times = []
    for _ in range(7):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - begun)
    print(f"first answer after {statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f})")


def first_words(file: str) -> tuple[Any, Any]:
    """Codes (N, 100), padded before the text as Keras does, and labels (N,)."""
    from elman.cleaning import clean
    from elman.labelled import read_labelled

    data = read_labelled(file)
    texts = list(map(clean, data.texts))
    codec = elman.Words.fit(texts, VOCABULARY, "words")
    x = np.zeros((len(texts), WORDS), np.int32)
    for row, codes in zip(x, codec.encode_all(texts), strict=True):
        some = codes[:WORDS]
        row[WORDS - len(some) :] = some
    return x, np.array(data.labels, np.float32)


def train_elman(x: Any, y: Any) -> float:
    import torch

    torch.manual_seed(0)
    embedding, lstm = torch.nn.Embedding(VOCABULARY, EMBEDDING), elman.LSTM(EMBEDDING, UNITS)
    head = torch.nn.Linear(UNITS, 1)
    parameters = [*embedding.parameters(), *lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, fused=True)
    codes, labels = torch.from_numpy(x).T.contiguous(), torch.from_numpy(y)

    def epoch(rows: Any) -> None:
        for some in rows.split(BATCH):
            logit = head(lstm.forward_tokens(codes[:, some], embedding.weight)[1][0][-1])[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    epoch(torch.arange(640))
    begun = time.perf_counter()
    epoch(torch.randperm(len(x)))
    return len(x) / (time.perf_counter() - begun)


def training(args: argparse.Namespace) -> None:
    x, y = first_words(args.file)
    rates: dict[str, list[float]] = {"elman": [], "Keras": []}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "data.npz"), x=x, y=y)
        for _ in range(args.rounds):
            rates["elman"].append(train_elman(x, y))
            command = [args.keras, "-c", KERAS, str(Path(folder, "data.npz"))]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rates["Keras"].append(float(found.split()[-1]))
    for name, some in rates.items():
        print(
            f"{name:6} {statistics.median(some):7,.0f} reviews a second ({min(some):,.0f} to {max(some):,.0f})"
        )
    pairs = [a / b for a, b in zip(rates["elman"], rates["Keras"], strict=True)]
    print(f"ratio {statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})")
    print(json.dumps(rates))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(required=True)
    one = kinds.add_parser("quality")
    one.add_argument("file")
    one.add_argument("--group", required=True)
    one.add_argument("--minutes", type=float, default=10.0)
    one.add_argument("--unlabelled")
    one.add_argument("--ngrams", action="store_true")
    one.add_argument("--output")
    one.set_defaults(run=quality)
    two = kinds.add_parser("speed")
    two.add_argument("model")
    two.add_argument("file")
    two.set_defaults(run=speed)
    three = kinds.add_parser("training")
    three.add_argument("file")
    three.add_argument("--keras", default=sys.executable)
    three.add_argument("--rounds", type=int, default=3)
    three.set_defaults(run=training)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
