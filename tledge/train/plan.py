"""What a training is told: its rows, how it is scored, and its plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from tledge.batches import Columns
from tledge.train.mix import Mix

Score = Callable[[Mapping[str, npt.NDArray[Any]], npt.NDArray[Any]], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Sets:
    """The rows of a training.

    `train` are those that train, with `labels`, and `validation` those that are scored after each epoch. `mix` blends
    the images of a training batch and their labels. `labelled_share` is the share of the training rows with a label.
    """

    train: Columns
    validation: Columns
    mix: Mix | None = None
    labelled_share: float = 1.0


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of a learning curve; `validation_metric` is the one that picks the best epoch."""

    epoch: float
    train_loss: float | None
    validation_loss: float
    validation_metric: float


@dataclass(frozen=True, slots=True)
class Scoring:
    """How epochs are scored: `score` takes outputs by name and targets, and its `metric` picks the best epoch.

    `output` is the key of the module's outputs in eval mode, and of what `score` takes. With `last` the last epoch
    counts as the best, whatever its metric.
    """

    score: Score
    metric: str
    lower_is_better: bool
    output: str = "logits"
    last: bool = False

    def best(self, values: Sequence[float]) -> int:
        """Which of some values of the metric is the best, the first of equal ones."""
        if self.last:
            return len(values) - 1
        return values.index(min(values) if self.lower_is_better else max(values))


@dataclass(frozen=True, slots=True)
class Plan:
    """One training.

    `phase` is its name in progress and records, and `note` a line about it for the report. In `folder` checkpoints,
    TensorBoard logs and the result are kept. `groups` are parameter groups with their learning rates, `epochs` passes
    over the training rows, and `seed` that of the row order and of dropout. `base_rate` is the learning rate that
    `groups` are made for, when a range test shall find it anew: all their rates are then multiplied by the same factor.
    """

    phase: str
    note: str
    folder: Path
    groups: list[dict[str, Any]]
    epochs: float
    seed: int
    base_rate: float | None = None
