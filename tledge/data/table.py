"""One source read to its end: inputs in an Arrow file on disk; label numbers and row digests in memory."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tledge.data.sources import Problem, Row, Source
from tledge.errors import DataError, did_you_mean
from tledge.progress import Progress
from tledge.recipe.schema import Data
from tledge.tasks import Task

EXAMPLES = 20  # rows that are named as examples of what was left out
BATCH = 1000  # rows written together
BATCH_CHARACTERS = 16_000_000  # and their characters, lest long documents fill the memory
SHOWN = 10  # labels or columns that a message lists

Numbers = npt.NDArray[np.int64]

_HALF = re.compile(r"[\ud800-\udfff]")  # of a surrogate pair: JSON can hold it alone, UTF-8 cannot


@dataclass(frozen=True, slots=True)
class Labels:
    """The label numbers of many rows: those of row i are `flat[offsets[i]:offsets[i + 1]]`, ascending."""

    flat: Numbers
    offsets: Numbers

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.offsets) - 1

    def of(self, row: int) -> tuple[int, ...]:
        """The label numbers of one row."""
        return tuple(self.flat[self.offsets[row] : self.offsets[row + 1]].tolist())

    def take(self, rows: Numbers) -> Labels:
        """The labels of some rows, in their order."""
        sizes = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        places = np.repeat(self.offsets[rows] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return Labels(self.flat[places], offsets)

    def counts(self, n_labels: int) -> Numbers:
        """How many rows have each label, `(labels,) int64`."""
        return np.bincount(self.flat, minlength=n_labels).astype(np.int64)

    def renumbered(self, numbers: Numbers) -> Labels:
        """The same labels where label i is called `numbers[i]`."""
        flat, rows = numbers[self.flat], np.repeat(np.arange(len(self)), np.diff(self.offsets))
        return Labels(flat[np.lexsort((flat, rows))], self.offsets)


@dataclass(frozen=True, slots=True)
class Table:
    """The whole rows of one source, in its order.

    `rows` has the columns `row` (where it was) and the task's input column. `digests`, `(rows, 2) uint64`, holds 16
    bytes of each row's normalised text and `lengths`, `(rows,) int32`, its characters. `names` are the labels by
    number, and `renamed` the keys of `data.label_names` that some row had. `n_read` counts broken rows too, `skipped`
    only them, by kind.
    """

    source: str
    path: Path | None
    rows: datasets.Dataset
    labels: Labels
    names: tuple[str, ...]
    renamed: frozenset[str]
    digests: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.int32]
    n_read: int
    skipped: Mapping[str, int]
    examples: tuple[str, ...]

    def name(self, index: int) -> str:
        """Where a row was in its file."""
        return str(self.rows[int(index)]["row"])

    def ordered(self, names: Sequence[str]) -> Table:
        """The same rows with labels numbered in the order of `names`."""
        place = {name: i for i, name in enumerate(names)}
        numbers = np.asarray([place[name] for name in self.names], dtype=np.int64)
        return replace(self, labels=self.labels.renumbered(numbers), names=tuple(names))


def digest(text: str) -> bytes:
    """16 bytes that are equal for texts which differ only in Unicode composition, or in white space.

    Raises:
        UnicodeEncodeError: half of a surrogate pair is in the text.
    """
    plain = " ".join(unicodedata.normalize("NFC", text).split())
    return hashlib.blake2b(plain.encode(), digest_size=16).digest()


def read(
    source: Source, settings: Data, task: Task, *, known_labels: Sequence[str] | None, path: Path, progress: Progress
) -> Table:
    """Read a source to its end into an Arrow file.

    Args:
        source: the stream of raw rows.
        settings: the recipe's `data`.
        task: names the columns and parses labels.
        known_labels: labels that a row may have, in their order; `None` takes every one.
        path: the Arrow file to write.
        progress: shown in bytes or rows, as the source counts.

    Raises:
        DataError: a column is missing, no row can be used, or a row is broken and `on_error` is `fail`.
    """
    mapping = _Mapping(settings, task, _columns(source, settings, task), known_labels)
    flat, offsets, lengths, digests = array("q"), array("q", [0]), array("i"), bytearray()
    skipped: Counter[str] = Counter()
    examples: list[str] = []
    with _Writer(path, task.INPUT_COLUMN) as writer:
        for row in _shown(source, source.read(set(mapping.columns.values())), progress):
            found = row.problem or mapping.map(row.cells)
            if isinstance(found, Problem):
                if settings.on_error == "fail":
                    raise DataError(f"{row.name}: {found.detail}; mend the row, or set data.on_error: skip")
                skipped[found.kind] += 1
                if len(examples) < EXAMPLES:
                    examples.append(f"{row.name}: {found.detail}")
                continue
            text, numbers, key = found
            flat.extend(numbers)
            offsets.append(len(flat))
            lengths.append(len(text))
            digests += key
            writer.write(text, row.name)
    if not lengths:
        why = f": {skipped.total()} are broken, such as {examples[0]}" if examples else ""
        raise DataError(f"{source.name} has no usable row{why}")
    return Table(
        source=source.name,
        path=source.path,
        rows=datasets.Dataset.from_file(str(path)),
        labels=Labels(np.asarray(flat, dtype=np.int64), np.asarray(offsets, dtype=np.int64)),
        names=tuple(mapping.numbers),
        renamed=frozenset(mapping.renamed),
        digests=np.frombuffer(bytes(digests), dtype=np.uint64).reshape(-1, 2),
        lengths=np.asarray(lengths, dtype=np.int32),
        n_read=len(lengths) + skipped.total(),
        skipped=dict(skipped),
        examples=tuple(examples),
    )


def _shown(source: Source, rows: Iterator[Row], progress: Progress) -> Iterator[Row]:
    with progress(f"Reading {source.name}", total=source.size) as advance:
        before = 0
        for number, row in enumerate(rows, start=1):
            yield row
            if number % BATCH == 0:
                now = source.done()
                advance(now - before)
                before = now
        advance(source.size - before)


def _columns(source: Source, settings: Data, task: Task) -> dict[str, str]:
    """The file's column for each of the task's."""
    wanted = (task.INPUT_COLUMN, task.LABEL_COLUMN)
    for name in settings.columns:
        if name not in wanted:
            raise DataError(
                f"data.columns: {name!r} is no column of the task; it has {' and '.join(wanted)}"
                f"{did_you_mean(name, wanted)}"
            )
    columns = {name: settings.columns.get(name, name) for name in wanted}
    if len(set(columns.values())) < len(columns):
        raise DataError(f"data.columns: {' and '.join(wanted)} are both {columns[wanted[0]]!r}; give each its own")
    for name, column in columns.items():
        # No columns: no row that was looked at is whole, and the broken rows have more to say.
        if source.columns and column not in source.columns:
            raise DataError(
                f"{source.name} has no column {column!r}; its columns are {_listed(source.columns)}"
                f"{did_you_mean(column, source.columns)}; set data.columns.{name}{_other_delimiter(source.columns)}"
            )
    return columns


def _other_delimiter(columns: Sequence[str]) -> str:
    inside = [mark for mark in ";\t|," if len(columns) == 1 and mark in columns[0]]
    return f", or data.delimiter: {inside[0]!r}" if inside else ""


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "") if names else "none"


class _Mapping:
    """Raw cells to a text, label numbers and the text's digest; new labels get the next number unless all are known."""

    def __init__(self, settings: Data, task: Task, columns: Mapping[str, str], known: Sequence[str] | None) -> None:
        self.columns = columns
        self.numbers = {name: i for i, name in enumerate(known or ())}
        self.renamed: set[str] = set()
        self._settings, self._task, self._closed = settings, task, known is not None

    def map(self, cells: Mapping[str, Any]) -> tuple[str, list[int], bytes] | Problem:
        """What is kept of a row, or what is wrong with it."""
        absent = next((column for column in self.columns.values() if column not in cells), None)
        if absent is not None:
            return Problem("missing column", f"there is no {absent!r}")
        column = self.columns[self._task.INPUT_COLUMN]
        text = cells[column]
        if text is None or (isinstance(text, str) and not text.strip()):
            return Problem("empty text", f"the column {column!r} is empty")
        if not isinstance(text, str):
            return Problem("no text", f"the column {column!r} holds {text!r:.40}, expected text")
        names = self._names(cells[self.columns[self._task.LABEL_COLUMN]])
        if isinstance(names, Problem):
            return names
        for place, value in ((column, text), (self.columns[self._task.LABEL_COLUMN], "".join(names))):
            if _HALF.search(value):
                return Problem("undecodable text", f"the column {place!r} holds half of a surrogate pair")
        return text, sorted(self.numbers.setdefault(name, len(self.numbers)) for name in names), digest(text)

    def _names(self, cell: object) -> tuple[str, ...] | Problem:
        column = self.columns[self._task.LABEL_COLUMN]
        parts = cell if isinstance(cell, list | tuple) and self._several else [cell]
        if any(isinstance(part, dict | list | tuple) or (part is None and parts is cell) for part in parts):
            expected = "label names" if self._several else "one label name"
            return Problem("no label", f"the column {column!r} holds {cell!r:.40}, expected {expected}")
        empty = cell is None or (isinstance(cell, float) and math.isnan(cell))
        raw = () if empty else self._task.parse_label(cell, self._settings.label_separator)
        if not raw and self._task.NEEDS_LABEL:
            return Problem("empty label", f"the column {column!r} is empty")
        given = self._settings.label_names
        self.renamed.update(name for name in raw if name in given)
        names = tuple(dict.fromkeys(given.get(name, name) for name in raw))
        unknown = next((name for name in names if self._closed and name not in self.numbers), None)
        if unknown is None:
            return names
        known = list(self.numbers)
        return Problem(
            "unknown label",
            f"the label {unknown[:60]!r} is not known; known are {_listed(known)}{did_you_mean(unknown, known)}",
        )

    @property
    def _several(self) -> bool:
        return self._task.PROBLEM_TYPE == "multi_label_classification"


class _Writer:
    """Writes texts and row names to an Arrow stream, a batch at a time."""

    def __init__(self, path: Path, column: str) -> None:
        self._schema = pa.schema({column: pa.string(), "row": pa.string()})
        self._file = pa.OSFile(str(path), "wb")
        self._stream = pa.ipc.new_stream(self._file, self._schema)
        self._texts: list[str] = []
        self._names: list[str] = []
        self._characters = 0

    def __enter__(self) -> _Writer:
        return self

    def write(self, text: str, name: str) -> None:
        """Add one row."""
        self._texts.append(text)
        self._names.append(name)
        self._characters += len(text)
        if len(self._texts) == BATCH or self._characters > BATCH_CHARACTERS:
            self._flush()

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._stream.close()
        self._file.close()

    def _flush(self) -> None:
        self._stream.write_batch(pa.record_batch([self._texts, self._names], schema=self._schema))
        self._texts, self._names, self._characters = [], [], 0
