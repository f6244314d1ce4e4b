"""The four splits on disk: one Arrow file each, and `data.json`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tledge import artifacts
from tledge.artifacts import read_json
from tledge.data.labels import Labels
from tledge.data.table import Table
from tledge.tasks import Task

SPLITS = ("train", "validation", "calibration", "test")
UNLABELLED = len(SPLITS)
"""The number of the rows that are kept without their label."""
UNLABELLED_FILE = "unlabelled.arrow"


@dataclass(frozen=True, slots=True)
class DataReport:
    """What was read and what became of it.

    `sources` names the file of each split. By the split that a file was given for, `n_read` counts its rows and
    `sha256` is that of a local file.
    `rows` and `label_counts` count each split. `skipped` counts broken rows by kind, with some `skipped_examples`. Of
    training rows with the same input only the first is kept: `duplicates` counts those left out with the same labels,
    `conflicts` those with others, with some `conflict_examples`. `overlap_dropped` counts rows left out because the
    user's own validation or test file has their input, and `repeated` rows of such files whose input was there before,
    by split: they are kept. `text_lengths` has quantiles of the training texts, in characters, or `image_sides` of the
    training images' shorter sides, in pixels. For a regression `label_counts` counts the rows, and `target_quantiles`
    has quantiles of the numbers, by split. `unlabelled` counts the rows without a label. `columns` has the training
    file's column for each of the task's, and `read_as` how files were read that told it themselves, by split.
    `groups` counts in each split the values of the column `group`, which stayed together. `n_moved` counts rows with a
    label that stood elsewhere in its text than was said, and was taken for that; `notes` counts what else of labels or
    files was mended or left out, in words. `label_ids` are the numbers that the training source has for the labels.
    `fingerprint` is the same for the same inputs and labels in the same splits. `domain` counts the rows of another
    domain: those to adapt to (`target`), those that `judge`, and those `left_out` because labelled rows have them.
    """

    labels: tuple[str, ...]
    sources: Mapping[str, str]
    n_read: Mapping[str, int]
    sha256: Mapping[str, str]
    rows: Mapping[str, int]
    label_counts: Mapping[str, Mapping[str, int]]
    skipped: Mapping[str, int]
    skipped_examples: tuple[str, ...]
    duplicates: int
    conflicts: int
    conflict_examples: tuple[str, ...]
    overlap_dropped: int
    repeated: Mapping[str, int]
    fingerprint: str
    domain: Mapping[str, int] = field(default_factory=dict)
    text_lengths: Mapping[str, int] = field(default_factory=dict)
    image_sides: Mapping[str, int] = field(default_factory=dict)
    target_quantiles: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    unlabelled: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    read_as: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    groups: Mapping[str, int] = field(default_factory=dict)
    n_moved: int = 0
    notes: Mapping[str, int] = field(default_factory=dict)
    label_ids: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Splits:
    """Four disjoint sets of rows on disk; `calibration` may be empty.

    Each has the task's input columns, `label` (a list of label numbers: one, or any number where the task has several;
    for a regression a list of the one number to estimate) and `row` (where the row was). An image is a mapping of
    `bytes`, those of an image file, and `path`, that of a local one; one of them is `None`. `labels` are in the order
    of the model's outputs, for a regression the one name of what is estimated.
    """

    train: datasets.Dataset
    validation: datasets.Dataset
    calibration: datasets.Dataset
    test: datasets.Dataset
    labels: tuple[str, ...]
    report: DataReport

    @property
    def fingerprint(self) -> str:
        """The same for the same inputs and labels in the same splits."""
        return self.report.fingerprint


class Inputs(Sequence[Any]):
    """The inputs of rows, read from disk when they are asked for: one column's cells, or tuples of several columns'."""

    def __init__(self, rows: datasets.Dataset, columns: Sequence[str]) -> None:
        self._columns = [rows[column] for column in columns]

    def __len__(self) -> int:
        return len(self._columns[0])

    def __getitem__(self, index: Any) -> Any:
        cells = [column[index] for column in self._columns]
        if len(cells) == 1:
            return cells[0]
        return list(zip(*cells, strict=True)) if isinstance(index, slice) else tuple(cells)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._columns[0]) if len(self._columns) == 1 else zip(*self._columns, strict=True)


def inputs_of(rows: datasets.Dataset, task: Task) -> Inputs:
    """The inputs of the rows of a split."""
    return Inputs(rows, task.INPUT_COLUMNS)


def open_splits(folder: Path) -> Splits:
    """The splits that `load` wrote to a folder."""
    report = artifacts.from_dict(DataReport, read_json(folder / "data.json"))
    # Our own files, one a split: `datasets.load_from_disk` cannot read a split without rows.
    rows = {name: datasets.Dataset.from_file(str(folder / f"{name}.arrow")) for name in SPLITS}
    return Splits(**rows, labels=report.labels, report=report)


def named_files(folder: Path) -> list[str]:
    """The local files that the rows in a folder name, sorted: images that are not stored themselves."""
    found: set[str] = set()
    for path in sorted(folder.glob("*.arrow")):
        rows = datasets.Dataset.from_file(str(path)).data.table
        for column in rows.columns:
            if pa.types.is_struct(column.type) and column.type.get_field_index("path") >= 0:
                found.update(path for path in pc.struct_field(column, "path").to_pylist() if path)
    return sorted(found)


def write(
    tables: Mapping[str, Table], parts: Mapping[str, npt.NDArray[np.int8]], columns: Sequence[str], folder: Path
) -> None:
    """Write each row of the tables to the file of its split, in their order and in constant memory.

    Args:
        tables: by name; `parts` has the same names.
        parts: for every row of a table the number of its split in `SPLITS`, `UNLABELLED` for a row that is kept
            without its label, or -1 for one that is left out.
        columns: the task's input columns.
        folder: takes `train.arrow` and so on.
    """
    schema = _schema(tables["train"], columns)
    with ExitStack() as stack:
        streams = []
        kept = [f"{name}.arrow" for name in SPLITS]
        kept += [UNLABELLED_FILE] if (parts["train"] == UNLABELLED).any() else []
        for name in kept:
            path = folder / name
            path.unlink(missing_ok=True)  # splits that are open map the file: they keep it, and a new one is made
            file = stack.enter_context(pa.OSFile(str(path), "wb"))
            streams.append(stack.enter_context(pa.ipc.new_stream(file, schema)))
        for name, table in tables.items():
            start = 0
            for batch in table.rows.data.to_batches():
                places = parts[name][start : start + len(batch)]
                for split in np.unique(places[places >= 0]):
                    chosen = np.flatnonzero(places == split)
                    streams[split].write_batch(
                        _batch(table, batch, chosen, start, schema, labelled=split != UNLABELLED)
                    )
                start += len(batch)


def write_rows(
    table: Table, rows: npt.NDArray[np.int64], columns: Sequence[str], path: Path, *, labelled: bool = True
) -> None:
    """Write some rows of a table to a file as those of a split are written; without `label` where not `labelled`."""
    schema = _schema(table, columns)
    kept = schema if labelled else schema.remove(schema.get_field_index("label"))
    start = 0
    path.unlink(missing_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, kept) as stream:
        for batch in table.rows.data.to_batches():
            chosen = rows[(rows >= start) & (rows < start + len(batch))] - start
            stream.write_batch(_batch(table, batch, chosen, start, schema).select(kept.names))
            start += len(batch)


def _schema(table: Table, columns: Sequence[str]) -> pa.Schema:
    of_labels = pa.list_(pa.float64() if table.labels.flat.dtype.kind == "f" else pa.int64())
    types = [(column, table.rows.data.schema.field(column).type) for column in columns]
    return pa.schema([*types, ("label", of_labels), ("row", pa.string())])


def _batch(
    table: Table,
    batch: Any,
    chosen: npt.NDArray[np.int64],
    start: int,
    schema: pa.Schema,
    *,
    labelled: bool = True,
) -> pa.RecordBatch:
    """Some rows of a batch of a table's inputs, that begins at row `start`, with their labels, or with none."""
    names = [name for name in schema.names if name != "label"]
    arrays = {name: batch.column(name).take(pa.array(chosen)) for name in names}
    of_labels = schema.field("label").type
    labels = _label_column(table.labels.take(chosen + start), of_labels)
    arrays["label"] = labels if labelled else pa.array([[]] * len(chosen), of_labels)
    return pa.record_batch([arrays[name] for name in schema.names], schema=schema)


def _label_column(labels: Labels, of_type: Any) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(labels.offsets, pa.int32()), pa.array(labels.flat, of_type.value_type))


def fingerprint(tables: Mapping[str, Table], parts: Mapping[str, npt.NDArray[np.int8]], labels: tuple[str, ...]) -> str:
    """SHA-256 of the label names and, split by split, of the rows' digests and labels."""
    digest = hashlib.sha256("\0".join(labels).encode())
    for number, split in enumerate(SPLITS):
        digest.update(split.encode())
        for name, table in tables.items():
            chosen = np.flatnonzero(parts[name] == number)
            own = table.labels.take(chosen)
            for numbers in (table.digests[chosen], own.offsets, own.flat):
                digest.update(numbers.astype(f"<{numbers.dtype.kind}8").tobytes())
    return digest.hexdigest()
