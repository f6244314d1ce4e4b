"""Weights of the labels in the loss, and the scale of what a regression estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tledge.errors import TrainError, did_you_mean


def label_weights(
    setting: Literal["balanced"] | Mapping[str, float] | None,
    targets: npt.NDArray[Any],
    labels: Sequence[str],
    scale: tuple[float, float] | None,
    *,
    section: str = "finetune",
) -> Tensor | None:
    """The recipe's `class_weights` of a section as `(labels,) float32`, `None` when there are none.

    With `scale`, that of a task whose targets have a unit, it is one divided by the standard deviation of the training
    targets, `(1,) float32`, so that the loss does not depend on their unit.

    Raises:
        TrainError: a weight for an unknown label (labels without an entry weigh 1), weights of labels for a regression,
            or a regression whose training targets are all the same.
    """
    if scale is not None:
        return _scale(setting, targets, labels, section)
    if setting is None:
        return None
    if setting == "balanced":
        return balanced_weights(targets, len(labels))
    for name in setting:
        if name not in labels:
            raise TrainError(
                f"{section}.class_weights: {name!r} is no label; known are {', '.join(labels)}"
                f"{did_you_mean(name, labels)}"
            )
    return torch.tensor([setting.get(label, 1.0) for label in labels], dtype=torch.float32)


def _scale(setting: object, targets: npt.NDArray[Any], labels: Sequence[str], section: str) -> Tensor:
    if setting is not None:
        raise TrainError(f"{section}.class_weights: a regression has no classes to weigh; remove the key")
    if np.ptp(targets) == 0:
        raise TrainError(
            f"the {len(targets)} training rows have all the same {labels[0]}, {targets[0]:g}; expected numbers that "
            "differ, else there is nothing to learn"
        )
    return torch.tensor([1 / np.std(targets, dtype=np.float64)], dtype=torch.float32)


def balanced_weights(targets: npt.NDArray[Any], n_labels: int) -> Tensor:
    """Weights `(labels,) float32` inverse to each label's frequency, averaging to one over the rows.

    `targets` is `(rows,) int64` (scikit-learn's "balanced" formula) or `(rows, labels)` ones and zeros, where the
    weight of a label is the number of rows without it by the number with it (at least 1 each).
    """
    if targets.ndim == 1:
        counts = np.bincount(targets, minlength=n_labels)
        return torch.tensor(len(targets) / (n_labels * np.maximum(counts, 1)), dtype=torch.float32)
    positive = targets.sum(axis=0)
    weights = np.maximum(len(targets) - positive, 1) / np.maximum(positive, 1)
    return torch.tensor(weights, dtype=torch.float32)
