"""What all tasks share that find objects in an image: a box, a label and a score for each.

Boxes are in pixels of the upright original image: xmin, ymin, xmax and ymax, x to the right, y down, half open.

Targets are `(rows, boxes, 6) float32`: label, corners, and 1 for a box that is ignored, else 0; padded with -1. Records
are what a model found, the surest first: `boxes (rows, detections, 4) float32`, `scores (rows, detections) float32`,
0 in padding, and `labels (rows, detections) int64`, -1 in padding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import metrics
from tledge.errors import InputError
from tledge.inputs._image_decode import shape_of
from tledge.tasks import HIGHER, Outputs, _average_precision, _cells
from tledge.tasks._box_cells import CORNERS, Box, Boxes, Shape, boxes_in

__all__ = [
    "LABELS",
    "LABEL_COLUMN",
    "LEAST_LABELS",
    "LOSS",
    "LOSSES",
    "METRIC",
    "METRICS",
    "MIXES",
    "NEEDS_LABEL",
    "N_LABELS",
    "OPTIONS",
    "PROBLEM_TYPE",
    "TAKES_FLAGS",
    "agree",
    "decode",
    "label_names",
    "most_frequent",
    "narrowed",
    "numbered",
    "output_names",
    "parse_label",
    "predictions",
    "records",
    "renamed",
    "score",
    "target_scale",
    "targets",
]  # fmt: skip

LABELS = "boxes"
LABEL_COLUMN = "objects"
OPTIONS = ("score_threshold",)
TAKES_FLAGS = False
MIXES = False
N_LABELS = range(1, 1 << 16)
LEAST_LABELS = 1
NEEDS_LABEL = False
METRIC = "map"
METRICS = {"map": HIGHER, "map_50": HIGHER, "map_75": HIGHER, "recall": HIGHER}
LOSS = "detection"
LOSSES = ("detection",)
PROBLEM_TYPE = "object_detection"

UNTIL_PICKED = 0.5
"""The score of a detection that is shown, where none was picked on validation rows."""
SAME = 0.5
"""The intersection over the union from which two detections are of one object."""
WIDTH = 6
"""Numbers of a box: its label, corners, and whether it is ignored."""

Numbers = npt.NDArray[Any]


def parse_label(
    cell: object,
    separator: str,  # noqa: ARG001
    decimal: str,  # noqa: ARG001
    given: Sequence[object] = (),
) -> tuple[Box, ...]:
    """The boxes in a raw cell, as `tledge.tasks._box_cells.boxes_in` reads them; `given` is the image or its shape.

    Raises:
        ValueError: the cell holds something else, or boxes of an image of another size; the message says what was
            expected.
    """
    shape = given[0] if given else None
    return boxes_in(cell, shape if shape is None or isinstance(shape, Shape) else Shape(*shape_of(shape)))


def renamed(label: Sequence[Box], names: Mapping[str, str]) -> tuple[Box, ...]:
    """The same boxes with other names of labels."""
    notes = label.notes if isinstance(label, Boxes) else {}
    return Boxes((box._replace(label=names.get(box.label, box.label)) for box in label), notes)


def label_names(label: Sequence[Box]) -> tuple[str, ...]:
    """The names of the labels of an image's boxes, each once."""
    return tuple(dict.fromkeys(box.label for box in label))


def numbered(label: Sequence[Box], names: Iterable[str]) -> list[float]:
    """For each box six numbers, one behind the other: the place of its label, its corners, and whether it is ignored.

    Raises:
        ValueError: a label is not among them; the message is its name.
    """
    places = _cells.numbered([box.label for box in label], names)
    pairs = zip(places, label, strict=True)
    return [float(number) for place, box in pairs for number in (place, *box[1:5], box.ignored)]


def targets(labels: Sequence[Sequence[float]], n_labels: int) -> Numbers:
    """The boxes of rows, `(rows, boxes, 6) float32`, from what `numbered` gives of each."""
    rows = [np.asarray(row, np.float32).reshape(-1, WIDTH) for row in labels]
    assert all(row[:, 0].max(initial=-1) < n_labels for row in rows)
    result = np.full((len(rows), max([1, *map(len, rows)]), WIDTH), -1, np.float32)
    for target, row in zip(result, rows, strict=True):
        target[: len(row)] = row
    return result


def output_names(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels, in the order of their numbers."""
    return tuple(labels)


def thresholds(outputs: Outputs) -> npt.NDArray[np.float64]:
    """The least score of a detection that is shown, for each row, `(rows,)`."""
    found = outputs.get("score_threshold")
    rows = len(outputs["scores"])
    return np.full(rows, UNTIL_PICKED) if found is None else np.broadcast_to(np.asarray(found, np.float64), (rows,))


def shown(outputs: Outputs) -> npt.NDArray[np.bool_]:
    """Which detections are sure enough to be shown, `(rows, detections)`."""
    return np.asarray((outputs["labels"] >= 0) & (outputs["scores"] >= thresholds(outputs)[:, None]))


def decode(outputs: Outputs, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The `boxes` of each row whose score is `score_threshold` or more, the surest first; and `others`, the rest.

    Each has `label`, `score`, `xmin`, `ymin`, `xmax` and `ymax`.
    """
    kept, rest = shown(outputs), outputs["labels"] >= 0
    return [
        {name: list(_listed(outputs, row, which, labels)) for name, which in parts.items()}
        for row, parts in enumerate(
            {"boxes": kept[row], "others": rest[row] & ~kept[row]} for row in range(len(outputs["scores"]))
        )
    ]


def _listed(outputs: Outputs, row: int, which: Numbers, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    boxes, scores, numbers = (outputs[name][row][which].tolist() for name in ("boxes", "scores", "labels"))
    for corners, score, number in zip(boxes, scores, numbers, strict=True):
        yield {"label": labels[number], "score": score, **dict(zip(CORNERS, corners, strict=True))}


def narrowed(answer: dict[str, Any], score_threshold: float | None = None) -> dict[str, Any]:
    """An answer with the boxes of some score or more, by default those that `decode` shows.

    Raises:
        InputError: `score_threshold` is no number of 0 to 1.
    """
    if score_threshold is None:
        return {"boxes": answer["boxes"]}
    is_number = isinstance(score_threshold, int | float) and not isinstance(score_threshold, bool)
    if not is_number or not 0 <= score_threshold <= 1:
        raise InputError(f"score_threshold must be 0 to 1, got {score_threshold!r:.60}")
    return {"boxes": [box for box in [*answer["boxes"], *answer["others"]] if box["score"] >= score_threshold]}


def records(outputs: Outputs, inputs: Outputs) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG001
    """All detections as they are: `boxes`, `scores` and `labels`; and `score_threshold`, `(rows,)`."""
    found = {name: np.asarray(outputs[name]) for name in ("boxes", "scores", "labels")}
    return found | {"score_threshold": thresholds(outputs)}


def predictions(records: Outputs) -> None:
    """None: a box is nearer or further."""


def agree(ours: Outputs, theirs: Outputs) -> npt.NDArray[np.bool_]:
    """Whether both show the same objects of a row, `(rows,) bool`: as many, each with one of its label and place."""
    kept = shown(ours), shown(theirs)
    return np.asarray([_same(ours, theirs, row, kept[0][row], kept[1][row]) for row in range(len(kept[0]))], bool)


def _same(ours: Outputs, theirs: Outputs, row: int, kept: Numbers, others: Numbers) -> bool:
    if kept.sum() != others.sum():
        return False
    shared = _average_precision.overlaps(ours["boxes"][row][kept], theirs["boxes"][row][others])
    near = (shared >= SAME) & (ours["labels"][row][kept][:, None] == theirs["labels"][row][others][None])
    return bool(near.any(axis=1).all() and near.any(axis=0).all())


def score(records: Outputs, targets: Numbers) -> dict[str, float]:
    """Mean average precision over labels and intersections over unions of 0.50 to 0.95, at 0.50, at 0.75, and recall.

    They are COCO's (Lin et al. 2014): `recall` is that of at most 100 detections of a label in an image.
    """
    found = _average_precision.curves(_average_precision.matches(records, targets))
    return metrics.defined(_average_precision.figures(found))


def most_frequent(train: Numbers, n_labels: int) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG001
    """The records of a row in which nothing is found."""
    return {
        "boxes": np.zeros((1, 4), np.float32),
        "scores": np.zeros(1, np.float32),
        "labels": np.full(1, -1, np.int64),
        "score_threshold": np.asarray(UNTIL_PICKED),
    }


def target_scale(targets: Numbers) -> None:
    """None: labels have no unit."""


def pick_threshold(records: Outputs, targets: Numbers) -> float | None:
    """The `score_threshold` with the best F1 over all boxes, at an intersection over the union of 0.5.

    Between two scores it is the middle, and of equally good places the highest; `None` where nothing is right.

    Args:
        records: all that a model found.
        targets: of as many rows.
    """
    found = _average_precision.matches(records, targets)
    counted = np.concatenate([~each.ignored[:, 0] for each in found])
    hits = np.concatenate([each.hits[:, 0] for each in found])[counted]
    scores = np.concatenate([each.scores for each in found])[counted]
    n_true = sum(len(each.truth) for each in found)
    order = np.argsort(-scores, kind="stable")
    hits, scores = hits[order], scores[order]
    right = np.cumsum(hits)
    f1 = 2 * right / (np.arange(1, len(hits) + 1) + n_true)
    f1[:-1][scores[:-1] == scores[1:]] = -1  # detections of one score are not parted
    if not right.size or not right[-1]:
        return None
    place = int(f1.argmax())
    below = scores[place + 1] if place + 1 < len(scores) else 0.0
    return float((scores[place] + below) / 2)
