"""What is given on the command line becomes values that a model takes: one file a kind of input, as in `tledge.inputs`.

Each module holds:

===========  ==========================================================================================================
`STOPS`      whether a value that cannot be read ends the command; else it is answered with its error
`expanded`   the values that were given, each with its place and what is printed of it: folders become their images
===========  ==========================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from tledge import plugins


@dataclass(frozen=True, slots=True)
class Given:
    """What was given: where, the cells (one for each of the task's input columns), and what a path is relative to."""

    place: str
    cells: tuple[str, ...]
    base: Path


@dataclass(frozen=True, slots=True)
class Value:
    """One value for a model: where it was given, itself, and by column what is printed of it."""

    place: str
    value: Any
    shown: Mapping[str, str]


class Kind(Protocol):
    """What such a module provides; see the table above."""

    STOPS: bool

    @staticmethod
    def expanded(given: Iterable[Given]) -> Iterator[Value]: ...


def load(name: str) -> Kind:
    """The kind of that name."""
    return cast("Kind", plugins.load(__name__, name))
