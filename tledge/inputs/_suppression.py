"""Many candidate boxes to the few that are told, in numpy: what detectors in torch and graphs do alike.

Of each image's candidates, a box with a label and a score, those above `score_threshold` are kept, of these the
`per_image` best, and of these greedily the best one of each label that overlaps no better one by more than
`iou_threshold` (non-maximum suppression; Felzenszwalb et al. 2010, section 6.2). The `max_detections` best are told.
Of equal scores the one of the smaller label comes first, then that of the earlier box.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Suppression:
    """What is told of a detector's candidates; see the module's first lines.

    `iou_threshold` is `None` for detectors that answer each object once by themselves, of which only the best are
    taken.
    """

    score_threshold: float = 0.05
    iou_threshold: float | None = 0.6
    max_detections: int = 100
    per_image: int = 1000


def suppress(boxes: Array, scores: Array, settings: Suppression) -> dict[str, Array]:
    """The detections among candidates, best first.

    Args:
        boxes: `(batch, candidates, 4)`, as `xmin, ymin, xmax, ymax`.
        scores: `(batch, labels, candidates)`, probabilities.
        settings: which are told.

    Returns:
        `boxes (batch, max_detections, 4) float32`, `scores (batch, max_detections) float32` and `labels (batch,
        max_detections) int64`; behind the last detection they are 0, 0 and -1.
    """
    most = settings.max_detections
    found: dict[str, Array] = {
        "boxes": np.zeros((len(boxes), most, 4), np.float32),
        "scores": np.zeros((len(boxes), most), np.float32),
        "labels": np.full((len(boxes), most), -1, np.int64),
    }
    for row in range(len(boxes)):
        for name, values in _of_image(boxes[row], scores[row], settings).items():
            found[name][row, : len(values)] = values
    return found


def _of_image(boxes: Array, scores: Array, settings: Suppression) -> Mapping[str, Array]:
    """The detections of one image, without padding."""
    flat = scores.reshape(-1)
    likely = np.flatnonzero(flat > settings.score_threshold)
    best = likely[np.argsort(-flat[likely], kind="stable")][: settings.per_image]
    labels, at = best // scores.shape[1], best % scores.shape[1]
    kept = np.ones(len(best), bool)
    if settings.iou_threshold is not None:
        for label in np.unique(labels):
            mine = np.flatnonzero(labels == label)
            kept[mine] = _apart(boxes[at[mine]], settings.iou_threshold)
    told = np.flatnonzero(kept)[: settings.max_detections]
    return {"boxes": boxes[at[told]], "scores": flat[best[told]], "labels": labels[told]}


def _apart(boxes: Array, threshold: float) -> npt.NDArray[np.bool_]:
    """Which boxes stay, best first, where one goes that overlaps one which stays by more than the threshold."""
    low, high = boxes[:, :2], boxes[:, 2:]
    areas = np.prod(high - low, axis=1)
    open_, kept = np.ones(len(boxes), bool), np.zeros(len(boxes), bool)
    for i in range(len(boxes)):
        if not open_[i]:
            continue
        kept[i] = True
        rest = slice(i + 1, None)
        sides = np.minimum(high[i], high[rest]) - np.maximum(low[i], low[rest])
        shared = np.prod(np.clip(sides, 0, None), axis=1)
        open_[rest] &= ~(shared > threshold * (areas[i] + areas[rest] - shared))
    return kept
