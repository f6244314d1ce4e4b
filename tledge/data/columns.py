"""What the columns of labelled data are, guessed from their first rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tledge.inputs.image import suffixes

FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
"""How a cell of a column of 0 and 1 is written."""
PHOTO = "image"
"""What a column of images, or of their paths, is said to hold."""
LABEL_NAMES = ("label", "labels", "intent", "class", "category", "topic", "sentiment", "target", "tag", "tags", "y")
MANY_LABELS = 200
SHORT = 60  # characters of a value that can be a label

_NUMBER_NAMES = ("label", "target", "value", "score", "rating", "y", "probability")
_NUMBER, _WITH_COMMA = re.compile(r"-?\d+(\.\d+)?"), re.compile(r"-?\d+(,\d+)?")
_KINDS = {str: "text", bool: "boolean", int: "integer", float: "number", list: "list", dict: "object"}


@dataclass(frozen=True, slots=True)
class Columns:
    """The filled cells of the first whole rows by column, and what each column holds (see `kind_of`)."""

    values: Mapping[str, Sequence[Any]]
    kinds: Mapping[str, str]

    def of_kind(self, kind: str) -> list[str]:
        """The columns that hold it, in the file's order."""
        return [column for column, of in self.kinds.items() if of == kind]

    def labels(self, given: Sequence[str], separator: str, *, but: Sequence[str] = ()) -> str:
        """A column of few, short, repeated values with a telling name, or else with the fewest; else empty.

        Args:
            given: the columns of the input.
            separator: what stands between labels of one row in a cell.
            but: columns that are not asked.
        """
        distinct: dict[str, int] = {}
        for column, of in self.values.items():
            if column in given or column in but or self.kinds[column] in ("number", "object", PHOTO):
                continue
            names = {name for value in of for name in label_names(value, separator)}
            few = 2 <= len(names) <= min(MANY_LABELS, max(2, len(of) // 2))
            if few and max(map(len, names)) <= SHORT:
                distinct[column] = len(names)
        return named(LABEL_NAMES, distinct) or min(distinct, key=lambda column: distinct[column], default="")

    def varied(self, given: Sequence[str]) -> str:
        """A column with a label's name whose values are not all the same, whatever they are; not one of the input."""
        others = {column: of for column, of in self.values.items() if column not in given}
        return named(LABEL_NAMES, [column for column, of in others.items() if len({*map(str, of)}) > 1])

    def flags(self, given: Sequence[str], separator: str) -> tuple[str, ...]:
        """Several columns of 0 and 1, unless a column of labels has a telling name."""
        flags = [
            column
            for column, of in self.values.items()
            if column not in given and of and all(str(value).strip().lower() in FLAGS for value in of)
        ]
        others = self.labels(given, separator, but=flags)
        return tuple(flags) if len(flags) > 1 and not named(LABEL_NAMES, [*flags, others]) else ()

    def number(self, given: Sequence[str]) -> str:
        """A column of numbers with a telling name, or else one of fractions, or else the last one."""
        columns = [c for c in self.values if c not in given and self.kinds[c] in ("number", "integer")]
        fractions = [column for column in columns if self.kinds[column] == "number"]
        return named(_NUMBER_NAMES, columns) or next(iter([*fractions, *reversed(columns)]), "")

    def only_one(self) -> str:
        """That a column with a label's name holds one value alone, in words; empty where none does."""
        column = named(LABEL_NAMES, self.values)
        names = {str(value) for value in self.values.get(column, ())}
        return f"{column!r} holds {names.pop()!r:.60} alone" if len(names) == 1 else ""


def kind_of(values: Sequence[Any]) -> str:
    """What the cells of a column hold; text that is all numbers, as in a CSV file, counts as numbers, paths as images.

    One of `text`, `image`, `integer`, `number`, `boolean`, `list`, `object`, `empty`, `mixed`.
    """
    if values and all(map(_is_image, values)):
        return PHOTO
    kinds = {_KINDS.get(type(value), type(value).__name__) for value in values}
    if kinds == {"text"} and all(_NUMBER.fullmatch(value) for value in values):
        return "number" if any("." in value for value in values) else "integer"
    if decimal_of(values) == ",":
        return "number"
    return kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "empty"


def decimal_of(values: Sequence[Any]) -> str:
    """What stands before the decimals of numbers in text: a comma where all of them say so."""
    texts = [value for value in values if isinstance(value, str)]
    commas = texts and len(texts) == len(values) and all(_WITH_COMMA.fullmatch(value) for value in texts)
    return "," if commas and any("," in value for value in texts) else "."


def named(names: Sequence[str], columns: Iterable[str]) -> str:
    """The first of some names that a column has, in capitals or not; else empty."""
    by_lower = {column.lower(): column for column in columns}
    return next((by_lower[name] for name in names if name in by_lower), "")


def label_names(value: Any, separator: str | None) -> list[str]:
    """The label names in a raw cell; without a separator the cell is one name."""
    listed = isinstance(value, list)
    parts = value if listed else [value] if separator is None else str(value).split(separator)
    return [name for part in parts if (name := str(part).strip())]


def _is_image(value: Any) -> bool:
    if isinstance(value, str):
        return "://" not in value and Path(value).suffix.lower() in suffixes()
    if isinstance(value, Mapping):
        return bool(value) and value.keys() <= {"bytes", "path"}
    return isinstance(value, Path | bytes | np.ndarray | Image.Image)
