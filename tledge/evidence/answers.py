"""What the chosen variant of a run answered on its test rows, and what that is held against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tledge import answers as stored_answers
from tledge import significance
from tledge.artifacts import read_json
from tledge.errors import DataError
from tledge.tasks import Task

if TYPE_CHECKING:
    from tledge.report import Transfer

RESAMPLES = 1000
MOST_CELLS = 100_000
"""Outputs (rows times labels) above which no bootstrap is tried, since it would take minutes."""
Array = npt.NDArray[Any]
Outputs = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Answered:
    """What the chosen variant of a run gave for the test rows.

    `rows` are those of the split, `records` what the task kept of each, and `targets` what is right; `train` are the
    targets of the training rows.
    """

    task: Task
    labels: tuple[str, ...]
    rows: Any
    records: Outputs
    targets: Array
    train: Array


def of_run(task: Task, labels: tuple[str, ...], folder: Path) -> Answered:
    """The answers in a run's folder.

    Raises:
        DataError: they are not stored.
    """
    from tledge import data

    splits = data.open_splits(folder / "data")
    train, targets = (task.targets(rows["label"], len(labels)) for rows in (splits.train, splits.test))
    chosen = next(each["name"] for each in _variants(folder) if each["chosen"])
    return Answered(task, labels, splits.test, _records(folder, chosen), targets, train)


def beside(answered: Answered, metric: str, folder: Path) -> dict[str, Any]:
    """The fields of `report.Facts` that hold a run's answers against simpler ones."""
    return {
        "baseline": _baseline(answered),
        "bounds": _bounds(answered, metric),
        "transfer": _transfer(answered.task, metric, answered.targets, folder),
    }


def _variants(folder: Path) -> list[dict[str, Any]]:
    return list(read_json(folder / "quantize" / "variants.json"))


def _records(folder: Path, variant: str) -> Outputs:
    stored = stored_answers.read(folder / "quantize", variant)
    if stored is None:
        raise DataError(f"{folder / 'quantize'} has no answers of {variant}; run the stage quantize again")
    return dict(stored.records)


def _bounds(answered: Answered, metric: str) -> tuple[float, float] | None:
    """The 95 % interval of the metric on the test rows; `None` where it is not defined on them."""
    try:
        return significance.interval(answered.task, metric, answered.records, answered.targets)
    except DataError:
        return None


def _baseline(answered: Answered) -> dict[str, float]:
    """The metrics of the answer that is most frequent in the training rows, or of their mean for regression."""
    one = answered.task.most_frequent(answered.train, len(answered.labels))
    every = {name: np.repeat(array[None], len(answered.targets), axis=0) for name, array in one.items()}
    return answered.task.score(every, answered.targets)


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
    if sum(array.size for array in ours.values()) > MOST_CELLS:
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
