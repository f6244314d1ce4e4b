"""Label cells to label numbers, or to the numbers that a regression estimates.

One file a kind of labels, which a task names; each module holds:

===========  ===========================================================================================
`MISSING`    what the data lack where `find` finds no column, with its article; empty where nothing can be missing
`VALUES`     whether labels are the numbers themselves, and not names
`CODE`       of the numbers that tell labels: `q` where they are whole, `d` where they have fractions
`WIDTH`      how many numbers tell one label of a row: its own, and where it is from and to; 0 where there is but one
             label, and its rows hold any numbers
`find`       the columns of labels, guessed from the first rows
`names_of`   the label names in the raw cells of a row
===========  ===========================================================================================
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from tledge import plugins
from tledge.data.columns import Columns
from tledge.data.inputs import shown
from tledge.data.inputs.text import HALF
from tledge.data.sources import Problem
from tledge.errors import did_you_mean
from tledge.recipe.schema import Data
from tledge.tasks import Task

SHOWN = 10  # labels or columns that a message lists

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Found:
    """Where labels are: in one column, or in a column of 0 and 1 for each of them; nowhere where both are empty.

    `separator` is what stands between the labels of a row in the column, `None` where each cell is one label.
    """

    column: str = ""
    flags: tuple[str, ...] = ()
    separator: str | None = None


class Kind(Protocol):
    """What such a module provides; see the table above."""

    MISSING: str
    VALUES: bool
    CODE: str
    WIDTH: int

    @staticmethod
    def find(columns: Columns, given: Sequence[str], separator: str) -> Found: ...
    @staticmethod
    def names_of(cells: Mapping[str, Any], found: Found) -> list[str]: ...


def load(name: str) -> Kind:
    """The kind of labels of that name."""
    return cast("Kind", plugins.load(__name__, name))


@dataclass(frozen=True, slots=True)
class Labels:
    """The label numbers of many rows: those of row i are `flat[offsets[i]:offsets[i + 1]]`, ascending.

    For a regression `flat` is float64: the number of each row; so it is where the numbers beside a label have
    fractions. Where `width` is more than 1 each label is followed by
    so many numbers less one, such as where its span begins and ends, in the file's order; where it is 0 each row
    that has any numbers has the label 0.
    """

    flat: npt.NDArray[Any]
    offsets: Numbers
    width: int = 1

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.offsets) - 1

    @property
    def are_values(self) -> bool:
        """Whether they are the numbers of a regression."""
        return self.flat.dtype.kind == "f" and self.width == 1

    def of(self, row: int) -> tuple[Any, ...]:
        """What `flat` holds of one row."""
        return tuple(self.flat[self.offsets[row] : self.offsets[row + 1]].tolist())

    def take(self, rows: Numbers) -> Labels:
        """The labels of some rows, in their order."""
        sizes = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        places = np.repeat(self.offsets[rows] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return Labels(self.flat[places], offsets, self.width)

    def by_row(self) -> tuple[Numbers, Numbers]:
        """The label numbers alone, and the row of each, `(labels of all rows,) int64`."""
        sizes = np.diff(self.offsets)
        if not self.width:
            return np.zeros(int((sizes > 0).sum()), dtype=np.int64), np.flatnonzero(sizes)
        rows = np.repeat(np.arange(len(self)), sizes // self.width)
        return self.flat[:: self.width].astype(np.int64, copy=False), rows

    def counts(self, n_labels: int) -> Numbers:
        """How many rows have each label, `(labels,) int64`; all of them have the one of a regression."""
        if self.are_values:
            return np.asarray([len(self)])
        numbers, rows = self.by_row()
        if self.width > 1:
            numbers = np.unique(np.stack([numbers, rows]), axis=1)[0]
        return np.bincount(numbers, minlength=n_labels).astype(np.int64)

    def renumbered(self, numbers: Numbers) -> Labels:
        """The same labels where label i is called `numbers[i]`."""
        if not self.width:
            return self
        if self.width > 1:
            flat = self.flat.copy()
            flat[:: self.width] = numbers[self.by_row()[0]]
            return Labels(flat, self.offsets, self.width)
        flat, rows = numbers[self.flat], self.by_row()[1]
        return Labels(flat[np.lexsort((flat, rows))], self.offsets)


class LabelReader:
    """Gathers the labels of rows, one row after the other; a new label gets the next number unless all are known.

    `names` are the labels by number (for a regression the column's name), and `renamed` the keys of
    `data.label_names` that some row had. `n_moved` counts the rows with a label that stood elsewhere in its text, and
    `notes` what was mended in labels or left out of them, in words.
    """

    def __init__(self, settings: Data, task: Task, column: str, known: Sequence[str] | None) -> None:
        self._settings, self._task, self._column, self._closed = settings, task, column, known is not None
        kind = load(task.LABELS)
        self._are_values, self._width = kind.VALUES, kind.WIDTH
        self._numbers = {name: i for i, name in enumerate(known or ())}
        self._flat: array[Any] = array(kind.CODE)
        self._offsets = array("q", [0])
        self.renamed: set[str] = set()
        self.n_moved = 0
        self.notes: Counter[str] = Counter()

    @property
    def names(self) -> tuple[str, ...]:
        """The labels by number."""
        return (self._column,) if self._are_values else tuple(self._numbers)

    def add(self, cell: object, given: Sequence[object] = ()) -> Problem | None:
        """Take the label of the next row from its raw cell, or say what is wrong with it and take none.

        Args:
            cell: what the file has.
            given: the cells of the row's input, or what its labels are read beside.
        """
        found = self._read(cell, given)
        if isinstance(found, Problem):
            return found
        for name in self._task.label_names(found):
            self._numbers.setdefault(name, len(self._numbers))
        numbers = self._task.numbered(found, self._numbers)
        self._flat.extend(sorted(numbers) if self._width == 1 else numbers)
        self.notes.update(getattr(found, "notes", {}))
        self.n_moved += any(getattr(each, "is_moved", False) for each in found)
        self._offsets.append(len(self._flat))
        return None

    def labels(self) -> Labels:
        """Those of all rows that were added."""
        return Labels(np.asarray(self._flat), np.asarray(self._offsets, dtype=np.int64), self._width)

    def _read(self, cell: object, given: Sequence[object]) -> tuple[Any, ...] | Problem:
        settings, column = self._settings, self._column
        try:
            raw = self._task.parse_label(cell, settings.label_separator, settings.decimal, given)
        except ValueError as error:
            kind = "no number" if self._are_values else "no label"
            return Problem(kind, f"the column {column!r} holds {shown(cell)}, expected {error}")
        if not raw and self._task.NEEDS_LABEL:
            return Problem("empty label", f"the column {column!r} is empty")
        return raw if self._are_values else self._named(raw)

    def _named(self, raw: tuple[Any, ...]) -> tuple[Any, ...] | Problem:
        given = self._settings.label_names
        self.renamed.update(name for name in self._task.label_names(raw) if name in given)
        label = self._task.renamed(raw, given)
        names = self._task.label_names(label)
        if HALF.search("".join(names)):
            return Problem("undecodable text", f"the column {self._column!r} holds half of a surrogate pair")
        unknown = next((name for name in names if self._closed and name not in self._numbers), None)
        if unknown is None:
            return label
        known = list(self._numbers)
        return Problem(
            "unknown label",
            f"the label {unknown[:60]!r} is not known; known are {listed(known)}{did_you_mean(unknown, known)}",
        )


def listed(names: Sequence[str]) -> str:
    """The first names, quoted, and how many more there are."""
    shown_names = ", ".join(repr(name[:60]) for name in names[:SHOWN])
    return shown_names + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "") if names else "none"
