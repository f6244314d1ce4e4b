"""A first look at labelled data, for `tledge init`: the columns, which is the input and which the label, the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tledge import tasks
from tledge.data import inputs, labels
from tledge.data.columns import PHOTO, Columns, decimal_of, kind_of, named
from tledge.data.load import quiet
from tledge.data.sources import Options, Row, Source, image_folder, open_source
from tledge.errors import DataError

LOOKED_AT = 2000  # whole rows that columns are guessed from
TEXTS_ALONE = "causal_lm"  # the task of texts without labels


@dataclass(frozen=True, slots=True)
class Preview:
    """What a look at labelled rows told.

    `task` is the task that fits: as asked for, or guessed, which is never a regression or one of pairs. `columns` maps
    each column to what its first rows hold (`text`, `image`, `integer`, `number`, `boolean`, `list`, `object`, `empty`,
    `mixed`); paths of images are `image` too. `input_columns` are the file's columns for those of the task. Where there
    is a column of 0 and 1 for each label they are `label_columns`, and `label_column` is empty. `labels` counts the
    rows of each label in the whole source; a regression has none. `size_bytes` is that of a local file, `decimal` what
    stands before the decimals of a regression's numbers.
    """

    task: str
    columns: Mapping[str, str]
    input_columns: tuple[str, ...]
    label_column: str
    labels: Mapping[str, int]
    n_rows: int
    n_broken: int
    size_bytes: int | None
    is_folder: bool
    label_columns: tuple[str, ...] = ()
    decimal: str = "."


def preview(reference: str, *, base: Path, task: str | None = None, separator: str = "|") -> Preview:
    """Read a source once and guess what its columns are, from its first 2,000 whole rows; images are not decoded.

    Args:
        reference: as in a recipe's `data.train`.
        base: the folder that a relative path starts from.
        task: a task's name, where it is not to be guessed.
        separator: what stands between labels of one row in a cell.

    Raises:
        DataError: nothing readable is there, or no column looks like an input or a label.
        RecipeError: there is no such task.
    """
    asked = tasks.load(task) if task else None
    with quiet():
        source = open_source(reference, "data", Options(), base=base)
        rows = source.read(None)
        sample, n_broken, broken = _sample(source.name, rows)
        values = {column: [row.cells[column] for row in sample if _filled(row, column)] for column in source.columns}
        columns = Columns(values, {column: kind_of(of) for column, of in values.items()})
        told = TEXTS_ALONE if source.is_one_text else source.task or inputs.told_by(columns)
        if told and asked is None:
            task, asked = told, tasks.load(told)
        input_kind = asked.INPUT if asked else _input_kind(columns)
        # Any labels may be found where nothing is asked for: one column of them tells which.
        kind = labels.load(asked.LABELS if asked else "several_labels")
        lines_alone = source.is_one_text and not kind.MISSING
        given = source.columns[:1] if lines_alone else inputs.load(input_kind).find(columns)
        if source.columns == image_folder.COLUMNS and given == image_folder.COLUMNS[:1] and kind.MISSING:
            found = labels.Found(image_folder.COLUMNS[1])  # whose first rows may all be of one label
        else:
            found = kind.find(columns, given, separator)
        if asked is not None and kind.MISSING and not (found.column or found.flags):  # it may hold anything then
            found = labels.Found(columns.varied(given))
        if asked is not None and asked.form(()) is not None:
            given, found = _related(columns)
        if not all(given) or (kind.MISSING and not (found.column or found.flags)):
            only = columns.only_one()
            alone = f"{source.name}: the column {only}; expected rows of two labels or more, to tell them apart"
            raise DataError(f"{alone if only else _not_found(source, columns, input_kind, given, kind)}{broken}")
        counts = Counter(dict.fromkeys(found.flags, 0))
        n_rows = 0
        for row in chain(sample, rows):
            if row.problem is not None:
                n_broken += 1
                continue
            n_rows += 1
            if found.flags or _filled(row, found.column):
                counts.update(kind.names_of(row.cells, found))
    is_folder = source.path is not None and source.path.is_dir()
    several = bool(found.flags or found.separator) and not is_folder
    return Preview(
        task=task or f"{input_kind}_{'multilabel' if several else 'classification'}",
        columns=columns.kinds,
        input_columns=given,
        label_column=found.column,
        labels=dict(counts if found.flags else counts.most_common()),
        n_rows=n_rows,
        n_broken=n_broken,
        size_bytes=source.path.stat().st_size if source.path and not is_folder else None,
        is_folder=is_folder,
        label_columns=found.flags,
        decimal=decimal_of(values[found.column]) if kind.VALUES else ".",
    )


def _related(columns: Columns) -> tuple[tuple[str, ...], labels.Found]:
    """The columns of texts that a row relates, two of them with a number if there is one; or one and its label."""
    triple, pair = (inputs.load(name).find(columns) for name in ("text_triple", "text_pair"))
    if all(triple):
        return triple, labels.Found()
    if all(pair):
        return pair, labels.Found(columns.number(pair))
    given = inputs.load("text").find(columns)
    return given, labels.Found(columns.labels(given, "|"))


def _not_found(source: Source, columns: Columns, input_kind: str, given: tuple[str, ...], kind: labels.Kind) -> str:
    number = columns.number(given) if all(given) and not kind.VALUES else ""
    if number:
        return (
            f"{source.name}: no column looks like a label, and {number!r} holds numbers: to estimate them, give --task "
            f"{input_kind}_regression; or rename the column of labels to label, or write the recipe by hand"
        )
    wanted = inputs.load(input_kind)
    missing = kind.MISSING if all(given) else wanted.NOUN
    return (
        f"{source.name}: no column looks like {missing}; its columns are {', '.join(map(repr, source.columns))}: "
        f"rename {wanted.RENAME} and one to label, or write the recipe by hand"
    )


def _sample(name: str, rows: Any) -> tuple[list[Row], int, str]:
    """The first whole rows, how many broken ones stood between them, and what the first of those is, in words."""
    sample: list[Row] = []
    broken: list[Row] = []
    for row in rows:
        (sample if row.problem is None else broken).append(row)
        if len(sample) == LOOKED_AT or len(broken) == LOOKED_AT:
            break
    if not sample:
        why = f": {broken[0].name}: {broken[0].problem.detail}" if broken and broken[0].problem else ""
        raise DataError(f"{name} has no usable row{why}")
    first = f" ({len(broken)} of the rows that were read are broken: {broken[0].name}: " if broken else ""
    return sample, len(broken), f"{first}{broken[0].problem.detail})" if broken and broken[0].problem else ""


def _filled(row: Row, column: str) -> bool:
    cell = row.cells.get(column)
    return cell is not None and not (isinstance(cell, str) and not cell)


def _input_kind(columns: Columns) -> str:
    """Images, where there are some, unless a column is named like a text and none like an image."""
    images, texts = columns.of_kind(PHOTO), columns.of_kind("text")
    from_name = named(inputs.load("text").NAMES, texts) and not named(inputs.load("image").NAMES, images)
    return "image" if images and not from_name else "text"
