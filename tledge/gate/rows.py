"""Evaluation rows: labelled rows from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from tledge import tasks
from tledge.answers import Hashes, hashes_of
from tledge.bundle import Manifest
from tledge.errors import DataError, InputError, did_you_mean
from tledge.gate.budget import COLUMNS, RowsFile
from tledge.inputs import Input
from tledge.tables import Row, open_table, whole_rows
from tledge.tasks import Task

Array = npt.NDArray[Any]

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Rows:
    """Labelled rows: raw inputs, a hash of each row, their labels as the task parses them, and what to call them.

    `known` are targets that are the same for every bundle; there may then be several values for each row.
    """

    values: tuple[Any, ...]
    hashes: Hashes
    labels: tuple[tuple[Any, ...], ...]
    name: str
    known: Array | None = None

    def targets(self, task: Task, names: Sequence[str]) -> Array:
        """What metrics take, in a bundle's order of labels; `names` are all the labels that rows have, and more."""
        if self.known is not None:
            return self.known
        return task.targets([task.numbered(label, names) for label in self.labels], len(names))


def read(file: RowsFile, manifest: Manifest, encoder: Input) -> Rows:
    """The labelled rows in a table, or in a folder or file of pictures with boxes.

    Args:
        file: The file, its columns, and how labels are written. Paths of images start from the file's folder.
        manifest: The bundle's, for its task and its labels.
        encoder: The bundle's preprocessing.

    Raises:
        DataError: the file cannot be read, or a row has no input or label that the bundle knows; with its line.
    """
    task = tasks.load(manifest.task)
    if not file.rows.exists():
        raise DataError(f"{file.rows}: no such file, expected labelled rows (CSV, TSV or JSON Lines)")
    source = open_table(file.rows)
    asked = {name: file.columns.get(name, name) for name in COLUMNS}
    form = task.form([name for name, column in asked.items() if column in source.columns])
    given = task if form is None else form
    names = tuple(filter(None, (*given.INPUT_COLUMNS, given.LABEL_COLUMN)))
    other = next((name for name in file.columns if name not in names), None)
    if other is not None:
        raise DataError(f"evaluation.{other}: {manifest.task} has no such column; it has {', '.join(names)}")
    columns = {name: file.columns.get(name, name) for name in names}
    if len(set(columns.values())) < len(columns):
        raise DataError(
            f"evaluation: {' and '.join(names)} must be columns of their own, got {', '.join(columns.values())}"
        )
    values, labels = [], []
    for row in whole_rows(source):
        for name in columns.values():
            if name not in row.cells:
                listed = ", ".join(map(repr, list(row.cells)[:_SHOWN]))
                hint = did_you_mean(name, row.cells)
                raise DataError(f"{row.name}: there is no column {name!r}; there are {listed}{hint}")
        cells = [columns[name] for name in (task if form is None else form).INPUT_COLUMNS]
        if form is not None:
            values.append(tuple(_value(row, [column], file, encoder) for column in cells))
            labels.append(_parsed(row, columns.get(form.LABEL_COLUMN), (), form, file))
            continue
        values.append(_value(row, cells, file, encoder))
        # Labels of an image are read beside the image itself, whose path starts from the file's folder.
        raw = values[-1:] if encoder.decodes else [row.cells[column] for column in cells]
        labels.append(_label(row, columns[task.LABEL_COLUMN], raw, task, manifest.labels, file))
    if not values:
        raise DataError(f"{file.rows} has no row; expected labelled rows")
    if form is not None:
        return _of_form(form, values, labels, file.rows.name, encoder)
    return Rows(tuple(values), hashes_of(values), tuple(labels), file.rows.name)


def _of_form(form: Any, rows: Sequence[Any], labels: Sequence[tuple[str, ...]], name: str, encoder: Any) -> Rows:
    """Rows of several texts each, whose vectors are judged together; their targets follow from the texts."""
    judged = [form.judged(row) for row in rows]
    whole = [form.prompted(row, encoder) for row in judged]
    values = tuple(text for row in whole for text in row)
    return Rows(values, hashes_of(whole), tuple(labels), name, form.targets(judged, labels))


def _value(row: Row, columns: Sequence[str], file: RowsFile, encoder: Input) -> Any:
    for column in columns:
        cell = row.cells[column]
        if not encoder.holds(cell):
            raise DataError(f"{row.name}: the column {column!r} holds {cell!r:.40}, expected {encoder.expected}")
    value = encoder.of_cells([row.cells[column] for column in columns], file.rows.parent)
    try:
        encoder.check(value)
    except InputError as error:
        raise DataError(f"{row.name}: {error}") from error
    return value


def _parsed(row: Row, column: str | None, given: Sequence[Any], task: Any, file: RowsFile) -> tuple[Any, ...]:
    """What a row's cell tells, as a task parses it, by its name here; nothing where there is no such column."""
    if column is None:
        return ()
    cell = tasks.label_cell(task, row.cells, column)
    try:
        label: tuple[Any, ...] = task.parse_label(cell, file.label_separator, ".", given)
    except ValueError as error:
        raise DataError(f"{row.name}: the column {column!r} holds {cell!r:.40}, expected {error}") from None
    if not label and task.NEEDS_LABEL:
        raise DataError(f"{row.name}: the column {column!r} is empty, expected a label")
    renamed: tuple[Any, ...] = task.renamed(label, file.label_names)
    return renamed


def _label(
    row: Row, column: str, given: Sequence[Any], task: Task, known: Sequence[str], file: RowsFile
) -> tuple[Any, ...]:
    label = _parsed(row, column, given, task, file)
    try:
        task.numbered(label, known)
    except ValueError as error:
        unknown = str(error)
        listed = ", ".join(known[:_SHOWN]) + (" ..." if len(known) > _SHOWN else "")
        raise DataError(
            f"{row.name}: the label {unknown[:60]!r} is not the bundle's, which has {listed}"
            f"{did_you_mean(unknown, known)}; rename it with evaluation.label_names"
        ) from None
    return label
