"""Some questions with their answers marked in their contexts: those that are right, wrong, or missed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tledge.evidence import answers
from tledge.evidence.answers import Answered
from tledge.tasks import Task, _answers

if TYPE_CHECKING:
    from tledge.report import MarkedPart, MarkedText

MARKED = 20
"""Questions that are shown, half of them with mistakes."""
AROUND = 240
"""Characters of a context that are shown before and behind what is marked."""

Mark = tuple[int, int, str]
"""Start and end of a part of a context, and whether it is `right`, `wrong` or `missed`."""


def read(task: Task, metric: str, labels: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """How many questions got none of their answers, and some contexts with both marked."""
    found = answers.of_run(task, labels, folder)
    exact, f1 = _answers.figures(found.records["answer"], found.targets)
    wrong, good = np.argsort(f1, kind="stable")[: int((exact == 0).sum())], np.flatnonzero(exact == 1)
    wrong = np.asarray([row for row in wrong.tolist() if exact[row] == 0], np.int64)
    n_good = min(len(good), MARKED // 2)
    shown = [*_evenly(wrong, MARKED - n_good), *_evenly(good, n_good)]
    never = bool((found.targets[:, 0, 0] >= 0).all())
    return {
        "wrong_count": int((exact == 0).sum()),
        "marked": tuple(_marked(found, int(row), is_right=bool(exact[row])) for row in shown),
        "usage": 'each["answer"], each["score"]',
        "always": "empty answer",
        "scope": "It answers with a part of the text that it is given, even where the answer is not in it."
        if never
        else "It answers with a part of the text that it is given, or with nothing where it finds none.",
        **answers.beside(found, metric, folder),
    }


def _evenly(rows: Any, most: int) -> Any:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def _marked(found: Answered, row: int, *, is_right: bool) -> MarkedText:
    """A context in parts, below its question: the answer that was given, and the first right one where that is none."""
    from tledge.report import MarkedText

    context, question = str(found.rows[row]["context"]), str(found.rows[row]["question"])
    start, end = int(found.records["start"][row]), int(found.records["end"][row])
    marks: list[Mark] = [(start, end, "right" if is_right else "wrong")] if start >= 0 else []
    told = "" if start >= 0 else " (no answer)"
    true_start, size = (int(number) for number in found.targets[row, 0, :2])
    if not is_right and true_start >= 0:
        marks.append((true_start, true_start + size, "missed"))
    elif not is_right:
        told = " (there is no answer)"
    return MarkedText(context, tuple(_parts(context, sorted(marks))), f"{question}{told}")


def _parts(context: str, marks: list[Mark]) -> Iterator[MarkedPart]:
    """The parts of a context around its marks; what is in two of them is of both kinds."""
    from tledge.report import MarkedPart

    first, last = (marks[0][0], max(end for _, end, _ in marks)) if marks else (0, 0)
    at, stop = max(0, first - AROUND), min(len(context), last + AROUND)
    edges = sorted({at, stop, *(edge for start, end, _ in marks for edge in (start, end))})
    for begin, until in itertools.pairwise(edges):
        kinds = [kind for start, end, kind in marks if start <= begin and until <= end]
        text = context[begin:until]
        if not kinds and until - begin > 2 * AROUND and at < begin and until < stop:
            text = f"{text[:AROUND]} ... {text[-AROUND:]}"
        text = "... " * (begin == at > 0) + text + " ..." * (until == stop < len(context))
        yield MarkedPart(text, kind=" ".join(kinds))
