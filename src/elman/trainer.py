"""Lightning's Trainer as elman wants it: quiet on the console, with loggers if asked for, and Ctrl-C ours.

Knows nothing of what is trained.
"""

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from elman.data import ElmanError


class Interruptible(Protocol):
    """What Ctrl-C tells to stop."""

    interrupted: bool


def make_trainer(plugin: CheckpointIO, logger: Logger | None) -> pl.Trainer:
    """On the CPU, also where there is a GPU: the layers' kernels are the CPU's."""
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        plugins=[plugin],
        logger=logger or False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


def make_logger(kind: str | None, path: Path) -> Logger | None:
    if kind is None:
        return None
    if kind not in ("csv", "tensorboard"):
        raise ElmanError(f"unknown log {kind!r}: choose csv or tensorboard.")
    try:
        return (CSVLogger if kind == "csv" else TensorBoardLogger)(path.parent, name=path.name)
    except ModuleNotFoundError:
        raise ElmanError("--log tensorboard needs TensorBoard: pip install tensorboard") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's banners, tips and warnings stay off the user's console."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for module in ("pytorch_lightning", "lightning_fabric", "torch.utils", "torch.jit"):
            warnings.filterwarnings("ignore", module=module)
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


_STOPPING = signal.SIGINT, signal.SIGTERM


@contextmanager
def interruptible() -> Iterator[None]:
    """Signal handlers are as before when this ends, and Ctrl-C is KeyboardInterrupt.

    Lightning makes SystemExit of it.
    """
    main = threading.current_thread() is threading.main_thread()
    previous = {number: signal.getsignal(number) for number in _STOPPING if main}
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def stop_on_signals(training: Interruptible) -> None:
    """Ctrl-C, or SIGTERM, asks the training to stop after its step; a second one raises KeyboardInterrupt.

    To be called when Lightning has set its own handlers.
    """

    def handle(*_: Any) -> None:
        if training.interrupted:
            raise KeyboardInterrupt
        training.interrupted = True

    if threading.current_thread() is threading.main_thread():
        for number in _STOPPING:
            signal.signal(number, handle)
