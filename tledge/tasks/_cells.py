"""Cells of labels, as files hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np


def is_empty(cell: object) -> bool:
    """Whether a cell holds nothing."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def holds_several(cell: object) -> bool:
    """Whether a cell holds a list or an object."""
    return isinstance(cell, Mapping | list | tuple | np.ndarray)
