"""The commands of the job that labels texts: flags → calls."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from elman import cli_options as common
from elman import console
from elman.data import ElmanError

if TYPE_CHECKING:
    from elman.classify import TextClassifier
    from elman.trajectory import Trajectory

Html = Annotated[
    Path | None, typer.Option(help="Also write the running scores as a page, .html.", show_default=False)
]
_SHOWN = 100  # texts on a page
_SENTENCES = (
    "A slow start and a plot full of holes, and yet I have not laughed so much in years.",
    "The cast is wonderful and the camera work superb: what a pity that nobody wrote them a story.",
)


def train_labels(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="CSV, TSV, JSONL or Parquet; a folder of .txt files per class; - for CSV."
        ),
    ],
    output: common.Output = None,
    text: Annotated[str, typer.Option(help="Column of texts.")] = "text",
    label: Annotated[str, typer.Option(help="Column of labels.")] = "label",
    separator: Annotated[
        str | None, typer.Option(help="Texts have several labels, with this between them, as | is.")
    ] = None,
    unlabelled: Annotated[
        str | None, typer.Option(metavar="FILE", help="More texts, to learn the language from.")
    ] = None,
    minutes: common.Minutes = None,
    epochs: Annotated[float | None, typer.Option(help="Train for so many passes over all texts.")] = None,
    cell: Annotated[str, typer.Option(help="lstm, gru or rnn.")] = "lstm",
    hidden_size: Annotated[
        int | None, typer.Option(help="Units in a layer. Default: 96, or 256 with --unlabelled.")
    ] = None,
    layers: Annotated[int, typer.Option(help="Number of layers.")] = 1,
    embedding_size: Annotated[
        int | None,
        typer.Option(help="Numbers that stand for one word. Default: 128, or 256 with --unlabelled."),
    ] = None,
    one_way: Annotated[bool, typer.Option("--one-way", help="Read texts forwards only.")] = False,
    pooling: Annotated[str, typer.Option(help="attention, mean, max or last.")] = "attention",
    dropout: Annotated[float, typer.Option(help="Share of units silenced while training.")] = 0.5,
    vectors: Annotated[
        str | None, typer.Option(metavar="FILE", help="Pretrained word vectors to begin with.")
    ] = None,
    pretrain: Annotated[
        bool | None,
        typer.Option(help="Learn the language before the labels. Default: of half a million words or more."),
    ] = None,
    self_training: Annotated[
        bool | None,
        typer.Option(
            help="Learn from the unlabelled texts as a first classifier labels them too. Default: yes.",
            show_default=False,
        ),
    ] = None,
    words: Annotated[
        Literal["words", "bpe"] | None, typer.Option(help="Read words, or pieces of them. Default: by texts.")
    ] = None,
    vocabulary_size: Annotated[int, typer.Option(help="Words to know, at most.")] = 30_000,
    class_weight: Annotated[
        Literal["balanced"] | None, typer.Option(help="Make rare labels count as much as frequent ones.")
    ] = None,
    ngrams: Annotated[bool, typer.Option("--ngrams", help="Add a regression on pairs of words.")] = False,
    learning_rate: Annotated[float, typer.Option(help="Largest step size of the optimiser.")] = 2e-3,
    batch_size: Annotated[int, typer.Option(help="Texts between two updates.")] = 32,
    seed: common.Seed = 0,
    resume: common.Resume = False,
    log: common.Log = None,
    json: common.Json = False,
) -> None:
    """Train a classifier on labelled texts: columns text, label.

    A tenth of the texts chooses the best weights. Keeps the best model, even on Ctrl-C.

    Example: elman train labels reviews.csv -o reviews.elman --minutes 5
    """
    if file == unlabelled == "-":
        raise ElmanError("standard input can be read only once: give FILE or --unlabelled another name.")
    output = common.beside(file, output, "table")
    for source in filter(None, (file, unlabelled)):
        common.check_not_input(source, output, "input")
    classifier = untrained(
        cell=cell, hidden_size=hidden_size, layers=layers, embedding_size=embedding_size, one_way=one_way,
        pooling=pooling, dropout=dropout, class_weight=class_weight, vectors=vectors, pretrain=pretrain,
        self_training=self_training, words=words,
        vocabulary_size=vocabulary_size, ngrams=ngrams, learning_rate=learning_rate, batch_size=batch_size, seed=seed,
    )  # fmt: skip
    common.budget(minutes, epochs)
    classifier.fit(
        file, unlabelled=unlabelled, text=text, label=label, separator=separator, minutes=minutes, epochs=epochs,
        output=output, resume=resume, log=log,
    )  # fmt: skip
    if json:
        console.as_json(classifier.info)
    else:
        columns = _columns(text=(text, "text"), label=(label, "label"), separator=(separator, None))
        model = shlex.quote(str(output))
        console.news(
            f'\nelman classify {model} "a text of your own"\nelman evaluate {model} {shlex.quote(file)}{columns}'
        )
    common.end_of(classifier.info["training"])


def untrained(one_way: bool = False, **options: Any) -> "TextClassifier":
    """The classifier that options of `train_labels` ask for. Values are checked when it is fitted."""
    from elman.classify import TextClassifier

    return TextClassifier(bidirectional=not one_way, **common.renamed(options))


def _columns(**options: tuple[str | None, str | None]) -> str:
    """The options of a command line that differ from their defaults."""
    given = {name: value for name, (value, default) in options.items() if value not in (None, default)}
    return "".join(f" --{name} {shlex.quote(str(value))}" for name, value in given.items())


def classify(
    model: common.ModelArgument,
    given: Annotated[
        str,
        typer.Argument(
            metavar="TEXT_OR_FILE", help="A text; or a table, .txt file or folder of texts; - for CSV."
        ),
    ],
    text: Annotated[str | None, typer.Option(help="Column of texts in a table. Default: text.")] = None,
    html: Html = None,
    json: common.Json = False,
) -> None:
    """Say which label a text has, or label a file of texts, as CSV. Needs no PyTorch.

    Of a single text, it is shown how sure that is after each word.

    Example: elman classify reviews.elman "Not bad at all, though I had my doubts."

    Example: elman classify reviews.elman new.csv > labelled.csv
    """
    from elman.cleaning import clean
    from elman.cli_table import is_source, read_sheet, write_predictions
    from elman.jobs import load_labels

    classifier, name = load_labels(model), model.name
    _check_page(html, model, given)
    if is_source(given):
        if json:
            raise ElmanError("--json is for a single text; the texts of a file are labelled as CSV.")
        sheet = read_sheet(given, text or "text")
        for note in sheet.notes:
            console.news(note)
        if html is not None:
            _write_page(html, classifier, sheet.texts, f"{name}: {given}")
        return write_predictions(classifier, sheet, sys.stdout)
    if text is not None:
        raise ElmanError(f"--text names a column of a table, and there is no file {given}.")
    if not clean(given):
        raise ElmanError("the text is empty: give a text, or the name of a file of texts.")
    found = classifier.trajectory(given)
    if html is not None:
        from elman.class_page import write_page

        write_page(html, [found], name)
    console.as_json(_figures(found)) if json else _show(found)


def _check_page(html: Path | None, *others: str | Path) -> None:
    """Raises ElmanError for a page that is not called one, so that no file of texts is overwritten by mistake."""
    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        raise ElmanError(f"--html writes a page: give a name that ends in .html, not {html}.")
    if html is not None and any(console.same_file(html, other) for other in others):
        raise ElmanError(f"--html would overwrite {html}: give another name.")


def _write_page(html: Path, classifier: "TextClassifier", texts: Sequence[str], title: str) -> None:
    from elman.class_page import write_page

    write_page(html, [classifier.trajectory(text) for text in texts[:_SHOWN]], title)
    if len(texts) > _SHOWN:
        console.news(f"{html} shows the first {_SHOWN} of {len(texts):,} texts.")


def _figures(found: "Trajectory") -> dict[str, object]:
    """What `classify --json` says of a text."""
    probabilities = {name: round(float(p), 6) for name, p in zip(found.classes, found.final, strict=True)}
    own = [probabilities[name] for name in found.label] if found.several else probabilities[found.label]
    return {
        "label": found.label,
        "probability": own,
        "probabilities": probabilities,
        "words": found.to_rows(),
    }


def _show(found: "Trajectory") -> None:
    """The label and the running score, as wide as the terminal."""
    from elman.trajectory import render

    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(render(found, shutil.get_terminal_size().columns, color))


def evaluate(
    classifier: "TextClassifier", file: str, text: str, label: str, separator: str | None, json: bool
) -> None:
    """What `elman evaluate` does with a model that labels texts."""
    found = classifier.evaluate(file, text=text, label=label, separator=separator)
    if json:
        return console.as_json(found.to_dict())
    from elman.cli_report import show_evaluation

    show_evaluation(found)


def demo_sentiment(
    minutes: common.DemoMinutes = 2.0,
    output: common.DemoOutput = Path("sentiment.elman"),
    seed: common.Seed = 0,
    json: common.Json = False,
) -> None:
    """Learn from reviews of films which of them praise, then judge reviews that the model never saw.

    Example: elman demo sentiment --minutes 2
    """
    from elman.checkpoint import check_writable
    from elman.classify import TextClassifier
    from elman.demo import reviews, write_reviews

    common.budget(minutes, None)
    check_writable(output)
    training, test = reviews()
    table = output.with_suffix(".csv")
    common.check_demo(output, table, lambda path: write_reviews(path, test))
    classifier = TextClassifier(seed=seed)
    classifier.fit(*zip(*training, strict=True), minutes=minutes, output=output)
    write_reviews(table, test)
    evaluate(classifier, str(table), "text", "label", None, json)
    if not json:
        for sentence in _SENTENCES:
            print(f"\n{sentence}")
            _show(classifier.trajectory(sentence))
        console.news(
            f'\nGo on with:\nelman classify {output} "a text of your own"\nelman evaluate {output} {table}\n'
            f"elman classify {output} {table} --html sentiment.html > predicted.csv"
        )
    common.end_of(classifier.info["training"])
