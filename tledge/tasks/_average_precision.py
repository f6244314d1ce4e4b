"""Average precision of boxes, as COCO's evaluation defines it (Lin et al. 2014; the code of pycocotools).

Detections of an image are matched to its true boxes of their label, the surest first, each to the one that it overlaps
most, at ten thresholds of the intersection over the union. Precision is read at 101 values of recall. Boxes that are
ignored may be matched any number of times, which is neither right nor wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge.tasks import Outputs

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""The intersections over unions that a hit must have, each in turn."""
RECALLS = np.linspace(0, 1, 101)
"""Where precision is read."""
MOST = 100
"""Detections of one label in an image that count, the surest."""
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Sizes of boxes, in square pixels, both ends included."""

_REMEMBERED = 1 << 16  # images whose matches are kept: a bootstrap asks for the same ones again and again
_WIDTH = 6  # numbers of a true box: label, corners, ignored

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """What became of the detections of one or more images.

    `labels (detections,) int64` and `scores (detections,) float64`, the surest of an image first; `hits` and `ignored
    (detections, thresholds) bool`, which are right, and which do not count. `truth (boxes,) int64` has the labels of
    the true boxes that count.
    """

    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    hits: Bools
    ignored: Bools
    truth: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """By label precision and recall.

    `labels (labels,) int64` are those that have true boxes, and `n_true (labels,) int64` how many. `precision (labels,
    thresholds, recalls) float64` is the best one at that recall or a higher one, 0 where there is none. `recall
    (labels, thresholds) float64` is that of all detections.
    """

    labels: npt.NDArray[np.int64]
    n_true: npt.NDArray[np.int64]
    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]

    def average_precision(self, threshold: float | None = None) -> npt.NDArray[np.float64]:
        """Of each label, `(labels,) float64`: at one threshold, or the mean over all."""
        chosen = self.precision if threshold is None else self.precision[:, self._place(threshold)]
        return np.asarray(chosen.mean(axis=(1, 2)))

    @staticmethod
    def _place(threshold: float) -> list[int]:
        return [int(np.abs(THRESHOLDS - threshold).argmin())]


def overlaps(boxes: Array, others: Array, crowds: Bools | None = None) -> npt.NDArray[np.float64]:
    """The intersection over the union of each box with each other one, `(boxes, others) float64`.

    Args:
        boxes: `(boxes, 4)`: xmin, ymin, xmax, ymax.
        others: `(others, 4)`.
        crowds: `(others,)`: those with which it is the share of the box that is inside.
    """
    a, b = (np.asarray(each, np.float64).reshape(-1, 1, 4) for each in (boxes, others))
    b = b.transpose(1, 0, 2)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=-1)
    area_a, area_b = ((each[..., 2:] - each[..., :2]).prod(axis=-1) for each in (a, b))
    union = area_a + area_b - shared
    if crowds is not None:
        union = np.where(crowds[None], area_a, union)
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def matches(records: Outputs, targets: Array, area: str = "all") -> list[Matches]:
    """Those of each image.

    Args:
        records: `boxes (images, detections, 4)`, `scores (images, detections)` and `labels (images, detections)`,
            -1 in padding.
        targets: `(images, boxes, 6)`, as the task makes them.
        area: a key of `AREAS`: boxes of other sizes are ignored.
    """
    boxes = np.ascontiguousarray(records["boxes"], np.float32)
    scores = np.ascontiguousarray(records["scores"], np.float32)
    labels = np.ascontiguousarray(records["labels"], np.int64)
    truth = np.ascontiguousarray(targets, np.float32)
    rows = zip(boxes, scores, labels, truth, strict=True)
    return [_matches(*(each.tobytes() for each in row), area) for row in rows]


@functools.lru_cache(_REMEMBERED)
def _matches(boxes: bytes, scores: bytes, labels: bytes, targets: bytes, area: str) -> Matches:
    truth = np.frombuffer(targets, np.float32).reshape(-1, _WIDTH).astype(np.float64)
    return match(
        np.frombuffer(boxes, np.float32).reshape(-1, 4).astype(np.float64),
        np.frombuffer(scores, np.float32).astype(np.float64),
        np.frombuffer(labels, np.int64),
        truth[truth[:, 0] >= 0],
        AREAS[area],
    )


def match(boxes: Array, scores: Array, labels: Array, truth: Array, area: tuple[float, float]) -> Matches:
    """What became of the detections of one image.

    Args:
        boxes: `(detections, 4) float64`.
        scores: `(detections,) float64`.
        labels: `(detections,) int64`, below 0 where there is none.
        truth: `(boxes, 6) float64`: label, corners, and whether it is ignored.
        area: the least and the largest area of boxes that count.
    """
    chosen = surest(scores, labels)
    boxes, scores, labels = boxes[chosen], scores[chosen], labels[chosen]
    crowds = truth[:, 5] > 0
    skipped = crowds | _outside(truth[:, 1:5], area)
    order = np.argsort(skipped, kind="stable")
    truth, crowds, skipped = truth[order], crowds[order], skipped[order]
    shared = overlaps(boxes, truth[:, 1:5], crowds)
    shared[labels[:, None] != truth[None, :, 0]] = -1
    found = _assigned(shared, crowds, int((~skipped).sum()))
    is_matched = found >= 0
    ignored = np.zeros(found.shape, bool)
    if skipped.size:
        ignored = is_matched & skipped[found]
    ignored |= ~is_matched & _outside(boxes, area)[:, None]
    return Matches(labels, scores, is_matched & ~ignored, ignored, truth[~skipped, 0].astype(np.int64))


def surest(scores: Array, labels: Array) -> npt.NDArray[np.int64]:
    """The places of the detections that count, the surest first: of each label the first `MOST`."""
    order = np.argsort(-scores, kind="stable")
    order = order[labels[order] >= 0]
    if len(order) <= MOST:
        return order
    kept = [order[labels[order] == label][:MOST] for label in np.unique(labels[order])]
    return order[np.isin(order, np.concatenate(kept))]


def _outside(boxes: Array, area: tuple[float, float]) -> Bools:
    """Which boxes are of another size."""
    sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.asarray((sizes < area[0]) | (sizes > area[1]))


def _assigned(shared: Array, crowds: Bools, counted: int) -> npt.NDArray[np.int64]:
    """The true box of each detection at each threshold, `(detections, thresholds) int64`, -1 for none.

    Args:
        shared: the overlaps, `(detections, boxes)`, below 0 for boxes of another label.
        crowds: `(boxes,)`: those that can be matched again and again.
        counted: how many boxes count, which stand before the others and are matched first.
    """
    found = np.full((len(shared), len(THRESHOLDS)), -1, np.int64)
    if not shared.size:
        return found
    free = np.ones((len(THRESHOLDS), shared.shape[1]), bool)
    levels = np.arange(len(THRESHOLDS))
    for detection in np.flatnonzero(shared.max(axis=1) >= THRESHOLDS[0]):
        row = shared[detection]
        fits = (row[None] >= THRESHOLDS[:, None]) & free
        place = _last_best(row[:counted], fits[:, :counted])
        spare = _last_best(row[counted:], fits[:, counted:])
        place = np.where((place < 0) & (spare >= 0), spare + counted, place)
        found[detection] = place
        taken = (place >= 0) & ~crowds[place]
        free[levels[taken], place[taken]] = False
    return found


def _last_best(row: Array, fits: Bools) -> npt.NDArray[np.int64]:
    """The place of the largest value that fits at each threshold, the last of equal ones; -1 for none."""
    if not row.size:
        return np.full(len(fits), -1)
    values = np.where(fits, row[None], -1.0)[:, ::-1]
    place = row.size - 1 - values.argmax(axis=1)
    return np.where(fits.any(axis=1), place, -1)


def curves(found: Sequence[Matches]) -> Curves:
    """Precision and recall by label, of the matches of images."""
    labels, scores, hits, ignored, truth = (
        np.concatenate([getattr(each, name) for each in found])
        for name in ("labels", "scores", "hits", "ignored", "truth")
    )
    order = np.lexsort((-scores, labels))  # stable: of equal scores that of the earlier image
    labels, hits, ignored = labels[order], hits[order], ignored[order]
    known, n_true = np.unique(truth, return_counts=True)
    precision = np.zeros((len(known), len(THRESHOLDS), len(RECALLS)))
    recall = np.zeros((len(known), len(THRESHOLDS)))
    for i, (label, count) in enumerate(zip(known, n_true, strict=True)):
        of = slice(*np.searchsorted(labels, [label, label + 1]))
        precision[i], recall[i] = _curve(hits[of], ignored[of], int(count))
    return Curves(known, n_true, precision, recall)


def _curve(hits: Bools, ignored: Bools, n_true: int) -> tuple[Array, Array]:
    """Precision at each of `RECALLS`, `(thresholds, recalls)`, and the last recall, `(thresholds,)`, of one label."""
    precision = np.zeros((len(THRESHOLDS), len(RECALLS)))
    if not len(hits):
        return precision, np.zeros(len(THRESHOLDS))
    right = np.cumsum(hits, axis=0, dtype=np.float64)
    wrong = np.cumsum(~hits & ~ignored, axis=0, dtype=np.float64)
    recall = right / n_true
    best = np.maximum.accumulate((right / (right + wrong + np.spacing(1)))[::-1], axis=0)[::-1]
    for level in range(len(THRESHOLDS)):
        places = np.searchsorted(recall[:, level], RECALLS)
        inside = places < len(recall)
        precision[level, inside] = best[places[inside], level]
    return precision, recall[-1]


def figures(found: Curves) -> dict[str, float]:
    """The means over labels: `map`, `map_50`, `map_75` and `recall`; NaN where no true box counts."""
    if not len(found.labels):
        return dict.fromkeys(("map", "map_50", "map_75", "recall"), float("nan"))
    return {
        "map": float(found.average_precision().mean()),
        "map_50": float(found.average_precision(0.5).mean()),
        "map_75": float(found.average_precision(0.75).mean()),
        "recall": float(found.recall.mean()),
    }


def by_size(records: Outputs, targets: Array, sizes: Iterable[str] = tuple(AREAS)[1:]) -> dict[str, dict[str, float]]:
    """The figures of boxes of each size alone, with `boxes`, how many there are; where there are any."""
    result = {}
    for size in sizes:
        of = curves(matches(records, targets, size))
        if len(of.labels):
            result[size] = figures(of) | {"boxes": float(of.n_true.sum())}
    return result
