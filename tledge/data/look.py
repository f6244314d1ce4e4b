"""A first look at labelled data, for `tledge init`: the columns, which is the input and which the label, the labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tledge import tasks
from tledge.data.load import quiet
from tledge.data.sources import Options, Row, Source, image_folder, open_source
from tledge.data.table import FLAGS
from tledge.errors import DataError
from tledge.inputs.image import suffixes

LOOKED_AT = 2000  # whole rows that columns are guessed from
MANY_LABELS = 200
TEXTS_ALONE = "causal_lm"  # the task of texts without labels
SHORT = 60  # characters of a value that can be a label

_TEXT_NAMES = ("text", "sentence", "review", "utterance", "content", "body", "query", "message", "comment", "title")
_IMAGE_NAMES = ("image", "img", "photo", "picture", "image_path", "path", "file", "file_name", "filename")
_LABEL_NAMES = ("label", "labels", "intent", "class", "category", "topic", "sentiment", "target", "tag", "tags", "y")
_NUMBER_NAMES = ("label", "target", "value", "score", "rating", "y", "probability")
_NUMBER, _WITH_COMMA = re.compile(r"-?\d+(\.\d+)?"), re.compile(r"-?\d+(,\d+)?")
_KINDS = {str: "text", bool: "boolean", int: "integer", float: "number", list: "list", dict: "object"}


@dataclass(frozen=True, slots=True)
class Preview:
    """What a look at labelled rows told.

    `task` is the task that fits: as asked for, or guessed, which is never a regression. `columns` maps each column to
    what its first rows hold (`text`, `image`, `integer`, `number`, `boolean`, `list`, `object`, `empty`, `mixed`);
    paths of images are `image` too. Where there is a column of 0 and 1 for each label they are `label_columns`, and
    `label_column` is empty. `labels` counts the rows of each label in the whole source; a regression has none.
    `size_bytes` is that of a local file, `decimal` what stands before the decimals of a regression's numbers.
    """

    task: str
    columns: Mapping[str, str]
    input_column: str
    label_column: str
    labels: Mapping[str, int]
    n_rows: int
    n_broken: int
    size_bytes: int | None
    is_folder: bool
    label_columns: tuple[str, ...] = ()
    decimal: str = "."


def look(reference: str, *, base: Path, task: str | None = None, separator: str = "|") -> Preview:
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
    is_regression = asked is not None and asked.PROBLEM_TYPE == "regression"
    with quiet():
        source = open_source(reference, "data", Options(), base=base)
        rows = source.read(None)
        sample, n_broken, broken = _sample(source.name, rows)
        values = {column: [row.cells[column] for row in sample if _filled(row, column)] for column in source.columns}
        kinds = {column: _kind(of) for column, of in values.items()}
        if source.is_one_text and asked is None:
            asked = tasks.load(TEXTS_ALONE)
        if asked is not None and asked.PROBLEM_TYPE == TEXTS_ALONE:
            return _texts(source, chain(sample, rows), values, kinds, n_broken)
        kind = asked.INPUT if asked else _input_kind(kinds)
        given = _image_column(kinds) if kind == "image" else _text_column(values)
        if source.columns == image_folder.COLUMNS and given == image_folder.COLUMNS[0]:
            label = image_folder.COLUMNS[1]  # whose first rows may all be of one label
        else:
            flags = () if is_regression else _flag_columns(values, given, separator)
            if flags and given and (asked is None or asked.PROBLEM_TYPE == "multi_label_classification"):
                return _flagged(source, chain(sample, rows), kinds, f"{kind}_multilabel", given, flags, n_broken)
            label = _number_column(values, given) if is_regression else _label_column(values, given, separator)
        if not label and asked is not None:  # numbers are labels where the task says so
            label = _named(_LABEL_NAMES, [column for column, of in values.items() if len({*map(str, of)}) > 1])
        if not given or not label:
            number = "" if is_regression or not given else _number_column(values, given)
            told = _not_found(source, kind, "a number" if is_regression else "a label", given, number)
            raise DataError(f"{_only_one(source, values) or told}{broken}")
        is_folder = source.path is not None and source.path.is_dir()
        several = not is_folder and any(isinstance(value, list) or separator in str(value) for value in values[label])
        counts: Counter[str] = Counter()
        n_rows = 0
        for row in chain(sample, rows):
            if row.problem is not None:
                n_broken += 1
                continue
            n_rows += 1
            if _filled(row, label) and not is_regression:
                counts.update(_labels(row.cells[label], separator if several else None))
    return Preview(
        task=task or f"{kind}_{'multilabel' if several else 'classification'}",
        columns=kinds,
        input_column=given,
        label_column=label,
        labels=dict(counts.most_common()),
        n_rows=n_rows,
        n_broken=n_broken,
        size_bytes=source.path.stat().st_size if source.path and not is_folder else None,
        is_folder=is_folder,
        decimal=_decimal(values[label]) if is_regression else ".",
    )


def _texts(
    source: Source, rows: Iterable[Row], values: Mapping[str, Sequence[Any]], kinds: Mapping[str, str], n_broken: int
) -> Preview:
    """What a language model is told of: texts, and nothing that is said of them."""
    given = source.columns[0] if source.is_one_text else _text_column(values)
    if not given:
        raise DataError(_not_found(source, "text", "a label", given))
    broken = [row.problem is not None for row in rows]
    return Preview(
        task=TEXTS_ALONE,
        columns=kinds,
        input_column=given,
        label_column="",
        labels={},
        n_rows=broken.count(False),
        n_broken=n_broken + broken.count(True),
        size_bytes=source.path.stat().st_size if source.path else None,
        is_folder=False,
    )


def _flag_columns(values: Mapping[str, Sequence[Any]], given: str, separator: str) -> tuple[str, ...]:
    """Several columns of 0 and 1, unless a column of labels has a telling name."""
    flags = [
        column
        for column, of in values.items()
        if column != given and of and all(str(value).strip().lower() in FLAGS for value in of)
    ]
    others = {column: of for column, of in values.items() if column not in flags}
    named = _named(_LABEL_NAMES, [*flags, _label_column(others, given, separator)])
    return tuple(flags) if len(flags) > 1 and not named else ()


def _flagged(
    source: Source,
    rows: Iterable[Row],
    kinds: Mapping[str, str],
    task: str,
    given: str,
    flags: Sequence[str],
    n_broken: int,
) -> Preview:
    """What is told of rows with a column of 0 and 1 for each label."""
    counts = dict.fromkeys(flags, 0)
    n_rows = 0
    for row in rows:
        if row.problem is not None:
            n_broken += 1
            continue
        n_rows += 1
        for column in flags:
            counts[column] += FLAGS.get(str(row.cells.get(column)).strip().lower(), False)
    return Preview(
        task=task,
        columns=kinds,
        input_column=given,
        label_column="",
        labels=counts,
        n_rows=n_rows,
        n_broken=n_broken,
        size_bytes=source.path.stat().st_size if source.path else None,
        is_folder=False,
        label_columns=tuple(flags),
    )


def _not_found(source: Source, kind: str, label: str, given: str, number: str = "") -> str:
    if number:
        return (
            f"{source.name}: no column looks like a label, and {number!r} holds numbers: to estimate them, give --task "
            f"{kind}_regression; or rename the column of labels to label, or write the recipe by hand"
        )
    missing = label if given else f"{'an' if kind == 'image' else 'a'} {kind}"
    return (
        f"{source.name}: no column looks like {missing}; its columns are {', '.join(map(repr, source.columns))}: "
        f"rename one to {kind} and one to label, or write the recipe by hand"
    )


def _only_one(source: Source, values: Mapping[str, Sequence[Any]]) -> str:
    """That a column with a telling name holds one label alone, in words; empty where none does."""
    column = _named(_LABEL_NAMES, values)
    names = {str(value) for value in values.get(column, ())}
    if len(names) != 1:
        return ""
    return (
        f"{source.name}: the column {column!r} holds {names.pop()!r:.60} alone; expected rows of two labels or more, "
        "to tell them apart"
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


def _kind(values: Sequence[Any]) -> str:
    """What the values are; strings that are all numbers, as in a CSV file, count as numbers, and paths as images."""
    if values and all(map(_is_image, values)):
        return "image"
    kinds = {_KINDS.get(type(value), type(value).__name__) for value in values}
    if kinds == {"text"} and all(_NUMBER.fullmatch(value) for value in values):
        return "number" if any("." in value for value in values) else "integer"
    if _decimal(values) == ",":
        return "number"
    return kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "empty"


def _decimal(values: Sequence[Any]) -> str:
    """What stands before the decimals of numbers in text: a comma where all of them say so."""
    texts = [value for value in values if isinstance(value, str)]
    commas = texts and len(texts) == len(values) and all(_WITH_COMMA.fullmatch(value) for value in texts)
    return "," if commas and any("," in value for value in texts) else "."


def _is_image(value: Any) -> bool:
    if isinstance(value, str):
        return "://" not in value and Path(value).suffix.lower() in suffixes()
    if isinstance(value, Mapping):
        return bool(value) and value.keys() <= {"bytes", "path"}
    return isinstance(value, Path | bytes | np.ndarray | Image.Image)


def _input_kind(kinds: Mapping[str, str]) -> str:
    """Images, where there are some, unless a column is named like a text and none like an image."""
    images = [column for column, kind in kinds.items() if kind == "image"]
    texts = [column for column, kind in kinds.items() if kind == "text"]
    named_otherwise = _named(_TEXT_NAMES, texts) and not _named(_IMAGE_NAMES, images)
    return "image" if images and not named_otherwise else "text"


def _image_column(kinds: Mapping[str, str]) -> str:
    """A column of images with a telling name, or else the first one."""
    columns = [column for column, kind in kinds.items() if kind == "image"]
    return _named(_IMAGE_NAMES, columns) or next(iter(columns), "")


def _text_column(values: Mapping[str, Sequence[Any]]) -> str:
    """A column of strings with a telling name, or else with the longest values."""
    lengths = {column: sum(map(len, of)) / len(of) for column, of in values.items() if of and _kind(of) == "text"}
    return _named(_TEXT_NAMES, lengths) or max(lengths, key=lambda column: lengths[column], default="")


def _label_column(values: Mapping[str, Sequence[Any]], given: str, separator: str) -> str:
    """A column of few, short, repeated values with a telling name, or else with the fewest."""
    distinct: dict[str, int] = {}
    for column, of in values.items():
        kind = _kind(of)
        if column == given or kind in ("number", "object", "image"):
            continue
        names = {name for value in of for name in _labels(value, separator)}
        few = 2 <= len(names) <= min(MANY_LABELS, max(2, len(of) // 2))
        if few and max(map(len, names)) <= SHORT:
            distinct[column] = len(names)
    return _named(_LABEL_NAMES, distinct) or min(distinct, key=lambda column: distinct[column], default="")


def _number_column(values: Mapping[str, Sequence[Any]], given: str) -> str:
    """A column of numbers with a telling name, or else one of fractions, or else the last one."""
    kinds = {column: _kind(of) for column, of in values.items() if column != given}
    columns = [column for column, kind in kinds.items() if kind in ("number", "integer")]
    fractions = [column for column in columns if kinds[column] == "number"]
    return _named(_NUMBER_NAMES, columns) or next(iter([*fractions, *reversed(columns)]), "")


def _named(names: Sequence[str], columns: Sequence[str] | Mapping[str, Any]) -> str:
    by_lower = {column.lower(): column for column in columns}
    return next((by_lower[name] for name in names if name in by_lower), "")


def _labels(value: Any, separator: str | None) -> list[str]:
    """The label names in a raw cell; without a separator the cell is one name."""
    listed = isinstance(value, list)
    parts = value if listed else [value] if separator is None else str(value).split(separator)
    return [name for part in parts if (name := str(part).strip())]
