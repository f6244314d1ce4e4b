"""Questions, each with its context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tledge.cli.values import Given, Value

STOPS = True


def expanded(given: Iterable[Given]) -> Iterator[Value]:
    """Each question and context."""
    for each in given:
        yield Value(each.place, each.cells, dict(zip(("question", "context"), each.cells, strict=True)))
