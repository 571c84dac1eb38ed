"""The command `explain`: flags → a report."""

from pathlib import Path
from typing import Annotated

import typer

from elman import cli_options as common
from elman import console
from elman.data import ElmanError


def explain(
    model: common.ModelArgument,
    given: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A text, a text file, or a table of series, as the model takes; - for standard input.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also write the report as a page, .html.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the page where there is one.")] = False,
    series: Annotated[
        str | None, typer.Option(help="Series: the id of the one to explain. Default: the first.")
    ] = None,
    replace_unknown: Annotated[
        bool,
        typer.Option("--replace-unknown", help="Text: read characters the model has never seen as unknown."),
    ] = False,
    json: common.Json = False,
) -> None:
    """See how a model works on an input: what its units follow, how far it remembers, whether it is in order, what
    moved its prediction.

    Example: elman explain book.elman "JULIET: O Romeo, Romeo!" -o report.html

    Example: elman explain sales.elman sales.csv --series north -o report.html
    """
    from elman.jobs import load

    loaded = load(model)
    job = loaded.info["job"]
    _check_output(output, force, model, given)
    if series is not None and job != "series":
        raise ElmanError(f"--series names a series of a table, and {model.name} is a model of {job}.")
    if replace_unknown and job != "text":
        raise ElmanError(f"--replace-unknown is for models of text, and {model.name} is one of {job}.")
    inputs = given if job == "series" else _text(given)
    console.news(f"Reading {model.name} on {_named(inputs)}")
    from elman.explanation import explain as explained

    report = explained(loaded, inputs, series=series, replace_unknown=replace_unknown)
    if output is not None:
        report.save(output, force=force)
        console.news(f"{output} written")
    if json:
        console.as_json(report.figures())
    else:
        report.show()


def _check_output(output: Path | None, force: bool, model: Path, given: str) -> None:
    """Before the work: raises ElmanError for a page that could not be written after it."""
    from elman.report_page import check_page

    if output is None:
        return
    check_page(output, force)
    if any(console.same_file(output, other) for other in (model, given)):
        raise ElmanError(f"-o would overwrite {output}: give another name.")


def _text(given: str) -> str:
    """The text itself, or what is in a file of that name."""
    from elman.cli_table import is_source
    from elman.data import open_text

    if not is_source(given):
        return given
    return "".join(open_text(Path(given) if given != "-" else given).chunks())


def _named(inputs: str) -> str:
    short = " ".join(inputs[:41].split())
    return short if len(inputs) <= 40 else f"{short[:40]} …"
