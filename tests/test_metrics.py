import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from tledge import metrics

RNG = np.random.default_rng(0)


def cases():
    """Predicted and true label indices and the number of labels: common, one-sided, tiny and with absent labels."""
    yield RNG.integers(0, 3, 200), RNG.integers(0, 3, 200), 3
    yield RNG.choice(5, 100, p=[0.8, 0.1, 0.05, 0.05, 0]), RNG.choice(5, 100, p=[0.7, 0.1, 0.1, 0.1, 0]), 5
    yield np.zeros(20, int), RNG.integers(0, 2, 20), 2
    yield np.array([1]), np.array([1]), 2
    yield np.array([0, 0]), np.array([1, 2]), 3


CASES = list(cases())


@pytest.mark.parametrize(("predicted", "truth", "n_labels"), CASES)
def test_label_metrics_are_those_of_scikit_learn(predicted, truth, n_labels):
    labels = list(range(n_labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "accuracy": reference.accuracy_score(truth, predicted),
            "balanced_accuracy": reference.balanced_accuracy_score(truth, predicted),
            "macro_f1": reference.f1_score(truth, predicted, labels=labels, average="macro", zero_division=0),
        }
    assert metrics.accuracy(predicted, truth) == pytest.approx(expected["accuracy"])
    assert metrics.balanced_accuracy(predicted, truth) == pytest.approx(expected["balanced_accuracy"])
    assert metrics.macro_f1(predicted, truth, n_labels=n_labels) == pytest.approx(expected["macro_f1"])


@pytest.mark.parametrize("ones", [0.0, 0.1, 0.5, 1.0])
def test_f1_is_that_of_scikit_learn(ones):
    predicted, truth = (RNG.random(50) < ones).astype(int), (RNG.random(50) < 0.3).astype(int)
    assert metrics.f1(predicted, truth) == pytest.approx(reference.f1_score(truth, predicted, zero_division=0))


def test_f1_without_any_one_is_zero():
    assert metrics.f1(np.zeros(3, int), np.zeros(3, int)) == 0.0


def test_micro_f1_of_raveled_arrays_is_that_of_scikit_learn():
    predicted, truth = RNG.integers(0, 2, (40, 6)), RNG.integers(0, 2, (40, 6))
    expected = reference.f1_score(truth, predicted, average="micro")
    assert metrics.f1(predicted.ravel(), truth.ravel()) == pytest.approx(expected)


@pytest.mark.parametrize("n_labels", [2, 7])
def test_log_loss_and_softmax_are_those_of_scikit_learn(n_labels):
    logits = (RNG.normal(size=(60, n_labels)) * 4).astype(np.float32)
    truth = RNG.integers(0, n_labels, 60)
    probabilities = metrics.softmax(logits)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    expected = reference.log_loss(truth, probabilities, labels=range(n_labels))
    assert metrics.log_loss(logits, truth) == pytest.approx(expected)


def test_large_logits_do_not_overflow():
    logits = np.array([[1e30, 0.0, -1e30]], dtype=np.float32)
    with np.errstate(all="raise", under="ignore"):
        assert metrics.softmax(logits).tolist() == [[1.0, 0.0, 0.0]]
        assert metrics.sigmoid(logits).tolist() == [[1.0, 0.5, 0.0]]
        assert metrics.log_loss(logits, np.array([0])) == 0.0


def test_sigmoid_is_the_logistic_function():
    x = np.linspace(-20, 20, 81).astype(np.float32)
    np.testing.assert_allclose(metrics.sigmoid(x), 1 / (1 + np.exp(-x.astype(np.float64))), rtol=1e-7, atol=1e-15)
    assert metrics.sigmoid(x).dtype == np.float64


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_roc_auc_is_that_of_scikit_learn_with_and_without_ties(decimals):
    scores, truth = RNG.normal(size=300).round(decimals), RNG.random(300) < 0.2
    assert metrics.roc_auc(scores, truth) == pytest.approx(reference.roc_auc_score(truth, scores))


def test_roc_auc_of_an_order_that_is_right_wrong_or_none():
    truth = np.array([False, False, True, True])
    assert metrics.roc_auc(np.array([0.1, 0.2, 0.3, 0.4]), truth) == 1.0
    assert metrics.roc_auc(np.array([0.4, 0.3, 0.2, 0.1]), truth) == 0.0
    assert metrics.roc_auc(np.full(4, 0.5), truth) == 0.5


@pytest.mark.parametrize("truth", [np.ones(3, bool), np.zeros(3, bool), np.zeros(0, bool)])
def test_roc_auc_of_rows_that_are_all_alike_is_no_number(truth):
    assert np.isnan(metrics.roc_auc(np.arange(len(truth)) / 7, truth))


@pytest.mark.parametrize("noise", [0.0, 0.5, 30.0])
def test_r2_and_pearson_are_those_of_scikit_learn_and_scipy(noise):
    truth = RNG.normal(size=80).astype(np.float32) * 7 + 100
    estimates = truth.astype(np.float64) + noise * RNG.normal(size=80)
    assert metrics.r2(estimates, truth) == pytest.approx(reference.r2_score(truth, estimates))
    assert metrics.pearson(estimates, truth) == pytest.approx(stats.pearsonr(estimates, truth).statistic)


def test_what_does_not_vary_has_no_r2_and_no_correlation():
    same, other = np.full(7, 0.1, np.float32), np.arange(7, dtype=np.float64)
    assert np.isnan(metrics.r2(other, same))
    assert metrics.pearson(other, same) == metrics.pearson(same, other) == 0.0
    assert metrics.r2(np.full(7, other.mean()), other) == pytest.approx(0)


def test_metrics_without_a_value_are_left_out():
    assert metrics.defined({"a": 0.0, "b": float("nan"), "c": -1.5}) == {"a": 0.0, "c": -1.5}


def test_spearman_is_that_of_scipy_with_equal_values_too():
    for truth in (RNG.normal(size=80), RNG.integers(0, 6, 80).astype(float)):
        estimates = truth + RNG.normal(size=80)
        expected = stats.spearmanr(estimates, truth).statistic
        assert metrics.spearman(estimates, truth) == pytest.approx(expected)
        assert metrics.spearman(np.round(estimates), truth) == pytest.approx(
            stats.spearmanr(np.round(estimates), truth).statistic
        )
    assert metrics.spearman(np.ones(5), np.arange(5.0)) == 0.0
