"""What the chosen variant answered on the test rows: confusion, scores by label, mistakes, and what it is held to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tledge import answers as stored_answers
from tledge.artifacts import read_json
from tledge.errors import DataError
from tledge.evidence.images import thumbnail
from tledge.tasks import Task

if TYPE_CHECKING:
    from tledge.report import LabelScore, Regression, Transfer, WrongPrediction

WRONG_SHOWN = {"text": 10, "image": 24}
"""How many mistakes are shown, by the task's kind of input."""
POINTS_SHOWN = 500
RESIDUAL_PERCENTS = (5, 25, 50, 75, 95)
RESAMPLES = 1000
MOST_CELLS = 100_000
"""Outputs (rows times labels) above which no bootstrap is tried, since it would take minutes."""
Array = npt.NDArray[Any]
Outputs = dict[str, Array]


def read(task: Task, metric: str, labels: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """The fields of `report.Facts` that follow from a run's answers on its test rows."""
    from tledge import data

    splits = data.open_splits(folder / "data")
    targets = task.targets(splits.test["label"], len(labels))
    outputs = _records(folder, next(each["name"] for each in _variants(folder) if each["chosen"]))
    found = {
        "baseline": _baseline(task, splits.train["label"], targets, len(labels)),
        "transfer": _transfer(task, metric, targets, folder),
    }
    decisions = task.decisions(outputs)
    if decisions is None:
        return found | _estimates(task, splits.test, outputs["logits"][:, 0], targets)
    single = targets.ndim == 1
    wrong = np.flatnonzero(decisions != targets if single else (decisions != targets).any(axis=1))
    hits = _one_hot(decisions, len(labels)), _one_hot(targets, len(labels))
    return found | {
        "confusion": _confusion(decisions, targets, len(labels)) if single else (),
        "label_scores": tuple(_label_score(label, *(hit[:, i] for hit in hits)) for i, label in enumerate(labels)),
        "wrong": _wrong(task, labels, splits.test, outputs, targets, wrong),
        "wrong_count": len(wrong),
    }


def _variants(folder: Path) -> list[dict[str, Any]]:
    return list(read_json(folder / "quantize" / "variants.json"))


def _records(folder: Path, variant: str) -> Outputs:
    stored = stored_answers.read(folder / "quantize", variant)
    if stored is None:
        raise DataError(f"{folder / 'quantize'} has no answers of {variant}; run the stage quantize again")
    return dict(stored.records)


def _one_hot(indices: Array, n_labels: int) -> Array:
    return np.eye(n_labels, dtype=bool)[indices] if indices.ndim == 1 else indices.astype(bool)


def _baseline(task: Task, train_labels: Any, targets: Array, n_labels: int) -> dict[str, float]:
    """The metrics of the answer that is most frequent in the training rows, or of their mean for regression.

    With one label a row its scores are the labels' shares of the training rows, so that the log loss is a fair one.
    """
    if task.PROBLEM_TYPE == "regression":
        logits = np.full((len(targets), 1), np.mean(task.targets(train_labels, n_labels), dtype=np.float64))
    elif targets.ndim == 1:
        counts = np.bincount(task.targets(train_labels, n_labels), minlength=n_labels)
        logits = np.tile(np.log(np.maximum(counts, 0.5)), (len(targets), 1))
    else:
        keys, times = np.unique([json.dumps(list(row)) for row in train_labels], return_counts=True)
        answer = task.targets([json.loads(keys[times.argmax()])] * len(targets), n_labels)
        logits = np.where(answer.astype(bool), 10.0, -10.0)
    return task.score({"logits": logits.astype(np.float32)}, targets)


def _transfer(task: Task, metric: str, targets: Array, folder: Path) -> Transfer | None:
    from tledge.report import Transfer

    path = folder / "baseline" / "baseline.json"
    if not path.exists():
        return None
    found = read_json(path)
    low, high = _gain_interval(task, metric, targets, folder)
    pretrained = _variants(folder)[0]["test_metrics"]
    return Transfer(pretrained, found["metrics"], low, high, found.get("seconds"))


def _gain_interval(task: Task, metric: str, targets: Array, folder: Path) -> tuple[float | None, float | None]:
    """The 95 % interval of the metric's gain over the random backbone: a paired bootstrap of the test rows.

    Nothing where the answers of either are not at hand, or are so many that it would take minutes.
    """
    with_random = folder / "baseline" / "test_outputs.npz"
    pretrained = stored_answers.read(folder / "quantize", "fp32")
    if not with_random.exists() or pretrained is None:
        return None, None
    with np.load(with_random) as stored:
        ours, theirs = dict(pretrained.records), dict(stored)
    if ours["logits"].size > MOST_CELLS:
        return None, None
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(targets), len(targets))
        a, b = (task.score({k: v[rows] for k, v in each.items()}, targets[rows]) for each in (ours, theirs))
        if metric in a and metric in b:  # a resample of one label has no ROC AUC
            gains.append(a[metric] - b[metric])
    if len(gains) < RESAMPLES // 2:
        return None, None
    low, high = np.quantile(gains, (0.025, 0.975))
    return float(low), float(high)


def _confusion(decisions: Array, targets: Array, n_labels: int) -> tuple[tuple[int, ...], ...]:
    counts = np.zeros((n_labels, n_labels), dtype=int)
    np.add.at(counts, (targets, decisions), 1)
    return tuple(tuple(int(n) for n in row) for row in counts)


def _label_score(label: str, predicted: Array, truth: Array) -> LabelScore:
    from tledge.report import LabelScore

    hit, given, count = int((predicted & truth).sum()), int(predicted.sum()), int(truth.sum())
    return LabelScore(
        label=label,
        precision=hit / given if given else None,
        recall=hit / count if count else None,
        f1=2 * hit / (given + count) if given + count else None,
        count=count,
    )


def _wrong(
    task: Task, labels: tuple[str, ...], rows: Any, outputs: Outputs, targets: Array, wrong: Array
) -> tuple[WrongPrediction, ...]:
    """The mistakes with the highest score of a wrong answer first."""
    from tledge.report import WrongPrediction

    given = task.decode({name: array[wrong] for name, array in outputs.items()}, labels)
    truths = _one_hot(targets, len(labels))[wrong]
    found = []
    for row, answer, truth in zip(wrong, given, truths, strict=True):
        predicted = answer["labels"] if "labels" in answer else [answer["label"]]
        true = [label for label, is_true in zip(labels, truth, strict=True) if is_true]
        surprise = max((answer["scores"][label] for label in predicted if label not in true), default=0.0)
        found.append((surprise, int(row), ", ".join(true), ", ".join(predicted)))
    shown = sorted(found, key=lambda item: -item[0])[: WRONG_SHOWN[task.INPUT]]
    return tuple(
        WrongPrediction(truth=truth, predicted=predicted, score=surprise, **_shown(task, rows[row]))
        for surprise, row, truth, predicted in shown
    )


def _estimates(task: Task, rows: Any, estimates: Array, targets: Array) -> dict[str, Any]:
    """The estimates of numbers beside the truth, and the rows with the largest errors, those first."""
    from tledge.report import Regression, WrongPrediction
    from tledge.report import format as fmt

    errors = estimates.astype(np.float64) - targets
    points = np.unique(np.linspace(0, len(errors) - 1, min(POINTS_SHOWN, len(errors))).astype(int))
    residuals = {str(percent): float(np.percentile(errors, percent)) for percent in RESIDUAL_PERCENTS}
    largest = np.argsort(-np.abs(errors), kind="stable")[: WRONG_SHOWN[task.INPUT]]
    regression: Regression = Regression(tuple((float(targets[i]), float(estimates[i])) for i in points), residuals)
    wrong = tuple(
        WrongPrediction(
            truth=fmt.quantity(float(targets[i])),
            predicted=fmt.quantity(float(estimates[i])),
            error=float(errors[i]),
            **_shown(task, rows[int(i)]),
        )
        for i in largest
    )
    return {"regression": regression, "wrong": wrong}


def _shown(task: Task, row: Any) -> dict[str, Any]:
    """How a row is shown: its text, or its name and a thumbnail."""
    if task.INPUT == "text":
        return {"text": str(row[task.INPUT_COLUMN])}
    return {"text": "", "row": str(row["row"]), "image": thumbnail(row[task.INPUT_COLUMN])}
