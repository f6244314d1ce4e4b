"""Cells of labels, as files hold them, and the numbers of labels that have names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np


def is_empty(cell: object) -> bool:
    """Whether a cell holds nothing."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def holds_several(cell: object) -> bool:
    """Whether a cell holds a list or an object."""
    return isinstance(cell, Mapping | list | tuple | np.ndarray)


def numbered(label: Sequence[str], names: Sequence[str]) -> list[int]:
    """The places of a row's labels among all of them.

    Raises:
        ValueError: one is not among them; the message is its name.
    """
    places = {name: i for i, name in enumerate(names)}
    unknown = next((name for name in label if name not in places), None)
    if unknown is not None:
        raise ValueError(unknown)
    return [places[name] for name in label]
