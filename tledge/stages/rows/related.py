"""Rows that say which texts are alike: pairs, with a score or without, triples, texts with a label, or texts alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tledge import inputs, tasks
from tledge.answers import hashes_of
from tledge.errors import DataError
from tledge.evaluate import Array
from tledge.recipe import Recipe
from tledge.stages.job import Job
from tledge.stages.rows import Scored, examples
from tledge.tasks._related import COLUMNS, DOCUMENT, Form

if TYPE_CHECKING:
    from tledge.data import Splits


def read(job: Job, folder: Path) -> str:
    """Read the sources, as what their columns say that rows are, and write the splits."""
    from tledge import data

    columns = data.columns_of(job.recipe.data, COLUMNS, base=Path.cwd())
    form = job.task.form(columns)
    line = examples.read_as(job, cast("tasks.Task", form), folder)
    count = data.documents(job.recipe.data, job.task, folder=folder, base=Path.cwd(), progress=job.progress)
    if count and not form.has_places:
        raise DataError(f"data.documents: in {form.name} nothing is looked for; remove the key")
    return f"{form.name}, {line}" + (f", {count} documents to find theirs among" if count else "")


def form_of(splits: Splits) -> Form:
    """What the rows of a run are."""
    from tledge.tasks._related import form_of as of_columns

    stored = [name for name in splits.train.column_names if name in COLUMNS]
    has_label = bool(splits.labels)
    return of_columns([name for name in stored if name != "label" or has_label])


def texts_of(splits: Splits, split: str, form: Form) -> list[tuple[str, ...]]:
    """The cells of the rows of a split."""
    rows = getattr(splits, split)
    return list(zip(*(rows[name] for name in form.INPUT_COLUMNS), strict=True))


def scored(job: Job, split: str, inputs_folder: Path) -> Scored:
    """The texts of all rows of a split, one after another, each to be run alone."""
    from tledge import data

    splits = data.open_splits(job.stage("data"))
    form = form_of(splits)
    rows = [form.judged(cells) for cells in texts_of(splits, split, form)]
    targets = form.targets(rows, list(getattr(splits, split)["label"]))
    encoder = inputs.load(job.task.INPUT, inputs_folder)
    values = [text for row in rows for text in form.prompted(row, encoder)]
    if split != "calibration":
        values += _others(job.stage("data"), rows, form, encoder)
    return Scored(values, encoder, targets, of=len(values))


def _others(folder: Path, rows: Sequence[tuple[str, ...]], form: Form, encoder: Any) -> list[str]:
    """The further documents of a run that are none of the rows' own, with a document's prompt."""
    from tledge import data

    documents = data.open_documents(folder)
    if documents is None:
        return []
    own = {" ".join(text.split()) for row in rows for text in row[1:]}
    others = [text for text in documents["text"] if " ".join(text.split()) not in own]
    return [encoder.prompted(text, DOCUMENT) for text in others] if form.is_prompted(encoder) else others


def depends_on(recipe: Recipe) -> Iterable[tuple[Sequence[object], Sequence[str | None]]]:  # noqa: ARG001
    """Nothing."""
    return ()


def hashes(scored: Scored) -> Array:
    """Of the texts of each row, `(rows,) uint64`; further documents after them have none."""
    n_rows = len(scored.targets)
    each = scored.targets.shape[1] if scored.targets.ndim > 1 else len(scored.values) // n_rows if n_rows else 0
    rows = [tuple(scored.values[i * each : (i + 1) * each]) for i in range(n_rows)]
    return hashes_of(rows) if rows else np.zeros(0, np.uint64)


def files(folder: Path) -> list[str]:  # noqa: ARG001
    """None: texts are stored."""
    return []
