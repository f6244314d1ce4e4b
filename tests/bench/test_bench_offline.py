import numpy as np
import pytest

from tledge.artifacts import Throughput
from tledge.bench.offline import best_batches, measure, throughput


def row(batch, rate, low=None, high=None, candidate="int8", threads=1):
    return Throughput(candidate, batch, 32, threads, 100, rate, low or rate, high or rate)


def test_throughput_is_all_rows_over_all_time_outliers_included():
    found = throughput([10.0] * 99 + [1010.0], candidate="int8", batch=8, sequence=32, threads=2)
    assert found.rows_per_second == pytest.approx(8 * 100 / 2.0)  # 2,000 ms
    assert (found.candidate, found.batch, found.sequence, found.threads, found.runs) == ("int8", 8, 32, 2, 100)
    assert found.low < found.rows_per_second < found.high


def test_throughput_without_noise_has_an_interval_without_width():
    found = throughput([4.0] * 10, candidate="a", batch=2, sequence=None, threads=1)
    assert (found.low, found.rows_per_second, found.high) == (500.0, 500.0, 500.0)


def test_throughput_interval_covers_the_true_rate():
    rng = np.random.default_rng(4)
    found = [
        throughput(rng.normal(5, 1, 200).tolist(), candidate="a", batch=1, sequence=None, threads=1) for _ in range(200)
    ]
    assert np.mean([each.low <= 200 <= each.high for each in found]) >= 0.9


def test_batch_sizes_take_turns_with_candidates():
    now, seen = 0, []

    def runs(name, ms_a_row):
        def run(feeds):
            nonlocal now
            seen.append((name, len(feeds["x"])))
            now += int(ms_a_row * (1 + len(feeds["x"])) * 1e6)
            return {}

        return run

    feeds = {batch: {"x": np.zeros(batch)} for batch in (1, 4)}
    found = measure({"a": runs("a", 2), "b": runs("b", 1)}, feeds, sequence=32, threads=2, clock=lambda: now)
    assert [(row.candidate, row.batch, row.rows_per_second) for row in found] == [
        ("a", 1, pytest.approx(250)), ("a", 4, pytest.approx(400)),
        ("b", 1, pytest.approx(500)), ("b", 4, pytest.approx(800)),
    ]  # fmt: skip
    assert {(row.runs, row.sequence, row.threads) for row in found} == {(100, 32, 2)}
    rounds = [frozenset(seen[i : i + 4]) for i in range(0, len(seen), 4)]
    assert set(rounds) == {frozenset({("a", 1), ("a", 4), ("b", 1), ("b", 4)})}


def test_the_best_batch_is_the_smallest_that_is_as_fast_as_any():
    rows = [row(1, 100), row(4, 300, 290, 310), row(8, 305, 295, 315), row(16, 306, 296, 316), row(32, 200)]
    assert best_batches(rows) == [rows[1]]


def test_every_candidate_and_number_of_threads_has_a_best_batch_of_its_own():
    rows = [row(1, 10), row(2, 20), row(1, 30, candidate="fp32"), row(2, 25, candidate="fp32"), row(1, 5, threads=2)]
    assert best_batches(rows) == [rows[1], rows[2], rows[4]]
