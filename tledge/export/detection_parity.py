"""Parity of detections: as sets, since rounding may change their order and whichever of two equals is kept.

A detection is found again when the other side has one of the same label that it overlaps by at least 0.99, with a score
within 1e-3. What is not found again is a near-tie where rounding can decide: its score is next to the threshold of
suppression or to that of the last detection that is told; or it overlaps a detection of its label, on the other side,
by nearly what suppresses it, or by more than that and with nearly its score, while torch has the very same candidate.
Near-ties are counted in a case's name; anything else fails it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tledge.artifacts import ParityCase
from tledge.evaluate import Array, Run
from tledge.inputs._suppression import Suppression
from tledge.progress import Progress, silent
from tledge.tasks._average_precision import overlaps

OVERLAP, SCORE = 0.99, 1e-3
"""The least overlap, and the largest difference of scores, of what is the same detection."""
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
        candidates: the detector in torch before suppression: `boxes (batch, n, 4)` and `scores (batch, labels, n)`.
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
    shared = overlaps(theirs["boxes"], ours["boxes"])
    off = np.abs(theirs["scores"][:, None] - ours["scores"][None])
    alike = theirs["labels"][:, None] == ours["labels"][None]
    same = alike & (shared >= OVERLAP) & (off <= SCORE)
    pairs = _matched(same, off)
    ties = lost = 0
    cut = _cuts(theirs, ours, settings)
    decided = alike & _undecided(shared, off, settings.iou_threshold)
    for side, found in enumerate((theirs, ours)):
        by_rounding = decided.any(axis=1 - side)
        for i in sorted(set(range(len(found["scores"]))) - {pair[side] for pair in pairs}):
            at_the_end = any(abs(float(found["scores"][i]) - each) <= SCORE for each in cut)
            is_tie = (at_the_end or bool(by_rounding[i])) and _is_candidate(found, i, raw)
            ties, lost = ties + is_tie, lost + (not is_tie)
    worst = max((float(off[pair]) for pair in pairs), default=0.0)
    return len(theirs["scores"]), ties, lost, worst


def _is_candidate(found: Mapping[str, Array], i: int, raw: tuple[Array, Array]) -> bool:
    """Whether a detection is among the candidates in torch, `(n, 4)` and `(labels, n)`."""
    boxes, scores = raw
    near = np.abs(scores[int(found["labels"][i])] - found["scores"][i]) <= SCORE
    return bool((overlaps(found["boxes"][i : i + 1], boxes[near]) >= OVERLAP).any())


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


def _cuts(theirs: Mapping[str, Array], ours: Mapping[str, Array], settings: Suppression) -> Iterable[float]:
    """The scores at which detections end: the threshold, and the last one of a full list."""
    full = [each["scores"][-1] for each in (theirs, ours) if len(each["scores"]) == settings.max_detections]
    return [settings.score_threshold, *map(float, full)]
