"""What can be told of two domains without labels of one of them: how unlike they are, and how sure answers are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import tasks
from tledge.tasks import Task

Array = npt.NDArray[Any]

MOST = 1000
"""Rows of each domain that a probe looks at."""
DRAWN = 200
"""Rows of each domain in a projection."""


@dataclass(frozen=True, slots=True)
class Apart:
    """How well a linear probe tells two domains apart: the share of rows that it was not trained on, 0.5 for chance.

    `weights`, `(source rows,)`, say how much likelier each source row is in the target, with a mean of one.
    """

    accuracy: float
    weights: Array


def tell_apart(source: Array, target: Array, *, seed: int) -> Apart:
    """A logistic regression between the features of two domains, standardised, over five folds of as many rows of each.

    Args:
        source: `(rows, features) float32`.
        target: `(other rows, features) float32`.
        seed: of the rows that are drawn, and of the folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(seed)
    count = min(len(source), len(target), MOST)
    parts = [rng.choice(each, count, replace=False) for each in (source, target)]
    domain = np.repeat([0, 1], count)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    folds = StratifiedKFold(min(5, count), shuffle=True, random_state=seed)
    accuracy = cross_val_score(probe, np.concatenate(parts), domain, cv=folds).mean()
    probe.fit(np.concatenate(parts), domain)
    weights = np.exp(np.clip(probe.decision_function(source), -20, 20))
    return Apart(float(accuracy), weights / weights.mean())


def information(distributions: Array) -> float:
    """How much answers tell, in nats: the entropy of their mean less their mean entropy (Shi and Sha 2012).

    It is large where each answer is sure and all answers together are spread evenly over the labels.

    Args:
        distributions: `(rows, questions, answers) float64`, probabilities.
    """
    return float((_entropy(distributions.mean(0)) - _entropy(distributions).mean(0)).mean())


def _entropy(shares: Array) -> Array:
    return np.asarray(-(shares * np.log(np.clip(shares, 1e-12, None))).sum(-1))


def confident(task: Task, outputs: Mapping[str, Array], share: float) -> tuple[Array, Array]:
    """The surest rows of each answer, so many of each in proportion, ascending, and their answers.

    Args:
        task: has distributions.
        outputs: `logits` of the rows.
        share: of the rows with each answer, at least one.
    """
    sure = tasks.distributions(task, outputs).max(-1).prod(-1)
    answers = task.predictions(task.records(outputs, outputs))
    assert answers is not None
    _, kinds = np.unique(answers, axis=0, return_inverse=True)
    rows = []
    for kind in np.unique(kinds):
        own = np.flatnonzero(kinds.reshape(-1) == kind)
        count = max(1, round(share * len(own)))
        rows.append(own[np.argsort(-sure[own], kind="stable")[:count]])
    chosen = np.sort(np.concatenate(rows))
    return chosen, answers[chosen]


def projection(features: tuple[Array, Array]) -> list[list[list[float]]]:
    """Some rows of both domains on the two directions in which their features differ most, in standard deviations.

    Args:
        features: of the source, `(rows, features)`, and of the target.
    """
    parts = [each[np.linspace(0, len(each) - 1, min(DRAWN, len(each))).astype(int)] for each in features]
    both = np.concatenate(parts).astype(np.float64)
    centred = both - both.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    places = centred @ directions[:2].T
    places = np.round(places / np.maximum(places.std(0), 1e-12), 3)
    return [places[: len(parts[0])].tolist(), places[len(parts[0]) :].tolist()]
