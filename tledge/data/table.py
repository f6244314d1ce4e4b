"""One source read to its end: inputs in an Arrow file on disk; label numbers and row digests in memory."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tledge.data import inputs
from tledge.data.columns import FLAGS
from tledge.data.inputs import Kind, Value
from tledge.data.labels import LabelReader, Labels, listed
from tledge.data.sources import Problem, Row, Source
from tledge.errors import DataError, did_you_mean
from tledge.progress import Progress
from tledge.recipe.schema import Data
from tledge.tables.source import twice
from tledge.tasks import Task, beside, label_cell

EXAMPLES = 20  # rows that are named as examples of what was left out
BATCH = 1000  # rows written together, and between two signs of progress
COSTLY_STEP = 20  # rows between two signs of progress where each takes long
BATCH_WEIGHT = 16_000_000  # and their bytes, lest long documents and images fill the memory


@dataclass(frozen=True, slots=True)
class Table:
    """The whole rows of one source, in its order.

    `rows` has the columns `row` (where it was) and the task's input columns. `digests`, `(rows, 2) uint64`, holds 16
    bytes of each row's input and `sizes`, `(rows,) int32`, its characters or the pixels of its shorter side. `names`
    are the labels by number, and `renamed` the keys of `data.label_names` that some row had. `n_read` counts broken
    rows too, `skipped` only them, by kind. `read_as` is the source's. `groups`, `(rows,) int64`, is a number for each
    row that is the same for the same value of the column `group`, in other tables too; `None` without one. It is
    `data.group`, or the one of the input that stays together by itself. `n_moved` counts rows with a label that stood
    elsewhere in its text, and `notes` what else was mended or left out, in words. `label_ids` are the source's numbers
    of labels.
    """

    source: str
    path: Path | None
    rows: datasets.Dataset
    labels: Labels
    names: tuple[str, ...]
    renamed: frozenset[str]
    digests: npt.NDArray[np.uint64]
    sizes: npt.NDArray[np.int32]
    n_read: int
    skipped: Mapping[str, int]
    examples: tuple[str, ...]
    read_as: str = ""
    group: str = ""
    groups: npt.NDArray[np.int64] | None = None
    n_moved: int = 0
    notes: Mapping[str, int] = field(default_factory=dict)
    label_ids: Mapping[str, int] = field(default_factory=dict)

    def name(self, index: int) -> str:
        """Where a row was in its file."""
        return str(self.rows.data.column("row")[int(index)])

    def ordered(self, names: Sequence[str]) -> Table:
        """The same rows with labels numbered in the order of `names`."""
        if self.labels.are_values:
            return self
        place = {name: i for i, name in enumerate(names)}
        numbers = np.asarray([place[name] for name in self.names], dtype=np.int64)
        return replace(self, labels=self.labels.renumbered(numbers), names=tuple(names))


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
    columns = _columns(source, settings, task)
    given, label_column = [columns[name] for name in task.INPUT_COLUMNS], columns.get(task.LABEL_COLUMN, "")
    flags = settings.label_columns or ()
    labels = LabelReader(settings, task, label_column, known_labels)
    kind = inputs.load(task.INPUT)
    group = _group_column(source, settings) or columns.get(inputs.together(kind))
    sizes, digests, groups = array("i"), bytearray(), array("q")
    skipped: Counter[str] = Counter()
    examples: list[str] = []
    rows = shown(
        source,
        source.read(
            _wanted(source, task, {*given, *(flags or filter(None, [label_column])), *([group] if group else [])})
        ),
        progress,
        costly=kind.IS_COSTLY,
    )
    with Writer(path, task.INPUT_COLUMNS, kind.TYPES) as writer:
        for row, found in values(rows, kind, given, source.folder):
            problem = found if isinstance(found, Problem) else _group_problem(row, group)
            problem = problem or (
                _flags(row, flags, labels)
                if flags
                else _cell(task, row, label_column, labels, _given(kind, row, given, source.folder))
            )
            if problem is not None:
                if settings.on_error == "fail":
                    raise DataError(f"{row.name}: {problem.detail}; mend the row, or set data.on_error: skip")
                skipped[problem.kind] += 1
                if len(examples) < EXAMPLES:
                    examples.append(f"{row.name}: {problem.detail}")
                continue
            assert isinstance(found, Value)
            sizes.append(found.size)
            digests += found.digest
            if group is not None:
                groups.append(_group_number(row.cells[group]))
            writer.write(found, row.name)
    if not sizes:
        why = f": {skipped.total()} are broken, such as {examples[0]}" if examples else ""
        raise DataError(f"{source.name} has no usable row{why}")
    return Table(
        source=source.name,
        path=source.path,
        rows=datasets.Dataset.from_file(str(path)),
        labels=labels.labels(),
        names=labels.names,
        renamed=frozenset(labels.renamed),
        digests=np.frombuffer(bytes(digests), dtype=np.uint64).reshape(-1, 2),
        sizes=np.asarray(sizes, dtype=np.int32),
        n_read=len(sizes) + skipped.total(),
        skipped=dict(skipped),
        examples=tuple(examples),
        read_as=source.read_as,
        group=group or "",
        groups=np.asarray(groups, dtype=np.int64) if group is not None else None,
        n_moved=labels.n_moved,
        notes=dict(source.notes + labels.notes),
        label_ids=source.label_ids,
    )


def shown(source: Source, rows: Iterator[Row], progress: Progress, *, costly: bool) -> Iterator[Row]:
    """The same rows, with a sign of progress now and then; more often where each takes long."""
    step = COSTLY_STEP if costly else BATCH
    with progress(f"Reading {source.name}", total=source.size) as advance:
        before = 0
        for number, row in enumerate(rows, start=1):
            yield row
            if number % step == 0:
                now = source.done()
                advance(now - before)
                before = now
        advance(source.size - before)


def values(
    rows: Iterator[Row], kind: Kind, columns: Sequence[str], folder: Path | None
) -> Iterator[tuple[Row, Value | Problem]]:
    """Each row with its input, in order; where that is costly a few rows at once, each in a thread."""

    def value(row: Row) -> Value | Problem:
        if row.problem is not None:
            return row.problem
        absent = next((column for column in columns if column not in row.cells), None)
        if absent is not None:
            return _no_cell(absent)
        return kind.read([row.cells[column] for column in columns], columns, folder)

    if not kind.IS_COSTLY:
        yield from ((row, value(row)) for row in rows)
        return
    n_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    waiting: deque[tuple[Row, Future[Value | Problem]]] = deque()
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="decode")
    try:
        for row in rows:
            waiting.append((row, pool.submit(value, row)))
            if len(waiting) > 2 * n_threads:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _wanted(source: Source, task: Task, columns: set[str]) -> set[str]:
    """The columns that are read: those, and what the source has of those that complete a label."""
    return columns | ({*beside(task)} & {*source.columns})


def _given(kind: Kind, row: Row, columns: Sequence[str], folder: Path | None) -> Sequence[object]:
    """What the label of a row is read beside."""
    return inputs.given(kind, [row.cells[name] for name in columns], columns, folder)


def _cell(task: Task, row: Row, column: str, labels: LabelReader, given: Sequence[object]) -> Problem | None:
    if not column:
        return labels.add(None)
    if column not in row.cells:
        return _no_cell(column)
    return labels.add(label_cell(task, row.cells, column), given)


def _flags(row: Row, columns: Sequence[str], labels: LabelReader) -> Problem | None:
    """Take the labels of a row that has a column of 0 and 1 for each."""
    found = []
    for column in columns:
        if column not in row.cells:
            return _no_cell(column)
        is_on = FLAGS.get(str(row.cells[column]).strip().lower())
        if is_on is None:
            return Problem("no flag", f"the column {column!r} holds {inputs.shown(row.cells[column])}, expected 0 or 1")
        if is_on:
            found.append(column)
    return labels.add(found)


def _group_column(source: Source, settings: Data) -> str | None:
    if settings.group is not None and source.columns and settings.group not in source.columns:
        raise DataError(
            f"data.group: {source.name} has no column {settings.group!r}; its columns are {listed(source.columns)}"
            f"{did_you_mean(settings.group, source.columns)}"
        )
    return settings.group


def _group_problem(row: Row, group: str | None) -> Problem | None:
    if group is None:
        return None
    if group not in row.cells:
        return _no_cell(group)
    is_empty = row.cells[group] is None or not str(row.cells[group]).strip()
    return Problem("empty group", f"the column {group!r} is empty, but it is data.group") if is_empty else None


def _group_number(cell: object) -> int:
    """64 bits that are the same for the same value, also where one file has `7` and the other `"7"`."""
    digest = hashlib.blake2b(str(cell).strip().encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _no_cell(column: str) -> Problem:
    return Problem("missing column", f"there is no {column!r}")


def _columns(source: Source, settings: Data, task: Task) -> dict[str, str]:
    """The file's column for each of the task's."""
    wanted = (*task.INPUT_COLUMNS, *filter(None, [task.LABEL_COLUMN]))
    for name in settings.columns:
        if name not in wanted:
            raise DataError(
                f"data.columns: {name!r} is no column of the task; it has {' and '.join(wanted)}"
                f"{did_you_mean(name, wanted)}"
            )
    columns = {name: settings.columns.get(name, name) for name in wanted}
    same = twice(list(columns.values()))
    if same is not None:
        both = " and ".join(name for name, column in columns.items() if column == same)
        raise DataError(f"data.columns: {both} are both {same!r}; give each its own")
    needed = {name: column for name, column in columns.items() if name != task.LABEL_COLUMN}
    needed = needed if settings.label_columns else columns
    absent = next(
        (each for each in settings.label_columns or () if source.columns and each not in source.columns), None
    )
    if absent is not None:
        raise DataError(
            f"data.label_columns: {source.name} has no column {absent!r}; its columns are {listed(source.columns)}"
            f"{did_you_mean(absent, source.columns)}"
        )
    for name, column in needed.items():
        # No columns: no row that was looked at is whole, and the broken rows have more to say.
        if source.columns and column not in source.columns:
            if source.task:
                raise DataError(f"{source.name} has no column {column!r}: its rows are those of the task {source.task}")
            raise DataError(
                f"{source.name} has no column {column!r}; its columns are {listed(source.columns)}"
                f"{did_you_mean(column, source.columns)}; set data.columns.{name}{_other_delimiter(source.columns)}"
            )
    return columns


def _other_delimiter(columns: Sequence[str]) -> str:
    inside = [mark for mark in ";\t|," if len(columns) == 1 and mark in columns[0]]
    return f", or data.delimiter: {inside[0]!r}" if inside else ""


class Writer:
    """Writes inputs and row names to an Arrow stream, a batch at a time."""

    def __init__(self, path: Path, columns: Sequence[str], types: Sequence[Any]) -> None:
        self._schema = pa.schema([*zip(columns, types, strict=True), ("row", pa.string())])
        self._file = pa.OSFile(str(path), "wb")
        self._stream = pa.ipc.new_stream(self._file, self._schema)
        self._rows: list[tuple[Any, ...]] = []
        self._weight = 0

    def __enter__(self) -> Writer:
        return self

    def write(self, value: Value, name: str) -> None:
        """Add one row."""
        self._rows.append((*value.stored, name))
        self._weight += value.weight
        if len(self._rows) == BATCH or self._weight > BATCH_WEIGHT:
            self._flush()

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._stream.close()
        self._file.close()

    def _flush(self) -> None:
        columns = [list(column) for column in zip(*self._rows, strict=True)] or [[] for _ in self._schema]
        self._stream.write_batch(pa.record_batch(columns, schema=self._schema))
        self._rows, self._weight = [], 0
