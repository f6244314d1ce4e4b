"""A first look at a data file, for `tledge init`: its columns, which is the text and which the label, the labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tledge.data.load import quiet
from tledge.data.sources import Options, Row, open_source
from tledge.errors import DataError

LOOKED_AT = 2000  # whole rows that columns are guessed from
MANY_LABELS = 200
SHORT = 60  # characters of a value that can be a label

_TEXT_NAMES = ("text", "sentence", "review", "utterance", "content", "body", "query", "message", "comment", "title")
_LABEL_NAMES = ("label", "labels", "intent", "class", "category", "topic", "sentiment", "target", "tag", "tags", "y")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_KINDS = {str: "text", bool: "boolean", int: "integer", float: "number", list: "list", dict: "object"}


@dataclass(frozen=True, slots=True)
class Preview:
    """What a look at labelled rows told.

    `columns` maps each column to what its first rows hold (`text`, `integer`, `number`, `boolean`, `list`, `object`,
    `empty`, `mixed`). `labels` counts the rows of each label in the whole file. `size_bytes` is `None` for a data set
    of the hub.
    """

    columns: Mapping[str, str]
    text_column: str
    label_column: str
    labels: Mapping[str, int]
    multilabel: bool
    n_rows: int
    n_broken: int
    size_bytes: int | None


def look(reference: str, *, base: Path, separator: str = "|") -> Preview:
    """Read a source once and guess what its columns are, from its first 2,000 whole rows.

    Args:
        reference: as in a recipe's `data.train`.
        base: the folder that a relative path starts from.
        separator: what stands between labels of one row in a cell.

    Raises:
        DataError: nothing readable is there, or no column looks like a text or a label.
    """
    with quiet():
        source = open_source(reference, "data", Options(), base=base)
        rows = source.read(None)
        sample, n_broken = _sample(source.name, rows)
        values = {column: [row.cells[column] for row in sample if _filled(row, column)] for column in source.columns}
        text = _text_column(values)
        label = _label_column(values, text, separator)
        if not text or not label:
            raise DataError(
                f"{source.name}: no column looks like a {'label' if text else 'text'}; its columns are "
                f"{', '.join(map(repr, source.columns))}: rename one to text and one to label, or write the recipe "
                "by hand"
            )
        multilabel = any(isinstance(value, list) or separator in str(value) for value in values[label])
        counts: Counter[str] = Counter()
        n_rows = 0
        for row in chain(sample, rows):
            if row.problem is not None:
                n_broken += 1
                continue
            n_rows += 1
            if _filled(row, label):
                counts.update(_labels(row.cells[label], separator if multilabel else None))
    return Preview(
        columns={column: _kind(of) for column, of in values.items()},
        text_column=text,
        label_column=label,
        labels=dict(counts.most_common()),
        multilabel=multilabel,
        n_rows=n_rows,
        n_broken=n_broken,
        size_bytes=source.path.stat().st_size if source.path else None,
    )


def _sample(name: str, rows: Any) -> tuple[list[Row], int]:
    """The first whole rows, and how many broken ones stood between them."""
    sample: list[Row] = []
    broken: list[Row] = []
    for row in rows:
        (sample if row.problem is None else broken).append(row)
        if len(sample) == LOOKED_AT or len(broken) == LOOKED_AT:
            break
    if not sample:
        why = f": {broken[0].name}: {broken[0].problem.detail}" if broken and broken[0].problem else ""
        raise DataError(f"{name} has no usable row{why}")
    return sample, len(broken)


def _filled(row: Row, column: str) -> bool:
    return row.cells.get(column) not in (None, "")


def _kind(values: Sequence[Any]) -> str:
    """What the values are; strings that are all numbers, as in a CSV file, count as numbers."""
    kinds = {_KINDS.get(type(value), type(value).__name__) for value in values}
    if kinds == {"text"} and all(_NUMBER.fullmatch(value) for value in values):
        return "number" if any("." in value for value in values) else "integer"
    return kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "empty"


def _text_column(values: Mapping[str, Sequence[Any]]) -> str:
    """A column of strings with a telling name, or else with the longest values."""
    lengths = {column: sum(map(len, of)) / len(of) for column, of in values.items() if of and _kind(of) == "text"}
    return _named(_TEXT_NAMES, lengths) or max(lengths, key=lambda column: lengths[column], default="")


def _label_column(values: Mapping[str, Sequence[Any]], text: str, separator: str) -> str:
    """A column of few, short, repeated values with a telling name, or else with the fewest."""
    distinct: dict[str, int] = {}
    for column, of in values.items():
        names = {name for value in of for name in _labels(value, separator)}
        few = 2 <= len(names) <= min(MANY_LABELS, max(2, len(of) // 2))
        if column != text and few and _kind(of) not in ("number", "object") and max(map(len, names)) <= SHORT:
            distinct[column] = len(names)
    return _named(_LABEL_NAMES, distinct) or min(distinct, key=lambda column: distinct[column], default="")


def _named(names: Sequence[str], columns: Mapping[str, Any]) -> str:
    by_lower = {column.lower(): column for column in columns}
    return next((by_lower[name] for name in names if name in by_lower), "")


def _labels(value: Any, separator: str | None) -> list[str]:
    """The label names in a raw cell; without a separator the cell is one name."""
    listed = isinstance(value, list)
    parts = value if listed else [value] if separator is None else str(value).split(separator)
    return [name for part in parts if (name := str(part).strip())]
