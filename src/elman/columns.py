"""How one column of a table becomes numbers: standardised, or a place for each name.

What is learned from a column is kept with the model; a column is then read the same way again.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from elman.data import ElmanError
from elman.tables import Floats, Ints, Rows, Table, module, numbers_of, shown

MOST = 100  # names in one column
_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal", "boolean")  # pandas' inference
_TIMES = ("datetime", "datetime64", "date", "time", "timedelta", "timedelta64", "period")

Singles = NDArray[np.float32]


@dataclass(frozen=True)
class Column:
    """How one column becomes numbers: (x - mean) / std, 0 if std is 0; or, for names, 1 in the place of one."""

    name: str
    mean: float = 0.0
    std: float = 0.0
    names: tuple[str, ...] | None = None  # in order of first appearance; None: it holds numbers

    @property
    def width(self) -> int:
        return 1 if self.names is None else len(self.names)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        if self.names is not None:
            return {"name": self.name, "names": list(self.names)}
        return {"name": self.name, "mean": self.mean, "std": self.std}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """What `as_dict` gave."""
        if "names" in values:
            return cls(values["name"], names=tuple(values["names"]))
        return cls(values["name"], values["mean"], values["std"])


def width_of(columns: tuple[Column, ...]) -> int:
    return sum(column.width for column in columns)


def learned(table: Table, rows: Rows, name: str, role: str) -> Column:
    """How the column becomes numbers, by these rows. Raises ElmanError for values that cannot be used."""
    column = table.column(name).iloc[rows.row]
    number = _is_number(column, name)
    check_present(column, rows, name)
    if number:
        return Column(name, *_moments(_numbers(column, rows, name, role)))
    _, names = _coded(column)
    if len(names) > MOST:
        raise ElmanError(
            f"the column {name} has {len(names):,} different names, and at most {MOST} can be told apart: leave it "
            "out, or group them."
        )
    return Column(name, names=names)


def matrix(table: Table, rows: Rows, columns: tuple[Column, ...], role: str, notes: list[str]) -> Singles:
    """(rows, numbers of `columns`). Raises ElmanError for values that cannot be used."""
    found = np.zeros((len(rows.row), width_of(columns)), np.float32)
    place = 0
    for column in columns:
        values = table.column(column.name).iloc[rows.row]
        check_present(values, rows, column.name)
        if column.names is None:
            found[:, place] = _standard(_numbers(values, rows, column.name, role), column, rows)
        else:
            code = _recoded(*_coded(values), column, notes)
            known = np.flatnonzero(code >= 0)
            found[known, place + code[known]] = 1
        place += column.width
    return found


# Numbers and names


def _is_number(column: Any, name: str) -> bool:
    """Whether a column is numbers, not names. Raises ElmanError for times."""
    pandas = module("pandas")
    kind = pandas.api.types.infer_dtype(column, skipna=True) if column.dtype == object else ""
    if kind in _TIMES or getattr(column.dtype, "kind", "O") in "cmM" or hasattr(column.dtype, "freq"):
        raise ElmanError(
            f"{name} holds {kind or column.dtype}, not numbers or names: leave it out, or convert it."
        )
    return kind in _NUMBERS or bool(pandas.api.types.is_numeric_dtype(column.dtype))


def check_present(column: Any, rows: Rows, name: str) -> None:
    absent = column.isna().to_numpy()
    if absent.any():
        i = int(np.argmax(absent))
        raise ElmanError(
            f"{rows.series(i)} has no {name} at {shown(rows.stamps[i])} ({rows.where(i)}): fill it in, or leave the "
            "column out."
        )


def _numbers(column: Any, rows: Rows, name: str, role: str) -> Floats:
    found = numbers_of(column, name, rows.where, f"--{role}")
    _check_all(np.isfinite(found), rows, f"{name} is infinite or no number")
    return found


def _check_all(good: NDArray[np.bool_], rows: Rows, what: str) -> None:
    if not good.all():
        i = int(np.argmin(good))
        raise ElmanError(
            f"{rows.series(i)}: {what} at {shown(rows.stamps[i])} ({rows.where(i)}): correct the value, or leave the "
            "column out."
        )


def _coded(column: Any) -> tuple[Ints, tuple[str, ...]]:
    """(which of the names each row has (m,), the names in order of first appearance)."""
    pandas = module("pandas")
    code, found = pandas.factorize(column)
    again, names = pandas.factorize(np.array([_name(value) for value in found], object))
    return again[code], tuple(names.tolist())


def _name(value: Any) -> str:
    """Whole numbers without .0, which they have in a column where some are missing."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)


def _moments(x: Floats) -> tuple[float, float]:
    """(mean, standard deviation), 0 exactly if all are the same."""
    if x.min() == x.max():
        return float(x[0]), 0.0
    size = float(np.abs(x).max())  # so that squares stay finite
    unit = x / size
    return float(unit.mean() * size), float(unit.std() * size)


def _standard(x: Floats, column: Column, rows: Rows) -> Singles:
    if column.std == 0:
        return np.zeros(len(x), np.float32)
    with np.errstate(over="ignore"):
        found = ((x - column.mean) / column.std).astype(np.float32)
    _check_all(
        np.isfinite(found), rows, f"{column.name} is too far from {column.mean:g}, what was learned from,"
    )
    return found


def _recoded(code: Ints, names: tuple[str, ...], column: Column, notes: list[str]) -> Ints:
    """The places (m,) of names in what was learned, -1 of unknown ones."""
    place = {name: i for i, name in enumerate(column.names or ())}
    unknown = [name for name in names if name not in place]
    if unknown:
        more = f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else ""
        notes.append(
            f"{column.name} has names that were not there in training and have no effect: "
            f"{', '.join(unknown[:5])}{more}."
        )
    return np.array([place.get(name, -1) for name in names], np.int64)[code]
