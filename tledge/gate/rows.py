"""Evaluation rows: labelled rows from a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy.typing as npt

from tledge import tasks
from tledge.answers import Hashes, hashes_of
from tledge.bundle import Manifest
from tledge.errors import DataError, InputError, did_you_mean
from tledge.gate.budget import RowsFile
from tledge.inputs import Input
from tledge.tasks import Task

Array = npt.NDArray[Any]

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Rows:
    """Labelled rows: raw inputs, a hash of each, their labels as the task parses them, and what to call them."""

    values: tuple[Any, ...]
    hashes: Hashes
    labels: tuple[tuple[str, ...], ...]
    name: str

    def targets(self, task: Task, names: Sequence[str]) -> Array:
        """What metrics take, in a bundle's order of labels; `names` are all the labels that rows have, and more."""
        if task.PROBLEM_TYPE == "regression":
            return task.targets([[float(cell) for cell in label] for label in self.labels], 1)
        number = {name: i for i, name in enumerate(names)}
        return task.targets([[number[name] for name in label] for label in self.labels], len(names))


def read(file: RowsFile, manifest: Manifest, encoder: Input) -> Rows:
    """The labelled rows in a CSV, TSV or JSON Lines file.

    Args:
        file: The file, its columns, and how labels are written. Paths of images start from the file's folder.
        manifest: The bundle's, for its task and its labels.
        encoder: The bundle's preprocessing.

    Raises:
        DataError: the file cannot be read, or a row has no input or label that the bundle knows; with its line.
    """
    task = tasks.load(manifest.task)
    column, label_column = file.input_column or task.INPUT_COLUMN, file.label_column or task.LABEL_COLUMN
    values, labels = [], []
    for place, cells in _cells(file.rows):
        for name in (column, label_column):
            if name not in cells:
                listed = ", ".join(map(repr, list(cells)[:_SHOWN]))
                raise DataError(f"{place}: there is no column {name!r}; there are {listed}{did_you_mean(name, cells)}")
        values.append(_value(cells[column], column, place, task, file.rows.parent, encoder))
        labels.append(_label(cells[label_column], label_column, place, task, manifest.labels, file))
    if not values:
        raise DataError(f"{file.rows} has no row; expected labelled rows")
    return Rows(tuple(values), hashes_of(values), tuple(labels), file.rows.name)


def _cells(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The place and the cells of each row."""
    suffix = path.suffix.lower()
    if suffix not in (*_DELIMITERS, *_JSON_LINES):
        known = ", ".join((*_DELIMITERS, *_JSON_LINES))
        raise DataError(f"{path}: a file of rows ends in one of {known}; got {suffix or 'no suffix'}")
    try:
        with path.open(encoding="utf-8-sig", newline="" if suffix in _DELIMITERS else None) as file:
            yield from _json_cells(file, path) if suffix in _JSON_LINES else _csv_cells(file, path, _DELIMITERS[suffix])
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected labelled rows (CSV, TSV or JSON Lines)") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _csv_cells(file: TextIO, path: Path, delimiter: str) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(file, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            place = f"{path}:{reader.line_num}"
            if None in row or None in row.values():
                width = len(reader.fieldnames or ())
                raise DataError(f"{place}: the row has not the header's {width} columns; check its quotes")
            yield place, dict(row)
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num + 1}: not a row of CSV: {error}") from None


def _json_cells(file: TextIO, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for line, text in enumerate(file, start=1):
        if text.strip():
            yield f"{path}:{line}", _json_row(text, f"{path}:{line}")


def _json_row(text: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{place}: not a row of JSON Lines: {error}") from None
    if not isinstance(row, dict):
        raise DataError(f"{place}: expected an object with columns, got {text.strip()[:40]!r}")
    return row


def _value(cell: object, column: str, place: str, task: Task, folder: Path, encoder: Input) -> Any:
    if not isinstance(cell, str) or not cell.strip():
        what = "a text" if task.INPUT == "text" else "a path"
        raise DataError(f"{place}: the column {column!r} holds {cell!r:.40}, expected {what}")
    value = cell if task.INPUT == "text" else folder / cell
    try:
        encoder.check(value)
    except InputError as error:
        raise DataError(f"{place}: {error}") from error
    return value


def _label(cell: Any, column: str, place: str, task: Task, known: Sequence[str], file: RowsFile) -> tuple[str, ...]:
    several = task.PROBLEM_TYPE == "multi_label_classification"
    if isinstance(cell, dict) or (isinstance(cell, list) and not several):
        raise DataError(f"{place}: the column {column!r} holds {cell!r:.40}, expected one label")
    try:
        names = () if cell is None else task.parse_label(cell, file.label_separator)
    except ValueError:
        raise DataError(f"{place}: the column {column!r} holds {cell!r:.40}, expected a finite number") from None
    if not names and task.NEEDS_LABEL:
        raise DataError(f"{place}: the column {column!r} is empty, expected a label")
    if task.PROBLEM_TYPE == "regression":
        return names
    names = tuple(dict.fromkeys(file.label_names.get(name, name) for name in names))
    for name in names:
        if name not in known:
            listed = ", ".join(known[:_SHOWN]) + (" ..." if len(known) > _SHOWN else "")
            raise DataError(
                f"{place}: the label {name[:60]!r} is not the bundle's, which has {listed}{did_you_mean(name, known)}; "
                "rename it with evaluation.label_names"
            )
    return names
