"""Evaluation rows: labelled rows from a file, or the answers that a run stored for its test rows."""

from __future__ import annotations

import csv
import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from tledge import tasks
from tledge.bundle import Manifest
from tledge.errors import DataError, InputError, did_you_mean
from tledge.gate.budget import RowsFile
from tledge.inputs import Input
from tledge.tasks import Task

Array = npt.NDArray[Any]
Hashes = npt.NDArray[np.uint64]

ANSWERS = "answers.npz"
"""In a run's folder of variants: the hashes of its test rows, their targets, and every variant's outputs."""
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


@dataclass(frozen=True, slots=True)
class Answers:
    """What one variant gave for some rows: a hash of each input, targets, and raw outputs by name, rows first."""

    hashes: Hashes
    targets: Array
    outputs: Mapping[str, Array]

    def take(self, rows: Array) -> Answers:
        """Some of the rows, in their order."""
        outputs = {name: array[rows] for name, array in self.outputs.items()}
        return Answers(self.hashes[rows], self.targets[rows], outputs)


def hash_of(value: Any) -> int:
    """The first 64 bits of the SHA-256 of an input: of a text's UTF-8, or of an image file's bytes.

    Args:
        value: A text, the path of an image file, its bytes, or a mapping with its `bytes` or its `path`.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes") or Path(value["path"])
    if isinstance(value, Path):
        value = value.read_bytes()
    content = value if isinstance(value, bytes) else str(value).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def hashes_of(values: Sequence[Any]) -> Hashes:
    """The hash of each input, `(rows,) uint64`."""
    return np.fromiter((hash_of(value) for value in values), np.uint64, len(values))


def hexadecimal(hashes: Hashes) -> tuple[str, ...]:
    """Hashes as 16 hexadecimal digits each, sorted, each once."""
    return tuple(f"{value:016x}" for value in sorted(set(hashes.tolist())))


def save_answers(folder: Path, hashes: Hashes, targets: Array, outputs: Mapping[str, Mapping[str, Array]]) -> None:
    """Write what each variant gave for the test rows; `outputs` are by variant and name, rows first."""
    arrays = {f"output.{variant}.{name}": a for variant, by_name in outputs.items() for name, a in by_name.items()}
    np.savez_compressed(folder / ANSWERS, hashes=hashes, targets=targets, **arrays)  # type: ignore[arg-type,unused-ignore]


def read_answers(folder: Path, variant: str) -> Answers | None:
    """The stored answers of a variant in a run's folder of variants, `None` where they are not stored.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / ANSWERS
    prefix = f"output.{variant}."
    try:
        with np.load(path) as stored:
            outputs = {key.removeprefix(prefix): stored[key] for key in stored.files if key.startswith(prefix)}
            return Answers(stored["hashes"], stored["targets"], outputs) if outputs else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged: {error}; run the stage quantize again") from error


def join(ours: Answers, theirs: Answers) -> tuple[Answers, Answers]:
    """The rows that both have, in our order; of rows with the same input the first one counts."""
    _, first, other = np.intersect1d(ours.hashes, theirs.hashes, return_indices=True)
    order = np.argsort(first)
    return ours.take(first[order]), theirs.take(other[order])


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
