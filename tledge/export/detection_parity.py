"""Parity of detections: as sets, since rounding may change their order and whichever of two equals is kept.

A detection is found again when the other side has one of the same label with a score within 1e-3 that it overlaps by at
least 0.99, or whose edges are within a tenth of a pixel, which tells more of slivers. What is not found again is a
near-tie where rounding can decide: its score is next to the threshold of suppression, or to that of the last candidate
that is considered or of the last detection that is told; or it overlaps a detection of its label, on the other side, by
nearly what suppresses it, or by more than that and with nearly its score, while torch has the very same candidate.
Behind a near-tie, what was suppressed on one side alone is one too, and what comes behind the last of a full list.
Near-ties are counted in a case's name; anything else fails it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from tledge.artifacts import ParityCase
from tledge.evaluate import Array, Run
from tledge.inputs._suppression import Suppression
from tledge.progress import Progress, silent
from tledge.tasks._average_precision import overlaps

OVERLAP, SCORE = 0.99, 1e-3
"""The least overlap, and the largest difference of scores, of what is the same detection."""
PIXELS = 0.1
"""How far edges of the same box may be apart however thin it is: what is cut at the image's edge may be a sliver."""
CLOSE = 0.01
"""How near an overlap is to the threshold where rounding may decide."""


def check_detections(
    torch_run: Run,
    graph_run: Run,
    candidates: Run,
    inputs: Sequence[tuple[str, Mapping[str, Array]]],
    settings: Suppression,
    *,
    progress: Progress = silent,
) -> tuple[ParityCase, ...]:
    """Compare detections on every case; nothing is raised, `tledge.export.require` judges.

    Args:
        torch_run: the detector in torch eager.
        graph_run: the graph in onnxruntime, suppressed.
        candidates: the detector in torch before suppression: `boxes (batch, n, 4)`, or `(batch, labels, n, 4)` where
            each label has boxes of its own, and `scores (batch, labels, n)`.
        inputs: names and tensors.
        settings: of suppression, which are the same on both sides.
        progress: shown by cases.
    """
    found = []
    with progress("Parity of detections", total=len(inputs)) as advance:
        for name, feeds in inputs:
            found.append(_compare(name, torch_run(feeds), graph_run(feeds), candidates(feeds), settings))
            advance(1)
    return tuple(found)


def in_order_of(theirs: Run, ours: Run) -> Run:
    """A run that gives what `ours` does, with candidates in the order of those of `theirs` that they are nearest to.

    Detectors that answer with sets look into the places of an image that they score best. Rounding may change the order
    of these, and with it that of all that comes of them.

    Args:
        theirs: gives `boxes (batch, candidates, 4)` in shares of the input's sides, and `scores (batch, labels,
            candidates)`.
        ours: gives the same, in another order.
    """

    def ordered(feeds: Mapping[str, Array]) -> dict[str, Array]:
        expected, got = _candidates(theirs(feeds)), _candidates(ours(feeds))
        for i, (each, other) in enumerate(zip(expected, got, strict=True)):
            apart = np.abs(each[:, None] - other[None]).max(-1)
            got[i] = other[linear_sum_assignment(apart)[1]]
        return {"boxes": got[..., :4], "scores": got[..., 4:].swapaxes(1, 2)}

    return ordered


def _candidates(found: Mapping[str, Array]) -> Array:
    """Boxes and scores of each candidate, `(batch, candidates, 4 + labels)`."""
    return np.concatenate([found["boxes"], found["scores"].swapaxes(1, 2)], axis=2)


def _compare(
    name: str, expected: Mapping[str, Array], got: Mapping[str, Array], raw: Mapping[str, Array], settings: Suppression
) -> ParityCase:
    rows = range(len(expected["labels"]))
    results = [_of_image(_row(expected, i), _row(got, i), (raw["boxes"][i], raw["scores"][i]), settings) for i in rows]
    told, ties, lost = (sum(each[i] for each in results) for i in range(3))
    worst = max((each[3] for each in results), default=0.0)
    what = f"{name}: {told} detections" + (f", {ties} near-ties" if ties else "") + (f", {lost} differ" if lost else "")
    passed = lost == 0
    return ParityCase(what, len(rows), None, False, worst if passed else float("inf"), SCORE, ties + lost == 0, passed)


def _row(outputs: Mapping[str, Array], i: int) -> dict[str, Array]:
    """The detections of one image, without padding."""
    there = outputs["labels"][i] >= 0
    return {name: outputs[name][i][there] for name in ("boxes", "scores", "labels")}


def _of_image(
    theirs: Mapping[str, Array], ours: Mapping[str, Array], raw: tuple[Array, Array], settings: Suppression
) -> tuple[int, int, int, float]:
    """How many are told, are near-ties and differ, and the largest difference of scores of those found again."""
    sides = (theirs, ours)
    shared = overlaps(theirs["boxes"], ours["boxes"])
    off = np.abs(theirs["scores"][:, None] - ours["scores"][None])
    alike = theirs["labels"][:, None] == ours["labels"][None]
    same = alike & _same_box(theirs["boxes"], ours["boxes"]) & (off <= SCORE)
    pairs = _matched(same, off)
    lonely = [sorted({*range(len(each["scores"]))} - {pair[i] for pair in pairs}) for i, each in enumerate(sides)]
    ties = _near_ties(sides, lonely, (shared, off, alike), raw, settings)
    lost = sum(map(len, lonely)) - ties
    worst = max((float(off[pair]) for pair in pairs), default=0.0)
    return len(theirs["scores"]), ties, lost, worst


def _near_ties(
    sides: Sequence[Mapping[str, Array]],
    lonely: Sequence[Sequence[int]],
    pairs: tuple[Array, Array, Array],
    raw: tuple[Array, Array],
    settings: Suppression,
) -> int:
    """How many of those that the other side lacks are near-ties, or follow from one."""
    shared, off, alike = pairs
    decided = alike & _undecided(shared, off, settings.iou_threshold)
    suppresses = alike & (shared > (settings.iou_threshold or np.inf) - CLOSE)
    explained: tuple[set[int], set[int]] = (set(), set())
    for side in range(2):
        by_rounding = np.atleast_1d(decided.any(axis=1 - side))
        for i in lonely[side]:
            at_the_end = _at_the_end(sides[side], i, sides[1 - side], raw[1], settings)
            if (at_the_end or by_rounding[i]) and _is_candidate(sides[side], i, raw):
                explained[side].add(i)
    before = -1
    while sum(map(len, explained)) > before:  # what one suppresses on one side alone may suppress others on the other
        before = sum(map(len, explained))
        for side in range(2):
            others = sorted(explained[1 - side])
            follows = np.any(suppresses[:, others] if side == 0 else suppresses[others].T, axis=1)
            explained[side].update(i for i in lonely[side] if follows[i] and _is_candidate(sides[side], i, raw))
    return sum(map(len, explained))


def _is_candidate(found: Mapping[str, Array], i: int, raw: tuple[Array, Array]) -> bool:
    """Whether a detection is among the candidates in torch, `(n, 4)` or `(labels, n, 4)` and `(labels, n)`."""
    boxes, scores = raw
    boxes = boxes[int(found["labels"][i])] if boxes.ndim == 3 else boxes
    near = np.abs(scores[int(found["labels"][i])] - found["scores"][i]) <= SCORE
    return bool(_same_box(found["boxes"][i : i + 1], boxes[near]).any())


def _same_box(theirs: Array, ours: Array) -> Array:
    """Which boxes, `(n, 4)` and `(m, 4)`, are the same, `(n, m) bool`."""
    apart = np.abs(theirs[:, None] - ours[None]).max(axis=-1, initial=0)
    return np.asarray((overlaps(theirs, ours) >= OVERLAP) | (apart <= PIXELS))


def _undecided(shared: Array, off: Array, threshold: float | None) -> Array:
    """Where rounding may decide which of two detections suppresses the other, if any."""
    if threshold is None:
        return np.zeros(shared.shape, bool)
    return np.asarray((np.abs(shared - threshold) <= CLOSE) | ((off <= SCORE) & (shared > threshold)))


def _matched(same: Array, off: Array) -> list[tuple[int, int]]:
    """Pairs of those that are the same, each in one pair, the nearest scores first."""
    rows, columns = np.nonzero(same)
    order = np.argsort(off[rows, columns], kind="stable")
    pairs: list[tuple[int, int]] = []
    used: tuple[set[int], set[int]] = (set(), set())
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used[0] and column not in used[1]:
            pairs.append((row, column))
            used[0].add(row)
            used[1].add(column)
    return pairs


def _at_the_end(found: Mapping[str, Array], i: int, other: Mapping[str, Array], raw: Array, how: Suppression) -> bool:
    """Whether rounding, or another that came before, may have ended the other side's list before a detection.

    A list ends at the threshold, at its last place, and with the last of the best candidates, be it of all labels or of
    each. `raw` are the scores of all candidates in torch, `(labels, n)`.
    """
    score = float(found["scores"][i])
    full = len(other["scores"]) == how.max_detections
    below = max(how.score_threshold, float(other["scores"][-1]) if full else 0.0)
    of_best = [_last_of(each, how.per_image) for each in (raw, raw[int(found["labels"][i])])]
    return score <= below + SCORE or any(abs(score - each) <= SCORE for each in of_best)


def _last_of(scores: Array, count: int) -> float:
    """The last one of so many best scores; none ends a list that has no more."""
    flat = scores.reshape(-1)
    return float(np.partition(flat, -count)[-count]) if len(flat) > count else -np.inf
