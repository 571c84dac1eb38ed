"""The commands `compare` and `tune`, one of each for every job: flags → calls.

Their options are those of `elman train`, but for what an experiment decides itself.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from elman import cli_labels, cli_options, cli_series, cli_text, console
from elman.data import ElmanError
from elman.tables import counted

if TYPE_CHECKING:
    from elman.comparison import Comparison
    from elman.tuning import How, Tuned

compare = typer.Typer(help="Train several kinds of networks on the same data, within the same time.")
tune = typer.Typer(help="Search the settings that suit your own data.")

_OTHERS = ("file", "output", "minutes", "epochs", "resume", "log", "json")  # mean something else here


@dataclass(frozen=True)
class _Job:
    """train: the command whose options are taken, some of which are `searched`. untrained: makes an estimator of them,
    but for those of `reading`."""

    what: str
    train: Callable[..., None]
    untrained: Callable[..., Any]
    searched: tuple[str, ...]
    reading: tuple[str, ...] = ()

    def taken(self, *left_out: str) -> dict[str, inspect.Parameter]:
        parameters = inspect.signature(self.train).parameters
        return {name: p for name, p in parameters.items() if name not in (*_OTHERS, *left_out)}

    def given(self, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """(the estimator, what else its `fit` takes to read data)."""
        reading = {name: options.pop(name) for name in self.reading if name in options}
        return self.untrained(**options), reading


_LEFT_OUT = ("pretrain", "unlabelled", "ngrams")  # of labels: what helps the network that is compared
_ALL = ("cell", "hidden_size", "layers", "embedding_size", "dropout", "learning_rate", "batch_size")
_JOBS = {
    "text": _Job("text", cli_text.train_text, cli_text.untrained, (*_ALL, "chunk_length")),
    "series": _Job(
        "table", cli_series.train_series, cli_series.untrained, ("cell", "hidden_size", "input_length"), ("val_size",)
    ),
    "labels": _Job(
        "table", cli_labels.train_labels, cli_labels.untrained, (*_ALL, "pooling", "one_way"),
        ("text", "label", "separator"),
    ),
}  # fmt: skip


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
    from elman import comparison
    from elman.picture import check_picture

    job = _JOBS[name]
    cells = cell or comparison.CELLS
    picture = cli_options.beside(file, output, job.what, ".compare.png", "picture")
    comparison.check_comparison(minutes, epochs, seeds, equal, cells)
    check_picture(picture, (".png",))
    estimator, reading = job.given(options)
    found = comparison.compare(
        estimator, file, minutes=minutes, epochs=epochs, seeds=seeds, equal=equal, cells=cells, **reading
    )
    console.as_json(found.as_dict()) if json else _show(found)
    found.plot(picture)
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
    _columns(lines)
    seeds = max(map(len, found.losses.values()))
    print(f"\nvalidation: {found.unit}, the mean over {counted(seeds, 'seed')}")
    if "feedforward" in found.losses:
        print(f"feedforward has no recurrence: it sees {found.seen}")
    print(f"\n{found.conclusion}")


def _columns(lines: Sequence[Sequence[str]], left: int = 1) -> None:
    """Lines of cells on stdout, the first `left` columns flush left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            f"{text:<{w}}" if k < left else f"{text:>{w}}"
            for k, (text, w) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join(cells).rstrip())


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _tune(
    name: str,
    file: str,
    options: dict[str, Any],
    study: Annotated[
        Path | None, typer.Option(help="Its file, made or continued. Default: FILE, ending in .study.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The best model. Default: FILE, ending in .tuned.elman."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="The picture, a .png. Default: the study, ending in .tune.png.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Trials of this call.")] = 30,
    minutes: Annotated[
        float | None, typer.Option(help="Of each trial. Default: 1, without --epochs.")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data of each trial.")] = None,
    json: cli_options.Json = False,
) -> None:
    from elman import tuning
    from elman.picture import check_picture

    job = _JOBS[name]
    if file == "-" and (study is None or output is None):
        raise ElmanError(f"a {job.what} from standard input has no name: say where --study and -o go.")
    study = cli_options.beside(file, study, job.what, ".study")
    output = cli_options.beside(file, output, job.what, ".tuned.elman")
    picture = plot or study.with_suffix(".tune.png")
    for path in (study, output):
        cli_options.check_not_input(file, path, job.what)
    if study.resolve() == output.resolve():
        raise ElmanError(f"--study and -o are both {output}: give one of them another name.")
    tuning.check_tuning(trials, minutes, epochs, study, output)
    check_picture(picture, (".png",))
    searched = [key for key in job.searched if options[key] is None or options[key] is False]
    fixed = [key for key in job.searched if key not in searched]
    options = {key: value for key, value in options.items() if key not in searched}
    estimator, reading = job.given(options)
    found = tuning.tune(
        estimator, file, trials=trials, minutes=minutes, epochs=epochs, study=study, output=output,
        fixed=[*map(_setting, fixed)], **reading,
    )  # fmt: skip
    if found.count("finished"):
        console.as_json(found.as_dict()) if json else _show_tuned(found)
        found.plot(picture)
        console.news(f"{picture} shows the trials. {_where(found, output)}")
    if found.stopped == "interrupted":
        raise KeyboardInterrupt(f"interrupted; the same command goes on with {study}")
    if not found.count("finished"):
        raise ElmanError(f"no trial of {study} is finished: give more --trials, or a longer budget.")


def _setting(option: str) -> str:
    """What the estimator calls it."""
    return {"layers": "num_layers", "one_way": "bidirectional"}.get(option, option)


def _where(found: "Tuned", output: Path) -> str:
    if found.output is not None:
        return f"The best model is {output}."
    return (
        f"The best model, of trial {found.best.number}, is not in {output}: a better one of the same data is there, or "
        "the call that found it had another -o."
    )


def _show_tuned(found: "Tuned") -> None:
    from elman.tuning import ENOUGH

    best = found.best
    lines = [("", "best", "searched", "importance")]
    for setting in sorted(found.searched, key=lambda key: -found.importance.get(key, 0)):
        value = best.settings[setting]
        share = found.importance.get(setting)
        lines.append((
            setting, f"{value:.4g}" if isinstance(value, float) else str(value), found.searched[setting],
            "" if share is None else f"{share:.0%}",
        ))  # fmt: skip
    _columns(lines, left=3)
    hows: dict[How, str] = {
        "finished": "finished",
        "pruned": "cut short",
        "failed": "failed",
        "running": "unfinished",
    }
    counts = ", ".join(f"{found.count(how)} {word}" for how, word in hows.items() if found.count(how))
    print(
        f"\n{best.value:.4f} {found.unit} in trial {best.number}, the best of {len(found.trials)}: {counts}"
    )
    for name, value in found.baseline.items():
        better = best.value is not None and value <= best.value
        print(f"{value:.4f} {name}" + (", which is better: use it, or give more --minutes" if better else ""))
    if not found.importance:
        print(f"Importance is told from {ENOUGH} finished trials on.")


_COMPARE = """Train feed-forward, RNN, GRU, LSTM and minGRU networks on the same data, and say which is best.

    All have the same time, several seeds each, and the same validation data. Ctrl-C shows what is finished.

    Example: elman compare {example}
    """
_TUNE = """Search the settings that suit the data: many short trainings, of which the best model is kept.

    What is given stays as it is; all other settings are searched. The same command again goes on with the study, and
    several at once share it. Ctrl-C keeps what is finished.

    Example: elman tune {example}
    """
_EXAMPLES = {
    "text": "text book.txt",
    "series": "series sales.csv --horizon 28",
    "labels": "labels reviews.csv",
}


def _searched(parameter: inspect.Parameter) -> inspect.Parameter:
    """An option that is searched unless it is given."""
    kind, option = get_args(parameter.annotation)
    text = option.help.partition(" Default:")[0]
    optional = kind | None, typer.Option(help=f"{text} Searched unless given.")
    return parameter.replace(default=None, annotation=getitem(Annotated, optional))


def _attach(name: str, job: _Job) -> None:
    example = _EXAMPLES[name]
    taken = job.taken("cell", *_LEFT_OUT)
    about = _COMPARE.format(example=f"{example} --minutes 10")
    compare.command(name)(_command(name, _compare, taken, about))
    taken = job.taken(*_LEFT_OUT)
    taken |= {key: _searched(taken[key]) for key in job.searched if key != "one_way"}
    tune.command(name)(_command(name, _tune, taken, _TUNE.format(example=f"{example} --trials 30")))


for _name, _job in _JOBS.items():
    _attach(_name, _job)
