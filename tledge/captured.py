"""What other libraries print, log and warn goes to a stage's log file instead of the screen."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import TextIO

# Libraries that put handlers of their own on their loggers, and so do not listen to the root logger's.
_OWN_HANDLERS = ("transformers", "torch", "torch.onnx", "datasets", "accelerate", "huggingface_hub")


@contextlib.contextmanager
def to(log: TextIO) -> Iterator[None]:
    """Send standard output, standard error, logging and warnings of the block to a file, then undo it.

    A progress bar that was opened on the real standard error keeps it.
    """
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(), *map(logging.getLogger, _OWN_HANDLERS)]
    before = [(logger, list(logger.handlers), logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers = [handler]
        logger.propagate = False
    try:
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log), warnings.catch_warnings():
            warnings.simplefilter("default")
            yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
        log.flush()
