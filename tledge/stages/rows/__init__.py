"""What the rows of a task are: examples with a label each, or blocks of tokens. One file a kind, which a task names.

Each module holds:

============  =================================================================================================
`read`        reads a run's sources and writes its splits into a folder; gives one line about them
`scored`      the rows of a split that models are scored on, or calibrated with
`depends_on`  what else than the recipe's `data` decides the rows: lists of settings, each with the places they name
`hashes`      a hash of each of them
`files`       local files that the splits in a folder only name, and whose content is elsewhere
============  =================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from tledge import plugins
from tledge.evaluate import Array, Encoder

if TYPE_CHECKING:
    from tledge.recipe import Recipe
    from tledge.stages.job import Job


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows that models are scored on: raw values, what turns them into tensors, targets, and of how many they are."""

    values: Sequence[Any]
    encoder: Encoder
    targets: Array
    of: int


class Rows(Protocol):
    """What such a module provides; see the table above."""

    @staticmethod
    def read(job: Job, folder: Path) -> str: ...
    @staticmethod
    def scored(job: Job, split: str, inputs_folder: Path) -> Scored: ...
    @staticmethod
    def depends_on(recipe: Recipe) -> Iterable[tuple[Sequence[object], Sequence[str | None]]]: ...
    @staticmethod
    def hashes(scored: Scored) -> Array: ...
    @staticmethod
    def files(folder: Path) -> list[str]: ...


def load(name: str) -> Rows:
    """The kind of rows of that name."""
    return cast("Rows", plugins.load(__name__, name))
