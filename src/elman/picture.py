"""Pictures: where they can go, how they look, and how a PNG is made of a figure. Matplotlib is imported then."""

import importlib.util
import io
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.checkpoint import check_place
from elman.data import ElmanError
from elman.page import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOOK: dict[Any, Any] = {
    "text.parse_math": False,  # a name may have a $ in it
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same picture everywhere
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.edgecolor": LIGHT["line"],
    "axes.titlecolor": LIGHT["ink"],
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.6,
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["line"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["muted"],
    "ytick.left": False,
    "legend.frameon": False,
}


def check_picture(path: str | os.PathLike[str], endings: Sequence[str] = (".png", ".html")) -> None:
    """Raises ElmanError if no picture could be written at `path`. Called before the work rather than after."""
    target = Path(os.path.realpath(path))
    ending = Path(path).suffix.lower()
    if ending not in endings:
        raise ElmanError(f"cannot draw {os.fspath(path)}: its name must end in {' or '.join(endings)}.")
    check_place(path)
    if target.exists() and not os.access(target, os.W_OK):
        raise ElmanError(f"cannot write {path}: it is read-only. Choose another place.")
    if ending == ".png" and importlib.util.find_spec("matplotlib") is None:
        instead = " Or give a name that ends in .html, which needs none." if ".html" in endings else ""
        raise ElmanError(f'a PNG needs matplotlib: pip install "elman[series]".{instead}')


def png(figure: Callable[[], "Figure"]) -> bytes:
    """What `figure` draws, in elman's look whatever the user's settings; the same bytes everywhere."""
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a name in a script that the font has not
        matplotlib.rcdefaults()  # a user's matplotlibrc changes nothing
        matplotlib.rcParams.update(_LOOK)
        figure().savefig(file, format="png", metadata={"Software": None})  # no version: the same bytes
    return file.getvalue()


def apart(places: Sequence[float], gap: float) -> list[float]:
    """The same places, moved so that neighbours are at least `gap` apart."""
    found = [0.0] * len(places)
    below, moved = -np.inf, sorted(range(len(places)), key=places.__getitem__)
    for i in moved:
        below = found[i] = max(places[i], below + gap)
    above = max(1.0, max(places, default=0.0)) + gap
    for i in reversed(moved):
        above = found[i] = min(found[i], above - gap)
    return found
