"""Answers as files hold them, and where they stand in their contexts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tledge.tasks._cells import is_empty

START_KEYS = ("answer_start", "start")
_EXPECTED = 'answers such as {"text": ["Denver"], "answer_start": [12]}, an empty list of each for none'


class Answer(NamedTuple):
    """A part of a context, and the code point that it begins at; `is_moved` where the file had it elsewhere."""

    text: str
    start: int
    is_moved: bool = False


def answers_in(cell: object, context: str) -> tuple[Answer, ...]:
    """The answers in the raw cell of a row, in their order, each once.

    One that is not where it is said to be, or is said to be nowhere, is taken for the place where the context has it,
    if there is only one.

    Args:
        cell: `text` and `answer_start` of all answers (lists) or of one; a list of such objects; or the text of one.
            In a table also as JSON. An answer of no text, and no answer at all, are none.
        context: what they stand in.

    Raises:
        ValueError: it is none of these, or an answer is not in the context; the message says what was expected.
    """
    if is_empty(cell):
        raise ValueError(_EXPECTED)
    pairs = _pairs(cell)
    found = (_placed(text, start, context) for text, start in pairs if text.strip())
    return tuple(dict.fromkeys(found))


def _pairs(cell: object) -> list[tuple[str, int | None]]:
    """The text of each answer, and where it is said to begin."""
    if isinstance(cell, str):
        told = _json(cell)
        return [(cell, None)] if told is None else _pairs(told)
    if isinstance(cell, Mapping):
        return _columns(cell)
    if not isinstance(cell, Sequence):
        raise ValueError(_EXPECTED)
    return [pair for each in cell for pair in ([(each, None)] if isinstance(each, str) else _columns(each))]


def _json(cell: str) -> Any:
    """What a cell of a table holds as JSON, where that is an object or a list."""
    if cell.strip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return None


def _columns(cell: object) -> list[tuple[str, int | None]]:
    if not isinstance(cell, Mapping) or "text" not in cell:
        raise ValueError(_EXPECTED)
    texts = cell["text"]
    starts = next((cell[key] for key in START_KEYS if key in cell), None)
    if isinstance(texts, str):
        texts, starts = [texts], [starts]
    starts = [None] * len(texts) if starts is None and isinstance(texts, Sequence) else starts
    if not isinstance(texts, Sequence) or not isinstance(starts, Sequence) or isinstance(starts, str):
        raise ValueError(_EXPECTED)
    if len(texts) != len(starts):
        raise ValueError(f"as many places as answers; there are {len(starts)} and {len(texts)}")
    return [(_text(text), _place(start)) for text, start in zip(texts, starts, strict=True)]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"answers of text; one is {value!r:.40}")
    return value


def _place(value: object) -> int | None:
    if isinstance(value, str) and value.strip().isdecimal():  # of a CSV file
        return int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValueError(f"places that are whole numbers of characters; one is {value!r:.40}")


def _placed(text: str, start: int | None, context: str) -> Answer:
    if start is not None and start >= 0 and context[start : start + len(text)] == text:
        return Answer(text, start)
    first = context.find(text)
    times = context.count(text) if first >= 0 else 0
    if times == 1 and context.find(text, first + 1) < 0:
        return Answer(text, first, is_moved=start is not None)
    said = "no place for it" if start is None else f"place {start}"
    where = f"has it {times} times" if times else "does not have it"
    raise ValueError(f"answers where they are said to be; {text!r:.40} has {said}, and the context {where}")
