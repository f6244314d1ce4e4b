"""The boxes of a training image, and how places and boxes are told to belong together."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torchvision.ops import box_iou


@dataclass(frozen=True, slots=True)
class Truth:
    """The boxes of one image in pixels of the input: `labels (n,) int64`, `boxes (n, 4)`, and the ignored ones."""

    labels: Tensor
    boxes: Tensor
    ignored: Tensor

    @classmethod
    def of(cls, targets: Tensor) -> Truth:
        """Those of a row of targets, `(most, 6)`: label, box, whether it is ignored; -1 in padding."""
        there = targets[targets[:, 0] >= 0]
        ignored = there[:, 5] > 0
        seen = there[~ignored]
        return cls(seen[:, 0].long(), seen[:, 1:5], there[ignored, 1:5])

    def ignores(self, points: Tensor) -> Tensor:
        """Whether places `(places, 2)` lie in an ignored box, `(places,) bool`."""
        inside = (points[:, None] >= self.ignored[None, :, :2]) & (points[:, None] < self.ignored[None, :, 2:])
        return inside.all(-1).any(-1)


NOTHING, UNSURE = -1, -2
"""In place of a box: there is none, and it is not to be told."""


def by_overlap(anchors: Tensor, truth: Truth, *, high: float, low: float) -> Tensor:
    """The box that each anchor is to find, `(anchors,) int64`: its number, `NOTHING` or `UNSURE`.

    That is the box that it overlaps most, by `high` or more, and for each box also the anchors that overlap it most
    (Ren et al. 2015). Between `low` and `high`, and in ignored boxes, it is unsure.

    Args:
        anchors: `(anchors, 4)`.
        truth: the boxes of the image.
        high: the intersection over union from which on an anchor is for a box.
        low: the one below which it is for none.
    """
    found = anchors.new_full((len(anchors),), NOTHING).long()
    if len(truth.boxes):
        overlap = box_iou(anchors, truth.boxes)
        most, best = overlap.max(1)
        found = best.where(most >= high, found.where(most < low, found.new_tensor(UNSURE)))
        nearest = overlap.max(0).values
        is_nearest = (overlap == nearest).logical_and(nearest > 0)
        found = best.where(is_nearest.any(1), found)
    middles = (anchors[:, :2] + anchors[:, 2:]) / 2
    return found.where((found >= 0) | ~truth.ignores(middles), found.new_tensor(UNSURE))
