"""What the commands of several jobs share: options, where a model goes, the budget, one way to end."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import typer

from elman import console
from elman.data import ElmanError

Minutes = Annotated[float | None, typer.Option(help="Train this long. Default: 3, without --epochs.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="The model file. Default: FILE, ending in .elman.")
]
Seed = Annotated[int, typer.Option(help="The same seed trains the same way.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")]
Log = Annotated[Literal["csv", "tensorboard"] | None, typer.Option(help="Also log the losses.")]
Json = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]
DemoMinutes = Annotated[float, typer.Option(help="Train this long.")]
DemoOutput = Annotated[Path, typer.Option("--output", "-o", help="The model file.")]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.", show_default=False)]
Plot = Annotated[
    Path | None, typer.Option(help="Also draw a picture: a .png, or an .html page.", show_default=False)
]
Drawn = Annotated[
    list[str] | None, typer.Option("--series", help="Draw this series. May be repeated. Default: all.")
]


def renamed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by the names that estimators have for them."""
    return {"num_layers" if name == "layers" else name: value for name, value in options.items()}


def budget(minutes: float | None, epochs: float | None) -> dict[str, float | None]:
    """Checked before anything is read. Raises ElmanError for a budget that makes no sense."""
    from elman.sizes import check_sizes

    if minutes is not None and epochs is not None:
        raise ElmanError("give --minutes or --epochs, not both: either one ends the training.")
    check_sizes("lstm", minutes=minutes, epochs=epochs)
    return {"minutes": minutes, "epochs": epochs}


def beside(file: str, output: Path | None, what: str, ending: str = ".elman", product: str = "model") -> Path:
    """Where what is made of FILE, called `what`, goes. Raises ElmanError where standard input gives it no name."""
    if output is None and file == "-":
        raise ElmanError(f"a {what} from standard input has no name: say with -o where the {product} goes.")
    if output is None and os.path.isdir(file):
        return Path(file).parent / f"{Path(file).resolve().name}{ending}"
    return output or Path(file.removesuffix(".gz")).with_suffix(ending)


def check_not_input(file: str, output: Path, what: str) -> None:
    """Raises ElmanError where the model would replace what it is to learn from."""
    if console.same_file(file, output):
        raise ElmanError(
            f"{output} is the {what} itself: it would be overwritten. Give another name with -o."
        )


def end_of(training: dict[str, Any]) -> None:
    """Ends the command with the exit code of Ctrl-C where that stopped the training."""
    if training["stopped"] == "interrupted":
        raise typer.Exit(130)


def check_demo(output: Path, table: Path, write: Callable[[Path], None]) -> None:
    """Raises ElmanError where a demo's table, which `write` writes beside the model, would replace another file."""
    if output == table:
        raise ElmanError(
            f"{output} is where the demo's table goes: give the model a name that ends in .elman."
        )
    if not table.exists():
        return
    with TemporaryDirectory() as folder:
        write(Path(folder, table.name))
        same = table.is_file() and table.read_bytes() == Path(folder, table.name).read_bytes()
    if not same:
        raise ElmanError(
            f"{table} exists and would be overwritten by the demo's table: move it, or give the model another name "
            "with -o."
        )
