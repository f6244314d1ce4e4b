"""Pairs of texts, as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tledge.cli.values import Given, Value

STOPS = True


def expanded(given: Iterable[Given]) -> Iterator[Value]:
    """Each pair."""
    for each in given:
        yield Value(each.place, each.cells, dict(zip(("text", "text_pair"), each.cells, strict=True)))
