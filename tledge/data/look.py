"""A first look at a data file, for `tledge init`: its columns, which is the text and which the label, the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge.data.sources import Options, open_source
from tledge.errors import DataError

LOOKED_AT = 2000  # rows that columns are guessed from
MANY_LABELS = 200

_TEXT_NAMES = ("text", "sentence", "review", "utterance", "content", "body", "query", "message", "comment", "title")
_LABEL_NAMES = ("label", "labels", "intent", "class", "category", "topic", "sentiment", "target", "tag", "tags", "y")


@dataclass(frozen=True, slots=True)
class Preview:
    """What a look at labelled rows told; a column that could not be guessed is empty. `labels` counts rows."""

    columns: tuple[str, ...]
    text_column: str
    label_column: str
    labels: Mapping[str, int]
    multilabel: bool
    n_rows: int
    n_broken: int


def look(reference: str, *, base: Path, separator: str = "|") -> Preview:
    """Read a source once and guess what its columns are.

    Raises:
        DataError: nothing readable is there, or no column looks like a text or a label.
    """
    source = open_source(reference, "data", Options(), base=base)
    sample: list[Mapping[str, Any]] = []
    counts: Counter[str] = Counter()
    n_rows = n_broken = 0
    text = label = ""
    multilabel = False
    for row in source.read(None):
        if row.problem is not None:
            n_broken += 1
            continue
        n_rows += 1
        if n_rows <= LOOKED_AT:
            sample.append(row.cells)
            continue
        if n_rows == LOOKED_AT + 1:
            text, label, multilabel = _guess(source.columns, sample, separator)
            _count(counts, sample, label, separator, multilabel)
        _count(counts, [row.cells], label, separator, multilabel)
    if n_rows <= LOOKED_AT:
        text, label, multilabel = _guess(source.columns, sample, separator)
        _count(counts, sample, label, separator, multilabel)
    if not text or not label:
        what = "text" if not text else "label"
        raise DataError(
            f"{source.name}: no column looks like a {what}; its columns are {', '.join(map(repr, source.columns))}: "
            "rename one to text and one to label, or write the recipe by hand"
        )
    return Preview(source.columns, text, label, dict(counts.most_common()), multilabel, n_rows, n_broken)


def _guess(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], separator: str) -> tuple[str, str, bool]:
    """The text column, the label column, and whether rows have several labels."""
    values = {name: [row[name] for row in rows if row.get(name) not in (None, "")] for name in columns}
    lengths = {n: sum(len(str(v)) for v in vs) / len(vs) for n, vs in values.items() if vs and isinstance(vs[0], str)}
    text = _named(_TEXT_NAMES, lengths) or max(lengths, key=lambda n: lengths[n], default="")
    distinct = {
        name: len({str(v) for v in vs})
        for name, vs in values.items()
        if vs and name != text and not any(isinstance(v, float) for v in vs)
    }
    few = {name: n for name, n in distinct.items() if 2 <= n <= min(MANY_LABELS, max(2, len(rows) // 2))}
    label = _named(_LABEL_NAMES, few) or min(few, key=lambda n: few[n], default="")
    several = [v for v in values.get(label, []) if isinstance(v, list) or separator in str(v)]
    return text, label, len(several) > 0


def _named(names: Sequence[str], columns: Mapping[str, Any]) -> str:
    by_lower = {column.lower(): column for column in columns}
    return next((by_lower[name] for name in names if name in by_lower), "")


def _count(
    counts: Counter[str], rows: Sequence[Mapping[str, Any]], label: str, separator: str, multilabel: bool
) -> None:
    for row in rows:
        value = row.get(label)
        if value in (None, ""):
            continue
        parts = value if isinstance(value, list) else str(value).split(separator) if multilabel else [value]
        counts.update(str(part).strip() for part in parts)
