"""Metrics and the functions they rest on, in numpy alone, so that a device can compute them too.

The tests hold each against scikit-learn. `predicted` and `truth` are label indices, `(rows,) int64`; `logits` are
`(rows, labels) float32`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def softmax(logits: Array) -> npt.NDArray[np.float64]:
    """Probabilities along the last axis, float64, same shape."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def sigmoid(logits: Array) -> npt.NDArray[np.float64]:
    """The logistic function of each element, float64, same shape, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64))))


def accuracy(predicted: Array, truth: Array) -> float:
    """The share of rows that got their label."""
    return float(np.mean(predicted == truth))


def balanced_accuracy(predicted: Array, truth: Array) -> float:
    """The mean, over the labels that occur in `truth`, of the share of their rows that got them."""
    return float(np.mean([np.mean(predicted[truth == label] == label) for label in np.unique(truth)]))


def f1(predicted: Array, truth: Array) -> float:
    """The F1 score of label 1 in binary arrays; 0 where neither array has a one."""
    hits = int(np.sum((predicted == 1) & (truth == 1)))
    ones = int(np.sum(predicted == 1) + np.sum(truth == 1))
    return 2 * hits / ones if ones else 0.0


def macro_f1(predicted: Array, truth: Array, *, n_labels: int) -> float:
    """The mean over all labels of each label's F1 score."""
    scores = [f1((predicted == i).astype(int), (truth == i).astype(int)) for i in range(n_labels)]
    return float(np.mean(scores))


def log_loss(logits: Array, truth: Array) -> float:
    """The mean negative log-probability of the true label, in nats."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return float(-np.mean(log_probabilities[np.arange(len(truth)), truth]))


def roc_auc(scores: Array, truth: Array) -> float:
    """The area under the ROC curve: the chance that a true row scores higher than a false one, ties counting half.

    `scores` and `truth` are `(rows,)`, floats and booleans; NaN where all rows are alike (Hanley and McNeil 1982).
    """
    n_true = int(np.sum(truth))
    n_false = len(truth) - n_true
    if not n_true or not n_false:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[truth].sum() - n_true * (n_true + 1) / 2) / (n_true * n_false))


def r2(estimates: Array, truth: Array) -> float:
    """The share of the variance of `truth` that `estimates` explain, both `(rows,)`; NaN where it does not vary."""
    if np.ptp(truth) == 0:
        return float("nan")
    spread = float(np.sum((truth - np.mean(truth, dtype=np.float64)) ** 2))
    return 1 - float(np.sum((estimates - truth) ** 2)) / spread


def pearson(estimates: Array, truth: Array) -> float:
    """The linear correlation of two arrays `(rows,)`, 0 where one of them does not vary."""
    if np.ptp(estimates) == 0 or np.ptp(truth) == 0:
        return 0.0
    a, b = (x - np.mean(x, dtype=np.float64) for x in (estimates, truth))
    return float(np.sum(a * b)) / float(np.sqrt(np.sum(a**2) * np.sum(b**2)))


def spearman(estimates: Array, truth: Array) -> float:
    """The correlation of the ranks of two arrays `(rows,)`, equal values sharing a rank, 0 where one does not vary."""
    return pearson(_ranks(estimates), _ranks(truth))


def _ranks(values: Array) -> Array:
    """The place of each value among all, from 1, `(rows,) float64`; the mean place of equal ones."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[which])


def defined(values: Mapping[str, float]) -> dict[str, float]:
    """The metrics that have a value on these rows: NaN, such as the ROC AUC of rows of one label, is left out."""
    return {name: value for name, value in values.items() if not math.isnan(value)}
