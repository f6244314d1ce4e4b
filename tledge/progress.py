"""The seam for progress bars: long work reports through a callable, and who shows it is decided by the caller.

with progress("Running the backbone", total=len(rows)) as advance:
    for batch in batches:
        ...
        advance(len(batch))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Opens one bar; the context's value is called with the number of items done since the last call."""

    def __call__(self, description: str, total: int) -> AbstractContextManager[Advance]: ...


@contextmanager
def silent(description: str, total: int) -> Iterator[Advance]:  # noqa: ARG001
    """A `Progress` that shows nothing."""
    yield lambda count: None
