"""Texts that are answered word by word: as they are, or lists of tokens, which are stored as one text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tledge.data.columns import Columns, named
from tledge.data.inputs import Value, shown, text
from tledge.data.sources import Problem
from tledge.inputs.words import joined_text

TYPES = text.TYPES
IS_COSTLY = False
SIZES = text.SIZES
NOUN = "a text, or the tokens of one"
RENAME = text.RENAME
NAMES = ("tokens", "words", *text.NAMES)


def find(columns: Columns) -> tuple[str, ...]:
    """A column of lists of tokens, or else of texts."""
    tokens = [column for column in columns.of_kind("list") if column.lower() in ("tokens", "words")]
    return (tokens[0],) if tokens else text.find(columns)


def told_by(columns: Columns) -> str:
    """That spans are learnt, where there are tokens and a tag for each, or texts and lists of spans."""
    tagged = columns.kinds.get("tokens") == "list" and named(("tags", "ner_tags"), columns.of_kind("list"))
    listed = [cell for name in ("spans", "entities") for cell in columns.values.get(name, ()) if isinstance(cell, list)]
    spans = [item for cell in listed for item in cell]
    has_spans = spans and all({"start", "end", "label"} <= {*item} for item in spans if isinstance(item, dict))
    return "token_classification" if tagged or (has_spans and columns.of_kind("text")) else ""


def read(cells: Sequence[object], columns: Sequence[str], folder: Path | None) -> Value | Problem:
    """The text in a raw cell, or what is wrong with it; tokens are joined as `tledge.inputs.words.joined_text` does."""
    cell, column = cells[0], columns[0]
    if isinstance(cell, Sequence) and not isinstance(cell, str):
        wrong = next((token for token in cell if not isinstance(token, str) or not token.strip()), None)
        if wrong is not None:
            return Problem("no text", f"the column {column!r} has the token {shown(wrong)}, expected text")
        cell = joined_text(cell)
    return text.read([cell], columns, folder)
