import numpy as np
import pytest
from scipy.stats import binomtest

from tledge import significance, tasks
from tledge.artifacts import ACCEPT, INCONCLUSIVE
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


@pytest.mark.parametrize("rows", [1, 30, 200])
def test_the_same_answers_have_no_drop_and_an_interval_that_the_rows_allow(rows, truth):
    same = {"logits": answers(truth, slice(0, 50))["logits"][:rows]}
    for metric in ("accuracy", "macro_f1"):
        found = pair(SINGLE, metric, same, same, truth[:rows])
        assert (found.drop, found.p_value) == (0, 1)
        assert (found.high, -found.low) == pytest.approx([1.96**2 / (rows + 1.96**2)] * 2, rel=1e-3)


def test_a_few_rows_that_all_agree_prove_nothing(truth):
    same = {"logits": answers(truth, slice(0, 0))["logits"][:22]}
    assert significance.decide(pair(SINGLE, "accuracy", same, same, truth[:22]), 0.01) == INCONCLUSIVE
    assert significance.decide(pair(SINGLE, "accuracy", same, same, truth[:22]), 0.15) == ACCEPT


def test_swapping_the_two_turns_the_drop_around(truth):
    a, b = answers(truth, slice(0, 50)), answers(truth, slice(10, 40))
    one, other = pair(SINGLE, "accuracy", a, b, truth), pair(SINGLE, "accuracy", b, a, truth)
    assert one.drop == pytest.approx(-other.drop)
    assert one.p_value == other.p_value


@pytest.mark.parametrize(
    ("rows", "chances"), [(400, (0.05, 0.03)), (30, (0.05, 0.03)), (100, (0.01, 0.0)), (50, (0.3, 0.1))]
)
def test_the_interval_of_a_drop_holds_the_true_drop_in_about_95_of_100_samples(rows, chances):
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(1000):
        lost, won, _ = rng.multinomial(rows, [*chances, 1 - sum(chances)])
        low, high = significance.tango(int(lost), int(won), rows)
        held += low <= chances[0] - chances[1] <= high
    assert held / 1000 >= 0.92


@pytest.mark.parametrize(("lost", "won", "rows"), [(11, 4, 449), (1, 0, 1), (0, 7, 9), (53, 16, 1600)])
def test_the_ends_of_the_interval_are_where_the_score_test_is_just_significant(lost, won, rows):
    """The score test of a difference by its own maximum of the likelihood, found on a fine grid."""
    low, high = significance.tango(lost, won, rows)
    assert low < (lost - won) / rows < high or rows == 1
    assert significance.tango(won, lost, rows) == pytest.approx((-high, -low), abs=1e-9)
    for difference in {low, high} - {1.0, -1.0}:
        chance = np.linspace(max(0.0, -difference), min(1.0, (1 - difference) / 2), 200_001)[1:-1]  # of won alone
        rest = 1 - 2 * chance - difference
        parts = ((lost, chance + difference), (won, chance), (rows - lost - won, rest))
        with np.errstate(divide="ignore"):
            likelihood = sum(count * np.log(share) for count, share in parts if count)
        best = chance[np.nanargmax(likelihood)]
        z = (lost - won - rows * difference) / np.sqrt(rows * (2 * best + difference * (1 - difference)))
        assert abs(z) == pytest.approx(1.96, abs=0.02)


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
