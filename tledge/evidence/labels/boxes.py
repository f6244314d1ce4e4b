"""Average precision by label and size, and pictures with their boxes: those that were missed and false alarms first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tledge.errors import InputError
from tledge.evidence import answers
from tledge.evidence.answers import Answered, Array, Outputs
from tledge.evidence.images import uri_of
from tledge.inputs import _drawing
from tledge.inputs.image import decode
from tledge.tasks import Task, _average_precision, _boxes
from tledge.tasks._average_precision import Curves, Matches

if TYPE_CHECKING:
    from tledge.report import BoxedPicture, BoxScore, LabelScore

PICTURES = 16
"""Pictures that are shown, a quarter of them without mistakes."""
LONGEST = 400
"""The longer side of a picture in pixels."""
LEVEL = 0
"""The place of the threshold that mistakes are told at, an intersection over the union of 0.5."""


def read(task: Task, metric: str, labels: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """What labels and sizes are scored, how precise detections are at each recall, and some pictures."""
    from tledge.report import Detections

    found = answers.of_run(task, labels, folder)
    everything = _average_precision.curves(_average_precision.matches(found.records, found.targets))
    sure = _sure(found.records)
    matches = _average_precision.matches(sure, found.targets)
    missed, false = _mistakes(matches)
    wrong = missed + false
    return {
        "label_scores": tuple(_label_scores(matches, labels)),
        "wrong_count": int((wrong > 0).sum()),
        "detections": Detections(
            threshold=float(_boxes.thresholds(found.records)[0]),
            scores=tuple(_scores(everything, labels)),
            sizes=_average_precision.by_size(found.records, found.targets),
            recalls=tuple(_average_precision.RECALLS.tolist()),
            curves={
                labels[label]: tuple(everything.precision[i, LEVEL].tolist())
                for i, label in enumerate(everything.labels)
            },
            confusion=confusion(sure, found.targets, len(labels)),
            pictures=tuple(_pictures(found, matches, missed, false)),
        ),
        "usage": 'each["boxes"]',
        "always": "no object found",
        "scope": "It finds objects of the labels below; anything else is background, or is taken for one of them.",
        **answers.beside(found, metric, folder),
    }


def _sure(records: Outputs) -> Outputs:
    """The records with those detections alone that are shown."""
    return records | {"labels": np.where(_boxes.shown(records), records["labels"], -1)}


def _mistakes(matches: Sequence[Matches]) -> tuple[Array, Array]:
    """How many boxes of each row were missed, and how many detections are of none: `(rows,)` each."""
    missed = [len(each.truth) - int(each.hits[:, LEVEL].sum()) for each in matches]
    false = [int((~each.hits[:, LEVEL] & ~each.ignored[:, LEVEL]).sum()) for each in matches]
    return np.asarray(missed, np.int64), np.asarray(false, np.int64)


def _label_scores(matches: Sequence[Matches], labels: Sequence[str]) -> Iterator[LabelScore]:
    from tledge.report import LabelScore

    for number, label in enumerate(labels):
        count = sum(int((each.truth == number).sum()) for each in matches)
        given = sum(int(((each.labels == number) & ~each.ignored[:, LEVEL]).sum()) for each in matches)
        hits = sum(int(((each.labels == number) & each.hits[:, LEVEL]).sum()) for each in matches)
        yield LabelScore(
            label=label,
            precision=hits / given if given else None,
            recall=hits / count if count else None,
            f1=2 * hits / (given + count) if given + count else None,
            count=count,
        )


def _scores(curves: Curves, labels: Sequence[str]) -> Iterator[BoxScore]:
    from tledge.report import BoxScore

    whole, half = curves.average_precision(), curves.average_precision(0.5)
    for i, (label, count) in enumerate(zip(curves.labels, curves.n_true, strict=True)):
        yield BoxScore(labels[label], int(count), float(whole[i]), float(half[i]), float(curves.recall[i].mean()))


def confusion(records: Outputs, targets: Array, n_labels: int) -> tuple[tuple[int, ...], ...]:
    """How often an object of each label was taken for one of each, at an intersection over the union of 0.5.

    A row is a true label and a column one that was given; the last of both is the background. Each detection, the
    surest first, is held against the free box that it overlaps most, whatever that is.
    """
    counts = np.zeros((n_labels + 1, n_labels + 1), int)
    for boxes, scores, labels, of_row in zip(
        records["boxes"], records["scores"], records["labels"], targets, strict=True
    ):
        truth = of_row[of_row[:, 0] >= 0]
        shared = _average_precision.overlaps(boxes, truth[:, 1:5], truth[:, 5] > 0)
        free = np.ones(len(truth), bool)
        for place in _average_precision.surest(scores, labels):
            fits = np.where(free, shared[place], 0.0)
            best = int(fits.argmax()) if fits.size else 0
            is_of_one = bool(fits.size) and fits[best] >= _average_precision.THRESHOLDS[LEVEL]
            if is_of_one and truth[best, 5] > 0:
                continue
            free[best if is_of_one else slice(0, 0)] = False
            counts[int(truth[best, 0]) if is_of_one else n_labels, int(labels[place])] += 1
        for label in truth[free & (truth[:, 5] == 0), 0]:
            counts[int(label), n_labels] += 1
    return tuple(tuple(int(number) for number in row) for row in counts)


def _pictures(found: Answered, matches: Sequence[Matches], missed: Array, false: Array) -> Iterator[BoxedPicture]:
    from tledge.report import BoxedPicture

    wrong = missed + false
    order = np.argsort(-wrong, kind="stable")
    good = order[wrong[order] == 0]
    n_good = min(len(good), PICTURES // 4)
    for row in [*order[wrong[order] > 0][: PICTURES - n_good], *good[:n_good]]:
        truth, given = _drawn(found, int(row), matches[row])
        yield BoxedPicture(str(found.rows[int(row)]["row"]), truth, given, int(missed[row]), int(false[row]))


def _drawn(found: Answered, row: int, match: Matches) -> tuple[str, str]:
    """The picture of a row with its true boxes, and with those that were found; empty where it is gone."""
    try:
        image = decode(found.rows[row]["image"])
    except InputError:  # a photo may have been moved since training
        return "", ""
    boxes = found.targets[row]
    truth = [
        _drawing.Drawn(each[1:5], found.labels[int(each[0])], _drawing.IGNORED if each[5] else _drawing.PALETTE[1])
        for each in boxes[boxes[:, 0] >= 0]
    ]
    records = _sure({name: of[row : row + 1] for name, of in found.records.items()})
    chosen = _average_precision.surest(records["scores"][0].astype(np.float64), records["labels"][0])
    kinds = np.where(match.ignored[:, LEVEL], _drawing.IGNORED, _drawing.WRONG)
    colours = np.where(match.hits[:, LEVEL], _drawing.RIGHT, kinds)
    texts = [
        f"{found.labels[int(records['labels'][0][place])]} {float(records['scores'][0][place]):.2f}" for place in chosen
    ]
    given = [
        _drawing.Drawn(records["boxes"][0][place], text, colour)
        for place, text, colour in zip(chosen, texts, colours.tolist(), strict=True)
    ]
    left, right = (uri_of(_drawing.draw(image, each[::-1], longest=LONGEST)) for each in (truth, given))
    return left, right
