"""Linear heads that are solved and not trained step by step: from features and labels to weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import metrics
from tledge.train.fit import Fitted
from tledge.train.plan import Epoch, Score

Array = npt.NDArray[Any]

SCALE = 20.0
"""What cosines are multiplied by where they become logits: a temperature of 0.05, as sentence-transformers has it."""
LOG_SCALES = (-5.0, 8.0)
"""Between which the logarithm of a scale is looked for."""
KEPT = 0.95
"""The share of right answers that are to stay known."""
STEPS = 1000
"""The most steps of the solver."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer: `weight`, `(labels, n_features) float32`, and `bias`, `(labels,) float32`; the solver's steps."""

    weight: Array
    bias: Array
    steps: int = 1

    def __call__(self, features: Array) -> Array:
        """Logits, `(rows, labels)`, of features `(rows, n_features)`."""
        return np.asarray(features @ self.weight.T + self.bias, dtype=np.float32)


def unit(features: Array) -> Array:
    """Feature vectors `(rows, n_features)` divided by their length."""
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-12)


def logistic(
    features: Array, targets: Array, n_labels: int, *, strength: float, weights: Array | None = None
) -> Linear:
    """Logistic regression with a quadratic penalty (scikit-learn's), on features of length 1.

    Args:
        features: `(rows, n_features) float32`, of length 1.
        targets: label numbers, `(rows,) int64`, each of which occurs.
        n_labels: how many there are.
        strength: the inverse of the penalty's weight, scikit-learn's `C`.
        weights: of the labels, `(labels,)`.
    """
    from sklearn.linear_model import LogisticRegression

    solver = LogisticRegression(C=strength, max_iter=STEPS)
    solver.fit(features, targets, None if weights is None else weights[targets])
    weight, bias = solver.coef_, solver.intercept_
    if n_labels == 2:  # one row of weights, for the second label against the first
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Linear(weight.astype(np.float32), bias.astype(np.float32), int(np.max(solver.n_iter_)))


def prototypes(features: Array, targets: Array, n_labels: int) -> Linear:
    """The nearest mean as a linear layer: logits differ as squared distances to the means do (Snell et al. 2017).

    Args:
        features: as for `logistic`.
        targets: as for `logistic`.
        n_labels: how many there are.
    """
    means = np.stack([features[targets == label].mean(axis=0) for label in range(n_labels)])
    bias = -SCALE * (means**2).sum(axis=1) / 2
    return Linear((SCALE * means).astype(np.float32), bias.astype(np.float32))


def descriptions(vectors: Sequence[Array], scale: float) -> Linear:
    """The similarity to each label's descriptions as a linear layer, `scale` times the cosine to their mean vector.

    Args:
        vectors: for each label those of its descriptions, `(descriptions, n_features) float32`, of length 1.
        scale: what cosines are multiplied by, one divided by the temperature.
    """
    weight = unit(np.stack([each.mean(axis=0) for each in vectors])) * scale
    return Linear(weight.astype(np.float32), np.zeros(len(vectors), dtype=np.float32))


def calibrated(head: Linear, features: Array, targets: Array) -> float:
    """By what the logits of a head are to be multiplied for probabilities that fit some rows best (Guo et al. 2017).

    Args:
        head: whose scale is not known.
        features: `(rows, n_features)`, of length 1.
        targets: label numbers, `(rows,) int64`.
    """
    from scipy.optimize import minimize_scalar

    logits = head(features).astype(np.float64)
    found = minimize_scalar(
        lambda x: metrics.log_loss(np.exp(x) * logits, targets), bounds=LOG_SCALES, method="bounded"
    )
    return float(np.exp(found.x))


def unknown_below(head: Linear, features: Array, targets: Array) -> float:
    """The score below which an answer is to count as unknown: `KEPT` of the right answers on some rows are above it.

    0 where no answer is right.
    """
    probabilities = metrics.softmax(head(features))
    right = probabilities.argmax(axis=1) == targets
    scores = probabilities.max(axis=1)[right]
    return float(np.quantile(scores, 1 - KEPT)) if len(scores) else 0.0


def solved(
    phase: str,
    note: str,
    solve: Callable[[], Linear],
    score: Score,
    sets: Mapping[str, tuple[Array, Array]],
    metric: str,
) -> tuple[Linear, Fitted]:
    """A head, and what is told of it as of a training of one epoch.

    Args:
        phase: its name.
        note: a line about it.
        solve: makes the head.
        score: of logits.
        sets: features and targets by `validation`, and by `train` where rows trained.
        metric: the one that is told.
    """
    started = time.monotonic()
    head = solve()
    seconds = time.monotonic() - started
    scores = {name: score({"logits": head(features)}, targets) for name, (features, targets) in sets.items()}
    losses = {name: found.get("log_loss", float("nan")) for name, found in scores.items()}
    best = scores["validation"].get(metric, float("nan"))
    point = Epoch(1.0, losses.get("train"), losses["validation"], best)
    return head, Fitted(phase, note, head.steps, 1.0, best, (point,), seconds, "cpu")
