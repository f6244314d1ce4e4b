import math
from statistics import NormalDist

import numpy as np
import pytest

from tledge import significance
from tledge.bench import stats


@pytest.mark.parametrize(("percent", "needed"), [(90, 64), (95, 130), (97, 219), (99, 662), (99.9, 6636), (50, 6)])
def test_samples_needed_is_the_published_table(percent, needed):
    assert stats.samples_needed(percent) == needed


def test_fewer_samples_are_needed_at_a_lower_confidence():
    assert stats.samples_needed(90, confidence=0.95) == 46
    assert significance.binomial_tail(1, 46, 0.1) < 0.05 <= significance.binomial_tail(1, 45, 0.1)


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
    got = significance.binomial_tail(at_most, trials, chance)
    assert got == pytest.approx(scipy_stats.binom.cdf(at_most, trials, chance), rel=1e-9)
    assert got == pytest.approx(special.betainc(trials - at_most, at_most + 1, 1 - chance), rel=1e-9)


def test_binomial_tail_known_values():
    assert significance.binomial_tail(0, 3, 0.5) == pytest.approx(1 / 8)
    assert significance.binomial_tail(1, 3, 0.5) == pytest.approx(1 / 2)
    assert significance.binomial_tail(3, 3, 0.5) == 1.0


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
    assert significance.binomial_tail(rank, samples, 0.1) < 0.01 <= significance.binomial_tail(rank + 1, samples, 0.1)


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


@pytest.mark.parametrize(("samples", "discarded"), [(201, 9), (659, 47), (2048, 172), (2116, 178)])
def test_discards_as_many_as_published_runs_of_mlperf(samples, discarded):
    assert stats.rank_from_top(samples, 90) - 1 == discarded


@pytest.mark.parametrize("size", [1, 2, 3, 20, 101])
def test_median_interval_is_that_of_drawn_resamples(size):
    values = np.random.default_rng(size).lognormal(size=size)
    drawn = np.random.default_rng(5).choice(values, (20_000, size))
    medians = np.median(drawn, axis=1)
    low, high = stats.median_interval(values)
    assert np.mean(medians < low) <= 0.035
    assert np.mean(medians > high) <= 0.035
    assert np.mean(medians <= low) >= 0.015
    assert np.mean(medians >= high) >= 0.015


def test_median_interval_covers_the_true_median():
    rng = np.random.default_rng(11)
    intervals = [stats.median_interval(rng.lognormal(size=100), seed=i) for i in range(1000)]
    covered = np.mean([low <= 1 <= high for low, high in intervals])
    assert 0.93 <= covered <= 0.975


def test_mean_interval_is_that_of_drawn_resamples_and_covers_the_true_mean():
    rng = np.random.default_rng(12)
    values = rng.normal(10, 1, 400)
    low, high = stats.mean_interval(values)
    half = 1.96 * values.std() / math.sqrt(values.size)
    assert (low, high) == (pytest.approx(values.mean() - half, abs=0.01), pytest.approx(values.mean() + half, abs=0.01))
    covered = [low <= 10 <= high for low, high in (stats.mean_interval(rng.normal(10, 1, 100)) for _ in range(300))]
    assert 0.90 <= np.mean(covered) <= 0.99


def test_mean_interval_of_many_samples_is_drawn_in_parts(monkeypatch):
    values = np.random.default_rng(1).normal(size=500)
    whole = stats.mean_interval(values)
    monkeypatch.setattr(stats, "_CHUNK", 1100)  # two resamples at once
    assert stats.mean_interval(values) == whole


def test_within_bound_is_early_stopping_of_the_server_scenario():
    assert stats.within_bound(1.0, [1.0] * 458, 99) is None
    assert stats.within_bound(1.0, [1.0] * 459, 99) is True
    assert stats.within_bound(1.0, [1.0] * 661 + [2.0], 99) is True
    assert stats.within_bound(1.0, [1.0] * 660 + [2.0], 99) is None


def test_within_bound_says_no_when_too_many_are_above():
    assert stats.within_bound(1.0, [], 99) is None
    assert stats.within_bound(1.0, [2.0], 99) is None  # one of a hundred is above anyway
    assert stats.within_bound(1.0, [2.0, 2.0], 99) is False
    assert stats.within_bound(1.0, [1.0] * 4900 + [2.0] * 100, 99) is False
    assert stats.within_bound(1.0, [1.0] * 4950 + [2.0] * 50, 99) is None


def test_a_printed_percentile_within_the_bound_is_enough():
    rng = np.random.default_rng(2)
    for _ in range(50):
        samples = rng.lognormal(size=800).tolist()
        bound = stats.percentile(samples, 99)
        assert stats.within_bound(bound, samples, 99) is True


@pytest.mark.parametrize(("size", "percent"), [(130, 95), (662, 99)])
def test_lower_bound_of_a_percentile_is_rarely_above_it(size, percent):
    true = np.exp(NormalDist().inv_cdf(percent / 100))
    samples = np.random.default_rng(3).lognormal(size=(1000, size))
    bounds = [stats.percentile_low(row, percent) for row in samples]
    assert np.mean(np.array(bounds) > true) <= 0.016  # 1 % and two standard errors
    assert np.median(bounds) > 0.6 * true


def test_lower_bound_of_a_percentile_is_below_its_estimate_and_needs_samples_too():
    samples = list(range(1, 1001))
    assert stats.percentile_low(samples, 95) < 950 < stats.percentile(samples, 95)
    assert stats.percentile_low([], 95) is None
    assert stats.percentile_low([1.0], 99) is None
