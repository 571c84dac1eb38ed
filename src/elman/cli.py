"""The command `elman`: its commands, what dispatches by job, and how it ends. The rest is in one file per job.

Progress goes to stderr, results to stdout. Bad input ends with one line, `error: …`, and exit code 2; Ctrl-C with 130.
PyTorch is imported by training alone, and only after the first line is on the screen.
"""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import __version__, cli_experiments, cli_explain, cli_labels, cli_series, cli_text, console
from elman import cli_options as common
from elman.data import ElmanError

app = typer.Typer(add_completion=False, help="Recurrent networks, fast on any CPU.")
train = typer.Typer(help="Train a model on your own data.")
demo = typer.Typer(help="See what elman does, on data that comes with it.")


def _show_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


def evaluate(
    model: common.ModelArgument,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Text, a table of series, or labelled texts; - for standard input."
        ),
    ],
    windows: Annotated[
        int | None, typer.Option(help="Series: forecasts of so many horizons before the end. Default: 4.")
    ] = None,
    per_series: Annotated[
        Path | None, typer.Option(help="Series: also write each one's figures, as CSV.", show_default=False)
    ] = None,
    plot: common.Plot = None,
    series: common.Drawn = None,
    text: Annotated[str | None, typer.Option(help="Labels: column of texts. Default: text.")] = None,
    label: Annotated[str | None, typer.Option(help="Labels: column of labels. Default: label.")] = None,
    separator: Annotated[
        str | None, typer.Option(help="Labels: what stands between several labels of a text, as | does.")
    ] = None,
    json: common.Json = False,
) -> None:
    """Measure how well a model does, beside the baselines it has to beat. Needs no PyTorch.

    Example: elman evaluate book.elman other.txt --json

    Example: elman evaluate sales.elman sales.csv --windows 4

    Example: elman evaluate reviews.elman others.csv --text review --label stars
    """
    from elman.jobs import load
    from elman.series import Forecaster
    from elman.text import TextGenerator

    if plot is not None:
        from elman.picture import check_picture

        check_picture(plot)
    of_series = {"windows": windows, "plot": plot, "per-series": per_series, "series": series}
    of_labels = {"text": text, "label": label, "separator": separator}
    found = load(model)
    if isinstance(found, TextGenerator):
        _refuse("text", series=of_series, labels=of_labels)
        cli_text.evaluate(found, model.name, file, json)
    elif isinstance(found, Forecaster):
        _refuse("series", labels=of_labels)
        cli_series.evaluate(found, file, 4 if windows is None else windows, per_series, plot, series, json)
    else:
        _refuse("labels", series=of_series)
        cli_labels.evaluate(found, file, text or "text", label or "label", separator, json)


def _refuse(own: str, **others: dict[str, Any]) -> None:
    """Raises ElmanError for options that were given and are for models of another job."""
    for job, options in others.items():
        given = [f"--{name}" for name, value in options.items() if value is not None]
        if given:
            *most, last = given
            names = f"{', '.join(most)} and {last} are" if most else f"{last} is"
            raise ElmanError(f"{names} for models of {job}; this one is for {own}.")


def info(
    model: Annotated[Path | None, typer.Argument(metavar="[MODEL]", help="A model file.")] = None,
    json: common.Json = False,
) -> None:
    """Show what is in a model file; without one, what elman found on this machine.

    Example: elman info book.elman
    """
    figures = _machine() if model is None else _model(model)
    console.as_json(figures) if json else console.rows(_flat(figures))


for _app, _name, _command in (
    (app, "generate", cli_text.generate),
    (app, "forecast", cli_series.forecast),
    (app, "classify", cli_labels.classify),
    (app, "evaluate", evaluate),
    (app, "explain", cli_explain.explain),
    (app, "info", info),
    (train, "text", cli_text.train_text),
    (train, "series", cli_series.train_series),
    (train, "labels", cli_labels.train_labels),
    (demo, "text", cli_text.demo_text),
    (demo, "series", cli_series.demo_series),
    (demo, "sentiment", cli_labels.demo_sentiment),
):
    _app.command(_name)(_command)
app.add_typer(train, name="train")
app.add_typer(demo, name="demo")
app.add_typer(cli_experiments.compare, name="compare")
app.add_typer(cli_experiments.tune, name="tune")


def _machine() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    from elman import _native
    from elman.stream import cores

    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = 'not installed; to train: pip install "elman[train]"'
    python = ".".join(map(str, sys.version_info[:3]))
    figures = {"elman": __version__, "cpu_level": _native.cpu_level(), "cpu_levels": _native.cpu_levels()}
    return {**figures, "threads": cores(), "python": python, "torch": torch}


def _model(path: Path) -> dict[str, Any]:
    from elman.jobs import load

    figures = load(path).info
    return {"file": str(path), "bytes": path.stat().st_size, **figures}


def _flat(figures: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested figures as one level of names with dots."""
    flat: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif not isinstance(value, list):
            flat[prefix + name] = value
        elif not any(isinstance(item, list) for item in value):  # curves are for --json
            flat[prefix + name] = ", ".join(map(str, value))
    return flat


def _repeated(arguments: list[str]) -> list[str]:
    """`--levels 80 95` as `--levels 80 --levels 95`, which is what typer reads."""
    found: list[str] = []
    for argument in arguments:
        if found[-2:-1] == ["--levels"] and _is_number(found[-1]) and _is_number(argument):
            found.append("--levels")
        found.append(argument)
    return found


def _is_number(argument: str) -> bool:
    return argument.replace(".", "", 1).isdecimal()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; its exit code. Errors that a user can mend are one line on stderr."""
    # Read once, when OpenMP is first loaded. By default an idle thread spins for milliseconds before it sleeps: beside
    # another busy program that uses up the time that it needs for its next share of the work.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    given = _repeated(list(sys.argv[1:] if arguments is None else arguments) or ["--help"])
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="replace"
        )  # a terminal that cannot show a character is no reason to stop
    try:
        code = _run(given)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as stop:
        console.news(str(stop) or "interrupted")
        return 130
    except BrokenPipeError:
        console.silence_stdout()
        return 141  # as a shell reports it
    except (ElmanError, OSError) as error:
        console.news(f"error: {console.explained(error)}")
        return 2


def _run(arguments: list[str]) -> int:
    # Not app(): it would turn Ctrl-C and errors into its own words and frames.
    command = typer.main.get_command(app)
    try:
        with command.make_context("elman", arguments) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "elman")
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        raise ElmanError(f"{message}. See: {where} --help") from None
    return 0
