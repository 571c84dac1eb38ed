"""The commands of the text job: flags → calls."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from elman import cli_options as common
from elman import console
from elman.data import TextFile

if TYPE_CHECKING:
    from elman.text import TextGenerator


def train_text(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Text in UTF-8; - for standard input.")],
    output: common.Output = None,
    minutes: common.Minutes = None,
    epochs: Annotated[float | None, typer.Option(help="Train for so many passes over the text.")] = None,
    cell: Annotated[str, typer.Option(help="lstm, gru or rnn.")] = "lstm",
    hidden_size: Annotated[
        int | None, typer.Option(help="Units in a layer. Default: by text and budget.")
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Number of layers.")] = None,
    embedding_size: Annotated[int | None, typer.Option(help="Numbers that stand for one character.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Share of units silenced while training.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Largest step size of the optimiser.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Streams read side by side.")] = None,
    chunk_length: Annotated[int | None, typer.Option(help="Characters between two updates.")] = None,
    seed: common.Seed = 0,
    resume: common.Resume = False,
    log: common.Log = None,
    json: common.Json = False,
) -> None:
    """Train a character-level language model on a text file.

    Learns the first 90 % of the text; the last 10 % measures how well. Keeps the best model, even on Ctrl-C.

    Example: elman train text book.txt -o book.elman --minutes 3
    """
    output = common.beside(file, output, "text")
    generator = untrained(
        cell=cell, hidden_size=hidden_size, layers=layers, embedding_size=embedding_size, dropout=dropout,
        learning_rate=learning_rate, batch_size=batch_size, chunk_length=chunk_length, seed=seed,
    )  # fmt: skip
    ends = common.budget(minutes, epochs)
    text = TextFile(file)
    common.check_not_input(file, output, "text")
    _train(generator, text, output, json, **ends, resume=resume, log=log)


def untrained(**options: Any) -> "TextGenerator":
    """The generator that options of `train_text` ask for. Raises ElmanError for values that make no sense."""
    from elman.text import TextGenerator

    return TextGenerator(**common.renamed(options))


def generate(
    model: common.ModelArgument,
    prompt: Annotated[
        str, typer.Argument(metavar="[PROMPT]", help="The text to continue; - for standard input.")
    ] = "",
    length: Annotated[int, typer.Option("--length", "-n", help="Characters to write.")] = 500,
    temperature: Annotated[
        float, typer.Option("--temperature", "-t", help="Below 1 safer, above 1 bolder.")
    ] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Choose among the K likeliest characters.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Choose among the likeliest that reach P together.")
    ] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the likeliest character.")] = False,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text. May be repeated.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed writes the same text.")] = None,
    on_unknown: Annotated[
        Literal["error", "replace"],
        typer.Option(help="For characters of the prompt that the model never saw."),
    ] = "error",
    no_prompt: Annotated[bool, typer.Option("--no-prompt", help="Print the continuation only.")] = False,
) -> None:
    """Continue a prompt with text in the manner of what the model was trained on. Needs no PyTorch.

    Example: elman generate book.elman "ROMEO:" --length 500 --temperature 0.8 --seed 1
    """
    from elman.jobs import load_text

    if prompt == "-":
        prompt = "".join(TextFile("-").chunks())
    pieces = load_text(model).stream(
        prompt, length=length, temperature=temperature, top_k=top_k, top_p=top_p, greedy=greedy,
        stop=stop, seed=seed, on_unknown=on_unknown,
    )  # fmt: skip
    if not no_prompt:
        sys.stdout.write(prompt)
    console.stream(pieces)


def demo_text(
    minutes: common.DemoMinutes = 2.0,
    output: common.DemoOutput = Path("shakespeare.elman"),
    length: Annotated[int, typer.Option("--length", "-n", help="Characters to write.")] = 600,
    seed: Annotated[int, typer.Option(help="The same seed trains and writes the same way.")] = 0,
    json: common.Json = False,
) -> None:
    """Train on Shakespeare's plays, then write some more of them.

    Example: elman demo text --minutes 2
    """
    from elman.checkpoint import check_writable
    from elman.demo import plays
    from elman.text import TextGenerator

    generator, ends = TextGenerator(seed=seed), common.budget(minutes, None)
    check_writable(output)
    _train(generator, plays(), output, json, **ends)
    if not json:
        console.news(
            f'\nelman generate {output} "ROMEO:" --length {length} --temperature 0.8 --seed {seed}\n'
        )
        generate(output, "ROMEO:", length=length, seed=seed)


def evaluate(generator: "TextGenerator", name: str, file: str, json: bool) -> None:
    """What `elman evaluate` does with a model of text, called `name`."""
    text = TextFile(file)
    if not json:
        console.news(f"reading {text.name}: {console.size_of(text.size)}")
    figures = generator.evaluate(text)
    if json:
        return console.as_json(figures)
    console.losses(name, figures["nats_per_char"], figures["baselines"])
    console.rows({"characters": figures["characters"], "unknown": figures["unknown"] or None})


def _train(generator: "TextGenerator", text: TextFile, output: Path, json: bool, **how: Any) -> None:
    generator.fit(text, output=output, **how)
    figures = generator.info
    training = figures["training"]
    if json:
        console.as_json(figures)
    else:
        console.losses(output.name, training["validation_loss"], training["baselines"])
    common.end_of(training)
