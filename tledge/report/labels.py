"""Where labels stand beside the dots of a plot, so that they touch neither each other nor another dot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LINE = 14
"""Height of a line of label text."""
_CHAR = 7.2
"""Width of a character of label text, a little generous, since the reader's font is unknown."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The plot's area inside its axes."""

    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Circle:
    """A dot, and the characters in the longer one of its label's two lines."""

    x: float
    y: float
    radius: float
    characters: int


@dataclass(frozen=True, slots=True)
class Label:
    """Where a label's first line starts, its `text-anchor`, and the line that leads to it where it is further away."""

    x: float
    y: float
    anchor: str
    leader: tuple[float, float, float, float] | None


def place(circles: Sequence[Circle], frame: Frame, width: float) -> list[Label]:
    """A label for each dot, at the first place around it that is free and inside the plot, in the dots' order.

    Where no place is free, the one that overlaps least is taken.

    Args:
        circles: The dots.
        frame: Labels stay above its bottom and to the right of its left edge.
        width: Labels stay to the left of this.
    """
    dots: list[Box] = [(c.x - c.radius, c.y - c.radius, c.x + c.radius, c.y + c.radius) for c in circles]
    taken = list(dots)
    labels = []
    for circle in circles:
        spots = [_spot(circle, where) for where in _PLACES]
        box, label = min(
            spots, key=lambda spot: _overlap(spot[0], taken, frame, width) + _crossings(spot[1].leader, dots)
        )
        taken.append(box)
        labels.append(label)
    return labels


_PLACES = (  # side of the dot: -1 left, 0 middle, 1 right; then lines below it; then how far to the side
    *((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (1, 1, 0), (1, -1, 0), (-1, 1, 0), (-1, -1, 0)),
    *(
        (side, sign * lines, aside)
        for lines in range(2, 9)
        for sign in (1, -1)
        for side in (0, 1, -1)
        for aside in (12, 50)
    ),
)


def _spot(circle: Circle, place: tuple[int, int, int]) -> tuple[Box, Label]:
    """The label's box and where it starts; from two lines away on, a line leads to it."""
    side, down, aside = place
    x, y, radius, width = circle.x, circle.y, circle.radius, _CHAR * circle.characters
    far = abs(down) > 1
    label_x = x + side * (aside if far else radius + 4)
    left = label_x - (width, width / 2, 0)[side + 1]
    toward = math.copysign(1, down)
    gap = LINE if side and not far else radius + 4 + LINE
    middle = y + (toward * (gap + (abs(down) - 1) * LINE) if down else 0)
    box = (left, middle - LINE - 2, left + width, middle + LINE + 2)
    leader = None
    if far:
        ends = (x + side * (aside - 3), middle - (toward * (LINE + 1) if not side else 0))
        leader = (x, y + toward * radius, round(ends[0], 1), round(ends[1], 1))
    return box, Label(round(label_x, 1), round(middle - 2, 1), ("end", "middle", "start")[side + 1], leader)


def _crossings(leader: Box | None, circles: Sequence[Box]) -> float:
    """A leading line's length, and much more for each dot in its way: short lines that cross nothing are best."""
    if leader is None:
        return 0.0
    x0, y0, x1, y1 = leader
    points = [(x0 + (x1 - x0) * i / 20, y0 + (y1 - y0) * i / 20) for i in range(4, 21)]
    crossed = sum(any(l_ < x < r and t < y < b for x, y in points) for l_, t, r, b in circles)
    return math.dist((x0, y0), (x1, y1)) + 200 * crossed


def _overlap(box: Box, taken: Sequence[Box], frame: Frame, width: float) -> float:
    """The area shared with boxes that are taken, and ten times the area outside the plot."""
    left, top, right, bottom = box
    area = (right - left) * (bottom - top)
    inside = max(0.0, min(right, width) - max(left, frame.left)) * max(0.0, min(bottom, frame.bottom) - max(top, 0.0))
    shared = sum(
        max(0.0, min(right, r) - max(left, l_)) * max(0.0, min(bottom, b) - max(top, t)) for l_, t, r, b in taken
    )
    return shared + 10 * (area - inside)
