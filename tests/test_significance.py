import numpy as np
import pytest
from scipy.stats import binomtest

from tledge import significance, tasks
from tledge.errors import DataError

SINGLE = tasks.load("text_classification")
MULTI = tasks.load("text_multilabel")
REGRESSION = tasks.load("text_regression")


def answers(truth, wrong, n_labels=3):
    """Outputs whose answer is the truth but in the rows `wrong`."""
    given = truth.copy()
    given[wrong] = (given[wrong] + 1) % n_labels
    return {"logits": (np.eye(n_labels)[given] * 4).astype(np.float32)}


@pytest.fixture
def truth():
    return np.random.default_rng(0).integers(0, 3, 500)


def pair(task, metric, ours, theirs, targets, **changes):
    return significance.paired(task, metric, ours, targets, theirs, targets, reference="old", **changes)


@pytest.mark.parametrize("lost", range(0, 12, 3))
@pytest.mark.parametrize("won", [0, 1, 5, 40])
def test_mcnemar_is_the_binomial_test_of_scipy(lost, won):
    expected = binomtest(lost, lost + won, 0.5).pvalue if lost + won else 1.0
    assert significance.mcnemar(lost, won) == pytest.approx(expected, rel=1e-9)


def test_a_change_of_0_3_points_on_500_rows_is_not_distinguishable_from_chance(truth):
    found = pair(SINGLE, "accuracy", answers(truth, slice(0, 43)), answers(truth, slice(20, 61)), truth)
    assert found.drop == 2 / 500
    assert found.p_value > 0.5
    assert found.low < 0 < found.high
    assert found.test == significance.MCNEMAR


def test_a_drop_of_five_points_on_500_rows_is_real(truth):
    found = pair(SINGLE, "accuracy", answers(truth, slice(0, 50)), answers(truth, slice(0, 25)), truth)
    assert found.drop == pytest.approx(0.05)
    assert found.p_value < 1e-6
    assert 0.02 < found.low < 0.05 < found.high < 0.08
    assert (found.other, found.rows, found.reference) == (0.95, 500, "old")


def test_the_same_answers_have_no_drop_and_no_interval(truth):
    same = answers(truth, slice(0, 50))
    for metric in ("accuracy", "macro_f1"):
        found = pair(SINGLE, metric, same, same, truth)
        assert (found.drop, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_swapping_the_two_turns_the_drop_around(truth):
    a, b = answers(truth, slice(0, 50)), answers(truth, slice(10, 40))
    one, other = pair(SINGLE, "accuracy", a, b, truth), pair(SINGLE, "accuracy", b, a, truth)
    assert one.drop == pytest.approx(-other.drop)
    assert one.p_value == other.p_value


def test_the_interval_of_a_drop_holds_the_true_drop_in_about_95_of_100_samples():
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(300):
        lost, won, _ = rng.multinomial(400, [0.05, 0.03, 0.92])
        low, high = np.quantile(significance._share_drops(lost, won, 400, seed), (0.025, 0.975))
        held += low <= 0.02 <= high
    assert 0.91 <= held / 300 <= 0.98


def test_other_metrics_are_compared_by_a_paired_bootstrap_with_a_seed(truth):
    ours, theirs = answers(truth, slice(0, 60)), answers(truth, slice(0, 20))
    one, again = (pair(SINGLE, "macro_f1", ours, theirs, truth, seed=3) for _ in range(2))
    assert one == again
    assert one.test == significance.BOOTSTRAP
    assert 0 < one.low < one.drop < one.high
    assert one.p_value < 0.01


def test_exact_match_of_several_labels_is_a_share_too():
    truth = np.random.default_rng(0).integers(0, 2, (200, 4)).astype(np.float32)
    theirs = {"logits": (truth * 8 - 4).astype(np.float32)}
    ours = {"logits": theirs["logits"].copy()}
    ours["logits"][:30, 2] *= -1
    found = pair(MULTI, "exact_match", ours, theirs, truth)
    assert (found.test, found.drop) == (significance.MCNEMAR, pytest.approx(0.15))
    assert found.p_value < 1e-6
    assert pair(MULTI, "micro_f1", ours, theirs, truth).test == significance.BOOTSTRAP


def test_a_regression_is_compared_by_the_bootstrap():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=300).astype(np.float32)
    theirs = {"logits": (truth + rng.normal(size=300) * 0.1).astype(np.float32)[:, None]}
    ours = {"logits": (truth + rng.normal(size=300) * 0.5).astype(np.float32)[:, None]}
    found = pair(REGRESSION, "r2", ours, theirs, truth)
    assert found.low > 0.1
    low, high = significance.interval(REGRESSION, "r2", ours, truth)
    assert low < significance.value(REGRESSION, "r2", ours, truth) < high


def test_each_model_is_scored_in_its_own_order_of_labels(truth):
    ours = answers(truth, slice(0, 10))
    turned = {"logits": ours["logits"][:, ::-1]}
    found = significance.paired(SINGLE, "accuracy", ours, truth, turned, 2 - truth, reference="old")
    assert (found.drop, found.p_value) == (0, 1)


def test_a_metric_that_the_rows_do_not_define_is_refused():
    truth = np.zeros(20, dtype=np.int64)
    with pytest.raises(DataError, match="roc_auc is not defined on the 20 evaluation rows"):
        significance.value(SINGLE, "roc_auc", answers(truth, slice(0, 3)), truth)


@pytest.mark.parametrize(("right", "rows"), [(0, 10), (7, 10), (450, 500), (500, 500)])
def test_the_interval_of_a_share_is_that_of_wilson(right, rows):
    expected = binomtest(right, rows).proportion_ci(method="wilson")
    assert significance.wilson(right / rows, rows) == pytest.approx((expected.low, expected.high), abs=1e-6)
