"""Cells of labels, as files hold them, and the numbers of labels that have names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def is_empty(cell: object) -> bool:
    """Whether a cell holds nothing."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def holds_several(cell: object) -> bool:
    """Whether a cell holds a list or an object."""
    return isinstance(cell, Mapping | list | tuple | np.ndarray)


def numbered(label: Sequence[str], names: Iterable[str]) -> list[int]:
    """The places of a row's labels among all of them.

    Raises:
        ValueError: one is not among them; the message is its name.
    """
    places = places_of(names)
    unknown = next((name for name in label if name not in places), None)
    if unknown is not None:
        raise ValueError(unknown)
    return [places[name] for name in label]


def places_of(names: Iterable[str]) -> Mapping[str, int]:
    """The place of each name: that of its first entry, or what a mapping says."""
    return names if isinstance(names, Mapping) else {name: i for i, name in enumerate(names)}


def renamed(label: Sequence[str], names: Mapping[str, str]) -> tuple[str, ...]:
    """The labels of a row with other names, each once; a name without an entry stays."""
    return tuple(dict.fromkeys(names.get(name, name) for name in label))


def label_names(label: Sequence[str]) -> tuple[str, ...]:
    """The labels of a row, which are names."""
    return tuple(label)


def output_names(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels, each of which has an output."""
    return tuple(labels)


def no_names(label: Sequence[object]) -> tuple[str, ...]:  # noqa: ARG001
    """None: what is told of a row has no names."""
    return ()


def unchanged(label: Sequence[Any], names: Mapping[str, str]) -> tuple[Any, ...]:  # noqa: ARG001
    """The same: what is told of a row has no names."""
    return tuple(label)
