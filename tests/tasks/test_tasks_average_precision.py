"""Average precision is held to pycocotools, on generated sets."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tledge import tasks
from tledge.tasks import _average_precision as ap

TASK = tasks.load("object_detection")


def made(seed, *, images=8, labels=4, most=30, detections=60, whole=False):
    """Targets and records of a seed: true boxes of all sizes, some of them crowds, and detections near or off."""
    rng = np.random.default_rng(seed)
    rows, found = [], {"boxes": [], "scores": [], "labels": []}
    for _ in range(images):
        count = int(rng.integers(0, most + 1))
        corner = rng.uniform(0, 300, (count, 2))
        sides = rng.choice([12.0, 60.0, 200.0], (count, 1)) * rng.uniform(0.4, 1.6, (count, 2))
        boxes = np.concatenate([corner, corner + sides], axis=1)
        numbers = rng.integers(0, labels, count)
        truth = np.column_stack([numbers, boxes, rng.random(count) < 0.15])
        near = truth[rng.integers(0, count, detections)] if count else np.zeros((detections, 6))
        jitter = rng.normal(0, 0.12, (detections, 4)) * np.tile(near[:, 3:5] - near[:, 1:3], 2)
        guesses = near[:, 1:5] + jitter
        guesses[:, 2:] = np.maximum(guesses[:, 2:], guesses[:, :2] + 1)
        if whole:
            truth[:, 1:5], guesses = truth[:, 1:5].round(), guesses.round()
        named = np.where(rng.random(detections) < 0.85, near[:, 0], rng.integers(0, labels, detections))
        scores = rng.random(detections).round(2 if seed % 2 else 7)
        order = np.argsort(-scores, kind="stable")
        kept = int(rng.integers(0, detections + 1))
        padding = np.arange(detections) >= kept
        rows.append(truth.ravel().tolist())
        found["boxes"].append(np.where(padding[:, None], 0, guesses[order]))
        found["scores"].append(np.where(padding, 0, scores[order]))
        found["labels"].append(np.where(padding, -1, named[order]))
    kinds = {"boxes": np.float32, "scores": np.float32, "labels": np.int64}
    return {name: np.asarray(of, kinds[name]) for name, of in found.items()}, TASK.targets(rows, labels)


def expected(records, targets):
    """What pycocotools finds."""
    annotations = [
        {
            "id": 0, "image_id": row, "category_id": int(label) + 1, "iscrowd": int(ignored),
            "bbox": [x, y, right - x, bottom - y], "area": (right - x) * (bottom - y),
        }
        for row, boxes in enumerate(targets.tolist()) for label, x, y, right, bottom, ignored in boxes if label >= 0
    ]  # fmt: skip
    for number, each in enumerate(annotations, start=1):
        each["id"] = number
    results = [
        {"image_id": row, "category_id": int(label) + 1, "bbox": [x, y, right - x, bottom - y], "score": score}
        for row in range(len(targets))
        for (x, y, right, bottom), score, label in zip(
            *(records[name][row].tolist() for name in ("boxes", "scores", "labels")), strict=True
        )
        if label >= 0
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": row} for row in range(len(targets))],
            "categories": [{"id": number} for number in range(1, 10)],
            "annotations": annotations,
        }
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


@pytest.mark.parametrize("seed", range(20))
def test_figures_equal_those_of_pycocotools(seed):
    records, targets = made(seed, detections=60 if seed % 3 else 130, whole=seed % 4 == 0)
    judge = expected(records, targets)
    whole, by_size = TASK.score(records, targets), ap.by_size(records, targets)
    stats = dict(zip(("map", "map_50", "map_75", "small", "medium", "large"), judge.stats, strict=False))
    assert [whole[name] for name in ("map", "map_50", "map_75")] == pytest.approx(judge.stats[:3], abs=1e-6)
    assert whole["recall"] == pytest.approx(judge.stats[8], abs=1e-6)
    for i, size in enumerate(("small", "medium", "large")):
        assert by_size[size]["map"] == pytest.approx(stats[size], abs=1e-6)
        assert by_size[size]["recall"] == pytest.approx(judge.stats[9 + i], abs=1e-6)
    found = ap.curves(ap.matches(records, targets))
    theirs = judge.eval["precision"][:, :, :, 0, 2]  # thresholds, recalls, labels
    np.testing.assert_allclose(found.precision, theirs.transpose(2, 0, 1)[found.labels], atol=1e-6)
