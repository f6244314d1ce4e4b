import gc

import numpy as np

from tledge import bundle, inputs, tasks
from tledge.bench import end_to_end
from tledge.bench.end_to_end import Chain, chain, measure
from tledge.runtime import Predictor, open_session, session_run


class World:
    """A clock that only the parts of a chain move."""

    def __init__(self):
        self.now = 0
        self.seen = []

    def clock(self):
        return self.now

    def part(self, ms, name=None):
        def work(value):
            if name:
                self.seen.append((name, value))
            self.now += int((ms(value) if callable(ms) else ms) * 1e6)
            return value

        return work

    def chain(self, encode, run, decode, name=None):
        return Chain(self.part(encode, name), self.part(run), self.part(decode))


def test_each_part_has_its_median_and_the_whole_its_percentiles():
    world = World()
    candidates = {"fp32": world.chain(2, 10, 0.5), "int8": world.chain(2, 3, 0.5)}
    fp32, int8 = measure(candidates, ["a", "b"], threads=2, percentile=95, clock=world.clock)
    assert (fp32.candidate, fp32.threads, fp32.samples) == ("fp32", 2, 130)
    assert (fp32.preprocess_ms, fp32.run_ms, fp32.postprocess_ms) == (2.0, 10.0, 0.5)
    assert fp32.percentiles_ms == {"p50": 12.5, "p90": 12.5, "p95": 12.5}
    assert fp32.missing == {"p99": 662}
    assert int8.percentiles_ms["p50"] == 5.5


def test_rounds_go_through_the_values_in_turn_and_are_the_same_for_all():
    world = World()
    candidates = {"A": world.chain(1, 1, 1, "A"), "B": world.chain(1, 1, 1, "B")}
    measure(candidates, ["x", "y", "z"], threads=1, warmup=2, clock=world.clock)
    assert world.seen[:4] == [("A", "x"), ("B", "x"), ("A", "y"), ("B", "y")]
    timed = world.seen[4:]
    assert timed[:6] == [("A", "x"), ("B", "x"), ("B", "y"), ("A", "y"), ("B", "z"), ("A", "z")]
    assert timed[6:8] == [("A", "x"), ("B", "x")]
    assert len(timed) == 200


def test_the_whole_is_that_of_one_value_not_a_sum_of_medians():
    world = World()
    slow = {"short": 1, "long": 99}
    (found,) = measure({"a": world.chain(slow.get, 1, 0)}, ["short", "long"], threads=1, clock=world.clock)
    assert found.preprocess_ms == 50.0  # of values of 1 and of 99
    assert found.percentiles_ms["p90"] == 100.0


def test_the_time_limit_ends_it_after_a_whole_round():
    world = World()
    candidates = {"A": world.chain(10, 80, 10), "B": world.chain(100, 100, 100)}
    found = measure(candidates, ["x"], threads=1, duration_s=4, warmup=1, clock=world.clock)
    assert [each.samples for each in found] == [10, 10]


def test_garbage_collection_is_off():
    seen = set()
    measure({"a": Chain(lambda _: seen.add(gc.isenabled()), print_nothing, print_nothing)}, [1], threads=1)
    assert seen == {False}


def print_nothing(_):
    return {}


def test_a_bundle_from_text_to_answer(tiny_bundle):
    manifest = bundle.load(tiny_bundle)
    encoder, task = inputs.load(manifest.input.kind, tiny_bundle), tasks.load(manifest.task)
    run = session_run(open_session(tiny_bundle / manifest.variant("fp32").graph.path, threads=1))
    whole = chain(encoder, run, task, manifest)
    text = encoder.examples()[0]
    answer = whole.decode(whole.run(whole.encode(text)))
    assert answer == [Predictor.load(tiny_bundle, variant="fp32", threads=1).predict(text)]
    (found,) = end_to_end.measure({"fp32": whole}, encoder.examples(), threads=1, duration_s=5)
    assert found.samples > 1
    assert min(found.preprocess_ms, found.run_ms, found.postprocess_ms) > 0
    assert np.isfinite(list(found.percentiles_ms.values())).all()
