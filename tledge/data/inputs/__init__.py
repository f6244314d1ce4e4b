"""What the cells of an input column become: one file a kind of input, named as in `tledge.inputs`.

A module has `TYPE`, the Arrow type that is stored, `IS_COSTLY`, whether reading a cell is worth a thread, and `read`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from tledge import plugins
from tledge.data.sources import Problem


@dataclass(frozen=True, slots=True)
class Value:
    """The input of one row.

    `stored` is written to disk, about `weight` bytes of it. `digest` has 16 bytes that are the same for the same
    input. `size` counts characters of a text, or pixels of an image's shorter side.
    """

    stored: Any
    digest: bytes
    size: int
    weight: int


class Kind(Protocol):
    """What a module here provides."""

    TYPE: Any
    IS_COSTLY: bool

    @staticmethod
    def read(cell: object, column: str, folder: Path | None) -> Value | Problem:
        """The input in a raw cell, or what is wrong with it; relative paths start from `folder`."""
        ...


def load(name: str) -> Kind:
    """The kind of input of that name."""
    return cast("Kind", plugins.load(__name__, name))


def shown(cell: object) -> str:
    """The first characters of a cell, on one line."""
    return " ".join(f"{cell!r:.200}".split())[:40]
