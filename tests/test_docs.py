"""The documentation is true: quotes are the source, its code runs, its arithmetic is right, its figures are there.

Figures are not made again here, which takes two minutes; what makes them is called on small things.
"""

import importlib
import inspect
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import elman
from elman import reference
from elman.data import ElmanError

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGE = (DOCS / "how-it-works.md").read_text(encoding="utf-8")
NOTEBOOK = DOCS / "how-it-works.ipynb"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]

sys.path.append(str(DOCS))
draw, make, measure = (importlib.import_module(name) for name in ("draw", "make", "measure"))


# Quotes


def test_quotes_are_the_source():
    quotes = dict(make.QUOTE.findall(PAGE))
    assert {"reference.rnn_cell", "reference.gru_cell", "reference.lstm_cell"} <= set(quotes)
    for name, text in quotes.items():
        module, function = name.split(".")
        assert text == inspect.getsource(getattr(importlib.import_module(f"elman.{module}"), function)), (
            f"{name} has changed: python docs/make.py quotes"
        )


def test_every_marker_is_understood():
    """A marker that is spelled wrongly would be left alone in silence."""
    assert len(re.findall(r"<!-- quote", PAGE)) == len(make.QUOTE.findall(PAGE))
    assert len(re.findall(r"<!-- figure", PAGE)) == len(make.FIGURE.findall(PAGE))
    assert len(re.findall(r"<!-- by hand", PAGE)) == len(by_hand())


def test_quotes_are_refreshed_and_the_rest_is_left():
    stale = PAGE.replace("    return f(x + u)\n", "    return f(x - u)\n")
    assert stale != PAGE
    assert make.with_quotes(stale) == PAGE


@pytest.mark.parametrize("name", ["reference.gru", "no_such_file.gru_cell", "gru_cell"])
def test_a_quote_of_nothing_is_refused(name):
    with pytest.raises(ElmanError, match=r"the page quotes .*, but src/elman/.* has no such function"):
        make.with_quotes(f"<!-- quote: {name} -->\n```python\n```\n")


# Code and arithmetic


@pytest.fixture(scope="module")
def page_names():
    """What the page's code leaves, run from top to bottom as a reader would. Quotes are no code to run."""
    names: dict = {}
    torch.manual_seed(0)
    for text in re.findall(r"```python\n(.*?)```\n", make.QUOTE.sub("", PAGE), re.DOTALL):
        exec(compile(text, "how-it-works.md", "exec"), names)
    return names


def by_hand() -> dict[str, dict[str, float]]:
    """Each block of arithmetic on the page, evaluated: name → value, exact. What each line says of it is checked.

    A line is a name, an expression of earlier names, perhaps the same in rounded numbers, and the result.
    """
    found = {}
    for block, text in re.findall(r"<!-- by hand: (\S+) -->\n```text\n(.*?)```\n", PAGE, re.DOTALL):
        known: dict = {"tanh": math.tanh, "ln": math.log, "sigmoid": lambda a: 1 / (1 + math.exp(-a))}
        values = {}
        for line in filter(None, text.splitlines()):
            name, expression, *rounded, result = line.split(" = ")
            known[name] = values[name] = eval(expression, known)
            assert f"{values[name]:.4f}" == result, line
            for steps in rounded:
                assert eval(steps, known) == pytest.approx(values[name], abs=2e-4), line
        found[block] = values
    return found


def test_one_unit_by_hand_is_what_autograd_finds():
    values = by_hand()["rnn"]
    rnn = elman.RNN(1, 1, bias=False)
    with torch.no_grad():
        rnn.weight_ih_l0.fill_(1.0)
        rnn.weight_hh_l0.fill_(0.8)
    x = torch.tensor([[1.0], [0.0], [0.0]])
    y, _ = rnn(x)
    assert [values["h1"], values["h2"], values["h3"]] == pytest.approx(y[:, 0].tolist(), abs=1e-6)
    (d_w,) = torch.autograd.grad(y[-1].sum(), rnn.weight_hh_l0)
    assert values["dw"] == pytest.approx(d_w.item(), abs=1e-6)
    h1 = torch.tensor([[values["h1"]]], requires_grad=True)
    h2 = reference.rnn_cell("rnn_tanh", torch.zeros(1, 1), 0.8 * h1)
    h3 = reference.rnn_cell("rnn_tanh", torch.zeros(1, 1), 0.8 * h2)
    (d_1,) = torch.autograd.grad(h3, h1)
    assert values["d1"] == pytest.approx(d_1.item(), abs=1e-6)
    assert f"Two steps back, {values['d1']:.0%}".replace("%", " %") in PAGE


def test_the_lstm_by_hand_is_elmans(page_names):
    values, trace = by_hand()["lstm"], page_names["trace"]
    shown = {"i": "input_gate", "f": "forget_gate", "g": "candidate", "o": "output_gate"}
    for letter, name in shown.items():
        mine = [values[f"{letter}1"], values[f"{letter}2"]]
        assert mine == pytest.approx(trace[f"{name}_l0"].flatten().tolist(), abs=1e-6)
    for state in "hc":
        mine = [values[f"{state}1_new"], values[f"{state}2_new"]]
        assert mine == pytest.approx(page_names[f"{state}_new"].flatten().tolist(), abs=1e-6)
    c = page_names["c"].clone().requires_grad_()
    new = reference.lstm_cell(
        page_names["x"] @ page_names["w_ih"].T + page_names["b"], page_names["h"] @ page_names["w_hh"].T, c
    )[1]
    (d_c,) = torch.autograd.grad(new.sum(), c)  # the carousel: the derivative is the forget gate
    assert d_c.flatten().tolist() == pytest.approx([values["f1"], values["f2"]], abs=1e-6)


def test_the_gru_by_hand_is_elmans(page_names):
    values, trace = by_hand()["gru"], page_names["gru_trace"]
    for letter, name in {"r": "reset_gate", "z": "update_gate", "n": "candidate"}.items():
        mine = [values[f"{letter}1"], values[f"{letter}2"]]
        assert mine == pytest.approx(trace[f"{name}_l0"].flatten().tolist(), abs=1e-6)
    mine = [values["h1_new"], values["h2_new"]]
    assert mine == pytest.approx(page_names["gru_h"].flatten().tolist(), abs=1e-6)


def test_comments_beside_the_code_say_what_it_gives(page_names):
    for gate, values in re.findall(r'^(\w*trace\["\w+"\]) +# ([\d., ]+)$', PAGE, re.MULTILINE):
        result = eval(gate, page_names).flatten().tolist()
        assert [float(v) for v in values.split(",")] == pytest.approx(result, abs=5e-5)


def test_the_table_of_biases():
    rows = re.findall(r"^\| (\d) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for bias, gate, half_life in rows:
        f = 1 / (1 + math.exp(-float(bias)))
        assert (f"{f:.3f}", f"{math.log(2) / -math.log(f):.1f}") == (gate, half_life)


@pytest.mark.parametrize(("nonlinearity", "slope"), [("tanh", 1.0), ("sigmoid", 0.25)])
def test_the_bound_on_gradients_holds(nonlinearity, slope):
    """‖∂h[t] / ∂h[k]‖ ≤ (γ ‖W‖)^(t-k), with the γ that the page gives."""
    torch.manual_seed(0)
    rnn = elman.RNN(2, 6, nonlinearity=nonlinearity, dtype=torch.float64)
    x, h = torch.randn(5, 2, dtype=torch.float64), torch.randn(1, 6, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda h: rnn(x, h)[1][0], h)[:, 0]
    largest = torch.linalg.matrix_norm(rnn.weight_hh_l0, 2)
    assert torch.linalg.matrix_norm(jacobian, 2) <= (slope * largest) ** 5


# Links and figures


def anchors(page: str) -> set[str]:
    """Of its headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page.name} links to {link}"


def test_each_figure_is_on_the_page_and_can_be_made():
    placed = make.FIGURE.findall(PAGE)
    assert sorted(name for name, _ in placed) == sorted(make.FIGURES)
    for name, block in placed:
        assert block.startswith(f"![{make.FIGURES[name].alt}](figures/{name}.svg)\n\n*"), name
        assert block == make.figure_block(name, block.split("\n\n*")[1].removesuffix("*\n"))
        assert callable(make.FIGURES[name].make)
    make.check_names(PAGE, ["quotes", *make.FIGURES])


def test_figures_are_there_and_small():
    files = sorted(path.name for path in (DOCS / "figures").iterdir())
    assert files == sorted(f"{name}.svg" for name in make.FIGURES)
    for name in make.FIGURES:
        text = (DOCS / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert len(text.encode()) < 100_000, name
        assert "<dc:date>" not in text, name
        assert "Matplotlib v" not in text, name


def test_a_figure_replaces_its_own_block_alone():
    changed = make.with_figure(PAGE, "memory", "What was measured.")
    before, after = dict(make.FIGURE.findall(PAGE)), dict(make.FIGURE.findall(changed))
    assert after.pop("memory") == make.figure_block("memory", "What was measured.")
    assert before.pop("memory") != after
    assert before == after


def test_the_command_refuses_a_figure_it_does_not_know():
    command = [sys.executable, str(DOCS / "make.py"), "no_such_figure"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("make docs: there is no figure 'no_such_figure': choose from quotes, ")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "change", [("figure: memory", "figure: memories"), ("<!-- figure: memory -->\n", "")]
)
def test_the_command_refuses_a_page_that_names_others(change):
    with pytest.raises(
        ElmanError, match=r"figure 'memor.*' (has no place on the page|is on the page, but not)"
    ):
        make.check_names(PAGE.replace(*change), [])


def curves(*names: str, count: int = 8) -> dict[str, np.ndarray]:
    return {name: np.linspace(1, 0.5, count) for name in names}


DRAWINGS = {
    "reach": lambda path: draw.reach(
        path, curves("RNN, radius 0.9", "GRU", count=99), curves("RNN", count=99)
    ),
    "truncation": lambda path: draw.truncation(path, [1, 2, 4], curves("RNN", "GRU", count=3)),
    "forgetting": lambda path: draw.forgetting(path, (np.eye(4), np.eye(4)), (np.ones(4), np.arange(1.0, 5))),
    "gates": lambda path: draw.gates(
        path, "O!\nO", {"gate": np.eye(4)}, {"first": np.arange(4.0), "second": np.ones(4)}
    ),
    "context": lambda path: draw.context(path, [1, 2, 3], curves("LSTM", count=3), 0.7),
    "memory": lambda path: draw.memory(
        path, [5, 10], curves("RNN, orthogonal", "LSTM, chrono", count=2), 0.1
    ),
}


@pytest.mark.parametrize("name", make.FIGURES)
def test_drawings_show_what_they_are_given_and_repeat(tmp_path, name):
    for file in ("first.svg", "second.svg"):
        DRAWINGS[name](tmp_path / file)
    first, second = ((tmp_path / file).read_bytes() for file in ("first.svg", "second.svg"))
    assert first == second
    assert ElementTree.fromstring(first).tag == "{http://www.w3.org/2000/svg}svg"


# What is measured


def test_a_constant_gate_has_the_half_life_of_the_formula():
    forget = np.full((500, 3), [0.5, 0.9, 0.99])
    assert measure.half_lives(forget) == pytest.approx(math.log(2) / -np.log([0.5, 0.9, 0.99]))


def test_a_gate_that_empties_the_cell_now_and_then():
    """Every tenth step is 0, the others 1: of ten places, five have lost all after five steps."""
    forget = np.ones((1000, 1))
    forget[::10] = 1e-30
    assert measure.half_lives(forget)[0] == pytest.approx(5, abs=0.1)


def test_reach_is_the_norm_by_steps_back():
    gradients = torch.zeros(3, 2, 4)
    gradients[2, :, 0], gradients[0, 0, :2] = 1.0, torch.tensor([3.0, 4.0])
    assert measure.reach(gradients).tolist() == [1.0, 0.0, 2.5]


def test_a_gradient_that_is_not_cut_is_whole():
    torch.manual_seed(0)
    model = elman.Model(elman.ModelConfig(5, "lstm", 6, embedding_size=3))
    rows = torch.randint(5, (13, 4))
    whole = measure._cut_gradient(model, rows, 12)
    logits, _ = model(rows[:-1])
    loss = torch.nn.functional.cross_entropy(logits, rows[1:].flatten(), reduction="sum")
    (expected,) = torch.autograd.grad(loss, model.layers.weight_hh_l0)
    torch.testing.assert_close(whole, expected.flatten())
    assert not torch.allclose(measure._cut_gradient(model, rows, 3), whole, rtol=0.01)


def test_the_memory_task_asks_for_what_was_marked():
    x, answer = measure.memory_batch(7, torch.Generator().manual_seed(0))
    assert x.shape == (8, measure.BATCH, measure.SYMBOLS + 1)
    assert torch.equal(x[..., -1], torch.eye(8)[0][:, None].expand(8, measure.BATCH))
    assert torch.equal(x[0, :, :-1].argmax(1), answer)


def test_crossing_finds_where_values_stay_below():
    assert measure.crossing((1, 2, 4, 8), np.array([3.0, 1.0, 2.0, 1.0]), 1.5) == 8
    assert measure.crossing((1, 2, 4, 8), np.array([3.0, 1.0, 1.0, 1.0]), 1.5) == 2


# The notebook

RUNNER = """
import json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    cells = json.load(file)["cells"]
names = {"__name__": "__main__"}
for number, cell in enumerate(cells):
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), f"<cell {number}>", "exec"), names)
"""


def test_the_notebook_is_one_without_outputs():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    identifiers = [cell["id"] for cell in notebook["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    for cell in notebook["cells"]:
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | code
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_the_notebook_runs_and_learns():
    """Its code cells in order, in one namespace: no more is asked of Jupyter here, whose fifty packages are not."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, "-W", "error", "-c", RUNNER, str(NOTEBOOK)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    right = {name: int(share) for name, share in re.findall(r"^(.+): (\d+)% right", run.stdout, re.MULTILINE)}
    assert right["LSTM, chrono"] > 60  # chance is 12.5
    assert right["RNN"] < 30
    assert re.search(r"^f +0\.7109 +0\.8754$", run.stdout, re.MULTILINE)
