"""One source read to the end: inputs in an Arrow file on disk; labels and row digests in memory."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets.arrow_writer import ArrowWriter

from tledge.data.sources import Problem, Source
from tledge.errors import DataError, did_you_mean
from tledge.progress import Progress
from tledge.recipe.schema import Data
from tledge.tasks import Task

EXAMPLES = 20  # broken rows that are kept as examples
BATCH = 1000  # rows written together, and counted together on a progress bar


@dataclass(frozen=True, slots=True)
class Table:
    """The whole rows of one source, in its order.

    `rows` has the columns `row` (where it was) and the task's input column; `labels` the label names of each row;
    `digests` 16 bytes for each row's normalised text. `skipped` counts broken rows by kind.
    """

    source: str
    rows: datasets.Dataset
    labels: list[tuple[str, ...]]
    digests: list[bytes]
    skipped: Mapping[str, int]
    examples: tuple[str, ...]

    def name(self, index: int) -> str:
        """Where a row was in its file."""
        return str(self.rows[index]["row"])


def digest(text: str) -> bytes:
    """16 bytes that are equal for texts which differ only in Unicode composition, or in space between words."""
    plain = " ".join(unicodedata.normalize("NFC", text).split())
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def read(
    source: Source, settings: Data, task: Task, *, known_labels: Sequence[str] | None, path: Path, progress: Progress
) -> Table:
    """Read a source to its end into an Arrow file.

    Args:
        source: the stream of raw rows.
        settings: the recipe's `data`.
        task: names the columns and parses labels.
        known_labels: labels that a row may have; `None` takes every one.
        path: the Arrow file to write.
        progress: shown by rows.

    Raises:
        DataError: a column is missing; or a row is broken and `on_error` is `fail`.
    """
    columns = _columns(source, settings, task)
    labels: list[tuple[str, ...]] = []
    digests: list[bytes] = []
    skipped: Counter[str] = Counter()
    examples: list[str] = []
    text_column = task.INPUT_COLUMN
    features = datasets.Features({text_column: datasets.Value("large_string"), "row": datasets.Value("string")})
    with (
        ArrowWriter(path=str(path), features=features) as writer,
        progress(f"Reading {source.name}", total=source.size or 0) as advance,
    ):
        for number, row in enumerate(source.rows, start=1):
            if number % BATCH == 0:
                advance(BATCH)
            text, found, problem = _parse(row.cells, columns, task, settings, known_labels)
            problem = row.problem or problem
            if problem is not None:
                if settings.on_error == "fail":
                    raise DataError(f"{row.name}: {problem.detail}; mend the row, or set data.on_error: skip")
                skipped[problem.kind] += 1
                if len(examples) < EXAMPLES:
                    examples.append(f"{row.name}: {problem.detail}")
                continue
            labels.append(found)
            digests.append(digest(text))
            writer.write({text_column: text, "row": row.name})
        writer.finalize()
    if not labels:
        why = f" ({examples[0]})" if examples else ""
        raise DataError(f"{source.name} has no usable row{why}")
    return Table(source.name, datasets.Dataset.from_file(str(path)), labels, digests, skipped, tuple(examples))


def _columns(source: Source, settings: Data, task: Task) -> dict[str, str]:
    wanted = (task.INPUT_COLUMN, task.LABEL_COLUMN)
    for name in settings.columns:
        if name not in wanted:
            raise DataError(
                f"data.columns: {name!r} is no column of the task; it has {' and '.join(wanted)}"
                f"{did_you_mean(name, wanted)}"
            )
    columns = {name: settings.columns.get(name, name) for name in wanted}
    for name, column in columns.items():
        if column not in source.columns:
            raise DataError(
                f"{source.name} has no column {column!r}; its columns are {', '.join(map(repr, source.columns))}"
                f"{did_you_mean(column, source.columns)}; set data.columns.{name}"
            )
    return columns


def _parse(
    cells: Mapping[str, Any], columns: Mapping[str, str], task: Task, settings: Data, known: Sequence[str] | None
) -> tuple[str, tuple[str, ...], Problem | None]:
    """A row's text and label names, or what is wrong with it."""
    raw_text, raw_label = cells.get(columns[task.INPUT_COLUMN]), cells.get(columns[task.LABEL_COLUMN])
    text = "" if raw_text is None else str(raw_text)
    if not text.strip():
        return "", (), Problem("empty text", f"the column {columns[task.INPUT_COLUMN]!r} is empty")
    names = () if raw_label is None else task.parse_label(raw_label, settings.label_separator)
    names = tuple(dict.fromkeys(settings.label_names.get(name, name) for name in names))
    if not names and task.NEEDS_LABEL:
        return "", (), Problem("empty label", f"the column {columns[task.LABEL_COLUMN]!r} is empty")
    for name in names:
        if known is not None and name not in known:
            listed = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
            return "", (), Problem(
                "unknown label", f"the label {name!r} is not known; known are {listed}{did_you_mean(name, known)}"
            )  # fmt: skip
    return text, names, None
