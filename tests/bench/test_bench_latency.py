import gc
from collections import Counter

import pytest

from tledge.bench import latency
from tledge.errors import RecipeError


class Clock:
    """Nanoseconds that only fakes move."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now

    def taking(self, ms):
        def run():
            self.now += int(ms * 1e6)

        return run


def test_two_candidates_go_abba():
    assert ["".join(latency.order(["A", "B"], r)) for r in range(4)] == ["AB", "BA", "BA", "AB"]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_candidate_stands_equally_often_at_every_place(count):
    names = [f"c{i}" for i in range(count)]
    places = Counter((name, place) for r in range(2 * count) for place, name in enumerate(latency.order(names, r)))
    assert set(places.values()) == {2}
    assert len(places) == count * count


def test_measure_runs_every_candidate_once_a_round_in_that_order():
    calls = []
    candidates = {name: (lambda name=name: calls.append(name)) for name in "ABC"}
    samples = latency.measure(candidates, reference="A", percentile=90, duration_s=60, warmup=2, clock=lambda: 0)
    assert {name: len(values) for name, values in samples.items()} == {"A": 100, "B": 100, "C": 100}
    assert calls[:6] == list("ABCABC")  # warm-up
    timed = calls[6:]
    assert [timed[i : i + 3] for i in range(0, 300, 3)] == [latency.order(list("ABC"), r) for r in range(100)]


def test_measure_takes_what_the_percentile_needs():
    clock = Clock()
    samples = latency.measure({"A": clock.taking(1)}, reference="A", percentile=99, duration_s=60, clock=clock)
    assert len(samples["A"]) == 662
    assert set(samples["A"]) == {1.0}


def test_measure_stops_at_the_time_limit_after_a_whole_round():
    clock = Clock()
    candidates = {"A": clock.taking(100), "B": clock.taking(300)}
    samples = latency.measure(candidates, reference="A", percentile=90, duration_s=4, warmup=1, clock=clock)
    assert samples == {"A": [100.0] * 10, "B": [300.0] * 10}


def test_measure_takes_one_round_however_slow():
    clock = Clock()
    samples = latency.measure({"A": clock.taking(9000)}, reference="A", percentile=90, duration_s=1, clock=clock)
    assert samples == {"A": [9000.0]}


def test_warm_up_is_cut_at_a_tenth_of_the_limit():
    clock = Clock()
    latency.measure({"A": clock.taking(600)}, reference="A", percentile=90, duration_s=10, warmup=50, clock=clock)
    assert clock.now == pytest.approx(10.2e9)  # two rounds of warm-up and fifteen samples


def test_a_clock_that_stands_still_gives_positive_samples():
    samples = latency.measure({"A": lambda: None}, reference="A", percentile=50, duration_s=1, clock=lambda: 0)
    assert min(samples["A"]) > 0


def test_garbage_collection_is_off_while_sampling_and_on_after():
    seen = set()
    latency.measure({"A": lambda: seen.add(gc.isenabled())}, reference="A", percentile=50, duration_s=9)
    assert seen == {False}
    assert gc.isenabled()


def test_garbage_collection_comes_back_after_a_failure():
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        latency.measure({"A": fail}, reference="A", percentile=50, duration_s=9)
    assert gc.isenabled()


def test_progress_counts_the_rounds():
    seen = []

    class Bar:
        def __init__(self, description, total):
            seen.append(total)

        def __enter__(self):
            return seen.append

        def __exit__(self, *_):
            return None

    latency.measure({"A": lambda: None}, reference="A", percentile=50, duration_s=60, clock=lambda: 0, progress=Bar)
    assert seen == [100] + [1] * 100


def test_an_unknown_reference_is_named():
    with pytest.raises(RecipeError, match="'fp23' is not measured: candidates are fp32, int8; did you mean 'fp32'"):
        latency.measure({"fp32": print, "int8": print}, reference="fp23", percentile=90, duration_s=1)


def test_summary_prints_what_has_enough_samples_and_names_the_rest():
    samples = {"fp32": [2.0] * 100, "int8": [1.0] * 100}
    row = latency.summarize(samples, candidate="int8", reference="fp32", batch=1, sequence=32, threads=2, percentile=97)
    assert row.percentiles_ms == {"p50": 1.0, "p90": 1.0}
    assert row.missing == {"p95": 130, "p97": 219, "p99": 662}
    assert (row.samples, row.mean_ms, row.batch, row.sequence, row.threads) == (100, 1.0, 1, 32, 2)
    assert row.against is not None
    assert (row.against.reference, row.against.ratio) == ("fp32", pytest.approx(0.5))


def test_summary_bounds_the_median():
    samples = {"a": [float(i) for i in range(1, 102)]}
    row = latency.summarize(samples, candidate="a", reference="a", batch=1, sequence=None, threads=1)
    assert row.percentiles_ms["p50"] == 51.0
    assert 36 < row.median_low_ms < 46
    assert 56 < row.median_high_ms < 66


def test_p99_9_is_asked_for_as_any_other_percentile():
    clock = Clock()
    samples = latency.measure({"A": clock.taking(1)}, reference="A", percentile=99.9, duration_s=60, clock=clock)
    assert len(samples["A"]) == 6636
    row = latency.summarize(samples, candidate="A", reference="A", batch=1, sequence=None, threads=1, percentile=99.9)
    assert row.percentiles_ms["p99.9"] == 1.0
    assert row.missing == {}


def test_the_reference_is_not_compared_with_itself():
    row = latency.summarize({"a": [1.0]}, candidate="a", reference="a", batch=1, sequence=8, threads=1, percentile=90)
    assert row.against is None
    assert row.percentiles_ms == {}
    assert row.missing["p50"] == 6
    assert row.median_low_ms is None
