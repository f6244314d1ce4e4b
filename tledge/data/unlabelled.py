"""Rows without a label: for a student to learn from its teacher on, or documents that others are looked for among."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import datasets

from tledge.data import inputs
from tledge.data.sources import Problem, Source
from tledge.data.stored import UNLABELLED_FILE
from tledge.data.table import Writer, shown, values
from tledge.errors import DataError, did_you_mean
from tledge.progress import Progress
from tledge.recipe.schema import Data
from tledge.tasks import Task

FILE = UNLABELLED_FILE
DOCUMENTS = "documents.arrow"
DOCUMENT_COLUMNS = ("text_pair", "text")
"""The columns of the training rows that documents may stand in, the likelier one first."""


def write(source: Source, settings: Data, task: Task, known: set[bytes], folder: Path, progress: Progress) -> int:
    """Read a source to its end, keep each new input once, and give how many there are.

    Args:
        source: the stream of raw rows; a label column is not looked at.
        settings: the recipe's `data`.
        task: names the input columns.
        known: 16 bytes of each input that the other splits have; such rows are left out, so that a student never
            learns from a test row.
        folder: takes `unlabelled.arrow`.
        progress: shown while reading.

    Raises:
        DataError: the column is missing, no new row is left, or a row is broken and `on_error` is `fail`.
    """
    count = write_new(source, settings, task, known, folder / FILE, progress)
    if not count:
        raise DataError(
            f"data.unlabelled: {source.name} has no row that the training, validation and test rows do not have"
        )
    return count


def write_new(source: Source, settings: Data, task: Task, known: set[bytes], path: Path, progress: Progress) -> int:
    """The same to a file, which may be left with no row: that is for who asks to tell.

    Raises:
        DataError: the column is missing, or a row is broken and `on_error` is `fail`.
    """
    columns = {name: settings.columns.get(name, name) for name in task.INPUT_COLUMNS}
    for name, column in columns.items():
        if source.columns and column not in source.columns:
            raise DataError(
                f"{source.name} has no column {column!r}; its columns are {', '.join(source.columns)}"
                f"{did_you_mean(column, source.columns)}; set data.columns.{name}"
            )
    return _write(source, list(columns.values()), settings, task, known, path, progress)


def write_documents(source: Source, settings: Data, task: Task, folder: Path, progress: Progress) -> int:
    """Read further documents to their end, keep each once in `documents.arrow`, and give how many there are.

    They stand in the column that documents have in the training rows, or that texts have, or in the only column.

    Raises:
        DataError: there is no such column or no document, or a row is broken and `on_error` is `fail`.
    """
    wanted = [settings.columns.get(name, name) for name in DOCUMENT_COLUMNS]
    there = [column for column in wanted if column in source.columns] or list(source.columns)[:2]
    if len(there) == 2 and not set(there) <= set(wanted):
        raise DataError(
            f"data.documents: {source.name} has no column {' or '.join(map(repr, wanted))}; its columns are "
            f"{', '.join(source.columns)}; name it like the training rows' column"
        )
    count = _write(source, (there or wanted[1:])[:1], settings, task, set(), folder / DOCUMENTS, progress)
    if not count:
        raise DataError(f"data.documents: {source.name} has no text; expected one document a row")
    return count


def _write(
    source: Source,
    columns: Sequence[str],
    settings: Data,
    task: Task,
    known: set[bytes],
    path: Path,
    progress: Progress,
) -> int:
    kind = inputs.load(task.INPUT)
    seen, count = set(known), 0
    rows = shown(source, source.read({*columns}), progress, costly=kind.IS_COSTLY)
    with Writer(path, task.INPUT_COLUMNS, kind.TYPES) as writer:
        for row, found in values(rows, kind, list(columns), source.folder):
            if isinstance(found, Problem):
                if settings.on_error == "fail":
                    raise DataError(f"{row.name}: {found.detail}; mend the row, or set data.on_error: skip")
            elif found.digest not in seen:
                seen.add(found.digest)
                writer.write(found, row.name)
                count += 1
    return count


def open_unlabelled(folder: Path) -> datasets.Dataset | None:
    """The rows that `write` kept, with the task's input columns and `row`; `None` where there are none."""
    return _open(folder / FILE)


def open_documents(folder: Path) -> datasets.Dataset | None:
    """The documents that `write_documents` kept, in the column `text`; `None` where there are none."""
    return _open(folder / DOCUMENTS)


def _open(path: Path) -> datasets.Dataset | None:
    return datasets.Dataset.from_file(str(path)) if path.exists() else None
