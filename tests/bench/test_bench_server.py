import gc
import itertools
import time

import numpy as np
import pytest

from tledge.bench import server
from tledge.bench.server import arrivals, overloaded, serve, work_off
from tledge.errors import RecipeError


class World:
    """A clock that only runs and sleeps move; runs take the given milliseconds by turns."""

    def __init__(self, *runs_ms):
        self.now = 7_000_000_000  # clocks do not begin at 0
        self.runs = itertools.cycle(runs_ms)
        self.slept = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += round(seconds * 1e9)

    def run(self):
        self.now += round(next(self.runs) * 1e6)

    def serve(self, **options):
        facts = {"candidate": "int8", "batch": 1, "sequence": 32, "threads": 1, "bound_ms": 50.0, "warmup": 0}
        return serve(self.run, clock=self.clock, sleep=self.sleep, **(facts | options))


def fifo(due_s, run_s):
    """Latencies of a queue by Lindley's recursion."""
    free, latencies = 0.0, []
    for due in due_s:
        free = max(free, due) + run_s
        latencies.append(free - due)
    return latencies


def test_a_queue_worked_out_by_hand():
    world = World(10)
    served = work_off(world.run, np.array([0.001, 0.004, 0.030, 0.031]), end_s=9, clock=world.clock, sleep=world.sleep)
    # 1 to 11 ms, 11 to 21, a rest, 30 to 40, 40 to 50
    assert served.latencies_ms == pytest.approx((10, 17, 10, 19))
    assert served.unanswered == 0
    assert (served.busy_s, served.elapsed_s) == (pytest.approx(0.040), pytest.approx(0.050))
    assert world.slept == pytest.approx([0.001, 0.009])


def test_latencies_are_those_of_a_first_come_first_served_queue():
    world = World(8)
    load = world.serve(rate=100, percentile=99, requests=2000, seed=3, duration_s=60)
    expected = np.array(fifo(arrivals(100, 2000, seed=3), 0.008)) * 1e3
    assert load.within_bound == np.mean(expected <= 50)
    assert load.percentiles_ms["p50"] == pytest.approx(np.median(expected), rel=1e-5)
    assert load.utilization == pytest.approx(2000 * 0.008 / (arrivals(100, 2000, seed=3)[-1] + expected[-1] / 1e3))
    # The mean wait of an M/D/1 queue is service * load / (2 (1 - load)): 16 ms here.
    assert np.mean(expected) - 8 == pytest.approx(16, rel=0.25)


def test_arrivals_are_poisson_and_depend_on_the_seed_only():
    found = arrivals(50, 100_000, seed=1)
    gaps = np.diff(found)
    assert found[-1] == pytest.approx(2000, rel=0.02)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.02)
    per_second = np.bincount(found.astype(int))[:1900]
    assert per_second.var() == pytest.approx(per_second.mean(), rel=0.1)
    assert (found == arrivals(50, 100_000, seed=1)).all()
    assert (found[:10] != arrivals(50, 10, seed=2)).all()


def test_a_fast_session_meets_its_bound():
    load = World(1).serve(rate=20, percentile=99, duration_s=600)
    assert load.requests == 2 * 662
    assert load.met is True
    assert load.within_bound == 1.0
    assert load.achieved_rate == pytest.approx(20, rel=0.1)
    assert load.utilization == pytest.approx(0.02, rel=0.1)
    assert load.missing == {}
    assert (load.percentile, load.rate, load.bound_ms) == ("p99", 20, 50.0)
    assert not overloaded(load)


def test_a_bound_that_is_missed_is_told():
    load = World(1, 1, 1, 1, 80).serve(rate=5, percentile=90, duration_s=600)
    assert load.met is False
    assert load.within_bound == pytest.approx(0.8, abs=0.05)


def test_with_few_requests_neither_is_said():
    load = World(1).serve(rate=20, percentile=99, requests=100, duration_s=600)
    assert load.requests == 100
    assert load.met is None
    assert load.missing == {"p95": 130, "p99": 662}
    assert load.percentiles_ms.keys() == {"p50", "p90"}


def test_requests_beyond_the_duration_do_not_arrive():
    load = World(1).serve(rate=20, percentile=99, duration_s=10)
    assert load.requests == int((arrivals(20, 1324) <= 10).sum())


def test_an_overloaded_session_is_told_and_does_not_go_on_for_ever():
    world = World(100)
    began = world.now
    load = world.serve(rate=100, percentile=90, requests=1000, duration_s=10)
    assert overloaded(load)
    assert load.utilization > 0.99
    assert load.achieved_rate == pytest.approx(10, rel=0.02)
    assert load.met is False
    assert (world.now - began) / 1e9 == pytest.approx(20, abs=0.2)
    assert load.requests == int((arrivals(100, 1000) <= 10).sum())  # those left in line count, and count as late
    assert load.within_bound < 0.01


def test_what_is_left_in_line_has_waited_longer_than_the_bound():
    world = World(1000)
    served = work_off(world.run, np.array([0.0, 0.1, 0.2, 0.3]), end_s=1.5, clock=world.clock, sleep=world.sleep)
    assert served.unanswered == 2
    assert served.latencies_ms == pytest.approx((1000, 1900, 1800, 1700))


def test_garbage_collection_is_off_while_serving():
    seen = set()
    world = World(1)
    work_off(lambda: seen.add(gc.isenabled()), np.array([0.1]), end_s=1, clock=world.clock, sleep=world.sleep)
    assert seen == {False}
    assert gc.isenabled()


def test_warm_up_comes_before_the_first_request():
    world = World(1000, 1000, 1000, 4)  # three slow runs, that no request may see
    load = world.serve(rate=10, percentile=90, requests=1, warmup=3)
    assert load.utilization == pytest.approx(0.004 / (arrivals(10, 1)[0] + 0.004))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "rate: expected a number above 0, got 0"),
        ({"rate": float("nan")}, "rate: expected a number above 0, got nan"),
        ({"rate": 1, "bound_ms": -1}, "bound_ms: expected a number above 0, got -1"),
        ({"rate": 1, "duration_s": 0}, "duration_s: expected"),
        ({"rate": 1, "requests": 0}, "requests: expected"),
        ({"rate": 0.001, "duration_s": 0.01}, "no request arrives within 0.01 s at 0.001 requests a second"),
    ],
)
def test_a_load_that_is_none_is_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        World(1).serve(**options)


def test_a_pause_lasts_as_long_as_it_should_and_no_less():
    for seconds in (0.0001, 0.003):
        start = time.perf_counter()
        server.pause(seconds)
        assert time.perf_counter() - start >= seconds
