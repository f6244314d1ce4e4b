"""The sum of what a detector is wrong about: labels, boxes, and what else its kind tells of a place."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def loss(parts: Mapping[str, Tensor], *, share: float | Tensor = 1.0) -> Tensor:
    """The sum of the parts, all of the same weight, as in the papers of the kinds (`tledge.model.detectors`).

    Args:
        parts: scalars by name.
        share: the part of a batch in its optimizer step.
    """
    total = sum(each.float() for each in parts.values())
    assert isinstance(total, Tensor)
    return total * share
