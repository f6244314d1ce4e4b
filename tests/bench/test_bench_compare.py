"""Two graphs against each other: what the estimate, the rounds, and the answer are, on made-up times."""

from contextlib import contextmanager

import numpy as np
import pytest

from tledge.artifacts import LatencyRatio
from tledge.bench import compare as c
from tledge.bench import compared, targets
from tledge.bench.targets import Target
from tledge.errors import BundleError, InputError
from tledge.runtime.session import available_providers


def ratio(middle, low, high):
    return LatencyRatio("old", middle, low, high, 100)


QUIET = ratio(1.0, 0.995, 1.005)


@pytest.mark.parametrize(
    ("measured", "noise", "answer"),
    [
        (ratio(1.0, 0.99, 1.01), QUIET, "same"),
        (ratio(1.015, 1.012, 1.018), QUIET, "same"),
        (ratio(1.05, 1.03, 1.07), QUIET, "slower"),
        (ratio(0.95, 0.93, 0.97), QUIET, "faster"),
        (ratio(1.02, 1.01, 1.03), QUIET, "slower"),
        (ratio(1.01, 0.98, 1.04), QUIET, "inconclusive"),
        (ratio(1.05, 1.03, 1.07), ratio(1.0, 0.9, 1.1), "inconclusive"),
        (ratio(1.05, 1.03, 1.07), ratio(1.0, 0.94, 1.0), "inconclusive"),
        (ratio(0.95, 0.93, 0.97), ratio(1.0, 1.0, 1.06), "inconclusive"),
        (ratio(0.2, 0.1, 0.3), ratio(1.0, 0.9, 1.1), "faster"),
    ],
)
def test_the_answer(measured, noise, answer):
    found, reason = c.decide(measured, noise, 0.02)
    assert found == answer
    assert f"{measured.ratio:.1%}" in reason


def test_inconclusive_tells_the_noise():
    assert "10.0% between a graph and itself" in c.decide(ratio(1.05, 1.03, 1.07), ratio(1.0, 0.95, 1.1), 0.02)[1]


def opening(candidate, reference, rounds=4):
    """An opening whose runs take as many milliseconds by either clock."""
    return c.Paired(*(np.full((rounds, 2, 2), float(ms)) for ms in (candidate, reference)))


def test_times_without_noise_have_their_ratio_and_no_interval():
    found = c.estimate([opening(3, 2)] * 12, "old", c.CPU)
    assert (found.ratio, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))
    assert (found.reference, found.samples) == ("old", 48)


def test_the_clocks_are_kept_apart():
    wall = c.Paired(np.dstack([np.full((4, 2), 4.0), np.full((4, 2), 3.0)]), np.full((4, 2, 2), 2.0))
    assert c.estimate([wall] * 12, "old", c.WALL).ratio == pytest.approx(2)
    assert c.estimate([wall] * 12, "old", c.CPU).ratio == pytest.approx(1.5)


def test_an_interruption_of_less_than_half_of_the_pairs_changes_nothing():
    openings = [opening(1, 1, rounds=10) for _ in range(12)]
    for each in openings:
        each.candidate[:4] = 50
    found = c.estimate(openings, "old", c.WALL)
    assert (found.ratio, found.low, found.high) == pytest.approx((1, 1, 1))


@pytest.mark.slow
@pytest.mark.parametrize(("blocks", "rounds"), [(6, 8), (10, 20)])
def test_the_interval_holds_the_truth_as_often_as_it_says(blocks, rounds):
    """Openings differ by 1 %, the one opened first is 1 % slower, and rounds are heavy-tailed: all as measured."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        openings = []
        for i in range(2 * blocks):
            bias = rng.normal(0, 0.01) + (0.01 if i % 2 == 0 else -0.01)
            noise = rng.standard_t(2, size=(rounds, 2)) * 0.03
            times = np.exp(np.log(1.05) + bias + noise)[..., None].repeat(2, axis=2)
            openings.append(c.Paired(times, np.ones_like(times)))
        found = c.estimate(openings, "old", c.WALL)
        assert found.low <= found.ratio <= found.high
        held += found.low <= 1.05 <= found.high
    assert 0.92 <= held / 300 <= 0.99


def test_weighted_medians_are_medians_of_repeated_values():
    rng = np.random.default_rng(0)
    values = rng.normal(size=7)
    weights = rng.integers(0, 4, (50, 7))
    expected = [np.median(np.repeat(values, row)) for row in weights]
    assert c._weighted_medians(values, weights) == pytest.approx(expected)


class Clock:
    """Time that passes with each run and each opening alone."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def target(name):
    return Target(name, None, lambda batch, length: {}, None)


def opener(clock, cost, opened):
    """Timers that take so many seconds a run, by name."""

    @contextmanager
    def open_(each):
        opened.append(each.name)
        clock.seconds += 0.05

        def timer():
            took = cost[each.name]()
            clock.seconds += took
            return round(took * 1e9), round(took * 1e9)

        yield timer

    return open_


def measure(cost, *, within=0.02, duration_s=5.0, names=("new", "old")):
    clock, opened = Clock(), []
    found = c.measure(
        target(names[0]), target(names[1]), opener(clock, cost, opened),
        clock=c.CPU, within=within, duration_s=duration_s, now=clock,
    )  # fmt: skip
    return found, opened, clock.seconds


def test_each_side_is_opened_first_equally_often_and_keeps_its_times():
    found, opened, _ = measure({"new": lambda: 0.003, "old": lambda: 0.002})
    assert opened[:4] == ["new", "old", "old", "new"]
    assert len(found) % 2 == 0
    assert all((each.candidate == 3).all() and (each.reference == 2).all() for each in found)


def test_measuring_ends_when_the_interval_is_narrow_enough_but_not_before_the_fewest_openings():
    found, _, seconds = measure({"new": lambda: 0.003, "old": lambda: 0.002}, duration_s=1000)
    assert len(found) == 2 * c.MIN_BLOCKS
    assert seconds < 1000


def test_measuring_goes_on_until_the_time_is_over_where_the_interval_stays_wide():
    rng = np.random.default_rng(0)
    noisy = {name: lambda: float(rng.uniform(0.001, 0.1)) for name in ("new", "old")}
    found, _, seconds = measure(noisy, within=0.001, duration_s=60)
    assert len(found) > 2 * c.MIN_BLOCKS
    assert 50 <= seconds <= 61


def test_rounds_take_turns_in_which_side_begins():
    order = []
    cost = {name: lambda name=name: order.append(name) or 0.01 for name in ("new", "old")}
    measure(cost)
    first = order[4:12]  # after the warm-up
    assert first == ["new", "old", "old", "new", "old", "new", "new", "old"]


def test_a_graph_against_itself(tiny_graph):
    plain = targets.resolve(tiny_graph)
    found = c.compare(plain, plain, duration_s=0.5)
    assert (found.candidate, found.reference, found.batch, found.sequence) == ("model", "model", 1, None)
    assert found.answer in ("same", "inconclusive", "faster", "slower")
    assert found.ratio.low <= found.ratio.ratio <= found.ratio.high
    assert found.candidate_ms > 0
    assert found.clock == "processor"


def test_more_threads_are_compared_by_the_clock_on_the_wall(tiny_graph):
    plain = targets.resolve(tiny_graph)
    found = c.compare(plain, plain, setting=c.Setting(threads=2), duration_s=0.5)
    assert (found.clock, found.threads) == ("wall", 2)
    assert found.ratio == found.wall


def both_clocks(wall, cpu, rounds=8):
    """Runs of one side by the wall's clock and in processor time; `wall` is repeated as often as needed."""
    return np.dstack([np.resize(wall, (rounds, 2)), np.full((rounds, 2), cpu)])


def compared_as(monkeypatch, path, candidate, reference):
    """A comparison whose openings all have these runs."""
    monkeypatch.setattr(c, "_opening", lambda new, old, *rest: c.Paired(candidate, reference))
    plain = targets.resolve(path)
    return c.compare(plain, plain, duration_s=0.1)


def test_where_one_side_waits_in_every_run_the_interval_spans_both_clocks(tiny_graph, monkeypatch):
    found = compared_as(monkeypatch, tiny_graph, both_clocks([2.0], 1.0), both_clocks([1.0], 1.0))
    assert (found.ratio.low, found.ratio.high) == pytest.approx((1, 2))
    assert found.answer == "inconclusive"
    assert "wait unalike" in found.reason


def test_waiting_for_neighbours_leaves_the_processor_time_what_it_is(tiny_graph, monkeypatch):
    new, old = both_clocks([1.1, 5, 5.1, 5, 5], 1.1, rounds=10), both_clocks([1.0, 5, 5, 5, 5], 1.0, rounds=10)
    found = compared_as(monkeypatch, tiny_graph, new, old)
    assert found.wall.ratio == pytest.approx(1, abs=0.01)
    assert (found.ratio.low, found.ratio.high) == pytest.approx((1.1, 1.1))


def test_each_side_in_a_process_of_its_own(tiny_graph):
    from tledge.bench.isolate import isolated_timer

    feeds = {"x": np.ones((1, 64), np.float32)}
    with isolated_timer(tiny_graph, feeds) as timer:
        times = [timer() for _ in range(3)]
    assert all(wall > 0 and busy > 0 for wall, busy in times)


def test_a_graph_that_cannot_be_opened_in_its_process_is_named(tmp_path):
    from tledge.bench.isolate import isolated_timer

    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with (
        pytest.raises(BundleError, match=r"cannot time .*broken\.onnx: .*cannot be opened"),
        isolated_timer(tmp_path / "broken.onnx", {}),
    ):
        pass


@pytest.mark.skipif("azure" not in available_providers(), reason="needs a second provider")
@pytest.mark.parametrize("isolate", [False, True])
def test_a_strict_provider_is_asked_for_once_and_its_refusal_is_an_input_error(tiny_graph, isolate):
    plain, strict = targets.resolve(tiny_graph), c.Setting(provider="azure", strict=True)
    with pytest.raises(InputError, match=r"'azure' cannot run 2 of 2 nodes"):
        c.compare(plain, plain, setting=strict, isolate=isolate)


def test_several_settings_give_one_result(tiny_graph):
    plain = targets.resolve(tiny_graph)
    result = compared(plain, plain, [c.Setting(1), c.Setting(4)], duration_s=0.5)
    assert [each.batch for each in result.comparisons] == [1, 4]
    assert (result.name, result.latencies) == ("model", ())


def test_a_length_that_the_new_one_cannot_take_is_refused(tiny_bundle, tiny_graph):
    with pytest.raises(InputError, match="takes inputs without a length"):
        c.compare(targets.resolve(tiny_graph), targets.resolve(tiny_bundle))
