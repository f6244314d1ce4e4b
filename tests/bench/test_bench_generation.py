"""Generations timed with clocks that only fakes move, and torch's own tokens as what they are held to."""

import decoder_graph
import language_bundle
import numpy as np
import pytest
import tiny_language
import torch

from tledge.artifacts import BenchResult, Footprint, from_dict, to_dict
from tledge.bench import bundled, generation
from tledge.bench.generation import Pace
from tledge.errors import InputError, RecipeError
from tledge.export import torch_generate
from tledge.footprint import memory
from tledge.runtime.decoder import Decoder

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


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("length", [6, 40])  # the decoder reads a prompt of more than 32 tokens in two passes
def test_the_graph_and_torch_eager_write_the_same_tokens(kind, length):
    made = decoder_graph.decoder(kind)
    prompts = generation.random_prompts(320, 2, length, seed=4)
    decoder = Decoder.open(made.path, context_length=64, threads=1)
    ours, theirs = generation.decoder_generate(decoder), torch_generate(made.module, threads=1)
    for _ in range(2):  # the second time on buffers that are full of the first one's
        np.testing.assert_array_equal(list(ours(prompts, 20)), list(theirs(prompts, 20)))


def test_a_bundle_is_timed_beside_another_candidate_at_every_setting():
    calls = []

    def slow(threads):
        def generate(prompts, new_tokens):
            calls.append((threads, *prompts.shape, new_tokens))
            yield from torch_generate(decoder_graph.decoder("gpt2").module, threads=threads)(prompts, new_tokens)

        return generate

    result = bundled.run_language(
        language_bundle.shared(),
        lengths=[4, 9],
        new_tokens=3,
        percentile=50,
        duration_s=0.5,
        extra={"torch eager": slow},
    )
    assert [(row.candidate, row.prompt) for row in result.generations] == [
        (name, prompt) for prompt in (4, 9) for name in ("fp32", "int8", "torch eager")
    ]
    assert set(calls) == {(1, 1, 4, 3), (1, 1, 9, 3)}
    assert {row.against.reference for row in result.generations if row.against} == {"torch eager"}
    assert (result.name, result.decoding, result.latencies, result.end_to_end) == ("tiny-language", True, (), ())
    assert [each.candidate for each in result.footprints] == ["fp32", "int8"]
    assert all(row.low <= row.tokens_per_second <= row.high for row in result.generations)
    assert from_dict(BenchResult, to_dict(result)) == result


@pytest.fixture
def unweighed(monkeypatch):
    """Footprints are left out: each takes three processes."""
    monkeypatch.setattr(memory, "footprint", lambda path, candidate, **_: Footprint(candidate, 1, 1, 1, 1, 1))


@pytest.mark.parametrize(
    ("new_tokens", "expected"),
    [(32, [16, 32]), (60, [4]), (2, [16, 62])],  # of 64 tokens of context
)
def test_prompts_leave_room_for_what_is_written(new_tokens, expected, unweighed):
    result = bundled.run_language(
        language_bundle.shared(), variants=["fp32"], new_tokens=new_tokens, percentile=50, duration_s=0.1
    )
    assert [row.prompt for row in result.generations] == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"new_tokens": 64}, "--new-tokens: expected 2 to 63, .* got 64"),
        ({"lengths": [16, 40], "new_tokens": 32}, "--length: a prompt of 40 tokens and 32 new ones .* ask for 32 or"),
        ({"variants": ["int9"]}, "'int9' is not in"),
    ],
)
def test_more_than_the_context_takes_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        bundled.run_language(language_bundle.shared(), **settings)


def test_too_few_generations_for_the_percentile_are_told(unweighed):
    result = bundled.run_language(
        language_bundle.shared(), variants=["fp32"], lengths=[4], new_tokens=2, percentile=99, duration_s=0.05
    )
    assert any("p99 of the first token is not given at batch 1, 2 tokens after 4" in note for note in result.notes)
