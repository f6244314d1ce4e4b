"""Heads that are solved: what scikit-learn and a formula give."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from tledge import tasks
from tledge.train import closed


def made(n_labels, rows=40, seed=0):
    rng = np.random.default_rng(seed)
    targets = np.arange(rows) % n_labels
    features = closed.unit(rng.normal(size=(rows, 8)) + 2 * rng.normal(size=(n_labels, 8))[targets]).astype(np.float32)
    return features, targets


@pytest.mark.parametrize("n_labels", [2, 4])
def test_the_logistic_head_answers_as_scikit_learn_does(n_labels):
    features, targets = made(n_labels)
    head = closed.logistic(features, targets, n_labels, strength=3.0)
    theirs = LogisticRegression(C=3.0, max_iter=1000).fit(features, targets).predict_proba(features)
    ours = np.exp(head(features))
    np.testing.assert_allclose(ours / ours.sum(1, keepdims=True), theirs, atol=1e-5)
    assert head.weight.shape == (n_labels, 8)


def test_weights_of_labels_move_the_logistic_head():
    features, targets = made(2)
    plain, weighed = (
        closed.logistic(features, targets, 2, strength=1.0, weights=each) for each in (None, np.array([1.0, 50.0]))
    )
    assert (weighed(features).argmax(1) == 1).sum() > (plain(features).argmax(1) == 1).sum()


def test_prototypes_are_the_nearest_mean():
    features, targets = made(4)
    head = closed.prototypes(features, targets, 4)
    np.testing.assert_array_equal(head(features).argmax(1), NearestCentroid().fit(features, targets).predict(features))
    means = np.stack([features[targets == label].mean(0) for label in range(4)])
    distances = ((features[:, None] - means) ** 2).sum(-1)
    apart = head(features) + closed.SCALE / 2 * distances  # the same number for all labels of a row
    np.testing.assert_allclose(apart, apart[:, :1].repeat(4, axis=1), atol=1e-4)


def test_what_is_told_of_a_solved_head():
    features, targets = made(3)
    sets = {"train": (features, targets), "validation": (features[:9], targets[:9])}
    head, fitted = closed.solved(
        "prototypes",
        "a note",
        lambda: closed.prototypes(features, targets, 3),
        tasks.load("text_classification").score,
        sets,
        "accuracy",
    )
    right = (head(features[:9]).argmax(1) == targets[:9]).mean()
    assert (fitted.phase, fitted.note, fitted.best_metric) == ("prototypes", "a note", right)
    assert [point.validation_metric for point in fitted.curve] == [right]
