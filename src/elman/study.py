"""A study: what was tried and what came of it, in a text file that several processes and machines can share.

The file is Optuna's journal: one JSON object a line, appended under a lock. Knows Optuna; nothing of what is tried.
"""

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elman.checkpoint import check_place
from elman.data import ElmanError

if TYPE_CHECKING:
    from optuna import Study

NAME = "elman"  # of the study within the file, and of what it says of its data
_STARTUP = 5  # finished trials before any is cut short, at the place where it is

Path_ = str | os.PathLike[str]


def require_optuna() -> None:
    """Raises ElmanError where Optuna is missing."""
    if find_spec("optuna") is None:
        raise ElmanError('tuning needs Optuna: pip install "elman[tune]"')


def check_study(path: Path_) -> None:
    """Raises ElmanError for a file that is no study, and a place where none can be written. Called before the work."""
    target = Path(os.path.realpath(path))
    check_place(path)
    if target.exists() and not os.access(target, os.W_OK):
        raise ElmanError(f"cannot write {path}: it is read-only. Choose another place.")
    if target.exists() and target.stat().st_size and not _is_journal(target):
        raise ElmanError(f"{path} is no study: give the file of an earlier elman tune, or a new name.")


def _is_journal(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(100_000)
    try:
        entry = json.loads(first)
    except ValueError:
        return False
    return isinstance(entry, dict) and "op_code" in entry


def _damage(path: Path_ | None) -> str:
    with open(os.fspath(path or ""), "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                json.loads(line)
            except ValueError:
                return f"line {number:,} is no entry. Delete that line, or give another name"
    return "its entries do not fit together. Give another name"


def fingerprint(identity: Mapping[str, Any]) -> str:
    """What tells a study from others whose losses cannot be compared with its own."""
    return f"{zlib.crc32(json.dumps(identity, sort_keys=True).encode()):08x}"


@contextmanager
def opened(path: Path_ | None, identity: Mapping[str, Any], seed: int) -> Iterator["Study"]:
    """The study at `path`, made where there is none; in memory for None. identity: of its data and of what all trials
    share, JSON-able; trials are drawn by seed and their number.

    Raises ElmanError for a file that is no study or is damaged, and for a study of other data or settings.
    """
    require_optuna()
    import optuna

    from elman.sampler import Sampler

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        try:
            storage, known = (None, False) if path is None else _storage(path)
            how: dict[str, Any] = {"storage": storage, "study_name": NAME, "sampler": Sampler(seed)}
            how["pruner"] = optuna.pruners.MedianPruner(_STARTUP, n_min_trials=_STARTUP)
            study = optuna.load_study(**how) if known else optuna.create_study(**how, load_if_exists=True)
            _check_same(study, identity, path)
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            if isinstance(error, ElmanError):
                raise
            raise ElmanError(f"{path} is damaged: {_damage(path)}.") from error
        yield study
    finally:
        optuna.logging.set_verbosity(verbosity)


def _storage(path: Path_) -> tuple[Any, bool]:
    """The file, and whether there is a study in it."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    check_study(path)
    name = os.path.realpath(path)
    storage = optuna.storages.JournalStorage(JournalFileBackend(name, lock(name)))
    names = optuna.get_all_study_names(storage)
    if not names and os.path.getsize(name):
        raise ElmanError(f"{path} is damaged: {_damage(path)}.")
    if names and NAME not in names:
        raise ElmanError(f"{path} is a study of something else, {names[0]}: give another name.")
    return storage, bool(names)


def lock(path: Path_) -> Any:
    """A lock that other processes and machines see, beside `path`; after 30 seconds it is taken for left over."""
    from optuna.storages.journal import JournalFileOpenLock

    return JournalFileOpenLock(os.fspath(path))


@contextmanager
def locked(path: Path_) -> Iterator[None]:
    """Nobody else is at `path` meanwhile who asks the same."""
    held = lock(os.path.realpath(path))
    held.acquire()
    try:
        yield
    finally:
        held.release()


def _check_same(study: "Study", identity: Mapping[str, Any], path: Path_ | None) -> None:
    wanted = json.loads(json.dumps(identity))
    known = study.user_attrs.get(NAME)
    if known is None:
        if study.trials:
            raise ElmanError(f"{path} is a study, but elman tune did not make it: give another name.")
        study.set_user_attr(NAME, wanted)
        return
    different = [name for name in {**wanted, **known} if wanted.get(name) != known.get(name)]
    if different:
        lines = "; ".join(f"{name} was {known.get(name)}, now {wanted.get(name)}" for name in different)
        raise ElmanError(
            f"{path} is a study of other data or settings, whose losses cannot be compared: {lines}. Give the same, or "
            "another name for the study."
        )
