"""Scores by label, and texts whose spans are marked: those that are right, those that are not, and those that lack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tledge.evidence import answers
from tledge.evidence.answers import Answered, Array
from tledge.tasks import Task, _spans, value_of

if TYPE_CHECKING:
    from tledge.report import LabelScore, MarkedPart, MarkedText

MARKED = 20
"""Texts that are shown, half of them with mistakes."""
LONGEST = 400
"""Characters of a text that are shown."""


def read(task: Task, metric: str, labels: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """What the labels are scored, and some texts with their spans."""
    found = answers.of_run(task, labels, folder)
    spans = found.records["spans"]
    right = task.agree(found.records, {"spans": found.targets})
    assert right is not None
    told = (found.targets[:, 0, 0] >= 0) | (spans[:, 0, 0] >= 0)
    wrong, good = np.flatnonzero(~right), np.flatnonzero(right & told)
    shown = [*_evenly(wrong, MARKED - min(len(good), MARKED // 2)), *_evenly(good, MARKED // 2)]
    return {
        "label_scores": tuple(_label_scores(found)),
        "wrong_count": len(wrong),
        "marked": tuple(_marked(found, int(row)) for row in shown),
        "usage": 'each["spans"]',
        "always": "answer without a span",
        "scope": "It knows only the labels below, and marks nothing where it sees none of them.",
        **answers.beside(found, metric, folder),
    }


def _evenly(rows: Array, most: int) -> Array:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def _label_scores(found: Answered) -> Iterator[LabelScore]:
    from tledge.report import LabelScore

    hits, given, true = (
        np.pad(each, (0, len(found.labels)))[: len(found.labels)]
        for each in _spans.counts(found.records["spans"], found.targets)
    )
    for label, hit, some, count in zip(found.labels, hits.tolist(), given.tolist(), true.tolist(), strict=True):
        yield LabelScore(
            label=label,
            precision=hit / some if some else None,
            recall=hit / count if count else None,
            f1=2 * hit / (some + count) if some + count else None,
            count=count,
        )


def _marked(found: Answered, row: int) -> MarkedText:
    """A text in parts, as right, wrong or missed."""
    from tledge.report import MarkedText

    text = str(value_of(found.task, found.rows[row]))
    ours, theirs = (
        {(*each,) for each in of[row].tolist() if each[0] >= 0} for of in (found.records["spans"], found.targets)
    )
    marks = [
        *((start, end, label, "right" if (label, start, end) in theirs else "wrong") for label, start, end in ours),
        *((start, end, label, "missed") for label, start, end in theirs - ours),
    ]
    return MarkedText(text[:LONGEST], tuple(_parts(text, sorted(marks), found.labels)))


def _parts(text: str, marks: Sequence[tuple[int, int, int, str]], labels: Sequence[str]) -> Iterator[MarkedPart]:
    """The parts of a text; where marks overlap each has its own part, so that some text is there twice."""
    from tledge.report import MarkedPart

    at = 0
    for start, end, label, kind in marks:
        if start > at:
            yield MarkedPart(text[at:start])
        yield MarkedPart(text[start:end], labels[label], kind)
        at = max(at, end)
        if at > LONGEST:
            break
    rest = text[at:]
    if rest:
        yield MarkedPart(rest if at + len(rest) <= LONGEST else f"{rest[: max(0, LONGEST - at)]} ...")
