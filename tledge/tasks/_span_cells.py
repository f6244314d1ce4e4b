"""Spans of texts as files hold them: lists of spans, or a tag for each token."""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tledge.inputs.words import joined_text, token_offsets
from tledge.tasks._cells import is_empty

LABEL_KEYS = ("label", "entity", "type", "tag", "entity_group")
BEGINS, GOES_ON, ENDS, ALONE = "B", "I", ("E", "L"), ("S", "U")
"""What stands before the label of a tag: in BIO, BIOES and BILOU alike."""


class Span(NamedTuple):
    """A label, the code point that it begins at, and the one behind its end."""

    label: str
    start: int
    end: int


def spans_in(cell: object, given: Sequence[object]) -> tuple[Span, ...]:
    """The spans in the raw cell of a row, in the order of the text.

    Args:
        cell: a list of spans, each an object with `label`, `start` and `end` or a list of start, end and label, also
            written as JSON; where the row's text is a list of tokens, one tag for each of them.
        given: the row's input: its text, or its tokens.

    Raises:
        ValueError: it is none of these, or its spans are not inside of the text or overlap; the message says what was
            expected.
    """
    source = given[0] if given else ""
    if isinstance(source, str):
        spans = [] if is_empty(cell) or cell == "" else [_span(each, source) for each in _listed(cell)]
        return _in_order(spans, source)
    if not isinstance(source, Sequence):
        raise ValueError("a text, or a list of tokens, in the column of the text")
    tokens = [str(token) for token in source]
    if is_empty(cell) or isinstance(cell, str) or not isinstance(cell, Sequence):
        raise ValueError(f"a list of {len(tokens)} tags, one for each token")
    if len(cell) != len(tokens):
        raise ValueError(f"as many tags as tokens, {len(tokens)}; there are {len(cell)}")
    places = token_offsets(tokens)
    found = [Span(label, places[a][0], places[b][1]) for label, a, b in spans_of_tags([str(tag) for tag in cell])]
    return _in_order(found, joined_text(tokens))


def spans_of_tags(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """The spans that tags form: label, first and last token.

    Raises:
        ValueError: they form none; the message says what was expected.
    """
    label, first = "", 0
    for i, tag in enumerate(tags):
        kind, name = _parts(tag)
        goes_on = kind in (GOES_ON, *ENDS)
        if goes_on and name != label:
            raise ValueError(f"tags that form spans; {tag!r} of token {i + 1} continues no span of {name!r}")
        if label and not goes_on:
            yield label, first, i - 1
        if kind in (BEGINS, *ALONE):
            first = i
        label = "" if kind in ("O", *ENDS, *ALONE) else name
        if kind in (*ENDS, *ALONE):
            yield name, first, i
    if label:
        yield label, first, len(tags) - 1


def _parts(tag: str) -> tuple[str, str]:
    kind, _, name = tag.strip().replace("_", "-", 1).partition("-")
    if kind == "O" and not name:
        return "O", ""
    if kind not in (BEGINS, GOES_ON, *ENDS, *ALONE) or not name:
        raise ValueError(f"tags such as O, B-label and I-label (or with E, S, L, U); got {tag!r:.60}")
    return kind, name


def _listed(cell: object) -> list[Any]:
    if isinstance(cell, Mapping) and isinstance(cell.get("entities"), Sequence):
        cell = cell["entities"]
    if isinstance(cell, str):
        cell = _parsed(cell)
    if isinstance(cell, str | Mapping) or not isinstance(cell, Sequence):
        raise ValueError(_EXPECTED)
    return list(cell)


_EXPECTED = 'a list of spans such as {"label": "person", "start": 0, "end": 4} or [0, 4, "person"]'


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise ValueError(_EXPECTED) from None


def _span(item: object, text: str) -> Span:
    label: Any
    start: Any
    end: Any
    told: Any = None
    if isinstance(item, Mapping):
        label = next((item[key] for key in LABEL_KEYS if key in item), None)
        start, end, told = item.get("start"), item.get("end"), item.get("text")
    elif isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 3:
        start, end, label = item
    else:
        raise ValueError(_EXPECTED)
    if not isinstance(label, str) or not label.strip() or not _is_place(start) or not _is_place(end):
        raise ValueError(_EXPECTED)
    if not 0 <= start < end <= len(text):
        raise ValueError(f"spans inside the text's {len(text)} characters; {label!r:.40} is from {start} to {end}")
    if isinstance(told, str) and told != text[start:end]:
        raise ValueError(f"{told!r:.40} at {start} to {end}, where the text has {text[start:end]!r:.40}")
    inside = text[start:end]
    start += len(inside) - len(inside.lstrip())
    end -= len(inside) - len(inside.rstrip())
    if start >= end:
        raise ValueError(f"spans that hold more than white space; {label!r:.40} does not")
    return Span(label.strip(), start, end)


def _is_place(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _in_order(spans: Sequence[Span], text: str) -> tuple[Span, ...]:
    ordered = sorted(spans, key=lambda span: (span.start, span.end))
    for one, other in itertools.pairwise(ordered):
        if other.start < one.end:
            shown = " and ".join(f"{span.label} {text[span.start : span.end]!r:.40}" for span in (one, other))
            raise ValueError(f"spans that do not overlap; {shown} do")
    return tuple(ordered)
