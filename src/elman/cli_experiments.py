"""The commands `compare` and `tune`, one of each for every job: flags → calls.

Their options are those of `elman train`, but for what an experiment decides itself.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from elman import cli_labels, cli_options, cli_series, cli_text, console
from elman.tables import counted

if TYPE_CHECKING:
    from elman.comparison import Comparison

compare = typer.Typer(help="Train several kinds of networks on the same data, within the same time.")

_OTHERS = ("file", "output", "minutes", "epochs", "resume", "log", "json")  # mean something else here


@dataclass(frozen=True)
class _Job:
    """train: the command whose options are taken. untrained: makes an estimator of them, but for `reading`."""

    what: str
    train: Callable[..., None]
    untrained: Callable[..., Any]
    reading: tuple[str, ...] = ()

    def taken(self, *left_out: str) -> dict[str, inspect.Parameter]:
        parameters = inspect.signature(self.train).parameters
        return {name: p for name, p in parameters.items() if name not in (*_OTHERS, *left_out)}

    def given(self, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """(the estimator, what else its `fit` takes to read data)."""
        reading = {name: options.pop(name) for name in self.reading if name in options}
        return self.untrained(**options), reading


_JOBS = {
    "text": _Job("text", cli_text.train_text, cli_text.untrained),
    "series": _Job("table", cli_series.train_series, cli_series.untrained, ("val_size",)),
    "labels": _Job(
        "table", cli_labels.train_labels, cli_labels.untrained, ("text", "label", "separator", "unlabelled")
    ),
}


def _command(
    name: str, run: Callable[..., None], taken: dict[str, inspect.Parameter], about: str
) -> Callable[..., None]:
    """`run(name, file, options, **own)` as a command that has its own options and those `taken`."""
    file = inspect.signature(_JOBS[name].train).parameters["file"]
    own = {
        key: p
        for key, p in inspect.signature(run).parameters.items()
        if key not in ("name", "file", "options")
    }

    def command(**values: Any) -> None:
        options = {key: values.pop(key) for key in taken}
        run(name, values.pop("file"), options, **values)

    merged = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in ({"file": file} | own | taken).values()]
    command.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in merged}
    command.__doc__ = about
    return command


def _compare(
    name: str,
    file: str,
    options: dict[str, Any],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The picture, a .png. Default: FILE, ending in .compare.png."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Of the whole comparison. Default: 10, without --epochs.")
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the data of each run, with --equal parameters.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each cell.")] = 2,
    equal: Annotated[
        Literal["time", "parameters"],
        typer.Option(help="Sizes as the job would choose them, or such that all have as many parameters."),
    ] = "time",
    cell: Annotated[
        list[str] | None,
        typer.Option(help="feedforward, rnn, gru, lstm or mingru. May be repeated. Default: all."),
    ] = None,
    json: cli_options.Json = False,
) -> None:
    from elman.comparison import CELLS, check_comparison, compare
    from elman.picture import check_picture

    job = _JOBS[name]
    cells = cell or CELLS
    picture = cli_options.beside(file, output, job.what, ".compare.png", "picture")
    check_comparison(minutes, epochs, seeds, equal, cells)
    check_picture(picture, (".png",))
    estimator, reading = job.given(options)
    found = compare(
        estimator, file, minutes=minutes, epochs=epochs, seeds=seeds, equal=equal, cells=cells, **reading
    )
    found.plot(picture)
    console.as_json(found.as_dict()) if json else _show(found)
    console.news(f"{picture} shows the learning curves.")
    if found.stopped == "interrupted":
        raise typer.Exit(130)


def _show(found: "Comparison") -> None:
    heads = ("", "validation", "lowest", "highest", "parameters", f"{found.items}/s", "steps", "seconds")
    lines: list[tuple[str, ...]] = [heads]
    for cell, row in found.table.items():
        losses = (_number(row[key], ".4f") for key in ("validation", "lowest", "highest"))
        counts = (_number(row[key], ",.0f") for key in ("parameters", "items/s", "steps"))
        lines.append((cell, *losses, *counts, _number(row["seconds"], ".1f")))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *rest in lines:
        cells = (f"{text:>{width}}" for text, width in zip(rest, widths[1:], strict=True))
        print(f"{first:<{widths[0]}}", *cells, sep="  ")
    seeds = max(map(len, found.losses.values()))
    print(f"\nvalidation: {found.unit}, the mean over {counted(seeds, 'seed')}")
    if "feedforward" in found.losses:
        print(f"feedforward has no recurrence: it sees {found.seen}")
    print(f"\n{found.conclusion}")


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


_COMPARE = """Train feed-forward, RNN, GRU, LSTM and minGRU networks on the same data, and say which is best.

    All have the same time, several seeds each, and the same validation data. Ctrl-C shows what is finished.

    Example: elman compare {example}
    """
_EXAMPLES = {
    "text": "text book.txt --minutes 10",
    "series": "series sales.csv --horizon 28 --minutes 10",
    "labels": "labels reviews.csv --minutes 10",
}

for _name, _job in _JOBS.items():
    _taken = _job.taken("cell", "pretrain", "ngrams")
    _about = _COMPARE.format(example=_EXAMPLES[_name])
    compare.command(_name)(_command(_name, _compare, _taken, _about))
