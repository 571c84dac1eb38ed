"""The command `elman`: flags → calls. Progress goes to stderr, results to stdout.

Bad input ends with one line, `error: …`, and exit code 2; Ctrl-C with 130. PyTorch is imported by training
alone, and only after the first line is on the screen.
"""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from elman import __version__, console
from elman.data import ElmanError, TextFile

if TYPE_CHECKING:
    from elman.backtest import Backtest
    from elman.text import TextGenerator

app = typer.Typer(add_completion=False, help="Recurrent networks, fast on any CPU.")
train = typer.Typer(help="Train a model on your own data.")
demo = typer.Typer(help="See what elman does, on data that comes with it.")

app.add_typer(train, name="train")
app.add_typer(demo, name="demo")


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


Minutes = Annotated[float | None, typer.Option(help="Train this long. Default: 3, without --epochs.")]
TableArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="CSV or Parquet, long format; - for standard input.")
]
Plot = Annotated[
    Path | None, typer.Option(help="Also draw a picture: a .png, or an .html page.", show_default=False)
]
Drawn = Annotated[
    list[str] | None, typer.Option("--series", help="Draw this series. May be repeated. Default: all.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.", show_default=False)]


@train.command("text")
def train_text(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Text in UTF-8; - for standard input.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The model file. Default: FILE, ending in .elman.")
    ] = None,
    minutes: Minutes = None,
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
    seed: Annotated[int, typer.Option(help="The same seed trains the same way.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    log: Annotated[Literal["csv", "tensorboard"] | None, typer.Option(help="Also log the losses.")] = None,
    json: Json = False,
) -> None:
    """Train a character-level language model on a text file.

    Learns the first 90 % of the text; the last 10 % measures how well. Keeps the best model, even on Ctrl-C.

    Example: elman train text book.txt -o book.elman --minutes 3
    """
    from elman.text import TextGenerator

    if output is None and file == "-":
        raise ElmanError("a text from standard input has no name: say with -o where the model goes.")
    output = output or Path(file).with_suffix(".elman")
    generator = TextGenerator(
        cell, hidden_size, layers, embedding_size, dropout, learning_rate, batch_size, chunk_length, seed
    )
    budget = _budget(minutes, epochs)
    _train(generator, _opened(file, output), output, json, **budget, resume=resume, log=log)


@train.command("series")
def train_series(
    file: TableArgument,
    horizon: Annotated[int, typer.Option(help="Steps to forecast.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The model file. Default: FILE, ending in .elman.")
    ] = None,
    minutes: Minutes = None,
    epochs: Annotated[float | None, typer.Option(help="Train for so many passes over all windows.")] = None,
    levels: Annotated[
        list[float] | None, typer.Option(help="Interval in percent. May be repeated. Default: 80 and 95.")
    ] = None,
    id: Annotated[str, typer.Option(help="Column that names the series.")] = "unique_id",
    time: Annotated[str, typer.Option(help="Column of time stamps.")] = "ds",
    target: Annotated[list[str] | None, typer.Option(help="Column of values. May be repeated. [y]")] = None,
    past: Annotated[
        list[str] | None, typer.Option(help="Covariate known up to now. May be repeated.")
    ] = None,
    future: Annotated[
        list[str] | None, typer.Option(help="Covariate known of the time ahead. May be repeated.")
    ] = None,
    static: Annotated[
        list[str] | None, typer.Option(help="Covariate of a series as a whole. May be repeated.")
    ] = None,
    calendar: Annotated[
        bool | None, typer.Option(help="Tell hour, weekday and time of year. Default: by length.")
    ] = None,
    frequency: Annotated[str | None, typer.Option(help="Time step: h, D, MS, ... Default: found.")] = None,
    loss: Annotated[
        str, typer.Option(help="quantile, mse, mae, student_t or negative_binomial.")
    ] = "quantile",
    ensemble: Annotated[int, typer.Option(help="Networks to train side by side and to average.")] = 1,
    cell: Annotated[str, typer.Option(help="gru, lstm or rnn.")] = "gru",
    hidden_size: Annotated[int, typer.Option(help="Units in a layer.")] = 192,
    input_length: Annotated[
        int | None, typer.Option(help="Values read. Default: by season and length.")
    ] = None,
    val_size: Annotated[
        int | None, typer.Option(help="Values of each series to hold back. Default: the horizon.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed trains the same way.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    log: Annotated[Literal["csv", "tensorboard"] | None, typer.Option(help="Also log the losses.")] = None,
    json: Json = False,
) -> None:
    """Train a forecaster on a table of series: columns unique_id, ds, y.

    Learns from all series at once; the last horizon of each is held back to choose the best weights. Keeps the best
    model, even on Ctrl-C.

    Example: elman train series sales.csv --horizon 28 -o sales.elman --minutes 5
    """
    from elman.series import LEVELS, Forecaster

    if output is None and file == "-":
        raise ElmanError("a table from standard input has no name: say with -o where the model goes.")
    output = output or Path(file).with_suffix(".elman")
    if console.same_file(file, output):
        raise ElmanError(f"{output} is the table itself: it would be overwritten. Give another name with -o.")
    model = Forecaster(
        horizon, levels or LEVELS, id=id, time=time, target=target or "y", frequency=frequency, past=past or (),
        future=future or (), static=static or (), calendar=calendar, loss=loss, ensemble=ensemble, cell=cell,
        hidden_size=hidden_size, input_length=input_length, seed=seed,
    )  # fmt: skip
    _budget(minutes, epochs)
    model.fit(file, minutes=minutes, epochs=epochs, val_size=val_size, output=output, resume=resume, log=log)
    if json:
        console.as_json(model.info)
    else:
        console.news(f"\nelman evaluate {output} {file}\nelman forecast {output} {file} > forecast.csv")
    if model.info["training"]["stopped"] == "interrupted":
        raise typer.Exit(130)


@app.command()
def forecast(
    model: ModelArgument,
    file: TableArgument,
    horizon: Annotated[int | None, typer.Option(help="Steps. Default: those of training.")] = None,
    levels: Annotated[
        list[float] | None, typer.Option(help="Interval in percent, of those trained. Default: all.")
    ] = None,
    futr: Annotated[
        Path | None, typer.Option(help="Table of the known-future covariates.", show_default=False)
    ] = None,
    plot: Plot = None,
    series: Drawn = None,
) -> None:
    """Forecast what follows each series, with intervals, as CSV. Needs no PyTorch.

    Example: elman forecast sales.elman sales.csv --plot forecast.png > forecast.csv
    """
    from elman.frames import open_table
    from elman.jobs import load_series
    from elman.series_plot import check_picture

    if plot is not None:
        check_picture(plot)
    forecaster = load_series(model)
    table = open_table(file, forecaster.columns.id, forecaster.columns.time)
    found = forecaster.predict(table, horizon, futr, levels)
    for note in forecaster.notes:
        console.news(note)
    if plot is not None:
        forecaster.plot(plot, table, horizon, futr, levels, series)
    found.to_csv(sys.stdout, index=False)


@app.command()
def generate(
    model: ModelArgument,
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


@app.command()
def evaluate(
    model: ModelArgument,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Text, or a table of series; - for standard input.")
    ],
    windows: Annotated[int, typer.Option(help="Series: forecasts of so many horizons before the end.")] = 4,
    per_series: Annotated[
        Path | None, typer.Option(help="Series: also write each one's figures, as CSV.", show_default=False)
    ] = None,
    plot: Plot = None,
    series: Drawn = None,
    json: Json = False,
) -> None:
    """Measure how well a model predicts a text or series, beside the baselines it has to beat. Needs no PyTorch.

    Example: elman evaluate book.elman other.txt --json

    Example: elman evaluate sales.elman sales.csv --windows 4
    """
    from elman.jobs import load
    from elman.text import TextGenerator

    if plot is not None:
        from elman.series_plot import check_picture

        check_picture(plot)
    generator = load(model)
    if not isinstance(generator, TextGenerator):
        found = generator.backtest(file, windows)
        _show_backtest(found, json)
        if per_series is not None:
            from elman.series_data import write_csv

            write_csv(per_series, found.per_series)
        if plot is not None:
            found.plot(plot, series)
        return None
    if plot or per_series or series:
        raise ElmanError("--plot, --per-series and --series are for models of series; this one is for text.")
    text = TextFile(file)
    if not json:
        console.news(f"reading {text.name}: {console.size_of(text.size)}")
    figures = generator.evaluate(text)
    if json:
        return console.as_json(figures)
    console.losses(model.name, figures["nats_per_char"], figures["baselines"])
    console.rows({"characters": figures["characters"], "unknown": figures["unknown"] or None})


@app.command()
def info(
    model: Annotated[Path | None, typer.Argument(metavar="[MODEL]", help="A model file.")] = None,
    json: Json = False,
) -> None:
    """Show what is in a model file; without one, what elman found on this machine.

    Example: elman info book.elman
    """
    figures = _machine() if model is None else _model(model)
    console.as_json(figures) if json else console.rows(_flat(figures))


@demo.command("series")
def demo_series(
    minutes: Annotated[float, typer.Option(help="Train this long.")] = 1.0,
    output: Annotated[Path, typer.Option("--output", "-o", help="The model file.")] = Path("weather.elman"),
    plot: Annotated[Path, typer.Option(help="The picture: a .png, or an .html page.")] = Path("weather.html"),
    seed: Annotated[int, typer.Option(help="The same seed trains the same way.")] = 0,
    json: Json = False,
) -> None:
    """Learn four years of daily weather in Seattle, then forecast two months of it that the model never saw.

    Example: elman demo series --minutes 1
    """
    from elman.demo import weather
    from elman.series import Forecaster
    from elman.series_data import write_csv
    from elman.series_plot import check_picture

    check_picture(plot)
    frame = weather()
    _budget(minutes, None)
    table, windows, horizon = output.with_suffix(".csv"), 4, 14
    model = Forecaster(horizon, seed=seed)
    model.fit(frame.groupby("unique_id").head(-windows * horizon), output=output, minutes=minutes)
    write_csv(table, frame)
    found = model.backtest(frame, windows)
    _show_backtest(found, json)
    found.plot(plot)
    if not json:
        console.news(
            f"\n{plot} shows the last forecast beside what came. Go on with:\n"
            f"elman evaluate {output} {table} --windows {windows}\nelman forecast {output} {table} --levels 80"
        )


@demo.command("text")
def demo_text(
    minutes: Annotated[float, typer.Option(help="Train this long.")] = 2.0,
    output: Annotated[Path, typer.Option("--output", "-o", help="The model file.")] = Path(
        "shakespeare.elman"
    ),
    length: Annotated[int, typer.Option("--length", "-n", help="Characters to write.")] = 600,
    seed: Annotated[int, typer.Option(help="The same seed trains and writes the same way.")] = 0,
    json: Json = False,
) -> None:
    """Train on Shakespeare's plays, then write some more of them.

    Example: elman demo text --minutes 2
    """
    from elman.checkpoint import check_writable
    from elman.demo import plays
    from elman.text import TextGenerator

    generator, budget = TextGenerator(seed=seed), _budget(minutes, None)
    check_writable(output)
    _train(generator, plays(), output, json, **budget)
    if not json:
        console.news(
            f'\nelman generate {output} "ROMEO:" --length {length} --temperature 0.8 --seed {seed}\n'
        )
        generate(output, "ROMEO:", length=length, seed=seed)


def _show_backtest(found: "Backtest", json: bool) -> None:
    if json:
        return console.as_json(found.as_dict())
    from elman.backtest import POINT as columns

    console.table(found.table, columns)
    console.rows({name: round(v, 4) for name, v in found.table["elman"].items() if name not in columns})
    console.rows({"series": found.series, "windows": found.windows, "values": found.values})
    if 1 < found.series <= 20:
        print("\nmase of each series")
        console.table(found.by_series("mase"), tuple(found.table))
    if found.best != "elman":
        console.news(f"{found.best} is better than the model here: use it, or train for longer.")
    return None


def _budget(minutes: float | None, epochs: float | None) -> dict[str, float | None]:
    from elman.sizes import check_sizes

    if minutes is not None and epochs is not None:
        raise ElmanError("give --minutes or --epochs, not both: either one ends the training.")
    check_sizes("lstm", minutes=minutes, epochs=epochs)
    return {"minutes": minutes, "epochs": epochs}


def _opened(file: str, output: Path) -> TextFile:
    text = TextFile(file)
    if console.same_file(file, output):
        raise ElmanError(f"{output} is the text itself: it would be overwritten. Give another name with -o.")
    return text


def _train(generator: "TextGenerator", text: TextFile, output: Path, json: bool, **budget: Any) -> None:
    generator.fit(text, output=output, **budget)
    figures = generator.info
    training = figures["training"]
    if json:
        console.as_json(figures)
    else:
        console.losses(output.name, training["validation_loss"], training["baselines"])
    if training["stopped"] == "interrupted":
        raise typer.Exit(130)


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
