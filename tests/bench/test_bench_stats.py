import math

import numpy as np
import pytest

from tledge.bench import stats


@pytest.mark.parametrize(("percent", "needed"), [(90, 64), (95, 130), (97, 219), (99, 662), (99.9, 6636), (50, 6)])
def test_samples_needed_is_the_published_table(percent, needed):
    assert stats.samples_needed(percent) == needed


def test_fewer_samples_are_needed_at_a_lower_confidence():
    assert stats.samples_needed(90, confidence=0.95) == 46
    assert stats.binomial_tail(1, 46, 0.1) < 0.05 <= stats.binomial_tail(1, 45, 0.1)


@pytest.mark.parametrize("percent", [49, 100, -1])
def test_a_percentile_outside_its_range_is_refused(percent):
    with pytest.raises(ValueError, match="percentile"):
        stats.samples_needed(percent)


@pytest.mark.parametrize(
    ("at_most", "trials", "chance"),
    [(0, 1, 0.5), (3, 10, 0.3), (1, 662, 0.01), (50, 6636, 0.001), (900, 10_000, 0.1)],
)
def test_binomial_tail_agrees_with_scipy(at_most, trials, chance):
    scipy_stats = pytest.importorskip("scipy.stats")
    special = pytest.importorskip("scipy.special")
    got = stats.binomial_tail(at_most, trials, chance)
    assert got == pytest.approx(scipy_stats.binom.cdf(at_most, trials, chance), rel=1e-9)
    assert got == pytest.approx(special.betainc(trials - at_most, at_most + 1, 1 - chance), rel=1e-9)


def test_binomial_tail_known_values():
    assert stats.binomial_tail(0, 3, 0.5) == pytest.approx(1 / 8)
    assert stats.binomial_tail(1, 3, 0.5) == pytest.approx(1 / 2)
    assert stats.binomial_tail(3, 3, 0.5) == 1.0


def test_percentile_is_withheld_below_the_minimum_and_the_maximum_at_it():
    samples = [float(i) for i in range(64)]
    assert stats.percentile(samples[:63], 90) is None
    assert stats.percentile(samples, 90) == 63.0
    assert stats.percentile(samples, 95) is None


def test_rank_moves_down_exactly_when_one_more_may_be_over():
    # 64 and 81 are the fewest samples with one and with two over the limit at p90.
    assert [stats.rank_from_top(n, 90) for n in (64, 80, 81)] == [1, 1, 2]
    samples = [float(i) for i in range(81)]
    assert stats.percentile(samples, 90) == 79.0


@pytest.mark.parametrize("samples", [100, 1000, 5000])
def test_rank_is_the_largest_that_keeps_the_condition(samples):
    rank = stats.rank_from_top(samples, 90)
    assert stats.binomial_tail(rank, samples, 0.1) < 0.01 <= stats.binomial_tail(rank + 1, samples, 0.1)


def test_median_is_plain_and_needs_six():
    assert stats.percentile([5, 1, 4, 2, 3], 50) is None
    assert stats.percentile([6, 5, 1, 4, 2, 3], 50) == 3.5


def test_estimate_covers_the_true_percentile():
    rng = np.random.default_rng(7)
    true_p90 = math.exp(1.2815515655446004)  # of a standard lognormal
    for samples in (64, 100, 400):
        estimates = [stats.percentile(rng.lognormal(size=samples).tolist(), 90) for _ in range(2000)]
        covered = np.mean([estimate >= true_p90 for estimate in estimates])
        assert covered >= 0.985  # 0.99 less two standard errors
    assert np.median(estimates) < 1.35 * true_p90  # and it is not simply far away


def test_paired_ratio_of_equal_samples_is_one():
    samples = np.random.default_rng(1).lognormal(size=200)
    ratio = stats.paired_ratio(samples, samples, name="fp32")
    assert (ratio.ratio, ratio.low, ratio.high, ratio.samples, ratio.reference) == (
        1.0,
        1.0,
        1.0,
        200,
        "fp32",
    )


def test_paired_ratio_of_doubled_samples_is_two_whatever_the_drift():
    drift = np.linspace(1, 50, 200)
    ratio = stats.paired_ratio(2 * drift, drift)
    assert ratio.ratio == pytest.approx(2.0)
    assert ratio.low == pytest.approx(2.0)
    assert ratio.high == pytest.approx(2.0)


def test_paired_ratio_interval_holds_the_truth_and_depends_on_the_seed_only():
    rng = np.random.default_rng(3)
    reference = rng.lognormal(sigma=0.1, size=300)
    candidate = 0.5 * reference * rng.lognormal(sigma=0.05, size=300)
    first = stats.paired_ratio(candidate, reference, seed=1)
    assert first.low < 0.5 < first.high
    assert first.low < first.ratio < first.high
    assert first == stats.paired_ratio(candidate, reference, seed=1)
    assert first != stats.paired_ratio(candidate, reference, seed=2)


def test_outliers_are_kept():
    reference = np.ones(100)
    candidate = np.ones(100)
    candidate[:60] = 1000.0
    assert stats.paired_ratio(candidate, reference).ratio == pytest.approx(1000.0)
