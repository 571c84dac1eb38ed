"""A week of Seattle's weather → the highest temperature a week later: python forecast.py"""

from importlib.resources import files

import pandas
import torch

import elman

table = pandas.read_csv(files("vega_datasets") / "_data/seattle-weather.csv")
days = torch.tensor(table[["temp_max", "temp_min", "wind", "precipitation"]].to_numpy()).float()
split = len(days) * 3 // 4  # days before it are learned from, the others are forecast
mean, std = days[:split].mean(0), days[:split].std(0)
windows = ((days - mean) / std).unfold(0, 14, 1).mT  # windows, 14 days, 4 features
x, y, n = windows[:, :7], windows[:, -1, :1], split - 13  # the first n windows end before the split
rnn, head = elman.RNN(4, 64, nonlinearity="tanh", batch_first=True), torch.nn.Linear(64, 1)
optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()])
for _ in range(10):
    for rows in torch.randperm(n).split(32):
        loss = torch.nn.functional.mse_loss(head(rnn(x[rows])[1][-1]), y[rows])
        _ = optimizer.zero_grad(), loss.backward(), optimizer.step()
for name, guess in ("elman.RNN", head(rnn(x[n:])[1][-1])), ("same as today", x[n:, -1, :1]):
    print(f"{name}: off by {(guess - y[n:]).square().mean().sqrt() * std[0]:.2f} °C")
