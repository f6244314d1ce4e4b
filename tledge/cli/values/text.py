"""Texts, as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tledge.cli.values import Given, Value

STOPS = True


def expanded(given: Iterable[Given]) -> Iterator[Value]:
    """Each text."""
    for each in given:
        yield Value(each.place, each.cells[0], {"text": each.cells[0]})
