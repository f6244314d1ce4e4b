"""What the cells of input columns become: one file a kind of input, named as in `tledge.inputs`.

A module has `TYPES`, the Arrow types that are stored, one a column; `IS_COSTLY`, whether reading a row is worth a
thread; `SIZES`, the name in a `DataReport` of what `Value.size` counts; `NOUN`, `RENAME` and `NAMES`, what the input is
called; and the functions of `Kind`. It may have `TOGETHER`, the one of its columns whose equal values stay in one split
unless the recipe names another, and `told_by(columns)`, which names a task that the columns are surely of, if any; and
`given(cells, columns, folder)`, what labels are read beside where that is not the cells of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from tledge import plugins
from tledge.data.columns import Columns
from tledge.data.sources import Problem


@dataclass(frozen=True, slots=True)
class Value:
    """The input of one row.

    `stored` is written to disk, one part a column, about `weight` bytes of it. `digest` has 16 bytes that are the same
    for the same input. `size` counts characters of texts, or pixels of an image's shorter side.
    """

    stored: tuple[Any, ...]
    digest: bytes
    size: int
    weight: int


class Kind(Protocol):
    """What a module here provides."""

    TYPES: tuple[Any, ...]
    IS_COSTLY: bool
    SIZES: str
    NOUN: str
    RENAME: str
    NAMES: tuple[str, ...]

    @staticmethod
    def read(cells: Sequence[object], columns: Sequence[str], folder: Path | None) -> Value | Problem:
        """The input in the raw cells of a row, or what is wrong with them; relative paths start from `folder`."""
        ...

    @staticmethod
    def find(columns: Columns) -> tuple[str, ...]:
        """The columns of the input, guessed from the first rows; empty names where there are none."""
        ...


def load(name: str) -> Kind:
    """The kind of input of that name."""
    return cast("Kind", plugins.load(__name__, name))


def told_by(columns: Columns) -> str:
    """A task that some columns are surely of, whatever the values are; empty where they tell none."""
    modules = (plugins.load(__name__, name) for name in plugins.names(__name__))
    told = (module.told_by(columns) for module in modules if hasattr(module, "told_by"))
    return next((str(task) for task in told if task), "")


def together(kind: Kind) -> str:
    """The column of an input whose equal values stay in one split; empty where none has to."""
    return str(getattr(kind, "TOGETHER", ""))


def given(kind: Kind, cells: Sequence[object], columns: Sequence[str], folder: Path | None) -> Sequence[object]:
    """What the label of a row is read beside: what its input is, by default its cells."""
    found: Sequence[object] = kind.given(cells, columns, folder) if hasattr(kind, "given") else cells
    return found


def shown(cell: object) -> str:
    """The first characters of a cell, on one line."""
    return " ".join(f"{cell!r:.200}".split())[:40]
