"""How a report shows the input of a row: one file a kind of input, named as in `tledge.inputs`.

A module has `MOST`, how many rows are shown at most, and `shown`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

from tledge import plugins


class Kind(Protocol):
    """What such a module provides."""

    MOST: int

    @staticmethod
    def shown(row: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of `report.WrongPrediction` that show a row."""
        ...


def load(name: str) -> Kind:
    """The kind of that name."""
    return cast("Kind", plugins.load(__name__, name))
