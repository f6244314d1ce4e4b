"""Generations timed with clocks that only fakes move, and torch's own tokens as what they are held to."""

import numpy as np
import pytest
import tiny_language
import torch

from tledge.bench import generation
from tledge.bench.generation import Pace
from tledge.errors import RecipeError
from tledge.export import torch_generate

PROMPTS = generation.random_prompts(50, 2, 5)


class Clock:
    """Nanoseconds that only fakes move."""

    def __init__(self):
        self.now = 0
        self.calls = []

    def __call__(self):
        return self.now

    def taking(self, name, first_ms, token_ms):
        def generate(prompts, new_tokens):
            self.calls.append((name, prompts.shape, new_tokens))
            for step in range(new_tokens):
                self.now += int((first_ms if step == 0 else token_ms) * 1e6)
                yield None

        return generate


def measure(clock, candidates, **settings):
    settings = {"new_tokens": 4, "reference": next(iter(candidates)), "duration_s": 1e6} | settings
    return generation.measure(candidates, PROMPTS, clock=clock, **settings)


def test_the_first_token_and_the_further_ones_are_told_apart():
    clock = Clock()
    found = measure(clock, {"a": clock.taking("a", 9, 2)})
    assert set(found["a"]) == {Pace((9.0, 11.0, 13.0, 15.0))}
    assert (found["a"][0].first_ms, found["a"][0].token_ms, found["a"][0].whole_ms) == (9.0, (2.0, 2.0, 2.0), 15.0)


def test_candidates_take_turns_generation_by_generation_after_warming_up():
    clock = Clock()
    found = measure(clock, {"a": clock.taking("a", 9, 2), "b": clock.taking("b", 3, 1)})
    assert {name: len(paces) for name, paces in found.items()} == {"a": 100, "b": 100}
    assert {call[1:] for call in clock.calls} == {((2, 5), 4)}
    names = "".join(name for name, *_ in clock.calls)
    assert names[: 2 * generation.WARM_UP] == "ab" * generation.WARM_UP
    assert names[2 * generation.WARM_UP :] == "abbabaab" * 25


def test_warming_up_is_not_counted():
    clock = Clock()
    slow_at_first = iter([50.0] * generation.WARM_UP)

    def generate(prompts, new_tokens):
        yield from clock.taking("a", next(slow_at_first, 5.0), 1)(prompts, new_tokens)

    assert {pace.first_ms for pace in measure(clock, {"a": generate})["a"]} == {5.0}


def test_the_time_limit_ends_it_after_a_whole_round():
    clock = Clock()
    found = measure(clock, {"a": clock.taking("a", 100, 100), "b": clock.taking("b", 300, 100)}, duration_s=4)
    assert [len(paces) for paces in found.values()] == [4, 4], "a second of warming up, and a second for each round"


def test_a_clock_that_stands_still_gives_positive_times():
    paces = measure(lambda: 7, {"a": lambda prompts, new_tokens: iter([None] * new_tokens)})["a"]
    assert min(paces[0].first_ms, *paces[0].token_ms) > 0


def test_an_unknown_reference_is_named():
    with pytest.raises(RecipeError, match="the reference 'c' is not measured: candidates are a"):
        measure(Clock(), {"a": Clock().taking("a", 1, 1)}, reference="c")


def summarize(paces, candidate, **settings):
    settings = {"reference": "a", "batch": 3, "prompt": 16, "new_tokens": 3, "threads": 2} | settings
    return generation.summarize(paces, candidate=candidate, **settings)


def test_a_row_has_medians_rates_and_the_ratio_of_whole_times():
    rng = np.random.default_rng(1)
    noise = rng.normal(1, 0.05, 100)
    paces = {
        "a": [Pace((10 * n, 14 * n, 20 * n)) for n in noise],
        "b": [Pace((4 * n, 7 * n, 10 * n)) for n in noise],
    }
    row = summarize(paces, "b")
    assert (row.batch, row.prompt, row.new_tokens, row.threads, row.samples) == (3, 16, 3, 2, 100)
    assert row.first_token_ms["p50"] == pytest.approx(np.median(4 * noise))
    assert row.token_ms["p50"] == pytest.approx(np.median(3 * noise))
    assert row.tokens_per_second == pytest.approx(3 * 3 * 100 / (10 * noise.sum() / 1e3))
    assert row.low < row.tokens_per_second < row.high
    assert (row.against.reference, row.against.ratio) == ("a", pytest.approx(0.5))
    assert summarize(paces, "a").against is None


def test_a_slow_generation_counts_with_all_its_time():
    paces = {"a": [Pace((1.0, 2.0))] * 99 + [Pace((1.0, 802.0))]}
    row = summarize(paces, "a", batch=1, new_tokens=2)
    assert row.tokens_per_second == pytest.approx(200 / 1.0)  # 99 of 2 ms and one of 802 are a second


def test_a_percentile_is_given_where_there_are_enough_samples_of_its_own():
    row = summarize({"a": [Pace((1.0, 2.0, 3.0))] * 40}, "a", percentile=90)
    assert (set(row.first_token_ms), row.missing["p90"]) == ({"p50"}, 64)
    assert "p90" in row.token_ms, "80 further tokens are enough"
    assert row.token_missing == {"p95": 130, "p99": 662}


def test_random_prompts_are_tokens_and_the_same_each_time():
    first, again = (generation.random_prompts(50, 3, 7) for _ in range(2))
    assert (first.shape, first.dtype) == ((3, 7), np.int64)
    assert (first >= 0).all()
    assert (first < 50).all()
    assert len(np.unique(first)) > 5
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_torch_eager_gives_the_tokens_of_transformers_own_generate(kind):
    model = tiny_language.MODELS[kind]()
    prompts = generation.random_prompts(320, 2, 6, seed=4)
    tokens = np.stack(list(torch_generate(model, threads=1)(prompts, 20)), axis=1)
    expected = model.generate(
        torch.from_numpy(prompts),
        attention_mask=torch.ones((2, 6), dtype=torch.long),
        do_sample=False,
        min_new_tokens=20,
        max_new_tokens=20,
        eos_token_id=None,
        pad_token_id=0,
    )
    np.testing.assert_array_equal(tokens, expected[:, 6:].numpy())
